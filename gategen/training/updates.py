"""Update rules and gradient clipping on ``dict[str, array]``, in place.

A rule's state is plain attributes, dictionaries by parameter name, empty before the first step. Parameters
without a gradient stay as they are. Everything is checked before anything changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gategen.errors import ArgumentError
from gategen.training.arguments import FloatArray, finite_number, float_array, lookup, same_shape


class Update(Protocol):
    """An update rule."""

    def step(self, parameters: Mapping[str, FloatArray], gradients: Mapping[str, FloatArray]) -> None:
        """Change the parameters in place."""


@dataclass
class SGD:
    """Gradient descent: ``v = momentum * v + g``, ``p -= learning_rate * v``.

    With ``nesterov``, ``p -= learning_rate * (g + momentum * v)`` (Sutskever et al. 2013). Decay is
    decoupled, ``p -= learning_rate * weight_decay * p`` before the step.

    Attributes:
        learning_rate: May be changed between steps.
        momentum: From 0 to below 1.
        nesterov: Whether the momentum looks ahead.
        weight_decay: 0 or more.
        velocity: State; v by parameter name, in the parameter's shape.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    velocity: dict[str, FloatArray] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        _check_rates(self.learning_rate, self.weight_decay)
        finite_number("momentum", self.momentum, 0.0, "a number from 0 to below 1", high=1.0)

    def step(self, parameters: Mapping[str, FloatArray], gradients: Mapping[str, FloatArray]) -> None:
        """Change the parameters in place.

        Args:
            parameters: Name to writable float32 or float64 array.
            gradients: Arrays of the same shapes and dtypes, for all parameters or for some.
        """
        _check_rates(self.learning_rate, self.weight_decay)
        for name, (parameter, gradient) in _pairs(parameters, gradients, self.velocity).items():
            direction = gradient
            if self.momentum:
                velocity = self.velocity.setdefault(name, np.zeros_like(parameter))
                velocity *= self.momentum
                velocity += gradient
                direction = gradient + self.momentum * velocity if self.nesterov else velocity
            parameter *= 1 - self.learning_rate * self.weight_decay
            parameter -= self.learning_rate * direction


@dataclass
class Adam:
    """Adam with bias correction: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.

    ``m = beta1 * m + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * g**2``,
    ``p -= learning_rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)``.
    Decay is decoupled, ``p -= learning_rate * weight_decay * p`` before the step: Loshchilov and Hutter 2019,
    arXiv:1711.05101.

    Attributes:
        learning_rate: May be changed between steps.
        beta1: Decay of the first moment, from 0 to below 1.
        beta2: Decay of the second moment, from 0 to below 1.
        epsilon: Keeps the quotient finite, 0 or more.
        weight_decay: 0 or more.
        first: State; m by parameter name, in the parameter's shape.
        second: State; v by parameter name, in the parameter's shape.
        steps: State; t by parameter name.
    """

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    first: dict[str, FloatArray] = field(default_factory=dict, init=False)
    second: dict[str, FloatArray] = field(default_factory=dict, init=False)
    steps: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        _check_rates(self.learning_rate, self.weight_decay)
        finite_number("beta1", self.beta1, 0.0, "a number from 0 to below 1", high=1.0)
        finite_number("beta2", self.beta2, 0.0, "a number from 0 to below 1", high=1.0)
        finite_number("epsilon", self.epsilon, 0.0, "a finite number of at least 0")

    def step(self, parameters: Mapping[str, FloatArray], gradients: Mapping[str, FloatArray]) -> None:
        """Change the parameters in place.

        Args:
            parameters: Name to writable float32 or float64 array.
            gradients: Arrays of the same shapes and dtypes, for all parameters or for some.
        """
        _check_rates(self.learning_rate, self.weight_decay)
        for name, (parameter, gradient) in _pairs(parameters, gradients, self.first).items():
            first = self.first.setdefault(name, np.zeros_like(parameter))
            second = self.second.setdefault(name, np.zeros_like(parameter))
            count = self.steps[name] = self.steps.get(name, 0) + 1
            first *= self.beta1
            first += (1 - self.beta1) * gradient
            second *= self.beta2
            second += (1 - self.beta2) * (gradient * gradient)
            size = np.sqrt(second) / math.sqrt(1 - self.beta2**count) + self.epsilon
            parameter *= 1 - self.learning_rate * self.weight_decay
            parameter -= (self.learning_rate / (1 - self.beta1**count)) * (first / size)


