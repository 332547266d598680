"""polars: frames with gaps, categories and null values go in, and frames come back."""

import numpy as np

from skae import AutoencoderImputer, AutoencoderOutlierDetector, AutoencoderTransformer

PACKAGES = ("polars", "pyarrow")


def main() -> str:
    """What comes back of an imputer, a transformer and a detector."""
    import polars as pl

    rng = np.random.default_rng(0)
    a = rng.standard_normal(200)
    table = pl.DataFrame(
        {
            "a": a,
            "b": [None if i % 5 == 0 else float(x) for i, x in enumerate(2 * a + 0.1 * rng.standard_normal(200))],
            "kind": [None if i % 11 == 0 else ("high" if x > 0 else "low") for i, x in enumerate(a)],
        }
    )
    quick = {"max_iter": 20, "hidden_layer_sizes": (8,)}
    imputer = AutoencoderImputer(n_estimators=2, autoencoder_params=quick, random_state=0).set_output(
        transform="polars"
    )
    filled = imputer.fit_transform(table)
    assert isinstance(filled, pl.DataFrame) and not any(filled.null_count().row(0))
    right = (filled["kind"].cast(pl.String).to_numpy() == np.where(a > 0, "high", "low"))[::11].mean()
    codes = (
        AutoencoderTransformer(1, max_iter=5, random_state=0)
        .set_output(transform="polars")
        .fit_transform(filled.select("a", "b"))
    )
    assert isinstance(codes, pl.DataFrame)
    labels = AutoencoderOutlierDetector(autoencoder_params=quick, random_state=0).fit(filled).predict(filled)
    return (
        f"{right:.0%} of the missing categories are right; columns {codes.columns}; {(labels < 0).sum()} rows flagged"
    )
