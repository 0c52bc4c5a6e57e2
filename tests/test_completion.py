"""Inputs given once for a sequence, or not at all: per-sequence operands and the number of the step."""

from __future__ import annotations

import numpy as np
import pytest

import gategen as gg
from gategen.errors import ArgumentError

BACKENDS = ("c", "c-portable", "numpy")
MASKED = "m: sequence\nh[t] = tanh(W_h @ x[t] + U_h @ (m * h[t-1]))"
CLOCKED = "h[t] = where(mod(t, 3) < 1, tanh(W_h @ x[t] + b_h), h[t-1])"
RNG = np.random.default_rng(0)
X = RNG.standard_normal((7, 2, 3))
M = RNG.standard_normal((2, 4))
SEED = RNG.standard_normal((7, 2, 4))


def masked(backend: str) -> tuple[gg.runtime.kernel.Kernel, dict[str, np.ndarray]]:
    k = gg.compile(MASKED, dtype="float64", backend=backend)
    return k, k.init({"x": 3, "h": 4}, seed=1)


@pytest.mark.parametrize("tape", ["full", "sqrt"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_operand_of_the_sequence_is_the_same_in_all_steps(backend: str, tape: str) -> None:
    k, p = masked(backend)
    once = k.forward({"x": X, "m": M}, p, lengths=[7, 4], train=True, tape=tape)
    planes = k.forward({"x": X, "m": np.broadcast_to(M, (7, 2, 4))}, p, lengths=[7, 4], train=True, tape=tape)
    assert np.array_equal(once.outputs["h"], planes.outputs["h"])
    slopes, each = k.backward(once, SEED), k.backward(planes, SEED)
    assert slopes.inputs["m"].shape == (2, 4)
    np.testing.assert_allclose(slopes.inputs["m"], each.inputs["m"].sum(0), rtol=1e-12)
    assert np.array_equal(slopes.params["U_h"], each.params["U_h"])


def test_its_gradient_is_a_difference() -> None:
    k, p = masked("c")
    slope = k.backward(k.forward({"x": X, "m": M}, p, train=True), SEED).inputs["m"]
    way = RNG.standard_normal(M.shape)
    ends = [(k.forward({"x": X, "m": M + step * way}, p).outputs["h"] * SEED).sum() for step in (1e-6, -1e-6)]
    assert (slope * way).sum() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_sequence_without_a_batch(backend: str) -> None:
    k, p = masked(backend)
    run = k.forward({"x": X[:, 1], "m": M[1]}, p, train=True)
    whole = k.forward({"x": X, "m": M}, p, train=True)
    np.testing.assert_allclose(run.outputs["h"], whole.outputs["h"][:, 1], rtol=1e-13)
    seed = np.zeros_like(SEED)
    seed[:, 1] = SEED[:, 1]
    alone, among = k.backward(run, SEED[:, 1]).inputs["m"], k.backward(whole, seed).inputs["m"]
    assert alone.shape == (4,)
    np.testing.assert_allclose(alone, among[1], rtol=1e-11)


def test_what_is_wrong_is_told() -> None:
    k, p = masked("numpy")
    with pytest.raises(ArgumentError, match=r"inputs\['m'\]: is missing; expected an array \(B, n_h\)"):
        k.forward({"x": X}, p)
    with pytest.raises(ArgumentError, match=r"inputs\['m'\]: has shape"):
        k.forward({"x": X, "m": M[:1]}, p)
    with pytest.raises(ArgumentError, match=r"inputs\['m'\]: has dtype float32"):
        k.forward({"x": X, "m": M.astype(np.float32)}, p)
    with pytest.raises(ArgumentError, match=r"inputs\['m'\]: is missing"):
        k.forward(X, p)


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_counted(backend: str) -> None:
    k = gg.compile(CLOCKED, dtype="float64", backend=backend)
    p = k.init({"x": 3, "h": 4}, seed=2)
    found = k.forward(X, p).outputs["h"]
    new = np.tanh(X @ p["W_h"].T + p["b_h"])
    np.testing.assert_allclose(found, new[[0, 0, 0, 3, 3, 3, 6]], rtol=1e-14)
    assert np.array_equal(found, k.forward({"x": X}, p, train=True, tape="sqrt").outputs["h"])
    np.testing.assert_allclose(found[:, 1], k.forward(X[:, 1], p).outputs["h"], rtol=1e-14)
    later = {"x": X[3:], "t": np.broadcast_to(np.arange(3.0, 7)[:, None, None], (4, 2, 1))}
    np.testing.assert_allclose(found[3:], k.forward(later, p, {"h": found[2]}).outputs["h"], rtol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_counts_its_steps(backend: str) -> None:
    k = gg.compile(CLOCKED, dtype="float64", backend=backend)
    p = k.init({"x": 3, "h": 4}, seed=2)
    wanted = k.forward(X, p).outputs["h"]
    stream = k.stream(p, batch=2)
    assert np.array_equal(np.stack([stream(x) for x in X]), wanted)
    stream.reset()
    assert np.array_equal(np.stack([stream({"x": x}) for x in X]), wanted)
    number = np.full((2, 1), 3.0)
    assert np.array_equal(stream({"x": X[3], "t": number}), wanted[3])


def test_an_operand_goes_with_every_step_of_a_stream() -> None:
    k, p = masked("c")
    stream = k.stream(p, batch=2)
    found = np.stack([stream({"x": x, "m": M}) for x in X])
    assert np.array_equal(found, k.forward({"x": X, "m": M}, p).outputs["h"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_elements_must_be_there(backend: str) -> None:
    k = gg.compile("v = W_v @ x[t]\nh[t] = v[2] * h[t-1] + x[t]", dtype="float64", backend=backend)
    with pytest.raises(ArgumentError, match=r"widths\['v'\]: makes n_v 2; expected 3 or more"):
        k.init({"x": 3, "v": 2})
    p = {"W_v": np.ones((2, 3))}
    with pytest.raises(ArgumentError, match=r"params\['W_v'\]: makes n_v 2; expected 3 or more"):
        k.forward(X, p)
    with pytest.raises(ArgumentError, match="makes n_v 2"):
        k.stream(p)
    assert k.forward(X, {"W_v": np.ones((3, 3))}).outputs["h"].shape == X.shape


@pytest.mark.parametrize("n", [2, 5])
def test_a_square_matrix_alone_tells_its_width(n: int) -> None:
    k = gg.compile("s: input[1]\nS: state[n, n]\nS[t] = 0.5 * S[t-1] + s[t] * S[t-1]", backend="numpy")
    start = np.ones((3, n * n), np.float32)
    assert k.forward(np.ones((4, 3, 1), np.float32), {}, {"S": start}).outputs["S"].shape == (4, 3, n * n)
    with pytest.raises(ArgumentError, match="initial"):
        k.forward(np.ones((4, 3, 1), np.float32), {}, {"S": start[:, 1:]})
