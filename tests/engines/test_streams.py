"""Server-sent events in both engines: what theory says of them, and what they cost."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.core.wire import Message
from simlib.errors import ScenarioError
from simlib.scenario import compile_workload
from simlib.scenario.presets import library

RTT_S = 0.1
BOARD = sl.Scenario(
    transport="sse",
    clients=50,
    ramp_s=5.0,
    horizon_s=300.0,
    warm_up_s=10.0,
    cool_down_s=20.0,
    updates={"rate_per_s": 0.2},
    network={"rtt_s": RTT_S},
).replace(library("eventsource"))
ENGINES = pytest.mark.parametrize("engine", ["simpy", "compiled"])
FREE = {
    f"server.{name}": 0.0
    for name in ("accept_s", "handshake_s", "authenticate_s", "fan_out_s", "send_s", "heartbeat_s")
}


def run_of(scenario, **options):
    return sl.simulate(scenario, progress=False, **options)


@ENGINES
def test_a_change_is_seen_half_a_round_trip_and_half_a_broadcast_later(engine):
    """Client k of n waits for k sends; changes are so rare that no broadcast waits."""
    send_s = 1e-3
    board = BOARD.replace({**FREE, "server.send_s": send_s, "updates.rate_per_s": 0.05})
    summary = run_of(board, engine=engine).metrics().iloc[0]
    mean_s = RTT_S / 2.0 + (BOARD.clients + 1) / 2.0 * send_s
    assert summary["average_latency_s"] == pytest.approx(mean_s, rel=1e-3)
    assert summary["latency_max_s"] == pytest.approx(RTT_S / 2.0 + BOARD.clients * send_s, rel=1e-3)


@ENGINES
@pytest.mark.parametrize("http", ["1.1", "2"])
@pytest.mark.parametrize("transport", ["sse", "sse_notify"])
def test_bytes_are_counts_times_the_sizes_of_the_wire(engine, http, transport):
    board = BOARD.replace({"transport": transport, "clients": 5, "wire.http": http, "ramp_s": 0.0})
    run = run_of(board.replace({"horizon_s": 120.0, "server.keep_alive_s": 500.0}), engine=engine)
    sizes = compile_workload(board, 1, 0).sizes
    opening = [Message.TCP_OPEN, Message.TLS_OPEN, Message.STREAM_REQUEST, Message.STREAM_RESPONSE]
    for _, row in run.frame("clients").iterrows():
        expected = sum(sizes[message] for message in (*opening, Message.STREAM_READY))
        comments = 7  # from 15 s after the connection has opened to 105 s
        expected = expected + comments * sizes[Message.STREAM_COMMENT]
        if transport == "sse":
            expected = expected + sizes[Message.STREAM_SNAPSHOT]
            expected = expected + (row["messages"] - 1) * sizes[Message.STREAM_PUSH]
        else:
            expected = expected + row["messages"] * sizes[Message.STREAM_NOTICE]
            beside = sizes[Message.TCP_OPEN] + sizes[Message.TLS_OPEN]
            first = sizes[Message.POLL_REQUEST_FIRST] + sizes[Message.POLL_RESPONSE_FIRST]
            later = sizes[Message.POLL_REQUEST] + sizes[Message.POLL_RESPONSE]
            expected = expected + beside + first + (row["polls"] - 1) * later
        assert [row["up_bytes"], row["down_bytes"]] == expected[2:].tolist()


@ENGINES
def test_after_a_restart_all_come_back_within_one_round_trip(engine):
    """All are cut at once, wait 3 s, and need four trips of half a round trip each to ask."""
    faults = [{"kind": "restart", "start_s": 100.0, "length_s": 2.0}]
    run = run_of(BOARD.replace({**FREE, "faults": faults}), engine=engine)
    opened_s = run.frame("connections").query("opened_s > 50")["opened_s"]
    assert len(opened_s) == BOARD.clients
    # heard 0.5 rtt later; then 3 s, SYN and its answer, TLS, the request and the head of its answer
    assert opened_s.to_numpy() == pytest.approx(100.0 + 0.5 * RTT_S + 3.0 + 3.0 * RTT_S, abs=1e-6)


@ENGINES
def test_a_replay_is_exact_after_a_hundred_cuts(engine):
    """Last-Event-ID: each client is sent what came while it was away, and nothing twice."""
    cuts = [
        {"kind": "reset", "start_s": 15.0 + 10.7 * k, "share": 0.8, "repeat_s": 2.53, "repeats": 3}
        for k in range(25)
    ]
    board = BOARD.replace(
        {
            "clients": 12,
            "updates.rate_per_s": 1.0,
            "websocket.resync": "replay",
            "websocket.replay_changes": 1000,
            "faults": cuts,
        }
    )
    run = run_of(board, engine=engine, keep=("deliveries",))
    assert run.frame("clients")["reconnects"].sum() > 400
    assert run.ledger.lost == 0
    assert run.ledger.delivered == run.ledger.eligible
    assert not run.frame("deliveries").duplicated(["client", "version"]).any()
    few = run_of(board.replace({"websocket.replay_changes": 1}), engine=engine)
    assert few.ledger.lost > 0


@ENGINES
def test_a_503_strands_every_event_source_that_meets_it(engine):
    """The server admits ten a second after a burst of ten; all ask at one moment."""
    refusing = BOARD.replace(
        {
            **FREE,
            "server.admit_per_s": 10.0,
            "server.admit_burst": 10,
            "ramp_s": 20.0,
            "faults": [{"kind": "restart", "start_s": 100.0, "length_s": 1.0}],
        }
    )
    stranded = {}
    for name in ("eventsource", "fetch-event-source"):
        run = run_of(refusing.replace(library(name)), engine=engine, keep=("events",))
        last = run.frame("events").groupby("client")["state"].last()
        stranded[name] = int((last == "stranded").sum())
    assert stranded == {"eventsource": BOARD.clients - 10, "fetch-event-source": 0}
    fallback = run_of(refusing.replace({"fallback": {"return_s": 60.0}}), engine=engine)
    assert fallback.ledger.lost == 0
    assert (fallback.frame("clients")["fallbacks"] > 0).sum() == BOARD.clients - 10


@ENGINES
def test_a_proper_end_ends_it_for_who_takes_it_for_the_end_of_all(engine):
    """A drain is the server's own doing, a reset that of a proxy."""
    left = {}
    for kind in ("drain", "reset"):
        more = {"length_s": 10.0, "batches": 2} if kind == "drain" else {}
        faults = [{"kind": kind, "start_s": 100.0, **more}]
        board = BOARD.replace({**library("fetch-event-source"), "faults": faults})
        board = board.replace({"server.ends_streams": True})
        run = run_of(board, engine=engine)
        left[kind] = int(run.frame("timeline")["connection_count"].iloc[-1])
        kept = run_of(board.replace(library("eventsource")), engine=engine)
        assert kept.frame("timeline")["connection_count"].iloc[-1] == BOARD.clients
    assert left == {"drain": 0, "reset": BOARD.clients}


