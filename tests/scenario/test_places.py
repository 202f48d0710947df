"""All problems of a file come at once, each with its line; a file of another kind is called so."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings

import simlib as sl
from simlib.scenario import places
from simlib.scenario.places import lines_of_toml, lines_of_yaml
from tests import strategies

DATA = Path(__file__).parents[2] / "data"
SCENARIOS = sorted((DATA / "scenarios").glob("*.toml"))
PLANS = sorted((DATA / "plans").glob("*.toml"))
FOREIGN = sorted(path for path in (DATA / "plans").iterdir() if path.suffix != ".toml")


def leaves(value, path=()):
    """Every path of a document, of sections and items too, as dotted names."""
    if path:
        yield ".".join(path)
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for name, inner in items:
        yield from leaves(inner, (*path, str(name)))


def test_the_keys_by_which_files_are_told_apart_are_fields_of_one_kind_alone():
    of_scenarios, of_plans = sl.Scenario.model_fields.keys(), sl.Plan.model_fields.keys()
    assert set(places.OF_SCENARIOS) <= of_scenarios - of_plans
    assert set(places.OF_PLANS) <= of_plans - of_scenarios


def refused(load, path, **options):
    with pytest.raises(sl.ScenarioError) as caught:
        load(path, **options)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return str(caught.value)


def holds_each_key_on_its_line(text, document):
    lines = lines_of_toml(text)
    said = text.splitlines()
    for path in leaves(document):
        name = path.rpartition(".")[2]
        assert path in lines, path
        if not name.isdecimal():
            assert name in said[lines[path] - 1], path


# -- where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*SCENARIOS, *PLANS], ids=lambda path: path.name)
def test_every_key_of_a_toml_file_is_found_on_its_line(path):
    text = path.read_text(encoding="utf-8")
    holds_each_key_on_its_line(text, tomllib.loads(text))


@pytest.mark.parametrize("statements", [1, 400])
def test_statements_of_many_long_lines_are_not_parsed_for_each_of_them(statements, monkeypatch):
    lines = "1," * (100_000 // (198 * statements)) + "\n"
    text = "a = 1\n" + "".join(f"b{n} = [\n{lines * 198}]\n" for n in range(statements))
    real, parsed = tomllib.loads, []
    monkeypatch.setattr(tomllib, "loads", lambda text: parsed.append(len(text)) or real(text))
    found = lines_of_toml(text)
    assert sum(parsed) <= places._MOST_PARSED
    assert (found["a"], f"b{statements - 1}" in found) == (1, False)


@settings(max_examples=30)
@given(strategies.scenarios())
def test_every_key_of_a_written_scenario_is_found_on_its_line(scenario):
    holds_each_key_on_its_line(scenario.dump(), tomllib.loads(scenario.dump()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b = 1\n[a.c]\nd = 2", {"a.b": 1, "a.c": 2, "a.c.d": 3}),
        ('a = """\nb = 1\n[c]\n"""\nd = 2', {"a": 1, "d": 5}),
        ("a = [\n  1,\n  2, # [b]\n]\nc = 3", {"a": 1, "a.1": 1, "c": 5}),
        ("[[a]]\nb = 1\n[a.c]\nd = 2\n[[a]]\nb = 3", {"a.0.b": 2, "a.0.c.d": 4, "a.1.b": 6}),
        ("[[a]]\n[[a.b]]\nc = 1\n[[a.b]]\nc = 2\n[[a]]\n[[a.b]]", {"a.0.b.1.c": 5, "a.1": 6}),
        ("a = {b = 1, c = {d = 2}}", {"a.b": 1, "a.c.d": 1}),
        ('"a b" = 1\n"c.d" = 2\r\n# e = 3\n\n f = 4', {"a b": 1, "c.d": 2, "f": 5}),
        ("a = 'x' # b = 1", {"a": 1}),
        ("", {}),
    ],
)
def test_whatever_toml_has_its_keys_are_found(text, expected):
    lines = lines_of_toml(text)
    assert {path: lines[path] for path in expected} == expected
    assert "b" not in lines or "b" in tomllib.loads(text)


def test_a_statement_of_thousands_of_lines_is_given_up_and_what_is_before_it_is_found():
    text = "a = 1\nb = [\n" + "1,\n" * 5000 + "]\nc = 2\n"
    assert lines_of_toml(text) == {"a": 1}


@pytest.mark.parametrize("path", FOREIGN, ids=lambda path: path.name)
def test_every_key_of_a_yaml_or_json_file_is_found_on_its_line(path):
    text = path.read_text(encoding="utf-8")
    lines, said = lines_of_yaml(text), text.splitlines()
    first = next(yaml.safe_load_all(text))
    for one in leaves(first):
        name = one.rpartition(".")[2]
        if not name.isdecimal():
            assert name in said[lines[one] - 1], one


def misspelt(text):
    """Every key of a TOML text with a letter more, and how many there are."""
    return re.subn(r"^(\w+)( *=)", r"\1q\2", text, flags=re.M)


@pytest.mark.parametrize(
    ("load", "path"),
    [(sl.Scenario.load, path) for path in SCENARIOS] + [(sl.Plan.load, path) for path in PLANS],
    ids=lambda value: getattr(value, "name", "load"),
)
def test_all_misspelt_keys_of_a_file_come_at_once_each_with_its_line(tmp_path, load, path):
    text, number = misspelt(path.read_text(encoding="utf-8"))
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text, encoding="utf-8")
    with pytest.raises(sl.ScenarioError) as caught:
        load(wrong)
    problems = [caught.value, *caught.value.others]
    unknown = [one for one in problems if one.rule.startswith("is not a known field")]
    assert len(unknown) == number
    for one in unknown:
        line = int(re.fullmatch(r"wrong.toml, line (\d+)", one.place)[1])
        assert text.splitlines()[line - 1].startswith(one.path.rpartition(".")[2])
    assert len(str(caught.value).splitlines()) == min(len(problems), 22)


def test_wrong_values_and_what_is_missing_come_with_the_unknown(tmp_path):
    path = tmp_path / "board.toml"
    path.write_text(
        "client = 5\nramp_s = -1\n\n[updates]\nrate_per_s = 'fast'\n\n[sessions]\nlength_s = 5\n"
    )
    assert refused(sl.Scenario.load, path).splitlines() == [
        "client: is not a known field; did you mean clients?, got 5 (board.toml, line 1)",
        "ramp_s: must be >= 0, got -1 (board.toml, line 2)",
        "updates.rate_per_s: must be a number, in 1/s, got 'fast' (board.toml, line 5)",
        "sessions.arrivals_per_s: must be given, got None (board.toml, line 7)",
    ]


def test_what_is_missing_at_the_top_comes_last_and_has_the_file_alone(tmp_path):
    path = tmp_path / "board.toml"
    path.write_text("clients = 5\nramp = 3\n")
    first, last = refused(sl.Scenario.load, path).splitlines()
    assert "ramp: is not a known field" in first
    assert first.endswith("got 3 (board.toml, line 2)")
    assert last == "updates: must be given, got None (board.toml)"


def test_a_list_is_not_too_short_because_its_items_are_wrong():
    flag = {"propagation": "session"}
    with pytest.raises(sl.ScenarioError) as caught:
        sl.Plan(flag=flag, stages=[{"percent": 200, "bake_s": 60}])
    assert str(caught.value) == "stages.0.percent: must be <= 100, got 200"
    with pytest.raises(sl.ScenarioError, match=r"stages: must have at least 1, got \(\)"):
        sl.Plan(flag=flag, stages=[])


def test_a_contradiction_has_its_line_too(tmp_path):
    path = tmp_path / "board.toml"
    path.write_text("[updates]\nrate_per_s = 1\n[reconnect]\ncap_s = 0.5\nbase_s = 1.0\n")
    message = refused(sl.Scenario.load, path)
    assert message == "reconnect.cap_s: must be >= base_s (1), got 0.5 (board.toml, line 4)"


def test_a_plan_in_yaml_has_lines_and_all_unknown_keys_of_a_section(tmp_path):
    path = tmp_path / "canary.yaml"
    text = (DATA / "plans" / "flagger_canary.yaml").read_text(encoding="utf-8")
    line = text.splitlines().index("  analysis:") + 1
    path.write_text(text.replace("  analysis:\n", "  analysis:\n    foo: 1\n    bar: 2\n"))
    message = refused(sl.Plan.load, path, flag={"propagation": "session"})
    assert message.splitlines() == [
        f"spec.analysis.foo: is not a known field, got 1 (canary.yaml, line {line + 1})",
        f"spec.analysis.bar: is not a known field, got 2 (canary.yaml, line {line + 2})",
    ]


def test_problems_of_many_keys_are_cut_off_and_counted():
    with pytest.raises(sl.ScenarioError) as caught:
        sl.Scenario(updates={"rate_per_s": 1.0}, **{f"x{n}": n for n in range(100)})
    assert len(caught.value.others) == 99
    assert str(caught.value).splitlines()[-1] == "(and 79 more problems)"


# -- what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name)
def test_a_scenario_loaded_as_a_plan_says_so(path):
    message = refused(sl.Plan.load, path)
    assert "must be a rollout plan, but this is a scenario: Scenario.load reads it" in message


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_a_plan_loaded_as_a_scenario_says_so(path):
    message = refused(sl.Scenario.load, path)
    assert "must be a scenario, but this is a rollout plan: Plan.load reads it" in message


@pytest.mark.parametrize("path", FOREIGN, ids=lambda path: path.name)
def test_a_plan_of_another_tool_loaded_as_a_scenario_says_so(path):
    message = refused(sl.Scenario.load, path)
    tool = path.name.partition("_")[0]
    assert "a rollout plan: Plan.load(path, flag=...) reads it" in message
    assert tool in message.lower()


ARTILLERY = """\
config:
  target: https://example.com
  phases:
    - duration: 60
      arrivalRate: 10
    - duration: 600
      arrivalRate: 10
      rampTo: 50
