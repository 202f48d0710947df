"""Rollout plans as other tools write them: what is read, what is written, what is refused."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.core.measures import METRICS
from simlib.errors import ScenarioError

POLLED = {"reach": "polled", "every_s": 60.0}
PLANS = Path(__file__).parents[2] / "data/plans"
SAID = {
    "flagger_canary.yaml": {},
    "argo_rollout.yaml": {"gate_s": 120, "metrics": {"delivery-p95": ("latency_p95_s", 0.001)}},
    "unleash_schedule.json": {
        "metrics": {"unleash_histogram_delivery_seconds p95": "latency_p95_s"}
    },
    "growthbook_ramp.json": {"gate_s": 60, "bucketing": {"rule": "growthbook"}},
}


def load(path, value, name="plan.yaml", **said):
    """Load what is written to a file; a list is several documents."""
    file = path / name
    if not isinstance(value, str):
        documents = value if isinstance(value, list) else [value]
        value = json.dumps(value) if name.endswith("json") else yaml.safe_dump_all(documents)
    file.write_text(value, encoding="utf-8")
    return sl.Plan.load(file, **{"flag": POLLED, **said})


def changed(document, path, value):
    """Return a copy of a document with another value at a path; ... takes it away."""
    document = json.loads(json.dumps(document))
    place = document
    *sections, last = path.split(".")
    for section in sections:
        place = place[int(section)] if isinstance(place, list) else place.setdefault(section, {})
    key = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return document


CANARY = {
    "apiVersion": "flagger.app/v1beta1",
    "kind": "Canary",
    "metadata": {"name": "push", "labels": {"team": "desk"}},
    "spec": {
        "provider": "istio",
        "targetRef": {"kind": "Deployment", "name": "push"},
        "progressDeadlineSeconds": 60,
        "service": {"port": 9898},
        "analysis": {
            "interval": "1m30s",
            "threshold": 10,
            "maxWeight": 50,
            "stepWeight": 20,
            "stepWeightPromotion": 50,
            "metrics": [
                {
                    "name": "request-duration",
                    "thresholdRange": {"max": 700},
                    "interval": "90s",
                },
                {
                    "name": "utilisation",
                    "thresholdRange": {"min": 0.01, "max": 0.9},
                    "interval": "90s",
                    "templateRef": {"name": "cpu"},
                },
            ],
            "webhooks": [
                {"name": "may we", "type": "confirm-promotion", "url": "http://a"},
                {"name": "tell", "type": "event", "url": "http://a"},
            ],
        },
    },
}
CANARY_SAID = {"gate_s": "5 min", "metrics": {"request-duration": ("latency_p99_s", 0.001)}}


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
        (ANALYSIS + "webhooks.0.type", "rollout", "spec.analysis.webhooks.0.type: must be one"),
        (ANALYSIS + "webhooks.0.type", ..., "spec.analysis.webhooks.0.type: must be one"),
        (ANALYSIS + "webhooks.0.type", "rollback", "webhooks.0.type: must be one"),
        (ANALYSIS + "metrics.0.name", "request-success-rate", "metrics.0.name: must be one of"),
        (ANALYSIS + "metrics.0.interval", "30s", "metrics.0.interval: must be the analysis' (90"),
        (ANALYSIS + "metrics.0.interval", ..., "metrics.0.interval: must be the analysis'"),
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


def metric(name, **changes):
    return {
        "name": name,
        "interval": "1m",
        "successCondition": "result[0] <= 2",
        "provider": {"prometheus": {"query": "up"}},
        **changes,
    }


def rollout(*steps, **canary):
    spec = {"replicas": 3, "strategy": {"canary": {"steps": list(steps), **canary}}}
    return {"kind": "Rollout", "metadata": {"name": "push"}, "spec": spec}


def template(*metrics, **spec):
    spec = {"metrics": list(metrics), **spec}
    return {"kind": "AnalysisTemplate", "metadata": {"name": "health"}, "spec": spec}


HEALTH = {"templates": [{"templateName": "health"}]}
BACKGROUND = [
    rollout(
        {"pause": {}},
        {"setWeight": 20},
        {"pause": {"duration": "10m"}},
        {"pause": {}},
        {"setWeight": 40},
        {"pause": {"duration": 300}},
        {"pause": {"duration": "60"}},
        {"setWeight": 60},
        {"pause": {}},
        analysis=HEALTH,
    ),
    template(
        metric("latency_p95_s", failureLimit=3, failureCondition="result[0] > 5"),
        metric("cpu", failureLimit="3", successCondition="result < 0.5", initialDelay="2m"),
        metric("memory_bytes", failureLimit=3, successCondition="", failureCondition="result >= 9"),
    ),
]
CPU = {"cpu": "utilisation"}


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
            {"metric": "latency_p95_s", "below": 2.0, "fails_beyond": 5.0},
            # A strict condition does not hold at its limit.
            {"metric": "utilisation", "below": math.nextafter(0.5, 0.0), "delay_s": 120.0},
            {"metric": "memory_bytes", "below": math.nextafter(9.0, 0.0)},
        ],
    )


INLINE = {**HEALTH, "args": [{"name": "n", "value": "5"}]}
STEPS = [
    rollout(
        {"setWeight": 20},
        {"analysis": INLINE},
        {"pause": {}},
        {"setWeight": 50},
        {"analysis": {**HEALTH, "args": [{"name": "n", "value": "10"}]}},
        {"setWeight": 100},
    ),
    template(
        metric("error_rate_per_h", count="{{args.n}}", failureLimit=-1, consecutiveErrorLimit=2),
        args=[{"name": "n"}],
    ),
]


def test_a_rollout_with_analyses_in_its_steps_is_read(tmp_path):
    plan = load(tmp_path, STEPS, gate_s=30, last_s=90)
    assert plan == sl.Plan(
        name="push",
        flag=POLLED,
        check_every_s=60.0,
        stages=[
            {"percent": 20, "bake_s": 300},
            {"percent": 50, "bake_s": 600, "gate_s": 30},
            {"percent": 100, "bake_s": 90},
        ],
        decision={"rule": "argo", "failures": -1, "errors": 2, "analysis": "step"},
        guardrails=[{"metric": "error_rate_per_h", "below": 2.0}],
    )


def test_a_rollout_without_analysis_leaves_the_decision_to_the_caller(tmp_path):
    steps = rollout({"setWeight": 10}, {"pause": {"duration": "30s"}})
    said = {"check_every_s": 10.0, "decision": {"rule": "argo"}, "last_s": 20}
    plan = load(tmp_path, steps, **said)
    assert plan.guardrails == ()
    assert plan.check_every_s == 10.0
    assert plan.decision.rule == "argo"
    with pytest.raises(ScenarioError, match=r"bake_s: must be >= check_every_s \(60\)"):
        load(tmp_path, steps)
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
        (0, CANARY_OF + "analysis.startingStep", 2, "startingStep: must be absent"),
        (0, CANARY_OF + "analysis.dryRun", [{"metricName": "a"}], "dryRun: must be absent"),
        (0, CANARY_OF + "analysis.templates.0.templateName", "no", "must be the name of a"),
        (0, CANARY_OF + "analysis.templates", [], "analysis: must have a metric"),
        (1, "spec.dryRun", [{"metricName": "a"}], "AnalysisTemplate.spec.dryRun: must be absent"),
        (1, "spec.metrics.0.name", "p95", "spec.metrics.0.name: must be one of ours, or metrics="),
        (1, "spec.metrics.0.name", "cpu", "spec.metrics.1.name: must be there once"),
        (1, "spec.metrics.0.interval", ..., "metrics.0.interval: must be given"),
        (1, "spec.metrics.0.interval", "2m", "metrics.1: must have the interval and the limits"),
        (1, "spec.metrics.0.failureLimit", 4, "metrics.1: must have the interval and the limits"),
        (1, "spec.metrics.0.failureLimit", 0.5, "failureLimit: must be a whole number"),
        (1, "spec.metrics.0.count", 10, "analysis: must have no count, or one that lasts"),
        (1, "spec.metrics.0.count", "{{args.n}}", "count: must be filled: args.n has no value"),
        (1, "spec.metrics.0.consecutiveSuccessLimit", 3, "consecutiveSuccessLimit: must be 0"),
        (1, "spec.metrics.0.provider", {"job": {"spec": 1}}, "provider.job: must be a provider"),
        (1, "spec.metrics.0.provider", {"kayenta": {"a": 1}}, "provider.kayenta: must be a"),
        (1, "spec.metrics.0.successCondition", "all(result, # < 5)", "must be one threshold"),
        (1, "spec.metrics.0.successCondition", "result[0] == 5", "must be one threshold"),
        (1, "spec.metrics.0.successCondition", "result[0] > 1 && result[0] < 2", "one threshold"),
        (1, "spec.metrics.0.successCondition", "result[0] <= 1e999", "must be one threshold"),
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
        (0, CANARY_OF + "steps.2", {"pause": {"duration": 60}}, "steps.1.analysis: must be the on"),
        (0, CANARY_OF + "steps.4", {"pause": {"duration": 60}}, "steps.3.setWeight: must have an"),
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


UNLEASH = json.loads((PLANS / "unleash_schedule.json").read_text(encoding="utf-8"))
GROWTHBOOK = json.loads((PLANS / "growthbook_ramp.json").read_text(encoding="utf-8"))


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


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("steps", [], "steps: must hold a step"),
        ("steps.0.monitored", True, "steps.0.monitored: must be false"),
        ("steps.0.actions", [], "steps.0.actions: must set a coverage"),
        ("steps.0.actions.0.patch.coverage", 10, "coverage: must be in [0, 1]"),
        ("steps.0.actions.0.patch.condition", "{a}", "patch.condition: must be absent"),
        ("steps.0.holdConditions", {"minSampleSize": 5}, "minSampleSize: must be absent"),
        ("monitoringConfig", {"autoRollback": True}, "monitoringConfig: must be absent"),
        ("cutoffDate", "2026-01-01", "cutoffDate: must be absent"),
        ("startActions", [{"patch": {"coverage": 0.5}}], "startActions: must leave a coverage"),
    ],
)
def test_what_a_plan_cannot_say_of_a_ramp_is_refused_by_name(tmp_path, path, value, words):
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, changed(GROWTHBOOK, path, value), **SAID["growthbook_ramp.json"])
    assert words in str(error.value)


def test_a_ramp_of_growthbook_leaves_its_hash_to_the_caller(tmp_path):
    plan = load(tmp_path, GROWTHBOOK, "ramp.json", **SAID["growthbook_ramp.json"], last_s=300)
    assert [(s.percent, s.bake_s, s.gate_s) for s in plan.stages] == [
        (10, 600, 0),
        (50, 600, 0),
        (100, 300, 60),
    ]
    with pytest.raises(ScenarioError, match=r"bucketing\.rule: must be given, growthbook or"):
        load(tmp_path, GROWTHBOOK, "ramp.json", gate_s=60)
    with pytest.raises(ScenarioError, match=r"bucketing\.flag: must be left to the file"):
        load(tmp_path, GROWTHBOOK, "ramp.json", gate_s=60, bucketing={"flag": "other"})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"flag": ...}, "flag: must be given, such as"),
        ({"gate_s": None}, "gate_s: must be given: how long somebody takes to approve at spec.an"),
        ({"gate_s": "soon"}, "gate_s: must be a duration"),
        ({"gate_s": -1}, "gate_s: must be a duration >= 0"),
        ({"gate_s": math.nan}, "gate_s: must be a duration >= 0"),
        ({"last_s": True}, "last_s: must be a duration >= 0"),
        ({"metrics": {}}, "metrics.0.name: must be one of ours"),
        ({"metrics": "latency"}, "metrics: must map"),
        ({"metrics": {"request-duration": "speed"}}, "metrics.request-duration: must be one of"),
        ({"metrics": {"a": ("utilisation", 0)}}, "metrics.a: must be a factor"),
        ({"stages": []}, "stages: must be left to the file"),
        ({"check_every_s": 5}, "check_every_s: must be left to the file"),
        ({"flags": 5}, "flags: is not a known field"),
        ({"rollback": {"sockets": "drained"}}, "rollback.window_s: must be given"),
    ],
)
def test_what_the_caller_has_to_say_is_asked_for_by_name(tmp_path, said, words):
    said = {**CANARY_SAID, "flag": POLLED, **said}
    said = {name: value for name, value in said.items() if value is not ...}
    path = tmp_path / "canary.yaml"
    path.write_text(yaml.safe_dump(CANARY), encoding="utf-8")
    with pytest.raises(ScenarioError) as error:
        sl.Plan.load(path, **said)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"kind": "Deployment"}, "plan.yaml: must be a Canary, a Rollout, or have milestones"),
        ({"a": 1}, "plan.yaml: must be a Canary, a Rollout, or have milestones"),
        ([CANARY, CANARY], "plan.yaml: must be there once in a file"),
        ([*BACKGROUND, BACKGROUND[0]], "plan.yaml: must be there once in a file"),
        ([*BACKGROUND, BACKGROUND[1]], "metadata.name: must be another's"),
        ([UNLEASH, UNLEASH], "plan.yaml: must hold one document alone"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path, value, words):
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, value, gate_s=5)
    assert words in str(error.value)


def test_a_toml_file_says_everything(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(sl.Plan(flag=POLLED).dump(), encoding="utf-8")
    for said in ({"flag": POLLED}, {"gate_s": 5}, {"metrics": {}}):
        with pytest.raises(ScenarioError, match="has no meaning for a TOML file"):
            sl.Plan.load(path, **said)


@pytest.mark.parametrize("path", sorted(PLANS.iterdir()), ids=lambda path: path.name)
def test_every_plan_of_the_data_is_carried_out(path):
    said = SAID.get(path.name)
    plan = sl.Plan.load(path) if said is None else sl.Plan.load(path, flag=POLLED, **said)
    listed = (PLANS.parent / "README.md").read_text(encoding="utf-8")
    assert f"`plans/{path.name}`" in listed
    end_s = plan.start_s + plan.length_s + plan.check_every_s
    board = sl.Scenario(
        clients=20,
        ramp_s=10.0,
        horizon_s=end_s,
        updates={"rate_per_s": 0.05},
        polling={"interval_s": 30.0},
        heartbeat={"direction": "none"},
    )
    history = sl.roll_out(plan, board, engine="compiled", progress=False).history
    begun = history[history["what"] == "begun"]
    assert list(begun["percent"]) == [stage.percent for stage in plan.stages][: len(begun)]
    assert history["what"].iloc[-1] in ("done", "back", "stopped")


@st.composite
def plans(draw) -> sl.Plan:
    """Plans of all kinds, many of which some format can say."""
    like = draw(st.sampled_from(["flagger", "argo", "unleash", "growthbook", None]))
    odd = st.sampled_from([False] * 30 + [True])
    check_s = draw(st.sampled_from([10.0, 60.0, 90.0, 3600.0, 12.25]))
    check_s = 3600.0 if like == "unleash" and not draw(odd) else check_s
    percents = sorted(draw(st.sets(st.sampled_from([0, 1, 5, 10.5, 25, 33.3, 50]), max_size=4)))
    percents = [p for p in percents if draw(odd) or (p == int(p) and p)]
    percents.append(100 if not draw(odd) else 75)
    gate_s = draw(st.sampled_from([0.0, 0.0, 30.0, 60.5]))
    gated = draw(st.sampled_from(["none", "first", "all", "some"]))
    stages = []
    for number, percent in enumerate(percents):
        has_gate = {"none": False, "first": number == 0, "all": True}.get(gated, number % 2 == 1)
        many = 1 if like == "flagger" and not draw(odd) else draw(st.integers(1, 5))
        bake_s = check_s * many + (0.5 if draw(odd) else 0.0)
        has_gate = has_gate and like != "unleash"
        stages.append({"percent": percent, "bake_s": bake_s, "gate_s": gate_s * has_gate})
    no_data = {"flagger": "fail", "unleash": "pass"}.get(like, "hold")
    limits = st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1e-300, 2.5, 1e300])
    rails = []
    for _ in range(0 if like == "growthbook" else draw(st.integers(0, 3))):
        upper, limit = draw(st.booleans()), draw(limits)
        rail = {"metric": draw(st.sampled_from(METRICS)), "no_data": no_data}
        rail["below" if upper else "above"] = limit
        if like == "unleash":
            rail["fails_beyond"] = sys.float_info.max if upper else -sys.float_info.max
        elif like == "argo":
            rail["delay_s"] = draw(st.sampled_from([0.0, 0.0, check_s]))
            if draw(st.booleans()):
                rail["fails_beyond"] = limit + 1e300 if upper else limit - 1e300
        if draw(odd):
            rail |= draw(st.sampled_from([{"min_sample": 5}, {"no_data": "pass"}]))
        if draw(odd) or rail["metric"] not in [other["metric"] for other in rails]:
            rails.append(rail)
    decision = {"rule": "flagger", "failures": draw(st.integers(1, 9))}
    if like == "unleash":
        decision = {"rule": "argo", "failures": 0, "analysis": "background"}
    elif like == "argo":
        decision = {"rule": "argo", "failures": draw(st.integers(-1, 5))}
        decision["analysis"] = draw(st.sampled_from(["step", "background", None]))
        decision["errors"] = draw(st.sampled_from([None, 0, 4]))
        decision["inconclusive"] = draw(st.sampled_from([None, 0, 4]))
    rule = {"unleash": "unleash", "growthbook": "growthbook"}.get(like, "floor_mod")
    values = {
        "name": draw(st.sampled_from(["plan", "push-1"] if like else ["plan", "A plan: é\n"])),
        "flag": draw(st.sampled_from([POLLED, {"reach": "build", "delay_s": 60.0}])),
        "start_s": draw(st.sampled_from([0.0, 30.0])),
        "check_every_s": check_s,
        "stages": stages,
        "bucketing": {"rule": rule, "flag": draw(st.sampled_from(["a", "true", " b", "5"]))},
        "rollback": {"sockets": "drained", "window_s": 30.0} if draw(st.booleans()) else {},
        "decision": decision,
        "guardrails": rails,
        **draw(st.sampled_from([{}, {}, {}, {}, {"kill_s": 5.0}])),
    }
    try:
        return sl.Plan(**values)
    except ScenarioError:  # a delay as long as the longest stage
        return sl.Plan(**{**values, "guardrails": [], "decision": {"failures": 1}})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(plans(), st.sampled_from(["flagger", "argo", "unleash", "growthbook"]))
def test_a_plan_is_read_as_it_was_written_or_refused_by_name(tmp_path, plan, kind):
    refused = None
    try:
        text = plan.dump(kind)
    except ScenarioError as error:
        refused = error
    if refused is not None:
        assert refused.path.partition(".")[0] in sl.Plan.model_fields, str(refused)
        return
    path = tmp_path / ("plan.yaml" if kind in ("flagger", "argo") else "plan.json")
    path.write_text(text, encoding="utf-8")
    whole = plan.model_dump()
    said = {name: whole[name] for name in ("flag", "rollback", "start_s", "bucketing")}
    if kind == "unleash":
        del said["bucketing"]["rule"], said["bucketing"]["flag"]
    if kind == "growthbook":
        del said["bucketing"]["flag"]
    if kind == "growthbook" or (kind != "flagger" and not plan.guardrails):
        said |= {name: whole[name] for name in ("check_every_s", "decision")}
    gates = [stage.gate_s for stage in plan.stages if stage.gate_s]
    again = sl.Plan.load(
        path, gate_s=gates[0] if gates else None, last_s=whole["stages"][-1]["bake_s"], **said
    )
    if plan.guardrails and plan.decision.rule == "argo" and plan.decision.analysis is None:
        plan = plan.replace({"decision.analysis": "step"})
    assert again == plan


@pytest.mark.parametrize("kind", ["flagger", "argo", "unleash", "growthbook"])
def test_every_format_can_say_something(kind):
    values = {
        "flagger": {"check_every_s": 600.0},
        "argo": {"decision": {"rule": "argo", "analysis": "background"}},
        "unleash": {"bucketing": {"rule": "unleash"}},
        "growthbook": {"bucketing": {"rule": "growthbook_v1"}},
    }
    assert sl.Plan(flag=POLLED, **values[kind]).dump(kind)
    with pytest.raises(ScenarioError, match="format: must be toml, flagger"):
        sl.Plan(flag=POLLED).dump("yaml")


RAIL = {"metric": "latency_p99_s", "below": 1.0}


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("flagger", {"kill_s": 5.0}, "kill_s: must be None"),
        ("argo", {"rollback": {"percents": [50, 0], "every_s": 5}}, "rollback.percents: must be"),
        (
            "argo",
            {"bucketing": {"deciders": "or", "server_percent": 5.0}},
            "bucketing.deciders: must be 'ramp'",
        ),
        ("argo", {"name": "My plan"}, "name: must be small letters"),
        (
            "argo",
            {"guardrails": [{"metric": "latency_p99_s", "times_control": 2.0}]},
            "guardrails.0.times_control: must be a limit",
        ),
        (
            "argo",
            {"guardrails": [{"metric": "latency_p99_s", "judge": "mann_whitney"}]},
            "guardrails.0.judge: must be a limit",
        ),
        ("argo", {"guardrails": [{**RAIL, "min_sample": 5}]}, "guardrails.0.min_sample: must be 1"),
        ("argo", {"guardrails": [RAIL]}, "decision.rule: must be 'argo'"),
        (
            "argo",
            {"decision": {"rule": "argo"}, "guardrails": [RAIL, {**RAIL, "below": 2.0}]},
            "guardrails.1.metric: must be another's",
        ),
        ("flagger", {}, "stages.0.bake_s: must be 60.0"),
        ("flagger", {"check_every_s": 5.0}, "check_every_s: must be >= 10"),
        ("flagger", {"guardrails": [RAIL]}, "guardrails.0.no_data: must be 'fail'"),
        ("flagger", {"decision": {"rule": "argo"}}, "decision.rule: must be 'flagger'"),
        ("unleash", {}, "bucketing.rule: must be 'unleash'"),
        ("growthbook", {}, "bucketing.rule: must be 'growthbook' or 'growthbook_v1'"),
        (
            "growthbook",
            {"bucketing": {"rule": "growthbook"}, "guardrails": [RAIL]},
            "guardrails: must be none",
        ),
        (
            "unleash",
            {"bucketing": {"rule": "unleash"}, "guardrails": [RAIL], "check_every_s": 600.0},
            "check_every_s: must be 3600.0 or",
        ),
    ],
)
def test_what_a_format_cannot_say_of_a_plan_is_refused_by_name(kind, values, words):
    with pytest.raises(ScenarioError) as error:
        sl.Plan(**{"flag": POLLED, **values}).dump(kind)
    assert str(error.value).startswith(words)


TEXTS = [
    *(yaml.safe_dump(CANARY), yaml.safe_dump_all(BACKGROUND), yaml.safe_dump_all(STEPS)),
    *(yaml.safe_dump(UNLEASH), yaml.safe_dump(GROWTHBOOK)),
]
BITS = st.sampled_from(
    [
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "<<: *a",
        "!!int ",
        "\n",
        "\t",
        "'",
        '"',
        "|",
        "---\n",
        "null",
        "true",
        "1:30",
        "1e3",
        "0x10",
        ".inf",
        ".nan",
        "-5",
        "99999999999999999999",
        "1m",
        "~",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    st.sampled_from(TEXTS),
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 12), BITS | st.text(max_size=4)), max_size=4
    ),
)
def test_what_is_malformed_is_an_error_of_the_scenario(tmp_path, text, edits):
    for where, length, bit in edits:
        at = int(where * len(text))
        text = text[:at] + bit + text[at + length :]
    path = tmp_path / "plan.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = {"gate_s": 60, "metrics": {**CPU, **CANARY_SAID["metrics"]}}
    with contextlib.suppress(ScenarioError):
        sl.Plan.load(path, flag=POLLED, **said)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["1m", "5", "", "a"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value, path=()):
    """Yield the path of everything in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.sampled_from([[CANARY], BACKGROUND, STEPS, [UNLEASH], [GROWTHBOOK]]), st.data())
def test_any_value_in_any_place_is_read_or_refused(tmp_path, documents, data):
    documents = json.loads(json.dumps(documents))
    *sections, last = data.draw(st.sampled_from(list(places(documents))))
    place = documents
    for section in sections:
        place = place[section]
    place[last] = data.draw(VALUES)
    said = {"gate_s": 60, "metrics": {**CPU, **CANARY_SAID["metrics"]}}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    with contextlib.suppress(ScenarioError):
        sl.Plan.load(path, flag=POLLED, **said)
