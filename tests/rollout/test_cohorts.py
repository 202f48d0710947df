"""What each cohort gets: any two variants of a scenario that differ in what clients obey."""

from __future__ import annotations

import re

import pandas as pd
import pytest

import simlib as sl
from simlib.rollout.cohorts import OF_A_CLIENT, cohort_scenarios

BOARD = sl.Scenario(clients=40, ramp_s=20.0, horizon_s=600.0, updates={"rate_per_s": 0.2})
PLAN = sl.Plan(
    start_s=60.0,
    flag={"propagation": "polled", "every_s": 7.0},
    stages=[{"percent": percent, "bake_s": 120.0} for percent in (40, 80)],
    kill_s=400.0,
)
RESTART = {"kind": "restart", "start_s": 200.0, "length_s": 10.0}
LOST = {"kind": "path_loss", "start_s": 250.0, "length_s": 60.0, "share": 0.5}


def polling(**changes):
    return {"transport": "polling", "changes": dotted(changes)}


def push(**changes):
    return {"transport": "websocket", "changes": dotted(changes)}


def dotted(changes):
    return {path.replace("__", "."): value for path, value in changes.items()}


def carried_out(control, treatment, engine="simpy", board=BOARD, keep=(), **changes):
    plan = PLAN.replace({"control": control, "treatment": treatment, **changes})
    return sl.roll_out(plan, board, engine=engine, keep=keep, progress=False).run


RESTARTED = {"websocket__safety_poll_s": 9, "websocket__safety_poll_restart": True}


@pytest.mark.parametrize(
    ("control", "treatment", "changes"),
    [
        (polling(), polling(polling__interval_s=10), {"drag": {"every_s": 60, "length_s": 9}}),
        (polling(), polling(polling__pause_while_dragging=False), {}),
        (push(), push(heartbeat__interval_s=5, heartbeat__timeout_s=3), {}),
        (push(heartbeat__interval_s=5, heartbeat__timeout_s=3), push(), {}),
        (push(), push(heartbeat__direction="client", heartbeat__interval_s=9), {}),
        (push(), push(reconnect={"policy": "fixed", "base_s": 2}), {}),
        (push(), push(websocket__safety_poll_s=20), {"websocket.resync": "none"}),
        (push(), push(heartbeat__any_message=True), {"heartbeat.interval_s": 4}),
        (push(heartbeat__any_message=True), push(websocket__safety_poll_s=20), {}),
        (push(**RESTARTED), push(websocket__safety_poll_s=20), {"websocket.resync": "none"}),
        (
            polling(polling__interval_s=20),
            push(fallback={"after_failures": 2, "return_s": 20}, reconnect__cap_s=5),
            {},
        ),
    ],
)
def test_both_engines_agree_on_any_two_variants(control, treatment, changes):
    board = BOARD.replace({"faults": [RESTART, LOST], **changes})
    keep = ("deliveries", "events")
    one, other = (
        carried_out(control, treatment, engine, board, keep) for engine in ("simpy", "compiled")
    )
    for name in ("timeline", "clients", "latency", "connections", "exposures", *keep):
        pd.testing.assert_frame_equal(one.frame(name), other.frame(name), check_exact=True)


