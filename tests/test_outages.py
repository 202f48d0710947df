"""What is said of an outage: waits of libraries, who came back when, what the figures show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib import outages
from simlib.errors import ScenarioError
from simlib.scenario.presets import LIBRARIES

RESTART = {"kind": "restart", "start_s": 50.0, "length_s": 4.5}
BOARD = sl.Scenario(
    name="board",
    transport="websocket",
    clients=40,
    ramp_s=10.0,
    horizon_s=120.0,
    updates={"rate_per_s": 0.2},
    network={"rtt_s": 0.0},
    reconnect={"policy": "fixed"},
    faults=[RESTART],
)


@pytest.fixture(scope="module")
def runs():
    scenarios = [BOARD, BOARD.replace({"name": "gives up", "reconnect.attempts": 3})]
    return [sl.simulate(scenario, progress=False) for scenario in scenarios]


def test_socketio_waits_are_those_measured_of_the_real_client():
    table = outages.delays(["socket.io-client"], attempts=6, clients=20_000)
    # 200,000 draws of the real Backoff gave these means, in milliseconds.
    assert (table["mean_s"] * 1000).tolist() == pytest.approx(
        [1025, 2049, 3949, 4960, 5000, 5000], rel=0.01
    )
    assert (table["p95_s"] - table["p5_s"]).iloc[-1] == 0.0


def test_every_library_that_tries_again_has_its_waits_and_no_more_than_it_makes():
    table = outages.delays(attempts=20, clients=50)
    made = table.groupby("library")["attempt"].max()
    silent = {"native WebSocket", "sockjs-client"}
    assert set(made.index) == set(LIBRARIES) - silent
    assert made["signalr"] == 4
    assert made["socket.io-client, 5 attempts"] == 5
    assert made["phoenix"] == 20
    assert (table.groupby("library")["since_loss_s"].diff().dropna() >= 0).all()


def test_who_is_cut_comes_back_at_the_first_attempt_after_the_outage(runs):
    back, lost = outages.comeback(*runs).to_dict("records")
    assert (back["cut"], back["back_frac"], back["stranded"]) == (40, 1.0, 0)
    # Attempts at 1, 2, 3, 4 and 5 s; then one handshake after the other.
    assert 5.0 < back["t50_s"] < back["t95_s"] <= back["t100_s"] < 5.2
    assert back["attempts"] == 5.0
    assert back["peak_per_s"] == 40.0
    assert (lost["back_frac"], lost["stranded"], lost["attempts"]) == (0.0, 40, 3.0)
    assert np.isnan(lost["t50_s"])


def test_the_curve_of_those_who_are_back_has_a_step_for_each(runs):
    curve = outages.back(runs[0])
    assert len(curve) == 41
    assert curve["back_frac"].iloc[[0, -1]].tolist() == [0.0, 1.0]
    assert curve["t_s"].is_monotonic_increasing
    assert outages.back(runs[1])["back_frac"].tolist() == [0.0]


def test_the_busiest_second_is_the_busiest_of_all_windows():
    rng = np.random.default_rng(3)
    for _ in range(50):
        t_s = np.sort(rng.uniform(0.0, 5.0, 40).round(1))
        windows = [((t_s >= start) & (t_s < start + 1.0)).sum() for start in t_s]
        assert outages.peak_per_s(t_s) == max(windows)
    assert outages.peak_per_s(np.array([])) == 0.0


def test_sessions_that_end_in_the_outage_are_not_counted_as_cut():
    leaving = BOARD.replace(
        sessions={"arrivals_per_s": 0.5, "length_s": 45.0, "length": "constant"}
    )
    run = sl.simulate(leaving, progress=False)
    row = outages.comeback(run).iloc[0]
    ends = run.frame("clients")["end_s"]
    present = (run.frame("clients")["start_s"] < 50.0) & (ends > 50.0)
    assert 0 < row["cut"] == present.sum()


@pytest.mark.parametrize("call", [outages.comeback, outages.back, sl.figures.comeback])
def test_a_run_without_a_fault_has_not_come_back(call):
    calm = sl.simulate(BOARD.replace(faults=[]), progress=False)
    with pytest.raises(ScenarioError, match="must have a fault"):
        call(calm)
    with pytest.raises(ScenarioError, match="runs"):
        call(None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"names": ["socketio"]}, "did you mean"),
        ({"attempts": 0}, "attempts: must be a whole number"),
        ({"clients": 2.5}, "clients: must be a whole number"),
    ],
)
def test_waits_that_cannot_be_told_are_refused(arguments, words):
    with pytest.raises(ScenarioError, match=words):
        outages.delays(**arguments)


# -- figures --------------------------------------------------------------------------------------


def test_waits_are_drawn_with_the_range_of_the_fleet():
    table = outages.delays(["phoenix", "centrifuge"], attempts=5)
    figure = sl.figures.delays(table)
    phoenix, centrifuge = figure.data
    assert not any(phoenix.error_y.array)
    assert all(centrifuge.error_y.array)
    assert "1 of 2 settings wait in step; centrifuge spreads most" in figure.layout.title.text
    with pytest.raises(ScenarioError, match="must have at least one row"):
        sl.figures.delays(table.iloc[:0])


def test_fleets_that_come_back_have_a_colour_each_and_the_title_says_who_does_not(runs):
    figure = sl.figures.comeback(*runs)
    assert len({trace.line.color for trace in figure.data}) == 2
    assert figure.data[0].y[-1] == 100.0
    assert "with gives up only 0 % at all" in figure.layout.title.text
    alone = sl.figures.comeback(runs[0]).layout.title.text
    assert alone.startswith("95 % are back within 5.")


def table_of_kills(**changes):
    row = {
        "policy": "fixed, 1 s",
        "clients": 500,
        "quantity": "t50_s",
        "predicted": 5.0,
        "measured_median": 5.5,
        "measured_low": 5.0,
        "measured_high": 6.0,
        "error_frac": -0.09,
    }
    return pd.DataFrame([{**row, "quantity": name, **changes} for name in ("t50_s", "t95_s")])


def test_kills_are_drawn_beside_their_prediction():
    figure = sl.figures.restarts(table_of_kills())
    assert figure.layout.title.text == "Kills of the real server are predicted within 9 %"
    measured, predicted = figure.data[:2]
    assert (measured.x[0], predicted.x[0]) == (5.5, 5.0)
    assert (measured.error_x.array[0], measured.error_x.arrayminus[0]) == (0.5, 0.5)
    with pytest.raises(ScenarioError, match="must have the column policy"):
        sl.figures.restarts(table_of_kills().drop(columns="policy"))
    with pytest.raises(ScenarioError, match="must have rows of"):
        sl.figures.restarts(table_of_kills(quantity="colour"))


# -- whether a fleet gets over it -----------------------------------------------------------------

COSTLY = sl.Scenario(
    name="as it is",
    transport="websocket",
    clients=2000,
    ramp_s=100.0,
    horizon_s=900.0,
    bin_s=5.0,
    updates={"rate_per_s": 0.05},
    websocket={"resync": "snapshot", "open_timeout_s": 5.0},
    heartbeat={"interval_s": 10.0, "timeout_s": 5.0},
    reconnect={"policy": "fixed", "base_s": 1.0, "cap_s": 1.0},
    server={"snapshot_s": 10e-3, "handshake_s": 1e-3},
    faults=[{"kind": "restart", "start_s": 200.0, "length_s": 2.0}],
)


def recovery_of(**changes):
    run = sl.simulate(COSTLY.replace(changes), engine="compiled", progress=False)
    return outages.recovery(run).iloc[0], run


def test_an_overload_that_outlives_its_cause_is_called_metastable():
    row, run = recovery_of()
    assert row["verdict"] == "metastable"
    assert row["connected_frac"] < 0.1
    assert np.isnan(row["recovered_s"])
    # Before the fault the same server had let all of them in, at a fifth of its capacity.
    timeline = run.frame("timeline").set_index("t_s")
    assert timeline.loc[20.0:90.0, "utilisation"].max() < 0.35
    assert timeline.loc[150.0, "connection_count"] == 2000


@pytest.mark.parametrize(
    "changes",
    [
        {"reconnect.policy": "full_jitter", "reconnect.cap_s": 60.0},
        {"server.shed_wait_s": 1.0},
        {"server.admit_per_s": 80.0, "server.admit_burst": 20},
        {"websocket.open_timeout_s": 60.0, "heartbeat.timeout_s": 60.0},
        {"server.snapshot_s": 0.0},
        {"fallback": {"after_failures": 3}},
    ],
    ids=["jitter", "shedding", "admission rate", "patience", "cheap resync", "fallback"],
)
def test_each_remedy_lets_the_same_fleet_recover(changes):
    row, _ = recovery_of(**changes)
    assert row["verdict"] == "recovered"
    assert 0.0 <= row["recovered_s"] < 300.0


def test_a_fleet_that_has_given_up_is_stranded_and_one_on_its_way_is_recovering():
    assert recovery_of(**{"reconnect.attempts": 3})[0]["verdict"] == "stranded"
    slowly = {
        "server.admit_per_s": 2.5,
        "ramp_s": 850.0,
        "faults": [{"kind": "restart", "start_s": 600.0, "length_s": 2.0}],
        "reconnect.policy": "full_jitter",
        "reconnect.cap_s": 20.0,
    }
    assert recovery_of(**slowly)[0]["verdict"] == "recovering"


def test_a_rate_that_is_wasted_on_a_fleet_in_step_shuts_it_out():
    # The rate let all of them in at the start; now they come in step, one gets in at each try.
    row, run = recovery_of(**{"server.admit_per_s": 25.0})
    assert row["verdict"] == "shut out"
    assert row["utilisation"] < 0.5
    assert run.frame("timeline").set_index("t_s").loc[150.0, "connection_count"] == 2000
    spread = {"reconnect.policy": "full_jitter", "reconnect.cap_s": 60.0}
    assert recovery_of(**{"server.admit_per_s": 25.0}, **spread)[0]["verdict"] == "recovered"


def test_recovery_is_asked_of_runs_that_go_on_after_a_fault_and_are_pushed_to():
    late = COSTLY.replace(
        {"horizon_s": 202.0, "faults": [{"kind": "restart", "start_s": 200.0, "length_s": 2.0}]}
    )
    for board, words in (
        (late.replace(clients=10), "must end after the last fault"),
        (COSTLY.replace({"transport": "polling", "clients": 10}), "must be pushed to"),
        (COSTLY.replace({"faults": [], "clients": 10}), "must have a fault"),
    ):
        with pytest.raises(sl.ScenarioError, match=words):
            outages.recovery(sl.simulate(board, engine="compiled", progress=False))


def test_the_figure_of_recovery_says_every_verdict():
    runs = [recovery_of()[1], recovery_of(**{"server.shed_wait_s": 1.0, "name": "shedding"})[1]]
    figure = sl.figures.recovery(*runs)
    assert figure.layout.title.text == "as it is: metastable; shedding: recovered"
    assert len(figure.data) == 4


# -- slow consumers -------------------------------------------------------------------------------


def test_the_table_of_slow_consumers_tells_them_from_the_others():
    board = sl.Scenario(
        transport="websocket",
        clients=100,
        ramp_s=0.0,
        horizon_s=60.0,
        updates={"rate_per_s": 5.0},
        heartbeat={"direction": "none"},
        server={"socket_bytes": 500},
        faults=[
            {
                "kind": "bandwidth",
                "start_s": 10.0,
                "length_s": 40.0,
                "share": 0.2,
                "bytes_per_s": 50.0,
            }
        ],
    )
    runs = [
        sl.simulate(
            board.replace({"server.slow_consumers": policy, "server.buffer_bytes": bound}),
            keep=("deliveries",),
            progress=False,
        )
        for policy, bound in (("unbounded", None), ("drop_oldest", 2000))
    ]
    table = outages.slow_consumers(*runs).set_index("policy")
    assert table["slow"].between(8, 32).all()
    assert (table["slow_p99_s"] > 20 * table["others_p99_s"]).all()
    assert table.loc["unbounded", "buffered_bytes"] > 10_000
    assert table.loc["unbounded", "lost"] == 0.0
    assert 0 < table.loc["drop_oldest", "buffered_bytes"] <= 2000
    assert table.loc["drop_oldest", "lost"] > 50
    figure = sl.figures.slow_consumers(table.reset_index())
    assert "drop oldest" in figure.data[1].y
    with pytest.raises(sl.ScenarioError, match="bandwidth"):
        outages.slow_consumers(
            sl.simulate(
                board.replace({"faults": [{"kind": "reset", "start_s": 1.0}]}), progress=False
            )
        )
    with pytest.raises(sl.ScenarioError, match="must be asked for when the run is made"):
        outages.slow_consumers(sl.simulate(board, progress=False))
