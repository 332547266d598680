"""skrub: a table of strings, dates and numbers becomes a matrix by its TableVectorizer, and that a code."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

PACKAGES = ("skrub",)


def main() -> str:
    """The accuracy of a classifier on the codes."""
    from skrub import TableVectorizer

    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=300)
    table = pd.DataFrame(
        {
            "city": np.array(["Lima", "Oslo", "Rome"])[kind],
            "date": pd.Timestamp("2020-01-01") + pd.to_timedelta(100 * kind + rng.integers(90, size=300), unit="D"),
            "size": kind + rng.standard_normal(300),
        }
    )
    table.loc[::7, "size"] = np.nan
    model = make_pipeline(
        TableVectorizer(),
        StandardScaler(),
        AutoencoderTransformer(3, max_iter=10, random_state=0),
        LogisticRegression(),
    )
    accuracy = cross_val_score(model, table, kind, cv=3, error_score="raise").mean()
    assert accuracy > 0.95
    return f"accuracy {accuracy:.2f} by codes of a table with strings, dates and gaps"
