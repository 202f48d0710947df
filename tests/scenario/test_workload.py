"""What a scenario becomes: when sessions arrive, how many, and when changes are published."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib.scenario import compile_workload

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
    times = np.sort(np.random.default_rng(1).uniform(0.0, 600.0, 100_000))
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
        assert "100,000 of them" in text
        assert len(text) < 5000


def test_no_times_are_no_changes():
    assert len(compile_workload(published_at([]), 1, 0).publish_s) == 0


def test_a_run_of_given_times_is_saved_and_read(tmp_path):
    run = sl.simulate(published_at(GIVEN), engine="simpy", progress=False)
    run.save(tmp_path / "run")
    assert sl.Run.load(tmp_path / "run").scenario == run.scenario
