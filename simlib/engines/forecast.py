"""What a run will take, said before it starts: events, time, memory.

How often what happens follows from the scenario (`scenario.expected`), what each of it takes the
engine was measured once (`COSTS_S`), and how fast this machine is now is measured in the same
sitting, in a fiftieth of a second. ``tests/benchmarks/estimates.py`` measures both again, and holds
estimates against runs.
"""

from __future__ import annotations

import math
import time
from functools import partial
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from simlib.core.protocol import TOLD_TRANSPORTS, Transport
from simlib.engines.choice import check_engine, chosen_engine, expected_events
from simlib.engines.compiled.variants import goes_to_general_loop
from simlib.errors import ScenarioError
from simlib.scenario import Scenario, expected
from simlib.scenario.suggestions import scenario_rule
from simlib.scenario.workload import common_fields

COSTS_S: dict[str, dict[str, float]] = {
    "simpy": {
        "client": 56.5e-6,
        "asks": 73.6e-6,
        "attempts": 127e-6,
        "fetches": 100e-6,
        "habits": 130e-6,
        "heartbeats": 55.6e-6,
        "leaves": 184e-6,
        "polls": 81.4e-6,
        "pushes": 36.2e-6,
        "session": 85.2e-6,
    },
    "general": {
        "client": 0.446e-6,
        "asks": 0.377e-6,
        "attempts": 1.35e-6,
        "fetches": 0.508e-6,
        "habits": 0.604e-6,
        "heartbeats": 0.19e-6,
        "leaves": 0.0,
        "polls": 0.09e-6,
        "pushes": 0.0156e-6,
        "session": 2.16e-6,
    },
    "polls": {
        "client": 0.79e-6,
        "habits": 0.52e-6,
        "leaves": 1.59e-6,
        "polls": 0.0904e-6,
        "session": 0.364e-6,
    },
    "pushes": {
        "client": 0.2e-6,
        "attempts": 0.273e-6,
        "habits": 0.501e-6,
        "heartbeats": 0.19e-6,
        "leaves": 3.51e-6,
        "pushes": 0.00366e-6,
        "session": 1.05e-6,
    },
}
"""Seconds that each thing takes SimPy, and each of the compiled engine's loops (`variants`), where
`PROBE_S` was measured: what a client takes before the first event and after the last, the beginning
of its session with its connection, the end of one that ends before the run, an attempt in vain, and
those of `expected.Rates`. No sample has connections that differ: in the compiled engine their
heartbeats are those of ``push_spread`` in ``tests/benchmarks/pairs.py``, and their pushes older."""
ALIKE_S = {"heartbeats": 0.07e-6, "pushes": 0.0005e-6}
"""The same for the compiled engine where all connections do the same: one round-trip time for all,
one worker, constant service times."""
PROBE_S = {"simpy": 1.18e-3, "compiled": 0.932e-3}
"""What the rounds of `_slowness` took there, seconds."""
_PROBE_FOR_S = 0.02
_PROBE_FROM_S = 0.5
"""How fast the machine is is not asked for what is over sooner, seconds."""
_FAULT = 3.0
"""How many sessions' beginnings a fault takes of each client."""

BYTES_PER_CLIENT = {
    ("simpy", False): 3000,
    ("simpy", True): 5000,
    ("compiled", False): 200,
    ("compiled", True): 450,
}
"""Memory per client at the peak of a run, by engine and by whether clients keep a socket open, or
a request that is held, as measured by ``tests/benchmarks``."""

_BYTES_OF_GENERAL_LOOP = 500
"""Further memory per client in the general loop, where all clients may be cut off at once, or
change their transport."""
_BYTES_PER_CHANGE = 64
_BYTES_PER_BIN = {False: 1000, True: 2700}
"""Memory per time bin, without a rollout and in one."""
_BYTES_PER_BIN_AND_NODE = 50


class Estimate(NamedTuple):
    """What a run will take on this machine.

    Attributes
    ----------
    engine : str
        Which engine runs it.
    events : float
        About how many events it handles.
    seconds : float
        How long it takes, without compiling the engine, which is done once.
    bytes : float
        Memory at its peak.
    """

    engine: str
    events: float
    seconds: float
    bytes: float


def estimate(scenario: Scenario, *, engine: str = "auto") -> Estimate:
    """Return what it would take to simulate a scenario, without doing so.

    Parameters
    ----------
    scenario : Scenario
    engine : {"auto", "simpy", "compiled"}, optional
        As in `simulate`.

    Returns
    -------
    Estimate
        Its ``seconds`` are right within a factor of two or so on a machine that has nothing else to
        do, where all goes well: refusals, full queues, fallbacks and faults may take longer.

    Raises
    ------
    ScenarioError
        The argument is no scenario, or there is no such engine.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=1_000_000, horizon_s=3600)
    >>> found = estimate(board)
    >>> found.engine, found.events, found.seconds > estimate(board.replace(clients=1000)).seconds
    ('compiled', 490000000.0, True)
    """
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    check_engine(engine)
    chosen = chosen_engine(engine, [scenario])
    forecast = Forecast(scenario, chosen)
    return Estimate(
        chosen,
        expected_events(scenario),
        forecast.seconds + forecast.around_s,
        sum(expected_bytes(scenario, chosen, has_flag=False)),
    )


