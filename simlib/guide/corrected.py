"""The guide corrected, in the reader's own terms: options, limits, time-outs, flag, load test.

Every number comes from the settings of the scenario, which can be simulated before it is deployed.
"""

from __future__ import annotations

import math

from simlib.errors import ScenarioError
from simlib.guide.defects import REPAIRED, clients_at_once
from simlib.scenario import Scenario
from simlib.scenario.suggestions import scenario_rule

_SPARE = 2.0
"""How many times as much as is needed a limit allows."""


def repaired(scenario: Scenario) -> Scenario:
    """Return a board that is pushed to as the guide ought to have it.

    Its clients reconnect by socket.io-client's rule with its jitter at the most, get the board at
    each connect, poll after three failures, and try push again later.

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
    return scenario.replace({"transport": "websocket", **REPAIRED})


def corrected_guide(scenario: Scenario, *, flag_every_s: float = 60.0) -> str:
    """Return the guide's code and configuration as they ought to be for a board, as Markdown.

    Parameters
    ----------
    scenario : Scenario
        The board; its settings for push are replaced by those of `repaired`.
    flag_every_s : float, optional
        How often tabs read the flag, seconds, > 0.

    Returns
    -------
    str
        Markdown: the client, the server's limits, the proxy, the flag, the load test.

    Raises
    ------
    ScenarioError
        It is no scenario, or the time is out of range.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=200)
    >>> [line for line in corrected_guide(board).splitlines() if "reconnectionDelay:" in line]
    ['  reconnectionDelay: 5000,']
    """
    if isinstance(flag_every_s, bool) or not isinstance(flag_every_s, int | float):
        raise ScenarioError("flag_every_s", flag_every_s, "must be a number of seconds > 0")
    if not 0.0 < flag_every_s < math.inf:
        raise ScenarioError("flag_every_s", flag_every_s, "must be > 0")
    board = repaired(scenario)
    parts = (
        _client(board),
        _server(board),
        _proxy(board),
        _flag(board, flag_every_s),
        _load(board),
    )
    return "\n\n".join(parts) + "\n"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000.0:.0f}"


def _client(board: Scenario) -> str:
    rule, failures = board.reconnect, REPAIRED["fallback.after_failures"]
    return f"""### The client

One owner of reconnection: the library. The token is read at every connect, and the board too.

```js
const socket = io(url, {{
  auth: (send) => send({{ token: currentToken() }}),
  transports: ["websocket"],
  timeout: {_ms(board.websocket.open_timeout_s)},
  reconnectionDelay: {_ms(rule.base_s)},
  reconnectionDelayMax: {_ms(rule.cap_s)},
  randomizationFactor: {rule.jitter_frac:g},
}});
socket.on("connect", () => {{
  failures = 0;
  queryClient.invalidateQueries({{ queryKey: ["matters"] }});
}});
socket.on("connect_error", () => {{
  if (++failures >= {failures}) startPolling();
}});
```"""


def _server(board: Scenario) -> str:
    beat, clients = board.heartbeat, clients_at_once(board)
    most = math.ceil(_SPARE * clients)
    return f"""### The server's limits

It sends after the commit, from another thread, to a set that several threads may change, and lets
go of a session that does not take what it is sent.

```js
new Server(http, {{ pingInterval: {_ms(beat.interval_s)}, pingTimeout: {_ms(beat.timeout_s)} }});
```

```sh
ulimit -n {most}  # twice the {clients:,} tabs: after a restart, old connections and new ones
```"""


def _proxy(board: Scenario) -> str:
    silent_s = board.heartbeat.interval_s + board.heartbeat.timeout_s
    most = math.ceil(2 * _SPARE * clients_at_once(board))
    return f"""### The proxy

A silent socket is never older than a ping and its time-out ({silent_s:g} s).

```nginx
location /socket.io/ {{
  proxy_http_version 1.1;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection "upgrade";
  proxy_read_timeout {math.ceil(_SPARE * silent_s)}s;
}}
# events {{ worker_connections {most}; }}  two for each tab
```"""


def _flag(board: Scenario, every_s: float) -> str:
    return f"""### The flag

One decider; the service follows the flag while the tab is open, and a rollback is spread over a
polling interval.

```ts
const {{ data }} = useQuery({{
  queryKey: ["flags"],
  queryFn: fetchFlags,
  refetchInterval: {_ms(every_s)},
}});
const mode = data?.realTimeMode ?? "polling";
useEffect(() => {{
  const firstPollAfterMs = Math.random() * {_ms(board.polling.interval_s)};
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
