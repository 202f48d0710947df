"""Hostile and broken inputs for the lab's server: each with the answer that it has to get.

``python -m tests.live.hostile`` starts a server, gives it all of them while honest clients go on,
kills 40 runs, and prints a table; it takes some minutes. `test_hostile.py` runs what is quick. A
stranger has an address of its own for each input (Linux gives loopback 16 million).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import multiprocessing
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import psutil
from websockets.asyncio.client import connect

import simlib as sl
from simlib.core import wire
from simlib.live.ipc import Child
from simlib.live.loopback import on_loopback
from simlib.live.messages import Command, Port, Ready, ServerReport, Settings, Start
from simlib.live.tokens import make_token
from simlib.scenario import compile_workload

SECRET = "s" * 32
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
SCENARIO = on_loopback(
    sl.Scenario(
        transport="websocket",
        clients=20,
        horizon_s=3000.0,
        updates={"rate_per_s": 20.0},
        polling={"interval_s": 0.5},
        websocket={"open_timeout_s": 2.0},
        heartbeat={"direction": "client"},
        server={"keep_alive_s": 3.0, "max_connections": 500},
    )
)
SPEC = SCENARIO.wire_spec()
LENGTH = SPEC.token_bytes
ADDRESSES = (f"127.0.{k // 250 + 1}.{k % 250 + 1}" for k in itertools.count())
OF_A_STRANGER = 19
STRANGERS = itertools.cycle(range(10, 20))
"""The clients whose tokens strangers have, where they have one; the others are honest."""


@contextlib.contextmanager
def served(scenario: sl.Scenario = SCENARIO, processor: int | None = None) -> Iterator[Served]:
    """A server whose run has begun."""
    with Child("simlib.live.app_server", processor) as server:
        settings = Settings(scenario=scenario, seed=1, replication=0, time_scale=1.0, secret=SECRET)
        server.send(settings)
        ready: Ready = server.receive(30.0)
        start_s = time.monotonic()
        server.send(Start(start_s))
        yield Served(server, ready.ports, start_s)


class Served(NamedTuple):
    process: Child
    ports: dict[Port, int]
    start_s: float


class Attack(NamedTuple):
    """One input: its group and name, what it does, and what the server answers."""

    group: str
    name: str
    run: Callable[[Served], str]
    answer: str


# -- sockets -------------------------------------------------------------------------------------


def dial(server: Served, port: Port, address: str | None = None) -> socket.socket:
    source = (address or next(ADDRESSES), 0)
    return socket.create_connection(("127.0.0.1", server.ports[port]), 20.0, source)


def read_to_end(
    raw: socket.socket, wait_s: float, enough: bytes | None = None
) -> tuple[bytes, bool]:
    """What comes until the end, or for some time; whether the end came."""
    data = b""
    end_s = time.monotonic() + wait_s
    while (left_s := end_s - time.monotonic()) > 0.0:
        raw.settimeout(left_s)
        try:
            piece = raw.recv(65536)
        except TimeoutError:
            break
        except OSError:
            return data, True
        if not piece:
            return data, True
        data += piece
        if enough is not None and enough in data:
            break
    return data, False


def http_answer(data: bytes, is_closed: bool) -> str:
    statuses = re.findall(rb"HTTP/1\.[01] (\d{3})", data)
    return b",".join(statuses).decode() or ("closed" if is_closed else "open")


def say(server: Served, port: Port, data: bytes, wait_s: float = 0.6, *, fin: bool = False) -> str:
    """Send bytes, and return the statuses of the answers."""
    with dial(server, port) as raw:
        with contextlib.suppress(OSError):
            raw.sendall(data)
            if fin:
                raw.shutdown(socket.SHUT_WR)
        return http_answer(*read_to_end(raw, wait_s))


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, masked: bool = True, rsv: int = 0
) -> bytes:
    """A frame as a client sends it."""
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    if len(data) < 126:
        head += bytes([(masked << 7) | len(data)])
    elif len(data) < 65536:
        head += struct.pack("!BH", (masked << 7) | 126, len(data))
    else:
        head += struct.pack("!BQ", (masked << 7) | 127, len(data))
    return head + (b"\0\0\0\0" if masked else b"") + data


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """The frames that a server has sent."""
    frames = []
    while len(data) >= 2:
        size, start = data[1] & 127, 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10]), 10
        frames.append((data[0] & 15, data[start : start + size]))
        data = data[start + size :]
    return frames


def upgrade(raw: socket.socket) -> None:
    raw.sendall(wire.upgrade_request(SPEC, KEY))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = raw.recv(1)
        if not piece:
            raise ConnectionError("closed before it was upgraded")
        head += piece
    assert head.startswith(b"HTTP/1.1 101"), head


def enter(raw: socket.socket, number: int | None = None) -> None:
    """Upgrade, and send a valid token."""
    number = next(STRANGERS) if number is None else number
    upgrade(raw)
    raw.sendall(frame(1, wire.auth_text(SPEC, make_token(SECRET, number, LENGTH)).encode()))


def frames_answer(data: bytes, is_closed: bool) -> str:
    """A close code; or else what kinds of frames came, and whether the end did."""
    kinds = frames_of(data)
    closes = [body for opcode, body in kinds if opcode == 8]
    words = []
    if any(b"refused" in body for _, body in kinds):
        words.append("refused")
    if any(b'"ready"' in body for _, body in kinds):
        words.append("ready")
    if any(opcode == 10 for opcode, _ in kinds):
        words.append("pong")
    if closes:
        words.append(str(int.from_bytes(closes[-1][:2])) if closes[-1] else "1005")
    elif is_closed:
        words.append("closed")
    return " ".join(words) or "open"


def push(server: Served, *pieces: bytes, wait_s: float = 1.5, inside: bool = False) -> str:
    """Upgrade, with a token if `inside`, send bytes, and return what the server says."""
    with dial(server, Port.PUSH) as raw:
        (enter if inside else upgrade)(raw)
        before, _ = read_to_end(raw, 5.0, b'"ready"') if inside else (b"", False)
        with contextlib.suppress(OSError):
            for piece in pieces:
                raw.sendall(piece)
        after, is_closed = read_to_end(raw, wait_s)
        return frames_answer(before + after, is_closed).removeprefix("ready ")


# -- tokens --------------------------------------------------------------------------------------


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(
    claims: object, *, secret: str = SECRET, header: dict | None = None, length: int = LENGTH
) -> str:
    """A token of the right length, signed, with claims or a header that are not the lab's."""
    fields = {"alg": "HS256", "typ": "JWT"} | (header or {})
    digest = {"HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(fields["alg"], hashlib.sha256)
    token = ""
    for padding in range(2 * length):
        body = claims
        if isinstance(claims, dict):
            body = claims | {"pad": "x" * padding}
        raw = claims if isinstance(claims, bytes) else json.dumps(body).encode()
        head = fields if isinstance(claims, dict) else fields | {"pad": "x" * padding}
        signed = f"{b64(json.dumps(head).encode())}.{b64(raw)}"
        signature = hmac.new(secret.encode(), signed.encode(), digest).digest()
        token = signed + "." + ("" if fields["alg"] == "none" else b64(signature))
        if len(token) >= length:
            break
    return token


def bad_tokens() -> dict[str, str]:
    """Tokens that no client of the scenario has."""
    good = make_token(SECRET, OF_A_STRANGER, LENGTH)
    later = int(time.time()) + 3600
    sub = f"client-{OF_A_STRANGER:09d}"
    ok = {"sub": sub, "exp": later}
    head, body, signature = good.split(".")
    tokens = {
        "empty": "",
        "too short": good[:-1],
        "too long": good + "A",
        "padded": good + "=",
        "another key": make_token("x" * 32, OF_A_STRANGER, LENGTH),
        "expired": make_token(SECRET, OF_A_STRANGER, LENGTH, valid_s=-10),
        "another signature": f"{head}.{body}.{signature[::-1]}",
        "another body": f"{head}.{body[:-4]}AAAA.{signature}",
        "another head": f"{head[:-4]}AAAA.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "four parts": f"{good[:-4]}.abc",
        "two parts": good.replace(".", "-", 1),
        "no dots": "a" * LENGTH,
        "only dots": "." * LENGTH,
        "letters and dots": ("a" * 66 + ".") * 3,
        "spaces": " " * LENGTH,
        "not ASCII": "é" * LENGTH,
        "letters, 8 kB": "a" * 8000,
        "parts, 8 kB": ("a" * 99 + ".") * 80,
        "alg none": forge(ok, header={"alg": "none"}),
        "alg None": forge(ok, header={"alg": "None"}),
        "alg HS384": forge(ok, header={"alg": "HS384"}),
        "alg HS512": forge(ok, header={"alg": "HS512"}),
        "alg RS256": forge(ok, header={"alg": "RS256"}),
        "a key id that is no text": forge(ok, header={"kid": 7}),
        "its own key": forge(ok, header={"jwk": {"kty": "oct"}}),
        "unencoded": forge(ok, header={"b64": False, "crit": ["b64"]}),
        "a stranger: admin": forge({"sub": "admin", "exp": later}),
        "a stranger: beyond the fleet": forge({"sub": "client-000000020", "exp": later}),
        "a stranger: far beyond": forge({"sub": "client-999999999", "exp": later}),
        "a stranger: negative": forge({"sub": "client--00000001", "exp": later}),
        "a stranger: signed": forge({"sub": "client-+00000019", "exp": later}),
        "a stranger: short": forge({"sub": "client-19", "exp": later}),
        "a stranger: two lines": forge({"sub": f"{sub}\n", "exp": later}),
        "a stranger: Arabic digits": forge({"sub": "client-٠٠٠٠٠٠٠١٩", "exp": later}),
        "a stranger: a number": forge({"sub": OF_A_STRANGER, "exp": later}),
        "a stranger: a list": forge({"sub": [sub], "exp": later}),
        "a stranger: null": forge({"sub": None, "exp": later}),
        "no subject": forge({"exp": later}),
        "no expiry": forge({"sub": sub}),
        "expiry: text": forge({"sub": sub, "exp": "soon"}),
        "expiry: infinite": forge(f'{{"sub":"{sub}","exp":1e999}}'.encode()),
        "expiry: not a number": forge(f'{{"sub":"{sub}","exp":NaN}}'.encode()),
        "expiry: a list": forge({"sub": sub, "exp": [later]}),
        "expiry: null": forge({"sub": sub, "exp": None}),
        "not before tomorrow": forge(ok | {"nbf": later + 86_400}),
        "issued tomorrow": forge(ok | {"iat": later + 86_400}),
        "an audience": forge(ok | {"aud": "x"}),
        "claims: a list": forge([sub]),
        "claims: a number": forge(b"7"),
        "claims: no JSON": forge(b"{"),
        "claims: no UTF-8": forge(b"\xff\xfe"),
    }
    assert all(len(token) < 65_536 for token in tokens.values())
    return tokens


def poll_with(*fields: str, connection: str = "close") -> bytes:
    line, host = f"GET {SPEC.poll_path} HTTP/1.1", f"Host: {SPEC.host}"
    head = [line, host, f"Connection: {connection}", *fields]
    return "\r\n".join([*head, "", ""]).encode()


def token_attacks() -> Iterator[Attack]:
    good = make_token(SECRET, OF_A_STRANGER, LENGTH)

    def poll(name: str, value: str | None, answer: str = "401") -> Attack:
        fields = [] if value is None else [f"Authorization: {value}"]
        data = poll_with(*fields)
        return Attack("tokens", f"poll: {name}", lambda at: say(at, Port.POLL, data), answer)

    def first(name: str, *frames: bytes, answer: str = "refused 1000") -> Attack:
        return Attack("tokens", f"push: {name}", lambda at: push(at, *frames), answer)

    yield poll("good", f"Bearer {good}", "200")
    yield poll("none", None)
    for scheme in (
        "",
        "Basic ",
        "bearer ",
        "Bearer",
        "Bearer  ",
        "Bearer\t",
        "aaa, bbb ",
        "Digest ",
    ):
        yield poll(f"scheme {scheme!r}", scheme + good)
    yield poll("more behind", f"Bearer {good} ccc")
    twice = poll_with(*[f"Authorization: Bearer {good}"] * 2)
    yield Attack("tokens", "poll: two fields", lambda at: say(at, Port.POLL, twice), "401")
    for name, token in bad_tokens().items():
        yield poll(name, f"Bearer {token}", "400" if len(token) > 4400 else "401")
    text = wire.auth_text(SPEC, good)
    yield first("good", frame(1, text.encode()), answer="ready")
    halves = frame(1, text[:90].encode(), fin=False), frame(0, text[90:].encode())
    yield first("good, in two fragments", *halves, answer="ready")
    for name, message in {
        "bare": good,
        "scheme": f"Bearer {good}",
        "nothing": "",
        "null": "null",
        "a list": f'["{good}"]',
        "a space more": text.replace(":", ": ", 1),
        "a key more": text[:-1] + ',"seen":"0000000007"}',
        "twice": text + text,
        "another type": text.replace('"auth"', '"auti"'),
        "letters, 16 kB": "a" * 16_384,
        "deep": "[" * 16_000,
    }.items():
        yield first(name, frame(1, message.encode()))
    yield first("binary", frame(2, text.encode()))
    yield first("too long a message", frame(1, b"a" * 16_385), answer="1009")
    yield first("no UTF-8", frame(1, b"\xff" * 250), answer="1007")
    for name, token in bad_tokens().items():
        try:
            message = wire.auth_text(SPEC._replace(token_bytes=len(token)), token)
        except Exception:
            message = f'{{"type":"auth","token":"{token}"}}'
        yield first(name, frame(1, message.encode()))


# -- origins and heads ---------------------------------------------------------------------------

OWN = f"https://{SPEC.host}"
ORIGINS = {
    "own": (OWN, "101"),
    "none": (None, "101"),
    "foreign": ("https://evil.example.net", "403"),
    "null": ("null", "403"),
    "plain": (OWN.replace("https", "http"), "403"),
    "a port": (OWN + ":8443", "403"),
    "own at the start": (OWN + ".evil.example.net", "403"),
    "own at the end": (f"https://evil.example.net/{SPEC.host}", "403"),
    "a user": (f"https://{SPEC.host}@evil.example.net", "403"),
    "a subdomain": (f"https://x.{SPEC.host}", "403"),
    "a slash": (OWN + "/", "403"),
    "capitals": (OWN.upper(), "403"),
    "two in one": (f"{OWN} https://evil.example.net", "403"),
    "empty": ("", "403"),
}


def upgrade_head(
    path: str = SPEC.websocket_path,
    *,
    without: str = "",
    extra: tuple[str, ...] = (),
    **changes: str,
) -> bytes:
    """A request to upgrade, with other values, fields more, or one less."""
    fields = {
        "Host": SPEC.host,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    fields.pop(without, None)
    line = changes.pop("line", f"GET {path} HTTP/1.1")
    fields |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items()), *extra]
    return "\r\n".join([*lines, "", ""]).encode()


