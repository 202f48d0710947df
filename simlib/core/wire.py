"""What every message costs in bytes, and the message itself.

The live lab sends the texts that are made here and the simulation counts their lengths, so that
simulated and measured bytes are equal by construction. One scenario compiles to one `WireSpec`;
`message_sizes` turns it into a table of two columns, bytes up (from the client) and bytes down.

Every number inside a text has a fixed width (versions have ten digits), so a size never depends
on a value. Tokens must have the length that the spec states.

======================  ==========================================================================
exact, tested           HTTP/1.1 heads: Chromium's, aiohttp's and websockets' own requests as
against the real thing  recorded over TLS (``data/measured/heads.json``), replies as aiohttp and
                        websockets emit them; WebSocket frames (RFC 6455); Socket.IO v5 and SockJS
                        texts; TLS 1.3 record overhead (RFC 8446 section 5.2); request header
                        blocks of Chromium over HTTP/2
a model                 everything else, as follows
======================  ==========================================================================

**HTTP/2** (RFC 9113, RFC 7541) has no text, only sizes. `..._FIRST` is the first exchange of a
connection: HPACK's table is empty and both sides send their settings (the client's preface,
SETTINGS, WINDOW_UPDATE as Chromium does; SETTINGS with three values and WINDOW_UPDATE from the
server; one SETTINGS acknowledgement each). The others repeat that exchange on a warm table. The
request follows Chromium's rule (all fields enter the table but ``:path``), so `POLL_CONDITIONAL`
repeats its ETag; a changed one costs about 11 bytes more, once. In replies, Date and ETag are
literals that stay out of the table. Huffman lengths of a date vary by a byte or two; the sizes
are those of one fixed date.

**permessage-deflate** (RFC 7692): PUSH and SNAPSHOT payloads times `deflate_ratio`, rounded up.
Chromium always offers the extension, websockets only when the ratio is below 1; the server
accepts it only then.

**TLS**: 22 bytes per started 16 KiB record, one write a message. TLS_OPEN is a full TLS 1.3
handshake with two session tickets; the default sizes are Chromium 156's (its hello varies by 32
bytes or more) against OpenSSL 3.0 with a self-signed EC P-256 leaf, and `tls_chain_bytes` is an
assumption for a real leaf and one intermediate. Python's client measured 597 up, 1306 down.

**TCP/IPv4** (RFC 9293, RFC 7323): 52 bytes of headers per segment of at most 1448 bytes; SYN and
SYN-ACK 60; four segments to close. The receiver acknowledges every second segment, and at least
once per message; the last acknowledgement rides on the reply of a message that is answered at
once (a request, an authentication, a ping, a close). No losses, no shared segments.

Not counted: SockJS's ``/info`` request, Socket.IO's ``41`` packet at the end, TLS close_notify.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import IntEnum, auto
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simlib.errors import ScenarioError

VERSION_DIGITS = 10
REFUSED_TEXT = "Service Unavailable\n"
"""Body of a refused upgrade, for ``connection.respond(503, REFUSED_TEXT)`` of websockets."""


class Message(IntEnum):
    """One-way messages, and the exchanges that set a connection up; a row of `message_sizes`."""

    TCP_OPEN = 0
    TCP_CLOSE = auto()
    TLS_OPEN = auto()
    POLL_REQUEST_FIRST = auto()
    POLL_REQUEST = auto()
    POLL_CONDITIONAL_FIRST = auto()
    POLL_CONDITIONAL = auto()
    POLL_RESPONSE_FIRST = auto()
    POLL_RESPONSE = auto()
    NOT_MODIFIED_FIRST = auto()
    NOT_MODIFIED = auto()
    POLL_REFUSED_FIRST = auto()
    POLL_REFUSED = auto()
    UPGRADE_REQUEST = auto()
    UPGRADE_RESPONSE = auto()
    UPGRADE_REFUSED = auto()
    HELLO = auto()
    AUTH = auto()
    READY = auto()
    AUTH_REFUSED = auto()
    SNAPSHOT = auto()
    PUSH = auto()
    PING_DOWN = auto()
    PONG_UP = auto()
    PING_UP = auto()
    PONG_DOWN = auto()
    CLOSE_UP = auto()
    CLOSE_DOWN = auto()


M = Message
_POLLS = (M.POLL_REQUEST_FIRST, M.POLL_REQUEST, M.POLL_CONDITIONAL_FIRST, M.POLL_CONDITIONAL)
_UP = frozenset({*_POLLS, M.UPGRADE_REQUEST, M.AUTH, M.PONG_UP, M.PING_UP, M.CLOSE_UP})
_ANSWERED = frozenset({*_POLLS, M.UPGRADE_REQUEST, M.AUTH, M.PING_DOWN, M.PING_UP, M.CLOSE_UP})


class WireSpec(NamedTuple):
    """What byte counts depend on; `check_spec` names the values allowed."""

    http_version: str = "1.1"
    """``"1.1"`` or ``"2"``, of the poll; an upgrade is always HTTP/1.1."""
    http_client: str = "chromium"
    """Whose poll heads: ``"chromium"`` or ``"aiohttp"``."""
    websocket_client: str = "chromium"
    """Whose upgrade heads: ``"chromium"`` or ``"websockets"``."""
    server: str = "nginx"
    """Value of the Server field."""
    host: str = "app.example.com"
    """Host field; the page's origin is ``https://`` followed by it."""
    poll_path: str = "/api/matters"
    websocket_path: str = "/ws/matters"
    """Path of the endpoint, to which an envelope may add its own."""
    cookie: str = (
        "JSESSIONID=8C2F5E0B7A9D41436B1E0F2D9C8A7B65; "
        "XSRF-TOKEN=3f2b8c1e-9d47-4a6b-8e05-1c7d2a9f6b34; "
        "_ga=GA1.1.1406724893.1790150400"
    )
    """Cookie field, ``""`` for none."""
    token_bytes: int = 201
    """Length of the bearer token, 0 for none."""
    envelope: str = "native"
    """What wraps messages: ``"native"`` (nothing), ``"socketio"`` or ``"sockjs"``."""
    event: str = "matter_updated"
    """Socket.IO event name of a push."""
    delta_bytes: int = 105
    """JSON payload of one change."""
    snapshot_bytes: int = 5304
    """JSON payload of the whole board."""
    push: str = "delta"
    """What a push carries: ``"delta"`` or ``"snapshot"``."""
    etag: bool = False
    """Server sends ETag and ``Cache-Control: no-cache``, client If-None-Match."""
    resumes: bool = False
    """The client says what it has seen, the server whether the rest is lost."""
    deflate_ratio: float = 1.0
    """Compressed over plain size of pushed payloads; 1 = off."""
    tls: bool = False
    count: str = "payload"  # type: ignore[assignment]  # the name hides tuple.count, unused here
    """Layer counted: TCP ``"payload"``, with ``"tls"`` records, with ``"ip"`` headers."""
    tls_up_bytes: int = 2035
    """Bytes of a full TLS handshake from the client."""
    tls_down_bytes: int = 1354
    """Bytes of a full TLS handshake from the server, self-signed leaf and tickets included."""
    tls_chain_bytes: int = 2000
    """What a real certificate chain adds to `tls_down_bytes`."""


