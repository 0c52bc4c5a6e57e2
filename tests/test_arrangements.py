"""Every row of the table of arrangements, and products with matrices of the step, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import gategen as gg
from gategen.calculus.problem import relative_error
from gategen.language.arrangements import ARRANGEMENTS

Tensors = dict[str, torch.Tensor]
DECLARED = {
    "v[t]": "v: input[4]",
    "w[t]": "w: input[3]",
    "A[t]": "A: input[4, 3]",
}

# A row's name, equations of one step, and what y is of v (B, 4), w (B, 3), A (B, 4, 3), U_h (4, 4), b (4).
ROWS: list[tuple[str, str, Callable[[Tensors], torch.Tensor]]] = [
    ("outer", "y[t] = outer(v[t], w[t])", lambda a: a["v"][:, :, None] * a["w"][:, None]),
    ("outer", "y[t] = outer(b, w[t])", lambda a: a["b"][:, None] * a["w"][:, None]),
    ("column", "y[t] = v[t][:, None] * A[t]", lambda a: a["v"][:, :, None] * a["A"]),
    ("column", "y[t] = (b * b)[:, None] * A[t]", lambda a: (a["b"] ** 2)[:, None] * a["A"]),
    ("row", "y[t] = w[t][None, :] - A[t]", lambda a: a["w"][:, None] - a["A"]),
    ("piece", "y[t] = v[t][1:3] * w[t][:2]", lambda a: a["v"][:, 1:3] * a["w"][:, :2]),
    ("piece", "y[t] = b[1:3] * v[t][2:4]", lambda a: a["b"][1:3] * a["v"][:, 2:]),
    ("rest", "y[t] = v[t][1:] * w[t]", lambda a: a["v"][:, 1:] * a["w"]),
    ("element", "y[t] = v[t][2] * w[t]", lambda a: a["v"][:, 2:3] * a["w"]),
    ("reshape", "y[t] = sum(reshape(v[t], 2) * reshape(b, 2), 0)",
     lambda a: (a["v"].reshape(-1, 2, 2) * a["b"].reshape(2, 2)).sum(1)),
    ("flatten", "y[t] = flatten(A[t]) * d_y", lambda a: a["A"].flatten(1) * a["d_y"]),
    ("split", "a, c = split(v[t] * b, 2)\ny[t] = a / (1 + c * c)",
     lambda a: (a["v"] * a["b"])[:, :2] / (1 + (a["v"] * a["b"])[:, 2:] ** 2)),
    ("repeat", "y[t] = repeat(v[t], 3) * repeat(b, 3)",
     lambda a: (a["v"] * a["b"]).repeat_interleave(3, 1)),
    ("T", "M_h = T(U_h) * U_h\ny[t] = M_h @ v[t]", lambda a: a["v"] @ (a["U_h"].T * a["U_h"]).T),
    ("I", "M_h = U_h - 2 * I(4)\ny[t] = M_h @ v[t]", lambda a: a["v"] @ a["U_h"].T - 2 * a["v"]),
    ("matrix @ vector", "y[t] = A[t] @ w[t]",
     lambda a: (a["A"] @ a["w"][:, :, None])[..., 0]),
    ("vector @ matrix", "y[t] = v[t] @ A[t]", lambda a: (a["v"][:, None] @ a["A"])[:, 0]),
    ("concat", "y[t] = [w[t], b, v[t]] * e_y",
     lambda a: torch.cat([a["w"], a["b"].expand(5, 4), a["v"]], 1) * a["e_y"]),
    ("gather", "y[t] = gather(v[t], 3, 0, 3) * w[t]", lambda a: a["v"][:, [3, 0, 3]] * a["w"]),
    ("stack", "y[t] = sum(stack(v[t], v[t] * v[t]), 0)", lambda a: a["v"] + a["v"] ** 2),
]  # fmt: skip
SHAPES = {"v": (4,), "w": (3,), "A": (4, 3), "U_h": (4, 4), "b": (4,), "d_y": (12,), "e_y": (11,)}


def test_every_row_is_there() -> None:
    assert {name for name, _, _ in ROWS} >= set(ARRANGEMENTS)


def test_cells_built_by_program() -> None:
    q, k, S, y, x = gg.signals("q k S y x")
    W_q, W_k = gg.weights("W_q W_k")
    retention = gg.Cell(
        "retention",
        [
            gg.Eq(q[gg.t], W_q @ x[gg.t]),
            gg.Eq(k[gg.t], W_k @ x[gg.t]),
            gg.Eq(S[gg.t], 0.5 * S[gg.t - 1] + gg.outer(gg.split(k[gg.t], 1, 2), x[gg.t])),
            gg.Eq(y[gg.t], q[gg.t] @ S[gg.t] + gg.sum(S[gg.t - 1] * gg.column(q[gg.t]), axis=0)),
        ],
    )
    text = """
q[t] = W_q @ x[t]
k[t] = W_k @ x[t]
S[t] = 0.5 * S[t-1] + outer(split(k[t], 2)[1], x[t])
y[t] = q[t] @ S[t] + sum(S[t-1] * q[t][:, None], 0)
"""
    assert retention == gg.parse(text, "retention")
    assert gg.parse(str(retention), "retention") == retention


RUNS = [
    ("numpy", "float64"),
    ("numpy", "float32"),
    ("c-portable", "float64"),
    ("c", "float64"),
    ("c", "float32"),
]


@pytest.mark.parametrize(("backend", "dtype"), RUNS)
@pytest.mark.parametrize("row", range(len(ROWS)), ids=[f"{place} {row[0]}" for place, row in enumerate(ROWS)])
def test_value_and_gradients(row: int, backend: str, dtype: str) -> None:
    _, equations, theirs = ROWS[row]
    bound = 1e-13 if dtype == "float64" else 2e-6
    declared = [line for sign, line in DECLARED.items() if sign in equations]
    cell = gg.parse("\n".join([*declared, equations]), "row")
    assert gg.parse(str(cell), "row") == cell
    k = gg.compile(cell, dtype, backend)
    assert k.backend == backend
    rng = np.random.default_rng(row)
    inputs = {spec.name: rng.standard_normal((5, *SHAPES[spec.name])) for spec in k.manifest.inputs}
    params = {spec.name: rng.standard_normal(SHAPES[spec.name]) for spec in k.manifest.parameters}
    tensors = {n: torch.tensor(a, requires_grad=True) for n, a in (inputs | params).items()}
    value = theirs(tensors).flatten(1)
    seed = rng.standard_normal(value.shape)
    (value * torch.tensor(seed)).sum().backward()
    given = {name: array.reshape(1, 5, -1).astype(dtype) for name, array in inputs.items()}
    run = k.forward(given, {name: array.astype(dtype) for name, array in params.items()}, train=True)
    grad = k.backward(run, {"y": seed[None].astype(dtype)})
    assert relative_error(run.outputs["y"][0], value.detach().numpy()) < bound
    for name, array in {**grad.inputs, **grad.params}.items():
        slope = tensors[name].grad.numpy()
        assert relative_error(array.reshape(slope.shape), slope) < bound, name
