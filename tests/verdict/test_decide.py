"""A verdict's numbers are those of its tables, and what cannot be judged does not pass."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import simlib as sl
from simlib.core.protocol import TRANSPORT_NAMES
from simlib.core.stream_proxy import are_held
from simlib.rollout.cohorts import cohort_scenarios
from simlib.scenario import compile_workload
from simlib.verdict import CANDIDATES, JUDGED, Decision, Trouble
from simlib.verdict.candidates import TODAY, cases_of
from simlib.verdict.decision import interval_of
from simlib.verdict.facts import calm_facts, rollout_facts, rough_facts
from simlib.verdict.judging import in_full
from simlib.verdict.measures import shown
from simlib.verdict.runs import conditions, rolled_out
from tests.quick import ENGINE, QUICK

BOARD = sl.Scenario(
    name="small",
    updates={"rate_per_s": 0.1},
    clients=20,
    ramp_s=20.0,
    warm_up_s=30.0,
    horizon_s=240.0,
    cool_down_s=30.0,
    websocket={"open_timeout_s": 5.0},
    server={"poll_s": 2e-3, "send_s": 20e-6},
)
ANY = sl.Needs(utilisation=0.9)
SHARE = {"bad_proxy_frac": 0.3}
RESTART = {"kind": "restart", "start_s": 60.0, "length_s": 5.0}


def decided(needs, board=BOARD, **options):
    return sl.decide(board, needs, **{**QUICK, **options})


@pytest.fixture(scope="module")
def decision():
    needs = sl.Needs(
        latency_p95_s=2.0,
        utilisation=0.5,
        missed_frac=0.01,
        back_s=60.0,
        trouble=SHARE,
        prices={"per_gb_down": 90.0, "per_server_hour": 0.1, "open_hours": 176.0},
    )
    return decided(needs)


# -- the verdict -----------------------------------------------------------------------------------


def test_a_proxys_error_during_a_restart_ends_every_eventsource_and_sentences_say_so():
    limits = {"latency_p95_s": 2.0, "back_s": 60.0}
    decision = decided(limits, candidates=["sse", "sse_fallback"])
    table = decision.table["mean"]
    assert table["sse", "back_s"] == math.inf
    assert table["sse_fallback", "back_s"] < 60.0
    assert "back_s" in decision.fails("sse")
    [of_sse] = [
        decision.say(one)
        for one in decision.sentences
        if decision.say(one).startswith("Server-sent events:")
    ]
    assert "ends EventSource for good (sse.retries_http_errors)" in of_sse
    # Where nothing asks whether they come back, it is said of what is taken.
    alone = decided({"latency_p95_s": 2.0}, candidates=["sse"])
    assert alone.best == "sse"
    said = [alone.say(one) for one in alone.sentences]
    assert (
        "After a restart, clients of server-sent events stay without a connection, as an error of "
        "HTTP ends EventSource for good (sse.retries_http_errors). The time until nearly all are "
        'back is given as "never".'
    ) in said
    # A port that is closed while the server is down ends none.
    closed = decided(
        {"latency_p95_s": 2.0, "back_s": 60.0, "trouble": {"bad_gateway": False}},
        candidates=["sse"],
    )
    assert closed.best == "sse"


def test_bad_proxies_are_a_condition_of_every_run(decision):
    """Those behind them poll instead, or see nothing: that counts in calm as it does in trouble."""
    assert (decision.kind, decision.best) == ("migrate", "long_polling")
    assert decision.scenario == decision.cases["long_polling"].scenario
    assert decision.fails("push") == ["latency_p95_s", "missed_frac"]
    table = decision.table["mean"]
    assert table["push", "latency_p95_s"] == math.inf
    assert table["push", "missed_frac"] == pytest.approx(
        table["push", "without_push_frac"], abs=0.05
    )
    assert decision.cases["push_fallback"].scenario.fallback.after_failures == 5
    assert not decision.fails("push_fallback"), "who falls back polls as often as it takes"
    assert 1.0 < table["push_fallback", "latency_p95_s"] < 2.0
    assert table["push_fallback", "missed_frac"] == 0.0
    assert decision.fails(TODAY) == ["latency_p95_s"]
    assert not decision.warnings, "what proxies do is judged, so that nothing leaves it out"


def test_bad_proxies_hold_streams_back_and_sentences_say_who_does_not_notice(decision):
    """A time-out sends those who may poll to polling, and the others see nothing."""
    table = decision.table["mean"]
    for name in ("sse", "sse_notify"):
        assert table[name, "latency_p95_s"] == math.inf
        assert "latency_p95_s" in decision.fails(name)
    assert decision.fails("sse_fallback") == ["latency_p95_s"]
    assert 10.0 < table["sse_fallback", "latency_p95_s"] < math.inf
    assert table["sse_fallback", "missed_frac"] == 0.0
    silent = "; those behind a bad proxy hear nothing at all, which EventSource does not notice."
    said = [decision.say(one) for one in decision.sentences]
    assert [line.split(":")[0] for line in said if line.endswith(silent)] == [
        "Notify by stream and fetch",
        "Server-sent events",
    ]
    # It is said of what is taken, too, though a share that is small keeps every limit.
    few = {"latency_p95_s": 2.0, "trouble": {"bad_proxy_frac": 0.01, "bad_gateway": False}}
    taken = decided(few, BOARD.replace(clients=50), candidates=["sse"])
    assert taken.best == "sse"
    [line] = [taken.say(one) for one in taken.sentences if taken.say(one).endswith(silent)]
    assert line.startswith("In the run with a restart, clients of server-sent events miss ")
    assert taken.table.loc[("sse", "missed_frac"), "mean"] > 0.0


def test_those_behind_bad_proxies_are_the_same_in_every_run_and_poll_for_money():
    needs = sl.Needs(latency_p95_s=2.0, harmed_frac=0.5, trouble=SHARE)
    cases, _ = cases_of(BOARD, needs, ["push_fallback", "sse"])
    compared = [case.scenario for case in cases.values()]
    found = conditions(cases["push_fallback"], compared, needs)
    runs = [sl.simulate(found[name].scenario, engine=ENGINE, progress=False) for name in found]
    release = rolled_out(cases["push_fallback"], compared, needs, BOARD)
    runs.append(sl.roll_out(release.plan, release.scenario, engine=ENGINE, progress=False).run)
    pushed = [set(run.sockets()["client"]) for run in runs]
    assert pushed[0] == pushed[1] > pushed[2]
    assert 0 < len(pushed[0]) < 20
    # They are the same of every candidate; and whom no proxy meets has runs without them.
    streamed = conditions(cases["sse"], compared, needs)["calm"].scenario
    assert (len(streamed.faults), streamed.network.stream_held_frac) == (1, 0.3)
    held = are_held(compile_workload(streamed, 1, 0).stream_proxy, 1, 0, BOARD.clients)
    assert set(np.flatnonzero(~held)) == pushed[0]
    assert conditions(cases[TODAY], compared, needs)["calm"].scenario.faults == ()
    pulled = BOARD.replace(transport="notify")
    back = rolled_out(cases["sse"], compared, needs, pulled).scenario
    assert [fault.kind for fault in back.faults] == ["block_upgrades"]
    assert (back.network.stream_held_frac, release.scenario.network.stream_held_frac) == (0.3, 0.0)


def test_proxies_do_nothing_to_those_who_open_no_websocket():
    fault = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 240.0, "share": 0.5}
    for name in ("polling", "sse", "sse_notify", "long_polling"):
        plain, blocked = (
            sl.simulate(BOARD.replace({"transport": name, "faults": faults}), engine=ENGINE)
            for faults in ((), (fault,))
        )
        assert plain.frame("connections").equals(blocked.frame("connections"))
        assert plain.ledger == blocked.ledger


def test_who_falls_back_polls_more_often_where_the_limits_would_be_missed():
    """Few may be late where a limit is of 95 % of all; then more polls would serve no need."""
    for share, limits, interval_s in (
        (0.3, {"latency_p95_s": 2.0}, 1.8),
        (0.05, {"latency_p95_s": 2.0}, 1.8),
        (0.04, {"latency_p95_s": 2.0}, 30.0),
        (0.3, {"latency_p50_s": 2.0}, 30.0),
        (0.04, {"latency_max_s": 2.0}, 1.9),
        (0.3, {"latency_p95_s": 60.0}, 30.0),  # never less often than the board polls
        (0.3, {"latency_p95_s": 1e-3}, 30.0),  # no polls keep it
        (0.3, {"utilisation": 0.5}, 30.0),
        (None, {"latency_p95_s": 2.0}, 30.0),
    ):
        trouble = {} if share is None else {"bad_proxy_frac": share}
        cases, _ = cases_of(BOARD, sl.Needs(**limits, trouble=trouble), ["push_fallback"])
        found_s = cases["push_fallback"].scenario.polling.interval_s
        assert found_s == interval_s, (share, limits)


def test_each_number_of_a_sentence_is_that_of_its_cell(decision):
    none = decided({"latency_p95_s": 1e-3})
    stay = decided({"latency_p95_s": 60.0}, candidates=["poll_shorter", "push_snapshots"])
    tune = decided({"latency_p95_s": 60.0}, candidates=["poll_longer"])
    assert [one.kind for one in (none, stay, tune)] == ["none", "stay", "tune"]
    for one in (decision, none, stay, tune):
        assert len(one.sentences) > 1
        for sentence in one.sentences:
            assert sentence.cells
            text, template = one.say(sentence), sentence.template
            for cell in sentence.cells:
                table = {"table": one.table, "ranking": one.ranking}[cell.table]
                number = table.loc[cell.row, cell.column]
                assert not math.isnan(number)
                template = template.replace("{}", shown(number, cell.kind), 1)
                # A mean is of the replications, by arithmetic that is not the tables' own.
                if cell.column == "mean" and cell.table == "table":
                    name, measure = cell.row
                    assert number == pytest.approx(one.values[name][measure].mean())
            assert text == template
            words = sentence.template
            for label in [JUDGED[name].label for name in JUDGED]:
                words = words.replace(label, "")
            assert not re.search(r"\d", words), "a number that is from no cell"


def test_what_the_best_is_weighed_against_is_named_where_it_is_not_the_next():
    decision = decided({"latency_p95_s": 2.0}, candidates=["poll_allowed", "push", "sse_fallback"])
    said = [decision.say(one) for one in decision.sentences]
    (next_comes,) = [one for one in said if one.startswith("Next of those that meet every need")]
    assert decision.cases[decision.order[1]].label in next_comes
    assert decision.rival != decision.order[1]
    (weighed,) = [one for one in said if "weigh it against" in one]
    assert decision.cases[decision.rival].label in weighed
    assert "the best of those that keep today's transport" in weighed
    two = decided({"latency_p95_s": 60.0}, candidates=["push"])
    assert two.rival == two.order[1]
    assert not any("weigh it against" in two.say(one) for one in two.sentences)


def test_a_name_may_have_braces():
    named = {"{0} or {x}": {"transport": "websocket"}}
    for needs in ({"latency_p95_s": 2.0}, {"latency_p95_s": 1e-3}):
        found = decided(needs, candidates=named)
        assert any("{0} or {x}" in found.say(one) for one in found.sentences)


def test_other_needs_of_the_same_runs_may_differ_in_limits_alone(decision):
    needs = decision.asked.needs
    looser = decision.with_needs(needs.replace({"latency_p95_s": 60.0}))
    assert TODAY in looser.ranking.index
    assert TODAY not in decision.ranking.index
    given = {**needs.model_dump(exclude_none=True), "latency_p95_s": 60.0}
    assert decision.with_needs(given).best == looser.best
    with pytest.raises(sl.ScenarioError, match=r"needs: must be Needs, or a mapping of its fields"):
        decision.with_needs(3)
    with pytest.raises(sl.ScenarioError, match=r"needs.trouble: must be as it was"):
        decision.with_needs(needs.replace({"trouble.restart_s": 9.0}))
    with pytest.raises(sl.ScenarioError, match=r"needs.prices: must be as it was"):
        decision.with_needs(needs.replace({"prices": None}))
    with pytest.raises(sl.ScenarioError, match=r"latency_p95_s.x: must be a field of a section"):
        needs.replace({"latency_p95_s.x": 3.0})


def test_what_followed_from_limits_keeps_its_settings_and_says_so():
    """Polls as seldom as allowed are so by the limits that they were run with."""
    needs = {"latency_p95_s": 9.0, "trouble": SHARE}
    names = ["poll_allowed", "push_fallback", "poll_etag"]
    found = decided(needs, candidates=names, replications=3)
    tighter = found.with_needs(found.asked.needs.replace({"latency_p95_s": 8.0}))
    case = tighter.cases["poll_allowed"]
    assert case.scenario == found.cases["poll_allowed"].scenario
    assert case.label == "polling as seldom as allowed, by the limits before"
    assert case.label in tighter.summary().index
    assert tighter.cases["push_fallback"].label == "push that may poll, by the limits before"
    assert tighter.with_needs(found.asked.needs).cases == found.cases, "and back again"
    # If it is asked again, it has these settings, too.
    assert case.candidate.applied_to(BOARD, tighter.asked.needs) == case.scenario
    for same in (found.asked.needs, found.asked.needs.replace({"missed_frac": 0.5})):
        assert found.with_needs(same).cases == found.cases
    none = found.with_needs(sl.Needs(missed_frac=0.5, trouble=SHARE))
    assert none.cases["poll_allowed"].label == case.label
    assert none.cases["poll_etag"] == found.cases["poll_etag"]


def test_labels_have_no_numbers():
    assert not [row.name for row in CANDIDATES.values() if re.search(r"\d", row.label)]


def test_the_verdict_is_shown_in_every_form(decision):
    assert decision.verdict == decision.say(decision.sentences[0])
    assert decision.verdict in repr(decision)
    page, text = decision._repr_html_(), decision._repr_markdown_()
    for one in decision.sentences[1:]:
        assert decision.say(one) in text
    assert "<table" in page
    summary = decision.summary()
    assert list(summary.index) == ["limit", *(decision.cases[n].label for n in decision.order)]
    assert summary.loc["limit", "95 % staleness"] == "2 s"
    assert summary.loc["push of deltas", "changes missed"].endswith("✗")
    for why in decision.left_out:
        assert why in text
    assert text.count("|---") == len(summary.columns) + 1


def test_warnings_of_runs_come_with_the_candidate_whose_they_are():
    busy = BOARD.replace({"server.poll_s": 1.6})
    one = decided({"latency_p95_s": 2.0}, busy, candidates=["push"])
    assert any(line.startswith("as it is today: ") for line in one.warnings)
    assert "saturated" in one.table.loc[(TODAY, "utilisation"), "warnings"]
    assert "saturated" not in one.table.loc[("push", "utilisation"), "warnings"]
    assert len(one.warnings) < 8  # one of a kind, though there are five replications
    assert one.warnings[0] in one._repr_markdown_()


def test_a_candidate_that_gets_its_boards_for_nothing_at_a_restart_is_said_to():
    """The restart's other warnings are what was asked for; a cost that is left out is not."""
    in_step = {"reconnect": {"policy": "fixed", "base_s": 3.0}}
    dear = BOARD.replace({"server.poll_s": 0.1, **in_step})
    needs, only = {"latency_p95_s": 50.0, "back_s": 60.0}, {"candidates": ["push"]}
    (said,) = (one for one in decided(needs, dear, **only).warnings if "snapshot_s" in one)
    assert said.startswith("push of deltas: 20 clients connected within 1 s at ")
    paid = decided(needs, dear.replace({"server.snapshot_s": 0.1}), **only).warnings
    assert not any("snapshot_s" in one for one in paid)


