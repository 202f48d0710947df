"""A scenario as the live lab runs it: this machine's loopback instead of the world.

The numbers are what one request of each kind costs the lab's server on a quiet two-core machine;
``tests/benchmarks/loopback.py`` measures them anew.
"""

from __future__ import annotations

from typing import Any

from simlib.core.faults import FAULTS
from simlib.core.protocol import HAS_SOCKET, Transport, fetches, holds, is_stream
from simlib.errors import ScenarioError
from simlib.scenario import Scenario
from simlib.scenario.suggestions import scenario_rule

RTT_S = 0.4e-3
"""A round trip through loopback, with a wake-up at each end, seconds."""
PROXY_RTT_S = 0.3e-3
"""The time that the proxy adds to that for one message, seconds. It passes messages on one after
the other: the last of a broadcast to n clients is late by about n * 20 us more, which is not
predicted."""
PROXIED = tuple(kind for kind, row in FAULTS.items() if row.lab_part == "proxy")
"""The kinds of fault that the proxy carries out."""
SERVICE_S = {
    "accept_s": 0.1e-3,
    "poll_s": 0.5e-3,
    "check_s": 0.5e-3,
    "cached_s": 0.5e-3,
    "handshake_s": 0.4e-3,
    "authenticate_s": 0.2e-3,
    "snapshot_s": 0.0,
    "fan_out_s": 0.1e-3,
    "send_s": 14e-6,
    "heartbeat_s": 50e-6,
    "close_s": 0.33e-3,
}
"""Processor time of the server for one job of each kind, seconds.

The costs of opening a connection are those in a herd of 500, where each waits for the others. A
lone connection costs twice as much, since the server has to be woken for each of its stages. The
lab's board is in memory, so that all answers to polls cost the same: where versions are compared,
that is the cost of comparing, and reading the board costs nothing on top.
"""
HELD_CHECK_S = 0.11e-3
"""Processor time of the server for a request that it may hold, seconds: less than for a lone poll,
as all clients ask again after each change, and the server is awake."""
HELD_SEND_S = 0.03e-3
"""Processor time of the server for the answer to a request that it has held, seconds: aiohttp's
answer takes longer than a frame."""
FETCH_S = 0.25e-3
"""Processor time of the server for a fetch on a connection that is kept, seconds: 0.2 to 0.35 ms
were measured. All clients that are told of a change fetch at once, so the server is awake, and that
costs less than a lone poll."""
_CARRIED_OUT = tuple(kind for kind, row in FAULTS.items() if row.lab_part)
_MOST_NODES = 4
_MOST_STANDBYS = 32
_CANNOT = {
    "wire.http": (("1.1",), "must be 1.1: the lab's server has no HTTP/2"),
    "wire.deflate_ratio": ((1.0,), "must be 1.0: the ratio is a model, the lab sends plain frames"),
    "wire.gzip_ratio": ((1.0,), "must be 1.0: the ratio is a model, the lab sends plain answers"),
    "server.shed_wait_s": ((None,), "must be absent: the lab's server sheds no load"),
    "server.slow_consumers": (
        ("unbounded", "block", "close", "drop_oldest", "coalesce"),
        "must not be abort: the lab's server catches what a send raises",
    ),
    "server.socket_set": (
        ("concurrent",),
        "must be concurrent: the lab's server goes through a copy of its sockets",
    ),
    "server.meeting_fails_frac": (
        (0.0,),
        "must be 0: broadcasts of the lab's server do not meet, it has one thread",
    ),
    "server.nodes": (
        range(1, _MOST_NODES + 1),
        f"must be {_MOST_NODES} or fewer: each is a process, and they share this machine",
    ),
    "network.connections_per_user": (
        (None,),
        "must be absent: the lab's clients are no tabs of a browser, which limits them",
    ),
    "server.broker_s": ((0.0,), "must be 0: the lab's broker takes the time that it takes"),
    "rate_limit": ((None,), "must be absent: nothing in front of the lab's server limits rates"),
}