_CHOICES: dict[str, tuple[str, ...]] = {
    "http_version": ("1.1", "2"),
    "http_client": ("chromium", "aiohttp"),
    "websocket_client": ("chromium", "websockets"),
    "envelope": ("native", "socketio", "sockjs"),
    "push": ("delta", "snapshot"),
    "count": ("payload", "tls", "ip"),
}
_LEAST = {"token_bytes": 0, "tls_up_bytes": 300, "tls_down_bytes": 700, "tls_chain_bytes": 0}


def check_spec(spec: WireSpec) -> None:
    """Raise where a spec cannot be counted.

    Raises
    ------
    ScenarioError
        A ValueError with the field, its value and the rule. The sizes of JSON payloads are
        checked where they are made.

    Examples
    --------
    >>> check_spec(WireSpec(count="frames"))
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: count: must be one of payload, tls, ip, got 'frames'
    """
    for name, allowed in _CHOICES.items():
        if getattr(spec, name) not in allowed:
            raise ScenarioError(name, getattr(spec, name), f"must be one of {', '.join(allowed)}")
    for name, least in _LEAST.items():
        if getattr(spec, name) < least:
            raise ScenarioError(name, getattr(spec, name), f"must be >= {least}")
    if not 0 < spec.deflate_ratio <= 1:
        raise ScenarioError("deflate_ratio", spec.deflate_ratio, "must be > 0 and <= 1")
    if spec.http_version == "2" and spec.http_client != "chromium":
        raise ScenarioError("http_client", spec.http_client, "must be chromium for HTTP/2")
    if spec.count == "tls" and not spec.tls:
        raise ScenarioError("count", spec.count, "must not be tls when tls is false")


