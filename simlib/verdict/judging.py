"""`decide`: every candidate on the same draws, once in calm and once with trouble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simlib import theory
from simlib.core.faults import FAULTS
from simlib.engines import simulate
from simlib.errors import Interrupted, ScenarioError, shown
from simlib.experiment import (
    Key,
    check_count,
    check_execution,
    collect,
    execution_of,
    repeated,
    whole,
)
from simlib.run import Rows, kinds
from simlib.scenario import Scenario
from simlib.scenario.suggestions import hint, scenario_rule
from simlib.store import Store
from simlib.verdict.candidates import Case, cases_of
from simlib.verdict.decision import Asked, Decision
from simlib.verdict.facts import calm_facts, rough_facts, values_of
from simlib.verdict.needs import Needs

_OPTIONS = ("engine", "on", "workers", "store", "progress")
_RESTART_AT = 0.25
"""The restart comes after this part of the time whose changes count."""
_MISSED_INTERVALS = 1.5
_LONG_PAUSES = 5.0


class Trial(NamedTuple):
    """One run of a candidate, calm or with a restart at some time, and the folder where it is kept.

    Attributes
    ----------
    scenario : Scenario
    seed, replication : int
    engine : str
    store : Path, optional
    restart_s : float, optional
        When the restart begins, seconds; None: the run is calm.
    """

    scenario: Scenario
    seed: int
    replication: int
    engine: str
    store: Path | None
    restart_s: float | None


def decide(
    scenario: Scenario,
    needs: Needs | Mapping[str, Any],
    *,
    candidates: Any = None,
    replications: int = 5,
    seed: int = 1,
    confidence: float = 0.95,
    **options: Any,
) -> Decision:
    """Judge what a team may do by what its board needs, and say what should be done.

    Every candidate is simulated on the same changes, sessions and activity: in a calm run, and in
    one with a restart and the team's share of bad proxies.

    Parameters
    ----------
    scenario : Scenario
        The board as it is today. Changes within some poll intervals of the end are not counted,
        since polls could not bring them; the run gets as much longer.
    needs : Needs, or mapping of its fields
        Limits, and perhaps prices and what goes wrong.
    candidates : mapping of str to mapping, or sequence of str, optional
        Names and changes of the caller's own, as `Scenario.replace` takes them; or names of
        `verdict.CANDIDATES`. Absent: all of those that differ. The scenario as it is is always one.
    replications : int, optional
        Of each candidate, >= 5.
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
        Needs, a candidate or an argument is not valid, or the scenario has a fault that trouble has
        of its own; before anything is run.
    Interrupted
        After Ctrl-C or SIGTERM; a store has kept the finished runs.

    Notes
    -----
    A need is met if the whole interval of the mean (Student t) keeps its limit; without a value it
    is not met. Those that meet every need are ranked by `Needs.ranked_by`. If today's is among
    them, only what beats it by more than noise, pair by pair, and `Needs.worth_frac` may be taken.
    Of what the least of these does not beat by more than noise, the first in the order of
    `verdict.CANDIDATES`, or of the caller's, is taken.

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
    needs = _checked_needs(needs)
    check_count("replications", replications, 5)
    theory.mean_interval([0.0, 1.0], confidence)  # refuses what is no confidence
    for name in options:
        if name not in _OPTIONS:
            rule = f"must be among {', '.join(_OPTIONS)}{hint(name, _OPTIONS)}"
            raise ScenarioError("options", name, rule)
    check_execution(options.get("on"), options.get("engine", "auto"), options.get("workers"))
    _check_faults(scenario, "")
    cases, left_out = cases_of(scenario, candidates)
    for case in cases.values():
        _check_faults(case.scenario, f"candidates[{shown(case.name)}].")
    asked = Asked(scenario, needs, replications, seed, confidence, options)
    return judged([Point(asked, cases, left_out)], "decide")[0]


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
    """

    asked: Asked
    cases: dict[str, Case]
    left_out: dict[str, str]
    beside: tuple[Scenario, ...] = ()


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
    """
    runs: list[tuple[int, str, int, Scenario, float | None]] = []
    for place, point in enumerate(points):
        compared = [*(case.scenario for case in point.cases.values()), *point.beside]
        for case in point.cases.values():
            both = _conditions(case, compared, point.asked.needs)
            for which, (one, restart_s) in enumerate(both[:1] if is_calm else both):
                runs.append((place, case.name, which, one, restart_s))
    asked = points[0].asked
    options, times = asked.options, asked.replications
    engine, on, workers = options.get("engine", "auto"), options.get("on"), options.get("workers")
    given = repeated((one for *_, one, _ in runs), times)
    execution = execution_of(on, engine, workers, options.get("progress", True), given)
    store = options.get("store")
    where = None if store is None else Store(store).path
    tasks = {
        (place, number): Trial(one, asked.seed, number, execution.engine, where, restart_s)
        for number in range(times)
        for place, (*_, one, restart_s) in enumerate(runs)
    }
    done: dict[Key, Rows] = {}
    complete = collect(tasks, judge, execution, done, name=name)
    whole(None, done, tasks, is_complete=complete)
    found: list[dict[str, list[list[dict[str, Any]]]]] = [{} for _ in points]
    for number, (place, candidate, *_) in enumerate(runs):
        rows = [done[number, replication][0] for replication in range(times)]
        found[place].setdefault(candidate, []).append(rows)
    return [_decision(point, of_point) for point, of_point in zip(points, found, strict=True)]


