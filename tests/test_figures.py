"""Figures show the numbers of the tables, in constant colours, with units."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib.figures import COLOURS
from simlib.notebook import digest

BOARD = sl.Scenario(updates={"rate_per_s": 0.5}, clients=20, horizon_s=120.0)
COLOUR_OF = {"polling": "#D55E00", "websocket": "#0072B2"}


def run(transport, seed=1, engine="simpy"):
    result = sl.simulate(BOARD.replace(transport=transport), seed=seed, progress=False)
    result.provenance["engine"] = engine
    return result


@pytest.fixture(scope="module")
def runs():
    return [
        run("polling"),
        run("websocket"),
        run("polling", 2, "live"),
        run("websocket", 2, "live"),
    ]


OF_RUNS = ["latency", "bandwidth", "bytes_per_client", "utilisation", "connections", "six_metrics"]


@pytest.mark.parametrize("name", OF_RUNS)
def test_colour_says_the_transport_and_line_or_pattern_the_source(runs, name):
    figure = getattr(sl.figures, name)(*runs)
    assert {trace.name for trace in figure.data} == {
        f"{words}, {source}"
        for words in ("polling", "WebSocket push")
        for source in ("simulated", "measured")
    }
    for trace in figure.data:
        transport = "polling" if trace.name.startswith("polling") else "websocket"
        is_measured = trace.name.endswith("measured")
        if trace.type == "bar":
            assert trace.marker.color == COLOUR_OF[transport]
            assert bool(trace.marker.pattern.shape) == is_measured
        else:
            assert trace.line.color == COLOUR_OF[transport]
            assert (trace.line.dash == "dot") == is_measured


@pytest.mark.parametrize("name", OF_RUNS)
def test_titles_state_a_finding_and_axes_have_words(runs, name):
    figure = getattr(sl.figures, name)(*runs)
    assert any(letter.isdigit() for letter in figure.layout.title.text)
    assert figure.layout.xaxis.title.text or figure.layout.xaxis5.title.text
    assert len(figure.to_json()) < 60_000


def test_the_latency_curve_is_the_distribution_of_the_run(runs):
    curve = sl.figures.latency(runs[0]).data[0]
    table = sl.metrics.ecdf(runs[0])
    at_median = np.interp(50.0, curve.y, curve.x)
    assert at_median == pytest.approx(float(runs[0].latency_quantiles(0.5)), rel=0.02)
    assert curve.y[-1] == 100.0
    assert curve.x[-1] == pytest.approx(table["latency_s"].max(), rel=1e-3)


def test_the_latency_title_has_the_medians_of_both_transports(runs):
    title = sl.figures.latency(*runs).layout.title.text
    for result in runs[:2]:
        median = float(result.latency_quantiles(0.5))
        said = f"{median * 1e3:.3g} ms" if median < 1.0 else f"{median:.3g} s"
        assert said in title


def test_bars_are_the_bytes_of_the_summary(runs):
    for trace, result in zip(sl.figures.bytes_per_client(*runs).data, runs, strict=True):
        row = result.summary().iloc[0]
        expected = [row["up_bytes_per_h"] / 1e3, row["down_bytes_per_h"] / 1e3]
        assert trace.y == pytest.approx(expected, rel=1e-3)


def test_agreement_shows_both_runs_and_the_verdict(runs):
    figure = sl.figures.agreement(runs[1], runs[3])
    assert [trace.name for trace in figure.data] == [
        "WebSocket push, simulated",
        "WebSocket push, measured",
    ]
    verdicts = sl.metrics.compare(runs[1], runs[3])["verdict"][:3]
    assert all(verdict in figure.layout.title.text for verdict in verdicts)


def test_crossover_draws_every_line_and_marks_the_rate():
    table = sl.metrics.bytes_by_rate(BOARD, [0.01, 0.1, 1.0, 10.0])
    rate = table.attrs["crossover_per_s"]
    figure = sl.figures.crossover(table, crossover_per_s=rate)
    assert [trace.line.color for trace in figure.data] == list(COLOURS.values())
    assert f"{rate:.2f}" in figure.layout.title.text
    assert figure.layout.shapes[0].x0 == pytest.approx(rate, abs=1e-4)


def test_the_same_seed_gives_the_same_figure():
    one, two = (sl.figures.latency(run("polling")).to_plotly_json() for _ in range(2))
    assert digest(one) == digest(two)


@pytest.mark.parametrize("wrong", [(), ("polling",), (None,)])
def test_what_is_not_a_run_is_refused(wrong):
    with pytest.raises(sl.ScenarioError, match="runs: must be"):
        sl.figures.latency(*wrong)


def test_a_run_that_delivered_nothing_has_no_latency_to_draw():
    silent = sl.simulate(BOARD.replace({"updates.rate_per_s": 1e-9}), progress=False)
    with pytest.raises(sl.ScenarioError, match="must have delivered something"):
        sl.figures.latency(silent)
