"""Each byte count is the length of a real text, and the texts are those of the real packages."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import hpack
import pytest
from aiohttp import ClientSession, web
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from simlib.core import wire
from simlib.core.wire import Message, WireSpec, message_sizes, payloads
from simlib.core.wire.sizes import _PREFACE_UP, _PRIORITY

RECORD = json.loads((Path(__file__).parents[2] / "data/measured/heads.json").read_text("utf-8"))
TOKEN = RECORD["values"]["token"]
DATE = "Mon, 23 Nov 2026 10:00:00 GMT"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ENVELOPES = ["native", "socketio", "sockjs"]
UP_ONLY = {m for m in Message if m.name.startswith("POLL_CONDITIONAL")} | {
    Message.POLL_REQUEST_FIRST,
    Message.POLL_REQUEST,
    Message.UPGRADE_REQUEST,
    Message.AUTH,
    Message.PONG_UP,
    Message.PING_UP,
    Message.CLOSE_UP,
    Message.STREAM_REQUEST,
    Message.STREAM_REQUEST_AGAIN,
    Message.HELD_REQUEST_FIRST,
    Message.HELD_REQUEST,
}


def specs() -> st.SearchStrategy[WireSpec]:
    """Specs within the scenario's bounds, HTTP/1.1 and 2."""

    def build(values: dict[str, Any]) -> WireSpec:
        spec = WireSpec(**values)
        if spec.http_version == "2":
            spec = spec._replace(http_client="chromium")
        return spec._replace(snapshot_bytes=spec.delta_bytes + spec.snapshot_bytes)

    return st.fixed_dictionaries(
        {
            "http_version": st.sampled_from(["1.1", "2"]),
            "http_client": st.sampled_from(["chromium", "aiohttp"]),
            "websocket_client": st.sampled_from(["chromium", "websockets"]),
            "cookie": st.sampled_from(["", "a=1", WireSpec().cookie]),
            "token_bytes": st.integers(0, 2000),
            "envelope": st.sampled_from(ENVELOPES),
            "event": st.text(st.characters(codec="utf-8"), max_size=12),
            "delta_bytes": st.integers(93, 20_000),
            "snapshot_bytes": st.integers(37, 100_000),
            "push": st.sampled_from(["delta", "snapshot"]),
            "etag": st.booleans(),
            "deflate_ratio": st.floats(0.01, 1),
            "gzip_ratio": st.one_of(st.just(1.0), st.floats(0.01, 1)),
            "tls": st.booleans(),
        }
    ).map(build)


versions = st.integers(0, 10**wire.VERSION_DIGITS - 1)


def lines(entry: dict[str, Any], **values: str) -> list[str]:
    """The lines of a recorded head with its placeholders filled."""
    filled = [entry["line"]]
    for name, value in entry["headers"]:
        for placeholder, text in (RECORD["values"] | values).items():
            value = value.replace("{" + placeholder + "}", text)
        filled.append(f"{name}: {value}")
    return [*filled, "", ""]


# Heads against the recording


@pytest.mark.parametrize("client", ["chromium", "aiohttp"])
def test_poll_heads_are_those_recorded(client: str) -> None:
    spec = WireSpec(http_client=client, etag=True)
    bare = wire.poll_request(spec._replace(token_bytes=0), "")
    assert bare.decode().split("\r\n") == lines(RECORD[client]["poll"])
    bearer = wire.poll_request(spec, TOKEN)
    assert bearer.decode().split("\r\n") == lines(RECORD[client]["poll_token"])
    conditional = wire.poll_request(spec, TOKEN, 42)
    assert conditional.decode().split("\r\n") == lines(RECORD[client]["poll_conditional"])
    assert len(conditional) == RECORD[client]["poll_conditional"]["bytes"]


