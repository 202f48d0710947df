"""A rollout plan: who is enrolled when, how tabs hear of it, what is watched, and the way back.

Frozen and strict as a scenario is; TOML in, TOML out. `rollout.formats` reads and writes what other
tools have.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from simlib.core.assignment import FlagRules, Reach
from simlib.core.measures import MEASURES, METRICS
from simlib.core.protocol import TRANSPORT_NAMES, Transport
from simlib.errors import ScenarioError
from simlib.rollout import exchange
from simlib.rollout.decision import Limits
from simlib.scenario.documents import LANGUAGES
from simlib.scenario.fields import (
    FieldError,
    Fraction,
    NotNegative,
    Positive,
    Section,
    read_toml,
    scenario_error,
)
from simlib.scenario.formats import writer

Percentage = Annotated[float, Field(ge=0, le=100)]


class Stage(Section):
    """A percentage, and how long it is watched."""

    percent: Percentage
    """Users who are enrolled, %."""
    bake_s: Positive
    """How long the stage lasts when all is well, seconds."""
    gate_s: NotNegative = 0.0
    """How long somebody takes to approve it before it begins, seconds."""


class Bucketing(Section):
    """Who is enrolled: see `core.bucketing`."""

    rule: Literal[
        "guide",
        "guide_unwrapped",
        "java_abs",
        "floor_mod",
        "unleash",
        "growthbook",
        "growthbook_v1",
        "growthbook_experiment",
        "launchdarkly",
        "flipt",
        "flipt_variant",
    ] = "floor_mod"
    """From a user's id to the percentage from which on the user is enrolled."""
    flag: Annotated[str, Field(min_length=1, max_length=100)] = "realtime-websocket"
    """The flag's name, which salts the rules that have a salt."""
    ids: Literal["uuid4", "email", "number", "file"] = "uuid4"
    """What the users' ids look like, or that they are in a file."""
    ids_file: Annotated[str, Field(min_length=1)] | None = None
    """A text file with an id on each line, which clients have in that order; when there are more
    clients than lines, users come again."""
    experiment_percent: Percentage | None = None
    """Users in the treatment of an A/B experiment that decides as well; absent: there is none."""
    server_percent: Percentage | None = None
    """Users for whom a flag of the server's says push, which decides as well: 100 is on for all,
    0 off; absent: there is none."""
    deciders: Literal["ramp", "and", "or"] = "ramp"
    """What enrols a user: the ramp alone, all deciders there are, or any of them."""

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.ids == "file") != (self.ids_file is not None):
            if self.ids_file is None:
                raise FieldError("ids_file", None, 'must be given when ids is "file"')
            raise FieldError("ids_file", self.ids_file, f'has no meaning when ids is "{self.ids}"')
        others = ("experiment_percent", "server_percent")
        given = [name for name in others if getattr(self, name) is not None]
        if self.deciders == "ramp" and given:
            rule = "has no meaning when the ramp alone decides"
            raise FieldError(given[0], getattr(self, given[0]), rule)
        if self.deciders != "ramp" and not given:
            rule = f'must be given, or {others[1]}, when deciders is "{self.deciders}"'
            raise FieldError(others[0], None, rule)
        return self


class Flag(Section):
    """How the percentage reaches a tab: see `core.assignment`."""

    reach: Literal["session", "build", "polled", "pushed"] = "polled"
    """At the start of a session; the same from a page that has to be built and deployed; by
    reading it every so often; over the open socket."""
    every_s: Positive | None = None
    """From one reading to the next, where it is polled, seconds."""
    delay_s: NotNegative = 0.0
    """From a change to what a tab can read, seconds; of a build, how long build and deploy take."""
    cached_frac: Fraction = 1.0
    """Sessions that have the flag at hand when their page is mounted, where that alone counts."""
    jitter_s: NotNegative = 0.0
    """A tab that has read a new percentage acts up to so much later, seconds."""

    @pydantic.model_validator(mode="after")
    def _fits_its_reach(self) -> Self:
        if (self.reach == "polled") != (self.every_s is not None):
            if self.every_s is None:
                raise FieldError("every_s", None, 'must be given when reach is "polled"')
            raise FieldError(
                "every_s", self.every_s, f'has no meaning when reach is "{self.reach}"'
            )
        if self.reach == "build" and self.delay_s == 0.0:
            raise FieldError("delay_s", 0.0, 'must be > 0 when reach is "build"')
        at_start = self.reach in ("session", "build")
        if not at_start and self.cached_frac != 1.0:
            rule = f'has no meaning when reach is "{self.reach}"'
            raise FieldError("cached_frac", self.cached_frac, rule)
        if at_start and self.jitter_s != 0.0:
            rule = f'has no meaning when reach is "{self.reach}": no open tab hears of a change'
            raise FieldError("jitter_s", self.jitter_s, rule)
        return self


