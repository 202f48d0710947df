"""Broadcasts that a join or a leave cuts short, in a loop over a plain set of sockets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from simlib.theory.arguments import FloatArray, plain, reals


class CutShort(NamedTuple):
    """How many updates are cut short, and how much of all is missed for that.

    Attributes
    ----------
    updates_frac : float or ndarray of float64
        Share of the updates whose broadcast ends early.
    missed_frac : float or ndarray of float64
        Share of all updates for all clients that are not sent: about half of that.
    """

    updates_frac: float | FloatArray
    missed_frac: float | FloatArray


def cut_short(changes_per_s: ArrayLike, length_s: ArrayLike) -> CutShort:
    """Return how many broadcasts a join or a leave cuts short, and what that loses.

    Joins and leaves are a Poisson stream. The first of them during a broadcast of length L ends it,
    and those behind miss the update: with rate r, a share ``1 - exp(-r L)`` of the updates, and
    ``1 - (1 - exp(-r L)) / (r L)`` of all messages; for small r L about r L and r L / 2.

    Parameters
    ----------
    changes_per_s : float or array of float
        Joins and leaves together, per second, >= 0.
    length_s : float or array of float
        From the first send of a broadcast to its last, seconds, >= 0.

    Returns
    -------
    CutShort
        Shares, of the common shape.

    Raises
    ------
    ScenarioError
        An argument is out of range.

    Examples
    --------
    Fifty clients a second join a board of 200 and fifty leave it; a broadcast takes 1.2 ms:

    >>> [round(share, 4) for share in cut_short(100.0, 1.2e-3)]
    [0.1131, 0.0577]
    """
    expected = reals("changes_per_s", changes_per_s, "[0, inf)") * reals(
        "length_s", length_s, "[0, inf)"
    )
    updates = -np.expm1(-expected)
    with np.errstate(invalid="ignore", divide="ignore"):
        missed = np.where(expected > 0.0, 1.0 - updates / expected, 0.0)
    return CutShort(plain(np.asarray(updates)), plain(np.asarray(missed)))
