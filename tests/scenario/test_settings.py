"""Every setting says what it is, in help, in tab completion and to whoever searches."""

from __future__ import annotations

import inspect
import pydoc
import re

import pydantic
import pytest

import simlib as sl
from simlib.figures import style
from simlib.scenario.fields import Section
from simlib.scenario.model import Scenario, _paths
from simlib.scenario.settings import settings_of

BOARD = sl.Scenario(updates={"rate_per_s": 0.1})
OF_SCENARIO = list(settings_of(sl.Scenario))
OF_PLAN = list(settings_of(sl.Plan))
EVERY = [*OF_SCENARIO, *OF_PLAN]


def sections(section=Section):
    for one in section.__subclasses__():
        yield one
        yield from sections(one)


SECTIONS = list(sections())
PRESENT = {  # what has to be there beside a setting of a section that is absent by default
    "sessions": {"sessions": {"arrivals_per_s": 1.0, "length_s": 60.0}},
    "fallback": {"fallback": {}},
    "rate_limit": {"rate_limit": {"rate_per_s": 5.0}},
    "drag": {"drag": {"every_s": 60.0, "length_s": 5.0}},
    "hidden": {"hidden": {"every_s": 60.0, "length_s": 5.0}},
}


def test_every_path_of_a_scenario_is_among_the_settings():
    found = {one.path.replace(".*", "") for one in OF_SCENARIO}
    known = set(_paths())
    assert found <= known
    assert all(any(one.startswith(f"{path}.") for one in found) for path in known - found)


@pytest.mark.parametrize("setting", EVERY, ids=lambda one: one.path)
def test_a_setting_has_a_meaning_and_its_names_elsewhere_have_a_tool(setting):
    assert setting.meaning
    assert "Elsewhere" not in setting.meaning
    assert "`" not in setting.meaning
    assert setting.default
    for name in setting.elsewhere:
        assert re.fullmatch(r"[^()]+(\(2\), .+)? \(.+\)|backlog \(.+\)", name), name


@pytest.mark.parametrize("setting", EVERY, ids=lambda one: one.path)
def test_a_setting_has_the_unit_of_its_name(setting):
    name = setting.path.rpartition(".")[2]
    if name.endswith("_s") and not name.endswith("_per_s"):
        assert setting.unit == "s"
    if name.endswith("_bytes"):
        assert setting.unit == "bytes"
    if name.endswith("per_s"):
        assert setting.unit.endswith("/s")


@pytest.mark.parametrize("setting", EVERY, ids=lambda one: one.path)
def test_figures_say_the_unit_of_a_setting_as_the_settings_do(setting):
    assert style.setting_words(setting.path)[1] == setting.unit


@pytest.mark.parametrize(
    "setting",
    [one for one in OF_SCENARIO if re.search("[<>]", one.range) and "*" not in one.path],
    ids=lambda one: one.path,
)
def test_what_is_outside_of_the_stated_range_is_refused(setting):
    given = PRESENT.get(setting.path.partition(".")[0], {})
    for sign, bound in re.findall(r"([<>]=?) ([\d.e+-]+)", setting.range):
        number = float(bound)
        step = 0.0 if sign in (">", "<") else 1.0
        outside = number - step if sign.startswith(">") else number + step
        value = int(outside) if "whole" in setting.range else outside
        with pytest.raises(sl.ScenarioError) as caught:
            BOARD.replace(given).replace({setting.path: value})
        assert caught.value.path == setting.path
        assert f"{sign} " in caught.value.rule


def test_a_stated_default_is_the_default():
    values = BOARD.model_dump()
    checked = 0
    for one in OF_SCENARIO:
        place = values
        for name in one.path.split("."):
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, float | int) and not isinstance(place, bool):
            if one.path != "updates.rate_per_s":
                assert float(one.default) == place, one.path
                checked += 1
    assert checked > 40


@pytest.mark.parametrize("section", SECTIONS, ids=lambda one: one.__name__)
def test_help_shows_each_setting_with_its_meaning_and_no_method_of_pydantic(section):
    text = pydoc.plain(pydoc.render_doc(section))
    for one in settings_of(section):
        assert f"{one.path} = {one.default}" in text
        assert " ".join(one.meaning.split()[:4]) in text
    assert "model_dump" not in text
    assert "__pydantic" not in text
    assert len(str(inspect.signature(section))) < 700


def test_help_of_a_part_shows_its_settings():
    assert "staleTime (TanStack Query, ms)" in pydoc.plain(pydoc.render_doc(BOARD.polling))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda one: one.__name__)
def test_tab_completion_shows_settings_and_our_own_methods(section):
    relics = {name for name in dir(pydantic.BaseModel) if not name.startswith("_")}
    shown = {name for name in dir(section) if not name.startswith("_")}
    assert not shown & relics
    assert not shown & set(section.renamed_fields)
    assert section.model_fields.keys() <= shown


def test_tab_completion_of_a_value_shows_the_same():
    for value in (BOARD, BOARD.polling, sl.Plan(flag={"propagation": "session"})):
        names = [{n for n in dir(one) if not n.startswith("_")} for one in (value, type(value))]
        assert names[0] == names[1]
    assert {"polling", "replace", "load", "dump"} <= set(dir(BOARD))
    assert BOARD.model_dump()["clients"] == Scenario.model_fields["clients"].default


@pytest.mark.parametrize(
    "name",
    ["bucketing", "figures", "metrics", "notebook", "outages", "rollouts", "theory", "trials"],
)
def test_a_public_module_lists_its_public_names_alone(name):
    module = getattr(sl, name)
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, one) for one in module.__all__)
