"""A scenario, a seed and a replication, compiled to arrays.

Everything exogenous is drawn here: when changes are published, when sessions begin and end, how far
each client is from the server. No driver draws any of it, so every driver and both transports see
the same workload on one seed.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simlib.core.answers import Etag
from simlib.core.assignment import FlagRules
from simlib.core.backpressure import Overflow, SendingRules
from simlib.core.balancing import Balancing
from simlib.core.broadcasts import LoopRules, may_end
from simlib.core.browser import NO_LIMIT as NO_BROWSER_LIMIT
from simlib.core.browser import BrowserRules, polls_beside
from simlib.core.client_state import Differs, Rules
from simlib.core.draws import Stream, exponentials, normals, uniforms, uniforms_of_clients
from simlib.core.elementary import exps
from simlib.core.fallback import FallbackRules
from simlib.core.faults import FAULTS, FaultEvent, fault_events_of, is_end
from simlib.core.limiter import NO_LIMIT as NO_RATE_LIMIT
from simlib.core.limiter import LimiterRules
from simlib.core.notify import OnHint
from simlib.core.path import Window
from simlib.core.protocol import (
    TOLD_TRANSPORTS,
    Heartbeat,
    Transport,
    has_socket,
    holds,
    is_stream,
)
from simlib.core.reconnect import MOST_DELAYS, Policy, ReconnectRules, Reset, runs_on
from simlib.core.record import Kept, MetricsSnapshot, Record
from simlib.core.resync import Resync, ResyncRules
from simlib.core.server import Law, ServerRules, law_parameter
from simlib.core.stream_proxy import ProxyRules
from simlib.core.wire import message_sizes, stream_bytes
from simlib.errors import ScenarioError
from simlib.scenario.curve import Curve, interpolated
from simlib.scenario.model import (
    MOST_CHANGES,
    NO_SAFETY_POLLS,
    Activity,
    Fallback,
    Fault,
    RateLimit,
    Reconnect,
    Scenario,
    Sessions,
)
from simlib.scenario.suggestions import scenario_rule

NO_LIMIT = 2**31 - 1
_BLOCK = 512
_REMEMBERED = 64
"""For how many scenarios what their runs share is kept."""


class Workload(NamedTuple):
    """The inputs of one run.

    Attributes
    ----------
    rules : Rules
        The settings of every client; in a rollout, of the control cohort.
    treatment_rules : Rules or None
        The settings of a rollout's treatment cohort; None if they are those of the control cohort.
    server : ServerRules
    rate_limit : LimiterRules
        The rate limit in front of all nodes.
    publish_s : ndarray of float64, shape (changes,)
        Intended publish times, ascending, seconds; change number v is ``publish_s[v - 1]``.
    start_s, end_s : ndarray of float64, shape (clients,)
        Sessions, seconds, numbered in the order in which they start; a session that is not over at
        the horizon ends there.
    rtt_s : ndarray of float64, shape (clients,)
        Round-trip times without queueing, seconds.
    sizes : ndarray of int64, shape (len(Message), 4)
        Of every message: bytes of payload up and down, and of IP packets up and down.
    etag : Etag
        Whether an unchanged board is answered 304, and by what the server knows that it is.
    drag, hidden : Activity or None
        User activity.
    fault_events : tuple of FaultEvent
        The fault schedule, in order of time; at one time, ends come before beginnings.
    delays, limits : tuple of Window
        When paths are slower, and when they are narrower.
    shared_bytes_per_s : float
        The rate of the link that all clients share, on the way down; infinite: there is none.
    nodes : int
    stream_proxy : ProxyRules
        What a proxy holds back of streams.
    stream_bytes : ndarray of int64, shape (len(Message),)
        Of every message: its bytes on a stream, as that proxy counts them.
    bad_gateway : bool
        Whether a proxy answers 502 while no node is up.
    idle_s : float
        When a middlebox closes a connection that carries nothing, seconds; infinite: never.
    unanswered_s : float
        When a kernel gives up on data that nobody acknowledges, seconds.
    browser : BrowserRules
        How many requests all tabs of a user may have under way, if that has a limit.
    flag : FlagRules or None
        How a rollout's percentage reaches the clients; None without a rollout.
    buckets : ndarray of float64, shape (clients,) or (0,)
        The clients' buckets in the rollout.
    """

    rules: Rules
    treatment_rules: Rules | None
    server: ServerRules
    rate_limit: LimiterRules
    publish_s: NDArray[np.float64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    rtt_s: NDArray[np.float64]
    sizes: NDArray[np.int64]
    etag: int
    drag: Activity | None
    hidden: Activity | None
    fault_events: tuple[FaultEvent, ...]
    delays: tuple[Window, ...]
    limits: tuple[Window, ...]
    shared_bytes_per_s: float
    nodes: int
    stream_proxy: ProxyRules
    stream_bytes: NDArray[np.int64]
    bad_gateway: bool
    idle_s: float
    unanswered_s: float
    browser: BrowserRules
    flag: FlagRules | None
    buckets: NDArray[np.float64]


class RolloutController(Protocol):
    """A rollout controller: it sets the percentage of enrolled users while a run goes on."""

    flag: FlagRules

    def buckets(self, workload: Workload) -> NDArray[np.float64]:
        """Return the clients' buckets in the rollout, shape (clients,)."""

    def cohort_rules(self, scenario: Scenario, workload: Workload) -> tuple[Rules, Rules]:
        """Return the settings of both cohorts' clients: control, treatment."""

    def due_s(self) -> float:
        """Return the time of its next check, seconds; infinite if there is none."""

    def observe(self, snapshot: MetricsSnapshot) -> float | None:
        """Check the run at that time; return a new percentage, or None to leave it."""


