"""The guide corrected, in the reader's own terms: options, limits, time-outs, flag, load test.

Every number comes from the settings of the scenario, which can be simulated before it is deployed.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from simlib.core.protocol import Transport, is_stream
from simlib.errors import ScenarioError
from simlib.guide import streamed
from simlib.guide.defects import REPAIRED, clients_at_once
from simlib.guide.servers import SERVERS, SPARE, ServerName, example_of, in_ms
from simlib.scenario import Scenario
from simlib.scenario.suggestions import scenario_rule

Hooks = Literal["tanstack", "swr"]
_REFETCH = {
    "tanstack": 'queryClient.invalidateQueries({ queryKey: ["matters"] })',
    "swr": 'mutate("/matters")',
}


def repaired(scenario: Scenario) -> Scenario:
    """Return a board that is pushed to as the guide ought to have it.

    Its clients reconnect by socket.io-client's rule with its jitter at the most, get the board at
    each connect, poll after three failures, and try push again later. A board on a stream (`sse`,
    `sse_notify`) stays on it: the server gives each stream a wait of its own (``retry``), and the
    client opens anew what EventSource leaves closed, or has heard nothing on for too long.

    Parameters
    ----------
    scenario : Scenario

    Raises
    ------
    ScenarioError
        It is no scenario.

    Examples
    --------
    >>> board = repaired(Scenario(updates={"rate_per_s": 0.1}))
    >>> board.reconnect.jitter_frac, board.fallback.after_failures, board.websocket.resync
    (1.0, 3, 'snapshot')
    """
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    if is_stream(Transport[scenario.transport.upper()]):
        return scenario.replace({**REPAIRED, **streamed.repairs(scenario)})
    return scenario.replace({"transport": "websocket", **REPAIRED})


def corrected_guide(
    scenario: Scenario,
    *,
    flag_every_s: float = 60.0,
    hooks: Hooks = "tanstack",
    server: ServerName | None = None,
) -> str:
    """Return the guide's code and configuration as they ought to be for a board, as Markdown.

    Parameters
    ----------
    scenario : Scenario
        The board; its settings for push are replaced by those of `repaired`. If its transport is a
        stream, the guide is one for EventSource, with what the server needs to hold streams.
    flag_every_s : float, optional
        How often tabs read the flag, seconds, > 0.
    hooks : {'tanstack', 'swr'}, optional
        What the clients fetch with: TanStack Query, or SWR.
    server : {'node', 'python', 'java'}, optional
        Whose settings are written: Socket.IO on Node.js, or Node.js alone for streams;
        python-socketio, or gunicorn; netty-socketio, or Spring on Tomcat. Without it the server
        (Node.js; gunicorn for streams) is called an example.

    Returns
    -------
    str
        Markdown: the client, the server's limits, the proxy, the flag, the load test.

    Raises
    ------
    ScenarioError
        It is no scenario, the time is out of range, or there are no such hooks or server.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=200)
    >>> [line for line in corrected_guide(board).splitlines() if "reconnectionDelay:" in line]
    ['  reconnectionDelay: 5000,']
    >>> text = corrected_guide(board, server="python")
    >>> [line for line in text.splitlines() if "ping_interval" in line]
    ['socketio.AsyncServer(ping_interval=25, ping_timeout=20)  # seconds']
    >>> text = corrected_guide(board.replace(transport="sse"), hooks="swr")
    >>> [line for line in text.splitlines() if "refreshInterval:" in line][0]
    '  refreshInterval: polling ? 30000 : 0,'
    """
    if isinstance(flag_every_s, bool) or not isinstance(flag_every_s, int | float):
        raise ScenarioError("flag_every_s", flag_every_s, "must be a number of seconds > 0")
    if not 0.0 < flag_every_s < math.inf:
        raise ScenarioError("flag_every_s", flag_every_s, "must be > 0")
    if hooks not in get_args(Hooks):
        raise ScenarioError("hooks", hooks, "must be one of 'tanstack', 'swr'")
    if server is not None and server not in get_args(ServerName):
        raise ScenarioError("server", server, "must be one of 'node', 'python', 'java'")
    board = repaired(scenario)
    parts: list[str]
    if is_stream(Transport[board.transport.upper()]):
        refetch = _REFETCH[hooks] if board.transport == "sse_notify" else ""
        load = streamed.load(board)
        parts = [streamed.client(board, refetch), streamed.server(board, server)]
        parts.append(streamed.proxy(board))
        parts.append(_polls(board, hooks))
    else:
        load = _load(board)
        parts = [_client(board, hooks), _server(board, server), _proxy(board)]
        parts += [_polls(board, hooks)] if hooks == "swr" else []
    return "\n\n".join((*parts, _flag(board, flag_every_s, hooks), load)) + "\n"


def _client(board: Scenario, hooks: Hooks) -> str:
    rule, failures = board.reconnect, REPAIRED["fallback.after_failures"]
    return f"""### The client