@pytest.mark.parametrize(
    ("client", "name", "ratio"),
    [
        ("chromium", "upgrade", 1.0),
        ("chromium", "upgrade", 0.5),
        ("websockets", "upgrade", 1.0),
        ("websockets", "upgrade_deflate", 0.5),
    ],
)
def test_upgrade_heads_are_those_recorded(client: str, name: str, ratio: float) -> None:
    spec = WireSpec(websocket_client=client, deflate_ratio=ratio)
    head = wire.upgrade_request(spec, KEY).decode().split("\r\n")
    assert head == lines(RECORD[client][name], key=KEY)


def test_http2_header_lists_and_blocks_are_chromiums() -> None:
    spec, recorded = WireSpec(http_version="2", etag=True), RECORD["chromium_http2"]
    bare = wire.http2_request(spec._replace(token_bytes=0), "")
    bearer, conditional = (wire.http2_request(spec, TOKEN, v) for v in (None, 42))
    for name, ours in (("poll", bare), ("poll_token", bearer), ("poll_conditional", conditional)):
        assert lines({"line": "", "headers": recorded[name]["headers"]})[1:-2] == [
            f"{k}: {v}" for k, v in ours
        ]
    encoder = hpack.Encoder()
    blocks = [
        encoder.encode([(k, v, k == ":path") for k, v in headers])  # True: never indexed
        for headers in (bare, bearer, bearer, conditional)
    ]
    names = ("poll_token", "poll_token_again", "poll_conditional")
    assert [len(block) for block in blocks[1:]] == [recorded[n]["block_bytes"] for n in names]
    decoder = hpack.Decoder()
    decoded: list[Any] = [list(decoder.decode(block)) for block in blocks]
    assert decoded == [bare, bearer, bearer, conditional]
    for name in names:
        assert recorded[name]["frame_bytes"] - recorded[name]["block_bytes"] == 9 + _PRIORITY
    settings_frames = sum(frame["bytes"] for frame in recorded["setup_frames"])
    assert 24 + settings_frames + 9 == _PREFACE_UP


def test_default_tls_handshake_is_the_recorded_one_within_its_own_spread() -> None:
    recorded = RECORD["tls_handshake_bytes"]["chromium"]
    assert abs(WireSpec().tls_up_bytes - recorded["up"]) <= 128
    assert abs(WireSpec().tls_down_bytes - recorded["down"]) <= 64


# Replies against real servers


async def exchange(port: int, request: bytes, body_bytes: int = 0) -> bytes:
    """Send `request` over a raw socket and read one head and its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(body_bytes)
    writer.close()
    return head + body


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a live test, bounded in time."""

    async def bounded() -> None:
        await asyncio.wait_for(main(), 60)

    asyncio.run(bounded())


def date_of(reply: bytes) -> str:
    found = re.search(rb"\r\nDate: ([^\r]{29})\r\n", reply)
    assert found is not None
    return found[1].decode()


@pytest.mark.parametrize("etag", [False, True])
@pytest.mark.parametrize("client", ["chromium", "aiohttp"])
def test_poll_replies_are_aiohttps(client: str, etag: bool) -> None:
    spec = WireSpec(http_client=client, etag=etag, token_bytes=0)

    async def handler(request: web.Request) -> web.Response:
        headers = wire.poll_response_headers(spec, 7)
        if request.headers.get("X-Refuse"):
            return web.Response(status=503, headers=wire.poll_response_headers(spec))
        if request.headers.get("If-None-Match") == headers.get("ETag", "none"):
            return web.Response(status=304, headers=headers)
        body = wire.poll_body(spec, 7)
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def main() -> None:
        app = web.Application()
        app.router.add_get(spec.poll_path, handler)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            full = await exchange(port, wire.poll_request(spec, ""), spec.snapshot_bytes)
            head = wire.poll_response_head(spec, 7, date_of(full))
            assert full == head + wire.poll_body(spec, 7)
            assert len(full) == message_sizes(spec, "payload")[Message.POLL_RESPONSE, 1]
            if etag:
                short = await exchange(port, wire.poll_request(spec, "", 7))
                assert short == wire.not_modified(spec, 7, date_of(short))
                assert len(short) == message_sizes(spec, "payload")[Message.NOT_MODIFIED, 1]
            request = wire.poll_request(spec, "")[:-2] + b"X-Refuse: 1\r\n\r\n"
            refused = await exchange(port, request)
            assert refused == wire.poll_refused(spec, date_of(refused))
        finally:
            await runner.cleanup()

    run(main)


