"""The fields of scenarios and plans, and the errors for wrong values.

The models are frozen and strict: a wrong type, an unknown key or a contradiction is an error that
names path, value and rule.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pydantic
from pydantic import ConfigDict, Field

from simlib.core.reconnect import MOST_DELAYS
from simlib.errors import ScenarioError
from simlib.renamed import warn
from simlib.scenario.display import page, settings_html
from simlib.scenario.units import Bytes, Seconds

MAX_CLIENTS = 100_000_000

LONGEST_S = 10 * 365 * 86400.0
Positive = Annotated[Seconds, Field(gt=0, le=LONGEST_S)]
NotNegative = Annotated[Seconds, Field(ge=0, le=LONGEST_S)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1e6)]
Size = Annotated[Bytes, Field(gt=0, le=2**30)]
Counting = Annotated[int, Field(ge=1, le=MAX_CLIENTS)]
Delays = Annotated[
    tuple[NotNegative, ...],
    Field(min_length=1, max_length=MOST_DELAYS),
    pydantic.BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given),
]


class FieldError(ValueError):
    """A rule about several fields that does not hold: a field, its value, the rule."""

    def __init__(self, path: str, value: Any, rule: str) -> None:
        self.path, self.value, self.rule = path, value, rule
        super().__init__(rule)


class Section(pydantic.BaseModel):
    """A section: frozen and strict, without unknown fields."""

    renamed_fields: ClassVar[Mapping[str, str]] = {}
    """Old names of fields and the names that they have now; an old one is read, with a warning."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    def _repr_html_(self) -> str:
        values = self.model_dump(exclude_none=True, exclude_defaults=True)
        name = f"{type(self).__name__} {values.pop('name', '')}".strip()
        return page(f"{name}: what differs from the defaults", settings_html(values))

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        old = cls.renamed_fields.keys() & values.keys() if isinstance(values, dict) else ()
        for name in old:
            new = cls.renamed_fields[name]
            if new not in values:
                warn(f"{cls.__name__}.{name}", f"{cls.__name__}.{new}")
                values = {new if key == name else key: value for key, value in values.items()}
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


def at_least(part: Section, upper: str, lower: str) -> None:
    """Raise `FieldError` unless one field is at least another."""
    high, low = getattr(part, upper), getattr(part, lower)
    if high < low:
        raise FieldError(upper, high, f"must be >= {lower} ({low:g})")


def fits_its_kind(
    part: Section, switch: str, names: Collection[str], needs: Collection[str]
) -> None:
    """Raise `FieldError` unless exactly the optional fields that a kind needs are given.

    Parameters
    ----------
    part : Section
    switch : str
        The field that holds the section's kind.
    names : collection of str
        The optional fields, in the order in which they are checked.
    needs : collection of str
        Those of them that the kind needs.
    """
    when = f'when {switch} is "{getattr(part, switch)}"'
    for name in names:
        given = getattr(part, name)
        if name in needs and given is None:
            raise FieldError(name, None, f"must be given {when}")
        if name not in needs and given is not None:
            raise FieldError(name, given, f"has no meaning {when}")


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
    "string_too_long": "must have at most {max_length} characters",
    "model_type": "must be a table of settings",
    "model_attributes_type": "must be a table of settings",
}


def scenario_error(
    error: pydantic.ValidationError, unknown: Callable[[object, Any], ScenarioError]
) -> ScenarioError:
    """Return the first problem of a validation as one `ScenarioError`.

    `unknown` returns the error for a path that is not a field.
    """
    problems = error.errors(include_url=False)
    first = problems[0]
    path = ".".join(str(name) for name in first["loc"])
    value, kind, context = first["input"], first["type"], first.get("ctx", {})
    cause = context.get("error")
    if kind == "extra_forbidden":
        rule = unknown(path, value).rule
    elif isinstance(cause, FieldError):
        path = f"{path}.{cause.path}" if path else cause.path
        value, rule = cause.value, cause.rule
    elif kind == "missing":
        value, rule = None, _PHRASES[kind]
    elif isinstance(cause, ValueError):
        rule = str(cause)
    elif kind in _PHRASES:
        rule = _PHRASES[kind].format(**context)
    else:
        rule = first["msg"][:1].lower() + first["msg"][1:]
    return ScenarioError(path or "scenario", value, rule, others=len(problems) - 1)


def read_toml(path: Any) -> tuple[Path, dict[str, Any]]:
    """Read a TOML file.

    Raises
    ------
    ScenarioError
        The file is missing, or is not TOML.
    """
    if not isinstance(path, str | Path):
        raise ScenarioError("path", path, "must be a path")
    path = Path(path)
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ScenarioError(path.name, str(path), "must be an existing TOML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(
            path.name or str(path), str(path), f"must be a readable text file ({error})"
        ) from None
    except (ValueError, RecursionError) as error:  # also for numbers or nesting of great length
        raise ScenarioError(path.name, str(path), f"must be valid TOML ({error})") from None