class Forecast:
    """How the time that a run takes is spread over what it simulates.

    Parameters
    ----------
    scenario : Scenario
    engine : {"simpy", "compiled"}

    Attributes
    ----------
    loop : str
        A key of `COSTS_S`.
    seconds : float
        How long the run itself takes on this machine.
    around_s : float
        What is done before its first event and after its last one, seconds.
    """

    def __init__(self, scenario: Scenario, engine: str) -> None:
        self._scenario = scenario
        loop = "simpy"
        clients = math.ceil(expected.sessions(scenario, scenario.horizon_s))
        if engine == "compiled":
            settings = partial(common_fields, scenario, 0, 0)
            is_general = goes_to_general_loop(clients, settings)
            polls = scenario.transport == "polling"
            loop = "general" if is_general else "polls" if polls else "pushes"
        self.loop = loop
        self._costs_s = COSTS_S[loop] | (ALIKE_S if loop != "simpy" and _is_alike(scenario) else {})
        transport = Transport[scenario.transport.upper()]
        per_s = expected.changes(scenario) / scenario.horizon_s
        rates = expected.rates_of(scenario, transport, per_s)._asdict()
        self._rates = {name: rate for name, rate in rates.items() if rate > 0.0}
        self._crowd = expected.crowd(scenario)
        self._whole_s = self._until(scenario.horizon_s)
        slowness = _slowness(engine) if self._whole_s > _PROBE_FROM_S else 1.0
        self.seconds = slowness * self._whole_s
        self.around_s = slowness * clients * COSTS_S[loop]["client"]

    def share(self, t: float) -> float:
        """Return the part of the run's time that is over at a simulated time, seconds."""
        return self._until(t) / self._whole_s

    def counts(self, t: float) -> dict[str, float]:
        """Return how often each thing of `COSTS_S` is done until a simulated time, seconds."""
        scenario = self._scenario
        faults = sum(fault.start_s < t for fault in scenario.faults_by_number().values())
        counts = {"session": expected.sessions(scenario, t) + faults * _FAULT * scenario.clients}
        if scenario.sessions is not None:
            counts["leaves"] = expected.sessions(scenario, t)
        client_s = expected.client_seconds(scenario, t)
        counts |= {name: rate * client_s for name, rate in self._rates.items()}
        if self._crowd is not None:
            # Fewer and fewer are outside, so the attempts are dense at first.
            left = 1.0 - min(1.0, t / self._crowd.to_s)
            counts["attempts"] = self._crowd.attempts * (1.0 - left**2)
        return counts

    def _until(self, t: float) -> float:
        """Return what is done until a simulated time, in seconds where costs were measured."""
        return sum(number * self._costs_s[name] for name, number in self.counts(t).items())


def _is_alike(scenario: Scenario) -> bool:
    """Say whether all connections of a run do the same, but at other times."""
    network, server = scenario.network, scenario.server
    has_one_path = network.rtt_spread == 0.0 and network.rtt_quantiles is None
    return has_one_path and server.nodes * server.workers == 1 and server.service == "constant"


def expected_bytes(
    scenario: Scenario, engine: str, *, has_flag: bool
) -> tuple[float, float, float]:
    """Return the memory that a run takes at its peak, for its clients, time bins and changes.

    Parameters
    ----------
    scenario : Scenario
    engine : {"simpy", "compiled"}
    has_flag : bool
        Whether it is of a rollout.

    Returns
    -------
    tuple of float
        Bytes.
    """
    clients = scenario.clients
    if scenario.sessions is not None:
        clients += math.ceil(scenario.sessions.expected(scenario.horizon_s))
    of_clients = clients * BYTES_PER_CLIENT[engine, scenario.transport in TOLD_TRANSPORTS]
    settings = partial(common_fields, scenario, 0, 0)
    if engine == "compiled" and (has_flag or goes_to_general_loop(clients, settings)):
        of_clients += clients * _BYTES_OF_GENERAL_LOOP
    of_bin = _BYTES_PER_BIN[has_flag] + scenario.server.nodes * _BYTES_PER_BIN_AND_NODE
    of_bins = scenario.horizon_s / scenario.bin_s * of_bin
    changes = scenario.updates.expected(scenario.horizon_s)
    return of_clients, of_bins, changes * _BYTES_PER_CHANGE


def _slowness(engine: str) -> float:
    """Return how many times as long something takes now as where `COSTS_S` were measured."""
    probe = _python if engine == "simpy" else _machine
    probe()  # what the first one loads is no measure of the machine
    rounds, began_s = 0, time.thread_time()
    while (took_s := time.thread_time() - began_s) < _PROBE_FOR_S:
        probe()
        rounds += 1
    return took_s / rounds / PROBE_S[engine]


def _python() -> None:
    """Do what SimPy does most."""
    heap: list[tuple[float, int]] = []
    for number in range(2000):
        heappush(heap, (number * 0.618 % 1.0, number))
    while heap:
        heappop(heap)


def _machine() -> None:
    """Do arithmetic that no processor has short-cuts for, in memory that is at hand.

    A larger array would be taken from the system anew, and how long that takes is another matter.
    """
    bits = np.random.Philox(key=1)
    for _ in range(25):
        bits.random_raw(8_000)
