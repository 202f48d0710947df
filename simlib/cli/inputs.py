"""What the verbs are given: files of boards, plans and needs; settings and limits in words."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from simlib.errors import ScenarioError

if TYPE_CHECKING:
    import pandas as pd

    from simlib.rollout.plan import Plan
    from simlib.scenario import Scenario
    from simlib.verdict.needs import Needs

Verb = TypeVar("Verb", bound=Callable[..., int])


class Changed(NamedTuple):
    """How a board is changed: client libraries, proxies and servers by name, and settings."""

    library: tuple[str, ...]
    proxy: tuple[str, ...]
    server: tuple[str, ...]
    settings: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return not any(self)

    def of(self, board: Scenario) -> Scenario:
        """Return the board with the presets, and then with the settings."""
        from simlib.scenario import presets

        for named in ("library", "proxy", "server"):
            for name in getattr(self, named):
                board = board.replace(getattr(presets, named)(name))
        return board.replace(settings_of(self.settings))


def changing(verb: Verb) -> Verb:
    """Give a verb the options that change a board; it gets them as ``changed``."""

    @wraps(verb)
    def changed(
        library: tuple[str, ...],
        proxy: tuple[str, ...],
        server: tuple[str, ...],
        settings: tuple[str, ...],
        **rest: Any,
    ) -> int:
        return verb(changed=Changed(library, proxy, server, settings), **rest)

    return _with(
        changed,
        click.option("--library", multiple=True, metavar="NAME", help="A client library's own."),
        click.option("--proxy", multiple=True, metavar="NAME", help="A proxy's own settings."),
        click.option("--server", multiple=True, metavar="NAME", help="A server's own settings."),
        click.option(
            *("--set", "-s", "settings"),
            multiple=True,
            metavar="PATH=VALUE",
            help="Change a setting, as in a TOML file or in words: polling.interval_s='1 min'."
            " Without a value, take an optional one away. `simlib settings` lists them.",
        ),
    )


def running(**replications: int | None) -> Callable[[Verb], Verb]:
    """Give a verb the options of runs; it gets them as ``options``.

    Parameters
    ----------
    **replications : int or None, optional
        ``replications``: how many there are unless somebody says otherwise; None: as many as the
        verb's function chooses. Absent: the verb is one run.
    """
    many = click.option(
        *("--replications", "-n"),
        type=click.IntRange(min=2),
        default=replications.get("replications"),
        show_default=True,
        help="Independent runs, of which means and 95 % intervals are shown.",
    )
    given = (
        *([many] if replications else []),
        click.option("--seed", type=int, default=1, show_default=True),
        click.option("--engine", metavar="auto|simpy|compiled", default="auto", show_default=True),
        click.option("--quiet", "-q", is_flag=True, help="Show no progress bar."),
    )

    def decorated(verb: Verb) -> Verb:
        @wraps(verb)
        def run(seed: int, engine: str, quiet: bool, **rest: Any) -> int:
            options: dict[str, Any] = {"seed": seed, "engine": engine, "progress": not quiet}
            options |= {name: rest.pop(name) for name in replications}
            return verb(options=options, **rest)

        return _with(run, *given)

    return decorated


def _with(verb: Callable[..., int], *options: Callable[[Any], Any]) -> Any:
    """Return a verb with options, in the order in which its help shows them."""
    return reduce(lambda changed, option: option(changed), reversed(options), verb)


def board_of(name: str) -> Scenario:
    """Return the scenario of a TOML file, or an example by its name.

    Raises
    ------
    ScenarioError
        It is neither, or the scenario is not valid.
    """
    from simlib.scenario import Scenario

    return Scenario.load(name) if _is_file(name) else _example(Scenario, name)


def _is_file(name: str) -> bool:
    try:
        return bool(name) and (bool(Path(name).suffix) or Path(name).exists())
    except OSError:  # such as a name too long for the system: the reader says so
        return True


def _example(kind: Any, name: str) -> Any:
    """Return an example of scenarios or plans; what is none may be meant as a file."""
    try:
        return kind.example(name)
    except ScenarioError as error:
        what = kind.__name__.lower()
        rule = error.rule.replace("must be one of", "must be a TOML file, or one of")
        raise ScenarioError(what, name, rule) from None


def plan_of(name: str, settings: Sequence[str], options: Mapping[str, Any]) -> Plan:
    """Return the rollout plan of a file, or an example by its name, with some settings.

    Parameters
    ----------
    name : str
        A TOML file, or one of another tool.
    settings : sequence of str
        ``path=value`` each. What the other tool's file cannot say is given so, too.
    options : mapping
        What `Plan.load` takes beside settings, and a TOML file does not need.
    """
    from simlib.rollout.plan import Plan
    from simlib.scenario.documents import LANGUAGES

    changes = settings_of(settings)
    if Path(name).suffix.lower() in LANGUAGES:
        tables = nested(changes)
        for taken in tables.keys() & {"path", *options}:
            raise ScenarioError(taken, tables[taken], "must be no setting of a plan: see --help")
        return Plan.load(name, **options, **tables)
    plan = Plan.load(name, **options) if _is_file(name) else _example(Plan, name)
    return plan.replace(changes) if changes else plan


def needs_of(name: str | None, needs: Sequence[str]) -> Needs:
    """Return the needs of a TOML file, or none, with those that are given as ``name=limit``."""
    from simlib.verdict.needs import Needs

    changes = nested(settings_of(needs))
    if name is None:
        return Needs(**changes)
    given = Needs.load(name).model_dump(exclude_none=True)
    for section, inner in changes.items():
        is_section = isinstance(inner, dict) and isinstance(given.get(section), dict)
        given[section] = {**given[section], **inner} if is_section else inner
    return Needs(**given)


def settings_of(given: Sequence[str]) -> dict[str, Any]:
    """Return settings as `replace` takes them, from ``path=value`` each.

    Raises
    ------
    click.BadParameter
        One is no such pair, or a path comes twice, or beside its section.

    Examples
    --------
    >>> settings_of(["clients=500", "polling.interval_s=1 min", "sessions="])
    {'clients': 500, 'polling.interval_s': '1 min', 'sessions': None}
    """
    changes: dict[str, Any] = {}
    for pair in given:
        path, equals, text = (part.strip() for part in pair.partition("="))
        if not path or not equals:
            raise click.BadParameter(f"must be PATH=VALUE, got {pair!r}")
        if path in changes:
            raise click.BadParameter(f"must be given once: {path}")
        changes[path] = value_of(text) if text else None
    for path in changes:
        if any(other.startswith(f"{path}.") for other in changes):
            raise click.BadParameter(f"must be given as a whole or by its settings: {path}")
    return changes


def value_of(text: str) -> Any:
    """Return a value as a TOML file has it, or else the text itself.

    Examples
    --------
    >>> value_of("30"), value_of("true"), value_of('["a", 1]'), value_of("30 s")
    (30, True, ['a', 1], '30 s')
    """
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if found.keys() == {"value"} else text


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as tables within tables.

    Examples
    --------
    >>> nested({"flag.propagation": "polled", "flag.every_s": 60, "kill_s": 5})
    {'flag': {'propagation': 'polled', 'every_s': 60}, 'kill_s': 5}
    """
    tables: dict[str, Any] = {}
    for path, value in changes.items():
        *sections, name = path.split(".")
        place = tables
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return tables