def origin_attacks() -> Iterator[Attack]:
    for name, (origin, answer) in ORIGINS.items():
        data = upgrade_head(extra=() if origin is None else (f"Origin: {origin}",))
        yield Attack("origins", name, lambda at, data=data: say(at, Port.PUSH, data, 0.3), answer)
    twice = upgrade_head(extra=(f"Origin: {OWN}",) * 2)
    yield Attack("origins", "two fields", lambda at: say(at, Port.PUSH, twice), "400")


def head_attacks() -> Iterator[Attack]:
    def at_push(name: str, data: bytes, answer: str, wait_s: float = 0.6) -> Attack:
        return Attack("heads", f"push: {name}", lambda at: say(at, Port.PUSH, data, wait_s), answer)

    def at_poll(name: str, data: bytes, answer: str, wait_s: float = 0.6) -> Attack:
        return Attack("heads", f"poll: {name}", lambda at: say(at, Port.POLL, data, wait_s), answer)

    paths = ("/no/such/socket", "/", "/../../etc/passwd", SPEC.websocket_path + "/", "*")
    for path in (
        *paths,
        SPEC.websocket_path + "?token=x",
        f"http://{SPEC.host}{SPEC.websocket_path}",
    ):
        yield at_push(f"path {path}", upgrade_head(path), "404")
    host = f"Host: {SPEC.host}"
    yield at_push("two hosts", upgrade_head(extra=(host,)), "400")
    yield at_push("another host too", upgrade_head(extra=("Host: evil.example.net",)), "400")
    yield at_push("no host", upgrade_head(without="Host"), "400")
    yield at_push("no key", upgrade_head(without="Sec-WebSocket-Key"), "400")
    yield at_push("a short key", upgrade_head(Sec_WebSocket_Key="YWJj"), "400")
    yield at_push("a key that is none", upgrade_head(Sec_WebSocket_Key="!" * 24), "400")
    yield at_push("two keys", upgrade_head(extra=(f"Sec-WebSocket-Key: {KEY}",)), "400")
    yield at_push("version 8", upgrade_head(Sec_WebSocket_Version="8"), "400")
    yield at_push("no version", upgrade_head(without="Sec-WebSocket-Version"), "400")
    yield at_push("no upgrade", upgrade_head(without="Upgrade"), "426")
    yield at_push("upgrade to h2c", upgrade_head(Upgrade="h2c"), "426")
    yield at_push("connection: close", upgrade_head(Connection="close"), "426")
    yield at_push("HTTP/1.0", upgrade_head(line=f"GET {SPEC.websocket_path} HTTP/1.0"), "505")
    yield at_push("POST", upgrade_head(line=f"POST {SPEC.websocket_path} HTTP/1.1"), "405")
    yield at_push("no HTTP", b"hello\r\n\r\n", "closed", 2.5)
    yield at_push("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\n" * 9, "closed", 2.5)
    yield at_push("a space before a colon", upgrade_head(extra=("X-A : 1",)), "closed", 2.5)
    yield at_push("a folded line", upgrade_head(extra=("X-A: 1", " 2")), "closed", 2.5)
    yield at_push("NUL", upgrade_head(extra=("X-A: \0",)), "closed", 2.5)
    yield at_push(
        "a body in chunks", upgrade_head(extra=("Transfer-Encoding: chunked",)), "closed", 2.5
    )
    yield at_push("a long line", upgrade_head("/" + "a" * 9000), "414")
    yield at_push("a long field", upgrade_head(extra=("X-A: " + "a" * 9000,)), "431")
    yield at_push("many fields", upgrade_head(extra=("X-A: 1",) * 200), "431")
    yield at_push("a long head", upgrade_head(extra=("X-A: " + "a" * 4000,) * 20), "431")
    token = f"Authorization: Bearer {make_token(SECRET, OF_A_STRANGER, LENGTH)}"
    good = poll_with(token)

    def changed(old: str, new: str) -> bytes:
        assert old.encode() in good
        return good.replace(old.encode(), new.encode(), 1)

    for path in ("/", "/no/such/path", "/../../etc/passwd", SPEC.poll_path + "/", "/api%2Fmatters"):
        yield at_poll(f"path {path}", changed(SPEC.poll_path, path), "404")
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        yield at_poll(method, changed("GET", method), "405")
    yield at_poll("BREW", changed("GET", "BREW"), "400")
    yield at_poll("two hosts", changed(host, f"{host}\r\n{host}"), "400")
    yield at_poll("no host", changed(f"{host}\r\n", ""), "400")
    yield at_poll("no HTTP", b"hello\r\n\r\n", "400")
    yield at_poll("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400")
    yield at_poll("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\n" * 9, "400")
    yield at_poll("HTTP/3.7", changed("HTTP/1.1", "HTTP/3.7"), "400")
    yield at_poll("a space before a colon", changed("Connection:", "Connection :"), "400")
    yield at_poll("a folded line", changed("Connection: close", "X: 1\r\n 2"), "400")
    yield at_poll("NUL", changed("close", "close\0"), "400")
    yield at_poll(
        "two lengths", changed(host, f"{host}\r\nContent-Length: 1\r\nContent-Length: 2"), "400"
    )
    yield at_poll("a negative length", changed(host, f"{host}\r\nContent-Length: -1"), "400")
    both = f"{host}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked"
    yield at_poll("length and chunks", changed(host, both), "400")
    yield at_poll(
        "chunks that are none", changed(host, f"{host}\r\nTransfer-Encoding: chunky"), "400"
    )
    yield at_poll("a long line", changed(SPEC.poll_path, "/" + "a" * 9000), "400")
    yield at_poll("a long field", changed("close", "a" * 9000), "400")
    yield at_poll("many fields", changed("close", "close" + "\r\nX-A: 1" * 200), "400")
    yield at_poll(
        "an upgrade",
        changed("Connection: close", "Connection: Upgrade\r\nUpgrade: websocket"),
        "200",
    )


