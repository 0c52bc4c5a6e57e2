"""The adjoint identity over whole sequences: <J u, v> = <u, J^T v>, with J u by complex step."""

from __future__ import annotations

from dataclasses import replace

import cells
import numpy as np
import pytest

import gategen as gg
from gategen.calculus.differences import along, direction
from gategen.calculus.problem import Arrays, Leaf, Problem, Setting, relative_error, solution, solve

SETTINGS = {
    "one step": Setting(1, 1, (1, 2)),
    "a long sequence": Setting(17, 2, (2, 3, 5)),
    "lengths": Setting(6, 4, (3, 2), lengths=(6, 0, 1, 4)),
    "declared start": Setting(3, 2, (2, 3), started=False),
}


def learned(name: str, given: Problem, seed: int) -> dict[Leaf, np.ndarray]:
    frozen = {("params", key) for key, v in cells.cell(name).parameters.items() if v.role == "frozen"}
    return direction(given, np.random.default_rng(seed), frozenset(frozen))


def inner(found: Arrays, way: dict[Leaf, np.ndarray]) -> float:
    return sum(float((found[f"d {part} {key}"] * vector).sum()) for (part, key), vector in way.items())


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", cells.ALL)
def test_identity(name: str, setting: str) -> None:
    plan, full = cells.plans(name)
    sides: list[list[float]] = [[], [], []]
    for seed in range(4):
        given = cells.problem(name, SETTINGS[setting], seed=0)
        other = cells.problem(name, SETTINGS[setting], seed=seed)
        given = replace(given, d_outputs=other.d_outputs, d_final=other.d_final)
        way = learned(name, given, seed)
        sides[0].append(float(along(plan, given, way).sum()))
        sides[1].append(inner(solve(plan, given), way))
        sides[2].append(inner(solve(full, given), way))
    expected, *others = (np.array(side) for side in sides)
    for found in others:
        assert relative_error(found, expected) <= 1e-12


@pytest.mark.parametrize("backend", ["numpy", "c"])
@pytest.mark.parametrize("name", ["lstm", "gru", "heads", "right_to_left_shifted", "derived_from_derived"])
def test_identity_of_kernels(name: str, backend: str) -> None:
    plan, _ = cells.plans(name)
    kernel = gg.compile(cells.cell(name), "float64", backend)
    for setting in SETTINGS.values():
        given = cells.problem(name, setting)
        way = learned(name, given, seed=1)
        run = kernel.forward(given.inputs, given.params, given.initial, given.lengths, train=True)
        grad = kernel.backward(run, given.d_outputs, given.d_final)
        expected = float(along(plan, given, way).sum())
        ways = {leaf: vector for leaf, vector in way.items() if leaf[0] != "initial" or setting.started}
        assert abs(inner(solution(run, grad, given), ways) - expected) <= 1e-11 * max(1.0, abs(expected))
