"""Proxies in front of streams, in both engines: what real ones were seen to do.

The numbers are those of nginx 1.22.1 and HAProxy 2.6.12 in front of a server whose events have 57
bytes each; see `simlib.core.stream_proxy`.
"""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib.core.faults import is_affected
from simlib.core.stream_proxy import are_held
from simlib.core.wire import Message, stream_bytes
from simlib.scenario import compile_workload
from simlib.scenario.presets import PROXIES
from tests.engines.test_compiled_engine import assert_equal_runs

ENGINES = pytest.mark.parametrize("engine", ["simpy", "compiled"])
BOARD = sl.Scenario(
    transport="sse",
    clients=1,
    ramp_s=0.0,
    warm_up_s=0.0,
    cool_down_s=0.0,
    horizon_s=30.0,
    updates={"rate_per_s": 0.0},
    network={"rtt_s": 0.01, "tls": False},
).replace({**sl.library("eventsource"), "heartbeat.direction": "none", "websocket.resync": "none"})


def ticking(every_s, from_s, until_s):
    """Changes at even distances."""
    times = np.arange(from_s, until_s, every_s)
    return {
        "updates.rate_per_s": None,
        "updates.kind": "times",
        "updates.publish_s": times.tolist(),
    }


def run_of(scenario, engine):
    return sl.simulate(scenario, engine=engine, keep=("deliveries",), progress=False)


def arrivals_of(run):
    """When changes arrived, each moment once, and how many at each."""
    return np.unique(run.frame("deliveries")["applied_s"].round(6), return_counts=True)


