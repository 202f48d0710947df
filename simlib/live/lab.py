"""Measure a scenario for real: one server process, one client process, loopback between them.

A third process, the proxy, comes between the two when a fault of the scenario's takes one.
"""

from __future__ import annotations

import os
import resource
import secrets
import time
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import psutil

from simlib.core.record import MetricsSnapshot, Record
from simlib.errors import ScenarioError
from simlib.live.ipc import Child, ControllerReply
from simlib.live.loopback import needs_proxy, on_loopback
from simlib.live.standby import Servers
from simlib.live.tokens import make_token
from simlib.run import Run, make_run, rows_to_keep
from simlib.scenario import RolloutController, Scenario, compile_workload

MAX_WALL_S = 3600.0
QUIET_CORES = 0.1
"""More processor time than this for other programs, in cores, makes latencies inconclusive."""
_START_S = 30.0
_LEAD_S = 0.3
_SPARE_DESCRIPTORS = 100


def measure(
    scenario: Scenario,
    *,
    seed: int = 1,
    replication: int = 0,
    time_scale: float = 1.0,
    keep: tuple[str, ...] = (),
    progress: bool = True,
    controller: RolloutController | None = None,
) -> Run:
    """Run a scenario on a real server with real clients, over loopback.

    Parameters
    ----------
    scenario : Scenario
        Its network and service times give way to those of this machine, see `on_loopback`; the
        result's ``scenario`` says so.
    seed, replication : int, optional
        As in `simulate`: publish times, sessions and habits are the same there and here.
    time_scale : float, optional
        How many times faster than the clock the scenario runs, in [1, 1000]. Times in the result
        are the scenario's: a real millisecond counts as `time_scale` of them.
    keep : tuple of str, optional
        Tables to keep beside the usual ones: ``"deliveries"``, ``"events"``.
    progress : bool, optional
        A progress bar on stderr for runs longer than two seconds.
    conductor : Conductor, optional
        Who conducts a rollout meanwhile: see `trials.roll_out`. Tabs learn the percentage from
        their own process, at the times at which they would; whom the server is to close, it closes.

    Returns
    -------
    Run
        With the same tables as a simulated one. ``provenance["cpu"]`` has the cores that server,
        clients and everybody else used, ``provenance["quiet"]`` whether the machine was left
        alone, ``provenance["publish_late_s"]`` how late changes were published, and
        ``provenance["server_peak_bytes"]`` the most memory that the server took. If there was a
        proxy, ``provenance["proxy"]`` has the bytes that it passed and how late its timers were.
        After Ctrl-C, the run so far with ``is_complete`` false.

    Raises
    ------
    ScenarioError
        The scenario asks for what the lab does not have, or for more than this machine bears.
    LiveError
        A process died; nothing of it is left.
    """
    asked_for = scenario
    scenario = on_loopback(scenario, time_scale=time_scale)
    workload = compile_workload(scenario, seed, replication)
    clients = len(workload.start_s)
    rows_to_keep(keep, len(workload.publish_s), clients)
    is_proxied = needs_proxy(scenario)
    rollout: dict[str, Any] | None = None
    if controller is not None:
        _check_rollout(scenario, controller)
        buckets, due_s = controller.buckets(workload), controller.due_s()
        rollout = {"flag": controller.flag, "places": buckets, "due_s": due_s}
    _check_bounds(scenario, clients, time_scale, 2 if is_proxied else 1)
    secret = secrets.token_hex(32)
    make_token(secret, 0, scenario.wire.token_bytes)
    settings: dict[str, Any] = {
        "scenario": scenario,
        "seed": seed,
        "replication": replication,
        "time_scale": float(time_scale),
        "secret": secret,
        "keep": keep,
        "through_proxy": is_proxied,
        "rollout": rollout,
    }
    with ExitStack() as stack:
        server_processor, driver_processor = _processors()
        server = stack.enter_context(Servers(server_processor, settings))
        driver = stack.enter_context(Child("simlib.live.clients", driver_processor))
        settings |= server.ports
        others: list[Child] = []
        proxy = None
        if is_proxied:
            proxy = stack.enter_context(Child("simlib.live.proxy", driver_processor))
            others.append(proxy)
            proxy.send(settings)
            settings |= proxy.receive(_START_S)
        driver.send(settings)
        driver.receive(_START_S)
        usage = _Usage()
        start_s = time.monotonic() + _LEAD_S
        server.start(start_s)
        if proxy is not None:
            proxy.send(start_s)
        driver.send(start_s)
        lab = _LabSession(driver, server, others, controller, float(time_scale))
        done = lab.await_end(scenario.horizon_s, progress)
        passed: dict[str, Any] = {"cpu_s": 0.0}
        if proxy is not None:
            proxy.send("stop")
            passed = proxy.receive(_START_S)
        served = server.stop()
        cpu = usage.cores(served["cpu_s"], served["spun_s"], done["cpu_s"], passed.pop("cpu_s"))
    record: Record = done["record"]
    for index, busy_s in served["busy_s"].items():
        if index < len(record.busy_s):
            record.busy_s[index] = busy_s * time_scale
    if len(record.buffered):
        for number, n_bytes in served["buffered_bytes"].items():
            record.buffered[number] = n_bytes
    end_of_run_s = done["end_of_run_s"]
    late_s = np.array(served["late_s"] or [0.0])
    return make_run(
        scenario,
        record,
        start_s=workload.start_s,
        end_s=workload.end_s,
        rtt_s=workload.rtt_s,
        end_of_run_s=end_of_run_s,
        provenance={
            "engine": "live",
            "seed": seed,
            "replication": replication,
            "complete": end_of_run_s == scenario.horizon_s,
            "end_of_run_s": end_of_run_s,
            "interrupted": end_of_run_s < scenario.horizon_s,
            "time_scale": float(time_scale),
            "asked_for_hash": asked_for.hash,
            "cpu": cpu,
            "server_peak_bytes": served["peak_bytes"],
            "quiet": cpu["other_cores"] < QUIET_CORES,
            "publish_late_s": {
                "median": float(np.median(late_s)),
                "max": float(late_s.max()),
            },
            **({"proxy": passed} if is_proxied else {}),
        },
    )


