"""Logarithm, exponential decay, sine and cosine in plain arithmetic.

Those of a C library differ from machine to machine in the last bit and keep a compiler from working
on several numbers at once. These use nothing but IEEE additions, multiplications and the bits of a
number: every machine, and every way of compiling, gives the same bits.
"""

from __future__ import annotations

import math

import numpy as np

from kalshi_pipeline.compiled import lane_part

# ln x = 2 artanh s = 2 s + s^3 L(s^2), s = (x - 1) / (x + 1), sqrt(1/2) <= x <= sqrt(2): minimax
# fit, error 3e-8
_L0, _L1 = np.float32(0.6665342797073448), np.float32(0.4128745949433837)
_SQRT_HALF_BITS = np.int32(np.float32(math.sqrt(0.5)).view(np.int32))
_ONE, _TWO, _HALF = np.float32(1.0), np.float32(2.0), np.float32(0.5)
_LN2 = np.float32(math.log(2.0))
# sin x = x + x^3 S(x^2), cos x = 1 - x^2 / 2 + x^4 C(x^2) for |x| <= pi / 4: errors 2e-9, 1e-10
_S0, _S1 = np.float32(-0.1666665066926159), np.float32(0.008331978661732001)
_S2 = np.float32(-0.00019495636089432336)
_C0, _C1 = np.float32(0.04166664686640099), np.float32(-0.0013887367513998519)
_C2 = np.float32(2.443845141853276e-05)
# adding this to a small double rounds it to a whole number, which then stands in the lowest bits
_ROUND = 1.5 * 2.0**52
_LOG2E = 1.0 / math.log(2.0)
_LN2_HIGH = math.floor(math.log(2.0) * 2.0**32) / 2.0**32  # times a small whole number: exact
_LN2_LOW = 1.9082149292705877e-10  # ln 2 less that
_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11 = (1 / math.factorial(k) for k in range(2, 12))


@lane_part
def log32(x: np.float32) -> np.float32:
    """Natural logarithm of a number >= 1, to 1.5 units in the last place."""
    bits = np.float32(x).view(np.int32)
    # each result is an int32 again: of wider ones half as many are worked on at a time
    exponent = np.int32(np.int32(bits - _SQRT_HALF_BITS) >> np.int32(23))
    m = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32) - _ONE
    s = m / (m + _TWO)
    square = s * s
    return np.float32(exponent) * _LN2 + s * (_TWO + square * (_L0 + square * _L1))


@lane_part
def decay64(x: float) -> float:
    """exp(-x) of a number >= 0, to a relative 10^-14; beyond 700 that of 700, which is 10^-304."""
    y = -min(x, 700.0)
    rounded = y * _LOG2E + _ROUND
    whole = rounded - _ROUND
    r = (y - whole * _LN2_HIGH) - whole * _LN2_LOW
    p = _E6 + r * (_E7 + r * (_E8 + r * (_E9 + r * (_E10 + r * _E11))))
    p = 1.0 + r * (1.0 + r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * p)))))
    power = np.int64((np.float64(rounded).view(np.int64) + 1023) << 52).view(np.float64)
    return p * power


@lane_part
def quarters(turns: float) -> tuple[np.float32, np.float32]:
    """Sine and cosine of an angle in quarter turns, to 10^-7."""
    rounded = turns + _ROUND
    x = np.float32((turns - (rounded - _ROUND)) * (math.pi / 2.0))
    quadrant = np.int32(np.float64(rounded).view(np.int64) & 3)
    square = x * x
    sine = x + x * square * (_S0 + square * (_S1 + square * _S2))
    cosine = _ONE - _HALF * square + square * square * (_C0 + square * (_C1 + square * _C2))
    swapped = quadrant & 1
    up, along = (cosine, sine) if swapped else (sine, cosine)
    return -up if quadrant & 2 else up, -along if (quadrant + 1) & 2 else along
