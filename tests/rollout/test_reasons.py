"""Why a rollout went as it did: each number of a sentence stands in the rollout's tables."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib.core.measures import MEASURES
from simlib.errors import ScenarioError
from simlib.rollout.looks import CHECKS, FOUND, LOOKS
from simlib.rollout.reasons import BREAKPOINTS, MOVED_FRAC, shown

BOARD = sl.Scenario(
    clients=200,
    ramp_s=30.0,
    horizon_s=1200.0,
    updates={"rate_per_s": 0.1},
    reconnect={"policy": "full_jitter"},
    fallback={"after_failures": 3},
)
MEDIAN = {"metric": "latency_p50_s", "below": 2.0}
ERRORS = {"metric": "error_rate_per_h", "below": 30.0}
MEMORY = {"metric": "memory_bytes", "below": 1e9}
PLAN = sl.Plan(
    start_s=60.0,
    flag={"propagation": "polled", "every_s": 30.0},
    stages=[{"percent": percent, "bake_s": 240.0} for percent in (10, 50, 100)],
    guardrails=[MEDIAN, ERRORS, MEMORY],
    decision={"failures": 2},
)
RESET = {"kind": "reset", "start_s": 410.0}
ALL = {"start_s": 0.0, "length_s": 1200.0}
SLOW = {"server.send_s": 0.2}
PROXY = {"faults": [{"kind": "block_upgrades", "share": 0.6, **ALL}]}
ARGO = {"rule": "argo", "failures": 0}
FEW = {**MEDIAN, "min_sample": 10**6}
RANKS = {"metric": "error_rate_per_h", "judge": "mann_whitney", "min_sample": 3}
CASES = {
    "healthy": (PLAN, {}),
    "slow": (PLAN, SLOW),
    "proxy": (PLAN, PROXY),
    "reset": (PLAN, {"faults": [RESET]}),
    "too little data": (PLAN.replace(guardrails=[FEW]), {}),
    "too little data passes": (PLAN.replace(guardrails=[{**FEW, "no_data": "pass"}]), {}),
    "no guardrail": (PLAN.replace(guardrails=[]), {}),
    "killed": (PLAN.replace(kill_s=444.0), {}),
    "killed at once": (PLAN.replace(kill_s=0.0), {}),
    "gate": (PLAN.replace({"stages.1.gate_s": 90.0}), {}),
    "gradual": (PLAN.replace(rollback={"percents": [5.0, 2.0, 0.0], "every_s": 45.0}), PROXY),
    "argo": (PLAN.replace(decision=ARGO), SLOW),
    "argo, no data": (PLAN.replace(guardrails=[FEW], decision={**ARGO, "errors": 1}), {}),
    "argo, no number": (
        PLAN.replace(guardrails=[{**MEDIAN, "no_number": "fail"}], decision=ARGO),
        {"updates": {"kind": "times", "publish_s": [70.0, 80.0, 200.0, 250.0, 280.0]}},
    ),
    "argo, not evaluated": (
        PLAN.replace(guardrails=[{**MEDIAN, "is_evaluated": False, "errors": 2}], decision=ARGO),
        {},
    ),
    "a check outside": (PLAN.replace(failing=["smoke test"], guardrails=[]), {}),
    "argo, between": (
        PLAN.replace(guardrails=[{**MEDIAN, "below": 0.001, "fails_beyond": 99.0}], decision=ARGO),
        {},
    ),
    "control": (
        PLAN.replace(guardrails=[{"metric": "latency_p95_s", "times_control": 0.5}]),
        SLOW,
    ),
    "nobody left in control": (
        PLAN.replace(guardrails=[{"metric": "latency_p95_s", "times_control": 1.0}]),
        {},
    ),
    "judges": (
        PLAN.replace(
            guardrails=[RANKS, {**RANKS, "judge": "sequential"}, {**MEDIAN, "delay_s": 90}]
        ),
        PROXY,
    ),
}
NUMBER = re.compile(r"n/a|\d+(?:,\d{3})*(?:\.\d+)?")


@pytest.fixture(scope="module")
def rollouts():
    return {
        name: sl.roll_out(plan, BOARD.replace(changes), engine="compiled", progress=False)
        for name, (plan, changes) in CASES.items()
    }


def numbers_in(sentence, labels):
    """Return the numbers that a sentence shows: not those of a metric's name."""
    for label in labels:
        sentence = sentence.replace(label, "")
    return NUMBER.findall(sentence)