# -- frames --------------------------------------------------------------------------------------


def frame_attacks() -> Iterator[Attack]:
    def inside(name: str, *pieces: bytes, answer: str) -> Attack:
        return Attack("frames", name, lambda at: push(at, *pieces, inside=True), answer)

    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield inside(f"opcode {opcode}", frame(opcode), answer="1002")
    for rsv in (1, 2, 4, 7):
        yield inside(f"reserved bits {rsv}", frame(1, b"x", rsv=rsv), answer="1002")
    yield inside("not masked", frame(1, b"x", masked=False), answer="1002")
    yield inside("a ping in fragments", frame(9, b"x", fin=False), answer="1002")
    yield inside("a long ping", frame(9, b"x" * 126), answer="1002")
    yield inside("a long close", frame(8, b"\x03\xe8" + b"x" * 124), answer="1002")
    yield inside("a continuation of nothing", frame(0, b"x"), answer="1002")
    yield inside("a second message within one", frame(1, b"x", fin=False) + frame(1), answer="1002")
    yield inside("a close within a message", frame(1, b"x", fin=False) + frame(8), answer="1002")
    for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535):
        yield inside(f"close code {code}", frame(8, struct.pack("!H", code)), answer="1002")
    yield inside("a close of one byte", frame(8, b"\x03"), answer="1002")
    yield inside("a close that is no UTF-8", frame(8, b"\x03\xe8\xff"), answer="1007")
    yield inside("a good close", frame(8, b"\x03\xe8"), answer="1000")
    yield inside("an empty close", frame(8), answer="1005")
    yield inside("text", frame(1, b"hello"), answer="1008")
    yield inside("binary", frame(2, b"hello"), answer="1008")
    yield inside("no UTF-8", frame(1, b"\xff"), answer="1007")
    yield inside("an empty text", frame(1), answer="1008")
    yield inside(
        "the token again", frame(1, wire.auth_text(SPEC, "a" * LENGTH).encode()), answer="1008"
    )
    yield inside("20 kB", frame(1, b"x" * 20_000), answer="1009")
    yield inside(
        "20 kB in fragments",
        *[frame(1, b"x" * 999, fin=False)] + [frame(0, b"x" * 999, fin=False)] * 20,
        answer="1009",
    )
    yield inside("a length of 2**63", b"\x81\xff" + b"\x80" + b"\0" * 7, answer="1009")
    yield inside("a length of 2**62", b"\x81\xff" + b"\x40" + b"\0" * 7, answer="1009")
    yield inside("a ping", frame(9, b"hi"), answer="pong")
    yield inside("a pong that nobody asked for", frame(10, b"hi"), answer="ready")
    yield inside("a pong, and bytes at random", frame(10), bytes(range(3, 256)), answer="1002")
    yield inside("200 pings", frame(9) * 200, answer="pong 1008")
    yield inside("200 pongs", frame(10) * 200, answer="1008")
    yield inside(
        "200 empty fragments", frame(1, fin=False) + frame(0, fin=False) * 200, answer="1008"
    )
    yield Attack(
        "frames", "pings before the token", lambda at: push(at, frame(9) * 9, wait_s=0.5), "pong"
    )
    yield Attack("frames", "a close before the token", lambda at: push(at, frame(8)), "1005")
    yield Attack("frames", "garbage before the token", lambda at: push(at, b"\xff" * 99), "1002")


