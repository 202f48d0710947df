"""What the lab says of itself stands in what was measured."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import simlib as sl

MEASURED = Path(__file__).parents[2] / "data" / "measured" / "watching.csv"


@pytest.mark.parametrize(
    ("way", "quantity"),
    [
        ("watched", "latency_p50_ms"),
        ("watched", "latency_p95_ms"),
        ("screen", "latency_p50_ms"),
        ("screen", "latency_p95_ms"),
        ("screen", "other_cores"),
    ],
)
def test_what_watching_costs_is_what_was_measured(way, quantity):
    row = pd.read_csv(MEASURED).set_index(["way", "quantity"]).loc[way, quantity]
    said = " ".join(sl.lab.watch.__doc__.split())
    digits = 2 if abs(row["added"]) < 0.1 else 1
    low, high = (f"{row[name]:.{digits}f}" for name in ("added_low", "added_high"))
    assert f"({low} to {high})" in said
    assert f"{row['added']:.{digits}f} " in said
