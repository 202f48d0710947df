"""Files of the kinds that teams have in their repositories, read as their controllers read them."""

from __future__ import annotations

import json
import math

import pytest

import simlib as sl
from simlib.errors import ScenarioError
from tests.rollout.formats.examples import POLLED, load, metric, rollout, template

P99 = {"name": "latency_p99_s", "thresholdRange": {"max": 0.5}, "interval": "1m"}
SUCCESS = {"name": "request-success-rate", "thresholdRange": {"min": 99}, "interval": "1m"}
ANALYSIS = {"templates": [{"templateName": "health"}]}


def canary(name="web", *, spec=None, **analysis):
    whole = {"interval": "1m", "threshold": 5, "stepWeight": 10, "maxWeight": 50, **analysis}
    whole = {key: value for key, value in whole.items() if value is not None}
    return {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": name},
        "spec": {**(spec or {}), "analysis": whole},
    }


def webhook(kind=None, name="load-test"):
    return {"name": name, "url": "http://loader/", **({"type": kind} if kind else {})}


def problems(tmp_path, *documents, **said):
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, list(documents), **said)
    return [f"{one.path}: {one.rule}" for one in error.value.problems]


# -- Flagger ---------------------------------------------------------------------------------------


def test_the_built_in_success_rate_is_a_most_of_errors_among_requests(tmp_path):
    plan = load(tmp_path, canary(metrics=[SUCCESS]))
    [rail] = plan.guardrails
    assert (rail.metric, rail.below, rail.above) == ("errors_per_request", 0.01, None)
    assert rail.no_data == "fail"


def test_a_mapping_that_turns_a_success_rate_into_a_least_rate_of_errors_is_refused(tmp_path):
    said = {"metrics": {"request-success-rate": "error_rate_per_h"}}
    [problem] = problems(tmp_path, canary(metrics=[SUCCESS]), **said)
    assert problem.startswith(
        "spec.analysis.metrics.0.name: must not become a least value of error_rate_per_h"
    )
    own = {**SUCCESS, "name": "ours", "templateRef": {"name": "ours"}}
    turned = {"metrics": {"ours": ("errors_per_request", -0.01, 1)}}
    assert load(tmp_path, canary(metrics=[own]), **turned).guardrails[0].below == 0.01


def test_a_metric_can_be_left_out_by_name(tmp_path):
    plan = load(tmp_path, canary(metrics=[SUCCESS, P99]), metrics={"request-success-rate": None})
    assert [rail.metric for rail in plan.guardrails] == ["latency_p99_s"]
    why = plan.explain().set_index("where").loc["spec.analysis.metrics.0", "why"]
    assert why == "the caller leaves it out"


@pytest.mark.parametrize(
    ("tick", "interval", "window_s"),
    [("10s", "1m", 60.0), ("2m", "30s", 30.0), ("30s", None, 60.0), ("1m", None, None)],
)
def test_a_metric_looks_back_on_its_own_interval(tmp_path, tick, interval, window_s):
    one = {key: value for key, value in {**P99, "interval": interval}.items() if value}
    plan = load(tmp_path, canary(interval=tick, metrics=[one]))
    assert plan.guardrails[0].window_s == window_s
    again = tmp_path / "again.yaml"
    again.write_text(plan.dump("flagger"))
    assert sl.Plan.load(again, flag=POLLED) == plan


@pytest.mark.parametrize("webhooks", ["pass", {"load-test": "pass"}, {"rollout": "pass"}])
def test_webhooks_that_pass_change_nothing(tmp_path, webhooks):
    hooked = canary(metrics=[P99], webhooks=[webhook()])
    assert load(tmp_path, hooked, webhooks=webhooks) == load(tmp_path, canary(metrics=[P99]))


def test_webhooks_that_nobody_answers_for_are_refused_by_name(tmp_path):
    hooks = [webhook("pre-rollout", "smoke"), webhook()]
    found = problems(tmp_path, canary(webhooks=hooks), webhooks={"smoke": "pass"})
    assert len(found) == 1
    assert 'webhooks={"load-test": "pass"}, by its name or its type (rollout)' in found[0]


