"""Long polling: requests per second, empty answers, and how stale a change is when it is seen.

A client's time is a renewal process. A cycle is the *gap* of length g, in which nothing is held:
the answer on its way down, the client's pause, the next request on its way up and its check. Then,
if no change came in the gap, comes a *hold* that ends with the next change, or empty after H.
Changes are Poisson with rate r, so a cycle without a change in its gap has the probability
exp(-r g), and its hold the mean (1 - exp(-r H)) / r. Exact where the server takes no time to answer
what it holds, and nothing fails.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from simlib.theory.arguments import FloatArray, plain, real, reals


def held_requests_per_s(rate_per_s: ArrayLike, hold_s: float, gap_s: float) -> float | FloatArray:
    """Return how many requests a client sends whose requests are held.

    Parameters
    ----------
    rate_per_s : float or array
        Changes per second, Poisson, >= 0.
    hold_s : float
        The longest that a request is held, s, > 0.
    gap_s : float
        From the moment at which the server answers to that at which it has checked the next
        request, s, >= 0: a round trip, the pause and the check.

    Returns
    -------
    float or array
        Per second, shape of `rate_per_s`.

    Raises
    ------
    ValueError
        If a value is out of range.

    Notes
    -----
    ``1 / (g + exp(-r g) (1 - exp(-r H)) / r)``, the reciprocal of a cycle's mean. Few changes cost
    a request every g + H, many of them one every g.

    Examples
    --------
    >>> held_requests_per_s(0.0, 25.0, 1.0) == 1 / 26
    True
    >>> round(held_requests_per_s(0.1, 25.0, 0.05), 4)
    0.1089
    >>> round(held_requests_per_s(1e3, 25.0, 0.05), 6)
    20.0
    """
    rate, hold, gap = _checked(rate_per_s, hold_s, gap_s)
    return plain(1.0 / (gap + np.exp(-rate * gap) * _mean_hold_s(rate, hold)))


def held_empty_frac(rate_per_s: ArrayLike, hold_s: float, gap_s: float) -> float | FloatArray:
    """Return which share of a client's requests is answered empty.

    Parameters
    ----------
    rate_per_s : float or array
        Changes per second, Poisson, >= 0.
    hold_s, gap_s : float
        As for `held_requests_per_s`.

    Returns
    -------
    float or array
        Share in [0, 1], shape of `rate_per_s`.

    Raises
    ------
    ValueError
        If a value is out of range.

    Notes
    -----
    ``exp(-r (g + H))``: nothing came in the gap, and nothing in the hold.

    Examples
    --------
    >>> round(held_empty_frac(0.1, 25.0, 0.05), 4)
    0.0817
    """
    rate, hold, gap = _checked(rate_per_s, hold_s, gap_s)
    return plain(np.exp(-rate * (gap + hold)))


def held_staleness_s(
    rate_per_s: ArrayLike, hold_s: float, gap_s: float, down_s: float
) -> float | FloatArray:
    """Return the mean time from a change to the moment at which a client sees it.

    Parameters
    ----------
    rate_per_s : float or array
        Changes per second, Poisson, >= 0.
    hold_s, gap_s : float
        As for `held_requests_per_s`.
    down_s : float
        From the server to the client, s, >= 0.

    Returns
    -------
    float or array
        Seconds, shape of `rate_per_s`.

    Raises
    ------
    ValueError
        If a value is out of range.

    Notes
    -----
    A cycle has r g changes in its gap on average, and exp(-r g) (1 - exp(-r H)) in its hold. Those
    in the hold take `down_s`; those in the gap also wait for its end, g / 2 on average, as they
    are uniform on it. So the mean is ``down_s + g / 2 * r g / (r g + exp(-r g) (1 - exp(-r H)))``.

    Examples
    --------
    >>> held_staleness_s(0.0, 25.0, 0.05, 0.025)
    0.025
    >>> round(held_staleness_s(2.0, 25.0, 0.05, 0.025), 5)
    0.02749
    """
    rate, hold, gap = _checked(rate_per_s, hold_s, gap_s)
    down = real("down_s", down_s, "[0, inf)")
    in_gap_s = gap * gap / 2.0
    cycle_s = gap + np.exp(-rate * gap) * _mean_hold_s(rate, hold)
    return plain(down + in_gap_s / cycle_s * (rate > 0.0))


def _checked(rate_per_s: ArrayLike, hold_s: float, gap_s: float) -> tuple[FloatArray, float, float]:
    rate = reals("rate_per_s", rate_per_s, "[0, inf)")
    return rate, real("hold_s", hold_s, "(0, inf)"), real("gap_s", gap_s, "[0, inf)")


def _mean_hold_s(rate: FloatArray, hold_s: float) -> FloatArray:
    """Return the mean of the shorter of a hold and the time to the next change, seconds."""
    waits = np.where(rate > 0.0, rate, 1.0)
    return np.where(rate > 0.0, -np.expm1(-rate * hold_s) / waits, hold_s)
