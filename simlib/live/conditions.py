"""What goes wrong on whose path, by the clock: the scenario's faults as the proxy meets them."""

from __future__ import annotations

import math
import time

from simlib.core.faults import is_affected
from simlib.core.path import Window, added_s, rate_at
from simlib.live.loopback import PROXIED
from simlib.scenario import Scenario, Workload
from simlib.scenario.workload import windows


class Conditions:
    """What goes wrong on whose path, and when.

    Parameters
    ----------
    scenario : Scenario
    workload : Workload
    time_scale : float
        How many times faster than the clock the scenario runs.

    Attributes
    ----------
    start_s : float
        When the run starts, by the clock; never, until it is set.

    Examples
    --------
    >>> from simlib.scenario import compile_workload
    >>> fault = {"kind": "latency", "start_s": 1.0, "length_s": 2.0, "added_s": 0.5}
    >>> scenario = Scenario(updates={"rate_per_s": 1.0}, faults=[fault])
    >>> conditions = Conditions(scenario, compile_workload(scenario, 1, 0), time_scale=5.0)
    >>> conditions.one_way_s(7)
    0.0
    >>> conditions.start_s = time.monotonic() - 2.0 / 5.0  # two seconds into the run
    >>> conditions.one_way_s(7)
    0.05
    """

    def __init__(self, scenario: Scenario, workload: Workload, time_scale: float) -> None:
        self.address = (workload.rules.seed, workload.rules.replication)
        self.time_scale = time_scale
        self.start_s = math.inf
        self.windows = {kind: windows(scenario, [kind]) for kind in PROXIED}
        self._of: dict[tuple[str, int], list[Window]] = {}

    def now_s(self) -> float:
        """Return the scenario's time; before the run, minus infinity."""
        return (time.monotonic() - self.start_s) * self.time_scale

    def to_clock(self, t: float) -> float:
        """Return the clock's time for a time of the scenario."""
        return self.start_s + t / self.time_scale

    def windows_of(self, kind: str, client: int) -> list[Window]:
        """Return the faults of a kind that concern a client, as faults that concern everybody.

        So it is drawn once, and not for each piece that passes.
        """
        found = self._of.get((kind, client))
        if found is None:
            found = self._of[kind, client] = [
                window._replace(share=1.0)
                for window in self.windows[kind]
                if is_affected(*self.address, client, window.fault, 0.0, window.share)
            ]
        return found

    def is_under(self, kind: str, client: int) -> bool:
        """Say whether a fault of a kind concerns a client now."""
        now = self.now_s()
        return any(window.start_s <= now < window.end_s for window in self.windows_of(kind, client))

    def one_way_s(self, client: int) -> float:
        """Return what is added to one direction of the client's path, seconds by the clock."""
        delays = self.windows_of("latency", client)
        return added_s(delays, *self.address, client, self.now_s()) / self.time_scale

    def bytes_per_s(self, client: int) -> float:
        """Return what the client's path carries down, per second by the clock."""
        limits = self.windows_of("bandwidth", client)
        return rate_at(limits, *self.address, client, self.now_s())[0] * self.time_scale