@pytest.mark.parametrize(
    ("kind", "first", "history"),
    [
        ("rollout", 10.0, ["started", "failed", "failed", "rolled_back"]),
        ("pre-rollout", 0.0, ["started", "failed", "failed", "rolled_back"]),
    ],
)
def test_a_webhook_that_fails_sends_the_rollout_back(tmp_path, kind, first, history):
    hooked = canary(threshold=2, webhooks=[webhook(kind)])
    plan = load(tmp_path, hooked, webhooks="fail")
    assert plan.stages[0].percent == first
    board = sl.Scenario(updates={"rate_per_s": 0.1}, clients=20, horizon_s=1000.0)
    result = sl.roll_out(plan, board, engine="simpy", progress=False)
    assert result.history["event"].tolist() == history


@pytest.mark.parametrize(
    ("said", "gates"),
    [
        ({"gate_s": 60}, [60.0] * 6),
        ({"webhooks": "pass"}, [0.0] * 6),
        ({"webhooks": "wait", "gate_s": 30}, [30.0] * 6),
        ({"webhooks": {"load-test": "pass"}, "gate_s": 30}, [0.0] * 6),
    ],
)
def test_a_gate_takes_as_long_as_the_caller_says(tmp_path, said, gates):
    plan = load(tmp_path, canary(webhooks=[webhook("confirm-traffic-increase")]), **said)
    assert [stage.gate_s for stage in plan.stages] == gates


def test_what_no_webhook_may_answer_is_refused(tmp_path):
    for kind, answer, words in (
        ("confirm-rollout", "fail", "must be pass or wait: a gate that nobody opens"),
        ("rollback", {"rollback": "pass"}, "must be fail: Flagger goes back when it passes"),
        ("skip", {"load-test": "pass"}, "must be fail: Flagger promotes at once when it passes"),
        ("rollout", {"load-test": "pass", "smoke": "fail"}, "webhooks.smoke: must be the name or"),
        ("rollout", "wait", "must be pass or fail"),
        ("rollout", "later", "must be pass, fail, wait, or names"),
    ):
        with pytest.raises(ScenarioError, match=words):
            load(tmp_path, canary(webhooks=[webhook(kind)]), webhooks=answer)
    for answer in ("pass", "fail", {"rollback": "fail"}):
        plan = load(tmp_path, canary(webhooks=[webhook("rollback")]), webhooks=answer)
        assert plan == load(tmp_path, canary())  # nobody asks for it


def test_what_never_passes_before_the_first_weight_has_a_stage_before_all_gates(tmp_path):
    hooks = [webhook("confirm-rollout", "gate"), webhook("pre-rollout", "smoke")]
    answers = {"gate": "wait", "smoke": "fail"}
    plan = load(tmp_path, canary(webhooks=hooks), webhooks=answers, gate_s=60)
    assert [(s.percent, s.gate_s) for s in plan.stages][:2] == [(0.0, 60.0), (10.0, 0.0)]


@pytest.mark.parametrize("where", ["interval", "metrics"])
def test_an_interval_of_no_length_is_refused(tmp_path, where):
    changes = (
        {"interval": "0s"} if where == "interval" else {"metrics": [{**P99, "interval": "0s"}]}
    )
    [problem] = problems(tmp_path, canary(**changes))
    assert "interval: must be" in problem


@pytest.mark.parametrize("most", [50, 70, 0, None])
def test_max_weight_says_nothing_beside_step_weights(tmp_path, most):
    weights = {"stepWeight": None, "stepWeights": [5, 10, 25, 50], "maxWeight": most}
    plan = load(tmp_path, canary(**weights))
    assert [stage.percent for stage in plan.stages] == [5, 10, 25, 50, 100]


def test_what_shifts_no_traffic_is_refused_for_what_it_is(tmp_path):
    [provider] = problems(tmp_path, canary(spec={"provider": "kubernetes"}))
    assert "Flagger makes ten iterations of any weights" in provider
    [iterations] = problems(tmp_path, canary(stepWeight=None, maxWeight=None, iterations=5))
    assert "then everybody at once (blue/green" in iterations


def test_one_of_several_canaries_is_chosen_by_name(tmp_path):
    both = canary("plain"), canary("front", stepWeight=20)
    [problem] = problems(tmp_path, *both)
    assert "plain, front" in problem
    plan = load(tmp_path, list(both), name="front")
    assert [stage.percent for stage in plan.stages] == [20, 40, 60, 100]
    items = {"apiVersion": "v1", "kind": "List", "items": [*both]}
    assert load(tmp_path, items, name="front") == plan


