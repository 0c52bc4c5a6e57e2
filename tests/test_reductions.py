"""The table of reductions: every value and gradient against PyTorch, extreme arguments, every spelling."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from c_programs import quickly
from numpy.typing import NDArray

import gategen as gg
from gategen.calculus.differences import gradients
from gategen.calculus.problem import Problem, relative_error, solve
from gategen.calculus.schedule import naive
from gategen.language.reductions import REDUCTIONS
from gategen.runtime.kernel import Kernel

Array = NDArray[Any]

Vectors = tuple[torch.Tensor, ...]

# What each is of v, w, p (vectors) in PyTorch, keeping the axis; our layer norm has its gain before its bias.
TORCH: dict[str, tuple[str, Callable[..., torch.Tensor]]] = {
    "sum": ("sum(v[t])", lambda v, w, p: v.sum(-1, keepdim=True)),
    "mean": ("mean(v[t])", lambda v, w, p: v.mean(-1, keepdim=True)),
    "var": ("var(v[t])", lambda v, w, p: v.var(-1, keepdim=True, unbiased=False)),
    "norm": ("norm(v[t])", lambda v, w, p: torch.linalg.vector_norm(v, dim=-1, keepdim=True)),
    "dot": ("dot(v[t], w[t])", lambda v, w, p: (v * w).sum(-1, keepdim=True)),
    "max": ("max(v[t])", lambda v, w, p: v.amax(-1, keepdim=True)),
    "min": ("min(v[t])", lambda v, w, p: v.amin(-1, keepdim=True)),
    "logsumexp": ("logsumexp(v[t])", lambda v, w, p: v.logsumexp(-1, keepdim=True)),
    "softmax": ("softmax(v[t])", lambda v, w, p: v.softmax(-1)),
    "cumsum": ("cumsum(v[t])", lambda v, w, p: v.cumsum(-1)),
    "layer_norm": ("layer_norm(v[t], w[t], p[t])", lambda v, w, p: normed(v) * w + p),
}
FORMS = {"layer_norm of a vector": ("layer_norm(v[t])", lambda v, w, p: normed(v))}
FORMS["layer_norm with a gain"] = ("layer_norm(v[t], w[t])", lambda v, w, p: normed(v) * w)
CASES = {**TORCH, **FORMS}
BACKENDS = ("numpy", "c-portable", "c")


def normed(v: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(v, v.shape[-1:])


def text(name: str) -> str:
    """A cell of one step, whose output is a reduction alone; an input that nothing reads is not there."""
    call, _ = CASES[name]
    lines = [f"{letter}: input[n]" for letter in "vwp" if f"{letter}[t]" in call]
    return "\n".join([*lines, f"y[t] = {call}"])


@cache
def kernel(name: str, backend: str, dtype: str = "float64") -> Kernel:
    made = gg.compile(gg.parse(text(name), "reduction"), dtype, backend)
    assert made.backend == backend
    return made


def ours(made: Kernel, given: dict[str, Array], d_y: Array) -> tuple[Array, dict[str, Array]]:
    """Value and gradients of rows (B, n) by a kernel."""
    wanted = {spec.name: given[spec.name][None] for spec in made.manifest.inputs}
    run = made.forward(wanted, {}, train=True)
    grad = made.backward(run, {"y": d_y[None].astype(made.dtype)})
    return run.outputs["y"][0], {name: array[0] for name, array in grad.inputs.items()}


def theirs(name: str, given: dict[str, Array], d_y: Array) -> tuple[Array, dict[str, Array]]:
    """The same by PyTorch's autograd, in float64."""
    tensors = {
        key: torch.tensor(array, dtype=torch.float64, requires_grad=True) for key, array in given.items()
    }
    value = CASES[name][1](*tensors.values())
    (value * torch.tensor(d_y)).sum().backward()
    return value.detach().numpy(), {key: t.grad.numpy() for key, t in tensors.items() if t.grad is not None}


