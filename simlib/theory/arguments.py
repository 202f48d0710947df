"""How closed forms check their arguments: one message for each kind of mistake."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simlib.errors import ScenarioError

FloatArray = NDArray[np.float64]


def reals(name: str, value: Any, within: str, *, whole: bool = False) -> FloatArray:
    """Return numbers as a float array; raise if one is outside the interval `within`."""
    given = np.asarray(value)
    low, high = (float(end) for end in within[1:-1].split(","))
    fits = given.dtype.kind in ("iu" if whole else "iuf") and bool(
        np.all(given >= low if within[0] == "[" else given > low)
        and np.all(given <= high if within[-1] == "]" else given < high)
    )
    if not fits:
        noun = "a whole number" if whole else "a number"
        raise ScenarioError(name, value, f"must be {noun} in {within}")
    return given.astype(np.float64)


def real(name: str, value: Any, within: str, *, whole: bool = False) -> float:
    """Return one number, checked like ``reals``."""
    if np.ndim(value) != 0:
        raise ScenarioError(name, value, f"must be one number in {within}")
    return float(reals(name, value, within, whole=whole))


def whole_count(name: str, value: Any) -> int:
    """Return one whole number of at least 1."""
    return int(real(name, value, "[1, inf)", whole=True))


def plain(values: FloatArray) -> float | FloatArray:
    """Return a float for one number and the array for several."""
    return float(values) if values.ndim == 0 else values
