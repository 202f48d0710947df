"""A rate limit in front of all nodes: what exceeds it is refused at once, or waits and is refused.

One rule serves both kinds, the generic cell rate algorithm (ITU-T Recommendation I.371). It keeps
one time: when the next request is due at the rate. A request may come early by as many turns as
`burst` allows. A token bucket lets it pass at once, as nginx's ``limit_req`` does with ``nodelay``;
a leaky bucket lets it wait for its turn, as ``limit_req`` does without. nginx counts what is in
excess of the first: its ``burst`` is one fewer, and its excess, in thousandths of a request at
whole milliseconds, is this time's distance from now multiplied by the rate.

A request whose client gives up while it waits has had its turn all the same.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from simlib.core.server import is_admitted, next_due_s


class LimiterRules(NamedTuple):
    """The limit: `per_s` requests per second after a `burst`, for upgrades, polls or both.

    With `delays`, what exceeds the rate waits; what is beyond the burst is answered `status`.
    """

    per_s: float
    burst: int
    delays: bool
    upgrades: bool
    polls: bool
    status: int


NO_LIMIT = LimiterRules(math.inf, 1, False, False, False, 0)


class LimiterState:
    """When the next request is due at the rate, seconds.

    An engine that keeps its state in an array has a row with this name in its place.
    """

    __slots__ = ("limit_due_s",)

    def __init__(self) -> None:
        self.limit_due_s = 0.0


def passes_s(state: LimiterState, rules: LimiterRules, now: float) -> float:
    """Return when a request that arrives `now` passes, seconds, and count it; -1: it is refused.

    Examples
    --------
    >>> rules = LimiterRules(2.0, 3, False, True, True, 503)
    >>> state = LimiterState()
    >>> [passes_s(state, rules, t) for t in (5.0, 5.0, 5.0, 5.0, 5.5)]
    [5.0, 5.0, 5.0, -1.0, 5.5]
    >>> rules, state = rules._replace(delays=True), LimiterState()
    >>> [passes_s(state, rules, t) for t in (5.0, 5.0, 5.0, 5.0, 5.5)]
    [5.0, 5.5, 6.0, -1.0, 6.5]
    """
    due_s = state.limit_due_s + 0.0
    if not is_admitted(due_s, rules.per_s, rules.burst, now):
        return -1.0
    state.limit_due_s = next_due_s(due_s, rules.per_s, now)
    return max(now, due_s) if rules.delays else now
