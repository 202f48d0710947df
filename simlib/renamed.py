"""What was renamed still works, and says what it is called now."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def warn(old: str, new: str) -> None:
    """Tell the caller's caller that something was renamed.

    Parameters
    ----------
    old, new : str
        The full names, such as ``simlib.cohorts``.

    Warns
    -----
    FutureWarning
        With both names.
    """
    warnings.warn(f"{old} was renamed to {new}", FutureWarning, stacklevel=3)


def renamed(module: dict[str, Any], names: dict[str, str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` under which its old names lead to the new ones.

    Parameters
    ----------
    module : dict
        The module's ``globals()``.
    names : dict of str to str
        Old name to new name.

    Examples
    --------
    >>> import warnings
    >>> lookup = renamed(
    ...     {"__name__": "simlib.metrics", "guide_metrics": 6}, {"six": "guide_metrics"}
    ... )
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     lookup("six"), str(caught[0].message)
    (6, 'simlib.metrics.six was renamed to simlib.metrics.guide_metrics')
    """
    home = module["__name__"]

    def lookup(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {home!r} has no attribute {name!r}")
        warn(f"{home}.{name}", f"{home}.{names[name]}")
        return module[names[name]]

    return lookup


def renamed_arguments(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator under which a function still takes arguments by their old names.

    Parameters
    ----------
    **names : str
        Old name and new name.

    Examples
    --------
    >>> import warnings
    >>> @renamed_arguments(places="buckets")
    ... def count(buckets):
    ...     return len(buckets)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     count(places=[1.0, 2.0]), str(caught[0].message)
    (2, 'the argument places was renamed to buckets')
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                warn(f"the argument {old}", names[old])
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
