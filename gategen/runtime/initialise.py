"""First values of parameters: every function is ``(shape, rng, dtype) -> array``.

Matrices are ``(out, in)``, as in ``W @ x``: fan-in is the number of columns, fan-out the number of rows.
Numbers are drawn in float64 and rounded once, so that one seed gives the same model in both dtypes. No global
random state is read or changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gategen.errors import ArgumentError

FloatArray = NDArray[np.floating[Any]]
"""A float32 or float64 array."""


def glorot_uniform(
    shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32
) -> FloatArray:
    """Draw from U(-a, a) with a = sqrt(6 / (fan_in + fan_out)): variance 2 / (fan_in + fan_out).

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural
    networks", eq. 16.

    Args:
        shape: ``(out, in)``.
        rng: The source of randomness.
        dtype: float32 or float64.

    Returns:
        The array, of ``shape``.
    """
    rows, columns = _matrix(shape)
    limit = math.sqrt(6.0 / max(1, rows + columns))
    return rng.uniform(-limit, limit, (rows, columns)).astype(_dtype(dtype))


def glorot_normal(
    shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32
) -> FloatArray:
    """Draw from N(0, 2 / (fan_in + fan_out)).

    Source: Glorot and Bengio 2010, eq. 12: the variance between those that keep activations and gradients.

    Args:
        shape: ``(out, in)``.
        rng: The source of randomness.
        dtype: float32 or float64.

    Returns:
        The array, of ``shape``.
    """
    rows, columns = _matrix(shape)
    deviation = math.sqrt(2.0 / max(1, rows + columns))
    return rng.normal(0.0, deviation, (rows, columns)).astype(_dtype(dtype))


def he_uniform(shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> FloatArray:
    """Draw from U(-a, a) with a = sqrt(6 / fan_in): variance 2 / fan_in, for rectified units.

    Source: He et al. 2015, arXiv:1502.01852, eq. 10, as a uniform distribution of the same variance.

    Args:
        shape: ``(out, in)``.
        rng: The source of randomness.
        dtype: float32 or float64.

    Returns:
        The array, of ``shape``.
    """
    rows, columns = _matrix(shape)
    limit = math.sqrt(6.0 / max(1, columns))
    return rng.uniform(-limit, limit, (rows, columns)).astype(_dtype(dtype))


def he_normal(shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32) -> FloatArray:
    """Draw from N(0, 2 / fan_in), for rectified units.

    Source: He et al. 2015, arXiv:1502.01852, eq. 10.

    Args:
        shape: ``(out, in)``.
        rng: The source of randomness.
        dtype: float32 or float64.

    Returns:
        The array, of ``shape``.
    """
    rows, columns = _matrix(shape)
    return rng.normal(0.0, math.sqrt(2.0 / max(1, columns)), (rows, columns)).astype(_dtype(dtype))


def orthogonal(
    shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32, gain: float = 1.0
) -> FloatArray:
    """Draw ``gain * Q``, Q random with ``Q.T @ Q = I`` (``Q @ Q.T = I`` when it is wider than tall).

    Source: Saxe et al. 2013, arXiv:1312.6120.

    Args:
        shape: ``(out, in)``.
        rng: The source of randomness.
        dtype: float32 or float64.
        gain: A factor on every singular value.

    Returns:
        The array, of ``shape``.
    """
    rows, columns = _matrix(shape)
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    # LAPACK fixes the signs of Q its own way; with a positive diagonal of R, Q is uniform (Haar).
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return np.ascontiguousarray(gain * (q if rows >= columns else q.T), dtype=_dtype(dtype))


def uniform(
    shape: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float32, units: int | None = None
) -> FloatArray:
    """Draw from U(-1/sqrt(n), 1/sqrt(n)), n the number of units: what PyTorch's recurrent modules do.

    Args:
        shape: ``(out, in)``, or ``(out,)`` for a bias.
        rng: The source of randomness.
        dtype: float32 or float64.
        units: n; the first of ``shape`` when not given. PyTorch's dense layers take their fan-in here.

    Returns:
        The array, of ``shape``.
    """
    sizes = _sizes(shape)
    count = units if units is not None else (sizes[0] if sizes else 1)
    if units is not None and units < 1:
        raise ArgumentError("units", f"is {units}", "a positive number")
    limit = 1.0 / math.sqrt(max(1, count))
    return np.asarray(rng.uniform(-limit, limit, sizes), dtype=_dtype(dtype))


def _matrix(shape: Sequence[int]) -> tuple[int, int]:
    sizes = _sizes(shape)
    if len(sizes) != 2:
        raise ArgumentError("shape", f"{sizes} has no fan-in and fan-out", "the shape of a matrix, (out, in)")
    return sizes[0], sizes[1]


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    expected = "a tuple of integers that are not negative"
    if not isinstance(shape, Sequence) or not all(isinstance(size, int | np.integer) for size in shape):
        raise ArgumentError("shape", f"is {shape!r}", expected)
    sizes = tuple(int(size) for size in shape)
    if any(size < 0 for size in sizes):
        raise ArgumentError("shape", f"is {sizes}", expected)
    return sizes


def _dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ArgumentError("dtype", f"is {dtype!r}", "float32 or float64")
    return kind
