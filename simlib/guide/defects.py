"""The defects of the migration guide, a row each, in the order of the harm that they do.

Where behaviour shows a defect, its row holds the guide's wiring and the repaired one as ordinary
changes to a scenario (or to a scenario and its rollout plan), a situation that both meet, and the
figure that tells them apart. Where a rule by itself shows it, the row holds the sum. The others
cannot be seen in any simulation, as they never run: their rows name the public source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from simlib import theory
from simlib.analysis import bucketing
from simlib.scenario import Scenario, compile_workload
from simlib.scenario.presets import library, server

SETTLED_S = 60.0
"""When nothing has gone wrong for long enough that a run counts, seconds."""
FAULT_S = 120.0
"""When something goes wrong, seconds."""
HORIZON_S = 900.0
"""The end of a run, seconds."""
ROLLBACK_S = 300.0
"""When a rollout is rolled back, seconds."""
LOOK_S = 300.0
"""How long after a rollback somebody looks who is still pushed to, seconds."""

Changes = dict[str, Any]
NOTHING: Mapping[str, Any] = MappingProxyType({})
Figures = tuple[float, float, float]
"""A value, and the ends of its interval."""


class Defect(NamedTuple):
    """Something that the guide does, or leaves out.

    Attributes
    ----------
    name : str
        In a few words.
    guide : str
        What the guide does.
    fix : str
        What would be right; a setting of the board in braces stands for its value.
    source : str
        Where the behaviour is documented or was read: package, version and file, or standard.
    quantity : str
        The figure that shows it, of `quantities.QUANTITIES`; ``""`` if nothing is simulated.
    situation, as_written, repaired : dict of str to object
        Changes to a scenario: what both meet, and the two wirings. Those whose path begins with
        ``plan.`` are changes to the plan of a rollout. A value that is a function is called with
        the board.
    computed : callable, optional
        Takes a scenario and returns the figures of the guide's wiring and of the repaired one,
        where a rule by itself shows the defect; then `label` and `unit` say what they are.
    label, unit : str
        See `computed`.
    """

    name: str
    guide: str
    fix: str
    source: str
    quantity: str = ""
    situation: Mapping[str, Any] = NOTHING
    as_written: Mapping[str, Any] = NOTHING
    repaired: Mapping[str, Any] = NOTHING
    computed: Callable[[Scenario], tuple[Figures, Figures]] | None = None
    label: str = ""
    unit: str = ""

    @property
    def shown_by(self) -> Literal["simulation", "arithmetic", "source"]:
        """What shows it."""
        if self.quantity:
            return "simulation"
        return "source" if self.computed is None else "arithmetic"


def _fault(kind: str, length_s: float | None = None, **fields: Any) -> Changes:
    given = {"kind": kind, "start_s": FAULT_S, "length_s": length_s, **fields}
    return {"faults": [{name: value for name, value in given.items() if value is not None}]}


def _exact(value: float) -> Figures:
    return value, value, value


def _enrolled(rule: str, experiment_percent: float = 0.0) -> Figures:
    """Return which part of users is enrolled at 10 %, by a rule or an experiment."""
    ids = bucketing.user_ids("uuid4", _USERS)
    ramp, experiment = bucketing.buckets(rule, ids), bucketing.buckets("growthbook_experiment", ids)
    at = bucketing.combine("or", ramp, bucketing.fixed_assignment(experiment, experiment_percent))
    row = bucketing.share(at, [_TEN]).iloc[0]
    return float(row["share_frac"]), float(row["low_frac"]), float(row["high_frac"])


def _met_by_a_drag(board: Scenario) -> tuple[Figures, Figures]:
    length_s = board.drag.length_s if board.drag is not None else _DRAG_S
    changes = board.updates.expected(board.horizon_s)
    if board.updates.kind == "trace":
        changes = len(compile_workload(board, 1, 0).publish_s)
    return _exact(1.0 - math.exp(-changes / board.horizon_s * length_s)), _exact(0.0)


def clients_at_once(board: Scenario) -> int:
    """Return how many clients are there at the busiest time, by expectation."""
    sessions = board.sessions
    return max(board.clients, 0 if sessions is None else math.ceil(sessions.at_once()))


def _author_waits_s(board: Scenario) -> tuple[Figures, Figures]:
    costs = board.server
    of_node = clients_at_once(board) / costs.nodes  # it knows its own sessions only
    return _exact(costs.fan_out_s + of_node * costs.send_s), _exact(0.0)


def _cuts(_: Scenario) -> tuple[Figures, Figures]:
    moves = theory.rolling_deploy_moves(_NODES)
    return _exact(float(np.arange(len(moves)) @ moves)), _exact(1.0)


def _sockets_of_a_tab(_: Scenario) -> tuple[Figures, Figures]:
    leaked = theory.leaked_connections(_LOSSES, closes_old=False)
    return _exact(float(np.max(leaked))), _exact(1.0)


def _connected_at_once(board: Scenario) -> tuple[Figures, Figures]:
    """A virtual user that only sends a message closes as soon as its handshake is over."""
    costs, network = board.server, board.network
    round_trips = 3.0 if network.tls else 2.0
    handshake_s = round_trips * network.median_rtt_s() + costs.accept_s + costs.handshake_s
    return _exact(_ARRIVALS_PER_S * handshake_s), _exact(float(clients_at_once(board)))


def _mean_staleness_s(board: Scenario) -> tuple[Figures, Figures]:
    interval_s, way_s = board.polling.interval_s, board.network.median_rtt_s() / 2.0
    fetch_s = 2.0 * way_s + board.server.poll_s
    mean_s = theory.staleness_rearmed_timer(interval_s, fetch_s, way_s).mean
    return _exact(interval_s), _exact(mean_s)


_USERS = 20_000
_TEN = 10.0
_DRAG_S = 3.0
_NODES = 4
_LOSSES = 4
_ARRIVALS_PER_S = 10.0

_SOCKETIO = library("socket.io-client")
_SPREAD: Changes = {
    **_SOCKETIO,
    "reconnect.base_s": 5.0,
    "reconnect.cap_s": 30.0,
    "reconnect.jitter_frac": 1.0,
}
REPAIRED: Changes = {
    **_SPREAD,
    "websocket.resync": "snapshot",
    "fallback.after_failures": 3,
    "fallback.return_s": 300.0,
}
"""The guide's wiring with every repair that settings can say."""
_BLOCKED: Changes = {"faults": [{"kind": "block_upgrades", "start_s": 0.0, "length_s": HORIZON_S}]}
_ROLLED_BACK: Changes = {
    "sessions": {"arrivals_per_s": 0.1, "length_s": 1800.0},
    "plan.kill_s": ROLLBACK_S,
    "plan.stages": [{"percent": 100.0, "bake_s": HORIZON_S}],
}
_LOOP, _LOOP_REPAIRED = server("spring: the guide's loop"), server("spring: the loop repaired")
_IN_STEP = library("guide: native WebSocket, 1 s, 5 attempts")
_SIO = "socket.io-client 4.8.4: build/cjs/manager.js, socket.js"
_SPRING = "spring-websocket 6.2.19"


