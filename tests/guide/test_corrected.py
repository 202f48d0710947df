"""The corrected guide: its numbers are the settings', and the settings bear what the guide met."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

import simlib as sl
from simlib.errors import ScenarioError
from simlib.guide import corrected_guide, repaired

BOARD = sl.Scenario.example("matters")


def number(text, name):
    found = re.search(rf"(?<!\w){name}:? (?:polling \? )?(\d+(?:\.\d+)?)", text)
    assert found, name
    return float(found[1])


def test_every_number_is_the_settings():
    board = repaired(BOARD)
    text = corrected_guide(BOARD, flag_every_s=20.0)
    said = {
        "timeout": 1e3 * board.websocket.open_timeout_s,
        "reconnectionDelay": 1e3 * board.reconnect.base_s,
        "reconnectionDelayMax": 1e3 * board.reconnect.cap_s,
        "randomizationFactor": board.reconnect.jitter_frac,
        "pingInterval": 1e3 * board.heartbeat.interval_s,
        "pingTimeout": 1e3 * board.heartbeat.timeout_s,
        "refetchInterval": 20_000,
    }
    assert {name: number(text, name) for name in said} == said
    assert number(text, "proxy_read_timeout") > board.heartbeat.interval_s
    assert number(text, "ulimit -n") >= board.clients
    assert number(text, "worker_connections") >= 2 * board.clients
    assert number(text, "worker_rlimit_nofile") >= number(text, "worker_connections")


def test_the_load_test_holds_everybody():
    text = corrected_guide(BOARD)
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.S)
    (config,) = [yaml.safe_load(block) for block in blocks]
    (phase,) = config["config"]["phases"]
    assert phase["duration"] * phase["arrivalRate"] >= BOARD.clients
    assert config["scenarios"][0]["flow"][0]["think"] >= BOARD.horizon_s


def test_clients_that_come_and_go_are_counted_as_they_are_there_at_once():
    sessions = {"arrivals_per_s": 2.0, "length_s": 300.0}  # 600 at once, by Little's law
    board = BOARD.replace({"clients": 0, "sessions": sessions})
    text = corrected_guide(board)
    assert number(text, "ulimit -n") == 1200
    assert number(text, "worker_connections") == 2400
    assert "holds all 600 connections" in text
    day = {**sessions, "arrivals": "curve", "curve": [(0.0, 0.0), (300.0, 1.0), (600.0, 0.0)]}
    busier = corrected_guide(board.replace({"sessions": day}))
    assert number(busier, "ulimit -n") == 2400  # twice the mean rate at its peak


def test_the_repaired_board_bears_what_the_guide_does_not():
    restart = {"kind": "restart", "start_s": 120.0, "length_s": 60.0}
    blocked = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 600.0, "share": 0.1}
    board = repaired(BOARD).replace({"faults": [restart, blocked], "clients": 50})
    run = sl.simulate(board, engine="simpy", progress=False)
    assert run.ledger.lost == 0
    clients = run.frame("clients")
    assert (clients["delivered"][clients["eligible"] > 0] > 0).all()


STREAMED = BOARD.replace(
    {
        "transport": "sse",
        "server.workers": 4,
        "server.nodes": 2,
        "server.backlog": 511,
        "server.keep_alive_s": 5.0,
        "network.idle_s": 20.0,
        "polling.stale_s": 90.0,
        "polling.retries": 5,
    }
)


def test_every_number_of_a_stream_is_the_settings():
    board = repaired(STREAMED)
    text = corrected_guide(STREAMED, flag_every_s=20.0)
    assert board.transport == "sse"
    assert board.heartbeat.interval_s == 10.0  # twice in what a proxy takes for silence
    silent_s = board.heartbeat.interval_s + board.heartbeat.timeout_s
    assert f"after({1e3 * silent_s:g}, () =>" in text
    assert f"retry: {{random.randrange(2500, {1e3 * board.reconnect.base_s:g})}}" in text
    assert "PING_EVERY_S = 10\n" in text
    said = {
        "workers =": 4,
        "worker_connections =": 2 * BOARD.clients / 8,
        "backlog =": 511,
        "keepalive =": 5,
        "graceful_timeout =": 30,
        "worker_rlimit_nofile": 4 * BOARD.clients,
        "ulimit -n": 2 * BOARD.clients,
        "proxy_read_timeout": 20,
        "http2_max_concurrent_streams": 128,
        "--max-time": BOARD.horizon_s,
        "seq": BOARD.clients,
        "refetchInterval": 30_000,
        "staleTime": 90_000,
        "retry": 5,
    }
    polls = text[text.index("### The polls") :]  # where a retry is another one
    texts = {"retry": polls, "refetchInterval": polls}
    assert {name: number(texts.get(name, text), name) for name in said} == said
    for needed in ("text/event-stream", "no-transform", "X-Accel-Buffering: no", "Last-Event-ID"):
        assert needed in text
    for needed in ("proxy_buffering off", "proxy_http_version 1.1", 'worker_class = "gevent"'):
        assert needed in text


PINGS = {
    "node": "pingInterval: 25000, pingTimeout: 20000",
    "python": "socketio.AsyncServer(ping_interval=25, ping_timeout=20)",
    "java": "setPingInterval(25000);\nconfiguration.setPingTimeout(20000);",
}
STREAMS = {
    "node": "backlog: 511",
    "python": "backlog = 511",
    "java": "server.tomcat.accept-count=511",
}
PINGS_OF_STREAMS = {"node": "EVERY_MS = 10000", "python": "EVERY_S = 10\n", "java": "every 10 s:"}


@pytest.mark.parametrize("server", PINGS)
def test_the_settings_of_a_server_are_those_of_the_readers(server):
    """A team on Python or Spring is not told what to set in Node.js, nor the other way round."""
    for board, said in ((BOARD, PINGS), (STREAMED, STREAMS), (STREAMED, PINGS_OF_STREAMS)):
        text = corrected_guide(board, server=server)
        assert said[server] in text
        assert not any(words in text for name, words in said.items() if name != server)
        assert "as an example" not in text
        assert text.count("```") % 2 == 0
        others = corrected_guide(board).replace("as an example", "")
        assert others.count("### ") == text.count("### ")


def test_a_server_that_nobody_named_is_called_an_example():
    assert "The settings are those of Socket.IO on Node.js, as an example." in corrected_guide(
        BOARD
    )
    streamed = " ".join(corrected_guide(STREAMED).split())
    assert "The settings are those of Python and gunicorn, as an example." in streamed


@pytest.mark.parametrize("transport", ["websocket", "sse", "sse_notify"])
def test_the_guide_for_swr_has_its_names(transport):
    board = STREAMED.replace({"transport": transport, "notify.spread_s": 3.0})
    text = corrected_guide(board, hooks="swr")
    assert number(text, "refreshInterval") == 30_000
    assert number(text, "dedupingInterval") == 30_000  # or each second poll would be left out
    assert number(text, "errorRetryCount") == 5
    assert 'useSWR("/flags"' in text
    assert "useQuery" not in text
    assert ('mutate("/matters")' in text) == (transport != "sse")
    assert ("Math.random() * 3000)" in text) == (transport == "sse_notify")


BROWSER = """
const url = "/events", timers = new Map(), calls = [], streams = [];
let now = 0, last = 0;
globalThis.setTimeout = (then, ms) => (timers.set(++last, { then, at: now + ms }), last);
globalThis.clearTimeout = (id) => timers.delete(id);
function pass(ms) {
  const until = now + ms;
  for (;;) {
    const due = [...timers].filter(([, { at }]) => at <= until);
    if (!due.length) break;
    const [id, { then, at }] = due.sort((one, other) => one[1].at - other[1].at)[0];
    timers.delete(id);
    now = at;
    then();
  }
  now = until;
}
class EventSource {
  static CLOSED = 2;
  constructor() { this.readyState = 0; this.on = {}; streams.push(this); }
  addEventListener(name, then) { this.on[name] = then; }
  close() { this.readyState = 2; }
  opens() { this.readyState = 1; this.onopen?.(); }
  refused() { this.readyState = 2; this.onerror(); }
}
const current = () => streams.at(-1), startPolling = () => calls.push("start");
const stopPolling = () => calls.push("stop"), apply = () => calls.push("apply");
const queryClient = { invalidateQueries: apply };
"""


def in_node(transport, steps):
    """Return what the printed client has called, and how many streams it has opened."""
    text = corrected_guide(STREAMED.replace(transport=transport))
    (client,) = re.findall(r"```js\n(function open.*?)```", text, re.S)
    script = BROWSER + client + steps + "console.log(JSON.stringify([calls, streams.length]));"
    command = [str(shutil.which("node")), "-"]
    ran = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


BEAT = repaired(STREAMED).heartbeat
HELD_BACK = f"current().opens(); pass({1e3 * (BEAT.interval_s + BEAT.timeout_s):g});"


@pytest.mark.skipif(shutil.which("node") is None, reason="runs the printed client in node")
@pytest.mark.parametrize("transport", ["sse", "sse_notify"])
@pytest.mark.parametrize(
    ("steps", "calls", "opened"),
    [
        (2 * HELD_BACK, [], 3),
        (100 * HELD_BACK, ["start"], 101),  # headers pass, and no event does
        (3 * HELD_BACK + "current().opens(); current().on.ping();", ["start", "stop"], 4),
        (3 * HELD_BACK + "current().onmessage({ data: '1' });", ["start", "stop", "apply"], 4),
        (2 * (2 * HELD_BACK + "current().on.ping();"), [], 5),
        (3 * "current().refused(); pass(5000);", ["start"], 4),
        (3 * "current().onerror();", ["start"], 1),  # EventSource comes back by itself
        (360 * "current().on.ping(); pass(10000);", [], 1),
    ],
)
def test_a_stream_that_says_nothing_is_polled_beside_until_it_does(transport, steps, calls, opened):
    assert in_node(transport, steps) == [calls, opened]


@pytest.mark.parametrize("transport", ["sse", "sse_notify"])
def test_a_repaired_stream_bears_a_restart_and_dead_paths(transport):
    dies = {"kind": "path_loss", "start_s": 100.0, "length_s": 20.0, "share": 0.5}
    restart = {"kind": "restart", "start_s": 300.0, "length_s": 60.0}
    board = repaired(BOARD.replace(transport=transport)).replace({"clients": 50})
    board = board.replace({"faults": [restart, dies], "cool_down_s": 60.0})
    run = sl.simulate(board, engine="simpy", progress=False)
    assert run.ledger.lost == run.ledger.pending == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: corrected_guide("matters"), "scenario"),
        (lambda: corrected_guide(BOARD, flag_every_s=0.0), "flag_every_s: must be > 0"),
        (lambda: corrected_guide(BOARD, flag_every_s=True), "flag_every_s: must be a number"),
        (lambda: corrected_guide(BOARD, hooks="axios"), "hooks: must be one of 'tanstack', 'swr'"),
        (
            lambda: corrected_guide(BOARD, server="go"),
            "server: must be one of 'node', 'python', 'j",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(given, words):
    with pytest.raises(ScenarioError, match=words):
        given()