@pytest.mark.parametrize("resumes", [False, True])
@pytest.mark.parametrize("client", ["chromium", "aiohttp"])
def test_streams_are_aiohttps(client: str, resumes: bool) -> None:
    spec = WireSpec(http_client=client, token_bytes=len(TOKEN), resumes=resumes)
    asked: list[dict[str, str]] = []
    events = {
        Message.STREAM_READY: wire.stream_event(wire.ready_text(spec, 7), 7),
        Message.STREAM_SNAPSHOT: wire.stream_event(wire.snapshot_text(spec, 7), 7),
        Message.STREAM_PUSH: wire.stream_event(wire.push_text(spec, 8), 8),
        Message.STREAM_NOTICE: wire.stream_event(wire.notice_text(spec, 9), 9),
        Message.STREAM_COMMENT: wire.STREAM_COMMENT,
    }

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append({**request.query, **request.headers})
        status = int(request.headers.get("X-Refuse", "200"))
        if status != 200:
            return web.Response(status=status, headers={"Server": spec.server})
        response = web.StreamResponse(headers=wire.stream_response_headers(spec))
        await response.prepare(request)
        for event in events.values():
            await response.write(event)
        return response

    async def main() -> None:
        app = web.Application()
        app.router.add_get(spec.stream_path, handler)
        runner = web.AppRunner(app)
        await runner.setup()
        sizes = message_sizes(spec, "payload")[:, 1]
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            again = wire.stream_request(spec, TOKEN, 5, 6)
            body_bytes = sum(sizes[message] for message in (*events, Message.STREAM_END))
            full = await exchange(port, again, body_bytes)
            head = wire.stream_response_head(spec, date_of(full))
            assert len(head) == sizes[Message.STREAM_RESPONSE]
            assert full == head + b"".join(map(wire.chunk, events.values())) + wire.LAST_CHUNK
            for message, event in events.items():
                assert len(wire.chunk(event)) == sizes[message]
            for status in (401, 503):
                request = again[:-2] + b"X-Refuse: %d\r\n\r\n" % status
                refused = await exchange(port, request)
                assert refused == wire.stream_response_head(spec, date_of(refused), status)
        finally:
            await runner.cleanup()
        assert wire.stream_token(asked[0]["Cookie"]) == TOKEN
        assert asked[0]["Accept"] == "text/event-stream"
        assert asked[0]["Last-Event-ID"] == "0000000006"
        assert asked[0].get("seen") == ("0000000005" if resumes else None)

    run(main)


def test_aiohttp_asks_for_a_stream_with_the_same_head() -> None:
    spec = WireSpec(http_client="aiohttp", token_bytes=len(TOKEN), resumes=True)
    expected = wire.stream_request(spec, TOKEN, 5, 6)
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        fields = {
            "Host": spec.host,
            "Cookie": f"{spec.cookie}; token={TOKEN}",
            "Accept": "text/event-stream",
            "Cache-Control": "no-cache",
            "Last-Event-ID": "0000000006",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": "Python/3.11 aiohttp/3.14.5",
        }
        url = f"http://127.0.0.1:{port}{spec.stream_path}?seen=0000000005"
        async with ClientSession(headers=fields) as session, session.get(url):
            pass
        server.close()

    run(main)
    assert heads == [expected]


