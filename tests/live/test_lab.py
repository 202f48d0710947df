"""The live lab on real sockets: what it counts, what it refuses, what it leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import cache

import numpy as np
import psutil
import pytest

import simlib as sl
from simlib.core.wire import Message
from simlib.live import lab, standby
from simlib.live.ipc import Child
from simlib.live.messages import Progress
from simlib.scenario import compile_workload
from tests.live.together import Together

pytestmark = pytest.mark.live

SCALE = 5.0
KEEP = ("deliveries", "events")
POLLING = sl.Scenario(
    clients=12,
    horizon_s=18.5,
    ramp_s=2.0,
    updates={"rate_per_s": 0.5},
    polling={"interval_s": 5.0},
    websocket={"resync": "none"},
    heartbeat={"interval_s": 4.0, "timeout_s": 4.0},
)
"""Four polls, three heartbeats: none of them near the horizon, so none is cut off."""
PUSH = POLLING.replace(transport="websocket")
STREAM = POLLING.replace({"transport": "sse", "reconnect": {"policy": "fixed", "base_s": 3.0}})
CUT = {"kind": "reset", "start_s": 6.3}
TOLD = POLLING.replace({"transport": "notify", "updates.rate_per_s": 0.3})
"""With this seed no change comes within 50 ms of the answer to an earlier one: there is no race."""

HELD = POLLING.replace(
    {"transport": "long_polling", "long_polling.timeout_s": 5.4, "clients": 50, "ramp_s": 1.0}
)
"""With this seed no hold ends within 0.9 s of a change or of the end: there is no race."""

OFTEN = {"updates.rate_per_s": 0.8, "server.poll_s": 0.15}
"""So that changes come while the server answers."""

VARIANTS = {
    "polling": POLLING,
    "polling with aiohttp's heads": POLLING.replace({"wire.http_client": "aiohttp"}),
    "polling with etag": POLLING.replace({"polling.etag": "content", "updates.rate_per_s": 0.1}),
    "polling with versions": POLLING.replace(
        {"polling.etag": "version", "updates.rate_per_s": 0.1}
    ),
    "polling from a copy": POLLING.replace({"server.cache_s": 2.7}),
    "polling with etag from a copy": POLLING.replace(
        {"polling.etag": "content", "updates.rate_per_s": 0.1, "server.cache_s": 5.6}
    ),
    "polling, faster after a change": POLLING.replace(
        {
            "updates.rate_per_s": 0.1,
            "polling.active_interval_s": 1.7,
            "polling.active_for_s": 4.0,
        }
    ),
    "polling, a connection each": POLLING.replace({"server.keep_alive_s": 1.0}),
    "polling at a fixed rate": POLLING.replace({"polling.timer": "fixed_rate"}),
    "push": PUSH,
    "push to two tabs of each user": PUSH.replace({"tabs_per_user": 2}),
    "push with websockets' heads": PUSH.replace({"wire.websocket_client": "websockets"}),
    "push of snapshots": PUSH.replace({"websocket.push": "snapshot"}),
    "push after a snapshot": PUSH.replace({"websocket.resync": "snapshot"}),
    "push with client pings": PUSH.replace({"heartbeat.direction": "client"}),
    "push without heartbeat": PUSH.replace({"heartbeat.direction": "none"}),
    "push with safety polls": PUSH.replace({"websocket.safety_poll_s": 5.0}),
    "push in socket.io's envelope": PUSH.replace({"wire.envelope": "socketio"}),
    "push in sockjs' envelope": PUSH.replace({"wire.envelope": "sockjs"}),
    "told of changes": TOLD,
    "told of changes, in a window": TOLD.replace({"notify.spread_s": 2.2}),
    "told of changes, with etag and safety polls": TOLD.replace(
        {"polling.etag": "content", "websocket.safety_poll_s": 2.5}
    ),
    "told of changes, and a copy for all": TOLD.replace({"server.cache_s": 9.0}),
    "told of changes, a connection each": TOLD.replace({"server.keep_alive_s": 0.5}),
    "told of changes, and restarts": TOLD.replace({**OFTEN, "notify.on_hint": "restart"}),
    "told of changes in socket.io's envelope": TOLD.replace({"wire.envelope": "socketio"}),
    "stream": STREAM,
    "stream with aiohttp's heads": STREAM.replace({"wire.http_client": "aiohttp"}),
    "stream of snapshots, after one": STREAM.replace(
        {"websocket.push": "snapshot", "websocket.resync": "snapshot"}
    ),
    "stream that is replayed": STREAM.replace(
        {"websocket.resync": "replay", "websocket.replay_changes": 50, "faults": [CUT]}
    ),
    "told of changes by a stream": TOLD.replace({"transport": "sse_notify"}),
    "stream through the proxy": STREAM.replace(
        {"network.rtt_quantiles": [[0.0, 0.01], [1.0, 0.1]], "heartbeat.interval_s": 3.8}
    ),
    "stream that a proxy keeps from some": STREAM.replace(
        {
            "network.stream_held_frac": 0.4,
            "websocket.open_timeout_s": 4.3,
            "fallback": {"after_failures": 1},
        }
    ),
    "long polling": HELD,
    "long polling for boards": HELD.replace({"websocket.push": "snapshot"}),
    "long polling with aiohttp's heads": HELD.replace({"wire.http_client": "aiohttp"}),
    "long polling, a pause and a connection each": HELD.replace(
        {"long_polling.pause_s": 3.1, "long_polling.timeout_s": 8.4, "server.keep_alive_s": 0.5}
    ),
    "long polling, and nothing changes": HELD.replace({"updates.rate_per_s": 0.0}),
    "polling, and nothing changes": POLLING.replace({"updates.rate_per_s": 0.0}),
    "push, and nothing changes": PUSH.replace({"updates.rate_per_s": 0.0}),
    # With this seed no session ends within 25 ms of a ping or a push: which comes first is no race.
    "sessions that end": PUSH.replace(sessions={"arrivals_per_s": 0.5, "length_s": 5.5}),
}


@pytest.fixture(autouse=True)
def leaves_no_process():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    after = {child.pid for child in psutil.Process().children(recursive=True)}
    assert after <= before


@cache
def measured():
    """All variants; they are measured once."""
    return Together(VARIANTS, seed=3, time_scale=SCALE, keep=KEEP)


def both(name):
    live = measured()[name]
    return live, sl.simulate(live.scenario, seed=3, keep=KEEP, progress=False)


@pytest.mark.parametrize("name", [name for name in VARIANTS if "nothing" in name])
def test_a_measured_run_without_changes_has_an_empty_ledger(name):
    live, _ = both(name)
    assert set(live.ledger) == {0}
    assert np.isnan(live.latency_quantiles(0.5)).all()
    assert live.provenance["publish_late_s"]["max"] == 0.0
    assert "late" not in {warning.kind for warning in live.warnings}


def test_resets_that_repeat_cut_the_same_clients_as_in_the_simulation():
    resets = [{"kind": "reset", "start_s": 5.3, "repeat_s": 4.1, "share": 0.5}]
    scenario = PUSH.replace(faults=resets, reconnect={"policy": "fixed", "base_s": 0.7})
    live = sl.measure(scenario, seed=3, time_scale=2.0, progress=False)

    def cut(run):
        table = run.frame("connections")
        ended = table[table["cause"] != "open_at_end"]
        return sorted(zip(ended["closed_s"].round().astype(int), ended["client"], strict=True))

    assert len({t_s for t_s, _ in cut(live)}) == 4
    assert cut(live) == cut(sl.simulate(live.scenario, seed=3, progress=False))


@pytest.mark.parametrize("name", VARIANTS)
def test_measured_waits_are_as_many_as_simulated(name):
    counts = [run.frame("timeline")[["answers", "opened"]].sum() for run in both(name)]
    assert counts[0].equals(counts[1])
    row = both(name)[0].metrics().iloc[0]
    for count, metric in (("answers", "poll_response_s"), ("opened", "connection_wait_s")):
        assert np.isnan(row[metric]) if counts[0][count] == 0 else row[metric] > 0.0


@pytest.mark.parametrize("name", VARIANTS)
def test_bytes_measured_equal_bytes_simulated(name):
    live, simulated = both(name)

    columns = ["polls", "unchanged", "messages", "connections", "errors"]
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    assert ours[columns].equals(theirs[columns])
    measured, predicted = (run.frame("timeline").sum() for run in (live, simulated))
    for name in ("payload_up_bytes", "payload_down_bytes"):
        assert measured[name] == predicted[name] > 0
    for name in ("up_bytes", "down_bytes"):  # as the kernel counts packets, and by a model of them
        assert measured[name] == pytest.approx(predicted[name], rel=0.2)
        assert ours[name].sum() == measured[name]


def test_bytes_measured_equal_counts_times_the_wire_sizes():
    live, _ = both("polling")
    sizes = compile_workload(live.scenario, 3, 0).sizes
    clients, counted = live.frame("clients"), live.frame("timeline").sum()

    assert (clients["polls"] == 4).all()
    polls = 4 * len(clients)
    assert counted["payload_up_bytes"] == polls * sizes[Message.POLL_REQUEST, 0]
    assert counted["payload_down_bytes"] == polls * sizes[Message.POLL_RESPONSE, 1]


def test_a_measured_run_has_the_tables_of_a_simulated_one():
    live, simulated = both("push")
    for name in ("timeline", "clients", "latency", "connections", *KEEP):
        ours, theirs = live.frame(name), simulated.frame(name)
        assert list(ours.columns) == list(theirs.columns)
        assert list(ours.dtypes) == list(theirs.dtypes)
    assert list(live.metrics().columns) == list(simulated.metrics().columns)


def test_activity_and_publish_times_are_those_of_the_simulation():
    scenario = PUSH.replace(drag={"every_s": 4.0, "length_s": 1.0})
    live = sl.measure(scenario, time_scale=SCALE, keep=KEEP, progress=False)
    simulated = sl.simulate(live.scenario, keep=KEEP, progress=False)

    def drags(run):
        events = run.frame("events")
        return events[events["event"].str.startswith("drag")].sort_values(["client", "t_s"])

    ours, theirs = drags(live), drags(simulated)
    assert len(ours) > 10
    assert ours["client"].tolist() == theirs["client"].tolist()
    late_s = ours["t_s"].to_numpy() - theirs["t_s"].to_numpy()
    assert (late_s > -0.02 * SCALE).all()
    assert np.median(late_s) < 0.05 * SCALE
    assert set(live.frame("deliveries")["published_s"]) <= set(
        compile_workload(scenario, 1, 0).publish_s
    )


def test_push_is_faster_than_polling_and_nothing_is_lost():
    polled, pushed = (both(name)[0] for name in ("polling", "push after a snapshot"))
    assert pushed.latency_quantiles(0.5) < polled.latency_quantiles(0.5) / 2
    for run in (polled, pushed):
        assert run.ledger.eligible > 0
        assert run.ledger.lost == 0


def test_the_load_generator_and_its_neighbours_are_reported():
    run = sl.measure(PUSH, time_scale=SCALE, progress=False)
    cpu = run.provenance["cpu"]
    assert 0 < cpu["client_cores"] < 2
    assert 0 < cpu["server_cores"] < 2
    assert run.provenance["quiet"] == (cpu["other_cores"] < lab.QUIET_CORES)
    assert run.provenance["time_scale"] == SCALE


def test_connections_beyond_the_cap_are_refused_and_tried_again():
    scenario = PUSH.replace(
        {"server.max_connections": 5, "reconnect.policy": "fixed", "reconnect.base_s": 2.0}
    )
    live = sl.measure(scenario, time_scale=SCALE, progress=False)
    clients = live.frame("clients")
    assert (clients["connections"] > 0).sum() == 5
    assert (clients["errors"] > 2).sum() == 7
    assert live.ledger.lost > 0


RECOVERY = {"websocket.resync": "recovery", "websocket.recovery_s": 60.0}


@pytest.mark.parametrize(
    ("changes", "time_scale", "path"),
    [
        ({"wire.http": "2"}, 1.0, "wire.http"),
        ({"wire.gzip_ratio": 0.2}, 1.0, "wire.gzip_ratio"),
        ({"wire.deflate_ratio": 0.2}, 1.0, "wire.deflate_ratio"),
        ({"server.shed_wait_s": 1.0}, 1.0, "server.shed_wait_s"),
        (
            {"server.slow_consumers": "abort", "server.write_timeout_s": 20.0},
            1.0,
            "server.slow_consumers",
        ),
        ({"server.socket_set": "plain"}, 1.0, "server.socket_set"),
        ({"server.meeting_fails_frac": 0.4}, 1.0, "server.meeting_fails_frac"),
        ({"server.nodes": 5}, 1.0, "server.nodes"),
        (RECOVERY | {"server.nodes": 2}, 1.0, "websocket.resync"),
        ({"rate_limit": {"rate_per_s": 5.0}}, 1.0, "rate_limit"),
        ({"wire.token_bytes": 202}, 1.0, "wire.token_bytes"),
        ({"wire.token_bytes": 121}, 1.0, "wire.token_bytes"),
        ({"clients": 2_000_000}, 1.0, "clients"),
        ({"horizon_s": "2 d"}, 1.0, "horizon_s"),
        ({}, 0.5, "time_scale"),
        ({}, "fast", "time_scale"),
    ],
)
def test_what_the_lab_does_not_have_is_refused_by_name(changes, time_scale, path):
    with pytest.raises(sl.ScenarioError) as error:
        sl.measure(PUSH.replace(changes), time_scale=time_scale, progress=False)
    assert error.value.path == path


RESTARTED = PUSH.replace(faults=[{"kind": "restart", "start_s": 15.0, "length_s": 1.0}])
SHARDED = PUSH.replace({"server.nodes": 2})


@pytest.mark.parametrize(
    ("scenario", "victim", "processes"),
    [(PUSH, 0, 2), (PUSH, 1, 2), (RESTARTED, 2, 3), (SHARDED, 1, 4), (SHARDED, 3, 4)],
)
def test_the_death_of_a_process_is_an_error_and_the_others_go_too(
    scenario, victim, processes, monkeypatch
):
    children: list[Child] = []

    class Watched(Child):
        def __init__(self, module, processor):
            super().__init__(module, processor)
            children.append(self)

        def receive(self, timeout_s):
            message = super().receive(timeout_s)
            if isinstance(message, Progress):
                psutil.Process(children[victim].pid).kill()
            return message

    monkeypatch.setattr(lab, "Child", Watched)
    monkeypatch.setattr(standby, "Child", Watched)
    with pytest.raises(sl.LiveError, match="died"):
        sl.measure(scenario, time_scale=SCALE, progress=False)
    assert len(children) == processes


SCRIPT = """
import signal, sys
import simlib as sl
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would ignore it
scenario = sl.Scenario(
    transport="websocket", clients=20, horizon_s=600.0, ramp_s=1.0, updates={"rate_per_s": 5.0}
).replace({"server.nodes": int(sys.argv[1])})
print("go", flush=True)
try:
    sl.measure(scenario, progress=False)
