"""Sliders: their positions, and what is refused."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import simlib as sl
from simlib.errors import ScenarioError
from simlib.web.sliders import moved, moved_plan, sliders_of
from simlib.web.specs import MOST_RUNS

FAULT = {"kind": "restart", "start_s": 40.0, "length_s": 5.0}
BOARD = sl.Scenario(updates={"rate_per_s": 0.3}, clients=1000, horizon_s=100.0, faults=[FAULT])
LIBRARIES = {"as it is": {}, "quick": {"reconnect.base_s": 0.1}}


def test_a_wide_range_has_round_positions_that_are_so_many_times_apart():
    (slider,) = sliders_of(BOARD, {"clients": (100, 50_000)})
    assert slider.values[:4] == (100, 120, 150, 200)
    assert slider.values[-2:] == (40_000, 50_000)
    assert slider.values[slider.start] == BOARD.clients
    assert all(isinstance(value, int) for value in slider.values)


def test_a_narrow_range_has_round_positions_that_are_so_far_apart():
    (slider,) = sliders_of(BOARD, {"polling.interval_s": (25.0, 35.0)})
    assert slider.values[:3] == (25.0, 25.2, 25.4)
    assert slider.values[-1] == 35.0
    assert slider.values[slider.start] == 30.0


def test_sliders_move_settings_faults_and_choices_together():
    moves = {"clients": [500, 1000], "faults.0.length_s": [5.0, 9.0], "library": LIBRARIES}
    sliders = sliders_of(BOARD, moves)
    assert [slider.start for slider in sliders] == [1, 0, 0]
    assert moved(BOARD, sliders, [1, 0, 0]) == BOARD
    there = moved(BOARD, sliders, [0, 1, 1])
    assert (there.clients, there.reconnect.base_s) == (500, 0.1)
    assert there.faults[0].length_s == 9.0
    assert there.faults[0].start_s == FAULT["start_s"]


def test_libraries_go_by_their_names():
    board = BOARD.replace(sl.library("phoenix"))
    (slider,) = sliders_of(board, {"library": ["signalr", "phoenix"]})
    assert (slider.texts, slider.start) == (("signalr", "phoenix"), 1)
    assert slider.applied(board, 0) == board.replace(sl.library("signalr"))


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ({}, "sliders: must be 1 to 6 settings to move"),
        (None, "sliders: must be a mapping of paths of settings to what each may be"),
        ([("clients", (1, 2000))], "sliders: must be a mapping of paths of settings"),
        ({5: (1, 2)}, "sliders: must be a mapping of paths of settings"),
        ({"clients": (1, math.inf)}, "clients: must be a range between numbers of at most 1e+12"),
        ({"clients": (math.nan, 2000)}, "clients: must be a range around the scenario's own 1000"),
        ({"polling.interval_s": (0.0, math.inf)}, "must be a range between numbers of at most"),
        ({"polling.interval_s": (1e-320, 60.0)}, "must be a range between numbers of at most"),
        ({"client": (1, 2)}, "did you mean clients?"),
        ({"clients": 5}, "clients: must be a range (two numbers), a list of values, or names"),
        ({"clients": "many"}, "clients: must be a range (two numbers), a list of values, or names"),
        ({"clients": (1, 10)}, "clients: must be a range around the scenario's own 1000"),
        ({"clients": (2000, 1)}, "clients: must be a range around the scenario's own 1000"),
        ({"clients": [1, 2]}, "the scenario's own among them: 1000"),
        ({"clients": [1000]}, "must be two values or more"),
        ({"clients": [1000, -1]}, "clients: must be >= 0"),
        ({"faults.1.start_s": (1, 2)}, "must be the number of one of the 1 faults, from 0 on"),
        ({"library": {"quick": {"reconnect.base_s": 0.1}, "slow": {"reconnect.base_s": 9.0}}},
         "library: must be two changes or more, and one of them must leave the scenario as it is"),
    ],
)  # fmt: skip
def test_what_cannot_slide_is_refused(moves, said):
    with pytest.raises(ScenarioError, match=re.escape(said)):
        sliders_of(BOARD, moves)


@pytest.mark.parametrize(
    ("scenarios", "options", "said"),
    [
        ([], {}, "scenarios: must be 1 to 3 of them"),
        ([BOARD] * (MOST_RUNS + 1), {}, "scenarios: must be 1 to 3 of them"),
        (BOARD, {"shown": ["speed"]}, "shown: must be among connection_count"),
        ("matters", {}, "scenarios: must be a list, got 'matters'"),
        (None, {}, "scenarios: must be a list, got None"),
        ([None], {}, "scenarios: must be scenarios, got None"),
        (BOARD, {"shown": "utilisation"}, "shown: must be a list, got 'utilisation'"),
        (BOARD, {"over_time": "latency_p50_s"}, "over_time: must be among connection_count"),
    ],
)
def test_an_explorer_says_what_is_wrong_with_it(scenarios, options, said):
    with pytest.raises(ScenarioError, match=re.escape(said)):
        sl.web.explorer(scenarios, {"clients": [500, 1000]}, **options)


@pytest.mark.parametrize(
    ("scenarios", "moves", "said"),
    [
        ([BOARD, BOARD.replace(clients=500)], {"clients": [500, 1000]},
         "clients: must be the same in every scenario that is shown"),
        ([BOARD, BOARD.replace(faults=[])], {"faults.0.length_s": [5.0, 9.0]},
         "faults.0.length_s: must be a fault of every scenario that is shown"),
        (BOARD, {"transport": ["polling", "websocket"]}, "transport: must not move transport"),
        (BOARD, {"way": {"polled": {}, "pushed": {"transport": "websocket"}}},
         "way: must not move transport"),
        (BOARD, {"polling.etag": ["off", "version"]}, "must not move polling.etag"),
        (BOARD, {"bin_s": [1.0, 2.0]}, "bin_s: must not move bin_s"),
        (BOARD, {"clients": (100, 200_000)}, "clients: must be < 100000 in a page"),
    ],
)  # fmt: skip
def test_what_would_be_shown_under_wrong_names_is_refused(scenarios, moves, said):
    with pytest.raises(ScenarioError, match=re.escape(said)):
        sl.web.explorer(scenarios, moves)


def test_numbers_of_numpy_and_names_that_are_numbers_slide():
    way = {1: {}, 2: {"reconnect.base_s": 0.1}}
    clients, way = sliders_of(BOARD, {"clients": (np.int64(100), np.int64(2000)), "way": way})
    assert clients.values[0] == 100
    assert type(clients.values[0]) is int
    assert way.texts == ("1", "2")


PLAN = sl.Plan(
    flag={"propagation": "pushed"},
    check_every_s=10.0,
    stages=[{"percent": percent, "bake_s": 20.0} for percent in (10, 50)],
    kill_s=60.0,
)
SOCKETS = {"kept": {}, "closed": {"sockets": "closed"}}
GUARDED = PLAN.replace(guardrails=[{"metric": "latency_p95_s", "below": 1.0}])


def test_settings_of_a_plan_slide_by_their_paths_and_sections_by_names():
    moves = {
        "plan.stages.1.percent": (20, 80),
        "plan.kill_s": [30.0, 60.0, None],
        "plan.rollback": SOCKETS,
        "both": {"as it is": {}, "later": {"plan.start_s": 5.0, "clients": 500}},
    }
    sliders = sliders_of(BOARD, moves, PLAN)
    assert [slider.texts[slider.start] for slider in sliders] == ["50", "60", "kept", "as it is"]
    starts = [slider.start for slider in sliders]
    assert (moved(BOARD, sliders, starts), moved_plan(PLAN, sliders, starts)) == (BOARD, PLAN)
    there = [0, 2, 1, 1]
    plan = moved_plan(PLAN, sliders, there)
    assert (plan.stages[1].percent, plan.kill_s, plan.start_s) == (20.0, None, 5.0)
    assert plan.rollback.sockets == "closed"
    assert moved(BOARD, sliders, there) == BOARD.replace(clients=500)


@pytest.mark.parametrize(
    ("moves", "options", "said"),
    [
        ({"plan.kill_s": [50.0, 60.0]}, {"plan": None},
         "must be a setting of the scenario, or explorer(..., plan=...) must have a plan"),
        ({"plan.kill_s": [50.0, 60.0]}, {"plan": GUARDED},
         "plan.guardrails: must be none, as what a guardrail sees may change the percentages"),
        ({"plan.guardrails": {"none": [], "one": [{"metric": "latency_p95_s", "below": 1}]}},
         {"plan": PLAN}, "plan.guardrails: must be none"),
        ({"plan.kill_s": [60.0, 100.0]}, {"plan": PLAN},
         "plan.kill_s: must be < the scenario's horizon_s (100)"),
        ({"plan.stages.0.percent": [10.0, 90.0]}, {"plan": PLAN},
         "plan.stages.1.percent: must be >= the stage's before (90)"),
        ({"plan.stages.0.percents": [10.0, 90.0]}, {"plan": PLAN}, "plan.stages.0.percents: "),
        ({"plan.bucketing.rule": ["floor_mod", "guide"]}, {"plan": PLAN},
         "must not move plan.bucketing: every user would be laid out anew"),
        ({"plan.treatment.transport": ["websocket", "sse"]}, {"plan": PLAN},
         "must not move plan.treatment.transport: figures are named by it"),
        ({"plan.kill_s": [50.0, 60.0]}, {"plan": "now"}, "plan: must be a Plan"),
    ],
)  # fmt: skip
def test_what_of_a_plan_cannot_be_explored_is_refused(moves, options, said):
    with pytest.raises(ScenarioError, match=re.escape(said)):
        sl.web.explorer(BOARD, moves, **options)


def test_a_plan_is_carried_out_on_one_scenario():
    with pytest.raises(ScenarioError, match="scenarios: must be one where a plan is carried out"):
        sl.web.explorer([BOARD, BOARD], {"plan.kill_s": [50.0, 60.0]}, plan=PLAN)