@pytest.mark.parametrize("push", ["delta", "snapshot"])
@pytest.mark.parametrize("client", ["chromium", "aiohttp"])
def test_answers_to_held_requests_are_aiohttps(client: str, push: str) -> None:
    spec = WireSpec(http_client=client, push=push, token_bytes=0)
    sizes = message_sizes(spec, "payload")

    async def handler(request: web.Request) -> web.Response:
        seen = int(request.query["since"])
        if seen == 40:
            return web.Response(status=204, headers=wire.held_reply_headers(spec, 0))
        body = wire.poll_body(spec, 40)
        if push == "delta":
            body = wire.changes_body(spec, seen, 40)
        headers = wire.held_reply_headers(spec, len(body))
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def main() -> None:
        app = web.Application()
        app.router.add_get(spec.poll_path, handler)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            empty = await exchange(port, wire.held_request(spec, "", 40))
            assert empty == wire.held_reply_head(spec, 0, date_of(empty))
            assert len(empty) == sizes[Message.HELD_EMPTY, 1]
            for seen in (39, 38, 7):  # one change, two, and 33
                further = (39 - seen) * int(sizes[Message.HELD_CHANGE, 1])
                body_bytes = (
                    int(sizes[Message.HELD_REPLY, 1])
                    + further
                    - len(wire.held_reply_head(spec, 1, "x" * 29))
                )
                full = await exchange(port, wire.held_request(spec, "", seen), body_bytes)
                assert full.startswith(wire.held_reply_head(spec, body_bytes, date_of(full)))
                assert len(full) == sizes[Message.HELD_REPLY, 1] + further
                assert wire.version_of(full) == 40
            assert len(wire.held_request(spec, "", 7)) == sizes[Message.HELD_REQUEST, 0]
        finally:
            await runner.cleanup()

    run(main)


def test_a_real_client_reads_a_length_with_zeros_and_no_body_from_a_204() -> None:
    spec = WireSpec(http_client="aiohttp", token_bytes=0, cookie="")

    async def handler(request: web.Request) -> web.Response:
        if request.query["since"] == "0000000009":
            return web.Response(status=204, headers=wire.held_reply_headers(spec, 0))
        body = wire.changes_body(spec, 7, 9)
        headers = wire.held_reply_headers(spec, len(body))
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def main() -> None:
        app = web.Application()
        app.router.add_get(spec.poll_path, handler)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}{spec.poll_path}"
            async with aiohttp.ClientSession() as session:
                async with session.get(url, params={"since": "0000000007"}) as response:
                    found = await response.json()
                assert found["version"] == "0000000009"
                assert [len(json.dumps(card)) > 90 for card in found["changes"]] == [True, True]
                async with session.get(url, params={"since": "0000000009"}) as response:
                    assert (response.status, await response.read()) == (204, b"")
        finally:
            await runner.cleanup()

    run(main)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("client", ["chromium", "websockets"])
