"""A proxy that answers 502 for a server that is down, in both engines."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.core.wire import Message
from simlib.scenario import compile_workload
from simlib.scenario.presets import PROXIES
from tests.engines.test_streams import BOARD, ENGINES, FREE, RTT_S

DOWN_S, LENGTH_S = 100.0, 4.0
RESTART = {"faults": [{"kind": "restart", "start_s": DOWN_S, "length_s": LENGTH_S}]}
BEHIND = {**FREE, **RESTART, "network.bad_gateway": True}
FIXED = {"policy": "fixed", "base_s": 3.0}
PUSHED = BOARD.replace({"transport": "websocket", "reconnect": FIXED, **BEHIND})
POLLED = BOARD.replace({"transport": "polling", "polling.interval_s": 10.0, **BEHIND})


def run_of(scenario, engine):
    return sl.simulate(scenario, engine=engine, keep=("events",), progress=False)


def count_of(run, name):
    return int(run.frame("timeline")[name].sum())


@ENGINES
@pytest.mark.parametrize("transport", ["sse", "sse_notify"])
def test_an_event_source_that_tries_while_the_server_is_down_never_comes_back(engine, transport):
    """A closed port is tried again, an error of HTTP is not; it tries 3 s after the loss."""
    board = BOARD.replace({**BEHIND, "transport": transport})
    run = run_of(board, engine)
    assert count_of(run, "bad_gateways") == count_of(run, "given_up") == BOARD.clients
    assert run.frame("timeline")["connection_count"].iloc[-1] == 0
    (warning,) = (str(each) for each in run.warnings if each.kind == "given up")
    assert "(network.bad_gateway)" in warning
    refused = run_of(board.replace({"network.bad_gateway": False}), engine)
    assert count_of(refused, "given_up") == 0
    assert refused.frame("timeline")["connection_count"].iloc[-1] == BOARD.clients
    short = board.replace({"faults": [{**RESTART["faults"][0], "length_s": 2.9}]})
    assert count_of(run_of(short, engine), "given_up") == 0


@ENGINES
def test_the_answer_comes_one_round_trip_after_a_connection_that_does_open(engine):
    events = run_of(BOARD.replace(BEHIND), engine).frame("events")
    last = events[(events["event"] == "closed") & (events["state"] == "stranded")]
    # Heard half a round trip later; 3 s; TCP, TLS and the request take a round trip each.
    assert last["t_s"].to_numpy() == pytest.approx(DOWN_S + 3.0 + 3.5 * RTT_S, abs=1e-6)


@ENGINES
def test_a_socket_takes_it_for_a_failed_attempt(engine):
    run = run_of(PUSHED, engine)
    assert count_of(run, "bad_gateways") == BOARD.clients  # the first attempt; the next succeeds
    assert run.frame("timeline")["connection_count"].iloc[-1] == BOARD.clients
    assert count_of(run, "given_up") == 0
    graphql = PUSHED.replace(sl.library("graphql-ws"))
    lost = run_of(graphql, engine)
    assert count_of(lost, "given_up") == count_of(lost, "bad_gateways") > 10
    assert "reconnect.attempts" in " ".join(map(str, lost.warnings))


@ENGINES
@pytest.mark.parametrize("http", ["1.1", "2"])
@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize(
    ("transport", "request_", "answer"),
    [
        ("websocket", Message.UPGRADE_REQUEST, Message.UPGRADE_BAD_GATEWAY),
        ("sse", Message.STREAM_REQUEST, Message.BAD_GATEWAY),
        ("polling", Message.POLL_REQUEST_FIRST, Message.BAD_GATEWAY),
        ("long_polling", Message.HELD_REQUEST_FIRST, Message.BAD_GATEWAY),
    ],
)
def test_its_bytes_are_those_of_a_small_page(engine, http, tls, transport, request_, answer):
    """All come while the server is down, and try once."""
    changes = {
        "transport": transport,
        "clients": 3,
        "ramp_s": 0.0,
        "wire.http": http,
        "network.tls": tls,
        "polling.retries": 0,
        "polling.interval_s": 400.0,
        "reconnect": {"policy": "none"},
        "faults": [{"kind": "restart", "start_s": 0.0, "length_s": 200.0}],
    }
    board = BOARD.replace({**BEHIND, **changes})
    run = run_of(board, engine)
    sizes = compile_workload(board, 1, 0).sizes
    asked = [Message.TCP_OPEN, *[Message.TLS_OPEN] * tls, request_, answer]
    if transport in ("polling", "long_polling"):
        asked.append(Message.TCP_CLOSE)
    expected = sum(sizes[message] for message in asked)[2:].tolist()
    clients = run.frame("clients")
    assert clients[["up_bytes", "down_bytes"]].to_numpy().tolist() == [expected] * 3
    assert (clients["errors"] == 1).all()
    assert (clients["connections"] == 0).all()
    page = 552 if http == "1.1" else 561  # of nginx, padded for Chromium; with a frame's head
    assert page < sizes[answer][1] < page + 200


@ENGINES
def test_a_poll_fails_at_once_and_the_next_one_opens_a_connection(engine):
    run = run_of(POLLED, engine)
    assert count_of(run, "bad_gateways") == count_of(run, "errors") - in_service(run) > 10
    assert run.ledger.lost == 0
    # What was refused never opened: each client has one connection before the restart and after.
    assert (run.frame("clients")["connections"] == 2).all()


def in_service(run):
    """How many polls the restart has cut under way."""
    events = run.frame("events").query(f"t_s >= {DOWN_S} and t_s <= {DOWN_S + RTT_S}")
    return int((events["event"] == "failed").sum())


@ENGINES
def test_safety_polls_beside_a_dead_socket_are_answered_too(engine):
    """The socket's path has died, of which its client knows nothing when the server stops."""
    dead = {"kind": "path_loss", "start_s": 50.0, "length_s": 1.0}
    changes = {
        "faults": [dead, *RESTART["faults"]],
        "websocket.safety_poll_s": 2.0,
        "heartbeat.direction": "none",
    }
    board = PUSHED.replace(changes)
    run = run_of(board, engine)
    in_it = run.frame("timeline").query(f"t_s >= {DOWN_S} and t_s < {DOWN_S + LENGTH_S}")
    assert in_it["bad_gateways"].sum() > BOARD.clients
    assert in_it["safety_errors"].sum() == in_it["bad_gateways"].sum()


@ENGINES
def test_one_node_that_is_up_takes_them_all(engine):
    deploy = {"kind": "rolling_deploy", "start_s": DOWN_S, "length_s": 4.0, "every_s": 10.0}
    board = BOARD.replace({**BEHIND, "server.nodes": 2, "faults": [deploy]})
    run = run_of(board, engine)
    assert count_of(run, "bad_gateways") == 0
    assert run.frame("timeline")["connection_count"].iloc[-1] == BOARD.clients


def test_proxies_answer_for_a_server_that_is_down():
    for name in set(PROXIES) - {"compression middleware"}:
        assert BOARD.replace(sl.proxy(name)).network.bad_gateway
