"""What is said of a plan that cannot mean what it says."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.rollout.warnings import warnings_of

FLAG = {"propagation": "session"}


def plan(percents=(10, 50, 100), metric="latency_p95_s", below=2.0):
    stages = [{"percent": percent, "bake_s": 60} for percent in percents]
    return sl.Plan(flag=FLAG, stages=stages, guardrails=[{"metric": metric, "below": below}])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (plan([0.1, 0.25, 1.0]), "The plan ends at 1 % of the users: if its percentages"),
        (plan([0.1, 0.5]), "must be given in percent, 50 for the last stage."),
        (plan(below=2000), "No check of latency_p95_s below 2,000 s (33 min) can fail"),
        (plan(metric="connection_wait_s", below=300), "longer than the run (5 min)"),
    ],
)
def test_a_plan_in_other_units_is_warned_about(given, sentence):
    (warning,) = warnings_of(given, 300.0)
    assert sentence in str(warning)


@pytest.mark.parametrize(
    "given",
    [
        plan(),
        plan([1, 5]),
        plan([0, 0]),
        plan(below=299.0),
        plan(metric="reconnection_rate_per_h", below=2000.0),
    ],
)
def test_a_plan_that_means_what_it_says_is_not(given):
    assert warnings_of(given, 300.0) == ()


def test_a_rollout_has_its_plans_warnings_before_those_of_its_run():
    board = sl.Scenario(clients=5, horizon_s=300.0, warm_up_s=200.0, updates={"rate_per_s": 0.1})
    rollout = sl.roll_out(plan([0.5, 1.0], below=2000), board, engine="simpy", progress=False)
    assert [warning.kind for warning in rollout.warnings[:2]] == ["percentage", "limit"]
    assert rollout.warnings[2:] == rollout.run.warnings != ()
    assert "warnings: percentage, limit, " in repr(rollout)
