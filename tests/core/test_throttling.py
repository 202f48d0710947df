"""Timers of hidden tabs: when they ring, and what that does to those who come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simlib as sl
from simlib.core.activity import throttled_s
from simlib.core.client import step
from simlib.core.client_state import Client
from simlib.core.protocol import Event, State
from simlib.scenario import compile_workload

BOARD = sl.Scenario(
    transport="websocket",
    clients=300,
    ramp_s=0.0,
    horizon_s=900.0,
    updates={"rate_per_s": 0.1},
    hidden={"every_s": 1.0, "length_s": 1e6},
    heartbeat={"direction": "none"},
    reconnect={"policy": "fixed", "base_s": 3.0, "cap_s": 3.0},
    network={"rtt_s": 0.0, "tls": False},
)


@given(st.floats(0.0, 1e5), st.floats(0.0, 1e5), st.floats(0.0, 0.999))
def test_a_throttled_timer_rings_on_its_grid_and_never_early(hidden_s, after_s, phase):
    now = hidden_s + after_s
    t = throttled_s(now, hidden_s, phase)
    step_s = 60.0 if now - hidden_s >= 300.0 else 1.0
    assert 0.0 <= t - now <= step_s
    if t > now:
        place = t / step_s - phase
        assert place == pytest.approx(round(place), abs=1e-6)


@pytest.mark.parametrize(("start_s", "step_s"), [(100.0, 1.0), (500.0, 60.0)])
def test_hidden_tabs_come_back_on_the_grid_each_on_its_own(start_s, step_s):
    board = BOARD.replace({"faults": [{"kind": "reset", "start_s": start_s}]})
    prompt, throttled = (
        sl.simulate(board.replace(timer_throttling=throttles), progress=False)
        .frame("connections")
        .groupby("client")["opened_s"]
        .nth(1)
        for throttles in (False, True)
    )
    assert prompt.between(start_s + 3.0, start_s + 3.2).all()
    wait_s = throttled - start_s - 3.0
    # A few were shown, or are not hidden yet; the others are spread over a whole step.
    assert wait_s.between(0.0, step_s + 0.2).mean() > 0.99
    assert np.quantile(wait_s, 0.9) == pytest.approx(0.9 * step_s, rel=0.15)


def test_a_tab_that_is_shown_lets_its_timers_ring_at_once():
    rules = compile_workload(BOARD.replace(timer_throttling=True), 1, 0).rules
    client = Client(0)
    step(client, rules, Event.START, 0.0)
    step(client, rules, Event.HIDE, 1.0)
    step(client, rules, Event.CLOSED, 400.0)
    due_s = client.deadline_s
    assert due_s == 403.0
    _, held_s = step(client, rules, Event.DEADLINE, due_s)
    assert client.state == State.WAITING
    assert due_s < held_s <= due_s + 60.0
    _, shown_s = step(client, rules, Event.SHOW, 403.5)
    assert shown_s == 403.5
    step(client, rules, Event.DEADLINE, shown_s)
    assert client.state == State.CONNECTING


def test_a_timer_that_was_held_back_rings_even_if_its_clock_is_a_little_late():
    rules = compile_workload(BOARD.replace(timer_throttling=True), 1, 0).rules
    client = Client(0)
    step(client, rules, Event.START, 0.0)
    step(client, rules, Event.HIDE, 1.0)
    step(client, rules, Event.CLOSED, 400.0)
    _, held_s = step(client, rules, Event.DEADLINE, client.deadline_s)
    step(client, rules, Event.DEADLINE, held_s + 1e-3)
    assert client.state == State.CONNECTING


def test_throttled_timers_need_tabs_that_are_hidden():
    with pytest.raises(sl.ScenarioError, match="timer_throttling: has no meaning without"):
        BOARD.replace({"hidden": None, "timer_throttling": True})


def test_the_old_name_of_the_setting_is_read_with_a_warning():
    new = BOARD.replace(timer_throttling=True)
    was = "throttles_timers was renamed to .*timer_throttling"
    with pytest.warns(FutureWarning, match=was):
        assert BOARD.replace(throttles_timers=True) == new
    old = new.dump().replace("timer_throttling", "throttles_timers")
    with pytest.warns(FutureWarning, match=was):
        assert sl.Scenario.parse(old) == new
    with pytest.warns(FutureWarning, match=was):
        assert new.throttles_timers


def test_time_never_runs_backwards_for_a_timer_that_was_held_back():
    board = BOARD.replace(
        {
            "clients": 20,
            "horizon_s": 3000.0,
            "hidden": {"every_s": 20.0, "length_s": 400.0},
            "timer_throttling": True,
            "websocket.safety_poll_s": 30.0,
            "heartbeat": {"direction": "client", "interval_s": 25.0, "timeout_s": 20.0},
        }
    )
    run = sl.simulate(board, keep=("events",), progress=False)
    events = run.frame("events")
    assert events["t_s"].is_monotonic_increasing
    assert (events["event"] == "deadline").sum() > 100
    assert (run.frame("connections")["cause"] == "open_at_end").all()
