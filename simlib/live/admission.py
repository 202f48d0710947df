"""Who may ask the lab's server for how much: limits for each user and for each address.

A *user* is a client whose token is valid, with the other tabs of the same user, if there are any
(`tabs_per_user`); an *address* is where a connection comes from. What can be put down to a user
counts for the user alone. All else counts for the address: its connections, and its requests
without a valid token. So a stranger cannot use up what others at the same address may ask for,
except for new connections.

The limits follow from the scenario, since its own clients must never meet them: one that does would
change what is measured. A user may ask `MARGIN` times as often as the shortest waits of the
scenario's clients allow, and an address for as much as all of them together, because in the lab
they share one. Waits of zero (a reconnect at once) give no limit. `ServerReport` counts what was
refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from simlib.core.assignment import user_of
from simlib.core.client_state import Rules
from simlib.core.reconnect import MOST_DELAYS, POLICIES, Policy, ReconnectRules, delay_s
from simlib.core.server import admitted_from_s, next_due_s

MARGIN = 4.0
"""How many times as often as a client of the scenario would, on average, a user may ask."""
_LEAST_PER_S = 2.0
_BURST = 20
_AT_ONCE = 4  # connections of one client: polls, fetches and a safety poll beside a socket, a retry
_LEAST_FRAMES_PER_S = 5.0
_FRAMES_BURST = 32
_MOST_NAMES = 65_536  # buckets kept: an idle one is dropped then


class Limits(NamedTuple):
    """The limits of one scenario; rates are per second of the clock.

    A user may send `user_per_s` requests (polls and tokens) after a burst of `burst`, and have
    `user_sockets` WebSockets. An address may open `address_per_s` connections after
    `address_burst`, and have `address_connections`; `failures_per_s` of its requests may lack a
    valid token or path after a burst of `burst`. A WebSocket may carry `frames_per_s` frames to the
    server, pings and pongs among them, after `frames_burst`. A user has `tabs_per_user`
    clients in a row, and a burst for each of them.
    """

    user_per_s: float
    user_sockets: int
    address_per_s: float
    address_burst: int
    address_connections: int
    frames_per_s: float
    burst: int = _BURST
    failures_per_s: float = _LEAST_PER_S
    frames_burst: int = _FRAMES_BURST
    tabs_per_user: int = 1


def limits_of(
    cohort_rules: Sequence[Rules],
    *,
    clients: int,
    other_waits_s: Iterable[float],
    path_losses: int,
    time_scale: float,
    tabs_per_user: int = 1,
) -> Limits:
    """Return limits that no client of a scenario meets.

    Parameters
    ----------
    cohort_rules : sequence of Rules
        What the clients obey: of each cohort, in a rollout.
    clients : int
        How many there are.
    other_waits_s : iterable of float
        What else makes a client send a request, by its mean wait: user activity, the changes that
        it fetches; seconds.
    path_losses : int
        How often paths die; each may leave a client's old socket with the server.
    time_scale : float
        How many times faster than the clock the scenario runs.
    tabs_per_user : int, optional
        How many clients a user has.
    """
    waits_s = [*other_waits_s]
    for rules in cohort_rules:
        waits_s += [rules.interval_s, rules.hidden_interval_s, rules.active_interval_s]
        waits_s += [rules.retry_base_s, rules.safety_poll_s]
        waits_s += [reconnect_wait_s(rules.reconnect), rules.fallback.return_s]
    client_per_s = _LEAST_PER_S + _rate(waits_s, time_scale)
    at_once = _AT_ONCE + 2 * path_losses
    beats_s = [rules.heartbeat_interval_s for rules in cohort_rules]
    return Limits(
        user_per_s=client_per_s * tabs_per_user,
        user_sockets=at_once * tabs_per_user,
        address_per_s=client_per_s * max(1, clients),
        address_burst=_BURST + _AT_ONCE * clients,
        address_connections=_BURST + at_once * clients,
        frames_per_s=_LEAST_FRAMES_PER_S + _rate(beats_s, time_scale),
        tabs_per_user=tabs_per_user,
    )


def _rate(waits_s: Iterable[float], time_scale: float) -> float:
    """Return `MARGIN` times the rate of all that happens after such waits, per second."""
    return (
        MARGIN * time_scale * sum(1.0 / wait_s if wait_s > 0.0 else math.inf for wait_s in waits_s)
    )


def reconnect_wait_s(rule: ReconnectRules) -> float:
    """Return the shortest mean wait before an attempt to connect, seconds.

    Examples
    --------
    >>> limits = (9, 600.0, True, 1, 0.0)
    >>> rule = ReconnectRules(Policy.FULL_JITTER, 1.0, 60.0, 2.0, *[0.0] * 3, (0.0,) * 16, *limits)
    >>> reconnect_wait_s(rule), reconnect_wait_s(rule._replace(policy=Policy.NONE))
    (0.5, inf)
    """
    policy = Policy(rule.policy)
    row = POLICIES[policy.name.lower()]
    if not row.retries:
        return math.inf
    if row.retries_at_once:
        return 0.0
    if policy == Policy.DECORRELATED_JITTER:
        return rule.base_s
    return min(delay_s(rule, k, 0.5) for k in range(MOST_DELAYS))


class RateLimit:
    """A token bucket for each of many names, by the rule that admits upgrades.

    Parameters
    ----------
    per_s : float
        Infinite for no limit.
    burst : int

    Examples
    --------
    >>> limit = RateLimit(per_s=2.0, burst=1)
    >>> [limit.admits(name, t) for name, t in (("a", 5.0), ("a", 5.1), ("b", 5.1), ("a", 5.5))]
    [True, False, True, True]
    >>> limit.wait_s("a", 5.75)
    0.25
    """

    def __init__(self, *, per_s: float, burst: int) -> None:
        self.per_s = per_s
        self.burst = burst
        self.due_s: dict[Hashable, float] = {}

    def admits(self, name: Hashable, now: float) -> bool:
        """Return whether a name may have one more `now`, and count it if so."""
        if name not in self.due_s:
            if len(self.due_s) >= _MOST_NAMES:
                self._drop_idle(now)
            if len(self.due_s) >= _MOST_NAMES:
                return False
        if self.wait_s(name, now) > 0.0:
            return False
        self.due_s[name] = next_due_s(self.due_s.get(name, 0.0), self.per_s, now)
        return True

    def wait_s(self, name: Hashable, now: float) -> float:
        """Return after which wait a name may have one more, seconds."""
        if name not in self.due_s:
            return 0.0
        return max(0.0, admitted_from_s(self.due_s[name], self.per_s, self.burst) - now)

    def forget(self, name: Hashable) -> None:
        """Drop a name that will not come again."""
        self.due_s.pop(name, None)

    def _drop_idle(self, now: float) -> None:
        self.due_s = {name: due_s for name, due_s in self.due_s.items() if due_s > now}


class Admission:
    """What users and addresses have used of their limits.

    Parameters
    ----------
    limits : Limits
    most_connections : float, optional
        How many connections the process can hold.

    Attributes
    ----------
    frames : RateLimit
        Of each WebSocket.
    refused : Counter of str
        How often each limit was met.
    """

    def __init__(self, limits: Limits, most_connections: float = math.inf) -> None:
        self.limits = limits
        self.most_connections = most_connections
        self.users = RateLimit(per_s=limits.user_per_s, burst=limits.burst * limits.tabs_per_user)
        self.failures = RateLimit(per_s=limits.failures_per_s, burst=limits.burst)
        self.arrivals = RateLimit(per_s=limits.address_per_s, burst=limits.address_burst)
        self.frames = RateLimit(per_s=limits.frames_per_s, burst=limits.frames_burst)
        self.connections: Counter[str] = Counter()
        self.sockets: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()

    def lets_in(self, address: str, now: float) -> bool:
        """Return whether an address may have one more connection `now`, and count it if so."""
        is_within = (
            self.connections[address] < self.limits.address_connections
            and self.connections.total() < self.most_connections
            and self.arrivals.admits(address, now)
        )
        if is_within:
            self.connections[address] += 1
        return self._noted("connections", is_within)

    def goes(self, address: str) -> None:
        """A connection that was let in has ended."""
        self.connections[address] -= 1
        if self.connections[address] == 0:
            del self.connections[address]

    def user_of(self, number: int) -> int:
        """Return the user to whom client `number` belongs."""
        return user_of(number, self.limits.tabs_per_user)

    def admits(self, number: int, now: float) -> bool:
        """Return whether a client's user may send one more request, and count it if so."""
        return self._noted("requests", self.users.admits(self.user_of(number), now))

    def wait_s(self, number: int, now: float) -> float:
        """Return after which wait a client's user may send one more request, seconds."""
        return self.users.wait_s(self.user_of(number), now)

    def bears_failure(self, address: str, now: float) -> bool:
        """Return whether an address may fail once more without being told to wait."""
        return self._noted("failures", self.failures.admits(address, now))

    def takes_socket(self, number: int) -> bool:
        """Return whether a client's user may have one more WebSocket, and count it if so."""
        user = self.user_of(number)
        is_within = self.sockets[user] < self.limits.user_sockets
        if is_within:
            self.sockets[user] += 1
        return self._noted("sockets", is_within)

    def gives_back_socket(self, number: int) -> None:
        """A client's WebSocket has ended."""
        self.sockets[self.user_of(number)] -= 1

    def _noted(self, name: str, is_within: bool) -> bool:
        if not is_within:
            self.refused[name] += 1
        return is_within
