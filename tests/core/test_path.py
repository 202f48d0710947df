"""Paths that delay and narrow: the arithmetic, and what comes of it in a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simlib as sl
from simlib.core.path import Window, added_s, carried_s, left_bytes, rate_at

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
