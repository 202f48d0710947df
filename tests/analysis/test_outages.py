"""What is said of an outage: waits of libraries, who came back when, what the figures show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib.analysis import outages
from simlib.core.reconnect import longest_delay_s
from simlib.errors import ScenarioError
from simlib.scenario.presets import LIBRARIES
from simlib.scenario.workload import reconnection
from tests.figures.titles import title_of

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
    back, lost = outages.reconnections(*runs).to_dict("records")
    assert (back["cut"], back["back_frac"], back["stranded"]) == (40, 1.0, 0)
    # Attempts at 1, 2, 3, 4 and 5 s; then one handshake after the other.
    assert 5.0 < back["t50_s"] < back["t95_s"] <= back["t100_s"] < 5.2
    assert back["attempts"] == 5.0
    assert back["peak_per_s"] == 40.0
    assert (lost["back_frac"], lost["stranded"], lost["attempts"]) == (0.0, 40, 3.0)
    assert np.isnan(lost["t50_s"])


def test_the_curve_of_those_who_are_back_has_a_step_for_each(runs):
    curve = outages.reconnection_curve(runs[0])
    assert len(curve) == 41
    assert curve["back_frac"].iloc[[0, -1]].tolist() == [0.0, 1.0]
    assert curve["t_s"].is_monotonic_increasing
    assert outages.reconnection_curve(runs[1])["back_frac"].tolist() == [0.0]


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
    row = outages.reconnections(run).iloc[0]
    ends = run.frame("clients")["end_s"]
    present = (run.frame("clients")["start_s"] < 50.0) & (ends > 50.0)
    assert 0 < row["cut"] == present.sum()


def test_losses_count_from_the_time_bin_in_which_the_fault_begins():
    # Every client misses what is published while it first connects, and nothing brings it back.
    forgetful = BOARD.replace(
        {"websocket.resync": "none", "updates.rate_per_s": 5.0, "network.rtt_s": 0.5}
    )
    for bin_s in (1.0, 20.0):  # the fault begins inside of the wider one
        run = sl.simulate(forgetful.replace(bin_s=bin_s), progress=False)
        timeline = run.frame("timeline")
        first = RESTART["start_s"] // bin_s * bin_s
        lost = outages.reconnections(run)["lost"].iloc[0] * 40
        assert lost == pytest.approx(timeline.loc[timeline["t_s"] >= first, "lost"].sum())
        assert 40 * 5 * 4 < lost < timeline["lost"].sum() - 40


# -- recovery -------------------------------------------------------------------------------------

# To let all 200 in takes 10 s of work, and a client waits 5 s for it; normally there is none to do.
STORM = sl.Scenario(
    name="storm",
    transport="websocket",
    clients=200,
    ramp_s=40.0,
    horizon_s=200.0,
    updates={"rate_per_s": 0.1},
    websocket={"open_timeout_s": 5.0},
    server={"handshake_s": 0.04, "authenticate_s": 0.01},
    reconnect={"policy": "fixed", "base_s": 1.0},
    faults=[{"kind": "restart", "start_s": 60.0, "length_s": 2.0}],
)
IN_STEP = {"reconnect.base_s": 30.0, "websocket.open_timeout_s": 3.0}
WIDE = {"reconnect": {"policy": "full_jitter", "base_s": 30.0, "cap_s": 60.0}}
CHEAP = {"server.handshake_s": 1e-3, "server.authenticate_s": 1e-3}
TOKEN = {"websocket.token_valid_s": 20.0, "websocket.token_resent": True}
FULL = {"server.max_connections": 220, "sessions": {"arrivals_per_s": 2.0, "length_s": 1000.0}}
OUTLOOKS = {
    "metastable": ("metastable", {}),
    "metastable for long": ("metastable", {"horizon_s": 1000.0}),
    "metastable after a reset": ("metastable", {"faults": [{"kind": "reset", "start_s": 60.0}]}),
    "metastable in step": ("metastable", {**IN_STEP, "horizon_s": 400.0}),
    "metastable in step, wide bins": ("metastable", {**IN_STEP, "horizon_s": 400.0, "bin_s": 2.0}),
    "patient": ("recovered", {"websocket.open_timeout_s": 20.0}),
    "sheds": ("recovered", {"server.shed_wait_s": 1.0}),
    "spreads": ("recovered", WIDE),
    "cheap": ("recovered", CHEAP),
    "falls back": ("on polling", {"fallback": {"after_failures": 2}}),
    "sheds, cut short": ("recovering", {**WIDE, "server.shed_wait_s": 1.0, "horizon_s": 74.0}),
    "gives up": ("stranded", {"reconnect.attempts": 3}),
    "tries once": ("stranded", {**CHEAP, "reconnect": {"policy": "none"}}),
    "token expired": ("stranded", {**CHEAP, **TOKEN}),
    "full house": ("shut out", {**CHEAP, **FULL}),
    "cut short": ("too early", {"horizon_s": 73.0}),
    "all at once": ("down before", {"ramp_s": 0.0}),
}


@pytest.fixture(scope="module")
def outlooks():
    scenarios = [STORM.replace({**changes, "name": n}) for n, (_, changes) in OUTLOOKS.items()]
    runs = [sl.simulate(scenario, engine="compiled", progress=False) for scenario in scenarios]
    return dict(zip(OUTLOOKS, runs, strict=True))


@pytest.mark.parametrize("name", OUTLOOKS)
def test_a_fleet_has_the_outlook_that_its_settings_give_it(outlooks, name):
    row = outages.recovery(outlooks[name]).iloc[0]
    assert row["verdict"] == OUTLOOKS[name][0]
    assert np.isfinite(row["recovered_s"]) == (row["verdict"] == "recovered")


@pytest.mark.parametrize("changes", [{"poll_s": 0.02, "shed_wait_s": 0.001}, {"poll_s": 0.06}])
def test_safety_polls_that_fail_make_nobody_try_who_gave_up(changes):
    board = sl.Scenario(
        transport="websocket",
        clients=40,
        ramp_s=10.0,
        horizon_s=300.0,
        updates={"rate_per_s": 0.1},
        reconnect={"policy": "fixed", "base_s": 1.0, "attempts": 8},
        websocket={"open_timeout_s": 5.0, "safety_poll_s": 1.0},
        server={"service": "exponential", "shed_wait_s": 0.2, **changes},
        faults=[
            {"kind": "reset", "start_s": 100.0, "share": 0.5},
            {"kind": "block_upgrades", "start_s": 100.0, "length_s": 60.0, "share": 0.7},
        ],
    )
    run = sl.simulate(board, progress=False)
    timeline = run.frame("timeline")
    assert timeline["safety_errors"].sum() > 100
    assert (timeline["safety_polls"] <= timeline["polls"]).all()
    assert outages.recovery(run)["verdict"].tolist() == ["stranded"]


@pytest.mark.parametrize("keep_alive_s", [75.0, 5.0, 0.0])
def test_whoever_polls_for_good_is_not_back_however_long_his_connection_is_kept(keep_alive_s):
    board = sl.Scenario(
        transport="websocket",
        clients=40,
        ramp_s=10.0,
        horizon_s=400.0,
        updates={"rate_per_s": 0.1},
        reconnect={"policy": "fixed", "base_s": 1.0},
        websocket={"open_timeout_s": 5.0},
        fallback={"after_failures": 2},
        server={"keep_alive_s": keep_alive_s},
        faults=[
            {"kind": "reset", "start_s": 100.0},
            {"kind": "block_upgrades", "start_s": 100.0, "length_s": 60.0},
        ],
    )
    run = sl.simulate(board, progress=False)
    row = outages.recovery(run).iloc[0]
    assert (row["verdict"], row["connected_frac"]) == ("on polling", 0.0)
    assert outages.reconnections(run)[["cut", "stranded"]].to_numpy().tolist() == [[40, 40]]


def test_the_evidence_tells_a_storm_that_feeds_itself_from_a_fleet_that_gave_up(outlooks):
    names = ("metastable", "metastable in step", "patient", "gives up", "full house")
    table = outages.recovery(*(outlooks[name] for name in names)).set_index("name")
    assert (table["before_frac"] > 0.99).tolist() == [True] * 4 + [False]
    assert table[["start_s", "end_s"]].to_numpy().tolist() == [[60.0, 62.0]] * 5
    assert table["watched_s"].tolist() == [138.0, 338.0, 138.0, 138.0, 138.0]
    storm, in_step, patient, gone, full = table.to_dict("records")
    assert storm["utilisation"] == pytest.approx(1.0)
    assert storm["connected_frac"] < 0.5
    assert (storm["success_frac"], storm["busy_frac"]) == (0.0, 1.0)
    # Every 33 s a wave of 8 s of work, of which nobody waits for more than 3.
    assert in_step["utilisation"] == pytest.approx(8.0 / 33.0, rel=0.2)
    assert in_step["attempts_per_s"] == pytest.approx(200 / 33.0, rel=0.2)
    assert (in_step["success_frac"], in_step["busy_frac"]) == (0.0, 1.0)
    assert 5.0 < patient["recovered_s"] < 12.0
    assert gone["attempts_per_s"] == 0.0
    assert gone["utilisation"] < 0.01
    assert (full["busy_frac"], full["success_frac"]) == (0.0, pytest.approx(0.0, abs=0.01))
    assert full["attempts_per_s"] > 50.0


def test_a_recovery_is_timed_where_it_lasts_and_a_late_dip_does_not_undo_it():
    faults = [
        {"kind": "restart", "start_s": 60.0, "length_s": 2.0},
        {"kind": "drain", "start_s": 80.0, "length_s": 10.0, "batches": 5},
    ]
    calm = STORM.replace({**CHEAP, "faults": faults})
    row = outages.recovery(sl.simulate(calm, progress=False)).iloc[0]
    assert (row["start_s"], row["end_s"], row["verdict"]) == (60.0, 90.0, "recovered")
    assert row["recovered_s"] <= 2.0
    table = sl.simulate(calm, progress=False)._tables
    dip = table["timeline"]["connection_count"].copy()
    dip[-2] = 0.0
    dipped = {**table, "timeline": {**table["timeline"], "connection_count": dip}}
    again = sl.simulate(calm, progress=False)
    row = outages.recovery(sl.Run(calm, again.provenance, dipped)).iloc[0]
    assert (row["verdict"], row["recovered_s"] <= 2.0) == ("recovered", True)


def test_a_deploy_ends_with_its_last_node_and_bins_that_never_came_are_left_out():
    run = sl.simulate(STORM.replace(CHEAP), progress=False)
    deploy = {"kind": "rolling_deploy", "start_s": 60.0, "length_s": 5.0, "every_s": 10.0}
    rolled = run.scenario.replace({"faults": [deploy], "server.nodes": 4})
    assert outages.recovery(sl.Run(rolled, run.provenance, run._tables))["end_s"].item() == 95.0
    columns = run.columns("timeline")
    width_s = np.where(columns["t_s"] < 150.0, columns["width_s"], 0.0)
    cut = {**run._tables, "timeline": {**columns, "width_s": width_s}}
    interrupted = sl.Run(run.scenario, run.provenance, cut)
    assert len(outages.reconnected_over_time(interrupted)) == 150
    assert outages.recovery(interrupted)["watched_s"].item() == 88.0


@pytest.mark.parametrize("library", list(LIBRARIES))
def test_no_preset_waits_longer_than_the_longest_wait(library):
    rule = reconnection(BOARD.replace(sl.library(library)).reconnect)
    waits_s = outages.delays([library], attempts=20, clients=50)["p95_s"]
    assert (waits_s <= longest_delay_s(rule)).all()


def test_decorrelated_waits_end_at_their_cap():
    rule = {"policy": "decorrelated_jitter", "base_s": 1.0, "cap_s": 50.0}
    assert longest_delay_s(reconnection(BOARD.replace(reconnect=rule).reconnect)) == 50.0


def test_a_recovery_that_nobody_could_see_is_refused():
    polled = sl.simulate(BOARD.replace(transport="polling"), progress=False)
    with pytest.raises(ScenarioError, match="must be of clients with a socket or a stream"):
        outages.recovery(polled)
    short = sl.simulate(BOARD.replace(horizon_s=57.5), progress=False)
    with pytest.raises(ScenarioError, match=r"four time bins after their last fault's end \(54\.5"):
        outages.recovery(short)
    with pytest.raises(ScenarioError, match="runs"):
        outages.reconnected_over_time("storm")


CALLS = [outages.reconnections, outages.reconnection_curve, outages.recovery]
CALLS += [sl.figures.reconnections, sl.figures.recovery]


@pytest.mark.parametrize("call", CALLS)
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
    assert "1 of 2 settings wait in step; centrifuge spreads most" in title_of(figure)
    with pytest.raises(ScenarioError, match="must have at least one row"):
        sl.figures.delays(table.iloc[:0])


def test_fleets_that_come_back_have_a_colour_each_and_the_title_says_who_does_not(runs):
    figure = sl.figures.reconnections(*runs)
    assert len({trace.line.color for trace in figure.data}) == 2
    assert figure.data[0].y[-1] == 100.0
    assert "with gives up only 0 % at all" in title_of(figure)
    alone = title_of(sl.figures.reconnections(runs[0]))
    assert alone.startswith("95 % are back within 5.")


def test_fleets_and_their_servers_have_a_panel_each_and_the_title_says_who_recovers(outlooks):
    storm, patient = outlooks["metastable"], outlooks["patient"]
    measured = sl.Run(storm.scenario, {**storm.provenance, "engine": "live"}, storm._tables)
    figure = sl.figures.recovery(measured, patient)
    assert title_of(figure) == "1 of 2 recover by themselves; metastable: metastable"
    panels = [note.text for note in figure.layout.annotations]
    assert panels == ["metastable: metastable", "patient: recovered"]
    assert [trace.line.dash for trace in figure.data] == ["dot", "dot", "solid", "solid"]
    assert sum(trace.showlegend for trace in figure.data) == 2
    for run, traces in ((storm, figure.data[:2]), (patient, figure.data[2:])):
        reconnected_over_time = outages.reconnected_over_time(run)
        for trace, what in zip(traces, ("connected_frac", "utilisation"), strict=True):
            assert np.allclose(trace.y, reconnected_over_time[what] * 100.0, rtol=1e-3)
    assert {(shape.x0, shape.x1) for shape in figure.layout.shapes} == {(60.0, 62.0)}
    four = sl.figures.recovery(*[patient] * 4)
    assert title_of(four) == "4 of 4 recover by themselves"
    assert four.layout.yaxis3.title.text == "clients, or time (%)"


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
    assert title_of(figure) == (
        "When the real server is killed, predictions are off by at most 9 %"
    )
    measured, predicted = figure.data[:2]
    assert (measured.x[0], predicted.x[0]) == (5.5, 5.0)
    assert (measured.error_x.array[0], measured.error_x.arrayminus[0]) == (0.5, 0.5)
    with pytest.raises(ScenarioError, match="must have the column policy"):
        sl.figures.restarts(table_of_kills().drop(columns="policy"))
    with pytest.raises(ScenarioError, match="must have rows of"):
        sl.figures.restarts(table_of_kills(quantity="colour"))


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
            engine="compiled",
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
                board.replace({"faults": [{"kind": "reset", "start_s": 1.0}]}),
                engine="compiled",
                progress=False,
            )
        )
    with pytest.raises(sl.ScenarioError, match="must be asked for when the run is made"):
        outages.slow_consumers(sl.simulate(board, engine="compiled", progress=False))


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_streams_that_were_answered_503_never_come_back_however_long_an_attempt_may_take(engine):
    # EventSource waits for 240 s for an answer, so that nothing can be said of who may still wait.
    board = STORM.replace(
        {
            **sl.library("eventsource"),
            "transport": "sse",
            "server": {"admit_per_s": 10.0, "admit_burst": 20},
        }
    )
    run = sl.simulate(board, engine=engine, progress=False)
    row = outages.recovery(run).iloc[0]
    assert row["verdict"] == "stranded"
    assert row["given_up"] == outages.reconnections(run)["stranded"].item() > 100
    retried = sl.simulate(board.replace(sl.library("fetch-event-source")), progress=False)
    row = outages.recovery(retried).iloc[0]
    assert (row["verdict"], row["given_up"]) == ("recovered", 0)
