"""What the models of scenarios and plans are made of: types of fields, sections, rules, errors."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
import warnings
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pydantic
from pydantic import ConfigDict, Field

from simlib.core.reconnect import MOST_DELAYS
from simlib.errors import ScenarioError
from simlib.renamed import warn
from simlib.scenario.display import abridged, page, settings_html
from simlib.scenario.places import refuse_foreign, refuse_other_kind
from simlib.scenario.reading import MOST_BYTES, read_text
from simlib.scenario.settings import settings_of, text_of, unknown_field
from simlib.scenario.suggestions import hint, number_hint, value_hint
from simlib.scenario.units import Bytes, Seconds, without_unit

MOST_CLIENTS = 100_000_000

LONGEST_S = 10 * 365 * 86400.0
Positive = Annotated[Seconds, Field(gt=0, le=LONGEST_S)]
NotNegative = Annotated[Seconds, Field(ge=0, le=LONGEST_S)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1e6)]
Size = Annotated[Bytes, Field(gt=0, le=2**30)]
Counting = Annotated[int, Field(ge=1, le=MOST_CLIENTS)]


def _as_tuple(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


FROM_LIST = pydantic.BeforeValidator(_as_tuple)
"""Lets a field that is a tuple, as frozen values have to be, take a list, as files have it."""
Delays = Annotated[tuple[NotNegative, ...], Field(min_length=1, max_length=MOST_DELAYS), FROM_LIST]


class FieldError(ValueError):
    """A rule about several fields that does not hold: a field, its value, the rule."""

    def __init__(self, path: str, value: Any, rule: str) -> None:
        self.path, self.value, self.rule = path, value, rule
        super().__init__(rule)


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(pydantic.BaseModel)  # it has no public name

_OF_PYDANTIC = set(dir(pydantic.BaseModel)) - set(dir(object))
_NOT_SHOWN = {
    "model_config",
    "renamed_fields",
    "removed_fields",
    "__class_vars__",
    "__private_attributes__",
}
_NOT_SHOWN |= {"__signature__", "__weakref__", "__abstractmethods__", "_abc_impl", "__dir__"}


class _Documented:
    """The docstring of a section: what it says of itself, and then each of its settings."""

    def __init__(self, own: str) -> None:
        self.own = inspect.cleandoc(own)

    def __get__(self, _instance: object, section: type[pydantic.BaseModel]) -> str:
        settings = text_of(list(settings_of(section)))
        return f"{self.own}\n\nSettings\n--------\n{settings}\n" if settings else self.own


class _Default:
    """Stands in a signature for a default that is a section."""

    def __repr__(self) -> str:
        return "..."


class _Shown(ModelMetaclass):
    """Lets `help` and tab completion of a section show its settings, and not pydantic's methods.

    Those can be called all the same.
    """

    def __new__(cls, name: str, bases: Any, names: dict[str, Any], **options: Any) -> Any:
        return super().__new__(
            cls, name, bases, {**names, "__doc__": _Documented(names.get("__doc__", ""))}, **options
        )

    @property
    def __doc__(cls) -> str:  # type: ignore[override]
        """What a section says of itself; `help` looks here, and not where instances look."""
        said: str = cls.__dict__["__doc__"].__get__(None, cls)
        return said

    def __dir__(cls) -> list[str]:
        ours = cls.__mro__[: cls.__mro__.index(pydantic.BaseModel)]
        names = {name for each in ours for name in vars(each) if not name.startswith("__pydantic")}
        fields: Any = getattr(cls, "model_fields", {})
        renamed: Any = getattr(cls, "renamed_fields", {})
        return sorted((names | fields.keys()) - _OF_PYDANTIC - _NOT_SHOWN - renamed.keys())


class Section(pydantic.BaseModel, metaclass=_Shown):
    """A section: frozen and strict, without unknown fields."""

    renamed_fields: ClassVar[Mapping[str, str]] = {}
    """Old names of fields and the names that they have now; an old one is read, with a warning."""
    removed_fields: ClassVar[Mapping[str, str]] = {}
    """Fields that are gone, and what there is instead; files may have them, with a warning."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):  # what is kept beside the settings
            super().__setattr__(name, value)
            return
        raise self._is_frozen(name, value)

    def __delattr__(self, name: str) -> None:
        raise self._is_frozen(name, getattr(self, name, None))

    def _is_frozen(self, name: str, value: Any) -> ScenarioError:
        whose = "" if hasattr(self, "replace") else " of the scenario or plan"
        rule = f"must be changed by replace{whose}, which returns a changed copy"
        return ScenarioError(name, value, rule)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, abridged(value)

    def _repr_html_(self) -> str:
        values = self.model_dump(exclude_none=True, exclude_defaults=True)
        name = f"{type(self).__name__} {values.pop('name', '')}".strip()
        return page(f"{name}: what differs from the defaults", settings_html(values))

    def __dir__(self) -> list[str]:
        names = set(super().__dir__()) - self.renamed_fields.keys()
        return sorted(names - _OF_PYDANTIC - _NOT_SHOWN)

    @classmethod
    def __pydantic_init_subclass__(cls, **_options: Any) -> None:
        """Give it a signature that fits on some lines: no types, which are said in `help`."""
        parameters = []
        for name, field in cls.model_fields.items():
            default: Any = inspect.Parameter.empty
            if not field.is_required():
                is_plain = isinstance(field.default, str | float | int | None)
                default = field.default if is_plain else _Default()
            parameters.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            )
        cls.__signature__ = inspect.Signature(parameters)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        if isinstance(values, dict):  # NumPy's whole numbers and booleans are none of Python's
            values = {
                key: value.item() if isinstance(value, np.integer | np.bool_) else value
                for key, value in values.items()
            }
        old = cls.renamed_fields.keys() & values.keys() if isinstance(values, dict) else ()
        for name in old:
            new = cls.renamed_fields[name]
            if new not in values:
                warn(f"{cls.__name__}.{name}", f"{cls.__name__}.{new}")
                values = {new if key == name else key: value for key, value in values.items()}
        gone = cls.removed_fields.keys() & values.keys() if isinstance(values, dict) else ()
        for name in gone:
            message = f"{cls.__name__}.{name} is not read any more: {cls.removed_fields[name]}"
            warnings.warn(message, FutureWarning, stacklevel=2)
            values = {key: value for key, value in values.items() if key != name}
        return values