except sl.Interrupted as interrupted:
    run = interrupted.result
print(run.is_complete, run.ledger.delivered > 0, sum(run.ledger[1:4]) == run.ledger.eligible)
"""


def descendants(process):
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_measurement_keeps_its_results_and_leaves_no_process(how, nodes):
    processes = {1: 2, 2: 4}[nodes]  # with two nodes there is a proxy too
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(nodes)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n"
            deadline_s = time.monotonic() + 20
            while len(descendants(process)) < processes and time.monotonic() < deadline_s:
                time.sleep(0.05)
            time.sleep(4.0 * nodes)  # they load, and run for a while
            children = descendants(process)
            assert len(children) == processes
            process.send_signal(how)
            said, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    _gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    if how != signal.SIGKILL:
        assert said.split() == ["False", "True", "True"]


def test_fifty_streams_carry_what_is_predicted_and_are_as_late_as_fifty_websockets():
    fifty = {"clients": 50, "websocket.resync": "snapshot"}
    boards = {"stream": STREAM.replace(fifty), "push": PUSH.replace(fifty)}
    runs = Together(boards, seed=3, time_scale=1.0)
    streamed = runs["stream"]
    simulated = sl.simulate(streamed.scenario, seed=3, progress=False)
    columns = ["payload_up_bytes", "payload_down_bytes"]
    totals = [run.frame("timeline")[columns].sum() for run in (streamed, simulated)]
    assert totals[0].tolist() == totals[1].tolist()
    assert streamed.ledger == simulated.ledger
    medians_s = [runs[name].latency_quantiles(0.5) for name in boards]
    assert abs(medians_s[0] - medians_s[1]) < 10e-3


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (sl.proxy("nginx"), "network.stream_buffer_bytes"),
        (sl.proxy("haproxy"), "network.stream_delay_s"),
        ({"server.slow_consumers": "coalesce"}, "server.slow_consumers"),
        ({"server.ends_streams": True}, "server.ends_streams"),
    ],
)
def test_what_the_lab_does_not_have_for_streams_is_refused(change, path):
    with pytest.raises(sl.ScenarioError) as refused:
        sl.on_loopback(STREAM.replace(change))
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("changes", "board", "words"),
    [
        ({"rollback": {"sockets": "closed"}}, POLLING, "must not be sse where a rollback closes"),
        ({"control": {"transport": "websocket"}}, PUSH, "must be a stream or not as control's"),
        ({}, POLLING.replace({"network.stream_delay_s": 0.2}), "network.stream_delay_s"),
    ],
)
def test_a_rollout_of_streams_that_the_lab_does_not_have_is_refused(changes, board, words):
    plan = sl.Plan(
        flag={"propagation": "session"},
        check_every_s=5.0,
        stages=[{"percent": 100, "bake_s": 5}],
        treatment={"transport": "sse"},
    )
    with pytest.raises(sl.ScenarioError, match=words):
        sl.roll_out(plan.replace(changes), board, engine="live", progress=False)


def test_a_real_server_refuses_streams_beyond_its_cap_and_their_clients_stop():
    scenario = STREAM.replace({"server.max_connections": 5})
    live = sl.measure(scenario, seed=3, time_scale=SCALE, progress=False)
    simulated = sl.simulate(live.scenario, seed=3, progress=False)
    counts = [run.frame("clients")[["attempts", "errors"]].sum() for run in (live, simulated)]
    assert counts[0].equals(counts[1])
    assert counts[0].tolist() == [12, 7]


def test_a_real_server_holds_no_more_than_its_cap_and_a_last_refusal_is_counted():
    last = {"policy": "fixed", "base_s": 1.0, "attempts": 1}
    full = {"transport": "long_polling", "server.max_connections": 5, "reconnect": last}
    live = sl.measure(POLLING.replace(full), seed=3, time_scale=SCALE, progress=False)
    simulated = sl.simulate(live.scenario, seed=3, progress=False)
    for run in (live, simulated):
        given_up, refused = run.frame("timeline")[["given_up", "refused"]].sum()
        assert given_up == POLLING.clients - 5
        assert refused >= given_up
        assert "(server.max_connections)" in " ".join(map(str, run.warnings))


DOWN = {"kind": "restart", "start_s": 6.0, "length_s": 3.5}
ANSWERED = {"network.bad_gateway": True, "faults": [DOWN]}
EACH_SECOND = {"reconnect": {"policy": "fixed", "base_s": 1.0}}


@pytest.fixture(scope="module")
def behind_a_proxy():
    boards = {
        "stream": STREAM.replace(ANSWERED),
        "push": PUSH.replace({**ANSWERED, **EACH_SECOND}),
        "polls": POLLING.replace({**ANSWERED, "polling.interval_s": 2.0}),
        "held": POLLING.replace({**ANSWERED, **EACH_SECOND, "transport": "long_polling"}),
    }
    return Together(boards, seed=3, time_scale=2.0)


def test_a_real_proxy_answers_502_for_a_server_that_is_down(behind_a_proxy):
    for live in behind_a_proxy.values():
        simulated = sl.simulate(live.scenario, seed=3, progress=False)
        heard = [int(run.frame("timeline")["bad_gateways"].sum()) for run in (live, simulated)]
        assert heard[1] >= live.scenario.clients
        assert abs(heard[0] - heard[1]) <= 0.2 * heard[1]
        assert live.ledger.eligible == simulated.ledger.eligible


def test_real_streams_end_at_a_502_and_sockets_and_polls_come_back(behind_a_proxy):
    given_up = {
        name: run.frame("timeline")["given_up"].sum() for name, run in behind_a_proxy.items()
    }
    assert given_up == {"stream": STREAM.clients, "push": 0, "polls": 0, "held": 0}
    streamed = behind_a_proxy["stream"].frame("connections")
    assert (streamed["opened_s"] < 6.0).all()
    pushed = behind_a_proxy["push"].frame("connections")
    assert (pushed["opened_s"] > 9.5).sum() == PUSH.clients
    assert behind_a_proxy["polls"].ledger.lost == 0
    assert (behind_a_proxy["polls"].frame("connections")["node"] == 0).all()