def compile_workload(scenario: Scenario, seed: int, replication: int) -> Workload:
    """Compile a scenario for one seed and replication.

    Parameters
    ----------
    scenario : Scenario
    seed, replication : int
        In [0, 2**64).

    Returns
    -------
    Workload

    Raises
    ------
    ScenarioError
        The seed or replication is out of range, or the trace cannot be used.

    Examples
    --------
    >>> scenario = Scenario(updates={"rate_per_s": 0.1}, clients=3)
    >>> polling = compile_workload(scenario, 1, 0)
    >>> push = compile_workload(scenario.replace(transport="websocket"), 1, 0)
    >>> bool((polling.publish_s == push.publish_s).all())
    True
    """
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    for name, key in (("seed", seed), ("replication", replication)):
        if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < 2**64:
            raise ScenarioError(name, key, "must be a whole number in [0, 2**64)")
    start_s, end_s = _sessions(scenario, seed, replication)
    return Workload(
        **common_fields(scenario, seed, replication),
        publish_s=publish_times_s(scenario, seed, replication),
        start_s=start_s,
        end_s=end_s,
        rtt_s=_rtt_s(scenario, seed, replication, len(start_s)),
        buckets=np.zeros(0),
    )


def common_fields(scenario: Scenario, seed: int, replication: int) -> dict[str, Any]:
    """Return the fields of a scenario's workload that are not arrays over clients or changes.

    Parameters
    ----------
    scenario : Scenario
    seed, replication : int
    """
    shared = _shared_fields(scenario)
    rules = shared["rules"]._replace(seed=seed, replication=replication)
    return {**shared, "rules": rules}


