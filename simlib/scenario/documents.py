"""YAML and JSON documents of other tools: read with limits, and taken key by key.

Every key of a document is either read, known to have no meaning here, or refused by name:
`ForeignMapping.done` finds the keys that were not read. A `Reading` gathers what is wrong with a
file, so that all of it is said at once, and what became of each key.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from simlib.errors import ScenarioError
from simlib.scenario.reading import MOST_BYTES, read_text

LANGUAGES = {".yaml": "YAML", ".yml": "YAML", ".json": "JSON"}
"""The language of a file, by the end of its name in small letters."""

MOST_ALIASES = 100
_MOST_KEYS = 1000
_LONGEST_NAME = 100
_MOST_NODES = 20_000
_MOST_DIGITS = 1000
_GO_S = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_TEMPLATE = re.compile(
    r"\{\{-?\s*(?:\.[A-Z]|include\b|range\b|if\b|with\b|toYaml\b|end\b|template\b|define\b|\$)"
)
"""What templates of Helm have, and YAML has not."""
_GO_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)")


def read_documents(path: Path) -> list[ForeignMapping]:
    """Read the documents of a YAML or JSON file; empty documents are left out.

    Parameters
    ----------
    path : Path
        A file whose name ends in ``.json`` is JSON, any other YAML.

    Raises
    ------
    ScenarioError
        The file is missing or too large, is not a regular file, is not UTF-8 or not valid in its
        language, has a key twice, has too many aliases, or holds a document that is not a mapping.
    """
    text = read_text(path, "file", MOST_BYTES)
    name = path.name or str(path)
    return parsed(text, name, "JSON" if path.suffix.lower() == ".json" else "YAML")


def parsed(text: str, name: str, language: str) -> list[ForeignMapping]:
    """Return the documents of a text, and the items of kubectl's Lists; empty ones are left out.

    Parameters
    ----------
    text : str
    name : str
        The name of the text in errors.
    language : {"YAML", "JSON"}

    Raises
    ------
    ScenarioError
        As `read_documents`.

    Examples
    --------
    >>> [document.values for document in parsed("kind: Canary", "canary.yaml", "YAML")]
    [{'kind': 'Canary'}]
    """
    try:
        if language == "JSON":
            found = [_from_json(text)]
        else:
            found = list(yaml.load_all(text, Loader=_Loader))
    except Exception as error:  # PyYAML raises many of Python's errors beside its own
        if _TEMPLATE.search(text):
            rule = "must be rendered first (helm template): it has {{ ... }} of a template in it"
            raise ScenarioError(name, text, rule) from None
        what = " ".join(str(error).split()) or type(error).__name__
        raise ScenarioError(name, text, f"must be valid {language} ({what})") from None
    documents = [
        document
        for one in found
        if one is not None
        for document in _opened(ForeignMapping(one, name))
    ]
    if not documents:
        raise ScenarioError(name, text, "must say something: it is empty")
    return documents


def _opened(document: ForeignMapping) -> list[ForeignMapping]:
    """The items of a List, as ``kubectl get -o yaml`` prints it; another document as it is."""
    if document.values.get("kind") != "List":
        return [document]
    document.ignore("apiVersion", "kind", "metadata")
    items = document.sections("items", needed=True)
    document.done()
    return [item.renamed(document.path) for item in items]


def _from_json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"the key {key!r} is there twice")
            found[key] = value
        return found

    def constant(text: str) -> Any:
        raise ValueError(f"{text} is no number")

    return json.loads(text, object_pairs_hook=once, parse_constant=constant)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no types
    """PyYAML's safe loader, which also refuses duplicate keys and documents that explode."""

    aliases = nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise yaml.YAMLError(f"more than {_MOST_NODES} values")
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MOST_ALIASES:
                raise yaml.YAMLError(f"more than {MOST_ALIASES} aliases")
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: Any) -> None:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = {key for key in keys if keys.count(key) > 1} if len(keys) != len(set(keys)) else ()
        if twice:
            raise yaml.YAMLError(f"the key {min(twice)!r} is there twice")
        super().flatten_mapping(node)
        if len(node.value) > _MOST_KEYS:
            raise yaml.YAMLError(f"more than {_MOST_KEYS} keys in one mapping")


