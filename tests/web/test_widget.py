"""The explorer in JupyterLab: the kernel simulates."""

from __future__ import annotations

import time

import numpy as np
import pytest

import simlib as sl
from simlib.web.widget import ExplorerWidget
from tests.quick import ENGINE
from tests.web.test_laid_out import BOARD

MOVES = {"polling.interval_s": (5.0, 60.0), "clients": [60, 120]}


@pytest.fixture
def shown():
    boards = [BOARD, BOARD.replace(transport="websocket")]
    widget = ExplorerWidget(sl.web.explorer(boards, MOVES).spec)
    until(lambda: widget.moves == 1)
    yield widget
    widget.close()


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
    until(lambda: shown.moves == 2)
    after = longest_s(shown)
    assert after[0] < before[0]
    assert after[1] == before[1]  # what is pushed has no interval
    assert [trace.name for trace in shown._latency.data] == [
        "polling, simulated",
        "WebSocket push, simulated",
    ]
    assert np.isfinite(shown._course.data[0].y).all()
    assert clients.options == ("60", "120")


def test_of_many_moves_the_last_is_shown(shown):
    interval, clients = shown._inputs
    for index in range(6):
        interval.index = index
    clients.index = 1
    until(lambda: shown._said.value == "")
    expected = sl.simulate(
        BOARD.replace({"polling.interval_s": float(interval.value), "clients": 120}), engine=ENGINE
    )
    assert max(shown._latency.data[0].x) == pytest.approx(
        float(sl.metrics.ecdf(expected)["latency_s"].max()), rel=1e-6
    )
