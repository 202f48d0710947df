"""Reconnect policies: when a client that lost its connection tries again, and when it gives up.

There are the textbook policies, and the arithmetic of real client libraries as their sources have
it, bugs included; `scenario.presets` says which library uses which. Attempt k (from 0) follows k
failures since the count was last reset.

Delays grow by repeated multiplication: a compiled float power differs from the interpreted one in
the last bit, a product does not. Libraries in JavaScript count whole milliseconds.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

from simlib.core.draws import Stream, uniform

MOST_DELAYS = 16
"""Length of a table of delays."""
_WHOLE = 2.0**52
_LONG_AFTER = 1000


class Policy(IntEnum):
    """How the delay before an attempt is chosen."""

    NONE = 0
    FIXED = 1
    EXPONENTIAL = 2
    TABLE = 3
    FULL_JITTER = 4
    EQUAL_JITTER = 5
    DECORRELATED_JITTER = 6
    SOCKETIO = 7
    PYTHON_SOCKETIO = 8
    ACTIONCABLE = 9
    CENTRIFUGE = 10
    WEBSOCKETS = 11
    PROPORTIONAL_JITTER = 12
    ADDITIVE_JITTER = 13


class Reset(IntEnum):
    """When the count of failures starts anew: at the upgrade, after authentication, or never."""

    TRANSPORT = 0
    READY = 1
    NEVER = 2


class PolicyRow(NamedTuple):
    """The facts about a policy; its formula is in `delay_s`.

    Attributes
    ----------
    policy : Policy
    summary : str
        How it chooses the delay before attempt k.
    reads : tuple of str
        The parameters that it reads, by their names in a scenario's ``[reconnect]``. Parameters
        without a default must be given to the policies that read them, and to no others.
    is_drawn : bool
        Whether its delays are random. Each attempt then takes one draw.
    grows : bool
        Whether its delays grow from ``base_s``, which must then be above 0.
    retries_at_once : bool
        Whether a lost connection is tried again without a delay, so that only failed attempts
        are followed by one.
    runs_on : bool
        Whether its delays follow one another all the time, with a connection or without: they are
        those of a timer that checks for a stale connection, and a loss falls within one of them.
    retries : bool
        Whether a lost connection is tried again at all.
    """

    policy: Policy
    summary: str
    reads: tuple[str, ...]
    is_drawn: bool = False
    grows: bool = False
    retries_at_once: bool = False
    runs_on: bool = False
    retries: bool = True


_ROWS = (
    PolicyRow(Policy.NONE, "The client does not try again.", (), retries=False),
    PolicyRow(Policy.FIXED, "Always base_s.", ("base_s",)),
    PolicyRow(
        Policy.EXPONENTIAL,
        "The ceiling, min(base_s * factor**k, cap_s).",
        ("base_s", "cap_s", "factor"),
        grows=True,
    ),
    PolicyRow(Policy.TABLE, "delays_s[k], and the last for all further attempts.", ("delays_s",)),
    PolicyRow(
        Policy.FULL_JITTER,
        "Uniform from 0 to the ceiling.",
        ("base_s", "cap_s", "factor"),
        is_drawn=True,
        grows=True,
    ),
    PolicyRow(
        Policy.EQUAL_JITTER,
        "Uniform from half the ceiling to the ceiling.",
        ("base_s", "cap_s", "factor"),
        is_drawn=True,
        grows=True,
    ),
    PolicyRow(
        Policy.DECORRELATED_JITTER,
        "Uniform from base_s to three times the delay before, at most cap_s.",
        ("base_s", "cap_s"),
        is_drawn=True,
        grows=True,
    ),
    PolicyRow(
        Policy.SOCKETIO,
        "base_s * factor**k, more or less by up to jitter_frac of it, then at most cap_s.",
        ("base_s", "cap_s", "factor", "jitter_frac"),
        is_drawn=True,
        grows=True,
    ),
    PolicyRow(
        Policy.PYTHON_SOCKETIO,
        "The ceiling, more or less by up to jitter_s.",
        ("base_s", "cap_s", "factor", "jitter_s"),
        is_drawn=True,
        grows=True,
    ),
    PolicyRow(
        Policy.ACTIONCABLE,
        "base_s * 1.15**k, longer by up to jitter_frac of it (the first by up to all of it), from "
        "one check of the connection to the next; k counts those that found it stale.",
        ("base_s", "jitter_frac"),
        is_drawn=True,
        grows=True,
        runs_on=True,
    ),
    PolicyRow(
        Policy.CENTRIFUGE,
        "base_s and a uniform part of the ceiling, at most cap_s.",
        ("base_s", "cap_s", "factor"),
        is_drawn=True,
        grows=True,
    ),
    PolicyRow(
        Policy.WEBSOCKETS,
        "Uniform from 0 to jitter_s after the first failure, then the ceiling from base_s on.",
        ("base_s", "cap_s", "factor", "jitter_s"),
        is_drawn=True,
        grows=True,
        retries_at_once=True,
    ),
    PolicyRow(
        Policy.PROPORTIONAL_JITTER,
        "The ceiling, more or less by up to jitter_frac of it: the jitter comes after the cap.",
        ("base_s", "cap_s", "factor", "jitter_frac"),
        is_drawn=True,
        grows=True,
    ),
    PolicyRow(
        Policy.ADDITIVE_JITTER,
        "The ceiling, and from jitter_from_s to jitter_s beside it.",
        ("base_s", "cap_s", "factor", "jitter_from_s", "jitter_s"),
        is_drawn=True,
        grows=True,
    ),
)
POLICIES = {row.policy.name.lower(): row for row in _ROWS}
"""A row for each policy, by its name in a scenario; in the order of their numbers."""

# Compiled code cannot read the rows, but it can index bytes by a policy's number.
_IS_DRAWN = bytes(row.is_drawn for row in _ROWS)
_RETRIES_AT_ONCE = bytes(row.retries_at_once for row in _ROWS)
_RUNS_ON = bytes(row.runs_on for row in _ROWS)


class ReconnectRules(NamedTuple):
    """What a client does after a lost connection; times in seconds.

    `policy` is a `Policy`; `base_s`, `cap_s`, `factor`, `jitter_frac`, `jitter_from_s`, `jitter_s`
    and `delays_s` are its parameters, 0 where it reads none. `delays_s` has `MOST_DELAYS` entries:
    its last is repeated. The client gives up after `attempts` failures or `give_up_s` without a
    connection; without `from_start`, also when its first connection fails; without `retries_4xx`,
    also when an upgrade is answered 4xx. Without `while_hidden` a hidden tab makes no attempt until
    it is shown. `reset` is a `Reset`; with `stable_s` > 0 the count starts anew only when a
    connection is lost that was open so long.
    """

    policy: int
    base_s: float
    cap_s: float
    factor: float
    jitter_frac: float
    jitter_from_s: float
    jitter_s: float
    delays_s: tuple[float, ...]
    attempts: int
    give_up_s: float
    from_start: bool
    reset: int
    stable_s: float
    while_hidden: bool = True
    retries_4xx: bool = True


_GROWTH = (
    1.0,
    1.15,
    1.3224999999999998,
    1.5208749999999998,
    1.7490062499999994,
    2.0113571874999994,
    2.313060765624999,
    2.6600198804687487,
    3.0590228625390603,
    3.5178762919199196,
    4.045557735707907,
)
"""1.15**k as JavaScript's ``Math.pow`` returns it; Python's differs in the last bit at k = 8."""


def doubled_s(base_s: float, k: int, cap_s: float) -> float:
    """Return min(`base_s` * 2**`k`, `cap_s`), the ceiling of attempt `k` (from 0).

    Examples
    --------
    >>> [doubled_s(1.0, k, 30.0) for k in range(6)]
    [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    """
    return grown_s(base_s, 2.0, k, cap_s)


def grown_s(base_s: float, factor: float, k: int, cap_s: float) -> float:
    """Return min(`base_s` * `factor`**`k`, `cap_s`).

    Examples
    --------
    >>> [grown_s(3.1, 1.618, k, 90.0) for k in (0, 1, 9)]
    [3.1, 5.0158000000000005, 90.0]
    """
    delay_s = base_s
    for _ in range(k):
        if delay_s >= cap_s:
            break
        delay_s = delay_s * factor
    return min(delay_s, cap_s)


def delay_s(rule: ReconnectRules, k: int, u: float) -> float:
    """Return the delay before attempt `k`, for every policy except decorrelated jitter.

    Parameters
    ----------
    rule : ReconnectRules
    k : int
        Failures since the count was last reset, >= 0.
    u : float
        A uniform draw on [0, 1).

    Returns
    -------
    float
        Seconds.

    References
    ----------
    Brooker (2015), Exponential Backoff And Jitter, AWS Architecture Blog: full and equal jitter.
    graphql-ws 6.4.2, dist/client.js, randomisedExponentialBackoff: additive jitter.
    The libraries: see `scenario.presets`.

    Examples
    --------
    >>> limits = (9, 600.0, True, Reset.READY, 0.0)
    >>> rule = ReconnectRules(Policy.FULL_JITTER, 1.0, 60.0, 2.0, *[0.0] * 3, (0.0,) * 16, *limits)
    >>> delay_s(rule, 3, 0.5), delay_s(rule._replace(policy=Policy.EQUAL_JITTER), 3, 0.5)
    (4.0, 6.0)
    >>> about = rule._replace(policy=Policy.PROPORTIONAL_JITTER, jitter_frac=0.25)
    >>> [delay_s(about, 9, u) for u in (0.0, 0.5, 1.0)]  # the cap is 60 s
    [45.0, 60.0, 75.0]
    >>> later = rule._replace(policy=Policy.ADDITIVE_JITTER, jitter_from_s=0.5, jitter_s=3.0)
    >>> [delay_s(later, k, 0.5) for k in range(4)]
    [2.75, 3.75, 5.75, 9.75]
    """
    policy, base_s, cap_s = rule.policy, rule.base_s, rule.cap_s
    if policy == Policy.FULL_JITTER:
        return u * grown_s(base_s, rule.factor, k, cap_s)
    if policy == Policy.EXPONENTIAL:
        return grown_s(base_s, rule.factor, k, cap_s)
    if policy == Policy.EQUAL_JITTER:
        half_s = grown_s(base_s, rule.factor, k, cap_s) / 2.0
        return half_s + u * half_s
    if policy == Policy.TABLE:
        return rule.delays_s[min(k, MOST_DELAYS - 1)]
    if policy == Policy.PROPORTIONAL_JITTER:
        return grown_s(base_s, rule.factor, k, cap_s) * (1.0 + rule.jitter_frac * (2.0 * u - 1.0))
    if policy == Policy.ADDITIVE_JITTER:
        jitter_s = rule.jitter_from_s + u * (rule.jitter_s - rule.jitter_from_s)
        return grown_s(base_s, rule.factor, k, cap_s) + jitter_s
    if policy == Policy.SOCKETIO:
        return _socketio_s(rule, k, u)
    if policy == Policy.PYTHON_SOCKETIO:
        return max(0.0, grown_s(base_s, rule.factor, k, cap_s) + rule.jitter_s * (2.0 * u - 1.0))
    if policy == Policy.ACTIONCABLE:
        most = 1.0 if k == 0 else rule.jitter_frac
        delay_ms = base_s * 1000.0 * _GROWTH[min(k, 10)] * (1.0 + most * u)
        return _floor(delay_ms) / 1000.0
    if policy == Policy.CENTRIFUGE:
        ceiling_ms = grown_s(base_s * 1000.0, rule.factor, min(k, 31), cap_s * 1000.0)
        interval_ms = _floor(u * (ceiling_ms + 1.0))
        return min(cap_s * 1000.0, base_s * 1000.0 + interval_ms) / 1000.0
    if policy == Policy.WEBSOCKETS:
        return u * rule.jitter_s if k == 0 else grown_s(base_s, rule.factor, k - 1, cap_s)
    return base_s


def decorrelated_s(rule: ReconnectRules, previous_s: float, u: float) -> float:
    """Return the delay that follows a delay of `previous_s`: U(base, 3 * previous), capped.

    Before the first delay, `previous_s` is `base_s`.

    References
    ----------
    Brooker (2015), as above: "decorrelated jitter".

    Examples
    --------
    >>> limits = (9, 600.0, True, Reset.READY, 0.0)
    >>> rule = ReconnectRules(Policy.DECORRELATED_JITTER, 1.0, 60.0, 2.0, *[0.0] * 3, (), *limits)
    >>> decorrelated_s(rule, 1.0, 0.5), decorrelated_s(rule, 50.0, 0.9)
    (2.0, 60.0)
    """
    return min(rule.cap_s, rule.base_s + u * (3.0 * previous_s - rule.base_s))


def drawn_delay_s(
    rule: ReconnectRules, k: int, seed: int, replication: int, client: int, draws: int
) -> float:
    """Return a client's delay before attempt `k`; `draws` counts its draws so far.

    Every attempt takes one draw. Decorrelated jitter depends on the delay before; it is computed
    again from the same draws, so that nothing need be kept for it.
    """
    if rule.policy == Policy.DECORRELATED_JITTER:
        previous_s = rule.base_s
        for back in range(k, -1, -1):
            u = uniform(seed, replication, client, Stream.BACKOFF, draws - back)
            previous_s = decorrelated_s(rule, previous_s, u)
        return previous_s
    return delay_s(rule, k, uniform(seed, replication, client, Stream.BACKOFF, draws))


def is_drawn(policy: int) -> bool:
    """Return whether a policy's delays are random.

    Examples
    --------
    >>> is_drawn(Policy.FIXED), is_drawn(Policy.SOCKETIO)
    (False, True)
    """
    return _IS_DRAWN[policy] != 0


def retries_at_once(policy: int) -> bool:
    """Return whether a policy tries a lost connection again without a delay.

    Examples
    --------
    >>> retries_at_once(Policy.FIXED), retries_at_once(Policy.WEBSOCKETS)
    (False, True)
    """
    return _RETRIES_AT_ONCE[policy] != 0


def runs_on(policy: int) -> bool:
    """Return whether a policy's delays go on while there is a connection.

    Examples
    --------
    >>> runs_on(Policy.FIXED), runs_on(Policy.ACTIONCABLE)
    (False, True)
    """
    return _RUNS_ON[policy] != 0


def longest_delay_s(rule: ReconnectRules) -> float:
    """Return the longest delay before any attempt, seconds.

    Examples
    --------
    >>> limits = (9, 600.0, True, Reset.READY, 0.0)
    >>> rule = ReconnectRules(Policy.EXPONENTIAL, 1.0, 60.0, 2.0, *[0.0] * 3, (0.0,) * 16, *limits)
    >>> longest_delay_s(rule)
    60.0
    """
    if rule.policy == Policy.DECORRELATED_JITTER:
        return rule.cap_s
    # All delays of a table, and the capped delay of a policy that grows slowly.
    return max(delay_s(rule, k, 1.0) for k in (*range(MOST_DELAYS), _LONG_AFTER))


def _socketio_s(rule: ReconnectRules, k: int, u: float) -> float:
    """socket.io-client's ``backo2``: one draw sets size and sign of the jitter; the cap is last.

    If the doubled delay overflows, one sign of the jitter gives not-a-number, which is 0 ms.
    """
    cap_ms = rule.cap_s * 1000.0
    delay_ms = grown_s(rule.base_s * 1000.0, rule.factor, k, math.inf)
    if rule.jitter_frac > 0.0:
        is_shorter = int(u * 10.0) % 2 == 0
        if delay_ms == math.inf:
            return 0.0 if is_shorter else rule.cap_s
        deviation_ms = _floor(u * rule.jitter_frac * delay_ms)
        delay_ms = delay_ms - deviation_ms if is_shorter else delay_ms + deviation_ms
    return _floor(min(delay_ms, cap_ms)) / 1000.0


def _floor(x: float) -> float:
    """The largest whole number that is not above `x` >= 0, whatever its size."""
    return x if x >= _WHOLE else float(math.floor(x))