# -- what has no value does not pass ---------------------------------------------------------------


def test_where_nothing_changes_no_candidate_is_fresh():
    nothing = decided({"latency_p95_s": 60.0}, BOARD.replace({"updates.rate_per_s": 0}))
    assert (nothing.kind, nothing.best) == ("none", None)
    assert set(nothing.table.xs("latency_p95_s", level="measure")["status"]) == {"no value"}
    assert nothing.scenario == nothing.asked.scenario
    assert "no value of 95 % staleness, where 60 s is needed" in nothing.verdict


def test_changes_that_nobody_sees_are_later_than_all_others():
    """Every client has its first board, and polls no more before the end."""
    asleep = BOARD.replace({"polling.interval_s": 20_000.0, "horizon_s": 240.0})
    run = sl.simulate(asleep, engine=ENGINE, progress=False)
    assert run.ledger.pending > 0.5 * run.ledger.eligible
    facts = calm_facts(run)
    assert facts["latency_p50_s"] == facts["latency_p95_s"] == facts["latency_max_s"] == math.inf
    rough = rough_facts(run, 100.0)
    assert rough["missed_frac"] == run.ledger.pending / run.ledger.eligible
    assert interval_of(np.array([1.0, math.nan]), 0.95)[0] != 1.0


def test_a_cut_fleet_that_never_comes_back_is_back_never():
    gone = BOARD.replace({"transport": "websocket", "reconnect": {"policy": "none"}})
    found = decided({"back_s": 60.0}, gone, candidates=["poll_longer"])
    assert found.table.loc[(TODAY, "back_s"), "mean"] == math.inf
    assert found.best != TODAY
    assert "never" in found.summary().loc["as it is today", "back after a restart"]


