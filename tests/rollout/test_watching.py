"""What a controller looks at, when, and how far back."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from tests.rollout.formats.examples import POLLED, load, metric, rollout, template

BOARD = sl.Scenario(updates={"rate_per_s": 0.5}, clients=60, horizon_s=1200.0)
SOON = {"propagation": "polled", "every_s": 5}
RAIL = {"metric": "latency_p95_s", "below": 100.0}
LARGE = {"successCondition": "result[0] < 100"}


def rolled_out(board=BOARD, **changes):
    plan = sl.Plan(**{"flag": SOON, "check_every_s": 30.0, **changes})
    return sl.roll_out(plan, board, engine="simpy", keep=("deliveries",), progress=False)


def delivered(rollout, from_s, to_s):
    """How many changes the enrolled have got in a time."""
    got_s = rollout.run.frame("deliveries")["applied_s"]
    return int(((got_s > from_s) & (got_s <= to_s)).sum())


@pytest.mark.parametrize("window_s", [10.0, 20.0, 30.0, 45.0, 60.0, 70.0, 90.0])
def test_a_check_sees_what_came_within_its_window(window_s):
    rail = {**RAIL, "window_s": window_s}
    result = rolled_out(stages=[{"percent": 100, "bake_s": 300}], guardrails=[rail])
    checks = result.checks
    assert checks["t_s"].tolist() == [30.0 * n for n in range(1, 11)]
    expected = [delivered(result, max(t - window_s, 0.0), t) for t in checks["t_s"]]
    assert checks["sample"].tolist() == expected
    assert max(expected) > 0


def test_without_a_window_a_check_sees_what_came_since_the_look_before():
    result = rolled_out(stages=[{"percent": 100, "bake_s": 120}], guardrails=[RAIL])
    expected = [delivered(result, t - 30.0, t) for t in result.checks["t_s"]]
    assert result.checks["sample"].tolist() == expected


def test_a_window_longer_than_the_tick_saves_a_healthy_fleet_on_a_quiet_board():
    # Hardly any tick of 10 s sees a change, nearly every window of 60 s does.
    quiet = BOARD.replace({"updates.rate_per_s": 0.1, "clients": 200})
    stages = [{"percent": percent, "bake_s": 10} for percent in range(5, 55, 5)]
    plan = sl.Plan(
        flag=SOON,
        start_s=120.0,
        check_every_s=10.0,
        stages=[*stages, {"percent": 100, "bake_s": 10}],
        decision={"failures": 2},
        guardrails=[{"metric": "latency_p95_s", "below": 60.0, "no_data": "fail"}],
    )
    variants = {"tick": {}, "window": {"guardrails.0.window_s": 60.0}}
    table = sl.rehearse(plan, quiet, variants=variants, replications=10, progress=False).table
    back = table.set_index("variant")["back_frac"]
    assert back["tick"] == 1.0
    assert back["window"] <= 0.5


def test_client_seconds_of_a_window_are_those_between_all_its_looks():
    rails = [
        {"metric": "error_rate_per_h", "below": 1e6, "window_s": 90.0},
        {"metric": "error_rate_per_h", "below": 1e6},
    ]
    crash = [{"kind": "restart", "start_s": 100.0, "length_s": 5.0}]
    result = rolled_out(
        BOARD.replace(faults=crash), stages=[{"percent": 100, "bake_s": 300}], guardrails=rails
    )
    wide, narrow = (result.checks[result.checks["guardrail"] == n] for n in (0, 1))
    of_tick = narrow.set_index("t_s")["treatment"]
    of_window = wide.set_index("t_s")["treatment"]
    assert of_tick[120.0] > 0.0
    mean = np.mean([of_tick[t] for t in (120.0, 150.0, 180.0)])
    assert of_window[180.0] == pytest.approx(mean, rel=0.05)


def test_without_guardrails_a_stage_lasts_as_long_as_it_says():
    stages = [{"percent": percent, "bake_s": 25} for percent in (20, 40, 100)]
    result = rolled_out(stages=stages, check_every_s=60.0)
    begun = result.history[result.history["event"] == "started"]["t_s"].tolist()
    assert begun == [0.0, 25.0, 50.0]
    assert result.history["event"].iloc[-1] == "done"
    assert result.history["t_s"].iloc[-1] == 75.0


def test_a_stage_is_checked_only_while_it_is_watched():
    stages = [
        {"percent": 20, "bake_s": 150, "watched_from_s": 30, "watched_s": 60},
        {"percent": 50, "bake_s": 40, "watched_s": 0},
        {"percent": 100, "bake_s": 60},
    ]
    result = rolled_out(stages=stages, guardrails=[RAIL], check_every_s=15.0)
    assert result.checks["t_s"].tolist() == [45, 60, 75, 90, 205, 220, 235, 250]
    begun = result.history[result.history["event"] == "started"]["t_s"].tolist()
    assert begun == [0.0, 150.0, 190.0]


def test_a_guardrail_is_checked_as_often_as_it_asks():
    rails = [RAIL, {**RAIL, "metric": "latency_p50_s", "every_s": 60.0, "failures": 0}]
    result = rolled_out(
        stages=[{"percent": 100, "bake_s": 180}], guardrails=rails, decision={"rule": "argo"}
    )
    of_second = result.checks[result.checks["guardrail"] == 1]["t_s"].tolist()
    assert of_second == [60.0, 120.0, 180.0]
    assert (result.checks["guardrail"] == 0).sum() == 6


def test_a_guardrail_whose_first_check_is_late_is_checked_all_the_same(tmp_path):
    steps = rollout({"setWeight": 20}, {"analysis": {"templates": [{"templateName": "health"}]}})
    asked = template(
        metric("latency_p95_s", interval="30s", count=4, initialDelay="15s", **LARGE),
        metric("latency_p50_s", interval="1m", count=2, initialDelay="15s", **LARGE),
    )
    plan = load(tmp_path, [steps, asked], last_s=30)
    result = sl.roll_out(plan, BOARD, engine="simpy", progress=False)
    assert result.history["event"].iloc[-1] == "done"
    counted = result.checks[result.checks["found"] != "suspended"].groupby("guardrail").size()
    assert counted.tolist() == [4, 2]


def test_a_guardrail_that_is_checked_seldom_sees_all_that_came_since():
    rail = {**RAIL, "every_s": 120.0}
    result = rolled_out(stages=[{"percent": 100, "bake_s": 240}], guardrails=[rail])
    assert result.checks["t_s"].tolist() == [120.0, 240.0]
    assert result.checks["sample"].tolist() == [delivered(result, t - 120.0, t) for t in (120, 240)]


def test_a_window_does_not_grow_by_a_gate():
    stages = [{"percent": 100, "bake_s": 60}, {"percent": 100, "bake_s": 60, "gate_s": 205}]
    rail = {**RAIL, "window_s": 60.0}
    result = rolled_out(stages=stages, guardrails=[rail])
    first = result.checks[result.checks["t_s"] > 265.0].iloc[0]
    t = first["t_s"]
    assert t == 295.0
    assert first["sample"] <= delivered(result, t - 75.0, t)


def test_too_few_observations_are_data_all_the_same():
    rail = {**RAIL, "min_sample": 10**6, "no_data": "fail", "no_number": "pass"}
    result = rolled_out(stages=[{"percent": 100, "bake_s": 60}], guardrails=[rail])
    assert result.checks["found"].unique().tolist() == ["too little data"]


def test_a_percentage_that_drifts_begins_to_before_the_first_look():
    stages = [{"percent": 50, "bake_s": 120}]
    result = rolled_out(stages=stages, bucketing={"sticks": "enrolled"}, check_every_s=60.0)
    at_first_look = result.looks[result.looks["t_s"] == 60.0].set_index("cohort")["present"]
    assert at_first_look["treatment"] > 10


def test_what_errs_is_not_counted_and_too_many_errors_in_a_row_go_back(tmp_path):
    # Hardly anything changes, so that no look of an analysis of three finds a latency.
    steps = rollout({"setWeight": 20}, {"analysis": {"templates": [{"templateName": "health"}]}})
    asked = template(metric("latency_p99_s", interval="30s", count=3, failureLimit=2))
    plan = load(tmp_path, [steps, asked], last_s=30)
    still = BOARD.replace({"updates.rate_per_s": 1e-6, "clients": 200})
    result = sl.roll_out(plan, still, engine="simpy", progress=False)
    assert result.history["event"].iloc[-1] == "rolled_back"
    assert result.history["t_s"].iloc[-1] == 150.0
    assert result.history["percent"].iloc[-1] == 0.0
    assert "more checks without data in a row (5) than are tolerated (4)" in result.why()[-1]


def test_an_analysis_step_lasts_until_it_has_been_measured_often_enough():
    # A latency can be measured only where something has changed.
    board = BOARD.replace({"updates": {"kind": "times", "publish_s": [20.0, 200.0]}})
    result = rolled_out(
        board,
        stages=[{"percent": 100, "bake_s": 60}],
        guardrails=[RAIL],
        decision={"rule": "argo", "errors": 100},
    )
    counted = result.checks[result.checks["result"] != "no_data"]
    assert len(counted) == 2
    assert result.history["t_s"].iloc[-1] == 210.0
    assert result.history["event"].iloc[-1] == "done"


def test_a_condition_that_cannot_be_evaluated_errs_at_each_look():
    rail = {**RAIL, "is_evaluated": False}
    result = rolled_out(
        stages=[{"percent": 100, "bake_s": 300}], guardrails=[rail], decision={"rule": "argo"}
    )
    assert (result.checks["found"] == "not evaluated").all()
    assert result.history["event"].iloc[-1] == "rolled_back"
    assert result.history["t_s"].iloc[-1] == 150.0
    assert "its condition cannot be evaluated" in " ".join(result.why())


def test_no_number_is_told_from_no_data():
    # Changes come in the first half alone: later the quantile of a window is no number.
    board = BOARD.replace({"updates": {"kind": "times", "publish_s": [20.0, 40.0, 60.0]}})
    rail = {**RAIL, "no_data": "hold", "no_number": "fail"}
    result = rolled_out(
        board,
        start_s=30.0,
        stages=[{"percent": 100, "bake_s": 300}],
        guardrails=[rail],
        decision={"rule": "argo", "failures": 0},
    )
    assert result.checks["found"].tolist()[-1] == "no number"
    assert result.checks["result"].tolist()[-1] == "fail"
    assert result.history["event"].iloc[-1] == "rolled_back"


def test_a_check_outside_that_fails_goes_back_after_the_threshold():
    result = rolled_out(
        stages=[{"percent": 0, "bake_s": 30}, {"percent": 50, "bake_s": 60}],
        decision={"failures": 3},
        failing=["smoke test"],
    )
    assert result.history["event"].tolist() == [
        "started",
        "failed",
        "failed",
        "failed",
        "rolled_back",
    ]
    assert result.history["percent"].max() == 0.0
    assert "as smoke test failed" in " ".join(result.why())


def test_with_a_cookie_for_the_new_version_alone_more_and_more_are_enrolled():
    # Each poll of the others is decided anew: after n of them 1 - (1 - w)^n are enrolled.
    board = BOARD.replace({"polling.interval_s": 30.0})
    stages = [{"percent": 5, "bake_s": 300}, {"percent": 10, "bake_s": 300}]
    result = rolled_out(board, stages=stages, bucketing={"sticks": "enrolled"})
    last = result.history.iloc[-1]
    assert last["event"] == "done"
    assert last["percent"] == pytest.approx(100.0 * (1.0 - 0.95**10 * 0.9**10))
    still = rolled_out(board, stages=stages)
    assert still.history["percent"].iloc[-1] == 10.0
    held = [
        one.looks[one.looks["cohort"] == "treatment"]["present"].iloc[-1] for one in (result, still)
    ]
    assert held[0] > 3 * held[1]


def test_a_plan_from_a_file_of_another_tool_says_what_became_of_each_line(tmp_path):
    steps = rollout({"setWeight": 20}, {"pause": {"duration": "2m"}}, {"setWeight": 100})
    unused = template(metric("latency_p95_s"))
    plan = load(tmp_path, [steps, unused])
    table = plan.explain().set_index("where")
    assert table.loc["Rollout.spec.strategy.canary.steps.0.setWeight", "became"] == (
        "stages.0.percent = 20"
    )
    assert table.loc["AnalysisTemplate", "became"] == "ignored"
    assert "guards nothing" in table.loc["AnalysisTemplate", "why"]
    assert table.loc["flag", "why"] == "given beside the file"
    assert (table["became"] != "").all()
    own = sl.Plan(flag=POLLED, kill_s=60.0).explain().set_index("where")
    assert own.loc["kill_s", "became"] == "kill_s = 60.0"