# -- slow, silent and half-open peers ------------------------------------------------------------


def time_attacks() -> Iterator[Attack]:
    def idle(name: str, port: Port, data: bytes, wait_s: float, *, fin: bool = False) -> Attack:
        return Attack("time", name, lambda at: say(at, port, data, wait_s, fin=fin), "closed")

    def drip(at: Served, port: Port, data: bytes, wait_s: float) -> str:
        end_s = time.monotonic() + wait_s
        with dial(at, port) as raw:
            letters = itertools.cycle(data)
            while time.monotonic() < end_s:
                try:
                    raw.sendall(bytes([next(letters)]))
                except OSError:
                    return "closed"
                got, is_closed = read_to_end(raw, 0.25)
                if is_closed:
                    return http_answer(got, is_closed)
            return "open"

    def half_open(at: Served) -> str:
        """A broken frame, and then the peer neither reads nor closes."""
        with dial(at, Port.PUSH) as raw:
            enter(raw)
            read_to_end(raw, 1.0, b'"ready"')
            raw.sendall(frame(3))
            time.sleep(2.5)
            try:
                raw.sendall(frame(9))
                time.sleep(0.2)
                raw.sendall(frame(9))
            except OSError:
                return "closed"
            return "open"

    half = upgrade_head()[:60]
    yield idle("poll: silent", Port.POLL, b"", 5.0)
    yield idle("poll: half a head", Port.POLL, poll_with()[:40], 5.0)
    yield idle("poll: half a head and an end", Port.POLL, poll_with()[:40], 5.0, fin=True)
    yield idle("push: silent", Port.PUSH, b"", 14.0)
    yield idle("push: half a head", Port.PUSH, half, 14.0)
    yield idle("push: half a head and an end", Port.PUSH, half, 14.0, fin=True)
    line = b"GET / HTTP/1.1\r\nX-A: "
    yield Attack(
        "time",
        "push: a slow head",
        lambda at: drip(at, Port.PUSH, line + b"a" * 999, 14.0),
        "closed",
    )
    yield Attack(
        "time",
        "poll: a slow head",
        lambda at: drip(at, Port.POLL, line + b"a" * 999, 8.0),
        "closed",
    )
    yield Attack("time", "push: no token", lambda at: push(at, frame(10), wait_s=4.5), "1000")
    yield Attack(
        "time",
        "push: half a token",
        lambda at: push(at, frame(1, b"x" * 99)[:50], wait_s=4.5),
        "1000",
    )
    yield Attack("time", "push: half open after a broken frame", half_open, "closed")
    body = poll_with("Content-Length: 1000000")
    yield Attack(
        "time", "poll: a body that never comes", lambda at: say(at, Port.POLL, body, 14.0), "401"
    )


