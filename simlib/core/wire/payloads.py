"""Payloads: the board's JSON, and the texts that a WebSocket carries, in their envelopes.

Every text that has a version ends with it, so that the version is found from the end.
"""

from __future__ import annotations

import json

from simlib.core.wire.spec import VERSION_DIGITS, Message, WireSpec, checked_token, digits
from simlib.errors import ScenarioError

M = Message
_PADDING = " review of the supplier agreement before its renewal and sign-off by finance"
_CHANGED = "changed"
# A value of the right length where only the length matters.
_SID = "q3Xv7mT0bLwKe9RzAAAB"


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
    start, end = _around_title(version, number)
    room = size_bytes - len(start) - len(end)
    if room < 0:
        raise ScenarioError("delta_bytes", size_bytes, f"must be >= {size_bytes - room}")
    return start + (_PADDING * (room // len(_PADDING) + 1))[:room] + end


def _around_title(version: int, number: int) -> tuple[str, str]:
    """What stands in a card before and after the padding of its title."""
    return (
        f'{{"id":{number},"title":"Matter {number}',
        f'","status":"IN_PROGRESS","assignee":"u-17","version":"{digits(version)}"}}',
    )


def board(spec: WireSpec, version: int) -> str:
    """Return the whole board as JSON of exactly `spec.snapshot_bytes`.

    It has as many cards of `spec.delta_bytes` as fit; the last one is longer and fills the rest.
    """
    start, end = _around_cards(version)
    count, last = _layout(spec)
    sizes = [spec.delta_bytes] * (count - 1) + [last]
    cards = (card(size, 0, 10 + k % 90) for k, size in enumerate(sizes))
    return start + ",".join(cards) + end


def _around_cards(version: int) -> tuple[str, str]:
    """What stands in a board before and after its cards."""
    return '{"matters":[', f'],"version":"{digits(version)}"}}'


def _layout(spec: WireSpec) -> tuple[int, int]:
    """Return the number of a board's cards, and the size of the last one."""
    least = spec.delta_bytes
    smallest = sum(map(len, _around_title(0, 42)))
    if least < smallest:
        raise ScenarioError("delta_bytes", least, f"must be >= {smallest}")
    around = sum(map(len, _around_cards(0)))
    room = spec.snapshot_bytes - around
    if room < least:
        rule = f"must be >= {around + least} (one card of delta_bytes)"
        raise ScenarioError("snapshot_bytes", spec.snapshot_bytes, rule)
    count = (room + 1) // (least + 1)
    return count, room - (least + 1) * (count - 1)


def poll_body(spec: WireSpec, version: int) -> bytes:
    """Return the body of a 200 reply: the board."""
    return board(spec, version).encode("ascii")


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _down(spec: WireSpec, event: str, text: str) -> str:
    """Return a JSON text of the server in its envelope."""
    if spec.envelope == "socketio":
        return f"42[{json.dumps(event)},{text}]"
    return f"a{_compact([text])}" if spec.envelope == "sockjs" else text


def hello_text(spec: WireSpec) -> str:
    """Return the message that the server sends right after the upgrade, ``""`` for none.

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
    """Return the client's first message; ``""`` if it sends none.

    It has the token and, if the server can resume, the version that the client has seen. Socket.IO
    always sends its CONNECT packet.

    Examples
    --------
    >>> auth_text(WireSpec(token_bytes=0, resumes=True), "", 7)
    '{"type":"auth","seen":"0000000007"}'
    """
    checked_token(spec, token)
    said = {"token": token} if token else {}
    if spec.resumes:
        said["seen"] = digits(seen)
    if spec.envelope == "socketio":
        return "40" + (_compact(said) if said else "")
    text = _compact({"type": "auth", **said}) if said else ""
    return _compact([text]) if text and spec.envelope == "sockjs" else text


def ready_text(spec: WireSpec, version: int, *, lost: bool = False) -> str:
    """Return the server's ready message, with the number of changes so far.

    If the client can resume, it also says whether the missed changes are `lost`. A Socket.IO
    CONNECT reply has only a session id, whose last ten characters are the version.

    Examples
    --------
    >>> ready_text(WireSpec(), 7)
    '{"type":"ready","version":"0000000007"}'
    """
    fate = f'"lost":{lost:d},' if spec.resumes else ""
    if spec.envelope == "socketio":
        return f'40{{{fate}"sid":"{_SID[:-VERSION_DIGITS]}{digits(version)}"}}'
    return _down(spec, "", f'{{"type":"ready",{fate}"version":"{digits(version)}"}}')


def says_lost(text: str) -> bool:
    """Return whether a ready text says that the missed changes are lost.

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
    """Return the board as a message of the server."""
    return _down(spec, "snapshot", board(spec, version))


def push_text(spec: WireSpec, version: int) -> str:
    """Return the push of change number `version`: a card, or the whole board.

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


def changes_body(spec: WireSpec, seen: int, version: int) -> bytes:
    """Return the changes after number `seen`, up to number `version`, in answer to a held request.

    Examples
    --------
    >>> body = changes_body(WireSpec(), 7, 9)
    >>> body[:21], body[-25:]
    (b'{"changes":[{"id":42,', b'],"version":"0000000009"}')
    """
    start, end = _around_changes(version)
    cards = (card(spec.delta_bytes, number) for number in range(seen + 1, version + 1))
    return (start + ",".join(cards) + end).encode("ascii")


def _around_changes(version: int) -> tuple[str, str]:
    return '{"changes":[', f'],"version":"{digits(version)}"}}'


def changes_bytes(spec: WireSpec, changes: int) -> int:
    """Return the length of `changes_body`, which is not made for it.

    Examples
    --------
    >>> spec = WireSpec()
    >>> changes_bytes(spec, 2), len(changes_body(spec, 7, 9))
    (248, 248)
    """
    _layout(spec)
    return sum(map(len, _around_changes(0))) + changes * spec.delta_bytes + changes - 1


def poll_body_bytes(spec: WireSpec) -> int:
    """Return the length of `poll_body`, which is not made for it.

    Examples
    --------
    >>> spec = WireSpec(snapshot_bytes=1000)
    >>> poll_body_bytes(spec), len(poll_body(spec, 7))
    (1000, 1000)
    """
    _layout(spec)  # says what is wrong with the sizes
    return spec.snapshot_bytes


def snapshot_bytes(spec: WireSpec) -> int:
    """Return the length of `snapshot_text`, which is not made for it.

    Examples
    --------
    >>> spec = WireSpec(envelope="sockjs")
    >>> snapshot_bytes(spec), len(snapshot_text(spec, 7))
    (6197, 6197)
    """
    return _down_bytes(spec, "snapshot", *_size_of_board(spec))


def push_bytes(spec: WireSpec) -> int:
    """Return the length of `push_text`, which is not made for it.

    Examples
    --------
    >>> spec = WireSpec(envelope="sockjs")
    >>> push_bytes(spec), len(push_text(spec, 7))
    (128, 128)
    """
    if spec.push == "snapshot":
        return _down_bytes(spec, spec.event, *_size_of_board(spec))
    _layout(spec)
    wrapped = len('{"matters":[]}') if spec.envelope == "socketio" else 0
    return _down_bytes(spec, spec.event, spec.delta_bytes + wrapped, _quotes(_around_title(0, 42)))


def _size_of_board(spec: WireSpec) -> tuple[int, int]:
    """Return the length of a board and the number of its quotation marks."""
    count, _ = _layout(spec)
    return spec.snapshot_bytes, _quotes(_around_cards(0)) + count * _quotes(_around_title(0, 42))


def _quotes(texts: tuple[str, str]) -> int:
    return sum(text.count('"') for text in texts)


def _down_bytes(spec: WireSpec, event: str, size: int, quotes: int) -> int:
    """Return the length that a JSON text has in its envelope: SockJS escapes its quotes."""
    return len(_down(spec, event, "")) + size + (quotes if spec.envelope == "sockjs" else 0)


def notice_text(spec: WireSpec, version: int) -> str:
    """Return the message that tells of change number `version`, and has none of its data.

    Examples
    --------
    >>> notice_text(WireSpec(), 7)
    '{"type":"changed","version":"0000000007"}'
    >>> notice_text(WireSpec(envelope="socketio"), 7)
    '42["changed",{"version":"0000000007"}]'
    """
    if spec.envelope == "socketio":
        return f'42["{_CHANGED}",{{"version":"{digits(version)}"}}]'
    return _down(spec, "", f'{{"type":"{_CHANGED}","version":"{digits(version)}"}}')


def heartbeat_texts(spec: WireSpec) -> tuple[str, str]:
    """Return the server's heartbeat and the client's reply; ``""``: a control frame, or none.

    Native connections use ping and pong frames with four bytes. SockJS clients do not reply.
    """
    return {"native": ("", ""), "socketio": ("2", "3"), "sockjs": ("h", "")}[spec.envelope]


STREAM_COMMENT = b": ping\n\n"
"""The server's keep-alive on a stream, which EventSource does not pass on."""
LAST_CHUNK = b"0\r\n\r\n"
"""The proper end of a stream over HTTP/1.1."""


def stream_event(text: str, version: int) -> bytes:
    r"""Return one server-sent event: a text of a native connection, with a version as its id.

    Examples
    --------
    >>> stream_event(notice_text(WireSpec(), 7), 7)
    b'id: 0000000007\ndata: {"type":"changed","version":"0000000007"}\n\n'
    """
    return f"id: {digits(version)}\ndata: {text}\n\n".encode("ascii")


def stream_event_bytes(text_bytes: int) -> int:
    """Return the length of `stream_event` for a text of a length.

    Examples
    --------
    >>> stream_event_bytes(41), len(stream_event(notice_text(WireSpec(), 7), 7))
    (64, 64)
    """
    return len(stream_event("", 0)) + text_bytes


def chunk(data: bytes) -> bytes:
    r"""Return one chunk of a stream over HTTP/1.1 (RFC 9112 section 7.1).

    Examples
    --------
    >>> chunk(STREAM_COMMENT)
    b'8\r\n: ping\n\n\r\n'
    """
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunk_bytes(n_bytes: int) -> int:
    """Return the length of a chunk of so many bytes.

    Examples
    --------
    >>> chunk_bytes(8), len(chunk(STREAM_COMMENT))
    (13, 13)
    """
    return len(f"{n_bytes:x}") + n_bytes + 4


def version_of(text: str | bytes) -> int:
    """Return the version that a ready, snapshot, push or notice text or a poll's body carries.

    Examples
    --------
    >>> spec = WireSpec(envelope="sockjs")
    >>> version_of(push_text(spec, 7)), version_of(poll_body(spec, 8))
    (7, 8)
    """
    tail = text[-24:]
    end = tail.rstrip('"}]\\') if isinstance(tail, str) else tail.rstrip(b'"}]\\')
    return int(end[-VERSION_DIGITS:])


_KINDS = (  # start, meaning; a Socket.IO event is recognised by its end
    ('{"id"', M.PUSH),
    ('{"m', M.SNAPSHOT),
    ('{"type":"ready"', M.READY),
    ('{"type":"refused"', M.AUTH_REFUSED),
    (f'{{"type":"{_CHANGED}"', M.NOTICE),
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
    """Return the kind of a WebSocket text, by its first and last characters.

    A push of the whole board is a SNAPSHOT.

    Raises
    ------
    ValueError
        The text is not one of this module's.

    Examples
    --------
    >>> kind_of(push_text(WireSpec(envelope="sockjs"), 7)).name
    'PUSH'
    """
    if text.startswith(f'42["{_CHANGED}",{{"version"'):
        return M.NOTICE
    if text.startswith("42["):
        return M.PUSH if text.endswith('"}]}]') else M.SNAPSHOT
    start = text[3:24].replace("\\", "") if text.startswith('a["') else text
    for prefix, kind in _KINDS:
        if start.startswith(prefix):
            return kind
    raise ValueError(f"text: must be one of this module's, got {text[:40]!r}")
