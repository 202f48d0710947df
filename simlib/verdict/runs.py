"""The runs that a candidate is judged by, each on the same draws: in calm, and in trouble."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from simlib.engines import simulate
from simlib.errors import Interrupted, ScenarioError
from simlib.run import Rows, kinds
from simlib.scenario import Scenario
from simlib.store import Store
from simlib.verdict.candidates import Case
from simlib.verdict.facts import calm_facts, rough_facts
from simlib.verdict.measures import ConditionName
from simlib.verdict.needs import Needs

_RESTART_AT = 0.25
"""The restart comes after this part of the time whose changes count."""
_MISSED_INTERVALS = 1.5
_LONG_PAUSES = 5.0


class Condition(NamedTuple):
    """A scenario that a candidate is run in, and when the restart begins in it; None: in calm."""

    scenario: Scenario
    restart_s: float | None


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


def conditions(
    case: Case, compared: list[Scenario], needs: Needs
) -> dict[ConditionName, Condition]:
    """Return what a candidate is run in.

    Parameters
    ----------
    case : Case
    compared : list of Scenario
        All that are compared, which have to have the same times.
    needs : Needs
        They say what goes wrong.

    Raises
    ------
    ScenarioError
        The restart would last longer than the run.
    """
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
    rough = calm.replace({"faults": faults})
    return {"calm": Condition(calm, None), "rough": Condition(rough, restart_s)}


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