@lru_cache(maxsize=_REMEMBERED)
def _shared_fields(scenario: Scenario) -> dict[str, Any]:
    """Return the common fields of all runs of a scenario, of which a sweep has hundreds."""
    spec = scenario.wire_spec()
    return {
        "rules": _rules(scenario, 0, 0),
        "treatment_rules": None,
        "server": _server_rules(scenario),
        "sizes": np.hstack([message_sizes(spec, "payload"), message_sizes(spec, "ip")]),
        "rate_limit": _rate_limit(scenario.rate_limit),
        "etag": Etag[scenario.polling.etag.upper()] + 0,
        "drag": scenario.drag,
        "hidden": scenario.hidden,
        "fault_events": _fault_events(scenario),
        "delays": _paths_changed(scenario, "added_s"),
        "limits": _paths_changed(scenario, "bytes_per_s"),
        "shared_bytes_per_s": scenario.network.shared_down_bytes_per_s or math.inf,
        "nodes": scenario.server.nodes,
        "stream_proxy": ProxyRules(
            buffer_bytes=scenario.network.stream_buffer_bytes or 0,
            delay_s=scenario.network.stream_delay_s or math.inf,
            held_frac=scenario.network.stream_held_frac,
            fault=_first_that_blocks(scenario),
        ),
        "stream_bytes": stream_bytes(spec),
        "bad_gateway": scenario.network.bad_gateway,
        "idle_s": scenario.network.idle_s or math.inf,
        "unanswered_s": scenario.network.unanswered_s,
        "browser": _browser_rules(scenario),
        "flag": None,
    }


def enrolled(
    workload: Workload,
    flag: FlagRules,
    buckets: NDArray[np.float64],
    cohort_rules: tuple[Rules, Rules] | None = None,
) -> Workload:
    """Return the workload of a run with a rollout.

    Parameters
    ----------
    workload : Workload
    flag : FlagRules
        How the rollout's percentage reaches the clients.
    buckets : ndarray of float64, shape (clients,)
        The clients' buckets in the rollout.
    cohort_rules : tuple of Rules, optional
        The settings of the control and of the treatment cohort's clients, on the workload's seed
        and replication; absent: both have the workload's.
    """
    one, other = cohort_rules or (workload.rules, workload.rules)
    for transport, rules in zip(flag.transports, (one, other), strict=True):
        if workload.browser.connections > 0 and polls_beside(transport, rules.safety_poll_s):
            raise ScenarioError("websocket.safety_poll_s", rules.safety_poll_s, NO_SAFETY_POLLS)
    of_the_rollout: dict[str, Any] = {
        "has_flag": True,
        "transport": workload.rules.transport,
        "transports": flag.transports,
        "differs": _differs(one, other),
    }
    control, treatment = (rules._replace(**of_the_rollout) for rules in (one, other))
    drops_copy = any(has_socket(each) or holds(each) for each in flag.transports)
    return workload._replace(
        rules=control,
        server=workload.server._replace(drops_copy=drops_copy),
        treatment_rules=None if treatment == control else treatment,
        flag=flag,
        buckets=buckets,
    )


def _differs(one: Rules, other: Rules) -> int:
    """In what two cohorts' rules differ: bits of `Differs`."""
    fields = {
        Differs.POLL_TIMER: (
            *("interval_s", "jitter_frac", "fixed_rate"),
            *("hidden_interval_s", "active_interval_s", "active_for_s"),
        ),
        Differs.WHO_PINGS: ("heartbeat", "watches"),
        Differs.HEARTBEAT: ("heartbeat_interval_s", "heartbeat_timeout_s"),
        Differs.SAFETY_POLL: ("safety_poll_s",),
        Differs.SIGN_OF_LIFE: ("any_message",),
    }
    differs = sum(
        int(bit)
        for bit, names in fields.items()
        if any(getattr(one, name) != getattr(other, name) for name in names)
    )
    if runs_on(one.reconnect.policy) != runs_on(other.reconnect.policy):
        differs |= Differs.SIGN_OF_LIFE
    return differs


def rules_of(scenario: Scenario, workload: Workload) -> Rules:
    """Return the settings of a scenario's clients, on the seed and replication of a workload."""
    return _rules(scenario, workload.rules.seed, workload.rules.replication)


