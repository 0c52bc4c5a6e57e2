"""Losses with their gradients, and metrics.

A loss returns ``(loss, gradient)``: the mean over all that counts, as a Python float, and its gradient with
respect to the first argument, in that argument's shape and dtype.

A ``mask`` has the shape of the leading axes of what it masks, ``(T, B)`` for outputs ``(T, B, width)``.
Booleans select; non-negative numbers weigh, the mean being ``sum(w * loss) / sum(w)``. What does not count is
left out before any arithmetic, so NaN, infinities and meaningless targets in padding neither leak nor raise,
and its gradient is zero. If nothing counts, loss and gradient are zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gategen.errors import ArgumentError
from gategen.training.arguments import (
    FloatArray,
    IntArray,
    any_array,
    finite_number,
    float_array,
    in_range,
    int_array,
    lookup,
    real_array,
    same_shape,
)


@dataclass(frozen=True)
class _Counted:
    """What counts.

    Attributes:
        index: Selects the rows that count: a boolean mask, or everything.
        share: What each selected item contributes to the mean; broadcasts against the selected items.
    """

    index: NDArray[np.bool_] | EllipsisType
    share: FloatArray


def mean_squared_error(
    prediction: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None
) -> tuple[float, FloatArray]:
    """Mean of ``(prediction - target)**2`` over every element that counts.

    Args:
        prediction: Any shape, float32 or float64.
        target: The same shape.
        mask: The shape of leading axes of ``prediction``; see the module.

    Returns:
        The loss, and its gradient with respect to ``prediction``.
    """
    values = float_array("prediction", prediction)
    wanted = real_array("target", target, values.shape)
    counted = _counted(values.shape, mask, values.dtype)
    gradient = np.zeros_like(values)
    with np.errstate(over="ignore", invalid="ignore"):
        error = values[counted.index] - wanted[counted.index].astype(values.dtype)
        gradient[counted.index] = 2 * error * counted.share
        return _mean(error * error, counted), gradient


def softmax_cross_entropy(
    logits: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None
) -> tuple[float, FloatArray]:
    """Mean of ``-log(softmax(logits)[target])``; classes along the last axis.

    Nothing overflows, and neither a loss nor a gradient near zero is lost to cancellation.

    Args:
        logits: ``(..., classes)``, float32 or float64.
        target: ``(...)``, integers below ``classes``.
        mask: The shape of leading axes of ``target``; see the module.

    Returns:
        The loss, and its gradient with respect to ``logits``.
    """
    values, wanted = _class_arguments(logits, target)
    counted = _counted(wanted.shape, mask, values.dtype)
    chosen = _counted_classes(wanted, counted, values.shape[-1])[..., None]
    gradient = np.zeros_like(values)
    if chosen.size == 0:
        return 0.0, gradient
    with np.errstate(over="ignore", invalid="ignore"):
        rows = values[counted.index]
        shifted = rows - rows.max(axis=-1, keepdims=True)
        at_target = np.take_along_axis(shifted, chosen, axis=-1)
        # The target's own term stays out of the sum: 1 - softmax[target] is then no difference.
        others = np.exp(shifted)
        np.put_along_axis(others, chosen, 0, axis=-1)
        rest = others.sum(axis=-1, keepdims=True)
        losses = np.log1p(rest + np.expm1(at_target)) - at_target
        total = rest + np.exp(at_target)
        slopes = others / total
        np.put_along_axis(slopes, chosen, -rest / total, axis=-1)
        gradient[counted.index] = slopes * counted.share[..., None]
        return _mean(losses[..., 0], counted), gradient


def sigmoid_binary_cross_entropy(
    logits: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None
) -> tuple[float, FloatArray]:
    """Mean of ``-y * log(p) - (1 - y) * log(1 - p)`` with ``p = sigmoid(logits)``.

    Nothing overflows, and neither a loss nor a gradient near zero is lost to cancellation: p is never formed.

    Args:
        logits: Any shape, float32 or float64.
        target: The same shape, numbers from 0 to 1.
        mask: The shape of leading axes of ``logits``; see the module.

    Returns:
        The loss, and its gradient with respect to ``logits``.
    """
    values = float_array("logits", logits)
    wanted = real_array("target", target, values.shape)
    counted = _counted(values.shape, mask, values.dtype)
    x, y = values[counted.index], wanted[counted.index].astype(values.dtype)
    outside = ~((y >= 0) & (y <= 1))
    if outside.any():
        raise ArgumentError("target", f"holds {y[outside].flat[0]}", "numbers from 0 to 1")
    gradient = np.zeros_like(values)
    with np.errstate(over="ignore", invalid="ignore"):
        positive = x > 0
        decay = np.exp(-np.abs(x))
        # The loss is a straight line plus a decay; at infinity with the right target the line is 0, not NaN.
        slack = positive - y
        losses = np.where(slack == 0, 0, x * slack) + np.log1p(decay)
        small = decay / (1 + decay)
        gradient[counted.index] = np.where(positive, (1 - y) - small, small - y) * counted.share
        return _mean(losses, counted), gradient


def weight_penalty(
    parameters: Mapping[str, FloatArray], rate: float, names: Iterable[str] | None = None
) -> tuple[float, dict[str, FloatArray]]:
    """``rate`` times the sum of squares of parameters, to be added to a loss (L2 regularisation).

    Args:
        parameters: Name to array, any shapes.
        rate: The factor, 0 or more.
        names: Which parameters are penalised; all matrices when not given, since biases need no penalty.

    Returns:
        The penalty, and its gradient for each penalised name.
    """
    finite_number("rate", rate, 0.0, "a finite number of at least 0")
    wanted = [name for name in parameters if np.ndim(parameters[name]) == 2] if names is None else list(names)
    chosen = {
        name: float_array(f"parameters[{name!r}]", lookup("parameters", parameters, name)) for name in wanted
    }
    with np.errstate(over="ignore", invalid="ignore"):
        total = math.fsum(float(np.sum(np.square(array, dtype=np.float64))) for array in chosen.values())
        return rate * total, {name: np.asarray(2 * rate * array) for name, array in chosen.items()}


def accuracy(logits: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None) -> float:
    """The share of items whose largest logit is the target's.

    Args:
        logits: ``(..., classes)``, float32 or float64.
        target: ``(...)``, integers below ``classes``.
        mask: The shape of leading axes of ``target``; see the module.

    Returns:
        A number from 0 to 1; 0 if nothing counts.
    """
    values, wanted = _class_arguments(logits, target)
    counted = _counted(wanted.shape, mask, np.dtype(np.float64))
    chosen = _counted_classes(wanted, counted, values.shape[-1])
    if chosen.size == 0:
        return 0.0
    return _mean((values[counted.index].argmax(axis=-1) == chosen).astype(np.float64), counted)


def binary_accuracy(logits: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None) -> float:
    """The share of elements for which ``logits > 0`` (a probability over 0.5) agrees with ``target > 0.5``.

    Args:
        logits: Any shape, float32 or float64.
        target: The same shape.
        mask: The shape of leading axes of ``logits``; see the module.

    Returns:
        A number from 0 to 1; 0 if nothing counts.
    """
    values = float_array("logits", logits)
    wanted = real_array("target", target, values.shape)
    counted = _counted(values.shape, mask, np.dtype(np.float64))
    agree = (values[counted.index] > 0) == (wanted[counted.index] > 0.5)
    return _mean(agree.astype(np.float64), counted)


def _class_arguments(logits: ArrayLike, target: ArrayLike) -> tuple[FloatArray, IntArray]:
    values = float_array("logits", logits)
    if values.ndim == 0:
        raise ArgumentError("logits", "has shape ()", "(..., classes)")
    wanted = int_array("target", target)
    same_shape("target", wanted, values.shape[:-1])
    return values, wanted


def _counted_classes(wanted: IntArray, counted: _Counted, classes: int) -> IntArray:
    chosen = wanted[counted.index]
    in_range("target", chosen, classes)
    return chosen.astype(np.int64)


def _counted(shape: tuple[int, ...], mask: ArrayLike | None, dtype: np.dtype[Any]) -> _Counted:
    if mask is None:
        count = math.prod(shape)
        return _Counted(..., np.asarray(1 / count if count else 0.0, dtype=dtype))
    weights = any_array("mask", mask)
    if weights.dtype.kind not in "biuf":
        raise ArgumentError("mask", f"has dtype {weights.dtype}", "booleans or weights")
    if weights.shape != shape[: weights.ndim]:
        raise ArgumentError("mask", f"has shape {weights.shape}", f"{shape} or its leading axes")
    numbers = weights.astype(np.float64)
    if not np.all(np.isfinite(numbers) & (numbers >= 0)):
        raise ArgumentError("mask", "holds a weight that is negative or not finite", "weights of at least 0")
    index = numbers > 0
    chosen = numbers[index]
    inner = math.prod(shape[weights.ndim :])
    if chosen.size and inner:
        chosen = chosen / chosen.max()
        chosen = chosen / (chosen.sum() * inner)
    trailing = (1,) * (len(shape) - weights.ndim)
    return _Counted(index, chosen.reshape(chosen.shape + trailing).astype(dtype))


def _mean(losses: FloatArray, counted: _Counted) -> float:
    return float(np.sum(losses * counted.share, dtype=np.float64))
