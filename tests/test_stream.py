"""Streams: one step per call gives the bits of the whole sequence, and mistakes change no state."""

from __future__ import annotations

import numpy as np
import pytest

import gategen as gg
from gategen.errors import ArgumentError, GategenError

HEAD = """
x: input[d]
h[t] = tanh(W @ x[t] + U @ h[t-1] + b)
y[t] = V @ h[t] + c_y
"""
HISTORY = """
x: input[d]
h: state[n] = 0.25
h[t] = tanh(W @ x[t] + Q @ x[t-1] + U @ h[t-1] + b)
"""
TWO = """
x: input[d]
u: input[1]
s: scalar = 0.5
h[t] = tanh(W @ x[t] + s * u[t] * h[t-1])
y[t] = V @ h[t]
h: output
y: output
"""
DELAYS = """
x: input[d]
c[t] = tanh(W @ x[t] + V @ x[t-3] + U @ c[t-4])
h[t] = c[t-1] * h[t-2] + c[t] + A @ x[t-1]
"""
LATER = """
x: input[d]
h[t] = tanh(W @ x[t] + Q @ x[t+1] + U @ h[t-1])
"""
CELLS = {
    "lstm": "lstm",
    "gru": "gru",
    "lstm_peephole": "lstm_peephole",
    "lstm_layer_norm": "lstm_layer_norm",
    "head": HEAD,
    "history": HISTORY,
    "two": TWO,
    "delays": DELAYS,
}
BACKENDS = ["c", "c-portable", "numpy"]


def made(cell, dtype="float64", backend="c", batch=None, steps=6, **options):
    """A kernel, its parameters, and inputs (T, B, width), or (T, width) without a batch."""
    k = gg.compile(CELLS.get(cell, cell), dtype=dtype, backend=backend, **options)
    random = np.random.default_rng(3)
    p = k.init({"x": 5, "h": 19, **({"y": 3} if cell in ("head", "two") else {})}, seed=1)
    axes = (steps,) if batch is None else (steps, batch)
    widths = {"x": 5, "u": 1}
    inputs = {
        s.name: random.standard_normal((*axes, widths[s.name])).astype(dtype) for s in k.manifest.inputs
    }
    return k, p, inputs


def refuses(fragment, call, kind=ArgumentError):
    with pytest.raises(kind) as caught:
        call()
    assert fragment in str(caught.value), str(caught.value)