def _number(loader: Any, node: Any) -> Any:
    """A number; PyYAML's time for one in base 60 grows by the square of its length."""
    if len(node.value) > _MOST_DIGITS:
        raise yaml.YAMLError(f"a number of more than {_MOST_DIGITS} digits")
    return yaml.SafeLoader.yaml_constructors[node.tag](loader, node)


for _tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
    _Loader.add_constructor(_tag, _number)


def of_kind(documents: list[ForeignMapping], kind: str) -> list[ForeignMapping]:
    r"""Return the documents of one of Kubernetes' kinds.

    Examples
    --------
    >>> documents = parsed("kind: Canary\n---\nkind: Service", "canary.yaml", "YAML")
    >>> [document.values for document in of_kind(documents, "Canary")]
    [{'kind': 'Canary'}]
    """
    return [document for document in documents if document.values.get("kind") == kind]


def only(documents: list[ForeignMapping]) -> ForeignMapping:
    """Return the only document of a file; errors then name its keys without the file's name.

    Raises
    ------
    ScenarioError
        There are several documents.
    """
    [first, *more] = documents
    if more:
        raise ScenarioError(more[0].path, more[0].values, "must hold one document alone")
    return first.renamed("")


class Said(NamedTuple):
    """What became of a key of a file.

    Attributes
    ----------
    path : str
    value : object
        As the file has it.
    became : str
        What it is here; `IGNORED` if it has no meaning.
    why : str
        Why, or what the tool itself does beyond that.
    """

    path: str
    value: Any
    became: str
    why: str


IGNORED = "ignored"


class Reading:
    """What comes of reading the documents of a file: its problems, and what became of its keys.

    Parameters
    ----------
    gathers : bool, optional
        Whether problems are kept until `finish`; else the first one is raised at once.

    Examples
    --------
    >>> reading = Reading()
    >>> top = ForeignMapping({"interval": "1m", "mirror": True, "alerts": []}, "", reading)
    >>> top = top.renamed("")
    >>> top.ignore("alerts", why="nobody is told in a rehearsal")
    >>> top.duration_s("interval")
    60.0
    >>> top.became("interval", "check_every_s = 60")
    >>> top.refuse({"mirror": "must be false"})
    >>> [(row.path, row.became) for row in reading.explained()]
    [('interval', 'check_every_s = 60'), ('mirror', 'read'), ('alerts', 'ignored')]
    >>> reading.finish()
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: mirror: must be false, got True
    """

    def __init__(self, *, gathers: bool = True) -> None:
        self._gathers = gathers
        self._problems: list[ScenarioError] = []
        self._tops: dict[str, Mapping[str, Any]] = {}
        self._said: dict[str, tuple[str, str]] = {}
        self._taken: set[str] = set()

    def problem(self, error: ScenarioError) -> None:
        """Keep a problem, or raise it."""
        if not self._gathers:
            raise error
        self._problems += error.problems

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Keep the problem that ends this part of the file, and go on after it."""
        try:
            yield
        except ScenarioError as error:
            self.problem(error)

    def finish(self) -> None:
        """Raise the problems that were kept, each once, if there are any."""
        alone = {(one.path, one.rule): one for one in self._problems}
        if alone:
            raise ScenarioError.of(list(alone.values()))

    def begin(self, path: str, values: Mapping[str, Any]) -> None:
        """Note a document whose keys have paths that start with `path`."""
        self._tops.setdefault(path, values)

    def taken(self, path: str) -> None:
        """Note that a key was read."""
        self._taken.add(path)

    def note(self, path: str, became: str, why: str = "") -> None:
        """Note what became of a key, or of all that it holds."""
        self._said[path] = became, why

    def explained(self) -> Iterator[Said]:
        """Yield what became of the documents' keys, in their order."""
        for path, values in self._tops.items():
            yield from self._below(path, values, is_said=False)

    def _below(self, path: str, value: Any, *, is_said: bool) -> Iterator[Said]:
        said = self._said.get(path)
        if said is not None:
            yield Said(path, value, *said)
            if said[0] == IGNORED:
                return
        parts: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, Mapping):
            parts = value.items()
        elif isinstance(value, list):
            parts = enumerate(value)
        elif said is None and not is_said:
            yield Said(path, value, "read" if path in self._taken else "", "")
        for name, part in parts:
            below = f"{path}.{name}" if path else str(name)
            yield from self._below(below, part, is_said=is_said or said is not None)


