"""Benchmarks that decide nothing here: that they can still be run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module

import pytest

import simlib as sl
from simlib.core.protocol import TRANSPORT_NAMES

SHORT = 0.02
"""The part of the time of a workload for which it is simulated."""


@pytest.fixture
def scale(monkeypatch, pytestconfig):
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath / "tests/benchmarks"))
    return import_module("scale")


@pytest.mark.parametrize("workload", [*TRANSPORT_NAMES, "storm", "push_hour"])
def test_the_cost_of_every_workload_is_measured(scale, workload, monkeypatch):
    assert workload in scale.WORKLOADS
    monkeypatch.setattr(scale, "MOST_REPLICATIONS", 2)
    runs = [scale.one(workload, clients, SHORT) for clients in (3, 6)]
    assert all(run["events"] > 10 and run["replications"] == 2 for run in runs)
    rows = [scale.row_of(workload, 1_000_000, SHORT, [run]) for run in runs]
    verdict = scale.verdict_of(workload, rows)
    assert ("peak_gb" if workload == "push_hour" else "factor") in verdict


def test_no_workload_is_measured_on_a_server_that_cannot_keep_up(scale):
    for workload in TRANSPORT_NAMES:
        run = sl.simulate(scale.scenario(workload, 20, 0.2), engine="simpy", progress=False)
        assert run.totals()[0]["utilisation"] < 0.5
        assert run.frame("clients")["errors"].sum() == 0


def test_costs_are_printed_as_json(pytestconfig):
    command = [sys.executable, "tests/benchmarks/scale.py", "polling", "--clients", "5"]
    done = subprocess.run(
        [*command, "--repeats", "1", "--scale", "0.001"],
        cwd=pytestconfig.rootpath,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(pytestconfig.rootpath)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    table = json.loads(done.stdout)
    assert [row["clients"] for row in table["rows"]] == [5]
    assert table["verdicts"]["polling"] == {"factor": 1.0, "is_even": True}