scenarios:
  - flow:
      - get: {url: "/board"}
"""
RUN = {"nbformat": 4, "cells": []}
OTHERS = {
    "load.yml": (ARTILLERY, "an Artillery script"),
    "deployment.yaml": ("apiVersion: apps/v1\nkind: Deployment\n", "a Deployment of Kubernetes'"),
    "compose.yaml": ("services:\n  web: {image: x}\n", "a Compose file"),
    "page.ipynb": (json.dumps(RUN), "a notebook"),
    "load.js": ("import http from 'k6/http';\n", "a k6 script"),
    "locustfile.py": ("from locust import HttpUser\n", "a Locust file"),
    "plan.jmx": ("<jmeterTestPlan/>", "a plan of JMeter's"),
    "board.yaml": ("clients: 5\nupdates: {rate_per_s: 1}\n", "a scenario, which has to be in TOML"),
    "plan.yaml": ("flag: {propagation: session}\nstages: []\n", "a rollout plan, which has to be"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_tool_loaded_as_a_scenario_is_called_what_it_is(tmp_path, name):
    text, what = OTHERS[name]
    (tmp_path / name).write_text(text)
    message = refused(sl.Scenario.load, tmp_path / name)
    assert message.startswith(f"{name}: must be a scenario in TOML, but this is {what}")


@pytest.mark.parametrize("name", ["load.yml", "board.yaml", "compose.yaml"])
def test_a_file_of_another_tool_loaded_as_a_plan_is_called_what_it_is(tmp_path, name):
    text, what = OTHERS[name]
    (tmp_path / name).write_text(text)
    message = refused(sl.Plan.load, tmp_path / name, flag={"propagation": "session"})
    assert message.startswith(f"{name}: must be a rollout plan, but this is {what}")


def test_of_an_artillery_script_it_is_said_what_a_scenario_can_say(tmp_path):
    (tmp_path / "load.yml").write_text(ARTILLERY)
    message = refused(sl.Scenario.load, tmp_path / "load.yml")
    assert "[sessions] with arrivals_per_s = 10" in message
    assert "horizon_s = 60" in message
    assert "(rampTo) is its arrivals" in message
    board = sl.Scenario(
        updates={"rate_per_s": 0.1},
        clients=0,
        ramp_s=0,
        horizon_s=60,
        sessions={"arrivals_per_s": 10, "length_s": 30},
    )
    assert len(sl.simulate(board, progress=False).frame("clients")) == pytest.approx(600, rel=0.2)


@pytest.mark.parametrize("phases", ["5", "[]", "[5]", "{duration: 60, arrivalRate: 1}", "null"])
def test_phases_of_any_shape_are_borne(tmp_path, phases):
    (tmp_path / "load.yml").write_text(f"config:\n  target: x\n  phases: {phases}\n")
    assert "an Artillery script" in refused(sl.Scenario.load, tmp_path / "load.yml")


def test_a_saved_run_and_a_folder_are_called_what_they_are(tmp_path):
    board = sl.Scenario(updates={"rate_per_s": 0.1}, clients=2, horizon_s=60)
    saved = sl.simulate(board, progress=False).save(tmp_path / "a.run")
    assert "this is a saved run: Run.load reads it" in refused(sl.Scenario.load, saved)
    assert "this is a folder" in refused(sl.Scenario.load, tmp_path)


@pytest.mark.parametrize(
    "text", ["\x00", "- 1\n- 2\n", "just words", "a: b: c", "{" * 5000, "&a *a"]
)
def test_what_is_nothing_known_is_no_valid_toml(tmp_path, text):
    path = tmp_path / "what.toml"
    path.write_text(text)
    assert "must be valid TOML" in refused(sl.Scenario.load, path)
