"""Random draws that are addressed, not consumed.

A draw is a pure function of its address: ``uniform(seed, replication, client, stream, k)``. So the
order of events cannot change which client gets which number, every driver sees the same draws, and
two transports compared on one seed use common random numbers.

The generator is Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3",
SC '11), keyed by (seed, replication), with (client, stream, k, 0) as the counter; the first of
its four output words is the draw. It equals ``numpy.random.Philox`` bit for bit, which a test
checks. The arithmetic splits each 64-bit word into halves and masks after each shift, so the one
source serves Python integers, uint64 arrays and compiled int64, whose bits are the same.

Draws are transformed by the functions of `elementary` alone. The ``log`` of a C library and NumPy's
vectorised one differ from them in the last bit, and two drivers, or two machines, must not disagree
by a bit.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simlib.core.elementary import cos, cosines, exp, log, logs

_HALF = 0xFFFFFFFF
_MULTIPLIER_0 = (0xD2E7470E, 0xE14C6C93)
_MULTIPLIER_1 = (0xCA5A8263, 0x95121157)
_WEYL_0 = (0x9E3779B9, 0x7F4A7C15)
_WEYL_1 = (0xBB67AE85, 0x84CAA73B)
_ROUNDS = 10
_FRACTION = 2**53 - 1
_UNIT = 2.0**-53


class Stream(IntEnum):
    """What a draw is for. A new use takes a new number; numbers are never changed."""

    START = 0
    SESSION_GAP = 1
    SESSION_LENGTH = 2
    PUBLISH = 3
    DRAG_GAP = 4
    DRAG_LENGTH = 5
    HIDDEN_GAP = 6
    HIDDEN_LENGTH = 7
    ROUND_TRIP = 8
    POLL_JITTER = 9
    BACKOFF = 10
    ACCEPT_SERVICE = 11
    POLL_SERVICE = 12
    HANDSHAKE_SERVICE = 13
    FAN_OUT_SERVICE = 14
    HEARTBEAT_SERVICE = 15
    FAULT = 16
    LATENCY = 17
    NODE = 18
    SAFETY_SERVICE = 19
    TIMERS = 20
    USER = 21
    FLAG = 22
    CLOSE_SERVICE = 23
    SPREAD = 24
    SEND_SERVICE = 25
    MEETING = 26
    FORGET = 27
    HOLD_SERVICE = 28
    STREAM_PROXY = 29


def _multiply(a: Any, b: tuple[int, int]) -> tuple[Any, Any]:
    """High and low word of the 128-bit product, through 32-bit halves; `b` is (high, low)."""
    a_high, a_low = (a >> 32) & _HALF, a & _HALF
    b_high, b_low = b
    low = a_low * b_low
    middle = a_high * b_low + ((low >> 32) & _HALF)
    cross = a_low * b_high + (middle & _HALF)
    high = a_high * b_high + ((middle >> 32) & _HALF) + ((cross >> 32) & _HALF)
    return high, ((cross & _HALF) << 32) | (low & _HALF)


def _add(a: int, b: tuple[int, int]) -> int:
    """The sum of two words, without its carry; `b` is (high, low)."""
    low = (a & _HALF) + b[1]
    high = ((a >> 32) & _HALF) + b[0] + (low >> 32)
    return ((high & _HALF) << 32) | (low & _HALF)


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Return the four output words of Philox4x64-10 for one counter and key.

    Parameters
    ----------
    counter : tuple of four int or uint64 arrays
        Each in [0, 2**64).
    key : tuple of two int
        Each in [0, 2**64).

    Returns
    -------
    tuple of four int or uint64 arrays
        Of the counter's shape.

    References
    ----------
    Salmon, Moraes, Dror, Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, SC '11.

    Examples
    --------
    >>> expected = np.random.Philox(counter=[0, 0, 0, 0], key=[7, 3]).random_raw(4).tolist()
    >>> list(philox((1, 0, 0, 0), (7, 3))) == expected
    True
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high_0, low_0 = _multiply(c0, _MULTIPLIER_0)
        high_1, low_1 = _multiply(c2, _MULTIPLIER_1)
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0 = _add(k0, _WEYL_0)
        k1 = _add(k1, _WEYL_1)
    return c0, c1, c2, c3


def uniform(seed: int, replication: int, client: int, stream: int, k: int) -> float:
    """Return draw number `k` of a client's stream, uniform on [0, 1).

    Parameters
    ----------
    seed, replication : int
        The key, each in [0, 2**64).
    client, stream, k : int
        The address, each in [0, 2**64); `stream` is a `Stream`.

    Returns
    -------
    float
        A multiple of 2**-53.

    Examples
    --------
    >>> uniform(1, 0, 5, Stream.START, 0) == uniform(1, 0, 5, Stream.START, 0)
    True
    """
    word = philox((int(client) + 0, stream + 0, int(k) + 0, 0), (seed, replication))[0]
    return float((word >> 11) & _FRACTION) * _UNIT


def uniform_block(
    seed: int, replication: int, client: int, stream: int, k: int, attempt: int
) -> tuple[float, float, float, float]:
    """Return four uniform draws at one address, for a variate that needs more than one.

    Parameters
    ----------
    seed, replication, client, stream, k : int
        As in `uniform`, which is the first of the four of attempt 0.
    attempt : int
        How often a draw at this address was rejected so far.

    Examples
    --------
    >>> uniform_block(1, 0, 5, Stream.START, 0, 0)[0] == uniform(1, 0, 5, Stream.START, 0)
    True
    """
    counter = int(client) + 0, stream + 0, int(k) + 0, int(attempt) + 0
    a, b, c, d = philox(counter, (seed, replication))
    return (
        float((a >> 11) & _FRACTION) * _UNIT,
        float((b >> 11) & _FRACTION) * _UNIT,
        float((c >> 11) & _FRACTION) * _UNIT,
        float((d >> 11) & _FRACTION) * _UNIT,
    )


def uniforms(
    seed: int,
    replication: int,
    client: int | NDArray[np.uint64],
    stream: int,
    k: int | NDArray[np.uint64],
) -> NDArray[np.float64]:
    """Return `uniform` for arrays of clients or of draw numbers, broadcast against each other.

    Examples
    --------
    >>> uniforms(1, 0, 5, Stream.START, np.arange(2, dtype=np.uint64))[1] == uniform(
    ...     1, 0, 5, Stream.START, 1
    ... )
    np.True_
    """
    clients, ks = np.broadcast_arrays(
        np.asarray(client, dtype=np.uint64), np.asarray(k, dtype=np.uint64)
    )
    streams = np.full(clients.shape, stream, dtype=np.uint64)
    words = philox((clients, streams, ks, np.zeros_like(clients)), (seed, replication))[0]
    return np.asarray((words >> 11) * _UNIT, dtype=np.float64)


def uniforms_of_clients(
    seed: int, replication: int, clients: int, stream: int, k: int
) -> NDArray[np.float64]:
    """Return `uniform` of clients 0 to `clients` - 1, shape (clients,).

    NumPy's generator counts up what is the client here, so its own loop draws them all; of its
    loops it is the quick one that other threads need not wait for.

    Examples
    --------
    >>> uniforms_of_clients(1, 0, 3, Stream.START, 0)[2] == uniform(1, 0, 2, Stream.START, 0)
    np.True_
    """
    before_first = ((k << 128 | stream << 64) - 1) % (1 << 256)
    generator = np.random.Generator(
        np.random.Philox(counter=before_first, key=replication << 64 | seed)
    )
    words = generator.integers(0, 1 << 64, 4 * clients, np.uint64)[::4]
    return np.asarray((words >> 11) * _UNIT, dtype=np.float64)


def exponential(u: float, mean: float) -> float:
    """Return the exponential variate of `mean` that belongs to the uniform draw `u`.

    Examples
    --------
    >>> round(exponential(0.5, 30.0), 3)
    20.794
    """
    return -log(1.0 - u) * mean


def exponentials(u: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Return `exponential` of each uniform draw of an array.

    Examples
    --------
    >>> exponentials(np.array([0.5]), 30.0)[0] == exponential(0.5, 30.0)
    np.True_
    """
    return -logs(1.0 - u) * mean


