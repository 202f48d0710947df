"""Elementary functions by arithmetic alone, so that every machine has the same bits.

``math.log`` calls the C library, and C libraries differ in the last bit of a logarithm. The
functions here use only operations whose results IEEE 754 prescribes: ``+ - * /``, comparisons,
powers of two. So a run is the same under any C library, and compiled code, which uses none, agrees
with Python. The price is an error of less than one unit in the last place; the best libraries have
half a unit.

The methods and the coefficients are those of fdlibm 5.3 (Sun Microsystems 1993: ``e_log.c``,
``e_exp.c``, ``s_cos.c``, ``e_rem_pio2.c``). Logarithm and cosine are put together as in FreeBSD's
``k_log.h`` and ``k_cos.c``, which need no tables of cases. The order of operations is part of the
result: changing it changes runs.

`logs`, `exps` and `cosines` are the same functions of arrays, bit for bit, for what is drawn before
a run begins. They share the arithmetic; only the choice between cases is made in another way.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

# ln 2 and pi / 2 in parts. The high parts end in zeros: times a small whole number is exact.
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_PER_LN2 = 1.44269504088896338700
_QUARTER_HIGH = 1.57079632673412561417
_QUARTER_REST = 6.07710050650619224932e-11
_QUARTER_MIDDLE = 6.07710050630396597660e-11
_QUARTER_LOW = 2.02226624879595063154e-21
_PER_QUARTER = 6.36619772367581382433e-01

_ROOT_HALF = 0.7071067811865476
_LARGEST_EXPONENT = 709.782712893384
_SMALLEST_EXPONENT = -745.1332191019411
_CANCELLED = 2.0**-16
_TURN = 2.0 * math.pi

Number = TypeVar("Number", float, NDArray[np.float64])


def take_apart(x: float) -> tuple[float, int]:
    """Return m in [0.5, 1) and k with m * 2**k = `x`; compiled code reads the bits instead.

    Parameters
    ----------
    x : float
        Positive and finite.

    Examples
    --------
    >>> take_apart(12.0)
    (0.75, 4)
    """
    return math.frexp(x)


def power_of_two(k: int) -> float:
    """Return 2**`k`, exactly; compiled code writes the bits instead.

    Parameters
    ----------
    k : int
        In [-1022, 1023].

    Examples
    --------
    >>> power_of_two(-2)
    0.25
    """
    return math.ldexp(1.0, k)


def log(x: float) -> float:
    """Return the natural logarithm.

    Parameters
    ----------
    x : float
        Any. Of 0 the logarithm is minus infinity, of negative numbers and of nan it is nan.

    Returns
    -------
    float
        Less than one unit in the last place from the exact value.

    Examples
    --------
    >>> log(1.0), log(2.0), log(0.0)
    (0.0, 0.6931471805599453, -inf)
    """
    if not 0.0 < x < math.inf:
        return x if x > 0.0 else -math.inf if x == 0.0 else math.nan
    m, k = take_apart(x)
    if m < _ROOT_HALF:
        m, k = 2.0 * m, k - 1
    return _log_of_parts(m, k)


def logs(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `log` of each number of an array; they are positive and finite.

    Examples
    --------
    >>> logs(np.array([1.0, 2.0])).tolist() == [log(1.0), log(2.0)]
    True
    """
    m, k = np.frexp(x)
    is_low = m < _ROOT_HALF
    return _log_of_parts(np.where(is_low, 2.0 * m, m), k - is_low)