# -- rates and caps ------------------------------------------------------------------------------


def statuses(server: Served, n: int, value: str, address: str) -> list[str]:
    """The answers to so many polls, one after the other, on as few connections as it takes."""
    answers: list[str] = []
    request = poll_with(f"Authorization: {value}", connection="keep-alive")
    while len(answers) < n:
        with dial(server, Port.POLL, address) as raw:
            raw.settimeout(5.0)
            while len(answers) < n:
                try:
                    raw.sendall(request)
                    head = raw.recv(65536)
                except OSError:
                    head = b""
                if not head:
                    answers.append("closed")
                    break
                answers.append(head[9:12].decode())
                size = int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]
                got = len(head) - head.index(b"\r\n\r\n") - 4
                while got < size:
                    got += len(raw.recv(65536))
                if b"429" in head[:12]:
                    assert b"Retry-After: " in head
                    break
    return answers


def in_order(answers: list[str]) -> str:
    """The different answers, as they first came."""
    return " ".join(dict.fromkeys(answers))


def rate_attacks() -> Iterator[Attack]:
    good = make_token(SECRET, 18, LENGTH)
    bad = make_token("x" * 32, 18, LENGTH)

    def polls(name: str, n: int, value: str, answer: str) -> Attack:
        def run(at: Served) -> str:
            answers = statuses(at, n, value, next(ADDRESSES))
            return in_order([one for one in answers if one != "closed"])

        return Attack("rates", name, run, answer)

    def wrong_tokens(at: Served) -> str:
        address = next(ADDRESSES)
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(dial(at, Port.PUSH, address)) for _ in range(60)]
            for raw in sockets:
                upgrade(raw)
                raw.sendall(frame(1, wire.auth_text(SPEC, bad).encode()))
            return in_order([frames_answer(*read_to_end(raw, 2.0)) for raw in sockets])

    def many_sockets(at: Served) -> str:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(dial(at, Port.PUSH)) for _ in range(12)]
            for raw in sockets:
                enter(raw, 17)
            return in_order([frames_answer(*read_to_end(raw, 0.3)) for raw in sockets])

    def many_connections(at: Served) -> str:
        address = next(ADDRESSES)
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(dial(at, Port.POLL, address)) for _ in range(400)]
            return in_order([http_answer(*read_to_end(raw, 0.02)) for raw in sockets])

    def many_users(at: Served) -> str:
        """One address tries the same path again and again with no token at all."""
        data = upgrade_head("/no")
        address, answers = next(ADDRESSES), []
        for _ in range(40):
            with dial(at, Port.PUSH, address) as raw:
                raw.sendall(data)
                answers.append(http_answer(*read_to_end(raw, 2.0)))
        return in_order(answers)

    yield polls("polls with one token", 400, f"Bearer {good}", "200 429")
    yield polls("polls with a wrong token", 400, f"Bearer {bad}", "401 429")
    yield polls("polls without a token", 400, "", "401 429")
    yield Attack("rates", "wrong tokens to push", wrong_tokens, "refused 1000 1008")
    yield Attack("rates", "sockets with one token", many_sockets, "ready 1008")
    yield Attack("rates", "connections of one address", many_connections, "open closed")
    yield Attack("rates", "upgrades elsewhere", many_users, "404 429")


