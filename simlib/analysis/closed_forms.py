"""What theory says of a scenario's metrics: the closed forms of `theory`, with its settings put in.

Only what the forms hold for has a value: a calm run whose clients stay, Poisson changes, one kind
of pause at most. Every setting that a form does not know must be as it is by default; so a setting
that is added later has no closed form until somebody says that it has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from simlib import theory
from simlib.core.wire import Message, message_sizes
from simlib.errors import ScenarioError
from simlib.scenario import Scenario
from simlib.scenario.curve import interpolated
from simlib.scenario.suggestions import scenario_rule

_MOST_BUSY_FRAC = 0.9
"""Near saturation the wait depends on the distribution of service times, and on a run's length."""
_MOST_OF_REPAIRMAN = 1_000_000
_UNEVEN = 1.5
_ROUND_TRIPS = 5.0
_SLOWEST = 4.5
"""By how many spreads a client's path may be slower than the median: one of 300,000 is."""
_MOST_UNLIKE_FRAC = 0.05
"""How much the clients' periods may differ, as a share of their mean, to count as alike."""
_RARE = 1e-3
_SHARES = 2000

# What the forms of all transports know, or what changes nothing in them.
_ALL = {"name", "transport", "clients", "tabs_per_user", "ramp_s", "horizon_s", "warm_up_s"}
_ALL |= {"cool_down_s", "bin_s", "updates", "network", "server", "wire"}
_NETWORK = {"rtt_s", "rtt_spread", "rtt_quantiles", "tls", "unanswered_s", "bad_gateway"}
_SERVER = {"workers", "nodes", "accept_s", "handshake_s", "authenticate_s", "snapshot_s", "close_s"}
_SERVER |= {"poll_s", "fan_out_s", "send_s", "heartbeat_s", "connection_bytes", "socket_bytes"}
_SERVER |= {"max_connections", "backlog", "keep_alive_s", "hop_s", "check_s"}
# What does nothing to clients of the one kind, or what the forms of the other know.
_SECTIONS = {"polling", "websocket", "notify", "heartbeat", "reconnect", "fallback"}
_POLLING = {"interval_s", "jitter_frac", "timer", "pause_while_dragging", "pause_while_hidden"}
_POLLING |= {"refetch_on_focus", "retries", "retry_base_s", "retry_cap_s", "etag"}
_WEBSOCKET = {"push", "resync", "replay_changes", "recovery_s", "or_snapshot", "open_timeout_s"}
_WEBSOCKET |= {"upgrade_timeout_s", "ready_timeout_s"}
_HEARTBEAT = {"direction", "interval_s", "timeout_s"}


class Metrics(NamedTuple):
    """Metrics of a scenario by closed forms, under their names in `metrics.table`; NaN: no form."""

    average_latency_s: float = math.nan
    latency_p50_s: float = math.nan
    latency_p95_s: float = math.nan
    message_rate_per_s: float = math.nan
    utilisation: float = math.nan
    busiest_utilisation: float = math.nan
    up_bytes_per_h: float = math.nan
    down_bytes_per_h: float = math.nan
    payload_up_bytes_per_h: float = math.nan
    payload_down_bytes_per_h: float = math.nan


def metrics_by_theory(scenario: Scenario) -> Metrics:
    """Return those metrics of a scenario for which there is a closed form.

    Parameters
    ----------
    scenario : Scenario

    Returns
    -------
    Metrics
        In the units of `metrics.table`; NaN where no form holds.

    Raises
    ------
    ScenarioError
        The argument is no scenario.

    Notes
    -----
    Polls are renewals (`theory.Staleness`, `theory.PausedPolls`), and wait for the server as
    machine repairmen do (`theory.machine_repairman`), whose service times are exponential: constant
    ones wait less, which shows only on a busy server. Broadcasts are those of `theory.fan_out`.
    Bytes are those of connections that stay open.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, server={"poll_s": 0.002})
    >>> polled = metrics_by_theory(board)
    >>> round(polled.latency_p50_s, 2), round(polled.utilisation, 4)
    (15.04, 0.0133)
    >>> metrics_by_theory(board.replace({"faults": [{"kind": "reset", "start_s": 60}]})).utilisation
    nan
    """
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    given = scenario.model_dump(exclude_none=True, exclude_defaults=True)
    polled = scenario.transport == "polling"
    known = given.keys() <= _ALL | _SECTIONS | {"drag"}
    known = known and scenario.updates.kind == "poisson" and scenario.clients > 0
    known = known and _knows(given, "network", _NETWORK) and _knows(given, "server", _SERVER)
    if not known:
        return Metrics()
    if polled:
        return _polled(scenario) if _knows(given, "polling", _POLLING) else Metrics()
    is_plain = _knows(given, "websocket", _WEBSOCKET) and _knows(given, "heartbeat", _HEARTBEAT)
    return _pushed(scenario) if scenario.transport == "websocket" and is_plain else Metrics()