One owner of reconnection: the library. The token is read at every connect, and the board too.

```js
const socket = io(url, {{
  auth: (send) => send({{ token: currentToken() }}),
  transports: ["websocket"],
  timeout: {in_ms(board.websocket.open_timeout_s)},
  reconnectionDelay: {in_ms(rule.base_s)},
  reconnectionDelayMax: {in_ms(rule.cap_s)},
  randomizationFactor: {rule.jitter_frac:g},
}});
let failures = 0;
socket.on("connect", () => {{
  if (failures >= {failures}) stopPolling();
  failures = 0;
  {_REFETCH[hooks]};
}});
socket.on("connect_error", () => {{
  if (++failures === {failures}) startPolling();
}});
```"""


def _server(board: Scenario, name: ServerName | None) -> str:
    clients, row = clients_at_once(board), SERVERS[name or "node"]
    return f"""### The server's limits

It sends after the commit, from another thread, to a set that several threads may change, and lets
go of a session that does not take what it is sent.{example_of(row.socket_library, name)}

{row.pings(board)}

```sh
ulimit -n {math.ceil(SPARE * clients)}  # twice the {clients:,} tabs: after a restart, old \
connections and new ones
```"""


def _proxy(board: Scenario) -> str:
    silent_s = board.heartbeat.interval_s + board.heartbeat.timeout_s
    most = math.ceil(2 * SPARE * clients_at_once(board))
    return f"""### The proxy

A silent socket is never older than a ping and its time-out ({silent_s:g} s).

```nginx
location /socket.io/ {{
  proxy_http_version 1.1;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection "upgrade";
  proxy_read_timeout {math.ceil(SPARE * silent_s)}s;
}}
# events {{ worker_connections {most}; }}  two for each tab
# worker_rlimit_nofile {most};  a file for each connection, outside of events
```"""


_SWITCH = """const [polling, setPolling] = useState(false);
const startPolling = () => setPolling(true);
const stopPolling = () => setPolling(false);"""


def _polls(board: Scenario, hooks: Hooks) -> str:
    rule = board.polling
    focus, hidden = str(rule.refetch_on_focus).lower(), str(not rule.pause_while_hidden).lower()
    if hooks == "tanstack":
        return f"""### The polls

Where push fails, and only while it does, the board is polled.

```ts
{_SWITCH}
useQuery({{
  queryKey: ["matters"],
  queryFn: fetchMatters,
  refetchInterval: polling ? {in_ms(rule.interval_s)} : false,
  refetchIntervalInBackground: {hidden},
  refetchOnWindowFocus: {focus},
  staleTime: {in_ms(rule.stale_s)},
  retry: {rule.retries},
}});
```"""
    return f"""### The polls

Where push fails, and only while it does, the board is polled. SWR leaves out what is due within
`dedupingInterval` of the last fetch, polls too: it is never longer than the interval.

```ts
{_SWITCH}
useSWR("/matters", fetchMatters, {{
  refreshInterval: polling ? {in_ms(rule.interval_s)} : 0,
  dedupingInterval: {in_ms(min(rule.stale_s, rule.interval_s))},
  refreshWhenHidden: {hidden},
  revalidateOnFocus: {focus},
  errorRetryCount: {rule.retries},
  errorRetryInterval: {in_ms(rule.retry_base_s)},
}});
```"""


def _flag(board: Scenario, every_s: float, hooks: Hooks) -> str:
    query = f"""useQuery({{
  queryKey: ["flags"],
  queryFn: fetchFlags,
  refetchInterval: {in_ms(every_s)},
}})"""
    if hooks == "swr":
        query = f'useSWR("/flags", fetchFlags, {{ refreshInterval: {in_ms(every_s)} }})'
    return f"""### The flag

One decider; the service follows the flag while the tab is open, and a rollback is spread over a
polling interval.

```ts
const {{ data }} = {query};
const mode = data?.realTimeMode ?? "polling";
useEffect(() => {{
  const firstPollAfterMs = Math.random() * {in_ms(board.polling.interval_s)};
  const service = createUpdateService(mode, {{ firstPollAfterMs }});
  service.start();
  return () => service.stop();
}}, [mode]);
// enrolled: ((hashCode(salt + userId) % 100) + 100) % 100 < percentage
```"""


def _load(board: Scenario) -> str:
    ramp_s, clients = max(1, round(board.ramp_s)), clients_at_once(board)
    return f"""### The load test

It holds all {clients:,} connections, long enough to restart the server meanwhile.

```yaml
config:
  target: "https://staging.example"
  phases:
    - duration: {ramp_s}
      arrivalRate: {math.ceil(clients / ramp_s)}
scenarios:
  - engine: socketio-v3
    flow:
      - think: {math.ceil(board.horizon_s)}
```"""