VARIANTS = [polling(polling__interval_s=10), push(heartbeat__interval_s=5, reconnect__base_s=3)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cohort", ["control", "treatment"])
def test_a_cohort_that_all_belong_to_is_a_run_of_its_variant(cohort, variant):
    """Nobody is enrolled, or everybody before the first session."""
    board = BOARD.replace(faults=[RESTART])
    other = polling(polling__interval_s=3.0)
    variants = (variant, other) if cohort == "control" else (other, variant)
    percent = 0.0 if cohort == "control" else 100.0
    stages = [{"percent": percent, "bake_s": 120.0}]
    run = carried_out(*variants, board=board, stages=stages, kill_s=None, start_s=0.0)
    plain = sl.simulate(
        board.replace({"transport": variant["transport"], **variant["changes"]}), progress=False
    )
    assert (run.frame("clients")["cohort"] == cohort).all()
    rows = run.frame("timeline").query(f"cohort == '{cohort}'").reset_index(drop=True)
    for table, expected in (
        (rows, plain.frame("timeline")),
        (run.frame("clients"), plain.frame("clients")),
        (run.frame("connections"), plain.frame("connections")),
    ):
        same = expected.columns.drop("cohort")
        pd.testing.assert_frame_equal(table[same], expected[same], check_exact=True)


def test_each_cohort_waits_half_of_its_own_interval():
    board = BOARD.replace({"clients": 400, "horizon_s": 1200.0, "ramp_s": 60.0})
    plan = {"start_s": 0.0, "kill_s": None, "stages": [{"percent": 50, "bake_s": 900.0}]}
    run = carried_out(polling(), polling(polling__interval_s=10), board=board, **plan)
    summary = run.metrics().set_index("cohort")
    assert run.transports == {"control": "polling", "treatment": "polling"}
    for cohort, interval_s in (("control", 30.0), ("treatment", 10.0)):
        row = summary.loc[cohort]
        assert row["average_latency_s"] == pytest.approx(interval_s / 2.0, rel=0.08)
        polls_per_s = row["clients"] / (interval_s + BOARD.network.rtt_s)
        assert row["message_rate_per_s"] == pytest.approx(polls_per_s, rel=0.06)


def test_intervals_are_of_each_cohort_where_both_have_one_transport():
    plan = PLAN.replace(treatment=polling(polling__interval_s=10))
    runs = [
        sl.roll_out(plan, BOARD, engine="simpy", replication=k, progress=False).run for k in (0, 1)
    ]
    table = sl.metrics.intervals(runs).query("quantity == 'average_latency_s'")
    assert table["cohort"].tolist() == ["control", "treatment"]
    assert (table["replications"] == 2).all()
    summary = sl.metrics.table(*runs).groupby("cohort")["average_latency_s"].mean()
    assert table["mean"].tolist() == summary.tolist()
    with pytest.raises(sl.ScenarioError, match="this one is of a rollout"):
        sl.metrics.headline(runs)


def test_another_interval_sets_the_timer_anew_and_an_open_socket_stays():
    run = carried_out(polling(), polling(polling__interval_s=10), keep=("events",))
    events, told = run.frame("events"), run.frame("exposures").query("cohort == 'treatment'")
    assert len(told)
    rings = events[events["event"] == "deadline"]
    for client, t in told[["client", "from_s"]].itertuples(index=False):
        later = rings[(rings["client"] == client) & (rings["t_s"] > t)]
        assert later["t_s"].iloc[0] <= t + 10.0 + 0.1
    kept = carried_out(push(), push(heartbeat__interval_s=5, heartbeat__timeout_s=3))
    assert (kept.frame("connections").groupby("client").size() == 1).all()
    assert kept.frame("clients")["errors"].sum() == 0


def test_who_pings_is_settled_anew_by_a_connection_of_its_own():
    run = carried_out(push(), push(heartbeat__direction="client"))
    assert run.frame("clients")["errors"].sum() == 0
    enrolled = run.frame("exposures").groupby("client").size() - 1
    opened = run.frame("connections").groupby("client").size() - 1
    assert enrolled.sum() > 0
    assert (opened == enrolled).all()
    assert (run.frame("clients")["reconnects"] == 0).all()


def test_a_prediction_of_any_two_variants_stands_beside_its_measurement():
    run = carried_out(polling(), polling(polling__interval_s=10))
    table = sl.rollouts.compare(run, run, [50.0, 300.0], back_s=400.0).set_index("figure")
    enrolled = sl.rollouts.enrolled(run).query("t_s <= 300.0")["treatment"].iloc[-1]
    assert table.loc["tabs enrolled at 50 s", "predicted"] == 0
    assert table.loc["tabs enrolled at 300 s", "predicted"] == enrolled > 0
    assert 0.0 < table.loc["100% back within (s)", "predicted"] <= 7.1
    assert not table.index.str.startswith("switch").any()


def test_a_socket_that_outlives_the_change_of_cohort_is_reconnected_later():
    """A reset cuts every socket once, in both cohorts: each client reconnects once."""
    board = BOARD.replace({"ramp_s": 0.0, "faults": [{"kind": "reset", "start_s": 200.0}]})
    fixed = push(reconnect={"policy": "fixed", "base_s": 2})
    run = carried_out(push(), fixed, board=board, kill_s=None)
    assert run.frame("exposures").groupby("client").size().max() == 2
    assert (run.frame("clients")["reconnects"] == 1).all()
    rates = run.metrics().set_index("cohort")["reconnection_rate_per_h"]
    assert (rates > 0.0).all()


SHARED = "must be a client's own setting: all share the server, the board, the users and the"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server.workers": 2}, f'plan.treatment.changes."server.workers": {SHARED} paths, got 2'),
        ({"polling.etag": "content"}, f"changes.\"polling.etag\": {SHARED} paths, got 'content'"),
        ({"websocket.push": "snapshot"}, f'changes."websocket.push": {SHARED}'),
        (
            {"websocket": {"resync": "replay", "replay_changes": 9}},
            f'changes."websocket": {SHARED} paths, got {{',
        ),
        ({"network.tls": False}, f'changes."network.tls": {SHARED} paths'),
        ({"clients": 9}, f'changes."clients": {SHARED} paths, got 9'),
        (
            {"polling.interval_s": -1},
            'plan.treatment.changes."polling.interval_s": must be > 0, got -1',
        ),
        ({"reconnect": {"cap": 9}}, 'plan.treatment.changes."reconnect".cap: is not a known field'),
        ({"poling.interval_s": 9}, 'changes."poling.interval_s": is not a known field; did you m'),
    ],
)
def test_what_a_cohort_cannot_have_for_itself_is_refused_by_name(changes, words):
    plan = PLAN.replace({"treatment": {"transport": "polling", "changes": changes}})
    with pytest.raises(sl.ScenarioError) as error:
        sl.roll_out(plan, BOARD, engine="simpy", progress=False)
    assert words in str(error.value)


