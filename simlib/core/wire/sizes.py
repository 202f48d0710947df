"""How many bytes each message takes: as payload of TCP, with TLS, and as IP packets.

**HTTP/2** (RFC 9113, RFC 7541) has no text, only sizes. `..._FIRST` is the first exchange of a
connection: HPACK's table is empty and both sides send their settings (the client's preface,
SETTINGS, WINDOW_UPDATE as Chromium does; SETTINGS with three values and WINDOW_UPDATE from the
server; one SETTINGS acknowledgement each). The others repeat that exchange on a warm table. The
request follows Chromium's rule (all fields enter the table but ``:path``), so `POLL_CONDITIONAL`
repeats its ETag; a changed one costs about 11 bytes more, once. In replies, Date and ETag are
literals that stay out of the table. Huffman lengths of a date vary by a byte or two; the sizes
are those of one fixed date.

**Streams of server-sent events** have one chunk (RFC 9112 section 7.1) or one DATA frame an event.
Each has a connection of its own, over HTTP/2 too, where a browser would let it ride with the polls:
so all its heads are those of a new connection. The token is a cookie, as EventSource sets no
fields. Nothing is compressed. Chromium's request is not recorded: it is that of a poll, with the
fields that the standard says. Lines end with LF, and a comment is ``: ping``; sse-starlette 3.7.0
ends them with CR LF, 3 bytes more an event, and writes the time into its comments, 38 more each.

**permessage-deflate** (RFC 7692): PUSH, NOTICE and SNAPSHOT payloads times `deflate_ratio`, rounded
up. Chromium always offers the extension, websockets only when the ratio is below 1; the server
accepts it only then.

**gzip** of a poll's body, by the server or by a proxy before it: the body times `gzip_ratio`,
rounded up, in one chunk (RFC 9112 section 7.1) over HTTP/1.1, with the fields that say so.

**Long polling**: HELD_REPLY is the answer with one change, or with the board; each further change
adds HELD_CHANGE, which has room in the segments and records of that answer. Over HTTP/2 the length
of a list of changes counts as that of one change. Lists of changes are not compressed.

**502**: BAD_GATEWAY is a proxy's answer for a server that is down, to a poll or a request for a
stream on a new connection, UPGRADE_BAD_GATEWAY that to an upgrade. Its page has 150 bytes, nginx's
without its version, and the 402 that nginx adds for Chromium; other proxies' are as short.

**TLS**: 22 bytes per started 16 KiB record, one write a message. TLS_OPEN is a full TLS 1.3
handshake with two session tickets; the default sizes are Chromium 156's (its hello varies by 32
bytes or more) against OpenSSL 3.0 with a self-signed EC P-256 leaf, and `tls_chain_bytes` is an
assumption for a real leaf and one intermediate. Python's client measured 597 up, 1306 down.

**TCP/IPv4** (RFC 9293, RFC 7323): 52 bytes of headers per segment of at most 1448 bytes; SYN and
SYN-ACK 60; four segments to close. The receiver acknowledges every second segment, and at least
once per message; the last acknowledgement rides on the reply of a message that is answered at
once (a request, an authentication, a ping, a close). A request that is held is acknowledged by
itself, and its answer by the next request. No losses, no shared segments.

Not counted: SockJS's ``/info`` request, Socket.IO's ``41`` packet at the end, TLS close_notify, and
the word with which a server takes a stream back in a rollback.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import ceil
from typing import Literal

import numpy as np
import numpy.typing as npt

from simlib.core.wire.frames import frame_bytes
from simlib.core.wire.heads import (
    Fields,
    bad_gateway,
    bad_gateway_reply,
    held_reply,
    held_reply_head,
    held_request,
    http2_request,
    http2_stream_request,
    not_modified,
    poll_refused,
    poll_reply,
    poll_request,
    poll_response_head,
    stream_reply,
    stream_request,
    stream_response_head,
    upgrade_refused,
    upgrade_request,
    upgrade_response,
)
from simlib.core.wire.payloads import (
    LAST_CHUNK,
    STREAM_COMMENT,
    auth_refused_text,
    auth_text,
    changes_bytes,
    chunk_bytes,
    heartbeat_texts,
    hello_text,
    notice_text,
    poll_body_bytes,
    push_bytes,
    ready_text,
    snapshot_bytes,
    stream_event_bytes,
)
from simlib.core.wire.spec import Message, WireSpec, check_spec

Layer = Literal["payload", "tls", "ip"]
M = Message
_POLLS = (M.POLL_REQUEST_FIRST, M.POLL_REQUEST, M.POLL_CONDITIONAL_FIRST, M.POLL_CONDITIONAL)
_HELD = (M.HELD_REQUEST_FIRST, M.HELD_REQUEST)
_TOLD = (M.HELD_REPLY_FIRST, M.HELD_REPLY, M.HELD_EMPTY_FIRST, M.HELD_EMPTY)
_ASKS = (*_POLLS, M.UPGRADE_REQUEST, M.AUTH, M.STREAM_REQUEST, M.STREAM_REQUEST_AGAIN)
_UP = frozenset({*_ASKS, *_HELD, M.PONG_UP, M.PING_UP, M.CLOSE_UP})
_ANSWERED = frozenset({*_ASKS, *_TOLD, M.PING_DOWN, M.PING_UP, M.CLOSE_UP})
# Values of the right length where only a length matters.
_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SEGMENT_BYTES, HEADER_BYTES = 1448, 52
"""What an Ethernet frame has room for, and the headers of IPv4 and TCP with its time stamps."""
_TLS_FINISHED, _TLS_TICKETS = 80, 510  # second flights: change cipher spec, Finished; two tickets
_PREFACE_UP = 24 + 33 + 13 + 9  # preface, SETTINGS, WINDOW_UPDATE, SETTINGS acknowledgement
_PREFACE_DOWN = 27 + 13 + 9
_PRIORITY = 5  # Chromium's HEADERS frames carry priority fields


def message_sizes(spec: WireSpec, layer: Layer) -> npt.NDArray[np.int64]:
    """Return the size of each message at a layer.

    Parameters
    ----------
    spec : WireSpec
    layer : {"payload", "tls", "ip"}
        What is counted: what TCP carries, without and with the records of TLS (the same where the
        spec has none), or whole IP packets, those of acknowledgements too.

    Returns
    -------
    ndarray of int64, shape (len(Message), 2)
        Row: `Message`. Columns: bytes up, bytes down. Below the IP layer a one-way message has
        bytes in one direction only.

    Raises
    ------
    ScenarioError
        The spec cannot be counted.

    Examples
    --------
    >>> sizes = message_sizes(WireSpec(envelope="socketio"), "payload")
    >>> sizes[Message.PUSH].tolist(), sizes[Message.PING_DOWN].tolist()
    ([0, 144], [0, 3])
    >>> message_sizes(WireSpec(envelope="socketio"), "ip")[Message.PUSH].tolist()
    [52, 196]
    """
    check_spec(spec)
    return _message_sizes(spec, layer).copy()


@lru_cache(maxsize=64)
def _message_sizes(spec: WireSpec, layer: Layer) -> npt.NDArray[np.int64]:
    """Count what `message_sizes` returns: many runs of one scenario ask for the same."""
    sizes = np.zeros((len(Message), 2), dtype=np.int64)
    with_tls = spec.tls and layer != "payload"
    payloads = _websocket_sizes(spec) | _stream_sizes(spec)
    payloads |= _http2_sizes(spec) if spec.http_version == "2" else _http1_sizes(spec)
    unanswered = set() if payloads[M.PONG_UP] else {M.PING_DOWN}
    for message, payload in payloads.items():
        sent = _tls_bytes(payload) if with_tls else payload
        way = 0 if message in _UP else 1
        if message == M.HELD_CHANGE:
            sizes[message, way] = payload  # it travels with the first change
        elif layer == "ip":
            _add_segments(sizes[message], sent, way, message in _ANSWERED - unanswered)
        else:
            sizes[message, way] = sent
    if with_tls:
        down = spec.tls_down_bytes + spec.tls_chain_bytes
        sizes[M.TLS_OPEN] = spec.tls_up_bytes, down
        if layer == "ip":
            sizes[M.TLS_OPEN] = 0
            _add_segments(sizes[M.TLS_OPEN], spec.tls_up_bytes - _TLS_FINISHED, 0, True)
            _add_segments(sizes[M.TLS_OPEN], down - _TLS_TICKETS, 1, True)
            _add_segments(sizes[M.TLS_OPEN], _TLS_FINISHED, 0, False)
            _add_segments(sizes[M.TLS_OPEN], _TLS_TICKETS, 1, False)
    if layer == "ip":
        sizes[M.TCP_OPEN] = 60 + HEADER_BYTES, 60
        sizes[M.TCP_CLOSE] = 2 * HEADER_BYTES
    return sizes


def _tls_bytes(n: int) -> int:
    return n + 22 * ceil(n / 16384)


def _add_segments(row: npt.NDArray[np.int64], n: int, way: int, answered: bool) -> None:
    """Add a message of `n` bytes one way, and its pure acknowledgements the other way."""
    segments = ceil(n / SEGMENT_BYTES)
    if segments:
        row[way] += n + HEADER_BYTES * segments
        row[1 - way] += HEADER_BYTES * (ceil(segments / 2) - answered)


def _compressed_bytes(spec: WireSpec) -> int:
    return ceil(poll_body_bytes(spec) * spec.gzip_ratio)


def _http1_sizes(spec: WireSpec) -> dict[Message, int]:
    token = "x" * spec.token_bytes
    poll, conditional = len(poll_request(spec, token)), len(poll_request(spec, token, 0))
    body = _compressed_bytes(spec)
    if spec.gzip_ratio < 1:
        body += len(f"{body:x}\r\n\r\n0\r\n\r\n")
    response = len(poll_response_head(spec, 0, _DATE)) + body
    unmodified, refused = len(not_modified(spec, 0, _DATE)), len(poll_refused(spec, _DATE))
    return {
        **dict.fromkeys((M.POLL_REQUEST_FIRST, M.POLL_REQUEST), poll),
        **dict.fromkeys((M.POLL_CONDITIONAL_FIRST, M.POLL_CONDITIONAL), conditional),
        **dict.fromkeys((M.POLL_RESPONSE_FIRST, M.POLL_RESPONSE), response),
        **dict.fromkeys((M.NOT_MODIFIED_FIRST, M.NOT_MODIFIED), unmodified),
        **dict.fromkeys((M.POLL_REFUSED_FIRST, M.POLL_REFUSED), refused),
        M.BAD_GATEWAY: len(bad_gateway(spec, _DATE)),
        **_http1_held_sizes(spec, token, body),
    }


def _http1_held_sizes(spec: WireSpec, token: str, board: int) -> dict[Message, int]:
    one, more = _answer_bytes(spec)
    reply = len(held_reply_head(spec, one, _DATE)) + (one if more else board)
    empty = len(held_reply_head(spec, 0, _DATE))
    return {
        **dict.fromkeys(_HELD, len(held_request(spec, token, 0))),
        **dict.fromkeys((M.HELD_REPLY_FIRST, M.HELD_REPLY), reply),
        **dict.fromkeys((M.HELD_EMPTY_FIRST, M.HELD_EMPTY), empty),
        M.HELD_CHANGE: more,
    }


def _answer_bytes(spec: WireSpec) -> tuple[int, int]:
    """Return the body's bytes in answer to a held request, and what each further change adds."""
    if spec.push == "snapshot":
        return poll_body_bytes(spec), 0
    return changes_bytes(spec, 1), changes_bytes(spec, 2) - changes_bytes(spec, 1)


