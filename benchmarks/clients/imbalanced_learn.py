"""imbalanced-learn: its SMOTE draws rare rows between codes of an autoencoder, in its pipeline."""

from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

PACKAGES = ("imbalanced-learn",)


def main() -> str:
    """Balanced accuracy with and without SMOTE."""
    from imblearn.over_sampling import SMOTE
    from imblearn.pipeline import make_pipeline

    X, y = make_classification(600, 20, n_informative=5, weights=[0.93], random_state=0)
    steps = StandardScaler(), AutoencoderTransformer(8, max_iter=20, random_state=0)
    pipelines = [
        make_pipeline(*steps, SMOTE(random_state=0), LogisticRegression()),
        make_pipeline(*steps, LogisticRegression()),
    ]
    with_smote, without = (
        cross_val_score(each, X, y, cv=3, scoring="balanced_accuracy", error_score="raise").mean() for each in pipelines
    )
    assert with_smote > without
    return f"balanced accuracy {with_smote:.2f} with SMOTE on codes, {without:.2f} without"