@pytest.mark.parametrize("envelope", ENVELOPES)
def test_upgrade_replies_are_websockets(envelope: str, client: str, ratio: float) -> None:
    spec = WireSpec(websocket_client=client, envelope=envelope, deflate_ratio=ratio)
    refuse = False

    def process_request(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(503, wire.REFUSED_TEXT) if refuse else None

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async def main() -> None:
        nonlocal refuse
        async with serve(
            handler,
            "127.0.0.1",
            0,
            compression="deflate" if ratio < 1 else None,
            server_header=spec.server,
            process_request=process_request,
            close_timeout=0.1,
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            request = wire.upgrade_request(spec, KEY)
            reply = await exchange(port, request)
            magic = (KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()
            accept = base64.b64encode(hashlib.sha1(magic).digest()).decode()
            assert reply == wire.upgrade_response(spec, accept, date_of(reply))
            assert len(reply) == message_sizes(spec, "payload")[Message.UPGRADE_RESPONSE, 1]
            refuse = True
            refused = await exchange(port, request, len(wire.REFUSED_TEXT))
            assert refused == wire.upgrade_refused(spec, date_of(refused))

    run(main)


# Frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_frames_are_those_of_the_websockets_protocol(size: int) -> None:
    text = b"x" * size
    client = ClientProtocol(parse_uri("ws://127.0.0.1/"), state=OPEN)
    client.send_text(text)
    (up,) = client.data_to_send()
    server = ServerProtocol(state=OPEN)
    server.send_text(text)
    (down,) = server.data_to_send()
    assert (len(up), len(down)) == (wire.frame_bytes(size, True), wire.frame_bytes(size, False))
    assert down == wire.websocket_frame(text)
    start = len(up) - size - 4
    assert up == wire.websocket_frame(text, mask=up[start : start + 4])


def test_control_frames_are_those_of_the_websockets_protocol() -> None:
    sizes = message_sizes(WireSpec(), "payload")
    client = ClientProtocol(parse_uri("ws://127.0.0.1/"), state=OPEN)
    server = ServerProtocol(state=OPEN)
    for side, ping, pong in ((client, "PING_UP", "PONG_UP"), (server, "PING_DOWN", "PONG_DOWN")):
        side.send_ping(b"1234")
        side.send_pong(b"1234")
        sent = side.data_to_send()
        assert [len(data) for data in sent] == [sizes[Message[name]].sum() for name in (ping, pong)]
    client.send_close(1000)
    (close,) = client.data_to_send()
    assert len(close) == sizes[Message.CLOSE_UP, 0]
    server.receive_data(close)
    assert len(server.data_to_send()[0]) == sizes[Message.CLOSE_DOWN, 1]


# Envelopes


def test_socketio_sizes_are_those_of_the_real_packages() -> None:
    """Measured with socket.io 4.8.4 and its client over the ws server."""
    sizes = message_sizes(
        WireSpec(envelope="socketio", token_bytes=201, delta_bytes=105), "payload"
    )
    expected = {"HELLO": (0, 109), "AUTH": (223, 0), "READY": (0, 34), "AUTH_REFUSED": (0, 31)}
    expected |= {"PUSH": (0, 144), "PING_DOWN": (0, 3), "PONG_UP": (7, 0)}
    assert {name: tuple(sizes[Message[name]].tolist()) for name in expected} == expected


def test_socketio_texts_are_packets_of_its_protocol() -> None:
    spec = WireSpec(envelope="socketio")
    hello = json.loads(wire.hello_text(spec)[1:])
    assert wire.hello_text(spec)[0] == "0"
    assert (hello["pingInterval"], len(hello["sid"])) == (25000, 20)
    assert wire.auth_text(spec, TOKEN) == '40{"token":"' + TOKEN + '"}'
    assert wire.auth_text(spec._replace(token_bytes=0), "") == "40"
    assert len(json.loads(wire.ready_text(spec, 7)[2:])["sid"]) == 20
    name, payload = json.loads(wire.push_text(spec, 7)[2:])
    assert name == "matter_updated"
    assert payload == {"matters": [json.loads(wire.card(105, 7))]}
    name, payload = json.loads(wire.snapshot_text(spec, 7)[2:])
    assert (name, payload) == ("snapshot", json.loads(wire.poll_body(spec, 7)))


def test_sockjs_texts_are_json_strings_in_its_frames() -> None:
    native, spec = WireSpec(), WireSpec(envelope="sockjs")
    assert wire.hello_text(spec) == "o"
    for make in (wire.push_text, wire.snapshot_text, wire.ready_text):
        assert make(spec, 7) == "a" + json.dumps([make(native, 7)])
    assert wire.auth_text(spec, TOKEN) == json.dumps([wire.auth_text(native, TOKEN)])
    assert len(wire.push_text(spec, 7)) == 128  # 105 bytes, 18 quotes, 5 of framing
    assert message_sizes(spec, "payload")[Message.PONG_UP].tolist() == [0, 0]


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("push", ["delta", "snapshot"])
@pytest.mark.parametrize("event", ["matter_updated", "changed"])
def test_kinds_are_told_from_the_text(envelope: str, push: str, event: str) -> None:
    spec = WireSpec(envelope=envelope, push=push, event=event)
    expected = {
        wire.ready_text(spec, 7): Message.READY,
        wire.auth_refused_text(spec): Message.AUTH_REFUSED,
        wire.snapshot_text(spec, 7): Message.SNAPSHOT,
        wire.notice_text(spec, 7): Message.NOTICE,
        wire.push_text(spec, 7): Message.PUSH if push == "delta" else Message.SNAPSHOT,
        wire.hello_text(spec): Message.HELLO,
        wire.heartbeat_texts(spec)[0]: Message.PING_DOWN,
    }
    expected.pop("", None)
    assert {text: wire.kind_of(text) for text in expected} == expected
    with pytest.raises(ValueError, match="text: must be"):
        wire.kind_of("?")


# Sizes


@given(specs(), versions)
@settings(max_examples=60, deadline=None)
def test_every_size_is_the_length_of_its_text(spec: WireSpec, version: int) -> None:
    sizes, token = message_sizes(spec, "payload"), "t" * spec.token_bytes
    texts = {
        Message.UPGRADE_REQUEST: wire.upgrade_request(spec, KEY),
        Message.UPGRADE_RESPONSE: wire.upgrade_response(spec, "a" * 28, DATE),
        Message.UPGRADE_REFUSED: wire.upgrade_refused(spec, DATE),
        Message.UPGRADE_BAD_GATEWAY: wire.bad_gateway(spec, DATE, to_upgrade=True),
    }
    if spec.http_version == "1.1":
        body = wire.poll_response_head(spec, version, DATE) + wire.poll_body(spec, version)
        texts |= {
            Message.POLL_REQUEST: wire.poll_request(spec, token),
            Message.POLL_CONDITIONAL: wire.poll_request(spec, token, version),
            **({Message.POLL_RESPONSE: body} if spec.gzip_ratio == 1 else {}),
            Message.NOT_MODIFIED: wire.not_modified(spec, version, DATE),
            Message.POLL_REFUSED: wire.poll_refused(spec, DATE),
            Message.BAD_GATEWAY: wire.bad_gateway(spec, DATE),
        }
        for message in [m for m in Message if m.name.endswith("_FIRST")]:
            assert sizes[message].tolist() == sizes[message + 1].tolist()
    mask = b"mask"
    for message, text in {
        Message.HELLO: wire.hello_text(spec),
        Message.AUTH: wire.auth_text(spec, token),
        Message.READY: wire.ready_text(spec, version),
        Message.AUTH_REFUSED: wire.auth_refused_text(spec),
    }.items():
        up = mask if message is Message.AUTH else b""
        texts[message] = wire.websocket_frame(text.encode(), mask=up) if text else b""
    if spec.deflate_ratio == 1:
        for message, make in (
            (Message.PUSH, wire.push_text),
            (Message.SNAPSHOT, wire.snapshot_text),
            (Message.NOTICE, wire.notice_text),
        ):
            texts[message] = wire.websocket_frame(make(spec, version).encode())
    assert {m: int(sizes[m].sum()) for m in texts} == {m: len(text) for m, text in texts.items()}


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("push", ["delta", "snapshot"])
@pytest.mark.parametrize("delta_bytes", [93, 2**29])
def test_no_payload_is_made_to_be_counted(
    envelope: str, push: str, delta_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*_: object) -> str:
        raise AssertionError("a payload was made")

    for name in ("card", "board"):
        monkeypatch.setattr(payloads, name, made)
    spec = WireSpec(envelope=envelope, push=push, delta_bytes=delta_bytes, snapshot_bytes=2**30)
    sizes = message_sizes(spec, "payload")
    assert sizes[Message.SNAPSHOT].sum() > 2**30
    assert sizes[Message.POLL_RESPONSE].sum() > 2**30
    assert sizes[Message.PUSH].sum() > (2**30 if push == "snapshot" else delta_bytes)


@given(specs())
@settings(max_examples=60, deadline=None)
def test_payload_goes_one_way_and_layers_only_add(spec: WireSpec) -> None:
    payload = message_sizes(spec, "payload")
    assert payload.shape == (len(Message), 2)
    assert payload.min() >= 0
    for message in Message:
        assert payload[message, 1 if message in UP_ONLY else 0] == 0
    assert not payload[: Message.TLS_OPEN + 1].any()
    tls = message_sizes(spec._replace(tls=True), "tls")
    assert (tls >= payload).all()
    assert (message_sizes(spec._replace(tls=True), "ip") >= tls).all()
    assert (message_sizes(spec._replace(tls=False), "ip") >= payload).all()


def test_tls_adds_22_bytes_a_record() -> None:
    spec = WireSpec(tls=True, snapshot_bytes=40_000)
    added = message_sizes(spec, "tls") - message_sizes(spec, "payload")
    assert added[Message.PUSH].tolist() == [0, 22]
    assert added[Message.SNAPSHOT].tolist() == [0, 3 * 22]
    assert added[Message.TLS_OPEN].tolist() == [2035, 3354]


def test_ip_counts_segments_and_acknowledgements() -> None:
    sizes = message_sizes(WireSpec(), "ip")
    expected = {
        "TCP_OPEN": (60 + 52, 60),
        "TCP_CLOSE": (104, 104),
        "TLS_OPEN": (0, 0),
        "POLL_REQUEST": (851 + 52, 0),  # acknowledged by its response
        "POLL_RESPONSE": (2 * 52, 5429 + 4 * 52),  # four segments, every second one
        "PUSH": (52, 107 + 52),
        "PING_DOWN": (0, 6 + 52),
        "PONG_UP": (10 + 52, 52),
    }
    assert {name: tuple(sizes[Message[name]].tolist()) for name in expected} == expected
    sockjs = message_sizes(WireSpec(envelope="sockjs"), "ip")
    assert sockjs[Message.PING_DOWN].tolist() == [52, 3 + 52]  # nobody answers it


def test_http2_warm_exchanges_are_hpack_of_the_same_list_again() -> None:
    spec = WireSpec(http_version="2", token_bytes=201)
    sizes = message_sizes(spec, "payload")
    again = RECORD["chromium_http2"]["poll_token_again"]["frame_bytes"]
    assert sizes[Message.POLL_REQUEST, 0] == again
    assert sizes[Message.POLL_REQUEST_FIRST, 0] > 10 * again
    etag = message_sizes(spec._replace(etag=True), "payload")
    assert etag[Message.POLL_CONDITIONAL, 0] == again + 1  # one indexed field more
    big = message_sizes(spec._replace(snapshot_bytes=40_000), "payload")
    grown = big[Message.POLL_RESPONSE, 1] - sizes[Message.POLL_RESPONSE, 1]
    assert 40_000 - 5304 + 2 * 9 <= grown <= 40_000 - 5304 + 2 * 9 + 1


def test_deflate_ratio_scales_pushed_payloads_only() -> None:
    plain, small = (
        message_sizes(WireSpec(deflate_ratio=ratio), "payload") for ratio in (1.0, 0.16)
    )
    changed = {m.name for m in Message if (plain[m] != small[m]).any()}
    assert changed == {"UPGRADE_RESPONSE", "SNAPSHOT", "PUSH", "NOTICE"}
    assert small[Message.PUSH].tolist() == [0, 2 + 17]


def test_a_compressed_answer_is_as_long_as_one_of_nginx() -> None:
    """Measured with curl through nginx 1.22.1 (gzip on, gzip_vary on), before aiohttp."""
    body, head, connection_keep_alive = 445, 256, len("Connection: keep-alive\r\n")
    spec = WireSpec(etag=True, gzip_ratio=body / 5304, server="nginx/1.22.1")
    sent = message_sizes(spec, "payload")[Message.POLL_RESPONSE, 1]
    assert sent == head - connection_keep_alive + len("1bd\r\n") + body + len("\r\n0\r\n\r\n")
    assert b'ETag: W/"0000000007"' in wire.poll_response_head(spec, 7, DATE)
    assert b'If-None-Match: W/"0000000007"' in wire.poll_request(spec, "t" * spec.token_bytes, 7)


def test_gzip_ratio_scales_the_bodies_of_polls_only() -> None:
    for http in ("1.1", "2"):
        spec = WireSpec(http_version=http)
        plain, small = (
            message_sizes(spec._replace(gzip_ratio=ratio), "payload") for ratio in (1.0, 0.126)
        )
        changed = {m.name for m in Message if (plain[m] != small[m]).any()}
        assert changed == {"POLL_RESPONSE_FIRST", "POLL_RESPONSE"}
        saved = plain[Message.POLL_RESPONSE, 1] - small[Message.POLL_RESPONSE, 1]
        assert abs(saved - (5304 - 669)) < 100


# Versions and sizes of payloads


@given(specs(), versions, versions)
@settings(max_examples=60, deadline=None)
def test_version_of_inverts_and_lengths_do_not_depend_on_it(
    spec: WireSpec, one: int, other: int
) -> None:
    for make in (wire.ready_text, wire.snapshot_text, wire.push_text, wire.poll_body):
        assert wire.version_of(make(spec, one)) == one
        assert len(make(spec, one)) == len(make(spec, other))


@given(st.integers(93, 5000), st.integers(0, 20_000))
@settings(max_examples=100, deadline=None)
def test_payloads_are_json_of_exactly_the_asked_size(delta: int, more: int) -> None:
    spec = WireSpec(delta_bytes=delta, snapshot_bytes=delta + 37 + more)
    text, body = wire.push_text(spec, 7), wire.poll_body(spec, 7)
    assert (len(text), len(body)) == (delta, spec.snapshot_bytes)
    assert list(json.loads(text)) == ["id", "title", "status", "assignee", "version"]
    assert json.loads(body)["version"] == "0000000007"
    assert all(one["title"].startswith("Matter ") for one in json.loads(body)["matters"])


def test_sizes_too_small_say_the_least_size() -> None:
    with pytest.raises(ValueError, match=r"^delta_bytes: must be >= 93, got 92$"):
        message_sizes(WireSpec(delta_bytes=92), "payload")
    message_sizes(WireSpec(delta_bytes=93), "payload")
    with pytest.raises(ValueError, match=r"^snapshot_bytes: must be >= 142 .*, got 141$"):
        message_sizes(WireSpec(snapshot_bytes=141), "payload")
    message_sizes(WireSpec(snapshot_bytes=142), "payload")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("http_version", "3"),
        ("http_client", "curl"),
        ("websocket_client", "aiohttp"),
        ("envelope", "stomp"),
        ("push", "both"),
        ("gzip_ratio", 1.5),
        ("token_bytes", -1),
        ("deflate_ratio", 0.0),
        ("deflate_ratio", float("nan")),
        ("tls_up_bytes", 0),
    ],
)
def test_a_wrong_spec_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must"):
        message_sizes(WireSpec(**{field: value}), "payload")


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^http_client: must be chromium"):
        message_sizes(WireSpec(http_version="2", http_client="aiohttp"), "payload")
    with pytest.raises(ValueError, match=r"^http_version: must be 1.1"):
        wire.poll_request(WireSpec(http_version="2"), TOKEN)
    with pytest.raises(ValueError, match=r"^token_bytes: must be the token's 3"):
        wire.auth_text(WireSpec(), "abc")
    for version in (-1, 10**10):
        with pytest.raises(ValueError, match=r"^version: must be >= 0"):
            wire.ready_text(WireSpec(), version)