class ForeignMapping:
    """A mapping in a document, with its path.

    Parameters
    ----------
    value : object
        The mapping; anything else is refused.
    path : str
        Dotted names from the document's top.
    reading : Reading, optional
        Of the whole file; absent: the first problem is raised at once.

    Raises
    ------
    ScenarioError
        It is no mapping from text to values.

    Examples
    --------
    >>> section = ForeignMapping({"interval": "1m30s", "mirror": True}, "spec.analysis")
    >>> section.duration_s("interval")
    90.0
    >>> section.done()
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: spec.analysis.mirror: is not a known field, got True
    """

    def __init__(self, value: Any, path: str, reading: Reading | None = None) -> None:
        self.reading = Reading(gathers=False) if reading is None else reading
        if not isinstance(value, Mapping):
            raise ScenarioError(path, value, "must be a mapping of settings")
        for key in value:
            if not isinstance(key, str):
                raise ScenarioError(path, key, "must have text for keys")
        self.values: Mapping[str, Any] = value
        self.path = path
        self.known: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def at(self, name: object) -> str:
        """Return the path of a key."""
        return f"{self.path}.{name}" if self.path else str(name)

    def renamed(self, path: str) -> ForeignMapping:
        """Return the same mapping at another path, as the top of a document."""
        self.reading.begin(path, self.values)
        return ForeignMapping(self.values, path, self.reading)

    def became(self, name: str, what: str, why: str = "") -> None:
        """Note what a key has become, if it is there."""
        if name in self.values:
            self.reading.note(self.at(name), what, why)

    def wrong(self, name: str, rule: str) -> ScenarioError:
        """Return the error for a key; if it is absent, with the unread one that is like it."""
        if name not in self.values:
            rule += self._like(name, self.values.keys() - self.known, "; was {!r} to be it?")
        return ScenarioError(self.at(name), self.values.get(name), rule)

    def _like(self, name: str, others: Iterable[Any], words: str) -> str:
        short = [each for each in others if isinstance(each, str) and len(each) <= _LONGEST_NAME]
        asked = name[: _LONGEST_NAME + 1]  # a longer one is like none of them
        near = difflib.get_close_matches(asked, sorted(short), n=1, cutoff=0.8)
        return words.format(near[0]) if near else ""

    def ignore(self, *names: str, why: str = "") -> None:
        """Accept keys that have no meaning here."""
        self.known.update(names)
        for name in names:
            self.became(name, IGNORED, why)

    def refuse(self, rules: Mapping[str, str]) -> None:
        """Refuse some keys that have a value other than null, empty, false or 0."""
        for name, rule in rules.items():
            value = self.take(name)
            if value is None or value is False or value in ("", [], {}):
                continue
            if not isinstance(value, str) and isinstance(value, Hashable) and value == 0:
                continue
            self.reading.problem(self.wrong(name, rule))

    def done(self) -> None:
        """Refuse every key that was not read."""
        left = [name for name in self.values if name not in self.known]
        if left:
            self.reading.problem(ScenarioError.of([self._unknown(name) for name in left]))

    def _unknown(self, name: str) -> ScenarioError:
        meant = self._like(str(name), self.known, "; did you mean {}?")
        return self.wrong(name, f"is not a known field{meant}")

    def take(self, name: str, *, needed: bool = False) -> Any:
        """Return a key's value as it is; None if it is absent."""
        self.known.add(name)
        self.reading.taken(self.at(name))
        value = self.values.get(name)
        if needed and value is None:
            raise self.wrong(name, "must be given")
        return value

    def text(self, name: str, *, needed: bool = False) -> str | None:
        """Return a key's text; None if it is absent."""
        value = self.take(name, needed=needed)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "must be text")
        return value

    def flag(self, name: str) -> bool:
        """Return whether a key is true."""
        value = self.take(name)
        if not isinstance(value, bool | None):
            raise self.wrong(name, "must be true or false")
        return bool(value)

    def number(
        self, name: str, low: float = -math.inf, high: float = math.inf, *, needed: bool = False
    ) -> float | None:
        """Return a finite number within bounds; digits in quotes are refused."""
        value = self.take(name, needed=needed)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "must be a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or not low <= number <= high:
            bounds = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"finite and >= {low:g}"
            raise self.wrong(name, f"must be {bounds}")
        return number

    def whole(
        self, name: str, low: int, high: int, *, needed: bool = False, digits: bool = False
    ) -> int | None:
        """Return a whole number within bounds; with `digits`, also from digits in quotes."""
        value = self.take(name, needed=needed)
        if value is None:
            return None
        if digits and isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "must be a whole number")
        if not low <= value <= high:
            raise self.wrong(name, f"must be in [{low}, {high}]")
        return value

    def duration_s(self, name: str, *, needed: bool = False) -> float | None:
        """Return a duration in Go's notation, seconds."""
        value = self.take(name, needed=needed)
        if value is None:
            return None
        seconds = go_seconds(value) if isinstance(value, str) else None
        if seconds is None:
            raise self.wrong(name, 'must be a duration in quotes, such as "30s" or "1h30m"')
        return seconds

    def section(self, name: str, *, needed: bool = False) -> ForeignMapping | None:
        """Return a mapping."""
        value = self.take(name, needed=needed)
        return None if value is None else ForeignMapping(value, self.at(name), self.reading)

    def sections(self, name: str, *, needed: bool = False) -> list[ForeignMapping]:
        """Return a list of mappings; an empty one if the key is absent."""
        found = []
        for item, path in self.items(name, needed=needed):
            with self.reading.going_on():
                found.append(ForeignMapping(item, path, self.reading))
        return found

    def items(self, name: str, *, needed: bool = False) -> Iterator[tuple[Any, str]]:
        """Yield the items of a list and their paths."""
        value = self.take(name, needed=needed)
        if value is not None and not isinstance(value, list):
            raise self.wrong(name, "must be a list")
        for number, item in enumerate(value or []):
            yield item, f"{self.at(name)}.{number}"