OTHERS = (1, 2, 40.0, 0.25)
WORDS = ("version", "snapshot", "none", "fixed_rate", "restart", "client", "fixed", "never")


def other_value(path, board):
    """Return another value that a board may have at a path, or None."""
    section, _, name = path.partition(".")
    default = getattr(getattr(board, section), name)
    values = [not default] if isinstance(default, bool) else [*OTHERS, *WORDS]
    for value in values:
        try:
            if board.replace({path: value}) != board:
                return value
        except sl.ScenarioError:
            continue
    return None


def test_the_page_of_settings_names_what_a_cohort_may_have_for_itself():
    """What the two cohorts of a board may differ in is what the text of `changes` says."""
    said = sl.settings("Plan.treatment.changes")[0].meaning
    allowed, refused = said.partition("Only what is in ")[2].split("may differ from it, but for")
    board = BOARD.replace({"fallback": {"after_failures": 3}})
    found = {"yes": set(), "no": set()}
    for one in sl.settings("scenario"):
        section = one.path.partition(".")[0]
        value = None
        if section in OF_A_CLIENT and "." in one.path:
            value = other_value(one.path, board)
        if value is not None:
            plan = PLAN.replace({"treatment.changes": {one.path: value}})
            try:
                cohort_scenarios(plan, board)
                found["yes"].add(section)
            except sl.ScenarioError:
                found["no"].add(one.path)
    assert set(re.findall(r"\w+", allowed)) - {"and"} == found["yes"] == set(OF_A_CLIENT)
    assert set(re.findall(r"\w+\.\w+", refused)) == found["no"]


