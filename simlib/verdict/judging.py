"""`decide`: every candidate on the same draws, in calm, in trouble, and while it is rolled out.

What would take long and cannot change what is taken is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from simlib import theory
from simlib.core.faults import FAULTS
from simlib.engines.choice import expected_events
from simlib.errors import ScenarioError, shown
from simlib.experiment import (
    Execution,
    Key,
    check_count,
    check_execution,
    collect,
    execution_of,
    keeping_in,
    repeated,
    whole,
)
from simlib.run import Rows
from simlib.scenario import Scenario
from simlib.scenario.suggestions import hint, scenario_rule
from simlib.verdict.candidates import TODAY, Case, cases_of
from simlib.verdict.decision import Asked, Decision
from simlib.verdict.facts import NO_ROLLOUT, values_of
from simlib.verdict.measures import ConditionName
from simlib.verdict.needs import Needs, needs_of
from simlib.verdict.runs import (
    Condition,
    Trial,
    behind_proxies,
    conditions,
    judge,
    key_of,
    rolled_out,
)

BUDGET_EVENTS = 1e9
"""Events of all runs of a decision that the compiled engine handles in about two minutes on two
processors; what is judged only as far as it matters is judged whole up to here."""
_OPTIONS = ("engine", "on", "workers", "store", "progress")
_USUAL_REPLICATIONS, _FEWEST_REPLICATIONS = 5, 3


def decide(
    scenario: Scenario,
    needs: Needs | Mapping[str, Any],
    *,
    candidates: Any = None,
    replications: int | None = None,
    seed: int = 1,
    confidence: float = 0.95,
    **options: Any,
) -> Decision:
    """Judge what a team may do by what its board needs, and say what should be done.

    Every candidate is simulated on the same changes, sessions and activity: in a calm run, and in
    one with a restart, or a deploy node by node (`Trouble.surge`); and if the needs ask for it, in
    one in which it is rolled out and back (`Needs.release`). The team's share of bad proxies is
    there in all of them, so that those who poll behind one, or see nothing, count in every measure.

    Parameters
    ----------
    scenario : Scenario
        The board as it is today. Changes within some poll intervals of the end are not counted,
        since polls could not bring them; the run gets as much longer.
    needs : Needs, or mapping of its fields
        Limits, and perhaps prices and what goes wrong.
    candidates : mapping of str to mapping, or sequence of str, optional
        Names and changes of the caller's own, as `Scenario.replace` takes them, and perhaps
        ``percent``: of the users who get it, while all others poll; or names of
        `verdict.CANDIDATES`. Absent: all of those that differ. The scenario as it is is always one.
    replications : int, optional
        Of each candidate, >= 3. Absent: 5, or as few as 3 where 5 would take minutes.
    seed : int, optional
        One for all.
    confidence : float, optional
        Of the intervals, in (0, 1).
    **options
        ``engine``, ``on``, ``workers``, ``store`` and ``progress``, as in `sweep`.

    Returns
    -------
    Decision

    Raises
    ------
    ScenarioError
        Needs, a candidate or an argument is not valid, or the scenario has a fault or a proxy that
        trouble has of its own; before anything is run.
    Interrupted
        After Ctrl-C or SIGTERM; a store has kept the finished runs.

    Notes
    -----
    A need is met if the whole interval of the mean (Student t) keeps its limit; without a value it
    is not met. Those that meet every need are ranked by `Needs.ranked_by`. If today's is among
    them, only what beats it by more than noise, pair by pair, and `Needs.worth_frac` may be taken.
    Of what the least of these does not beat by more than noise, the first in the order of
    `verdict.CANDIDATES`, or of the caller's, is taken; of what is the same to the last digit, such
    as the price of one server, what takes the fewest bytes.

    Where all runs together would have more than `BUDGET_EVENTS` events, there are fewer
    replications, so that intervals are wider; and what fails a need in calm, or takes clearly more
    than one that meets every need, is not run in trouble: it is not taken, whatever came of that.
    Its status is ``not run`` there. Nothing is scaled down: every run has all clients, and the time
    and the changes of the scenario. If the needs ask for rollouts, only what may still be taken is
    rolled out, on any board.

    References
    ----------
    Law, A. M. (2015). Simulation Modeling and Analysis, 5th ed. McGraw-Hill, section 11.2. (Common
    random numbers.)

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=10, horizon_s=120)
    >>> decision = decide(
    ...     board, {"latency_p95_s": 2}, candidates=["push", "poll_longer"], engine="simpy"
    ... )
    >>> decision.kind, decision.best
    ('migrate', 'push')
    """
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    needs = needs_of(needs)
    if replications is not None:
        check_count("replications", replications, _FEWEST_REPLICATIONS)
    theory.mean_interval([0.0, 1.0], confidence)  # refuses what is no confidence
    for name in options:
        if name not in _OPTIONS:
            rule = f"must be among {', '.join(_OPTIONS)}{hint(name, _OPTIONS)}"
            raise ScenarioError("options", name, rule)
    check_execution(options.get("on"), options.get("engine", "auto"), options.get("workers"))
    check_faults(scenario, "")
    cases, left_out = cases_of(scenario, needs, candidates)
    for case in cases.values():
        check_faults(case.scenario, f"candidates[{shown(case.name)}].")
    asked = Asked(scenario, needs, replications or 1, seed, confidence, options)
    point = Point(asked, cases, left_out)
    if replications is None:
        each = sum(ask.events for ask in _asks(point))
        times = max(_FEWEST_REPLICATIONS, min(_USUAL_REPLICATIONS, int(BUDGET_EVENTS // each)))
        point = point._replace(asked=asked._replace(replications=times))
    return judged([point], "decide")[0]


class Point(NamedTuple):
    """What is judged together.

    Attributes
    ----------
    asked : Asked
    cases : dict of str to Case
        The candidates.
    left_out : dict of str to str
    beside : tuple of Scenario, optional
        More that decide how long all runs take, so that those which are asked again take as long.
    is_whole : bool, optional
        Whether every candidate is run in trouble, however long that takes.
    """

    asked: Asked
    cases: dict[str, Case]
    left_out: dict[str, str]
    beside: tuple[Scenario, ...] = ()
    is_whole: bool = False


class _Ask(NamedTuple):
    """A run that is asked for, as often as there are replications: whose, and in what."""

    place: int
    candidate: str
    name: ConditionName
    condition: Condition

    @property
    def events(self) -> float:
        """About how many events a replication has."""
        return expected_events(self.condition.scenario)


_Later = dict[tuple[int, str], list[_Ask]]
_Found = dict[tuple[int, str], dict[ConditionName, list[dict[str, Any]]]]
"""What is judged, by point and candidate: by condition, a row a replication."""


def judged(points: Sequence[Point], name: str, *, is_calm: bool = False) -> list[Decision]:
    """Judge the candidates of each of some points, which have replications and options in common.

    Parameters
    ----------
    points : sequence of Point
    name : str
        For the progress bar.
    is_calm : bool, optional
        Whether only calm runs are asked for: measures of trouble then have no values.

    Raises
    ------
    ScenarioError
    Interrupted

    Notes
    -----
    A point whose runs would have more than `BUDGET_EVENTS` events in all is judged in calm first,
    and in trouble only as far as that may change what is taken (`Decision.unsettled`). So it is
    with rollouts, always.
    """
    found: _Found = {}
    asks, later = _sorted_asks(points, is_calm, found)
    asked = points[0].asked
    options, times = asked.options, asked.replications
    given = repeated((ask.condition.scenario for ask in chain(asks, *later.values())), times)
    execution = execution_of(
        options.get("on"),
        options.get("engine", "auto"),
        options.get("workers"),
        options.get("progress", True),
        given,
    )
    while asks:
        _carry_out(asks, asked, execution, found, name)
        decisions = [
            decision_of(point, [found[place, name] for name in point.cases])
            for place, point in enumerate(points)
        ]
        if not later:
            break
        wanted = [(place, one) for place, each in enumerate(decisions) for one in each.unsettled]
        asks = [later[key].pop(0) for key in wanted if later.get(key)]
    return decisions


def in_full(decision: Decision) -> Decision:
    """Return a decision with the runs that it has left out, so that other needs can be asked."""
    if not any(decision.lacks(name) for name in decision.cases):
        return decision
    point = Point(decision.asked, decision.cases, decision.left_out, is_whole=True)
    return judged([point], "decide")[0]


def _asks(point: Point, place: int = 0) -> list[_Ask]:
    """Return every run of a point."""
    compared = [*(case.scenario for case in point.cases.values()), *point.beside]
    return [
        _Ask(place, candidate, name, condition)
        for candidate, case in point.cases.items()
        for name, condition in conditions(case, compared, point.asked.needs).items()
    ]


def _releases(point: Point, place: int, found: _Found) -> Iterator[_Ask]:
    """Yield the rollouts of a point; what cannot be rolled out is found to have no values."""
    if "rollout" not in point.asked.needs.conditions:
        return
    compared = [*(case.scenario for case in point.cases.values()), *point.beside]
    for candidate, case in point.cases.items():
        facts: dict[str, Any] = {**NO_ROLLOUT, "said": ""}
        if candidate != TODAY:
            try:
                condition = rolled_out(case, compared, point.asked.needs, point.asked.scenario)
                yield _Ask(place, candidate, "rollout", condition)
                continue
            except ScenarioError as error:
                said = f"rollout: no part of the users can have it beside today's: {error.path}: "
                facts = dict.fromkeys(NO_ROLLOUT, math.nan) | {"said": said + error.rule}
        found.setdefault((place, candidate), {})["rollout"] = [facts] * point.asked.replications


def _sorted_asks(
    points: Sequence[Point], is_calm: bool, found: _Found
) -> tuple[list[_Ask], _Later]:
    """Return the runs that are asked for at once, and those that may be left out."""
    now: list[_Ask] = []
    later: _Later = {}
    for place, point in enumerate(points):
        asks = _asks(point, place)
        events = point.asked.replications * sum(ask.events for ask in asks)
        is_whole = point.is_whole or events <= BUDGET_EVENTS
        now += [ask for ask in asks if ask.name == "calm"]
        if is_calm:
            continue
        rough = [ask for ask in asks if ask.name == "rough"]
        releases = list(_releases(point, place, found))
        now += (rough if is_whole else []) + (releases if point.is_whole else [])
        for ask in [*([] if is_whole else rough), *([] if point.is_whole else releases)]:
            later.setdefault((place, ask.candidate), []).append(ask)
    return now, later


def _carry_out(
    asks: list[_Ask], asked: Asked, execution: Execution, found: _Found, name: str
) -> None:
    """Run what is asked for, and add the rows to those that are found."""
    keeping = keeping_in(asked.options.get("store"), key_of)
    times = range(asked.replications)
    tasks = {
        (number, time): Trial(ask.condition, asked.seed, time, execution.engine)
        for time in times
        for number, ask in enumerate(asks)
    }
    done: dict[Key, Rows] = {}
    complete = collect(tasks, judge, execution, done, name=name, keeping=keeping)
    whole(None, done, tasks, is_complete=complete)
    for number, ask in enumerate(asks):
        rows = [done[number, time][0] for time in times]
        found.setdefault((ask.place, ask.candidate), {})[ask.name] = rows


def check_faults(scenario: Scenario, place: str) -> None:
    """Refuse faults and proxies that trouble has of its own; `place` is what the paths begin with.

    Raises
    ------
    ScenarioError
    """
    for number, fault in enumerate(scenario.faults):
        if FAULTS[fault.kind].stops_servers or fault.kind == "block_upgrades":
            rule = "must be left to needs.trouble, which brings a restart and bad proxies"
            raise ScenarioError(f"{place}faults.{number}.kind", fault.kind, rule)
    share = scenario.network.stream_held_frac
    if share:
        rule = "must be left to needs.trouble, which brings bad proxies"
        raise ScenarioError(f"{place}network.stream_held_frac", share, rule)


def _hides_much(scenario: Scenario) -> bool:
    """Say whether a run of the scenario as it is may warn of what its warm-up hides."""
    left_out_s = scenario.warm_up_s + scenario.cool_down_s
    return bool(scenario.faults) or left_out_s > 0.5 * scenario.horizon_s


def _without_rollout(row: Mapping[str, Any]) -> list[str]:
    """Return why a candidate cannot be rolled out, if it cannot."""
    return [line for line in row["said"].splitlines() if line.startswith("rollout: ")]


def _left_free(rows: list[dict[str, Any]]) -> list[str]:
    """Return what runs say of costs that the scenario leaves out: no trouble asks for that."""
    every = (line for row in rows for line in row["said"].splitlines())
    return [line for line in every if line.startswith("free snapshots: ")]


def _warned_of(
    case: Case, point: Point, rows: Mapping[ConditionName, list[dict[str, Any]]]
) -> dict[str, str]:
    """Return what the calm runs of a candidate warn of, by kind, but for what was asked for.

    With them stands what the run with a restart gives the candidate for nothing.
    """
    asked = point.asked
    # Trouble is meant to show: its warnings say what was asked for.
    lines = [line for row in rows["calm"] for line in row["said"].splitlines()]
    lines += _left_free(rows.get("rough", []))
    if case.name != TODAY and "rollout" in rows:
        lines += _without_rollout(rows["rollout"][0])
    expected: list[str] = []
    # The cool-down is longer by `timed` alone, and a rollout that is held begins at once.
    if case.plan is not None or not _hides_much(asked.scenario):
        expected.append("warm-up: ")
    # Those behind bad proxies see nothing, or late: that is judged, and no latency leaves it out.
    if behind_proxies(case.scenario, asked.needs.trouble) != case.scenario:
        expected += ["unseen: ", "pending: "]
        if case.scenario.network.stream_buffer_bytes is None:
            expected.append("held back: ")
    by_kind: dict[str, str] = {}
    for line in lines:  # those of one kind differ by their numbers from run to run
        if not line.startswith(tuple(expected)):
            by_kind.setdefault(*line.split(": ", 1))
    return by_kind


def decision_of(
    point: Point, found: Sequence[Mapping[ConditionName, list[dict[str, Any]]]]
) -> Decision:
    """Return what is decided of a point.

    Parameters
    ----------
    point : Point
    found : sequence of mapping of str to list of dict
        What is judged of each of its candidates: by condition, a row a replication.
    """
    values, warned, said, ran = {}, {}, {}, {}
    for (name, case), rows_by_condition in zip(point.cases.items(), found, strict=True):
        facts = {
            fact: np.array([row[fact] for row in rows], dtype=np.float64)
            for rows in rows_by_condition.values()
            for fact in rows[0]
            if fact not in ("warnings", "said")
        }
        is_today = name == TODAY
        values[name] = values_of(facts, case.scenario, point.asked.needs, is_today=is_today)
        by_kind = _warned_of(case, point, rows_by_condition)
        warned[name], said[name] = tuple(by_kind), tuple(by_kind.values())
        ran[name] = frozenset(rows_by_condition)
    return Decision(point.asked, point.cases, point.left_out, values, warned, said, ran)
