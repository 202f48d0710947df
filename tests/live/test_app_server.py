"""The lab's server checks what a production server checks."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
import websockets
from websockets.sync.client import connect

import simlib as sl
from simlib.core import wire
from simlib.live.ipc import Child
from simlib.live.loopback import on_loopback
from simlib.live.messages import Port, Settings
from simlib.live.tokens import make_token

pytestmark = pytest.mark.live

SECRET = "s" * 32
SCENARIO = on_loopback(
    sl.Scenario(transport="websocket", updates={"rate_per_s": 1.0}, server={"max_connections": 2})
)
SPEC = SCENARIO.wire_spec()


@pytest.fixture(scope="module")
def ports():
    with Child("simlib.live.app_server") as server:
        server.send(
            Settings(scenario=SCENARIO, seed=1, replication=0, time_scale=1.0, secret=SECRET)
        )
        yield server.receive(30.0).ports


def poll(ports, authorization):
    url = f"http://127.0.0.1:{ports[Port.POLL]}{SPEC.poll_path}"
    request = urllib.request.Request(url, headers={"Authorization": authorization})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.status, response.read()


def test_a_poll_with_a_valid_token_gets_the_board(ports):
    status, body = poll(ports, f"Bearer {make_token(SECRET, 1, 201)}")
    assert status == 200
    assert len(body) == SPEC.snapshot_bytes
    assert wire.version_of(body) == 0


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer nonsense",
        f"Bearer {make_token('x' * 32, 1, 201)}",
        f"Bearer {make_token(SECRET, 1, 201, valid_s=-10)}",
    ],
)
def test_a_poll_without_a_valid_token_is_refused(ports, authorization):
    with pytest.raises(urllib.error.HTTPError) as error:
        poll(ports, authorization)
    error.value.close()
    assert error.value.code == 401


def refusal(url, **options):
    """The HTTP status with which an upgrade is refused."""
    with pytest.raises(websockets.InvalidStatus) as error:
        connect(url, **options)
    return error.value.response.status_code


def push_url(ports):
    return f"ws://127.0.0.1:{ports[Port.PUSH]}{SPEC.websocket_path}"


def converse(ports, token, *, origin=None, then=None):
    """What the server sends until it closes or is silent, and its close code."""
    received = []
    with connect(push_url(ports), origin=origin) as socket:
        socket.send(wire.auth_text(SPEC, token))
        if then is not None:
            socket.recv(10)
            socket.recv(10)
            socket.send(then)
        try:
            while True:
                received.append(socket.recv(0.5 if then is None else 10))
        except TimeoutError:
            return received, None
        except websockets.ConnectionClosed as closed:
            return received, closed.rcvd.code if closed.rcvd else 1006


def test_a_valid_token_opens_the_stream_with_ready_and_a_snapshot(ports):
    received, closed = converse(ports, make_token(SECRET, 1, 201), origin=f"https://{SPEC.host}")
    assert received == [wire.ready_text(SPEC, 0), wire.snapshot_text(SPEC, 0)]
    assert closed is None


def test_a_wrong_token_is_told_so_and_closed(ports):
    received, closed = converse(ports, make_token("x" * 32, 1, 201))
    assert received == [wire.auth_refused_text(SPEC)]
    assert closed == 1000


def test_a_foreign_origin_is_refused(ports):
    assert refusal(push_url(ports), origin="https://evil.example.net") == 403


def test_a_client_that_talks_out_of_turn_is_closed(ports):
    assert converse(ports, make_token(SECRET, 1, 201), then="hello")[1] == 1008


def test_an_oversized_message_is_refused(ports):
    assert converse(ports, make_token(SECRET, 1, 201), then="x" * 20_000)[1] == 1009


def test_an_upgrade_beyond_the_cap_is_answered_503(ports):
    with connect(push_url(ports)), connect(push_url(ports)):
        assert refusal(push_url(ports)) == 503


def test_the_longest_token_is_taken_on_both_ports():
    scenario = SCENARIO.replace({"wire.token_bytes": 8192})
    settings = Settings(scenario=scenario, seed=1, replication=0, time_scale=1.0, secret=SECRET)
    token = make_token(SECRET, 1, 8192)
    with Child("simlib.live.app_server") as server:
        server.send(settings)
        ports = server.receive(30.0).ports
        assert poll(ports, f"Bearer {token}")[0] == 200
        with connect(push_url(ports)) as socket:
            socket.send(wire.auth_text(scenario.wire_spec(), token))
            assert wire.kind_of(socket.recv(10)) == wire.Message.READY


@pytest.fixture(scope="module")
def stream_ports():
    scenario = SCENARIO.replace(transport="sse")
    with Child("simlib.live.app_server") as server:
        server.send(
            Settings(scenario=scenario, seed=1, replication=0, time_scale=1.0, secret=SECRET)
        )
        yield server.receive(30.0).ports


def ask_for_stream(ports, token, **fields):
    """The status of an answer to a request for a stream, and what comes with its head."""
    url = f"http://127.0.0.1:{ports[Port.POLL]}{SPEC.stream_path}"
    headers = {"Cookie": f"{SPEC.cookie}; token={token}", **fields}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=10
        ) as got:
            return got.status, got.read1(100)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, b""


def test_a_stream_is_for_who_has_a_valid_cookie(stream_ports):
    status, first = ask_for_stream(stream_ports, make_token(SECRET, 1, 201))
    assert (status, first[:15]) == (200, b"id: 0000000000\n")
    for token in ("", "nonsense", make_token("x" * 32, 1, 201)):
        assert ask_for_stream(stream_ports, token) == (401, b"")
    foreign = ask_for_stream(stream_ports, make_token(SECRET, 2, 201), **{"Last-Event-ID": "1; x"})
    assert foreign == (401, b"")


def test_where_clients_have_streams_no_websocket_is_let_in(stream_ports):
    assert refusal(push_url(stream_ports)) == 404
