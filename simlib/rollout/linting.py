"""Lint: what of a plan cannot do on a board what it is there for.

The plan is carried out on some healthy fleets, and on some of each regression, by a controller that
keeps what it saw. Each finding is a row with a number, its interval, and what would be right. A new
kind of finding is a function and its row in `KINDS`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simlib import experiment, theory
from simlib.experiment import Changes
from simlib.rollout.controller import buckets_of
from simlib.rollout.plan import Plan
from simlib.rollout.trials import (
    BASELINE,
    Trial,
    carry_out,
    cases_of,
    check_fleets,
    regressions,
    treated,
)
from simlib.rollout.warnings import warnings_of
from simlib.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

    from simlib.rollout.result import Rollout

COLUMNS = ("kind", "where", "says", "value", "low", "high")
_SELDOM_FRAC = 0.05
"""Up to so many checks without a measurement, or without a verdict, are no finding."""
_FOLLOWED_FRAC = 0.9
"""A stage whose percentage has been reached by less than this of it at its end is a finding."""
_BROKEN = 5
"""Fleets of each regression, at most."""
_USERS = 10_000


class Seen(NamedTuple):
    """What was seen of one fleet.

    Attributes
    ----------
    checks : tuple of (int, int, str, bool)
        Each check's guardrail, stage and result, and whether there was nothing to measure.
    reached : dict of int to float
        By stage: the share of the open tabs in treatment when it ended, over that of the users
        whom its percentage enrols.
    is_back : bool
        Whether it was rolled back.
    """

    checks: tuple[tuple[int, int, str, bool], ...]
    reached: dict[int, float]
    is_back: bool


class Facts(NamedTuple):
    """What findings are made of."""

    plan: Plan
    scenario: Scenario
    healthy: Sequence[Seen]
    broken: Mapping[str, Sequence[Seen]]
    confidence: float


class Finding(NamedTuple):
    """A row of `lint`, without its kind."""

    where: str
    says: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


def lint(
    plan: Plan,
    scenario: Scenario,
    broken: Mapping[str, Changes] | None = None,
    *,
    replications: int = 20,
    seed: int = 1,
    engine: str = "auto",
    on: Any = None,
    workers: int | None = None,
    confidence: float = 0.95,
    progress: bool = True,
) -> pd.DataFrame:
    """Say what of a plan cannot do on a board what it is there for.

    Parameters
    ----------
    plan : Plan
    scenario : Scenario
        The healthy board.
    broken : mapping of str to mapping, optional
        Regressions that guardrails are there to find, as for `rehearse`; absent:
        `trials.regressions`.
    replications : int, optional
        Healthy fleets, >= 2; of each regression there are at most 5.
    seed, engine, on, workers, progress : optional
        As in `rehearse`.
    confidence : float, optional
        Confidence of the intervals, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        A row for each finding: ``kind`` (one of `KINDS`), ``where`` (a path of the plan), ``says``
        (a sentence), and the number that it is about with its interval: ``value``, ``low``,
        ``high`` (shares of checks, of fleets or of users; NaN where nothing is random). Without
        rows nothing was found.

    Raises
    ------
    ScenarioError
        The plan does not fit the scenario, or an argument is out of range; before anything is run.
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` has what the finished fleets show.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.01}, clients=50, horizon_s=700)
    >>> plan = Plan(
    ...     flag={"propagation": "polled", "every_s": 10},
    ...     check_every_s=10,
    ...     stages=[{"percent": 50, "bake_s": 60}, {"percent": 100, "bake_s": 60}],
    ...     guardrails=[{"metric": "latency_p95_s", "below": 2.0}],
    ... )
    >>> found = lint(plan, board, {}, replications=3, engine="simpy", on="serial", progress=False)
    >>> found["kind"].unique().tolist()
    ['no measurement', 'no verdict']
    """
    broken = regressions(scenario, plan) if broken is None else broken
    cases = cases_of(plan, scenario, broken)
    check_fleets(replications, engine, on, workers, confidence)
    fleets = [
        (number, replication, changed)
        for number, (name, changed) in enumerate(cases.items())
        for replication in range(replications if name == BASELINE else min(_BROKEN, replications))
    ]
    each = (treated(plan, changed) for _, _, changed in fleets)
    execution = experiment.execution_of(on, engine, workers, progress, each)
    tasks = {
        (number, replication): Trial(plan, changed, seed, replication, execution.engine)
        for number, replication, changed in fleets
    }
    done: dict[experiment.Key, Seen] = {}
    complete = experiment.collect(tasks, see, execution, done, name="lint")
    of_case = {
        name: [seen for key, seen in sorted(done.items()) if key[0] == number]
        for number, name in enumerate(cases)
    }
    healthy = of_case.pop(BASELINE)
    facts = Facts(plan, scenario, healthy, of_case, confidence)
    return experiment.whole(_table(facts), done, tasks, is_complete=complete)


def _table(facts: Facts) -> pd.DataFrame:
    import pandas as pd

    rows = [(kind, *finding) for kind, find in KINDS.items() for finding in find(facts)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def see(fleet: Trial) -> Seen | None:
    """Carry a plan out on one fleet, and return what was seen; None if it was interrupted."""
    rollout = carry_out(fleet)
    return None if rollout is None else _seen(rollout)


def _seen(rollout: Rollout) -> Seen:
    history, checks, looks = rollout.history, rollout.checks, rollout.looks
    stage_at = history.drop_duplicates("t_s").set_index("t_s")["stage"].to_dict()
    nothing = checks["found"].isin(("too little data", "no number", "not evaluated"))
    stages = [int(stage_at[t_s]) for t_s in checks["t_s"]]
    columns = checks["guardrail"].tolist(), stages, checks["result"].tolist(), nothing.tolist()
    of_checks = zip(*columns, strict=True)
    run = rollout.run
    buckets = buckets_of(
        rollout.plan,
        len(run.columns("clients")["client"]),
        int(run.provenance["seed"]),
        int(run.provenance["replication"]),
        run.scenario.tabs_per_user,
    )
    present = looks.pivot_table(index="t_s", columns="cohort", values="present", observed=False)
    reached = {}
    for number, stage in enumerate(rollout.plan.stages):
        of_stage = history[(history["stage"] == number) & history["event"].isin(("passed", "done"))]
        if len(of_stage) and stage.percent > 0.0:
            last = present.loc[of_stage["t_s"].iloc[-1]]
            tabs = float(last["treatment"] + last["control"])
            share = float(last["treatment"]) / tabs if tabs else math.nan
            enrolled = float(np.mean(buckets < stage.percent)) if len(buckets) else 0.0
            reached[number] = share / enrolled if enrolled else math.nan
    is_back = bool((history["event"] == "rolled_back").any())
    return Seen(tuple(of_checks), reached, is_back)


# -- the kinds of findings -----------------------------------------------------------------------


def _warned(facts: Facts) -> Iterator[Finding]:
    for warning in warnings_of(facts.plan, facts.scenario):
        yield Finding(f"plan ({warning.kind})", warning.sentence)


def _unused(facts: Facts) -> Iterator[Finding]:
    for row in facts.plan.explain().to_dict("records"):
        if "guards nothing" in row["why"]:
            yield Finding(row["where"], f"The file's {row['where']} is not used: {row['why']}.")


def _always(facts: Facts) -> Iterator[Finding]:
    """Users whom no percentage takes out."""
    buckets = buckets_of(facts.plan, _USERS, 1, 0)
    share = float(np.mean(buckets < 0.0))
    if share > 0.0:
        rule = facts.plan.bucketing.rule
        says = (
            f"The rule {rule} enrols {100 * share:.3g} % of the users at 0 %, too: a rollback to 0 "
            "leaves them where they are. Take a rule whose buckets are not negative (floor_mod)."
        )
        yield Finding("bucketing.rule", says, share)


def _gap(facts: Facts) -> Iterator[Finding]:
    """Windows that leave a part of the time unseen."""
    for number, rail in enumerate(facts.plan.guardrails):
        every_s = rail.every_s or facts.plan.check_every_s
        if rail.window_s is not None and rail.window_s < every_s:
            share = 1.0 - rail.window_s / every_s
            says = (
                f"Each check looks back on {rail.window_s:g} s, and there is one every "
                f"{every_s:g} s: {100 * share:.3g} % of the time is never seen. Let the "
                "window be as long as the time between two checks."
            )
            yield Finding(f"guardrails.{number}.window_s", says, share)


def _empty(facts: Facts) -> Iterator[Finding]:
    """Checks that find nothing to measure."""
    holds = "an error" if facts.plan.decision.rule == "argo" else "no verdict: the stage waits"
    for number, stage, share in _shares(facts, lambda _result, is_empty: is_empty):
        rail = facts.plan.guardrails[number]
        means = {"hold": holds, "pass": "passed", "fail": "failed"}.get(rail.no_data, "no verdict")
        says = (
            f"In stage {stage + 1}, {_percent(share)} of the checks of {rail.metric} on healthy "
            f"fleets find nothing to measure, which counts as {means} (no_data). Check less often, "
            "look back longer (window_s), or enrol more at first."
        )
        yield Finding(f"guardrails.{number}", says, *share)


def _open(facts: Facts) -> Iterator[Finding]:
    """Checks that decide nothing."""
    is_open = ("inconclusive", "no_data")
    for number, stage, share in _shares(facts, lambda result, _is_empty: result in is_open):
        rail = facts.plan.guardrails[number]
        says = (
            f"In stage {stage + 1}, {_percent(share)} of the checks of {rail.metric} on healthy "
            "fleets end without a verdict."
        )
        yield Finding(f"guardrails.{number}", says, *share)


def _shares(
    facts: Facts, is_meant: Callable[[str, bool], bool]
) -> Iterator[tuple[int, int, tuple[float, float, float]]]:
    """Yield guardrails and stages of which more than a few checks are meant."""
    numbers = range(len(facts.plan.guardrails)), range(len(facts.plan.stages))
    for number, stage in itertools.product(*numbers):
        of_fleets = []
        for seen in facts.healthy:
            mine = [
                is_meant(result, is_empty)
                for rail, at, result, is_empty in seen.checks
                if (rail, at) == (number, stage)
            ]
            if mine:
                of_fleets.append(sum(mine) / len(mine))
        if of_fleets and np.mean(of_fleets) > _SELDOM_FRAC:
            yield number, stage, _interval(of_fleets, facts.confidence)


def _interval(shares: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Return the mean of some fleets' shares, and its interval; without one if there is one."""
    mean = float(np.mean(shares))
    if len(shares) < 2:
        return mean, math.nan, math.nan
    _, low, high = theory.mean_interval(shares, confidence)
    return mean, max(0.0, low), min(1.0, high)


def _percent(share: tuple[float, float, float]) -> str:
    value, low, high = (f"{100 * part:.3g}" for part in share)
    return f"{value} %" if math.isnan(share[1]) else f"{value} % ({low} to {high} %)"


def _early(facts: Facts) -> Iterator[Finding]:
    """Stages that end before their percentage has reached the tabs."""
    for number, stage in enumerate(facts.plan.stages):
        reached = [seen.reached[number] for seen in facts.healthy if number in seen.reached]
        reached = [share for share in reached if not math.isnan(share)]
        share = _interval(reached, facts.confidence) if reached else (math.nan,) * 3
        high = share[0] if math.isnan(share[2]) else share[2]
        if not high < _FOLLOWED_FRAC:
            continue
        says = (
            f"Stage {number + 1} asks for {stage.percent:g} % and ends when {_percent(share)} of "
            "that use the new version: what is measured in it is partly the stage before. Let it "
            "last longer, or let open tabs read the flag (flag.propagation)."
        )
        yield Finding(f"stages.{number}.bake_s", says, *share)


def _never(facts: Facts) -> Iterator[Finding]:
    """Guardrails that were never checked, as stages end before it is their turn."""
    for number, rail in enumerate(facts.plan.guardrails):
        if not any(at == number for seen in facts.healthy for at, *_ in seen.checks):
            says = (
                f"{rail.metric} was never checked on {len(facts.healthy)} healthy fleets: the "
                "stages that are watched end before it is its turn. Let them last longer, or check "
                "more often (every_s, delay_s)."
            )
            yield Finding(f"guardrails.{number}", says, 0.0)


def _back(facts: Facts) -> Iterator[Finding]:
    """Healthy fleets that are sent back."""
    back = [float(seen.is_back) for seen in facts.healthy]
    if not any(back):
        return
    from scipy import stats

    share = sum(back) / len(back)
    ends = stats.binomtest(int(sum(back)), len(back)).proportion_ci(facts.confidence, "wilson")
    whole = share, float(ends.low), float(ends.high)
    says = f"{_percent(whole)} of {len(back)} healthy fleets are rolled back."
    yield Finding("guardrails", says, *whole)


def _idle(facts: Facts) -> Iterator[Finding]:
    """Guardrails that none of the regressions trips."""
    every = [seen for fleets in facts.broken.values() for seen in fleets]
    names = ", ".join(facts.broken)
    trips = ("fail", "inconclusive")  # the second pauses, as a safeguard of Unleash does
    for number, rail in enumerate(facts.plan.guardrails if every else ()):
        failed = sum(
            any(at == number and result in trips for at, _, result, _ in seen.checks)
            for seen in every
        )
        if failed == 0:
            says = (
                f"No check of {rail.metric} failed on {len(every)} fleets with a regression "
                f"({names}): it finds none of these. Choose a stricter limit, or another metric."
            )
            yield Finding(f"guardrails.{number}", says, 0.0)


KINDS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "warning": _warned,
    "unused": _unused,
    "always enrolled": _always,
    "gap": _gap,
    "never checked": _never,
    "no measurement": _empty,
    "no verdict": _open,
    "too early": _early,
    "sent back": _back,
    "trips on nothing": _idle,
}
"""The kinds of findings, in the order in which they are given, and what finds them."""
