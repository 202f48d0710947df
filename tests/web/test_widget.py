"""The explorer in JupyterLab: the kernel simulates."""

from __future__ import annotations

import html
import sys
import time

import numpy as np
import pytest

import simlib as sl
from simlib.lab.latest import PATIENCE_S
from simlib.web.shown import cells_of
from simlib.web.widget import ExplorerWidget
from tests.quick import ENGINE
from tests.web.test_laid_out import BOARD, PLAN

MOVES = {"polling.interval_s": (5.0, 60.0), "clients": [60, 120]}


@pytest.fixture
def shown():
    boards = [BOARD, BOARD.replace(transport="websocket")]
    widget = ExplorerWidget(sl.web.explorer(boards, MOVES).spec)
    until_answered(widget, 1)
    yield widget
    widget.close()


def until_answered(widget, moves):
    """Without a kernel's loop the widget's own thread shows what it computed, and then is idle."""
    until(lambda: widget.moves >= moves and not widget._latest.is_busy)


def until(is_so):
    end_s = time.monotonic() + 120.0
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def longest_s(widget):
    return [max(trace.x) for trace in widget._latency.data]


def test_the_table_and_figures_are_of_the_runs_and_follow_a_move(shown):
    (row,) = sl.simulate(BOARD, engine=ENGINE).totals()
    assert f"{100.0 * row['utilisation']:.3g}" in shown._table.value
    before = longest_s(shown)
    assert before[0] > before[1]
    interval, clients = shown._inputs
    interval.index = 0
    until_answered(shown, 2)
    after = longest_s(shown)
    assert after[0] < before[0]
    assert after[1] == before[1]  # what is pushed has no interval
    assert [trace.name for trace in shown._latency.data] == [
        "polling, simulated",
        "WebSocket push, simulated",
    ]
    assert np.isfinite(shown._course.data[0].y).all()
    assert clients.options == ("60", "120")


def test_an_explorer_has_one_widget_however_often_it_is_shown(monkeypatch):
    # The name of the module is also that of its function.
    monkeypatch.setattr(sys.modules["simlib.web.explorer"], "_is_in_a_kernel", lambda: True)
    shown = sl.web.explorer(BOARD, MOVES)
    view = "application/vnd.jupyter.widget-view+json"
    first, second = (shown._repr_mimebundle_()[view]["model_id"] for _ in range(2))
    assert first == second
    widget = shown._widget
    assert widget.moves == 1
    assert widget._latest._thread is None  # what Python has simulated already is shown
    assert f"{100.0 * shown._runs[0].totals()[0]['utilisation']:.3g}" in widget._table.value
    widget.close()
    assert shown._repr_mimebundle_()[view]["model_id"] != first
    shown._widget.close()


def test_the_table_has_the_lines_of_the_page():
    shown = sl.web.explorer(BOARD, MOVES, shown=("connection_wait_s", "busiest_utilisation"))
    widget = ExplorerWidget(shown.spec, shown._runs)
    for head, (cell,) in cells_of(shown.spec, shown._runs).items():
        assert head in widget._table.value
        assert f"<td>{cell}</td>" in widget._table.value
    widget.close()


def test_of_many_moves_the_last_is_shown(shown):
    interval, clients = shown._inputs
    for index in range(6):
        interval.index = index
    clients.index = 1
    until_answered(shown, 2)
    expected = sl.simulate(
        BOARD.replace({"polling.interval_s": float(interval.value), "clients": 120}), engine=ENGINE
    )
    assert max(shown._latency.data[0].x) == pytest.approx(
        float(sl.metrics.ecdf(expected)["latency_s"].max()), rel=1e-6
    )


def test_a_long_run_that_is_given_up_for_a_newer_move_is_no_end_of_answers():
    board = BOARD.replace(transport="websocket", horizon_s=2000.0)
    widget = ExplorerWidget(sl.web.explorer(board, {"clients": [60, 90_000]}).spec)
    until_answered(widget, 1)
    (clients,) = widget._inputs
    clients.index = 1
    until(lambda: widget._latest.is_busy)
    time.sleep(2 * PATIENCE_S)
    clients.index = 0
    until_answered(widget, 2)
    widget.close()


def test_what_makes_a_run_worthless_is_said_beside_it():
    board = BOARD.replace({"polling.interval_s": 30.0, "server.poll_s": 1.0})
    shown = sl.web.explorer(board, {"clients": [60, 120]})
    kind = sl.simulate(board, engine=ENGINE).warnings[0]
    assert str(kind) in repr(shown)
    widget = ExplorerWidget(shown.spec)
    until_answered(widget, 1)
    assert html.escape(str(kind)) in widget._said.value
    widget.close()


def test_a_plan_is_carried_out_anew_and_both_cohorts_are_shown():
    board = BOARD.replace(clients=40)
    moves = {"plan.stages.0.percent": [30, 90]}
    shown = sl.web.explorer(board, moves, plan=PLAN, over_time="connection_count")
    first = ExplorerWidget(shown.spec, shown._runs)  # shown before it is simulated again
    assert [mark.label.text for mark in first._course.layout.shapes] == ["30 %", "90 %", "0 %"]
    for head, cells in cells_of(shown.spec, shown._runs).items():
        assert head in first._table.value
        assert all(f"<td>{cell}</td>" in first._table.value for cell in cells)
    first.close()
    widget = ExplorerWidget(shown.spec)
    until_answered(widget, 1)
    (percent,) = widget._inputs
    percent.index = 1
    until_answered(widget, 2)
    run = sl.roll_out(PLAN.replace({"stages.0.percent": 90}), board, engine=ENGINE).run
    marks = [(mark.x0, mark.label.text) for mark in widget._course.layout.shapes]
    assert marks == [(0.0, "90 %"), (15.0, "90 %"), (70.0, "0 %")]
    names = [trace.name for trace in widget._course.data]
    assert names == ["polling, not enrolled", "WebSocket push, enrolled"]
    course = sl.metrics.over_time(run).set_index("cohort")["connection_count"]
    for trace, cohort in zip(widget._course.data, ("control", "treatment"), strict=True):
        assert list(trace.y) == course[cohort].tolist()
    widget.close()
