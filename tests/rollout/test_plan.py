"""Rollout plans: what one says, how it is written, and what is refused by name."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.errors import ScenarioError

POLLED = {"propagation": "polled", "every_s": 60.0}
PLAN = sl.Plan(flag=POLLED)
FULL = sl.Plan(
    name="matters",
    start_s=30.0,
    check_every_s="30s",
    stages=[{"percent": 5, "bake_s": "5 min"}, {"percent": 100, "bake_s": 600, "gate_s": 60}],
    bucketing={
        "rule": "unleash",
        "deciders": "and",
        "experiment_percent": 50.0,
        "server_percent": 100.0,
        "ids": "file",
        "ids_file": "users.txt",
    },
    flag={"propagation": "build", "delay_s": "10 min", "cached_frac": 0.3},
    rollback={"percents": [50, 0], "every_s": 60, "sockets": "drained", "window_s": 30},
    decision={
        "rule": "argo",
        "failures": -1,
        "inconclusive": 1,
        "errors": 4,
        "analysis": "background",
    },
    guardrails=[
        {"metric": "latency_p99_s", "below": 1.0, "min_sample": 50, "no_data": "pass"},
        {"metric": "latency_p50_s", "below": 1.0, "fails_beyond": 2.0, "delay_s": 90.0},
        {"metric": "error_rate_per_h", "times_control": 2.0},
        {"metric": "memory_bytes", "below": 1e9},
    ],
    kill_s=500.0,
    control={"transport": "polling", "changes": {"polling.interval_s": "1 min"}},
    treatment={
        "transport": "websocket",
        "changes": {"heartbeat.interval_s": 10, "reconnect": {"policy": "fixed"}},
    },
)


RAIL = {"metric": "latency_p95_s", "below": 2.0}


@pytest.mark.parametrize("plan", [PLAN, FULL])
def test_a_plan_is_written_and_read_as_it_is(plan, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(plan.dump(), encoding="utf-8")
    assert sl.Plan.load(path) == plan


def test_the_stages_are_the_guides_unless_told():
    assert [stage.percent for stage in PLAN.stages] == [10, 25, 50, 100]
    assert PLAN.length_s == 4 * 600.0
    assert FULL.length_s == 300.0 + 60.0 + 600.0


def test_a_field_is_replaced_by_its_path():
    assert FULL.replace({"rollback.window_s": 5.0}).rollback.window_s == 5.0
    assert FULL.replace(kill_s=None).kill_s is None
    longer = FULL.replace(
        {"stages.*.bake_s": "1 h", "stages.0.bake_s": 60, "guardrails.0.below": 9}
    )
    assert [stage.bake_s for stage in longer.stages] == [60.0, 3600.0]
    assert longer.guardrails[0].below == 9.0
    for path, words in (
        ("stages.2.bake_s", "must be a number below 2, or *"),
        ("stages.last.bake_s", "must be a number below 2, or *"),
        ("stages.*.bakes_s", "is not a known field"),
        ("name.first.x", "must be a field of a section"),
    ):
        with pytest.raises(ScenarioError) as error:
            FULL.replace({path: 1.0})
        assert words in str(error.value)
    with pytest.raises(ScenarioError, match=r"rollback\.window_s: must be given"):
        FULL.replace({"rollback.window_s": None})


def test_a_cohorts_change_is_replaced_by_its_path_in_the_scenario():
    plan = FULL.replace({"treatment.changes.heartbeat.interval_s": 5})
    assert plan.treatment.changes["heartbeat.interval_s"] == 5
    assert FULL.treatment.changes["heartbeat.interval_s"] == 10
    fewer = FULL.replace({"treatment.changes.heartbeat.interval_s": None})
    assert list(fewer.treatment.changes) == ["reconnect"]
    assert len({plan, FULL, FULL.replace({})}) == 2


def test_tuples_in_the_changes_of_a_variant_are_the_lists_that_a_file_has(tmp_path):
    delays = {"reconnect.policy": "table", "reconnect.delays_s": (1.0, 2.0)}
    section = {"reconnect": {"policy": "table", "delays_s": (1.0, 2.0)}}
    path = tmp_path / "plan.toml"
    for changes in (delays, section, sl.library("phoenix")):
        plan = sl.Plan(flag=POLLED, treatment={"transport": "websocket", "changes": changes})
        path.write_text(plan.dump(), encoding="utf-8")
        assert sl.Plan.load(path) == plan
        assert plan.replace() == plan
        assert plan.replace({"treatment.changes": changes}) == plan


def test_lists_and_tuples_are_one_in_a_plan():
    given = {"percents": (50.0, 0.0), "every_s": 60.0}
    stages = ({"percent": 100, "bake_s": 60},)
    plan = sl.Plan(flag=POLLED, rollback=given, stages=stages, guardrails=())
    listed = {**given, "percents": list(given["percents"])}
    assert sl.Plan(flag=POLLED, rollback=listed, stages=list(stages), guardrails=[]) == plan


def test_a_plan_without_changes_is_written_without_them():
    assert "changes" not in PLAN.dump()


def test_a_field_that_was_renamed_is_read_with_a_warning(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('[flag]\nreach = "pushed"\n', encoding="utf-8")
    for make in (
        lambda: sl.Plan.load(path),
        lambda: sl.Plan(flag={"reach": "pushed"}),
        lambda: sl.Plan(flag=POLLED).replace({"flag.reach": "pushed", "flag.every_s": None}),
    ):
        with pytest.warns(FutureWarning, match=r"lag\.reach was renamed to .lag\.propagation"):
            plan = make()
        assert plan == sl.Plan(flag={"propagation": "pushed"})
    with pytest.warns(FutureWarning, match=r"Flag\.reach was renamed to Flag\.propagation"):
        assert plan.flag.reach == "pushed"
    with pytest.raises(ScenarioError, match=r"flag\.reach: is not a known field"):
        sl.Plan(flag={"reach": "pushed", "propagation": "pushed"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"treatment": {"transport": "sse"}},
            'flag: must be given, such as {"propagation": "polled", "every_s": 60}',
        ),
        (
            {"flag": POLLED, "treatment": "sse"},
            'treatment: must be a table of settings, such as {"transport": "websocket"}, got',
        ),
        (
            {"flag": POLLED, "treatment": {"changes": {"sse.watches": True}}},
            "treatment.transport: must be given, got None",
        ),
        (
            {"flag": POLLED, "control": {"transport": "polling", "polling.interval_s": 3}},
            'control.polling.interval_s: must be given in its changes, as {"changes": {"poll',
        ),
        (
            {"flag": POLLED, "treatment": {"transport": "sse", "sse": {"watches": True}}},
            'treatment.sse: must be given in its changes, as {"changes": {"sse": ...}}, got {',
        ),
    ],
)
def test_a_plan_that_lacks_something_says_what_would_be_right(given, words):
    with pytest.raises(ScenarioError) as error:
        sl.Plan(**given)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": [{"percent": 50, "bake_s": 60}, {"percent": 25, "bake_s": 60}]}, "stages.1.p"),
        (
            {"stages": [{"percent": 50, "bake_s": 59.0}], "guardrails": [RAIL]},
            "stages.0.bake_s: must be >= check_every",
        ),
        (
            {"stages": [{"percent": 50, "bake_s": 90.0, "watched_s": 30}], "guardrails": [RAIL]},
            "stages.0.watched_s: must be >= check_every_s (60)",
        ),
        (
            {"stages": [{"percent": 50, "bake_s": 90.0, "watched_from_s": 91}]},
            "stages.0.watched_from_s: must be <= bake_s (90)",
        ),
        (
            {"stages": [{"percent": 5, "bake_s": 90.0, "watched_from_s": 60, "watched_s": 60}]},
            "stages.0.watched_s: must be <= what is left of bake_s (30)",
        ),
        (
            {"guardrails": [{**RAIL, "every_s": 90}]},
            "guardrails.0.every_s: must be a multiple of check_every_s (60)",
        ),
        (
            {"guardrails": [{**RAIL, "window_s": 1e6}]},
            "guardrails.0.window_s: must be <= the plan's length",
        ),
        (
            {"guardrails": [{**RAIL, "failures": 2}]},
            'guardrails.0.failures: has no meaning unless decision.rule is "argo"',
        ),
        (
            {"guardrails": [{"metric": "error_rate_per_h", "judge": "sequential", "window_s": 60}]},
            "guardrails.0.window_s: has no meaning for a judge",
        ),
        (
            {"failing": ["load-test"], "decision": {"rule": "argo"}},
            'failing: must be none when decision.rule is "argo"',
        ),
        ({"stages": [{"percent": 50}]}, "stages.0.bake_s: must be given"),
        ({"stages": [{"percent": 101, "bake_s": 60}]}, "stages.0.percent: must be <= 100"),
        ({"stages": []}, "stages: "),
        ({"stage": [{"percent": 50, "bake_s": 60}]}, "stage: is not a known field; did you mean s"),
        ({"bucketing": {"rule": "md5"}}, "bucketing.rule: must be 'guide'"),
        ({"bucketing": {"deciders": "and"}}, "bucketing.experiment_percent: must be given"),
        ({"bucketing": {"experiment_percent": 5.0}}, "experiment_percent: has no meaning"),
        ({"bucketing": {"server_percent": 5.0}}, "server_percent: has no meaning"),
        ({"bucketing": {"ids": "file"}}, "bucketing.ids_file: must be given"),
        ({"bucketing": {"ids_file": "users.txt"}}, "bucketing.ids_file: has no meaning"),
        ({"flag": {"propagation": "polled"}}, "flag.every_s: must be given"),
        ({"flag": {"propagation": "session", "every_s": 5.0}}, "flag.every_s: has no meaning"),
        ({"flag": {"propagation": "build"}}, "flag.delay_s: must be > 0"),
        ({"flag": {**POLLED, "cached_frac": 0.5}}, "flag.cached_frac: has no meaning"),
        ({"flag": {"propagation": "session", "jitter_s": 5.0}}, "flag.jitter_s: has no meaning"),
        ({"flag": {**POLLED, "jitters_s": 5.0}}, "did you mean flag.jitter_s"),
        ({"rollback": {"percents": [0, 50]}}, "rollback.percents: must fall"),
        ({"rollback": {"percents": [50, 0]}}, "rollback.every_s: must be given"),
        ({"rollback": {"every_s": 5.0}}, "rollback.every_s: has no meaning"),
        ({"rollback": {"sockets": "drained"}}, "rollback.window_s: must be given"),
        ({"rollback": {"window_s": 5.0}}, "rollback.window_s: has no meaning"),
        ({"decision": {"failures": 0}}, "decision.failures: must be >= 1"),
        ({"decision": {"failures": -1}}, "decision.failures: must be >= 1"),
        ({"decision": {"rule": "argo", "failures": -2}}, "decision.failures: must be >= -1"),
        ({"decision": {"errors": 3}}, "decision.errors: has no meaning"),
        ({"decision": {"analysis": "step"}}, "decision.analysis: has no meaning"),
        (
            {"guardrails": [{"metric": "utilisation", "below": 0.5, "fails_beyond": 0.4}]},
            "guardrails.0.fails_beyond: must be > below (0.5)",
        ),
        (
            {"guardrails": [{"metric": "utilisation", "above": 0.5, "fails_beyond": 0.6}]},
            "guardrails.0.fails_beyond: must be < above (0.5)",
        ),
        (
            {
                "guardrails": [
                    {"metric": "latency_p99_s", "judge": "mann_whitney", "fails_beyond": 1.0}
                ]
            },
            "guardrails.0.fails_beyond: has no meaning for a judge",
        ),
        (
            {"guardrails": [{"metric": "utilisation", "below": 0.5, "margin": 1.0}]},
            "guardrails.0.margin: has no meaning without judge",
        ),
        (
            {"guardrails": [{"metric": "utilisation", "below": 0.5, "delay_s": 600.0}]},
            "guardrails.0.delay_s: must be < the longest that a stage is watched (600)",
        ),
        ({"guardrails": [{"metric": "speed", "below": 1.0}]}, "guardrails.0.metric: must be 'conn"),
        ({"guardrails": [{"metric": "utilisation"}]}, "guardrails.0.below: must be one of below"),
        (
            {"guardrails": [{"metric": "utilisation", "below": 1.0, "above": 0.1}]},
            "guardrails.0.above: must be one of below",
        ),
        (
            {"guardrails": [{"metric": "utilisation", "times_control": 2.0}]},
            "guardrails.0.times_control: must be below or above",
        ),
        (
            {"guardrails": [{"metric": "latency_p99_s", "judge": "sequential"}]},
            "guardrails.0.judge: must be mann_whitney, or the metric",
        ),
        (
            {
                "stages": [{"percent": 100, "bake_s": 60}],
                "guardrails": [{"metric": "latency_p99_s", "times_control": 2.0}],
            },
            "guardrails.0.metric: must be one that needs no control",
        ),
        (
            {"treatment": {"transport": "polling", "changes": {"transport": "websocket"}}},
            'treatment.changes."transport": must be given as the transport of the variant',
        ),
        (
            {"control": {"transport": "polling", "changes": {"fallback": None}}},
            'control.changes."fallback": must be a value',
        ),
        (
            {"control": {"transport": "polling", "changes": {"reconnect": {"attempts": None}}}},
            'control.changes."reconnect": must be a value',
        ),
        (
            {"control": {"transport": "polling", "changes": {"faults": [None]}}},
            'control.changes."faults": must be a value',
        ),
        (
            {
                "treatment": {"transport": "polling", "changes": {"polling.interval_s": 10}},
                "rollback": {"sockets": "closed"},
            },
            "rollback.sockets: must be kept: both cohorts get one transport",
        ),
        ({"check_every_s": "soon"}, "check_every_s: must be a duration"),
    ],
)
def test_a_plan_that_does_not_hold_together_is_refused_by_name(changes, words):
    with pytest.raises(ScenarioError) as error:
        sl.Plan(**{"flag": POLLED, **changes})
    assert words in str(error.value)


def test_a_plan_that_is_no_toml_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match="must be an existing TOML file"):
        sl.Plan.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("stages = [", encoding="utf-8")
    with pytest.raises(ScenarioError, match="must be valid TOML"):
        sl.Plan.load(tmp_path / "bad.toml")