# -- floods, while honest clients go on ----------------------------------------------------------

FLOOD_S = 6.0
"""How long the honest are measured; a flood begins before, and ends after."""
_SETTLE_S = 0.5


class Flood:
    """What a stranger with one address does as fast as it can.

    It runs in a process of its own that gives way to the honest clients, which share its processor:
    the question is what the flood does to the server, not what it does to them.
    """

    def __init__(self, ports: dict[Port, int], address: str) -> None:
        self.at = Served(None, ports, 0.0)  # type: ignore[arg-type]
        self.address = address
        self.end_s = time.monotonic() + FLOOD_S + 2.0 * _SETTLE_S
        self.count = 0

    def dial(self, port: Port) -> socket.socket:
        return dial(self.at, port, self.address)

    def poll(self, secret: str) -> bytes:
        token = make_token(secret, OF_A_STRANGER, LENGTH)
        return poll_with(f"Authorization: Bearer {token}", connection="keep-alive")

    def again(self) -> bool:
        self.count += 1
        return time.monotonic() < self.end_s

    def connects(self, port: Port = Port.PUSH) -> None:
        """Connections that are closed at once."""
        while self.again():
            self.dial(port).close()

    def poll_connects(self) -> None:
        self.connects(Port.POLL)

    def burst_of_connects(self) -> None:
        """2,000 connections at once, each held."""
        with contextlib.ExitStack() as stack:
            while self.again() and self.count < 2000:
                stack.enter_context(self.dial(Port.PUSH))
            time.sleep(max(0.0, self.end_s - time.monotonic()))

    def send_again(
        self, port: Port, data: bytes, before: bytes = b"", *, reads: bool = True
    ) -> None:
        """The same bytes over and over; another connection when one is closed."""
        while self.again():
            with contextlib.suppress(OSError), self.dial(port) as raw:
                if before:
                    enter(raw)
                raw.settimeout(0.2)
                while self.again():
                    raw.sendall(data)
                    if reads and not raw.recv(1 << 20):
                        break

    def polls(self) -> None:
        self.send_again(Port.POLL, self.poll(SECRET))

    def wrong_polls(self) -> None:
        self.send_again(Port.POLL, self.poll("x" * 32))

    def pipelined_polls(self) -> None:
        """Polls that are never read."""
        self.send_again(Port.POLL, self.poll(SECRET) * 100, reads=False)

    def bad_heads(self) -> None:
        self.send_again(Port.POLL, b"hello\r\n\r\n")

    def long_fields(self) -> None:
        self.send_again(Port.POLL, poll_with("Authorization: Bearer " + "a" * 4000))

    def wrong_tokens(self) -> None:
        data = frame(1, wire.auth_text(SPEC, make_token("x" * 32, 0, LENGTH)).encode())
        self.send_again(Port.PUSH, wire.upgrade_request(SPEC, KEY) + data)

    def letters(self) -> None:
        """16 kB of letters as a token."""
        self.send_again(Port.PUSH, wire.upgrade_request(SPEC, KEY) + frame(1, b"a" * 16_384))

    def sockets(self) -> None:
        """Sockets with one user's token, each held."""
        with contextlib.ExitStack() as stack:
            while self.again():
                with contextlib.suppress(OSError):
                    raw = stack.enter_context(self.dial(Port.PUSH))
                    raw.settimeout(0.2)
                    enter(raw, OF_A_STRANGER)

    def pings(self) -> None:
        self.send_again(Port.PUSH, frame(9, b"x" * 4) * 1000, b"token")

    def pongs(self) -> None:
        self.send_again(Port.PUSH, frame(10, b"x" * 4) * 1000, b"token")

    def unread_pings(self) -> None:
        """Long pings, and their pongs are never read."""
        self.send_again(Port.PUSH, frame(9, b"x" * 125) * 1000, b"token", reads=False)

    def fragments(self) -> None:
        upgraded = wire.upgrade_request(SPEC, KEY)
        self.send_again(Port.PUSH, upgraded + frame(1, fin=False) + frame(0, fin=False) * 2000)

    def half_heads(self) -> None:
        """Heads that never end, each held."""
        data = upgrade_head()[:-2] + (b"X-A: " + b"a" * 4000 + b"\r\n") * 3
        with contextlib.ExitStack() as stack:
            while self.again():
                with contextlib.suppress(OSError):
                    stack.enter_context(self.dial(Port.PUSH)).sendall(data)
                time.sleep(0.001)


