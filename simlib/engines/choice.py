"""Which engine runs what: SimPy starts at once, the compiled engine is fast once it has started.

Both give the same tables, so only time is at stake. SimPy handles some 100,000 events a second.
The compiled engine handles millions, but needs 0.6 s to load its code, and up to a minute to
compile it when it is first used on a machine. Once it has run in a process, only setting up a run
is left. Where it has never been compiled, that is done beside the first runs, which SimPy has as
long as they are not too large for it: see `warm`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simlib.core.protocol import Transport
from simlib.engines.compiled import loaded
from simlib.errors import ScenarioError
from simlib.scenario import Scenario
from simlib.scenario.expected import changes, rates_of

ENGINES = ("simpy", "compiled")
CHOICES = ("auto", *ENGINES)
"""What callers may ask for."""

WORTH_LOADING = 50_000
"""From so many events on the compiled engine is chosen: SimPy takes about half a second
for them, which is what the compiled engine takes to load."""

WORTH_SETTING_UP = 1_000
"""The same where it is loaded: it takes some milliseconds to set up a run."""

WORTH_WAITING = 1_000_000
"""From so many events on the compiled engine is chosen though it has to be compiled first: SimPy
takes ten seconds for them, which is less than a minute, but grows with every further run."""

_SESSION, _FAULT = 10, 20
_EVENTS = {"polls": 4, "asks": 5, "pushes": 1, "fetches": 2, "heartbeats": 4, "habits": 1}
"""Events of a client, as counted in both engines with the board of data/scenarios: a session with
its connection, a fault, and those of `Rates`: a poll with its way there and back, a request that is
held, a ping with its pong."""


def check_engine(engine: Any, reason: str = "") -> None:
    """Raise `ScenarioError` unless an engine is one of `CHOICES`."""
    if not isinstance(engine, str) or engine not in CHOICES:
        rule = f"must be one of {', '.join(CHOICES)}" + (f": {reason}" if reason else "")
        raise ScenarioError("engine", engine, rule)


def chosen_engine(engine: str, scenarios: Iterable[Scenario]) -> str:
    """Return the engine for all runs of one call.

    Where the compiled engine was never compiled, that may begin beside the runs.

    Parameters
    ----------
    engine : str
        One of `CHOICES`; anything but ``"auto"`` is returned as it is.
    scenarios : iterable of Scenario
        One for each run.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=10, horizon_s=600)
    >>> chosen_engine("auto", [board]), chosen_engine("auto", [board] * 10_000)
    ('simpy', 'compiled')
    """
    if engine != "auto":
        return engine
    enough = WORTH_SETTING_UP if "compiled" in loaded else WORTH_WAITING
    events = 0.0
    for scenario in scenarios:
        events += expected_events(scenario)
        if events >= enough:
            return "compiled"
    if "compiled" in loaded or events < WORTH_SETTING_UP:
        return "simpy"
    from simlib.engines import warm

    if events < WORTH_LOADING:
        warm.begin_early()
        return "simpy"
    return "simpy" if warm.is_under_way() else "compiled"


def expected_events(scenario: Scenario) -> float:
    """Return about how many events a run has, if all goes well.

    Parameters
    ----------
    scenario : Scenario

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=200, horizon_s=600)
    >>> expected_events(board), expected_events(board.replace(transport="websocket"))
    (18000.0, 30000.0)
    """
    clients, stay_s = float(scenario.clients), scenario.horizon_s
    if scenario.sessions is not None:
        clients += scenario.sessions.expected(scenario.horizon_s)
        stay_s = min(stay_s, scenario.sessions.length_s)
    transport = Transport[scenario.transport.upper()]
    rates = rates_of(scenario, transport, changes(scenario) / scenario.horizon_s)
    each = 1.0 * _SESSION + _FAULT * len(scenario.faults_by_number())
    each += stay_s * sum(rate * _EVENTS[name] for name, rate in rates._asdict().items())
    return clients * each
