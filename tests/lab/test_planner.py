"""The planner's logic, without a browser: what is offered, what a move changes, what is refused."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import simlib as sl
from simlib.lab import panels
from simlib.lab.answers import Answers
from simlib.lab.controls import CANDIDATE, RECONNECT, board_of, controls_of
from simlib.lab.latest import PATIENCE_S, Latest
from simlib.processes import end_event

NEEDS = sl.Needs(latency_p95_s=5.0, back_s=60.0)
BOARD = sl.Scenario(updates={"rate_per_s": 0.1}, clients=12, horizon_s=200.0)
WAIT_S = 300.0
"""When what a test waits for counts as hung; it takes seconds, and a busy machine longer."""


def answered(shown, moves):
    until_s = time.monotonic() + WAIT_S
    while shown.moves < moves or shown._glances.is_busy:
        assert time.monotonic() < until_s, shown._status.value
        time.sleep(0.01)


@pytest.fixture
def planner():
    shown = sl.lab.planner(BOARD, NEEDS)
    yield shown
    shown.close()


def test_there_are_eight_controls_and_each_begins_at_the_scenario():
    controls, left_out = controls_of(BOARD, NEEDS)
    assert len(controls) == 8
    assert left_out == {}
    chosen = {one.path: one.chosen for one in controls}
    assert board_of(BOARD, controls, chosen) == (BOARD, "push_fallback")
    for one in controls:
        assert one.chosen in one.options


def test_the_steps_of_a_slider_rise_and_are_values_that_the_scenario_takes():
    for one in controls_of(BOARD, NEEDS)[0]:
        if not one.is_menu:
            values = list(one.options.values())
            assert np.all(np.diff(values) > 0)
            for value in (values[0], values[-1]):
                BOARD.replace({one.path: value})


def test_every_way_of_reconnecting_goes_with_the_board():
    [menu] = [one for one in controls_of(BOARD, NEEDS)[0] if one.path == RECONNECT]
    assert {"socket.io-client", "signalr", "every 1 s, no jitter"} <= menu.options.keys()
    for changes in menu.options.values():
        BOARD.replace(changes)


def test_what_a_scenario_says_in_another_way_has_no_slider_and_is_named():
    replayed = sl.Scenario(
        updates={"kind": "times", "publish_s": [30.0, 60.0]}, clients=12, horizon_s=200.0
    )
    _, left_out = controls_of(replayed, NEEDS)
    assert list(left_out) == ["updates.rate_per_s"]
    with_slider = controls_of(BOARD, NEEDS)[0]
    assert "updates.rate_per_s" in [one.path for one in with_slider]


@pytest.mark.parametrize(
    ("scenario", "needs", "candidate", "said"),
    [
        ("matters", NEEDS, "", "scenario: "),
        (BOARD, {"latency_p95": 5.0}, "", "latency_p95: "),
        (BOARD, NEEDS, "pushed", "candidate: must be among "),
        (BOARD, NEEDS, "push_half", "candidate: must be among "),
        (BOARD, {"harmed_frac": 0.1}, "", "needs: must not ask for rollouts"),
        (
            BOARD.replace(faults=[{"kind": "restart", "start_s": 9.0, "length_s": 5.0}]),
            NEEDS,
            "",
            "faults.0.kind: must be left to needs.trouble",
        ),
        (BOARD.replace(clients=3_000_000), NEEDS, "", "clients: must leave at most 100,000,000"),
    ],
)
def test_what_cannot_be_shown_is_refused_by_name(scenario, needs, candidate, said):
    with pytest.raises(sl.ScenarioError) as caught:
        sl.lab.planner(scenario, needs, candidate=candidate)
    assert str(caught.value).startswith(said)


def test_a_move_is_answered_in_calm_first_and_then_with_the_verdict_of_decide():
    answers = Answers(NEEDS, 1, "simpy")
    *_, first, last = answers.of(BOARD, "push")
    assert first.decision is None
    assert [one.rough for one in first.drawn] == [None, None]
    assert [one.name for one in last.drawn] == ["today", "push of deltas"]
    properly = sl.decide(BOARD, NEEDS, candidates=["push"], replications=3, engine="simpy")
    assert last.decision.kind == properly.kind == "migrate"
    # The glance's only run is the first of those of `decide`, measure by measure.
    for name, measures in last.decision.values.items():
        for measure, values in measures.items():
            assert np.array_equal(values, properly.values[name][measure][:1], equal_nan=True)
    assert "one run of each" in last.decision.about


def test_where_the_candidate_takes_long_todays_is_drawn_first_and_what_was_before_pales(
    monkeypatch,
):
    run_of, may_go_on = Answers._run_of, threading.Event()

    def slow(self, trial, given_up):
        if trial.condition.scenario.transport == "websocket":
            may_go_on.wait(WAIT_S)
        return run_of(self, trial, given_up)

    monkeypatch.setattr(Answers, "_run_of", slow)
    found = Answers(NEEDS, 1, "simpy").of(BOARD, "push")
    early = next(found)
    may_go_on.set()
    first, last = found
    assert [each.is_late for each in (early, first, last)] == [True, False, False]
    assert [one.name for one in early.drawn] == ["today"]
    assert first.decision is None
    figure = panels.empty()
    for answer in (first, early):
        panels.redraw(figure, panels.move_of(answer.drawn, is_late=answer.is_late))
    assert [trace.opacity for trace in figure.data] == [1.0] * 4 + [panels._PALE] * 4
    assert len(figure.data[4].x) > 0
    panels.redraw(figure, panels.move_of(last.drawn))
    assert [trace.opacity for trace in figure.data] == [1.0] * 8


def test_what_was_simulated_for_an_earlier_move_is_not_simulated_again(monkeypatch):
    ran = []
    run_of = Answers._run_of

    def counting(self, trial, given_up):
        known = len(self._kept)
        run = run_of(self, trial, given_up)
        ran.append(len(self._kept) - known)
        return run

    monkeypatch.setattr(Answers, "_run_of", counting)
    answers = Answers(NEEDS, 1, "simpy")
    answers._workers = 1
    list(answers.of(BOARD, "push"))
    assert sum(ran) == 4
    list(answers.of(BOARD, "push"))
    assert sum(ran) == 4
    list(answers.of(BOARD.replace({"reconnect.base_s": 5.0}), "push"))
    # How clients reconnect is part of each scenario, also of one that polls.
    assert sum(ran) == 8


def test_the_candidate_that_is_todays_leaves_one_and_says_why():
    *_, last = Answers(NEEDS, 1, "simpy").of(BOARD, "poll")
    assert [one.name for one in last.drawn] == ["today"]
    assert "is the same as" in last.note
    move = panels.move_of(last.drawn)
    assert [trace["visible"] for trace in move.traces] == [True] * 4 + [False] * 4


def test_a_slider_moves_the_figure_the_verdict_and_the_toml(planner):
    answered(planner, 1)
    assert planner.decision.kind == "migrate"
    before = planner._figure.data[0].x
    planner._inputs["polling.interval_s"].value = "5 s"
    answered(planner, 2)
    assert planner.scenario == BOARD.replace({"polling.interval_s": 5.0})
    assert sl.Scenario.parse(planner._toml.value) == planner.scenario
    after = planner._figure.data[0].x
    assert np.max(after) < np.max(before)
    assert np.max(after) < 6.0
    assert "one run of each" in planner._verdict.value
    planner._inputs[CANDIDATE].value = "server-sent events"
    answered(planner, 3)
    assert planner._figure.data[4].name == "server-sent events"
    assert planner._figure.data[4].line.color == sl.figures.COLOURS["sse"]


def test_settings_that_do_not_go_together_are_named_and_the_next_move_is_answered(planner):
    answered(planner, 1)
    planner._controls = [
        one._replace(options={**one.options, "never": -1.0})
        if one.path == "polling.interval_s"
        else one
        for one in planner._controls
    ]
    slider = planner._inputs["polling.interval_s"]
    slider.options = (*slider.options, "never")
    slider.value = "never"
    assert "polling.interval_s: must be &gt; 0" in planner._status.value
    assert planner.decision is None
    slider.value = "20 s"
    answered(planner, 2)
    assert planner._status.value == ""


def test_the_button_decides_as_decide_does(planner):
    answered(planner, 1)
    planner._properly.click()
    until_s = time.monotonic() + WAIT_S
    while planner._properly.disabled:
        assert time.monotonic() < until_s
        time.sleep(0.05)
    assert planner.decision.asked.replications == 5
    assert len(planner.decision.cases) > 10
    assert "5 replications" in planner._verdict.value


def test_a_notebook_stores_words_that_are_the_same_in_each_run(planner):
    data, _ = planner._repr_mimebundle_()
    assert data["text/plain"] == f"The planner of {BOARD.name}: sliders and figures, in JupyterLab."
    assert not any(mime.startswith("text/html") for mime in data)


def test_nothing_is_left_running_when_it_is_closed():
    before = set(threading.enumerate())
    shown = sl.lab.planner(BOARD, NEEDS)
    shown.close()
    assert set(threading.enumerate()) <= before


def test_only_the_latest_of_what_waits_is_begun():
    begun, go_on = [], threading.Event()

    def work(what):
        begun.append(what)
        go_on.wait(WAIT_S)

    latest = Latest(work)
    for what in range(10):
        latest.ask(what)
        if what == 0:
            while not begun:
                time.sleep(0.001)
    go_on.set()
    latest.close()
    assert begun == [0, 9]


def test_what_has_taken_long_is_given_up_for_something_newer_and_not_before():
    given_up, took_s, has_begun = {}, {}, threading.Event()

    def work(what):
        has_begun.set()
        given_up[what] = end_event().wait(WAIT_S if what == "long" else 0.0)
        took_s[what] = time.monotonic() - latest._began_s

    latest = Latest(work)
    latest.ask("long")
    assert has_begun.wait(WAIT_S)
    latest.ask("next")
    latest.close()
    assert given_up == {"long": True, "next": False}
    assert took_s["long"] >= PATIENCE_S
