"""When a client that lost its connection tries again.

The smallest set that makes the protocol's table whole: no retry, a fixed delay, full jitter.
Delays grow by repeated doubling: a compiled float power differs from the interpreted one in the
last bit, a product does not.
"""

from __future__ import annotations

from enum import IntEnum


class Policy(IntEnum):
    """How the delay before an attempt is chosen."""

    NONE = 0
    FIXED = 1
    FULL_JITTER = 2


def doubled_s(base_s: float, k: int, cap_s: float) -> float:
    """Return min(`base_s` * 2**`k`, `cap_s`), the ceiling of attempt `k` (from 0).

    Examples
    --------
    >>> [doubled_s(1.0, k, 30.0) for k in range(6)]
    [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    """
    delay_s = base_s
    for _ in range(k):
        if delay_s >= cap_s:
            break
        delay_s = delay_s * 2.0
    return min(delay_s, cap_s)


def delay_s(policy: int, k: int, base_s: float, cap_s: float, u: float) -> float:
    """Return the delay before attempt `k` (from 0) after a loss.

    Parameters
    ----------
    policy : Policy
        ``FIXED``: always `base_s`. ``FULL_JITTER``: uniform below the doubled ceiling.
    k : int
        Failed attempts since the connection was last open, >= 0.
    base_s, cap_s : float
        First ceiling and its limit, seconds.
    u : float
        A uniform draw on [0, 1).

    Returns
    -------
    float
        Seconds.

    References
    ----------
    Brooker (2015), Exponential Backoff And Jitter, AWS Architecture Blog: "full jitter".

    Examples
    --------
    >>> delay_s(Policy.FULL_JITTER, 3, 1.0, 60.0, 0.5)
    4.0
    """
    if policy == Policy.FULL_JITTER:
        return u * doubled_s(base_s, k, cap_s)
    return base_s
