"""What the corrected guide says where changes come on a stream of server-sent events.

EventSource comes back by itself after a loss, but not after an answer that is an error, it never
sees a path die, and proxies and servers hold streams back or cut them.
"""

from __future__ import annotations

import math
from typing import Any

from simlib.guide.defects import REPAIRED, clients_at_once
from simlib.guide.servers import SERVERS, SPARE, ServerName, example_of, in_ms
from simlib.scenario import Scenario
from simlib.scenario.presets import library


def repairs(board: Scenario) -> dict[str, Any]:
    """Return what a stream has otherwise than a WebSocket that is repaired."""
    rules, longest_s = library("eventsource"), REPAIRED["reconnect.base_s"]
    cut_s = math.inf if board.network.idle_s is None else board.network.idle_s
    return {
        **rules,
        "reconnect.policy": "equal_jitter",
        "reconnect.base_s": longest_s,
        "reconnect.cap_s": longest_s,
        "reconnect.factor": 1.0,
        "sse.retries_http_errors": True,
        "sse.watches": True,
        "heartbeat.interval_s": min(rules["heartbeat.interval_s"], cut_s / SPARE),
    }


def client(board: Scenario, refetch: str) -> str:
    """Return the client's part; `refetch` is what it calls when it is told of a change."""
    beat, failures = board.heartbeat, REPAIRED["fallback.after_failures"]
    on_message = f"{refetch};" if refetch else "apply(JSON.parse(data));"
    if refetch and board.notify.spread_s > 0.0:
        on_message = f"setTimeout(() => {refetch}, Math.random() * {in_ms(board.notify.spread_s)});"
    least = in_ms(board.reconnect.base_s / 2.0)
    return f"""### The client

EventSource comes back by itself. It does not after an answer that is an error, and it sees no
path die: both are here. A new EventSource has no Last-Event-ID, so that it gets the board. Behind a
proxy that holds back what the server sends, a stream opens and says nothing: silence is a failure
too, and only an event shows that there is none.

```js
function open() {{
  stream?.close();
  stream = new EventSource(url, {{ withCredentials: true }});
  stream.addEventListener("ping", heard);
  stream.onmessage = ({{ data }}) => {{
    heard();
    {on_message}
  }};
  stream.onerror = () => {{
    failed();
    if (stream.readyState === EventSource.CLOSED) {{
      after({least} * (1 + Math.random()), open);
    }}
  }};
  watch();
}}
function watch() {{
  after({in_ms(beat.interval_s + beat.timeout_s)}, () => {{
    failed();
    open();
  }});
}}
function heard() {{
  if (failures >= {failures}) stopPolling();
  failures = 0;
  watch();
}}
function failed() {{
  if (++failures === {failures}) startPolling();
}}
function after(ms, then) {{
  clearTimeout(timer);
  timer = setTimeout(then, ms);
}}
let stream, timer, failures = 0;
open();
```"""


def server(board: Scenario, name: ServerName | None) -> str:
    """Return the server's part: headers, fields of the stream, and the settings of a server."""
    clients, row = clients_at_once(board), SERVERS[name or "python"]
    return f"""### The server

```http
HTTP/1.1 200 OK
Content-Type: text/event-stream
Cache-Control: no-cache, no-transform
X-Accel-Buffering: no
```

`no-transform` keeps compression away, `X-Accel-Buffering` nginx's buffer. A stream begins with the
board, or, if its request has a `Last-Event-ID`, with what is newer than that. Each stream has a
`retry` of its own, so that nobody comes back in step; a ping that EventSource can hear is an
event.{example_of(row.stream_server, name)}

{row.events(board)}

{row.limits(board, clients)}

```sh
ulimit -n {math.ceil(SPARE * clients)}  # twice the {clients:,} streams, for a restart
```"""


def proxy(board: Scenario) -> str:
    """Return the proxy's part."""
    tab = board.sse.streams_per_tab + 1
    most = math.ceil(2 * SPARE * clients_at_once(board))
    at_once = max(128, math.ceil(SPARE * tab * board.tabs_per_user))
    return f"""### The proxy

By HTTP/1.1, since by HTTP/1.0 the stream of a server that was killed ends as if all were well. A
browser has six connections over HTTP/1.1, which the streams of all tabs use up: by HTTP/2 they
share one.

```nginx
location /events {{
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffering off;
  gzip off;
  proxy_read_timeout {math.ceil(SPARE * board.heartbeat.interval_s)}s;
}}
# server {{ listen 443 ssl http2; http2_max_concurrent_streams {at_once}; }}
# events {{ worker_connections {most}; }}  two for each tab
# worker_rlimit_nofile {most};  a file for each connection, outside of events
```"""


def load(board: Scenario) -> str:
    """Return the load test."""
    clients = clients_at_once(board)
    return f"""### The load test

It holds all {clients:,} streams, long enough to restart the server meanwhile; curl comes back when
one is cut.

```sh
seq {clients} | xargs -P {clients} -I {{}} curl -sN --retry 1000 --retry-all-errors \\
  --max-time {math.ceil(board.horizon_s)} -o /dev/null https://staging.example/events
```"""
