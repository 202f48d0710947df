"""Plans carried out: the history, false alarms, misses, and what a rollback costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib.errors import ScenarioError
from simlib.rollout import trials
from simlib.rollout.controller import buckets_of
from simlib.store import Store
from tests.quick import QUICK

BOARD = sl.Scenario(
    clients=300,
    ramp_s=30.0,
    horizon_s=1500.0,
    updates={"rate_per_s": 0.1},
    reconnect={"policy": "full_jitter"},
)
PLAN = sl.Plan(
    start_s=60.0,
    flag={"propagation": "polled", "every_s": 30.0},
    stages=[{"percent": percent, "bake_s": 240.0} for percent in (10, 50, 100)],
    guardrails=[{"metric": "latency_p95_s", "below": 2.0}],
    decision={"failures": 2},
)
SLOW = {"server.send_s": 0.2}


def test_a_healthy_rollout_goes_through_its_stages_in_time():
    rollout = sl.roll_out(PLAN, BOARD, progress=False)
    history = rollout.history
    begun = history[history["event"] == "started"]
    assert begun["t_s"].tolist() == [60.0, 300.0, 540.0]
    assert begun["percent"].tolist() == [10.0, 50.0, 100.0]
    assert history["event"].iloc[-1] == "done"
    assert history["t_s"].iloc[-1] == 780.0
    assert (rollout.run.frame("clients")["cohort"] == "treatment").all()


def test_who_changes_the_transport_does_not_reconnect():
    rollout = sl.roll_out(PLAN, BOARD, progress=False)
    assert (rollout.history["reconnection_rate_per_h"].dropna() == 0.0).all()
    assert (rollout.run.frame("clients")["reconnects"] == 0).all()
    restart = BOARD.replace(faults=[{"kind": "restart", "start_s": 900.0, "length_s": 2.0}])
    clients = sl.roll_out(PLAN, restart, progress=False).run.frame("clients")
    assert (clients["reconnects"] == 1).all()


def test_both_engines_keep_the_same_diary():
    board = BOARD.replace({"clients": 60, **SLOW})
    one, other = (
        sl.roll_out(PLAN, board, engine=engine, progress=False) for engine in ("simpy", "compiled")
    )
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    for name in ("timeline", "clients", "latency", "connections", "exposures"):
        pd.testing.assert_frame_equal(one.run.frame(name), other.run.frame(name), check_exact=True)


def test_a_diary_has_the_same_columns_whatever_happens():
    killed = [
        sl.roll_out(PLAN.replace(kill_s=0.0), BOARD.replace(clients=3), engine=engine).history
        for engine in ("simpy", "compiled")
    ]
    pd.testing.assert_frame_equal(*killed, check_exact=True)
    whole = sl.roll_out(PLAN, BOARD.replace(clients=3), progress=False).history
    assert killed[0].columns.tolist() == whole.columns.tolist()


def test_a_rehearsal_is_simulated():
    for engine in ("live", "real"):
        with pytest.raises(ScenarioError, match="engine: must be one of auto, simpy, compiled"):
            sl.rehearse(PLAN, BOARD, replications=2, engine=engine)


def test_a_failed_look_holds_the_stage_and_the_look_after_the_last_rolls_back():
    history = sl.roll_out(PLAN, BOARD.replace(SLOW), progress=False).history
    assert history["event"].tolist()[-3:] == ["failed", "failed", "rolled_back"]
    assert history["percent"].tolist()[-1] == 0.0
    assert np.diff(history["t_s"].tolist()[-3:]).tolist() == [60.0, 60.0]


def test_an_analysis_in_the_background_counts_the_stages_together():
    """Each stage has one slow look: one failure is borne by each, two are not by all together."""
    slow = [
        {"kind": "latency", "start_s": t, "length_s": 90.0, "added_s": 9.0} for t in (60.0, 300.0)
    ]
    board = BOARD.replace(faults=slow)
    rail = {"metric": "latency_p50_s", "below": 5.0}
    plan = PLAN.replace(guardrails=[rail], decision={"rule": "argo", "failures": 1})
    step = sl.roll_out(plan, board, progress=False).history
    whole = sl.roll_out(plan.replace({"decision.analysis": "background"}), board, progress=False)
    assert step["failed"].max() == 2
    assert step["event"].iloc[-1] == "done"
    assert whole.history["event"].iloc[-1] == "rolled_back"
    assert whole.history["t_s"].iloc[-1] == 420.0
    late = plan.replace({"guardrails": [{**rail, "delay_s": 150.0}], "decision.failures": 0})
    history = sl.roll_out(late, board, progress=False).history
    assert history["event"].iloc[-1] == "done"  # the slow looks come before its first check


def test_what_compares_with_control_holds_nothing_up_when_nobody_is_left_there():
    rails = [
        {"metric": "error_rate_per_h", "times_control": 2.0},
        {"metric": "latency_p95_s", "judge": "mann_whitney"},
    ]
    history = sl.roll_out(PLAN.replace(guardrails=rails), BOARD, progress=False).history
    assert history["event"].iloc[-1] == "done"
    assert history["t_s"].iloc[-1] == 780.0


def test_what_compares_goes_on_at_100_percent_while_an_experiment_keeps_a_control():
    """Half of the users stay where they are for good, so there is something to compare with."""
    rail = {"metric": "latency_p50_s", "times_control": 0.5, "delay_s": 61.0, "no_data": "pass"}
    plan = PLAN.replace(
        stages=[{"percent": 50, "bake_s": 60}, {"percent": 100, "bake_s": 240}],
        guardrails=[rail],
        decision={"failures": 1},
    )
    halves = {"bucketing.deciders": "and", "bucketing.experiment_percent": 50.0}
    ends = [
        sl.roll_out(each, BOARD, progress=False).history["event"].iloc[-1]
        for each in (plan, plan.replace(halves))
    ]
    assert ends == ["done", "rolled_back"]


def test_a_check_between_two_limits_has_no_verdict_and_somebody_has_to_look():
    rail = {"metric": "latency_p50_s", "below": 1.0, "fails_beyond": 9.0}
    slow = {"kind": "latency", "start_s": 60.0, "length_s": 900.0, "added_s": 2.0}
    board, decision = BOARD.replace(faults=[slow]), {"rule": "argo", "failures": 0}
    plan = PLAN.replace(guardrails=[rail], decision=decision)
    assert sl.roll_out(plan, board, progress=False).history["event"].iloc[-1] == "paused"
    bears = plan.replace({"decision.inconclusive": 9})
    assert sl.roll_out(bears, board, progress=False).history["event"].iloc[-1] == "done"
    strict = plan.replace({"guardrails": [{**rail, "fails_beyond": 1.001}]})
    assert sl.roll_out(strict, board, progress=False).history["event"].iloc[-1] == "rolled_back"


def test_the_guides_three_deciders_agree_or_one_of_them_does():
    ramp = {"rule": "floor_mod", "experiment_percent": 50.0, "server_percent": 100.0}
    shares = {}
    for how, server in (("and", 100.0), ("and", 0.0), ("or", 0.0), ("or", 100.0)):
        bucketing = {**ramp, "deciders": how, "server_percent": server}
        buckets = buckets_of(PLAN.replace(bucketing=bucketing), 10_000, 1, 0)
        shares[how, server] = (buckets < 20.0).mean()
    assert shares["and", 0.0] == 0.0
    assert shares["or", 100.0] == 1.0
    assert shares["and", 100.0] == pytest.approx(0.2 * 0.5, abs=0.01)
    assert shares["or", 0.0] == pytest.approx(1.0 - 0.8 * 0.5, abs=0.015)


def test_user_ids_come_from_a_file_and_users_come_again(tmp_path):
    path = tmp_path / "users.txt"
    path.write_text("ada\nuser-7\nuser-15\n", encoding="utf-8")
    plan = PLAN.replace(
        bucketing={"ids": "file", "ids_file": str(path)},
        stages=[{"percent": 60, "bake_s": 240.0}],
    )
    three = sl.bucketing.buckets("floor_mod", ["ada", "user-7", "user-15"])
    assert buckets_of(plan, 5, 1, 0).tolist() == [*three, *three[:2]]
    assert buckets_of(plan, 2, 9, 7).tolist() == three[:2].tolist()
    options = {"replications": 2, "store": tmp_path / "store", "on": "serial", "progress": False}
    one, again = (sl.rehearse(plan, BOARD, **options).fleets for _ in range(2))
    pd.testing.assert_frame_equal(one, again)
    assert len(Store(tmp_path / "store")) == 2
    path.write_text("bob\n", encoding="utf-8")  # other users: nothing of before is found
    other = sl.rehearse(plan, BOARD, **options).fleets
    assert other["users"].tolist() != one["users"].tolist()
    missing = plan.replace({"bucketing.ids_file": str(tmp_path / "none.txt")})
    with pytest.raises(ScenarioError, match="must be an existing text file"):
        sl.roll_out(missing, BOARD)


def test_all_tabs_of_a_user_are_in_one_cohort_and_the_user_counts_once():
    one = buckets_of(PLAN, 3, 1, 0)
    assert buckets_of(PLAN, 5, 1, 0, tabs_per_user=2).tolist() == np.repeat(one, 2)[:5].tolist()
    board = BOARD.replace({"tabs_per_user": 2, "clients": 31})
    rollout = sl.roll_out(PLAN.replace(stages=[{"percent": 50, "bake_s": 240.0}]), board)
    clients = rollout.run.frame("clients")
    assert clients["user"].tolist() == [number // 2 for number in range(31)]
    cohorts = clients.groupby("user")["cohort"].nunique()
    assert set(cohorts) == {1}
    assert set(clients["cohort"]) == {"control", "treatment"}
    users = clients.loc[clients["cohort"] == "treatment", "user"].nunique()
    assert trials.outcome_of(rollout)["users"] == users
    line = rollout.run.summary().loc["users, each with several of the clients"]
    assert sorted(line.astype(int)) == sorted([users, 16 - users])


def test_a_gradual_rollback_falls_step_by_step():
    plan = PLAN.replace({"rollback": {"percents": [40.0, 20.0, 0.0], "every_s": 45.0}})
    plan = plan.replace(stages=[{"percent": 100, "bake_s": 600}])
    history = sl.roll_out(plan, BOARD.replace(SLOW), progress=False).history
    back = history[history["event"] == "rolled_back"]
    assert back["percent"].tolist() == [40.0, 20.0, 0.0]
    assert back["t_s"].diff().tolist()[1:] == [45.0, 45.0]


def test_a_gate_delays_its_stage():
    stages = [{"percent": 10, "bake_s": 60}, {"percent": 100, "bake_s": 60, "gate_s": 600.0}]
    plan = PLAN.replace(stages=stages)
    history = sl.roll_out(plan, BOARD, progress=False).history
    assert history.loc[history["event"] == "started", "t_s"].tolist() == [60.0, 720.0]


def test_a_kill_switch_ends_it_whenever_it_is_pulled():
    rollout = sl.roll_out(PLAN.replace(kill_s=400.0), BOARD, progress=False)
    assert rollout.history[["t_s", "event", "percent"]].iloc[-1].tolist() == [400.0, "killed", 0.0]
    assert (rollout.run.frame("clients")["cohort"] == "control").all()
    back = sl.rollouts.rollback_time(rollout.run, 400.0)
    assert 0.0 < back["t100_s"] <= 30.0


def test_a_way_back_never_leads_up():
    rollback = {"percents": [40.0, 20.0, 0.0], "every_s": 45.0}
    plan = PLAN.replace({"rollback": rollback, "stages": [{"percent": 30, "bake_s": 600}]})
    history = sl.roll_out(plan, BOARD.replace(SLOW), progress=False).history
    assert history.loc[history["event"] == "rolled_back", "percent"].tolist() == [20.0, 0.0]


def test_the_guides_hash_does_not_switch_off_at_0_percent_and_its_kill_switch_does():
    guide = PLAN.replace({"bucketing.rule": "guide", "guardrails": []})
    stages = [{"percent": 0, "bake_s": 300}]
    run = sl.roll_out(guide.replace(stages=stages), BOARD, progress=False).run
    assert (run.frame("clients")["cohort"] == "treatment").mean() == pytest.approx(0.495, abs=0.12)
    killed = guide.replace(stages=stages, kill_s=200.0)
    run = sl.roll_out(killed, BOARD, progress=False).run
    assert (run.frame("clients")["cohort"] == "control").all()


def test_argo_bears_its_limit_in_each_stage():
    argo = PLAN.replace({"decision": {"rule": "argo", "failures": 0}})
    history = sl.roll_out(argo, BOARD.replace(SLOW), progress=False).history
    assert history["event"].tolist()[-1] == "rolled_back"
    assert "failed" not in history["event"].tolist()


@pytest.mark.parametrize(
    ("guardrail", "seen", "expected"),
    [
        ({"below": 5.0}, (1.0, 5.0), "PASS"),
        ({"below": 5.0}, (1.0, 5.1), "FAIL"),
        ({"above": 5.0}, (1.0, 4.9), "FAIL"),
        ({"above": 5.0}, (9.0, 5.0), "PASS"),
        ({"times_control": 2.0}, (1.0, 2.0), "PASS"),
        ({"times_control": 2.0}, (1.0, 2.1), "FAIL"),
        ({"times_control": 0.5}, (1.0, 0.4), "FAIL"),
        ({"times_control": 2.0}, (0.0, 0.0), "PASS"),
        ({"times_control": 2.0}, (float("nan"), 1.0), "NO_DATA"),
        ({"below": 5.0}, (1.0, float("nan")), "NO_DATA"),
        ({"below": 5.0, "no_data": "fail"}, (1.0, float("nan")), "FAIL"),
        ({"below": 5.0, "min_sample": 101}, (1.0, 1.0), "NO_DATA"),
        ({"below": 5.0, "min_sample": 101, "no_data": "pass"}, (1.0, 9.0), "PASS"),
    ],
)
def test_a_guardrail_says_what_it_is_asked(guardrail, seen, expected):
    from simlib.rollout.controller import Reading, check
    from simlib.rollout.sections import Guardrail

    rail = Guardrail(metric="error_rate_per_h", **guardrail)
    readings = [Reading({"error_rate_per_h": v}, {"error_rate_per_h": 100}) for v in seen]
    assert check(rail, *readings).name == expected


def test_what_a_controller_reads_is_what_the_timeline_says():
    rollout = sl.roll_out(PLAN, BOARD, progress=False)
    looks, timeline = rollout.history, sl.metrics.over_time(rollout.run, width_s=60.0)
    treatment = timeline[timeline["cohort"] == "treatment"].set_index("t_s")
    looks = looks[looks["t_s"] % 60.0 == 0.0].drop_duplicates("t_s", keep="first").iloc[1:]
    for look in looks.itertuples():
        row = treatment.loc[look.t_s - 60.0]
        assert look.message_rate_per_s == pytest.approx(row["message_rate_per_s"])
        assert look.average_latency_s == pytest.approx(row["average_latency_s"], nan_ok=True)
        assert look.utilisation == pytest.approx(row["utilisation"])


BRIEF_FALL = BOARD.replace(
    {
        "clients": 60,
        "polling.interval_s": 5.0,
        "fallback": {"after_failures": 1, "return_s": 15.0},
        "faults": [{"kind": "reset", "start_s": 430.0, "share": 0.7}],
    }
)
"""Clients fall back at 430 s and are pushed to again within 25 s: between two checks."""


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_guardrail_sees_falls_that_begin_and_end_between_two_checks(engine):
    rail = {"metric": "fallback_to_polling_frac", "below": 0.1}
    plan = PLAN.replace(guardrails=[rail], decision={"failures": 1})
    rollout = sl.roll_out(plan, BRIEF_FALL, engine=engine, progress=False)
    failed = rollout.history[rollout.history["event"] == "failed"]
    assert failed["t_s"].tolist() == [480.0]
    assert "rolled_back" in set(rollout.history["event"])
    assert (rollout.run.frame("timeline").query("t_s == 479")["fallback_count"] == 0.0).all()


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_the_share_of_fallen_clients_is_weighted_by_time_as_in_the_timeline(engine):
    """Also in the windows in which clients join the cohort, of which all present have fallen."""
    faults = [{"kind": "block_upgrades", "start_s": 0.0, "length_s": 400.0}]
    for board in (BRIEF_FALL, BRIEF_FALL.replace(faults=faults)):
        plan = PLAN.replace(decision={"failures": 99})
        rollout = sl.roll_out(plan, board, engine=engine, progress=False)
        over_time = sl.metrics.over_time(rollout.run, width_s=60.0)
        of_treatment = over_time.query("cohort == 'treatment'").set_index("t_s")
        looks = rollout.history.query("t_s % 60 == 0").drop_duplicates("t_s").iloc[1:]
        expected = of_treatment.loc[looks["t_s"] - 60.0, "fallback_to_polling_frac"].to_numpy()
        seen = looks["fallback_to_polling_frac"].to_numpy()
        np.testing.assert_allclose(seen, expected, rtol=1e-9, atol=1e-12)
        assert (seen <= 1.0).all()


def test_guardrails_watch_what_users_wait_for():
    waits = [
        {"metric": "connection_wait_s", "below": 1.0, "no_data": "pass"},
        {"metric": "connection_wait_p95_s", "below": 1.0, "no_data": "pass"},
    ]
    strict = PLAN.replace(decision={"failures": 1})
    calm = sl.roll_out(strict.replace(guardrails=waits), BOARD, progress=False)
    assert calm.history["event"].iloc[-1] == "done"
    slow = BOARD.replace({"server.handshake_s": 2.0})
    for rail in waits:
        history = sl.roll_out(strict.replace(guardrails=[rail]), slow, progress=False).history
        assert history["event"].iloc[-1] == "rolled_back"
        assert history[rail["metric"]].max() > 2.0


@pytest.mark.parametrize(
    ("guardrail", "scenario", "treatment"),
    [
        ({"metric": "connection_wait_s", "below": 1.0}, BOARD, "polling"),
        ({"metric": "connection_wait_p95_s", "times_control": 2.0}, BOARD, "websocket"),
        ({"metric": "poll_response_s", "below": 1.0}, BOARD, "websocket"),
        ({"metric": "poll_response_p95_s", "judge": "mann_whitney"}, BOARD, "websocket"),
    ],
)
def test_a_guardrail_on_what_nobody_waits_for_is_refused(guardrail, scenario, treatment):
    plan = PLAN.replace({"guardrails": [guardrail], "treatment": {"transport": treatment}})
    with pytest.raises(ScenarioError, match="must be a metric that has data") as error:
        sl.roll_out(plan, scenario, progress=False)
    assert error.value.path == "plan.guardrails.0.metric"


def test_clients_that_fetch_beside_a_socket_or_fall_back_wait_for_answers():
    guardrails = [{"metric": "poll_response_s", "below": 1.0}]
    plan = PLAN.replace(guardrails=guardrails)
    falls_back = BOARD.replace({"fallback": {"after_failures": 2}})
    for transport, scenario in (("notify", BOARD), ("websocket", falls_back)):
        trials.check_plan(plan.replace({"treatment": {"transport": transport}}), scenario)


def test_a_rehearsal_counts_false_alarms_and_misses_with_intervals(tmp_path):
    options = {"replications": 6, "store": tmp_path, "progress": False}
    found = sl.rehearse(PLAN, BOARD, {"slow broadcast": SLOW}, **options)
    assert found.is_complete
    table = found.table.set_index("regression")
    assert table["back_frac"].to_dict() == {"healthy": 0.0, "slow broadcast": 1.0}
    # Wilson (1927): none of 6 is compatible with up to z^2 / (6 + z^2).
    assert table.loc["healthy", "back_high"] == pytest.approx(1.96**2 / (6 + 1.96**2), rel=1e-3)
    assert table.loc["healthy", "full_s"] == 480.0
    assert np.isnan(table.loc["healthy", "back_s"])
    slow = found.fleets[found.fleets["regression"] == "slow broadcast"]
    assert (slow["t100_s"] <= 30.0 + 30.0).all()
    assert (slow["peak_polls_per_s"] > 0).all()
    assert len(Store(tmp_path)) == 12
    again = sl.rehearse(PLAN, BOARD, {"slow broadcast": SLOW}, on="serial", **options)
    pd.testing.assert_frame_equal(again.fleets, found.fleets)


def test_each_of_the_regressions_is_found_by_the_guardrail_that_is_for_it():
    rails = {
        "memory": {"metric": "memory_bytes", "below": 300 * 2.0 * 65_536},
        "proxy": {"metric": "error_rate_per_h", "below": 20.0},
        "slow broadcast": {"metric": "latency_p95_s", "below": 0.2},
        "expired token": {"metric": "connection_count", "above": 1.0},
    }
    board = BOARD.replace({"server.send_s": 1e-4})
    broken = sl.trials.regressions(board, PLAN)
    assert list(broken) == list(rails)
    for name, changes in broken.items():
        rail = {**rails[name], "no_data": "pass"}
        plan = PLAN.replace({"guardrails": [rail], "decision": {"failures": 1}})
        healthy = sl.roll_out(plan, board, progress=False).history["event"].iloc[-1]
        broken = sl.roll_out(plan, board.replace(changes), progress=False).history["event"].iloc[-1]
        assert (name, healthy, broken) == (name, "done", "rolled_back")


@pytest.mark.parametrize("transport", ["websocket", "notify", "sse", "sse_notify", "long_polling"])
def test_a_proxy_that_blocks_upgrades_is_a_regression_of_websockets_alone(transport):
    plan = PLAN.replace({"treatment.transport": transport})
    broken = sl.trials.regressions(BOARD, plan)
    assert ("proxy" in broken) == (transport in ("websocket", "notify"))
    assert {"memory", "slow broadcast", "expired token"} <= set(broken)


def test_tuning_puts_the_fastest_plan_that_keeps_its_promise_first():
    over = {"decision.failures": [1, 100], "check_every_s": [60.0, 120.0]}
    table = sl.tune(
        PLAN,
        BOARD,
        over,
        {"slow broadcast": SLOW},
        false_frac=0.6,
        miss_frac=0.6,
        replications=4,
        on="serial",
        progress=False,
    )
    assert table["keeps"].tolist() == [True, True, False, False]
    assert table["promise"].tolist() == ["proved"] * 2 + ["not proved"] * 2
    assert table.loc[:1, "decision.failures"].tolist() == [1, 1]
    assert (table.loc[2:, "miss_frac"] == 1.0).all()
    assert table["full_s"].iloc[0] <= table["full_s"].iloc[1]
    for wrong, path in (({"false_frac": 0.0}, "false_frac"), ({"broken": {}}, "broken")):
        with pytest.raises(ScenarioError) as error:
            sl.tune(PLAN, BOARD, over, **{"broken": {"x": SLOW}, **wrong})
        assert error.value.path == path
    with pytest.raises(ScenarioError, match="check_every_s"):
        sl.tune(PLAN, BOARD, {"check_every_s": [1000.0]}, {"x": SLOW})


def test_a_promise_is_proved_broken_or_neither_by_the_bounds_of_its_intervals():
    bounds = ("false_low", "false_high", "miss_low", "miss_high", "full_s")
    rows = {
        (0.06, 0.10, 0.00, 0.04, 1.0): "broken",  # false alarms alone
        (0.00, 0.04, 0.51, 0.70, 2.0): "broken",  # misses alone
        (0.00, 0.06, 0.00, 0.04, 3.0): "not proved",  # one false alarm of eighty
        (0.00, 0.04, 0.05, 0.06, 4.0): "not proved",
        (0.05, 0.05, 0.05, 0.05, 6.0): "proved",
        (0.00, 0.04, 0.00, 0.04, 5.0): "proved",
    }
    found = trials._judged(pd.DataFrame(list(rows), columns=bounds), 0.05, 0.05)
    assert found["promise"].tolist() == ["proved"] * 2 + ["not proved"] * 2 + ["broken"] * 2
    assert found["full_s"].tolist() == [5.0, 6.0, 3.0, 4.0, 1.0, 2.0]
    assert found["keeps"].tolist() == [True, True, False, False, False, False]
    assert {tuple(row): promise for *row, promise in found[[*bounds, "promise"]].to_numpy()} == rows


def test_ctrl_c_keeps_the_fleets_that_are_done(monkeypatch):
    finished = trials.perform

    def interrupted(fleet):
        if fleet.replication == 2:
            raise KeyboardInterrupt
        return finished(fleet)

    monkeypatch.setattr(trials, "perform", interrupted)
    with pytest.raises(sl.Interrupted, match="2 of 5 runs were finished") as stopped:
        sl.rehearse(PLAN, BOARD, replications=5, on="serial", progress=False)
    found = stopped.value.result
    assert not found.is_complete
    assert found.table["fleets"].tolist() == [2]


def test_ctrl_c_before_anything_is_done_leaves_empty_tables(monkeypatch):
    def interrupted(fleet):
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "perform", interrupted)
    with pytest.raises(sl.Interrupted) as stopped:
        sl.rehearse(PLAN, BOARD, replications=2, on="serial", progress=False)
    found = stopped.value.result
    assert (found.is_complete, len(found.table), len(found.fleets)) == (False, 0, 0)


@pytest.mark.parametrize(
    ("plan", "scenario", "regressions", "path"),
    [
        (PLAN, BOARD.replace(horizon_s=600.0), None, "plan.stages"),
        (PLAN.replace(kill_s=1500.0), BOARD, None, "plan.kill_s"),
        (
            PLAN.replace(guardrails=[{"metric": "fallback_to_polling_frac", "below": 0.1}]),
            BOARD,
            None,
            "plan.guardrails.0.metric",
        ),
        (PLAN, BOARD, {"healthy": {}}, "broken"),
        (PLAN, BOARD, {"x": {"server.send_s": -1.0}}, "broken['x'].server.send_s"),
        (PLAN, BOARD, {"x": {"horizon_s": 100.0}}, "broken['x'].plan.stages"),
        (PLAN, BOARD, ["x"], "broken"),
        ("plan.toml", BOARD, None, "plan"),
        (PLAN, "matters.toml", None, "scenario"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused_before_anything_runs(
    plan, scenario, regressions, path
):
    with pytest.raises(ScenarioError) as error:
        sl.rehearse(plan, scenario, regressions, replications=2, progress=False)
    assert error.value.path == path


BLOCKED = {
    "faults": [{"kind": "block_upgrades", "start_s": 0.0, "length_s": 1500.0, "share": 0.6}],
    "reconnect": {"policy": "full_jitter", "base_s": 5.0, "cap_s": 60.0},
}


@pytest.mark.parametrize(
    ("judge", "min_sample"), [("sequential", 600), ("mann_whitney", 5), (None, 600)]
)
def test_a_judge_tells_a_proxy_that_eats_upgrades_from_none(judge, min_sample):
    asks = {"below": 20.0} if judge is None else {"judge": judge}
    rail = {"metric": "error_rate_per_h", "min_sample": min_sample, "no_data": "pass", **asks}
    plan = PLAN.replace(guardrails=[rail])
    assert sl.roll_out(plan, BOARD, progress=False).history["event"].iloc[-1] == "done"
    history = sl.roll_out(plan, BOARD.replace(BLOCKED), progress=False).history
    assert history["event"].iloc[-1] == "rolled_back"
    # A rank test of looks needs some of them; a test of all observations needs fewer.
    assert (history["stage"].iloc[-1] == 0) == (judge != "mann_whitney")


@pytest.mark.parametrize(("judge", "min_sample"), [("sequential", 600), ("mann_whitney", 5)])
def test_a_judge_bears_what_its_margin_says(judge, min_sample):
    rail = {"metric": "error_rate_per_h", "judge": judge, "min_sample": min_sample}
    board = BOARD.replace(BLOCKED)
    outcomes = []
    for margin in (5.0, 10_000.0):
        plan = PLAN.replace(guardrails=[{**rail, "no_data": "pass", "margin": margin}])
        outcomes.append(sl.roll_out(plan, board, progress=False).history["event"].iloc[-1])
    assert outcomes == ["rolled_back", "done"]
    # Latency falls by far: "lower is worse" finds that, unless that much is borne.
    lower = {"metric": "average_latency_s", "judge": judge, "min_sample": min_sample}
    outcomes = []
    for margin in (1.0, 1e4):
        rail = {**lower, "no_data": "pass", "worse": "lower", "margin": margin}
        history = sl.roll_out(PLAN.replace(guardrails=[rail]), BOARD, progress=False).history
        outcomes.append(history["event"].iloc[-1])
    assert outcomes == ["rolled_back", "done"]


def test_a_sequential_judge_sees_the_whole_rollout():
    from simlib.engines import simulate
    from simlib.rollout.controller import RolloutController

    rail = {"metric": "average_latency_s", "judge": "sequential", "worse": "higher"}
    plan = PLAN.replace(guardrails=[rail])
    controller = RolloutController(plan, BOARD, 1, 0)
    run = simulate(BOARD, engine="compiled", progress=False, controller=controller)
    assert controller.history[-1]["event"] == "done"
    last = controller._before
    for cohort, name in enumerate(("control", "treatment")):
        sample = controller._sample("average_latency_s", cohort, last)
        rows = run.frame("timeline").query(f"cohort == '{name}' and 60 <= t_s < {last.t}")
        assert sample.n == rows["delivered"].sum()
        mean_s = rows["latency_sum_s"].sum() / rows["delivered"].sum()
        assert sample.mean == pytest.approx(mean_s, rel=0.01)


FLAGS = {"every 30 s": {}, "once": {"flag": {"propagation": "session"}}}


def test_variants_of_a_plan_are_rollouts_by_name():
    board = BOARD.replace(clients=20)
    rollouts = trials.variants(PLAN, board, FLAGS, **QUICK)
    assert rollouts.index.tolist() == list(FLAGS)
    alone = sl.roll_out(PLAN.replace(FLAGS["once"]), board, engine="simpy", progress=False)
    pd.testing.assert_frame_equal(rollouts["once"].history, alone.history)
    assert rollouts["once"].plan.name == "once"


def test_variants_of_a_plan_are_rehearsed_as_each_would_be():
    board = BOARD.replace(clients=20)
    both = sl.rehearse(PLAN, board, {"slow": SLOW}, variants=FLAGS, replications=2, **QUICK)
    assert both.is_complete
    for name, changes in FLAGS.items():
        alone = sl.rehearse(PLAN.replace(changes), board, {"slow": SLOW}, replications=2, **QUICK)
        for together, one in ((both.table, alone.table), (both.fleets, alone.fleets)):
            mine = together[together["variant"] == name].drop(columns="variant")
            pd.testing.assert_frame_equal(mine.reset_index(drop=True), one)
    assert list(both.table)[:2] == ["variant", "regression"]


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({}, "must have at least one variant"),
        (["once"], "must be a mapping of names to changes"),
        ({1: {}}, "must have names that are texts"),
        ({"a": 1}, "must be a mapping of paths to values"),
        ({"a": {"kill_s": 1e6}}, "must be < the scenario's horizon_s"),
        ({"a": {"stages.*.bake_s": "-1 s"}}, "must be"),
    ],
)
def test_variants_that_make_no_plan_are_refused_by_name(variants, message):
    with pytest.raises(ScenarioError, match=message) as caught:
        sl.rehearse(PLAN, BOARD, variants=variants, replications=2, **QUICK)
    assert caught.value.path.startswith("variants['a']" if "a" in variants else "variants")
    with pytest.raises(ScenarioError, match=message) as caught:
        trials.variants(PLAN, BOARD, variants, **QUICK)
    assert caught.value.path.startswith("changes['a']" if "a" in variants else "changes")
