"""Closed forms of a scenario's metrics against runs, and silence where they do not hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

import simlib as sl
from simlib.analysis.closed_forms import Metrics, metrics_by_theory
from tests.quick import ENGINE

BOARD = sl.Scenario(
    updates={"rate_per_s": 0.2},
    clients=20,
    ramp_s=10.0,
    warm_up_s=40.0,
    cool_down_s=40.0,
    horizon_s=2080.0,
    polling={"interval_s": 10.0},
    network={"rtt_spread": 0.3},
    server={"poll_s": 5e-3, "send_s": 1e-3, "fan_out_s": 2e-3},
)
DRAGS = {"drag": {"every_s": 40.0, "length_s": 3.0}}
PUSH = {"transport": "websocket"}
CLIENT_BEATS = {"heartbeat.direction": "client", "heartbeat.interval_s": 1.0}
CLIENT_BEATS |= {"server.heartbeat_s": 1e-3}
SLOW_TAIL = [(0.5, 0.05), (0.9, 0.2), (1.0, 2.0)]
LONG_DRAGS = {"drag": {"every_s": 40.0, "length_s": 30.0}}


@pytest.mark.parametrize(
    ("changes", "rel"),
    [
        ({}, 0.02),
        ({"network.tls": False, "wire.http": "2"}, 0.02),
        ({"polling.etag": "content"}, 0.02),
        ({"polling.etag": "version"}, 0.02),
        ({**DRAGS, "polling.etag": "version", "server.check_s": 2e-3}, 0.02),
        (DRAGS, 0.02),
        ({**DRAGS, "polling.etag": "content", "wire.gzip_ratio": 0.3}, 0.02),
        ({**DRAGS, "polling.pause_while_dragging": False}, 0.02),
        ({"polling.jitter_frac": 0.5}, 0.02),
        ({"polling.timer": "fixed_rate"}, 0.02),
        ({"server.poll_s": 0.3}, 0.03),
        ({"server.poll_s": 0.3, "server.nodes": 2, "server.workers": 2}, 0.02),
        (PUSH, 0.05),
        ({**PUSH, "websocket.push": "snapshot", "heartbeat.direction": "client"}, 0.05),
        ({**PUSH, "server.nodes": 3, "heartbeat.interval_s": 2.0}, 0.05),
        ({**PUSH, **CLIENT_BEATS}, 0.05),
        ({"network.rtt_s": 0.5, "network.rtt_spread": 0.6}, 0.03),
        ({"network.rtt_spread": 0.0, "network.rtt_quantiles": SLOW_TAIL}, 0.03),
    ],
    ids=str,
)
def test_runs_are_as_the_closed_forms_say(changes, rel):
    """Within 1 to 5 %: half an hour has 400 changes, whose number itself varies by 5 %."""
    board = BOARD.replace(changes)
    expected = metrics_by_theory(board)
    runs = sl.replicate(board, 3, engine=ENGINE, progress=False)
    rate = np.mean([run.ledger.eligible for run in runs]) / 20 / 2000.0
    metrics = sl.metrics.table(*runs).mean(numeric_only=True)
    known = {name: value for name, value in expected._asdict().items() if not math.isnan(value)}
    assert len(known) >= 7
    # So that the luck of the draw is not taken for an error of a form.
    expected = metrics_by_theory(board.replace({"updates.rate_per_s": float(rate)}))._asdict()
    for name in known:
        assert metrics[name] == pytest.approx(expected[name], rel=rel), name


@pytest.mark.parametrize(
    "changes",
    [
        {"transport": "notify"},
        {"updates": {"kind": "bursts", "rate_per_s": 0.1, "burst_size": 2, "burst_gap_s": 0.1}},
        {"sessions": {"arrivals_per_s": 0.1, "length_s": 60.0}},
        {"hidden": {"every_s": 60.0, "length_s": 60.0}},
        {"faults": [{"kind": "reset", "start_s": 60.0}]},
        {"rate_limit": {"rate_per_s": 1.0}},
        {"polling.stale_s": 5.0},
        {"server.cache_s": 2.0},
        {"polling.active_interval_s": 5.0, "polling.active_for_s": 20.0},
        {"polling.interval_s": 80.0},
        {**DRAGS, "polling.jitter_frac": 0.1},
        {**DRAGS, "polling.timer": "fixed_rate"},
        {"server.poll_s": 0.9},
        LONG_DRAGS,  # many outlast the connection
        {"network.rtt_s": 1.0, "network.rtt_spread": 1.0},
        {**PUSH, "network.rtt_s": 0.3, "network.rtt_spread": 1.0},  # some are too slow to open
        {"network.shared_down_bytes_per_s": 1e5},
        {**PUSH, "websocket.safety_poll_s": 60.0},
        {**PUSH, "server.send_s": 0.3},
        {**PUSH, "network.idle_s": 20.0},
        {**PUSH, "server.max_connections": 19},
        {**PUSH, "heartbeat.timeout_s": 0.05},
        {**PUSH, "websocket.open_timeout_s": 0.1},
    ],
    ids=str,
)
def test_where_no_form_holds_there_is_no_number(changes):
    assert all(math.isnan(value) for value in metrics_by_theory(BOARD.replace(changes)))


def test_what_is_no_scenario_is_refused():
    with pytest.raises(sl.ScenarioError, match="scenario: must be"):
        metrics_by_theory(3)
    assert Metrics._fields[0] == "average_latency_s"
