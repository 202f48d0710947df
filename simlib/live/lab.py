"""Measure a scenario for real: a server process for each node, one of clients, loopback between.

One more process, the proxy, stands between clients and server if a fault of the scenario acts on
the path, or if there are several nodes: it balances connections over them.
"""

from __future__ import annotations

import os
import resource
import secrets
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import psutil

from simlib.core.client_state import Rules
from simlib.core.faults import FAULTS
from simlib.core.protocol import (
    HAS_SOCKET,
    TRANSPORT_NAMES,
    Heartbeat,
    fetches,
    holds,
    is_stream,
)
from simlib.core.record import MetricsSnapshot
from simlib.errors import Interrupted, ScenarioError
from simlib.live.ipc import START_S, Child
from simlib.live.load import check_load
from simlib.live.loopback import check_stream, needs_proxy, on_loopback
from simlib.live.messages import (
    ClientsReport,
    CloseConnections,
    Command,
    ControllerReply,
    Progress,
    ProxyReport,
    RolloutSettings,
    Sample,
    ServerReport,
    Settings,
    Start,
)
from simlib.live.nodes import ServerNodes
from simlib.live.tokens import make_token
from simlib.live.watching import Order, Watcher, check_watcher, with_kill
from simlib.processes import terminable
from simlib.progress import time_bar
from simlib.renamed import renamed_arguments
from simlib.run import COHORTS, Run, check_keep, make_run
from simlib.scenario import RolloutController, Scenario, Workload, compile_workload

MAX_WALL_S = 3600.0
QUIET_CORES = 0.1
"""More processor time than this for other programs, in cores, makes latencies inconclusive."""
_LEAD_S = 0.3
_ORDER_S = 0.01
"""From an order to kill the server to the kill, so that its time is known beforehand, seconds."""
_SPARE_DESCRIPTORS = 100


@renamed_arguments(conductor="controller")
def measure(
    scenario: Scenario,
    *,
    seed: int = 1,
    replication: int = 0,
    time_scale: float = 1.0,
    keep: tuple[str, ...] = (),
    progress: bool = True,
    controller: RolloutController | None = None,
    emulate_sends: bool = False,
    watch: Watcher | None = None,
) -> Run:
    """Run a scenario on a real server with real clients, over loopback.

    Parameters
    ----------
    scenario : Scenario
        Its network and service times give way to those of this machine, see `on_loopback`; the
        result's ``scenario`` says so.
    seed, replication : int, optional
        As in `simulate`: publish times, sessions and user activity are the same there and here.
    time_scale : float, optional
        How many times faster than the clock the scenario runs, in [1, 1000]. Times in the result
        are the scenario's: a real millisecond counts as `time_scale` of them.
    keep : tuple of str, optional
        Tables to keep beside the usual ones: ``"deliveries"``, ``"events"``.
    progress : bool, optional
        A progress bar on stderr for runs longer than two seconds.
    controller : RolloutController, optional
        The controller of a rollout during the run: see `trials.roll_out`. Tabs learn the percentage
        from their own process, at the times at which they would; the server closes the connections
        that a rollback closes.
    emulate_sends : bool, optional
        Let each node wait in a broadcast, so that it takes the scenario's ``server.fan_out_s`` and
        ``server.send_s``, instead of sending as fast as this machine does: so nodes that share its
        few processors send side by side, as on machines of their own. Only broadcasts wait: other
        jobs take what they take here, and the utilisation is that of real processors.
    watch : Watcher, optional
        Sees samples while the run goes on, and may have the server killed: see `live.watching`. A
        kill stands in the result's ``scenario`` as the restart that it was.

    Returns
    -------
    Run
        With the same tables as a simulated one. ``provenance["cpu"]`` has the cores that server,
        clients and all other programs used, ``provenance["quiet"]`` whether the machine was left
        alone, ``provenance["publish_late_s"]`` how late changes were published,
        ``provenance["server_peak_bytes"]`` the most memory that a process of the server took, and
        ``provenance["server_refused"]`` how often its limits (requests, connections, frames) were
        met: a scenario's own clients never meet one, so it is empty unless others came. A server
        that is killed takes these three with it: after a restart they are the last server's. With
        several nodes they are of all of them, and ``provenance["node_processors"]`` says on how
        many processors these ran. If there was a proxy, ``provenance["proxy"]`` has the bytes that
        it passed and how late its timers were. Its ``warnings`` say whether it was late, the
        machine was busy, or the lab itself was.

    Raises
    ------
    ScenarioError
        The scenario asks for what the lab does not have, or for more files than this machine opens.
    LiveError
        The scenario asks for more at this time scale than this machine bears, see `live.load`; it
        says how much, and what would fit. Or a process died; no other process is left behind.
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` is the run so far, with ``is_complete`` false.
    """
    asked_for = scenario
    scenario = on_loopback(scenario, time_scale=time_scale, emulate_sends=emulate_sends)
    workload = compile_workload(scenario, seed, replication)
    clients = len(workload.start_s)
    check_keep(keep, len(workload.publish_s), clients)
    if watch is not None:
        check_watcher(scenario, watch)
    rollout = None
    if controller is not None:
        _check_rollout(scenario, controller)
        buckets, due_s = controller.buckets(workload), controller.due_s()
        cohort_rules = controller.cohort_rules(scenario, workload)
        _check_cohorts(workload.rules, cohort_rules)
        rollout = RolloutSettings(controller.flag, buckets, cohort_rules, due_s)
    is_proxied = needs_proxy(scenario)
    _check_bounds(scenario, clients, time_scale, 2 if is_proxied else 1)
    secret = secrets.token_hex(32)
    make_token(secret, 0, scenario.wire.token_bytes)  # raises if no token has that length
    settings = Settings(
        scenario=scenario,
        seed=seed,
        replication=replication,
        time_scale=float(time_scale),
        secret=secret,
        keep=keep,
        rollout=rollout,
        is_proxied=is_proxied,
        emulates_sends=emulate_sends,
        sample_s=None if watch is None else watch.every_s,
    )
    load = check_load(scenario, workload, time_scale=float(time_scale), rollout=rollout)
    with terminable():
        reports = _run_processes(settings, workload, controller, progress, watch)
    if reports.kill is not None:
        asked_for, scenario = (with_kill(one, *reports.kill) for one in (asked_for, scenario))
        settings = replace(settings, scenario=scenario)
    run = _run_of(asked_for, settings, workload, reports)
    run.provenance["load"] = load
    if run.provenance["interrupted"]:
        came_s = run.provenance["end_of_run_s"]
        raise Interrupted(f"the run came to {came_s:,.4g} of {scenario.horizon_s:,.10g} s", run)
    return run