def new_record(scenario: Scenario, workload: Workload, keep: tuple[str, ...] = ()) -> Record:
    """Return an empty record for a run.

    Parameters
    ----------
    scenario : Scenario
    workload : Workload
        Of that scenario.
    keep : tuple of str, optional
        ``"deliveries"``, ``"events"``.
    """
    return Record(
        workload.publish_s,
        workload.start_s,
        workload.end_s,
        counted_s=(scenario.warm_up_s, scenario.horizon_s - scenario.cool_down_s),
        horizon_s=scenario.horizon_s,
        bin_s=scenario.bin_s,
        transports=_transports(workload),
        sizes=workload.sizes,
        nodes=workload.nodes,
        kept=Kept(
            deliveries="deliveries" in keep,
            events="events" in keep,
            buffered=bool(
                workload.limits or workload.delays or workload.shared_bytes_per_s < math.inf
            ),
            failures=_may_fail(workload),
            queues=workload.browser.connections > 0,
            gaps=_most_gaps(workload),
        ),
    )


def _browser_rules(scenario: Scenario) -> BrowserRules:
    connections = scenario.network.connections_per_user
    if connections is None:
        return NO_BROWSER_LIMIT
    return BrowserRules(connections, scenario.tabs_per_user, scenario.sse.streams_per_tab)


def _transports(workload: Workload) -> tuple[int, ...]:
    """The transport of each cohort; without a rollout all are one."""
    rules = workload.rules
    return rules.transports if rules.has_flag else (rules.transport,)


def _may_fail(workload: Workload) -> bool:
    """Say whether a broadcast may end before its last client."""
    server = workload.server
    return may_end(server.loop) or server.sending.overflow == Overflow.ABORT


def _most_gaps(workload: Workload) -> int:
    """A reconnection leaves one gap; where messages are left out there may be one before each."""
    every_rules = (workload.rules, workload.treatment_rules or workload.rules)
    if all(rules.safety_poll_s == math.inf for rules in every_rules):
        return 0
    drops = workload.server.sending.overflow == Overflow.DROP_OLDEST
    return 64 if drops or _may_fail(workload) else 8


def _poisson_s(
    rate_per_s: float, horizon_s: float, seed: int, replication: int, stream: Stream
) -> NDArray[np.float64]:
    """Times of a Poisson stream before the horizon; a rate of 0 has none."""
    # About as many as are needed: a sum, term by term, does not depend on where it is cut.
    size = int(min(_BLOCK, 16.0 + 1.25 * rate_per_s * horizon_s))
    blocks = [np.zeros(1)]
    while rate_per_s > 0.0 and blocks[-1][-1] < horizon_s:
        k = size * (len(blocks) - 1)
        u = uniforms(seed, replication, 0, stream, np.arange(k, k + size, dtype=np.uint64))
        with np.errstate(over="ignore"):
            gaps_s = exponentials(u, 1.0 / rate_per_s)
        blocks.append(np.cumsum(np.concatenate((blocks[-1][-1:], gaps_s)))[1:])
    times = np.concatenate(blocks)[1:]
    return times[times < horizon_s]


def publish_times_s(scenario: Scenario, seed: int, replication: int) -> NDArray[np.float64]:
    """Return when the changes of one seed and replication are published, ascending, seconds."""
    updates = scenario.updates
    if updates.kind == "trace":
        return _trace_s(scenario)
    if updates.publish_s is not None:
        times = np.array(updates.publish_s, dtype=np.float64)
        return times[times < scenario.horizon_s]
    assert updates.rate_per_s is not None
    drawn = _poisson_s(updates.rate_per_s, scenario.horizon_s, seed, replication, Stream.PUBLISH)
    if updates.kind == "bursts":
        assert updates.burst_size is not None
        assert updates.burst_gap_s is not None
        offsets = np.arange(updates.burst_size) * updates.burst_gap_s
        drawn = np.sort((drawn[:, np.newaxis] + offsets).ravel())
        drawn = drawn[drawn < scenario.horizon_s]
    return drawn