@pytest.mark.parametrize("name", CASES)
def test_each_number_of_a_sentence_stands_in_the_tables(rollouts, name):
    rollout = rollouts[name]
    labels = [measure.label for measure in MEASURES.values()]
    assert rollout.reasons
    for reason in rollout.reasons:
        expected = []
        for cell in reason.cells:
            if cell.table == "plan":
                value = rollout.plan
                for part in cell.column.split("."):
                    value = value[int(part)] if part.isdecimal() else getattr(value, part)
            else:
                table = getattr(rollout, cell.table)
                value = table.loc[cell.row, cell.column]
                assert table.loc[cell.row, "t_s"] <= reason.t_s
            expected += NUMBER.findall(shown(value, cell.kind))
        assert numbers_in(reason.sentence, labels) == expected, reason.sentence


@pytest.mark.parametrize("name", CASES)
def test_every_look_is_told_in_order_and_ends_in_what_was_decided(rollouts, name):
    rollout = rollouts[name]
    told = {}
    for reason in rollout.reasons:
        told.setdefault(reason.t_s, []).append(reason.sentence)
    assert list(told) == rollout.history["t_s"].unique().tolist()
    for t_s, sentences in told.items():
        assert rollout.why(t_s) == rollout.why(t_s + 1.0) == sentences
        words = ("Decision: ", "The kill switch", "The rollback went on")
        assert sentences[-1].startswith(words)
    assert rollout.why() == [reason.sentence for reason in rollout.reasons]


@pytest.mark.parametrize("name", CASES)
def test_the_tables_say_what_the_history_and_the_run_say(rollouts, name):
    rollout = rollouts[name]
    checks, looks, history = rollout.checks, rollout.looks, rollout.history
    assert tuple(checks.columns) == CHECKS
    assert tuple(looks.columns) == LOOKS
    assert set(checks["found"]) <= set(FOUND)
    assert looks["t_s"].unique().tolist() == history["t_s"].unique().tolist()
    by_time = history.drop_duplicates("t_s").set_index("t_s")
    for row in checks.itertuples():
        assert row.treatment == by_time.at[row.t_s, row.metric] or math.isnan(row.treatment)
    timeline, end_s = rollout.run.frame("timeline"), looks["t_s"].max()
    for cohort, rows in looks.groupby("cohort"):
        of_it = timeline[(timeline["cohort"] == cohort) & (timeline["t_s"] < end_s)]
        for column in ("delivered", "errors", "reconnects"):
            if end_s % BOARD.bin_s == 0.0:
                assert rows[column].sum() == of_it[column].sum()
        exposures = rollout.run.frame("exposures").query("cohort == @cohort and from_s <= @end_s")
        assert rows["joined"].sum() == len(exposures)


def test_checks_find_what_the_plan_asks_for(rollouts):
    for name, rollout in rollouts.items():
        for row in rollout.checks.itertuples():
            rail = rollout.plan.guardrails[row.guardrail]
            if row.found in ("within", "beyond", "between"):
                factor = row.control if rail.times_control is not None else 1.0
                assert row.limit == rail.limit[0] * factor
                is_past = row.treatment > row.limit if rail.limit[1] else row.treatment < row.limit
                assert is_past == (row.found != "within"), name
                assert row.sample >= rail.min_sample
            elif row.found == "too little data":
                enough = row.sample >= rail.min_sample
                assert not enough or math.isnan(row.treatment) or math.isnan(row.limit)
    found = {name: set(rollout.checks["found"]) for name, rollout in rollouts.items()}
    assert set.union(*found.values()) == set(FOUND)


