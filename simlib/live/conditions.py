"""How each client's path is now: its own round-trip time, and the faults that affect it."""

from __future__ import annotations

import math

import numpy as np

from simlib.core.faults import is_affected
from simlib.core.path import Window, added_s, rate_at
from simlib.core.stream_proxy import are_held
from simlib.live.clock import ScenarioClock
from simlib.live.loopback import PROXIED, PROXY_RTT_S, RTT_S
from simlib.scenario import Scenario, Workload, fault_windows


class Conditions:
    """The state of each client's path: which faults affect it, and how much.

    Parameters
    ----------
    scenario : Scenario
    workload : Workload
    time_scale : float
        How many times faster than the clock the scenario runs.

    Attributes
    ----------
    rtt_s : list of float
        The clients' own round-trip times beyond what loopback takes, seconds of the scenario's
        time; empty where none were measured.
    holds_streams : list of bool
        Whether each client is behind a proxy that passes on nothing of its streams.
    clock : ScenarioClock
        Its ``start_s`` is infinite, so that no fault acts, until the start of the run is known.

    Examples
    --------
    >>> import time
    >>> from simlib.scenario import compile_workload
    >>> fault = {"kind": "latency", "start_s": 1.0, "length_s": 2.0, "added_s": 0.5}
    >>> scenario = Scenario(updates={"rate_per_s": 1.0}, faults=[fault])
    >>> conditions = Conditions(scenario, compile_workload(scenario, 1, 0), time_scale=5.0)
    >>> conditions.one_way_s(7)
    0.0
    >>> conditions.clock.start_s = time.monotonic() - 2.0 / 5.0  # two seconds into the run
    >>> conditions.one_way_s(7)
    0.05
    """

    def __init__(self, scenario: Scenario, workload: Workload, time_scale: float) -> None:
        self.seed, self.replication = workload.rules.seed, workload.rules.replication
        self.clock = ScenarioClock(time_scale, start_s=math.inf)
        self.windows = {kind: fault_windows(scenario, [kind]) for kind in PROXIED}
        self.unanswered = {
            number
            for number, fault in scenario.faults_by_number().items()
            if fault.answered is False
        }
        address, clients = (self.seed, self.replication), len(workload.start_s)
        self.holds_streams: list[bool] = are_held(workload.stream_proxy, *address, clients).tolist()
        self.rtt_s: list[float] = []
        if scenario.network.rtt_quantiles is not None:
            by_itself_s = (RTT_S + PROXY_RTT_S) * time_scale
            self.rtt_s = np.maximum(workload.rtt_s - by_itself_s, 0.0).tolist()
        self._by_client: dict[tuple[str, int], list[Window]] = {}

    def windows_of(self, kind: str, client: int) -> list[Window]:
        """Return the faults of a kind that affect a client, as faults that affect everybody.

        The draw that decides it is made once for each client, not for each piece that passes.
        """
        found = self._by_client.get((kind, client))
        if found is None:
            found = self._by_client[kind, client] = [
                window._replace(share=1.0)
                for window in self.windows[kind]
                if is_affected(self.seed, self.replication, client, window.fault, 0.0, window.share)
            ]
        return found

    def windows_now(self, kind: str, client: int) -> list[Window]:
        """Return the faults of a kind that affect a client now."""
        now = self.clock.now_s()
        windows = self.windows_of(kind, client)
        return [window for window in windows if window.start_s <= now < window.end_s]

    def is_under(self, kind: str, client: int) -> bool:
        """Say whether a fault of a kind affects a client now."""
        return bool(self.windows_now(kind, client))

    def swallows_upgrades(self, client: int) -> bool:
        """Say whether a proxy keeps the client's upgrades and never answers them."""
        windows = self.windows_now("block_upgrades", client)
        return any(window.fault in self.unanswered for window in windows)

    def one_way_s(self, client: int) -> float:
        """Return what the proxy adds to one way of a client's path, seconds by the clock."""
        delays, now = self.windows_of("latency", client), self.clock.now_s()
        t_s = added_s(delays, self.seed, self.replication, client, now)
        if self.rtt_s:
            t_s += self.rtt_s[client] / 2.0
        return t_s / self.clock.time_scale

    def bytes_per_s(self, client: int) -> float:
        """Return the rate of the client's path downwards, bytes per second by the clock."""
        limits, now = self.windows_of("bandwidth", client), self.clock.now_s()
        rate = rate_at(limits, self.seed, self.replication, client, now)[0]
        return rate * self.clock.time_scale