def steps_of(stream, inputs):
    """The results of all steps by name."""
    rows = [
        stream({name: x[t] for name, x in inputs.items()}) for t in range(len(next(iter(inputs.values()))))
    ]
    if isinstance(rows[0], dict):
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return np.stack(rows)


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_steps_have_the_bits_of_the_sequence(cell, backend, dtype, batch):
    k, p, inputs = made(cell, dtype, backend, batch)
    run = k.forward(inputs, p)
    stream = k.stream(p, batch=batch or 1)
    for _ in range(2):
        found = steps_of(stream, inputs)
        if not isinstance(found, dict):
            found = {next(iter(run.outputs)): found}
        assert set(found) == set(run.outputs)
        same = np.testing.assert_allclose if backend == "numpy" else np.testing.assert_array_equal
        for name, array in run.outputs.items():
            same(found[name], array)
            assert found[name].dtype == dtype
        state = stream.state
        assert list(state) == [s.name for s in k.manifest.carried]
        for name, array in run.final.items():
            same(state[name], array)
        stream.reset()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_goes_on_where_a_run_ended(backend):
    k, p, inputs = made("history", backend=backend, batch=1)
    whole = k.forward(inputs, p).outputs["h"]
    first = k.forward({"x": inputs["x"][:2]}, p)
    # What forward gives for a batch of one has a batch axis; a stream takes it as it is.
    stream = k.stream(p, initial=first.final)
    found = np.stack([stream(x) for x in inputs["x"][2:, 0]])
    np.testing.assert_allclose(found, whole[2:, 0], rtol=1e-13)
    stream.reset({name: array[0] for name, array in first.final.items()})
    np.testing.assert_array_equal(stream(inputs["x"][2, 0]), found[0])
    rest = k.forward({"x": inputs["x"][3:, 0]}, p, initial=stream.state)
    np.testing.assert_allclose(rest.outputs["h"], found[1:], rtol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_are_the_streams_own(backend):
    k, p, inputs = made("lstm_peephole", backend=backend)
    expected = k.forward(inputs, p).outputs["h"]
    stream = k.stream(p)
    for array in p.values():
        array.fill(np.nan)
    np.testing.assert_allclose(steps_of(stream, inputs), expected, rtol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_streams_and_runs_do_not_meet(backend):
    k, p, inputs = made("lstm", backend=backend)
    other = k.init({"x": 5, "h": 19}, seed=2)
    alone = steps_of(k.stream(p), inputs)
    one, two = k.stream(p), k.stream(other, batch=2)
    for t, x in enumerate(inputs["x"]):
        np.testing.assert_array_equal(one(x), alone[t])
        two(np.stack([x, x]))
        k.backward(k.forward(inputs, other, train=True), None)


def test_results_are_new_arrays_or_those_given():
    k, p, inputs = made("lstm")
    x = inputs["x"]
    stream, twin = k.stream(p), k.stream(p)
    out = np.empty(19)
    first = stream(x[0])
    assert twin(x[0], out=out) is out
    np.testing.assert_array_equal(out, first)
    kept = first.copy()
    stream(x[1])
    np.testing.assert_array_equal(first, kept)
    stream.state["h"].fill(np.nan)
    assert np.isfinite(stream(x[2])).all()
    # Any layout will do.
    wide = np.empty((19, 2))[:, 0]
    np.testing.assert_array_equal(
        twin(np.repeat(x[1], 2)[::2], out=wide), k.forward(x[:2], p).outputs["h"][1]
    )

    k, p, inputs = made("two")
    step = {name: array[0] for name, array in inputs.items()}
    expected = k.stream(p)(step)
    assert list(expected) == [s.name for s in k.manifest.outputs]
    some = {"y": np.empty(3)}
    assert k.stream(p)(step, out=some) is some
    np.testing.assert_array_equal(some["y"], expected["y"])


def test_the_declared_start_is_kept():
    k, p, inputs = made("history")
    stream = k.stream(p, initial={"x": np.ones(5)})
    assert (stream.state["h"] == 0.25).all()
    assert (stream.state["x"] == 1).all()
    stream(inputs["x"][0])
    np.testing.assert_array_equal(stream.state["x"], inputs["x"][0])
    stream.reset({"h": np.zeros(19)})
    assert not stream.state["h"].any()
    assert not stream.state["x"].any()


@pytest.mark.parametrize("threads", [1, 3])
def test_many_sequences_may_share_threads(threads):
    k, p, inputs = made("lstm_peephole", batch=9, threads=threads)
    np.testing.assert_array_equal(steps_of(k.stream(p, batch=9), inputs), k.forward(inputs, p).outputs["h"])


def test_what_comes_later_cannot_be_read():
    k = gg.compile("lstm_reverse")
    p = k.init({"x": 2, "h": 3})
    refuses("it runs from right to left", lambda: k.stream(p), GategenError)
    for _ in range(2):  # cold, then warm
        k = gg.compile(LATER)
        p = k.init({"x": 2, "h": 3})
        refuses(
            "a step reads x[t+1], which comes later; use forward", lambda k=k, p=p: k.stream(p), GategenError
        )


def test_wrong_arguments_of_a_stream_are_named():
    k, p, _ = made("lstm")
    for batch in (0, -1, 1.0, True, None):
        refuses(f"batch: is {batch!r}; expected a positive integer", lambda b=batch: k.stream(p, batch=b))
    refuses("params: is a list", lambda: k.stream([1]))
    some = dict(p)
    del some["U_i"]
    refuses("params['U_i']: is missing; expected an array (n_h, n_h)", lambda: k.stream(some))
    refuses("params['b_i']: has shape (7,)", lambda: k.stream({**p, "b_i": np.ones(7)}))
    refuses("params['b_i']: has dtype float32", lambda: k.stream({**p, "b_i": np.ones(19, np.float32)}))
    refuses(
        "initial['h']: has shape (2, 19); expected (19,), that is (n_h,)",
        lambda: k.stream(p, initial={"h": np.ones((2, 19))}),
    )
    refuses(
        "initial['h']: has shape (19,); expected (2, 19), that is (B, n_h) with B = 2 from batch",
        lambda: k.stream(p, batch=2, initial={"h": np.ones(19)}),
    )
    refuses("initial['H']: unknown name", lambda: k.stream(p, initial={"H": np.ones(19)}))
    lonely = gg.compile("x: input[n]\nh[t] = 0.5 * h[t-1] + x[t]", dtype="float64")
    refuses("initial: no array tells the width", lambda: lonely.stream({}))
    np.testing.assert_array_equal(lonely.stream({}, initial={"h": np.ones(2)})(np.ones(2)), [1.5, 1.5])


def test_wrong_arguments_of_a_step_change_nothing():
    k, p, inputs = made("lstm")
    x = inputs["x"][0]
    stream = k.stream(p)
    expected = k.stream(p)(x)
    frozen = np.empty(19)
    frozen.setflags(write=False)
    cases = [
        (
            (inputs["x"],),
            "inputs['x']: has shape (6, 5); expected (5,), that is (n_x,) with n_x = 5 from params",
        ),
        ((x.astype(np.float32),), "inputs['x']: has dtype float32; expected float64"),
        ((x.tolist(),), "inputs: is a list" if len(inputs) > 1 else "inputs['x']: is a list"),
        ((None,), "inputs['x']: is missing; expected an array (n_x,)"),
        (({"y": x},), "inputs['y']: unknown name"),
        ((x, np.empty(18)), "out: has shape (18,); expected (19,)"),
        ((x, np.empty(19, np.float32)), "out['h']: has dtype float32"),
        ((x, frozen), "out: is read-only"),
        ((x, {"H": np.empty(19)}), "out['H']: unknown name"),
    ]
    for arguments, fragment in cases:
        refuses(fragment, lambda a=arguments: stream(*a))
    refuses("initial['h']: has shape (3,); expected (19,)", lambda: stream.reset({"h": np.ones(3)}))
    np.testing.assert_array_equal(stream(x), expected)
    assert repr(stream) == "Stream(lstm, batch 1)"