def present_path(model: type[Section], path: str) -> str:
    """Return a dotted path by the present name of its field; warn if it was renamed.

    Examples
    --------
    >>> import warnings
    >>> from simlib.scenario import Scenario
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     present_path(Scenario, "throttles_timers"), str(caught[0].message)
    ('timer_throttling', 'throttles_timers was renamed to timer_throttling')
    """
    *sections, name = path.split(".")
    for section in sections:
        field = model.model_fields.get(section)
        inner = None if field is None else field.annotation
        if not isinstance(inner, type) or not issubclass(inner, Section):
            return path
        model = inner
    if name not in model.renamed_fields:
        return path
    present = ".".join([*sections, model.renamed_fields[name]])
    warn(path, present)
    return present


def at_least(part: Section, upper: str, lower: str, why: str = "") -> None:
    """Raise `FieldError` unless one field is at least another, if both are given."""
    high, low = getattr(part, upper), getattr(part, lower)
    if high is not None and low is not None and high < low:
        raise FieldError(upper, high, f"must be >= {lower} ({low:g}){why}")


def fits_its_kind(
    part: Section,
    switch: str,
    needs: Mapping[str, Collection[str]],
    may_have: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> None:
    """Raise `FieldError` unless the fields that only some kinds have are given where they belong.

    Parameters
    ----------
    part : Section
    switch : str
        The field that holds the section's kind.
    needs : mapping of str to collection of str
        The fields that a kind must have; a kind that is left out needs none.
    may_have : mapping of str to collection of str, optional
        Further fields that a kind may have. A field that a kind neither needs nor may have must be
        as it is by default.
    """
    kind = getattr(part, switch)
    needed, allowed = needs.get(kind, ()), may_have.get(kind, ())
    for name in dict.fromkeys(chain(*needs.values(), *may_have.values())):
        given = getattr(part, name)
        if name in needed:
            if given is None:
                raise FieldError(name, None, f'must be given when {switch} is "{kind}"')
        elif name not in allowed and _is_given(part, name):
            raise FieldError(name, given, f'has no meaning when {switch} is "{kind}"')


def belongs_to(part: Section, name: str, other: str) -> None:
    """Raise `FieldError` if a field is given and the other one, of which it says more, is not."""
    if _is_given(part, name) and getattr(part, other) is None:
        raise FieldError(name, getattr(part, name), f"has no meaning without {other}")


def _is_given(part: Section, name: str) -> bool:
    """Whether a field is not as it is by default."""
    return bool(getattr(part, name) != type(part).model_fields[name].default)


_PHRASES = {
    "greater_than_equal": "must be >= {ge:g}",
    "greater_than": "must be > {gt:g}",
    "less_than_equal": "must be <= {le:g}",
    "literal_error": "must be {expected}",
    "missing": "must be given",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length} items",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_unicode": "must be valid Unicode",
    "tuple_type": "must be a list",
    "dict_type": "must be a table of settings",
    "invalid_key": "must have text for keys",
    "model_type": "must be a table of settings",
    "model_attributes_type": "must be a table of settings",
}


_MOST_HINTS = 50
"""Unknown fields for which another name is looked for, which takes a while."""