def go_seconds(text: str) -> float | None:
    """Return the seconds of a duration in Go's notation, or None.

    Parameters
    ----------
    text : str
        Numbers and units h, m, s, ms, us, ns, one after the other.

    Examples
    --------
    >>> go_seconds("1h30m"), go_seconds("30s"), go_seconds("1.5m"), go_seconds("250ms")
    (5400.0, 30.0, 90.0, 0.25)
    >>> go_seconds("30") is None
    True
    """
    parts = _GO_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return float(sum(Decimal(number) * _GO_S[unit] for number, unit in parts))


def go_text(seconds: float) -> str:
    """Return a duration in Go's notation, to the nanosecond.

    Parameters
    ----------
    seconds : float
        At least 0.

    Examples
    --------
    >>> go_text(90.0), go_text(5400.0), go_text(0.25), go_text(0.0)
    ('1m30s', '1h30m', '0.25s', '0s')
    """
    exact = round(Decimal(repr(float(seconds))), 9)
    hours, rest = divmod(exact, 3600)
    minutes, rest = divmod(rest, 60)
    text = "".join(f"{int(n)}{unit}" for n, unit in ((hours, "h"), (minutes, "m")) if n)
    if rest or not text:
        text += f"{rest.normalize():f}s" if rest else "0s"
    return text


def scaled(value: float, factor: float) -> float:
    """Return a product in decimal arithmetic: 300 ms times 0.001 is 0.3 s.

    Examples
    --------
    >>> scaled(300, 0.001), 300 * 0.001
    (0.3, 0.3)
    >>> scaled(700.0, 0.001), 700.0 * 0.001
    (0.7, 0.7000000000000001)
    """
    return float(Decimal(repr(float(value))) * Decimal(repr(float(factor))))


def to_yaml(*documents: Mapping[str, Any]) -> str:
    """Return documents as YAML, keys in the order in which they are given.

    Examples
    --------
    >>> print(to_yaml({"kind": "Canary"}, {"kind": "Rollout"}), end="")
    kind: Canary
    ---
    kind: Rollout
    """
    text: str = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML ships no types
    """Writes repeated values in full instead of aliases, for people to read."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  (PyYAML's signature)
        return True
