"""What each setting is: its unit, default, range and meaning, and its name in other tools.

All of it is said on the field itself, in the models of scenarios and plans; this module reads it
from there, for `help`, for ``sl.settings()`` and for the page in ``data/settings.md``. A field's
docstring may end with ``Elsewhere:`` and names in other tools, each with its tool, and the unit
there if it is another: ``pingInterval (Socket.IO, ms); ping_interval (Python websockets)``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import annotated_types
import pydantic
from pydantic.fields import FieldInfo

from simlib.core.faults import FAULTS
from simlib.core.reconnect import POLICIES
from simlib.errors import ScenarioError
from simlib.scenario.suggestions import plain
from simlib.scenario.terms import term_of
from simlib.scenario.units import without_unit

_LONGEST = 100
"""Letters of a name for which alike ones are looked for."""
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "a table",
}


class Setting(NamedTuple):
    """A setting of a scenario or a plan.

    Attributes
    ----------
    path : str
        As `Scenario.replace` takes it; ``*`` stands for the number of an item of a list.
    unit : str
        Empty if it has none.
    default : str
        ``"needed"`` if it must be given, ``"absent"`` if it may be left out and has no value then.
    range : str
        What values it takes.
    meaning : str
        In one or two sentences.
    elsewhere : tuple of str
        What it is called in other tools.
    """

    path: str
    unit: str
    default: str
    range: str
    meaning: str
    elsewhere: tuple[str, ...]


def settings_of(model: type[pydantic.BaseModel], within: str = "") -> Iterator[Setting]:
    """Yield every setting of a model, and of the sections in it.

    Parameters
    ----------
    model : type
        `Scenario`, `Plan` or one of their sections.
    within : str, optional
        The path of the section.

    Examples
    --------
    >>> from simlib.scenario.model import Polling
    >>> first = next(settings_of(Polling, "polling"))
    >>> first.path, first.unit, first.default, first.range
    ('polling.interval_s', 's', '30', '> 0')
    """
    for name, field in model.model_fields.items():
        path = f"{within}.{name}" if within else name
        types, limits = _taken_apart(field)
        section: Any = next((one for one in types if _is_section(one)), None)
        items: Any = next((get_args(one)[0] for one in types if get_origin(one) is tuple), None)
        if section is None and not _is_section(items):
            yield _setting(model, path, field, types, limits)
            continue
        if field.description or field.default is None:
            default = "absent" if field.default is None else "as below"
            own = ((section or items).__doc__ or "").partition("\n\n")[0]
            meaning, names = _split(field.description or own)
            if items is not None:
                default = f"{len(field.default)} of them" if field.default else "none"
            yield Setting(path, "", default, _range(types, limits), meaning, names)
        yield from settings_of(section or items, path if section else f"{path}.*")


def _setting(
    model: type[pydantic.BaseModel], path: str, field: FieldInfo, types: list[Any], limits: Any
) -> Setting:
    name = path.rpartition(".")[2]
    _, unit = without_unit(name)
    said, names = _split(field.description or "")
    meaning = " ".join(filter(None, (said, _read_by(model, name))))
    if field.is_required():
        default = "needed"
    else:
        default = _shown(field.get_default(call_default_factory=True))
    return Setting(path, unit, default, _range(types, limits), meaning, names)


def _is_section(given: Any) -> bool:
    return isinstance(given, type) and issubclass(given, pydantic.BaseModel)


def _taken_apart(field: FieldInfo) -> tuple[list[Any], list[Any]]:
    """Return the types of a field without their annotations, and all annotations in a row."""
    types: list[Any] = []
    limits: list[Any] = list(field.metadata)

    def take(given: Any) -> None:
        if get_origin(given) is Annotated:
            inner, *metadata = get_args(given)
            for one in metadata:
                limits.extend(one.metadata if isinstance(one, FieldInfo) else [one])
            take(inner)
        elif get_origin(given) in (Union, UnionType):
            for one in get_args(given):
                take(one)
        elif given is not NoneType:
            types.append(given)

    take(field.annotation)
    return types, limits


def _range(types: list[Any], limits: list[Any]) -> str:
    """Return what values a setting takes, in words."""
    bounds = {
        sign: getattr(limit, name)
        for limit in limits
        for kind, name, sign in (
            (annotated_types.Gt, "gt", ">"),
            (annotated_types.Ge, "ge", ">="),
            (annotated_types.Lt, "lt", "<"),
            (annotated_types.Le, "le", "<="),
        )
        if isinstance(limit, kind)
    }
    # Limits that keep numbers finite say nothing to a reader: ten years, a billion.
    spoken = [f"{sign} {bound:g}" for sign, bound in bounds.items() if abs(bound) <= 1e6]
    words = []
    for one in types:
        if get_origin(one) is Literal:
            words.append(", ".join(str(value) for value in get_args(one)))
        elif get_origin(one) is tuple:
            words.append("a list")
        elif not (one is float and spoken):
            words.append(_KINDS.get(get_origin(one) or one, ""))
    return " ".join(filter(None, [" or ".join(words), " and ".join(spoken)]))


def _read_by(model: type[pydantic.BaseModel], name: str) -> str:
    """Return which kinds of faults, or which policies, a setting belongs to."""
    kinds: list[str] = []
    if model.__name__ == "Fault":
        kinds = [k for k, row in FAULTS.items() if name in (*row.needs, *row.may_have)]
        return f"Of {', '.join(kinds)}." if kinds else ""
    if model.__name__ == "Reconnect":
        kinds = [k for k, row in POLICIES.items() if name in row.reads]
        return f"Read by {', '.join(kinds)}." if kinds else ""
    return ""


def _split(description: str) -> tuple[str, tuple[str, ...]]:
    """Return a description in one line, without reStructuredText's marks, and the names elsewhere.

    Examples
    --------
    >>> _split("Who ``pings``. Elsewhere: ping (A, ms); beat (B).")
    ('Who pings.', ('ping (A, ms)', 'beat (B)'))
    """
    text = " ".join(description.replace("``", "").replace("`", "").split())
    meaning, _, names = text.partition("Elsewhere: ")
    found = [name.strip() for name in names.removesuffix(".").split(";")]
    return meaning.strip(), tuple(filter(None, found))


def _shown(value: Any) -> str:
    """Return a default as a person writes it."""
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_shown, value)) + "]" if value else "none"
    if isinstance(value, Mapping):
        return "none" if not value else str(value)
    return str(value)


def unknown_field(model: type[pydantic.BaseModel], path: str, value: Any) -> ScenarioError:
    """Return the error for a path that is no field, with the field that may have been meant.

    A field of a list's item is none either, where only whole lists can be replaced.

    Parameters
    ----------
    model : type
        `Scenario` or `Plan`.
    path : str
        Items of lists have numbers.
    value : object
        What was given for it.

    Examples
    --------
    >>> from simlib.scenario.model import Scenario
    >>> print(unknown_field(Scenario, "faults.0.start", 60))
    faults.0.start: is not a known field; did you mean faults.0.start_s?, got 60
    """
    given_in, is_item, _ = _pattern(path).partition(".*.")
    if is_item and _pattern(path) in _field_paths(model):
        rule = f"must be given with the whole of {given_in}: no item is replaced alone"
        return ScenarioError(path, value, rule)
    section, _, name = path.rpartition(".")
    of_section = model.model_fields[section].annotation if section in model.model_fields else None
    instead = getattr(of_section, "removed_fields", {}).get(name)
    if instead is not None:
        return ScenarioError(path, value, f"is not read any more: {instead}")
    near = _nearest_field(model, path)
    is_spelt_otherwise = near is not None and near in path
    if term_of(name) is not None and not elsewhere(model, path) and not is_spelt_otherwise:
        hint = f'; sl.settings("{name}") says what comes nearest'
        return ScenarioError(path, value, f"is not a known field{hint}")
    hint = f"; did you mean {near}?" if near else ""
    return ScenarioError(path, value, f"is not a known field{hint}")


def _nearest_field(model: type[pydantic.BaseModel], path: str) -> str | None:
    """Return the field whose path, name without unit, name elsewhere or spelling is that given."""
    section, _, name = path.rpartition(".")
    within = _pattern(section)
    every: dict[str, list[str]] = {}
    for known in _field_paths(model):
        every.setdefault(known.rpartition(".")[2], []).append(known)
    beside = {
        last: known for last, of_it in every.items() for known in of_it if _is_in(known, within)
    }
    of_others = elsewhere(model, path)
    unit_left_out = [last for last in beside if without_unit(last)[0] == name]
    near = [
        *(known for known in _field_paths(model) if plain(known) == plain(path)),
        *(known for known in every.get(name, ()) if not _is_in(known, within)),
        *(known for known in of_others if _is_in(known, within)),
        *(beside[last] for last in unit_left_out or _alike(name, beside)),
        *of_others,
        *(known for last in _alike(name, every) for known in every[last]),
    ]
    if not near:
        return None
    last = near[0].rpartition(".")[2]
    return f"{section}.{last}" if section and _is_in(near[0], within) else near[0]


def _pattern(path: str) -> str:
    """Return a path with ``*`` for the numbers of items."""
    return ".".join("*" if step.isdecimal() else step for step in path.split("."))


def _is_in(path: str, section: str) -> bool:
    return path.rpartition(".")[0] == section


def _alike(name: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name[:_LONGEST], known, n=1)


@cache
def _field_paths(model: type[pydantic.BaseModel]) -> tuple[str, ...]:
    """Return the paths of all settings and sections, items of lists as ``*``."""
    steps = [one.path.split(".") for one in settings_of(model)]
    paths = (".".join(one[:depth]) for one in steps for depth in range(1, len(one) + 1))
    return tuple(dict.fromkeys(path for path in paths if not path.endswith("*")))


def elsewhere(model: type[pydantic.BaseModel], name: str) -> list[str]:
    """Return the paths of the settings that have a name in another tool.

    Parameters
    ----------
    model : type
        `Scenario` or `Plan`.
    name : str
        The name, or a path that ends with it.

    Examples
    --------
    >>> from simlib.scenario.model import Scenario
    >>> elsewhere(Scenario, "polling.refetchInterval")
    ['polling.interval_s']
    """
    return _by_name_elsewhere(model).get(plain(name.rpartition(".")[2]), [])


@cache
def _by_name_elsewhere(model: type[pydantic.BaseModel]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in settings_of(model):
        for name in {plain(part) for each in one.elsewhere for part in names_in(each)}:
            found.setdefault(name, []).append(one.path)
    return found


def names_in(said: str) -> list[str]:
    """Return the names before the tool that has them.

    Examples
    --------
    >>> names_in("SO_SNDBUF, SO_RCVBUF (sockets)"), names_in("backlog (listen(2), nginx)")
    (['SO_SNDBUF', 'SO_RCVBUF'], ['backlog'])
    """
    return said.partition(" (")[0].split(", ")


def text_of(settings: list[Setting]) -> str:
    """Return settings as text: a line with path, default and range, then what it means.

    Examples
    --------
    >>> print(text_of([Setting("clients", "", "200", ">= 0", "Clients at first.", ("users",))]))
    clients = 200    >= 0
        Clients at first.
        Elsewhere: users
    """
    lines = []
    for one in settings:
        unit = f" {one.unit}" if one.unit and re.match(r"[\d.\[]", one.default) else ""
        what = one.range if unit or not one.unit else f"{one.range}, in {one.unit}"
        lines.append(f"{one.path} = {one.default}{unit}    {what}".rstrip())
        lines += _wrapped(one.meaning)
        if one.elsewhere:
            lines += _wrapped(f"Elsewhere: {', '.join(one.elsewhere)}")
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 96, initial_indent="    ", subsequent_indent="    ")
