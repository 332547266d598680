"""ImputationDisplay."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skae.base.parameters import at_least, checked_arguments, list_of, share
from skae.inspection._common import import_pyplot, last_step
from skae.tables._containers import is_frame, pandas_frame, plain_rows

KINDS = {
    "errors": ("holdout_error_",),
    "distributions": ("transform", "sample"),
    "coverage": ("interval",),
}
# Columns that "distributions" and "errors" draw unless named.
MAX_PANELS, MAX_BARS = 6, 40
# Categories that a panel of a column shows, and their names' length.
MAX_CATEGORIES, MAX_LETTERS = 8, 12
# Nominal coverages.
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
# Cells that a column needs for a line of its own.
ENOUGH_CELLS = 30
STYLES = {
    "observed": {"color": "lightgrey"},
    "drawn": {"color": "C0"},
    "single guess": {"color": "C1"},
}


class ImputationDisplay:
    """How good an imputer is: errors by column, distributions of what it fills in, coverage.

    Create one with `from_estimator`; the parameters are stored as attributes.

    Parameters
    ----------
    kind : {"errors", "distributions", "coverage"}
        What is drawn.
    columns : dict
        What is drawn of each column, by its name. "errors": a float, the error of hidden cells
        over that of the mean or of the most frequent category. "distributions": a dict with the
        arrays "observed", "drawn" and "single guess" of values. "coverage": an array of shape
        (n_cells, n_levels), whether the interval of each level held each hidden cell.
    levels : array-like of shape (n_levels,), default=None
        Nominal coverages, for "coverage".
    name : str, default=None
        Name of the imputer, for the title.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, of shape (n_panels,)
        Axes that were drawn to; one but for "distributions".
    figure_ : matplotlib Figure
        Figure that contains the axes.
    artists_ : dict
        What was drawn, by column: bars for "errors" and "distributions" (there by what they are
        of), lines for "coverage", where None is the line of all columns together.

    See Also
    --------
    skae.AutoencoderImputer : The imputer.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderImputer, MaskedAE
    >>> from skae.inspection import ImputationDisplay
    >>> from sklearn.datasets import load_iris
    >>> X, _ = load_iris(return_X_y=True)
    >>> X[::3, 2] = np.nan
    >>> imputer = AutoencoderImputer(MaskedAE(4, max_iter=5, random_state=0), n_estimators=2, random_state=0)
    >>> display = ImputationDisplay.from_estimator(imputer.fit(X), X, kind="errors")
    >>> list(display.columns)
    ['x0', 'x1', 'x2', 'x3']
    """

    def __init__(self, kind, columns, *, levels=None, name=None) -> None:
        self.kind = kind
        self.columns = columns
        self.levels = levels
        self.name = name

    @classmethod
    @checked_arguments(
        kind=[StrOptions(set(KINDS))],
        features=[list_of(str, at_least(0)), None],
        n_imputations=[at_least(1)],
        share=[share("neither")],
        random_state=["random_state"],
    )
    def from_estimator(
        cls,
        imputer,
        X,
        *,
        kind="errors",
        features=None,
        n_imputations=5,
        share=0.2,
        name=None,
        random_state=0,
        ax=None,
    ) -> Self:
        """Look at a fitted imputer by rows with gaps.

        Parameters
        ----------
        imputer : fitted AutoencoderImputer
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows. For "errors" and "distributions" those of the fit, or others like them; for
            "coverage" rows that were not fitted, since intervals look better on those that were.
        kind : {"errors", "distributions", "coverage"}, default="errors"
            "errors": `holdout_error_` in units of the column's standard deviation in X or, for
            categories and booleans, over the share of values that are not the most frequent one;
            1 is no better than filling in the mean or the most frequent category.
            "distributions": the observed values of a column, those that `sample` draws for its
            gaps, and the single guesses of `transform`, which are narrower. Drawn and observed
            values rightly differ where the rows with gaps do.
            "coverage": a share of the observed numbers of X is hidden, and it is counted how many
            lie in their intervals; the band is what chance alone gives for so many cells.
        features : list of int or str, default=None
            Columns, by index or by name. None takes all columns for "errors", the 40 worst where
            there are more; for "distributions" the 6 with the most gaps; for "coverage" all
            columns of numbers.
        n_imputations : int, default=5
            Tables that are drawn for "distributions".
        share : float in (0, 1), default=0.2
            Share of the observed cells that is hidden for "coverage".
        name : str, default=None
            Title; None takes the name of the class.
        random_state : int, RandomState instance or None, default=0
            Seed of what is drawn or hidden.
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one for each column for "distributions"; None makes a new figure.

        Returns
        -------
        ImputationDisplay

        Raises
        ------
        ValueError
            If the imputer lacks what is drawn, a column is unknown, `share` is out of range, or
            there is nothing to draw: no gaps, no numbers.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        check_is_fitted(imputer)
        _check(imputer, kind)
        table = _Table(imputer, X)
        chosen = None if features is None else [table.position(feature) for feature in features]
        random_state, levels = check_random_state(random_state), None
        columns: dict[str, Any]
        if kind == "errors":
            columns = _errors(imputer, table, chosen)
        elif kind == "distributions":
            columns = _distributions(imputer, table, chosen, n_imputations, random_state)
        else:
            columns, levels = _coverage(imputer, table, chosen, share, random_state), LEVELS
        name = type(imputer).__name__ if name is None else name
        return cls(kind, columns, levels=levels, name=name).plot(ax=ax)

    def plot(self, ax=None, *, name=None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw, one for each column for "distributions"; None makes a new figure.
        name : str, default=None
            Title; None takes the display's own.

        Returns
        -------
        ImputationDisplay
        """
        plt = import_pyplot(f"{type(self).__name__}.plot")
        n_panels = len(self.columns) if self.kind == "distributions" else 1
        axes, is_new = self._axes(plt, ax, n_panels), ax is None
        name = self.name if name is None else name
        if self.kind == "errors":
            self._plot_errors(axes[0], name)
        elif self.kind == "distributions":
            self._plot_distributions(axes, name if is_new else None)
        else:
            self._plot_coverage(axes[0], name)
        self.axes_, self.figure_ = axes, axes[0].figure
        return self

    def _axes(self, plt, ax, n_panels: int) -> np.ndarray:
        if ax is None:
            n_columns = 2 if n_panels == 4 else min(3, n_panels)
            n_rows = -(-n_panels // n_columns)
            height = max(2.5, 1.2 + 0.24 * len(self.columns))
            size = {"errors": (6.4, height), "coverage": (4.8, 4.6)}.get(
                self.kind, (max(4.8, 3.2 * n_columns), 2.5 * n_rows + 0.8)
            )
            _, ax = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained")
            ax = np.atleast_1d(ax).ravel()
            for spare in ax[n_panels:]:
                spare.set_axis_off()
            ax = ax[:n_panels]
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(axes) != n_panels:
            raise ValueError(
                f"ax holds {len(axes)} axes, but there are {n_panels} panels for {list(self.columns)[:8]}."
            )
        return axes

    def _plot_errors(self, ax, name) -> None:
        names, errors = list(self.columns), np.array(list(self.columns.values()))
        bars = ax.barh(range(len(names)), errors, color=np.where(errors < 1, "C0", "C1"))
        ax.axvline(1, color="black", linestyle="--", label="mean or most frequent category")
        right = 1.05 * max(1.0, errors.max())
        ax.set(xlabel="Error (1: no better than the mean)", title=name, xlim=(0, right))
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        self.artists_ = dict(zip(names, bars, strict=True))

    def _plot_distributions(self, axes, name) -> None:
        self.artists_ = {}
        for panel, (column, values) in zip(axes, self.columns.items(), strict=True):
            draw = _histograms if values["observed"].dtype.kind == "f" else _category_bars
            self.artists_[column] = draw(panel, values)
            panel.set(title=column, yticks=[])
        handles = [self.artists_[column][each][0] for each in STYLES]
        if name is None:
            axes[0].legend(handles, list(STYLES), fontsize="small")
        else:
            axes[0].figure.legend(handles, list(STYLES), loc="outside lower center", ncols=3, frameon=False)
            axes[0].figure.suptitle(name)

    def _plot_coverage(self, ax, name) -> None:
        levels, cells = np.asarray(self.levels), np.concatenate(list(self.columns.values()))
        chance = 2 * np.sqrt(levels * (1 - levels) / len(cells))
        ax.fill_between(levels, levels - chance, levels + chance, color="lightgrey", label="chance")
        ax.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="as promised")
        self.artists_ = {}
        for column, held in self.columns.items():
            if len(held) >= ENOUGH_CELLS and len(self.columns) > 1:
                label = None if self.artists_ else "a column"
                (line,) = ax.plot(levels, held.mean(0), color="C0", alpha=0.25, linewidth=1, label=label)
                self.artists_[column] = line
        (self.artists_[None],) = ax.plot(levels, cells.mean(0), color="C0", marker="o", label="all columns")
        ax.set(
            xlabel="Nominal coverage", ylabel="Hidden cells in their intervals", title=name, xlim=(0, 1), ylim=(0, 1)
        )
        ax.legend(loc="upper left")


class _Table:
    """X as a frame or an array, where it is missing, and its columns by position."""

    def __init__(self, imputer, X) -> None:
        import pandas as pd

        self.X: Any = _as_rows(X)
        if self.X.shape[1:] != (imputer.n_features_in_,):
            raise ValueError(
                f"X has shape {self.X.shape}, but {type(imputer).__name__} is expecting {imputer.n_features_in_} "
                "features as input."
            )
        marker = getattr(imputer, "missing_values", np.nan)
        self.missing = np.asarray(pd.isna(self.X))
        if not pd.isna(marker):
            self.missing |= np.asarray(self.X == marker)
        own = getattr(imputer, "feature_names_in_", [f"x{i}" for i in range(imputer.n_features_in_)])
        self.names = [str(name) for name in (X.columns if hasattr(X, "columns") else own)]
        self.is_number = np.array([group.kind == "numeric" for group in imputer.table_encoder_.groups_])
        filled = list(imputer.get_feature_names_out())
        # Where a column stands in the filled table, which lacks columns that had no value at fit.
        ignored = [group.kind == "ignored" for group in imputer.table_encoder_.groups_]
        self.filled_at = [
            filled.index(name) if name in filled and not is_ignored else None
            for name, is_ignored in zip(own, ignored, strict=True)
        ]

    def position(self, feature) -> int:
        """Where a column stands that is asked for by its name or its index."""
        if isinstance(feature, str):
            if feature not in self.names:
                raise ValueError(f"features names {feature!r}, which is no column of X: {self.names[:20]}.")
            return self.names.index(feature)
        if not 0 <= feature < len(self.names):
            raise ValueError(f"features has {feature!r}: X has {len(self.names)} columns, so indices go from 0.")
        return int(feature)

    def observed(self, index: int, rows=None) -> np.ndarray:
        """Values of a column, in some rows or in those where it is observed."""
        return self._values(self.X, index, index, ~self.missing[:, index] if rows is None else rows)

    def filled(self, table, index: int, rows=None) -> np.ndarray:
        """What a filled table has in a column, in some rows or in those where X has a gap."""
        return self._values(table, self.filled_at[index], index, self.missing[:, index] if rows is None else rows)

    def _values(self, table, at: int, index: int, rows: np.ndarray) -> np.ndarray:
        """Floats, or categories as strings."""
        table = _as_rows(table)
        column = (table.iloc[:, at] if hasattr(table, "iloc") else table[:, at])[rows]
        if self.is_number[index]:
            return np.asarray(column, dtype=np.float64)
        return np.array([str(value) for value in column], dtype=str)

    def without(self, hidden: np.ndarray) -> Any:
        """The table with further gaps."""
        if hasattr(self.X, "iloc"):
            return self.X.mask(hidden)
        if self.X.dtype.kind in "iub":
            return np.where(hidden, np.nan, self.X)
        made = self.X.astype(object) if self.X.dtype.kind in "SU" else self.X.copy()
        made[hidden] = np.nan
        return made


def _as_rows(X):
    """A frame as one of pandas; other rows as an array."""
    return pandas_frame(X) if is_frame(X) else np.asarray(plain_rows(X))


def _check(imputer, kind) -> None:
    for needed in ("table_encoder_", *KINDS[kind]):
        if not hasattr(imputer, needed):
            raise ValueError(
                f"{type(last_step(imputer)).__name__} has no {needed}, which kind={kind!r} draws; give a fitted "
                "AutoencoderImputer."
            )


def _errors(imputer, table: _Table, chosen) -> dict[str, float]:
    asked = range(len(table.names)) if chosen is None else chosen
    relative = {index: imputer.holdout_error_[index] / _naive_error(table, index) for index in asked}
    measured = [index for index in asked if np.isfinite(relative[index])]
    if not measured:
        raise ValueError("No column has an error of held-out cells: each has one value, or none that could be hidden.")
    if chosen is None and len(measured) > MAX_BARS:
        measured = sorted(sorted(measured, key=lambda index: -relative[index])[:MAX_BARS])
    return {table.names[index]: float(relative[index]) for index in measured}


def _naive_error(table: _Table, index: int) -> float:
    """The error of the mean, or of the most frequent category; NaN where that cannot err."""
    values = table.observed(index)
    if not len(values):
        return np.nan
    if table.is_number[index]:
        error = values.std()
    else:
        error = 1 - np.unique(values, return_counts=True)[1].max() / len(values)
    return float(error) if error > 0 else np.nan


def _distributions(imputer, table: _Table, chosen, n_imputations, random_state) -> dict[str, dict[str, np.ndarray]]:
    gaps = table.missing.sum(0)
    can_be_drawn = [0 < gaps[index] < len(table.X) and table.filled_at[index] is not None for index in range(len(gaps))]
    if chosen is None:
        most = np.argsort(-gaps, kind="stable")
        chosen = sorted([index for index in most if can_be_drawn[index]][:MAX_PANELS])
    if not chosen or not all(can_be_drawn[index] for index in chosen):
        raise ValueError(
            "Distributions are those of observed cells and of filled gaps, and X, or a column that features names, "
            "lacks one of the two. Give rows with gaps."
        )
    guess = imputer.transform(table.X)
    drawn = imputer.sample(table.X, n_imputations, random_state=random_state)
    return {
        table.names[index]: {
            "observed": table.observed(index),
            "drawn": np.concatenate([table.filled(one, index) for one in drawn]),
            "single guess": table.filled(guess, index),
        }
        for index in chosen
    }


def _coverage(imputer, table: _Table, chosen, share, random_state) -> dict[str, np.ndarray]:
    hidden = (random_state.uniform(size=table.missing.shape) < share) & ~table.missing
    asked = np.flatnonzero(table.is_number) if chosen is None else chosen
    asked = [index for index in asked if table.filled_at[index] is not None and hidden[:, index].any()]
    if not asked or not table.is_number[asked].all():
        raise ValueError(
            "Intervals are those of numbers, and X, or a column that features names, has none to hide: give more "
            "rows, other columns, or a larger share."
        )
    gappy = table.without(hidden)
    held: dict[int, list[np.ndarray]] = {index: [] for index in asked}
    for level in LEVELS:
        low, high = imputer.interval(gappy, coverage=level)
        for index in asked:
            rows = hidden[:, index]
            truth = table.observed(index, rows)
            held[index].append((table.filled(low, index, rows) <= truth) & (truth <= table.filled(high, index, rows)))
    return {table.names[index]: np.stack(columns, axis=1) for index, columns in held.items()}


def _histograms(ax, values) -> dict[str, Any]:
    """Densities of numbers: the observed ones filled, the others as lines."""
    edges = np.histogram_bin_edges(np.concatenate([values["observed"], values["drawn"]]), 20)
    made = {}
    for name, style in STYLES.items():
        kind = "stepfilled" if name == "observed" else "step"
        made[name] = ax.hist(
            # The guess may leave the range of the others.
            values[name].clip(edges[0], edges[-1]), bins=edges, density=True, histtype=kind, linewidth=1.5, **style
        )[2]  # fmt: skip
    return made


def _category_bars(ax, values) -> dict[str, Any]:
    """Shares of the most frequent categories."""
    names, counts = np.unique(values["observed"], return_counts=True)
    names = names[np.sort(np.argsort(-counts, kind="stable")[:MAX_CATEGORIES])]
    made = {}
    for offset, (name, style) in zip((-0.28, 0.0, 0.28), STYLES.items(), strict=True):
        shares = [(values[name] == each).mean() for each in names]
        made[name] = ax.bar(np.arange(len(names)) + offset, shares, width=0.28, **style)
    labels = [each if len(each) <= MAX_LETTERS else each[: MAX_LETTERS - 1] + "…" for each in names]
    slanted = {"rotation": 30, "ha": "right"} if sum(map(len, labels)) > 24 else {}
    ax.set_xticks(range(len(names)), labels, **slanted)
    return made