def test_what_is_ranked_by_has_to_have_a_value():
    quiet = BOARD.replace({"updates.rate_per_s": 0})
    found = decided({"utilisation": 0.5, "rank_by": "latency_p50_s"}, quiet)
    assert found.kind == "none"
    assert found.verdict


# -- what is measured ------------------------------------------------------------------------------


def test_measures_are_those_of_the_same_runs(decision):
    case = decision.cases["long_polling"]
    calm = case.scenario.replace({"horizon_s": 240.0 + 60.0, "cool_down_s": 30.0 + 60.0})
    runs = sl.replicate(calm, 5, engine=ENGINE, progress=False)
    metrics = [run.metrics().iloc[0] for run in runs]
    values = decision.values["long_polling"]
    bytes_per_h = [row["up_bytes_per_h"] + row["down_bytes_per_h"] for row in metrics]
    assert values["bytes_per_h"].tolist() == bytes_per_h
    assert values["latency_p95_s"] == pytest.approx([row["latency_p95_s"] for row in metrics])
    assert values["utilisation"].tolist() == [row["busiest_utilisation"] for row in metrics]
    assert set(values["memory_bytes"]) == {20 * 65_536.0}
    assert set(decision.values[TODAY]["memory_bytes"]) == {0.0}
    # 20 clients for 176 hours, and one server for all the month.
    down = np.array([row["down_bytes_per_h"] for row in metrics])
    expected = down * 20 * 176 / 1e9 * 90.0 + 730.5 * 0.1
    assert values["money_per_month"] == pytest.approx(expected)


def test_money_is_traffic_and_servers_and_the_larger_one_is_named(decision):
    values = decision.values["sse"]
    assert set(values["servers_money_per_month"]) == {730.5 * 0.1}
    both = values["traffic_money_per_month"] + values["servers_money_per_month"]
    assert both.tolist() == values["money_per_month"].tolist()
    columns = list(decision.summary().columns)
    start = columns.index("money a month")
    assert columns[start + 1] == "money a month for traffic"
    assert columns[start + 2] == "money a month for servers"
    (said,) = [one for one in map(decision.say, decision.sentences) if "Most of its money" in one]
    means = decision.table["mean"]
    own, other, today, today_other = (
        shown(means[name, f"{part}_money_per_month"], "money")
        for name in (decision.best, TODAY)
        for part in ("servers", "traffic")
    )
    assert said == (
        f"Most of its money a month is for servers: {own}, and {other} for traffic "
        f"(today {today} and {today_other})."
    )
    prices = {"per_gb_down": 90.0, "per_memory_gb_hour": 1e-3, "open_hours": 176.0}
    needs = {"latency_p95_s": 60.0, "traffic_money_per_month": 100.0, "prices": prices}
    moved = decided(needs, candidates=["push"], replications=3)
    assert moved.fails(TODAY) == ["traffic_money_per_month"]
    assert any("is for traffic: " in one for one in map(moved.say, moved.sentences))
    held = 20 * 65_536 / 1e9 * 176.0 * 1e-3
    assert moved.values["push"]["servers_money_per_month"] == pytest.approx([held] * 3, rel=0.05)
    # Where bytes decide, or one of them has no price, nothing is said of it.
    for change in ({"rank_by": "bytes_per_h"}, {"prices": {**prices, "per_memory_gb_hour": None}}):
        found = decided({**needs, **change}, candidates=["push"], replications=3)
        assert not any("Most of its money" in found.say(one) for one in found.sentences)


def test_the_way_back_is_that_of_the_outage():
    restart = {"kind": "restart", "start_s": 100.0, "length_s": 5.0}
    for transport in ("websocket", "polling"):
        board = BOARD.replace({"transport": transport, "clients": 50, "faults": [restart]})
        run = sl.simulate(board, engine=ENGINE, progress=False)
        row = sl.outages.reconnections(run).iloc[0]
        assert rough_facts(run, 100.0)["back_s"] == row["t100_s"]
        assert rough_facts(run, 100.0)["without_push_frac"] == 0.0


THREE = BOARD.replace({"transport": "websocket", "clients": 60, "server.nodes": 3})


def test_a_deploy_node_by_node_is_judged_by_how_long_each_client_is_away():
    """Worked out here from the log: from when each node goes, and by the longest of a client."""
    deploy = {"kind": "rolling_deploy", "start_s": 60.0, "length_s": 4.0, "every_s": 20.0}
    run = sl.simulate(THREE.replace({"faults": [deploy]}), engine=ENGINE, progress=False)
    facts = rough_facts(run, 60.0)
    away_s: dict[int, list[float]] = {}
    sockets = run.sockets().sort_values(["client", "opened_s"])
    for client, log in sockets.groupby("client"):
        for row, after in zip(log.iloc[:-1].itertuples(), log.iloc[1:].itertuples(), strict=True):
            assert row.closed_s - (60.0 + 20.0 * row.node) == pytest.approx(0.0, abs=0.5)
            away_s.setdefault(client, []).append(after.opened_s - (60.0 + 20.0 * row.node))
    assert max(map(len, away_s.values())) > 1, "the balancer gives some to a node that goes next"
    longest_s = sorted(map(max, away_s.values()))
    assert facts["back_s"] == facts["pushed_again_s"] == pytest.approx(longest_s[-1])
    assert facts["back_s"] < 20.0, "not from the deploy's start, which takes longer than that"
    # With new servers first, nobody waits for one to be back.
    surge = {**deploy, "surge": 1}
    run = sl.simulate(THREE.replace({"faults": [surge]}), engine=ENGINE, progress=False)
    assert 0.0 < rough_facts(run, 60.0)["back_s"] <= facts["back_s"]


