"""What the writers of rollout plans share: fields that no format has, and refusals of the others.

A writer writes the whole plan, or refuses by name the field that its format does not have. Its
docstring lists the fields that it leaves out because the caller of `Plan.load` gives them.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from simlib.errors import ScenarioError
from simlib.rollout.exchange import ImportOptions, merged, said_by
from simlib.rollout.plan import Plan
from simlib.scenario.documents import go_seconds, go_text, parsed
from simlib.scenario.formats import Format

NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def checked(row: Format) -> Format:
    """Return a format whose writer refuses what no format has, and checks its text by reading it.

    Parameters
    ----------
    row : Format
        With a writer for the fields that this format has.
    """

    def write(plan: Plan) -> str:
        assert row.write is not None
        require(plan, "kill_s", None)
        require(plan, "rollback.percents", (0.0,))
        require(plan, "bucketing.deciders", "ramp")
        for number, rail in enumerate(plan.guardrails):
            for name in ("times_control", "judge"):
                if getattr(rail, name) is not None:
                    rule = f"must be a limit, below or above: {row.name} knows no control cohort"
                    raise ScenarioError(f"guardrails.{number}.{name}", getattr(rail, name), rule)
            if rail.min_sample != 1:
                rule = f"must be 1: {row.name} counts no observations"
                raise ScenarioError(f"guardrails.{number}.min_sample", rail.min_sample, rule)
        text = row.write(plan)
        _read_back(plan, text, row)
        return text

    return dataclasses.replace(row, write=write)


def _read_back(plan: Plan, text: str, row: Format) -> None:
    """Raise unless a file contains the plan, except for the fields that its caller gives."""
    given = ImportOptions(gate_s=one_gate_s(plan), last_s=plan.stages[-1].bake_s)
    said = said_by(parsed(text, row.name, row.language), given)
    wanted = plan.model_dump()
    for section, fields in row.implied.items():
        for name, value in fields.items():
            if section in said and wanted[section][name] is None:
                wanted[section][name] = value
    settings = {name: value for name, value in wanted.items() if name not in said}
    if "bucketing" in said:
        others = plan.bucketing.model_dump().items()
        settings["bucketing"] = {k: v for k, v in others if k not in said["bucketing"]}
    again = type(plan)(**merged(said, settings)).model_dump()
    for rail, read in zip(wanted["guardrails"], again["guardrails"], strict=False):
        if rail["no_number"] is None:  # what the tool makes of it
            read["no_number"] = None
    for name, value in wanted.items():
        if again[name] != value:
            raise ScenarioError(name, value, f"must be such that {row.name} can say it")


def require(plan: Plan, path: str, *right: Any) -> None:
    """Raise unless a field of a plan has one of the values that a format can express."""
    value: Any = plan
    for name in path.split("."):
        value = value[int(name)] if name.isdigit() else getattr(value, name)
    if value not in right:
        words = " or ".join(repr(one) for one in right)
        raise ScenarioError(path, value, f"must be {words}: the format can say nothing else")


def require_guardrails(plan: Plan, **right: Any) -> None:
    """Raise unless a field of every guardrail has the value that a format implies."""
    for number in range(len(plan.guardrails)):
        for name, value in right.items():
            require(plan, f"guardrails.{number}.{name}", value)


def require_end_at_100(plan: Plan) -> None:
    """Raise unless the last stage enrols everybody."""
    require(plan, f"stages.{len(plan.stages) - 1}.percent", 100.0)


def kubernetes_name(plan: Plan) -> str:
    """Return a plan's name, which must be a valid name in Kubernetes."""
    if not NAME.fullmatch(plan.name):
        rule = "must be small letters, digits and hyphens, at most 63, to be a name in Kubernetes"
        raise ScenarioError("name", plan.name, rule)
    return plan.name


def whole_percent(plan: Plan, number: int) -> int:
    """Return a stage's percentage, which must be a whole number."""
    percent = plan.stages[number].percent
    if percent != int(percent):
        rule = "must be a whole number: the format knows no fractions of a percent"
        raise ScenarioError(f"stages.{number}.percent", percent, rule)
    return int(percent)


def duration(seconds: float, path: str, smallest_s: float = 1e-9) -> str:
    """Return a duration in Go's notation; it must be a multiple of the smallest unit allowed."""
    text = go_text(seconds)
    # Go counts whole nanoseconds, so a float with finer digits would not be read back equal.
    if go_seconds(text) != seconds or (smallest_s == 1.0 and seconds != int(seconds)):
        rule = f"must be a multiple of {smallest_s:g} s: the format knows nothing finer"
        raise ScenarioError(path, seconds, rule)
    return text


def one_gate_s(plan: Plan) -> float:
    """Return the length of a plan's gates, which must all be equal; 0 if there are none."""
    gates = {stage.gate_s for stage in plan.stages if stage.gate_s}
    if len(gates) > 1:
        number = next(i for i, stage in enumerate(plan.stages) if stage.gate_s == max(gates))
        rule = "must be as long as the other gates: the caller says one gate_s for all of them"
        raise ScenarioError(f"stages.{number}.gate_s", max(gates), rule)
    return max(gates, default=0.0)
