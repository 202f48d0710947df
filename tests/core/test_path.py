"""Paths that delay and narrow: the arithmetic, and what comes of it in a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simlib as sl
from simlib import theory
from simlib.core.connection import Connection, Paths, end_arrives_s, transmit
from simlib.core.path import SharedLink, Window, added_s, carried_s, left_bytes, rate_at
from simlib.core.protocol import Event
from simlib.core.wire import Message
from simlib.scenario import compile_workload
from tests.quick import ENGINE

BOARD = sl.Scenario(
    transport="websocket",
    clients=200,
    ramp_s=0.0,
    horizon_s=300.0,
    updates={"rate_per_s": 0.5},
    network={"rtt_s": 0.1, "tls": False},
    heartbeat={"direction": "none"},
)
ME = (1, 0, 7)
FREE = ("accept_s", "poll_s", "handshake_s", "authenticate_s", "fan_out_s", "send_s", "heartbeat_s")
SHARING = BOARD.replace(
    {
        "network.shared_down_bytes_per_s": 50_000.0,
        "websocket.resync": "none",
        **{f"server.{name}": 0.0 for name in FREE},
    }
)
"""Clients behind one link, of a server that takes no time."""


def window(start_s, end_s, amount, share=1.0, jitter_s=0.0, fault=0):
    return Window(start_s, end_s, share, amount, jitter_s, fault)


def run_with(*faults, **changes):
    return sl.simulate(
        BOARD.replace({"faults": list(faults), **changes}),
        engine="compiled",
        keep=("deliveries",),
        progress=False,
    )


def test_the_narrowest_of_several_limits_holds():
    limits = [window(0.0, 30.0, 100.0), window(10.0, 20.0, 5.0, fault=1)]
    rates = [rate_at(limits, *ME, t) for t in (0.0, 10.0, 20.0, 30.0)]
    assert rates == [(100.0, 10.0), (5.0, 20.0), (100.0, 30.0), (math.inf, math.inf)]


def test_a_message_is_carried_through_limits_of_different_widths():
    limits = [window(0.0, 10.0, 100.0), window(10.0, 20.0, 5.0, fault=1)]
    assert carried_s(limits, *ME, 9.0, 100.0) == 10.0
    assert carried_s(limits, *ME, 9.0, 125.0) == 15.0
    assert carried_s(limits, *ME, 9.0, 1e9) == 20.0
    assert carried_s(limits, *ME, 25.0, 1e9) == 25.0


@given(
    st.floats(0.0, 40.0),
    st.floats(0.0, 5000.0),
    st.lists(
        st.tuples(st.floats(0, 30), st.floats(0.1, 30), st.floats(1, 500)), min_size=1, max_size=3
    ),
)
def test_what_is_left_takes_as_long_as_the_whole_would_have_taken(start_s, n_bytes, drawn):
    limits = [window(t, t + n, rate, fault=i) for i, (t, n, rate) in enumerate(drawn)]
    end_s = carried_s(limits, *ME, start_s, n_bytes)
    middle_s = (start_s + end_s) / 2.0
    left = left_bytes(limits, *ME, start_s, n_bytes, middle_s)
    assert 0.0 <= left <= n_bytes
    assert carried_s(limits, *ME, middle_s, left) == pytest.approx(end_s)
    assert left_bytes(limits, *ME, start_s, n_bytes, end_s + 1e-3) == pytest.approx(0.0, abs=1.0)


def test_jitter_is_drawn_anew_each_second_and_alike_for_both_ways():
    delays = [window(0.0, 1000.0, 1.0, jitter_s=0.5)]
    ways_s = np.array([added_s(delays, *ME, t) for t in np.arange(0.0, 1000.0, 0.25)])
    seconds = ways_s.reshape(-1, 4)
    assert (seconds == seconds[:, :1]).all()
    assert 0.5 <= ways_s.min() < 0.51
    assert 0.74 < ways_s.max() <= 0.75
    assert seconds[:, 0].mean() == pytest.approx(0.625, abs=4 * 0.25 / math.sqrt(12 * 1000))


def test_added_latency_is_in_every_delivery_of_those_concerned_and_of_nobody_else():
    fault = {"kind": "latency", "start_s": 50.0, "length_s": 100.0, "added_s": 2.0, "share": 0.3}
    table = run_with(fault).frame("deliveries")
    during = table[table["published_s"].between(50.0, 149.0)]
    slow = during.groupby("client")["latency_s"].min() > 1.0
    assert slow.mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 200))
    of_slow = during[during["client"].isin(slow.index[slow])]["latency_s"]
    of_others = during[~during["client"].isin(slow.index[slow])]["latency_s"]
    assert of_slow.between(1.05, 1.06).all()
    assert of_others.between(0.05, 0.06).all()


def test_nothing_overtakes_on_a_connection_when_the_latency_falls():
    faults = [{"kind": "latency", "start_s": 50.0, "length_s": 10.0, "added_s": 60.0}]
    run = run_with(
        *faults, **{"updates.rate_per_s": 5.0, "warm_up_s": 20.0, "websocket.resync": "none"}
    )
    table = run.frame("deliveries").sort_values(["client", "version"])
    assert (table.groupby("client")["applied_s"].diff().dropna() >= 0.0).all()
    assert run.ledger.lost == 0


def test_a_thin_line_delays_a_poll_by_the_size_of_its_answer():
    fault = {"kind": "bandwidth", "start_s": 0.0, "length_s": 300.0, "bytes_per_s": 1000.0}
    changes = {"transport": "polling", "clients": 1, "polling.interval_s": 5.0, "sessions": None}
    thin, wide = run_with(fault, **changes), run_with(**changes)
    sizes = [run.frame("clients").iloc[0] for run in (thin, wide)]
    per_poll_s = [300.0 / row["polls"] for row in sizes]
    carried_bytes = wide.frame("timeline")["payload_down_bytes"].sum()
    body_s = carried_bytes / sizes[1]["polls"] / 1000.0
    assert per_poll_s[0] - per_poll_s[1] == pytest.approx(body_s, rel=0.05)


# -- a link that all clients share ----------------------------------------------------------------


def sharing(changes, keep=("deliveries",)):
    return sl.simulate(SHARING.replace(changes), engine=ENGINE, keep=keep, progress=False)


def bytes_down(scenario, message):
    return int(compile_workload(scenario, 1, 0).sizes[message, 1])


@pytest.mark.parametrize("push", ["delta", "snapshot"])
def test_a_broadcast_arrives_one_frame_after_the_other_at_the_rate_of_the_link(push):
    changes = {"websocket.push": push, "updates": {"kind": "times", "publish_s": [50.0]}}
    found_s = np.sort(sharing(changes).frame("deliveries")["latency_s"])
    frame_s = bytes_down(SHARING.replace(changes), Message.PUSH) / 50_000.0
    assert found_s == pytest.approx(0.05 + frame_s * np.arange(1, 201), abs=1e-9)


def test_broadcasts_that_come_faster_than_the_link_carries_them_queue_behind_themselves():
    changes = {"websocket.push": "snapshot", "updates": {"kind": "times"}}
    changes["updates"]["publish_s"] = [50.0, 55.0, 60.0, 150.0]
    found = sharing(changes).frame("deliveries").groupby("version")["applied_s"].max()
    all_s = 200 * bytes_down(SHARING.replace(changes), Message.PUSH) / 50_000.0
    assert 20.0 < all_s < 25.0
    ends_s = [50.0 + all_s, 50.0 + 2 * all_s, 50.0 + 3 * all_s, 150.0 + all_s]
    assert found.to_numpy() == pytest.approx(np.array(ends_s) + 0.05, abs=1e-9)


def test_polls_that_come_together_are_answered_one_after_the_other():
    run = sharing({"transport": "polling", "polling.interval_s": 500.0}, keep=("events",))
    events = run.frame("events")
    answered_s = np.sort(events[events["event"] == Event.FETCHED.name.lower()]["t_s"])
    reply_s = bytes_down(SHARING, Message.POLL_RESPONSE_FIRST) / 50_000.0
    assert answered_s == pytest.approx(0.2 + reply_s * np.arange(1, 201), abs=1e-9)


def test_independent_polls_wait_for_the_link_as_in_the_queue_of_constant_services():
    # Each session polls once, when it begins; sessions arrive independently of one another.
    reply_s = bytes_down(SHARING, Message.POLL_RESPONSE_FIRST) / 50_000.0
    per_s = 0.7 / reply_s
    run = sharing(
        {
            "transport": "polling",
            "clients": 0,
            "sessions": {"arrivals_per_s": per_s, "length_s": 400.0, "length": "constant"},
            "polling.interval_s": 5000.0,
            "horizon_s": 1500.0,
        },
        keep=("events",),
    )
    events = run.frame("events")
    answered = events[events["event"] == Event.FETCHED.name.lower()]
    start_s = run.frame("clients").set_index("client")["start_s"]
    waits_s = answered["t_s"].to_numpy() - start_s[answered["client"]].to_numpy() - 0.2 - reply_s
    waits_s = waits_s[answered["t_s"] > 50.0]
    queue = theory.md1(per_s, reply_s)
    batches = waits_s[: len(waits_s) // 30 * 30].reshape(30, -1).mean(axis=1)
    error_s = batches.std(ddof=1) / math.sqrt(30)
    assert error_s < 0.1 * queue.mean_wait_s
    assert abs(waits_s.mean() - queue.mean_wait_s) < 3.0 * error_s
    assert (waits_s < 1e-9).mean() == pytest.approx(0.3, abs=0.03)


def test_a_clients_own_narrow_path_comes_after_the_link():
    thin = window(0.0, 60.0, 50.0)
    paths = Paths(1, 0, [0.5], [], [thin], [SharedLink(100.0)])
    mine, other = Connection(7), Connection(8)
    # The link: until 11 s, 12 s, 13 s. Then two seconds on a path of half its rate.
    assert transmit(paths, mine, 10.0, 100.0) == 11.0 + 2.0 + 0.5
    assert transmit(paths, other, 10.0, 100.0) == 12.0 + 2.0 + 0.5
    assert transmit(paths, mine, 10.0, 100.0) == 13.0 + 2.0 + 0.5
    assert transmit(paths, mine, 13.0, 100.0) == 15.0 + 2.0 + 0.5


def test_a_heartbeat_and_the_end_of_a_connection_are_behind_what_the_link_has():
    paths, link = Paths(1, 0, [0.5], [], [], [SharedLink(100.0)]), Connection(7)
    link.subscribed = 3
    assert transmit(paths, link, 10.0, 1000.0) == 20.5
    assert transmit(paths, link, 10.0, 10.0) == 20.6
    assert end_arrives_s(paths, link, 3, 65_536, 12.0) == 20.6
    assert end_arrives_s(paths, link, 4, 65_536, 12.0) == 12.5  # it has not been sent to


def test_clients_whose_pongs_wait_for_a_broadcast_take_their_paths_for_dead():
    changes = {
        "websocket.push": "snapshot",
        "updates": {"kind": "times", "publish_s": [50.0]},
        "heartbeat": {"direction": "client", "interval_s": 10.0, "timeout_s": 5.0},
    }
    assert (sharing(changes).frame("clients")["connections"] > 1).sum() > 100
    wide = {"network.shared_down_bytes_per_s": 500_000.0}
    assert (sharing({**changes, **wide}).frame("clients")["connections"] == 1).all()


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf])
def test_a_link_without_a_rate_is_refused(rate):
    with pytest.raises(sl.ScenarioError, match=r"network\.shared_down_bytes_per_s: must be"):
        SHARING.replace({"network.shared_down_bytes_per_s": rate})


def test_a_server_that_blocks_at_narrow_paths_behind_a_shared_link_is_refused():
    thin = {"kind": "bandwidth", "start_s": 10.0, "length_s": 10.0, "bytes_per_s": 1000.0}
    blocking = {"server.slow_consumers": "block", "server.buffer_bytes": 100_000}
    assert SHARING.replace(blocking).replace({"faults": []})
    with pytest.raises(sl.ScenarioError) as caught:
        SHARING.replace({**blocking, "faults": [thin]})
    assert caught.value.path == "network.shared_down_bytes_per_s"