def _knows(given: Mapping[str, Any], section: str, names: set[str]) -> bool:
    return set(given.get(section, {})) <= names


def _polled(scenario: Scenario) -> Metrics:
    polling, server = scenario.polling, scenario.server
    workers = server.workers * server.nodes
    rtt_s, rtt_spread_s, _ = _round_trips_s(scenario)
    drag = scenario.drag if polling.pause_while_dragging else None
    is_even = not polling.jitter_frac and polling.timer == "after_answer"
    # A drag that outlasts the connection costs another one.
    spare_s = server.keep_alive_s - polling.interval_s
    if spare_s <= 0.0 or (drag and not (is_even and _is_rarely_beyond(spare_s, drag.length_s))):
        return Metrics()
    if rtt_spread_s > _MOST_UNLIKE_FRAC * polling.interval_s:
        return Metrics()
    wait_s = _wait_s(scenario, polling.interval_s + rtt_s)
    fetch_s = rtt_s + server.poll_s + wait_s
    rate_per_s = float(scenario.updates.rate_per_s or 0.0)
    if drag is not None:
        paused = theory.PausedPolls(
            polling.interval_s + fetch_s, drag.every_s, drag.length_s, rtt_s / 2.0
        )
        staleness: Any = paused
        period_s, unchanged = paused.mean_period_s, paused.unchanged_frac(rate_per_s)
    else:
        if polling.timer == "fixed_rate":
            staleness = theory.staleness_fixed_timer(polling.interval_s, rtt_s / 2.0, fetch_s)
        else:
            staleness = theory.staleness_jittered(
                polling.interval_s, polling.jitter_frac, fetch_s, rtt_s / 2.0
            )
        period_s = (staleness.shortest_s + staleness.longest_s) / 2.0
        # Of jittered periods the share is a mean over them, which differs in the third digit.
        unchanged = math.exp(-rate_per_s * period_s)
    polls_per_s = scenario.clients / period_s
    cost_s = server.poll_s
    if polling.etag == "version":
        cost_s = server.check_s + (1.0 - unchanged) * server.poll_s
    utilisation = min(1.0, polls_per_s * cost_s / workers)
    if utilisation > _MOST_BUSY_FRAC:
        return Metrics()
    latencies = _Latencies()
    if rate_per_s > 0.0:
        latencies = _Latencies(
            staleness.mean, float(staleness.quantile(0.5)), float(staleness.quantile(0.95))
        )
    share = (
        {"FETCHED": 1.0 - unchanged, "UNCHANGED": unchanged}
        if polling.etag != "off"
        else {"ALL": 1.0}
    )
    return Metrics(
        *latencies,
        message_rate_per_s=polls_per_s,
        utilisation=utilisation,
        busiest_utilisation=utilisation if server.nodes == 1 else math.nan,
        **_bytes_per_h(scenario, _messages_of_polls(share, 1.0 / period_s)),
    )


class _Latencies(NamedTuple):
    mean_s: float = math.nan
    p50_s: float = math.nan
    p95_s: float = math.nan


def _round_trips_s(scenario: Scenario) -> tuple[float, float, float]:
    """Return mean, standard deviation and the slowest of the clients' round trips, seconds."""
    network = scenario.network
    if network.rtt_quantiles is not None:
        shares = (np.arange(_SHARES) + 0.5) / _SHARES
        rtt_s = interpolated(network.rtt_quantiles, shares)
        return float(rtt_s.mean()), float(rtt_s.std()), float(rtt_s[-1])
    spread = network.rtt_spread  # of a log-normal distribution, of which the setting is the median
    mean_s = network.rtt_s * math.exp(spread**2 / 2.0)
    slowest_s = network.rtt_s * math.exp(_SLOWEST * spread)
    return mean_s, mean_s * math.sqrt(math.expm1(spread**2)), slowest_s


def _is_rarely_beyond(time_s: float, mean_s: float) -> bool:
    return math.exp(-time_s / mean_s) < _RARE


