"""Slow consumers: what each policy costs them, the others, and the server's memory."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib.core.wire import Message, message_sizes

SPEC = sl.Scenario(updates={"rate_per_s": 1}).wire_spec()
PUSH_BYTES = int(message_sizes(SPEC, "payload")[Message.PUSH, 1])
SLOW = {"kind": "bandwidth", "start_s": 100.0, "length_s": 100.0, "share": 0.1}
BOARD = sl.Scenario(
    transport="websocket",
    clients=100,
    ramp_s=0.0,
    horizon_s=400.0,
    warm_up_s=50.0,
    updates={"kind": "bursts", "rate_per_s": 0.1, "burst_size": 100, "burst_gap_s": 0.1},
    network={"rtt_s": 0.02},
    heartbeat={"direction": "none"},
    websocket={"resync": "none"},
    reconnect={"policy": "fixed", "base_s": 5.0, "cap_s": 5.0},
    server={"socket_bytes": 10 * PUSH_BYTES},
)
BOUND = 40 * PUSH_BYTES


def run_with(policy, bytes_per_s=PUSH_BYTES, **changes):
    bound = {} if policy in ("unbounded", "coalesce") else {"server.buffer_bytes": BOUND}
    fault = {**SLOW, "bytes_per_s": float(bytes_per_s)}
    board = BOARD.replace({"faults": [fault], "server.slow_consumers": policy, **bound, **changes})
    return sl.simulate(board, engine="compiled", keep=("deliveries",), progress=False)


def slow_and_others(run):
    """Latencies of those who read slowly, and of everybody else."""
    fault = run.scenario.faults[0]
    hit = [sl_hit(number, fault.share) for number in range(run.scenario.clients)]
    table = run.frame("deliveries")
    is_slow = np.array(hit)[table["client"]]
    return table["latency_s"][is_slow], table["latency_s"][~is_slow], np.array(hit)


def sl_hit(number, share):
    from simlib.core.faults import is_affected

    return is_affected(1, 0, number, 0, 0.0, share)


def test_without_a_bound_the_servers_memory_grows_with_what_was_published():
    run = run_with("unbounded")
    _, others_s, hit = slow_and_others(run)
    published = run.frame("deliveries").query("client == 0")["published_s"]
    backlog = (published.between(100.0, 200.0).sum() - 100.0 - 10.0) * PUSH_BYTES
    buffered = run.frame("clients")["buffered_bytes"]
    assert hit.sum() > 3
    assert (buffered[~hit] == 0).all()
    assert buffered[hit].max() == pytest.approx(backlog, rel=0.05)
    assert backlog > 10 * BOUND
    assert others_s.max() < 0.2
    assert run.ledger.lost == 0


@pytest.mark.parametrize("policy", ["close", "drop_oldest", "coalesce"])
def test_a_bounded_policy_bounds_memory_and_leaves_the_others_alone(policy):
    run = run_with(policy)
    calm = run_with(policy, bytes_per_s=1e9)
    slow_s, others_s, hit = slow_and_others(run)
    assert run.frame("clients")["buffered_bytes"][hit].between(1, BOUND).all()
    calm_s = slow_and_others(calm)[1]
    assert others_s.quantile(0.99) == pytest.approx(calm_s.quantile(0.99), rel=0.01)
    assert slow_s.max() > 10 * others_s.max()


def test_blocking_makes_everybody_wait_for_the_slowest():
    run = run_with("block")
    slow_s, others_s, hit = slow_and_others(run)
    assert others_s.max() > 30.0
    assert others_s.max() == pytest.approx(slow_s.max(), rel=0.7)
    assert run.frame("clients")["buffered_bytes"][hit].max() <= BOUND
    assert run.ledger.lost == 0


def test_closing_costs_a_connection_and_what_was_on_its_way():
    run = run_with("close")
    hit = slow_and_others(run)[2]
    clients = run.frame("clients")
    assert (clients["reconnects"][hit] >= 1).all()
    assert (clients["reconnects"][~hit] == 0).all()
    assert (clients["lost"][hit] > 0).all()
    assert (clients["lost"][~hit] == 0).all()


def test_dropping_loses_what_gave_way_and_keeps_the_latest():
    run = run_with("drop_oldest")
    hit = slow_and_others(run)[2]
    clients, table = run.frame("clients"), run.frame("deliveries")
    assert clients["reconnects"].sum() == 0
    assert (clients["lost"][hit] > 100).all()
    assert (clients["lost"][~hit] == 0).all()
    last = table.groupby("client")["version"].max()
    assert (last == last.max()).all()
    # What was kept is never older than the kernels and the buffer are long.
    worst_s = (10 + 40 + 1) * 1.0 + 0.1
    assert table["latency_s"].max() <= worst_s


def test_coalescing_loses_nothing_and_shows_the_board_in_their_place():
    run = run_with("coalesce", bytes_per_s=2000.0)
    hit = slow_and_others(run)[2]
    clients = run.frame("clients")
    assert run.ledger.lost == 0
    assert (clients["superseded"][hit] > 50).all()
    assert (clients["superseded"][~hit] == 0).all()
    # One board and the kernels' content are all that is ever ahead of the newest.
    board = run.scenario.updates.snapshot_bytes + 50
    worst_s = (2 * board + 10 * PUSH_BYTES) / 2000.0 + 0.2
    assert slow_and_others(run)[0].max() <= worst_s


def test_a_ping_waits_behind_the_messages_and_the_client_gives_the_server_up():
    changes = {
        "heartbeat.direction": "server",
        "heartbeat.interval_s": 5.0,
        "heartbeat.timeout_s": 5.0,
    }
    run = run_with("unbounded", **changes)
    hit = slow_and_others(run)[2]
    table = run.frame("connections").query("closed_s < 400")
    assert set(table["client"]) == set(np.flatnonzero(hit))
    assert (table["cause"] == "timed_out").all()
    calm = run_with("coalesce", bytes_per_s=20_000.0, **changes)
    assert len(calm.frame("connections").query("closed_s < 400")) == 0


def test_a_buffer_too_small_for_one_push_is_refused_by_name():
    with pytest.raises(sl.ScenarioError, match=r"server.buffer_bytes: must be >= \d+, the size"):
        BOARD.replace({"server.slow_consumers": "close", "server.buffer_bytes": 10})
    with pytest.raises(sl.ScenarioError, match="has no meaning when slow_consumers"):
        BOARD.replace({"server.buffer_bytes": 10_000})
    with pytest.raises(sl.ScenarioError, match="must be given when slow_consumers"):
        BOARD.replace({"server.slow_consumers": "drop_oldest"})


def test_a_broadcast_that_waits_meets_the_path_as_it_is_when_it_is_sent():
    # From 200 s on the lines are wide; what was held up for the slow until then travels at once.
    late = {"kind": "latency", "start_s": 195.0, "length_s": 205.0, "added_s": 4.0}
    plain = run_with("block")
    slowed = run_with("block", faults=[*plain.scenario.model_dump()["faults"], late])
    tables = [run.frame("deliveries").set_index(["client", "version"]) for run in (plain, slowed)]
    sent_late = (tables[0]["published_s"] < 195.0) & (tables[0]["applied_s"] > 196.0)
    added_s = (tables[1]["applied_s"] - tables[0]["applied_s"])[sent_late]
    assert sent_late.sum() > 100
    assert added_s.median() == pytest.approx(2.0, abs=0.05)