def _checked_needs(needs: Any) -> Needs:
    if isinstance(needs, Needs):
        return needs
    if not isinstance(needs, Mapping):
        raise ScenarioError("needs", needs, "must be Needs, or a mapping of its fields")
    return Needs(**needs)


def _check_faults(scenario: Scenario, place: str) -> None:
    for number, fault in enumerate(scenario.faults):
        if FAULTS[fault.kind].stops_servers or fault.kind == "block_upgrades":
            rule = "must be left to needs.trouble, which brings a restart and bad proxies"
            raise ScenarioError(f"{place}faults.{number}.kind", fault.kind, rule)


def _conditions(
    case: Case, compared: list[Scenario], needs: Needs
) -> tuple[tuple[Scenario, float | None], tuple[Scenario, float | None]]:
    """Return a candidate's scenario in calm and in trouble, each with the time of its restart."""
    calm = timed(case.scenario, compared)
    trouble = needs.trouble
    counted_s = calm.horizon_s - calm.cool_down_s - calm.warm_up_s
    restart_s = round(calm.warm_up_s + _RESTART_AT * counted_s, 3)
    left_s = calm.horizon_s - restart_s
    if trouble.restart_s >= left_s:
        rule = f"must be < {left_s:g}, what is left of the run after it"
        raise ScenarioError("needs.trouble.restart_s", trouble.restart_s, rule)
    faults: list[Any] = [fault.model_dump(exclude_none=True) for fault in case.scenario.faults]
    faults.append({"kind": "restart", "start_s": restart_s, "length_s": trouble.restart_s})
    if trouble.bad_proxy_frac:
        proxy = {"kind": "block_upgrades", "start_s": 0.0, "length_s": calm.horizon_s}
        proxy |= {"share": trouble.bad_proxy_frac, "answered": trouble.proxies_answer}
        faults.append(proxy)
    return (calm, None), (calm.replace({"faults": faults}), restart_s)


def timed(scenario: Scenario, others: list[Scenario]) -> Scenario:
    """Return a scenario whose last changes do not count, since no poll could bring them in time.

    Parameters
    ----------
    scenario : Scenario
    others : list of Scenario
        All that are compared, which have to have the same times.
    """
    cool_down_s = max(scenario.cool_down_s, *map(_last_poll_s, others))
    longer_s = cool_down_s - scenario.cool_down_s
    horizon_s = scenario.horizon_s + longer_s
    return scenario.replace({"horizon_s": horizon_s, "cool_down_s": cool_down_s})


def _last_poll_s(scenario: Scenario) -> float:
    polling, drag = scenario.polling, scenario.drag
    pause_s = 0.0 if drag is None else _LONG_PAUSES * drag.length_s
    waits_s = polling.interval_s * (1.0 + polling.jitter_frac) + scenario.notify.spread_s
    waits_s = max(waits_s, scenario.websocket.safety_poll_s or 0.0)
    return _MISSED_INTERVALS * waits_s + pause_s


def judge(trial: Trial) -> Rows | None:
    """Run a trial, or find it in the store, and return what is judged of it; None: interrupted."""
    store = None if trial.store is None else Store(trial.store)
    name = f"{trial.scenario.hash} judged"
    key = Store.key(name, trial.seed, trial.replication, trial.engine)
    rows = None if store is None else store.find(key)
    if rows is not None:
        return rows
    try:
        run = simulate(
            trial.scenario,
            seed=trial.seed,
            replication=trial.replication,
            engine=trial.engine,
            progress=False,
        )
    except Interrupted:
        return None
    facts = calm_facts(run) if trial.restart_s is None else rough_facts(run, trial.restart_s)
    said = "\n".join(f"{warning.kind}: {warning}" for warning in run.warnings)
    rows = [{**facts, "warnings": kinds(run.warnings), "said": said}]
    if store is not None:
        store.keep(key, rows)
    return rows


def _hides_much(scenario: Scenario) -> bool:
    """Say whether a run of the scenario as it is may warn of what its warm-up hides."""
    left_out_s = scenario.warm_up_s + scenario.cool_down_s
    return bool(scenario.faults) or left_out_s > 0.5 * scenario.horizon_s


def _decision(point: Point, found: Mapping[str, list[list[dict[str, Any]]]]) -> Decision:
    values, warned, said = {}, {}, {}
    for name, runs in found.items():
        facts = {
            fact: np.array([row[fact] for row in rows], dtype=np.float64)
            for rows in runs
            for fact in rows[0]
            if fact not in ("warnings", "said")
        }
        values[name] = values_of(facts, point.cases[name].scenario, point.asked.needs)
        # Trouble is meant to show: its warnings say what was asked for.
        lines = [line for row in runs[0] for line in row["said"].splitlines()]
        if not _hides_much(point.asked.scenario):  # the cool-down is longer by `timed` alone
            lines = [line for line in lines if not line.startswith("warm-up: ")]
        by_kind: dict[str, str] = {}
        for line in lines:  # those of one kind differ by their numbers from run to run
            by_kind.setdefault(*line.split(": ", 1))
        warned[name], said[name] = tuple(by_kind), tuple(by_kind.values())
    return Decision(point.asked, point.cases, point.left_out, values, warned, said)
