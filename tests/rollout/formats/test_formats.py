"""What holds for every format of rollout plans: read as written, or refused by name."""

from __future__ import annotations

import contextlib
import json
import math
import sys

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.core.measures import MEASURES, METRICS
from simlib.errors import ScenarioError
from simlib.rollout.formats import FORMATS
from tests.rollout.formats.examples import (
    BACKGROUND,
    CANARY,
    CANARY_SAID,
    CPU,
    GROWTHBOOK,
    PLANS,
    POLLED,
    SAID,
    STEPS,
    UNLEASH,
    load,
)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"flag": ...}, "flag: must be given, such as"),
        ({"gate_s": None}, "gate_s: must be given: how long somebody takes to approve at spec.an"),
        ({"gate_s": "soon"}, "gate_s: must be a duration"),
        ({"gate_s": -1}, "gate_s: must be a duration >= 0"),
        ({"gate_s": math.nan}, "gate_s: must be a duration >= 0"),
        ({"last_s": True}, "last_s: must be a duration >= 0"),
        ({"metrics": {}}, "metrics.0.name: must be one of ours"),
        ({"metrics": "latency"}, "metrics: must map"),
        ({"metrics": {"request-duration": "speed"}}, "metrics.request-duration: must be one of"),
        ({"metrics": {"a": ("utilisation", 0)}}, "metrics.a: must be a factor"),
        ({"stages": []}, "stages: must be left to the file"),
        ({"check_every_s": 5}, "check_every_s: must be left to the file"),
        ({"flags": 5}, "flags: is not a known field"),
        ({"rollback": {"sockets": "drained"}}, "rollback.window_s: must be given"),
    ],
)
def test_what_the_caller_has_to_say_is_asked_for_by_name(tmp_path, said, words):
    said = {**CANARY_SAID, "flag": POLLED, **said}
    said = {name: value for name, value in said.items() if value is not ...}
    path = tmp_path / "canary.yaml"
    path.write_text(yaml.safe_dump(CANARY), encoding="utf-8")
    with pytest.raises(ScenarioError) as error:
        sl.Plan.load(path, **said)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"kind": "Deployment"}, "plan.yaml: must be a Canary, a Rollout, or have milestones"),
        ({"a": 1}, "plan.yaml: must be a Canary, a Rollout, or have milestones"),
        ([CANARY, CANARY], "plan.yaml: must be there once in a file"),
        ([*BACKGROUND, BACKGROUND[0]], "plan.yaml: must be there once in a file"),
        ([*BACKGROUND, BACKGROUND[1]], "metadata.name: must be another's"),
        ([UNLEASH, UNLEASH], "plan.yaml: must hold one document alone"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path, value, words):
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, value, gate_s=5)
    assert words in str(error.value)


def test_the_reference_lists_the_formats() -> None:
    text = (PLANS.parent / "reference.md").read_text(encoding="utf-8")
    *titles, last = [row.title for row in FORMATS.values() if row.kind == "plan"]
    assert f"reads {', '.join(titles)} or {last}, `plan.dump" in " ".join(text.split())


