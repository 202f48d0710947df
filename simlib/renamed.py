"""What was renamed still works, and says what it is called now."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any


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
