"""A cohort is not a transport: a rollout compares any two."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.core.protocol import FALLBACK_OF, NO_TRANSPORT, TRANSPORT_NAMES, Transport
from tests.engines.test_compiled_engine import assert_equal_tables

BOARD = sl.Scenario(clients=40, ramp_s=20.0, horizon_s=600.0, updates={"rate_per_s": 0.1})
PLAN = sl.Plan(
    start_s=60.0,
    flag={"propagation": "polled", "every_s": 30.0},
    stages=[{"percent": percent, "bake_s": 120.0} for percent in (50, 100)],
)


def transports(plan, engine="simpy"):
    """The connections of each transport, and the cohorts that opened them."""
    run = sl.roll_out(plan, BOARD, engine=engine, progress=False).run
    connections = run.frame("connections")
    return run, set(zip(connections["transport"], connections["cohort"], strict=True))


def test_a_rollout_back_to_polling_enrols_clients_into_polling():
    back = PLAN.replace({"control.transport": "websocket", "treatment.transport": "polling"})
    run, opened = transports(back)
    assert opened == {("websocket", "control"), ("polling", "treatment")}
    assert run.transports == {"control": "websocket", "treatment": "polling"}
    assert run.metrics().set_index("cohort")["transport"].to_dict() == run.transports


def test_who_changes_the_cohort_but_not_the_transport_keeps_the_connection():
    same = PLAN.replace({"control.transport": "websocket"})
    run, opened = transports(same)
    assert opened == {("websocket", "control")}
    assert (run.frame("connections").groupby("client").size() == 1).all()
    assert (run.frame("clients")["cohort"] == "treatment").all()


@pytest.mark.parametrize("control", TRANSPORT_NAMES)
@pytest.mark.parametrize("treatment", TRANSPORT_NAMES)
def test_both_engines_agree_on_any_two_transports(control, treatment):
    plan = PLAN.replace({"control.transport": control, "treatment.transport": treatment})
    one, other = (transports(plan, engine)[0] for engine in ("simpy", "compiled"))
    assert_equal_tables(one, other, ("exposures",))


def test_tables_of_who_is_pushed_to_count_every_kind_of_socket():
    run, _ = transports(PLAN.replace({"treatment.transport": "notify"}))
    told = run.frame("connections").query("transport == 'notify'")
    assert sl.rollouts.shares(run)["sockets"].max() == len(told)
    to_notify = sl.rollouts.switches(run).query("to == 'notify'")
    assert len(to_notify) > 0
    table = sl.rollouts.compare(run, run, [float(told["opened_s"].max())])
    figures = table.set_index("figure")["predicted"]
    assert figures.filter(like="push connections").iloc[0] == len(told)
    assert figures["switch to notify, 95% within (s)"] > 0.0


def test_tables_of_who_is_pushed_to_refuse_a_rollout_that_leads_elsewhere():
    run, _ = transports(PLAN.replace({"control.transport": "websocket"}))
    for table in (sl.rollouts.shares, sl.rollouts.switches):
        with pytest.raises(
            sl.ScenarioError, match="run: must be of a rollout from polling to push"
        ):
            table(run)


def test_sockets_of_cohorts_that_get_the_same_cannot_be_closed():
    same = {"control.transport": "websocket", "rollback.sockets": "closed"}
    with pytest.raises(sl.ScenarioError, match=r"rollback\.sockets: must be kept"):
        PLAN.replace(same)


def test_what_a_transport_falls_back_to_stands_in_one_table():
    assert FALLBACK_OF[Transport.WEBSOCKET] == Transport.POLLING
    assert FALLBACK_OF[Transport.POLLING] == NO_TRANSPORT
