"""Figures of rollouts show what the tables say, and refuse what is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib import figures, theory
from simlib.analysis import rollouts
from simlib.errors import ScenarioError
from tests.figures.titles import title_of

BOARD = sl.Scenario(
    clients=200,
    ramp_s=30.0,
    horizon_s=1000.0,
    updates={"rate_per_s": 0.1},
    reconnect={"policy": "full_jitter"},
)
PLAN = sl.Plan(
    start_s=60.0,
    flag={"propagation": "polled", "every_s": 30.0},
    stages=[{"percent": percent, "bake_s": 240.0} for percent in (10, 50)],
    guardrails=[
        {"metric": "latency_p95_s", "below": 2.0},
        {"metric": "error_rate_per_h", "times_control": 2.0},
        {"metric": "error_rate_per_h", "below": 30.0},
    ],
    decision={"failures": 2},
)
BROKEN = sl.trials.regressions(BOARD, PLAN)
RED = "#B22222"


@pytest.fixture(scope="module")
def healthy():
    return sl.roll_out(PLAN, BOARD, progress=False)


@pytest.fixture(scope="module")
def broken():
    return sl.roll_out(PLAN, BOARD.replace(BROKEN["proxy"]), progress=False)


def test_the_share_is_drawn_beside_what_was_asked_for(healthy, broken):
    figure = figures.rollout(healthy)
    asked, share, pushed = figure.data[:3]
    assert list(asked.y) == [0.0, *healthy.history["percent"], 50.0]
    table = rollouts.shares(healthy.run)
    assert set(share.y) <= {float(f"{value * 100:.4g}") for value in table["share"]}
    assert max(pushed.y) == max(share.y)  # nobody is shut out
    assert "done after 8 min" in title_of(figure)
    got = table[table["t_s"] <= 300.0]["share"].iloc[-1] * 100.0
    assert f"10 % asked for is {got:.3g} %" in title_of(figure)
    back = figures.rollout(broken)
    assert "rolled back after" in title_of(back)
    assert max(back.data[2].y) < max(back.data[1].y)  # most are not let in
    failed = next(trace for trace in back.data if trace.name == "check failed")
    looks = broken.history.query("event == 'failed'")
    assert list(failed.x) == looks["t_s"].tolist()
    assert len(figure.to_json()) < 60_000


@pytest.mark.parametrize("changes", [{"polling.interval_s": 10}, {"polling": {"interval_s": 10}}])
def test_two_variants_of_one_transport_are_told_apart(changes):
    faster = {"transport": "polling", "changes": changes}
    plan = PLAN.replace(treatment=faster, guardrails=[])
    carried_out = sl.roll_out(plan, BOARD.replace(clients=30), engine="simpy", progress=False)
    share = figures.rollout(carried_out).data[1]
    assert share.name == "flag says treatment, of the open tabs"
    table = rollouts.enrolled(carried_out.run)
    assert set(share.y) <= {float(f"{value * 100:.4g}") for value in table["share"]}
    shown = [trace for trace in figures.guardrail_panels(carried_out).data if trace.showlegend]
    names = [trace.name for trace in shown]
    assert names == ["control: polling", "treatment: polling, polling.interval_s 10"]
    assert shown[0].line.color != shown[1].line.color


def test_what_is_watched_is_drawn_by_cohort_beside_its_guardrails(broken):
    figure = figures.guardrail_panels(broken)
    assert len(figure.layout.annotations) == 7  # six metrics, and the latency that is guarded
    of_errors = [trace for trace in figure.data if trace.yaxis == "y5"]
    assert [trace.name.split(":")[0] for trace in of_errors] == [
        "control",
        "treatment",
        "limit from control",
    ]
    shaded = [shape for shape in figure.layout.shapes if shape.fillcolor == RED]
    assert [(shape.yref.split()[0], shape.y0) for shape in shaded] == [("y5", 30.0), ("y7", 2.0)]
    assert "2 of 2 checks failed: rolled back" in title_of(figure)
    assert "latency, 95 % at most 2 (s)" in figure.layout.title.subtitle.text.replace("<br>", " ")
    latency = next(trace for trace in figure.data if trace.yaxis == "y7")
    assert list(latency.x) == broken.history["t_s"].tolist()
    assert len(figure.to_json()) < 60_000


def test_outcomes_say_false_alarms_and_misses():
    broken = {"proxy": BROKEN["proxy"], "memory": BROKEN["memory"]}
    found = sl.rehearse(PLAN, BOARD, broken, replications=3, on="serial", progress=False)
    figure = figures.outcomes(found.table)
    assert (
        title_of(figure) == "0 of 3 healthy fleets are rolled back; memory is missed most (100 %)"
    )
    assert list(figure.data[0].x) == [0.0, 100.0, 0.0]
    assert figure.data[0].marker.symbol == ("circle-open", "circle", "circle")
    user_h = found.table["user_min"] / 60.0
    assert list(figure.data[2].x) == [float(f"{hours:.4g}") for hours in user_h]
    with pytest.raises(ScenarioError, match="must have a column user_min"):
        figures.outcomes(found.table.drop(columns="user_min"))


@pytest.mark.parametrize("over", [{"decision.failures": [1, 5]}, {"decision.rule": ["flagger"]}])
def test_operating_curves_follow_the_setting(over):
    broken = {"proxy": BROKEN["proxy"]}
    table = sl.tune(PLAN, BOARD, over, broken, replications=3, on="serial", progress=False)
    (path,) = over
    figure = figures.operating_characteristic(table, path)
    assert list(figure.data[0].x) == over[path]
    rows = table.set_index(path).loc[over[path]]
    assert list(figure.data[1].y) == (rows["miss_frac"] * 100.0).tolist()
    highs = figure.data[0].error_y.array
    expected = (rows["false_high"] - rows["false_frac"]) * 100.0
    assert list(highs) == pytest.approx(expected.tolist(), rel=1e-3)
    for wrong, words in (
        (lambda: figures.operating_characteristic(table, "stages"), "path: must be one of"),
        (
            lambda: figures.operating_characteristic(pd.concat([table, table]), path),
            "one row for each value",
        ),
        (lambda: figures.operating_characteristic(table.head(0), path), "at least one row"),
    ):
        with pytest.raises(ScenarioError, match=words):
            wrong()


def test_ways_back_are_drawn_beside_their_closed_forms():
    times_s = np.array([1.0, 10.0, 30.0, 60.0])
    polled = {"way": "polled", "t_s": times_s, "left_frac": [0.98, 0.8, 0.5, 0.0]}
    exact = theory.left_frac(times_s, every_s=60.0)
    table = pd.concat(
        [
            pd.DataFrame({**polled, "exact_frac": exact}),
            pd.DataFrame({"way": "kept", "t_s": times_s, "left_frac": 1.0}),
        ]
    )
    figure = figures.rollback_time(table)
    assert [trace.name for trace in figure.data] == ["polled", "polled, closed form", "kept"]
    assert figure.data[0].line.color == figure.data[1].line.color
    assert figure.data[1].line.dash == "dash"
    assert title_of(figure) == "To bring half of the tabs back, kept does not do it"
    with pytest.raises(ScenarioError, match="must have the column left_frac"):
        figures.rollback_time(table.drop(columns="left_frac"))


def test_enrolment_names_the_rule_that_is_furthest_off():
    ids = sl.bucketing.user_ids("uuid4", 2000)
    table = pd.concat(
        [
            sl.bucketing.share(sl.bucketing.buckets(rule, ids), [0, 10, 100]).assign(rule=rule)
            for rule in ("guide", "floor_mod")
        ]
    )
    figure = figures.enrolment(table)
    assert [trace.name for trace in figure.data] == ["as asked for", "guide", "floor_mod"]
    at_0 = table.iloc[0]["share_frac"] * 100.0
    assert title_of(figure) == f"At 0 %, guide enrols {at_0:.3g} % of the users"


def test_a_rollout_that_is_killed_before_it_begins_is_drawn():
    killed = sl.roll_out(PLAN.replace(kill_s=0.0), BOARD, progress=False)
    assert killed.history["event"].tolist() == ["killed"]
    assert title_of(figures.rollout(killed)) == "Killed before the first stage"
    assert title_of(figures.guardrail_panels(killed)) == "0 of 0 checks failed: killed"


def test_what_is_no_rollout_is_refused(healthy):
    for wrong in (None, healthy.run, (1, 2, 3), healthy._replace(history=healthy.history.head(0))):
        for figure in (figures.rollout, figures.guardrail_panels):
            with pytest.raises(
                ScenarioError, match=r"carried_out: must (be a Rollout|have a check)"
            ):
                figure(wrong)
