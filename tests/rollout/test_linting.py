"""What of a plan cannot do what it is there for: each kind of finding, and none if all is well."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.errors import ScenarioError
from simlib.rollout.linting import COLUMNS, KINDS
from tests.rollout.formats.examples import load, metric, rollout, template

BOARD = sl.Scenario(updates={"rate_per_s": 0.5}, clients=60, horizon_s=1200.0)
PLAN = sl.Plan(
    flag={"propagation": "polled", "every_s": 5},
    check_every_s=30.0,
    stages=[{"percent": 50, "bake_s": 120}, {"percent": 100, "bake_s": 120}],
    guardrails=[{"metric": "latency_p95_s", "below": 5.0}],
    decision={"failures": 1},
)
SLOW = {"slow": {"server.send_s": 0.3}}
OPTIONS = {"replications": 3, "engine": "simpy", "on": "serial", "progress": False}


def found(plan=PLAN, board=BOARD, broken=SLOW, **changes):
    table = sl.lint(plan.replace(changes), board, broken, **OPTIONS)
    assert tuple(table.columns) == COLUMNS
    assert set(table["kind"]) <= set(KINDS)
    assert table["says"].str.endswith(".").all()
    return table.set_index("kind")


def test_of_a_plan_that_works_nothing_is_said():
    assert found().empty


def test_a_guardrail_that_finds_no_regression_is_said_to():
    one = found(guardrails=[{"metric": "memory_bytes", "below": 1e12}]).loc["trips on nothing"]
    assert one["where"] == "guardrails.0"
    assert "failed on 3 fleets with a regression (slow)" in one["says"]


def test_checks_that_find_nothing_to_measure_are_counted():
    quiet = BOARD.replace({"updates.rate_per_s": 0.005})
    table = found(board=quiet)
    first = table.loc[["no measurement"]].iloc[0]
    assert 0.0 <= first["low"] < first["value"] <= first["high"] <= 1.0
    assert "which counts as no verdict: the stage waits (no_data)" in first["says"]
    assert "no verdict" in table.index
    passing = found(board=quiet, guardrails=[{**dict(PLAN.guardrails[0]), "no_data": "pass"}])
    assert "no measurement" in passing.index
    assert "no verdict" not in passing.index


def test_a_stage_that_ends_before_tabs_have_followed_is_said_to():
    one = found(flag={"propagation": "polled", "every_s": 600}).loc[["too early"]].iloc[0]
    assert one["where"] == "stages.1.bake_s"  # who comes during the first has its percentage
    assert one["high"] < 0.9


def test_windows_that_leave_a_part_of_the_time_unseen_are_said_to():
    rail = {"metric": "latency_p95_s", "below": 5.0, "window_s": 10.0}
    one = found(guardrails=[rail]).loc["gap"]
    assert one["value"] == pytest.approx(2.0 / 3.0)
    assert "66.7 % of the time is never seen" in one["says"]


def test_a_guardrail_whose_turn_never_comes_is_said_to():
    one = found(kill_s=20.0).loc["never checked"]  # before the first look
    assert one["where"] == "guardrails.0"
    assert "was never checked on 3 healthy fleets" in one["says"]
    assert "never checked" not in found(kill_s=40.0).index


def test_a_guardrail_that_pauses_has_found_what_it_pauses_for():
    rail = {"metric": "latency_p95_s", "below": 2.0, "fails_beyond": 1e300}
    assert "trips on nothing" not in found(guardrails=[rail]).index


def test_users_whom_no_percentage_takes_out_are_counted():
    one = found(bucketing={"rule": "guide"}).loc["always enrolled"]
    assert one["value"] == pytest.approx(0.5, abs=0.03)


def test_healthy_fleets_that_are_sent_back_are_counted():
    one = found(guardrails=[{"metric": "latency_p95_s", "below": 1e-6}]).loc["sent back"]
    assert (one["value"], one["high"]) == (1.0, pytest.approx(1.0))
    assert one["low"] < 1.0


def test_a_template_that_no_analysis_names_is_said_to_guard_nothing(tmp_path):
    steps = rollout({"setWeight": 20}, {"pause": {"duration": "2m"}})
    plan = load(tmp_path, [steps, template(metric("latency_p95_s"))])
    assert found(plan, broken={}).loc["unused", "where"] == "AnalysisTemplate"


def test_what_is_said_of_a_plan_beforehand_is_said_too():
    rail = {"metric": "latency_p95_s", "below": 3000.0}
    assert found(guardrails=[rail]).loc["warning", "where"] == "plan (limit)"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replications": 1}, "replications: must be"),
        ({"confidence": 2.0}, "confidence: must be"),
        ({"engine": "live"}, "engine: must be"),
        ({"broken": {"healthy": {}}}, "broken: must be a text that is not healthy"),
        ({"broken": {"a": {"polling.intervall_s": 1}}}, r"broken\['a'\].polling.intervall_s"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_run(options, words):
    with pytest.raises(ScenarioError, match=words):
        sl.lint(PLAN, BOARD, **options)
