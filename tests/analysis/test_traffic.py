"""Bytes of a client at different rates of change."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib import theory
from simlib.analysis.traffic import bytes_by_rate

BOARD = sl.Scenario(
    updates={"rate_per_s": 0.5}, clients=30, horizon_s=200.0, warm_up_s=40.0, cool_down_s=40.0
)


@pytest.mark.parametrize(
    ("changes", "etag"),
    [
        ({}, "off"),
        ({"wire.http": "2"}, "off"),
        ({"wire.gzip_ratio": 0.1}, "content"),
        ({}, "content"),
        ({}, "version"),
    ],
)
@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_bytes_by_rate_is_what_a_simulation_counts(changes, etag, transport):
    scenario = BOARD.replace(
        {
            **changes,
            "transport": transport,
            "polling.etag": etag,
            "clients": 100,
            "horizon_s": 1240.0,
            "updates.rate_per_s": 0.1,
            "server.accept_s": 0.0,
            "bin_s": 10.0,
        }
    )
    layers = {"ip": ("up_bytes_per_h", "down_bytes_per_h")}
    layers["payload"] = tuple(f"payload_{column}" for column in layers["ip"])
    rows = sl.metrics.table(*sl.replicate(scenario, 4, engine="compiled", progress=False))
    name = {"polling": "polling with ETag" if etag != "off" else "polling"}.get(
        transport, transport
    )
    for layer, columns in layers.items():
        table = bytes_by_rate(scenario, [0.1], layer=layer)
        expected = table.set_index("transport").loc[name, "bytes_per_h"]
        counted = rows[list(columns)].sum(axis=1).to_numpy()
        error = theory.standard_error(counted)
        assert abs(counted.mean() - expected) < max(4 * error, 0.01 * expected)