class _Reports(NamedTuple):
    """What the processes of a run have measured.

    `bin_busy_s` has each node's use of its processor in each bin; `cores` are those used by each
    process, and by all other programs; `node_processors` is how many the nodes ran on, if known;
    `kill` is when a watcher had the server killed, and for how long, if one did.
    """

    clients: ClientsReport
    server: ServerReport
    bin_busy_s: tuple[dict[int, float], ...]
    proxy: ProxyReport | None
    cores: dict[str, float]
    node_processors: int | None
    kill: tuple[float, float] | None


def _run_processes(
    settings: Settings,
    workload: Workload,
    controller: RolloutController | None,
    progress: bool,
    watch: Watcher | None,
) -> _Reports:
    """Start the processes, wait for the end of the run, and end them."""
    node_processors, client_processor = _processors(settings.scenario.server.nodes)
    with ExitStack() as stack:
        # All load their modules at the same time; the server is ready when it has been entered.
        clients = stack.enter_context(Child("simlib.live.clients", client_processor))
        proxy = None
        if settings.is_proxied:
            proxy = stack.enter_context(Child("simlib.live.proxy", client_processor))
        may_crash = watch is not None and watch.down_s is not None
        nodes = ServerNodes(node_processors, settings, workload, may_crash=may_crash)
        server = stack.enter_context(nodes)
        ports = server.node_ports[0]
        if proxy is not None:
            proxy.send(replace(settings, node_ports=server.node_ports))
            ports = proxy.receive(START_S).ports
        settings = replace(settings, ports=ports)
        clients.send(settings)
        clients.receive(START_S)
        usage = _Usage()
        start = Start(time.monotonic() + _LEAD_S)
        server.start(start.start_s, proxy)
        if proxy is not None:
            proxy.send(start)
        clients.send(start)
        watched = None if watch is None else _Watched(watch, server, start.start_s, settings)
        session = _LabSession(clients, server, proxy, controller, settings.time_scale, watched)
        of_clients = session.await_end(settings.scenario.horizon_s, progress)
        of_proxy: ProxyReport | None = None
        if proxy is not None:
            proxy.send(Command.STOP)
            of_proxy = proxy.receive(START_S)
        of_server = server.stop()
        cores = usage.cores(of_server, of_clients, of_proxy)
    on = None if None in node_processors else len(set(node_processors))
    kill = None if watched is None else watched.kill
    return _Reports(of_clients, of_server, server.bin_busy_s, of_proxy, cores, on, kill)