def rows(*vectors: Any) -> dict[str, Array]:
    """``v``, the rows given, and a ``w`` and a ``p`` beside each."""
    v = np.array(vectors, float)
    rng = np.random.default_rng(v.size)
    return {"v": v, "w": rng.standard_normal(v.shape), "p": rng.standard_normal(v.shape)}


def gradient_of(name: str, given: dict[str, Array]) -> Array:
    shape = given["v"].shape if REDUCTIONS[name.split()[0]].row.keeps else (len(given["v"]), 1)
    return np.random.default_rng(3).standard_normal(shape)


def test_every_row_is_tested() -> None:
    assert set(TORCH) == set(REDUCTIONS)


@pytest.mark.parametrize("width", [1, 2, 7, 16, 61, 130])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_pytorch(name: str, backend: str, width: int) -> None:
    given = rows(*np.random.default_rng(width).standard_normal((5, width)))
    d_y = gradient_of(name, given)
    value, slopes = ours(kernel(name, backend), given, d_y)
    expected, expected_slopes = theirs(name, given, d_y)
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-14)
    for key, slope in slopes.items():
        # Layer norm of one unit, or of two, leaves some rounding of terms that are as large as 300.
        atol = 1e-12 if name.startswith("layer_norm") else 1e-13
        np.testing.assert_allclose(slope, expected_slopes[key], rtol=1e-11, atol=atol, err_msg=key)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_complex_steps(name: str) -> None:
    cell = gg.parse(text(name), "reduction")
    plan = naive(gg.derive(cell).program)
    given = rows(*np.random.default_rng(0).standard_normal((2, 6)))
    wanted = {key: array[None] for key, array in given.items() if key in cell.inputs}
    d_y = gradient_of(name, given)[None]
    made = Problem({"T": 1, "B": 2, "n": 6}, wanted, {}, {}, None, {"y": d_y}, {})
    found = solve(plan, made)
    for (group, key), expected in gradients(plan, made).items():
        assert relative_error(found[f"d {group} {key}"], expected) <= 1e-13


FAR = {
    "large": [1e4, 1e4 - 1, -1e4, 0.0, 3.0],
    "small": [-1e4, -1e4 - 2, -1e4 - 1, -2e4, -1e4 - 3],
    "spread": [800.0, -800.0, 0.0, 750.0, -750.0],
    "constant": [0.7, 0.7, 0.7, 0.7, 0.7],
    "zero": [0.0, 0.0, 0.0, 0.0, 0.0],
    "ties": [2.0, -1.0, 2.0, -1.0, 2.0],
    "tiny": [1e-160, -1e-160, 2e-160, 0.0, 0.0],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_far_away_nothing_overflows_and_kinks_are_those_of_pytorch(name: str, backend: str) -> None:
    """Among them: norm'(0) = 0, a gradient split among ties, and layer norm of a constant vector."""
    given = rows(*FAR.values())
    if name == "norm":
        # PyTorch rescales vectors whose squares vanish; their norm is zero here.
        given["v"][-1] = 0
    d_y = gradient_of(name, given)
    value, slopes = ours(kernel(name, backend), given, d_y)
    expected, expected_slopes = theirs(name, given, d_y)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-15)
    for key, slope in slopes.items():
        np.testing.assert_allclose(slope, expected_slopes[key], rtol=1e-10, atol=2e-13, err_msg=key)


