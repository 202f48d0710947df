"""HTTP heads, as browsers, client libraries and servers send them.

The fields are data, in the order in which they are sent. A field whose value is empty after its
placeholders are filled in is not sent.
"""

from __future__ import annotations

from collections.abc import Iterable

from simlib.core.wire.spec import WireSpec, checked_token, digits
from simlib.errors import ScenarioError

REFUSED_TEXT = "Service Unavailable\n"
"""Body of a refused upgrade, for ``connection.respond(503, REFUSED_TEXT)`` of websockets."""

Fields = list[tuple[str, str]]
_BAD_GATEWAY_BYTES, _CHROME_PADDING_BYTES = 150, 402
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
# EventSource cannot set Authorization: the token is a cookie. Chromium's fields are those of a poll
# and what the standard adds (9.2.2: Accept, cache mode no-store, Last-Event-ID); not recorded.
_STREAM_FIELDS: dict[str, tuple[tuple[str, str], ...]] = {
    "chromium": (
        ("Host", "{host}"),
        ("Connection", "keep-alive"),
        ("sec-ch-ua-platform", '"Linux"'),
        ("Cache-Control", "no-cache"),
        _CHROMIUM,
        ("Accept", "text/event-stream"),
        ("sec-ch-ua", '"Not:A-Brand";v="8", "Chromium";v="156"'),
        ("Last-Event-ID", "{last}"),
        ("sec-ch-ua-mobile", "?0"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "empty"),
        ("Referer", "https://{host}/"),
        *_ACCEPTS,
        ("Cookie", "{cookie}"),
    ),
    "aiohttp": (
        ("Host", "{host}"),
        ("Cookie", "{cookie}"),
        ("Accept", "text/event-stream"),
        ("Cache-Control", "no-cache"),
        ("Last-Event-ID", "{last}"),
        ("Accept-Encoding", "gzip, deflate"),
        ("User-Agent", "Python/3.11 aiohttp/3.14.5"),
    ),
}
_STREAM_TOKEN = "token="
_CHUNKED = {"Transfer-Encoding": "chunked"}  # its length is not known before it is compressed
_COMPRESSED = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
_ENDPOINT = {  # the path that the client libraries append
    "native": "",
    "socketio": "/?EIO=4&transport=websocket",
    "sockjs": "/000/abcdefgh/websocket",
}


def _fill(fields: Iterable[tuple[str, str]], **values: str) -> Fields:
    filled = ((name, template.format(**values)) for name, template in fields)
    return [(name, value) for name, value in filled if value]


def _head(line: str, fields: Fields) -> bytes:
    return "\r\n".join([line, *(f"{k}: {v}" for k, v in fields), "", ""]).encode("ascii")


def _poll_head(spec: WireSpec, line: str, fields: Fields) -> bytes:
    if spec.http_version != "1.1":
        raise ScenarioError("http_version", spec.http_version, "must be 1.1 to be sent")
    return _head(line, fields)


def _poll_fields(spec: WireSpec, token: str, version: int | None) -> Fields:
    return _fill(
        _POLL_FIELDS[spec.http_client],
        host=spec.host,
        cookie=spec.cookie,
        authorization="Bearer " + token if checked_token(spec, token) else "",
        etag=_etag(spec, version) if spec.etag and version is not None else "",
    )


def _etag(spec: WireSpec, version: int) -> str:
    """Return a version's tag. One who compresses an answer on its way weakens it, as nginx does."""
    return f'W/"{digits(version)}"' if spec.gzip_ratio < 1 else f'"{digits(version)}"'


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
        headers |= {"Cache-Control": "no-cache", "ETag": _etag(spec, version)}
    return headers


def poll_reply(spec: WireSpec, status: int, version: int | None, date: str) -> tuple[str, Fields]:
    """Return the status line and the fields in aiohttp's order: the handler's, then its own."""
    reason = {200: "OK", 304: "Not Modified", 503: "Service Unavailable"}[status]
    own = {"Date": date}
    if status == 200:
        length = {"Content-Length": str(spec.snapshot_bytes)}
        if spec.gzip_ratio < 1:
            length = _COMPRESSED if spec.http_version == "2" else _CHUNKED | _COMPRESSED
        own = {"Content-Type": "application/json"} | length | own
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
    return _poll_head(spec, *poll_reply(spec, 200, version, date))