def _block_bytes(fields: Fields, literal: Iterable[str]) -> tuple[int, int]:
    """Size of a header block with an empty HPACK table, and when it is sent again."""
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
    body = _compressed_bytes(spec)
    data = body + 9 * ceil(body / 16384)
    for first, status, extra in (
        (M.POLL_RESPONSE_FIRST, 200, data),
        (M.NOT_MODIFIED_FIRST, 304, 0),
        (M.POLL_REFUSED_FIRST, 503, 0),
    ):
        _, reply = poll_reply(spec, status, None if status == 503 else 0, _DATE)
        fields = [(":status", str(status)), *((k.lower(), v) for k, v in reply)]
        cold, warm = _block_bytes(fields, ("date", "etag"))
        sizes[first] = _PREFACE_DOWN + 9 + cold + extra
        sizes[Message(first + 1)] = 9 + warm + extra
    _, reply, page = bad_gateway_reply(spec, spec.http_client, _DATE)
    fields = [(":status", "502"), *((k.lower(), v) for k, v in reply if k != "Connection")]
    cold, _ = _block_bytes(fields, ("date",))
    sizes[M.BAD_GATEWAY] = _PREFACE_DOWN + 9 + cold + 9 + len(page)
    return sizes | _http2_held_sizes(spec, token, data)


