"""Rehearsals: a plan is carried out on many simulated fleets, healthy ones and broken ones.

Each fleet is one replication, with its own users, sessions, changes and random draws. The plan's
controller observes the fleet as monitoring would, and decides. The outcome of each fleet is one
row of a table.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simlib import experiment, theory
from simlib.analysis import bucketing, rollouts
from simlib.core.assignment import user_of
from simlib.core.measures import MEASURES
from simlib.core.protocol import SOCKET_TRANSPORTS, TRANSPORTS, Transport
from simlib.core.record import Wait
from simlib.engines import simulate
from simlib.engines.choice import check_engine, chosen_engine
from simlib.errors import Interrupted, ScenarioError
from simlib.experiment import Changes
from simlib.renamed import renamed
from simlib.rollout.cohorts import cohort_scenarios
from simlib.rollout.controller import RolloutController
from simlib.rollout.plan import Plan
from simlib.rollout.result import Rollout, result_of
from simlib.run import COHORTS, Run, check_table, kinds, kinds_of
from simlib.scenario import Scenario
from simlib.scenario.suggestions import scenario_rule
from simlib.store import Store

__all__ = [
    "BASELINE",
    "Rehearsal",
    "Rollout",
    "check_plan",
    "regressions",
    "rehearse",
    "roll_out",
    "summarise",
    "tune",
    "variants",
]

BASELINE = "healthy"
"""The name of the scenario as it is, among the regressions."""


def roll_out(
    plan: Plan,
    scenario: Scenario,
    *,
    seed: int = 1,
    replication: int = 0,
    engine: str = "auto",
    time_scale: float | None = None,
    keep: tuple[str, ...] = (),
    progress: bool = True,
) -> Rollout:
    """Carry a plan out on one fleet: a simulated one, or real clients of a real server.

    Parameters
    ----------
    plan : Plan
    scenario : Scenario
        The board and its users. The plan decides which transport each user gets, and which settings
        each cohort has for itself.
    seed, replication, keep, progress : optional
        As in `simulate`.
    engine : {"auto", "simpy", "compiled", "live"}, optional
        The first three are those of `simulate`. ``"live"`` measures, as `measure` does; simulate
        ``on_loopback(scenario)`` to predict it. In the live lab the controller knows the server's
        utilisation up to the last complete bin, and the server gives both cohorts the same resync,
        tokens and pings.
    time_scale : float, optional
        How many times faster than real time the live lab runs, as for `measure`; absent: 1.

    Returns
    -------
    Rollout

    Raises
    ------
    ScenarioError
        The plan does not fit the scenario, or an argument is out of range.
    LiveError
        In the live lab, as `measure`.
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` is the rollout so far.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=50, horizon_s=700)
    >>> plan = Plan(
    ...     flag={"propagation": "polled", "every_s": 10},
    ...     stages=[{"percent": 50, "bake_s": 120}, {"percent": 100, "bake_s": 120}],
    ... )
    >>> rollout = roll_out(plan, board)
    >>> rollout.history["event"].tolist()
    ['started', 'passed', 'passed', 'started', 'passed', 'done']
    >>> rollout.run.frame("clients")["cohort"].value_counts().to_dict()
    {'treatment': 50}
    """
    check_plan(plan, scenario)
    controller = RolloutController(plan, scenario, seed, replication)
    options: dict[str, Any] = {"seed": seed, "replication": replication, "keep": keep}
    options |= {"progress": progress, "engine": engine, "time_scale": time_scale}
    return _rolled_out(controller, **options)


def _rolled_out(
    controller: RolloutController,
    *,
    engine: str,
    time_scale: float | None = None,
    **options: Any,
) -> Rollout:
    """Carry a controller's plan out on its scenario."""
    plan, scenario = controller.plan, controller.scenario
    options["controller"] = controller
    if engine != "live" and time_scale is not None:
        rule = f'has no meaning when engine is "{engine}"'
        raise ScenarioError("time_scale", time_scale, rule)
    stopped = None
    try:
        if engine == "live":
            from simlib.live.lab import measure

            run = measure(scenario, time_scale=1.0 if time_scale is None else time_scale, **options)
        else:
            if engine == "auto":
                engine = chosen_engine(engine, [treated(plan, scenario)])
            run = simulate(scenario, engine=engine, **options)
    except Interrupted as error:
        stopped, run = error, error.result
    rollout = result_of(run, controller)
    if stopped is not None:
        raise Interrupted(stopped.what, rollout) from None
    return rollout


def variants(
    plan: Plan,
    scenario: Scenario,
    *changes: Mapping[str, Changes],
    seed: int = 1,
    replication: int = 0,
    engine: str = "auto",
    on: Any = None,
    workers: int | None = None,
    progress: bool = True,
) -> pd.Series:
    """Carry named variants of a plan out on one simulated fleet, and return them by name.

    Parameters
    ----------
    plan : Plan
    scenario : Scenario
    *changes : mapping of str to mapping
        Names of variants and their changes, as `Plan.replace` takes them; an empty change is the
        plan as it is. Of several such sets every combination is carried out.
    seed, replication : int, optional
        As in `simulate`.
    engine, on, workers, progress : optional
        As in `sweep`.

    Returns
    -------
    pandas.Series of Rollout
        In the order given, with the index of `experiment.variants`; each plan bears its name.
        ``attrs["complete"]`` says whether they are all.

    Raises
    ------
    ScenarioError
        A change makes no plan or one that does not fit the scenario, or an argument is out of
        range; before anything is run.
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` has the complete ones.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=50, horizon_s=700)
    >>> plan = Plan(flag={"propagation": "session"}, stages=[{"percent": 100, "bake_s": 120}])
    >>> flags = {"once": {}, "every 10 s": {"flag": {"propagation": "polled", "every_s": 10}}}
    >>> rollouts = variants(plan, board, flags, engine="simpy", on="serial")
    >>> rollouts["every 10 s"].run.frame("clients")["cohort"].value_counts().to_dict()
    {'treatment': 50}
    """
    check_plan(plan, scenario)
    check_engine(engine, "variants are simulated")
    experiment.check_execution(on, engine, workers)
    plans = experiment.changed(plan, experiment.labelled_sets(changes), is_named=True)
    for names, variant in plans.items():
        _check_variant(f"changes[{', '.join(names)!r}]", variant, scenario)
    fleets_run = (treated(variant, scenario) for variant in plans.values())
    execution = experiment.execution_of(on, engine, workers, progress, fleets_run)
    tasks = {
        (number, replication): Trial(variant, scenario, seed, replication, execution.engine)
        for number, variant in enumerate(plans.values())
    }
    done: dict[experiment.Key, Rollout] = {}
    complete = experiment.collect(tasks, carry_out, execution, done, name="variants")
    named = experiment.by_name(list(plans), done, is_replicated=False, is_complete=complete)
    return experiment.whole(named, done, tasks, is_complete=complete)


def treated(plan: Plan, scenario: Scenario) -> Scenario:
    """Return a fleet that is wholly enrolled, as which a rollout is counted to choose an engine."""
    return cohort_scenarios(plan, scenario)[1]


def _check_variant(path: str, plan: Plan, scenario: Scenario) -> None:
    """Check a variant as `check_plan` does; errors name it by `path`."""
    try:
        check_plan(plan, scenario)
    except ScenarioError as error:
        raise ScenarioError(f"{path}.{error.path}", error.value, error.rule) from None


def check_plan(plan: Any, scenario: Any) -> None:
    """Check that a plan can be carried out on a scenario.

    Raises
    ------
    ScenarioError
        An argument has the wrong type, the plan ends after the run, a guardrail can have no data in
        this scenario, or a cohort is given what it cannot have for itself.
    """
    if not isinstance(plan, Plan):
        raise ScenarioError("plan", plan, "must be a Plan")
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    end_s = plan.start_s + plan.length_s
    if end_s > scenario.horizon_s:
        rule = (
            f"must be over by the scenario's horizon_s ({scenario.horizon_s:g}), here at {end_s:g}"
        )
        raise ScenarioError("plan.stages", len(plan.stages), rule)
    if plan.kill_s is not None and plan.kill_s >= scenario.horizon_s:
        rule = f"must be < the scenario's horizon_s ({scenario.horizon_s:g})"
        raise ScenarioError("plan.kill_s", plan.kill_s, rule)
    if plan.bucketing.ids_file is not None:
        bucketing.read_user_ids(plan.bucketing.ids_file)  # says what is wrong with it
    try:
        control, treatment = cohort_scenarios(plan, scenario)
    except ScenarioError as error:
        raise error.moved(lambda path: f"plan.{path}") from None
    for number, guardrail in enumerate(plan.guardrails):
        path = f"plan.guardrails.{number}"
        if guardrail.metric == "fallback_to_polling_frac" and treatment.fallback is None:
            rule = "must be a metric that has data: the scenario's clients never fall back"
            raise ScenarioError(f"{path}.metric", guardrail.metric, rule)
        is_compared = guardrail.times_control is not None or guardrail.judge is not None
        for cohort in (treatment, control) if is_compared else (treatment,):
            reason = _why_nobody_waits(guardrail.metric, cohort)
            if reason:
                rule = f"must be a metric that has data: {reason}"
                raise ScenarioError(f"{path}.metric", guardrail.metric, rule)


def _why_nobody_waits(metric: str, cohort: Scenario) -> str:
    """Say why clients of a cohort never wait for what a metric measures; nothing if they may."""
    measure, transport = MEASURES[metric], cohort.transport
    if measure.wait == Wait.CONNECTION or measure.denominator == "opened":
        return "" if transport in SOCKET_TRANSPORTS else f"{transport} has no WebSocket"
    if measure.wait == Wait.POLL or measure.denominator == "answers":
        row = TRANSPORTS[Transport[transport.upper()]]
        polls = row.fetches or not (row.has_socket or row.is_held)
        if polls or cohort.fallback is not None:
            return ""
        what = "its requests are held" if row.is_held else f"{transport} fetches nothing"
        return f"{what}, and the clients never fall back"
    return ""


class Trial(NamedTuple):
    """One fleet on which a plan is carried out."""

    plan: Plan
    scenario: Scenario
    seed: int
    replication: int
    engine: str


class Rehearsal(NamedTuple):
    """The outcomes of many fleets.

    Attributes
    ----------
    table : pandas.DataFrame
        A row per regression, with the unchanged scenario (``healthy``) first; see `summarise`. With
        variants of the plan, each variant has these rows, and the first column is ``variant``. The
        table is empty if Ctrl-C came before any fleet had finished.
    fleets : pandas.DataFrame
        A row per regression and replication (and variant, as above): ``regression``,
        ``replication``, ``outcome`` (done, rolled_back, killed, paused, or late: the run ended
        before the plan did), ``back_s`` (time from the plan's start to the decision to roll back;
        NaN without one), ``full_s`` (time to the last stage), ``users`` (who were enrolled at some
        time) and ``user_min`` (for how long in all, minutes), ``lost`` and ``late`` (changes that
        never reached them, or came later than a poll of the control cohort would
        have brought them), ``errors`` (of these
        users), ``t50_s`` to ``t100_s`` (time from the decision until 50 to 100 % fewer tabs are
        enrolled), after the decision ``peak_polls_per_s`` and ``peak_utilisation``, and
        ``warnings``: the kinds of the trial's, see `Rollout.warnings`.
    is_complete : bool
        Whether all fleets were run; after Ctrl-C (see `Interrupted`), only the finished ones are
        there.
    """

    table: pd.DataFrame
    fleets: pd.DataFrame
    is_complete: bool


def rehearse(
    plan: Plan,
    scenario: Scenario,
    broken: Mapping[str, Changes] | None = None,
    *,
    variants: Mapping[str, Changes] | None = None,
    replications: int = 200,
    seed: int = 1,
    engine: str = "auto",
    on: Any = None,
    workers: int | None = None,
    store: str | Path | None = None,
    confidence: float = 0.95,
    progress: bool = True,
) -> Rehearsal:
    """Carry a plan out on many simulated fleets: on healthy ones, and on broken ones.

    Parameters
    ----------
    plan : Plan
    scenario : Scenario
        The healthy board.
    broken : mapping of str to mapping, optional
        Regressions by name: the changes to the scenario that break it, as `Scenario.replace` takes
        them. `regressions` returns some.
    variants : mapping of str to mapping, optional
        Variants of the plan by name: changes that `Plan.replace` takes. Each variant is rehearsed
        on the same fleets, in place of the plan itself.
    replications : int, optional
        Number of fleets for each plan and regression, >= 2. Fleet r always has the same users,
        sessions and changes.
    seed, engine, on, workers, store, progress : optional
        As in `sweep`. With a store, a rehearsal that was interrupted continues where it stopped.
    confidence : float, optional
        Confidence of the intervals, in (0, 1).

    Returns
    -------
    Rehearsal

    Raises
    ------
    ScenarioError
        The plan does not fit a scenario, or an argument is out of range; before anything is run.
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` is the rehearsal of the finished fleets.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=50, horizon_s=900)
    >>> plan = Plan(
    ...     flag={"propagation": "polled", "every_s": 10},
    ...     stages=[{"percent": 50, "bake_s": 120}, {"percent": 100, "bake_s": 120}],
    ...     guardrails=[{"metric": "latency_p95_s", "below": 2.0}],
    ...     decision={"failures": 1},
    ... )
    >>> broken = {"slow broadcast": {"server.send_s": 0.5}}
    >>> rehearsal = rehearse(plan, board, broken, replications=4, on="serial", progress=False)
    >>> rehearsal.table.set_index("regression")["back_frac"].to_dict()
    {'healthy': 0.0, 'slow broadcast': 1.0}
    """
    cases = cases_of(plan, scenario, broken)
    check_fleets(replications, engine, on, workers, confidence)
    plans = {(): plan} if variants is None else _variants(plan, variants, cases)
    pairs = list(itertools.product(plans.items(), cases.items()))
    each_once = (treated(variant, changed) for (_, variant), (_, changed) in pairs)
    fleets_run = experiment.repeated(each_once, replications)
    execution = experiment.execution_of(on, engine, workers, progress, fleets_run)
    keeping = experiment.keeping_in(store, _key_of)
    tasks = {
        (number, replication): Trial(variant, changed, seed, replication, execution.engine)
        for number, ((_, variant), (_, changed)) in enumerate(pairs)
        for replication in range(replications)
    }
    done: dict[experiment.Key, experiment.Rows] = {}
    complete = experiment.collect(tasks, perform, execution, done, name="rehearse", keeping=keeping)
    names = ["regression"] if variants is None else ["variant", "regression"]
    labels = [
        dict(zip(names, (*variant, regression), strict=True))
        for (variant, _), (regression, _) in pairs
    ]
    rows = [labels[key[0]] | row for key in sorted(done) for row in done[key]]
    fleets = pd.DataFrame(rows, columns=[*names, *_COLUMNS])
    table = summarise(fleets, confidence) if len(fleets) else pd.DataFrame()
    return experiment.whole(Rehearsal(table, fleets, complete), done, tasks, is_complete=complete)


def _variants(
    plan: Plan, variants: Mapping[str, Changes], cases: Mapping[str, Scenario]
) -> dict[tuple[str, ...], Plan]:
    """Return the variants of a plan by name, each checked against every scenario."""
    plans = experiment.changed(plan, [("variants", variants)])
    for names, variant in plans.items():
        for scenario in cases.values():
            _check_variant(f"variants[{names[0]!r}]", variant, scenario)
    return plans


def regressions(scenario: Scenario, plan: Plan) -> dict[str, Changes]:
    """Return up to four regressions of such a migration, which harm users or the server.

    Parameters
    ----------
    scenario : Scenario
        The healthy board.
    plan : Plan
        The connections with the expired token are reset in this plan's middle stage.

    Returns
    -------
    dict of str to dict
        ``memory``: a connection takes ten times the memory. ``proxy``: 60 % of the upgrades are
        answered with 403; left out where the treatment opens no WebSocket, as a stream has no
        upgrade to answer. ``slow broadcast``: each send takes a hundred times as long. ``expired
        token``: all connections are reset, and the clients send a token again that is valid for
        five minutes only. The values are changes, as `Scenario.replace` takes them. A restart of
        the server is no regression, as its clients lose nothing but seconds.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, horizon_s=2500)
    >>> list(regressions(board, Plan(flag={"propagation": "session"})))
    ['memory', 'proxy', 'slow broadcast', 'expired token']
    >>> streams = Plan(flag={"propagation": "session"}, treatment={"transport": "sse"})
    >>> list(regressions(board, streams))
    ['memory', 'slow broadcast', 'expired token']
    """
    check_plan(plan, scenario)
    server, faults = scenario.server, scenario.model_dump(exclude_none=True)["faults"]
    middle_s = plan.start_s + sum(
        stage.gate_s + stage.bake_s for stage in plan.stages[: len(plan.stages) // 2]
    )
    during = {"start_s": 0.0, "length_s": scenario.horizon_s}
    cut = {"kind": "reset", "start_s": middle_s + plan.check_every_s / 2.0}
    changes: dict[str, Changes] = {
        "memory": {"server.connection_bytes": 10 * server.connection_bytes},
        "proxy": {"faults": [*faults, {"kind": "block_upgrades", "share": 0.6, **during}]},
        "slow broadcast": {"server.send_s": 100.0 * server.send_s},
        "expired token": {
            "faults": [*faults, cut],
            "websocket.token_valid_s": 300.0,
            "websocket.token_resent": True,
        },
    }
    if not TRANSPORTS[Transport[treated(plan, scenario).transport.upper()]].upgrades:
        del changes["proxy"]  # nothing to block
    return changes


def tune(
    plan: Plan,
    scenario: Scenario,
    over: Mapping[str, Sequence[Any]],
    broken: Mapping[str, Changes],
    *,
    false_frac: float = 0.01,
    miss_frac: float = 0.05,
    confidence: float = 0.95,
    **options: Any,
) -> pd.DataFrame:
    """Rehearse a plan with every combination of some settings, and find those that are safe enough.

    Parameters
    ----------
    plan : Plan
    scenario : Scenario
    over : mapping of str to sequence
        Paths of the plan and their values, such as ``{"check_every_s": [30, 60]}``.
    broken : mapping of str to mapping
        Regressions that the plan should detect, as for `rehearse`.
    false_frac, miss_frac : float, optional
        The promise: the largest fraction of healthy fleets that are rolled back (false alarms), and
        the largest fraction of fleets with a regression that are not (misses). It is proved if the
        upper bounds of Wilson's intervals are within it, and broken if a lower bound is beyond it.
        In between, so many fleets prove neither: with 0 of n fleets, the upper bound is about
        4 / n.
    confidence : float, optional
        Confidence of those intervals, in (0, 1).
    **options
        ``replications``, ``seed``, ``engine``, ``on``, ``workers``, ``store``, ``progress``, as in
        `rehearse`.

    Returns
    -------
    pandas.DataFrame
        A row per combination: a column per path; ``false_frac`` with ``false_low`` and
        ``false_high``; ``missed`` (the regression that is missed most often), and its ``miss_frac``
        with ``miss_low`` and ``miss_high``; ``full_s`` (mean time to the last stage, of healthy
        fleets); ``user_min`` (mean minutes that users spent under that regression); ``keeps``
        (whether the promise is proved); and ``promise``: proved, not proved or broken. They are
        sorted in this order, the fastest on top.

    Raises
    ------
    ScenarioError
        A combination makes no plan, or an argument is out of range; before anything is run.
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` is the table of the finished combinations.
    """
    if not isinstance(broken, Mapping) or not broken:
        raise ScenarioError("broken", broken, "must be at least one regression")
    for name, value in (("false_frac", false_frac), ("miss_frac", miss_frac)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise ScenarioError(name, value, "must be in (0, 1)")
    points = experiment.grid(over)
    plans = [plan.replace(point) for point in points]
    for changed in plans:
        cases_of(changed, scenario, broken)
    rows = []
    for point, changed in zip(points, plans, strict=True):
        try:
            found = rehearse(changed, scenario, broken, confidence=confidence, **options)
        except Interrupted:
            break
        rows.append({**point, **_error_rates(found.table)})
    result = pd.DataFrame(rows, columns=[*over, *_ERROR_RATES])
    result = _judged(result, false_frac, miss_frac)
    if len(rows) < len(points):
        words = f"{len(rows)} of {len(points)} combinations were finished"
        raise Interrupted(words, result)
    return result


_PROMISE = ("proved", "not proved", "broken")


def _judged(rates: pd.DataFrame, false_frac: float, miss_frac: float) -> pd.DataFrame:
    """Return the rows of `tune` with their verdicts, sorted by them and then by the time taken."""
    keeps = (rates["false_high"] <= false_frac) & (rates["miss_high"] <= miss_frac)
    broken = (rates["false_low"] > false_frac) | (rates["miss_low"] > miss_frac)
    order = np.where(keeps, 0, np.where(broken, 2, 1))
    rates = rates.assign(keeps=keeps, promise=[_PROMISE[number] for number in order], order=order)
    rates = rates.sort_values(["order", "full_s"], kind="stable").drop(columns="order")
    return rates.reset_index(drop=True)


_ERROR_RATES = (
    *("false_frac", "false_low", "false_high", "missed", "miss_frac", "miss_low", "miss_high"),
    *("full_s", "user_min"),
)


def _error_rates(table: pd.DataFrame) -> dict[str, Any]:
    """Return the false alarms, misses and times of a rehearsed plan: a row of `tune`."""
    table = table.set_index("regression")
    healthy, others = table.loc[BASELINE], table.drop(index=BASELINE)
    worst = others.sort_values("back_frac", kind="stable").iloc[0]
    return {
        "false_frac": healthy["back_frac"],
        "false_low": healthy["back_low"],
        "false_high": healthy["back_high"],
        "missed": worst.name,
        "miss_frac": 1.0 - worst["back_frac"],
        "miss_low": 1.0 - worst["back_high"],
        "miss_high": 1.0 - worst["back_low"],
        "full_s": healthy["full_s"],
        "user_min": worst["user_min"],
    }


_COLUMNS = (
    *("replication", "outcome", "back_s", "full_s", "users", "user_min", "lost", "late", "errors"),
    *("t50_s", "t90_s", "t99_s", "t100_s", "peak_polls_per_s", "peak_utilisation", "warnings"),
)
_MEANS = (
    *("back_s", "full_s", "users", "user_min", "lost", "late", "errors"),
    *("t50_s", "t90_s", "t99_s", "t100_s", "peak_polls_per_s", "peak_utilisation"),
)
_AFTER_S = 120.0


def summarise(fleets: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return the outcomes of each regression's fleets, with intervals.

    Parameters
    ----------
    fleets : pandas.DataFrame
        As in `Rehearsal.fleets`, of one plan or of several variants.
    confidence : float, optional
        Confidence of the intervals, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        A row per regression (with variants, per ``variant`` and regression): ``fleets``,
        ``back_frac`` (the fraction that was rolled back: false alarms if healthy, or else 1 minus
        the misses), ``back_low`` and ``back_high`` (Wilson's interval), ``done_frac``, and means
        with intervals (``_low`` and ``_high``, Student's t, over the fleets that have a value) of
        ``back_s``, ``full_s``, ``users``, ``user_min``,
        ``lost``, ``late``, ``errors``, ``t50_s``, ``t90_s``, ``t99_s``, ``t100_s``,
        ``peak_polls_per_s`` and ``peak_utilisation``; and ``warnings``, the kinds that any of the
        fleets has.

    Raises
    ------
    ScenarioError
        There are no fleets, or a column is missing.

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22.
    """
    from scipy import stats

    check_table("fleets", fleets, texts=("regression", "outcome"))
    keys = [name for name in ("variant", "regression") if name in fleets]
    rows = []
    for names, group in fleets.groupby(keys, sort=False):
        back = int((group["outcome"] == "rolled_back").sum())
        interval = stats.binomtest(back, len(group)).proportion_ci(confidence, "wilson")
        row: dict[str, Any] = {
            **dict(zip(keys, names, strict=True)),
            "fleets": len(group),
            "back_frac": back / len(group),
            "back_low": interval.low,
            "back_high": interval.high,
            "done_frac": (group["outcome"] == "done").mean(),
        }
        for column in _MEANS:
            values = group[column].dropna().to_numpy(dtype=float)
            mean, low, high = values.mean() if len(values) else np.nan, np.nan, np.nan
            if len(values) > 1:
                mean, low, high = theory.mean_interval(values, confidence)
            row |= {column: mean, f"{column}_low": low, f"{column}_high": high}
        if "warnings" in group:
            row["warnings"] = kinds_of(group["warnings"])
        rows.append(row)
    return pd.DataFrame(rows)


