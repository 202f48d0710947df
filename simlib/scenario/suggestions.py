"""What somebody may have meant: the names that people know, and ours beside them.

Nothing is guessed in silence: a suggestion is only ever a part of an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

LIBRARY_ALIASES = {
    "socketio": "socket.io-client",
    "io": "socket.io-client",
    "engineio": "socket.io-client",
    "engineioclient": "socket.io-client",
    "flasksocketio": "socket.io-client",
    "nestjs": "socket.io-client",
    "pythonsocketioclient": "python-socketio",
    "pythonengineio": "python-socketio",
    "rails": "actioncable",
    "rubyonrails": "actioncable",
    "railsactioncable": "actioncable",
    "hotwire": "actioncable",
    "turbo": "actioncable",
    "centrifugo": "centrifuge",
    "centrifugejs": "centrifuge",
    "microsoftsignalr": "signalr",
    "aspnetcoresignalr": "signalr",
    "aspnet": "signalr",
    "blazor": "signalr",
    "dotnet": "signalr",
    "phoenixjs": "phoenix",
    "phoenixchannels": "phoenix",
    "phoenixliveview": "phoenix",
    "liveview": "phoenix",
    "elixir": "phoenix",
    "sockjs": "sockjs-client",
    "graphql": "graphql-ws",
    "graphqlsubscriptions": "graphql-ws",
    "apollo": "graphql-ws",
    "apolloclient": "graphql-ws",
    "urql": "graphql-ws",
    "websocket": "native WebSocket",
    "native": "native WebSocket",
    "browser": "native WebSocket",
    "chrome": "native WebSocket",
    "ws": "native WebSocket",
    "websocketclient": "native WebSocket",
    "pythonwebsockets": "websockets",
}
"""Other names of client libraries, by their letters and digits, and the presets meant."""

_OWN_TIMES = "set reconnect.policy and its times, and [heartbeat], as it documents them"
NO_PRESET = {
    "stompjs": 'set reconnect.policy = "fixed", reconnect.base_s to its reconnectDelay (5 s) and '
    "heartbeat.interval_s to its heartbeatOutgoing (10 s)",
    "reconnectingwebsocket": 'set reconnect.policy = "exponential", reconnect.base_s to its '
    "minReconnectionDelay, cap_s to its maxReconnectionDelay and factor to its "
    "reconnectionDelayGrowFactor, over library('native WebSocket')",
    "mqttjs": 'set reconnect.policy = "fixed", reconnect.base_s to its reconnectPeriod (1 s), '
    'heartbeat.direction = "client" and heartbeat.interval_s to its keepalive (60 s)',
    "pusher": _OWN_TIMES,
    "ably": _OWN_TIMES,
    "faye": _OWN_TIMES,
    "primus": _OWN_TIMES,
    "supabase": _OWN_TIMES,
    "firebase": _OWN_TIMES,
    "mercure": 'set transport = "sse", reconnect.policy = "fixed" and reconnect.base_s = 3',
}
"""Libraries without a preset, by their letters and digits, and what to do instead."""
_NO_PRESET_TOO = {
    "stomp": "stompjs",
    "stompstompjs": "stompjs",
    "springstomp": "stompjs",
    "partysocket": "reconnectingwebsocket",
    "mqtt": "mqttjs",
    "pusherjs": "pusher",
    "laravelecho": "pusher",
    "supabasejs": "supabase",
}

SERVER_ALIASES = {
    "gunicorn": "gunicorn sync",
    "sync": "gunicorn sync",
    "syncworker": "gunicorn sync",
    "wsgi": "gunicorn sync",
    "flask": "gunicorn sync",
    "django": "gunicorn sync",
    "gthread": "gunicorn gthread",
    "gunicornthreads": "gunicorn gthread",
    "gevent": "gunicorn gevent",
    "geventworker": "gunicorn gevent",
    "gunicorneventlet": "gunicorn gevent",
    "eventlet": "gunicorn gevent",
    "gunicornuvicorn": "uvicorn",
    "uvicornworker": "uvicorn",
    "asgi": "uvicorn",
    "fastapi": "uvicorn",
    "starlette": "uvicorn",
    "rails": "puma",
    "rubyonrails": "puma",
    "ruby": "puma",
    "php": "php-fpm",
    "fpm": "php-fpm",
    "laravel": "php-fpm",
    "symfony": "php-fpm",
    "wordpress": "php-fpm",
    "spring": "spring: the loop repaired",
    "springboot": "spring: the loop repaired",
    "tomcat": "spring: the loop repaired",
}
"""Other names of servers, by their letters and digits, and the presets meant."""

METRIC_ALIASES = {
    "p50": "latency_p50_s",
    "median": "latency_p50_s",
    "medianlatency": "latency_p50_s",
    "p90": "latency_p95_s",
    "p95": "latency_p95_s",
    "p99": "latency_p99_s",
    "max": "latency_max_s",
    "latency": "latency_p95_s",
    "staleness": "latency_p95_s",
    "average": "average_latency_s",
    "avg": "average_latency_s",
    "mean": "average_latency_s",
    "meanlatency": "average_latency_s",
    "responsetime": "poll_response_s",
    "requestduration": "poll_response_p95_s",
    "connecttime": "connection_wait_s",
    "timetoconnect": "connection_wait_s",
    "errors": "error_rate_per_h",
    "errorrate": "error_rate_per_h",
    "failures": "error_rate_per_h",
    "connections": "connection_count",
    "sockets": "connection_count",
    "reconnects": "reconnection_rate_per_h",
    "reconnections": "reconnection_rate_per_h",
    "reconnectionrate": "reconnection_rate_per_h",
    "messages": "message_rate_per_s",
    "throughput": "message_rate_per_s",
    "fallback": "fallback_to_polling_frac",
    "fallbacktopollingrate": "fallback_to_polling_frac",
    "cpu": "utilisation",
    "load": "utilisation",
    "utilization": "utilisation",
    "ram": "memory_bytes",
    "memory": "memory_bytes",
    "bytes": "down_bytes_per_h",
    "bandwidth": "down_bytes_per_h",
    "traffic": "down_bytes_per_h",
    "download": "down_bytes_per_h",
    "upload": "up_bytes_per_h",
    "heartbeats": "heartbeat_rate_per_s",
}
"""Other names of metrics, by their letters and digits, and the metrics meant."""

VALUE_ALIASES = {
    **METRIC_ALIASES,
    "setinterval": "fixed_rate",
    "settimeout": "after_answer",
    "nodelay": "refuse",
    "leastconn": "least_connections",
    "leastrequest": "least_connections",
    "randomtwo": "random_of_two",
    "poweroftwochoices": "random_of_two",
    "tokenbucket": "refuse",
    "leakybucket": "delay",
    "throttle": "delay",
    "crash": "restart",
    "kill": "restart",
    "outage": "restart",
    "disconnect": "reset",
    "packetloss": "path_loss",
    "throttling": "bandwidth",
    "ws": "websocket",
    "socketio": "websocket",
    "eventsource": "sse",
    "serversentevents": "sse",
    "longpolling": "long_polling",
    "longpoll": "long_polling",
    "comet": "long_polling",
}
"""Other names of values, by their letters and digits; each is asked only where its value may be."""

NOT_SIMULATED = {
    "webtransport": "WebTransport",
    "webrtc": "WebRTC",
}
"""Transports that there are not, by their letters and digits."""

_LONGEST = 200
_PERCENT = re.compile(r"\s*(\d{1,3}(?:\.\d{1,9})?)\s*%\s*")


def plain(name: object) -> str:
    """Return the letters and digits of a name alone, in small letters; of no text, none.

    Of a long one only the start counts: nobody meant a name that long.

    Examples
    --------
    >>> plain("Socket.IO"), plain("latency_P95")
    ('socketio', 'latencyp95')
    """
    if not isinstance(name, str):
        return ""
    return "".join(letter for letter in name[:_LONGEST].lower() if letter.isalnum())


def nearest(
    name: object, known: Iterable[str], aliases: Mapping[str, str] | None = None
) -> str | None:
    """Return which of some known names was meant, or None.

    Parameters
    ----------
    name : object
        What was given.
    known : iterable of str
        The names that are right.
    aliases : mapping of str to str, optional
        Other names, by their letters and digits, and the right ones.

    Examples
    --------
    >>> nearest("Socket.IO", ["websockets", "socket.io-client"], LIBRARY_ALIASES)
    'socket.io-client'
    >>> nearest("WebSockets", ["polling", "websocket"])
    'websocket'
    >>> nearest("xyzzy", ["polling", "websocket"]) is None
    True
    """
    asked, by_plain = plain(name), {plain(one): one for one in known}
    if not isinstance(name, str) or not asked:
        return None
    if asked in by_plain:
        return by_plain[asked]
    of_aliases = aliases or {}
    if of_aliases.get(asked) in by_plain.values():
        return of_aliases[asked]
    others = {alias: one for alias, one in of_aliases.items() if one in by_plain.values()}
    spellings = {**others, **by_plain}
    near = difflib.get_close_matches(asked, spellings, n=1, cutoff=0.7)
    # What is a part of one name alone, such as "jitter from" of "jitter_from_s".
    parts = [one for one in by_plain if len(asked) > 3 and (asked in one or one in asked)]
    if not near and len(parts) != 1:
        near = difflib.get_close_matches(asked, spellings, n=1, cutoff=0.5)
    return spellings[near[0]] if near else by_plain[parts[0]] if parts else None


def hint(name: object, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """Return the end of an error: what may have been meant, or nothing.

    Examples
    --------
    >>> hint("p95", ["latency_p95_s", "utilisation"], METRIC_ALIASES)
    '; did you mean latency_p95_s?'
    """
    near = nearest(name, known, aliases)
    if near is None:
        return ""
    return f"; did you mean {near}?"


def value_hint(given: str, options: Iterable[str]) -> str:
    """Return the end of an error about a value that is none of some words.

    Examples
    --------
    >>> value_hint("nodelay", ["refuse", "delay"])
    '; did you mean refuse?'
    >>> value_hint("WebRTC", ["polling", "websocket", "notify"])
    '; WebRTC is not simulated'
    """
    known = list(options)
    missing = NOT_SIMULATED.get(plain(given)) if "polling" in known else None
    if missing is None:
        return hint(given, known, VALUE_ALIASES)
    return f"; {missing} {'are' if missing.endswith('s') else 'is'} not simulated"


def number_hint(given: object, unit: str, most: float | None = None) -> str:
    """Return the end of an error about a number: how it is meant, if that may be the mistake.

    Parameters
    ----------
    given : object
    unit : str
        The setting's, or an empty text.
    most : float, optional
        The limit that it exceeds; absent: it is no number at all.

    Examples
    --------
    >>> number_hint(13, "", 1.0), number_hint("10 %", "fraction"), number_hint("10r/s", "1/s")
    (' (a fraction: 0.13 for 13 %)', ' (a fraction: 0.1 for 10 %)', ', in 1/s')
    """
    percent = None
    if most == 1.0 and isinstance(given, int | float) and 1.0 < given <= 100.0:
        percent = float(given)
    elif most is None and isinstance(given, str) and unit in ("", "fraction"):
        match = _PERCENT.fullmatch(given)
        percent = float(match[1]) if match else None
    if percent is not None:
        return f" (a fraction: {percent / 100.0:.10g} for {percent:.10g} %)"
    return f", in {unit}" if most is None and unit else ""


def scenario_rule(given: object) -> str:
    """Return the rule that something breaks which stands where a scenario belongs.

    Examples
    --------
    >>> scenario_rule("matters.toml")
    'must be a Scenario: Scenario.load reads one from a file'
    """
    rule = "must be a Scenario"
    if isinstance(given, str | Path):
        return f"{rule}: Scenario.load reads one from a file"
    if isinstance(given, Mapping):
        return f"{rule}: Scenario(**settings) makes one"
    if hasattr(given, "scenario"):
        return f"{rule}: that of a run is run.scenario"
    return rule


def preset_rule(
    name: object, presets: Iterable[str], aliases: Mapping[str, str] | None = None
) -> str:
    """Return the rule that a name of a server, a proxy or a client library breaks.

    Examples
    --------
    >>> preset_rule("spring: the loop repaird", ["spring: the loop repaired"])
    "must be one of 'spring: the loop repaired'; did you mean 'spring: the loop repaired'?"
    """
    known = list(presets)
    near = nearest(name, known, aliases)
    meant = f"; did you mean {near!r}?" if near else ""
    listed = ", ".join(map(repr, known))  # some have a comma in their names
    return f"must be one of {listed}{meant}"


def server_rule(name: object, presets: Iterable[str]) -> str:
    """Return the rule that a name of a server breaks.

    Examples
    --------
    >>> server_rule("Django", ["uvicorn", "gunicorn sync"])
    "must be one of 'uvicorn', 'gunicorn sync'; did you mean 'gunicorn sync'?"
    """
    return preset_rule(name, presets, SERVER_ALIASES)


def library_without_preset(name: object) -> str:
    """Return the key of `NO_PRESET` for a library, or its name's letters and digits.

    Examples
    --------
    >>> library_without_preset("@stomp/stompjs"), library_without_preset("MQTT")
    ('stompjs', 'mqttjs')
    """
    asked = plain(name)
    return _NO_PRESET_TOO.get(asked, asked)


def library_rule(name: object, presets: Iterable[str]) -> str:
    """Return the rule that a name of a client library breaks.

    Examples
    --------
    >>> library_rule("stomp", ["phoenix"])[:55]
    'has no preset; set reconnect.policy = "fixed", reconnec'
    """
    known = list(presets)
    asked = library_without_preset(name)
    if asked in NO_PRESET:
        listed = ", ".join(map(repr, known))
        return f"has no preset; {NO_PRESET[asked]}. There are presets of {listed}"
    return preset_rule(name, known, LIBRARY_ALIASES)
