"""What is said of a plan that cannot mean what it says."""

from __future__ import annotations

import sys

import pytest

import simlib as sl
from simlib.rollout.warnings import warnings_of

BOARD = sl.Scenario(clients=5, horizon_s=300.0, updates={"rate_per_s": 0.1})
FLAG = {"propagation": "session"}
LATENCY = {"metric": "latency_p95_s", "below": 2.0}
JUDGED = {"metric": "average_latency_s", "judge": "sequential"}
SLOW_POLLS = {"transport": "polling", "changes": {"polling.interval_s": "2 min"}}


def plan(percents=(10, 50, 100), guardrail=LATENCY, **more):
    stages = [{"percent": percent, "bake_s": 60} for percent in percents]
    return sl.Plan(flag=FLAG, stages=stages, guardrails=[guardrail], **more)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (plan([0.1, 0.25, 1.0]), "The plan ends at 1 % of the users: if its percentages"),
        (plan([0.1, 0.5]), "must be given in percent, 50 for the last stage."),
        (
            plan(guardrail={**LATENCY, "below": 200}),
            "latency_p95_s has below = 200 s (3.3 min; 0.2 if milliseconds were meant): that is",
        ),
        (plan(guardrail={"metric": "connection_wait_s", "above": 90}), "has above = 90 s"),
        (plan(guardrail={**LATENCY, "fails_beyond": 5000}), "has fails_beyond = 5,000 s"),
        (plan(guardrail={**JUDGED, "margin": 100.0}), "average_latency_s has margin = 100 s"),
    ],
)
def test_a_plan_in_other_units_is_warned_about(given, sentence):
    (warning,) = warnings_of(given, BOARD)
    assert sentence in str(warning)


@pytest.mark.parametrize(
    "given",
    [
        plan(),
        plan([1]),
        plan([0.5]),
        plan([1, 5]),
        plan([0, 0]),
        plan(guardrail={**LATENCY, "below": 60.0}),
        plan(guardrail={"metric": "reconnection_rate_per_h", "below": 2000.0}),
        plan(guardrail={"metric": "latency_p95_s", "above": 0.5, "fails_beyond": -1e9}),
        plan(guardrail={"metric": "latency_p95_s", "times_control": 100.0}),
        plan(guardrail={**LATENCY, "below": 200}, control=SLOW_POLLS),
    ],
)
def test_a_plan_that_means_what_it_says_is_not(given):
    assert warnings_of(given, BOARD) == ()


def test_a_second_limit_of_a_share_may_be_never():
    given = {"metric": "utilisation", "below": 0.8, "fails_beyond": sys.float_info.max}
    assert plan(guardrail=given).guardrails[0].beyond == sys.float_info.max


def test_a_rollout_has_its_plans_warnings_before_those_of_its_run():
    asked = plan([0.5, 1.0], guardrail={**LATENCY, "below": 2000})
    board = BOARD.replace(warm_up_s=200.0)
    rollout = sl.roll_out(asked, board, engine="simpy", progress=False)
    assert [warning.kind for warning in rollout.warnings[:2]] == ["percentage", "limit"]
    assert rollout.warnings[2:] == rollout.run.warnings != ()
    assert "warnings: percentage, limit, " in repr(rollout)
