"""Mistakes that newcomers make: each is refused, or warned about, in words that lead on."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import simlib as sl

DATA = Path(__file__).parents[1] / "data"
CANARY = DATA / "plans" / "flagger_canary.yaml"
BOARD = sl.Scenario.example("matters").replace(
    {"clients": 5, "horizon_s": 120.0, "warm_up_s": 10.0, "cool_down_s": 10.0}
)
FLAG = {"propagation": "pushed"}
RESTART = {"kind": "restart", "start_s": 30.0, "length_s": 5.0}


@pytest.fixture(scope="module")
def run():
    return sl.simulate(BOARD, engine="simpy", progress=False)


def change(path, value):
    return lambda: BOARD.replace({path: value})


def fault(**changes):
    return change("faults", [{**RESTART, **changes}])


def guardrail(metric, **limit):
    asked = {"metric": metric, **(limit or {"below": 2.0})}
    return lambda: sl.Plan(flag=FLAG, guardrails=[asked])


def rtt(*points):
    return lambda: BOARD.replace({"network.rtt_spread": 0.0, "network.rtt_quantiles": list(points)})


REFUSED = {
    # units
    "30 without its unit": (change("polling.interval_s", "30"), "and one of us, µs, ms, s, min"),
    "a time of day": (fault(start_s="12:00"), "faults.0.start_s: must be a duration"),
    "10 for 10 %": (change("polling.jitter_frac", 10), "must be <= 1 (a fraction: 0.1 for 10 %)"),
    "10 % in words": (change("polling.jitter_frac", "10 %"), "a fraction: 0.1 for 10 %"),
    "8 % of the clients": (
        fault(kind="block_upgrades", share=8),
        "faults.0.share: must be <= 1 (a fraction: 0.08 for 8 %)",
    ),
    "a gzip ratio of 13": (change("wire.gzip_ratio", 13), "(a fraction: 0.13 for 13 %)"),
    "gzip switched on": (change("wire.gzip_ratio", True), "must be a number, got True"),
    "megabits": (change("network.shared_down_bytes_per_s", "10 Mbit/s"), "number, in bytes/s"),
    "nginx' 10r/s": (change("rate_limit.rate_per_s", "10r/s"), "must be a number, in 1/s"),
    "12k": (change("updates.snapshot_bytes", "12k"), "and one of B, kB, MB"),
    "half a byte": (change("updates.snapshot_bytes", 5.3), "must be a whole number"),
    # names
    "refetchInterval": (change("refetchInterval", 30000), "did you mean polling.interval_s?"),
    "proxy_read_timeout": (change("proxy_read_timeout", 60), "did you mean network.idle_s?"),
    "a letter too many": (
        change("polling.intervall_s", 30),
        "polling.intervall_s: is not a known field; did you mean polling.interval_s?",
    ),
    "an underscore for a dot": (
        lambda: BOARD.replace(polling_interval_s=10),
        "polling_interval_s: is not a known field; did you mean polling.interval_s?",
    ),
    "wire.count": (change("wire.count", "ip"), "is not read any more: bytes are counted as IP"),
    "wire.gzip": (change("wire.gzip", True), "did you mean wire.gzip_ratio?"),
    "Socket.IO": (lambda: sl.library("Socket.IO"), "did you mean 'socket.io-client'?"),
    "stompjs": (lambda: sl.library("stompjs"), "has no preset; set reconnect.policy"),
    "websockets": (change("transport", "websockets"), "did you mean websocket?"),
    "SSE": (change("transport", "SSE"), "did you mean sse?"),
    "long polling": (change("transport", "long-polling"), "did you mean long_polling?"),
    "a timer misspelt": (change("polling.timer", "fixed-rate"), "did you mean fixed_rate?"),
    "setInterval": (change("polling.timer", "setInterval"), "did you mean fixed_rate?"),
    "nodelay": (
        change("rate_limit", {"rate_per_s": 10.0, "kind": "nodelay"}),
        "did you mean refuse?",
    ),
    "a fault named deploy": (fault(kind="deploy"), "did you mean rolling_deploy?"),
    "p95": (guardrail("p95"), "guardrails.0.metric: must be 'connection_count'"),
    "p95 meant": (guardrail("p95"), "did you mean latency_p95_s?"),
    "error_rate": (guardrail("error_rate"), "did you mean error_rate_per_h?"),
    "a metric to size for": (
        lambda: sl.fewest(BOARD, "server.nodes", "p95", below=1.0),
        "did you mean latency_p95_s?",
    ),
    "memory to size for": (
        lambda: sl.fewest(BOARD, "server.nodes", "memory", below=1e9),
        "metrics.by_node(run) has the memory",
    ),
    "a node to size with": (
        lambda: sl.fewest(BOARD, "nodes", "latency_p95_s", below=1.0),
        "did you mean server.nodes?",
    ),
    "an engine": (lambda: sl.simulate(BOARD, engine="numba"), "auto, simpy, compiled, got 'numba'"),
    "an example": (lambda: sl.Scenario.example("mater"), "did you mean matters?"),
    # values
    "a list": (change("clients", [5, 10]), "clients: must be a whole number, got [5, 10]"),
    "an array": (change("clients", np.array([5, 10])), "clients: must be a whole number"),
    "a series": (change("clients", pd.Series([5])), "clients: must be a whole number"),
    "a Timedelta": (change("polling.interval_s", pd.Timedelta("30s")), "must be a number, in s"),
    "negative": (change("clients", -5), "clients: must be >= 0, got -5"),
    "None": (change("clients", None), "must be given: it cannot be taken away"),
    "NaN": (change("polling.interval_s", math.nan), "must be a finite number, got nan"),
    "True": (change("clients", True), "must be a whole number, got True"),
    "nobody": (change("clients", 0), "clients: must be >= 1 when there are no [sessions]"),
    "no connection": (
        change("network.connections_per_user", 0),
        "network.connections_per_user: must be >= 1, got 0",
    ),
    "streams without a limit": (
        change("sse.streams_per_tab", 2),
        "sse.streams_per_tab: has no meaning without network.connections_per_user: must be 1",
    ),
    "a limit in the lab": (
        lambda: sl.on_loopback(BOARD.replace({"network.connections_per_user": 6})),
        "network.connections_per_user: must be absent: the lab's clients are no tabs",
    ),
    "HTTP/2's streams": (
        change("http2_max_concurrent_streams", 128),
        "did you mean network.connections_per_user?",
    ),
    "no tab": (change("tabs_per_user", 0), "tabs_per_user: must be >= 1, got 0"),
    "1.3 tabs": (change("tabs_per_user", 1.3), "tabs_per_user: must be a whole number"),
    "a burst of 0": (change("rate_limit", {"rate_per_s": 5.0, "burst": 0}), "burst: must be >= 1"),
    "a limit as a number": (change("rate_limit", 10), "must be a table of settings, got 10"),
    "warm-up beyond the end": (change("warm_up_s", 200.0), "must be < horizon_s - cool_down_s (11"),
    "a fault beyond the end": (fault(start_s=500.0), "faults.0.start_s: must be < horizon_s (120)"),
    "a fault without a list": (change("faults", RESTART), "faults: must be a list"),
    "a card larger than the board": (change("updates.delta_bytes", 50_000), "one card of delta"),
    "shares that fall": (rtt([0.95, 0.18], [0.5, 0.04]), "must be > 0.95: shares ascend, got 0.5"),
    "times that fall": (rtt([0.5, 0.18], [0.95, 0.04]), "quantiles ascend with their shares"),
    "p50 as 50": (rtt([50, 0.04], [95, 0.18]), "(a fraction: 0.5 for 50 %)"),
    "both kinds of round trips": (
        change("network.rtt_quantiles", [[0.5, 0.04], [0.95, 0.18]]),
        "network.rtt_spread: must be left out, or at 0, when rtt_quantiles are given, got 0.3",
    ),
    # files
    "a plan as a scenario": (
        lambda: sl.Scenario.load(DATA / "plans" / "guide_as_written.toml"),
        "must be a scenario, but this is a rollout plan: Plan.load reads it",
    ),
    "a scenario as a plan": (
        lambda: sl.Plan.load(DATA / "scenarios" / "matters.toml"),
        "must be a rollout plan, but this is a scenario: Scenario.load reads it",
    ),
    "a Canary as a scenario": (lambda: sl.Scenario.load(CANARY), "this is a Flagger Canary"),
    "no such file": (lambda: sl.Scenario.load("mater.toml"), "must be an existing TOML file"),
    "no such run": (lambda: sl.Run.load("mater"), "there is no saved run of that name"),
    # arguments
    "a path": (lambda: sl.simulate("matters.toml"), "Scenario.load reads one from a file"),
    "a dict": (lambda: sl.simulate({"clients": 5}), "Scenario(**settings) makes one"),
    "a plan to simulate": (lambda: sl.simulate(sl.Plan(flag=FLAG)), "must be a Scenario, got Plan"),
    "plan and scenario exchanged": (lambda: sl.roll_out(BOARD, sl.Plan(flag=FLAG)), "a Plan, got"),
    "a scenario to summarise": (lambda: sl.summary(BOARD), "must be runs, as simulate and measure"),
    "a scenario to draw": (lambda: sl.figures.latency(BOARD), "must be runs, as simulate and meas"),
    "one value to sweep": (lambda: sl.sweep(BOARD, {"clients": 5}), "must be a list of values"),
    "a typo to sweep": (lambda: sl.sweep(BOARD, {"client": [5]}), "did you mean clients?"),
    "an assignment": (lambda: setattr(BOARD, "clients", 5), "must be changed by replace"),
    "an assignment within": (lambda: setattr(BOARD.polling, "retries", 5), "changed by replace"),
    # what a share may be
    "a share in percent": (
        guardrail("fallback_to_polling_frac", below=30),
        "below: must be <= 1, as fallback_to_polling_frac is a share: 0.3 for 30 %",
    ),
    "a utilisation in percent": (
        guardrail("utilisation", above=50),
        "above: must be <= 1, as utilisation is a share: 0.5 for 50 %",
    ),
    # the live lab
    "more clients than files": (
        lambda: sl.measure(BOARD.replace(clients=1_000_000)),
        "the open files that this machine allows a process, got 1000000",
    ),
    "five real nodes": (
        lambda: sl.measure(BOARD.replace({"server.nodes": 5})),
        "server.nodes: must be 4 or fewer: each is a process",
    ),
    "time that stands still": (lambda: sl.measure(BOARD, time_scale=0), "must be in [1, 1000]"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_refused_with_what_would_be_right(mistake):
    attempt, words = REFUSED[mistake]
    with pytest.raises(sl.SimlibError) as caught:
        attempt()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (sl.simulate, "that of a run is run.scenario"),
        (sl.measure, "that of a run is run.scenario"),
        (lambda run: sl.compare(run, run), "one: must be a Scenario"),
        (lambda run: sl.metrics.compare(run, 1.4), "runs: must be runs, as simulate and measure"),
        (lambda run: sl.metrics.compare(run, run), "measured: must be what measure(...) returns"),
        (lambda run: run.latency_quantiles([95]), "q: must be in [0, 1], got [95]"),
        (lambda run: run.frame("latencies"), "must be one of timeline, clients, latency"),
        (lambda run: run.frame("deliveries"), 'keep=("deliveries",)'),
        (lambda run: sl.outages.recovery(run), "runs: must have a fault in their scenario"),
    ],
)
def test_a_run_where_it_does_not_belong_is_refused_with_what_would_be_right(run, attempt, words):
    with pytest.raises(sl.ScenarioError) as caught:
        attempt(run)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("stepWeights:", "stepWieghts:", "was 'stepWieghts' to be it?"),
        ("threshold:", "treshold:", "treshold: is not a known field; did you mean threshold?"),
        ("threshold:", "threshold", "must be valid YAML"),
    ],
)
def test_a_typo_in_yaml_is_refused_with_its_place(tmp_path, old, new, words):
    text = CANARY.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "canary.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(sl.ScenarioError) as caught:
        sl.Plan.load(path, flag=FLAG, metrics={"request-duration": ("latency_p99_s", 0.001)})
    assert words in str(caught.value)
    assert "line" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate_per_s = 0,1", "must be valid TOML (Expected newline"),
        ("rate_per_sec = 0.1", "did you mean updates.rate_per_s?, got 0.1 (board.toml, line 2)"),
        ('rate_per_s = "fast"', "must be a number, in 1/s, got 'fast' (board.toml, line 2)"),
    ],
)
def test_a_typo_in_toml_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "board.toml"
    path.write_text(f"[updates]\n{text}\n", encoding="utf-8")
    with pytest.raises(sl.ScenarioError) as caught:
        sl.Scenario.load(path)
    assert words in str(caught.value)


SOCKET = {"transport": "websocket"}
CROWD = {"clients": 60, "ramp_s": 0.0}
WARNED = {
    "milliseconds": ({"polling.interval_s": 30000}, "interval", "if milliseconds were meant, 30 s"),
    "a round trip of 40": ({"network.rtt_s": 40}, "unit", "0.04 if milliseconds were meant"),
    "round trips in milliseconds": (
        {"network.rtt_spread": 0.0, "network.rtt_quantiles": [[0.5, 40], [0.95, 180]]},
        "unit",
        "network.rtt_quantiles is 40 s at the least",
    ),
    "a poll of 2": ({"server.poll_s": 2}, "unit", "server.poll_s is 2 s (0.002 if"),
    "a saturated server": ({"server.poll_s": 0.8, **CROWD}, "saturated", "was busy 100 % of"),
    "too few connections": (
        {"server.max_connections": 2, **SOCKET},
        "full",
        "server.max_connections = 2, and 3 of 5 clients never had a WebSocket",
    ),
    "too short a backlog": ({"server.backlog": 1, **CROWD}, "full", "server.backlog = 1 was full"),
    "a link of 10 bytes": ({"network.shared_down_bytes_per_s": 10}, "shared link", "Raise network"),
    "a rate limit that nobody passes": (
        {"rate_limit": {"rate_per_s": 0.01}},
        "unseen",
        "saw no change at all",
    ),
    "a warm-up that is most of the run": ({"warm_up_s": 90.0}, "warm-up", "count for nothing"),
    "a fault within the warm-up": (
        {"faults": [{**RESTART, "start_s": 2.0}], **SOCKET},
        "warm-up",
        "the restart at 2 s begins within it",
    ),
}


@pytest.mark.parametrize("mistake", WARNED)
def test_a_mistake_that_can_be_run_is_warned_about(mistake):
    changes, kind, words = WARNED[mistake]
    run = sl.simulate(BOARD.replace(changes), engine="simpy", progress=False)
    said = {warning.kind: str(warning) for warning in run.warnings}
    assert words in said[kind]
    assert kind in repr(run)


def test_what_looks_like_a_mistake_and_is_none_is_taken():
    numpy = {"clients": np.int64(5), "polling.interval_s": np.float32(30)}
    assert BOARD.replace(numpy) == BOARD
    assert BOARD.replace({"polling.interval_s": "30000ms"}) == BOARD
    over = {"clients": np.arange(1, 3)}
    options = {"replications": 2, "engine": "simpy", "on": "serial", "progress": False}
    table = sl.sweep(BOARD, over, **options)
    assert sorted(set(table["clients"])) == [1, 2]