def not_modified(spec: WireSpec, version: int, date: str) -> bytes:
    """Return the whole 304 reply as aiohttp emits it."""
    return _poll_head(spec, *poll_reply(spec, 304, version, date))


def poll_refused(spec: WireSpec, date: str) -> bytes:
    """Return the whole 503 reply, without a body, as aiohttp emits it."""
    return _poll_head(spec, *poll_reply(spec, 503, None, date))


def stream_request(
    spec: WireSpec, token: str, seen: int | None = None, last: int | None = None
) -> bytes:
    r"""Return the request for a stream of server-sent events, HTTP/1.1.

    Parameters
    ----------
    spec : WireSpec
    token : str
        JSON Web Token of `spec.token_bytes` characters, sent as a cookie.
    seen : int, optional
        The version that the page has, for the query, when `spec.resumes`.
    last : int, optional
        The id of the last event received on an earlier connection, for Last-Event-ID.

    Examples
    --------
    >>> spec = WireSpec(http_client="aiohttp", token_bytes=3, cookie="", resumes=True)
    >>> print(stream_request(spec, "abc", 7, 9).decode().replace("\r", ""), end="")
    GET /events/matters?seen=0000000007 HTTP/1.1
    Host: app.example.com
    Cookie: token=abc
    Accept: text/event-stream
    Cache-Control: no-cache
    Last-Event-ID: 0000000009
    Accept-Encoding: gzip, deflate
    User-Agent: Python/3.11 aiohttp/3.14.5
    <BLANKLINE>
    """
    line = f"GET {_stream_target(spec, seen)} HTTP/1.1"
    return _poll_head(spec, line, _stream_fields(spec, token, last))


def _stream_target(spec: WireSpec, seen: int | None) -> str:
    query = f"?seen={digits(seen)}" if spec.resumes and seen is not None else ""
    return spec.stream_path + query


def _stream_fields(spec: WireSpec, token: str, last: int | None) -> Fields:
    crumbs = [spec.cookie, _STREAM_TOKEN + token if checked_token(spec, token) else ""]
    return _fill(
        _STREAM_FIELDS[spec.http_client],
        host=spec.host,
        cookie="; ".join(filter(None, crumbs)),
        last="" if last is None else digits(last),
    )


def stream_token(cookie: str) -> str:
    """Return the token in a Cookie field; ``""`` without one.

    Examples
    --------
    >>> stream_token("_ga=GA1.1; token=abc")
    'abc'
    """
    crumbs = (crumb.strip() for crumb in cookie.split(";"))
    found = (crumb for crumb in crumbs if crumb.startswith(_STREAM_TOKEN))
    return next(found, "").removeprefix(_STREAM_TOKEN)


def stream_response_headers(spec: WireSpec) -> dict[str, str]:
    """Return the fields that the server's handler passes to ``aiohttp.web.StreamResponse``."""
    own = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    return {"Server": spec.server} | own


def stream_reply(spec: WireSpec, status: int, date: str) -> tuple[str, Fields]:
    """Return the status line and the fields of an answer to a request for a stream."""
    reason = {200: "OK", 401: "Unauthorized", 503: "Service Unavailable"}[status]
    fields = {"Server": spec.server, "Content-Length": "0"}
    if status == 200:
        chunked = _CHUNKED if spec.http_version == "1.1" else {}
        fields = stream_response_headers(spec) | chunked
    return f"HTTP/1.1 {status} {reason}", list((fields | {"Date": date}).items())


def stream_response_head(spec: WireSpec, date: str, status: int = 200) -> bytes:
    """Return the head of a stream, or a whole refusal (401, 503), as aiohttp emits it.

    Examples
    --------
    >>> len(stream_response_head(WireSpec(), "Thu, 01 Jan 2026 00:00:00 GMT"))
    157
    """
    return _poll_head(spec, *stream_reply(spec, status, date))


def _held_path(spec: WireSpec, seen: int) -> str:
    return f"{spec.poll_path}?since={digits(seen)}"


def held_request(spec: WireSpec, token: str, seen: int) -> bytes:
    r"""Return a request that the server holds until there is a newer version than `seen`, HTTP/1.1.

    Examples
    --------
    >>> spec = WireSpec(http_client="aiohttp", token_bytes=0, cookie="")
    >>> held_request(spec, "", 7).split(b"\r\n")[0]
    b'GET /api/matters?since=0000000007 HTTP/1.1'
    """
    fields = _poll_fields(spec, token, None)
    return _poll_head(spec, f"GET {_held_path(spec, seen)} HTTP/1.1", fields)


