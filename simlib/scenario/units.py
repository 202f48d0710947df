"""Units: those that fields say in their names, and durations and sizes as people write them.

A duration or size is a number in the field's unit, or a text such as "30s" or "48 kB".
"""

from __future__ import annotations

import re
from decimal import Decimal, DecimalException
from typing import Annotated, Any

from pydantic import BeforeValidator

_DURATIONS_S = {
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal("1.0"),
    "min": Decimal("60.0"),
    "m": Decimal("60.0"),
    "h": Decimal("3600.0"),
    "d": Decimal("86400.0"),
}
_SIZES_BYTES = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_BY_ENDING = {
    "bytes_per_s": "bytes/s",
    "bytes_per_h": "bytes/h",
    "_per_s": "1/s",
    "_per_h": "1/h",
    "_s": "s",
    "_bytes": "bytes",
    "_frac": "fraction",
    "percent": "%",
    "percents": "%",
}
_LARGEST = 10**15
_QUANTITY = re.compile(r"\s*([+-]?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-zµ]+)\s*")


def without_unit(name: str) -> tuple[str, str]:
    """Return the name of a field without its unit, and the unit, which may be empty.

    A name that is nothing but its unit stays whole.

    Examples
    --------
    >>> without_unit("interval_s"), without_unit("bytes_per_h"), without_unit("clients")
    (('interval', 's'), ('bytes_per_h', 'bytes/h'), ('clients', ''))
    """
    for ending, unit in _BY_ENDING.items():
        if name.endswith(ending):
            return name.removesuffix(ending).removesuffix("_") or name, unit
    return name, ""


def parse_duration_s(value: Any) -> Any:
    """Return a duration in seconds; a value that is not a string is returned unchanged.

    Parameters
    ----------
    value : str or object
        Such as ``"30s"``, ``"1.5 min"``, ``"250 ms"``; units us, ms, s, min (or m), h, d.

    Raises
    ------
    ValueError
        The text is not a number and a known unit.

    Examples
    --------
    >>> parse_duration_s("1.5 min"), parse_duration_s("250ms"), parse_duration_s(30)
    (90.0, 0.25, 30)
    """
    if not isinstance(value, str):
        return value
    number, unit = _split(value, _DURATIONS_S, "a duration")
    return float(number * _DURATIONS_S[unit])


def parse_size_bytes(value: Any) -> Any:
    """Return a size in bytes; a value that is not a string is returned unchanged.

    Parameters
    ----------
    value : str or object
        Such as ``"48 kB"`` (1000 bytes each) or ``"64 KiB"`` (1024 bytes each).

    Raises
    ------
    ValueError
        The text is not a number and a known unit, or not a whole number of bytes.

    Examples
    --------
    >>> parse_size_bytes("48 kB"), parse_size_bytes("64KiB"), parse_size_bytes(105)
    (48000, 65536, 105)
    """
    if not isinstance(value, str):
        return value
    number, unit = _split(value, _SIZES_BYTES, "a size")
    size = number * _SIZES_BYTES[unit]
    if size != int(size):
        raise ValueError("must be a whole number of bytes")
    return int(size)


def _split(text: str, units: dict[str, Any], what: str) -> tuple[Decimal, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        raise ValueError(f"must be {what}: a number and one of {', '.join(units)}")
    try:
        number = Decimal(match[1])
    except DecimalException:
        number = Decimal("Infinity")
    if not -_LARGEST < number < _LARGEST:
        raise ValueError(f"must be {what} within reach")
    return number, match[2]


Seconds = Annotated[float, BeforeValidator(parse_duration_s)]
Bytes = Annotated[int, BeforeValidator(parse_size_bytes)]