@ENGINES
def test_nginx_passes_pieces_on_as_fast_as_they_are_full(engine):
    """An event of 57 bytes each 0.05 s fills a piece in 3.6 s."""
    size = int(stream_bytes(BOARD.wire_spec())[Message.STREAM_PUSH])
    as_many_bytes_s = 0.05 * size / 57
    board = BOARD.replace({**ticking(as_many_bytes_s, 0.2, 29.0), **sl.proxy("nginx")})
    times, events = arrivals_of(run_of(board, engine))
    assert np.diff(times) == pytest.approx(0.05 * 4096 / 57, abs=as_many_bytes_s)
    assert set(events[1:]) <= {4096 // size, 4096 // size + 1}
    head = int(
        stream_bytes(BOARD.wire_spec())[[Message.STREAM_RESPONSE, Message.STREAM_READY]].sum()
    )
    assert events[0] == (4096 - head) // size


@ENGINES
def test_a_quiet_board_behind_nginx_shows_nothing_and_is_shown_at_once_without_it(engine):
    """A real EventSource heard errors at 62.1 and 127.2 s, and of no change in 140 s."""
    updates = {"kind": "times", "publish_s": [2.0, 67.1]}
    board = BOARD.replace({"updates": updates, "horizon_s": 140.0})
    held = run_of(board.replace(sl.proxy("nginx")), engine)
    assert (held.ledger.delivered, len(held.frame("deliveries"))) == (0, 0)
    timeline = held.frame("timeline")
    asked_s = timeline.loc[timeline["attempts"] > 0, "t_s"].tolist()
    assert asked_s == [0.0, *(np.floor(t / board.bin_s) * board.bin_s for t in (65.1, 130.2))]
    assert timeline["connections"].sum() == 0  # nobody heard that the stream was open
    assert timeline["thrown_away"].sum() == 2
    (warning,) = (each for each in held.warnings if each.kind == "held back")
    assert "threw 2 changes away" in str(warning)
    direct = run_of(board.replace(sl.proxy("nginx, unbuffered")), engine)
    assert direct.ledger.delivered == 2
    assert direct.latency_quantiles([1.0])[0] < 0.1


@ENGINES
def test_what_was_thrown_away_is_replayed_if_the_server_keeps_it(engine):
    cut = {"faults": [{"kind": "reset", "start_s": 12.1}]}
    board = BOARD.replace({**ticking(0.5, 0.5, 29.0), **sl.proxy("nginx"), **cut})
    board = board.replace({"network.stream_buffer_bytes": 1000, "server.ends_streams": False})
    thrown = run_of(board, engine)
    replay = {"websocket.resync": "replay", "websocket.replay_changes": 100}
    kept = run_of(board.replace(replay), engine)
    in_proxy = thrown.frame("timeline")["thrown_away"].sum()
    assert in_proxy == kept.frame("timeline")["thrown_away"].sum() > 0
    assert thrown.ledger.lost == in_proxy + 6  # those of the 3 s before the client asks again
    assert kept.ledger.lost == 0
    versions = kept.frame("deliveries")["version"].tolist()
    assert versions == list(range(1, len(versions) + 1))


@ENGINES
def test_lone_events_behind_haproxy_are_a_fifth_of_a_second_late(engine):
    half_s = BOARD.network.rtt_s / 2.0
    board = BOARD.replace({**ticking(1.0, 1.0, 29.0), **sl.proxy("haproxy")})
    waits_s = run_of(board, engine).frame("deliveries")["latency_s"] - half_s
    assert waits_s.tolist() == pytest.approx([0.2] * 28, abs=2e-3)


@ENGINES
def test_events_that_come_meanwhile_go_with_the_first(engine):
    """Seen each 0.05 s: a median of 0.106 s and a p95 of 0.21; each 5 ms: a median of 0.104."""
    board = BOARD.replace(sl.proxy("haproxy"))
    rapid = run_of(board.replace(ticking(0.05, 1.0, 29.0)), engine).frame("deliveries")
    waits_s = rapid["latency_s"] - BOARD.network.rtt_s / 2.0
    assert waits_s.quantile(0.5) == pytest.approx(0.106, abs=0.02)
    assert waits_s.quantile(0.95) == pytest.approx(0.21, abs=0.02)
    faster = run_of(board.replace(ticking(0.005, 1.0, 9.0)), engine).frame("deliveries")
    assert (faster["latency_s"]).median() == pytest.approx(0.104, abs=0.01)


@ENGINES
@pytest.mark.parametrize(("ends_streams", "seen"), [(True, 4), (False, 0)])
def test_the_proper_end_of_a_stream_brings_what_the_proxy_has(engine, ends_streams, seen):
    stop = {"faults": [{"kind": "restart", "start_s": 5.0, "length_s": 1.0}]}
    board = BOARD.replace({**ticking(1.0, 1.0, 4.5), **sl.proxy("nginx"), **stop})
    board = board.replace({"server.ends_streams": ends_streams, "sse.retries_ended": False})
    run = run_of(board, engine)
    deliveries = run.frame("deliveries")
    assert len(deliveries) == seen
    assert run.frame("timeline")["thrown_away"].sum() == 4 - seen
    if seen:
        assert set(deliveries["applied_s"].round(6)) == {5.0 + BOARD.network.rtt_s / 2.0}


@ENGINES
@pytest.mark.parametrize(
    ("name", "back"), [("nginx, unbuffered", 0), ("nginx, HTTP/1.1 upstream, unbuffered", 1)]
)
def test_fetch_event_source_comes_back_where_nginx_asks_by_http_1_1(engine, name, back):
    kill = {"faults": [{"kind": "restart", "start_s": 5.0, "length_s": 0.5}]}
    board = BOARD.replace({**ticking(0.5, 1.0, 20.0), **sl.library("fetch-event-source"), **kill})
    run = run_of(board.replace({**sl.proxy(name), "network.bad_gateway": False}), engine)
    assert run.frame("clients")["reconnects"].tolist() == [back] * board.clients


@ENGINES
def test_nothing_comes_before_the_end_of_a_stream_that_is_compressed(engine):
    board = BOARD.replace({**ticking(0.01, 1.0, 25.0), **sl.proxy("compression middleware")})
    run = run_of(board, engine)
    assert (run.ledger.delivered, run.frame("timeline")["connections"].sum()) == (0, 0)
    assert any("No change came by a stream" in str(warning) for warning in run.warnings)


HELD = BOARD.replace({**ticking(2.0, 8.0, 60.0), "clients": 100, "horizon_s": 60.0})
HELD = HELD.replace({"network.stream_held_frac": 0.3, "websocket.resync": "snapshot"})


def held_clients(board):
    workload = compile_workload(board, 1, 0)
    held = are_held(workload.stream_proxy, 1, 0, board.clients)
    return np.flatnonzero(held).tolist()


@ENGINES
@pytest.mark.parametrize("behind", [{}, sl.proxy("haproxy")])
def test_a_share_of_the_clients_is_behind_a_proxy_that_shows_them_nothing(engine, behind):
    run = run_of(HELD.replace(behind), engine)
    clients = run.frame("clients")
    blind = clients.loc[clients["delivered"] == 0, "client"].tolist()
    assert blind == held_clients(HELD)
    assert len(blind) / HELD.clients == pytest.approx(0.3, abs=3 * (0.21 / HELD.clients) ** 0.5)
    assert set(clients["delivered"]) == {0, 26}
    assert run.frame("clients")["attempts"].eq(1).all()  # EventSource waits for ever
    assert run.frame("timeline")["held_back"].sum() == 26 * len(blind)
    assert "a share of 0.3" in str(next(one for one in run.warnings if one.kind == "held back"))
    # Whom it is not about sees what everybody sees without it.
    plain = run_of(HELD.replace({**behind, "network.stream_held_frac": 0.0}), engine)
    seen = plain.frame("deliveries").query("client not in @blind").reset_index(drop=True)
    assert seen.equals(run.frame("deliveries"))


def test_a_proxy_that_blocks_upgrades_and_one_that_holds_streams_have_the_same_clients():
    blocks = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 60.0, "share": 0.3}
    others = [{"kind": "reset", "start_s": 20.0, "share": 0.5}]
    for place in (0, 1):
        board = HELD.replace({"faults": [*others[:place], blocks]})
        blocked = [is_affected(1, 0, client, place, 0.0, 0.3) for client in range(board.clients)]
        assert held_clients(board) == np.flatnonzero(blocked).tolist() != held_clients(HELD)
    assert held_clients(HELD.replace({"faults": others})) == held_clients(HELD)
    fewer = held_clients(board.replace({"network.stream_held_frac": 0.1}))
    assert set(fewer) < set(held_clients(board))


