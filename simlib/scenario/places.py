"""Where in a file a problem is, and what a file is that holds neither a scenario nor a plan."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from simlib.errors import ScenarioError
from simlib.scenario.documents import LANGUAGES, parsed
from simlib.scenario.reading import MOST_BYTES, read_text

_MOST_LINES = 200
"""Lines of one TOML statement, at most: what comes after a longer one has no line number."""
_MOST_PARSED = 2**20
"""Characters given to `tomllib` for one file, at most, a second's work: a statement of many long
lines is parsed once for each of them. What comes after has no line number."""
_MOST_SNIFFED = 2**16
_HEADER = re.compile(r"\s*\[")

OF_SCENARIOS = ("updates", "clients", "sessions", "polling", "websocket", "network", "server")
"""Keys that a scenario's file has and a plan's has not."""
OF_PLANS = ("flag", "stages", "guardrails", "rollback", "bucketing", "decision", "treatment")
"""Keys that a plan's file has and a scenario's has not."""


# -- where ----------------------------------------------------------------------------------------


def in_file(error: ScenarioError, path: Path) -> ScenarioError:
    """Return an error whose problems each say on which line of a file they are.

    Parameters
    ----------
    error : ScenarioError
        What is wrong with the content of the file.
    path : Path
        TOML, or what its name ends in says: YAML or JSON.
    """
    try:
        text = read_text(path, "file", MOST_BYTES)
        is_toml = path.suffix.lower() not in LANGUAGES
        lines = lines_of_toml(text) if is_toml else lines_of_yaml(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return error
    placed = [
        ScenarioError(one.path, one.value, one.rule, place=_place(one.path, path.name, lines))
        for one in error.problems
    ]
    return ScenarioError.of(sorted(placed, key=_line))


def _line(problem: ScenarioError) -> float:
    """Return the line of a problem; what has none comes last."""
    line = problem.place.rpartition(", line ")[2]
    return int(line) if line.isdecimal() else math.inf


def _place(problem: str, name: str, lines: Mapping[str, int]) -> str:
    if problem == name:
        return ""
    steps = problem.replace('"', "").removeprefix(f"{name}.").split(".")
    while steps:
        line = lines.get(".".join(steps))
        if line is not None:
            return f"{name}, line {line}"
        steps.pop()  # what is missing is missing in the section around it
    return name


def lines_of_toml(text: str) -> dict[str, int]:
    r"""Return the line on which each key of a TOML text is given, by its dotted path.

    Items of arrays of tables are numbered. The text is valid TOML. `tomllib` says no positions, so
    the text is cut into its statements, each of which it can read alone.

    Examples
    --------
    >>> lines_of_toml("clients = 5\n[polling]\ninterval_s = 3\n")
    {'clients': 1, 'polling': 2, 'polling.interval_s': 3}
    >>> lines_of_toml('[[faults]]\nkind = "reset"\n[[faults]]\nkind = "drain"\n')["faults.1.kind"]
    4
    """
    found: dict[str, int] = {}
    counts: dict[str, int] = {}
    section: list[str] = []
    lines = text.splitlines(keepends=True)
    number, left = 0, _MOST_PARSED
    while number < len(lines):
        if not lines[number].strip() or lines[number].lstrip().startswith("#"):
            number += 1
            continue
        length, said, parsed_chars = _statement(lines, number, left)
        left -= parsed_chars
        if said is None:
            break
        if _HEADER.match(lines[number]):
            section = _numbered(said, counts)
            for depth in range(len(section)):
                found.setdefault(".".join(section[: depth + 1]), number + 1)
        else:
            of_items = _lines_of_items(lines[number : number + length], said)
            for path in _paths_in(said):
                below = next((n for n in range(len(path), 0, -1) if path[:n] in of_items), 0)
                line = number + 1 + of_items.get(path[:below], 0)
                found.setdefault(".".join([*section, *path]), line)
        number += length
    return found


def _statement(
    lines: list[str], start: int, most_parsed: int
) -> tuple[int, dict[str, Any] | None, int]:
    """Return how many lines a statement has, what it says, and the characters that were parsed."""
    text, so_far = "", 0
    for length, line in enumerate(lines[start : start + _MOST_LINES], start=1):
        text += line
        so_far += len(text)
        if so_far > most_parsed:
            break
        try:
            return length, tomllib.loads(text), so_far
        except tomllib.TOMLDecodeError:
            continue
    return 1, None, so_far


def _numbered(header: Any, counts: dict[str, int]) -> list[str]:
    """Return the path of a header, items of arrays of tables numbered as they come."""
    path: list[str] = []
    place = header
    while place:
        [(name, place)] = place.items()
        path.append(name)
        known = ".".join(path)
        if isinstance(place, list):
            counts[known] = counts.get(known, -1) + 1
            place = None
        if known in counts:
            path.append(str(counts[known]))
    return path


def _lines_of_items(lines: list[str], said: Any) -> dict[tuple[str, ...], int]:
    """Return how far below a statement's first line the tables of a list begin, by their paths.

    Only where each table begins a line, as writers of TOML have it.
    """
    path: list[str] = []
    while isinstance(said, dict) and len(said) == 1:
        [(name, said)] = said.items()
        path.append(name)
    begin = [number for number, line in enumerate(lines) if line.lstrip().startswith("{")]
    if not isinstance(said, list) or len(begin) != len(said):
        return {}
    return {(*path, str(item)): number for item, number in enumerate(begin)}


def _paths_in(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of a value, and of all that is in it."""
    if path:
        yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, inner in items:
        yield from _paths_in(inner, (*path, str(name)))


