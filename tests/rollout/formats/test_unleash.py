"""Unleash's release plans: what is read of them, and what is refused."""

from __future__ import annotations

import sys

import pytest

import simlib as sl
from simlib.errors import ScenarioError
from tests.rollout.formats.examples import POLLED, SAID, UNLEASH, changed, load


def test_a_release_plan_of_unleash_is_read(tmp_path):
    plan = load(tmp_path, UNLEASH, "plan.json", **SAID["unleash_schedule.json"], last_s=7200)
    assert plan == sl.Plan(
        name="push, an hour at a time",
        flag=POLLED,
        check_every_s=3600.0,
        stages=[
            {"percent": 10, "bake_s": 3600},
            {"percent": 50, "bake_s": 7200},
            {"percent": 100, "bake_s": 7200},
        ],
        bucketing={"rule": "unleash"},
        decision={"rule": "argo", "failures": 0, "analysis": "background"},
        guardrails=[
            {
                "metric": "latency_p95_s",
                "below": 2.5,
                "fails_beyond": sys.float_info.max,
                "no_data": "pass",
            }
        ],
    )
    manual = changed(UNLEASH, "milestones.1.transitionCondition", ...)
    said = SAID["unleash_schedule.json"]
    assert load(tmp_path, manual, "plan.json", **said, gate_s=4000).stages[1].bake_s == 4000.0
    with pytest.raises(ScenarioError, match=r"gate_s: must be given.*milestones\.1"):
        load(tmp_path, manual, "plan.json", **said)


STRATEGY = "milestones.0.strategies.0."


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("milestones", [], "milestones: must hold a milestone"),
        ("milestones.0.sortOrder", 2, "milestones: must have a sortOrder each"),
        ("milestones.0.strategies", [], "milestones.0.strategies: must be one"),
        (STRATEGY + "strategyName", "userWithId", "strategyName: must be flexibleRollout"),
        (STRATEGY + "constraints", [{"values": ["a"]}], "constraints: must be empty"),
        (STRATEGY + "segments", [5], "segments: must be empty"),
        (STRATEGY + "variants", [{"name": "a"}], "variants: must be empty"),
        (STRATEGY + "parameters.rollout", "101", "rollout: must be in [0, 100]"),
        (STRATEGY + "parameters.rollout", "ten", "rollout: must be a number"),
        (STRATEGY + "parameters.stickiness", "random", "stickiness: must be userId or default"),
        (STRATEGY + "parameters.groupId", "other", "milestones: must have one groupId"),
        ("milestones.0.transitionCondition.intervalMinutes", 0, "intervalMinutes: must be in"),
        ("milestones.0.transitionCondition.intervalMinutes", 1.5, "must be a whole number"),
        ("safeguards.0.action.type", "disable", "safeguards.0.action.type: must be pauseRelease"),
        ("safeguards.0.triggerCondition.operator", ">=", "operator: must be > or <"),
        ("safeguards.0.impactMetric.timeRange", "month", "timeRange: must be hour, day, week"),
        ("safeguards.0.impactMetric.metricName", "errors", "metricName: must be one of ours"),
        ("safeguards.0.impactMetric.metricName", "latency_p99_s", "aggregationMode: must be p99"),
        ("safeguards.0.impactMetric.metricName", "latency_p95_s", "labelSelectors: must be empty"),
        ("rollouts", [], "rollouts: is not a known field"),
    ],
)
def test_what_a_plan_cannot_say_of_a_release_plan_is_refused_by_name(tmp_path, path, value, words):
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, changed(UNLEASH, path, value), **SAID["unleash_schedule.json"])
    assert words in str(error.value)
