"""The one place where parameters of estimators and parts, and arguments of methods, are checked."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn import get_config
from sklearn.utils._param_validation import (
    Interval,
    Options,
    make_constraint,
    validate_parameter_constraints,
)

from skae.base.estimators import BaseEstimator

Function = TypeVar("Function", bound=Callable[..., Any])


class SequenceOf(Options):
    """A constraint: a tuple, a list or an array, each entry of which satisfies another constraint.

    Parameters
    ----------
    *constraints : constraint
        As of scikit-learn's `_parameter_constraints`; an entry satisfies one of them.
    lengths : pair of int or None, default=(0, None)
        Fewest and most entries.
    order : {"<=", "<"} or None, default=None
        How each entry compares with the one behind it.
    """

    def __init__(self, *constraints, lengths: tuple[int, int | None] = (0, None), order: str | None = None):
        # scikit-learn's checks take this class for one of theirs.
        super().__init__(object, set())
        self.constraints = [make_constraint(constraint) for constraint in constraints]
        self.lengths, self.order = lengths, order

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether a value satisfies the constraint."""
        if isinstance(val, str | bytes | dict | set) or not hasattr(val, "__len__") or getattr(val, "ndim", 1) == 0:
            return False
        fewest, most = self.lengths
        if len(val) < fewest or most is not None and len(val) > most:
            return False
        if not all(any(constraint.is_satisfied_by(each) for constraint in self.constraints) for each in val):
            return False
        compare = {"<=": operator.le, "<": operator.lt}.get(self.order)
        return compare is None or all(compare(low, high) for low, high in zip(val[:-1], val[1:], strict=True))

    def __str__(self) -> str:
        fewest, most = self.lengths
        entries = " or ".join(str(constraint) for constraint in self.constraints)
        if self.lengths == (2, 2):
            kind = f"a pair (low, high) with low {self.order} high" if self.order else "a pair"
        else:
            kind = "a sequence"
            if most is not None:
                kind += f" of {fewest} to {most} entries"
            elif fewest:
                kind += f" of at least {fewest} {'entry' if fewest == 1 else 'entries'}"
        return f"{kind}, each {entries}"


class Number(Interval):
    """A constraint: a number in an interval, and no boolean, which Python takes for 0 or 1."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether a value satisfies the constraint."""
        return not isinstance(val, bool | np.bool_) and super().is_satisfied_by(val)


def positive() -> Interval:
    """A constraint: a finite number above 0."""
    return Number(Real, 0, None, closed="neither")


def not_negative() -> Interval:
    """A constraint: a finite number of 0 or more."""
    return Number(Real, 0, None, closed="left")


def at_least(least: int) -> Interval:
    """A constraint: an integer with a lower bound."""
    return Number(Integral, least, None, closed="left")


def any_number() -> Interval:
    """A constraint: a finite number."""
    return Number(Real, None, None, closed="neither")


def share(closed: str = "both") -> Interval:
    """A constraint: a number between 0 and 1."""
    return Number(Real, 0, 1, closed=closed)


def range_of(constraint: Any, order: str = "<=") -> SequenceOf:
    """A constraint: a pair (low, high)."""
    return SequenceOf(constraint, lengths=(2, 2), order=order)


def list_of(*constraints: Any) -> SequenceOf:
    """A constraint: a sequence with at least one entry."""
    return SequenceOf(*constraints, lengths=(1, None))


# Of parameters that several classes have: layer sizes, of which a number is a single layer's; what noise is drawn by.
LAYER_SIZES = [at_least(1), SequenceOf(at_least(1))]
RANDOM_STATE = ["random_state", np.random.Generator]


def layer_sizes(sizes: int | Sequence[int]) -> tuple[int, ...]:
    """Sizes of layers as a tuple; a number is a single layer's, as in scikit-learn's `MLPClassifier`."""
    return (sizes,) if isinstance(sizes, int | np.integer) else tuple(sizes)


class CheckedParameters(BaseEstimator):
    """Base of estimators and parts: `_parameter_constraints` says what each parameter may be.

    scikit-learn calls `_validate_params` where a fit begins. The parts among the parameters, alone
    or in a list, are checked with their estimator, and parts of parts with these.
    """

    _parameter_constraints: dict = {}

    def _validate_params(self) -> None:
        parameters = self.get_params(deep=False)
        validate_parameter_constraints(self._parameter_constraints, parameters, caller_name=type(self).__name__)
        for value in parameters.values():
            several = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object)
            for part in value if several else [value]:
                if isinstance(part, CheckedParameters):
                    part._validate_params()


class Part(CheckedParameters):
    """Base of the parts of an estimator: penalties, corruptions, likelihoods, networks, optimizers, scorers and others.

    A part is its parameters; what is learnt lives in the model.
    """

    def check_parameters(self) -> None:
        """Raise ValueError for parameters that do not fit together; each alone is what it may be."""

    def _validate_params(self) -> None:
        super()._validate_params()
        self.check_parameters()

    if TYPE_CHECKING:
        # What parts ask of each other differs by class; users construct them.
        def __getattr__(self, name: str) -> Any: ...


def checked_arguments(**constraints: list) -> Callable[[Function], Function]:
    """Decorate a method or a function: arguments are checked before it is called, as scikit-learn checks parameters.

    Parameters
    ----------
    **constraints : list
        By the name of an argument, what it may be. Defaults are not checked.

    Returns
    -------
    callable
        The decorator. What it returns raises an error that is a ValueError and a TypeError, names
        the argument and says what it may be and what it was.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        is_method = next(iter(signature.parameters)) in ("self", "cls")

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            if not get_config()["skip_parameter_validation"]:
                given = signature.bind(*args, **kwargs).arguments
                caller = function.__name__
                if is_method:
                    owner = args[0] if isinstance(args[0], type) else type(args[0])
                    caller = f"{owner.__name__}.{caller}"
                validate_parameter_constraints(constraints, given, caller)
            return function(*args, **kwargs)

        wrapper._argument_constraints = constraints  # type: ignore[attr-defined]
        return wrapper  # type: ignore[return-value]

    return decorate
