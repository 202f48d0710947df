"""Runs: tables, quantiles, files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import simlib as sl

BOARD = sl.Scenario(updates={"rate_per_s": 0.5}, clients=30, horizon_s=200.0, cool_down_s=40.0)
KEEP = ("deliveries", "events")
TABLES = ("timeline", "clients", "latency", "connections", *KEEP)


@pytest.fixture(scope="module", params=["polling", "websocket"])
def run(request):
    return sl.simulate(BOARD.replace(transport=request.param), keep=KEEP, progress=False)


def test_a_saved_run_comes_back_equal(run, tmp_path):
    back = sl.Run.load(run.save(tmp_path / "run"))
    assert back.scenario == run.scenario
    assert back.provenance == run.provenance
    assert back.ledger == run.ledger
    for name in TABLES:
        pd.testing.assert_frame_equal(back.frame(name), run.frame(name), check_dtype=False)
    pd.testing.assert_frame_equal(back.metrics(), run.metrics())


def test_saving_again_replaces_and_leaves_nothing_else(run, tmp_path):
    run.save(tmp_path / "run")
    run.save(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_missing_incomplete_or_foreign_folder_is_refused(run, tmp_path):
    with pytest.raises(sl.RunFileError, match=r"missing\.run: there is no saved run of that name"):
        sl.Run.load(tmp_path / "missing.run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(sl.RunFileError, match="not a complete saved run"):
        sl.Run.load(tmp_path / "empty")
    folder = run.save(tmp_path / "run")
    (folder / "latency.parquet").unlink()
    with pytest.raises(sl.RunFileError, match=r"no latency\.parquet"):
        sl.Run.load(folder)
    (folder / "latency.parquet").write_bytes(b"not parquet")
    with pytest.raises(sl.RunFileError, match="not written by simlib"):
        sl.Run.load(folder)
    pd.DataFrame({"a": [1]}).to_parquet(folder / "latency.parquet")
    with pytest.raises(sl.RunFileError, match="not written by simlib"):
        sl.Run.load(folder)


def test_quantiles_are_within_one_percent_of_the_exact_ones(run):
    levels = np.array([0.01, 0.25, 0.5, 0.9, 0.99, 1.0])
    exact = np.quantile(run.frame("deliveries")["latency_s"], levels, method="inverted_cdf")
    assert run.latency_quantiles(levels) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("q", [-0.1, 1.1, [0.5, float("nan")]])
def test_quantiles_outside_the_unit_interval_are_refused(run, q):
    with pytest.raises(sl.ScenarioError, match=r"q: must be in \[0, 1\]"):
        run.latency_quantiles(q)


def test_an_unknown_table_is_refused_with_the_known_ones(run):
    with pytest.raises(sl.ScenarioError, match="must be one of timeline, clients"):
        run.frame("tables")


def test_provenance_says_how_to_make_the_run_again(run):
    provenance = run.provenance
    again = sl.simulate(
        run.scenario,
        seed=provenance["seed"],
        replication=provenance["replication"],
        engine=provenance["engine"],
        progress=False,
    )
    assert again.ledger == run.ledger
    assert provenance["scenario_hash"] == run.scenario.hash
    assert provenance["versions"]["simlib"] == sl.__version__


@pytest.mark.parametrize(
    "show", [sl.figures.latency, sl.figures.utilisation, sl.metrics.summary, sl.metrics.tail]
)
def test_a_list_of_runs_is_refused_with_how_to_give_it(run, show):
    with pytest.raises(sl.ScenarioError, match=r"runs in a list are given as \*runs"):
        show([run, run])
