"""How a quantity goes with a setting: sweeps, closed forms beside them, and real servers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from tests.figures.titles import title_of

BOARD = sl.Scenario(updates={"rate_per_s": 0.5}, clients=20, horizon_s=120.0)


@pytest.fixture(scope="module")
def swept():
    return sl.sweep(
        BOARD,
        {"transport": ["polling", "websocket"], "clients": [5, 400]},
        replications=2,
        on="serial",
        engine="simpy",
    )


def test_a_sweep_is_drawn_with_its_intervals_along_one_setting(swept):
    figure = sl.figures.sensitivity(swept, "clients", "latency_p50_s")
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    bands, lines = figure.data[::2], figure.data[1::2]
    p50 = swept[swept["quantity"] == "latency_p50_s"]
    for band, line, transport in zip(bands, lines, ("polling", "websocket"), strict=True):
        rows = p50[p50["transport"] == transport]
        assert line.line.color == band.fillcolor == sl.figures.COLOURS[transport]
        assert np.allclose(line.y, rows["mean"], rtol=1e-3)
        assert np.allclose(band.y, [*rows["high"], *rows["low"][::-1]], rtol=1e-3)
    assert title_of(figure).startswith("Clients from 5 to 400: latency, median ")
    assert "polled" in title_of(figure)
    assert "pushed" in title_of(figure)
    rate = sl.figures.sensitivity(swept, "clients", "error_rate_per_h")
    assert rate.layout.yaxis.type != "log"


def test_a_sweep_without_the_setting_or_the_quantity_is_refused(swept):
    with pytest.raises(sl.ScenarioError, match=r"must have the column polling\.interval_s"):
        sl.figures.sensitivity(swept, "polling.interval_s", "latency_p50_s")
    with pytest.raises(sl.ScenarioError, match="must have a number in the table: connection_count"):
        sl.figures.sensitivity(swept, "clients", "latency")
    with pytest.raises(sl.ScenarioError, match="path: must be a setting whose values are numbers"):
        sl.figures.sensitivity(swept, "transport", "latency_p50_s")
    two = pd.concat([swept, swept.assign(cohort="other")])
    with pytest.raises(sl.ScenarioError, match="must have one row for each of its values"):
        sl.figures.sensitivity(two, "clients", "latency_p50_s")
    with pytest.raises(sl.ScenarioError, match=r"table\.transport: must be among polling"):
        sl.figures.sensitivity(swept.assign(transport="webrtc"), "clients", "latency_p50_s")


def test_closed_forms_are_dashed_lines_that_may_reach_further(swept):
    over = {"transport": ["polling", "websocket"], "clients": [5, 400, 2000]}
    expected = sl.by_theory(BOARD, over)
    figure = sl.figures.sensitivity(swept, "clients", "average_latency_s", theory=expected)
    polled, pushed = figure.data[4:]
    assert polled.line.dash == pushed.line.dash == "dash"
    assert pushed.line.color == sl.figures.COLOURS["websocket"]
    assert polled.name == "polling, closed form"
    assert list(pushed.x) == [5, 400, 2000]
    is_push = (expected["transport"] == "websocket") & (expected["clients"] == 2000)
    row = expected[is_push & (expected["quantity"] == "average_latency_s")]
    assert pushed.y[-1] == pytest.approx(row["mean"].item(), rel=1e-3)
    with pytest.raises(sl.ScenarioError, match="theory: must have the column clients"):
        sl.figures.sensitivity(swept, "clients", "latency_p50_s", theory=pd.DataFrame({"a": []}))
    with pytest.raises(sl.ScenarioError, match="quantity: must have a number in the theory"):
        sl.figures.sensitivity(swept, "clients", "latency_p99_s", theory=expected)


def test_closed_forms_along_a_grid_are_those_of_each_scenario():
    found = sl.by_theory(BOARD, {"clients": [10, 100]})
    at_10 = found[found["clients"] == 10].set_index("quantity")["mean"]
    # A poll every 30 s and a round trip, whose answers take a millisecond.
    assert at_10["message_rate_per_s"] == pytest.approx(10 / 30.041, rel=1e-4)
    assert at_10["utilisation"] == pytest.approx(10 * 0.001 / 30.041, rel=1e-4)
    assert set(found["transport"]) == {"polling"}
    with pytest.raises(sl.ScenarioError, match="scenario"):
        sl.by_theory("matters", {"clients": [10]})


@pytest.fixture
def points():
    rows = [
        ("polling", 100, "latency_p95_s", 9.5, 9.4, 9.3, 9.6),
        ("polling", 4000, "latency_p95_s", 9.5, 9.6, 9.5, 9.7),
        ("websocket", 100, "latency_p95_s", 0.040, 0.050, 0.045, 0.052),
        ("websocket", 4000, "latency_p95_s", 1.6, 1.7, 1.6, 1.9),
    ]
    columns = ["transport", "clients", "quantity", "predicted"]
    return pd.DataFrame(rows, columns=[*columns, "measured", "measured_low", "measured_high"])


def test_capacity_has_predictions_as_lines_and_measurements_as_marks(points):
    figure = sl.figures.capacity(points, "latency_p95_s")
    line, marks = figure.data[2:]
    assert (line.mode, marks.mode) == ("lines", "markers")
    assert list(line.y) == [0.04, 1.6]
    assert list(marks.y) == [0.05, 1.7]
    assert np.allclose(marks.error_y.array, [0.002, 0.2])
    assert np.allclose(marks.error_y.arrayminus, [0.005, 0.1])
    # 40 ms in place of 50 is the worst of the four.
    assert "off by at most 20 %: 40 ms predicted, 50 ms measured, pushed" in title_of(figure)
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"


def test_points_that_are_none_are_refused(points):
    with pytest.raises(sl.ScenarioError, match="quantity: must be in the table: latency_p95_s"):
        sl.figures.capacity(points, "latency_p50_s")
    with pytest.raises(sl.ScenarioError, match="must have the column measured"):
        sl.figures.capacity(points.drop(columns="measured"), "latency_p95_s")
    with pytest.raises(sl.ScenarioError, match=r"table\.transport: must be among polling"):
        sl.figures.capacity(points.assign(transport="pigeon"), "latency_p95_s")
    with pytest.raises(sl.ScenarioError, match="measured"):
        sl.figures.capacity(points.assign(measured=np.nan), "latency_p95_s")
    with pytest.raises(sl.ScenarioError, match=r"table\.measured: must be > 0"):
        sl.figures.capacity(points.assign(measured=0.0), "latency_p95_s")