def _http2_held_sizes(spec: WireSpec, token: str, board: int) -> dict[Message, int]:
    one, more = _answer_bytes(spec)
    cold, warm = _block_bytes(http2_request(spec, token, seen=0), (":path",))
    sizes = {
        M.HELD_REQUEST_FIRST: _PREFACE_UP + 9 + _PRIORITY + cold,
        M.HELD_REQUEST: 9 + _PRIORITY + warm,
        M.HELD_CHANGE: more,
    }
    data = one + 9 * ceil(one / 16384) if more else board
    for first, status, body, extra in (
        (M.HELD_REPLY_FIRST, 200, one, data),
        (M.HELD_EMPTY_FIRST, 204, 0, 0),
    ):
        _, reply = held_reply(spec, body, _DATE)
        fields = [(":status", str(status)), *((k.lower(), v) for k, v in reply)]
        cold, warm = _block_bytes(fields, ("date",))
        sizes[first] = _PREFACE_DOWN + 9 + cold + extra
        sizes[Message(first + 1)] = 9 + warm + extra
    return sizes


def _stream_sizes(spec: WireSpec) -> dict[Message, int]:
    """Sizes of what a stream carries."""
    is_http2 = spec.http_version == "2"

    def part(n_bytes: int) -> int:
        return n_bytes + 9 * ceil(n_bytes / 16384) if is_http2 else chunk_bytes(n_bytes)

    sizes = {message: part(n_bytes) for message, n_bytes in _event_bytes(spec).items()}
    sizes[M.STREAM_END] = 9 if is_http2 else len(LAST_CHUNK)
    return sizes | (_http2_stream_heads(spec) if is_http2 else _http1_stream_heads(spec))


