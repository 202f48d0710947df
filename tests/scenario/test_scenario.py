"""Scenarios: round trips, replacement, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import simlib as sl
from simlib.scenario import compile_workload
from simlib.scenario.fields import Section
from tests.strategies import scenarios

BASE = {"updates": {"rate_per_s": 0.1}}
TRACE = {"updates": {"kind": "trace", "trace": "changes.csv"}}


@pytest.fixture(scope="session")
def toml_path(tmp_path_factory):
    return tmp_path_factory.mktemp("scenario") / "scenario.toml"


@settings(max_examples=60)
@given(scenario=scenarios())
def test_a_dumped_scenario_loads_equal(scenario, toml_path):
    toml_path.write_text(scenario.dump(), encoding="utf-8")
    back = sl.Scenario.load(toml_path)
    assert back == scenario
    assert back.hash == scenario.hash
    assert back.dump() == scenario.dump()


def test_durations_and_sizes_are_read_with_their_units():
    scenario = sl.Scenario(
        horizon_s="1.5 h",
        ramp_s="250 ms",
        updates={"rate_per_s": 1.0, "snapshot_bytes": "48 kB", "delta_bytes": "1 KiB"},
        network={"rtt_s": "40ms"},
    )
    assert (scenario.horizon_s, scenario.ramp_s, scenario.network.rtt_s) == (5400.0, 0.25, 0.04)
    assert (scenario.updates.snapshot_bytes, scenario.updates.delta_bytes) == (48_000, 1024)


def test_replace_changes_what_it_names_and_nothing_else():
    one = sl.Scenario(**BASE, drag={"every_s": 60, "length_s": 3})
    two = one.replace({"reconnect.cap_s": "1 min", "drag": None}, clients=7)
    assert (two.reconnect.cap_s, two.drag, two.clients) == (60.0, None, 7)
    assert two.replace({"reconnect.cap_s": 30.0, "drag": one.drag}, clients=200) == one
    assert one.drag is not None


def test_what_is_absent_stays_absent_when_a_part_of_it_is_taken_away():
    one = sl.Scenario(**BASE)
    assert one.replace({"fallback.after_s": None, "sessions.curve": None}) == one
    assert one.replace({"fallback.after_s": None}).fallback is None
    given = one.replace({"fallback.after_s": 5.0})
    assert (
        given.replace({"fallback.after_s": None}).fallback
        == sl.Scenario(**BASE, fallback={}).fallback
    )
    refused(lambda: one.replace({"drag.every_s": None}), "drag.every_s")


def test_a_scenario_cannot_be_changed_in_place():
    for whole in (sl.Scenario(**BASE), sl.Plan(flag={"propagation": "pushed"})):
        parts = [whole, *(part for _, part in whole if isinstance(part, Section))]
        for part in [*parts, *(whole.stages if isinstance(whole, sl.Plan) else ())]:
            for name in [*type(part).model_fields, "unheard_of"]:
                for change in (lambda: setattr(part, name, 5), lambda: delattr(part, name)):  # noqa: B023
                    error = refused(change, name)
                    assert "must be changed by replace" in error.rule
            assert getattr(part, name, None) is None


def test_what_is_kept_beside_the_settings_can_be_set():
    scenario = sl.Scenario(**BASE)
    scenario._folder = Path("x")
    assert (scenario._folder, scenario) == (Path("x"), sl.Scenario(**BASE))


def test_the_hash_is_of_the_content():
    one = sl.Scenario(**BASE)
    assert one.hash == sl.Scenario(**BASE, clients=200).hash
    assert one.hash != one.replace(clients=201).hash


def trace_scenario(folder, text):
    (folder / "changes.csv").write_text(text, encoding="utf-8")
    (folder / "trace.toml").write_text(sl.Scenario(**TRACE).dump(), encoding="utf-8")
    return sl.Scenario.load(folder / "trace.toml")


def test_a_trace_gives_the_publish_times_and_counts_in_the_hash(tmp_path):
    one = trace_scenario(tmp_path, "publish_s,who\n1.5,a\n2.25,b\n9999,c\n")
    assert compile_workload(one, 1, 0).publish_s.tolist() == [1.5, 2.25]
    before = one.replace(clients=3).hash
    assert sl.simulate(one, progress=False).ledger.eligible > 0
    two = trace_scenario(tmp_path, "publish_s,who\n1.5,a\n2.5,b\n")
    assert two.replace(clients=3).hash != before


def test_bursts_publish_in_bursts():
    burst = {"kind": "bursts", "rate_per_s": 0.05, "burst_size": 4, "burst_gap_s": 0.5}
    times = compile_workload(sl.Scenario(updates=burst), 2, 0).publish_s
    assert len(times) > 40
    assert (times[1:] >= times[:-1]).all()
    assert ((times[1:] - times[:-1]).round(9) == 0.5).sum() > len(times) // 2


def make(**changes):
    return lambda: sl.Scenario(**(BASE | changes))


def changed(path, value):
    return lambda: sl.Scenario(**BASE).replace({path: value})


SESSIONS = {"arrivals_per_s": 1.0, "length_s": 60.0}


def by_curve(*points):
    return {**SESSIONS, "arrivals": "curve", "curve": list(points)}


def at(times):
    return make(updates={"kind": "times", "publish_s": times})


RESET = {"kind": "reset", "start_s": 1.0}


def again(repeat_s, kind="path_loss", nodes=1, **fields):
    """A fault from 50 to 60 s (of no length if it has none) that repeats."""
    lasts = {} if kind in ("reset", "scale_out") else {"length_s": 10.0}
    fault = {"kind": kind, "start_s": 50.0, "repeat_s": repeat_s, **lasts, **fields}
    return make(faults=[fault], server={"nodes": nodes})


MALFORMED = {
    "negative count": (make(clients=-1), "clients"),
    "float for a count": (make(clients=2.5), "clients"),
    "text for a count": (make(clients="many"), "clients"),
    "bool for a number": (make(horizon_s=True), "horizon_s"),
    "bool for a count": (make(clients=True), "clients"),
    "number for a bool": (make(polling={"refetch_on_focus": 1}), "polling.refetch_on_focus"),
    "number for a kind of tag": (make(polling={"etag": 1}), "polling.etag"),
    "unknown kind of tag": (make(polling={"etag": "weak"}), "polling.etag"),
    "interval of hidden tabs that pause": (
        make(polling={"hidden_interval_s": 60.0}),
        "polling.hidden_interval_s",
    ),
    "two intervals at a fixed rate": (
        make(polling={"active_interval_s": 1, "active_for_s": 9, "timer": "fixed_rate"}),
        "polling.active_interval_s",
    ),
    "active for ever": (make(polling={"active_interval_s": 1.0}), "polling.active_for_s"),
    "active at no interval": (make(polling={"active_for_s": 9.0}), "polling.active_for_s"),
    "negative time of a copy": (make(server={"cache_s": -1.0}), "server.cache_s"),
    "zero horizon": (make(horizon_s=0.0), "horizon_s"),
    "nan": (make(horizon_s=float("nan")), "horizon_s"),
    "inf": (make(network={"rtt_s": float("inf")}), "network.rtt_s"),
    "unknown transport": (make(transport="webrtc"), "transport"),
    "unknown unit": (make(horizon_s="3 fortnights"), "horizon_s"),
    "unit of a size for a duration": (make(horizon_s="3 kB"), "horizon_s"),
    "no unit": (make(horizon_s="30"), "horizon_s"),
    "half a byte": (
        make(updates={"rate_per_s": 1.0, "delta_bytes": "0.0001 kB"}),
        "updates.delta_bytes",
    ),
    "unknown key": (make(client=5), "client"),
    "unknown key in a section": (make(polling={"intervall_s": 5}), "polling.intervall_s"),
    "unknown section": (make(websockets={"push": "delta"}), "websockets"),
    "list for a section": (make(polling=[30]), "polling"),
    "missing section": (lambda: sl.Scenario(clients=5), "updates"),
    "cap below base": (make(reconnect={"base_s": 0.5, "cap_s": 0.1}), "reconnect.cap_s"),
    "zero base that should grow": (make(reconnect={"base_s": 0.0}), "reconnect.base_s"),
    "jitter missing": (make(reconnect={"policy": "socketio"}), "reconnect.jitter_frac"),
    "jitter that no policy reads": (
        make(reconnect={"policy": "fixed", "jitter_s": 1.0}),
        "reconnect.jitter_s",
    ),
    "jitter upside down": (
        make(reconnect={"policy": "additive_jitter", "jitter_from_s": 2.0, "jitter_s": 1.0}),
        "reconnect.jitter_s",
    ),
    "table without delays": (make(reconnect={"policy": "table"}), "reconnect.delays_s"),
    "table too long": (
        make(reconnect={"policy": "table", "delays_s": [1.0] * 17}),
        "reconnect.delays_s",
    ),
    "negative delay in a table": (
        make(reconnect={"policy": "table", "delays_s": [1.0, -1.0]}),
        "reconnect.delays_s.1",
    ),
    "limit of no attempts": (
        make(reconnect={"policy": "none", "attempts": 3}),
        "reconnect.attempts",
    ),
    "stable time without a reset": (
        make(reconnect={"reset": "never", "stable_s": 5.0}),
        "reconnect.stable_s",
    ),
    "for ever in one moment": (
        make(reconnect={"policy": "fixed", "base_s": 0.0}, network={"rtt_s": 0.0}),
        "reconnect.base_s",
    ),
    "a table that ends in one moment": (
        make(reconnect={"policy": "table", "delays_s": [1.0, 0.0]}, network={"rtt_s": 0.0}),
        "reconnect.delays_s",
    ),
    "replay of no length": (make(websocket={"resync": "replay"}), "websocket.replay_changes"),
    "replay length without replay": (
        make(websocket={"replay_changes": 100}),
        "websocket.replay_changes",
    ),
    "recovery of no length": (make(websocket={"resync": "recovery"}), "websocket.recovery_s"),
    "token resent that never ends": (
        make(websocket={"token_resent": True}),
        "websocket.token_resent",
    ),
    "stand-in for nothing": (
        make(websocket={"resync": "none", "or_snapshot": True}),
        "websocket.or_snapshot",
    ),
    "spread of constant times": (make(server={"service_cv": 1.0}), "server.service_cv"),
    "spread that is missing": (make(server={"service": "gamma"}), "server.service_cv"),
    "return cap below return": (
        make(fallback={"return_s": 60.0, "return_cap_s": 30.0}),
        "fallback.return_cap_s",
    ),
    "fault beyond the end": (
        make(faults=[{"kind": "reset", "start_s": 600.0}]),
        "faults.0.start_s",
    ),
    "fault that outlives the run": (
        make(faults=[RESET, {"kind": "restart", "start_s": 590.0, "length_s": 20.0}]),
        "faults.1.length_s",
    ),
    "fault of no kind": (make(faults=[{"kind": "fire", "start_s": 1.0}]), "faults.0.kind"),
    "fault without length": (
        make(faults=[{"kind": "restart", "start_s": 1.0}]),
        "faults.0.length_s",
    ),
    "reset with a length": (make(faults=[{**RESET, "length_s": 3.0}]), "faults.0.length_s"),
    "half a restart": (
        make(faults=[{"kind": "restart", "start_s": 1.0, "length_s": 1.0, "share": 0.5}]),
        "faults.0.share",
    ),
    "drain without batches": (
        make(faults=[{"kind": "drain", "start_s": 1.0, "length_s": 1.0}]),
        "faults.0.batches",
    ),
    "batches of a reset": (make(faults=[{**RESET, "batches": 2}]), "faults.0.batches"),
    "restart of what is down": (
        make(
            faults=[
                {"kind": "restart", "start_s": 5.0, "length_s": 10.0},
                {"kind": "restart", "start_s": 10.0, "length_s": 10.0},
            ]
        ),
        "faults.1.start_s",
    ),
    "restart of what is down again": (
        make(
            faults=[
                {"kind": "restart", "start_s": 5.0, "length_s": 10.0, "repeat_s": 100.0},
                {"kind": "restart", "start_s": 210.0, "length_s": 1.0},
            ]
        ),
        "faults.1.start_s",
    ),
    "restart that comes again while another lasts": (
        make(
            faults=[
                {"kind": "restart", "start_s": 5.0, "length_s": 10.0, "repeat_s": 100.0},
                {"kind": "restart", "start_s": 20.0, "length_s": 10.0, "repeat_s": 97.0},
            ]
        ),
        "faults.1.repeat_s",
    ),
    "fault that repeats before its end": (again(10.0, kind="restart"), "faults.0.repeat_s"),
    "deploy that repeats before its end": (
        again(29.0, kind="rolling_deploy", every_s=10.0, nodes=3),
        "faults.0.repeat_s",
    ),
    "fault that repeats after the end": (again(541.0), "faults.0.repeat_s"),
    "milliseconds between faults": (again(30_000), "faults.0.repeat_s"),
    "fault that repeats beyond the end": (again(100.0, repeats=6), "faults.0.repeats"),
    "fault that repeats all the time": (again(0.5, length_s=0.1), "faults.0.repeat_s"),
    "fault that repeats too often": (again(1e-300, kind="reset"), "faults.0.repeat_s"),
    "fault that repeats at once": (again(0.0), "faults.0.repeat_s"),
    "faults that repeat too often": (
        make(faults=[{**RESET, "repeat_s": 1.0}] * 2),
        "faults.1.repeat_s",
    ),
    "repeats of nothing": (make(faults=[{**RESET, "repeats": 2}]), "faults.0.repeats"),
    "no repeats": (again(100.0, repeats=0), "faults.0.repeats"),
    "node that is added again": (again(100.0, kind="scale_out", nodes=2), "faults.0.repeat_s"),
    "batches without number": (
        again(100.0, kind="drain", batches=5000),
        "faults.0.batches",
    ),
    "deploy in which two nodes are down": (
        make(
            server={"nodes": 2},
            faults=[{"kind": "rolling_deploy", "start_s": 1, "length_s": 9, "every_s": 5}],
        ),
        "faults.0.every_s",
    ),
    "share of nobody": (make(faults=[{**RESET, "share": 0.0}]), "faults.0.share"),
    "faults that are none": (make(faults="all"), "faults"),
    "retry cap below base": (make(polling={"retry_base_s": 40}), "polling.retry_cap_s"),
    "warm-up beyond the end": (make(horizon_s=60, warm_up_s=60), "warm_up_s"),
    "warm-up meets cool-down": (make(horizon_s=60, warm_up_s=30, cool_down_s=30), "warm_up_s"),
    "ramp beyond the end": (make(horizon_s=10), "ramp_s"),
    "bins without number": (make(bin_s=1e-6), "bin_s"),
    "nobody": (make(clients=0), "clients"),
    "rate missing": (lambda: sl.Scenario(updates={}), "updates.rate_per_s"),
    "burst settings without bursts": (
        lambda: sl.Scenario(updates={"rate_per_s": 1.0, "burst_size": 3}),
        "updates.burst_size",
    ),
    "half a burst": (
        lambda: sl.Scenario(updates={"kind": "bursts", "rate_per_s": 1.0, "burst_size": 3}),
        "updates.burst_gap_s",
    ),
    "times of no kind": (make(updates={"rate_per_s": 1.0, "publish_s": [1]}), "updates.publish_s"),
    "times that are missing": (make(updates={"kind": "times"}), "updates.publish_s"),
    "times and a rate": (
        make(updates={"kind": "times", "publish_s": [1], "rate_per_s": 1.0}),
        "updates.rate_per_s",
    ),
    "one time": (at(5.0), "updates.publish_s"),
    "times in a text": (at("1, 2"), "updates.publish_s"),
    "times in a mapping": (at({1: 2}), "updates.publish_s"),
    "times in a table": (at(np.zeros((2, 2))), "updates.publish_s.0"),
    "times of texts": (at(np.array(["soon"])), "updates.publish_s.0"),
    "times that go back": (at([3, 2, 1]), "updates.publish_s.1"),
    "times before the start": (at([-1]), "updates.publish_s.0"),
    "time that is none": (at([1, True]), "updates.publish_s.1"),
    "time of nan": (at([1, float("nan")]), "updates.publish_s.1"),
    "time of a size": (at([1, "2 kB"]), "updates.publish_s.1"),
    "time of an age": (at([1, 10**400]), "updates.publish_s.1"),
    "too many times": (at([1.0] * 5_001), "updates.publish_s"),
    "milliseconds for times": (at([600, 60_000]), "updates.publish_s.0"),
    "too many clients": (make(clients=10**12), "clients"),
    "too many changes": (make(updates={"rate_per_s": 1e6}), "updates.rate_per_s"),
    "too many sessions": (
        make(sessions={"arrivals_per_s": 1e6, "length_s": 1}),
        "sessions.arrivals_per_s",
    ),
    "too many sessions by their curve": (
        make(sessions=by_curve([0, 1], [600, 1], [601, 0], ["10 d", 0]) | {"arrivals_per_s": 5e3}),
        "sessions.arrivals_per_s",
    ),
    "arrivals of no kind": (make(sessions=SESSIONS | {"arrivals": "daily"}), "sessions.arrivals"),
    "curve of nothing": (make(sessions=SESSIONS | {"arrivals": "curve"}), "sessions.curve"),
    "curve without arrivals by it": (
        make(sessions=SESSIONS | {"curve": [[0, 1], [60, 2]]}),
        "sessions.curve",
    ),
    "curve of one point": (make(sessions=by_curve([0, 1])), "sessions.curve"),
    "curve of too many points": (
        make(sessions=by_curve(*([t, 1] for t in range(1001)))),
        "sessions.curve",
    ),
    "curve that begins late": (make(sessions=by_curve([5, 1], [9, 1])), "sessions.curve.0.0"),
    "curve that goes back": (
        make(sessions=by_curve([0, 1], [9, 1], [8, 1])),
        "sessions.curve.2.0",
    ),
    "curve that jumps": (make(sessions=by_curve([0, 1], [9, 1], [9, 2])), "sessions.curve.2.0"),
    "curve of no rate": (make(sessions=by_curve([0, 0], [9, 0])), "sessions.curve"),
    "curve below zero": (make(sessions=by_curve([0, 1], [9, -1])), "sessions.curve.1.1"),
    "curve of nan": (make(sessions=by_curve([0, 1], [9, float("nan")])), "sessions.curve.1.1"),
    "half a point": (make(sessions=by_curve([0, 1], [9])), "sessions.curve.1.1"),
    "a point and a half": (make(sessions=by_curve([0, 1], [9, 1, 1])), "sessions.curve.1"),
    "times alone": (make(sessions=by_curve(0, 9)), "sessions.curve.0"),
    "text for a rate": (make(sessions=by_curve([0, "1"], [9, 1])), "sessions.curve.0.1"),
    "an age": (make(horizon_s=1e300), "horizon_s"),
    "jitter of a fixed rate": (
        make(polling={"timer": "fixed_rate", "jitter_frac": 0.5}),
        "polling.jitter_frac",
    ),
    "fixed rate without end": (
        make(polling={"timer": "fixed_rate", "interval_s": 1e-300}),
        "polling.interval_s",
    ),
    "share above one": (make(polling={"jitter_frac": 1.5}), "polling.jitter_frac"),
    "board smaller than a card": (
        make(updates={"rate_per_s": 1.0, "snapshot_bytes": 5}),
        "updates.snapshot_bytes",
    ),
    "card too small": (make(updates={"rate_per_s": 1.0, "delta_bytes": 5}), "updates.delta_bytes"),
    "token too small": (make(wire={"token_bytes": 3}), "wire.token_bytes"),
    "http 2 with aiohttp's heads": (
        make(wire={"http": "2", "http_client": "aiohttp"}),
        "wire.http_client",
    ),
    "replace what is not there": (changed("reconnect.cap", 60), "reconnect.cap"),
    "replace too deep": (changed("reconnect.cap_s.x", 60), "reconnect.cap_s.x"),
    "take away what is not there": (changed("dragging", None), "dragging"),
    "negative seed": (lambda: sl.simulate(sl.Scenario(**BASE), seed=-1), "seed"),
    "seed with a point": (lambda: sl.simulate(sl.Scenario(**BASE), seed=1.0), "seed"),
    "replication too large": (
        lambda: sl.simulate(sl.Scenario(**BASE), replication=2**64),
        "replication",
    ),
    "unknown engine": (lambda: sl.simulate(sl.Scenario(**BASE), engine="ns3"), "engine"),
    "unknown table": (lambda: sl.simulate(sl.Scenario(**BASE), keep=("all",)), "keep"),
    "trace without a file": (
        lambda: sl.simulate(sl.Scenario(updates={"kind": "trace", "trace": "no.csv"})),
        "updates.trace",
    ),
}


def refused(make_it, path):
    with pytest.raises(sl.ScenarioError) as caught:
        make_it()
    error = caught.value
    assert error.path == path
    assert str(error).startswith(f"{error.path}: {error.rule}, got ")
    assert error.rule
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    return error


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_scenario_is_one_error_with_path_value_and_rule(name):
    refused(*MALFORMED[name])


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("clients = ", "bad.toml"),
        ("clients = 1\nclients = 2\n[updates]\nrate_per_s = 1.0", "bad.toml"),
        (b"\xff\xfe\x00", "bad.toml"),
        ("clients = 5", "updates"),
        ("[updates]\nrate_per_s = '1'", "updates.rate_per_s"),
        ("[updates]\nrate_per_s = 1.0\n[[polling]]\ninterval_s = 3", "polling"),
    ],
)
def test_a_broken_file_is_one_error(tmp_path, text, path):
    file = tmp_path / "bad.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(lambda: sl.Scenario.load(file), path)


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    assert "existing" in refused(lambda: sl.Scenario.load(tmp_path / "no.toml"), "no.toml").rule
    refused(lambda: sl.Scenario.load(tmp_path), tmp_path.name)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("when\n1.0\n", "updates.trace"),
        ("publish_s\n2.0\n1.0\n", "updates.trace (changes.csv, line 3)"),
        ("publish_s\nsoon\n", "updates.trace (changes.csv, line 2)"),
        ("publish_s\n-1\n", "updates.trace (changes.csv, line 2)"),
        ("publish_s\nnan\n", "updates.trace (changes.csv, line 2)"),
        ("", "updates.trace"),
    ],
)
def test_a_trace_that_cannot_be_used_says_where(tmp_path, text, where):
    refused(lambda: sl.simulate(trace_scenario(tmp_path, text)), where)


@pytest.mark.parametrize(
    ("wrong", "path", "meant"),
    [
        ({"client": 5}, "client", "clients"),
        ({"polling": {"intervall_s": 5}}, "polling.intervall_s", "polling.interval_s"),
        ({"websockets": {}}, "websockets", "websocket"),
        ({"interval_s": 30}, "interval_s", "polling.interval_s"),
    ],
)
def test_an_unknown_key_is_met_with_did_you_mean(wrong, path, meant):
    assert f"did you mean {meant}?" in refused(make(**wrong), path).rule


def test_several_problems_are_all_said():
    error = refused(make(clients=-1, horizon_s=-1), "clients")
    assert str(error).splitlines() == [
        "clients: must be >= 0, got -1",
        "horizon_s: must be >= 0.001, got -1",
    ]


# --- what is compiled ----------------------------------------------------------------------------


def test_sessions_have_the_length_asked_for_and_end_at_the_horizon():
    sessions = {"arrivals_per_s": 2.0, "length_s": 20.0, "length": "constant"}
    workload = compile_workload(sl.Scenario(**BASE, sessions=sessions), 1, 0)
    lasted_s = workload.end_s - workload.start_s
    inside = workload.start_s < 580.0
    assert lasted_s[inside] == pytest.approx(20.0)
    assert (workload.end_s[~inside] == 600.0).all()
    arrivals = len(workload.start_s) - 200
    assert abs(arrivals - 1200) < 4 * 1200**0.5  # a Poisson count
    drawn = {"sessions": sessions | {"length": "exponential"}, "horizon_s": 3000.0}
    workload = compile_workload(sl.Scenario(**BASE).replace(drawn), 1, 0)
    early = workload.start_s < 2000.0  # fifty mean lengths before the horizon: none is cut short
    lasted_s = (workload.end_s - workload.start_s)[early]
    assert abs(lasted_s.mean() - 20.0) < 4 * 20.0 / len(lasted_s) ** 0.5


def test_round_trips_are_lognormal_about_their_median():
    network = {"rtt_s": 0.04, "rtt_spread": 0.5}
    logs = np.log(compile_workload(sl.Scenario(**BASE, clients=5000, network=network), 1, 0).rtt_s)
    assert abs(logs.mean() - np.log(0.04)) < 4 * 0.5 / 5000**0.5
    assert abs(logs.std() - 0.5) < 4 * 0.5 / 10_000**0.5


MEASURED = [[0.0, 0.012], [0.5, 0.04], [0.75, 0.04], [0.95, 0.18], [0.99, 0.4], [1.0, 1.5]]
"""Round-trip times as a dashboard shows them, with the least and the greatest."""


def drawn_rtt_s(quantiles, clients=20_000):
    network = {"rtt_quantiles": quantiles}
    return compile_workload(sl.Scenario(**BASE, clients=clients, network=network), 1, 0).rtt_s


def test_round_trips_have_the_quantiles_that_were_measured():
    # Kolmogorov-Smirnov, one-sided at each time, since many clients may have the very same one.
    shares, times_s = np.array(MEASURED).T
    drawn_s = np.sort(drawn_rtt_s(MEASURED))
    at_s = np.concatenate((np.linspace(0.0, 1.6, 5000), times_s[times_s != 0.04]))
    expected = np.interp(at_s, times_s, shares)  # of equal times, the last
    found = np.searchsorted(drawn_s, at_s, side="right") / len(drawn_s)
    assert np.abs(found - expected).max() < 1.63 / len(drawn_s) ** 0.5  # 1 % under the hypothesis
    share = (drawn_s == 0.04).mean()
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / len(drawn_s)) ** 0.5


def test_beyond_the_measured_quantiles_round_trips_are_those_of_the_nearest():
    drawn_s = drawn_rtt_s([[0.5, "40ms"], [0.95, 0.18], [0.99, 0.4]])
    assert (drawn_s.min(), drawn_s.max()) == (0.04, 0.4)
    for time_s, share in ((0.04, 0.5), (0.4, 0.01)):
        assert abs((drawn_s == time_s).mean() - share) < 4 * (share / len(drawn_s)) ** 0.5


def test_a_client_keeps_its_measured_round_trip_however_many_others_there_are():
    assert (drawn_rtt_s(MEASURED, 50) == drawn_rtt_s(MEASURED, 100)[:50]).all()


def test_measured_round_trips_come_back_from_toml_and_from_saved_runs(tmp_path):
    scenario = sl.Scenario(**BASE, network={"rtt_quantiles": MEASURED}).replace(clients=2)
    assert sl.Scenario.parse(scenario.dump()) == scenario
    run = sl.simulate(scenario, engine="simpy", progress=False)
    back = sl.Run.load(run.save(tmp_path / "run")).scenario
    assert back == scenario
    assert back.network.rtt_quantiles == tuple(map(tuple, MEASURED))
    assert back.replace({"network.rtt_quantiles": None}).network.median_rtt_s() == 0.04


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"rtt_quantiles": [[0.5, 0.04]]}, "rtt_quantiles: must have at least 2"),
        ({"rtt_quantiles": 0.04}, "rtt_quantiles: must be a list"),
        ({"rtt_quantiles": [0.5, 0.04]}, "rtt_quantiles.0: must be a list"),
        (
            {"rtt_quantiles": [[50, 0.04], [95, 0.2]]},
            "rtt_quantiles.0.0: must be <= 1 (a fraction: 0.5 for 50 %), got 50",
        ),
        ({"rtt_quantiles": [[0.5, -1], [0.9, 0.2]]}, "rtt_quantiles.0.1: must be >= 0, got -1"),
        (
            {"rtt_quantiles": [[0.9, 0.04], [0.5, 0.2]]},
            "rtt_quantiles.1.0: must be > 0.9: shares ascend, got 0.5",
        ),
        (
            {"rtt_quantiles": [[0.5, 0.2], [0.9, "40 ms"]]},
            "rtt_quantiles.1.1: must be >= 0.2: quantiles ascend with their shares, got 0.04",
        ),
        (
            {"rtt_s": 0.1, "rtt_quantiles": MEASURED},
            "rtt_s: must be left out, or at 0.04, when rtt_quantiles are given, got 0.1",
        ),
        (
            {"rtt_spread": 0.3, "rtt_quantiles": MEASURED},
            "rtt_spread: must be left out, or at 0, when rtt_quantiles are given, got 0.3",
        ),
    ],
)
def test_quantiles_that_are_none_are_refused_with_what_would_be_right(network, said):
    with pytest.raises(sl.ScenarioError) as caught:
        sl.Scenario(**BASE, network=network)
    assert str(caught.value).startswith(f"network.{said}")


def test_a_burst_that_the_horizon_cuts_publishes_only_its_beginning():
    burst = {"kind": "bursts", "rate_per_s": 0.5, "burst_size": 9, "burst_gap_s": 10.0}
    for number in range(20):
        scenario = sl.Scenario(updates=burst, horizon_s=60.0)
        times = compile_workload(scenario, 1, number).publish_s
        assert times.max() < 60.0


def test_clients_start_evenly_over_the_ramp():
    start_s = compile_workload(sl.Scenario(**BASE, clients=5000), 1, 0).start_s
    assert ((start_s >= 0.0) & (start_s < 30.0)).all()
    assert abs(start_s.mean() - 15.0) < 4 * 30.0 / 60_000**0.5


def test_a_setting_that_is_gone_is_read_with_a_warning_and_cannot_be_set():
    with pytest.warns(FutureWarning, match="Wire.count is not read any more: bytes are counted as"):
        read = sl.Scenario(updates={"rate_per_s": 0.1}, wire={"count": "ip"})
    assert read == sl.Scenario(updates={"rate_per_s": 0.1})
    with pytest.raises(sl.ScenarioError, match=r"^wire\.count: is not read any more: bytes are"):
        read.replace({"wire.count": "payload"})


def test_a_copy_that_pydantic_updates_has_a_text_and_a_hash_of_its_own():
    one = sl.Scenario(**BASE, clients=200)
    before = one.dump(), one.hash
    other = one.model_copy(update={"clients": 201})
    assert (other.dump(), other.hash) == (
        one.replace(clients=201).dump(),
        one.replace(clients=201).hash,
    )
    assert (one.dump(), one.hash) == before