def test_breakpoints_are_the_first_of_their_kind(rollouts):
    for rollout in rollouts.values():
        table, history, checks = rollout.breakpoints, rollout.history, rollout.checks
        assert tuple(table.index) == BREAKPOINTS
        firsts = {
            "first failed check": checks.loc[checks["result"] == "fail", "t_s"].min(),
            "first rollback": history.loc[
                history["event"].isin(["rolled_back", "killed"]), "t_s"
            ].min(),
            "end": history["t_s"].max(),
        }
        for name, t_s in firsts.items():
            np.testing.assert_equal(table.at[name, "t_s"], t_s)
        for name, row in table.iterrows():
            if math.isnan(row["t_s"]):
                assert row["what"] == "never"
                with pytest.raises(ScenarioError, match="must be one that the rollout came to"):
                    rollout.why(name)
            else:
                assert row["look_s"] <= row["t_s"]
                assert row["what"] in rollout.why(name)
                assert set(rollout.why(row["t_s"])) <= set(rollout.why(name))


def test_the_first_fault_is_the_first_that_begins_while_somebody_looks(rollouts):
    reset = rollouts["reset"].breakpoints.loc["first fault"]
    assert reset["t_s"] == 410.0
    assert reset["look_s"] == 360.0
    assert (
        reset["what"] == "A fault begins at 6.833 min: reset. The last look before it was at 6 min."
    )
    assert rollouts["reset"].looks.query("cohort == 'treatment'")["cut"].sum() > 50
    assert rollouts["proxy"].breakpoints.at["first fault", "what"] == "never"  # it was there before


def test_the_first_stage_that_moved_is_that_of_a_metric_that_did(rollouts):
    rollout = rollouts["healthy"]
    moved = rollout.breakpoints.loc["first stage that moved"]
    assert moved["what"] == "never"
    tight = {"metric": "memory_bytes", "below": 2e7}
    plan = PLAN.replace(guardrails=[tight])
    rollout = sl.roll_out(plan, BOARD, engine="compiled", progress=False)
    moved = rollout.breakpoints.loc["first stage that moved"]
    values = rollout.checks.set_index("t_s")["treatment"]
    first, second = values.loc[:300.0].median(), values.loc[301.0:540.0].median()
    assert abs(second - first) > MOVED_FRAC * 2e7
    assert moved["t_s"] == 360.0
    assert f"median of {shown(second, 'value')} B" in moved["what"]
    assert f"after {shown(first, 'value')} in the stage before" in moved["what"]


def test_what_is_said_of_a_rollback_names_what_was_counted(rollouts):
    said = {name: rollouts[name].why("first rollback")[-1] for name in ("slow", "argo", "killed")}
    assert said["slow"] == (
        "Decision: roll back to 0 %, as 2 looks had failed, and at 2 the next one rolls back."
    )
    assert said["argo"] == (
        "Decision: roll back to 0 %, as latency, median had more failed checks (1) than are "
        "tolerated (0)."
    )
    assert said["killed"] == "The kill switch was used: back to 0 % of the users."
    no_data = rollouts["argo, no data"].why("first rollback")[-1]
    assert "more checks without data in a row (2) than are tolerated (1)" in no_data
    assert "more checks without a verdict (1)" in rollouts["argo, between"].why("end")[-1]
    assert rollouts["gradual"].why("end")[-1] == "The rollback went on, to 0 % of the users."


def test_before_the_first_look_nothing_is_known(rollouts):
    assert rollouts["healthy"].why(59.0) == [
        "Nothing had been looked at yet: the first look is at 60 s."
    ]


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("first rolback", "did you mean first rollback?"),
        ("first_failed_check", "did you mean first failed check?"),
        ("xyzzy", "one of first fault, .*, end, got"),
        (-1.0, "a time in seconds, >= 0, or the name"),
        (math.nan, "a time in seconds, >= 0, or the name"),
        (True, "a time in seconds, >= 0, or the name"),
        ([], "a time in seconds, >= 0, or the name"),
    ],
)
def test_what_is_neither_a_time_nor_a_breakpoint_is_refused(rollouts, at, words):
    with pytest.raises(ScenarioError, match=f"at: must be (?:.*){words}"):
        rollouts["healthy"].why(at)


def test_both_engines_are_told_alike():
    board = BOARD.replace({"clients": 40, "faults": [RESET]})
    one, other = (
        sl.roll_out(PLAN, board, engine=engine, progress=False) for engine in ("simpy", "compiled")
    )
    pd.testing.assert_frame_equal(one.checks, other.checks, check_exact=True)
    pd.testing.assert_frame_equal(one.looks, other.looks, check_exact=True)
    assert one.reasons == other.reasons
