"""Tables of runs to tables of figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib import theory
from simlib.analysis import metrics
from simlib.core.measures import MEASURES

BOARD = sl.Scenario(
    updates={"rate_per_s": 0.5}, clients=30, horizon_s=200.0, warm_up_s=40.0, cool_down_s=40.0
)
PUSH = BOARD.replace(transport="websocket")


@pytest.fixture(scope="module")
def runs():
    return [*sl.replicate(BOARD, 3, progress=False), *sl.replicate(PUSH, 3, progress=False)]


def test_the_six_metrics_are_their_definitions(runs):
    row = metrics.table(runs[3]).iloc[0]
    timeline = runs[3].frame("timeline").query("t_s >= 40")
    seconds = timeline["width_s"].sum()
    assert row["connection_count"] == pytest.approx(30.0)
    assert row["message_rate_per_s"] == pytest.approx(timeline["messages"].sum() / seconds)
    assert row["reconnection_rate_per_h"] == row["error_rate_per_h"] == 0.0
    assert row["fallback_to_polling_frac"] == 0.0
    latencies = runs[3].frame("timeline")["latency_sum_s"].sum() / runs[3].ledger.delivered
    assert row["average_latency_s"] == pytest.approx(latencies)


def test_each_metric_is_where_its_row_says(runs):
    shown = {
        table: [row.name for row in MEASURES.values() if table in row.tables]
        for table in ("summary", "over_time")
    }
    assert list(metrics.over_time(runs[0]).columns[3:]) == shown["over_time"]
    assert [name for name in metrics.table(runs[0]) if name in MEASURES] == shown["summary"]


def test_errors_and_reconnections_are_counted_per_client_hour():
    capped = PUSH.replace({"server.max_connections": 10})
    row = sl.simulate(capped, progress=False).metrics().iloc[0]
    run = sl.simulate(capped, progress=False)
    errors = run.frame("timeline").query("t_s >= 40")["errors"].sum()
    hours = 30 * 160 / 3600
    assert errors > 0
    assert row["error_rate_per_h"] == pytest.approx(errors / hours)


ALONE = sl.Scenario(
    clients=1,
    ramp_s=0.0,
    horizon_s=100.0,
    updates={"rate_per_s": 0.1},
    network={"rtt_s": 1.0, "tls": False},
    server={"accept_s": 0.0, "poll_s": 0.25, "handshake_s": 0.25, "authenticate_s": 0.25},
)
"""One client, a second from the server and back: times can be added up by hand."""


def bucket_of(waits, value_s):
    """The row of a table of waits that has this value."""
    (row,) = waits[(waits["low_s"] <= value_s) & (value_s < waits["high_s"])].itertuples()
    return row


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize("transport", ["polling", "notify"])
def test_the_response_time_of_a_poll_has_its_connection_in_it(engine, transport):
    """The first fetch connects: a second more than the 1.25 s of the others."""
    changes = {"transport": transport, "websocket.safety_poll_s": 30.0}
    scenario = ALONE.replace(changes if transport == "notify" else {})
    run = sl.simulate(scenario, seed=3, engine=engine, progress=False)
    row, waits = run.metrics().iloc[0], run.frame("waits").query("waits_for == 'poll'")
    polls = run.frame("timeline")["answers"].sum()
    assert polls == run.frame("clients")["polls"].sum() >= 4
    assert row["poll_response_s"] == pytest.approx((2.25 + 1.25 * (polls - 1)) / polls, abs=1e-6)
    assert bucket_of(waits, 2.25).count == 1
    assert bucket_of(waits, 1.25).count == polls - 1
    over_time = metrics.over_time(run)["poll_response_s"].dropna()
    assert over_time.iloc[-1] == pytest.approx(1.25, abs=1e-6)


def test_a_poll_that_fails_has_no_response_time():
    """The server stops while the poll of 32.25 s is under way, and its first retry fails too."""
    restart = {"kind": "restart", "start_s": 32.9, "length_s": 4.0}
    run = sl.simulate(ALONE.replace(faults=[restart]), progress=False)
    timeline = run.frame("timeline")
    assert timeline["errors"].sum() >= 2
    assert timeline["answers"].sum() < run.frame("clients")["polls"].sum()
    assert run.frame("waits")["high_s"].max() < 2.3


def test_the_wait_for_a_websocket_lasts_from_the_loss_until_it_is_open_again():
    """A handshake takes 3.5 s: TCP, upgrade and token take a second each, and two services."""
    reset = {"kind": "reset", "start_s": 50.0}
    fixed = {"policy": "fixed", "base_s": 4.0, "cap_s": 4.0}
    pushed = ALONE.replace({"transport": "websocket", "faults": [reset], "reconnect": fixed})
    run = sl.simulate(pushed, progress=False)
    row, waits = run.metrics().iloc[0], run.frame("waits")
    assert set(waits["waits_for"]) == {"connection"}
    assert run.frame("timeline")["opened"].sum() == len(run.sockets()) == 2
    assert row["connection_wait_s"] == pytest.approx((3.5 + 4.0 + 3.5) / 2, abs=1e-6)
    assert bucket_of(waits, 3.5).count == bucket_of(waits, 7.5).count == 1
    assert row["connection_wait_p95_s"] == pytest.approx(7.5, rel=0.01)
    assert np.isnan(row["poll_response_s"])


def test_waits_of_the_warm_up_do_not_count():
    warm = ALONE.replace({"warm_up_s": 20.0})
    row = sl.simulate(warm, progress=False).metrics().iloc[0]
    assert row["poll_response_s"] == pytest.approx(1.25, abs=1e-6)
    assert row["poll_response_p95_s"] == pytest.approx(1.25, rel=0.01)
    pushed = sl.simulate(warm.replace(transport="websocket"), progress=False)
    assert np.isnan(pushed.metrics()["connection_wait_s"].item())


@pytest.mark.parametrize("side", ["server", "client", "none"])
def test_heartbeats_are_the_pings_of_either_side(side):
    every_15_s = {"heartbeat": {"direction": side, "interval_s": 15.0, "timeout_s": 5.0}}
    run = sl.simulate(PUSH.replace({"warm_up_s": 0.0, **every_15_s}), progress=False)
    open_s = 200.0 - run.frame("connections")["opened_s"]
    pings = 0 if side == "none" else (open_s // (15.0 + run.frame("clients")["rtt_s"].max())).sum()
    assert run.frame("timeline")["heartbeats"].sum() == pytest.approx(pings, abs=1)
    row = run.metrics().iloc[0]
    assert row["heartbeat_rate_per_s"] == run.frame("timeline")["heartbeats"].sum() / 200.0
    over_time = metrics.over_time(run, width_s=200.0)
    assert over_time["heartbeat_rate_per_s"].item() == row["heartbeat_rate_per_s"]


def test_polls_have_no_heartbeats(runs):
    assert runs[0].frame("timeline")["heartbeats"].sum() == 0


DEPLOYED = PUSH.replace(
    {
        "clients": 60,
        "horizon_s": 300.0,
        "server.nodes": 3,
        "faults": [{"kind": "rolling_deploy", "start_s": 60.0, "length_s": 20.0, "every_s": 40.0}],
        "reconnect": {"policy": "fixed", "base_s": 1.0, "cap_s": 1.0},
    }
)


@pytest.fixture(scope="module")
def deployed():
    return sl.simulate(DEPLOYED, engine="simpy", progress=False)


def test_the_node_that_a_rolling_deploy_restarts_last_stays_empty(deployed):
    table = metrics.by_node(deployed).set_index("node")
    assert table["end_connection_count"].tolist()[2] == 0
    assert table["end_connection_count"].sum() == 60
    assert table["end_share"].sum() == pytest.approx(1.0)
    assert table["share"].sum() == pytest.approx(1.0)
    # The node before it came back for the last third alone.
    assert table["end_connection_count"].idxmax() == 0
    over_time = deployed.frame("nodes").pivot(index="t_s", columns="node")
    counts, memory = over_time["connection_count"], over_time["memory_bytes"]
    assert (counts.loc[50.0] > 0).all()
    for node, start_s in enumerate((60.0, 100.0, 140.0)):
        assert counts.loc[start_s + 5.0, node] == 0.0
    assert (counts.loc[200.0:, 2] == 0.0).all()
    assert (memory == counts * DEPLOYED.server.connection_bytes).all(axis=None)


@pytest.mark.parametrize("name", ["deployed", "one node"])
def test_the_nodes_have_all_connections(name, deployed, runs):
    for run in [deployed] if name == "deployed" else runs:
        by_bin = run.frame("nodes").groupby("t_s")["connection_count"].sum()
        timeline = run.frame("timeline")
        assert by_bin.to_numpy() == pytest.approx(timeline["connection_count"].to_numpy())
        mean = metrics.by_node(run)["connection_count"].sum()
        assert mean == pytest.approx(run.metrics()["connection_count"].item())


@pytest.mark.parametrize("width_s", [1.0, 10.0, 77.0])
def test_metrics_over_time_add_up_to_the_whole(runs, width_s):
    run = runs[0]
    table = metrics.over_time(run, width_s=width_s)
    widths = np.diff([*table["t_s"], 200.0])
    assert (table["message_rate_per_s"] * widths).sum() == pytest.approx(
        run.frame("timeline")["polls"].sum()
    )
    assert len(table) == int(np.ceil(200 / round(width_s)))


def test_intervals_are_students_over_the_replications(runs):
    table = metrics.intervals(runs).set_index(["transport", "quantity"])
    row = table.loc[("polling", "latency_p50_s")]
    values = [float(run.latency_quantiles(0.5)) for run in runs[:3]]
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(theory.mean_interval(values))
    assert row["replications"] == 3


def test_the_headline_has_a_column_per_transport_and_three_digits(runs):
    table = metrics.headline(runs)
    assert list(table.columns) == ["polling", "websocket"]
    median = metrics.intervals(runs).query(
        "transport == 'polling' and quantity == 'latency_p50_s'"
    )["mean"]
    first = table.loc["half of the changes seen within (s)", "polling"]
    assert first.split()[0] == f"{median.iloc[0]:.1f}"
    assert table.loc["changes lost", "websocket"] == "0"


@pytest.mark.parametrize("width_s", [0.0, -5.0, 0.3, 2.5, float("nan"), float("inf"), "10", True])
def test_a_width_that_is_no_multiple_of_the_bins_is_refused(runs, width_s):
    with pytest.raises(sl.ScenarioError, match="width_s: must be a multiple"):
        metrics.over_time(runs[0], width_s=width_s)


def test_replications_must_be_independent_and_of_one_scenario(runs):
    with pytest.raises(sl.ScenarioError, match="must be independent"):
        metrics.intervals([runs[0], runs[0]])
    other = sl.simulate(BOARD.replace(clients=5), seed=9, progress=False)
    with pytest.raises(sl.ScenarioError, match="one scenario and source"):
        metrics.headline([runs[0], other])


@pytest.mark.parametrize("bin_s", [3.0, 30.0, 0.5])
def test_the_default_width_fits_any_bins(bin_s):
    run = sl.simulate(BOARD.replace({"bin_s": bin_s}), progress=False)
    steps = metrics.over_time(run)["t_s"].diff().dropna()
    assert (steps == {3.0: 9.0, 30.0: 30.0, 0.5: 10.0}[bin_s]).all()


@pytest.mark.parametrize("replications", [0, -1, 1.5, True])
def test_replications_must_be_a_whole_number(replications):
    with pytest.raises(sl.ScenarioError, match="replications: must be a whole number"):
        sl.replicate(BOARD, replications)


@pytest.mark.parametrize(
    "show",
    [sl.figures.latency, sl.figures.connections, sl.metrics.summary],
    ids=lambda show: show.__name__,
)
@pytest.mark.parametrize("kind", [list, tuple, pd.Series, iter], ids=lambda kind: kind.__name__)
def test_runs_in_a_list_are_refused_with_the_way_to_give_them(show, kind):
    runs = [sl.simulate(BOARD, progress=False)] * 2
    with pytest.raises(
        sl.ScenarioError, match=r"must be given one by one, with a star: \(\*runs\)"
    ):
        show(kind(runs))
    for wrong in (runs[0].scenario, "x", [], 5):
        with pytest.raises(sl.ScenarioError, match="must be runs, as simulate and measure"):
            show(wrong)
