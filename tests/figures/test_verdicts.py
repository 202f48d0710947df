"""Figures of verdicts show the numbers of their tables, with units, and say the finding."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib.figures import COLOURS
from simlib.verdict import break_even, sentence_of, sobol, tornado
from tests.figures.titles import title_of

BOARD = sl.Scenario(
    updates={"rate_per_s": 0.1},
    clients=20,
    ramp_s=20.0,
    warm_up_s=30.0,
    horizon_s=240.0,
    cool_down_s=30.0,
)
QUICK = {"engine": "simpy", "on": "serial", "progress": False}
RATE = "updates.rate_per_s"
RANGES = {RATE: (0.05, 3.0), "network.rtt_s": (0.02, 0.08)}


@pytest.fixture(scope="module")
def decision():
    needs = {"latency_p95_s": 60.0, "back_s": 20.0}
    return sl.decide(BOARD, needs, candidates=["poll_etag", "push"], **QUICK)


def test_a_verdict_has_a_mark_for_each_candidate_and_need(decision):
    figure = sl.figures.verdict(decision)
    assert title_of(figure) == decision.verdict
    marks = sum(len(trace.x) for trace in figure.data)
    assert marks == 3 * 2
    shown = {trace.name: trace for trace in figure.data}
    table = decision.table.reset_index()
    asked = table[table["measure"].isin(["latency_p95_s", "back_s"])]
    for status, name in (("met", "meets the need"), ("failed", "does not")):
        assert len(shown[name].x) == (asked["status"] == status).sum()
    assert shown["meets the need"].marker.symbol != shown["does not"].marker.symbol
    colours = set(shown["does not"].marker.color) | set(shown["meets the need"].marker.color)
    assert colours == {COLOURS["polling"], COLOURS["websocket"]}
    heads = " ".join(figure.layout.xaxis.ticktext).replace("<br>", " ")
    assert "≤ 60 s" in heads
    assert "≤ 20 s" in heads
    assert len(figure.layout.yaxis.ticktext) == 3


def test_a_break_even_is_marked_where_the_curves_cross(decision):
    table = break_even(decision, RATE, one="push", other="poll_etag")
    figure = sl.figures.break_even(table)
    value = table["value"].iloc[0]
    assert f"{value:.3g}" in title_of(figure)
    assert "polling with ETag takes less" in title_of(figure)
    marked = [shape.x0 for shape in figure.layout.shapes]
    assert marked == pytest.approx([0.1, value], rel=1e-3)
    curves = table.attrs["curves"]
    for trace, name in zip(figure.data, ("push", "poll_etag"), strict=True):
        assert trace.x == pytest.approx(curves[RATE].tolist(), rel=1e-3)
        assert trace.y == pytest.approx((curves[name] / 1e3).tolist(), rel=1e-3)
    assert "kB" in figure.layout.yaxis.title.text
    assert "1/s" in figure.layout.xaxis.title.text
    never = break_even(decision, "network.rtt_s", one="push", other="poll_etag")
    figure = sl.figures.break_even(never)
    assert "takes less all along" in title_of(figure)
    # A closed form may end before the range does: then nothing is claimed beyond it.
    fewer = break_even(decision, "polling.interval_s", one="push", other="poll_etag")
    assert fewer.attrs["curves"]["polling.interval_s"].max() < 75.0
    assert "No crossing from 0.469 to" in sl.figures.break_even(fewer).layout.title.subtitle.text


def test_a_tornado_spans_what_its_table_does(decision):
    patient = decision.with_needs(decision.asked.needs.replace({"back_s": None}))
    table = tornado(patient, RANGES)
    figure = sl.figures.tornado(table)
    assert title_of(figure) == sentence_of(table)
    for trace, end in zip(figure.data, ("low", "high"), strict=True):
        reached = np.array(trace.x, dtype=float) + trace.base
        assert reached * 1e3 == pytest.approx(table[f"at_{end}"].to_numpy(), rel=1e-2)
    assert figure.data[1].text[1] == "hardly"
    assert figure.data[0].y[0].replace("<br>", " ").endswith("*")


def test_a_switch_has_a_bar_and_its_two_values_in_the_label():
    needs = {"latency_p95_s": 60.0, "back_s": 60.0}
    few = BOARD.replace({"clients": 4})
    found = sl.decide(few, needs, candidates=["sse"], replications=3, **QUICK)
    ranges = {"network.bad_gateway": (False, True), "network.rtt_s": (0.02, 0.08)}
    figure = sl.figures.tornado(tornado(found, ranges))
    low, high = figure.data
    (place,) = [n for n, name in enumerate(low.y) if "gateway" in name]
    assert "gateway: off or on" in low.y[place].replace("<br>", " ")
    assert list(low.customdata)[place] == "off"
    assert list(high.customdata)[place] == "on"
    assert (low.name, high.name) == ("at its least, or off", "at its greatest, or on")


def test_sobol_indices_have_their_intervals(decision):
    table = sobol(decision, RANGES, samples=16)
    figure = sl.figures.sobol(table)
    for trace, name in zip(figure.data, ("first", "total"), strict=True):
        assert trace.x == pytest.approx((table[name] * 100).tolist(), rel=1e-3)
        half = (table[f"{name}_high"] - table[name]) * 100
        assert trace.error_x.array == pytest.approx(half.tolist(), rel=1e-3)
    assert title_of(figure).startswith("Updates rate explains")


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (sl.figures.verdict, r"decision: must be a Decision"),
        (sl.figures.break_even, r"table: must be a table from verdict.break_even"),
        (sl.figures.tornado, r"table: must have the column"),
        (sl.figures.sobol, r"table: must have the column"),
    ],
)
def test_another_table_is_refused(draw, words):
    with pytest.raises(sl.ScenarioError, match=words):
        draw(pd.DataFrame({"value": [1.0]}))


def test_limits_of_needs_have_no_curves(decision):
    with pytest.raises(sl.ScenarioError, match="table: must be of a setting"):
        sl.figures.break_even(break_even(decision, "needs.latency_p95_s"))
