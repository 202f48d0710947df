"""Argo's Rollouts and AnalysisTemplates: what is read of them, and what is refused."""

from __future__ import annotations

import math

import pytest

import simlib as sl
from simlib.errors import ScenarioError
from tests.rollout.formats.examples import (
    BACKGROUND,
    CPU,
    INLINE,
    POLLED,
    STEPS,
    changed,
    load,
    rollout,
)


def test_a_rollout_with_an_analysis_in_the_background_is_read(tmp_path):
    plan = load(tmp_path, BACKGROUND, gate_s=120, metrics=CPU)
    assert plan == sl.Plan(
        name="push",
        flag=POLLED,
        check_every_s=60.0,
        stages=[
            {"percent": 20, "bake_s": 600, "gate_s": 120},
            {"percent": 40, "bake_s": 360, "gate_s": 120},
            {"percent": 60, "bake_s": 120},  # approval by itself: so long it is watched
            {"percent": 100, "bake_s": 60},
        ],
        decision={"rule": "argo", "failures": 3, "analysis": "background"},
        guardrails=[
            # NaN is neither at most 2 nor more than 5, and not less than 0.5 either.
            {
                "metric": "latency_p95_s",
                "below": 2.0,
                "fails_beyond": 5.0,
                "no_number": "inconclusive",
            },
            # A strict condition does not hold at its limit.
            {
                "metric": "utilisation",
                "below": math.nextafter(0.5, 0.0),
                "delay_s": 120.0,
                "no_number": "fail",
            },
            {"metric": "memory_bytes", "below": math.nextafter(9.0, 0.0), "no_number": "pass"},
        ],
    )


def test_a_rollout_with_analyses_in_its_steps_is_read(tmp_path):
    plan = load(tmp_path, STEPS, gate_s=30, last_s=90)
    assert plan == sl.Plan(
        name="push",
        flag=POLLED,
        check_every_s=60.0,
        stages=[
            {"percent": 20, "bake_s": 300},
            {"percent": 50, "bake_s": 600, "gate_s": 30},
            {"percent": 100, "bake_s": 90, "watched_s": 0},  # Argo's analyses are over by then
        ],
        decision={"rule": "argo", "failures": -1, "errors": 2, "analysis": "step"},
        guardrails=[{"metric": "error_rate_per_h", "below": 2.0, "no_number": "fail"}],
    )


def test_a_rollout_without_analysis_leaves_the_decision_to_the_caller(tmp_path):
    steps = rollout({"setWeight": 10}, {"pause": {"duration": "30s"}})
    said = {"check_every_s": 10.0, "decision": {"rule": "argo"}, "last_s": 20}
    plan = load(tmp_path, steps, **said)
    assert plan.guardrails == ()
    assert plan.check_every_s == 10.0
    assert plan.decision.rule == "argo"
    assert [stage.bake_s for stage in load(tmp_path, steps).stages] == [30, 30]  # nobody checks
    with pytest.raises(ScenarioError, match="decision: must be left to the file"):
        load(tmp_path, STEPS, gate_s=30, decision=said["decision"])


CANARY_OF = "spec.strategy.canary."