def test_those_whom_a_deploy_sends_to_polling_are_counted_once():
    deploy = {"kind": "rolling_deploy", "start_s": 60.0, "length_s": 4.0, "every_s": 20.0}
    hasty = THREE.replace(
        {"fallback": {"after_failures": 1, "return_s": 10.0}, "faults": [deploy]},
    )
    facts = rough_facts(sl.simulate(hasty, engine=ENGINE, progress=False), 60.0)
    assert facts["fell_back_frac"] == 1.0
    assert facts["back_s"] < 2 * 10.0 < facts["pushed_again_s"], "two turns of 20 s, while it polls"


def test_needs_say_how_servers_are_deployed():
    needs = sl.Needs(back_s=60.0, trouble={"surge": 0, "restart_s": 4.0})
    cases, _ = cases_of(THREE, needs, {"one": {"server.nodes": 1}, "more": {"server.workers": 2}})
    compared = [case.scenario for case in cases.values()]
    faults = {
        name: conditions(case, compared, needs)["rough"].scenario.faults[-1]
        for name, case in cases.items()
    }
    assert (faults["more"].kind, faults["more"].every_s) == ("rolling_deploy", 4.0)
    assert (faults["one"].kind, faults["one"].length_s) == ("restart", 4.0)
    slow = needs.replace({"trouble.every_s": 30.0, "trouble.surge": 1})
    fault = conditions(cases["one"], compared, slow)["rough"].scenario.faults[-1]
    assert (fault.kind, fault.surge, fault.every_s) == ("rolling_deploy", 1, 30.0)
    # What a restart of all does is worse than what each node does in its turn.
    few = THREE.replace({"clients": 12})
    at_once, in_turn = (
        decided({"back_s": 60.0, "trouble": trouble}, few, candidates=[TODAY], replications=3)
        for trouble in ({"restart_s": 4.0}, {"restart_s": 4.0, "surge": 1})
    )
    of_each = [one.values[TODAY]["back_s"].mean() for one in (in_turn, at_once)]
    assert 0.0 < of_each[0] < 4.0 < of_each[1]
    gone, limits = few.replace({"reconnect": {"policy": "none"}}), {"latency_p50_s": 9.0}
    stay = decided({**limits, "trouble": {"surge": 0}}, gone, candidates=[TODAY], replications=3)
    assert any("After a deploy, clients of" in one for one in map(stay.say, stay.sentences))
    hasty = few.replace({"fallback": {"after_failures": 1, "return_s": 10.0}})
    polls = decided({**limits, "trouble": {"surge": 0}}, hasty, candidates=[TODAY], replications=3)
    (said,) = [one for one in map(polls.say, polls.sentences) if "A deploy sends" in one]
    assert "after their server went are nearly all of them pushed to again" in said


def test_a_restart_that_sends_clients_to_polling_says_so():
    """They are back as soon as they poll, and are pushed to again a minute later."""
    hasty = {"transport": "websocket", "fallback": {"after_failures": 3, "return_s": 60.0}}
    steady = {"transport": "websocket", "reconnect.base_s": 2.0}
    needs = {"latency_p95_s": 2.0, "back_s": 60.0, "trouble": {"restart_s": 4.0}}
    found = decided(needs, candidates={"hasty": hasty})
    table = found.table["mean"]
    assert found.best == "hasty"
    assert table["hasty", "back_s"] < 15.0 < 60.0 < table["hasty", "pushed_again_s"]
    assert table["hasty", "fell_back_frac"] > 0.5
    assert table["hasty", "without_push_frac"] == 0.0, "by the end of the run nobody polls any more"
    (said,) = [one for one in map(found.say, found.sentences) if "A restart sends" in one]
    assert f"sends {shown(table['hasty', 'fell_back_frac'], 'share')} of the clients" in said
    assert shown(table["hasty", "pushed_again_s"], "time") in said
    assert said in found._repr_markdown_()
    assert table[TODAY, "fell_back_frac"] == table[TODAY, "pushed_again_s"] == 0.0
    for need in ({"fell_back_frac": 0.1}, {"pushed_again_s": 30.0}):
        judged = decided({**needs, **need}, candidates={"hasty": hasty, "steady": steady})
        assert judged.best == "steady"
        assert judged.fails("hasty") == list(need)
        assert not any("A restart sends" in judged.say(one) for one in judged.sentences)


def test_sessions_that_end_meanwhile_do_not_hide_the_way_back():
    restart = {"kind": "restart", "start_s": 100.0, "length_s": 5.0}
    brief = {"arrivals_per_s": 10.0, "length_s": 20.0}  # none of those cut off sees the end
    board = BOARD.replace({"transport": "websocket", "faults": [restart], "sessions": brief})
    back_s = rough_facts(sl.simulate(board, engine=ENGINE, progress=False), 100.0)["back_s"]
    staying = BOARD.replace({"transport": "websocket", "faults": [restart], "clients": 200})
    run = sl.simulate(staying, engine=ENGINE, progress=False)
    assert back_s == pytest.approx(rough_facts(run, 100.0)["back_s"], rel=0.3)


def test_of_what_costs_the_same_to_the_last_digit_the_fewest_bytes_are_taken():
    prices = {"per_server_hour": 0.1, "open_hours": 100.0}
    needs = {"latency_p95_s": 20.0, "prices": prices, "rank_by": "money_per_month"}
    found = decided(needs, candidates=["poll_shorter", "poll_allowed"])
    assert found.table["mean"]["poll_shorter", "money_per_month"] == pytest.approx(73.05)
    assert not found.fails("poll_shorter")
    assert found.best == "poll_allowed"


def test_servers_are_as_many_as_keep_what_one_bears():
    hot = BOARD.replace({"server.poll_s": 0.4, "clients": 40})  # half a server of polls
    needs = {"nodes": 4, "utilisation": 0.2, "rank_by": "nodes"}
    found = decided(needs, hot, candidates=["push"])
    few = decided({**needs, "nodes": 2}, hot, candidates=["poll_longer"])
    assert "As it is today: servers needed 3, allowed 2." in map(few.say, few.sentences)
    busy = found.values[TODAY]["utilisation"]
    assert found.values[TODAY]["nodes"].tolist() == np.ceil(busy / 0.2).tolist()
    assert found.values["push"]["nodes"].tolist() == [1.0] * 5
    assert found.best == "push"
    assert list(found.asked.needs.limits) == ["nodes"]  # what one node bears is no need beside it
    assert not found.fails(TODAY)
    traffic = {"prices": {"per_gb_down": 1.0, "open_hours": 100.0}}
    full = decided({**needs, **traffic}, hot.replace({"server.poll_s": 2.0}), candidates=["push"])
    assert full.values[TODAY]["nodes"].tolist() == [math.inf] * 5
    assert full.table.loc[(TODAY, "servers_money_per_month"), "mean"] == 0.0, "no price, no money"
    assert full.table.loc[(TODAY, "money_per_month"), "mean"] > 0.0