class Rollback(Section):
    """The way back when a guardrail, or somebody, says so."""

    percents: Annotated[
        tuple[Percentage, ...],
        Field(min_length=1, max_length=100),
        pydantic.BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given),
    ] = (0.0,)
    """The percentages of the way back; the last is where it ends."""
    every_s: Positive | None = None
    """From one of them to the next, seconds; where there is more than one."""
    sockets: Literal["kept", "closed", "drained"] = "kept"
    """What the server does with the sockets of those who are no longer enrolled: nothing, so that
    it is for the tab to act; close them at once; or close them one by one over the window."""
    window_s: Positive | None = None
    """How long a drain takes, seconds."""

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Self:
        for before, after in zip(self.percents, self.percents[1:], strict=False):
            if after >= before:
                raise FieldError("percents", list(self.percents), "must fall from each to the next")
        if (len(self.percents) > 1) != (self.every_s is not None):
            if self.every_s is None:
                raise FieldError(
                    "every_s", None, "must be given when there is more than one percentage"
                )
            raise FieldError("every_s", self.every_s, "has no meaning with one percentage")
        if (self.sockets == "drained") != (self.window_s is not None):
            if self.window_s is None:
                raise FieldError("window_s", None, 'must be given when sockets is "drained"')
            rule = f'has no meaning when sockets is "{self.sockets}"'
            raise FieldError("window_s", self.window_s, rule)
        return self