@pytest.mark.parametrize(
    ("document", "path", "value", "words"),
    [
        (0, "spec.paused", True, "Rollout.spec.paused: must be false"),
        (0, "spec.strategy.blueGreen", {"activeService": "a"}, "blueGreen: must be canary"),
        (0, "spec.strategy", ..., "Rollout.spec.strategy: must be given"),
        (0, CANARY_OF + "steps", ..., "canary.steps: must be given"),
        (0, CANARY_OF + "steps", [{"pause": {}}], "steps: must set a weight"),
        (0, CANARY_OF + "other", 1, "canary.other: is not a known field"),
        (0, CANARY_OF + "trafficRouting", {"maxTrafficWeight": 1000}, "must be 100"),
        (0, CANARY_OF + "steps.1.setWeight", 101, "steps.1.setWeight: must be in [0, 100]"),
        (0, CANARY_OF + "steps.1.setWeight", 50, "steps.4.setWeight: must be >= the weight before"),
        (0, CANARY_OF + "steps.1", {"setWeight": 5, "pause": {}}, "steps.1: must be one thing"),
        (0, CANARY_OF + "steps.2", {"experiment": {"duration": "1h"}}, "steps.2.experiment: must"),
        (0, CANARY_OF + "steps.2", {"setHeaderRoute": {"name": "a"}}, "setHeaderRoute: must not"),
        (0, CANARY_OF + "steps.2", {"setMirrorRoute": {"name": "a"}}, "setMirrorRoute: must not"),
        (0, CANARY_OF + "steps.2", {"plugin": {"name": "a"}}, "plugin: must not be a step"),
        (0, CANARY_OF + "steps.2", {"sleep": 5}, "steps.2.sleep: is not a known field"),
        (0, CANARY_OF + "steps.2", {"analysis": INLINE}, "analysis: must be all or in background"),
        (0, CANARY_OF + "steps.2.pause.duration", "90", "stages"),
        (0, CANARY_OF + "steps.2.pause.duration", "1500ms", "duration: must be whole seconds"),
        (0, CANARY_OF + "steps.2.pause.duration", "soon", "duration: must be a duration"),
        (0, CANARY_OF + "steps.5", {"setWeight": 45}, "steps.4.setWeight: must be followed by"),
        (0, CANARY_OF + "steps.3", {"pause": {"duration": 5}}, None),
        (0, CANARY_OF + "steps.2.pause", {}, "steps.3: must come before pause: {}"),
        (0, CANARY_OF + "analysis.startingStep", -1, "startingStep: must be in [0"),
        (0, CANARY_OF + "analysis.dryRun", [{"metricName": "("}], "dryRun.0.metricName: must be a"),
        (0, CANARY_OF + "analysis.templates.0.templateName", "no", "must be the name of a"),
        (0, CANARY_OF + "analysis.templates", [], "analysis: must have a metric"),
        (1, "spec.dryRun", [{"metricName": "(a+)+"}], "AnalysisTemplate.spec.dryRun.0.metricName"),
        (1, "spec.metrics.0.name", "p95", "spec.metrics.0.name: must be one of ours, or metrics="),
        (1, "spec.metrics.0.name", "cpu", "spec.metrics.1.name: must be there once"),
        (1, "spec.metrics.0.interval", ..., "metrics.0.interval: must be given"),
        (1, "spec.metrics.0.interval", "90s", "metrics.0.interval: must be a multiple of the sh"),
        (1, "spec.metrics.0.failureLimit", 0.5, "failureLimit: must be a whole number"),
        (1, "spec.metrics.0.count", 10, "analysis: must have no count, or one that lasts"),
        (1, "spec.metrics.0.count", "{{args.n}}", "count: must be filled: args.n has no value"),
        (1, "spec.metrics.0.consecutiveSuccessLimit", 3, "consecutiveSuccessLimit: must be 0"),
        (1, "spec.metrics.0.provider", {"job": {"spec": 1}}, "provider.job: must be a provider"),
        (1, "spec.metrics.0.provider", {"kayenta": {"a": 1}}, "provider.kayenta: must be a"),
        (1, "spec.metrics.0.successCondition", "result[0] < ", "must turn at one number"),
        (1, "spec.metrics.0.successCondition", "result[0] == 5", "must turn at one number"),
        (1, "spec.metrics.0.successCondition", "result[0] > 1 && result[0] < 2", "at one number"),
        (1, "spec.metrics.0.successCondition", "result[0] <= 1e999", "must turn at one number"),
        (1, "spec.metrics.0.successCondition", "result[0] * 2 < 5", "must turn at one number"),
        (1, "spec.metrics.0.successCondition", "(" * 300 + "1" + ")" * 300, "must turn at one"),
        (1, "spec.metrics.0.successCondition", 5, "successCondition: must be text"),
        (1, "spec.metrics.0.failureCondition", "result[0] > 1", "must begin where successCond"),
        (1, "spec.metrics.0.failureCondition", "result[0] < 1", "must begin where successCond"),
        (1, "spec.metrics.2.failureCondition", ..., "successCondition: must be given, or fail"),
        (1, "spec.metrics.0.other", 5, "metrics.0.other: is not a known field"),
        (1, "metadata.name", ..., "AnalysisTemplate.metadata.name: must be given"),
    ],
)
def test_what_a_plan_cannot_say_of_a_rollout_is_refused_by_name(
    tmp_path, document, path, value, words
):
    documents = list(BACKGROUND)
    documents[document] = changed(documents[document], path, value)
    if words is None or words == "stages":  # a gate less, another pause: these can be said
        assert load(tmp_path, documents, gate_s=120, metrics=CPU)
        return
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, documents, gate_s=120, metrics=CPU)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("document", "path", "value", "words"),
    [
        (0, CANARY_OF + "steps.4.analysis.args", [], "count: must be filled"),
        (1, "spec.metrics.0.count", ..., "must have counts with which all its metrics end"),
    ],
)
def test_analyses_in_steps_have_to_be_alike(tmp_path, document, path, value, words):
    documents = list(STEPS)
    documents[document] = changed(documents[document], path, value)
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, documents, gate_s=30)
    assert words in str(error.value)