def test_servers_that_are_paid_for_are_in_the_bill_of_today():
    prices = {"per_server_hour": 1.0, "open_hours": 100.0}
    needs = {"nodes": 4, "utilisation": 0.2, "prices": prices}
    found = decided(needs, BOARD.replace({"server.nodes": 4}), candidates=["poll_etag"])
    assert set(found.values[TODAY]["nodes"]) == set(found.values["poll_etag"]["nodes"]) == {1.0}
    assert found.table.loc[(TODAY, "money_per_month"), "mean"] == 4 * 730.5
    assert found.table.loc[("poll_etag", "money_per_month"), "mean"] == 730.5


def test_a_team_that_never_runs_fewer_than_two_servers_counts_and_pays_for_two():
    prices = {"per_server_hour": 1.0, "open_hours": 100.0}
    needs = {"nodes": 4, "least_nodes": 2, "utilisation": 0.2, "prices": prices}
    found = decided(needs, candidates=["poll_etag"], replications=3)
    for name in (TODAY, "poll_etag"):
        assert found.values[name]["nodes"].tolist() == [2.0] * 3
        assert found.values[name]["money_per_month"].tolist() == [2 * 730.5] * 3
    hot = BOARD.replace({"server.poll_s": 0.4, "clients": 40})
    more = decided(needs, hot, candidates=["push"], replications=3)
    assert set(more.values[TODAY]["nodes"]) == {3.0}, "what it needs is more"
    assert set(more.values["push"]["nodes"]) == {2.0}
    as_given = decided(
        {"utilisation": 0.9, "least_nodes": 2, "prices": prices}, candidates=["poll_etag"]
    )
    assert set(as_given.values[TODAY]["nodes"]) == {2.0}, "of servers that no need counts, too"
    with pytest.raises(sl.ScenarioError, match=r"needs.least_nodes: must be as it was"):
        found.with_needs(found.asked.needs.replace({"least_nodes": 3}))


def test_of_equals_the_first_row_is_taken_and_noise_moves_nobody():
    same = {"also": {"transport": "websocket", "name": "other"}, "push": {"transport": "websocket"}}
    found = decided({"latency_p95_s": 2.0}, candidates=same)
    assert found.best == "also"
    assert found.ranking["more"].tolist() == [0.0, 0.0]
    gain = decided({"latency_p95_s": 60.0, "worth_frac": 0.95}, candidates=["push"])
    assert gain.kind == "stay"
    saved = 1.0 - gain.values["push"]["bytes_per_h"] / gain.values[TODAY]["bytes_per_h"]
    assert 0.5 < saved.mean() < 0.95


def with_values(found, **values):
    """Return a decision whose candidates take these bytes."""
    for name, taken in values.items():
        found.values[name]["bytes_per_h"] = np.array(taken, dtype=np.float64)
    return found.with_needs(found.asked.needs)


def test_to_stay_is_said_only_if_nothing_beats_today():
    own = {name: {"transport": "websocket", "name": name} for name in ("easy", "least")}
    found = decided({"latency_p95_s": 60.0}, candidates=own)
    taken = {"today": [10, 10, 10, 10, 10], "least": [9, 9.1, 9, 9.1, 9]}
    # The easy one cannot be told from the least, nor from today's, which the least beats.
    found = with_values(found, easy=[4, 16, 4, 16, 9], **taken)
    assert (found.kind, found.best) == ("migrate", "least")
    assert "takes the least (" in found.verdict
    tie = with_values(found, easy=[9.2, 9, 9.2, 9, 9.1])
    assert tie.best == "easy"
    assert "takes the least, but for noise (" in tie.verdict
    (after,) = [one for one in map(tie.say, tie.sentences) if "comes least at" in one]
    assert after.endswith(
        "9.04 B: less, but not by more than noise, which more replications make smaller."
    )


def test_what_decide_adds_to_the_run_is_not_warned_of():
    brief = BOARD.replace({"warm_up_s": 10.0, "cool_down_s": 60.0, "horizon_s": 150.0})
    assert not any("warm-up" in line for line in decided({"latency_p95_s": 9.0}, brief).warnings)
    late = brief.replace({"warm_up_s": 60.0})
    assert any("warm-up" in line for line in decided({"latency_p95_s": 9.0}, late).warnings)


def test_all_candidates_have_the_same_changes(decision):
    for name in ("push", "notify", "push_snapshots"):
        case = decision.cases[name].scenario
        longer = case.replace({"horizon_s": 300.0, "cool_down_s": 90.0})
        run = sl.simulate(longer, engine=ENGINE, progress=False)
        today = sl.simulate(
            BOARD.replace({"horizon_s": 300.0, "cool_down_s": 90.0}),
            engine=ENGINE,
            progress=False,
        )
        assert run.ledger.eligible == today.ledger.eligible


def test_today_alone_is_judged_and_weighed_against_nothing():
    alone = decided({"latency_p95_s": 60.0}, candidates=["poll"])
    assert (alone.kind, list(alone.cases)) == ("stay", [TODAY])
    assert "more than noise" in alone.verdict
    with pytest.raises(sl.ScenarioError, match="candidates: must leave a candidate beside"):
        alone.rival  # noqa: B018


# -- candidates ------------------------------------------------------------------------------------


def test_every_transport_is_a_candidate_and_every_row_a_scenario():
    board = BOARD.replace({"fallback": {"after_failures": 3}})
    cases, left_out = cases_of(board, ANY)
    why = "needs.latency_p95_s: must be given, or another limit of staleness"
    assert why in left_out.pop("poll_allowed")
    assert left_out == {"poll": "is the same as as it is today"}
    assert {case.scenario.transport for case in cases.values()} == set(TRANSPORT_NAMES)
    assert list(cases) == [n for n in CANDIDATES if n not in ("poll", "poll_allowed")]
    assert cases["poll_longer"].scenario.polling.interval_s == 60.0
    assert cases["notify_spread"].scenario.notify.spread_s == 0.5
    many, _ = cases_of(board.replace(clients=5000), ANY)
    assert many["notify_spread"].scenario.notify.spread_s == 20.0


def test_polls_are_as_seldom_as_the_limits_of_staleness_allow():
    board = BOARD.replace({"clients": 200, "network.rtt_s": 0.1, "network.rtt_spread": 0.2})
    for limits, interval_s in (
        ({"latency_p95_s": 5.0}, 4.5),
        ({"latency_p95_s": 45.0}, 45.0),
        ({"latency_p50_s": 5.0}, 8.5),
        ({"latency_max_s": 8.0}, 7.5),
        ({"latency_max_s": 8.0, "latency_p50_s": 1.0}, 1.6),
        ({"latency_p95_s": 1.0}, 0.85),
        ({"latency_p95_s": 9e6}, 180.0),  # all of the time whose changes count
    ):
        cases, _ = cases_of(board, sl.Needs(**limits), ["poll_allowed"])
        case = cases["poll_allowed"].scenario
        assert (case.polling.interval_s, case.polling.etag) == (interval_s, "content"), limits
        if len(limits) == 1 and 3.0 < interval_s < 10.0:
            found = decided(limits, board, candidates=["poll_allowed"])
            assert set(found.table.loc["poll_allowed"]["status"]) == {"met", "not asked"}, limits
            ((measure, limit),) = limits.items()
            assert found.table.loc[("poll_allowed", measure), "mean"] > 0.85 * limit
    _, left_out = cases_of(board, sl.Needs(latency_p95_s=0.1))
    assert "needs.latency_p95_s: must be more than a round trip" in left_out["poll_allowed"]
    _, left_out = cases_of(board, sl.Needs(latency_p95_s=30.0))
    assert left_out["poll_allowed"] == "is the same as polling with ETag"
    version = board.replace({"polling.etag": "version"})
    cases, _ = cases_of(version, sl.Needs(latency_p95_s=5.0))
    assert cases["poll_allowed"].scenario.polling.etag == "version"
    dragged = board.replace({"drag": {"every_s": 20.0, "length_s": 5.0}})
    paused = decided({"latency_p95_s": 20.0}, dragged, candidates=["poll_allowed"], replications=3)
    assert paused.table.loc[("poll_allowed", "latency_p95_s"), "status"] == "met"
    few, _ = cases_of(board.replace(clients=20), sl.Needs(latency_p50_s=5.0))
    assert few["poll_allowed"].scenario.polling.interval_s == 7.0, "of few, chance decides more"


