"""The runs that a candidate is judged by, on the same draws: calm, in trouble, and rolled out.

The team's share of bad proxies is there in all of them, and its clients are the same: a condition
in which a board lives, and no trouble that passes. What only the run in trouble has is a restart,
or a deploy node by node.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from simlib.core.protocol import TRANSPORTS, Transport
from simlib.engines import simulate
from simlib.errors import Interrupted, ScenarioError
from simlib.rollout.cohorts import OF_A_CLIENT, is_a_clients
from simlib.rollout.plan import Plan
from simlib.run import Rows, Run, kinds
from simlib.scenario import Scenario
from simlib.scenario.model import Fault
from simlib.store import Store
from simlib.verdict.candidates import LONG_PAUSES, Case
from simlib.verdict.facts import calm_facts, rollout_facts, rough_facts
from simlib.verdict.measures import JUDGED, ConditionName
from simlib.verdict.needs import Needs, Trouble

_RESTART_AT = 0.25
"""The restart comes after this part of the time whose changes count."""
_MISSED_INTERVALS = 1.5
_STAGES = (0.1, 0.25, 0.5, 1.0)
"""Of those who get a candidate, the share that has it in each stage of its rollout."""


class Condition(NamedTuple):
    """What a candidate is run in.

    Attributes
    ----------
    scenario : Scenario
    restart_s : float, optional
        When the restart, or the deploy, begins, seconds; None: the run is calm.
    plan : Plan, optional
        The rollout that is carried out meanwhile.
    """

    scenario: Scenario
    restart_s: float | None
    plan: Plan | None


class Trial(NamedTuple):
    """One run of a candidate."""

    condition: Condition
    seed: int
    replication: int
    engine: str


def conditions(
    case: Case, compared: list[Scenario], needs: Needs
) -> dict[ConditionName, Condition]:
    """Return what a candidate is run in.

    Parameters
    ----------
    case : Case
    compared : list of Scenario
        All that are compared, which have to have the same times.
    needs : Needs
        They say what goes wrong.

    Raises
    ------
    ScenarioError
        The restart, or the deploy node by node, would last longer than the run.
    """
    trouble = needs.trouble
    calm = behind_proxies(timed(case.scenario, compared), trouble)
    counted_s = calm.horizon_s - calm.cool_down_s - calm.warm_up_s
    restart_s = round(calm.warm_up_s + _RESTART_AT * counted_s, 3)
    restart = _restart(calm, trouble, restart_s)
    rough, held = _with_fault(calm, restart), case._replace(scenario=calm).plan
    if trouble.bad_gateway:
        rough = rough.replace({"network.bad_gateway": True})
    return {"calm": Condition(calm, None, held), "rough": Condition(rough, restart_s, held)}


def _restart(scenario: Scenario, trouble: Trouble, start_s: float) -> dict[str, Any]:
    """Return the restart, or the deploy node by node, as a fault that is over by the horizon."""
    nodes, left_s = scenario.server.nodes, scenario.horizon_s - start_s
    length_s, surge = trouble.restart_s, trouble.surge
    fault: dict[str, Any] = {"kind": "restart", "start_s": start_s, "length_s": length_s}
    if surge is not None and surge > nodes:
        rule = f"must be <= server.nodes ({nodes})"
        raise ScenarioError("needs.trouble.surge", surge, rule)
    if trouble.stops_all(nodes):
        if length_s >= left_s:
            rule = f"must be < {left_s:g}, what is left of the run after it"
            raise ScenarioError("needs.trouble.restart_s", length_s, rule)
        return fault
    every_s = trouble.every_s or length_s
    deploy = {**fault, "kind": "rolling_deploy", "every_s": every_s, "surge": surge}
    takes_s = Fault(**deploy).end_s(nodes) - start_s
    if takes_s >= left_s:
        name = "restart_s" if trouble.every_s is None else "every_s"
        rule = f"must let all of {nodes} servers have their turn in {left_s:g} s, what is left of "
        rule += f"the run; here in {takes_s:g}"
        raise ScenarioError(f"needs.trouble.{name}", getattr(trouble, name), rule)
    return deploy


def behind_proxies(scenario: Scenario, trouble: Trouble, *beside: str) -> Scenario:
    """Return a scenario in which the team's share of clients is behind bad proxies.

    They block upgrades, and pass on nothing of a stream before its end. The fault is there for
    streams too, on which it does nothing: it says who the clients are, the same of every candidate.
    Where nobody opens a WebSocket or a stream all is left out: such runs are faster, and have
    closed forms.

    Parameters
    ----------
    scenario : Scenario
    trouble : Trouble
    *beside : str
        Other transports that some of its clients have.
    """
    rows = [TRANSPORTS[Transport[name.upper()]] for name in (scenario.transport, *beside)]
    has_stream = any(row.is_stream for row in rows)
    if not trouble.bad_proxy_frac or not (has_stream or any(row.upgrades for row in rows)):
        return scenario
    if has_stream:
        scenario = scenario.replace({"network.stream_held_frac": trouble.bad_proxy_frac})
    proxy = {"kind": "block_upgrades", "start_s": 0.0, "length_s": scenario.horizon_s}
    proxy |= {"share": trouble.bad_proxy_frac, "answered": trouble.proxies_answer}
    return _with_fault(scenario, proxy)


def _with_fault(scenario: Scenario, fault: dict[str, Any]) -> Scenario:
    """Return a scenario with one fault more, the last: those before it meet whom they did."""
    faults = [each.model_dump(exclude_none=True) for each in scenario.faults]
    return scenario.replace({"faults": [*faults, fault]})


def rolled_out(case: Case, compared: list[Scenario], needs: Needs, today: Scenario) -> Condition:
    """Return a run in which a candidate is rolled out, and then back.

    The server, the paths and what is sent are the candidate's from the start, as if they had been
    deployed before; what a client does is today's, or the candidate's once it is enrolled.

    Parameters
    ----------
    case : Case
    compared : list of Scenario
        All that are compared, which have to have the same times.
    needs : Needs
    today : Scenario
        As those have it who are not enrolled.

    Raises
    ------
    ScenarioError
        The two cannot be there at once.
    """
    from simlib.rollout.trials import check_plan

    if case.candidate.percent is not None and today.transport != "polling":
        rule = "must be polling, as the others do whom the candidate is not for"
        raise ScenarioError("transport", today.transport, rule)
    base, of_today, of_case = _cohorts(today, timed(case.scenario, compared))
    base = behind_proxies(base, needs.trouble, today.transport)
    counted_s = base.horizon_s - base.cool_down_s - base.warm_up_s
    bake_s = counted_s / (len(_STAGES) + 1)
    most = 100.0 if case.candidate.percent is None else case.candidate.percent
    plan = Plan(
        name="release",
        start_s=base.warm_up_s,
        check_every_s=bake_s,
        stages=[{"percent": most * share, "bake_s": bake_s} for share in _STAGES],
        control={"transport": today.transport, "changes": of_today},
        treatment={"transport": base.transport, "changes": of_case},
        bucketing={"rule": "unleash"},
        flag={
            "propagation": "polled",
            "every_s": needs.release.flag_every_s,
            "jitter_s": needs.release.jitter_s,
        },
        kill_s=base.warm_up_s + len(_STAGES) * bake_s,
    )
    check_plan(plan, base)
    return Condition(base, None, plan)


def _cohorts(today: Scenario, target: Scenario) -> tuple[Scenario, dict[str, Any], dict[str, Any]]:
    """Return what two scenarios share, and the settings that clients of either have for themselves.

    A plan cannot say that a setting is absent: what one of the two has not is left out of what they
    share, and the other one has it for itself.
    """
    shared: dict[str, Any] = {}
    of_today: dict[str, Any] = {}
    of_target: dict[str, Any] = {}
    for name in OF_A_CLIENT if today.transport != "polling" else ("polling",):
        before, after = (one.model_dump(mode="json")[name] for one in (today, target))
        if before == after:
            continue
        if before is None:
            shared[name], of_target[name] = None, _given(after)
        elif after is None or name == "reconnect":
            of_today[name] = _given(before)
        else:
            paths = {f"{name}.{field}": field for field in before if before[field] != after[field]}
            own = {path: x for path, x in paths.items() if is_a_clients(target, today, path)}
            is_absent = any(before[field] is None for field in own.values())
            if is_absent:
                shared |= {path: before[field] for path, field in own.items()}
                of_target |= {path: after[field] for path, field in own.items()}
            else:
                of_today |= {path: before[field] for path, field in own.items()}
    return target.replace(shared), of_today, of_target


def _given(section: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if value is not None}


def timed(scenario: Scenario, others: list[Scenario]) -> Scenario:
    """Return a scenario whose last changes do not count, since no poll could bring them in time.

    Parameters
    ----------
    scenario : Scenario
    others : list of Scenario
        All that are compared, which have to have the same times.
    """
    cool_down_s = max(scenario.cool_down_s, *map(_last_poll_s, others))
    longer_s = cool_down_s - scenario.cool_down_s
    horizon_s = scenario.horizon_s + longer_s
    return scenario.replace({"horizon_s": horizon_s, "cool_down_s": cool_down_s})


def _last_poll_s(scenario: Scenario) -> float:
    polling, drag = scenario.polling, scenario.drag
    pause_s = 0.0 if drag is None else LONG_PAUSES * drag.length_s
    waits_s = polling.interval_s * (1.0 + polling.jitter_frac) + scenario.notify.spread_s
    waits_s = max(waits_s, scenario.websocket.safety_poll_s or 0.0)
    return _MISSED_INTERVALS * waits_s + pause_s


def judge(trial: Trial) -> Rows | None:
    """Run a trial, and return what is judged of it; None if it was interrupted."""
    run = run_of(trial)
    return None if run is None else [judged_of(trial.condition, run)]


def judged_of(condition: Condition, run: Run) -> dict[str, Any]:
    """Return what is judged of a run in a condition, and what it warns of."""
    _, restart_s, plan = condition
    if plan is not None and plan.kill_s is not None:
        facts = rollout_facts(run, plan.kill_s)
    else:
        facts = calm_facts(run) if restart_s is None else rough_facts(run, restart_s)
    warnings = run.warnings
    said = "\n".join(f"{warning.kind}: {warning}" for warning in warnings)
    return {**facts, "warnings": kinds(warnings), "said": said}


def key_of(trial: Trial) -> str:
    """Return under which key a store keeps what is judged of a trial."""
    scenario, _, plan = trial.condition
    name = f"{scenario.hash} judged by {', '.join(JUDGED)}"
    if plan is not None:
        name += f" {plan.dump()}"
    return Store.key(name, trial.seed, trial.replication, trial.engine)


def run_of(trial: Trial) -> Run | None:
    """Run a trial; return None if it was interrupted."""
    scenario, _, plan = trial.condition
    options: dict[str, Any] = {"seed": trial.seed, "replication": trial.replication}
    options |= {"engine": trial.engine, "progress": False}
    try:
        if plan is None:
            return simulate(scenario, **options)
        from simlib.rollout.trials import roll_out

        return roll_out(plan, scenario, **options).run
    except Interrupted:
        return None