def normal(u: float, v: float) -> float:
    """Return the standard normal variate of two uniform draws (Box and Muller 1958).

    Examples
    --------
    >>> round(normal(0.5, 0.0), 3)
    1.177
    """
    return math.sqrt(-2.0 * log(1.0 - u)) * cos(2.0 * math.pi * v)


def normals(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `normal` of each pair of uniform draws of two arrays.

    Examples
    --------
    >>> normals(np.array([0.5]), np.array([0.1]))[0] == normal(0.5, 0.1)
    np.True_
    """
    return np.sqrt(-2.0 * logs(1.0 - u)) * cosines(2.0 * math.pi * v)


def lognormal(u: float, v: float, mean: float, sigma: float) -> float:
    """Return the lognormal variate of a mean that belongs to two uniform draws.

    `sigma` is the standard deviation of its logarithm: with a coefficient of variation c it is
    ``sqrt(log(1 + c**2))`` (Johnson, Kotz and Balakrishnan 1994, chapter 14).

    Examples
    --------
    >>> lognormal(0.3, 0.25, 30.0, 0.0)
    30.0
    """
    return mean * exp(sigma * normal(u, v) - 0.5 * sigma * sigma)


def gamma(
    seed: int, replication: int, client: int, stream: int, k: int, mean: float, shape: float
) -> float:
    """Return the gamma variate of a mean and a shape at an address; its CV is ``shape**-0.5``.

    References
    ----------
    Marsaglia, Tsang (2000), A simple method for generating gamma variables, ACM Transactions on
    Mathematical Software 26(3), with their remedy for shapes below 1.

    Examples
    --------
    >>> drawn = [gamma(1, 0, 0, Stream.POLL_SERVICE, k, 30.0, 4.0) for k in range(2000)]
    >>> bool(abs(np.mean(drawn) - 30.0) < 1.0), bool(abs(np.std(drawn) - 15.0) < 1.0)
    (True, True)
    """
    d = (shape + 1.0 if shape < 1.0 else shape) - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    attempt = 0
    while True:
        u, v, w, boost = uniform_block(seed, replication, client, stream, k, attempt)
        z = normal(u, v)
        root = 1.0 + c * z
        cube = root * root * root
        if cube > 0.0 and log(1.0 - w) < 0.5 * z * z + d * (1.0 - cube + log(cube)):
            break
        attempt += 1
    scale = d * cube / shape
    if shape < 1.0:
        scale *= exp(log(1.0 - boost) / shape)
    return mean * scale
