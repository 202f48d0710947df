"""Server-sent events: what a stream does otherwise than a WebSocket, by the rules of EventSource.

A stream is the answer to a request of HTTP, which goes on: the server writes an event to it for
each change. Its connection is that of `websocket` (TCP, TLS, a request, waits between attempts),
but for this:

* The request has the token, and what the client has seen: the page names that in the query, and
  from its first event on EventSource names the last one's id (``Last-Event-ID``). So nothing is
  left to be said after the head of the answer. With it come an event that stands for READY, and
  what the client has missed. A token that is no longer valid is answered 401.
* The client sends nothing. The server writes a comment now and then, and no answer comes.
  EventSource does not pass comments on, and has no timer: on a path that died it waits for ever,
  unless it is a client that *watches* the stream (``event-source-polyfill`` does). The server
  notices when nobody acknowledges what it has written.
* To EventSource an answer other than 200 is final. Fetching clients may try again.
* A stream that the server ends with the last chunk is tried again by EventSource as one that is
  cut; Microsoft's ``fetch-event-source`` takes it for the end of all.
* It is ordinary HTTP, so proxies that block upgrades let it pass.

References
----------
WHATWG, HTML Living Standard, section 9.2, Server-sent events: "reestablish the connection", "fail
the connection".
@microsoft/fetch-event-source 2.0.1: src/fetch.ts.
"""

from __future__ import annotations

from simlib.core.protocol import Heartbeat, is_stream
from simlib.core.wire import Message

ENDED = 200
"""The status with which CLOSED tells of a stream that has come to its proper end."""

_SENT_AS = {
    Message.UPGRADE_REQUEST: Message.STREAM_REQUEST,
    Message.UPGRADE_RESPONSE: Message.STREAM_RESPONSE,
    Message.UPGRADE_REFUSED: Message.STREAM_REFUSED,
    Message.UPGRADE_BAD_GATEWAY: Message.BAD_GATEWAY,
    Message.AUTH_REFUSED: Message.STREAM_UNAUTHORIZED,
    Message.READY: Message.STREAM_READY,
    Message.SNAPSHOT: Message.STREAM_SNAPSHOT,
    Message.PUSH: Message.STREAM_PUSH,
    Message.NOTICE: Message.STREAM_NOTICE,
    Message.PING_DOWN: Message.STREAM_COMMENT,
}
_ON_STREAM = bytes(_SENT_AS.get(message, message) for message in Message)
"""By the number of a message of a WebSocket, which one a stream has in its place."""


def sent_as(transport: int, message: int) -> int:
    """Return which `Message` stands for one of a WebSocket where a client has this transport.

    Examples
    --------
    >>> from simlib.core.protocol import Transport
    >>> Message(sent_as(Transport.SSE, Message.PUSH)).name
    'STREAM_PUSH'
    >>> Message(sent_as(Transport.NOTIFY, Message.PUSH)).name
    'PUSH'
    """
    if is_stream(transport):
        return int(_ON_STREAM[int(message + 0)] + 0)
    return int(message + 0)


def heard_pings(transport: int, heartbeat: int, watches: bool) -> int:
    """Return whose pings tell a client that its connection lives, a `Heartbeat`.

    Examples
    --------
    >>> from simlib.core.protocol import Transport
    >>> [Heartbeat(heard_pings(Transport.SSE, Heartbeat.SERVER, w)).name for w in (False, True)]
    ['NONE', 'SERVER']
    """
    if is_stream(transport) and (heartbeat == Heartbeat.CLIENT or not watches):
        return Heartbeat.NONE + 0
    return int(heartbeat + 0)


def is_final(transport: int, retries_errors: bool, retries_ended: bool, status: int) -> bool:
    """Say whether a client gives up because of the status with which its stream was answered.

    Parameters
    ----------
    transport : Transport
    retries_errors, retries_ended : bool
        Whether it comes back after an error of HTTP, and after the proper end of a stream.
    status : int
        0 for a connection that was lost, `ENDED` for a proper end, else the HTTP status.

    Examples
    --------
    >>> from simlib.core.protocol import Transport
    >>> [is_final(Transport.SSE, False, True, status) for status in (0, ENDED, 401, 503)]
    [False, False, True, True]
    """
    if not is_stream(transport) or status == 0:
        return False
    if status == ENDED:
        return not retries_ended
    return not retries_errors