def test_compressed_polls_are_never_larger_than_they_are():
    small = BOARD.replace({"wire.gzip_ratio": 0.2})
    _, left_out = cases_of(small, ANY)
    assert left_out["poll_compressed"] == "is the same as as it is today"
    cases, _ = cases_of(BOARD.replace({"wire.gzip_ratio": 0.8}), ANY)
    assert cases["poll_compressed"].scenario.wire.gzip_ratio == 0.3


def test_push_for_a_part_of_the_users_is_a_rollout_that_is_held(decision):
    """Its figures are those of both cohorts together, worked out here from their own."""
    behind_proxies = decision
    decision = decided({"latency_p95_s": 2.0}, candidates=["push", "push_half", "poll_longer"])
    case = decision.cases["push_half"]
    longer = case.scenario.replace({"horizon_s": 300.0, "cool_down_s": 90.0})
    half = {"stages": [{"percent": 50, "bake_s": 300.0}], "check_every_s": 300.0}
    half |= {"bucketing": {"rule": "unleash"}, "flag": {"propagation": "session"}}
    run = sl.roll_out(sl.Plan(**half), longer, engine=ENGINE, progress=False).run
    values = {name: value[0] for name, value in decision.values["push_half"].items()}
    cohorts = run.frame("clients")["cohort"].value_counts()
    assert 0 < cohorts["treatment"] < 20
    assert values["memory_bytes"] == cohorts["treatment"] * 65_536.0
    counted = run.frame("timeline").query("t_s >= 30")
    seconds = (counted["present_count"] * counted["width_s"]).sum()
    taken = counted["up_bytes"].sum() + counted["down_bytes"].sum()
    assert values["bytes_per_h"] == pytest.approx(taken / seconds * 3600.0)
    late = [run.latency_quantiles([0.95], cohort=name)[0] for name in ("treatment", "control")]
    assert late[0] < 1.0 < values["latency_p95_s"] <= late[1]
    for measure in ("bytes_per_h", "utilisation", "memory_bytes"):
        low, high = sorted(decision.values[name][measure].mean() for name in (TODAY, "push"))
        assert low < decision.values["push_half"][measure].mean() < high
    assert decision.fails("push_half") == ["latency_p95_s"]
    # A proxy that blocks upgrades is in nobody's way who polls.
    blocked = behind_proxies.values["push_half"]["without_push_frac"].mean()
    assert 0.0 < blocked < behind_proxies.values["push"]["without_push_frac"].mean()


def test_own_candidates_may_be_for_a_part_of_the_users():
    own = {
        "some": {"transport": "websocket", "percent": 20},
        "most": {"transport": "websocket", "percent": 80},
        "none of it": {"polling.interval_s": 20.0, "percent": 20},
    }
    found = decided({"latency_p50_s": 2.0}, BOARD.replace(clients=60), candidates=own)
    assert found.best == "most"
    assert [stage.percent for stage in found.plan.stages] == [80.0]
    assert found.scenario.transport == "websocket"
    assert found.left_out == {"none of it": "is polling for everybody"}
    assert decided({"latency_p95_s": 60.0}, candidates=["poll_longer"]).plan is None
    # There is no closed form of two cohorts: where they cross is simulated.
    crossing = sl.verdict.break_even(found, "updates.rate_per_s", one="some", other=TODAY, most=6.4)
    assert set(crossing["by"]) <= {"simulation"}


def test_a_candidate_that_is_none_of_this_scenario_says_why():
    quick = BOARD.replace({"polling.interval_s": 2e-3, "polling.timer": "fixed_rate"})
    _, left_out = cases_of(quick, ANY)
    assert "polling.interval_s" in left_out["poll_shorter"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mine": {"polling.intervall_s": 3.0}}, r"candidates\['mine'\].polling.intervall_s: "),
        ({"mine": {"polling.interval_s": -3.0}}, r"candidates\['mine'\].polling.interval_s: must"),
        ({"mine": 3}, r"candidates\['mine'\]: must be a mapping of paths"),
        ({"mine": {"percent": 100}}, r"candidates\['mine'\].percent: must be a number of percent"),
        ({"mine": {"percent": True}}, r"candidates\['mine'\].percent: must be a number of percent"),
        ({"today": {}}, r"candidates: must have another name than today"),
        ({"as it is today": {}}, r"candidates: must have another name than today"),
        ({"": {}}, r"candidates: must have names"),
        ({"mine": {"clients": 3}}, r"candidates\['mine'\].clients: must be as it is today"),
        ({"mine": {"horizon_s": 900}}, r"candidates\['mine'\].horizon_s: must be as it is"),
        ({"mine": {"updates.rate_per_s": 9}}, r"\['mine'\].updates.rate_per_s: must be as it is"),
        ({"mine": {"faults": [RESTART]}}, r"\['mine'\].faults.0.kind: must be left to needs"),
        (["pushh"], r"candidates: must be among today, poll, "),
        ("push", r"candidates: must be a mapping of names to changes, or a list of names"),
    ],
)
def test_bad_candidates_are_refused_by_name_before_anything_runs(given, words, monkeypatch):
    monkeypatch.setattr("simlib.verdict.judging.collect", None)
    with pytest.raises(sl.ScenarioError, match=words):
        decided({"latency_p95_s": 2.0}, candidates=given)