def _run_of(asked_for: Scenario, settings: Settings, workload: Workload, reports: _Reports) -> Run:
    """Return the clients' record with what the server knows, as a run with its provenance."""
    scenario, record = settings.scenario, reports.clients.record
    for of_node, busy in zip(record.busy_s, reports.bin_busy_s, strict=True):
        for index, busy_s in busy.items():
            if index < len(of_node):
                of_node[index] += busy_s * settings.time_scale
    if len(record.buffered):
        for number, n_bytes in reports.server.buffered_bytes.items():
            record.buffered[number] = n_bytes
    end_of_run_s = reports.clients.end_of_run_s
    late_s = np.array(reports.server.late_s or [0.0])
    return make_run(
        scenario,
        record,
        start_s=workload.start_s,
        end_s=workload.end_s,
        rtt_s=workload.rtt_s,
        end_of_run_s=end_of_run_s,
        provenance={
            "engine": "live",
            "seed": settings.seed,
            "replication": settings.replication,
            "complete": end_of_run_s == scenario.horizon_s,
            "end_of_run_s": end_of_run_s,
            "interrupted": end_of_run_s < scenario.horizon_s,
            "time_scale": settings.time_scale,
            "emulates_sends": settings.emulates_sends,
            "node_processors": reports.node_processors,
            "asked_for_hash": asked_for.hash,
            "cpu": reports.cores,
            "server_peak_bytes": reports.server.peak_bytes,
            "server_refused": reports.server.refused,
            "quiet": reports.cores["other_cores"] < QUIET_CORES,
            "publish_late_s": {
                "median": float(np.median(late_s)),
                "max": float(late_s.max()),
            },
            **({"proxy": reports.proxy.provenance} if reports.proxy is not None else {}),
        },
    )


def _processors(nodes: int) -> tuple[list[int | None], int | None]:
    """Return a processor each for the nodes and one for the clients, as far as the machine has any.

    Left to itself, the system wakes a client on the processor that is still busy with the
    broadcast, so that the clients receive nothing before the whole broadcast is over.
    """
    ours = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(ours) < 2:
        return [None] * nodes, None
    first, clients, *others = ours
    those = [first, *others]
    return [those[node % len(those)] for node in range(nodes)], clients


def _check_bounds(scenario: Scenario, clients: int, time_scale: float, each: int) -> None:
    """Refuse a run that is too long, or one that opens too many files: `each` for every client."""
    wall_s = scenario.horizon_s / time_scale
    if wall_s > MAX_WALL_S:
        rule = f"must give at most {MAX_WALL_S:g} s by the clock (here {wall_s:g}); see time_scale"
        raise ScenarioError("horizon_s", scenario.horizon_s, rule)
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = (descriptors - _SPARE_DESCRIPTORS) // each
    if descriptors != resource.RLIM_INFINITY and clients > most:
        rule = f"must be <= {most}, the open files that this machine allows a process"
        raise ScenarioError("clients", clients, rule)


def _check_rollout(scenario: Scenario, controller: RolloutController) -> None:
    """Refuse a rollout that the lab's server cannot carry out.

    A server that has just started does not know a deny list, and all subscribers get one message.
    """
    control, treatment = controller.flag.transports
    both_have_sockets = HAS_SOCKET[control] and HAS_SOCKET[treatment]
    if both_have_sockets and is_stream(control) != is_stream(treatment):
        rule = "must be a stream or not as control's: the lab's server has subscribers of one kind"
        raise ScenarioError("treatment.transport", TRANSPORT_NAMES[treatment], rule)
    for transport in (control, treatment):
        if is_stream(transport):
            check_stream(scenario.replace({"transport": TRANSPORT_NAMES[transport]}))
    if both_have_sockets and fetches(control) != fetches(treatment):
        rule = (
            "must hear of changes as control does: the lab's server sends all subscribers the same"
        )
        raise ScenarioError("treatment.transport", TRANSPORT_NAMES[treatment], rule)
    if controller.flag.closes and (holds(treatment) or is_stream(treatment)):
        rule = (
            f"must not be {TRANSPORT_NAMES[treatment]} where a rollback closes: the lab's server "
            "closes no stream, and no request that it holds"
        )
        raise ScenarioError("treatment.transport", TRANSPORT_NAMES[treatment], rule)
    for number, fault in enumerate(scenario.faults):
        if controller.flag.closes and FAULTS[fault.kind].lab_part == "standby":
            rule = (
                f"must not be {fault.kind}: the lab's next server would not know whom to keep out"
            )
            raise ScenarioError(f"faults.{number}.kind", fault.kind, rule)


def _check_cohorts(rules: Rules, cohort_rules: tuple[Rules, Rules]) -> None:
    """Refuse settings of a cohort that the server would have to know of."""
    names = ["resync", "token_valid_s", "heartbeat", "hold_s"]
    if rules.heartbeat == Heartbeat.SERVER:
        names += ["heartbeat_interval_s", "heartbeat_timeout_s"]
    for cohort, of_it in zip(COHORTS, cohort_rules, strict=True):
        for name in names:
            if getattr(of_it, name) != getattr(rules, name):
                rule = "must be the scenario's: the lab's server does not know who is in a cohort"
                raise ScenarioError(f"{cohort}.changes ({name})", getattr(of_it, name), rule)