def _log_of_parts(m: Number, k: Number) -> Number:
    """The logarithm of `m` * 2**`k`, for `m` from the root of 1/2 to that of 2."""
    # ln(1 + f) = 2 atanh(s) = f - f**2 / 2 + s (f**2 / 2 + r), where r is a polynomial in s**2.
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (
        3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01)
    )
    odd = z * (
        6.666666666666735130e-01
        + w
        * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half = 0.5 * f * f
    return s * (half + (odd + even)) + k * _LN2_LOW - half + f + k * _LN2_HIGH


def exp(x: float) -> float:
    """Return e to the power of `x`.

    Parameters
    ----------
    x : float
        Any. Beyond 709.78 the result is infinity, below -745.13 it is 0; of nan it is nan.

    Returns
    -------
    float
        Less than one unit in the last place from the exact value.

    Examples
    --------
    >>> exp(0.0), round(exp(1.0), 12), exp(1000.0)
    (1.0, 2.718281828459, inf)
    """
    if not _SMALLEST_EXPONENT <= x <= _LARGEST_EXPONENT:
        return math.inf if x > 0.0 else 0.0 if x < 0.0 else x
    k = int(x * _PER_LN2 + (0.5 if x >= 0.0 else -0.5))
    y = _exp_of_rest(x, k)
    # In two steps: the power itself may be out of range where the result is not.
    first = k >> 1
    return y * power_of_two(first) * power_of_two(k - first)


def exps(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `exp` of each number of an array; they are in [-745, 709].

    Examples
    --------
    >>> exps(np.array([-1.0, 2.0])).tolist() == [exp(-1.0), exp(2.0)]
    True
    """
    k = np.trunc(x * _PER_LN2 + np.where(x >= 0.0, 0.5, -0.5))
    return np.ldexp(_exp_of_rest(x, k), k.astype(np.int64))


def _exp_of_rest(x: Number, k: Number) -> Number:
    """The power of e to what is left of `x` without `k` times ln 2."""
    high = x - k * _LN2_HIGH
    low = k * _LN2_LOW
    # exp(r) = 1 + r + r c / (2 - c), where c is r less a polynomial in r**2.
    r = high - low
    t = r * r
    c = r - t * (
        1.66666666666666019037e-01
        + t
        * (
            -2.77777777770155933842e-03
            + t
            * (
                6.61375632143793436117e-05
                + t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08)
            )
        )
    )
    return 1.0 - ((low - r * c / (2.0 - c)) - high)


def cos(x: float) -> float:
    """Return the cosine of an angle of at most one turn.

    Parameters
    ----------
    x : float
        Radians, in [0, 2 pi].

    Returns
    -------
    float
        Less than one unit in the last place from the exact value; nan outside the range.

    Examples
    --------
    >>> cos(0.0), cos(math.pi), cos(7.0)
    (1.0, -1.0, nan)
    """
    if not 0.0 <= x <= _TURN:
        return math.nan
    quarters = int(x * _PER_QUARTER + 0.5)
    # The rest of the angle, as a number and its rounding error. 86 bits of pi / 2 are enough,
    # unless the angle is so near a multiple that they cancel: then 118 are.
    r = x - quarters * _QUARTER_HIGH
    w = quarters * _QUARTER_REST
    y = r - w
    if abs(y) < _CANCELLED * x:
        whole = r
        w = quarters * _QUARTER_MIDDLE
        r = whole - w
        w = quarters * _QUARTER_LOW - ((whole - r) - w)
        y = r - w
    error = (r - y) - w
    if quarters == 1:
        return -_sine_near_0(y, error)
    if quarters == 3:
        return _sine_near_0(y, error)
    near = _cosine_near_0(y, error)
    return -near if quarters == 2 else near


def cosines(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `cos` of each angle of an array; they are in [0, 2 pi].

    Examples
    --------
    >>> cosines(np.array([0.5, 4.0])).tolist() == [cos(0.5), cos(4.0)]
    True
    """
    quarters = (x * _PER_QUARTER + 0.5).astype(np.int64)
    r = x - quarters * _QUARTER_HIGH
    w = quarters * _QUARTER_REST
    y = r - w
    error = (r - y) - w
    sine, near = _sine_near_0(y, error), _cosine_near_0(y, error)
    result = np.choose(quarters % 4, [near, -sine, -near, sine])
    for place in np.flatnonzero(np.abs(y) < _CANCELLED * x).tolist():
        result[place] = cos(float(x[place]))
    return np.asarray(result)


def _sine_near_0(x: Number, error: Number) -> Number:
    """The sine of `x` + `error`, for |`x`| <= pi / 4."""
    z = x * x
    cube = z * x
    r = 8.33333333332248946124e-03 + z * (
        -1.98412698298579493134e-04
        + z
        * (
            2.75573137070700676789e-06
            + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)
        )
    )
    return x - ((z * (0.5 * error - cube * r) - error) - cube * -1.66666666666666324348e-01)


def _cosine_near_0(x: Number, error: Number) -> Number:
    """The cosine of `x` + `error`, for |`x`| <= pi / 4."""
    z = x * x
    w = z * z
    r = z * (
        4.16666666666666019037e-02
        + z * (-1.38888888888741095749e-03 + z * 2.48015872894767294178e-05)
    ) + w * w * (
        -2.75573143513906633035e-07
        + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)
    )
    half = 0.5 * z
    near = 1.0 - half
    return near + (((1.0 - near) - half) + (z * r - x * error))