def _spread_over_an_interval(board: Scenario) -> Changes:
    """Return a flag after whose change tabs poll again as far apart as polls ever are."""
    return {"propagation": "pushed", "jitter_s": board.polling.interval_s}


DEFECTS = (
    Defect(
        "two protocols",
        "It opens socket.io-client against Spring's SockJS endpoint: no path and no frame of the "
        "two agree, so that every handshake fails.",
        "Speak one protocol on both sides: a native WebSocket to /ws/matters/websocket, "
        "sockjs-client, or a Socket.IO server.",
        "engine.io-client 6.6.8: build/cjs/socket.js; sockjs 0.3.24; " + _SPRING,
        quantity="unseen",
        as_written={**_SOCKETIO, **_BLOCKED},
        repaired=_SOCKETIO,
    ),
    Defect(
        "a second handler",
        "It registers `MatterUpdateHandler()`, a new object, and broadcasts through the injected "
        "one, which nobody has joined.",
        "Inject the handler into the configuration and register that.",
        _SPRING + ": WebSocketHandlerRegistry.addHandler",
    ),
    Defect(
        "any origin with credentials",
        '`setAllowedOrigins("*")` with `withSockJS()` is an error 500 for each request that names '
        "its origin, as every browser's upgrade does.",
        "Name the origins, or use setAllowedOriginPatterns.",
        _SPRING + ": AbstractSockJsService; spring-web 6.2.19: CorsConfiguration",
    ),
    Defect(
        "another shape of data",
        "The server sends one card, the client reads `data.matters` of a named event, and "
        "`this.onUpdate` registers a callback where it should call one: nothing is shown.",
        "Share one schema for both sides: a type, a version, a card or the whole list.",
        "the guide: WebSocketService.setupEventHandlers, MatterUpdateHandler.broadcastMatterUpdate",
    ),
    Defect(
        "authentication that is not there",
        "The middleware is Socket.IO's, the server Spring: no token is ever checked, and every "
        "client gets every card.",
        "Check a cookie or a ticket in a HandshakeInterceptor, and filter by user.",
        _SPRING + ": HandshakeInterceptor",
    ),
    Defect(
        "it does not compile",
        "Two methods of WebSocketHandler are missing, and so are logger and objectMapper.",
        "Extend TextWebSocketHandler.",
        _SPRING + ": WebSocketHandler",
    ),
    Defect(
        "connect() in 'disconnect'",
        "Its handler calls connect() while the library believes that it is reconnecting: one "
        "attempt, and at the next loss none.",
        "Leave reconnection to the library.",
        _SIO,
        quantity="stranded",
        situation=_fault("restart", 20.0),
        as_written=library("guide: connect() in 'disconnect'"),
        repaired=_SOCKETIO,
    ),
    Defect(
        "a second socket at each loss",
        "Its handler may call start() again, which makes another socket, while the library brings "
        "the old one back: each loss doubles them.",
        "Leave reconnection to the library.",
        "socket.io-client 4.8.4: build/cjs/index.js",
        computed=_sockets_of_a_tab,
        label=f"connections of a tab after {_LOSSES} losses",
        unit="",
    ),
    Defect(
        "five attempts",
        "It gives up for good after five attempts, which a restart outlasts.",
        "Never give up; poll meanwhile.",
        _SIO,
        quantity="stranded",
        situation=_fault("restart", 60.0),
        as_written=library("socket.io-client, 5 attempts"),
        repaired=_SOCKETIO,
    ),
    Defect(
        "no way round a proxy",
        "`transports: ['websocket', 'polling']` never tries the second one: behind a proxy that "
        "blocks upgrades (here for 5 % of the clients) nothing is ever shown.",
        "Poll after some failed attempts.",
        "engine.io-client 6.6.8: build/cjs/socket.js, tryAllTransports",
        quantity="blind",
        as_written=_SOCKETIO,
        repaired={**_SOCKETIO, "fallback.after_failures": 3},
        situation={"faults": [{**_BLOCKED["faults"][0], "share": 0.05}]},
    ),
    Defect(
        "no way back for what was missed",
        "It shows what comes over the socket and nothing else: what was changed while a client was "
        "away (here in three restarts) is never shown.",
        "Fetch the board at each connect, and now and then besides.",
        _SIO + ": onconnect",
        quantity="unseen",
        situation=_fault("restart", 20.0, repeat_s=240.0, repeats=2),
        as_written={**_SOCKETIO, "websocket.resync": "none"},
        repaired={**_SOCKETIO, "websocket.resync": "snapshot"},
    ),
    Defect(
        "reconnection in step",
        "All clients wait the same second: after a restart they come back together.",
        "Wait a random part of a window that grows: five seconds at first, as "
        "randomizationFactor 1 does.",
        "RFC 6455, section 7.2.3",
        quantity="peak",
        situation=_fault("restart", 3.0),
        as_written=_IN_STEP,
        repaired=_SPREAD,
    ),
    Defect(
        "boards fetched in step",
        "Once each connect fetches the board, clients that come back together fetch together.",
        "The same window, and a board from a cache.",
        "RFC 6455, section 7.2.3",
        quantity="busiest",
        situation={**_fault("restart", 3.0), "server.snapshot_s": 0.002},
        as_written=_IN_STEP,
        repaired=_SPREAD,
    ),
    Defect(
        "a token that is read once",
        "The token is read when the module is loaded and sent again at each reconnect: once it has "
        "expired (here after 90 s), every loss is final.",
        "Give `auth` as a function, and close the socket when its token expires.",
        _SIO + ": onopen",
        quantity="stranded",
        situation={**_fault("restart", 5.0), "websocket.token_valid_s": 90.0},
        as_written={**_SOCKETIO, "websocket.token_resent": True},
        repaired={**_SOCKETIO, "websocket.token_resent": False},
    ),
    Defect(
        "one client that reads nothing",
        "The loop waits 20 s for a client whose buffers are full (here 3 % of them, at an update "
        "of 20 kB a second); its update and all that come meanwhile never reach those behind it.",
        "A time limit and a buffer for each session, and a try around each send.",
        _SPRING + ", Tomcat 10.1.56: BLOCKING_SEND_TIMEOUT",
        quantity="unseen",
        situation={
            **_fault("bandwidth", HORIZON_S - FAULT_S, bytes_per_s=100.0, share=0.03),
            "updates": {"rate_per_s": 1.0, "delta_bytes": 20_000, "snapshot_bytes": 40_000},
        },
        as_written={**_SPREAD, **_LOOP},
        repaired={**_SPREAD, **_LOOP_REPAIRED},
    ),
    Defect(
        "updates that meet",
        "Two threads send on one session at once (here changes come in pairs, half a millisecond "
        "apart), which is an exception: it leaves the loop, and the author gets an error after "
        "saving.",
        "One sender a session: ConcurrentWebSocketSessionDecorator.",
        _SPRING + ": StandardWebSocketSession; Tomcat 10.1.56: WsRemoteEndpointImplBase",
        quantity="failed",
        situation={
            "updates": {"kind": "bursts", "rate_per_s": 0.1, "burst_size": 2, "burst_gap_s": 5e-4}
        },
        as_written={**_SPREAD, **_LOOP},
        repaired={**_SPREAD, **_LOOP_REPAIRED},
    ),
    Defect(
        "a set that several threads change",
        "A join or a leave (here twenty of each a second) ends a broadcast; where all "
        "are cut at once, in 3 to 12 of 100 cases the set breaks, and everybody is connected and "
        "never told again.",
        "ConcurrentHashMap.newKeySet.",
        _SPRING + ", measured with 200 to 1,000 clients; java.util.LinkedHashMap",
        quantity="unseen",
        situation={
            "updates": {"rate_per_s": 1.0},
            "sessions": {"arrivals_per_s": 20.0, "length_s": 10.0},
        },
        as_written={**_SPREAD, **_LOOP, "server.forget_frac": 0.0},
        repaired={**_SPREAD, **_LOOP_REPAIRED},
    ),
    Defect(
        "no heartbeat against idle time-outs",
        "heartbeatInterval is passed to nothing, and Spring's raw handler sends no pings: a proxy "
        "that ends what is silent for 60 s ends every socket of a quiet board.",
        "Let the server ping every 25 s.",
        _SPRING + "; nginx 1.22.1: proxy_read_timeout",
        quantity="reconnections",
        situation={"network.idle_s": 60.0, "updates": {"rate_per_s": 1.0 / 300.0}},
        as_written={**_SPREAD, "heartbeat.direction": "none"},
        repaired=_SPREAD,
    ),
    Defect(
        "a dead path that nobody notices",
        "Without heartbeats, a client whose path has died (here 20 % of them, for two minutes) "
        "shows an old board as if it were new.",
        "Heartbeats with a time-out on both sides, and the board at each connect.",
        "RFC 6455, section 5.5.2; Linux: tcp_retries2",
        quantity="unseen",
        situation=_fault("path_loss", 120.0, share=0.2),
        as_written={**_SPREAD, "heartbeat.direction": "none"},
        repaired=_SPREAD,
    ),
    Defect(
        "a hash with a sign",
        "`hashCode(id) % 100` is negative for half of the users, and every negative number is "
        "below the percentage: at 10 % more than half are enrolled.",
        "Take the remainder that is never negative, of a salted hash.",
        "ECMA-262: the % operator; java.lang.String.hashCode",
        computed=lambda _: (_enrolled("guide"), _enrolled("floor_mod")),
        label="of the users are enrolled at 10 %",
        unit="share",
    ),
    Defect(
        "two deciders",
        "An experiment of 50 % and a ramp decide about the same thing; whom either enrols is "
        "pushed to.",
        "One source: the ramp is the experiment's allocation.",
        "the guide: useExperiment, shouldUseWebSocket",
        computed=lambda _: (_enrolled("floor_mod", 50.0), _enrolled("floor_mod")),
        label="of the users are enrolled at 10 %",
        unit="share",
    ),
    Defect(
        "a flag that comes too late",
        "The flag is fetched when the page is mounted, and useState keeps the first answer, which "
        "is polling: nobody is ever enrolled.",
        "Make the service in an effect that depends on the mode.",
        "React: useState; TanStack Query 5: useQuery",
        quantity="not_enrolled",
        situation={"plan.stages": [{"percent": 100.0, "bake_s": HORIZON_S}]},
        as_written={"plan.flag": {"propagation": "session", "cached_frac": 0.0}},
        repaired={"plan.flag": {"propagation": "polled", "every_s": 60.0}},
    ),
    Defect(
        "an immediate rollback that is none",
        "The flag is a constant of the build, and the service is made once: a tab stays on push "
        "until it is closed, and the build comes before.",
        "Tabs read the flag at run time (here each minute) and change their service then.",
        "Next.js: NEXT_PUBLIC_ variables; React: useState",
        quantity="still_pushed",
        situation=_ROLLED_BACK,
        as_written={"plan.flag": {"propagation": "session"}},
        repaired={"plan.flag": {"propagation": "polled", "every_s": 60.0}},
    ),
    Defect(
        "everybody back at once",
        "Once the flag is obeyed at run time, a rollback lets all tabs poll in the same moment.",
        "Each tab waits a random part of a while first, here of {polling.interval_s:g} s.",
        "the guide: rollback plan",
        quantity="requests",
        situation=_ROLLED_BACK,
        as_written={"plan.flag": {"propagation": "pushed"}},
        repaired={"plan.flag": _spread_over_an_interval},
    ),
    Defect(
        "the author waits for the broadcast",
        "`updateMatter` sends to one session after the other before it answers.",
        "Send after the commit, from another thread.",
        _SPRING + ": StandardWebSocketSession.sendTextMessage",
        computed=_author_waits_s,
        label="that an author waits for the broadcast",
        unit="s",
    ),
    Defect(
        "sessions in the memory of one node",
        "A node tells its own sessions only: with two nodes, half of the changes reach a client.",
        "A broker between the nodes.",
        "the guide: MatterUpdateHandler.sessions",
        computed=lambda _: (_exact(0.5), _exact(0.0)),
        label="of the changes do not reach a client, with two nodes",
        unit="share",
    ),
    Defect(
        "a drag pauses polling only",
        "A pushed card may move while the user drags another: polling was paused, push is not.",
        "Keep what comes during a drag, and apply it at the drop.",
        "the guide: usePollingUpdates, WebSocketService",
        computed=_met_by_a_drag,
        label="of the drags meet a change",
        unit="share",
    ),
    Defect(
        "a deploy cuts a client more than once",
        "Node after node restarts, and a client that is cut may move to a node that is still to "
        "come.",
        "Start the new nodes first, so that each client moves once.",
        "theory.rolling_deploy_moves",
        computed=_cuts,
        label=f"cuts of a client in a deploy of {_NODES} nodes",
        unit="",
    ),
    Defect(
        "a load test that tests no load",
        "Its scenario has no flow, and Artillery refuses it; with a message for a flow, a virtual "
        "user closes as soon as it has sent it.",
        "Hold as many connections as there are users, and restart the server meanwhile.",
        "artillery 2.0.34: findings/artillery-holds-no-connection-without-a-pause.sh",
        computed=_connected_at_once,
        label="connections at once",
        unit="",
    ),
    Defect(
        "the worst case called the rule",
        "It compares push with 30 s; a poll every 30 s shows a change after half of that on "
        "average.",
        "State the mean and the quantiles of both, at the board's own rate of changes.",
        "theory.staleness_rearmed_timer",
        computed=_mean_staleness_s,
        label="from a change to its view by polling",
        unit="s",
    ),
    Defect(
        "no order in what is sent",
        "A broadcast may leave before the commit and overtake another one; nothing in it says "
        "which is newer.",
        "Send after the commit, with a version, and ignore what is older.",
        "Spring: @TransactionalEventListener",
    ),
    Defect(
        "a rate limiter that forgets nobody and drops the last",
        "Its map never shrinks, and a message within the window is dropped with no later one to "
        "make up for it.",
        "A token bucket with an expiry.",
        "the guide: checkRateLimit",
    ),
)
"""The defects, in the order of harm: nothing works, it stops working, it works badly."""