def _stages(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


_DEFAULT_STAGES = tuple(Stage(percent=percent, bake_s=600.0) for percent in (10, 25, 50, 100))


class Decision(Section):
    """What is made of failed checks: see `rollout.decision`."""

    rule: Literal["flagger", "argo"] = "flagger"
    """Flagger's, which counts every failed check of the whole rollout; or that of an Argo Rollouts
    analysis, which counts those of each guardrail in each stage."""
    failures: Annotated[int, Field(ge=-1, le=100_000)] = 5
    """Failed checks that roll back (flagger: the tick after there are so many); argo's
    ``failureLimit``: so many are borne, with -1 any number."""
    inconclusive: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Checks without a verdict that are borne before somebody has to look; absent: none (argo
    alone)."""
    errors: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Checks in a row that found no data and are borne; absent: 4 (argo alone)."""
    analysis: Literal["step", "background"] | None = None
    """Whether each stage is counted for itself, or all together as an analysis in the background
    does; absent: step (argo alone)."""

    @pydantic.model_validator(mode="after")
    def _fits_its_rule(self) -> Self:
        for name in ("inconclusive", "errors", "analysis"):
            given = getattr(self, name)
            if self.rule == "flagger" and given is not None:
                raise FieldError(name, given, f'has no meaning when rule is "{self.rule}"')
        if self.rule == "flagger" and self.failures < 1:
            raise FieldError("failures", self.failures, 'must be >= 1 when rule is "flagger"')
        return self


class Guardrail(Section):
    """A metric that is checked, and what it has to be."""

    metric: Literal[METRICS]  # type: ignore[valid-type]
    """Of those who are enrolled; of the server, utilisation and memory."""
    below: float | None = None
    """The check fails when the value is more than this."""
    above: float | None = None
    """The check fails when the value is less than this."""
    times_control: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """The check fails when the value is more than so many times the control cohort's, or less if
    that is below 1. What compares with the control cohort passes at 100 % once nobody is left
    there."""
    fails_beyond: float | None = None
    """Between the limit and this a check has no verdict, and it fails beyond this alone; in the
    limit's unit. Absent: it fails beyond the limit."""
    delay_s: NotNegative = 0.0
    """From the start of a stage, or of an analysis in the background, until it is first checked,
    seconds."""
    judge: Literal["mann_whitney", "sequential"] | None = None
    """The check fails when this test finds the enrolled worse than the control cohort: Kayenta's
    rank test of the looks so far, or one of all observations that stays valid at every look."""
    worse: Literal["higher", "lower"] = "higher"
    """Which way is worse, for a judge."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """By how much worse than control is borne by a judge, in the metric's unit: the test is then
    one of inferiority by more than that."""
    min_sample: Annotated[int, Field(ge=1, le=10**9)] = 1
    """Observations that a check needs: deliveries for latencies, seconds of presence else; looks
    for a rank test."""
    no_data: Literal["pass", "fail", "hold"] = "hold"
    """What a check with fewer says: Flagger's fails; hold: the stage lasts longer."""

    @pydantic.model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        asked = [
            name
            for name in ("below", "above", "times_control", "judge")
            if getattr(self, name) is not None
        ]
        if len(asked) != 1:
            rule = "must be one of below, above, times_control and judge"
            raise FieldError("below" if not asked else asked[1], asked or None, rule)
        if MEASURES[self.metric].scope == "server" and asked[0] in ("times_control", "judge"):
            rule = f"must be below or above: {self.metric} is the server's, no cohort has its own"
            raise FieldError(asked[0], getattr(self, asked[0]), rule)
        if self.judge is None and self.margin > 0.0:
            raise FieldError("margin", self.margin, "has no meaning without a judge")
        if self.judge == "sequential" and MEASURES[self.metric].sequential is None:
            counted = sorted(name for name in METRICS if MEASURES[name].sequential)
            rule = f"must be mann_whitney, or the metric one of {', '.join(counted)}"
            raise FieldError("judge", self.judge, rule)
        if self.fails_beyond is not None:
            if self.judge is not None:
                raise FieldError("fails_beyond", self.fails_beyond, "has no meaning for a judge")
            limit, is_upper = self.limit
            if not (self.fails_beyond > limit if is_upper else self.fails_beyond < limit):
                rule = f"must be {'>' if is_upper else '<'} {asked[0]} ({limit:g})"
                raise FieldError("fails_beyond", self.fails_beyond, rule)
        return self

    @property
    def limit(self) -> tuple[float, bool]:
        """Its threshold, or factor, and whether more than that is bad."""
        if self.below is not None:
            return self.below, True
        if self.above is not None:
            return self.above, False
        assert self.times_control is not None
        return self.times_control, self.times_control >= 1.0

    @property
    def beyond(self) -> float:
        """Past what a check fails: `fails_beyond`, or its threshold or factor itself."""
        return self.limit[0] if self.fails_beyond is None else self.fails_beyond

    @property
    def compares(self) -> bool:
        """Whether it takes a control cohort."""
        return self.times_control is not None or self.judge is not None


class Variant(Section):
    """What a cohort gets: the scenario with a transport and changes of its own.

    Examples
    --------
    >>> faster = {"transport": "polling", "changes": {"polling.interval_s": 10}}
    >>> plan = Plan(flag={"reach": "session"}, treatment=faster)
    >>> plan.replace({"treatment.changes.polling.interval_s": "5 s"}).treatment.changes
    {'polling.interval_s': '5 s'}
    """

    transport: Literal[TRANSPORT_NAMES]  # type: ignore[valid-type]
    """How changes reach its clients."""
    changes: Annotated[dict[str, Any], pydantic.AfterValidator(deepcopy)] = Field(
        default_factory=dict
    )
    """Settings of the scenario that its clients have otherwise: dotted paths and their values, as
    `Scenario.replace` takes them. They are checked when the plan meets a scenario, and may be of
    ``polling``, ``websocket``, ``notify``, ``heartbeat``, ``reconnect`` and ``fallback`` alone."""

    @pydantic.model_validator(mode="after")
    def _says_all(self) -> Self:
        for path, value in self.changes.items():
            if path == "transport":
                rule = "must be given as the transport of the variant"
                raise FieldError(f'changes."{path}"', value, rule)
            if value is None:
                rule = "must be a value: a file cannot say that a setting is absent"
                raise FieldError(f'changes."{path}"', None, rule)
        return self

    @pydantic.model_serializer(mode="wrap")
    def _without_empty_changes(self, handler: Any) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name != "changes" or value}

    def __hash__(self) -> int:
        return hash((self.transport, *sorted(self.changes)))


def _transport(variant: Variant) -> int:
    return int(Transport[variant.transport.upper()])


