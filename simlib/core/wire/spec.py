"""The messages that are counted, and the settings that their sizes depend on."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import NamedTuple

from simlib.errors import ScenarioError

VERSION_DIGITS = 10


class Message(IntEnum):
    """One-way messages and the exchanges that set a connection up: the rows of `message_sizes`."""

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
    NOTICE = auto()
    PING_DOWN = auto()
    PONG_UP = auto()
    PING_UP = auto()
    PONG_DOWN = auto()
    CLOSE_UP = auto()
    CLOSE_DOWN = auto()
    STREAM_REQUEST = auto()
    STREAM_REQUEST_AGAIN = auto()
    STREAM_RESPONSE = auto()
    STREAM_REFUSED = auto()
    STREAM_UNAUTHORIZED = auto()
    STREAM_READY = auto()
    STREAM_SNAPSHOT = auto()
    STREAM_PUSH = auto()
    STREAM_NOTICE = auto()
    STREAM_COMMENT = auto()
    STREAM_END = auto()
    HELD_REQUEST_FIRST = auto()
    HELD_REQUEST = auto()
    HELD_REPLY_FIRST = auto()
    HELD_REPLY = auto()
    HELD_EMPTY_FIRST = auto()
    HELD_EMPTY = auto()
    HELD_CHANGE = auto()
    UPGRADE_BAD_GATEWAY = auto()
    BAD_GATEWAY = auto()


class WireSpec(NamedTuple):
    """The settings that byte counts depend on; `check_spec` says which values are allowed."""

    http_version: str = "1.1"
    """HTTP version of polls and streams, ``"1.1"`` or ``"2"``; an upgrade is always HTTP/1.1."""
    http_client: str = "chromium"
    """Whose heads polls and requests for streams have: ``"chromium"`` or ``"aiohttp"``."""
    websocket_client: str = "chromium"
    """The client whose upgrade heads are sent: ``"chromium"`` or ``"websockets"``."""
    server: str = "nginx"
    """Value of the Server field."""
    host: str = "app.example.com"
    """Host field; the page's origin is ``https://`` followed by it."""
    poll_path: str = "/api/matters"
    websocket_path: str = "/ws/matters"
    """Path of the endpoint, to which an envelope may append its own."""
    stream_path: str = "/events/matters"
    """Path of a stream; who names the version it has seen appends a query."""
    cookie: str = (
        "JSESSIONID=8C2F5E0B7A9D41436B1E0F2D9C8A7B65; "
        "XSRF-TOKEN=3f2b8c1e-9d47-4a6b-8e05-1c7d2a9f6b34; "
        "_ga=GA1.1.1406724893.1790150400"
    )
    """Cookie field, ``""`` for none."""
    token_bytes: int = 201
    """Length of the bearer token, 0 for none."""
    envelope: str = "native"
    """The format that wraps messages: ``"native"`` (none), ``"socketio"`` or ``"sockjs"``."""
    event: str = "matter_updated"
    """Socket.IO event name of a push."""
    delta_bytes: int = 105
    """JSON payload of one change."""
    snapshot_bytes: int = 5304
    """JSON payload of the whole board."""
    push: str = "delta"
    """The content of a push: ``"delta"`` or ``"snapshot"``."""
    etag: bool = False
    """Whether the server sends ETag and ``Cache-Control: no-cache``, the client If-None-Match."""
    resumes: bool = False
    """Whether the client names the version it has seen, and the server says if the rest is lost."""
    deflate_ratio: float = 1.0
    """Compressed over plain size of pushed payloads; 1 = off."""
    gzip_ratio: float = 1.0
    """Compressed over plain size of a poll's body; 1 = off."""
    tls: bool = False
    tls_up_bytes: int = 2035
    """Bytes of a full TLS handshake from the client."""
    tls_down_bytes: int = 1354
    """Bytes of a full TLS handshake from the server, self-signed leaf and tickets included."""
    tls_chain_bytes: int = 2000
    """Bytes that a real certificate chain adds to `tls_down_bytes`."""


_CHOICES: dict[str, tuple[str, ...]] = {
    "http_version": ("1.1", "2"),
    "http_client": ("chromium", "aiohttp"),
    "websocket_client": ("chromium", "websockets"),
    "envelope": ("native", "socketio", "sockjs"),
    "push": ("delta", "snapshot"),
}
_LEAST = {"token_bytes": 0, "tls_up_bytes": 300, "tls_down_bytes": 700, "tls_chain_bytes": 0}


def check_spec(spec: WireSpec) -> None:
    """Raise an error if the bytes of a spec cannot be counted.

    Raises
    ------
    ScenarioError
        It names the field, its value and the rule. The sizes of JSON payloads are checked by the
        functions that make them.

    Examples
    --------
    >>> check_spec(WireSpec(push="frames"))
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: push: must be one of delta, snapshot, got 'frames'
    """
    for name, allowed in _CHOICES.items():
        if getattr(spec, name) not in allowed:
            raise ScenarioError(name, getattr(spec, name), f"must be one of {', '.join(allowed)}")
    for name, least in _LEAST.items():
        if getattr(spec, name) < least:
            raise ScenarioError(name, getattr(spec, name), f"must be >= {least}")
    for name in ("deflate_ratio", "gzip_ratio"):
        if not 0 < getattr(spec, name) <= 1:
            raise ScenarioError(name, getattr(spec, name), "must be > 0 and <= 1")
    if spec.http_version == "2" and spec.http_client != "chromium":
        raise ScenarioError("http_client", spec.http_client, "must be chromium for HTTP/2")


def checked_token(spec: WireSpec, token: str) -> str:
    """Return a token of the length that the spec states.

    Raises
    ------
    ScenarioError
        It has another length.
    """
    if len(token) != spec.token_bytes:
        raise ScenarioError("token_bytes", spec.token_bytes, f"must be the token's {len(token)}")
    return token


def digits(version: int) -> str:
    """Return a version as text, of `VERSION_DIGITS` digits.

    Raises
    ------
    ValueError
        It needs more digits, or is negative.

    Examples
    --------
    >>> digits(7)
    '0000000007'
    """
    if not 0 <= version < 10**VERSION_DIGITS:
        raise ValueError(f"version: must be >= 0 and < 10**{VERSION_DIGITS}, got {version}")
    return f"{version:0{VERSION_DIGITS}d}"
