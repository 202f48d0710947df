"""Which cohort each user belongs to: ids, their buckets under a rule, and the effect of a ramp.

The functions take ids or buckets and return tables. The rules are those of `core.bucketing`: a
user is enrolled at `percent` percent exactly if ``bucket < percent``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from simlib.core.bucketing import ALWAYS, NEVER, RULES, fnv1a, fnv1a_twice, hash_code
from simlib.core.draws import Stream, uniforms_of_clients
from simlib.errors import ScenarioError, shown
from simlib.renamed import renamed, renamed_arguments
from simlib.scenario.reading import MOST_DATA_BYTES, read_text

__all__ = [
    "KINDS",
    "RULES",
    "buckets",
    "combine",
    "fixed_assignment",
    "moves",
    "overlap",
    "read_user_ids",
    "share",
    "user_ids",
]

KINDS = ("uuid4", "email", "number")
"""The kinds of id that `user_ids` makes."""

_MISMATCH = 0.001
_LEAST_EXPECTED = 5.0
_CONFIDENCE = 0.95
_SYLLABLES = [consonant + vowel for consonant in "bdfghjklmnprstvz" for vowel in "aeiou"]
_WORDS = [first + second for first in _SYLLABLES for second in _SYLLABLES]
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_UUID = 36
"""The length of a UUID."""
_DOMAINS = ("example.com", "mail.example.net", "office.example.org")


def user_ids(kind: str, count: int, *, seed: int = 1, replication: int = 0) -> list[str]:
    """Return user ids of a kind that applications use; the same seed gives the same ids.

    Parameters
    ----------
    kind : {"uuid4", "email", "number"}
        Random UUIDs; addresses of two words of eight letters, at one of three domains; numbers that
        ascend from 1,000,000 with gaps of 100 on average, as where other users have left.
    count : int
        The number of ids, >= 1. A longer list starts with the ids of a shorter one.
    seed, replication : int, optional
        As in a run.

    Returns
    -------
    list of str
        Numbers are distinct. Among a million ids of another kind, two are equal with a probability
        below 0.001.

    Raises
    ------
    ScenarioError
        The kind is unknown, or a number is out of range.

    Examples
    --------
    >>> user_ids("uuid4", 1), user_ids("email", 1)
    (['...-...-4...-...-...'], ['...@...example...'])
    >>> user_ids("number", 3, seed=7) == user_ids("number", 9, seed=7)[:3]
    True
    """
    if kind not in KINDS:
        raise ScenarioError("kind", kind, f"must be one of {', '.join(KINDS)}")
    for name, number, least in (
        ("count", count, 1),
        ("seed", seed, 0),
        ("replication", replication, 0),
    ):
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number < 2**64:
            raise ScenarioError(name, number, f"must be a whole number >= {least}")

    def whole(k: int, below: int) -> list[int]:
        u = uniforms_of_clients(seed, replication, count, Stream.USER, k)
        return (u * below).astype(np.int64).tolist()

    if kind == "number":
        return [str(1_000_000 + 100 * user + gap) for user, gap in enumerate(whole(0, 100))]
    if kind == "email":
        names, domains = len(_WORDS) ** 2, len(_DOMAINS)
        return [
            f"{_name(first)}.{_name(last)}@{_DOMAINS[domain]}"
            for first, last, domain in zip(
                whole(0, names), whole(1, names), whole(2, domains), strict=True
            )
        ]
    text = _uuids(seed, replication, count).T.tobytes().decode("ascii")
    return [text[place : place + _UUID] for place in range(0, _UUID * count, _UUID)]


def _uuids(seed: int, replication: int, count: int) -> NDArray[np.uint8]:
    """Return random UUIDs as the codes of their characters, shape (36, count)."""
    a, b, c = (
        (uniforms_of_clients(seed, replication, count, Stream.USER, k) * below).astype(np.int64)
        for k, below in enumerate((2**48, 2**26, 2**48))
    )
    # Version 4 and its variant take 6 of the 128 bits.
    parts = ((a >> 16, 8), (a, 4), (b >> 14 | 0x4000, 4), (b & 0x3FFF | 0x8000, 4), (c, 12))
    codes = np.full((_UUID, count), ord("-"), np.uint8)
    place = 0
    for word, digits in parts:
        for digit in range(digits):
            codes[place] = _HEX[word >> 4 * (digits - 1 - digit) & 15]
            place += 1
        place += 1
    return codes


class Users(Sequence[str]):
    """Users by their ids, as `user_ids` returns them, of which many rules need no texts.

    Parameters
    ----------
    kind, count, seed, replication
        As in `user_ids`.

    Examples
    --------
    >>> users = Users("uuid4", 3, 7, 0)
    >>> list(users) == user_ids("uuid4", 3, seed=7)
    True
    """

    def __init__(self, kind: str, count: int, seed: int, replication: int) -> None:
        self._of = kind, count, seed, replication
        self._texts: list[str] | None = None

    def __len__(self) -> int:
        return self._of[1]

    def __getitem__(self, place: Any) -> Any:
        if self._texts is None:
            kind, count, seed, replication = self._of
            self._texts = user_ids(kind, count, seed=seed, replication=replication)
        return self._texts[place]

    def codes(self) -> NDArray[np.uint8] | None:
        """Return the codes of their characters, shape (characters, count), if all are as long."""
        kind, count, seed, replication = self._of
        return _uuids(seed, replication, count) if kind == "uuid4" else None


def _name(number: int) -> str:
    return _WORDS[number // len(_WORDS)] + _WORDS[number % len(_WORDS)]


def read_user_ids(path: str | Path) -> list[str]:
    r"""Return the ids of a text file, one per line, in its order.

    Parameters
    ----------
    path : str or Path
        UTF-8, with or without a byte order mark; lines end as on any system.

    Raises
    ------
    ScenarioError
        The file cannot be read, is not UTF-8 or has no ids; or a line is empty, begins or ends with
        a space (a hash depends on every character), or repeats another line.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "users.txt"
    ...     _ = path.write_text("ada\ngrace", encoding="utf-8")
    ...     read_user_ids(path)
    ['ada', 'grace']
    """
    if not isinstance(path, str | Path):
        raise ScenarioError("path", path, "must be the path of a text file")
    text = read_text(Path(path), "text file", MOST_DATA_BYTES, label="path")
    lines = text.removesuffix("\n").split("\n")
    if lines == [""]:
        raise ScenarioError(str(path), text, "must have an id on every line")
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        if not line or line != line.strip():
            raise ScenarioError(where, line, "must be an id without spaces around it")
        if seen.setdefault(line, number) != number:
            raise ScenarioError(where, line, f"must differ from line {seen[line]}")
    return lines


def buckets(
    rule: str, ids: Sequence[str], *, flag: str = "", salt: str = ""
) -> NDArray[np.float64]:
    """Return the bucket of each user under a rule: enrolled at `percent` if bucket < `percent`.

    Parameters
    ----------
    rule : str
        One of `core.bucketing.RULES`: ``guide``, ``floor_mod``, ``unleash``, ``launchdarkly``, ...
    ids : sequence of str
        At least one id, none of them empty.
    flag : str, optional
        The flag's key: Unleash's group, GrowthBook's seed. The guide's rules do not use it.
    salt : str, optional
        The flag's salt, which only LaunchDarkly uses.

    Returns
    -------
    ndarray of float64, shape (len(ids),)
        Percent.

    Raises
    ------
    ScenarioError
        The rule is unknown, or an id is not a text of valid Unicode.

    Examples
    --------
    >>> buckets("floor_mod", ["ada", "grace"])
    array([14., 24.])
    """
    if not isinstance(rule, str) or rule not in RULES:
        raise ScenarioError("rule", rule, f"must be one of {', '.join(RULES)}")
    for name, text in (("flag", flag), ("salt", salt)):
        _check_text(name, text)
    text, digest, to_bucket = RULES[rule]
    codes = ids.codes() if isinstance(ids, Users) and text == "{user}" else None
    if codes is not None and digest is hash_code:
        numbers = hash_code(column.astype(np.uint64) for column in codes).astype(np.int64)
        if rule == "floor_mod":
            return np.asarray(numbers % 100, dtype=np.float64)
        return np.fromiter(map(to_bucket, numbers.tolist()), np.float64, len(ids))
    _check_ids(ids)
    if text == "{user}":
        texts = ids
    else:
        texts = [text.format(user=user, flag=flag, salt=salt) for user in ids]
    return np.fromiter(map(to_bucket, _digests(digest, texts)), np.float64, len(ids))


def _digests(digest: Callable[[Any], Any], texts: Sequence[str]) -> list[Any]:
    """Return the digest of each text.

    Digests that go through a text unit by unit are computed for all texts of one length at once.
    """
    if digest is fnv1a_twice:
        return _digests(fnv1a, list(map(str, _digests(fnv1a, texts))))
    if digest not in (hash_code, fnv1a):
        return list(map(digest, texts))
    data = [text.encode("utf-16-le") for text in texts]
    sizes = np.fromiter(map(len, data), np.int64, len(data))
    digests = np.empty(len(data), dtype=np.int64)
    for size in np.unique(sizes).tolist():
        at = np.flatnonzero(sizes == size)
        units = np.frombuffer(b"".join([data[n] for n in at.tolist()]), "<u2").reshape(len(at), -1)
        digests[at] = digest(column.astype(np.uint64) for column in units.T).astype(np.int64)
    return digests.tolist()


@renamed_arguments(places="buckets")
def fixed_assignment(buckets: ArrayLike, percent: float) -> NDArray[np.float64]:
    """Return buckets under a decider that stays at `percent`: always enrolled, or never.

    Parameters
    ----------
    buckets : array_like of float, shape (n,)
    percent : float
        [0, 100].

    Returns
    -------
    ndarray of float64, shape (n,)
        -inf for users who are enrolled, inf for the others.

    Raises
    ------
    ScenarioError
        There are no buckets, or a percentage is out of range.

    Examples
    --------
    >>> fixed_assignment([12.0, 50.0], 50)
    array([-inf,  inf])
    """
    if not _are_percents(percent, 0):
        raise ScenarioError("percent", percent, "must be a percentage in [0, 100]")
    return np.where(_checked_buckets("buckets", buckets) < percent, ALWAYS, NEVER)


def combine(how: str, *deciders: ArrayLike) -> NDArray[np.float64]:
    """Return the buckets of users who are enrolled by several deciders together.

    Parameters
    ----------
    how : {"and", "or"}
        Whether a user is enrolled if all deciders enrol the user, or if any does.
    *deciders : array_like of float, shape (n,), or float
        The users' buckets under each decider, in the same order of users. All deciders are at the
        same percentage; for one that has its own, use `fixed_assignment`. A number is the bucket of
        all users: -inf for a flag that is on, inf for one that is off.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ScenarioError
        `how` is another word, there are no deciders, or they have different numbers of users.

    Examples
    --------
    The guide has an experiment at 50 %, a hash ramp and the server's flag:

    >>> ids = user_ids("uuid4", 10_000)
    >>> experiment = fixed_assignment(
    ...     buckets("growthbook_experiment", ids, flag="realtime-websocket"), 50
    ... )
    >>> ramp = buckets("floor_mod", ids)
    >>> both, any_of_them = (combine(how, experiment, ramp) for how in ("and", "or"))
    >>> share(both, [10])["share_frac"].round(2).tolist()
    [0.05]
    >>> share(any_of_them, [10])["share_frac"].round(2).tolist()
    [0.55]
    """
    if how not in ("and", "or"):
        raise ScenarioError("how", how, "must be 'and' or 'or'")
    if not deciders:
        raise ScenarioError("deciders", deciders, "must be buckets of at least one decider")
    arrays = [
        _checked_buckets(f"deciders[{number}]", np.atleast_1d(np.asarray(decider)))
        for number, decider in enumerate(deciders)
    ]
    try:
        table = np.stack(np.broadcast_arrays(*arrays))
    except ValueError:
        sizes = [len(array) for array in arrays]
        raise ScenarioError("deciders", sizes, "must be buckets of the same users") from None
    return np.asarray(table.max(axis=0) if how == "and" else table.min(axis=0))


@renamed_arguments(places="buckets")
def share(buckets: ArrayLike | Mapping[str, ArrayLike], percents: Sequence[float]) -> pd.DataFrame:
    """Return the share of users who are enrolled at each percentage, with a test for mismatch.

    Parameters
    ----------
    buckets : array_like of float, shape (n,), or mapping of str to those
        Buckets under one rule, or under several rules by name.
    percents : sequence of float
        Percentages in [0, 100].

    Returns
    -------
    pandas.DataFrame
        A row per percentage (with several rules, per ``rule`` and percentage): ``percent``,
        ``users``, ``enrolled``, ``share_frac`` with its exact 95 % interval ``low_frac`` and
        ``high_frac`` (Clopper and Pearson), ``p_value`` of the chi-square test for the nominal
        ratio (of the exact binomial test if fewer than five users are expected on a side), and
        ``mismatch``: whether the p-value is below 0.001. At 0 and 100 % a single user on the wrong
        side is a mismatch.

    Raises
    ------
    ScenarioError
        There are no buckets, or a percentage is out of range.

    Notes
    -----
    A hash is not random. The interval and the test treat the users as a random sample, so they
    describe how far the share may differ from the nominal one by chance.

    References
    ----------
    Clopper and Pearson (1934), The use of confidence or fiducial limits, Biometrika 26. Kohavi,
    Tang and Xu (2020), Trustworthy Online Controlled Experiments, chapter 21: sample ratio
    mismatch, and its limit.

    Examples
    --------
    >>> ids = user_ids("uuid4", 10_000)
    >>> share(buckets("guide", ids), [0, 10])[["share_frac", "mismatch"]].round(2)
       share_frac  mismatch
    0        0.49      True
    1        0.55      True
    >>> rules = {"guide": buckets("guide", ids), "floor_mod": buckets("floor_mod", ids)}
    >>> share(rules, [0])[["rule", "mismatch"]]
            rule  mismatch
    0      guide      True
    1  floor_mod     False
    """
    from scipy import stats

    if isinstance(buckets, Mapping):
        if not buckets:
            raise ScenarioError("buckets", buckets, "must be buckets of at least one rule")
        tables = {
            rule: share(_checked_buckets(f"buckets[{shown(rule)}]", given), percents)
            for rule, given in buckets.items()
        }
        return pd.concat(tables, names=["rule"]).reset_index("rule").reset_index(drop=True)
    at = _checked_buckets("buckets", buckets)
    rows = []
    for percent in _checked_percents("percents", percents):
        enrolled = int((at < percent).sum())
        interval = stats.binomtest(enrolled, len(at)).proportion_ci(_CONFIDENCE)
        p_value = _ratio_p_value(enrolled, len(at), percent / 100.0)
        rows.append(
            {
                "percent": percent,
                "users": len(at),
                "enrolled": enrolled,
                "share_frac": enrolled / len(at),
                "low_frac": interval.low,
                "high_frac": interval.high,
                "p_value": p_value,
                "mismatch": p_value < _MISMATCH,
            }
        )
    return pd.DataFrame(rows)


def overlap(first: ArrayLike, second: ArrayLike, percents: Sequence[float]) -> pd.DataFrame:
    """Return the share of users who are enrolled in two flags, and that of independent flags.

    Parameters
    ----------
    first, second : array_like of float, shape (n,)
        Buckets of the same users under each flag.
    percents : sequence of float
        Percentages of both flags, in [0, 100]. A flag whose buckets come from `fixed_assignment`
        keeps its own percentage.

    Returns
    -------
    pandas.DataFrame
        A row per percentage: ``percent``, ``first_frac``, ``second_frac``, ``both_frac`` with its
        exact 95 % interval ``low_frac`` and ``high_frac``, and ``independent_frac``, the product
        of the first two.

    Raises
    ------
    ScenarioError
        The flags have different numbers of users, or none, or a percentage is out of range.

    Examples
    --------
    A rule that knows no flag gives all experiments the same users:

    >>> ids = user_ids("uuid4", 10_000)
    >>> shared = buckets("floor_mod", ids)
    >>> apart = [buckets("unleash", ids, flag=flag) for flag in ("push", "dark-mode")]
    >>> columns = ["both_frac", "independent_frac"]
    >>> overlap(shared, shared, [10])[columns].round(2).to_numpy().tolist()
    [[0.1, 0.01]]
    >>> overlap(*apart, [10])[columns].round(2).to_numpy().tolist()
    [[0.01, 0.01]]
    """
    from scipy import stats

    one, other = _checked_buckets("first", first), _checked_buckets("second", second)
    if len(one) != len(other):
        raise ScenarioError("second", len(other), f"must be of the same users ({len(one)})")
    rows = []
    for percent in _checked_percents("percents", percents):
        both = int(((one < percent) & (other < percent)).sum())
        interval = stats.binomtest(both, len(one)).proportion_ci(_CONFIDENCE)
        first_frac, second_frac = (one < percent).mean(), (other < percent).mean()
        rows.append(
            {
                "percent": percent,
                "first_frac": first_frac,
                "second_frac": second_frac,
                "both_frac": both / len(one),
                "low_frac": interval.low,
                "high_frac": interval.high,
                "independent_frac": first_frac * second_frac,
            }
        )
    return pd.DataFrame(rows)


@renamed_arguments(places="buckets")
def moves(buckets: ArrayLike, percents: Sequence[float]) -> pd.DataFrame:
    """Return how many users join and leave at each step of a plan.

    Parameters
    ----------
    buckets : array_like of float, shape (n,)
    percents : sequence of float
        The percentages of the plan in order, such as 1, 10, 50, 0, in [0, 100]. Before the first,
        no user is enrolled.

    Returns
    -------
    pandas.DataFrame
        A row per step: ``from_percent`` (NaN for the first), ``to_percent``, ``joins``,
        ``leaves``, ``enrolled`` after it, and ``share_frac`` of the users.

    Raises
    ------
    ScenarioError
        There are no buckets, or a percentage is out of range.

    Examples
    --------
    A rollback to zero does not switch the guide's rule off:

    >>> ids = user_ids("uuid4", 1000)
    >>> moves(buckets("guide", ids), [10, 0])[["to_percent", "joins", "leaves", "enrolled"]]
       to_percent  joins  leaves  enrolled
    0        10.0    537       0       537
    1         0.0      0      60       477
    """
    at = _checked_buckets("buckets", buckets)
    before, last, rows = np.zeros(len(at), dtype=bool), np.nan, []
    for percent in _checked_percents("percents", percents):
        now = at < percent
        rows.append(
            {
                "from_percent": last,
                "to_percent": percent,
                "joins": int((now & ~before).sum()),
                "leaves": int((before & ~now).sum()),
                "enrolled": int(now.sum()),
                "share_frac": now.mean(),
            }
        )
        before, last = now, percent
    return pd.DataFrame(rows)


def _ratio_p_value(enrolled: int, users: int, nominal: float) -> float:
    from scipy import stats

    expected = [users * nominal, users * (1.0 - nominal)]
    if min(expected) < _LEAST_EXPECTED:
        return float(stats.binomtest(enrolled, users, nominal).pvalue)
    return float(stats.chisquare([enrolled, users - enrolled], expected).pvalue)


def _check_text(path: str, text: Any) -> None:
    rule = "must be text of valid Unicode"
    if not isinstance(text, str):
        raise ScenarioError(path, text, rule)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ScenarioError(path, text, rule + ", without lone surrogates") from None


def _check_ids(ids: Any) -> None:
    if isinstance(ids, str) or not isinstance(ids, Sequence) or not ids:
        raise ScenarioError("ids", ids, "must be a list of at least one id")
    try:
        "".join(ids).encode()
    except (TypeError, UnicodeEncodeError):
        for number, user in enumerate(ids):
            _check_text(f"ids[{number}]", user)
    if "" in ids:
        raise ScenarioError(f"ids[{ids.index('')}]", "", "must not be empty")


def _checked_buckets(path: str, buckets: ArrayLike) -> NDArray[np.float64]:
    try:
        at = np.asarray(buckets, dtype=np.float64)
    except (TypeError, ValueError):
        at = np.empty(0)
    if at.ndim != 1 or at.size == 0 or np.isnan(at).any():
        raise ScenarioError(path, buckets, "must be an array of at least one bucket, none NaN")
    return at


def _checked_percents(path: str, percents: Any) -> list[float]:
    if not _are_percents(percents, 1):
        raise ScenarioError(path, percents, "must be a list of percentages in [0, 100]")
    return [float(percent) for percent in percents]


def _are_percents(values: Any, ndim: int) -> bool:
    try:
        given = np.asarray(values)
    except ValueError:  # rows of unequal length
        return False
    is_real = given.dtype.kind in "iuf" and given.ndim == ndim and given.size > 0
    return is_real and bool(np.all((given >= 0.0) & (given <= 100.0)))


def __dir__() -> list[str]:
    return sorted(__all__)


__getattr__ = renamed(globals(), {"places": "buckets", "settled": "fixed_assignment"})