class Plan(Section):
    """A rollout: stages, and everything that decides about them.

    Examples
    --------
    >>> plan = Plan(flag={"reach": "polled", "every_s": "1 min"})
    >>> [stage.percent for stage in plan.stages], plan.length_s
    ([10.0, 25.0, 50.0, 100.0], 2400.0)
    >>> Plan(flag={"reach": "session"}, stages=[{"percent": 50, "bake_s": 30}])
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: stages.0.bake_s: must be >= check_every_s (60), got 30.0
    """

    name: Annotated[str, Field(min_length=1, max_length=100)] = "plan"
    """What this is, for tables and titles."""
    start_s: NotNegative = 0.0
    """When the first stage begins, or its gate, seconds from the start of the run."""
    check_every_s: Positive = 60.0
    """From one check of the guardrails to the next, seconds."""
    stages: Annotated[
        tuple[Stage, ...],
        Field(min_length=1, max_length=100),
        pydantic.BeforeValidator(_stages),
    ] = _DEFAULT_STAGES
    """One after the other; the percentage never falls."""
    control: Variant = Variant(transport="polling")
    """What those get who are not enrolled."""
    treatment: Variant = Variant(transport="websocket")
    """What those get who are enrolled."""
    bucketing: Bucketing = Bucketing()
    flag: Flag
    rollback: Rollback = Rollback()
    decision: Decision = Decision()
    guardrails: Annotated[
        tuple[Guardrail, ...], Field(max_length=32), pydantic.BeforeValidator(_stages)
    ] = ()
    """What is checked; none: the stages follow each other whatever happens."""
    kill_s: NotNegative | None = None
    """When somebody pulls the kill switch, seconds from the start of the run; absent: never."""

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise scenario_error(error, _unknown) from None

    @pydantic.model_validator(mode="after")
    def _holds_together(self) -> Self:
        before = 0.0
        for number, stage in enumerate(self.stages):
            path = f"stages.{number}"
            if stage.percent < before:
                rule = f"must be >= the stage's before ({before:g}): a percentage falls by rollback"
                raise FieldError(f"{path}.percent", stage.percent, rule)
            if stage.bake_s < self.check_every_s:
                rule = f"must be >= check_every_s ({self.check_every_s:g})"
                raise FieldError(f"{path}.bake_s", stage.bake_s, rule)
            before = stage.percent
        if self.rollback.sockets != "kept" and self.control.transport == self.treatment.transport:
            same = "the same" if self.control == self.treatment else "one transport"
            rule = f"must be kept: both cohorts get {same}, so nobody's socket is to be closed"
            raise FieldError("rollback.sockets", self.rollback.sockets, rule)
        for number, guardrail in enumerate(self.guardrails):
            if guardrail.compares and self.stages[0].percent >= 100.0:
                rule = "must be one that needs no control cohort: the first stage enrols everybody"
                raise FieldError(f"guardrails.{number}.metric", guardrail.metric, rule)
            whole = self.decision.analysis == "background"
            longest_s = self.length_s if whole else max(stage.bake_s for stage in self.stages)
            if guardrail.delay_s >= longest_s:
                what = "the plan's length" if whole else "the longest bake_s"
                rule = f"must be < {what} ({longest_s:g}): it would never be checked"
                raise FieldError(f"guardrails.{number}.delay_s", guardrail.delay_s, rule)
        return self

    @property
    def length_s(self) -> float:
        """How long it takes when all is well, seconds."""
        return sum(stage.gate_s + stage.bake_s for stage in self.stages)

    @property
    def limits(self) -> Limits:
        """What its decision bears."""
        decision = self.decision
        failures = math.inf if decision.failures < 0 else decision.failures
        errors = 4 if decision.errors is None else decision.errors
        return Limits(failures, decision.inconclusive or 0, errors)

    @property
    def flag_rules(self) -> FlagRules:
        """What the engines know of it."""
        reach = {"polled": Reach.POLLED, "pushed": Reach.PUSHED}.get(self.flag.reach, Reach.SESSION)
        return FlagRules(
            reach=int(reach),
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
        **settings: Any,
    ) -> Plan:
        """Read a plan from a file: TOML, or what another tool has.

        A file that ends in ``.yaml``, ``.yml`` or ``.json`` is in one of the formats of
        `rollout.formats.FORMATS`, and is recognised by what it holds; what has no meaning here, and
        what is refused, is at the head of that format's module, such as `rollout.formats.flagger`.
        Any other is TOML, and says everything.

        Parameters
        ----------
        path : str or Path
        metrics : mapping, optional
            What a foreign metric is: one of `METRICS`, or a pair of that and the factor to its
            unit, such as ``{"request-duration": ("latency_p99_s", 0.001)}`` for milliseconds. Our
            own names are known.
        gate_s : float or str, optional
            How long somebody takes to approve, seconds, where the file has them asked.
        last_s : float or str, optional
            How long the last stage is watched, seconds, where the file does not say; absent: for
            one check.
        name : str, optional
            Which plan is meant, where the file holds several; the plan's name, where the file says
            none.
        **settings
            Fields that the file cannot say: ``flag`` in any case; ``bucketing``, ``rollback``,
            ``start_s``, ``kill_s`` as for a plan. Where nothing is checked also ``check_every_s``
            and ``decision``.

        Raises
        ------
        ScenarioError
            The file is missing or cannot be read, says what a plan cannot, or lacks what the
            caller has to say.

        Examples
        --------
        >>> flag = {"reach": "polled", "every_s": 60}
        >>> plan = Plan.load("data/plans/flagger_canary.yaml", flag=flag)
        >>> [stage.percent for stage in plan.stages], plan.decision.failures
        ([10.0, 25.0, 50.0, 100.0], 5)
        """
        given = exchange.ImportOptions(metrics, gate_s, last_s, name)
        if name is not None:
            settings["name"] = name
        suffix = Path(path).suffix.lower() if isinstance(path, str | Path) else ""
        if suffix not in LANGUAGES:
            others = {"metrics": metrics, "gate_s": gate_s, "last_s": last_s, **settings}
            for name, value in others.items():
                if value is not None:
                    rule = "has no meaning for a TOML file, which says everything: use replace"
                    raise ScenarioError(name, value, rule)
            return cls(**read_toml(path)[1])
        return cls(**exchange.read(Path(path), given, settings))

    def dump(self, format: str = "toml") -> str:  # noqa: A002  (what it is)
        """Return the plan as a file's text.

        Parameters
        ----------
        format : str
            ``toml``, or a name in `rollout.formats.FORMATS`. TOML says everything: `Plan.load` of
            it gives an equal plan. The others leave out what they cannot say and the caller of
            `Plan.load` says again (``flag`` and what else is named at `rollout.formats.flagger`'s
            ``write`` and its like): with the same settings, `Plan.load` gives an equal plan.

        Raises
        ------
        ScenarioError
            The format is not known, or cannot say what the plan says: names the field.

        Examples
        --------
        >>> plan = Plan(flag={"reach": "pushed"}, kill_s=60.0)
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
            Dotted paths and their new values, such as ``{"rollback.sockets": "closed"}``; a place
            in a list is its number, from 0, or ``*`` for all of them. None takes an optional field
            away. What follows ``treatment.changes.`` is one path of the scenario.
        **named
            The same for fields of the top level.

        Raises
        ------
        ScenarioError
            A path does not exist, or the new plan does not hold together.

        Examples
        --------
        >>> plan = Plan(flag={"reach": "session"}).replace({"stages.*.bake_s": "1 h"})
        >>> plan.replace({"stages.3.bake_s": "1 min"}).length_s
        10860.0
        """
        values = self.model_dump(mode="json", exclude_none=True)
        for path, value in {**(changes or {}), **named}.items():
            # The keys of a variant's changes are dotted paths themselves.
            cohort, is_inside, key = path.partition(".changes.")
            *sections, name = [cohort, "changes", key] if is_inside else path.split(".")
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
        return type(self)(**values)


def _inside(place: Any, section: str, path: str) -> list[Any]:
    """What a part of a dotted path leads to."""
    if isinstance(place, dict):
        return [place.setdefault(section, {})]
    if not isinstance(place, list):
        raise ScenarioError(path, section, "must be a field of a section")
    if section == "*":
        return list(place)
    if not section.isdecimal() or int(section) >= len(place):
        raise ScenarioError(path, section, f"must be a number below {len(place)}, or *")
    return [place[int(section)]]


def _unknown(path: object, value: Any) -> ScenarioError:
    path = str(path)
    section, _, name = path.rpartition(".")
    known = list(Plan.model_fields)
    if section in Plan.model_fields:
        annotation = Plan.model_fields[section].annotation
        if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
            known = list(annotation.model_fields)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {'.'.join(filter(None, (section, near[0])))}?" if near else ""
    return ScenarioError(path, value, f"is not a known field{hint}")