def test_a_toml_file_says_everything(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(sl.Plan(flag=POLLED).dump(), encoding="utf-8")
    for said in ({"flag": POLLED}, {"gate_s": 5}, {"metrics": {}}):
        with pytest.raises(ScenarioError, match="has no meaning for a TOML file"):
            sl.Plan.load(path, **said)


@pytest.mark.parametrize("path", sorted(PLANS.iterdir()), ids=lambda path: path.name)
def test_every_plan_of_the_data_is_carried_out(path):
    said = SAID.get(path.name)
    plan = sl.Plan.load(path) if said is None else sl.Plan.load(path, flag=POLLED, **said)
    listed = (PLANS.parent / "README.md").read_text(encoding="utf-8")
    assert f"`plans/{path.name}`" in listed
    end_s = plan.start_s + plan.length_s + plan.check_every_s
    board = sl.Scenario(
        clients=20,
        ramp_s=10.0,
        horizon_s=end_s,
        updates={"rate_per_s": 0.05},
        polling={"interval_s": 30.0},
        heartbeat={"direction": "none"},
    )
    history = sl.roll_out(plan, board, engine="compiled", progress=False).history
    begun = history[history["event"] == "started"]
    assert list(begun["percent"]) == [stage.percent for stage in plan.stages][: len(begun)]
    assert history["event"].iloc[-1] in ("done", "rolled_back", "paused")


@st.composite
def plans(draw) -> sl.Plan:
    """Plans of all kinds, many of which some format can say."""
    like = draw(st.sampled_from(["flagger", "argo", "unleash", "growthbook", None]))
    odd = st.sampled_from([False] * 30 + [True])
    check_s = draw(st.sampled_from([10.0, 60.0, 90.0, 3600.0, 12.25]))
    check_s = 3600.0 if like == "unleash" and not draw(odd) else check_s
    percents = sorted(draw(st.sets(st.sampled_from([0, 1, 5, 10.5, 25, 33.3, 50]), max_size=4)))
    percents = [p for p in percents if draw(odd) or (p == int(p) and p)]
    percents.append(100 if not draw(odd) else 75)
    gate_s = draw(st.sampled_from([0.0, 0.0, 30.0, 60.5]))
    gated = draw(st.sampled_from(["none", "first", "all", "some"]))
    stages = []
    for number, percent in enumerate(percents):
        has_gate = {"none": False, "first": number == 0, "all": True}.get(gated, number % 2 == 1)
        many = 1 if like == "flagger" and not draw(odd) else draw(st.integers(1, 5))
        bake_s = check_s * many + (0.5 if draw(odd) else 0.0)
        has_gate = has_gate and like != "unleash"
        stages.append({"percent": percent, "bake_s": bake_s, "gate_s": gate_s * has_gate})
    no_data = {"flagger": "fail", "unleash": "pass"}.get(like, "hold")
    limits = st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1e-300, 2.5, 1e300])
    rails = []
    for _ in range(0 if like == "growthbook" else draw(st.integers(0, 3))):
        metric, upper = draw(st.sampled_from(METRICS)), draw(st.booleans())
        limit = draw(st.floats(0.0, 0.9) if MEASURES[metric].is_share else limits)
        rail = {"metric": metric, "no_data": no_data}
        rail["below" if upper else "above"] = limit
        if like == "unleash":
            rail["fails_beyond"] = sys.float_info.max if upper else -sys.float_info.max
        elif like == "argo":
            rail["delay_s"] = draw(st.sampled_from([0.0, 0.0, check_s]))
            if draw(st.booleans()):
                rail["fails_beyond"] = limit + 1e300 if upper else limit - 1e300
        if draw(odd):
            rail |= draw(st.sampled_from([{"min_sample": 5}, {"no_data": "pass"}]))
        if draw(odd) or rail["metric"] not in [other["metric"] for other in rails]:
            rails.append(rail)
    decision = {"rule": "flagger", "failures": draw(st.integers(1, 9))}
    if like == "unleash":
        decision = {"rule": "argo", "failures": 0, "analysis": "background"}
    elif like == "argo":
        decision = {"rule": "argo", "failures": draw(st.integers(-1, 5))}
        decision["analysis"] = draw(st.sampled_from(["step", "background", None]))
        decision["errors"] = draw(st.sampled_from([None, 0, 4]))
        decision["inconclusive"] = draw(st.sampled_from([None, 0, 4]))
    rule = {"unleash": "unleash", "growthbook": "growthbook"}.get(like, "floor_mod")
    values = {
        "name": draw(st.sampled_from(["plan", "push-1"] if like else ["plan", "A plan: é\n"])),
        "flag": draw(st.sampled_from([POLLED, {"propagation": "build", "delay_s": 60.0}])),
        "start_s": draw(st.sampled_from([0.0, 30.0])),
        "check_every_s": check_s,
        "stages": stages,
        "bucketing": {"rule": rule, "flag": draw(st.sampled_from(["a", "true", " b", "5"]))},
        "rollback": {"sockets": "drained", "window_s": 30.0} if draw(st.booleans()) else {},
        "decision": decision,
        "guardrails": rails,
        **draw(st.sampled_from([{}, {}, {}, {}, {"kill_s": 5.0}])),
    }
    try:
        return sl.Plan(**values)
    except ScenarioError as error:  # a delay as long as the longest stage
        if "delay_s" not in str(error):
            raise
        return sl.Plan(**{**values, "guardrails": [], "decision": {"failures": 1}})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(plans(), st.sampled_from(sorted(FORMATS)))
def test_a_plan_is_read_as_it_was_written_or_refused_by_name(tmp_path, plan, kind):
    refused = None
    try:
        text = plan.dump(kind)
    except ScenarioError as error:
        refused = error
    if refused is not None:
        assert refused.path.partition(".")[0] in sl.Plan.model_fields, str(refused)
        return
    path = tmp_path / f"plan.{FORMATS[kind].language.lower()}"
    path.write_text(text, encoding="utf-8")
    whole = plan.model_dump()
    said = {name: whole[name] for name in ("flag", "rollback", "start_s", "bucketing")}
    if kind == "unleash":
        del said["bucketing"]["rule"], said["bucketing"]["flag"]
    if kind == "growthbook":
        del said["bucketing"]["flag"]
    if kind == "growthbook" or (kind != "flagger" and not plan.guardrails):
        said |= {name: whole[name] for name in ("check_every_s", "decision")}
    gates = [stage.gate_s for stage in plan.stages if stage.gate_s]
    again = sl.Plan.load(
        path, gate_s=gates[0] if gates else None, last_s=whole["stages"][-1]["bake_s"], **said
    )
    if plan.guardrails and plan.decision.rule == "argo" and plan.decision.analysis is None:
        plan = plan.replace({"decision.analysis": "step"})
    if kind == "argo" and plan.guardrails:  # what Argo makes of NaN
        assert {rail.no_number for rail in again.guardrails} <= {"fail", "inconclusive"}
        again = again.replace({"guardrails.*.no_number": None})
    assert again == plan


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_can_say_something(kind):
    values = {
        "flagger": {"check_every_s": 600.0},
        "argo": {"decision": {"rule": "argo", "analysis": "background"}},
        "unleash": {"bucketing": {"rule": "unleash"}},
        "growthbook": {"bucketing": {"rule": "growthbook_v1"}},
    }
    assert sl.Plan(flag=POLLED, **values[kind]).dump(kind)
    with pytest.raises(ScenarioError, match="format: must be toml, flagger"):
        sl.Plan(flag=POLLED).dump("yaml")