def _trace_s(scenario: Scenario) -> NDArray[np.float64]:
    trace = scenario.updates.trace
    reader = csv.DictReader(io.StringIO(scenario.read_trace()))
    if "publish_s" not in (reader.fieldnames or ()):
        raise ScenarioError("updates.trace", trace, "must have a column publish_s")
    times: list[float] = []
    for row in _rows(reader, trace):
        text = row["publish_s"]
        try:
            t = float(text)
        except (TypeError, ValueError):
            t = math.nan
        if not (math.isfinite(t) and t >= (times[-1] if times else 0.0)):
            raise ScenarioError(
                f"updates.trace ({trace}, line {reader.line_num})",
                text,
                "must be seconds >= 0 in ascending order",
            )
        times.append(t)
        if len(times) > MOST_CHANGES:
            raise ScenarioError("updates.trace", trace, f"must have at most {MOST_CHANGES} rows")
    return np.array([t for t in times if t < scenario.horizon_s], dtype=np.float64)


def _rows(reader: csv.DictReader[str], trace: str | None) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        where = f"updates.trace ({trace}, line {reader.line_num})"
        raise ScenarioError(where, trace, f"must be CSV ({error})") from None


def _arrivals_s(
    sessions: Sessions, horizon_s: float, seed: int, replication: int
) -> NDArray[np.float64]:
    """When new sessions begin, seconds, ascending and before the horizon."""
    rate_per_s = sessions.arrivals_per_s
    if sessions.arrivals == "even":
        with np.errstate(over="ignore"):
            times = np.arange(1.0, math.ceil(rate_per_s * horizon_s) + 1.0) / rate_per_s
        return times[times < horizon_s]
    curve = None if sessions.curve is None else Curve(sessions.curve)
    until_s = horizon_s if curve is None else float(curve.passed_s(horizon_s))
    poisson_s = _poisson_s(rate_per_s, until_s, seed, replication, Stream.SESSION_GAP)
    if curve is None:
        return poisson_s
    times = curve.time_s(poisson_s)
    return times[times < horizon_s]  # rounding may put one there