def stream_bytes(spec: WireSpec) -> npt.NDArray[np.int64]:
    """Return the bytes of what a stream carries, as a proxy reads them from its server by HTTP/1.0.

    Parameters
    ----------
    spec : WireSpec

    Returns
    -------
    ndarray of int64, shape (len(Message),)
        Of each event and of a comment without the head of its chunk, and of the answer's head;
        0 for what is on no stream.

    Examples
    --------
    >>> sizes = stream_bytes(WireSpec())
    >>> int(sizes[Message.STREAM_COMMENT]), int(sizes[Message.PUSH])
    (8, 0)
    """
    sizes = np.zeros(len(Message), dtype=np.int64)
    for message, n_bytes in _event_bytes(spec).items():
        sizes[message] = n_bytes
    # An answer by HTTP/1.0 has no chunks, so it does not announce them.
    announced = b"Transfer-Encoding: chunked\r\n"
    head = stream_response_head(spec._replace(http_version="1.1"), _DATE)
    sizes[M.STREAM_RESPONSE] = len(head.replace(announced, b""))
    return sizes


def _event_bytes(spec: WireSpec) -> dict[Message, int]:
    """Sizes of a stream's events, which are the texts of a native connection, and of a comment."""
    native = spec._replace(envelope="native")
    texts = {
        M.STREAM_READY: len(ready_text(native, 0)),
        M.STREAM_SNAPSHOT: snapshot_bytes(native),
        M.STREAM_PUSH: push_bytes(native),
        M.STREAM_NOTICE: len(notice_text(native, 0)),
    }
    sizes = {message: stream_event_bytes(n_bytes) for message, n_bytes in texts.items()}
    return {**sizes, M.STREAM_COMMENT: len(STREAM_COMMENT)}