def clip_by_norm(gradients: Mapping[str, FloatArray], limit: float) -> float:
    """Scale all gradients by one factor so that their common Euclidean norm is at most ``limit``.

    Source: Pascanu et al. 2013, arXiv:1211.5063, algorithm 1. If the norm is not finite, no factor helps: the
    gradients stay as they are, and the returned norm tells.

    Args:
        gradients: Name to writable array; changed in place.
        limit: More than 0.

    Returns:
        The norm before clipping.
    """
    _check_limit(limit)
    arrays = _writable(gradients)
    # Squares of the quotients neither overflow nor vanish, whatever the scale of the gradients.
    peak = float(np.max([np.max(np.abs(array), initial=0.0) for array in arrays.values()], initial=0.0))
    if peak == 0.0 or not math.isfinite(peak):
        return peak
    squares = (float(np.sum(np.square(array.astype(np.float64) / peak))) for array in arrays.values())
    norm = peak * math.sqrt(math.fsum(squares))
    if math.isfinite(norm) and norm > limit:
        for array in arrays.values():
            array *= limit / norm
    return norm


def clip_by_value(gradients: Mapping[str, FloatArray], limit: float) -> None:
    """Cut every element to the interval from ``-limit`` to ``limit``; NaN stays NaN.

    Args:
        gradients: Name to writable array; changed in place.
        limit: More than 0.
    """
    _check_limit(limit)
    for array in _writable(gradients).values():
        bound = min(limit, float(np.finfo(array.dtype).max))
        np.clip(array, -bound, bound, out=array)


def _check_rates(learning_rate: float, weight_decay: float) -> None:
    finite_number("learning_rate", learning_rate, 0.0, "a finite number of at least 0")
    finite_number("weight_decay", weight_decay, 0.0, "a finite number of at least 0")


def _check_limit(limit: float) -> None:
    finite_number("limit", limit, math.ulp(0.0), "a finite number of more than 0")


def _pairs(
    parameters: Mapping[str, FloatArray], gradients: Mapping[str, FloatArray], state: Mapping[str, FloatArray]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    pairs = {}
    for name, value in gradients.items():
        if name not in parameters:
            lookup("gradients", dict.fromkeys(parameters), name)
        parameter = _writable_array(f"parameters[{name!r}]", parameters[name])
        gradient = float_array(f"gradients[{name!r}]", value)
        same_shape(f"gradients[{name!r}]", gradient, parameter.shape)
        if gradient.dtype != parameter.dtype:
            cast = f"{parameter.dtype}, as the parameter: .astype(np.{parameter.dtype})"
            raise ArgumentError(f"gradients[{name!r}]", f"has dtype {gradient.dtype}", cast)
        known = state.get(name, parameter)
        if (known.shape, known.dtype) != (parameter.shape, parameter.dtype):
            problem = f"has shape {parameter.shape} and dtype {parameter.dtype}"
            expected = f"{known.shape} and {known.dtype}, as in the steps before"
            raise ArgumentError(f"parameters[{name!r}]", problem, expected)
        pairs[name] = (parameter, gradient)
    return pairs


def _writable(gradients: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {name: _writable_array(f"gradients[{name!r}]", array) for name, array in gradients.items()}


def _writable_array(argument: str, value: Any) -> FloatArray:
    if not isinstance(value, np.ndarray):
        raise ArgumentError(argument, f"is a {type(value).__name__}", "an array, to be changed in place")
    if not value.flags.writeable:
        raise ArgumentError(argument, "is read-only", "an array that may be changed in place: .copy()")
    return float_array(argument, value)
