"""A watched measurement: samples come, a kill by hand is a restart, and nothing is left running."""

from __future__ import annotations

import threading
import time

import numpy as np
import psutil
import pytest

import simlib as sl
from simlib.lab.live_run import LiveRun, compared
from simlib.live.watching import Order, with_kill

pytestmark = pytest.mark.live

BOARD = sl.Scenario(
    transport="websocket",
    clients=20,
    updates={"rate_per_s": 2.0},
    horizon_s=8.0,
    ramp_s=1.0,
    warm_up_s=1.0,
    cool_down_s=0.0,
    bin_s=0.5,
    reconnect={"policy": "full_jitter", "base_s": 0.3, "cap_s": 1.0},
)
DOWN_S = 1.0
LIMIT_S = 120.0


class Watching:
    every_s, down_s = 0.1, DOWN_S

    def __init__(self, orders=()):
        self.samples, self.orders = [], dict(orders)

    def see(self, sample):
        self.samples.append(sample)
        return next((what for t, what in self.orders.items() if sample.t >= t), None)


def children():
    return {one.pid for one in psutil.Process().children(recursive=True)}


@pytest.fixture(scope="module")
def killed():
    """A run whose server was killed after three seconds, and who saw it."""
    watching = Watching({3.0: Order.KILL})
    before = children()
    run = sl.measure(BOARD, progress=False, watch=watching)
    return run, watching, children() - before


def test_samples_come_all_the_time_and_count_up(killed):
    _, watching, _ = killed
    times = [sample.t for sample in watching.samples]
    assert len(times) >= 0.6 * BOARD.horizon_s / watching.every_s
    assert np.all(np.diff(times) > 0.0)
    delivered = [int(sample.counts.sum()) for sample in watching.samples]
    assert np.all(np.diff(delivered) >= 0)


def test_the_kill_is_seen_and_is_a_restart_at_its_moment(killed):
    run, watching, _ = killed
    [fault] = run.scenario.faults
    assert (fault.kind, fault.length_s) == ("restart", DOWN_S)
    assert 3.0 <= fault.start_s < 3.5
    connected = {sample.t: int(sample.connected.sum()) for sample in watching.samples}
    before = [n for t, n in connected.items() if 2.0 < t < fault.start_s]
    down = [n for t, n in connected.items() if fault.start_s + 0.3 < t < fault.start_s + 0.9]
    assert min(before) == BOARD.clients
    assert max(down) == 0
    assert list(connected.values())[-1] == BOARD.clients
    assert run.ledger.lost + run.ledger.pending + run.ledger.delivered == run.ledger.eligible


def test_a_killed_run_is_compared_with_what_is_simulated_for_that_moment(killed):
    run, _, _ = killed
    found = compared(run, 5)
    assert run.provenance["scenario_hash"] == run.scenario.hash
    assert found.low.min() == found.measured.min() == 0.0
    assert found.off < 0.1 * BOARD.clients
    assert np.all(found.low <= found.high)


def test_nothing_is_left_running(killed):
    _, _, left = killed
    assert left == set()


def test_a_run_that_is_stopped_has_what_came_before(killed):
    before = children()
    live = LiveRun(
        BOARD, lambda frame: live.stop() if frame.t > 2.0 else None, every_s=0.1, down_s=None
    )
    run = live.measure()
    assert not run.is_complete
    assert 2.0 < run.provenance["end_of_run_s"] < 4.0
    assert compared(run, 2).latency is None
    assert children() == before


def test_a_kill_that_leaves_no_time_to_come_back_is_not_carried_out():
    watching = Watching({0.0: Order.KILL})
    watching.down_s = BOARD.horizon_s - 1e-3
    run = sl.measure(BOARD.replace(horizon_s=8.0), progress=False, watch=watching)
    assert run.scenario.faults == ()


@pytest.mark.parametrize(
    ("changes", "attributes", "said"),
    [
        ({}, {"every_s": 0.001}, "watch.every_s: must be >= 0.02"),
        ({}, {"down_s": 0.0}, "watch.down_s: must be > 0 and < horizon_s"),
        ({"server.nodes": 2}, {}, "server.nodes: must be 1 where the server may be killed"),
        ({"network.bad_gateway": True}, {}, "network.bad_gateway: must be false"),
        (
            {"faults": [{"kind": "restart", "start_s": 2.0, "length_s": 1.0}]},
            {},
            "faults.0.kind: must not stop servers",
        ),
    ],
)
def test_what_cannot_be_watched_is_refused_by_name(changes, attributes, said):
    watching = Watching()
    for name, value in attributes.items():
        setattr(watching, name, value)
    with pytest.raises(sl.ScenarioError) as caught:
        sl.measure(BOARD.replace(changes), progress=False, watch=watching)
    assert str(caught.value).startswith(said)


def test_the_live_view_moves_and_shows_the_kill_and_the_error():
    before, threads = children(), set(threading.enumerate())
    shown = sl.lab.watch(BOARD, down_s=DOWN_S, replications=3)
    until_s = time.monotonic() + LIMIT_S
    while not any(frame.t > 3.0 for frame in shown._curve):
        assert time.monotonic() < until_s
        assert shown.error is None
        time.sleep(0.05)
    shown._kill.click()
    shown.wait(LIMIT_S)
    assert shown.error is None
    assert [fault.kind for fault in shown.run.scenario.faults] == ["restart"]
    assert shown.frames >= 5.0 * BOARD.horizon_s
    assert min(frame.connected for frame in shown._curve if frame.t > 3.0) == 0.0
    assert "connections on average" in shown._status.value
    assert len(shown._connections.data[0].x) == len(shown._connections.data[1].x) > 10
    assert "averageLatency" in shown._metrics.value
    shown.close()
    assert children() == before
    assert set(threading.enumerate()) <= threads


def test_a_live_view_that_is_closed_at_once_leaves_nothing():
    before = children()
    sl.lab.watch(BOARD, replications=2).close()
    assert children() == before


def test_the_restart_that_a_kill_was_can_be_simulated():
    run = sl.simulate(sl.on_loopback(with_kill(BOARD, 3.0, DOWN_S)))
    assert run.frame("timeline")["connection_count"].min() == 0.0