INFINITE = [[np.inf, 0.0, 1.0], [-np.inf, 0.0, 1.0], [-np.inf] * 3, [np.inf, -np.inf, 0.0], [np.inf] * 3]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_infinities_follow_pytorch(name: str, backend: str) -> None:
    given = rows(*INFINITE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        value, _ = ours(kernel(name, backend), given, gradient_of(name, given))
    expected, _ = theirs(name, given, gradient_of(name, given))
    np.testing.assert_allclose(value, expected, rtol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_documented_kinks(backend: str) -> None:
    given = rows(FAR["ties"], FAR["zero"])
    one = np.ones((2, 1))
    assert ours(kernel("max", backend), given, one)[1]["v"][0] == pytest.approx([1 / 3, 0, 1 / 3, 0, 1 / 3])
    assert ours(kernel("min", backend), given, one)[1]["v"][0] == pytest.approx([0, 1 / 2, 0, 1 / 2, 0])
    assert not ours(kernel("norm", backend), given, one)[1]["v"][1].any()
    assert not ours(kernel("norm", backend), given, one)[0][1].any()
    softly = ours(kernel("softmax", backend), given, np.ones((2, 5)))[0]
    assert softly[1] == pytest.approx([0.2] * 5)
    assert not ours(kernel("layer_norm of a vector", backend), given, np.ones((2, 5)))[0][1].any()


@pytest.mark.parametrize("place", [0, 3, 60, 68])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_not_a_number_reaches_the_value(name: str, backend: str, place: int) -> None:
    """Wherever it stands; rows beside it stay what they are."""
    given = rows(*np.random.default_rng(0).standard_normal((3, 69)))
    d_y = gradient_of(name, given)
    clean = ours(kernel(name, backend), given, d_y)
    given["v"][1, place] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        value, slopes = ours(kernel(name, backend), given, d_y)
    first = place if name == "cumsum" else 0
    assert np.isnan(value[1, first:]).all()
    for row in (0, 2):
        np.testing.assert_array_equal(value[row], clean[0][row])
        np.testing.assert_array_equal(slopes["v"][row], clean[1]["v"][row])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_float32_is_near(name: str, backend: str) -> None:
    given = rows(*np.random.default_rng(0).standard_normal((4, 67)))
    d_y = gradient_of(name, given)
    single = {key: array.astype(np.float32) for key, array in given.items()}
    value, slopes = ours(kernel(name, backend, "float32"), single, d_y)
    expected, expected_slopes = theirs(name, {k: a.astype(float) for k, a in single.items()}, d_y)
    assert value.dtype == np.float32
    assert relative_error(value, expected) < 4e-6
    for key, slope in slopes.items():
        assert relative_error(slope, expected_slopes[key]) < 4e-6, key


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_bits_do_not_depend_on_where_an_array_begins(name: str, dtype: str) -> None:
    """The caller's arrays are read where they are if their rows are whole vectors."""
    drawn = rows(*np.random.default_rng(0).standard_normal((9, 64)))
    given = {key: array.astype(dtype) for key, array in drawn.items()}
    d_y = gradient_of(name, given)
    made = kernel(name, "c", dtype)
    value, slopes = ours(made, given, d_y)
    for skip in (1, 2, 3):
        moved = {}
        for key, array in given.items():
            room = np.empty(array.size + skip, dtype)
            moved[key] = room[skip:].reshape(array.shape)
            moved[key][...] = array
        found, others = ours(made, moved, d_y)
        assert found.tobytes() == value.tobytes()
        assert all(others[key].tobytes() == slope.tobytes() for key, slope in slopes.items())


# What each is of A, P, Q (B, rows, columns) along an axis, the axis kept.
ALONG: dict[str, tuple[str, Callable[..., torch.Tensor]]] = {
    "sum": ("sum(A[t], {})", lambda a, p, q, d: a.sum(d, keepdim=True)),
    "mean": ("mean(A[t], {})", lambda a, p, q, d: a.mean(d, keepdim=True)),
    "var": ("var(A[t], {})", lambda a, p, q, d: a.var(d, keepdim=True, unbiased=False)),
    "norm": ("norm(A[t], {})", lambda a, p, q, d: torch.linalg.vector_norm(a, dim=d, keepdim=True)),
    "dot": ("dot(A[t], P[t], axis={})", lambda a, p, q, d: (a * p).sum(d, keepdim=True)),
    "max": ("max(A[t], axis={})", lambda a, p, q, d: a.amax(d, keepdim=True)),
    "min": ("min(A[t], axis={})", lambda a, p, q, d: a.amin(d, keepdim=True)),
    "logsumexp": ("logsumexp(A[t], {})", lambda a, p, q, d: a.logsumexp(d, keepdim=True)),
    "softmax": ("softmax(A[t], {})", lambda a, p, q, d: a.softmax(d)),
    "cumsum": ("cumsum(A[t], {})", lambda a, p, q, d: a.cumsum(d)),
    "layer_norm": (
        "layer_norm(A[t], P[t], Q[t], axis={})",
        lambda a, p, q, d: normed(a.transpose(d, -1)).transpose(d, -1) * p + q,
    ),
}
MATRICES = ("A", "P", "Q")


@cache
def kernel_along(axis: int, backend: str, dtype: str = "float64") -> Kernel:
    """A cell of one step with every reduction along an axis of matrices; vectors tell rows and columns."""
    lines = [f"{name}: input[rows, columns]" for name in MATRICES]
    lines += [
        "r: input[rows]",
        "c: input[columns]",
        "y_vectors[t] = sum(r[t]) + sum(c[t])",
    ]
    lines += [f"y_{name}[t] = {call.format(axis)}" for name, (call, _) in ALONG.items()]
    with quickly("c-portable"):
        made = gg.compile(gg.parse("\n".join(lines), "along"), dtype, backend)
    assert made.backend == backend
    return made


def along(
    name: str, axis: int, backend: str, given: dict[str, Array], bound: float, dtype: str = "float64"
) -> None:
    """Compare one reduction of matrices (B, rows, columns), and its gradients, with PyTorch's."""
    made = kernel_along(axis, backend, dtype)
    tensors = {key: torch.tensor(array, requires_grad=True) for key, array in given.items()}
    value = ALONG[name][1](*tensors.values(), axis + 1)
    d_y = np.random.default_rng(3).standard_normal(value.shape)
    (value * torch.tensor(d_y)).sum().backward()
    count = len(d_y)
    run = made.forward(flat(given, dtype), {}, train=True)
    seed = d_y.reshape(1, count, -1).astype(dtype)
    grad = made.backward(run, {f"y_{name}": seed})
    expected = value.detach().numpy().reshape(count, -1)
    np.testing.assert_allclose(run.outputs[f"y_{name}"][0], expected, rtol=bound, atol=bound)
    for key, tensor in tensors.items():
        slope = np.zeros(given["A"].shape) if tensor.grad is None else tensor.grad.numpy()
        found = grad.inputs[key].reshape(slope.shape)
        np.testing.assert_allclose(found, slope, rtol=20 * bound, atol=20 * bound, err_msg=key)


def flat(given: dict[str, Array], dtype: str = "float64") -> dict[str, Array]:
    """The inputs of that cell, one step."""
    count, rows, columns = given["A"].shape
    flat = {key: array.reshape(1, count, -1).astype(dtype) for key, array in given.items()}
    return flat | {"r": np.zeros((1, count, rows), dtype), "c": np.zeros((1, count, columns), dtype)}


def test_every_row_goes_along_axes() -> None:
    assert set(ALONG) == set(REDUCTIONS)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ALONG)
def test_along_an_axis_they_are_those_of_pytorch(name: str, backend: str, axis: int) -> None:
    for shape in [(1, 1), (2, 7), (7, 2), (16, 5), (5, 16), (3, 61), (61, 3), (17, 33)]:
        rng = np.random.default_rng(shape[0])
        along(name, axis, backend, {key: rng.standard_normal((3, *shape)) for key in MATRICES}, 1e-12)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ALONG)