@pytest.mark.parametrize(
    ("affinity", "sticks"),
    [
        (None, "users"),
        ({"cookieName": "new", "maxAge": 600}, "enrolled"),
        ({"cookieName": "new", "primaryCookieName": "old"}, "users"),
    ],
)
def test_a_cookie_for_the_new_version_alone_lets_users_drift(tmp_path, affinity, sticks):
    plan = load(tmp_path, canary(sessionAffinity=affinity), bucketing={"ids": "email"})
    assert (plan.bucketing.sticks, plan.bucketing.ids) == (sticks, "email")
    again = tmp_path / "again.yaml"
    again.write_text(plan.dump("flagger"))
    assert sl.Plan.load(again, flag=POLLED, bucketing={"ids": "email"}) == plan


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path):
    wrong = canary(
        spec={"provider": "kubernetes", "suspend": True, "colour": "red"},
        mirror=True,
        threshold="five",
        metrics=[{**P99, "name": "theirs"}, {**P99, "thresholdRange": {}}],
        webhooks=[webhook(), webhook("other")],
    )
    found = problems(tmp_path, wrong, flag=None)
    assert {problem.partition(":")[0] for problem in found} == {
        "spec.provider",
        "spec.suspend",
        "spec.colour",
        "spec.analysis.threshold",
        "spec.analysis.mirror",
        "spec.analysis.metrics.0.name",
        "spec.analysis.metrics.1.thresholdRange",
        "spec.analysis.webhooks.0",
        "spec.analysis.webhooks.1.type",
    }


def test_a_template_of_helm_is_to_be_rendered_first(tmp_path):
    text = "kind: Canary\nmetadata:\n  name: {{ .Values.name }}\n{{- if .Values.on }}\nspec: {}\n"
    with pytest.raises(ScenarioError, match=r"must be rendered first \(helm template\)"):
        load(tmp_path, text)


# -- Argo Rollouts ---------------------------------------------------------------------------------


def counted(name="latency_p95_s", interval="15s", count=8, **changes):
    return metric(name, interval=interval, count=count, **changes)


def test_an_analysis_watches_its_stage_between_two_pauses(tmp_path):
    steps = rollout(
        {"setWeight": 10},
        {"pause": {"duration": "30s"}},
        {"analysis": ANALYSIS},
        {"pause": {"duration": "45s"}},
        {"setWeight": 25},
        {"pause": {"duration": "30s"}},
        {"setWeight": 50},
        {"analysis": ANALYSIS},
    )
    plan = load(tmp_path, [steps, template(counted())])
    found = [(s.percent, s.bake_s, s.watched_from_s, s.watched_s) for s in plan.stages]
    assert found == [
        (10, 195.0, 30.0, 120.0),
        (25, 30.0, 0.0, 0.0),
        (50, 120.0, 0.0, None),
        (100, 15.0, 0.0, 0.0),
    ]
    again = tmp_path / "again.yaml"
    again.write_text(plan.dump("argo"))
    assert sl.Plan.load(again, flag=POLLED) == plan


def test_an_analysis_in_the_background_starts_at_its_step(tmp_path):
    steps = [
        {"setWeight": 10},
        {"pause": {"duration": "5m"}},
        {"setWeight": 30},
        {"pause": {"duration": "2m"}},
        {"pause": {"duration": "3m"}},
    ]
    for step, watched in (
        (0, [(0.0, None), (0.0, None)]),
        (2, [(0.0, 0.0), (0.0, None)]),
        (4, [(0.0, 0.0), (120.0, None)]),
    ):
        analysis = {**ANALYSIS, "startingStep": step}
        plan = load(
            tmp_path, [rollout(*steps, analysis=analysis), template(metric("memory_bytes"))]
        )
        found = [(stage.watched_from_s, stage.watched_s) for stage in plan.stages[:2]]
        assert found == watched


def test_each_metric_has_its_own_limits_and_interval(tmp_path):
    steps = rollout({"setWeight": 10}, {"pause": {"duration": "10m"}}, analysis=ANALYSIS)
    health = template(
        metric("latency_p95_s", interval="30s", failureLimit=2),
        metric("memory_bytes", interval="1m", inconclusiveLimit=3, consecutiveErrorLimit=1),
    )
    plan = load(tmp_path, [steps, health])
    assert (plan.check_every_s, plan.decision.failures) == (30.0, 2)
    [first, second] = plan.guardrails
    assert (first.every_s, first.failures) == (None, None)
    assert (second.every_s, second.failures, second.inconclusive, second.errors) == (60, 0, 3, 1)


