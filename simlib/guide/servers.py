"""How servers that teams have write the corrected guide's settings: a row a server.

python-socketio counts in seconds, Node.js and netty-socketio in milliseconds. What is sent, and how
many connections there are, is the same for all.

References
----------
socket.io 4: Server options, pingInterval, pingTimeout; Node.js: server.keepAliveTimeout,
server.listen. python-socketio 5.18: AsyncServer, ping_interval, ping_timeout; gunicorn 27.0.1:
gunicorn/config.py. netty-socketio: Configuration, setPingInterval, setPingTimeout; Spring
Framework: SseEmitter; Spring Boot: server.tomcat.* of the common application properties.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from simlib.scenario import Scenario

ServerName = Literal["node", "python", "java"]
SPARE = 2.0
"""How many times as much as is needed a limit allows."""


def in_ms(seconds: float) -> str:
    """Return a time in whole milliseconds."""
    return f"{seconds * 1000.0:.0f}"


class ServerRow(NamedTuple):
    """What one server is called, and how it writes its settings, as Markdown.

    `socket_library` serves socket.io-client, and `pings` are its settings; `stream_server` serves
    streams, `events` is what it writes to one, and `limits` are its settings for so many streams.
    """

    socket_library: str
    pings: Callable[[Scenario], str]
    stream_server: str
    events: Callable[[Scenario], str]
    limits: Callable[[Scenario, int], str]


def _retry_ms(board: Scenario) -> tuple[str, str]:
    """Return between what a stream's own wait is drawn."""
    longest_s = board.reconnect.base_s
    return in_ms(longest_s / 2.0), in_ms(longest_s)


def _node_pings(board: Scenario) -> str:
    beat = board.heartbeat
    interval, timeout = in_ms(beat.interval_s), in_ms(beat.timeout_s)
    return f"""```js
new Server(http, {{ pingInterval: {interval}, pingTimeout: {timeout} }});
```"""


def _node_events(board: Scenario) -> str:
    least, most = _retry_ms(board)
    return f"""```js
function begin(response, lastEventId) {{
  response.write(`retry: ${{{least} + Math.floor(Math.random() * ({most} - {least}))}}\\n\\n`);
  eventsSince(lastEventId).forEach((event) => response.write(event)); // id: version, data: change
}}
const PING = "event: ping\\ndata:\\n\\n";
const PING_EVERY_MS = {in_ms(board.heartbeat.interval_s)};
```"""


def _node_limits(board: Scenario, clients: int) -> str:
    return f"""An event loop holds as many streams as it has room for, here {clients:,}.

```js
server.keepAliveTimeout = {in_ms(board.server.keep_alive_s)};
server.listen({{ port, backlog: {board.server.backlog} }});
```"""


def _python_pings(board: Scenario) -> str:
    beat = board.heartbeat
    return f"""```python
socketio.AsyncServer(ping_interval={beat.interval_s:g}, ping_timeout={beat.timeout_s:g})  # seconds
```"""


def _python_events(board: Scenario) -> str:
    least, most = _retry_ms(board)
    return f"""```python
def begin(last_event_id):
    yield f"retry: {{random.randrange({least}, {most})}}\\n\\n"
    yield from events_since(last_event_id)  # id: the version, data: the change
PING = "event: ping\\ndata:\\n\\n"
PING_EVERY_S = {board.heartbeat.interval_s:g}
```"""


def _python_limits(board: Scenario, clients: int) -> str:
    rules = board.server
    loops = rules.nodes * rules.workers
    return f"""Of gunicorn, a sync worker holds one stream alone: {clients:,} of them. A worker with
an event loop holds as many as it has room for.

```python
# gunicorn.conf.py
worker_class = "gevent"  # or uvicorn_worker.UvicornWorker, for ASGI
workers = {rules.workers}
worker_connections = {math.ceil(SPARE * clients / loops)}
backlog = {rules.backlog}
keepalive = {math.ceil(rules.keep_alive_s)}
graceful_timeout = 30  # open streams hold a stopping worker until then: deploy node by node
```"""


def _java_pings(board: Scenario) -> str:
    beat = board.heartbeat
    return f"""```java
configuration.setPingInterval({in_ms(beat.interval_s)});
configuration.setPingTimeout({in_ms(beat.timeout_s)});
```"""


def _java_events(board: Scenario) -> str:
    least, most = _retry_ms(board)
    return f"""```java
SseEmitter begin(String lastEventId) throws IOException {{
  var emitter = new SseEmitter(0L); // without a time-out of Spring's own
  emitter.send(event().reconnectTime(ThreadLocalRandom.current().nextLong({least}, {most})));
  for (var change : changesSince(lastEventId))
    emitter.send(event().id(change.version()).data(change));
  return emitter;
}}
// every {board.heartbeat.interval_s:g} s: emitter.send(event().name("ping").data(""));
```"""


def _java_limits(board: Scenario, clients: int) -> str:
    rules = board.server
    return f"""A stream holds a connection of Tomcat's, and no thread.

```properties
server.tomcat.max-connections={math.ceil(SPARE * clients / rules.nodes)}
server.tomcat.accept-count={rules.backlog}
server.tomcat.keep-alive-timeout={math.ceil(rules.keep_alive_s)}s
```"""


SERVERS: dict[str, ServerRow] = {
    "node": ServerRow("Socket.IO on Node.js", _node_pings, "Node.js", _node_events, _node_limits),
    "python": ServerRow(
        "python-socketio", _python_pings, "Python and gunicorn", _python_events, _python_limits
    ),
    "java": ServerRow(
        "netty-socketio", _java_pings, "Spring and Tomcat", _java_events, _java_limits
    ),
}


def example_of(words: str, server: ServerName | None) -> str:
    """Return the line that calls a server an example, if the reader has not said which it is.

    Examples
    --------
    >>> print("Streams go on." + example_of("python-socketio", None))
    Streams go on.
    The settings are those of python-socketio, as an example.
    >>> example_of("python-socketio", "python")
    ''
    """
    return f"\nThe settings are those of {words}, as an example." if server is None else ""
