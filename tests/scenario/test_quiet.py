"""Scenarios in which nothing changes: valid, and said so where a figure has nothing to show."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import simlib as sl
from simlib.core.protocol import TRANSPORT_NAMES
from simlib.scenario import compile_workload

QUIET = sl.Scenario(
    updates={"rate_per_s": 0},
    clients=8,
    horizon_s=120,
    ramp_s=10,
    polling={"interval_s": 20},
    faults=[{"kind": "reset", "start_s": 60}],
)
NO_CHANGE = {
    "no rate": {"rate_per_s": 0},
    "no bursts": {"kind": "bursts", "rate_per_s": 0.0, "burst_size": 3, "burst_gap_s": 1.0},
}


@pytest.fixture(scope="module", params=TRANSPORT_NAMES)
def run(request):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return sl.simulate(
            QUIET.replace(transport=request.param),
            engine="simpy",
            keep=("deliveries", "events"),
            progress=False,
        )


@pytest.mark.parametrize("updates", NO_CHANGE.values(), ids=NO_CHANGE)
def test_a_rate_of_nothing_has_no_change(updates):
    scenario = QUIET.replace(updates=updates)
    assert len(compile_workload(scenario, 1, 0).publish_s) == 0
    assert sl.Scenario.parse(scenario.dump()) == scenario


def test_a_run_without_changes_has_an_empty_ledger_and_its_traffic(run):
    assert set(run.ledger) == {0}
    assert run.frame("deliveries").empty
    assert run.warnings == ()
    row = run.metrics().iloc[0]
    latencies = ["average_latency_s", "latency_p50_s", "latency_p99_s", "latency_max_s"]
    assert row[latencies].isna().all()
    assert row["up_bytes_per_h"] > 0
    assert row["connection_count"] > 0


@pytest.mark.filterwarnings("error")
def test_tables_and_figures_of_it_have_no_latency_and_raise_no_warning(run):
    assert sl.summary(run).notna().all(axis=None)
    assert np.isnan(sl.metrics.tail(run)["p50_s"].iloc[0])
    assert sl.metrics.ecdf(run).empty
    assert sl.metrics.over_time(run)["average_latency_s"].isna().all()
    assert sl.metrics.by_node(run).shape[0] == 1
    for draw in (sl.figures.six_metrics, sl.figures.bytes_per_client, sl.figures.bandwidth):
        assert "nan" not in draw(run).layout.title.text
    with pytest.raises(sl.ScenarioError, match="must have delivered something"):
        sl.figures.latency(run)


@pytest.mark.filterwarnings("error")
def test_what_compares_runs_takes_runs_without_changes():
    runs = sl.replicate(QUIET, 2, engine="simpy", progress=False)
    pushed = sl.replicate(QUIET.replace(transport="websocket"), 2, engine="simpy", progress=False)
    assert sl.metrics.headline(runs + pushed).notna().all(axis=None)
    table = sl.metrics.intervals(runs).set_index("quantity")["mean"]
    assert np.isnan(table["latency_p50_s"])
    assert table["message_rate_per_s"] > 0
