"""Flagger's Canaries: what is read of them, and what is refused."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.errors import ScenarioError
from tests.rollout.formats.examples import CANARY, CANARY_SAID, POLLED, changed, load


def test_a_canary_is_read(tmp_path):
    plan = load(tmp_path, CANARY, **CANARY_SAID)
    assert plan == sl.Plan(
        name="push",
        flag=POLLED,
        check_every_s=90.0,
        # Flagger grows by 20 until it is 50 or more.
        stages=[
            {"percent": 20, "bake_s": 90},
            {"percent": 40, "bake_s": 90},
            {"percent": 60, "bake_s": 90},
            {"percent": 100, "bake_s": 90, "gate_s": 300},
        ],
        decision={"rule": "flagger", "failures": 10},
        guardrails=[
            {"metric": "latency_p99_s", "below": 0.7, "no_data": "fail"},
            {"metric": "utilisation", "above": 0.01, "no_data": "fail"},
            {"metric": "utilisation", "below": 0.9, "no_data": "fail"},
        ],
    )


def test_a_canarys_defaults_are_flaggers(tmp_path):
    plan = load(tmp_path, {"kind": "Canary", "spec": {"analysis": {"stepWeight": 50}}}, last_s=600)
    assert plan.check_every_s == 60.0
    assert plan.decision.failures == 1
    assert [(stage.percent, stage.bake_s) for stage in plan.stages] == [(50, 60), (100, 60)]
    weights = {"kind": "Canary", "spec": {"analysis": {"stepWeights": [1, 30]}}}
    assert [s.bake_s for s in load(tmp_path, weights, last_s=600).stages] == [60, 60, 600]


ANALYSIS = "spec.analysis."


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec", ..., "spec: must be given"),
        ("spec.analysis", ..., "spec.analysis: must be given"),
        ("spec.skipAnalysis", True, "spec.skipAnalysis: must be false"),
        ("spec.suspend", True, "spec.suspend: must be false"),
        ("spec.canaryAnalysis", {"interval": "1m"}, "spec.canaryAnalysis: must be under"),
        ("spec.other", 1, "spec.other: is not a known field"),
        (ANALYSIS + "mirrors", 1, "spec.analysis.mirrors: is not a known field"),
        (ANALYSIS + "iterations", 5, "spec.analysis.iterations: must be absent"),
        (ANALYSIS + "match", [{"headers": {}}], "spec.analysis.match: must be absent"),
        (ANALYSIS + "mirror", True, "spec.analysis.mirror: must be false"),
        (ANALYSIS + "interval", 60, "spec.analysis.interval: must be a duration"),
        (ANALYSIS + "interval", "60", "spec.analysis.interval: must be a duration"),
        (ANALYSIS + "interval", "5s", "spec.analysis.interval: must be at least 10s"),
        (ANALYSIS + "threshold", "10", "spec.analysis.threshold: must be a whole number"),
        (ANALYSIS + "stepWeight", 101, "spec.analysis.stepWeight: must be in [0, 100]"),
        (ANALYSIS + "maxWeight", 150, "spec.analysis.maxWeight: must be in [0, 100]"),
        (ANALYSIS + "stepWeight", "20", "spec.analysis.stepWeight: must be a whole number"),
        (ANALYSIS + "stepWeight", 0, "spec.analysis.stepWeight: must be > 0"),
        (ANALYSIS + "stepWeights", [10, 50], "spec.analysis.stepWeight: must be absent"),
        (ANALYSIS + "webhooks.0.type", "rollout", "spec.analysis.webhooks.0: must be acknowledged"),
        (ANALYSIS + "webhooks.0.type", ..., "spec.analysis.webhooks.0: must be acknowledged"),
        (ANALYSIS + "webhooks.0.type", "rollback", "webhooks.0: must be acknowledged"),
        (ANALYSIS + "webhooks.0.type", "other", "webhooks.0.type: must be one of confirm-rollout"),
        (ANALYSIS + "metrics.0.name", "success", "metrics.0.name: must be one of"),
        (ANALYSIS + "metrics.0.interval", "30", "metrics.0.interval: must be a duration"),
        ("spec.provider", "kubernetes", "spec.provider: must be another: this one shifts no tra"),
        (ANALYSIS + "metrics.0.threshold", 99, "metrics.0.threshold: must be under its name"),
        (ANALYSIS + "metrics.0.thresholdRange", ..., "thresholdRange: must be given"),
        (ANALYSIS + "metrics.0.thresholdRange", {}, "thresholdRange: must have a min or a max"),
        (ANALYSIS + "metrics.0.thresholdRange.max", "500", "max: must be a number"),
    ],
)
def test_what_a_plan_cannot_say_of_a_canary_is_refused_by_name(tmp_path, path, value, words):
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, changed(CANARY, path, value), **CANARY_SAID)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([10, 10], "stepWeights.1: must be > the one before"),
        ([0, 10], "stepWeights.0: must be a whole number in [1, 100]"),
        ([10, 120], "stepWeights.1: must be a whole number in [1, 100]"),
        ([10, "20"], "stepWeights.1: must be a whole number"),
        ("10", "stepWeights: must be a list"),
    ],
)
def test_weights_have_to_rise(tmp_path, weights, words):
    canary = {"kind": "Canary", "spec": {"analysis": {"stepWeights": weights}}}
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, canary)
    assert words in str(error.value)
