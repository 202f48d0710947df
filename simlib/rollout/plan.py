"""A rollout plan: who is enrolled when, how tabs learn of it, what is checked, and the rollback.

A plan is frozen and strict, as a scenario is. It is read from TOML and written to TOML;
`rollout.formats` reads and writes the formats of other tools.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import pydantic
from pydantic import Field

from simlib.core.assignment import FlagRules, Propagation
from simlib.core.protocol import Transport
from simlib.errors import ScenarioError, shown
from simlib.rollout import exchange
from simlib.rollout.sections import (
    DEFAULT_STAGES,
    Bucketing,
    Decision,
    Flag,
    Guardrail,
    Rollback,
    Stage,
    Variant,
)
from simlib.rollout.tally import Limits
from simlib.scenario.changes import read_changes
from simlib.scenario.documents import LANGUAGES, Said
from simlib.scenario.fields import (
    FROM_LIST,
    FieldError,
    NotNegative,
    Positive,
    Section,
    example_path,
    present_path,
    read_toml,
    scenario_error,
)
from simlib.scenario.formats import writer
from simlib.scenario.places import in_file

if TYPE_CHECKING:
    import pandas as pd

# In the repository a link to data/plans, in a wheel the files themselves.
_EXAMPLES = Path(__file__).parent / "examples"


def _transport(variant: Variant) -> int:
    return int(Transport[variant.transport.upper()])


class Plan(Section):
    """A rollout plan: its stages, and everything that decides about them.

    Examples
    --------
    >>> plan = Plan(flag={"propagation": "polled", "every_s": "1 min"})
    >>> [stage.percent for stage in plan.stages], plan.length_s
    ([10.0, 25.0, 50.0, 100.0], 2400.0)
    >>> rail = {"metric": "latency_p95_s", "below": 2.0}
    >>> stages = [{"percent": 50, "bake_s": 30}]
    >>> Plan(flag={"propagation": "session"}, stages=stages, guardrails=[rail])
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: stages.0.bake_s: must be >= check_every_s (60), got 30.0
    """

    name: Annotated[str, Field(min_length=1, max_length=100)] = "plan"
    """A name for tables and titles."""
    start_s: NotNegative = 0.0
    """When the first stage begins, or the gate before it, seconds from the start of the run."""
    check_every_s: Positive = 60.0
    """Time between two checks of the guardrails, seconds.
    Elsewhere: interval (Flagger, Argo Rollouts)."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=100), FROM_LIST] = (
        DEFAULT_STAGES
    )
    """The stages in order; the percentage never falls from one to the next."""
    control: Annotated[Variant, Field(examples=[{"transport": "polling"}])] = Variant(
        transport="polling"
    )
    """What users get who are not enrolled."""
    treatment: Annotated[Variant, Field(examples=[{"transport": "websocket"}])] = Variant(
        transport="websocket"
    )
    """What users get who are enrolled."""
    bucketing: Bucketing = Bucketing()
    flag: Annotated[Flag, Field(examples=[exchange.A_FLAG])]
    rollback: Rollback = Rollback()
    decision: Decision = Decision()
    guardrails: Annotated[tuple[Guardrail, ...], Field(max_length=32), FROM_LIST] = ()
    """The guardrails. Without any, each stage ends after its `bake_s`, whatever happens."""
    failing: Annotated[tuple[str, ...], Field(max_length=32), FROM_LIST] = ()
    """Names of checks outside of the rehearsal, such as webhooks, that fail at every look."""
    kill_s: NotNegative | None = None
    """When the kill switch is used, seconds from the start of the run; absent: never."""

    _explained: tuple[Said, ...] = ()

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise scenario_error(error, type(self)) from None

    @pydantic.model_validator(mode="after")
    def _holds_together(self) -> Self:
        before = 0.0
        for number, stage in enumerate(self.stages):
            path = f"stages.{number}"
            if stage.percent < before:
                rule = f"must be >= the stage's before ({before:g}): a percentage falls by rollback"
                raise FieldError(f"{path}.percent", stage.percent, rule)
            if self.guardrails and 0.0 < stage.watch_s < self.check_every_s:
                name = "bake_s" if stage.watched_s is None else "watched_s"
                rule = f"must be >= check_every_s ({self.check_every_s:g})"
                if stage.watched_s is None and stage.watched_from_s:
                    rule += f" and watched_from_s ({stage.watched_from_s:g}) together"
                raise FieldError(f"{path}.{name}", getattr(stage, name), rule)
            before = stage.percent
        if self.rollback.sockets != "kept" and self.control.transport == self.treatment.transport:
            same = "the same" if self.control == self.treatment else "one transport"
            rule = f"must be kept: both cohorts get {same}, so nobody's socket is to be closed"
            raise FieldError("rollback.sockets", self.rollback.sockets, rule)
        for number, guardrail in enumerate(self.guardrails):
            if guardrail.compares and self.stages[0].percent >= 100.0:
                rule = "must be one that needs no control cohort: the first stage enrols everybody"
                raise FieldError(f"guardrails.{number}.metric", guardrail.metric, rule)
            self._check_times(guardrail, f"guardrails.{number}")
        if self.failing and self.decision.rule != "flagger":
            rule = 'must be none when decision.rule is "argo", which calls no webhooks'
            raise FieldError("failing", list(self.failing), rule)
        return self

    def _check_times(self, guardrail: Guardrail, path: str) -> None:
        """Check a guardrail's times and limits beside those of the plan."""
        whole = self.decision.analysis == "background"
        longest_s = self.length_s if whole else max(stage.watch_s for stage in self.stages)
        if guardrail.delay_s >= longest_s > 0.0:
            what = "the plan's length" if whole else "the longest that a stage is watched"
            rule = f"must be < {what} ({longest_s:g}): it would never be checked"
            raise FieldError(f"{path}.delay_s", guardrail.delay_s, rule)
        every_s = guardrail.every_s
        if every_s is not None and not _is_multiple(every_s, self.check_every_s):
            rule = f"must be a multiple of check_every_s ({self.check_every_s:g})"
            raise FieldError(f"{path}.every_s", every_s, rule)
        if every_s is not None and every_s > longest_s > 0.0:
            rule = f"must be <= the longest that it is watched ({longest_s:g}): never checked"
            raise FieldError(f"{path}.every_s", every_s, rule)
        if longest_s == 0.0:
            rule = "must be none where no stage is watched (watched_s = 0): never checked"
            raise FieldError(path, guardrail.metric, rule)
        if not guardrail.is_evaluated and self.decision.rule != "argo":
            rule = 'must be true unless decision.rule is "argo"'
            raise FieldError(f"{path}.is_evaluated", False, rule)
        if guardrail.window_s is not None and guardrail.window_s > self.length_s:
            rule = f"must be <= the plan's length ({self.length_s:g})"
            raise FieldError(f"{path}.window_s", guardrail.window_s, rule)
        for name in ("failures", "inconclusive", "errors"):
            if getattr(guardrail, name) is not None and self.decision.rule != "argo":
                rule = 'has no meaning unless decision.rule is "argo"'
                raise FieldError(f"{path}.{name}", getattr(guardrail, name), rule)

    @property
    def length_s(self) -> float:
        """How long the stages and their gates take if no check holds them up, seconds."""
        return sum(stage.gate_s + stage.bake_s for stage in self.stages)

    @property
    def limits(self) -> Limits:
        """The failed, inconclusive and empty checks that are tolerated."""
        decision = self.decision
        failures = math.inf if decision.failures < 0 else decision.failures
        errors = 4 if decision.errors is None else decision.errors
        return Limits(failures, decision.inconclusive or 0, errors)

    @property
    def guardrail_limits(self) -> tuple[Limits, ...]:
        """The same of each guardrail, as Argo counts them."""
        return tuple(_own(rail, self.limits) for rail in self.guardrails)

    @property
    def flag_rules(self) -> FlagRules:
        """The part of the plan that the engines need."""
        by_name = {"polled": Propagation.POLLED, "pushed": Propagation.PUSHED}
        return FlagRules(
            propagation=int(by_name.get(self.flag.propagation, Propagation.SESSION)),
            every_s=self.flag.every_s or 0.0,
            delay_s=self.flag.delay_s,
            cached_frac=self.flag.cached_frac,
            closes=self.rollback.sockets != "kept",
            window_s=self.rollback.window_s or 0.0,
            jitter_s=self.flag.jitter_s,
            transports=(_transport(self.control), _transport(self.treatment)),
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        metrics: Mapping[str, Any] | None = None,
        gate_s: float | str | None = None,
        last_s: float | str | None = None,
        name: str | None = None,
        webhooks: str | Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Plan:
        """Read a plan from a file: TOML, or a format of another tool.

        A file that ends in ``.yaml``, ``.yml`` or ``.json`` is in one of the formats of
        `rollout.formats.FORMATS`, and is recognised by its content. The docstring of that format's
        module, such as `rollout.formats.flagger`, lists what is ignored and what is refused. Any
        other file is TOML and describes the whole plan.

        Parameters
        ----------
        path : str or Path
        metrics : mapping, optional
            The meaning of the file's metrics: one of `METRICS` for each name; a pair of that and
            the factor to its unit, such as ``{"request-duration": ("latency_p99_s", 0.001)}`` for
            milliseconds; a triple with what is added then, such as ``("errors_per_request", -0.01,
            1)`` for a success rate in per cent; or None, to leave it out. The names in `METRICS`
            stand for themselves.
        gate_s : float or str, optional
            How long an approval takes that the file demands, seconds.
        last_s : float or str, optional
            Length of the last stage, seconds, if the file does not say it; absent: one interval
            between checks.
        name : str, optional
            The plan to read, if the file holds several; the plan's name, if the file has none.
        webhooks : str or mapping, optional
            What the file's webhooks answer, as a rehearsal calls nobody's service: ``"pass"``,
            ``"fail"`` or ``"wait"`` (for `gate_s`), for all or by their names or types.
        **settings
            Fields that the file cannot express. ``flag`` is always needed; ``bucketing``,
            ``rollback``, ``start_s`` and ``kill_s`` have the defaults of a plan. If the file has no
            guardrails, ``check_every_s`` and ``decision`` may be given too.

        Raises
        ------
        ScenarioError
            The file is missing or cannot be read, contains something that a plan cannot express, or
            lacks something that the caller has to give.

        Examples
        --------
        >>> flag = {"propagation": "polled", "every_s": 60}
        >>> plan = Plan.load("data/plans/flagger_canary.yaml", flag=flag)
        >>> [stage.percent for stage in plan.stages], plan.decision.failures
        ([10.0, 25.0, 50.0, 100.0], 5)
        """
        given = exchange.ImportOptions(metrics, gate_s, last_s, name, webhooks)
        if name is not None:
            settings["name"] = name
        suffix = Path(path).suffix.lower() if isinstance(path, str | Path) else ""
        if suffix not in LANGUAGES:
            others = {"metrics": metrics, "gate_s": gate_s, "last_s": last_s}
            others |= {"webhooks": webhooks, **settings}
            for name, value in others.items():
                if value is not None:
                    rule = "has no meaning for a TOML file, which says everything: use replace"
                    raise ScenarioError(name, value, rule)
            path, values = read_toml(path, "plan")
            explained: list[Said] = []
        else:
            path = Path(path)
            values, explained = exchange.read(path, given, settings)
        try:
            plan = cls(**values)
        except ScenarioError as error:
            raise in_file(error, path) from None
        if explained:
            by_caller = _said_by_caller(settings, "given beside the file")
            plan._explained = (*explained, *by_caller)
        return plan

    @classmethod
    def example(cls, name: str) -> Plan:
        """Return a plan that comes with the package, to start from.

        Parameters
        ----------
        name : str
            ``"guide_as_written"``: the migration guide's rollout, by a percentage in a constant of
            the build, which nothing measured stops. ``"guide_as_it_should_be"``: the same stages,
            with a flag that open tabs read again, and guardrails that act.

        Raises
        ------
        ScenarioError
            There is no such example; the error lists those that there are.

        Examples
        --------
        >>> plan = Plan.example("guide_as_it_should_be")
        >>> [stage.percent for stage in plan.stages], plan.length_s
        ([10.0, 25.0, 50.0, 100.0], 7200.0)
        """
        return cls.load(example_path(_EXAMPLES, name))

    def explain(self) -> pd.DataFrame:
        """Return what became of each line of the file that it was read from.

        Returns
        -------
        pandas.DataFrame
            A row for each key of the file, in its order, and then for each setting of the caller:
            ``where`` (its path), ``given`` (its value), ``became`` (settings of the plan, or
            ignored), ``why`` (why, or what the tool itself does beyond that). Of a plan that was
            not read from another tool's file: a row for each setting, and what it means.

        Examples
        --------
        >>> flag = {"propagation": "polled", "every_s": 60}
        >>> plan = Plan.load("data/plans/flagger_canary.yaml", flag=flag)
        >>> plan.explain().set_index("where")["became"]["spec.analysis.threshold"]
        'decision.failures = 5'
        """
        import pandas as pd

        rows = self._explained or tuple(_meanings(self))
        table = pd.DataFrame(rows, columns=["where", "given", "became", "why"], dtype=object)
        return table.assign(given=[shown(value) for value in table["given"]])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.name, self.stages, self.guardrails, self.flag))

    def dump(self, format: str = "toml") -> str:  # noqa: A002  (what it is)
        """Return the plan as a file's text.

        Parameters
        ----------
        format : str
            ``toml``, or a name in `rollout.formats.FORMATS`. TOML describes the whole plan. The
            other formats leave out the fields that the caller of `Plan.load` gives (``flag`` and
            those that the format's ``write`` lists). Either way `Plan.load`, with these fields,
            returns an equal plan.

        Raises
        ------
        ScenarioError
            The format is unknown, or cannot express a field of the plan, which the error names.

        Examples
        --------
        >>> plan = Plan(flag={"propagation": "pushed"}, kill_s=60.0)
        >>> plan.dump("flagger")
        Traceback (most recent call last):
            ...
        simlib.errors.ScenarioError: kill_s: must be None: the format can say nothing else, got 60.0
        """
        if format != "toml":
            return writer(format, "plan")(self)
        import tomli_w

        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def replace(self, changes: Mapping[str, Any] | None = None, /, **named: Any) -> Plan:
        """Return this plan with some fields changed.

        Parameters
        ----------
        changes : mapping of str to object, optional
            Dotted paths and their new values, such as ``{"rollback.sockets": "closed"}``. Items of
            a list are numbered from 0; ``*`` means all of them. None removes an optional field.
            What follows ``treatment.changes.`` is one path of the scenario.
        **named
            The same for fields of the top level.

        Raises
        ------
        ScenarioError
            A path does not exist, or the new plan is not valid.

        Examples
        --------
        >>> plan = Plan(flag={"propagation": "session"}).replace({"stages.*.bake_s": "1 h"})
        >>> plan.replace({"stages.3.bake_s": "1 min"}).length_s
        10860.0
        """
        values = self.model_dump(mode="json", exclude_none=True)
        asked = read_changes(changes, named)
        for path, value in asked.items():
            # The keys of a variant's changes are dotted paths themselves.
            cohort, is_inside, key = path.partition(".changes.")
            if is_inside:
                *sections, name = cohort, "changes", key
            else:
                *sections, name = present_path(Plan, path).split(".")
            places: list[Any] = [values]
            for section in sections:
                places = [into for place in places for into in _inside(place, section, path)]
            for place in places:
                if not isinstance(place, dict):
                    raise ScenarioError(path, value, "must be a field of a section")
                if value is None:
                    place.pop(name, None)
                else:
                    place[name] = value
        plan = type(self)(**values)
        if self._explained:
            plan._explained = (*self._explained, *_said_by_caller(asked, "changed by replace"))
        return plan