class _Watched:
    """A run that somebody watches, and what they have had done.

    Attributes
    ----------
    kill : tuple of float or None
        When the server was killed, and for how long, seconds of the scenario.
    """

    def __init__(
        self, watcher: Watcher, server: ServerNodes, start_s: float, settings: Settings
    ) -> None:
        self._watcher, self._server, self._start_s = watcher, server, start_s
        self._scale, self._horizon_s = settings.time_scale, settings.scenario.horizon_s
        self.kill: tuple[float, float] | None = None
        self._is_stopped = False

    def see(self, sample: Sample) -> bool:
        """Show a sample with the processor time that only the server knows; say whether to stop."""
        if self._is_stopped:
            return False
        busy_s = np.array(self._server.busy_s()) * self._scale
        order = self._watcher.see(sample.snapshot._replace(busy_s=busy_s))
        down_s = self._watcher.down_s
        if order == Order.KILL and down_s is not None and self.kill is None:
            killed_s = (time.monotonic() - self._start_s) * self._scale
            # A server that would not be back by the end is left alone: no fault ends so late.
            if killed_s + down_s < self._horizon_s:
                killed_s = round(killed_s + _ORDER_S * self._scale, 3)
                self.kill = killed_s, down_s
                self._server.crash(*self.kill)
        self._is_stopped = order == Order.STOP
        return self._is_stopped


class _LabSession(NamedTuple):
    """The processes of a run, and the controller of its rollout, if there is one."""

    clients: Child
    server: ServerNodes
    proxy: Child | None
    controller: RolloutController | None
    time_scale: float
    watched: _Watched | None

    def await_end(self, horizon_s: float, progress: bool) -> ClientsReport:
        """Wait for the clients' report; on Ctrl-C, ask for it at once."""
        is_stopping = False
        with time_bar(horizon_s, "measure", is_on=progress) as progress_bar:
            while True:
                try:
                    message = self.clients.receive(START_S)
                    self.server.check()
                    if self.proxy is not None:
                        self.proxy.check()
                    if isinstance(message, ClientsReport):
                        progress_bar.update(progress_bar.total - progress_bar.n)
                        return message
                    if isinstance(message, Progress):
                        progress_bar.update(min(message.t, progress_bar.total) - progress_bar.n)
                    elif isinstance(message, Sample):
                        if self.watched is not None and self.watched.see(message):
                            self.clients.send(Command.STOP)
                    elif isinstance(message, CloseConnections):
                        self.server.close_connections(message)
                    else:
                        self.clients.send(self.reply_to(message))
                except KeyboardInterrupt:
                    if is_stopping:
                        raise
                    is_stopping = True
                    self.clients.send(Command.STOP)

    def reply_to(self, snapshot: MetricsSnapshot) -> ControllerReply:
        """Let the controller check the run, with the processor time that only the server knows."""
        assert self.controller is not None
        busy_s = np.array(self.server.busy_s()) * self.time_scale
        snapshot = snapshot._replace(busy_s=busy_s)
        percent = self.controller.observe(snapshot)
        while percent is None and self.controller.due_s() <= snapshot.t:
            percent = self.controller.observe(snapshot)
        return ControllerReply(percent, self.controller.due_s())


class _Usage:
    """The use of the processors from the beginning of a run to its end."""

    def __init__(self) -> None:
        self.start_s = time.monotonic()
        self.busy_s = self._busy_s()
        self.own_s = time.process_time()

    @staticmethod
    def _busy_s() -> float:
        times = psutil.cpu_times()
        gives_way_s = getattr(times, "nice", 0.0)
        return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - gives_way_s)

    def cores(
        self, server: ServerReport, clients: ClientsReport, proxy: ProxyReport | None
    ) -> dict[str, float]:
        """Return the mean cores used by server, clients, proxy if any, and all other programs.

        The time that the server spins, to publish in time, is counted as nobody's, and so is that
        of programs of a low priority, which give way to the lab.
        """
        wall_s = time.monotonic() - self.start_s
        own_s = time.process_time() - self.own_s
        proxy_s = proxy.cpu_s if proxy is not None else 0.0
        other_s = self._busy_s() - self.busy_s - own_s - server.cpu_s - clients.cpu_s - proxy_s
        return {
            "server_cores": round(max(0.0, server.cpu_s - server.spun_s) / wall_s, 4),
            "client_cores": round(clients.cpu_s / wall_s, 4),
            **({"proxy_cores": round(proxy_s / wall_s, 4)} if proxy_s else {}),
            "other_cores": round(max(0.0, other_s) / wall_s, 4),
        }