def test_along_an_axis_kinks_and_far_values_are_those_of_pytorch(name: str, backend: str, axis: int) -> None:
    far = [row for case, row in FAR.items() if case != "tiny"]
    given = {key: np.random.default_rng(7).standard_normal((2, 6, 5)) for key in MATRICES}
    given["A"] = np.array([far, far[::-1]])
    if axis == 0:
        given = {key: np.ascontiguousarray(array.transpose(0, 2, 1)) for key, array in given.items()}
    along(name, axis, backend, given, 1e-11)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ALONG)
def test_along_an_axis_float32_is_near(name: str, backend: str, axis: int) -> None:
    rng = np.random.default_rng(1)
    given = {key: rng.standard_normal((3, 9, 35)).astype(np.float32).astype(float) for key in MATRICES}
    along(name, axis, backend, given, 1e-5, "float32")


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("backend", BACKENDS)
def test_along_an_axis_not_a_number_stays_in_its_row_or_column(backend: str, axis: int) -> None:
    rng = np.random.default_rng(0)
    given = {key: rng.standard_normal((2, 19, 37)) for key in MATRICES}
    made = kernel_along(axis, backend)
    outputs = [f"y_{name}" for name in ALONG]
    clean = made.forward(flat(given), {}).outputs
    for row, column in [(0, 0), (18, 36), (7, 20)]:
        before, given["A"][1, row, column] = given["A"][1, row, column], np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = made.forward(flat(given), {}).outputs
        given["A"][1, row, column] = before
        for name in outputs:
            np.testing.assert_array_equal(found[name][0, 0], clean[name][0, 0])
            lost = np.isnan(found[name][0, 1])
            if len(lost) != 19 * 37:
                assert np.flatnonzero(lost).tolist() == [column if axis == 0 else row], name
                continue
            lines = lost.reshape(19, 37)
            line, place = (lines[:, column], row) if axis == 0 else (lines[row], column)
            first = place if name == "y_cumsum" else 0
            assert line[first:].all() and lost.sum() == line.sum() == len(line) - first, name


