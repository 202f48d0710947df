"""Bucketing: which users are enrolled at which percentage, by the hashes of real feature flags.

A rule gives each user one number, the *bucket*: at `percent` percent the user is enrolled exactly
if ``bucket < percent``. So a ramp is one comparison of two floats under any hash, and no user
leaves while the percentage grows, as buckets do not change. For a rule that enrols at ``<=``, the
bucket is the next float below. A user who is enrolled at zero percent has a bucket below zero.

``guide``
    Of the migration guide, which proposes to move React Query's polling to WebSocket behind such a
    percentage: ``hashCode(id) % 100 < percent`` in JavaScript, where the remainder has the sign of
    the hash. All users with a negative hash are enrolled at any percentage above zero, and 99 in
    100 of them at zero. Java's ``id.hashCode() % 100`` is the same number.
``guide_unwrapped``
    The same without ``| 0``, as ``hash * 31 + c``: a double, which is never negative but loses its
    low digits. Beyond some 200 characters it is infinite, and its remainder is not a number.
``java_abs``
    ``Math.abs(id.hashCode()) % 100``: in Java the absolute value of the least integer is negative.
``floor_mod``
    ``Math.floorMod(id.hashCode(), 100)``: the guide's rule with its sign put right.
``unleash``
    Gradual rollout: ``murmur3(group:id) % 100 + 1 <= percent``. Its Node client takes the low byte
    of each UTF-16 code unit.
``growthbook``, ``growthbook_v1``
    Rollout by a coverage: n <= coverage, with n from FNV-1a twice in 10,000 buckets (version 2 of
    its hash), or once in 1,000 (version 1, the SDK's default when a rule names none: two flags
    whose keys differ only in the last letter may have no user in common).
``growthbook_experiment``
    An experiment on version 2 whose first variation has a weight of `percent`: n < weight.
``launchdarkly``
    Percentage rollout: the first 15 hexadecimal digits of ``SHA-1(key.salt.id)`` as a fraction.
``flipt``, ``flipt_variant``
    Threshold of a boolean flag, ``crc32(id + key) % 100 < percent``; the first distribution of a
    variant flag, ``crc32(key + id) % 1000 < percent * 10``, rounded down to tenths.

Real systems store percentages as other floats (Flipt in 32 bits, GrowthBook and LaunchDarkly
divided by 100 or 100,000); here a percentage is the number that was typed, such as 0.1.

References
----------
Java SE 17 API, ``String.hashCode``, ``Math.abs`` and ``Math.floorMod``; ECMAScript, ``Number`` and
the operators ``%`` and ``|``. unleash-client 6.12.1, lib/strategy/util.js and
flexible-rollout-strategy.js. GrowthBook's SDK 1.8.0, packages/sdk-js/src/util.ts and core.ts.
LaunchDarkly's js-server-sdk-common 2.21.5, src/evaluation/Bucketer.ts and Evaluator.ts. Flipt,
internal/server/evaluation/evaluation.go (commit 03b9695). Fowler, Noll, Vo and Eastlake (2019),
The FNV Non-Cryptographic Hash Algorithm. Appleby (2011), MurmurHash3.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import mmh3

ALWAYS: Final = -math.inf
"""The bucket of a user who is enrolled at any percentage."""
NEVER: Final = math.inf
"""The bucket of a user who is enrolled at none."""

_WORD = 0xFFFFFFFF
_SIGN = 0x80000000


class BucketingRule(NamedTuple):
    """How a system computes a user's bucket.

    `text` says what is hashed, made of ``{user}``, ``{flag}`` and ``{salt}``; `digest` hashes it to
    a number, from which `to_bucket` computes the bucket.
    """

    text: str
    digest: Callable[[str], float]
    to_bucket: Callable[[Any], float]


def bucket_of(rule: str, user: str, flag: str = "", salt: str = "") -> float:
    """Return the bucket of a user, who is enrolled exactly if it is below the percentage.

    Parameters
    ----------
    rule : str
        One of `RULES`.
    user : str
        The id, as the flag's client receives it: valid Unicode.
    flag : str, optional
        The flag's key; Unleash's group, GrowthBook's seed. The guide's rules do not use it.
    salt : str, optional
        The flag's salt, which only LaunchDarkly uses.

    Returns
    -------
    float
        Percent, above -100. It is below zero only under ``guide`` and ``java_abs``. `NEVER` if a
        remainder is not a number.

    Examples
    --------
    >>> bucket_of("guide", "user-7"), bucket_of("floor_mod", "user-7")
    (-19.0, 81.0)
    >>> bucket_of("unleash", "user-7", "push") < 51.0
    True
    """
    text, digest, to_bucket = RULES[rule]
    return to_bucket(digest(text.format(user=user, flag=flag, salt=salt)))


def fixed_assignment(bucket: float, percent: float) -> float:
    """Return the bucket under a flag that stays at `percent`: `ALWAYS` or `NEVER` enrolled.

    Examples
    --------
    >>> fixed_assignment(12.0, 50.0), fixed_assignment(50.0, 50.0)
    (-inf, inf)
    """
    return ALWAYS if bucket < percent else NEVER


def combine(how: str, *buckets: float) -> float:
    """Return the bucket of a user who is enrolled by several flags together.

    Parameters
    ----------
    how : {"and", "or"}
        Whether the user is enrolled if all flags say so, or if any does.
    *buckets : float
        The user's bucket under each flag, all at one percentage; `fixed_assignment` for a flag that
        has its own.

    Examples
    --------
    An experiment at 50 %, a ramp, and a flag that is on, as the guide has them:

    >>> experiment, ramp, flag = fixed_assignment(70.0, 50.0), 12.0, ALWAYS
    >>> combine("and", experiment, ramp, flag), combine("or", experiment, ramp)
    (inf, 12.0)
    """
    return {"and": max, "or": min}[how](buckets)


def hash_code(text: str | Iterable[Any]) -> Any:
    """Return Java's ``String.hashCode``: 31 * h + c over UTF-16 code units, in 32 bits with sign.

    The usual JavaScript, ``((h << 5) - h + c) | 0``, is the same number.

    Parameters
    ----------
    text : str, or iterable of int or uint64 arrays
        The text, or its code units; for many texts of one length, the code units as arrays.

    Returns
    -------
    int or uint64 array
        In [-2**31, 2**31); of arrays, the bits of an int64.

    Examples
    --------
    >>> hash_code("hello"), hash_code("polygenelubricants")
    (99162322, -2147483648)
    """
    value: Any = 0
    for unit in _units(text):
        value = (31 * value + unit) & _WORD
    return value - ((value & _SIGN) << 1)


def unwrapped_hash_code(text: str) -> float:
    """Return ``hash * 31 + c`` over UTF-16 code units as JavaScript computes it: a double.

    Examples
    --------
    >>> unwrapped_hash_code("hello"), unwrapped_hash_code("polygenelubricants")
    (99162322.0, 2.608...e+27)
    """
    value = 0.0
    for unit in _units(text):
        value = 31.0 * value + unit
    return value


def fnv1a(text: str | Iterable[Any]) -> Any:
    """Return FNV-1a in 32 bits as GrowthBook computes it: over UTF-16 code units, not bytes.

    Parameters
    ----------
    text : str, or iterable of int or uint64 arrays
        As for `hash_code`.

    Returns
    -------
    int or uint64 array
        In [0, 2**32).

    Examples
    --------
    >>> hex(fnv1a("foobar"))
    '0xbf9cf968'
    """
    value: Any = 0x811C9DC5
    for unit in _units(text):
        value = ((value ^ unit) * 0x01000193) & _WORD
    return value


def fnv1a_twice(text: str) -> int:
    """Return `fnv1a` of the decimal digits of `fnv1a`: version 2 of GrowthBook's hash.

    Examples
    --------
    >>> fnv1a_twice("foobar") == fnv1a("3214735720")
    True
    """
    return int(fnv1a(str(fnv1a(text))))


def _murmur3(text: str) -> int:
    return mmh3.hash(text.encode("utf-16-le")[::2], signed=False)


def _sha1(text: str) -> int:
    return int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:15], 16)


def _crc32(text: str) -> int:
    return zlib.crc32(text.encode())


def _units(text: str | Iterable[Any]) -> Iterable[Any]:
    if not isinstance(text, str):
        return text
    if text.isascii():
        return text.encode("ascii")
    data = text.encode("utf-16-le")
    return struct.unpack(f"<{len(data) // 2}H", data)


def _remainder(value: float) -> float:
    """JavaScript's and Java's ``%``, which keeps the sign; `NEVER` for infinity."""
    return math.fmod(value, 100.0) if value < math.inf else NEVER


def _absolute_remainder(value: int) -> float:
    return math.fmod(value if value == -_SIGN else abs(value), 100.0)


def _from(percent: float) -> float:
    """The bucket of a user who is enrolled from `percent` on, inclusive, but not at zero."""
    return math.nextafter(percent, 0.0)


RULES: Final[dict[str, BucketingRule]] = {
    "guide": BucketingRule("{user}", hash_code, _remainder),
    "guide_unwrapped": BucketingRule("{user}", unwrapped_hash_code, _remainder),
    "java_abs": BucketingRule("{user}", hash_code, _absolute_remainder),
    "floor_mod": BucketingRule("{user}", hash_code, lambda value: float(value % 100)),
    "unleash": BucketingRule("{flag}:{user}", _murmur3, lambda value: _from(value % 100 + 1)),
    "growthbook": BucketingRule(
        "{flag}{user}", fnv1a_twice, lambda value: _from(value % 10_000 / 100)
    ),
    "growthbook_v1": BucketingRule("{user}{flag}", fnv1a, lambda value: _from(value % 1000 / 10)),
    "growthbook_experiment": BucketingRule(
        "{flag}{user}", fnv1a_twice, lambda value: value % 10_000 / 100
    ),
    "launchdarkly": BucketingRule(
        "{flag}.{salt}.{user}", _sha1, lambda value: 100.0 * (value / 2.0**60)
    ),
    "flipt": BucketingRule("{user}{flag}", _crc32, lambda value: float(value % 100)),
    "flipt_variant": BucketingRule(
        "{flag}{user}", _crc32, lambda value: _from((value % 1000 + 1) / 10)
    ),
}
"""Every rule by its name."""
