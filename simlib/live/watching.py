"""Looking at a measurement while it goes on: samples of its figures, and a server killed by hand.

The clients' process, which has all figures, makes a sample so many times a second; whoever watches
sees it in the lab's own process, and may say that the server is to be killed, or that the run is to
end. Nothing else changes: without a watcher there are no samples.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from simlib.core.faults import FAULTS
from simlib.core.record import MetricsSnapshot
from simlib.errors import ScenarioError
from simlib.scenario import Scenario

SHORTEST_S = 0.02
"""Samples come no sooner one after the other, seconds by the clock: each keeps the clients busy."""


class Order(Enum):
    """What a watcher may say."""

    KILL = auto()
    STOP = auto()


class Watcher(Protocol):
    """Who looks at a measurement while it goes on.

    Attributes
    ----------
    every_s : float
        How long after one sample the next one comes, seconds by the clock.
    down_s : float or None
        How long the server is down if it is killed, seconds of the scenario. None: it cannot be.
    """

    every_s: float
    down_s: float | None

    def see(self, sample: MetricsSnapshot) -> Order | None:
        """Take a sample; say what is to be done, if anything."""


def check_watcher(scenario: Scenario, watcher: Watcher) -> None:
    """Refuse what cannot be watched: samples all the time, or a second server to be killed.

    Raises
    ------
    ScenarioError
    """
    if not watcher.every_s >= SHORTEST_S:
        raise ScenarioError("watch.every_s", watcher.every_s, f"must be >= {SHORTEST_S:g}")
    if watcher.down_s is None:
        return
    if not 0.0 < watcher.down_s < scenario.horizon_s:
        rule = f"must be > 0 and < horizon_s ({scenario.horizon_s:g})"
        raise ScenarioError("watch.down_s", watcher.down_s, rule)
    if scenario.server.nodes > 1:
        rule = "must be 1 where the server may be killed by hand: one process stands by, for one"
        raise ScenarioError("server.nodes", scenario.server.nodes, rule)
    if scenario.network.bad_gateway:
        rule = "must be false where the server may be killed by hand: nothing answers for it"
        raise ScenarioError("network.bad_gateway", True, rule)
    for number, fault in enumerate(scenario.faults):
        if FAULTS[fault.kind].stops_servers or FAULTS[fault.kind].adds_node:
            rule = "must not stop servers where the server may be killed by hand"
            raise ScenarioError(f"faults.{number}.kind", fault.kind, rule)


def with_kill(scenario: Scenario, killed_s: float, down_s: float) -> Scenario:
    """Return a scenario with the kill as the fault that it was, for predictions.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1})
    >>> with_kill(board, 12.5, 3.0).faults[0].kind
    'restart'
    """
    faults = [each.model_dump(exclude_none=True) for each in scenario.faults]
    kill = {"kind": "restart", "start_s": killed_s, "length_s": down_s}
    return scenario.replace({"faults": [*faults, kill]})
