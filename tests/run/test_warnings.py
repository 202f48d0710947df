"""A run says what makes its figures mean less than they seem to; a healthy one says nothing."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib.run.sentences import words_s
from simlib.run.warnings import CHECKS, RunWarning

BOARD = sl.Scenario(
    name="board",
    updates={"rate_per_s": 0.2},
    clients=20,
    ramp_s=0.0,
    horizon_s=300.0,
    warm_up_s=30.0,
    cool_down_s=60.0,
)
PUSHED = BOARD.replace(transport="websocket")
HELD = BOARD.replace(transport="long_polling")
LATE_NODE = PUSHED.replace(
    {
        "server.nodes": 2,
        "server.send_s": 0.3,
        "heartbeat.direction": "none",
        "faults": [{"kind": "scale_out", "start_s": 31.0}],
    }
)
"""All sockets are on the first of two nodes, as the second one joins too late for them."""
ALL_DAY = {"start_s": 0.0, "length_s": 300.0}
PATIENT = {"reconnect": {"policy": "fixed", "base_s": 3.0}, "ramp_s": 30.0}
OFTEN = {"after_failures": 3, "return_s": 20.0, "return_factor": 1.0}
BLOCKED = {"kind": "block_upgrades", "share": 0.3, **ALL_DAY}
LIVE = {
    "engine": "live",
    "time_scale": 10.0,
    "quiet": True,
    "cpu": {"server_cores": 0.1, "client_cores": 0.2, "other_cores": 0.01},
    "publish_late_s": {"median": 1e-4, "max": 1e-3},
}


def simulated(changes=None, board=BOARD, *, by="auto", **provenance):
    run = sl.simulate(board.replace(changes or {}), engine=by, progress=False)
    run.provenance.update(provenance)
    return run


def kinds_of(run):
    return [warning.kind for warning in run.warnings]


def sentence(run, kind):
    return next(str(warning) for warning in run.warnings if warning.kind == kind)


@pytest.mark.parametrize("board", [BOARD, PUSHED, BOARD.replace(transport="notify"), HELD])
def test_a_healthy_run_has_no_warning_and_shows_none(board):
    run = simulated(board=board)
    assert run.warnings == ()
    assert "warning" not in repr(run)
    assert "⚠" not in run._repr_html_()
    assert "warnings" not in run.summary().index
    assert run.summary().attrs["warnings"] == []
    assert "⚠" not in sl.figures.latency(run).layout.title.subtitle.text
    assert simulated(board=board, **LIVE).warnings == ()


TWO_NODES = {"server.nodes": 2, "server.send_s": 0.01}
SHARED = {"node_processors": 1}
SLOW_BROKER = {"server.nodes": 2, "server.broker_s": 6.0}
PAIRS = {"kind": "bursts", "rate_per_s": 0.1, "burst_size": 2, "burst_gap_s": 1e-5}
MEETING = {"updates": PAIRS, "server.meeting_fails_frac": 1.0}
CUT_AT_ONCE = {"faults": [{"kind": "reset", "start_s": 100.0}], "server.socket_set": "plain"}
FORGETTING = {**CUT_AT_ONCE, "server.forget_frac": 1.0}
HUNG = {"transport": "sse", "tabs_per_user": 20, "network.connections_per_user": 6}
RESTART = {"kind": "restart", "start_s": 100.0, "length_s": 4.0}
SOURCES = PUSHED.replace({"transport": "sse", **sl.library("eventsource"), "faults": [RESTART]})
ADMITTING = {"server.admit_per_s": 2.0, "server.admit_burst": 5, "ramp_s": 20.0}
ENDING = {**sl.library("fetch-event-source"), "server.ends_streams": True}
IMPATIENT = {"faults": [RESTART], "fallback": {"after_failures": 2, "return_s": 120.0}}
DEAR = {"server.poll_s": 0.1}
STREAMED = PUSHED.replace({"transport": "sse", **sl.proxy("compression middleware")})
CASES = [
    ("incomplete", BOARD, {}, {"complete": False, "end_of_run_s": 120.0}, "120 of 300 s"),
    ("saturated", BOARD, {"server.poll_s": 2.0}, {}, "busy 100 % of the time"),
    ("shared link", BOARD, {"network.shared_down_bytes_per_s": 1000}, {}, "all clients share was"),
    ("saturated", LATE_NODE, {}, {}, "Node 0 was busy 10"),
    ("broker", PUSHED, SLOW_BROKER, {}, "and bears 0.083, 1 / (server.nodes x server.broker_s)"),
    ("full", PUSHED, {"server.max_connections": 15}, {}, "5 of 20 clients never had a WebSocket"),
    ("full", HELD, {"server.max_connections": 15}, {}, "requests that were to be held were"),
    ("cut while held", HELD, {"network.idle_s": 20.0}, {}, "held for network.idle_s = 20 s"),
    ("interval", HELD, {"long_polling.timeout_s": 25000}, {}, "if milliseconds were meant, 25 s"),
    ("queued", PUSHED, HUNG, {}, "14 of 20 tabs waited for a connection of their browser for 69 %"),
    ("queued", PUSHED, HUNG, {}, "and 14 never had one for what they asked"),
    ("unseen", PUSHED, {"faults": [BLOCKED]}, {}, "saw no change at all"),
    ("pending", BOARD, {"cool_down_s": 0.0, "polling.interval_s": 60.0}, {}, "not seen by the end"),
    ("broken off", PUSHED, MEETING, {}, "by updates that met (meeting_fails_frac)"),
    ("forgotten", PUSHED, FORGETTING, {}, "20 sockets were let in by a server that had forgotten"),
    ("held back", STREAMED, {}, {}, "No change came by a stream"),
    ("held back", STREAMED, {"network.idle_s": 9.0}, {}, "changes away that were to be told"),
    ("given up", SOURCES, ADMITTING, {}, "15 of 20 clients have given up for good"),
    ("given up", SOURCES, ADMITTING, {}, "with an error of HTTP (server.admit_per_s)"),
    ("given up", SOURCES, ENDING, {}, "20 of 20 clients have given up for good"),
    ("given up", SOURCES, ENDING, {}, "proper end (server.ends_streams)"),
    (
        "free snapshots",
        PUSHED,
        DEAR,
        {},
        "20 clients connected within 1 s at 0 s, and their boards",
    ),
    (
        "free snapshots",
        PUSHED,
        DEAR,
        {},
        "as a poll's is (server.poll_s = 0.1 s), they take the wor",
    ),
    (
        "free snapshots",
        SOURCES,
        {**DEAR, "ramp_s": 30.0},
        {},
        "20 clients connected within 1 s at 1",
    ),
    ("fell back", PUSHED, IMPATIENT, {}, "fell back to polling in the restart of 4 s at 100 s"),
    ("interval", BOARD, {"polling.interval_s": 30000}, {}, "if milliseconds were meant, 30 s"),
    ("unit", BOARD, {"network.rtt_s": 40}, {}, "network.rtt_s is 40 s (0.04 if milliseconds"),
    (
        "unit",
        BOARD,
        {"network.rtt_quantiles": [[0.5, 40], [0.95, 180]]},
        {},
        "is 40 s at the least",
    ),
    ("unit", PUSHED, {"server.send_s": 3}, {}, "server.send_s is 3 s (0.003 if"),
    ("warm-up", BOARD, {"warm_up_s": 200.0}, {}, "260 of 300 s count for nothing"),
    ("late", BOARD, {}, {**LIVE, "publish_late_s": {"median": 1.0, "max": 38.0}}, "up to 380 s"),
    ("not quiet", BOARD, {}, {**LIVE, "quiet": False, "cpu": {"other_cores": 1.46}}, "1.5 of"),
    ("overloaded", BOARD, {}, {**LIVE, "cpu": {"client_cores": 0.97}}, "busy 97 % of the time"),
    ("overloaded", BOARD, {}, {**LIVE, "load": {"server": 0.9, "clients": 0.2}}, "asked for 90 %"),
    ("shared", PUSHED, TWO_NODES, {**LIVE, "emulates_sends": False, **SHARED}, "2 nodes shared 1"),
]


@pytest.mark.parametrize(("kind", "board", "changes", "provenance", "words"), CASES)
def test_each_kind_is_found_and_shown_wherever_the_run_is(kind, board, changes, provenance, words):
    run = simulated(changes, board, **provenance)
    assert kind in kinds_of(run)
    assert words in sentence(run, kind)
    assert sentence(run, kind).endswith(".")
    assert kind in repr(run).partition("; warnings: ")[2]
    table = run.summary()
    assert kind in table.loc["warnings"].iloc[0]
    assert sentence(run, kind) in table.attrs["warnings"]
    page = run._repr_html_()
    assert page.count("⚠") == len(run.warnings)
    assert "background" in page
    subtitle = sl.figures.utilisation(run).layout.title.subtitle.text.replace("<br>", " ")
    brief = next(warning.brief for warning in run.warnings if warning.kind == kind)
    assert subtitle.count(brief) == 1


@pytest.mark.parametrize(
    ("board", "changes", "provenance"),
    [
        (PUSHED, TWO_NODES, {"emulates_sends": True, **SHARED}),  # no send takes a processor
        (PUSHED, TWO_NODES, {"emulates_sends": False, "node_processors": 2}),
        (PUSHED, {"server.nodes": 2}, {"emulates_sends": False, **SHARED}),  # a send takes 10 us
        (BOARD, TWO_NODES, {"emulates_sends": False, **SHARED}),  # nothing is broadcast
        (PUSHED, {"server.send_s": 0.01}, {"emulates_sends": False, **SHARED}),
    ],
)
def test_nodes_that_do_not_wait_for_each_other_are_not_warned_about(board, changes, provenance):
    assert "shared" not in kinds_of(simulated(changes, board, **LIVE, **provenance))


def test_tabs_whose_fetch_never_sets_out_are_counted_though_their_streams_are_open():
    # Three tabs of a user have two streams each, which is all that the browser opens.
    three = {"tabs_per_user": 3, "clients": 3, "sse.streams_per_tab": 2, "ramp_s": 20.0}
    run = simulated({**HUNG, **three, "transport": "sse_notify"}, PUSHED)
    polls = run.frame("clients").sort_values("start_s")["polls"]
    assert polls.iloc[-1] == 0
    assert f"and {(polls == 0).sum()} never had one" in sentence(run, "queued")


def test_a_short_wait_in_the_browser_is_not_warned_about():
    run = simulated({"tabs_per_user": 20, "network.connections_per_user": 1})
    assert run.frame("clients")["queued_s"].sum() > 0.0
    assert run.warnings == ()


def test_a_shared_link_is_only_as_busy_as_payload_makes_it():
    # A third of a delta's packets are headers, which no path of the simulation carries.
    busy = PUSHED.replace({"updates.rate_per_s": 2.0})
    counted = simulated(board=busy).frame("timeline").query("t_s >= 30")
    payload_per_s = counted["payload_down_bytes"].sum() / counted["width_s"].sum()
    rate = {"network.shared_down_bytes_per_s": payload_per_s / 0.8}
    assert "shared link" not in kinds_of(simulated(rate, busy))


def test_every_check_has_a_case():
    assert {case[0] for case in CASES} == set(CHECKS)


@pytest.mark.parametrize(
    ("changes", "board"),
    [
        ({"server.poll_s": 0.5}, BOARD),  # busy a third of the time
        ({"network.shared_down_bytes_per_s": 10_000}, BOARD),  # busy a third of the time
        ({"network.rtt_s": 1.4, "server.poll_s": 0.4}, BOARD),  # by satellite, and dear
        ({"server.max_connections": 20}, PUSHED),  # all have their place
        ({"polling.interval_s": 60.0}, BOARD),
        ({"polling.interval_s": 30000}, PUSHED),  # nobody polls
        ({"heartbeat": {"direction": "none", "interval_s": 30000}}, PUSHED),  # nobody pings
        ({"heartbeat.timeout_s": 20.0, "horizon_s": 250.0}, PUSHED),
        ({"faults": [{"kind": "restart", "start_s": 100, "length_s": 5}]}, PUSHED),
        ({"faults": [{"kind": "latency", "added_s": 0.01, **ALL_DAY}]}, PUSHED),  # all the time
        ({"faults": [{"kind": "reset", "start_s": 30.0}]}, PUSHED),  # as the warm-up ends
        ({**DEAR, "server.snapshot_s": 1e-6}, PUSHED),
        ({**DEAR, "websocket.resync": "none"}, PUSHED),
        ({**DEAR, "server.workers": 4}, PUSHED),
        ({**DEAR, "server.cache_s": 1.0}, PUSHED),
        ({**DEAR, "ramp_s": 30.0}, PUSHED),
        (DEAR, HELD),  # which polls for its board, and pays
    ],
)
def test_what_is_as_it_should_be_is_not_warned_about(changes, board):
    assert kinds_of(simulated(changes, board)) == []


@pytest.mark.parametrize(
    "path",
    ["heartbeat.interval_s", "heartbeat.timeout_s", "reconnect.base_s", "polling.interval_s"],
)
def test_milliseconds_taken_for_seconds_are_met_wherever_a_client_waits(path):
    board = BOARD if path.startswith("polling") else PUSHED
    others = {"reconnect.cap_s": 30000.0} if path == "reconnect.base_s" else {}
    said = sentence(simulated({path: 25000.0, **others}, board), "interval")
    assert said.startswith(f"{path} is 25,000 s (6.9 h); if milliseconds were meant, 25 s")


def test_the_interval_of_those_who_fall_back_to_polling_counts_too():
    changes = {"polling.interval_s": 30000, "fallback": {"after_failures": 1}}
    said = sentence(simulated({**changes, "faults": [BLOCKED]}, PUSHED), "interval")
    assert said.startswith("polling.interval_s is 30,000 s")


@pytest.mark.parametrize(
    ("transport", "name"),
    [("sse", "eventsource"), ("sse", "fetch-event-source"), ("notify", "phoenix")],
)
def test_what_a_client_library_has_by_default_is_no_slip_in_a_short_run(transport, name):
    short = {"transport": transport, "horizon_s": 200.0, **sl.library(name)}
    assert "interval" not in kinds_of(simulated(short))
    slip = sentence(simulated({**short, "websocket.open_timeout_s": 20_000.0}), "interval")
    assert slip.startswith("websocket.open_timeout_s is 20,000 s")


def test_an_interval_beyond_the_run_is_no_slip_of_the_unit_if_it_is_short():
    said = sentence(simulated({"polling.interval_s": 400.0}), "interval")
    assert "400 s (6.7 min)" in said
    assert "millisecond" not in said


@pytest.mark.parametrize("start_s", [0.0, 10.0])
def test_a_fault_that_the_warm_up_hides_is_named(start_s):
    restart = {"kind": "restart", "start_s": start_s, "length_s": 5.0}
    said = sentence(simulated({"faults": [restart]}, PUSHED), "warm-up")
    assert f"the restart at {start_s:g} s" in said


@pytest.mark.parametrize(("repeats", "is_hidden"), [(1, True), (2, False)])
def test_a_fault_that_repeats_is_hidden_if_it_never_happens_after_the_warm_up(repeats, is_hidden):
    restart = {"kind": "restart", "start_s": 5.0, "length_s": 1.0, "repeat_s": 13.0}
    run = simulated({"faults": [{**restart, "repeats": repeats}]}, PUSHED)
    assert run.scenario.warm_up_s == 30.0
    said = [str(one) for one in run.warnings if one.kind == "warm-up"]
    assert bool(said) == is_hidden
    assert not is_hidden or "the restart at 18 s" in said[0]


def test_a_server_that_is_saturated_at_the_end_alone_is_warned_about():
    run = simulated()
    timeline = run.columns("timeline")
    for busy_from_s, words in (
        (225.0, "100 % of the time of the last quarter of the run"),
        (297, ""),
    ):
        timeline["utilisation"] = np.where(timeline["t_s"] >= busy_from_s, 1.0, 0.1)
        assert ("saturated" in kinds_of(run)) == bool(words)
        assert words in " ".join(map(str, run.warnings))


def test_a_rollout_that_begins_within_the_warm_up_says_so_and_carries_all_warnings():
    plan = sl.Plan(
        flag={"propagation": "polled", "every_s": 10},
        stages=[{"percent": 100, "bake_s": 120}],
    )
    rollout = sl.roll_out(plan, BOARD, engine="simpy", progress=False)
    assert "the rollout begins at" in str(rollout.warnings[0])
    long = BOARD.replace(horizon_s=3000.0)  # of which the warm-up hides little
    assert sl.roll_out(plan, long, engine="simpy", progress=False).warnings == ()
    assert rollout.warnings == rollout.run.warnings
    assert repr(rollout).count("\n") == 0
    assert repr(rollout).startswith("<Rollout plan on board polling by simpy")
    assert "warnings: warm-up" in repr(rollout)
    assert "⚠ The rollout" not in rollout._repr_html_()
    assert rollout._repr_html_().count("⚠") == 1
    later = plan.replace({"start_s": 40.0})
    assert sl.roll_out(later, BOARD, engine="simpy", progress=False).warnings == ()


def test_tables_of_many_runs_have_the_kinds_of_warnings():
    options = {"replications": 2, "engine": "simpy", "on": "serial", "progress": False}
    table = sl.sweep(BOARD, {"server.poll_s": [0.002, 2.0]}, **options)
    assert table.groupby("server.poll_s")["warnings"].unique().map(list).to_dict() == {
        0.002: [""],
        2.0: ["saturated, unit"],
    }
    differences = sl.compare(BOARD, BOARD.replace({"server.poll_s": 2.0}), **options)
    assert set(differences["warnings"]) == {"other: saturated, unit"}
    runs = [
        sl.simulate(BOARD.replace({"server.poll_s": 2.0}), replication=r, progress=False)
        for r in range(2)
    ]
    assert set(sl.metrics.intervals(runs)["warnings"]) == {"saturated, unit"}
    headline = sl.metrics.headline(runs)
    assert headline.loc["warnings", "polling"] == "saturated, unit"
    assert len(headline.attrs["warnings"]) == len(
        set(map(str, runs[0].warnings + runs[1].warnings))
    )


def test_a_figure_says_whose_a_warning_is_and_each_once():
    full = simulated({"server.max_connections": 15}, PUSHED)
    both = sl.figures.bandwidth(simulated(), full).layout.title.subtitle.text
    assert both.count("⚠") == len(full.warnings)
    assert "⚠ WebSocket push, simulated: " in both
    alone = sl.figures.bandwidth(full, full).layout.title.subtitle.text
    assert alone.count("⚠") == len(full.warnings)
    assert "simulated: The" not in alone


def test_a_warning_prints_as_its_sentence():
    warning = RunWarning("late", "It was 2 s late: it is slow. Be quick.")
    assert str(warning) == "It was 2 s late: it is slow. Be quick."
    assert warning.brief == "It was 2 s late"
    assert repr((warning,)) == "(late: It was 2 s late: it is slow. Be quick.,)"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.002, "0.002 s"), (89.0, "89 s"), (120.0, "2 min"), (7200.0, "2 h"), (259_200.0, "3 days")],
)
def test_durations_are_said_in_their_unit(seconds, words):
    assert words_s(seconds) == words


def test_no_number_has_an_exponent():
    nobody = {"faults": [{**BLOCKED, "share": 1.0}]}
    runs = [
        simulated(nobody, PUSHED),
        simulated(**{**LIVE, "publish_late_s": {"median": 50.0, "max": 1234.0}}),
    ]
    said = " ".join(str(warning) for run in runs for warning in run.warnings)
    assert "(100 %) saw no change" in said
    assert "up to 12,000 s late" in said
    assert "e+" not in said


def test_who_polls_instead_of_a_refused_socket_never_had_one():
    both = {"server.max_connections": 12, "fallback": {"after_failures": 2}}
    run = simulated(both, PUSHED)
    refused = int(run.frame("timeline")["refused"].sum())
    said = sentence(run, "full")
    assert "8 of 20 clients never had a WebSocket" in said
    assert said.startswith(f"{refused} upgrades were answered 503, as the server has ")
    assert refused == int(run.frame("clients")["errors"].sum()) > 0


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_connections_that_find_a_full_backlog_are_counted(engine):
    herd = {"ramp_s": 0.0, "server.backlog": 5, "server.accept_s": 0.1}
    run = simulated(herd, PUSHED, by=engine)
    # The first is being accepted at once, five wait, and fourteen are dropped for the first time.
    timeline = run.frame("timeline")
    assert timeline["dropped_syns"].iloc[0] == 14
    assert "SYNs were dropped, as server.backlog = 5 was full" in sentence(run, "full")
    assert timeline["refused"].sum() == 0


def test_a_saturated_node_is_found_behind_the_mean_of_all_and_named():
    run = simulated(board=LATE_NODE)
    mean = run.metrics()["utilisation"].iloc[0]
    assert 0.4 < mean < 0.6
    said = sentence(run, "saturated")
    assert f"(all 2 nodes together {mean * 100:.3g} %)" in said
    assert "a smaller share of the clients" in said
    table = sl.metrics.by_node(run)["utilisation"]
    assert table.tolist() == pytest.approx([2.0 * mean, 0.0], abs=0.02)
    assert run.metrics()["busiest_utilisation"].iloc[0] == pytest.approx(table[0])
    assert run.summary().loc["its busiest node (%)"].iloc[0] == f"{table[0] * 100:.3g}"


def test_a_node_that_is_saturated_at_the_end_alone_is_found():
    """Of two nodes one stops after the other: then all clients are on the first one."""
    deploy = {"kind": "rolling_deploy", "start_s": 200.0, "length_s": 5.0, "every_s": 10.0}
    run = simulated({"faults": [deploy], "horizon_s": 400.0}, LATE_NODE)
    said = sentence(run, "saturated")
    assert said.startswith("Node 0 was busy")
    assert "% of the time of the last quarter of the run" in said


def test_a_node_with_all_sockets_that_bears_them_is_not_warned_about():
    assert kinds_of(simulated({"server.send_s": 0.1}, LATE_NODE)) == []


REFUSALS = [
    ({"server.max_connections": 5}, "(server.max_connections)"),
    ({"server.shed_wait_s": 0.1, "server.handshake_s": 0.5}, "(server.shed_wait_s)"),
    ({"rate_limit": {"rate_per_s": 0.5, "status": 429}}, "(rate_limit)"),
    ({"websocket.token_valid_s": 50.0, "websocket.token_resent": True}, "websocket.token_valid_s"),
]


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize(("changes", "words"), REFUSALS)
def test_what_has_answered_those_who_gave_up_is_named(engine, changes, words):
    run = simulated(changes, SOURCES, by=engine)
    counted = int(run.frame("timeline")["given_up"].sum())
    assert counted > 0
    assert words in sentence(run, "given up")
    assert f"{counted} of 20 clients" in sentence(run, "given up")
    assert run.frame("timeline")["connection_count"].iloc[-1] == 20 - counted
    again = simulated({**changes, **sl.library("fetch-event-source")}, SOURCES, by=engine)
    assert "given up" not in kinds_of(again)


def test_a_socket_whose_last_attempt_is_answered_with_an_error_has_given_up():
    last = {"faults": [RESTART], "reconnect": {"policy": "fixed", "base_s": 5.0, "attempts": 1}}
    run = simulated({**last, **ADMITTING}, PUSHED)
    assert "15 of 20 clients have given up" in sentence(run, "given up")
    assert "tries again (reconnect.attempts), or" in sentence(run, "given up")
    refused = {**last, "reconnect.base_s": 1.0}  # by the port of a server that is down
    assert "given up" not in kinds_of(simulated(refused, PUSHED))


BAD_GATEWAY = {"faults": [RESTART], "network.bad_gateway": True}
LIMITED = {"rate_limit": {"rate_per_s": 0.01, "burst": 15, "applies_to": "polls"}}


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server.max_connections": 15}, "(server.max_connections)"),
        (LIMITED, "(rate_limit)"),
        (BAD_GATEWAY, "(network.bad_gateway)"),
    ],
)
def test_a_held_request_that_is_answered_with_an_error_may_be_the_last(engine, changes, words):
    last = {"policy": "fixed", "base_s": 1.0, "attempts": 1}
    run = simulated({"reconnect": last, **changes}, HELD, by=engine)
    assert run.frame("timeline")["given_up"].sum() >= 5
    assert words in sentence(run, "given up")


FULL = {"server.max_connections": 15, "faults": [RESTART]}
TOO_MANY = {"rate_limit": {"rate_per_s": 0.05, "burst": 10, "status": 429}}
FIXED = {"reconnect.policy": "fixed", "reconnect.base_s": 3.0}
ATTEMPTS = {**FIXED, "reconnect.attempts": 1}
GIVE_UP = {**FIXED, "reconnect.give_up_s": 1.0}
STREAM_GOES_ON = {"sse.retries_http_errors": True}
PROXIED = {"faults": [{**BLOCKED, "answered": True}]}
HELD_TOO = ("websocket", "notify", "sse", "sse_notify", "long_polling")
ENDS = [
    *((each, FULL, ATTEMPTS, {"reconnect.attempts": None}) for each in HELD_TOO),
    *((each, FULL, GIVE_UP, {"reconnect.give_up_s": None}) for each in HELD_TOO),
    *((each, FULL, {"reconnect.policy": "none"}, FIXED) for each in HELD_TOO),
    ("long_polling", FULL, {"reconnect.from_start": False}, {"reconnect.from_start": True}),
    ("websocket", FULL, {"reconnect.from_start": False}, {"reconnect.from_start": True}),
    ("notify", PROXIED, {"reconnect.retries_4xx": False}, {"reconnect.retries_4xx": True}),
    ("sse", TOO_MANY, {"reconnect.retries_4xx": False}, {"reconnect.retries_4xx": True}),
    ("sse", FULL, {"sse.retries_http_errors": False}, STREAM_GOES_ON),
    ("sse_notify", FULL, {"sse.retries_http_errors": False}, STREAM_GOES_ON),
]


@pytest.mark.parametrize(("transport", "trouble", "ends", "mended"), ENDS)
def test_what_the_warning_says_brings_those_back_who_gave_up(transport, trouble, ends, mended):
    board = PUSHED.replace({"transport": transport, **STREAM_GOES_ON, **trouble, "clients": 20})
    run = simulated(ends, board, by="simpy")
    said = sentence(run, "given up")
    (named,) = (name for name in mended if name != "reconnect.base_s")
    assert f"Use a client that tries again ({named}), or answer with no error." in said
    assert "given up" not in kinds_of(simulated({**ends, **mended}, board, by="simpy"))


def test_both_reasons_to_give_up_are_counted_apart():
    drain = {"kind": "drain", "start_s": 50.0, "length_s": 1.0, "batches": 1, "share": 0.3}
    both = {"server.max_connections": 15, "server.ends_streams": True, "sse.retries_ended": False}
    run = simulated({**both, "faults": [drain]}, SOURCES)
    ended = int(run.frame("timeline")["given_up_at_end"].sum())
    assert 0 < ended < 15
    said = sentence(run, "given up")
    assert said.startswith(f"{5 + ended} of 20 clients have given up for good")
    assert "(server.max_connections) (5 of them) and streams came" in said
    assert f"(server.ends_streams) ({ended} of them)" in said


@pytest.mark.parametrize(
    ("fallback", "words"),
    [
        ({"after_failures": 2, "return_s": 120.0}, "each then polls for fallback.return_s = 2 min"),
        ({"after_failures": 2}, "each then polls for good, as fallback.return_s is absent"),
    ],
)
@pytest.mark.parametrize("transport", ["websocket", "sse", "long_polling"])
def test_a_short_outage_that_sends_all_to_polling_says_for_how_long(transport, fallback, words):
    at_once = {"policy": "fixed", "base_s": 1.0}
    changes = {"transport": transport, "fallback": fallback, "reconnect": at_once}
    said = sentence(simulated({**changes, "faults": [RESTART]}, PUSHED), "fell back")
    assert said.startswith("20 of 20 clients (100 %) fell back to polling in the restart of 4 s")
    assert words in said


@pytest.mark.parametrize(
    "changes",
    [
        {"fallback": {"after_failures": 9}, "faults": [RESTART]},  # they hold out
        {"fallback": {"after_failures": 2}},  # nothing happens
        {"fallback": {"after_failures": 2}, "faults": [BLOCKED]},  # who is blocked has to poll
        {"fallback": {"after_failures": 2}, "faults": [{"kind": "reset", "start_s": 100.0}]},
        {"fallback": {"after_failures": 2, "return_s": 999.0}, "faults": [BLOCKED]},
        {"fallback": OFTEN, "faults": [BLOCKED, RESTART], **PATIENT},
    ],
)
def test_a_fallback_that_no_outage_has_set_off_is_not_warned_about(changes):
    assert "fell back" not in kinds_of(simulated(changes, PUSHED))


@pytest.mark.parametrize(
    ("transport", "asked", "had"),
    [
        ("websocket", "upgrades were", "a WebSocket"),
        ("sse", "requests for streams were", "a stream"),
        ("sse_notify", "requests for streams were", "a stream"),
    ],
)
def test_what_is_refused_is_called_what_it_is(transport, asked, had):
    said = sentence(
        simulated({"server.max_connections": 15, "transport": transport}, PUSHED), "full"
    )
    assert asked in said
    assert f"5 of 20 clients never had {had}." in said


def test_streams_that_are_forgotten_are_no_sockets():
    said = sentence(simulated({**FORGETTING, "transport": "sse"}, PUSHED), "forgotten")
    assert said.startswith("20 streams were let in by a server that had forgotten all of its strea")


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize(
    "cause",
    [
        {"server.nodes": 2, "server.broker_s": 400.0},
        {"faults": [{"kind": "path_loss", **ALL_DAY}]},
    ],
)
def test_a_proxy_is_not_blamed_for_what_never_came_to_it(engine, cause):
    run = simulated(cause, STREAMED, by=engine)
    assert run.frame("timeline")["messages"].sum() == 0
    assert "held back" not in kinds_of(run)


def test_what_a_proxy_holds_back_is_not_said_to_need_a_longer_run():
    run = simulated({}, STREAMED)
    assert run.ledger.pending == run.ledger.eligible
    assert "held back" in kinds_of(run)
    assert "pending" not in kinds_of(run)
    some = simulated({"network.stream_buffer_bytes": 4096, "cool_down_s": 0.0}, STREAMED)
    assert "held back" not in kinds_of(some)  # a piece has come
    said = sentence(some, "pending")
    assert "to pass on at the end. Let it pass streams on at once" in said
    assert "horizon_s" not in said


def test_a_run_too_short_is_not_blamed_on_a_proxy_that_holds_nothing():
    slow = {"server.send_s": 0.5, "updates.rate_per_s": 0.5, "cool_down_s": 0.0}
    said = sentence(simulated({**slow, "transport": "sse"}, PUSHED), "pending")
    assert "Use a longer horizon_s" in said