def test_a_dry_run_decides_nothing(tmp_path):
    steps = rollout({"setWeight": 10}, {"pause": {"duration": "10m"}}, analysis=ANALYSIS)
    health = template(metric("latency_p95_s"), metric("theirs"), dryRun=[{"metricName": "the.*"}])
    plan = load(tmp_path, [steps, health])
    assert [rail.metric for rail in plan.guardrails] == ["latency_p95_s"]
    why = plan.explain().set_index("where").loc["AnalysisTemplate.spec.metrics.1", "why"]
    assert why == "a dry run: it decides nothing"


@pytest.mark.parametrize(
    ("provider", "condition", "is_evaluated", "no_number"),
    [
        ({"prometheus": {"query": "up"}}, "result[0] < 5", True, "fail"),
        ({"prometheus": {"query": "up"}}, "result < 5", False, None),
        ({"prometheus": {"query": "scalar(up)"}}, "result < 5", True, "fail"),
        ({"datadog": {"query": "up"}}, "result < 5", True, None),
        ({"cloudWatch": {"metricDataQueries": []}}, "result[0] < 5", False, None),
        ({"cloudWatch": {"metricDataQueries": []}}, "result[0].Values[0] < 5", True, None),
        ({"newRelic": {"query": "up"}}, "result.errors < 5", True, None),
        ({"web": {"url": "http://a"}}, "result < 5", True, None),
    ],
)
def test_a_condition_is_read_by_what_its_provider_returns(
    tmp_path, provider, condition, is_evaluated, no_number
):
    steps = rollout({"setWeight": 10}, {"pause": {"duration": "10m"}}, analysis=ANALYSIS)
    asked = metric("latency_p95_s", successCondition=condition, provider=provider)
    [rail] = load(tmp_path, [steps, template(asked)]).guardrails
    assert (rail.is_evaluated, rail.no_number) == (is_evaluated, no_number)
    assert rail.below == math.nextafter(5.0, 0.0)


def test_a_guard_against_no_data_lets_it_pass(tmp_path):
    steps = rollout({"setWeight": 10}, {"pause": {"duration": "10m"}}, analysis=ANALYSIS)
    guarded = metric(
        "latency_p95_s", successCondition="len(result) == 0 || isNaN(result[0]) || result[0] <= 2"
    )
    [rail] = load(tmp_path, [steps, template(guarded)]).guardrails
    assert (rail.below, rail.no_data, rail.no_number) == (2.0, "pass", None)


def test_arguments_of_the_rollout_win_over_those_of_a_template_for_all(tmp_path):
    args = [{"name": "most", "value": "300"}, {"name": "pod", "valueFrom": {"fieldRef": {}}}]
    analysis = {"templates": [{"templateName": "all", "clusterScope": True}], "args": args}
    shared = {
        "kind": "ClusterAnalysisTemplate",
        "metadata": {"name": "all"},
        "spec": {
            "args": [{"name": "most", "value": "500"}, {"name": "n", "value": "10"}],
            "metrics": [
                counted("p99", "30s", "{{args.n}}", successCondition="result[0] < {{args.most}}")
            ],
        },
    }
    steps = rollout({"setWeight": 20}, {"analysis": analysis})
    plan = load(tmp_path, [steps, shared], metrics={"p99": ("latency_p99_s", 0.001)})
    assert plan.stages[0].bake_s == 300.0
    assert plan.guardrails[0].below == math.nextafter(0.3, 0.0)


# -- GrowthBook and Unleash ------------------------------------------------------------------------


def test_what_a_tool_makes_beside_its_plans_gets_a_hint_what_to_bring(tmp_path):
    sent = {"status": 200, "features": {"realtime": {"rules": [{"coverage": 0.25}]}}}
    with pytest.raises(ScenarioError, match="this is what the SDK is sent"):
        load(tmp_path, json.dumps(sent), "sent.json")
    exported = {"version": 2, "features": [{"name": "realtime"}]}
    with pytest.raises(ScenarioError, match="must be a release plan, as the API returns it"):
        load(tmp_path, json.dumps(exported), "exported.json")


def test_of_a_monitored_step_it_is_said_how_many_see_the_change(tmp_path):
    step = {"interval": 60, "actions": [{"patch": {"coverage": 0.05}}], "monitored": True}
    ramp = {"featureId": "realtime", "steps": [step]}
    with pytest.raises(ScenarioError, match=r"of 5 % half, 2.5 %, are pushed to"):
        load(tmp_path, json.dumps(ramp), "ramp.json", bucketing={"rule": "growthbook"})