@ENGINES
def test_a_client_with_a_time_out_falls_back_where_its_stream_never_opens(engine):
    patient = {"websocket.upgrade_timeout_s": 0.0, "websocket.open_timeout_s": 2.0}
    polls = {"fallback": {"after_failures": 1}, "polling.interval_s": 5.0}
    board = HELD.replace({**patient, **polls, "clients": 30, "cool_down_s": 10.0})
    run = run_of(board, engine)
    held = held_clients(board)
    log = run.frame("connections")
    assert sorted(set(log.loc[log["transport"] == "polling", "client"])) == held != []
    assert (run.ledger.lost, run.ledger.pending) == (0, 0)
    late = run.frame("deliveries").groupby("client")["latency_s"].max()
    assert late[held].min() > 1.0 > late.drop(held).max()
    assert not [one for one in run.warnings if one.kind == "held back"]  # nobody is left with it


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("transport", ["sse", "sse_notify"])
@pytest.mark.parametrize("name", PROXIES)
def test_engines_agree_on_every_proxy(name, transport, share):
    faults = [
        {"kind": "reset", "start_s": 20.0, "share": 0.5},
        {"kind": "path_loss", "start_s": 40.0, "length_s": 10.0, "share": 0.5},
        {"kind": "bandwidth", "start_s": 60.0, "length_s": 20.0, "bytes_per_s": 800.0},
        {"kind": "restart", "start_s": 100.0, "length_s": 2.0},
    ]
    board = BOARD.replace(sl.proxy(name)).replace(
        {
            "transport": transport,
            "clients": 12,
            "ramp_s": 3.0,
            "horizon_s": 200.0,
            "updates.rate_per_s": 1.0,
            "heartbeat.direction": "server",
            "heartbeat.interval_s": 5.0,
            "network.idle_s": 7.0,
            "network.unanswered_s": 15.0,
            "network.stream_held_frac": share,
            "faults": faults,
        }
    )
    run = assert_equal_runs(board, keep=("deliveries", "events"))
    assert run.ledger.eligible > 1000