RAIL = {"metric": "latency_p99_s", "below": 1.0}


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("flagger", {"kill_s": 5.0}, "kill_s: must be None"),
        ("argo", {"rollback": {"percents": [50, 0], "every_s": 5}}, "rollback.percents: must be"),
        (
            "argo",
            {"bucketing": {"deciders": "or", "server_percent": 5.0}},
            "bucketing.deciders: must be 'ramp'",
        ),
        ("argo", {"name": "My plan"}, "name: must be small letters"),
        (
            "argo",
            {"guardrails": [{"metric": "latency_p99_s", "times_control": 2.0}]},
            "guardrails.0.times_control: must be a limit",
        ),
        (
            "argo",
            {"guardrails": [{"metric": "latency_p99_s", "judge": "mann_whitney"}]},
            "guardrails.0.judge: must be a limit",
        ),
        ("argo", {"guardrails": [{**RAIL, "min_sample": 5}]}, "guardrails.0.min_sample: must be 1"),
        ("argo", {"guardrails": [RAIL]}, "decision.rule: must be 'argo'"),
        (
            "argo",
            {"decision": {"rule": "argo"}, "guardrails": [RAIL, {**RAIL, "below": 2.0}]},
            "guardrails.1.metric: must be another's",
        ),
        ("flagger", {}, "stages.0.bake_s: must be 60.0"),
        ("flagger", {"check_every_s": 5.0}, "check_every_s: must be >= 10"),
        ("flagger", {"guardrails": [RAIL]}, "guardrails.0.no_data: must be 'fail'"),
        ("flagger", {"decision": {"rule": "argo"}}, "decision.rule: must be 'flagger'"),
        ("unleash", {}, "bucketing.rule: must be 'unleash'"),
        ("growthbook", {}, "bucketing.rule: must be 'growthbook' or 'growthbook_v1'"),
        (
            "growthbook",
            {"bucketing": {"rule": "growthbook"}, "guardrails": [RAIL]},
            "guardrails: must be none",
        ),
        (
            "unleash",
            {"bucketing": {"rule": "unleash"}, "guardrails": [RAIL], "check_every_s": 600.0},
            "check_every_s: must be 3600.0 or",
        ),
    ],
)
def test_what_a_format_cannot_say_of_a_plan_is_refused_by_name(kind, values, words):
    with pytest.raises(ScenarioError) as error:
        sl.Plan(**{"flag": POLLED, **values}).dump(kind)
    assert str(error.value).startswith(words)


TEXTS = [
    *(yaml.safe_dump(CANARY), yaml.safe_dump_all(BACKGROUND), yaml.safe_dump_all(STEPS)),
    *(yaml.safe_dump(UNLEASH), yaml.safe_dump(GROWTHBOOK)),
]
BITS = st.sampled_from(
    [
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "<<: *a",
        "!!int ",
        "\n",
        "\t",
        "'",
        '"',
        "|",
        "---\n",
        "null",
        "true",
        "1:30",
        "1e3",
        "0x10",
        ".inf",
        ".nan",
        "-5",
        "99999999999999999999",
        "1m",
        "~",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    st.sampled_from(TEXTS),
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 12), BITS | st.text(max_size=4)), max_size=4
    ),
)
def test_what_is_malformed_is_an_error_of_the_scenario(tmp_path, text, edits):
    for where, length, bit in edits:
        at = int(where * len(text))
        text = text[:at] + bit + text[at + length :]
    path = tmp_path / "plan.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = {"gate_s": 60, "metrics": {**CPU, **CANARY_SAID["metrics"]}}
    with contextlib.suppress(ScenarioError):
        sl.Plan.load(path, flag=POLLED, **said)


DOCUMENTS = [
    *([CANARY], BACKGROUND, STEPS, [UNLEASH], [GROWTHBOOK]),
    [{"kind": "List", "items": [*STEPS, CANARY]}],
    [{"rampSchedules": [GROWTHBOOK], "limit": 10}],
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["1m", "5", "", "a"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value, path=()):
    """Yield the path of everything in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.sampled_from(DOCUMENTS), st.data())
def test_any_value_in_any_place_is_read_or_refused(tmp_path, documents, data):
    documents = json.loads(json.dumps(documents))
    *sections, last = data.draw(st.sampled_from(list(places(documents))))
    place = documents
    for section in sections:
        place = place[section]
    place[last] = data.draw(VALUES)
    said = {"gate_s": 60, "metrics": {**CPU, **CANARY_SAID["metrics"]}}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    with contextlib.suppress(ScenarioError):
        sl.Plan.load(path, flag=POLLED, **said)