# Heads: data. A field whose value is empty once filled in is not sent.

_Fields = list[tuple[str, str]]
_ACCEPTS = (("Accept-Encoding", "gzip, deflate, br, zstd"), ("Accept-Language", "en-US,en;q=0.9"))
_ENGINE = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
_CHROMIUM = ("User-Agent", f"{_ENGINE} Chrome/156.0.0.0 Safari/537.36")
_DEFLATE = "permessage-deflate; client_max_window_bits"
_POLL_FIELDS: dict[str, tuple[tuple[str, str], ...]] = {
    "chromium": (
        ("Host", "{host}"),
        ("Connection", "keep-alive"),
        ("sec-ch-ua-platform", '"Linux"'),
        ("Authorization", "{authorization}"),
        _CHROMIUM,
        ("sec-ch-ua", '"Not:A-Brand";v="8", "Chromium";v="156"'),
        ("sec-ch-ua-mobile", "?0"),
        ("Accept", "*/*"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "empty"),
        ("Referer", "https://{host}/"),
        *_ACCEPTS,
        ("Cookie", "{cookie}"),
        ("If-None-Match", "{etag}"),
    ),
    "aiohttp": (
        ("Host", "{host}"),
        ("Cookie", "{cookie}"),
        ("Authorization", "{authorization}"),
        ("If-None-Match", "{etag}"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip, deflate"),
        ("User-Agent", "Python/3.11 aiohttp/3.14.5"),
    ),
}
_UPGRADE_FIELDS: dict[str, tuple[tuple[str, str], ...]] = {
    "chromium": (
        ("Host", "{host}"),
        ("Connection", "Upgrade"),
        ("Pragma", "no-cache"),
        ("Cache-Control", "no-cache"),
        _CHROMIUM,
        ("Upgrade", "websocket"),
        ("Origin", "https://{host}"),
        ("Sec-WebSocket-Version", "13"),
        *_ACCEPTS,
        ("Cookie", "{cookie}"),
        ("Sec-WebSocket-Key", "{key}"),
        ("Sec-WebSocket-Extensions", _DEFLATE),
    ),
    "websockets": (
        ("Host", "{host}"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "{key}"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Extensions", "{deflate}"),
        ("Cookie", "{cookie}"),
        ("User-Agent", "Python/3.11 websockets/17.4"),
    ),
}
_ENDPOINT = {  # what the client libraries append to the path
    "native": "",
    "socketio": "/?EIO=4&transport=websocket",
    "sockjs": "/000/abcdefgh/websocket",
}
# Values of the right length where only a length matters.
_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
_SID = "q3Xv7mT0bLwKe9RzAAAB"


def _fill(fields: Iterable[tuple[str, str]], **values: str) -> _Fields:
    filled = ((name, template.format(**values)) for name, template in fields)
    return [(name, value) for name, value in filled if value]


def _head(line: str, fields: _Fields) -> bytes:
    return "\r\n".join([line, *(f"{k}: {v}" for k, v in fields), "", ""]).encode("ascii")


def _poll_head(spec: WireSpec, line: str, fields: _Fields) -> bytes:
    if spec.http_version != "1.1":
        raise ScenarioError("http_version", spec.http_version, "must be 1.1 to be sent")
    return _head(line, fields)


def _checked_token(spec: WireSpec, token: str) -> str:
    if len(token) != spec.token_bytes:
        raise ScenarioError("token_bytes", spec.token_bytes, f"must be the token's {len(token)}")
    return token


def _digits(version: int) -> str:
    if not 0 <= version < 10**VERSION_DIGITS:
        raise ValueError(f"version: must be >= 0 and < 10**{VERSION_DIGITS}, got {version}")
    return f"{version:0{VERSION_DIGITS}d}"


def _poll_fields(spec: WireSpec, token: str, version: int | None) -> _Fields:
    return _fill(
        _POLL_FIELDS[spec.http_client],
        host=spec.host,
        cookie=spec.cookie,
        authorization="Bearer " + token if _checked_token(spec, token) else "",
        etag=f'"{_digits(version)}"' if spec.etag and version is not None else "",
    )


def poll_request(spec: WireSpec, token: str, version: int | None = None) -> bytes:
    r"""Return the request of one poll, HTTP/1.1.

    Parameters
    ----------
    spec : WireSpec
    token : str
        Bearer token of `spec.token_bytes` characters.
    version : int, optional
        The version that the client holds; sent as If-None-Match when `spec.etag`.

    Examples
    --------
    >>> spec = WireSpec(http_client="aiohttp", token_bytes=3, cookie="", etag=True)
    >>> print(poll_request(spec, "abc", 7).decode().replace("\r", ""), end="")
    GET /api/matters HTTP/1.1
    Host: app.example.com
    Authorization: Bearer abc
    If-None-Match: "0000000007"
    Accept: */*
    Accept-Encoding: gzip, deflate
    User-Agent: Python/3.11 aiohttp/3.14.5
    <BLANKLINE>
    """
    return _poll_head(spec, f"GET {spec.poll_path} HTTP/1.1", _poll_fields(spec, token, version))


def poll_response_headers(spec: WireSpec, version: int | None = None) -> dict[str, str]:
    """Return the fields that the server's handler passes to ``aiohttp.web.Response``.

    For a 200 (with ``content_type="application/json"``) and a 304 give the version; for a 503,
    which has no body, leave it out.

    Examples
    --------
    >>> poll_response_headers(WireSpec(etag=True), 7)
    {'Server': 'nginx', 'Cache-Control': 'no-cache', 'ETag': '"0000000007"'}
    """
    headers = {"Server": spec.server}
    if spec.etag and version is not None:
        headers |= {"Cache-Control": "no-cache", "ETag": f'"{_digits(version)}"'}
    return headers


def _reply(spec: WireSpec, status: int, version: int | None, date: str) -> tuple[str, _Fields]:
    """Status line and fields in aiohttp's order: the handler's, then its own."""
    reason = {200: "OK", 304: "Not Modified", 503: "Service Unavailable"}[status]
    own = {"Date": date}
    if status == 200:
        json_length = str(spec.snapshot_bytes)
        own = {"Content-Type": "application/json", "Content-Length": json_length} | own
    elif status == 503:
        own = {"Content-Length": "0"} | own
    fields = poll_response_headers(spec, version) | own
    return f"HTTP/1.1 {status} {reason}", list(fields.items())


def poll_response_head(spec: WireSpec, version: int, date: str) -> bytes:
    """Return the head of a 200, before `poll_body`, as aiohttp emits it on a kept connection.

    Examples
    --------
    >>> len(poll_response_head(WireSpec(), 7, "Thu, 01 Jan 2026 00:00:00 GMT"))
    125
    """
    return _poll_head(spec, *_reply(spec, 200, version, date))


def not_modified(spec: WireSpec, version: int, date: str) -> bytes:
    """Return the whole 304 reply as aiohttp emits it."""
    return _poll_head(spec, *_reply(spec, 304, version, date))


def poll_refused(spec: WireSpec, date: str) -> bytes:
    """Return the whole 503 reply, without a body, as aiohttp emits it."""
    return _poll_head(spec, *_reply(spec, 503, None, date))


def upgrade_request(spec: WireSpec, key: str) -> bytes:
    """Return the opening handshake's request for a Sec-WebSocket-Key."""
    deflate = _DEFLATE if spec.deflate_ratio < 1 else ""
    template = _UPGRADE_FIELDS[spec.websocket_client]
    fields = _fill(template, host=spec.host, cookie=spec.cookie, key=key, deflate=deflate)
    return _head(f"GET {spec.websocket_path}{_ENDPOINT[spec.envelope]} HTTP/1.1", fields)


def upgrade_response(spec: WireSpec, accept: str, date: str) -> bytes:
    """Return the 101 reply as websockets' asyncio server emits it with `spec.server`."""
    deflate = "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"
    fields = [
        ("Date", date),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept),
        *([("Sec-WebSocket-Extensions", deflate)] if spec.deflate_ratio < 1 else []),
        ("Server", spec.server),
    ]
    return _head("HTTP/1.1 101 Switching Protocols", fields)


def upgrade_refused(spec: WireSpec, date: str) -> bytes:
    """Return the 503 reply to an upgrade, body included, as websockets emits it."""
    fields = [
        ("Date", date),
        ("Connection", "close"),
        ("Content-Length", str(len(REFUSED_TEXT))),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Server", spec.server),
    ]
    return _head("HTTP/1.1 503 Service Unavailable", fields) + REFUSED_TEXT.encode()


# Payloads. Every text that has a version ends with it, so that it is found from the end.

_PADDING = " review of the supplier agreement before its renewal and sign-off by finance"


def card(size_bytes: int, version: int, number: int = 42) -> str:
    """Return one matter as JSON of exactly `size_bytes`; the title is padded.

    Raises
    ------
    ScenarioError
        When the card does not fit.

    Examples
    --------
    >>> card(105, 7)[:39]
    '{"id":42,"title":"Matter 42 review of t'
    """
    start = f'{{"id":{number},"title":"Matter {number}'
    end = f'","status":"IN_PROGRESS","assignee":"u-17","version":"{_digits(version)}"}}'
    room = size_bytes - len(start) - len(end)
    if room < 0:
        raise ScenarioError("delta_bytes", size_bytes, f"must be >= {size_bytes - room}")
    return start + (_PADDING * (room // len(_PADDING) + 1))[:room] + end


def board(spec: WireSpec, version: int) -> str:
    """Return the whole board as JSON of exactly `spec.snapshot_bytes`.

    As many cards of `spec.delta_bytes` as fit, the last one longer to fill the rest.
    """
    start, end = '{"matters":[', f'],"version":"{_digits(version)}"}}'
    room = spec.snapshot_bytes - len(start) - len(end)
    least = len(card(spec.delta_bytes, 0))
    if room < least:
        rule = f"must be >= {spec.snapshot_bytes - room + least} (one card of delta_bytes)"
        raise ScenarioError("snapshot_bytes", spec.snapshot_bytes, rule)
    count = (room + 1) // (least + 1)
    sizes = [least] * (count - 1) + [room - (least + 1) * (count - 1)]
    cards = (card(size, 0, 10 + k % 90) for k, size in enumerate(sizes))
    return start + ",".join(cards) + end


def poll_body(spec: WireSpec, version: int) -> bytes:
    """Return the body of a 200 reply: the board."""
    return board(spec, version).encode("ascii")


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _down(spec: WireSpec, event: str, text: str) -> str:
    """Wrap a JSON text of the server's."""
    if spec.envelope == "socketio":
        return f"42[{json.dumps(event)},{text}]"
    return f"a{_compact([text])}" if spec.envelope == "sockjs" else text


def hello_text(spec: WireSpec) -> str:
    """Return what the server says right after the upgrade, ``""`` for nothing.

    Examples
    --------
    >>> [len(hello_text(WireSpec(envelope=name))) for name in ("native", "socketio", "sockjs")]
    [0, 107, 1]
    """
    opening = {
        "sid": _SID,
        "upgrades": [],
        "pingInterval": 25000,
        "pingTimeout": 20000,
        "maxPayload": 1000000,
    }
    return {"native": "", "socketio": "0" + _compact(opening), "sockjs": "o"}[spec.envelope]


def auth_text(spec: WireSpec, token: str, seen: int = 0) -> str:
    """Return the client's first message; ``""``, nothing, when there is nothing to send.

    It has the token, and how many changes the client has seen if the server can resume from there.
    Socket.IO always sends its CONNECT packet.

    Examples
    --------
    >>> auth_text(WireSpec(token_bytes=0, resumes=True), "", 7)
    '{"type":"auth","seen":"0000000007"}'
    """
    _checked_token(spec, token)
    said = {"token": token} if token else {}
    if spec.resumes:
        said["seen"] = _digits(seen)
    if spec.envelope == "socketio":
        return "40" + (_compact(said) if said else "")
    text = _compact({"type": "auth", **said}) if said else ""
    return _compact([text]) if text and spec.envelope == "sockjs" else text


def ready_text(spec: WireSpec, version: int, *, lost: bool = False) -> str:
    """Return the server's welcome, with the number of changes made so far.

    If the client can resume, it also says whether what the client missed is `lost`. In a Socket.IO
    CONNECT reply, which has nothing but a session id, the id's last ten characters are the version.

    Examples
    --------
    >>> ready_text(WireSpec(), 7)
    '{"type":"ready","version":"0000000007"}'
    """
    fate = f'"lost":{lost:d},' if spec.resumes else ""
    if spec.envelope == "socketio":
        return f'40{{{fate}"sid":"{_SID[:-VERSION_DIGITS]}{_digits(version)}"}}'
    return _down(spec, "", f'{{"type":"ready",{fate}"version":"{_digits(version)}"}}')


def says_lost(text: str) -> bool:
    """Say whether a ready text tells the client that what it missed is lost.

    Examples
    --------
    >>> spec = WireSpec(envelope="sockjs", resumes=True)
    >>> [says_lost(ready_text(spec, 7, lost=lost)) for lost in (False, True)]
    [False, True]
    """
    return 'lost":1' in text.replace("\\", "")


def auth_refused_text(spec: WireSpec) -> str:
    """Return the server's answer to a bad token."""
    if spec.envelope == "socketio":
        return '44{"message":"invalid token"}'
    return _down(spec, "", '{"type":"refused","reason":"invalid token"}')


def snapshot_text(spec: WireSpec, version: int) -> str:
    """Return the board as a message of the server's."""
    return _down(spec, "snapshot", board(spec, version))


def push_text(spec: WireSpec, version: int) -> str:
    """Return the message that change number `version` causes: a card, or the whole board.

    Examples
    --------
    >>> push_text(WireSpec(envelope="socketio", delta_bytes=93), 7)[:44]
    '42["matter_updated",{"matters":[{"id":42,"ti'
    """
    if spec.push == "snapshot":
        return _down(spec, spec.event, board(spec, version))
    text = card(spec.delta_bytes, version)
    if spec.envelope == "socketio":
        text = f'{{"matters":[{text}]}}'
    return _down(spec, spec.event, text)


def heartbeat_texts(spec: WireSpec) -> tuple[str, str]:
    """Return the server's heartbeat and the client's reply; ``""``: a control frame, or nothing.

    Native connections use ping and pong frames with four bytes. SockJS clients do not reply.
    """
    return {"native": ("", ""), "socketio": ("2", "3"), "sockjs": ("h", "")}[spec.envelope]


def version_of(text: str | bytes) -> int:
    """Return the version that a ready, snapshot or push text or a poll's body carries.

    Examples
    --------
    >>> spec = WireSpec(envelope="sockjs")
    >>> version_of(push_text(spec, 7)), version_of(poll_body(spec, 8))
    (7, 8)
    """
    tail = text[-24:]
    end = tail.rstrip('"}]\\') if isinstance(tail, str) else tail.rstrip(b'"}]\\')
    return int(end[-VERSION_DIGITS:])


_KINDS = (  # start, meaning; a Socket.IO event is told by its end
    ('{"id"', M.PUSH),
    ('{"m', M.SNAPSHOT),
    ('{"type":"ready"', M.READY),
    ('{"type":"refused"', M.AUTH_REFUSED),
    ('{"type":"auth"', M.AUTH),
    ("40", M.READY),
    ("44", M.AUTH_REFUSED),
    ("0{", M.HELLO),
    ("o", M.HELLO),
    ("2", M.PING_DOWN),
    ("h", M.PING_DOWN),
    ("3", M.PONG_UP),
)


def kind_of(text: str) -> Message:
    """Return what a WebSocket text of the server's is, by its first and last characters.

    A push of the whole board reads as SNAPSHOT, which it is.

    Raises
    ------
    ValueError
        When it is none of this module's texts.

    Examples
    --------
    >>> kind_of(push_text(WireSpec(envelope="sockjs"), 7)).name
    'PUSH'
    """
    if text.startswith("42["):
        return M.PUSH if text.endswith('"}]}]') else M.SNAPSHOT
    start = text[3:24].replace("\\", "") if text.startswith('a["') else text
    for prefix, kind in _KINDS:
        if start.startswith(prefix):
            return kind
    raise ValueError(f"text: must be one of this module's, got {text[:40]!r}")


# Frames and layers.


def frame_bytes(payload_bytes: int, masked: bool) -> int:
    """Return the size of one unfragmented WebSocket frame (RFC 6455 section 5.2).

    Examples
    --------
    >>> [frame_bytes(n, masked=False) for n in (0, 125, 126, 65535, 65536)]
    [2, 127, 130, 65539, 65546]
    """
    extended = 0 if payload_bytes <= 125 else 2 if payload_bytes <= 65535 else 8
    return 2 + extended + (4 if masked else 0) + payload_bytes


def websocket_frame(payload: bytes, opcode: int = 1, mask: bytes = b"") -> bytes:
    """Return one unfragmented frame; `mask` is four bytes from a client, none from a server.

    Examples
    --------
    >>> websocket_frame(b"Hello").hex(" ")
    '81 05 48 65 6c 6c 6f'
    >>> websocket_frame(b"Hello", mask=bytes.fromhex("37fa213d")).hex(" ")
    '81 85 37 fa 21 3d 7f 9f 4d 51 58'
    """
    n = len(payload)
    width = frame_bytes(n, masked=False) - n - 2  # of the extended length
    code = {0: n, 2: 126, 8: 127}[width] | (128 if mask else 0)
    length = bytes([code]) + (n.to_bytes(width, "big") if width else b"")
    if mask:
        key = (mask * (n // 4 + 1))[:n]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(n, "big")
    return bytes([128 | opcode]) + length + mask + payload


def message_sizes(spec: WireSpec) -> npt.NDArray[np.int64]:
    """Return what each message costs at the layer that the spec counts.

    Parameters
    ----------
    spec : WireSpec

    Returns
    -------
    ndarray of int64, shape (len(Message), 2)
        Row: `Message`. Columns: bytes up, bytes down. Below the IP layer a one-way message has
        bytes in one direction only.

    Raises
    ------
    ScenarioError
        When the spec cannot be counted.

    Examples
    --------
    >>> sizes = message_sizes(WireSpec(envelope="socketio"))
    >>> sizes[Message.PUSH].tolist(), sizes[Message.PING_DOWN].tolist()
    ([0, 144], [0, 3])
    >>> message_sizes(WireSpec(envelope="socketio", count="ip"))[Message.PUSH].tolist()
    [52, 196]
    """
    check_spec(spec)
    sizes = np.zeros((len(Message), 2), dtype=np.int64)
    with_tls = spec.tls and spec.count != "payload"
    payloads = _websocket_sizes(spec) | (
        _http2_sizes(spec) if spec.http_version == "2" else _http1_sizes(spec)
    )
    unanswered = set() if payloads[M.PONG_UP] else {M.PING_DOWN}
    for message, payload in payloads.items():
        sent = _tls_bytes(payload) if with_tls else payload
        way = 0 if message in _UP else 1
        if spec.count == "ip":
            _add_segments(sizes[message], sent, way, message in _ANSWERED - unanswered)
        else:
            sizes[message, way] = sent
    if with_tls:
        down = spec.tls_down_bytes + spec.tls_chain_bytes
        sizes[M.TLS_OPEN] = spec.tls_up_bytes, down
        if spec.count == "ip":
            sizes[M.TLS_OPEN] = 0
            _add_segments(sizes[M.TLS_OPEN], spec.tls_up_bytes - _TLS_FINISHED, 0, True)
            _add_segments(sizes[M.TLS_OPEN], down - _TLS_TICKETS, 1, True)
            _add_segments(sizes[M.TLS_OPEN], _TLS_FINISHED, 0, False)
            _add_segments(sizes[M.TLS_OPEN], _TLS_TICKETS, 1, False)
    if spec.count == "ip":
        sizes[M.TCP_OPEN] = 60 + _IP_HEADERS, 60
        sizes[M.TCP_CLOSE] = 2 * _IP_HEADERS
    return sizes


_SEGMENT, _IP_HEADERS = 1448, 52
_TLS_FINISHED, _TLS_TICKETS = 80, 510  # second flights: change cipher spec, Finished; two tickets
_PREFACE_UP = 24 + 33 + 13 + 9  # preface, SETTINGS, WINDOW_UPDATE, SETTINGS acknowledgement
_PREFACE_DOWN = 27 + 13 + 9
_PRIORITY = 5  # Chromium's HEADERS frames carry priority fields


def _tls_bytes(n: int) -> int:
    return n + 22 * ceil(n / 16384)


def _add_segments(row: npt.NDArray[np.int64], n: int, way: int, answered: bool) -> None:
    """Add a message of `n` bytes one way, and its pure acknowledgements the other way."""
    segments = ceil(n / _SEGMENT)
    if segments:
        row[way] += n + _IP_HEADERS * segments
        row[1 - way] += _IP_HEADERS * (ceil(segments / 2) - answered)


def _http1_sizes(spec: WireSpec) -> dict[Message, int]:
    token = "x" * spec.token_bytes
    poll, conditional = len(poll_request(spec, token)), len(poll_request(spec, token, 0))
    response = len(poll_response_head(spec, 0, _DATE)) + len(poll_body(spec, 0))
    unmodified, refused = len(not_modified(spec, 0, _DATE)), len(poll_refused(spec, _DATE))
    return {
        **dict.fromkeys((M.POLL_REQUEST_FIRST, M.POLL_REQUEST), poll),
        **dict.fromkeys((M.POLL_CONDITIONAL_FIRST, M.POLL_CONDITIONAL), conditional),
        **dict.fromkeys((M.POLL_RESPONSE_FIRST, M.POLL_RESPONSE), response),
        **dict.fromkeys((M.NOT_MODIFIED_FIRST, M.NOT_MODIFIED), unmodified),
        **dict.fromkeys((M.POLL_REFUSED_FIRST, M.POLL_REFUSED), refused),
    }


def http2_request(spec: WireSpec, token: str, version: int | None = None) -> _Fields:
    """Return a poll's header list as Chromium sends it over HTTP/2, cookies split."""
    fields: _Fields = [
        (":method", "GET"),
        (":authority", spec.host),
        (":scheme", "https"),
        (":path", spec.poll_path),
    ]
    for name, value in _poll_fields(spec, token, version):
        if name == "Cookie":
            fields += [("cookie", crumb) for crumb in value.split("; ")]
        elif name not in ("Host", "Connection"):
            fields.append((name.lower(), value))
    return [*fields, ("priority", "u=1, i")]


def _block_bytes(fields: _Fields, literal: Iterable[str]) -> tuple[int, int]:
    """Size of a header block on an empty HPACK table, and again on the one that it leaves."""
    from hpack import Encoder, HeaderTuple, NeverIndexedHeaderTuple

    encoder, kept = Encoder(), set(literal)
    headers = [(NeverIndexedHeaderTuple if k in kept else HeaderTuple)(k, v) for k, v in fields]
    return len(encoder.encode(headers)), len(encoder.encode(headers))


def _http2_sizes(spec: WireSpec) -> dict[Message, int]:
    token, sizes = "x" * spec.token_bytes, {}
    for first, version in ((M.POLL_REQUEST_FIRST, None), (M.POLL_CONDITIONAL_FIRST, 0)):
        cold, warm = _block_bytes(http2_request(spec, token, version), (":path",))
        sizes[first] = _PREFACE_UP + 9 + _PRIORITY + cold
        sizes[Message(first + 1)] = 9 + _PRIORITY + warm
    body = len(poll_body(spec, 0))
    data = body + 9 * ceil(body / 16384)
    for first, status, extra in (
        (M.POLL_RESPONSE_FIRST, 200, data),
        (M.NOT_MODIFIED_FIRST, 304, 0),
        (M.POLL_REFUSED_FIRST, 503, 0),
    ):
        _, reply = _reply(spec, status, None if status == 503 else 0, _DATE)
        fields = [(":status", str(status)), *((k.lower(), v) for k, v in reply)]
        cold, warm = _block_bytes(fields, ("date", "etag"))
        sizes[first] = _PREFACE_DOWN + 9 + cold + extra
        sizes[Message(first + 1)] = 9 + warm + extra
    return sizes


def _websocket_sizes(spec: WireSpec) -> dict[Message, int]:
    def frame(text: str, *, up: bool = False, ratio: float = 1.0) -> int:
        return frame_bytes(ceil(len(text.encode()) * ratio), masked=up) if text else 0

    ping, pong = heartbeat_texts(spec)
    native, ratio = spec.envelope == "native", spec.deflate_ratio
    control_up, control_down = frame_bytes(4, masked=True), frame_bytes(4, masked=False)
    return {
        M.UPGRADE_REQUEST: len(upgrade_request(spec, _KEY)),
        M.UPGRADE_RESPONSE: len(upgrade_response(spec, _ACCEPT, _DATE)),
        M.UPGRADE_REFUSED: len(upgrade_refused(spec, _DATE)),
        M.HELLO: frame(hello_text(spec)),
        M.AUTH: frame(auth_text(spec, "x" * spec.token_bytes), up=True),
        M.READY: frame(ready_text(spec, 0)),
        M.AUTH_REFUSED: frame(auth_refused_text(spec)),
        M.SNAPSHOT: frame(snapshot_text(spec, 0), ratio=ratio),
        M.PUSH: frame(push_text(spec, 0), ratio=ratio),
        M.PING_DOWN: control_down if native else frame(ping),
        M.PONG_UP: control_up if native else frame(pong, up=True),
        M.PING_UP: control_up,
        M.PONG_DOWN: control_down,
        M.CLOSE_UP: frame_bytes(2, masked=True),
        M.CLOSE_DOWN: frame_bytes(2, masked=False),
    }