def _wait_s(scenario: Scenario, think_s: float) -> float:
    """Return how long a poll waits for a worker on average; each node has its own queue."""
    server, nodes = scenario.server, scenario.server.nodes
    clients = max(1, round(scenario.clients / nodes))
    if server.poll_s == 0.0 or clients > _MOST_OF_REPAIRMAN:
        return 0.0
    queue = theory.machine_repairman(clients, think_s, server.poll_s, server.workers)
    # Constant service times wait half as long as exponential ones (Pollaczek and Khinchine).
    return queue.mean_wait_s / 2.0 if queue.utilisation < _MOST_BUSY_FRAC else queue.mean_wait_s


def _messages_of_polls(share: Mapping[str, float], polls_per_s: float) -> dict[Message, float]:
    if "ALL" in share:
        return {Message.POLL_REQUEST: polls_per_s, Message.POLL_RESPONSE: polls_per_s}
    return {
        Message.POLL_CONDITIONAL: polls_per_s,
        Message.POLL_RESPONSE: polls_per_s * share["FETCHED"],
        Message.NOT_MODIFIED: polls_per_s * share["UNCHANGED"],
    }


def _pushed(scenario: Scenario) -> Metrics:
    server, rate_per_s = scenario.server, float(scenario.updates.rate_per_s or 0.0)
    workers, (rtt_s, *_) = server.workers * server.nodes, _round_trips_s(scenario)
    is_one, clients = workers == 1, scenario.clients
    heartbeat = scenario.heartbeat
    beats_per_s = 0.0
    if heartbeat.direction != "none":
        beats_per_s = 1.0 / (heartbeat.interval_s + rtt_s)
    batch_s = server.fan_out_s + clients / workers * server.send_s
    # A ping and its pong are two jobs; a client's ping is answered in one.
    jobs = 2.0 if heartbeat.direction == "server" else 1.0
    beating = clients / workers * beats_per_s * jobs * server.heartbeat_s
    utilisation = rate_per_s * batch_s + beating
    if utilisation > _MOST_BUSY_FRAC or not _stays_open(scenario):
        return Metrics()
    latency_s = math.nan
    if rate_per_s > 0.0 and server.send_s > 0.0 and beating < 0.01:
        latency_s = theory.fan_out(
            clients,
            server.send_s,
            server.fan_out_s,
            rate_per_s,
            rtt_s / 2.0,
            workers=workers,
            hop_s=server.hop_s if server.nodes > 1 else 0.0,
        ).mean_latency_s
    pings = {
        "server": (Message.PING_DOWN, Message.PONG_UP),
        "client": (Message.PING_UP, Message.PONG_DOWN),
        "none": (),
    }[heartbeat.direction]
    sent = {Message.PUSH: rate_per_s, **dict.fromkeys(pings, beats_per_s)}
    return Metrics(
        average_latency_s=latency_s,
        message_rate_per_s=rate_per_s * clients,
        utilisation=utilisation,
        busiest_utilisation=utilisation if is_one else math.nan,
        **_bytes_per_h(scenario, sent),
    )


def _stays_open(scenario: Scenario) -> bool:
    """Say whether there is room for every connection, and time to open it and to hear a pong."""
    server, websocket, (*_, slowest_s) = (
        scenario.server,
        scenario.websocket,
        _round_trips_s(scenario),
    )
    # By chance one node has more connections than another.
    expected = scenario.clients / server.nodes * (1.0 if server.nodes == 1 else _UNEVEN)
    limits_s = [websocket.open_timeout_s, websocket.upgrade_timeout_s, websocket.ready_timeout_s]
    limits_s.append(scenario.heartbeat.timeout_s)
    long_s = _ROUND_TRIPS * slowest_s
    return expected <= server.max_connections and all(
        limit_s == 0.0 or limit_s >= long_s for limit_s in limits_s
    )


def _bytes_per_h(scenario: Scenario, sent: Mapping[Message, float]) -> dict[str, float]:
    """Return the bytes of one client in an hour, of messages by their rates per second."""
    found = {}
    for head, layer in (("", "ip"), ("payload_", "payload")):
        sizes = message_sizes(scenario.wire_spec(), layer)  # type: ignore[arg-type]
        for way, name in enumerate(("up", "down")):
            per_s = sum(rate * float(sizes[message, way]) for message, rate in sent.items())
            found[f"{head}{name}_bytes_per_h"] = 3600.0 * per_s
    return found
