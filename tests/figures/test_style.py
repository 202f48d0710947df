"""What all figures share: runs told apart, titles that fit a phone, axes in units of people."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

import simlib as sl
from simlib.figures import style
from tests.figures.titles import title_of

BOARD = sl.Scenario(
    name="board", updates={"rate_per_s": 0.5}, clients=10, horizon_s=120.0, cool_down_s=60.0
)
OF_RUNS = ["latency", "bandwidth", "bytes_per_client", "utilisation", "connections", "six_metrics"]


def simulated(engine="simpy", **changes):
    result = sl.simulate(BOARD.replace(changes), progress=False)
    result.provenance["engine"] = engine
    return result


@pytest.fixture(scope="module")
def polls():
    return [simulated(polling={"interval_s": float(every)}) for every in (30, 10, 5, 2)]


def look(trace):
    if trace.type == "bar":
        return (trace.marker.color, trace.marker.pattern.shape)
    return (trace.line.color, trace.line.dash, trace.marker.symbol)


@pytest.mark.parametrize("name", OF_RUNS)
def test_runs_of_one_transport_have_its_colour_and_a_dash_and_marker_of_their_own(polls, name):
    traces = getattr(sl.figures, name)(*polls).data
    first = [trace for trace in traces if trace.showlegend]
    assert len(first) == len(polls)
    looks = [look(trace) for trace in first]
    assert {one[0] for one in looks} == {style.COLOURS["polling"]}
    assert all(one[1:] != other[1:] for one, other in itertools.combinations(looks, 2))


def test_measured_runs_of_one_transport_are_told_apart_by_markers():
    live = [simulated("live", polling={"interval_s": every}) for every in (30.0, 10.0)]
    one, other = sl.figures.latency(*live).data
    assert one.line.dash == other.line.dash == "dot"
    assert one.marker.symbol != other.marker.symbol


@pytest.mark.parametrize("name", OF_RUNS)
def test_the_title_names_every_run(polls, name):
    title = title_of(getattr(sl.figures, name)(*polls))
    assert title.count(" polled") % len(polls) == 0
    for every in (10, 5, 2):
        assert f"polled (polling interval {every} s)" in title


@pytest.mark.parametrize("name", OF_RUNS)
def test_the_title_of_many_runs_gives_their_range(polls, name):
    many = [*polls, simulated(transport="websocket"), simulated(transport="notify")]
    title = title_of(getattr(sl.figures, name)(*many))
    assert "of 6 scenarios" in title
    assert " to " in title
    row = min((run.metrics().iloc[0] for run in many), key=lambda row: row["latency_p50_s"])
    if name == "latency":
        assert f"{style.duration(row['latency_p50_s'])} " in title


def test_replications_are_one_in_the_title(polls):
    again = sl.simulate(polls[0].scenario, seed=2, progress=False)
    assert title_of(sl.figures.latency(polls[0], again)).count("polled") == 1


@pytest.mark.parametrize("name", OF_RUNS)
def test_lines_fit_a_page_of_400_px_and_stand_in_the_margin(polls, name):
    full = simulated(transport="websocket", server={"max_connections": 5})
    layout = getattr(sl.figures, name)(*polls[:2], full).layout
    titles = layout.title.text.split("<br>")
    small = re.sub("<[^b>]*>", "", layout.title.subtitle.text).split("<br>")
    assert max(map(len, titles)) <= 41
    assert max(map(len, small)) <= 56
    assert layout.margin.t >= 42 + 21 * len(titles) + 16 * len(small)
    plain = sl.figures.latency(polls[0]).layout
    assert plain.height - plain.margin.t - plain.margin.b == 470 - 95 - 110


@pytest.mark.parametrize("horizon_s", [60.0, 600.0, 7200.0, 36_000.0, 10 * 86_400.0])
def test_times_are_in_the_unit_that_suits_them(horizon_s):
    axis = style.time_axis(horizon_s)
    unit = re.search(r"\((\w+)\)", axis["title"]["text"])[1]
    factor = {"s": 1.0, "min": 60.0, "h": 3600.0, "days": 86_400.0}[unit]
    assert 2 <= len(axis["tickvals"]) <= 7
    assert axis["tickvals"][-1] <= horizon_s
    marks = [float(text.replace(",", "")) for text in axis["ticktext"]]
    assert np.allclose(np.array(marks) * factor, axis["tickvals"])
    assert 1.0 <= horizon_s / factor <= 240.0


def test_every_panel_has_titles_of_its_axes(polls):
    figure = sl.figures.six_metrics(*polls[:2])
    assert all(axis.title.text == "time (s)" for axis in figure.select_xaxes())
    assert len(figure.layout.annotations) == 6


def test_the_axes_of_a_sweep_are_in_words_with_units():
    slow = BOARD.replace({"server.poll_s": 2.0})
    options = {"replications": 2, "engine": "simpy", "on": "serial", "progress": False}
    table = sl.sweep(slow, {"polling.interval_s": [1.0, 60.0]}, **options)
    figure = sl.figures.sensitivity(table, "polling.interval_s", "latency_p50_s")
    assert figure.layout.xaxis.title.text == "polling interval (s, log scale)"
    assert figure.layout.yaxis.title.text == "latency, median (s)"
    assert title_of(figure).startswith("Polling interval from 1 to 60 s: latency, median ")
    said = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert "⚠ some runs have warnings: " in said
    assert "saturated" in said


@pytest.mark.parametrize("text", ["seen within 14.2 s polled", "off by 23.8 % at most"])
def test_a_number_and_its_unit_stay_on_one_line(text):
    for width in range(8, 30):
        lines = style.wrap(text, width).split("<br>")
        assert not any(re.match(r"(s|%)\b|%", line) for line in lines)
        assert " ".join(lines) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(599.0, "599 s"), (2090.0, "34.8 min"), (36_000.0, "10 h")]
)
def test_long_durations_are_in_minutes_and_hours(seconds, text):
    assert style.duration(seconds) == text


def test_ticks_of_long_spans_are_minutes_and_hours():
    axis = style.duration_axis([1.0, 20_000.0])
    assert axis["ticktext"] == ["1 s", "10 s", "1 min", "10 min", "1 h"]
