"""When a plan without guardrails sets which percentage: known before the run, by its controller."""

from __future__ import annotations

import numpy as np

from simlib.core.assignment import Percent
from simlib.core.record import Count, MetricsSnapshot, Wait, bucket_edges_s
from simlib.errors import ScenarioError
from simlib.rollout.controller import RolloutController
from simlib.rollout.plan import Plan
from simlib.run import COHORTS
from simlib.scenario import Scenario


def percentages(plan: Plan, scenario: Scenario) -> tuple[Percent, ...]:
    """Return what a plan sets that nothing measured can change, in order of time.

    Parameters
    ----------
    plan : Plan
        Without guardrails.
    scenario : Scenario

    Returns
    -------
    tuple of Percent
        Those before the scenario's horizon. The kill switch sets minus infinity.

    Raises
    ------
    ScenarioError
        The plan has guardrails.

    Examples
    --------
    >>> stages = [{"percent": percent, "bake_s": 90} for percent in (10, 100)]
    >>> plan = Plan(flag={"propagation": "pushed"}, stages=stages, kill_s=150)
    >>> [tuple(each) for each in percentages(plan, Scenario(updates={"rate_per_s": 0.1}))]
    [(0.0, 10.0), (90.0, 100.0), (150.0, -inf)]
    """
    if plan.guardrails:
        rule = (
            "must be none, as what a guardrail sees may change the percentages, which have to be "
            "known beforehand: plan.replace(guardrails=[], kill_s=...) rolls back at a time"
        )
        raise ScenarioError("plan.guardrails", [each.metric for each in plan.guardrails], rule)
    controller = RolloutController(plan, scenario, 0, 0, explains=False)
    found = []
    while (t := controller.due_s()) < scenario.horizon_s:
        percent = controller.observe(_nothing_seen(scenario, t))
        if percent is not None:
            found.append(Percent(t, percent))
    return tuple(found)


def _nothing_seen(scenario: Scenario, t: float) -> MetricsSnapshot:
    """Return what a controller without guardrails looks at, and does not act upon."""
    cohorts, buckets = len(COHORTS), len(bucket_edges_s()) - 1
    none, nowhere = np.zeros(cohorts, np.int64), np.zeros((cohorts, buckets), np.int64)
    return MetricsSnapshot(
        t=t,
        counts=np.zeros((cohorts, len(Count)), np.int64),
        latency_ticks=none,
        histogram=nowhere,
        wait_ticks=np.zeros((len(Wait), cohorts), np.int64),
        wait_histogram=np.zeros((len(Wait), cohorts, buckets), np.int64),
        present=none,
        connected=none,
        exposed_s=np.zeros(cohorts),
        fallen_s=np.zeros(cohorts),
        busy_s=np.zeros(scenario.server.nodes),
        buffered_bytes=0.0,
    )
