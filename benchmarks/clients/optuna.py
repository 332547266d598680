"""optuna: a search of the code's size by held-out entries, and of the default autoencoder of an imputer."""

import numpy as np
from sklearn.model_selection import cross_val_score

from skae import AutoencoderImputer, AutoencoderTransformer, HeldOutEntries

PACKAGES = ("optuna",)


def main() -> str:
    """The code's size that is found, where three is right."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 10)) + 0.3 * rng.standard_normal((200, 10))

    def size(trial):
        ae = AutoencoderTransformer(trial.suggest_int("n_components", 1, 8), hidden_layer_sizes=(), random_state=0)
        return cross_val_score(ae, X, cv=2, scoring=HeldOutEntries(), error_score="raise").mean()

    def imputer(trial):
        parameters = {
            "n_components": trial.suggest_int("n_components", 1, 4),
            "hidden_layer_sizes": (8,),
            "max_iter": 5,
        }
        made = AutoencoderImputer(autoencoder_params=parameters, n_estimators=2, random_state=0)
        return cross_val_score(made, X, cv=2, error_score="raise").mean()

    best = []
    for objective, n_trials in ((size, 30), (imputer, 3)):
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(objective, n_trials=n_trials)
        best.append(study.best_params["n_components"])
    assert best[0] == 3, best
    return f"finds a code of {best[0]} for rows of three factors; the imputer's autoencoder is best with {best[1]}"
