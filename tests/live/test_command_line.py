"""`simlib measure` at a prompt."""

from __future__ import annotations

import json

import pytest

from simlib.cli import main

pytestmark = pytest.mark.live
SMALL = ["clients=20", "horizon_s=120", "warm_up_s=10", "cool_down_s=10", "ramp_s=5"]


def test_a_measurement_stands_beside_its_prediction(capsys):
    settings = [part for pair in (*SMALL, "updates.rate_per_s=1") for part in ("--set", pair)]
    code = main(["measure", "matters", *settings, "--time-scale", "20", "--quiet", "--json"])
    found = json.loads(capsys.readouterr().out)
    rows = {row["quantity"]: row for row in found["metrics"]}
    delivered = rows["delivered"]
    assert delivered["predicted"] == pytest.approx(delivered["measured"], rel=0.1)
    is_outside = any(row["verdict"] == "outside" for row in found["metrics"])
    assert code == int(is_outside)  # a busy machine may be late