def scenario_error(error: pydantic.ValidationError, model: type[Section]) -> ScenarioError:
    """Return the problems of a validation as one `ScenarioError`: the first one, with the others.

    Parameters
    ----------
    error : pydantic.ValidationError
    model : type
        `Scenario` or `Plan`, whose fields are suggested for those that it does not have.
    """
    found = error.errors(include_url=False)
    within = {each["loc"][:depth] for each in found for depth in range(len(each["loc"]))}
    # A list is too short for pydantic once its items are wrong: that is said of the items already.
    found = [one for one in found if not (one["type"] == "too_short" and one["loc"] in within)]
    problems = [
        _problem(each, model if number < _MOST_HINTS else None) for number, each in enumerate(found)
    ]
    return ScenarioError.of(problems)


def _problem(each: Any, model: type[Section] | None) -> ScenarioError:
    path = ".".join(str(name) for name in each["loc"])
    value, kind, context = each["input"], each["type"], each.get("ctx", {})
    cause = context.get("error")
    if kind == "extra_forbidden":
        rule = unknown_field(model, path, value).rule if model else "is not a known field"
    elif isinstance(cause, FieldError):
        path = f"{path}.{cause.path}" if path else cause.path
        value, rule = cause.value, cause.rule
    elif kind == "missing":
        value, rule = None, _PHRASES[kind] + _such_as(model, each["loc"])
    elif isinstance(cause, ValueError):
        rule = str(cause)
    elif kind in _PHRASES:
        rule = _PHRASES[kind].format(**context)
        if kind == "literal_error" and isinstance(value, str):
            options = re.findall(r"'([^']*)'", context["expected"])
            rule += value_hint(value, options)
        elif kind in ("less_than_equal", "float_type", "int_type"):
            rule += number_hint(value, without_unit(path.rpartition(".")[2])[1], context.get("le"))
        elif kind == "model_type":
            rule += _such_as(model, each["loc"])
    else:
        rule = each["msg"][:1].lower() + each["msg"][1:]
    return ScenarioError(path or "scenario", value, rule)


def _such_as(model: type[Section] | None, place: tuple[int | str, ...]) -> str:
    """Return the example that a field has, as the end of the rule that it breaks, or nothing."""
    field = model.model_fields.get(str(place[0])) if model and len(place) == 1 else None
    return f", such as {json.dumps(field.examples[0])}" if field and field.examples else ""


def read_toml(path: Any, wanted: str) -> tuple[Path, dict[str, Any]]:
    """Read a TOML file that holds a scenario or a plan.

    Parameters
    ----------
    path : str or Path
    wanted : {"scenario", "plan"}

    Raises
    ------
    ScenarioError
        The file is missing or too large, is not a regular file, is not TOML, or holds something
        else.
    """
    if not isinstance(path, str | Path):
        raise ScenarioError("path", path, "must be a path")
    path = Path(path)
    try:
        text = read_text(path, "TOML file", MOST_BYTES)
    except ScenarioError:
        refuse_foreign(path, wanted)
        raise
    try:
        _refuse_long_keys(text)
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also for numbers or nesting of great length
        refuse_foreign(path, wanted)
        raise ScenarioError(path.name, str(path), f"must be valid TOML ({error})") from None
    refuse_other_kind(path, values, wanted)
    return path, values


# Each part takes all that it can at once (``*+``), and an end that is missing is the file's end or
# the line's, so that the time grows with the length alone.
_TEXT_OR_COMMENT = re.compile(
    r"""
    "{3} (?: [^"\\] | \\. | "(?!"") )*+ (?: "{3,5} | \Z )
    | '{3} (?: [^'] | '(?!'') )*+ (?: '{3,5} | \Z )
    | " (?: [^"\\\n] | \\[^\n] )*+ "?
    | ' [^'\n]*+ '?
    | \# [^\n]*+
    """,
    re.VERBOSE | re.DOTALL,
)
_NOT_IN_KEYS = re.compile(r"[^\w.\- \t]+")
_MOST_PARTS = 8


def _refuse_long_keys(text: str) -> None:
    """Raise `ValueError` for a key of very many dotted parts: tomllib's time grows by its square.

    Texts in quotation marks, which may hold any number of dots, count as one letter.
    """
    bare = _TEXT_OR_COMMENT.sub("x", text)
    if any(piece.count(".") >= _MOST_PARTS for piece in _NOT_IN_KEYS.split(bare)):
        raise ValueError(f"a key has more than {_MOST_PARTS} parts")


def example_path(folder: Path, name: object) -> Path:
    """Return where an example is that comes with the package.

    Parameters
    ----------
    folder : Path
        Where its kind of examples are, each a TOML file.
    name : str
        The file's name without its ending.

    Raises
    ------
    ScenarioError
        There is no such example.
    """
    names = sorted(path.stem for path in folder.glob("*.toml"))
    if name not in names:
        rule = f"must be one of {', '.join(names)}{hint(name, names)}"
        raise ScenarioError("example", name, rule)
    return folder / f"{name}.toml"