FLOODS = [
    name
    for name, what in vars(Flood).items()
    if callable(what) and name not in ("__init__", "dial", "poll", "again", "send_again")
]


def flood(name: str, ports: dict[Port, int], address: str) -> int:
    """Carry out a flood in this process, and return how often it tried."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(19 - os.nice(0))
    one = Flood(ports, address)
    getattr(one, name)()
    return one.count


async def honest_latencies(server: Served, length_s: float) -> tuple[list[float], list[float]]:
    """The latencies of ten pollers and ten sockets of the scenario, seconds."""
    published_s = compile_workload(SCENARIO, 1, 0).publish_s + server.start_s
    polls_s: list[float] = []
    pushes_s: list[float] = []
    begin_s = time.monotonic() + _SETTLE_S  # opening connections keeps the honest busy themselves
    end_s = begin_s + length_s

    async def poller(number: int) -> None:
        token = make_token(SECRET, number, LENGTH)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[Port.POLL])
        await asyncio.sleep(0.02 * number)
        while (sent_s := time.monotonic()) < end_s:
            writer.write(wire.poll_request(SPEC, token, None))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(SPEC.snapshot_bytes)
            if sent_s > begin_s:
                polls_s.append(time.monotonic() - sent_s)
            await asyncio.sleep(0.2)
        writer.close()

    async def subscriber(number: int) -> None:
        token = make_token(SECRET, number, LENGTH)
        url = f"ws://127.0.0.1:{server.ports[Port.PUSH]}{SPEC.websocket_path}"
        async with connect(url, ping_interval=None, compression=None) as connection:
            await connection.send(wire.auth_text(SPEC, token))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(end_s):
                    while True:
                        text = str(await connection.recv())
                        if wire.kind_of(text) == wire.Message.PUSH:
                            version = wire.version_of(text)
                            if published_s[version - 1] > begin_s:
                                pushes_s.append(time.monotonic() - published_s[version - 1])

    await asyncio.gather(*map(poller, range(10)), *map(subscriber, range(10)))
    return polls_s, pushes_s


def p99_ms(seconds: list[float]) -> float:
    return float(np.quantile(seconds, 0.99)) * 1e3


def honest(server: Served, length_s: float = FLOOD_S) -> tuple[float, float]:
    """The honest p99 of polls and of pushes, milliseconds."""
    polls_s, pushes_s = asyncio.run(honest_latencies(server, length_s))
    assert len(polls_s) > 15 * length_s
    assert len(pushes_s) > 100 * length_s
    return p99_ms(polls_s), p99_ms(pushes_s)


def flood_all(names: list[str]) -> None:
    """Carry out the floods, and print what they did to the honest clients and to the server."""
    ours = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {ours[-1]})
    with contextlib.suppress(PermissionError):  # other programs shall not be measured
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    context = multiprocessing.get_context("spawn")
    with served(processor=ours[0]) as server, ProcessPoolExecutor(1, context) as pool:
        process = psutil.Process(server.process.pid)
        pool.submit(int).result()
        honest(server, 2.0)
        for name in names:
            before_mb = process.memory_info().rss / 1e6
            quiet = honest(server)
            doing = pool.submit(flood, name, server.ports, next(ADDRESSES))
            before_s = sum(process.cpu_times()[:2])
            under = honest(server)
            used_s = sum(process.cpu_times()[:2]) - before_s
            count = doing.result()
            ratios = [now / before for now, before in zip(under, quiet, strict=True)]
            print(
                f"{name:18} {count:7} tries, {used_s / FLOOD_S:4.2f} cores; p99 of polls"
                f" {quiet[0]:5.1f} -> {under[0]:5.1f}, of pushes {quiet[1]:5.1f} -> {under[1]:5.1f}"
                f" ms; memory {before_mb:5.1f} -> {process.memory_info().rss / 1e6:5.1f} MB"
                f" {'held' if max(ratios) <= 2.0 else 'FAILED'}",
                flush=True,
            )
        time.sleep(3.0)
        print(f"after all: {process.num_fds()} files, {process.memory_info().rss / 1e6:.1f} MB")
        print("refused:", stop(server))


def stop(server: Served) -> dict[str, int]:
    """End the server as the lab does, and return how often its limits were met."""
    server.process.send(Command.STOP)
    while not isinstance(message := server.process.receive(10.0), ServerReport):
        pass
    return message.refused


# -- kills ---------------------------------------------------------------------------------------

RESTART = {"kind": "restart", "start_s": 300.0, "length_s": 4.0}
LATENCY = {"kind": "latency", "start_s": 1.0, "length_s": 400.0, "added_s": 0.05}
RUNS = {
    "plain": ({}, ("app_server", "clients")),
    "with a standby": ({"faults": [RESTART]}, ("app_server", "standby", "clients")),
    "with a standby and a proxy": (
        {"faults": [RESTART, LATENCY]},
        ("app_server", "standby", "clients", "proxy"),
    ),
    # Here the second server is no standby, but the other node.
    "with two nodes": ({"server.nodes": 2}, ("app_server", "standby", "clients", "proxy")),
}
SIGNALS = {
    "SIGINT": [signal.SIGINT],
    "SIGINT twice": [signal.SIGINT] * 2,
    "SIGTERM": [signal.SIGTERM],
    "SIGKILL": [signal.SIGKILL],
}
GONE_S = 3.0
"""Within which time all processes of a run have to be gone when the parent gets a signal."""
NOTICED_S = 15.0
"""The same when a child is killed: the parent may be waiting for another one to load."""
_MEASURE = """
import json, signal, sys
import simlib as sl
signal.signal(signal.SIGINT, signal.default_int_handler)
changes = json.loads(sys.argv[1])
board = sl.Scenario(transport="websocket", clients=20, horizon_s=600.0, updates={"rate_per_s": 5.0})
sl.measure(board.replace(changes), progress=False)
"""


class Kill(NamedTuple):
    """A run, who of it gets which signals, and how long after its processes are there."""

    run: str
    who: str
    signals: str
    after_s: float


KILLS = [
    Kill(run, who, signals, after_s)
    for run, (_, children) in RUNS.items()
    for after_s in (0.1, 4.0)
    for who, signals in [
        *(("parent", signals) for signals in SIGNALS),
        *((child, "SIGKILL") for child in children),
    ]
]


def of_session(sid: int) -> list[psutil.Process]:
    """The processes of a session, but for those that only wait to be buried."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == sid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def gone_after_s(kill: Kill) -> float:
    """Start a run, send the signals, and return how long it takes until no process is left."""
    changes, names = RUNS[kill.run]
    command = [sys.executable, "-c", _MEASURE, json.dumps(changes)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as parent:
        children: list[psutil.Process] = []
        while len(children) < len(names):
            assert parent.poll() is None, "the run has ended before it was killed"
            time.sleep(0.02)
            children = psutil.Process(parent.pid).children()
        time.sleep(kill.after_s)
        roles = {"parent": parent.pid}
        for child in sorted(children, key=lambda child: child.pid):
            role = child.cmdline()[-1].rpartition(".")[2]
            roles["standby" if role in roles else role] = child.pid
        start_s = time.monotonic()
        for number in SIGNALS[kill.signals]:
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGINT:
                    os.killpg(parent.pid, number)  # as Ctrl-C does
                else:
                    os.kill(roles[kill.who], number)
            time.sleep(0.05)
        while left := of_session(parent.pid):
            if time.monotonic() > start_s + 20.0:
                for process in left:
                    process.kill()
                return float("inf")
            parent.poll()
            time.sleep(0.02)
        return time.monotonic() - start_s


def most_s(kill: Kill) -> float:
    return GONE_S if kill.who == "parent" else NOTICED_S


def kill_all(kills: list[Kill]) -> None:
    """Carry out the kills, and print how long it took until nothing was left."""
    held = 0
    with ThreadPoolExecutor(3) as pool:
        for kill, took_s in zip(kills, pool.map(gone_after_s, kills), strict=True):
            held += took_s <= most_s(kill)
            print(
                f"{kill.run:27} {kill.who:11} {kill.signals:13} {kill.after_s:3} s {took_s:6.2f} s"
            )
    print(f"kills: {len(kills)} tried, {held} gone in time")


# -- all of it -----------------------------------------------------------------------------------

GROUPS = (token_attacks, origin_attacks, head_attacks, frame_attacks, time_attacks, rate_attacks)


def failures(server: Served, attacks: list[Attack]) -> list[str]:
    """Carry out attacks beside each other, and return those that got another answer."""

    def answer(attack: Attack) -> str:
        try:
            return attack.run(server)
        except (OSError, AssertionError) as error:
            return repr(error)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(answer, attacks))
    return [
        f"{attack.group}, {attack.name}: wanted {attack.answer!r}, got {got!r}"
        for attack, got in zip(attacks, answers, strict=True)
        if got != attack.answer
    ]


def attack_all() -> None:
    """Carry out all single attacks, and print a row for each group."""
    for group in GROUPS:
        with served() as server:
            attacks = list(group())
            failed = failures(server, attacks)
            print(
                f"{attacks[0].group:8} {len(attacks):4} tried {len(attacks) - len(failed):4} held"
            )
            for line in failed:
                print("   ", line)
            stop(server)  # which says that it has served to the end


if __name__ == "__main__":
    if sys.argv[1:]:
        flood_all(sys.argv[1:])
    else:
        attack_all()
        kill_all(KILLS)
        flood_all(FLOODS)
