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
    [({}, False), ({"wire.http": "2"}, False), ({"wire.count": "ip"}, True), ({}, True)],
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
    table = bytes_by_rate(scenario, [0.1])
    name = {"polling": "polling with ETag" if etag else "polling"}.get(transport, transport)
    expected = table.set_index("transport").loc[name, "bytes_per_h"]
    rows = sl.metrics.table(*sl.replicate(scenario, 4, engine="compiled", progress=False))
    counted = (rows["up_bytes_per_h"] + rows["down_bytes_per_h"]).to_numpy()
    error = theory.standard_error(counted)
    assert abs(counted.mean() - expected) < max(4 * error, 0.01 * expected)
