"""Every message's text, and its size in bytes.

The live lab sends the texts that are made here and the simulation counts their lengths, so that
simulated and measured bytes are equal by construction. One scenario compiles to one `WireSpec`;
`message_sizes` returns a table of two columns for it, bytes up (from the client) and bytes down, at
the layer that is asked for: payload of TCP, with TLS, or IP packets.

Every number inside a text has a fixed width (versions have ten digits), so a size never depends
on a value. Tokens must have the length that the spec states.

======================  ==========================================================================
exact, tested           HTTP/1.1 heads: Chromium's, aiohttp's and websockets' own requests as
against the real thing  recorded over TLS (``data/measured/heads.json``), replies as aiohttp and
                        websockets emit them; WebSocket frames (RFC 6455); Socket.IO v5 and SockJS
                        texts; TLS 1.3 record overhead (RFC 8446 section 5.2); request header
                        blocks of Chromium over HTTP/2
a model                 everything else: see `sizes`
======================  ==========================================================================

==============  ==================================================================================
`spec`          the messages, and what their sizes depend on
`heads`         HTTP requests, replies and upgrades
`payloads`      JSON, and the texts of native, Socket.IO and SockJS connections
`frames`        WebSocket frames
`sizes`         the table of sizes, with HTTP/2, TLS and TCP/IP, and their models
==============  ==================================================================================
"""

from simlib.core.wire.frames import frame_bytes, websocket_frame
from simlib.core.wire.heads import (
    REFUSED_TEXT,
    bad_gateway,
    held_reply_head,
    held_reply_headers,
    held_request,
    http2_request,
    not_modified,
    poll_refused,
    poll_request,
    poll_response_head,
    poll_response_headers,
    stream_request,
    stream_response_head,
    stream_response_headers,
    stream_token,
    upgrade_refused,
    upgrade_request,
    upgrade_response,
)
from simlib.core.wire.payloads import (
    LAST_CHUNK,
    STREAM_COMMENT,
    auth_refused_text,
    auth_text,
    board,
    card,
    changes_body,
    chunk,
    heartbeat_texts,
    hello_text,
    kind_of,
    notice_text,
    poll_body,
    push_text,
    ready_text,
    says_lost,
    snapshot_text,
    stream_event,
    version_of,
)
from simlib.core.wire.sizes import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    Layer,
    message_sizes,
    stream_bytes,
)
from simlib.core.wire.spec import VERSION_DIGITS, Message, WireSpec, check_spec

__all__ = [
    "HEADER_BYTES",
    "LAST_CHUNK",
    "REFUSED_TEXT",
    "SEGMENT_BYTES",
    "STREAM_COMMENT",
    "VERSION_DIGITS",
    "Layer",
    "Message",
    "WireSpec",
    "auth_refused_text",
    "auth_text",
    "bad_gateway",
    "board",
    "card",
    "changes_body",
    "check_spec",
    "chunk",
    "frame_bytes",
    "heartbeat_texts",
    "held_reply_head",
    "held_reply_headers",
    "held_request",
    "hello_text",
    "http2_request",
    "kind_of",
    "message_sizes",
    "not_modified",
    "notice_text",
    "poll_body",
    "poll_refused",
    "poll_request",
    "poll_response_head",
    "poll_response_headers",
    "push_text",
    "ready_text",
    "says_lost",
    "snapshot_text",
    "stream_bytes",
    "stream_event",
    "stream_request",
    "stream_response_head",
    "stream_response_headers",
    "stream_token",
    "upgrade_refused",
    "upgrade_request",
    "upgrade_response",
    "version_of",
    "websocket_frame",
]
