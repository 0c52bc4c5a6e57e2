"""Checks of arrays and names that all of training shares: what is wrong raises ``ArgumentError``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gategen.errors import ArgumentError, nearest

FloatArray = NDArray[np.floating[Any]]
"""A float32 or float64 array."""

IntArray = NDArray[np.integer[Any]]
"""An array of any integer dtype."""

Item = TypeVar("Item")


def any_array(argument: str, value: ArrayLike) -> NDArray[Any]:
    """The value as an array of any dtype."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(argument, f"cannot be read as an array ({error})", "an array") from error


def float_array(argument: str, value: ArrayLike) -> FloatArray:
    """The value as a float32 or float64 array; other dtypes are not cast in silence."""
    array = any_array(argument, value)
    if array.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ArgumentError(argument, f"has dtype {array.dtype}", "float32 or float64: .astype(np.float32)")
    return array


def real_array(argument: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """The value as an array of booleans, integers or floats of exactly this shape."""
    array = any_array(argument, value)
    if array.dtype.kind not in "biuf":
        raise ArgumentError(argument, f"has dtype {array.dtype}", "real numbers")
    same_shape(argument, array, shape)
    return array


def int_array(argument: str, value: ArrayLike) -> IntArray:
    """The value as an array of integers."""
    array = any_array(argument, value)
    if array.dtype.kind not in "iu":
        raise ArgumentError(argument, f"has dtype {array.dtype}", "integers: .astype(np.int64)")
    return array


def same_shape(argument: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise unless the array has exactly this shape; nothing is broadcast."""
    if array.shape != shape:
        raise ArgumentError(argument, f"has shape {array.shape}", f"{shape}")


def in_range(argument: str, ids: IntArray, size: int) -> None:
    """Raise unless all integers are at least 0 and below ``size``, naming the first that is not."""
    wrong = (ids < 0) | (ids >= size)
    if wrong.any():
        value = ids[wrong].flat[0]
        raise ArgumentError(argument, f"holds {value}", f"integers from 0 to {size - 1}")


def positive_int(argument: str, value: int) -> None:
    """Raise unless the value is an integer of at least 1."""
    if not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(argument, f"is {value!r}", "a positive integer")


def finite_number(argument: str, value: float, low: float, expected: str, *, high: float = np.inf) -> None:
    """Raise unless low <= value < high; NaN and infinities are refused."""
    if not isinstance(value, int | float | np.number) or not low <= value < high:
        raise ArgumentError(argument, f"is {value!r}", expected)


def lookup(argument: str, items: Mapping[str, Item], name: str) -> Item:
    """``items[name]``, or an error with the nearest name there is."""
    if name not in items:
        known = ", ".join(sorted(items)) or "nothing"
        raise ArgumentError(f"{argument}[{name!r}]", "unknown name", f"one of {known}", nearest(name, items))
    return items[name]