def _said_by_caller(settings: Mapping[str, Any], why: str) -> list[Said]:
    """Say what a caller has given, beside a file or later."""
    return [Said(name, value, name, why) for name, value in settings.items()]


def _meanings(plan: Plan) -> Iterator[Said]:
    """Say what each setting of a plan means that differs from its default."""

    def below(section: Section, path: str) -> Iterator[Said]:
        fields = type(section).model_fields
        for name in section.model_dump(exclude_defaults=True, exclude_none=True):
            value, at = getattr(section, name), f"{path}.{name}" if path else name
            parts = value if isinstance(value, tuple) else (value,)
            if all(isinstance(part, Section) for part in parts) and parts:
                for number, part in enumerate(parts):
                    yield from below(part, at if part is value else f"{at}.{number}")
                continue
            meaning = (fields[name].description or "").partition("Elsewhere")[0]
            yield Said(at, value, f"{at} = {value}", " ".join(meaning.split()))

    yield from below(plan, "")


def _own(rail: Guardrail, common: Limits) -> Limits:
    """Return a guardrail's own limits, and the common ones where it has none."""
    failures = common.failures if rail.failures is None else rail.failures
    return Limits(
        math.inf if failures < 0 else failures,
        common.inconclusive if rail.inconclusive is None else rail.inconclusive,
        common.errors if rail.errors is None else rail.errors,
    )


def _is_multiple(of: float, step: float) -> bool:
    """Say whether a time is a whole number of steps."""
    return round(of / step) >= 1 and math.isclose(of, round(of / step) * step, rel_tol=1e-9)


def _inside(place: Any, section: str, path: str) -> list[Any]:
    """Return the mappings to which one part of a dotted path leads."""
    if isinstance(place, dict):
        return [place.setdefault(section, {})]
    if not isinstance(place, list):
        raise ScenarioError(path, section, "must be a field of a section")
    if section == "*":
        return list(place)
    if not section.isdecimal() or len(section) > 9 or int(section) >= len(place):
        raise ScenarioError(path, section, f"must be a number below {len(place)}, or *")
    return [place[int(section)]]
