"""The examples of the package are the files of the repository, and what is none is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import simlib as sl

DATA = Path(__file__).parents[2] / "data"
KINDS = ((sl.Scenario, DATA / "scenarios"), (sl.Plan, DATA / "plans"))
EXAMPLES = [(kind, path) for kind, folder in KINDS for path in sorted(folder.glob("*.toml"))]


@pytest.mark.parametrize(("kind", "path"), EXAMPLES, ids=lambda value: getattr(value, "stem", ""))
def test_an_example_is_the_file_of_its_name(kind, path):
    assert kind.example(path.stem) == kind.load(path)
    assert f'"{path.stem}"' in kind.example.__doc__


@pytest.mark.parametrize("kind", [sl.Scenario, sl.Plan])
@pytest.mark.parametrize(
    "name", ["board", "matters.toml", "../matters", "", "MATTERS", 5, None, ["matters"], Path()]
)
def test_what_is_no_example_is_refused_with_a_list_of_those_there_are(kind, name):
    with pytest.raises(sl.ScenarioError, match=r"^example: must be one of ") as error:
        kind.example(name)
    names = [path.stem for each, path in EXAMPLES if each is kind]
    assert f"must be one of {', '.join(names)}" in str(error.value)


def test_a_name_that_is_nearly_right_leads_to_the_example():
    with pytest.raises(sl.ScenarioError, match="did you mean guide_as_written"):
        sl.Plan.example("guide as written")