# -- needs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, r"latency_p95_s: must be given, or another need: latency_p50_s"),
        ({"latency_p95_s": 0.0}, r"latency_p95_s: must be > 0"),
        ({"latency_p95_s": math.nan}, r"latency_p95_s: must be a finite number"),
        ({"latency_p96_s": 1.0}, r"latency_p96_s: is not a known field; did you mean"),
        ({"money_per_month": 5.0}, r"prices: must be given when money_per_month is a need"),
        ({"nodes": 2}, r"utilisation: must be given, or memory_bytes, when nodes is a need"),
        ({"without_push_frac": 0.1}, r"trouble.bad_proxy_frac: must be given when without_push"),
        (
            {"servers_money_per_month": 5.0},
            r"prices: must be given when servers_money_per_month is a need",
        ),
        (
            {"nodes": 2, "least_nodes": 3, "utilisation": 0.5},
            r"least_nodes: must be <= nodes \(2\)",
        ),
        (
            {"back_s": 9.0, "trouble": {"every_s": 9.0}},
            r"trouble.every_s: has no meaning without surge",
        ),
        (
            {"back_s": 9.0, "trouble": {"every_s": 4.0, "surge": 0}},
            r"trouble.every_s: must be >= restart_s \(5\): one turn is over before",
        ),
        ({"utilisation": 0.5, "rank_by": "speed"}, r"rank_by: must be one of latency_p50_s"),
        (
            {"utilisation": 0.5, "rank_by": "money_per_month"},
            r"prices: must be given when rank_by",
        ),
        ({"utilisation": 0.5, "prices": {"open_hours": 1.0}}, r"prices.per_gb_down: must be given"),
        ({"utilisation": 0.5, "prices": {"per_gb_down": 1.0}}, r"prices.open_hours: must be given"),
        ({"utilisation": 0.5, "trouble": {"restart_s": 0.0}}, r"trouble.restart_s: must be > 0"),
        (3, r"needs: must be Needs, or a mapping of its fields"),
    ],
)
def test_bad_needs_are_refused_by_name(given, words):
    with pytest.raises(sl.ScenarioError, match=words):
        sl.decide(BOARD, given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replications": 2}, r"replications: must be a whole number >= 3"),
        ({"confidence": 1.0}, r"confidence: must be a number in \(0, 1\)"),
        ({"worker": 2}, r"options: must be among engine, on, workers, store, progress; did you"),
        ({"engine": "fast"}, r"engine: must be one of"),
        ({"board": 3}, r"scenario: must be"),
        (
            {
                "board": BOARD.replace(
                    {"faults": [{"kind": "restart", "start_s": 9, "length_s": 1}]}
                )
            },
            r"faults.0.kind: must be left to needs.trouble",
        ),
        (
            {"board": BOARD.replace({"network.stream_held_frac": 0.1})},
            r"network.stream_held_frac: must be left to needs.trouble",
        ),
        (
            {"needs": {"back_s": 9.0, "trouble": {"restart_s": 900.0}}},
            r"trouble.restart_s: must be <",
        ),
        (
            {"needs": {"back_s": 9.0, "trouble": {"surge": 2}}},
            r"needs.trouble.surge: must be <= server.nodes \(1\)",
        ),
        (
            {
                "needs": {"back_s": 9.0, "trouble": {"surge": 0, "every_s": 120.0}},
                "board": BOARD.replace({"server.nodes": 3}),
            },
            r"needs.trouble.every_s: must let all of 3 servers have their turn in 225 s, .* 245",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_runs(options, words, monkeypatch):
    monkeypatch.setattr("simlib.verdict.judging.collect", None)
    given = {"needs": {"latency_p95_s": 2.0}, "board": BOARD, **options}
    with pytest.raises(sl.ScenarioError, match=words):
        sl.decide(given.pop("board"), given.pop("needs"), **given)


def test_needs_are_written_and_read(tmp_path):
    needs = sl.Needs(
        latency_p95_s="2 s",
        missed_frac=0.0,
        trouble=Trouble(bad_proxy_frac=0.03),
        prices=sl.Prices(per_gb_down=0.09, open_hours=176.0),
    )
    assert sl.Needs.parse(needs.dump()) == needs
    path = tmp_path / "needs.toml"
    path.write_text(needs.dump(), encoding="utf-8")
    assert sl.Needs.load(path) == needs
    assert needs.limits == {"latency_p95_s": 2.0, "missed_frac": 0.0}
    assert needs.ranked_by == "money_per_month"
    assert needs.replace({"prices": None}).ranked_by == "bytes_per_h"
    path.write_text("latency_p95_s = -1\n", encoding="utf-8")
    with pytest.raises(sl.ScenarioError, match=r"latency_p95_s: must be > 0, got -1 \(needs.toml"):
        sl.Needs.load(path)
    with pytest.raises(sl.ScenarioError, match="latency_p95_s: must be changed by replace"):
        needs.latency_p95_s = 3.0


# -- the rollout -----------------------------------------------------------------------------------

ACTIVE = {"polling.active_interval_s": 5.0, "polling.active_for_s": 50.0}
RISK = {"latency_p95_s": 2.0, "roll_back_s": 60.0, "release": {"flag_every_s": 20.0}}


def test_what_may_be_taken_is_rolled_out_and_back_if_the_needs_ask_for_it(decision):
    assert "harmed_frac" not in decision.values["push"]
    found = decided({**RISK, "harmed_frac": 0.05}, BOARD.replace(clients=60))
    assert (found.kind, found.best) == ("migrate", "push")
    table = found.table.xs("roll_back_s", level="measure")
    # A tab learns of the kill switch when it next reads the flag: 99 % do within 20 s.
    assert 18.0 < table.loc["push", "mean"] <= 20.0
    assert table.loc[TODAY, "mean"] == 0.0
    assert table.loc["push_half", "status"] == "not run", "it is not fresh enough in calm"
    assert found.table.loc[("push", "harmed_frac"), "mean"] == 0.0
    lacking = (table["status"] == "not run").sum()
    assert f"{lacking} of {len(found.cases)} were not rolled out" in found.about
    slow = decided({**RISK, "roll_back_s": 5.0}, BOARD, candidates=["push"])
    assert slow.kind == "none"
    assert slow.fails("push") == ["roll_back_s"]
    assert "time to roll back" in slow._repr_markdown_()


def test_the_rollout_is_that_of_its_plan_and_harm_is_whom_it_meets():
    """Half of the users are behind a proxy that blocks upgrades: that harms them."""
    needs = sl.Needs(harmed_frac=0.05)
    case = cases_of(BOARD, ANY, ["push"])[0]["push"]
    everybody = [one.scenario for one in cases_of(BOARD, ANY, ["push"])[0].values()]
    base, restart_s, plan = rolled_out(case, everybody, needs, BOARD)
    assert restart_s is None
    assert [stage.percent for stage in plan.stages] == [10.0, 25.0, 50.0, 100.0]
    assert (plan.start_s, plan.kill_s) == (30.0, 30.0 + 0.8 * 180.0)
    assert (plan.control.transport, plan.treatment.transport) == ("polling", "websocket")
    sound = sl.roll_out(plan, base, engine=ENGINE, progress=False).run
    assert rollout_facts(sound, plan.kill_s)["harmed_frac"] == 0.0
    behind = needs.replace({"trouble.bad_proxy_frac": 0.5})
    blocked = rolled_out(case, everybody, behind, BOARD).scenario
    assert [fault.kind for fault in blocked.faults] == ["block_upgrades"]
    run = sl.roll_out(plan, blocked, engine=ENGINE, progress=False).run
    clients = run.frame("clients")
    enrolled = set(run.frame("exposures").query("cohort == 'treatment'")["client"])
    met = enrolled & set(clients.loc[(clients["errors"] > 0) | (clients["lost"] > 0), "client"])
    assert rollout_facts(run, plan.kill_s)["harmed_frac"] == len(met) / len(enrolled) > 0.2
    tabs = blocked.replace({"tabs_per_user": 4})
    run = sl.roll_out(plan, tabs, engine=ENGINE, progress=False).run
    assert rollout_facts(run, plan.kill_s)["harmed_frac"] > len(met) / len(enrolled)


def test_a_rollout_back_to_other_settings_of_today_has_them():
    today = BOARD.replace({"polling.interval_s": 20.0, "reconnect.base_s": 2.0})
    own = {
        "quick": {"polling.interval_s": 5.0},
        "push": {"transport": "websocket", "reconnect.base_s": 3.0, "heartbeat.interval_s": 9.0},
        "zip": {"wire.gzip_ratio": 0.5},
    }
    cases, _ = cases_of(today, ANY, own)
    compared = [case.scenario for case in cases.values()]
    plans = {
        n: rolled_out(c, compared, sl.Needs(harmed_frac=1), today).plan for n, c in cases.items()
    }
    assert plans["quick"].control.changes == {"polling.interval_s": 20.0}
    assert plans["push"].control.changes == plans["zip"].control.changes == {}
    pushed = today.replace({"transport": "websocket"})
    case = cases_of(pushed, ANY, own)[0]["push"]
    changes = rolled_out(case, compared, sl.Needs(harmed_frac=1), pushed).plan.control.changes
    assert changes["reconnect"]["base_s"] == 2.0
    assert changes["heartbeat.interval_s"] == pushed.heartbeat.interval_s


def test_what_one_cohort_has_not_the_other_has_for_itself():
    pushed = BOARD.replace({"transport": "websocket", "websocket.push": "snapshot"})
    falls = pushed.replace({"fallback": {"after_failures": 3}})
    for today, changes, control, treatment in (
        (pushed, {"fallback": {"after_failures": 3}}, {}, {"fallback"}),
        (falls, {"fallback": None}, {"fallback"}, {}),
        (BOARD, ACTIVE, {}, set(ACTIVE)),
        (BOARD.replace(ACTIVE), dict.fromkeys(ACTIVE), set(ACTIVE), {}),
        # The server's own is there before it begins.
        (BOARD, {"polling.etag": "version", "server.cache_s": 1.0}, {}, {}),
        (pushed, {"websocket.push": "delta"}, {}, {}),
    ):
        cases, _ = cases_of(today, ANY, {"other": changes})
        compared = [case.scenario for case in cases.values()]
        base, _, plan = rolled_out(cases["other"], compared, sl.Needs(harmed_frac=1), today)
        assert set(plan.control.changes) == set(control)
        assert set(plan.treatment.changes) == set(treatment)
        assert base.server == cases["other"].scenario.server
        assert base.websocket == cases["other"].scenario.websocket
        one, other = cohort_scenarios(plan, base)
        assert (one.fallback, one.polling.active_interval_s) == (
            today.fallback,
            today.polling.active_interval_s,
        )
        assert other.polling == cases["other"].scenario.polling
        assert other.fallback == cases["other"].scenario.fallback


def test_push_for_a_part_is_rolled_out_to_that_part_of_those_who_poll():
    cases, _ = cases_of(BOARD, ANY, ["push_half"])
    compared = [case.scenario for case in cases.values()]
    plan = rolled_out(cases["push_half"], compared, sl.Needs(harmed_frac=1), BOARD).plan
    assert [stage.percent for stage in plan.stages] == [5.0, 12.5, 25.0, 50.0]
    pushed = BOARD.replace({"transport": "sse"})
    with pytest.raises(sl.ScenarioError, match="transport: must be polling, as the others do"):
        rolled_out(cases["push_half"], compared, sl.Needs(harmed_frac=1), pushed)


def test_what_no_part_of_the_users_can_have_says_so():
    hidden = {"polling.pause_while_hidden": False, "polling.hidden_interval_s": 300.0}
    today = BOARD.replace(hidden)
    own = {"adapted": {"polling.hidden_interval_s": None, **ACTIVE}}
    found = decided({"latency_p95_s": 90.0, "harmed_frac": 0.5}, today, candidates=own)
    assert found.table.loc[("adapted", "harmed_frac"), "status"] == "no value"
    assert found.fails("adapted") == ["harmed_frac"]
    assert found.best == TODAY
    assert any("no part of the users can have it beside today's" in one for one in found.warnings)
    said = "Adapted: no value of users harmed by the rollout, where 50 % is needed."
    assert said in found._repr_markdown_()


def test_other_rollouts_are_judged_anew():
    found = decided(RISK, candidates=["push"])
    needs = found.asked.needs
    assert found.with_needs(needs.replace({"roll_back_s": 90.0})).best == "push"
    with pytest.raises(sl.ScenarioError, match=r"needs.release: must be as it was"):
        found.with_needs(needs.replace({"release.flag_every_s": 30.0}))
    with pytest.raises(sl.ScenarioError, match=r"needs.conditions: must be as it was"):
        found.with_needs(needs.replace({"roll_back_s": None}))


# -- what would take long --------------------------------------------------------------------------

ASKED = {
    "latency_p95_s": 2.0,
    "missed_frac": 0.01,
    "back_s": 60.0,
    "trouble": SHARE,
}


@pytest.fixture
def brief(monkeypatch):
    """No run fits the budget."""
    monkeypatch.setattr("simlib.verdict.judging.BUDGET_EVENTS", 1.0)


def test_what_cannot_be_taken_is_not_run_in_trouble_and_the_verdict_is_the_same(brief):
    found = decided(ASKED)
    assert found.asked.replications == 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simlib.verdict.judging.BUDGET_EVENTS", 1e9)
        whole = decided(ASKED, replications=3)
        assert decided(ASKED, candidates=["push"]).asked.replications == 5
    assert (found.kind, found.best) == (whole.kind, whole.best) == ("migrate", "long_polling")
    assert found.sentences[0] == whole.sentences[0]
    table, every = found.table, whole.table
    assert "not run" not in set(every["status"])
    left_out = table[table["status"] == "not run"]
    assert left_out["mean"].isna().all()
    names = set(left_out.index.get_level_values("candidate"))
    assert names
    for name in names:
        fails = every.loc[name].loc[["latency_p95_s"], "status"].iloc[0] == "failed"
        more = found.values[name]["bytes_per_h"] - found.values[found.best]["bytes_per_h"]
        assert fails or interval_of(more, 0.95)[1] > 0.0
    run = table.drop(index=left_out.index)
    assert run.equals(every.loc[run.index])
    assert TODAY not in names
    assert f"{len(names)} of {len(found.cases)} were not run in trouble" in found.about
    assert "not run in trouble" not in whole.about
    text = found._repr_markdown_()
    assert all(found.say(one) in text for one in found.sentences)
    assert "not run" in set(found.summary().loc[found.cases[next(iter(names))].label])


def test_if_all_fail_in_calm_the_closest_are_run_in_trouble(brief):
    found = decided({**ASKED, "latency_p95_s": 1e-3})
    assert (found.kind, found.best, found.unsettled) == ("none", None, [])
    assert not found.lacks(found.closest)
    assert any(found.lacks(name) for name in found.cases)


def test_where_trouble_ranks_all_that_keep_calm_needs_are_run_in_it(brief):
    found = decided({**ASKED, "rank_by": "back_s"})
    fresh = found.table.xs("latency_p95_s", level="measure")["status"] == "met"
    assert not [name for name in fresh.index[fresh] if found.lacks(name)]
    assert found.best is not None


def test_needs_that_ask_for_runs_that_were_left_out_are_judged_anew(brief):
    busy = BOARD.replace({"updates.rate_per_s": 3.0})  # at which polls take fewer bytes
    found = decided(ASKED, busy, candidates=["long_polling", "poll_longer", "poll_etag"])
    loose = found.asked.needs.replace({"latency_p95_s": 90.0})
    with pytest.raises(sl.ScenarioError, match=r"needs: must be judged anew, by decide: poll_"):
        found.with_needs(loose)
    assert not found.with_needs(loose.replace({"latency_p95_s": 1.0})).unsettled
    crossings = sl.verdict.break_even(found, "needs.latency_p95_s")
    whole = sl.verdict.break_even(in_full(found), "needs.latency_p95_s")
    assert crossings.equals(whole)
    assert set(crossings["above"]) == {"long_polling", TODAY}


def test_what_a_store_has_kept_is_not_run_again(tmp_path, monkeypatch):
    options = {"candidates": ["push"], "store": tmp_path / "runs"}
    first = decided({"latency_p95_s": 2.0}, **options)
    monkeypatch.setattr("simlib.verdict.runs.simulate", None)
    again = decided({"latency_p95_s": 2.0}, **options)
    assert isinstance(again, Decision)
    assert again.table.equals(first.table)
    assert again.verdict == first.verdict
    # What was kept before there was a measure has no value of it.
    monkeypatch.setattr("simlib.verdict.runs.JUDGED", {**JUDGED, "new_s": JUDGED["back_s"]})
    with pytest.raises(TypeError, match="not callable"):
        decided({"latency_p95_s": 2.0}, **options)