@pytest.mark.parametrize("name", ["graphql-ws", "phoenix", "signalr", "actioncable", "websockets"])
def test_a_cohort_may_have_a_client_librarys_defaults(name, tmp_path):
    variant = {"transport": "websocket", "changes": sl.library(name)}
    plan = PLAN.replace({"control.transport": "websocket", "treatment": variant})
    board = BOARD.replace({"reconnect.attempts": 9})
    assert cohort_scenarios(plan, board)[1] == board.replace(
        {**sl.library(name), "transport": "websocket"}
    )
    (tmp_path / "plan.toml").write_text(plan.dump())
    assert sl.Plan.load(tmp_path / "plan.toml") == plan
    enveloped = plan.replace({"treatment.changes": sl.library("socket.io-client")})
    with pytest.raises(sl.ScenarioError, match=r'"wire\.envelope": must be a cl'):
        cohort_scenarios(enveloped, board)


def test_a_section_does_not_reset_what_it_leaves_out(tmp_path):
    """As TOML has it where the quotation marks around a path were forgotten."""
    file = tmp_path / "plan.toml"
    plan = '[flag]\npropagation = "session"\n[treatment]\ntransport = "polling"\n'
    file.write_text(f"{plan}[treatment.changes]\npolling.interval_s = 10\n")
    board = BOARD.replace({"polling.jitter_frac": 0.25})
    with pytest.raises(sl.ScenarioError) as error:
        cohort_scenarios(sl.Plan.load(file), board)
    rule = "must be given, as a section replaces the scenario's, which has 0.25"
    assert f'treatment.changes."polling".jitter_frac: {rule}' in str(error.value)
    assert cohort_scenarios(sl.Plan.load(file), BOARD)[1].polling.interval_s == 10.0
    file.write_text(f'{plan}[treatment.changes]\n"polling.interval_s" = 10\n')
    assert cohort_scenarios(sl.Plan.load(file), board)[1].polling.jitter_frac == 0.25


def test_a_change_that_changes_nothing_is_borne():
    plan = PLAN.replace({"treatment.changes": {"polling.etag": "off", "wire.http": "1.1"}})
    control, treatment = cohort_scenarios(plan, BOARD)
    assert treatment == control.replace(transport="websocket")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"websocket.resync": "none"}, "resync"),
        ({"websocket.token_valid_s": 60.0, "websocket.token_resent": True}, "token_valid_s"),
        ({"heartbeat.direction": "client"}, "heartbeat"),
        ({"heartbeat.interval_s": 9.0}, "heartbeat_interval_s"),
    ],
)
def test_the_labs_server_does_not_know_the_cohort_of_a_client(changes, name):
    plan = PLAN.replace({"treatment.changes": changes})
    with pytest.raises(sl.ScenarioError, match=rf"treatment\.changes \({name}\): must be the scen"):
        sl.roll_out(plan, BOARD, engine="live")


def test_a_rehearsal_compares_two_intervals():
    """Who polls more often than before gets nothing late; who does and is slow goes back."""
    plan = PLAN.replace({"treatment": polling(polling__interval_s=10), "kill_s": None})
    rail = {"metric": "average_latency_s", "below": 12.0}
    plan = plan.replace(guardrails=[rail], decision={"failures": 1})
    slow = {"kind": "latency", "start_s": 60.0, "length_s": 300.0, "added_s": 20.0}
    broken = {"slow": {"faults": [slow]}}
    found = sl.rehearse(plan, BOARD, broken, replications=2, on="serial", progress=False)
    fleets = found.fleets.set_index("regression")
    assert (fleets.loc["healthy", "outcome"] == "done").all()
    assert (fleets.loc["slow", "outcome"] == "rolled_back").all()
    assert (fleets.loc["healthy", "late"] <= 3).all()
    assert fleets.loc["slow", "t100_s"].between(0.0, 8.0).all()


def test_what_cohorts_get_is_worked_out_once_for_one_plan_and_scenario():
    assert cohort_scenarios(PLAN, BOARD)[1] is cohort_scenarios(PLAN, BOARD)[1]
    other = BOARD.replace(clients=BOARD.clients + 1)
    assert cohort_scenarios(PLAN, other)[1].clients == other.clients
    assert cohort_scenarios(PLAN.replace({"treatment": polling()}), BOARD)[1] == BOARD