def _http1_stream_heads(spec: WireSpec) -> dict[Message, int]:
    token = "x" * spec.token_bytes
    return {
        M.STREAM_REQUEST: len(stream_request(spec, token, 0)),
        M.STREAM_REQUEST_AGAIN: len(stream_request(spec, token, 0, 0)),
        M.STREAM_RESPONSE: len(stream_response_head(spec, _DATE)),
        M.STREAM_REFUSED: len(stream_response_head(spec, _DATE, 503)),
        M.STREAM_UNAUTHORIZED: len(stream_response_head(spec, _DATE, 401)),
    }


def _http2_stream_heads(spec: WireSpec) -> dict[Message, int]:
    token, sizes = "x" * spec.token_bytes, {}
    for request, last in ((M.STREAM_REQUEST, None), (M.STREAM_REQUEST_AGAIN, 0)):
        cold, _ = _block_bytes(http2_stream_request(spec, token, 0, last), (":path",))
        sizes[request] = _PREFACE_UP + 9 + _PRIORITY + cold
    for reply, status in (
        (M.STREAM_RESPONSE, 200),
        (M.STREAM_REFUSED, 503),
        (M.STREAM_UNAUTHORIZED, 401),
    ):
        _, fields = stream_reply(spec, status, _DATE)
        lower = [(":status", str(status)), *((name.lower(), value) for name, value in fields)]
        cold, _ = _block_bytes(lower, ("date",))
        sizes[reply] = _PREFACE_DOWN + 9 + cold
    return sizes


def _websocket_sizes(spec: WireSpec) -> dict[Message, int]:
    def frame(text: str, *, up: bool = False) -> int:
        return frame_bytes(len(text.encode()), masked=up) if text else 0

    def pushed(payload_bytes: int) -> int:
        return frame_bytes(ceil(payload_bytes * ratio), masked=False)

    ping, pong = heartbeat_texts(spec)
    native, ratio = spec.envelope == "native", spec.deflate_ratio
    control_up, control_down = frame_bytes(4, masked=True), frame_bytes(4, masked=False)
    return {
        M.UPGRADE_REQUEST: len(upgrade_request(spec, _KEY)),
        M.UPGRADE_RESPONSE: len(upgrade_response(spec, _ACCEPT, _DATE)),
        M.UPGRADE_REFUSED: len(upgrade_refused(spec, _DATE)),
        M.UPGRADE_BAD_GATEWAY: len(bad_gateway(spec, _DATE, to_upgrade=True)),
        M.HELLO: frame(hello_text(spec)),
        M.AUTH: frame(auth_text(spec, "x" * spec.token_bytes), up=True),
        M.READY: frame(ready_text(spec, 0)),
        M.AUTH_REFUSED: frame(auth_refused_text(spec)),
        M.SNAPSHOT: pushed(snapshot_bytes(spec)),
        M.PUSH: pushed(push_bytes(spec)),
        M.NOTICE: pushed(len(notice_text(spec, 0))),
        M.PING_DOWN: control_down if native else frame(ping),
        M.PONG_UP: control_up if native else frame(pong, up=True),
        M.PING_UP: control_up,
        M.PONG_DOWN: control_down,
        M.CLOSE_UP: frame_bytes(2, masked=True),
        M.CLOSE_DOWN: frame_bytes(2, masked=False),
    }
