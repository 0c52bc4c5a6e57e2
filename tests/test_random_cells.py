"""Cells that nobody has written, and those of the catalogue, against PyTorch's autograd on the same text."""

from __future__ import annotations

import warnings

import catalogue
import cells
import numpy as np
import pytest
import torch
from c_programs import quickly
from hypothesis import HealthCheck, given, settings
from oracles import from_text
from random_cells import texts

import gategen as gg
from gategen.calculus.problem import Array, Problem, Setting, draw, relative_error, solution, solve
from gategen.calculus.schedule import naive, schedule
from gategen.language.cell import Cell

OPTIONS = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
}
SETTING = Setting(4, 3, (3, 2))


def by_autograd(text: str, problem: Problem, cell: Cell) -> dict[str, Array]:
    """The problem solved by PyTorch."""
    leaves = {key: torch.tensor(array, requires_grad=True) for key, array in problem.leaves().items()}
    groups: dict[str, dict[str, torch.Tensor]] = {"inputs": {}, "params": {}, "initial": {}}
    for (group, name), tensor in leaves.items():
        groups[group][name] = tensor
    numbers = {name: torch.tensor(v.value, dtype=torch.float64) for name, v in cell.constants.items()}
    widths = {name: torch.tensor(size, dtype=torch.float64) for name, size in problem.sizes.items()}
    matrices = {
        name: tuple(width.evaluate(problem.sizes) for width in variable.shape)
        for name, variable in (*cell.inputs.items(), *cell.states.items())
        if len(variable.shape) == 2
    }
    params = {**widths, **numbers, **groups["params"]}
    planes = from_text.run(text, groups["inputs"], params, groups["initial"], matrices)
    width = problem.sizes
    found: dict[str, Array] = {}
    loss = torch.zeros((), dtype=torch.float64)
    for name, seed in problem.d_outputs.items():
        plane = planes[name].expand(seed.shape)
        found[f"outputs {name}"] = plane.detach().numpy()
        loss = loss + (plane * torch.tensor(seed)).sum()
    for name, seed in problem.d_final.items():
        # The last steps of all, of which a run that is short has some from before it.
        start = groups["initial"][name]
        steps = torch.cat([start if seed.ndim == 3 else start[None], planes[name]])
        final = steps[-len(seed) :] if seed.ndim == 3 else steps[-1]
        found[f"final {name}"] = final.detach().numpy()
        loss = loss + (final * torch.tensor(seed)).sum()
    assert width["T"] == len(next(iter(planes.values())))
    slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    for (group, name), leaf, slope in zip(leaves, leaves.values(), slopes, strict=True):
        found[f"d {group} {name}"] = np.zeros(leaf.shape) if slope is None else slope.numpy()
    return found


def problem(
    cell: Cell, setting: Setting = SETTING, scale: float = 1.0
) -> tuple[Cell, gg.pipeline.Derivation, Problem]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gg.GategenWarning)
        derivation = gg.derive(cell)
    return cell, derivation, draw(cell, derivation.program, setting, 0, scale)


def agree(found: dict[str, Array], expected: dict[str, Array], bound: float) -> None:
    wrong = {}
    for key, array in expected.items():
        if key not in found:
            # What is frozen has no gradient.
            assert key.startswith("d params")
            continue
        # What cancels to nothing in one order of additions need not in another.
        error = float(np.abs(found[key] - array).max(initial=0.0)) if array.size else 0.0
        if not error <= bound * max(1.0, float(np.abs(array).max(initial=0.0))):
            wrong[key] = relative_error(found[key], array)
    assert not wrong


WRITTEN = {name: entry.text for name, entry in catalogue.WRITTEN.items()} | cells.TRICKY
LEFT_TO_RIGHT = [name for name, text in WRITTEN.items() if not gg.parse(text, name).reverse]


@pytest.mark.parametrize("name", LEFT_TO_RIGHT)
def test_published_and_tricky_cells(name: str) -> None:
    cell = gg.parse(WRITTEN[name], name)
    _, derivation, given_problem = problem(cell, Setting(4, 3, (3, 2, 4)), 0.7)
    agree(solve(naive(derivation.program), given_problem), by_autograd(str(cell), given_problem, cell), 1e-9)


@settings(max_examples=200, **OPTIONS)
@given(texts())
def test_interpreter(text: str) -> None:
    cell, derivation, given_problem = problem(gg.parse(text, "random"))
    expected = by_autograd(text, given_problem, cell)
    for plan in (naive(derivation.program), schedule(derivation.program)):
        agree(solve(plan, given_problem), expected, 1e-10)


@settings(max_examples=20, **OPTIONS)
@given(texts())
def test_compiled(text: str) -> None:
    cell, _, given_problem = problem(gg.parse(text, "random"))
    expected = by_autograd(text, given_problem, cell)
    for backend in ("numpy", "c-portable", "c"):
        with warnings.catch_warnings(), quickly("c-portable"):
            warnings.simplefilter("ignore", gg.GategenWarning)
            k = gg.compile(cell, "float64", backend)
        assert k.backend == backend
        run = k.forward(given_problem.inputs, given_problem.params, given_problem.initial, train=True)
        grad = k.backward(run, given_problem.d_outputs, given_problem.d_final)
        agree(solution(run, grad, given_problem), expected, 1e-10)


def test_the_oracle_reads_a_gated_unit_as_pytorch_does() -> None:
    text = (
        "r = sigmoid(W_r @ x[t] + U_r @ h[t-1] + b_r)\nz = sigmoid(W_z @ x[t] + U_z @ h[t-1] + b_z)\n"
        "n = tanh(W_n @ x[t] + b_n + r * (U_n @ h[t-1] + c_n))\nh[t] = (1 - z) * n + z * h[t-1]"
    )
    torch.manual_seed(0)
    layer = torch.nn.GRU(3, 5).double()
    rows = dict(zip("rzn", range(3), strict=True))
    params = {f"W_{gate}": layer.weight_ih_l0[5 * k : 5 * k + 5] for gate, k in rows.items()}
    params |= {f"U_{gate}": layer.weight_hh_l0[5 * k : 5 * k + 5] for gate, k in rows.items()}
    both = layer.bias_ih_l0 + layer.bias_hh_l0
    params |= {"b_r": both[:5], "b_z": both[5:10], "b_n": layer.bias_ih_l0[10:], "c_n": layer.bias_hh_l0[10:]}
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    found = from_text.run(text, {"x": x}, params, {"h": torch.zeros(2, 5, dtype=torch.float64)})
    assert torch.allclose(found["h"], layer(x)[0], rtol=1e-12)