@ENGINES
def test_an_expired_cookie_is_answered_401_which_is_final(engine):
    board = BOARD.replace(
        {
            "websocket.token_valid_s": 60.0,
            "websocket.token_resent": True,
            "faults": [{"kind": "reset", "start_s": 100.0}],
        }
    )
    run = run_of(board, engine=engine, keep=("events",))
    last = run.frame("events").groupby("client")["state"].last()
    assert (last == "stranded").all()
    sizes = compile_workload(board, 1, 0).sizes
    again = sizes[Message.STREAM_REQUEST_AGAIN]
    assert again[0] > sizes[Message.STREAM_REQUEST][0]
    assert (run.frame("clients")["errors"] == 2).all()


@ENGINES
def test_only_who_watches_notices_a_path_that_died(engine):
    """EventSource has no timer; the server lets go when nobody acknowledges."""
    faults = [{"kind": "path_loss", "start_s": 100.0, "length_s": 5.0}]
    board = BOARD.replace({"faults": faults, "network.unanswered_s": 30.0})
    blind = run_of(board, engine=engine)
    assert blind.frame("clients")["reconnects"].sum() == 0
    unseen = blind.frame("timeline").query("t_s > 110")["delivered"].sum()
    assert unseen == 0
    watching = run_of(
        board.replace({"sse.watches": True, "heartbeat.timeout_s": 5.0}), engine=engine
    )
    assert (watching.frame("clients")["reconnects"] == 1).all()


