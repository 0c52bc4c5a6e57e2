"""Derivatives without a derivation: complex step and central differences on the interpreter.

The loss is the sum of all outputs and final states, each times the gradient that arrives there. With a step
of 1e-30 along the imaginary axis nothing cancels, so the derivative is as exact as the loss (Squire & Trapp
1998); branches are decided on the real part. Functions with a declared derivative are replaced by straight
lines through their values, with the declared slopes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gategen.calculus.evaluation import Lines
from gategen.calculus.interpret import forward
from gategen.calculus.problem import Array, Generator, Leaf, Problem, params_by_value
from gategen.calculus.schedule import Schedule

_TINY = 1e-30


def losses(plan: Schedule, given: Problem, dtype: Any = np.float64, lines: Lines | None = None) -> Array:
    """The loss of each sequence, (B,); with ``lines`` in place of functions with a declared derivative."""
    params = params_by_value(plan.program, given.params)
    with np.errstate(all="ignore"):
        run = forward(plan, given.sizes, given.inputs, params, given.initial, given.lengths, dtype, lines)
        total = np.zeros(given.sizes["B"], dtype)
        for name, weight in given.d_outputs.items():
            total = total + (run.outputs[name] * weight).sum((0, 2))
        for name, weight in given.d_final.items():
            # All axes but that of the batch, the last but one.
            total = total + (run.final[name] * weight).sum(-1).reshape(-1, len(total)).sum(0)
    return total


def along(plan: Schedule, given: Problem, direction: Mapping[Leaf, Array]) -> Array:
    """The derivative of each sequence's loss along a direction, by complex step."""
    leaves = given.leaves()
    moved = {leaf: leaves[leaf] + 1j * _TINY * way for leaf, way in direction.items()}
    slopes: Array = losses(plan, given.with_leaves(moved), np.complex128).imag / _TINY
    return slopes


def gradients(plan: Schedule, given: Problem) -> dict[Leaf, Array]:
    """Every gradient, element by element.

    Sequences are independent, so one run serves the same element of all of them.
    """
    found = {}
    for leaf, array in given.leaves().items():
        group, _ = leaf
        gradient = np.zeros(array.shape)
        for index in np.ndindex(_elements(group, array)):
            place = _everywhere(group, index)
            way = np.zeros(array.shape)
            way[place] = 1.0
            slopes = along(plan, given, {leaf: way})
            gradient[place] = slopes.sum() if group == "params" else slopes
        found[leaf] = gradient
    return found


def _elements(group: str, array: Array) -> tuple[int, ...]:
    """The axes to go through one by one: all but that of the batch."""
    return array.shape if group == "params" else (*array.shape[:-2], array.shape[-1])


def _everywhere(group: str, index: tuple[int, ...]) -> tuple[int | slice, ...]:
    return index if group == "params" else (*index[:-1], slice(None), index[-1])


def direction(given: Problem, rng: Generator, without: frozenset[Leaf] = frozenset()) -> dict[Leaf, Array]:
    """A random direction in everything but some leaves."""
    return {
        leaf: np.asarray(rng.standard_normal(array.shape))
        for leaf, array in given.leaves().items()
        if leaf not in without
    }


def central(plan: Schedule, given: Problem, ways: Sequence[Mapping[Leaf, Array]], step: float) -> Array:
    """The derivatives of the loss along directions, (2, ways): fourth-order central differences.

    The second ones are those of half the step: two of their four points are the same.
    """
    lines, leaves = Lines(), given.leaves()
    losses(plan, given, lines=lines)

    def at(way: Mapping[Leaf, Array], distance: float) -> float:
        lines.restart()
        moved = {leaf: leaves[leaf] + distance * vector for leaf, vector in way.items()}
        return float(losses(plan, given.with_leaves(moved), lines=lines).sum())

    with np.errstate(all="ignore"):
        apart = np.array([[at(way, h) - at(way, -h) for way in ways] for h in (2 * step, step, step / 2)])
        slopes: Array = (8 * apart[1:] - apart[:-1]) / (12 * np.array([[step], [step / 2]]))
    return slopes


def disturbed(given: Problem, epsilon: float, rng: Generator) -> Problem:
    """The problem with every number in it changed by a relative ``epsilon``, up or down."""
    return given.changed(lambda array: array * (1 + epsilon * rng.choice([-1.0, 1.0], array.shape)))