def values_of(over: Sequence[str]) -> dict[str, list[Any]]:
    """Return the grid of a sweep from ``path=value,value,...`` each.

    A text with a bracket is a list as TOML has it.

    Examples
    --------
    >>> values_of(["transport=polling,websocket", "clients=100,200", "network.rtt_s=20 ms,0.1"])
    {'transport': ['polling', 'websocket'], 'clients': [100, 200], 'network.rtt_s': ['20 ms', 0.1]}
    """
    grid: dict[str, list[Any]] = {}
    for path, text in settings_of(over).items():
        if isinstance(text, str):
            grid[path] = [value_of(part.strip()) for part in text.split(",")]
        else:
            grid[path] = text if isinstance(text, list) else [text]
    return grid


class Limit(NamedTuple):
    """A limit of a metric: it may be at most so large, or must be at least so large.

    Attributes
    ----------
    text : str
        As it was given.
    metric : str
    is_most : bool
    value : float
    """

    text: str
    metric: str
    is_most: bool
    value: float

    def is_missed_by(self, value: float) -> bool:
        """Say whether a value does not keep it; what is no number does not."""
        return not (value <= self.value if self.is_most else value >= self.value)


def limits_of(given: Sequence[str]) -> list[Limit]:
    """Return limits from ``metric<=value`` and ``metric>=value``; durations may be in words.

    Raises
    ------
    click.BadParameter
        One is no limit, or there is no such metric.

    Examples
    --------
    >>> limits_of(["latency_p95_s<=1.5 min"])[0].value
    90.0
    """
    limits = []
    for text in given:
        is_most = "<=" in text
        metric, sign, value = (part.strip() for part in text.partition("<=" if is_most else ">="))
        if not sign or not metric:
            raise click.BadParameter(f"must be METRIC<=VALUE or METRIC>=VALUE, got {text!r}")
        check_metric(metric)
        limits.append(Limit(text, metric, is_most, amount_of(metric, value)))
    return limits


def check_metric(metric: str) -> None:
    """Raise `click.BadParameter` unless runs have such a metric."""
    from simlib.run import QUANTITIES
    from simlib.scenario.suggestions import METRIC_ALIASES, hint

    if metric not in QUANTITIES:
        meant = hint(metric, QUANTITIES, METRIC_ALIASES)
        raise click.BadParameter(f"{metric}: must be among {', '.join(QUANTITIES)}{meant}")


def amount_of(metric: str, text: str) -> float:
    """Return a metric's value in its unit: a number, a duration or a size in words, a share in %.

    Raises
    ------
    click.BadParameter
        It is none, or not finite.
    """
    from simlib.scenario.units import parse_duration_s, parse_size_bytes, without_unit

    readers: dict[str, Callable[[Any], Any]] = {"s": parse_duration_s, "bytes": parse_size_bytes}
    if is_share(metric):
        readers[""] = percent_of
    reader = readers.get("" if is_share(metric) else without_unit(metric)[1].partition("/")[0])
    for read in (float, reader):
        try:
            value = float(read(text)) if read is not None else math.nan
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    raise click.BadParameter(f"{metric}: must be a number in the metric's unit, got {text!r}")


def percent_of(text: str) -> float:
    """Return what a percentage is of a whole.

    Raises
    ------
    ValueError
        It is no finite percentage.

    Examples
    --------
    >>> percent_of("12.5 %")
    0.125
    """
    number, sign, rest = text.partition("%")
    value = float(number) / 100.0
    if not sign or rest.strip() or not math.isfinite(value):
        raise ValueError(f"must be a percentage, got {text!r}")
    return value


def is_share(metric: str) -> bool:
    """Say whether a metric is a part of a whole, which may be given in %."""
    from simlib.core.measures import MEASURES

    return MEASURES[metric].is_share if metric in MEASURES else metric.endswith("_frac")


def cell_of(table: pd.DataFrame, metric: str) -> Any:
    """Return a metric's row of a table with a row a quantity, or None if it has no value there."""
    rows = table[table["quantity"] == metric]
    return None if rows.empty else rows.iloc[0]
