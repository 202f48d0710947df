"""What a scenario becomes: when sessions arrive, when changes are published, what goes wrong."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib.core.faults import FAULTS, FaultEffect, is_affected
from simlib.scenario import compile_workload, fault_windows, workload

HORIZON_S = 600.0
DAY = [["0 h", 1.0], ["8 h", 0.2], ["12 h", 3.0], ["13 h", 0.0], ["14 h", 0.0], ["24 h", 1.0]]


def board(rate_per_s, horizon_s=HORIZON_S, **sessions):
    return sl.Scenario(
        updates={"rate_per_s": 0},
        clients=0,
        ramp_s=0,
        horizon_s=horizon_s,
        bin_s=horizon_s / 100,
        sessions={"arrivals_per_s": rate_per_s, "length_s": 60.0, **sessions},
    )


def starts_s(scenario, replication=0):
    return compile_workload(scenario, 5, replication).start_s


@pytest.mark.parametrize("rate_per_s", [0.5, 0.7, 1.0 / 3.0, 3.0, 19.7, 1e-9, 1e-320])
def test_even_arrivals_are_evenly_spaced_and_as_many_as_the_rate_says(rate_per_s):
    t_s = starts_s(board(rate_per_s, arrivals="even"))
    assert abs(len(t_s) - rate_per_s * HORIZON_S) <= 1.0
    assert t_s == pytest.approx(np.arange(1, len(t_s) + 1) / rate_per_s, rel=1e-15)
    assert (t_s < HORIZON_S).all()
    edges_s = np.linspace(0.0, HORIZON_S, 14)
    counts = np.histogram(t_s, edges_s)[0]
    assert np.abs(counts - rate_per_s * np.diff(edges_s)).max() <= 1.0


def test_even_arrivals_do_not_depend_on_chance():
    scenario = board(0.7, arrivals="even")
    assert (starts_s(scenario, 0) == starts_s(scenario, 1)).all()


def test_arrivals_by_a_curve_are_a_poisson_count_in_every_hour():
    scenario = board(0.02, 2 * 86400.0, arrivals="curve", curve=DAY)
    edges_s = np.arange(49) * 3600.0
    counts = sum(np.histogram(starts_s(scenario, n), edges_s)[0] for n in range(10))
    points = np.array(scenario.sessions.curve)
    t_s = np.linspace(0.0, 86400.0, 86401)
    rate = np.interp(t_s, *points.T)
    by_hour = ((rate[1:] + rate[:-1]) / 2.0).reshape(24, 3600).sum(axis=1)
    expected = np.tile(by_hour / by_hour.sum() * 86400.0 * 0.02 * 10, 2)
    assert counts.sum() == pytest.approx(2 * 86400.0 * 0.02 * 10, rel=0.04)
    quiet = expected < 1e-6
    assert quiet.sum() == 2  # 13 h to 14 h, on both days
    assert (counts[quiet] == 0).all()
    assert (np.abs(counts - expected) <= 4.5 * np.sqrt(expected)).all()
    spread = ((counts - expected)[~quiet] ** 2 / expected[~quiet]).sum()
    assert 20.0 < spread < 80.0  # chi-square with 46 degrees of freedom: mean 46, sd 9.6
    assert scenario.sessions.expected(86400.0) == pytest.approx(0.02 * 86400.0)


def test_a_flat_curve_has_the_arrivals_of_the_poisson_stream():
    flat = board(0.5, arrivals="curve", curve=[[0, 3], ["24 h", 3]])
    assert starts_s(flat) == pytest.approx(starts_s(board(0.5)), rel=1e-9)


def test_a_run_shorter_than_its_curve_sees_the_beginning():
    rising = board(1.0, arrivals="curve", curve=[[0, 0], [10 * HORIZON_S, 1]])
    count = np.mean([len(starts_s(rising, n)) for n in range(40)])
    expected = rising.sessions.expected(HORIZON_S)
    assert expected == pytest.approx(HORIZON_S / 10.0)
    assert abs(count - expected) < 4 * (expected / 40) ** 0.5


@pytest.mark.parametrize("more", [{"arrivals": "even"}, {"arrivals": "curve", "curve": DAY}])
def test_arrivals_are_kept_by_a_round_trip_and_count_in_the_hash(more):
    scenario = board(0.5, **more)
    assert sl.Scenario.parse(scenario.dump()) == scenario
    assert scenario.hash != board(0.5).hash
    assert scenario.replace({"sessions.arrivals": "poisson", "sessions.curve": None}) == board(0.5)


GIVEN = [1.5, 1.5, 2.25, 599.0, 600.0, 9999.0]


def published_at(times, horizon_s=HORIZON_S):
    updates = {"kind": "times", "publish_s": times}
    return sl.Scenario(updates=updates, horizon_s=horizon_s, clients=3, ramp_s=0)


@pytest.mark.parametrize(
    "times", [GIVEN, tuple(GIVEN), np.array(GIVEN), pd.Series(GIVEN), ["1.5 s", *GIVEN[1:]]]
)
def test_changes_are_published_at_the_times_given_until_the_horizon(times):
    scenario = published_at(times)
    assert scenario == published_at(GIVEN)
    assert scenario.updates.publish_s == tuple(GIVEN)
    for replication in (0, 1):
        assert compile_workload(scenario, 1, replication).publish_s.tolist() == GIVEN[:4]
    assert published_at(np.array([1, 600])).updates.publish_s == (1.0, 600.0)


def test_times_given_are_those_of_the_same_trace(tmp_path):
    times = np.sort(np.random.default_rng(1).uniform(0.0, 900.0, 300))
    (tmp_path / "changes.csv").write_text("publish_s\n" + "\n".join(map(repr, times.tolist())))
    trace = {"kind": "trace", "trace": str(tmp_path / "changes.csv")}
    given, read = (
        sl.simulate(published_at([1]).replace(updates=updates), engine="simpy", progress=False)
        for updates in (trace, {"kind": "times", "publish_s": times})
    )
    assert given.ledger == read.ledger
    assert given.ledger.eligible > 0
    pd.testing.assert_frame_equal(given.frame("clients"), read.frame("clients"))


def test_times_are_kept_by_a_file_and_count_in_the_hash(tmp_path):
    times = np.sort(np.random.default_rng(1).uniform(0.0, 600.0, 5_000))
    scenario = published_at(times)
    (tmp_path / "board.toml").write_text(scenario.dump())
    back = sl.Scenario.load(tmp_path / "board.toml")
    assert back == scenario
    assert back.hash == scenario.hash
    assert back.updates.publish_s == tuple(times.tolist())
    times[7] = np.nextafter(times[7], 600.0)
    assert published_at(times).hash != scenario.hash
    assert published_at(times) != scenario
    for text in (repr(scenario), scenario._repr_html_()):
        assert "5,000 of them" in text
        assert len(text) < 5000


def test_no_times_are_no_changes():
    assert len(compile_workload(published_at([]), 1, 0).publish_s) == 0


def test_a_run_of_given_times_is_saved_and_read(tmp_path):
    run = sl.simulate(published_at(GIVEN), engine="simpy", progress=False)
    run.save(tmp_path / "run")
    assert sl.Run.load(tmp_path / "run").scenario == run.scenario


FIELDS = {
    "length_s": 7.0,
    "batches": 3,
    "every_s": 8.0,
    "age_s": 5.0,
    "added_s": 0.5,
    "bytes_per_s": 900.0,
}
REPEATED = [kind for kind, row in FAULTS.items() if not row.adds_node]


def failing(*faults, **more):
    return sl.Scenario(
        transport="websocket",
        updates={"rate_per_s": 0.5},
        clients=20,
        horizon_s=200.0,
        server={"nodes": 2},
        faults=faults,
        **more,
    )


def once(kind, start_s):
    return {"kind": kind, "start_s": start_s, **{name: FIELDS[name] for name in FAULTS[kind].needs}}


@pytest.mark.parametrize("kind", REPEATED)
def test_a_fault_that_repeats_is_that_many_faults(kind):
    starts_s = [30.0 + 50.0 / 3.0 * number for number in range(10)]
    listed = failing(*(once(kind, start_s) for start_s in starts_s))
    repeated = failing({**once(kind, 30.0), "repeat_s": 50.0 / 3.0, "repeats": 9})
    left, right = (compile_workload(scenario, 1, 0) for scenario in (listed, repeated))
    assert len(repeated.faults_by_number()) == 10
    for name in ("fault_events", "delays", "limits"):
        strip = [[one._replace(fault=0) for one in getattr(w, name)] for w in (left, right)]
        assert strip[0] == strip[1]
    if kind == "drain":
        return  # its batches are drawn anew each time
    runs = [sl.simulate(each, engine="simpy", progress=False) for each in (listed, repeated)]
    for table in ("connections", "clients", "timeline"):
        pd.testing.assert_frame_equal(runs[0].frame(table), runs[1].frame(table))
    assert sl.outages.recovery(runs[0]).equals(sl.outages.recovery(runs[1]))


@pytest.mark.parametrize("kind", REPEATED)
@pytest.mark.parametrize("repeat_s", [15.1, 17.0, 50.0 / 3.0, 30.0, 62.0])
def test_a_fault_repeats_as_often_as_it_can_be_over_by_the_horizon(kind, repeat_s):
    found = list(failing({**once(kind, 30.0), "repeat_s": repeat_s}).faults_by_number().values())
    lasts_s = found[0].end_s(2) - 30.0
    assert [fault.start_s for fault in found] == [30.0 + n * repeat_s for n in range(len(found))]
    assert found[-1].end_s(2) <= 200.0
    assert found[-1].start_s < 200.0
    assert 30.0 + len(found) * repeat_s + max(lasts_s, 1e-9) > 200.0
    assert all(fault.repeat_s is None for fault in found)


def hit(fault):
    return {n for n in range(200) if is_affected(1, 0, n, fault, 0.0, 0.5)}


def test_each_time_a_fault_affects_other_clients_whatever_else_goes_wrong():
    reset = {"kind": "reset", "start_s": 30.0, "share": 0.5, "repeat_s": 40.0}
    slow = {"kind": "latency", "start_s": 5.0, "length_s": 9.0, "added_s": 1.0, "repeat_s": 20.0}
    alone, among = failing(reset), failing(reset, {**slow, "share": 0.5})
    events = compile_workload(alone, 1, 0).fault_events
    assert [event.t for event in events] == [30.0, 70.0, 110.0, 150.0, 190.0]
    assert {event.effect for event in events} == {FaultEffect.RESET}
    assert compile_workload(among, 1, 0).fault_events == events
    groups = [hit(event.fault) for event in events]
    for one, other in pairwise(groups):
        assert 60 < len(one) < 140
        assert 60 < len(one ^ other) < 140  # as many as independent draws leave
    numbers = [window.fault for window in fault_windows(among, ["latency"])]
    assert len(set(numbers)) == len(numbers) == 10
    assert not set(numbers) & {event.fault for event in events}


def test_faults_that_repeat_are_kept_by_a_round_trip_and_count_in_the_hash():
    every = {**once("reset", 30.0), "repeat_s": "1 min", "repeats": 2}
    scenario = failing(every)
    assert sl.Scenario.parse(scenario.dump()) == scenario
    assert scenario.hash != failing(once("reset", 30.0)).hash


@pytest.mark.parametrize("rate_per_s", [1e-4, 0.1, 3.0])
def test_times_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch, rate_per_s):
    one_board = sl.Scenario(updates={"rate_per_s": rate_per_s}, horizon_s=2000.0)
    drawn = workload.publish_times_s(one_board, 3, 1)
    for size in (1, 7, 512):
        monkeypatch.setattr(workload, "_BLOCK", size)
        np.testing.assert_array_equal(workload.publish_times_s(one_board, 3, 1), drawn)


def test_runs_of_a_scenario_share_all_but_their_address():
    one_board = sl.Scenario(updates={"rate_per_s": 0.1}, clients=3)
    one, other = (compile_workload(one_board, seed, 4) for seed in (1, 2**64 - 1))
    assert one.sizes is other.sizes
    assert (one.rules.seed, other.rules.seed) == (1, 2**64 - 1)
    assert one.rules.replication == 4
    longer = compile_workload(one_board.replace({"polling.interval_s": 60.0}), 1, 4)
    assert longer.rules.interval_s == 60.0