def test_along_an_axis_reductions_have_one_form_in_text_and_program() -> None:
    S, h, x = gg.signals("S h x")
    t = gg.t
    built = gg.Cell(
        "made",
        [
            gg.Eq(S[t], gg.softmax(S[t - 1] + gg.outer(x[t], x[t]), axis=1)),
            gg.Eq(h[t], gg.mean(S[t], axis=0) + gg.max(S[t - 1], axis=1)),
        ],
    )
    lines = "S[t] = softmax(S[t-1] + outer(x[t], x[t]), 1)\nh[t] = mean(S[t], axis=0) + max(S[t-1], axis=1)"
    assert built == gg.parse(lines, "made")
    assert gg.parse(str(built), "made") == built
    assert "softmax(S[t-1] + outer(x[t], x[t]), axis=1)" in str(built)
    assert pickle.loads(pickle.dumps(built)) == built
    with pytest.raises(gg.GategenError, match="no axis 2"):
        gg.mean(S[t], axis=2)


def test_reductions_by_program_are_those_of_the_text() -> None:
    x, h = gg.signals("x h")
    U_h, g_h = gg.weights("U_h g_h")
    from gategen import dot, layer_norm, softmax

    t = gg.t
    right = layer_norm(x[t] + U_h @ h[t - 1], g_h) * softmax(h[t - 1]) + dot(x[t], h[t - 1])
    built = gg.Cell("made", [gg.Eq(h[t], right)])
    lines = "h[t] = layer_norm(x[t] + U_h @ h[t-1], g_h) * softmax(h[t-1]) + dot(x[t], h[t-1])"
    assert built == gg.parse(lines, "made")
    assert gg.parse(str(built), "made") == built


def test_gains_begin_at_one_and_biases_at_zero() -> None:
    k = gg.compile("h[t] = layer_norm(W_h @ x[t] + h[t-1], g_h, b_h)", backend="numpy")
    p = k.init({"x": 2, "h": 3}, seed=0)
    assert p["g_h"].tolist() == [1, 1, 1] and p["b_h"].tolist() == [0, 0, 0]
    heads = "y[t] = flatten(layer_norm(reshape(x[t], 2), g_h[None, :], b_h[None, :], axis=1))"
    p = gg.compile(heads, backend="numpy").init({"x": 6}, seed=0)
    assert p["g_h"].tolist() == [1, 1, 1] and p["b_h"].tolist() == [0, 0, 0]