def held_reply(spec: WireSpec, body_bytes: int, date: str) -> tuple[str, Fields]:
    """Return the status line and the fields of the answer to a held request, in aiohttp's order.

    A list of changes has a length of ten digits, so that the head's size does not depend on how
    many there are (RFC 9110, section 8.6, allows the zeros), and is not compressed. Without a body
    the answer is a 204.
    """
    if not body_bytes:
        return "HTTP/1.1 204 No Content", [("Server", spec.server), ("Date", date)]
    if spec.push == "snapshot":
        return poll_reply(spec._replace(etag=False), 200, 0, date)
    own = {"Content-Type": "application/json", "Date": date}
    fields = held_reply_headers(spec, body_bytes) | own
    return "HTTP/1.1 200 OK", list(fields.items())


def held_reply_headers(spec: WireSpec, body_bytes: int) -> dict[str, str]:
    """Return the fields that the server's handler passes to ``aiohttp.web.Response``.

    Examples
    --------
    >>> held_reply_headers(WireSpec(), 153)
    {'Server': 'nginx', 'Content-Length': '0000000153'}
    """
    headers = {"Server": spec.server}
    if body_bytes and spec.push == "delta":
        headers["Content-Length"] = digits(body_bytes)
    return headers


def held_reply_head(spec: WireSpec, body_bytes: int, date: str) -> bytes:
    """Return the head of the answer to a held request as aiohttp emits it on a kept connection."""
    return _poll_head(spec, *held_reply(spec, body_bytes, date))


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


def bad_gateway_reply(spec: WireSpec, client: str, date: str) -> tuple[str, Fields, bytes]:
    """Return the status line, fields and body with which a proxy answers for a server that is down.

    The body is as long as nginx's page without its version, which is padded for Chromium. nginx
    would keep the connection; HAProxy closes it, and so does this.

    References
    ----------
    nginx 1.22.1: src/http/ngx_http_special_response.c, ngx_http_error_502_page, with
    ``server_tokens off``; msie_padding.
    """
    n_bytes = _BAD_GATEWAY_BYTES + _CHROME_PADDING_BYTES * (client == "chromium")
    fields = [
        ("Server", spec.server),
        ("Date", date),
        ("Content-Type", "text/html"),
        ("Content-Length", str(n_bytes)),
        ("Connection", "close"),
    ]
    return "HTTP/1.1 502 Bad Gateway", fields, b"502 Bad Gateway".ljust(n_bytes)


def bad_gateway(spec: WireSpec, date: str, *, to_upgrade: bool = False) -> bytes:
    r"""Return the whole 502 reply of a proxy to a poll, a request for a stream, or an upgrade.

    Examples
    --------
    >>> reply = bad_gateway(WireSpec(http_client="aiohttp"), "Thu, 01 Jan 2026 00:00:00 GMT")
    >>> len(reply), len(reply.partition(b"\r\n\r\n")[2])
    (295, 150)
    """
    client = spec.websocket_client if to_upgrade else spec.http_client
    line, fields, body = bad_gateway_reply(spec, client, date)
    return _head(line, fields) + body


def http2_request(
    spec: WireSpec, token: str, version: int | None = None, *, seen: int | None = None
) -> Fields:
    """Return a poll's header list as Chromium sends it over HTTP/2, cookies split.

    With `seen`, that of a request which the server holds.
    """
    path = spec.poll_path if seen is None else _held_path(spec, seen)
    return _http2_head(spec, path, _poll_fields(spec, token, version))


def http2_stream_request(
    spec: WireSpec, token: str, seen: int | None = None, last: int | None = None
) -> Fields:
    """Return the header list of a request for a stream over HTTP/2: see `stream_request`."""
    return _http2_head(spec, _stream_target(spec, seen), _stream_fields(spec, token, last))


def _http2_head(spec: WireSpec, path: str, fields_of_http1: Fields) -> Fields:
    fields: Fields = [
        (":method", "GET"),
        (":authority", spec.host),
        (":scheme", "https"),
        (":path", path),
    ]
    for name, value in fields_of_http1:
        if name == "Cookie":
            fields += [("cookie", crumb) for crumb in value.split("; ")]
        elif name not in ("Host", "Connection"):
            fields.append((name.lower(), value))
    return [*fields, ("priority", "u=1, i")]
