"""How often what happens in a run, by closed forms: polls, pushes, heartbeats, sessions.

Which engine runs a scenario, how long that takes, and whether the lab bears it all depend on these
numbers, before anything is run. They are those of a run in which all goes well: what refusals, full
queues and fallbacks add is left out, but for the attempts of a crowd that a server cannot let in at
once (`crowd`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from simlib.core.protocol import TRANSPORTS, Transport
from simlib.scenario.model import Scenario, Sessions

_STEPS = 200


class Rates(NamedTuple):
    """What a client does in a second while it is there, at its usual pace.

    Attributes
    ----------
    polls : float
        Fetches at its own intervals, as a polling client's, or safety polls beside a connection.
    asks : float
        Requests that the server holds.
    pushes : float
        Messages that it is sent.
    fetches : float
        Fetches of what it was told of.
    heartbeats : float
        Pings, whichever side sends them.
    habits : float
        Beginnings and ends of dragging and hiding.
    """

    polls: float = 0.0
    asks: float = 0.0
    pushes: float = 0.0
    fetches: float = 0.0
    heartbeats: float = 0.0
    habits: float = 0.0


class Crowd(NamedTuple):
    """Clients that come faster than the server lets them in, so that it sends some away.

    Attributes
    ----------
    attempts : float
        How often they are sent away in all.
    to_s : float
        Until when that happens, from the beginning on, seconds.
    """

    attempts: float
    to_s: float


def rates_of(scenario: Scenario, transport: int, changes_per_s: float) -> Rates:
    """Return what a client of a transport does each second.

    Parameters
    ----------
    scenario : Scenario
    transport : int
        A `Transport`, of which it need not be the scenario's own.
    changes_per_s : float

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1})
    >>> polled, pushed = (
    ...     rates_of(board, transport, 0.1) for transport in (Transport.POLLING, Transport.NOTIFY)
    ... )
    >>> round(polled.polls, 3), pushed.fetches
    (0.033, 0.1)
    """
    row = TRANSPORTS[Transport(transport)]
    habits = sum(
        2.0 / (activity.every_s + activity.length_s)
        for activity in (scenario.drag, scenario.hidden)
        if activity is not None
    )
    if row.is_held:
        # A request ends with the next change, or when its time is over.
        timeout_s = scenario.long_polling.timeout_s
        share = -math.expm1(-changes_per_s * timeout_s)
        return Rates(asks=changes_per_s / share if share > 0.0 else 1.0 / timeout_s, habits=habits)
    if not row.has_socket:
        polling = scenario.polling
        interval_s = min(polling.interval_s, polling.active_interval_s or polling.interval_s)
        return Rates(polls=1.0 / interval_s, habits=habits)
    fetches = 0.0
    if row.fetches:
        # A client that waits before it fetches gets all that came meanwhile at once.
        wait_s = scenario.notify.spread_s + scenario.network.median_rtt_s()
        fetches = min(changes_per_s, 1.0 / wait_s if wait_s > 0.0 else math.inf)
    safety_poll_s = scenario.websocket.safety_poll_s
    has_pings = scenario.heartbeat.direction != "none"
    return Rates(
        polls=0.0 if safety_poll_s is None else 1.0 / safety_poll_s,
        pushes=changes_per_s,
        fetches=fetches,
        heartbeats=1.0 / scenario.heartbeat.interval_s if has_pings else 0.0,
        habits=habits,
    )


def changes(scenario: Scenario) -> float:
    """Return how many changes are expected in a run; those of a trace are counted."""
    updates = scenario.updates
    if updates.kind == "trace":
        return float(scenario.read_trace().count("\n"))
    return updates.expected(scenario.horizon_s)


def sessions(scenario: Scenario, until_s: float) -> float:
    """Return how many sessions are expected to begin until a time, seconds.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=200, ramp_s=30)
    >>> sessions(board, 15.0), sessions(board, 600.0)
    (100.0, 200.0)
    """
    share = 1.0 if until_s >= scenario.ramp_s else until_s / scenario.ramp_s
    arriving = scenario.sessions
    return scenario.clients * share + (arriving.expected(until_s) if arriving else 0.0)


def client_seconds(scenario: Scenario, until_s: float) -> float:
    """Return for how long clients are expected to be there until a time, all together, seconds.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=200, ramp_s=30)
    >>> client_seconds(board, 30.0), client_seconds(board, 60.0)
    (3000.0, 9000.0)
    """
    ramp_s, arriving = min(scenario.ramp_s, until_s), scenario.sessions
    begun = sessions(scenario, until_s)
    if arriving is None:
        return begun * (until_s - ramp_s / 2.0)
    if until_s <= 0.0:
        return 0.0
    from_start = min(begun, float(scenario.clients))
    stayed_s, before_s = (_stayed(arriving, t) for t in (until_s, until_s - ramp_s))
    stay_s = _stay_s(arriving, until_s) if ramp_s == 0.0 else (stayed_s - before_s) / ramp_s
    return from_start * stay_s + (begun - from_start) * stayed_s / until_s


def _stay_s(arriving: Sessions, age_s: float) -> float:
    """Return for how long a session that began so long ago is expected to have lasted, seconds."""
    if arriving.length == "constant":
        return min(age_s, arriving.length_s)
    return -arriving.length_s * math.expm1(-age_s / arriving.length_s)


def _stayed(arriving: Sessions, over_s: float) -> float:
    """Return the integral of `_stay_s`: for sessions that begin evenly over a time."""
    length_s, whole_s = arriving.length_s, min(over_s, arriving.length_s)
    if arriving.length == "constant":
        return whole_s * whole_s / 2.0 + length_s * (over_s - whole_s)
    return length_s * (over_s - _stay_s(arriving, over_s))


def crowd(scenario: Scenario) -> Crowd | None:
    """Return the attempts that clients make in vain where they all come at once; None: they do not.

    A server lets one client after another in. Those who would have to wait for longer than it keeps
    anybody waiting (``server.shed_wait_s``), or than they wait themselves, are sent away or give
    up, and come back after a wait that grows. As many as are outside at a time, through that wait,
    are the attempts of a second.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, transport="websocket", clients=100_000)
    >>> crowd(board.replace(ramp_s=600)) is None, crowd(board.replace(ramp_s=0)).attempts > 50_000
    (True, True)
    """
    server, push, rule = scenario.server, scenario.websocket, scenario.reconnect
    row = TRANSPORTS[Transport[scenario.transport.upper()]]
    if not row.has_socket:
        return None
    loops = server.nodes * server.workers
    job_s = (server.accept_s + server.handshake_s + server.authenticate_s) / loops
    if server.admit_per_s is not None:
        job_s = max(job_s, 1.0 / (server.admit_per_s * server.nodes))
    clients, ramp_s = float(scenario.clients), scenario.ramp_s
    patience_s = push.open_timeout_s or math.inf
    in_vain_s = patience_s
    if server.shed_wait_s is not None and server.shed_wait_s < patience_s:
        patience_s, in_vain_s = server.shed_wait_s, 2.0 * scenario.network.median_rtt_s()
    drain_s = clients * job_s
    if drain_s - ramp_s <= patience_s:
        return None
    end_s = min(drain_s, scenario.horizon_s)
    step_s, attempts = end_s / _STEPS, 0.0
    for step in range(_STEPS):
        t = (step + 0.5) * step_s
        come = clients if t >= ramp_s else clients * t / ramp_s
        outside = max(0.0, come - (t + patience_s) / job_s)
        # Waits double, so a client that has been outside for a time waits for about as long again.
        wait_s = min(rule.cap_s, rule.base_s + t) / 2.0 + in_vain_s
        attempts += outside * step_s / max(wait_s, rule.base_s / 2.0, 1e-3)
    return Crowd(attempts, end_s)