def on_loopback(
    scenario: Scenario, *, time_scale: float = 1.0, emulate_sends: bool = False
) -> Scenario:
    """Return the scenario that `measure` runs: same board, clients and rules, loopback path.

    Simulate it to predict a measurement. Measured round-trip times (``network.rtt_quantiles``) are
    kept, with what loopback adds to them: the lab's proxy delays each client's messages by its own.
    So is a link that all clients share (``network.shared_down_bytes_per_s``).

    Parameters
    ----------
    scenario : Scenario
    time_scale : float, optional
        How many times faster than the clock the scenario runs, >= 1. A job that costs the server
        1 ms takes `time_scale` ms of the scenario's time, and so it is returned.
    emulate_sends : bool, optional
        The scenario's own ``server.fan_out_s`` and ``server.send_s`` stay: see `measure`.

    Returns
    -------
    Scenario

    Raises
    ------
    ScenarioError
        A field asks for what the lab does not have.

    Examples
    --------
    >>> scenario = Scenario(updates={"rate_per_s": 0.1})
    >>> on_loopback(scenario).network.tls
    False
    """
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    if isinstance(time_scale, bool) or not isinstance(time_scale, int | float):
        raise ScenarioError("time_scale", time_scale, "must be a number")
    if not 1.0 <= time_scale <= 1000.0:
        raise ScenarioError("time_scale", time_scale, "must be in [1, 1000]")
    for number, fault in enumerate(scenario.faults):
        if fault.kind not in _CARRIED_OUT:
            rule = f"must be {' or '.join(_CARRIED_OUT)}: nothing else goes wrong in the lab"
            raise ScenarioError(f"faults.{number}.kind", fault.kind, rule)
    _check_standbys(scenario)
    for path, (wanted, rule) in _CANNOT.items():
        given: Any = scenario
        for name in path.split("."):
            given = getattr(given, name)
        if given not in wanted:
            raise ScenarioError(path, given, rule)
    transport = Transport[scenario.transport.upper()]
    if is_stream(transport):
        check_stream(scenario)
    if scenario.server.nodes > 1 and scenario.websocket.resync == "recovery":
        rule = (
            "must not be recovery when server.nodes is not 1: a node of the lab does not hear "
            "that another one serves its client now"
        )
        raise ScenarioError("websocket.resync", "recovery", rule)
    rtt_s = (RTT_S + (PROXY_RTT_S if needs_proxy(scenario) else 0.0)) * time_scale
    measured = scenario.network.rtt_quantiles
    # The proxy adds what was measured to what loopback takes.
    path_s: dict[str, Any] = {"network.rtt_s": rtt_s}
    if measured is not None:
        path_s = {"network.rtt_quantiles": [(share, rtt_s + each_s) for share, each_s in measured]}
    path_and_jobs = {f"server.{name}": cost * time_scale for name, cost in SERVICE_S.items()}
    if fetches(transport):
        of_fetches = ("server.poll_s", "server.check_s", "server.cached_s")
        path_and_jobs.update(dict.fromkeys(of_fetches, FETCH_S * time_scale))
    polls = not HAS_SOCKET[transport] and not holds(transport)
    may_name_versions = polls or fetches(transport)  # safety polls name none
    if scenario.polling.etag == "version" and may_name_versions:
        path_and_jobs["server.poll_s"] = 0.0
    if scenario.transport == "long_polling":
        path_and_jobs["server.send_s"] = HELD_SEND_S * time_scale
        path_and_jobs["server.poll_s"] = HELD_CHECK_S * time_scale
    if emulate_sends:
        path_and_jobs["server.fan_out_s"] = scenario.server.fan_out_s
        path_and_jobs["server.send_s"] = scenario.server.send_s
    return scenario.replace(
        {
            **path_s,
            "network.rtt_spread": 0.0,
            "network.tls": False,
            "server.workers": 1,
            "server.service": "constant",
            **path_and_jobs,
        }
    )


def check_stream(scenario: Scenario) -> None:
    """Refuse what the lab does not have for streams: buffers, proper ends, what proxies do."""
    transport, network = scenario.transport, scenario.network
    for name in ("stream_buffer_bytes", "stream_delay_s"):
        given = getattr(network, name)
        if given is not None:
            rule = "must be absent: the lab's proxy passes streams on at once"
            raise ScenarioError(f"network.{name}", given, rule)
    if scenario.server.slow_consumers not in ("unbounded", "close"):
        rule = f"must be unbounded or close when transport is {transport}: the lab has no more"
        raise ScenarioError("server.slow_consumers", scenario.server.slow_consumers, rule)
    if scenario.server.ends_streams:
        raise ScenarioError(
            "server.ends_streams", True, "must be false: the lab's server cuts them"
        )


def _check_standbys(scenario: Scenario) -> None:
    """Refuse faults for which too many processes would have to stand by."""
    nodes = scenario.server.nodes
    times = {
        number: 1 if FAULTS[fault.kind].adds_node else nodes
        for number, fault in scenario.faults_by_number().items()
        if FAULTS[fault.kind].lab_part == "standby"
    }
    if sum(times.values()) <= _MOST_STANDBYS:
        return
    rule = (
        f"must keep restarts at {_MOST_STANDBYS} or fewer, those of each node counted: a server "
        f"stands by for each, here {sum(times.values())}"
    )
    for number in times:
        if number < len(scenario.faults) and scenario.faults[number].repeat_s is not None:
            given = scenario.faults[number].repeat_s
            raise ScenarioError(f"faults.{number}.repeat_s", given, rule)
    raise ScenarioError("server.nodes", nodes, rule)


def needs_proxy(scenario: Scenario) -> bool:
    """Say whether the path between clients and server takes a proxy.

    It does if a fault acts on it, if each client's has a round-trip time that was measured, if
    all share a link, if connections are balanced over nodes, or over processes that take the place
    of others, if the proxy answers for a server that a fault stops, or keeps the streams of some.

    Examples
    --------
    >>> needs_proxy(Scenario(updates={"rate_per_s": 0.1}))
    False
    """
    network = scenario.network
    return (
        network.rtt_quantiles is not None
        or network.shared_down_bytes_per_s is not None
        or network.stream_held_frac > 0.0
        or scenario.server.nodes > 1
        or any(fault.kind in PROXIED or fault.surge > 0 for fault in scenario.faults)
        or (
            network.bad_gateway and any(FAULTS[each.kind].stops_servers for each in scenario.faults)
        )
    )