def check_fleets(
    replications: int, engine: str, on: Any, workers: int | None, confidence: float
) -> None:
    """Refuse what fleets cannot be run by, before any is."""
    experiment.check_count("replications", replications, 2)
    check_engine(engine, "a rehearsal is simulated")
    experiment.check_execution(on, engine, workers)
    theory.mean_interval([0.0, 1.0], confidence)  # refuses a confidence that is none


def cases_of(plan: Plan, scenario: Scenario, broken: Any) -> dict[str, Scenario]:
    """Return the scenarios that are rehearsed by name, each checked against the plan."""
    check_plan(plan, scenario)
    if broken is not None and not isinstance(broken, Mapping):
        rule = "must be a mapping of names to changes of the scenario"
        raise ScenarioError("broken", broken, rule)
    cases = {BASELINE: scenario}
    for name, changes in (broken or {}).items():
        if not isinstance(name, str) or name in cases:
            raise ScenarioError("broken", name, f"must be a text that is not {BASELINE}")
        try:
            cases[name] = scenario.replace(changes)
            check_plan(plan, cases[name])
        except ScenarioError as error:
            path = f"broken[{name!r}].{error.path}"
            raise ScenarioError(path, error.value, error.rule) from None
    return cases


def carry_out(fleet: Trial) -> Rollout | None:
    """Carry a plan out on one fleet; None if it was interrupted."""
    return _carried_out(fleet, explains=True)


