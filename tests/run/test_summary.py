"""The summary is for readers: figures in rows with units, runs in columns, no empty cell."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib.core.measures import MEASURES
from simlib.run.summary import figure_names, three_digits

BOARD = sl.Scenario(
    name="board", updates={"rate_per_s": 0.2}, clients=20, horizon_s=300.0, cool_down_s=60.0
)


def simulated(seed=1, **changes):
    return sl.simulate(BOARD.replace(changes), seed=seed, progress=False)


@pytest.fixture(scope="module")
def both():
    return simulated(), simulated(transport="websocket")


def test_rows_are_figures_with_units_and_columns_are_runs(both):
    table = sl.summary(*both)
    assert table.columns.tolist() == ["polling", "websocket"]
    assert table.columns.name == "transport"
    row = both[0].metrics().iloc[0]
    assert table.loc["half of the changes seen within (s)", "polling"] == (
        f"{row['latency_p50_s']:.1f}"
    )
    kilobytes = row["down_bytes_per_h"] / 1e3
    assert table.loc["IP packets down, a client (kB/h)", "polling"] == f"{kilobytes:.0f}"
    assert table.loc["clients"].tolist() == ["20", "20"]


def test_every_figure_is_there_and_none_is_nan(both):
    table = sl.summary(*both)
    assert not table.isna().any().any()
    assert not (table == "nan").any().any()
    names = figure_names()
    of_tabs = names.pop("users").name  # said only where it is another number than that of clients
    of_nodes = names["busiest_utilisation"].name  # said only where there are several nodes
    assert set(table.index) == {line.name for line in names.values()} - {of_nodes}
    assert simulated(tabs_per_user=2, clients=5).summary().loc[of_tabs].tolist() == ["3"]
    shown = {name for name, measure in MEASURES.items() if "summary" in measure.tables}
    assert shown <= names.keys()


def test_a_figure_that_has_no_meaning_for_a_run_is_a_dash_and_for_all_is_left_out(both):
    name = figure_names()["fallback_to_polling_frac"].name
    assert sl.summary(*both).loc[name].tolist() == ["–", "0"]
    assert name not in both[0].summary().index


def test_where_there_was_nothing_to_see_it_is_not_said_that_every_client_saw_something(both):
    name = figure_names()["unseen_frac"].name
    nothing = simulated(updates={"rate_per_s": 0.0})
    assert nothing.ledger.eligible == 0
    assert sl.summary(nothing, both[0]).loc[name].tolist() == ["–", "0"]
    assert name not in nothing.summary().index
    assert nothing.warnings == ()


def test_columns_are_told_apart_by_what_differs(both):
    again = simulated(seed=2)
    renamed = simulated(name="other")
    assert sl.summary(both[0], again).columns.names == ["transport", "replication"]
    assert sl.summary(both[0], renamed).columns.tolist() == [
        ("board", "polling"),
        ("other", "polling"),
    ]
    faster = simulated(polling={"interval_s": 10.0})
    assert sl.summary(both[0], faster).columns.names == ["transport", "run"]
    measured = simulated()
    measured.provenance["engine"] = "live"
    assert sl.summary(both[0], measured).columns.get_level_values("source").tolist() == [
        "simulated",
        "measured",
    ]


def test_a_rollout_has_a_column_for_each_cohort():
    plan = sl.Plan(
        flag={"propagation": "polled", "every_s": 10}, stages=[{"percent": 50, "bake_s": 120}]
    )
    run = sl.roll_out(plan, BOARD, engine="simpy", progress=False).run
    assert run.summary().columns.tolist() == [("polling", "control"), ("websocket", "treatment")]


def test_one_run_of_each_has_a_headline_without_intervals(both):
    table = sl.metrics.headline(list(both))
    assert (
        table.loc["half of the changes seen within (s)", "polling"]
        == (both[0].summary().loc["half of the changes seen within (s)", "polling"])
    )
    assert not table.apply(lambda column: column.str.contains(r"\[")).any().any()
    with pytest.raises(sl.ScenarioError, match="at least 2 replications of polling"):
        sl.metrics.intervals(list(both))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (20.0, "20"), (1e6, "1,000,000"), (14.26, "14.3"), (0.5, "0.500"), (np.nan, "–")],
)
def test_numbers_have_three_digits(value, text):
    assert three_digits(value) == text


def test_notebooks_show_runs_and_settings_as_tables(both):
    page = both[0]._repr_html_()
    assert "<table" in page
    assert "half of the changes seen within (s)" in page
    settings = BOARD._repr_html_()
    assert "<code>updates.rate_per_s</code>" in settings
    assert "Scenario board" in settings
    assert "poll_s" not in settings  # it has its default
    hostile = BOARD.replace(name="<script>")
    assert "<script>" not in hostile._repr_html_()
    assert "<script>" not in sl.simulate(hostile, progress=False)._repr_html_()
    plan = sl.Plan(flag={"propagation": "session"}, check_every_s=30)
    assert "<code>check_every_s</code>" in plan._repr_html_()