def lines_of_yaml(text: str) -> dict[str, int]:
    r"""Return the line on which each key of a YAML or JSON text is given, by its dotted path.

    Where several documents have a key, it is the first one's.

    Examples
    --------
    >>> lines_of_yaml("kind: Canary\nspec:\n  weights:\n  - 10\n  - 20\n")
    {'kind': 1, 'spec': 2, 'spec.weights': 3, 'spec.weights.0': 4, 'spec.weights.1': 5}
    """
    found: dict[str, int] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, yaml.MappingNode):
            pairs = [(str(key.value), key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            pairs = [(str(number), value, value) for number, value in enumerate(node.value)]
        else:
            return
        for name, mark, value in pairs:
            known = f"{path}.{name}" if path else name
            if known not in found:
                found[known] = mark.start_mark.line + 1
                walk(value, known)

    if len(text) <= MOST_BYTES:
        for document in yaml.compose_all(text, Loader=yaml.SafeLoader):
            walk(document, "")
    return found


# -- what -----------------------------------------------------------------------------------------


def refuse_other_kind(path: Path, values: Mapping[str, Any], wanted: str) -> None:
    """Raise `ScenarioError` if a file holds a plan where a scenario is wanted, or the reverse.

    Parameters
    ----------
    path : Path
    values : mapping
        What the file says.
    wanted : {"scenario", "plan"}
    """
    of_scenario = [name for name in OF_SCENARIOS if name in values]
    of_plan = [name for name in OF_PLANS if name in values]
    if wanted == "scenario" and len(of_plan) > len(of_scenario):
        rule = "must be a scenario, but this is a rollout plan: Plan.load reads it"
        raise ScenarioError(path.name, ", ".join(of_plan), rule)
    if wanted == "plan" and len(of_scenario) > len(of_plan):
        rule = "must be a rollout plan, but this is a scenario: Scenario.load reads it"
        raise ScenarioError(path.name, ", ".join(of_scenario), rule)


def refuse_foreign(path: Path, wanted: str) -> None:
    """Raise `ScenarioError` if a file is recognised as one of another tool that cannot be read.

    Parameters
    ----------
    path : Path
        A file that exists.
    wanted : {"scenario", "plan"}
    """
    try:
        what = _what_is(path, wanted)
    except (OSError, ValueError):
        return
    if what:
        article = "a scenario in TOML" if wanted == "scenario" else "a rollout plan"
        name, rule = path.name or str(path), f"must be {article}, but this is {what}"
        raise ScenarioError(name, str(path), rule) from None


def _what_is(path: Path, wanted: str) -> str:
    """Return what a file is, with an article, and what to do with it; or nothing."""
    if path.is_dir():
        is_run = (path / "timeline.parquet").exists()
        return "a saved run: Run.load reads it" if is_run else "a folder"
    if not path.is_file():  # a device or a pipe would be read for ever
        return ""
    with path.open("rb") as file:
        text = file.read(_MOST_SNIFFED + 1).decode("utf-8-sig")
    if path.suffix == ".js" and "k6" in text:
        return f"a k6 script: {_LOAD}"
    if path.suffix == ".py" and "locust" in text:
        return f"a Locust file: {_LOAD}"
    if path.suffix == ".jmx":
        return f"a plan of JMeter's: {_LOAD}"
    if len(text) > _MOST_SNIFFED:
        return ""
    try:
        language = LANGUAGES.get(path.suffix.lower(), "YAML")
        documents = [one.values for one in parsed(text, path.name, language)]
    except ScenarioError:
        return ""
    return next(filter(None, (_of_document(one, wanted) for one in documents)), "")


_LOAD = (
    "its users are clients, or [sessions] with arrivals_per_s and length_s, and its length is "
    "horizon_s"
)
_PLANS = {"Canary": "a Flagger Canary", "Rollout": "an Argo Rollout"}
_PLANS["AnalysisTemplate"] = "an AnalysisTemplate of Argo Rollouts"
_READ_IT = "a rollout plan: Plan.load(path, flag=...) reads it"


def _of_document(values: Mapping[str, Any], wanted: str) -> str:
    kind = str(values.get("kind") or "")
    if wanted == "scenario":
        if kind in _PLANS:
            return f"{_PLANS[kind]}, {_READ_IT}"
        if "milestones" in values:
            return f"a release plan of Unleash, {_READ_IT}"
        if "featureId" in values:
            return f"a ramp schedule of GrowthBook, {_READ_IT}"
        if sum(name in values for name in OF_PLANS) > 1:
            return "a rollout plan, which has to be in TOML, for Plan.load"
    if sum(name in values for name in OF_SCENARIOS) > 1:
        return "a scenario, which has to be in TOML, for Scenario.load"
    config = values.get("config")
    if isinstance(config, Mapping) and ("phases" in config or "target" in config):
        return f"an Artillery script: {_of_phases(config.get('phases'))}"
    if "nbformat" in values:
        return "a notebook"
    if "services" in values:
        return "a Compose file"
    if kind and "apiVersion" in values:
        return f"a {kind} of Kubernetes'" if wanted == "scenario" else ""
    return ""


def _of_phases(given: Any) -> str:
    """Return what in Artillery's phases a scenario can say."""
    every = given if isinstance(given, list) else [given]
    phases = [one for one in every if isinstance(one, Mapping)] or [{}]
    rate, length_s = (phases[0].get(name, "...") for name in ("arrivalRate", "duration"))
    text = f"a phase is [sessions] with arrivals_per_s = {rate}, and with length_s, how long a "
    text += f"user stays, over horizon_s = {length_s}"
    if len(phases) > 1:
        text += "; each further phase is a scenario of its own"
    if any("rampTo" in one for one in phases):
        text += '; a rate that rises (rampTo) is its arrivals = "curve", with a curve of two points'
    return text