@ENGINES
@pytest.mark.parametrize(
    ("settings", "noticed_s"),
    [
        ({"transport": "sse", "heartbeat.interval_s": 15.0, "updates.publish_s": [80.0]}, 35.3),
        ({"transport": "websocket", "heartbeat.direction": "client"}, 30.05),
    ],
)
def test_a_socket_on_a_dead_path_keeps_its_place_until_the_server_notices(
    engine, settings, noticed_s
):
    """Its client comes back, and is refused until then; that it gives up does not tell of it.

    The path dies at 5 s. What the server writes next is a comment 15 s after it has let the client
    in, or the change at 10 s; nobody acknowledges it for 20 s.
    """
    board = BOARD.replace(
        {
            **FREE,
            "clients": 1,
            "ramp_s": 0.0,
            "horizon_s": 100.0,
            "cool_down_s": 0.0,
            "updates": {"kind": "times", "publish_s": [10.0, 80.0]},
            "network.unanswered_s": 20.0,
            "heartbeat.interval_s": 10.0,
            "heartbeat.timeout_s": 5.0,
            "server.max_connections": 1,
            "sse": {"watches": True, "retries_http_errors": True},
            "reconnect": {"policy": "fixed", "base_s": 1.0},
            "faults": [{"kind": "path_loss", "start_s": 5.0, "length_s": 1.0}],
            **settings,
        }
    )
    run = run_of(board, engine=engine)
    connections = run.frame("connections")
    assert len(connections) == 2
    assert noticed_s < connections["opened_s"].iloc[1] < noticed_s + 1.0 + 5.0 * RTT_S
    assert run.frame("timeline")["refused"].sum() == run.frame("clients")["errors"].sum() - 1 > 3


def test_a_proxy_that_blocks_upgrades_lets_streams_pass():
    faults = [{"kind": "block_upgrades", "start_s": 0.0, "length_s": 300.0}]
    streamed, pushed = (
        run_of(BOARD.replace({"transport": transport, "faults": faults}))
        for transport in ("sse", "websocket")
    )
    assert streamed.ledger.delivered == streamed.ledger.eligible
    assert pushed.ledger.delivered == 0


@ENGINES
def test_a_silent_stream_is_cut_by_a_middlebox_unless_comments_come(engine):
    board = BOARD.replace({"updates.rate_per_s": 0.0, "network.idle_s": 60.0})
    silent = run_of(board.replace({"heartbeat.direction": "none"}), engine=engine)
    # 60 s open, heard half a round trip later, then 3 s and three round trips
    period_s = 60.0 + 3.0 + 3.5 * RTT_S
    starts_s = silent.frame("connections").sort_values(["client", "opened_s"])
    gaps_s = starts_s.groupby("client")["opened_s"].diff().dropna()
    assert gaps_s.to_numpy() == pytest.approx(period_s, abs=0.01)
    kept = run_of(board, engine=engine)
    assert kept.frame("clients")["reconnects"].sum() == 0


@pytest.mark.parametrize("transport", ["sse", "sse_notify"])
def test_client_pings_are_refused_on_a_stream(transport):
    with pytest.raises(ScenarioError, match=r"heartbeat\.direction: must be server or none"):
        BOARD.replace({"transport": transport, "heartbeat.direction": "client"})
