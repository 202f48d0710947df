"""How a rollout's percentage assigns a tab to a cohort, and when.

A rollout has one number that changes: the percentage of users who are enrolled. A user is enrolled
if its *bucket* (`bucketing`) lies below that number, and belongs to the treatment cohort then, else
to the control cohort. A tab acts on the number that it last read:

``session``
    It reads the number once, when its session starts, and keeps to it. A component does that which
    makes its service in React's ``useState``; so does a constant that a build puts into the page,
    where a change takes a build and a deploy (`delay_s`). In all but `cached_frac` of the sessions
    the flag is not loaded when the page is mounted: these tabs belong to the control cohort.
``polled``
    It reads the number at a fixed interval, counted from the start of its session.
``pushed``
    A tab with an open socket gets the number at once. Others read it when their next session
    starts.

The server may act by itself: when the number falls it closes the sockets of users who are no longer
enrolled, all at once or spread over a window, and says why. Such a tab belongs to the control
cohort from then on. A node that is down then, or that stops before it comes to it, closes nothing:
the tab is told as soon as a node lets it in, unless it is enrolled again by then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from simlib.core.draws import Stream, uniform
from simlib.core.protocol import Transport

CONTROL = 0
TREATMENT = 1
"""The cohorts: those who are not enrolled, and those who are."""

FLAG_READ = 0
SERVER_CLOSES = 1
SERVER_CLOSED = 2
"""Why a tab is assigned anew: it reads the number; the server closes its socket; the tab hears."""


class Percent(NamedTuple):
    """From `t` on, seconds, `percent` of the users are enrolled."""

    t: float
    percent: float


PERCENT = {"t": "f8", "percent": "f8"}
"""Its columns, for an engine that keeps them in an array."""


class Propagation(IntEnum):
    """How a new percentage reaches a tab."""

    SESSION = 0
    POLLED = 1
    PUSHED = 2


class FlagRules(NamedTuple):
    """How a rollout reaches tabs and sockets; times are in seconds.

    Attributes
    ----------
    propagation : Propagation
    every_s : float
        Time from one reading to the next, where the number is polled.
    delay_s : float
        Time from a change of the number until a tab can read it.
    cached_frac : float
        Fraction of sessions whose flag is loaded when their page is mounted.
    closes : bool
        Whether the server closes sockets when the number falls.
    window_s : float
        The time over which the server spreads that.
    jitter_s : float
        The most that a tab waits before it acts on a new number, drawn anew each time.
    transports : tuple of int
        The `Transport` of the control and of the treatment cohort.
    """

    propagation: int
    every_s: float
    delay_s: float
    cached_frac: float
    closes: bool
    window_s: float
    jitter_s: float
    transports: tuple[int, int] = (Transport.POLLING + 0, Transport.WEBSOCKET + 0)


def cohort_at(bucket: float, percent: float) -> int:
    """Return the cohort of a user at a percentage.

    Examples
    --------
    >>> [cohort_at(9.0, percent) for percent in (9.0, 10.0)] == [CONTROL, TREATMENT]
    True
    """
    if bucket < percent:
        return TREATMENT + 0
    return CONTROL + 0


def percent_at(percents: Sequence[Percent], n: int, t: float, delay_s: float) -> float:
    """Return the number that is read at `t` if it takes `delay_s` to be seen, seconds.

    Parameters
    ----------
    percents : sequence of Percent
        The first `n` in order of time; before them no user is enrolled, whatever the bucket.
    n : int
    t, delay_s : float

    Examples
    --------
    >>> steps = [Percent(0.0, 10.0), Percent(60.0, 25.0)]
    >>> [percent_at(steps, 2, t, 5.0) for t in (4.0, 5.0, 65.0)]
    [-inf, 10.0, 25.0]
    """
    for index in range(n - 1, -1, -1):
        if percents[index].t + delay_s <= t:
            return percents[index].percent
    return -math.inf


def cohort_now(
    rules: FlagRules, bucket: float, percents: Sequence[Percent], n: int, why: int, now: float
) -> int:
    """Return the cohort that a tab learns `now`: it reads the number, or the server tells it.

    What the server tells needs no `delay_s` to be seen.

    Examples
    --------
    >>> polled = FlagRules(Propagation.POLLED, 60.0, 5.0, 1.0, True, 0.0, 0.0)
    >>> everybody = [Percent(0.0, 100.0)]
    >>> [cohort_now(polled, 30.0, everybody, 1, why, 4.0) for why in (FLAG_READ, SERVER_CLOSED)]
    [0, 1]
    """
    delay_s = 0.0
    if why == FLAG_READ:
        delay_s += rules.delay_s
    return cohort_at(bucket, percent_at(percents, n, now, delay_s))


def user_of(client: Any, tabs_per_user: int) -> Any:
    """Return the user to whom a client belongs, or each of an array of clients.

    Examples
    --------
    >>> [user_of(client, 2) for client in (0, 1, 2)]
    [0, 0, 1]
    """
    return client // tabs_per_user


def is_denied(cohort: int, bucket: float, percents: Sequence[Percent], n: int) -> bool:
    """Say whether the user of a tab is enrolled no longer, of which the tab has not heard.

    Examples
    --------
    >>> steps = [Percent(0.0, 50.0), Percent(60.0, 10.0)]
    >>> [is_denied(TREATMENT, bucket, steps, 2) for bucket in (30.0, 5.0)]
    [True, False]
    """
    return cohort == TREATMENT and cohort_at(bucket, percents[n - 1].percent) != TREATMENT


def cohort_at_start(
    rules: FlagRules,
    seed: int,
    replication: int,
    client: int,
    bucket: float,
    percents: Sequence[Percent],
    n: int,
    now: float,
) -> int:
    """Return the cohort in which a tab begins its session.

    Examples
    --------
    >>> cold = FlagRules(Propagation.SESSION, 0.0, 0.0, 0.0, False, 0.0, 0.0)
    >>> polled, everybody = cold._replace(propagation=Propagation.POLLED), [Percent(0.0, 100.0)]
    >>> [cohort_at_start(rules, 1, 0, 7, 30.0, everybody, 1, 9.0) for rules in (cold, polled)]
    [0, 1]
    """
    if rules.propagation == Propagation.SESSION and rules.cached_frac < 1.0:
        if uniform(seed, replication, client, Stream.FLAG, 0) >= rules.cached_frac:
            return CONTROL + 0
    return cohort_at(bucket, percent_at(percents, n, now, rules.delay_s))


def flag_applies_s(
    rules: FlagRules,
    seed: int,
    replication: int,
    client: int,
    change: int,
    start_s: float,
    is_open: bool,
    trip_s: float,
    now: float,
) -> float:
    """Return when a tab acts on a change of the number that it reads, seconds; infinite: never.

    Parameters
    ----------
    rules : FlagRules
    seed, replication, client : int
    change : int
        The number of the change, from 0.
    start_s : float
        When the tab's session started.
    is_open : bool
        Whether its socket is open.
    trip_s : float
        From the server to the tab, seconds.
    now : float
        When the number changes.

    Examples
    --------
    >>> polled = FlagRules(Propagation.POLLED, 60.0, 0.0, 1.0, False, 0.0, 0.0)
    >>> flag_applies_s(polled, 1, 0, 7, 0, 30.0, True, 0.02, 100.0)
    150.0
    """
    if rules.propagation == Propagation.SESSION or (
        rules.propagation == Propagation.PUSHED and not is_open
    ):
        return math.inf
    t = now + rules.delay_s
    if rules.propagation == Propagation.POLLED:
        t = max(t, start_s + math.ceil((t - start_s) / rules.every_s) * rules.every_s)
    else:
        t += trip_s
    if rules.jitter_s > 0.0:
        k = 2 * change + 1
        t += rules.jitter_s * uniform(seed, replication, client, Stream.FLAG, k)
    return t


def server_closes_s(
    rules: FlagRules,
    seed: int,
    replication: int,
    client: int,
    change: int,
    now: float,
) -> float:
    """Return when the server closes the socket of a user who is no longer enrolled, seconds.

    Examples
    --------
    >>> kept = FlagRules(Propagation.SESSION, 0.0, 0.0, 1.0, False, 0.0, 0.0)
    >>> closed = kept._replace(closes=True)
    >>> [server_closes_s(rules, 1, 0, 7, 0, 100.0) for rules in (kept, closed)]
    [inf, 100.0]
    """
    if not rules.closes:
        return math.inf
    t = now + 0.0
    if rules.window_s > 0.0:
        k = 2 * change + 2
        t += rules.window_s * uniform(seed, replication, client, Stream.FLAG, k)
    return t