def _carried_out(fleet: Trial, *, explains: bool) -> Rollout | None:
    """Carry a plan out on one fleet, which need not be explained; None if it was interrupted."""
    plan, scenario, seed, replication, engine = fleet
    check_plan(plan, scenario)
    controller = RolloutController(plan, scenario, seed, replication, explains=explains)
    options = {"seed": seed, "replication": replication, "progress": False}
    try:
        return _rolled_out(controller, engine=engine, **options)
    except Interrupted:
        return None


def perform(fleet: Trial) -> experiment.Rows | None:
    """Rehearse one fleet, and return its outcome; None if it was interrupted."""
    rollout = _carried_out(fleet, explains=False)
    if rollout is None:
        return None
    return [{"replication": fleet.replication, **outcome_of(rollout)}]


def _key_of(fleet: Trial) -> str:
    """Return under which key a store keeps the outcome of a fleet."""
    what = f"{fleet.scenario.hash} {fleet.plan.dump()}"
    if fleet.plan.bucketing.ids_file is not None:
        ids = bucketing.read_user_ids(fleet.plan.bucketing.ids_file)
        what += hashlib.sha256("\n".join(ids).encode()).hexdigest()
    return Store.key(what, fleet.seed, fleet.replication, fleet.engine)


def outcome_of(rollout: Rollout) -> dict[str, Any]:
    """Return the outcome of a rollout: the columns of `Rehearsal.fleets` from ``outcome`` on."""
    run, history, plan = rollout.run, rollout.history, rollout.plan
    client, from_s, to_s = _of_treatment(run, "exposures", "client", "from_s", "to_s")
    low_s, count = _of_treatment(run, "latency", "low_s", "count")
    lost, errors = _of_treatment(run, "timeline", "lost", "errors")
    control, _ = cohort_scenarios(plan, run.scenario)
    events, t_s = history["event"].to_numpy(), history["t_s"].to_numpy()
    is_last_stage = history["stage"].to_numpy() == len(plan.stages) - 1
    back_s = min(t_s[np.isin(events, ("rolled_back", "killed"))], default=math.nan)
    begun_s = min(t_s[(events == "started") & is_last_stage], default=math.nan)
    last = events[-1] if len(events) else "late"
    row: dict[str, Any] = {
        "outcome": last if last in ("done", "rolled_back", "paused", "killed") else "late",
        "back_s": back_s - plan.start_s,
        "full_s": begun_s - plan.start_s,
        "users": len(np.unique(user_of(client, run.scenario.tabs_per_user))),
        "user_min": float((to_s - from_s).sum() / 60.0),
        "lost": int(lost.sum()),
        "late": int(count[low_s >= control.polling.interval_s].sum()),
        "errors": int(errors.sum()),
        **dict.fromkeys(("t50_s", "t90_s", "t99_s", "t100_s"), math.nan),
        **_peaks(run, back_s),
        "warnings": kinds(rollout.warnings),
    }
    if ((from_s <= back_s) & (to_s > back_s)).any():
        row |= {
            name: t for name, t in rollouts.rollback_time(run, back_s).items() if name != "tabs"
        }
    return row


def _of_treatment(run: Run, table: str, *names: str) -> list[NDArray[Any]]:
    """Return some columns of a table, of the treatment cohort's rows."""
    columns = run.columns(table)
    rows = columns["cohort"] == "treatment"
    return [columns[name][rows] for name in names]


def _peaks(run: Run, back_s: float) -> dict[str, float]:
    """Return the highest load after the decision to roll back, NaN without one."""
    timeline = run.columns("timeline")
    t_s, width_s, polls, utilisation = (
        timeline[name].reshape(len(COHORTS), -1)
        for name in ("t_s", "width_s", "polls", "utilisation")
    )
    after = (t_s[0] >= back_s) & (t_s[0] <= back_s + _AFTER_S) & (width_s[0] > 0.0)
    polls_per_s = polls.sum(axis=0)[after] / width_s[0][after]
    return {
        "peak_polls_per_s": float(max(polls_per_s, default=math.nan)),
        "peak_utilisation": float(max(utilisation[0][after], default=math.nan)),
    }


def __dir__() -> list[str]:
    return sorted(__all__)


__getattr__ = renamed(globals(), {"judge": "summarise", "HEALTHY": "BASELINE"})
