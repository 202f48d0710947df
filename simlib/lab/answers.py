"""From what is set to what is shown, without a widget: the planner's logic.

`Answers.of` simulates what a glance asks for, on two processors where there are, and yields an
answer as soon as there is something to see: first the runs in calm, then all, with the verdict.
Where the candidate's run takes so long that a figure would seem to stand still, today's comes alone
before these.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from simlib.engines.choice import expected_events
from simlib.engines.warm import is_under_way
from simlib.errors import ScenarioError
from simlib.lab.panels import Drawn
from simlib.processes import end_event, ending_with
from simlib.run import Run
from simlib.scenario import Scenario
from simlib.verdict.candidates import TODAY
from simlib.verdict.decision import Decision
from simlib.verdict.glance import Glance, glance
from simlib.verdict.measures import ConditionName
from simlib.verdict.needs import Needs
from simlib.verdict.runs import Trial, key_of, run_of

MOST_EVENTS = 1e8
"""Events of one move: the compiled engine takes some ten seconds for them."""
_KEPT_EVENTS = 3e7
"""Runs of so many events together are kept, at least those of one move."""
_SOON_S = 0.2
"""After so long what there is of the figure is shown, though the candidate's run is not over."""


class Answer(NamedTuple):
    """What is shown.

    Attributes
    ----------
    scenario : Scenario
    drawn : list of Drawn
        Today's, and the candidate's if that is another, and was simulated.
    decision : Decision or None
        None as long as the runs with a restart are missing.
    note : str
        Why the candidate is not there, if it is not.
    is_late : bool, optional
        Whether the candidate's is still being simulated.
    """

    scenario: Scenario
    drawn: list[Drawn]
    decision: Decision | None
    note: str
    is_late: bool = False


class Answers:
    """Simulates what is asked for; what was simulated for the moves before is kept.

    Parameters
    ----------
    needs : Needs
    seed : int
    engine : str, optional
        Absent: the compiled one, as soon as it is compiled.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=10, horizon_s=120)
    >>> answers = Answers(Needs(latency_p95_s=2.0), 1, "simpy")
    >>> *_, first, last = answers.of(board, "push")
    >>> first.decision is None, last.decision.kind
    (True, 'migrate')
    """

    def __init__(self, needs: Needs, seed: int, engine: str = "") -> None:
        self.needs, self.seed = needs, seed
        self._engine = engine
        self._kept: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()
        self._workers = min(2, os.cpu_count() or 1)

    def of(self, scenario: Scenario, candidate: str) -> Iterator[Answer]:
        """Yield what there is to see; nothing more where the work was given up.

        Raises
        ------
        ScenarioError
            The settings do not go together, or take too long to simulate.
        """
        engine = self._engine or ("auto" if is_under_way() else "compiled")
        asked = glance(scenario, self.needs, candidate, seed=self.seed, engine=engine)
        check_size(asked)
        soon_s = time.monotonic() + _SOON_S
        runs: dict[tuple[str, ConditionName], Run] = {}
        with ThreadPoolExecutor(self._workers) as pool:
            given_up = end_event() or threading.Event()
            found: list[Future[Run | None]] = [
                pool.submit(self._run_of, trial, given_up) for trial in asked.asks.values()
            ]
            for key, future in zip(asked.asks, found, strict=True):
                if len(runs) == 1 < len(asked.names):
                    wait([future], max(0.0, soon_s - time.monotonic()))
                    if not future.done():
                        yield Answer(scenario, _drawn(asked, runs), None, asked.note, True)
                run = future.result()
                if run is None or given_up.is_set():
                    return
                runs[key] = run
                if len(runs) == len(asked.names) < len(asked.asks):
                    yield Answer(scenario, _drawn(asked, runs), None, asked.note)
        self._forget()
        yield Answer(scenario, _drawn(asked, runs), asked.decision(runs), asked.note)

    def _run_of(self, trial: Trial, given_up: threading.Event) -> Run | None:
        key = key_of(trial)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        if given_up.is_set():
            return None
        with ending_with(given_up):
            run = run_of(trial)
        if run is not None:
            with self._lock:
                self._kept[key] = run
        return run

    def _forget(self) -> None:
        """Forget the runs that were not met for the longest time, where all are too many."""
        with self._lock:
            events = sum(expected_events(run.scenario) for run in self._kept.values())
            while events > _KEPT_EVENTS and len(self._kept) > _OF_A_MOVE:
                _, run = self._kept.popitem(last=False)
                events -= expected_events(run.scenario)


_OF_A_MOVE = 4


def check_size(asked: Glance) -> None:
    """Refuse what takes so long to simulate that nobody would wait for it at a slider.

    Raises
    ------
    ScenarioError
    """
    events = sum(expected_events(trial.condition.scenario) for trial in asked.asks.values())
    if events > MOST_EVENTS:
        scenario = asked.point.asked.scenario
        rule = f"must leave at most {MOST_EVENTS:,.0f} events to simulate for a move, here about "
        rule += f"{events:,.0f}: see sl.decide, or fewer clients, changes or a shorter horizon_s"
        raise ScenarioError("clients", scenario.clients, rule)


def _drawn(asked: Glance, runs: dict[tuple[str, ConditionName], Run]) -> list[Drawn]:
    found = []
    for name in asked.names:
        if (name, "calm") not in runs:
            continue
        restart_s = asked.asks[name, "rough"].condition.restart_s
        assert restart_s is not None
        label = "today" if name == TODAY else asked.point.cases[name].label
        found.append(Drawn(label, runs[name, "calm"], runs.get((name, "rough")), restart_s))
    return found
