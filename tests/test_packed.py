"""Parameters packed once for many forward passes give the bits of every single one."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import gategen as gg
from gategen.errors import ArgumentError
from gategen.runtime.kernel import Kernel, Run

DERIVED = "W_s = W_a + W_b * W_b\nv_s = tanh(b_v)\nh[t] = tanh(W_s @ x[t] + U_h @ h[t-1] + v_s)"
# T and B: more and less of both than there is room for, products before the loop, no step.
SIZES = [(5, 7), (3, 2), (5, 7), (9, 9), (1, 1), (0, 3), (9, 9), (40, 1)]


def made(cell: str = "lstm", backend: str = "c", **options: Any) -> tuple[Kernel, dict[str, Any]]:
    k = gg.compile(cell, dtype="float64", backend=backend, **options)
    return k, k.init({"x": 19, "h": 21}, seed=1)


def inputs(steps: int, batch: int) -> Any:
    return np.random.default_rng(steps).standard_normal((steps, batch, 19))


def same(one: Run, two: Run) -> bool:
    pairs = ((one.outputs, two.outputs), (one.final, two.final))
    return all(a[name].tobytes() == b[name].tobytes() for a, b in pairs for name in a)


@pytest.mark.parametrize("backend", ["c", "c-portable", "numpy"])
@pytest.mark.parametrize("cell", ["lstm", "gru", DERIVED], ids=["lstm", "gru", "derived"])
def test_every_size_has_the_bits_of_a_dict(cell: str, backend: str) -> None:
    k, p = made(cell, backend)
    packed = k.pack(p)
    for steps, batch in SIZES:
        x = inputs(steps, batch)
        assert same(k.forward(x, packed), k.forward(x, p)), (steps, batch)


def test_weights_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    k, p = made()
    engine: Any = k._engine
    run, given = engine._forward, []

    def watched(dims: Any, params: Any, *rest: Any) -> Any:
        given.append(params != engine._ffi.NULL)
        return run(dims, params, *rest)

    monkeypatch.setattr(engine, "_forward", watched)
    packed = k.pack(p)
    for steps, batch in ((8, 8), (8, 8), (2, 3), (9, 9), (8, 8)):
        k.forward(inputs(steps, batch), packed)
    # Once more only where the workspace has become too small.
    assert given == [True, False, False, True, False]


def test_later_changes_do_not_count() -> None:
    k, p = made()
    x = inputs(6, 4)
    before, packed = k.forward(x, p), k.pack(p)
    for array in p.values():
        array += 1
    assert same(k.forward(x, packed), before)
    assert not same(k.forward(x, p), before)
    with pytest.raises(ValueError, match="read-only"):
        packed["W_i"][0] = 0


def test_whatever_takes_parameters_takes_them_packed() -> None:
    k, p = made()
    packed, x = k.pack(p), inputs(6, 4)
    seeds = np.ones((6, 4, 21))
    found = k.backward(k.forward(x, packed, train=True), seeds)
    expected = k.backward(k.forward(x, p, train=True), seeds)
    assert all((found.params[name] == array).all() for name, array in expected.params.items())
    whole = k.forward(x, p, train=True, tape="sqrt")
    assert same(k.forward(x, packed, train=True, tape="sqrt"), whole)
    step = k.stream(packed)
    assert (step(x[0, 0]) == whole.outputs["h"][0, 0]).all()
    other, _ = made(backend="numpy")
    assert same(other.forward(x, packed), other.forward(x, p))
    assert isinstance(packed, Mapping)
    assert list(packed) == list(p)
    assert len(packed) == len(p)


def test_lengths_first_states_and_no_batch() -> None:
    k, p = made()
    packed, x = k.pack(p), inputs(6, 3)
    start = {"h": np.full((3, 21), 0.5), "c": np.full((3, 21), -0.5)}
    for options in ({"lengths": [6, 0, 2]}, {"initial": start}, {}):
        assert same(k.forward(x, packed, **options), k.forward(x, p, **options)), options
    assert same(k.forward(x[:, 0], packed), k.forward(x[:, 0], p))


@pytest.mark.parametrize("threads", [1, 2])
def test_several_threads_at_once(threads: int) -> None:
    k, p = made(threads=threads)
    packed = k.pack(p)
    rows = [inputs(20 + n % 5, 1 + n % 9) for n in range(60)]
    expected = [k.forward(x, p) for x in rows]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: k.forward(x, packed), rows))
    assert all(map(same, found, expected))


PLAIN = {
    "no parameter": "h[t] = tanh(x[t] + h[t-1])",
    "a number": "alpha: scalar\nh[t] = tanh(alpha * x[t] + h[t-1])",
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_a_width_that_only_the_input_tells(text: str) -> None:
    """What is kept of one width is of no use for another, even where there are no parameters."""
    k = gg.compile(text, dtype="float64")
    p = {name: np.array(0.7) for name in k.init({"x": 3})}
    packed = k.pack(p)
    for width in (3, 40, 3, 3):
        x = np.random.default_rng(width).standard_normal((5, 4, width))
        assert same(k.forward(x, packed), k.forward(x, p))


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"W_i": None}, "params['W_i']: is missing; expected an array (n_h, n_x)"),
        ({"V_i": np.zeros(3)}, "params['V_i']: unknown name"),
        ({"W_i": np.zeros((21, 19), "float32")}, "params['W_i']: has dtype float32"),
        ({"b_i": np.zeros(20)}, "params['b_i']: has shape (20,)"),
    ],
    ids=["missing", "unknown", "dtype", "shape"],
)
def test_mistakes(change: dict[str, Any], fragment: str) -> None:
    k, p = made()
    given = {name: array for name, array in {**p, **change}.items() if array is not None}
    with pytest.raises(ArgumentError) as caught:
        k.pack(given)
    assert fragment in str(caught.value)