def _sessions(
    scenario: Scenario, seed: int, replication: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    initial = uniforms_of_clients(seed, replication, scenario.clients, Stream.START, 0)
    start_s = initial * scenario.ramp_s
    sessions = scenario.sessions
    if sessions is None:
        start_s.sort()
        return start_s, np.broadcast_to(scenario.horizon_s, len(start_s))
    arrivals_s = _arrivals_s(sessions, scenario.horizon_s, seed, replication)
    start_s = np.sort(np.concatenate((start_s, arrivals_s)))
    length_s = np.full(len(start_s), sessions.length_s)
    if sessions.length == "exponential":
        draws = uniforms_of_clients(seed, replication, len(start_s), Stream.SESSION_LENGTH, 0)
        length_s = exponentials(draws, sessions.length_s)
    return start_s, np.minimum(start_s + length_s, scenario.horizon_s)


def _rtt_s(scenario: Scenario, seed: int, replication: int, clients: int) -> NDArray[np.float64]:
    network = scenario.network
    if network.rtt_quantiles is None and network.rtt_spread == 0.0:
        return np.broadcast_to(network.rtt_s, clients)
    u, v = (uniforms_of_clients(seed, replication, clients, Stream.ROUND_TRIP, k) for k in range(2))
    if network.rtt_quantiles is not None:
        return interpolated(network.rtt_quantiles, u)
    return network.rtt_s * exps(network.rtt_spread * normals(u, v))


def _first_that_blocks(scenario: Scenario) -> int:
    """Return the number of the fault whose clients' streams are held, too; -1: there is none."""
    kinds = [fault.kind for fault in scenario.faults]
    if scenario.network.stream_held_frac == 0.0 or "block_upgrades" not in kinds:
        return -1
    return kinds.index("block_upgrades")


def _fault_events(scenario: Scenario) -> tuple[FaultEvent, ...]:
    fault_events = [
        fault_event
        for number, fault in scenario.faults_by_number().items()
        for fault_event in events_of_fault(number, fault, scenario.server.nodes)
        if fault_event.t < scenario.horizon_s
    ]
    fault_events.sort(
        key=lambda fault_event: (fault_event.t, not is_end(fault_event), fault_event.fault)
    )
    return tuple(fault_events)


def events_of_fault(number: int, fault: Fault, nodes: int) -> list[FaultEvent]:
    """Return the events of a fault, which is number `number` of its scenario, in order of time."""
    row = FAULTS[fault.kind]
    fields = {name: getattr(fault, name) for name in ("start_s", *row.needs, *row.may_have)}
    return fault_events_of(fault.kind, number, nodes, **fields)


def _paths_changed(scenario: Scenario, amount: str) -> tuple[Window, ...]:
    return fault_windows(scenario, [kind for kind, row in FAULTS.items() if row.amount == amount])


def fault_windows(scenario: Scenario, kinds: Collection[str]) -> tuple[Window, ...]:
    """Return when the faults of some kinds act, and on which share of the clients.

    Parameters
    ----------
    scenario : Scenario
    kinds : collection of str
        Names of `core.faults.FAULTS`.

    Examples
    --------
    >>> fault = {"kind": "path_loss", "start_s": 10, "length_s": 5, "share": 0.5}
    >>> (window,) = fault_windows(
    ...     Scenario(updates={"rate_per_s": 0.1}, faults=[fault]), ["path_loss"]
    ... )
    >>> window.start_s, window.end_s, window.share
    (10.0, 15.0, 0.5)
    """
    return tuple(
        Window(
            start_s=fault.start_s,
            end_s=fault.start_s + (fault.length_s or 0.0),
            share=fault.share,
            amount=fault.amount(),
            jitter_s=fault.jitter_s or 0.0,
            fault=number,
        )
        for number, fault in scenario.faults_by_number().items()
        if fault.kind in kinds
    )


def _rules(scenario: Scenario, seed: int, replication: int) -> Rules:
    polling, push, heartbeat = scenario.polling, scenario.websocket, scenario.heartbeat
    held = scenario.long_polling
    return Rules(
        seed=seed,
        replication=replication,
        transport=Transport[scenario.transport.upper()],
        has_flag=False,
        transports=(0, 0),
        differs=Differs.NOTHING + 0,
        interval_s=polling.interval_s,
        jitter_frac=polling.jitter_frac,
        hidden_interval_s=polling.hidden_interval_s or math.inf,
        active_interval_s=polling.active_interval_s or math.inf,
        active_for_s=polling.active_for_s or 0.0,
        fixed_rate=polling.timer == "fixed_rate",
        pause_while_dragging=polling.pause_while_dragging,
        pause_while_hidden=polling.pause_while_hidden,
        refetch_on_focus=polling.refetch_on_focus,
        stale_s=polling.stale_s,
        retries=polling.retries,
        retry_base_s=polling.retry_base_s,
        retry_cap_s=polling.retry_cap_s,
        tls=scenario.network.tls,
        push_is_snapshot=push.push == "snapshot",
        resync=ResyncRules(
            Resync[push.resync.upper()],
            push.replay_changes or 0,
            push.recovery_s or 0.0,
            push.or_snapshot,
        ),
        open_timeout_s=push.open_timeout_s,
        upgrade_timeout_s=push.upgrade_timeout_s or math.inf,
        ready_timeout_s=push.ready_timeout_s or math.inf,
        token_valid_s=(push.token_valid_s or math.inf) if push.token_resent else math.inf,
        safety_poll_s=push.safety_poll_s or math.inf,
        safety_poll_restart=push.safety_poll_restart and push.safety_poll_s is not None,
        spread_s=scenario.notify.spread_s,
        on_hint=OnHint[scenario.notify.on_hint.upper()],
        throttles_timers=scenario.timer_throttling,
        heartbeat=Heartbeat[heartbeat.direction.upper()],
        heartbeat_interval_s=heartbeat.interval_s,
        heartbeat_timeout_s=heartbeat.timeout_s,
        any_message=heartbeat.any_message,
        closing_s=heartbeat.closing_s,
        watches=scenario.sse.watches and is_stream(Transport[scenario.transport.upper()]),
        retries_http_errors=scenario.sse.retries_http_errors,
        retries_ended=scenario.sse.retries_ended,
        hold_s=held.timeout_s,
        answer_timeout_s=held.timeout_s + held.grace_s,
        ask_pause_s=held.pause_s,
        reconnect=reconnection(scenario.reconnect),
        fallback=_fallback(scenario.fallback),
    )


def _fallback(settings: Fallback | None) -> FallbackRules:
    if settings is None:
        return FallbackRules(False, NO_LIMIT, math.inf, math.inf, 1.0, math.inf)
    return FallbackRules(
        is_on=True,
        after_failures=NO_LIMIT if settings.after_failures is None else settings.after_failures,
        after_s=math.inf if settings.after_s is None else settings.after_s,
        return_s=math.inf if settings.return_s is None else settings.return_s,
        factor=settings.return_factor,
        cap_s=math.inf if settings.return_s is None else settings.return_cap_s,
    )


def reconnection(settings: Reconnect) -> ReconnectRules:
    """Return a scenario's ``[reconnect]`` as the rules read it."""
    given = {name: getattr(settings, name) for name in ReconnectRules._fields}
    delays_s = settings.delays_s or (settings.base_s,)
    rules: dict[str, Any] = {
        # A parameter that is absent is not read.
        **{name: 0.0 if value is None else value for name, value in given.items()},
        "policy": Policy[settings.policy.upper()],
        "delays_s": delays_s + delays_s[-1:] * (MOST_DELAYS - len(delays_s)),
        "attempts": NO_LIMIT if settings.attempts is None else settings.attempts,
        "give_up_s": math.inf if settings.give_up_s is None else settings.give_up_s,
        "reset": Reset[settings.reset.upper()],
    }
    return ReconnectRules(**rules)


def _server_rules(scenario: Scenario) -> ServerRules:
    server = scenario.server
    law = Law[server.service.upper()]
    return ServerRules(
        workers=server.workers,
        law=law,
        law_parameter=law_parameter(law, server.service_cv or 1.0),
        hop_s=server.hop_s if server.nodes > 1 else 0.0,
        accept_s=server.accept_s,
        poll_s=server.poll_s,
        check_s=server.check_s,
        cache_s=server.cache_s,
        cached_s=server.cached_s,
        drops_copy=scenario.transport in TOLD_TRANSPORTS,
        handshake_s=server.handshake_s,
        authenticate_s=server.authenticate_s,
        snapshot_s=server.snapshot_s,
        fan_out_s=server.fan_out_s,
        send_s=server.send_s,
        heartbeat_s=server.heartbeat_s,
        close_s=server.close_s,
        max_connections=server.max_connections,
        backlog=server.backlog,
        keep_alive_s=server.keep_alive_s,
        shed_wait_s=math.inf if server.shed_wait_s is None else server.shed_wait_s,
        admit_per_s=math.inf if server.admit_per_s is None else server.admit_per_s,
        admit_burst=server.admit_burst,
        sending=SendingRules(
            Overflow[server.slow_consumers.upper()],
            server.buffer_bytes or 0,
            server.socket_bytes,
            server.write_timeout_s or 0.0,
        ),
        loop=LoopRules(
            is_plain=server.socket_set == "plain",
            meeting_fails_frac=server.meeting_fails_frac,
            meeting_closes=server.meeting_closes,
            forget_frac=server.forget_frac,
        ),
        ends_streams=server.ends_streams,
        balancing=Balancing[server.balancing.upper()],
        broker_s=server.nodes * server.broker_s if server.nodes > 1 else 0.0,
    )


def _rate_limit(settings: RateLimit | None) -> LimiterRules:
    if settings is None:
        return NO_RATE_LIMIT
    return LimiterRules(
        per_s=settings.rate_per_s,
        burst=settings.burst,
        delays=settings.kind == "delay",
        upgrades=settings.applies_to != "polls",
        polls=settings.applies_to != "upgrades",
        status=settings.status,
    )