def _processors() -> tuple[int | None, int | None]:
    """A processor each for server and clients, where there are two.

    Left to itself, the system wakes a client on the processor that is still busy with the
    broadcast, and the clients see it only when it is over.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    ours = sorted(os.sched_getaffinity(0))
    return (ours[0], ours[1]) if len(ours) > 1 else (None, None)


def _check_bounds(scenario: Scenario, clients: int, time_scale: float, each: int) -> None:
    """Refuse what takes too long, or a process more files than it may open: `each` per client."""
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
    """Refuse what a server that has just started cannot know."""
    restarts = [n for n, fault in enumerate(scenario.faults) if fault.kind == "restart"]
    if controller.flag.closes and restarts:
        rule = "must not be restart: the lab's next server would not know whom to keep out"
        raise ScenarioError(f"faults.{restarts[0]}.kind", "restart", rule)


class _LabSession(NamedTuple):
    """The processes of a run that goes on, and who conducts its rollout, if there is one."""

    driver: Child
    server: Servers
    others: list[Child]
    controller: RolloutController | None
    time_scale: float

    def await_end(self, horizon_s: float, progress: bool) -> dict[str, Any]:
        """Wait for the driver's result; on Ctrl-C, ask for what there is."""
        from tqdm import tqdm

        stopping = False
        with tqdm(
            total=round(horizon_s, 3), desc="measure", unit="s", delay=2, disable=not progress
        ) as bar:
            while True:
                try:
                    message: dict[str, Any] = self.driver.receive(_START_S)
                    self.server.check()
                    for other in self.others:
                        other.check()
                    if "record" in message:
                        bar.update(bar.total - bar.n)
                        return message
                    if "t" in message:
                        bar.update(min(message["t"], bar.total) - bar.n)
                    elif "closes" in message:
                        self.server.bar(message["closes"])
                    else:
                        self.driver.send(self.decide(message["glance"]))
                except KeyboardInterrupt:
                    if stopping:
                        raise
                    stopping = True
                    self.driver.send("stop")

    def decide(self, snapshot: MetricsSnapshot) -> ControllerReply:
        """Let the conductor look at the run; what the server has used, its process alone knows."""
        assert self.controller is not None
        snapshot = snapshot._replace(busy_s=self.server.busy_s() * self.time_scale)
        percent = self.controller.observe(snapshot)
        while percent is None and self.controller.due_s() <= snapshot.t:
            percent = self.controller.observe(snapshot)
        return ControllerReply(percent, self.controller.due_s())


class _Usage:
    """Who used the processors between the beginning and the end of a run."""

    def __init__(self) -> None:
        self.start_s = time.monotonic()
        self.busy_s = self._busy_s()
        self.own_s = time.process_time()

    @staticmethod
    def _busy_s() -> float:
        times = psutil.cpu_times()
        return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))

    def cores(
        self, server_s: float, spun_s: float, clients_s: float, proxy_s: float
    ) -> dict[str, float]:
        """Mean cores used by the server, the clients, the proxy if any, and everybody else.

        The time that the server spins to publish in time is neither its work nor the others'.
        """
        wall_s = time.monotonic() - self.start_s
        own_s = time.process_time() - self.own_s
        other_s = self._busy_s() - self.busy_s - own_s - server_s - clients_s - proxy_s
        return {
            "server_cores": round(max(0.0, server_s - spun_s) / wall_s, 4),
            "client_cores": round(clients_s / wall_s, 4),
            **({"proxy_cores": round(proxy_s / wall_s, 4)} if proxy_s else {}),
            "other_cores": round(max(0.0, other_s) / wall_s, 4),
        }
