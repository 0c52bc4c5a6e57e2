"""Kernels: the protocol between generated modules and the runtime, pinned by one cell written by hand.

The cell reads an input's past, has a scalar input, an indexed, a frozen, a declared and an unused parameter:

    h[t] = h[t-1] + s * (U[0] @ (x[t] + x[t-1])) + M * g[t]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gategen as gg
from gategen.errors import ArgumentError, BuildError, GategenError, GategenWarning
from gategen.language.cell import Cell
from gategen.language.parse import parse
from gategen.language.shapes import Width
from gategen.runtime import build, cache, engines
from gategen.runtime.kernel import Kernel
from gategen.runtime.manifest import ArraySpec, InputSpec, Manifest, ParameterSpec, StateSpec, evaluate
from gategen.runtime.memory import Pool
from gategen.runtime.numpy_engine import NumpyEngine

ROOT = Path(__file__).resolve().parents[1]
N_X, N_H = Width.of("n_x"), Width.of("n_h")

MANIFEST = Manifest(
    cell="toy",
    dtype="float64",
    backend="c-portable",
    widths={"n_x": ("x",), "n_h": ("h", "M", "b")},
    inputs=(InputSpec("x", "x", (N_X,), steps=1, start="x_initial"), InputSpec("g", "g", ())),
    states=(StateSpec("h", "h", (N_H,), initial=0.5, start="h_initial", final="h_final"),),
    outputs=(ArraySpec("h", "h", (N_H,)),),
    parameters=(
        ParameterSpec("U[0]", "U_0", (N_H, N_X)),
        ParameterSpec("s", "s", (), value=2.0, multiplied=True),
        ParameterSpec("M", "M", (N_H,), kind="frozen"),
        ParameterSpec("b", "b", (N_H,)),
    ),
    warnings=("b is never used",),
)

NUMPY = """
import numpy as np


def order(sizes, t, lengths):
    alive = np.full(sizes["B"], True) if lengths is None else t < lengths
    return alive[:, None]


def steps(sizes):
    return range(sizes["T"] - 1, -1, -1) if REVERSE else range(sizes["T"])


def forward(sizes, inputs, params, initial, lengths, keep):
    U, s, M = params["U[0]"], params["s"], params["M"]
    x, g = inputs["x"], inputs["g"]
    h, x_prev = initial["h"], initial["x"]
    out = np.zeros((sizes["T"], sizes["B"], sizes["n_h"]), x.dtype)
    v = np.zeros_like(out)
    u = np.zeros_like(x)
    for t in steps(sizes):
        alive = order(sizes, t, lengths)
        u[t] = x[t] + x_prev
        v[t] = u[t] @ U.T
        new = h + s * v[t] + M * g[t]
        h = np.where(alive, new, h)
        out[t] = np.where(alive, new, 0)
        x_prev = np.where(alive, x[t], x_prev)
    return {"h": out}, {"h": h}, {"u": u, "v": v} if keep else None


def backward(sizes, inputs, params, initial, lengths, tape, d_outputs, d_final):
    U, s, M = params["U[0]"], params["s"], params["M"]
    x = inputs["x"]
    d_h = np.zeros_like(initial["h"]) + d_final.get("h", 0)
    d_x, d_g = np.zeros_like(x), np.zeros_like(inputs["g"])
    d_U, d_s = np.zeros_like(U), np.zeros_like(s)
    d_next = np.zeros_like(initial["x"])
    for t in reversed(steps(sizes)):
        alive = order(sizes, t, lengths)
        if "h" in d_outputs:
            d_h = d_h + np.where(alive, d_outputs["h"][t], 0)
        d = np.where(alive, d_h, 0)
        d_g[t] = (d * M).sum(1, keepdims=True)
        d_v = s * d
        d_s = d_s + (d * np.where(alive, tape["v"][t], 0)).sum()
        d_U = d_U + d_v.T @ np.where(alive, tape["u"][t], 0)
        d_u = d_v @ U
        d_x[t] = np.where(alive, d_u + d_next, 0)
        d_next = np.where(alive, d_u, d_next)
    for plane in tape.values():
        plane.fill(np.nan)
    return {"x": d_x, "g": d_g}, {"U[0]": d_U, "s": d_s}, {"h": d_h, "x": d_next}
"""

CDEF = """
typedef struct { int64_t T, B, n_x, n_h; } gg_toy_dims;
typedef struct { REAL *U_0; REAL *s; REAL *M; REAL *b; } gg_toy_params_KIND;
typedef struct { REAL *x; REAL *g; REAL *h_initial; REAL *x_initial; const int64_t *lengths; }
    gg_toy_inputs_KIND;
typedef struct { REAL *h; REAL *h_final; } gg_toy_outputs_KIND;
int gg_toy_forward_KIND(const gg_toy_dims *, const gg_toy_params_KIND *, const gg_toy_inputs_KIND *,
                        const gg_toy_outputs_KIND *, REAL *tape, void *work);
int gg_toy_backward_KIND(const gg_toy_dims *, const gg_toy_params_KIND *, const gg_toy_inputs_KIND *,
                         const gg_toy_outputs_KIND *, REAL *tape, const gg_toy_params_KIND *,
                         const gg_toy_inputs_KIND *, void *work);
int64_t gg_toy_tape_size_KIND(const gg_toy_dims *);
int64_t gg_toy_work_size_KIND(const gg_toy_dims *);
"""

# The gradient of h[t] overwrites v[t] on the tape, so a tape that is used twice shows.
SOURCE = """
#include <stdint.h>
#include <string.h>
DECLARATIONS
int64_t gg_toy_tape_size_KIND(const gg_toy_dims *d) { return d->T * d->B * d->n_h; }
int64_t gg_toy_work_size_KIND(const gg_toy_dims *d) { return (d->n_x + d->n_h) * (int64_t)sizeof(REAL); }

static REAL past(const gg_toy_inputs_KIND *in, const gg_toy_dims *d, int64_t t, int64_t b, int64_t k)
{
    const REAL first = in->x_initial ? in->x_initial[b * d->n_x + k] : 0;
    return t ? in->x[((t - 1) * d->B + b) * d->n_x + k] : first;
}

static void clear(REAL *array, int64_t count)
{
    if (array)
        memset(array, 0, (size_t)count * sizeof(REAL));
}

int gg_toy_forward_KIND(const gg_toy_dims *d, const gg_toy_params_KIND *p, const gg_toy_inputs_KIND *in,
                        const gg_toy_outputs_KIND *out, REAL *tape, void *work)
{
    if (!p->U_0 || !p->s || !p->M || !in->x || !in->g || !out->h || !out->h_final || (uintptr_t)work % 64)
        return 1;
    for (int64_t b = 0; b < d->B; b++) {
        REAL *h = out->h_final + b * d->n_h;
        int64_t length = in->lengths ? in->lengths[b] : d->T;
        for (int64_t j = 0; j < d->n_h; j++)
            h[j] = in->h_initial ? in->h_initial[b * d->n_h + j] : (REAL)0.5;
        for (int64_t t = 0; t < d->T; t++) {
            const int64_t row = t * d->B + b;
            const REAL *x = in->x + row * d->n_x;
            for (int64_t j = 0; j < d->n_h; j++) {
                REAL v = 0;
                for (int64_t k = 0; k < d->n_x; k++)
                    v += p->U_0[j * d->n_x + k] * (x[k] + past(in, d, t, b, k));
                if (tape)
                    tape[row * d->n_h + j] = v;
                if (t < length)
                    h[j] += *p->s * v + p->M[j] * in->g[row];
                out->h[row * d->n_h + j] = t < length ? h[j] : 0;
            }
        }
    }
    return 0;
}

int gg_toy_backward_KIND(const gg_toy_dims *d, const gg_toy_params_KIND *p, const gg_toy_inputs_KIND *in,
                         const gg_toy_outputs_KIND *d_out, REAL *tape, const gg_toy_params_KIND *d_p,
                         const gg_toy_inputs_KIND *d_in, void *work)
{
    REAL *d_u = work;
    REAL *d_h = d_u + d->n_x;
    REAL d_s = 0;
    /* All that is wanted is written, whatever was there. */
    clear(d_p->U_0, d->n_h * d->n_x);
    clear(d_p->b, d->n_h);
    clear(d_in->x, d->T * d->B * d->n_x);
    clear(d_in->g, d->T * d->B);
    clear(d_in->x_initial, d->B * d->n_x);
    for (int64_t b = 0; b < d->B; b++) {
        const int64_t length = in->lengths ? in->lengths[b] : d->T;
        for (int64_t j = 0; j < d->n_h; j++)
            d_h[j] = d_out->h_final ? d_out->h_final[b * d->n_h + j] : 0;
        for (int64_t t = d->T - 1; t >= 0; t--) {
            const int64_t row = t * d->B + b;
            if (t >= length)
                continue;
            memset(d_u, 0, (size_t)d->n_x * sizeof(REAL));
            REAL d_g = 0;
            for (int64_t j = 0; j < d->n_h; j++) {
                if (d_out->h)
                    d_h[j] += d_out->h[row * d->n_h + j];
                d_g += d_h[j] * p->M[j];
                d_s += d_h[j] * tape[row * d->n_h + j];
                tape[row * d->n_h + j] = d_h[j];
                for (int64_t k = 0; k < d->n_x; k++) {
                    d_u[k] += *p->s * d_h[j] * p->U_0[j * d->n_x + k];
                    if (d_p->U_0)
                        d_p->U_0[j * d->n_x + k]
                            += *p->s * d_h[j] * (in->x[row * d->n_x + k] + past(in, d, t, b, k));
                }
            }
            if (d_in->g)
                d_in->g[row] = d_g;
            for (int64_t k = 0; k < d->n_x; k++) {
                if (d_in->x)
                    d_in->x[row * d->n_x + k] += d_u[k];
                if (t && d_in->x)
                    d_in->x[((t - 1) * d->B + b) * d->n_x + k] += d_u[k];
                if (!t && d_in->x_initial)
                    d_in->x_initial[b * d->n_x + k] = d_u[k];
            }
        }
        if (d_in->h_initial)
            memcpy(d_in->h_initial + b * d->n_h, d_h, (size_t)d->n_h * sizeof(REAL));
    }
    if (d_p->s)
        *d_p->s = d_s;
    return 0;
}
"""

TEXT = """x: input[d]
y[t] = W @ x[t]
"""


def lowered(cell, dtype, backend):
    manifest = replace(MANIFEST, dtype=dtype, backend=backend)
    if backend == "numpy":
        return SimpleNamespace(manifest=manifest, source=f"REVERSE = False\n{NUMPY}", cdef="", linked="")
    real, kind = {"float32": ("float", "f32"), "float64": ("double", "f64")}[dtype]
    cdef = CDEF.replace("REAL", real).replace("KIND", kind)
    source = SOURCE.replace("REAL", real).replace("KIND", kind).replace("DECLARATIONS", cdef)
    return SimpleNamespace(manifest=manifest, source=source, cdef=cdef, linked="")


class Pipeline:
    """Stands for the stages before the runtime; counts what is asked of it."""

    def __init__(self):
        self.calls = []
        self.lowered = self._lowered

    def _lowered(self, cell, dtype, backend):
        self.calls.append((cell, dtype, backend))
        return lowered(cell, dtype, backend)


def isolate(monkeypatch, folder):
    monkeypatch.setenv("GATEGEN_CACHE_DIR", str(folder))
    monkeypatch.delenv("GATEGEN_CC", raising=False)
    monkeypatch.delenv("CC", raising=False)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    isolate(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def pipeline(place, monkeypatch):
    """The stages before the runtime, replaced."""
    made = Pipeline()
    monkeypatch.setitem(vars(gg), "pipeline", made)
    monkeypatch.setitem(vars(gg), "parse", lambda text, name, constants=None: parse(text, name))
    monkeypatch.setitem(vars(gg), "load", lambda name, constants=None: parse(Path(name).read_text(), "own"))
    return made


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The cell, by back end and dtype."""
    with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings():
        warnings.simplefilter("ignore", GategenWarning)
        isolate(monkeypatch, tmp_path_factory.mktemp("cache"))
        monkeypatch.setitem(vars(gg), "pipeline", SimpleNamespace(lowered=lowered))
        cell = parse(TEXT, "toy")
        return {
            (backend, dtype): gg.compile(cell, dtype=dtype, backend=backend)
            for backend in ("c-portable", "numpy")
            for dtype in ("float32", "float64")
        }


@pytest.fixture(params=["c-portable", "numpy"])
def k(request, kernels):
    return kernels[request.param, "float64"]


def given(k, steps=5, batch=3, n_x=4, n_h=2, seed=0):
    random = np.random.default_rng(seed)

    def draw(*shape):
        return random.standard_normal(shape).astype(k.dtype)

    params = k.init({"x": n_x, "h": n_h}, values={"M": draw(n_h)})
    return SimpleNamespace(
        inputs={"x": draw(steps, batch, n_x), "g": draw(steps, batch, 1)},
        params=params,
        initial={"h": draw(batch, n_h), "x": draw(batch, n_x)},
        d_outputs={"h": draw(steps, batch, n_h)},
        final={"h": draw(batch, n_h), "x": draw(batch, n_x)},
    )


def refuses(fragment, call, kind=ArgumentError):
    with pytest.raises(kind) as caught:
        call()
    assert fragment in str(caught.value), str(caught.value)


# The manifest.


def test_a_manifest_survives_json():
    assert Manifest.from_json(json.loads(json.dumps(MANIFEST.to_json(), sort_keys=True))) == MANIFEST
    twice = replace(MANIFEST, outputs=(ArraySpec("y", "y", (N_X + N_H.times(3) + Width((), 2),)),))
    back = Manifest.from_json(json.loads(json.dumps(twice.to_json(), sort_keys=True)))
    assert back == twice
    assert list(back.widths) == ["n_x", "n_h"]
    assert evaluate(back.outputs[0].shape, {"n_x": 5, "n_h": 2}) == (13,)


# Numbers.


def loss(k, data, lengths):
    run = k.forward(data.inputs, data.params, initial=data.initial, lengths=lengths)
    total = (run.outputs["h"] * data.d_outputs["h"]).sum()
    return total + sum((run.final[name] * data.final[name]).sum() for name in data.final)


@pytest.mark.parametrize("lengths", [None, np.array([5, 0, 2])], ids=["whole", "ragged"])
def test_gradients_agree_with_differences(k, lengths):
    data = given(k)
    run = k.forward(data.inputs, data.params, initial=data.initial, lengths=lengths, train=True)
    gradient = k.backward(run, data.d_outputs, final=data.final)
    assert list(gradient.inputs) == ["x", "g"]
    assert list(gradient.params) == ["U[0]", "s", "b"]
    assert list(gradient.initial) == ["h", "x"]
    assert not gradient.params["b"].any()
    pairs = [(data.inputs, gradient.inputs), (data.params, gradient.params), (data.initial, gradient.initial)]
    for arrays, slopes in pairs:
        for name, slope in slopes.items():
            assert slope.shape == arrays[name].shape
            assert slope.dtype == k.dtype
            direction = np.random.default_rng(1).standard_normal(slope.shape)
            original = arrays[name]
            arrays[name] = original + 1e-4 * direction
            up = loss(k, data, lengths)
            arrays[name] = original - 1e-4 * direction
            down = loss(k, data, lengths)
            arrays[name] = original
            assert (up - down) / 2e-4 == pytest.approx((slope * direction).sum(), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_engines_agree(kernels, dtype):
    results = []
    for backend in ("c-portable", "numpy"):
        k = kernels[backend, dtype]
        data = given(k)
        run = k.forward(data.inputs, data.params, lengths=np.array([4, 5, 0]), train=True)
        gradient = k.backward(run, data.d_outputs)
        assert (k.name, k.dtype, k.backend) == ("toy", np.dtype(dtype), backend)
        results.append([*run.outputs.values(), *run.final.values(), *gradient.inputs.values()])
        results[-1] += [*gradient.params.values(), *gradient.initial.values()]
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-5)


def test_two_runs_continue_one_another(k):
    data = given(k)
    whole = k.forward(data.inputs, data.params, initial=data.initial)
    first = k.forward({n: x[:2] for n, x in data.inputs.items()}, data.params, initial=data.initial)
    second = k.forward({n: x[2:] for n, x in data.inputs.items()}, data.params, initial=first.final)
    assert set(first.final) == {"h", "x"}
    np.testing.assert_array_equal(first.final["x"], data.inputs["x"][1])
    np.testing.assert_allclose(
        np.concatenate([first.outputs["h"], second.outputs["h"]]), whole.outputs["h"], rtol=1e-13
    )
    np.testing.assert_allclose(second.final["h"], whole.final["h"], rtol=1e-13)


def test_states_start_at_the_declared_number(k):
    data = given(k)
    run = k.forward(data.inputs, data.params)
    start = {"h": np.full((3, 2), 0.5), "x": np.zeros((3, 4))}
    again = k.forward(data.inputs, data.params, initial=start)
    np.testing.assert_array_equal(run.outputs["h"], again.outputs["h"])


def test_a_cell_from_right_to_left_ends_at_the_first_input(tmp_path):
    text = tmp_path / "gg_toy.py"
    text.write_text(f"REVERSE = True\n{NUMPY}", encoding="utf-8")
    manifest = replace(MANIFEST, reverse=True, backend="numpy")
    k = Kernel(manifest, NumpyEngine(manifest, text))
    data = given(k)
    for lengths in (None, np.array([5, 0, 2])):
        run = k.forward(data.inputs, data.params, initial=data.initial, lengths=lengths, train=True)
        read = np.array([True, lengths is None, True])[:, None]
        expected = np.where(read, data.inputs["x"][0], data.initial["x"])
        np.testing.assert_array_equal(run.final["x"], expected)
        gradient = k.backward(run, {}, final={"x": data.final["x"]})
        np.testing.assert_array_equal(gradient.inputs["x"][0], np.where(read, data.final["x"], 0))
        np.testing.assert_array_equal(gradient.initial["x"], np.where(read, 0, data.final["x"]))
        assert not gradient.inputs["x"][1:].any()
    assert not list(tmp_path.glob("__pycache__"))


def test_not_a_number_passes_through(k):
    data = given(k)
    data.inputs["x"][2, 1, 0] = np.nan
    data.inputs["g"][4, 0, 0] = np.inf
    run = k.forward(data.inputs, data.params, train=True)
    assert np.isnan(run.outputs["h"][2:, 1]).all()
    assert np.isfinite(run.outputs["h"][:, 2]).all()
    gradient = k.backward(run, data.d_outputs)
    assert np.isnan(gradient.params["U[0]"][:, 0]).all()


@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (5, 0), (0, 0)])
def test_nothing_to_do(k, steps, batch):
    data = given(k, steps, batch)
    lengths = np.zeros(batch, dtype=np.int64)
    run = k.forward(data.inputs, data.params, initial=data.initial, lengths=lengths, train=True)
    assert run.outputs["h"].shape == (steps, batch, 2)
    gradient = k.backward(run, data.d_outputs, final=data.final)
    for name in ("h", "x"):
        np.testing.assert_array_equal(run.final[name], data.initial[name])
        np.testing.assert_array_equal(gradient.initial[name], data.final[name])
        assert run.final[name] is not data.initial[name]
        assert gradient.initial[name] is not data.final[name]
    for name, array in [*data.params.items(), *data.inputs.items()]:
        if name != "M":
            slope = {**gradient.params, **gradient.inputs}[name]
            assert slope.shape == array.shape
            assert not slope.any()


def test_every_sequence_may_be_empty(k):
    data = given(k)
    none = np.zeros(3, dtype=np.uint8)
    run = k.forward(data.inputs, data.params, initial=data.initial, lengths=none, train=True)
    gradient = k.backward(run, data.d_outputs, final=data.final)
    assert not run.outputs["h"].any()
    for name in ("h", "x"):
        np.testing.assert_array_equal(run.final[name], data.initial[name])
        np.testing.assert_array_equal(gradient.initial[name], data.final[name])


# Layout.


def test_one_sequence_needs_no_batch_axis(k):
    data = given(k, batch=1)
    one = {name: x[:, 0] for name, x in data.inputs.items()}
    start = {name: x[0] for name, x in data.initial.items()}
    lengths = np.array([4])
    run = k.forward(one, data.params, initial=start, lengths=lengths, train=True)
    full = k.forward(data.inputs, data.params, initial=data.initial, lengths=lengths, train=True)
    assert run.outputs["h"].shape == (5, 2)
    assert {name: x.shape for name, x in run.final.items()} == {"h": (2,), "x": (4,)}
    np.testing.assert_array_equal(run.outputs["h"], full.outputs["h"][:, 0])
    d_one = {"h": data.d_outputs["h"][:, 0]}
    d_final = {name: x[0] for name, x in data.final.items()}
    slopes = k.backward(run, d_one, final=d_final)
    whole = k.backward(full, data.d_outputs, final=data.final)
    for name in ("x", "g"):
        np.testing.assert_array_equal(slopes.inputs[name], whole.inputs[name][:, 0])
    for name in ("h", "x"):
        np.testing.assert_array_equal(slopes.initial[name], whole.initial[name][0])
    again = k.forward(one, data.params, initial=run.final)
    assert again.outputs["h"].shape == (5, 2)
    run = k.forward(one, data.params, train=True)
    refuses("d_outputs['h']: has shape (5, 1, 2); expected (5, 2)", lambda: k.backward(run, data.d_outputs))


def strange_layouts(array):
    yield np.asfortranarray(array)
    yield np.repeat(array, 2, axis=0)[::2]
    yield array[::-1].copy()[::-1]
    raw = np.zeros(array.nbytes + 1, dtype=np.uint8)
    shifted = raw[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    yield shifted
    frozen = array.copy()
    frozen.setflags(write=False)
    yield frozen


def test_any_layout_gives_the_same_and_nothing_is_written(k):
    data = given(k)

    def results(inputs, params, initial, d_outputs, final):
        run = k.forward(inputs, params, initial=initial, train=True)
        gradient = k.backward(run, d_outputs, final=final)
        return [
            *run.outputs.values(),
            *run.final.values(),
            *gradient.inputs.values(),
            gradient.params["U[0]"],
        ]

    groups = [data.inputs, data.params, data.initial, data.d_outputs, data.final]
    expected = results(*groups)
    for number in range(5):
        other = [
            {
                name: list(strange_layouts(array))[number] if array.ndim else array
                for name, array in group.items()
            }
            for group in groups
        ]
        before = [{name: array.copy() for name, array in group.items()} for group in other]
        for one, two in zip(results(*other), expected, strict=True):
            np.testing.assert_array_equal(one, two)
        for group, old in zip(other, before, strict=True):
            for name, array in group.items():
                np.testing.assert_array_equal(array, old[name])


def test_results_are_the_callers_own(k):
    data = given(k, steps=1)
    run = k.forward(data.inputs, data.params, initial=data.initial, train=True)
    expected = k.backward(
        k.forward(data.inputs, data.params, initial=data.initial, train=True), data.d_outputs
    )
    for array in [*run.outputs.values(), *run.final.values()]:
        array.fill(np.nan)
    found = k.backward(run, data.d_outputs)
    np.testing.assert_array_equal(found.params["U[0]"], expected.params["U[0]"])
    np.testing.assert_array_equal(found.inputs["x"], expected.inputs["x"])
    assert all(array.flags.writeable for array in found.inputs.values())


def sole(k):
    """The same module for a cell whose second input the runtime does not know."""
    manifest = replace(k.manifest, inputs=(InputSpec("x", "x", (N_X,)),), backend="numpy")

    class Engine:
        def forward(self, call, keep):
            shape = (call.steps, call.batch, call.sizes.numbers["n_h"])
            return {"h": np.ones(shape)}, {"h": np.ones(shape[1:])}, {}

        def backward(self, call, tape, d_outputs, d_final, wanted):
            return SimpleNamespace(inputs={"x": 2 * call.inputs["x"]}, params={}, initial={})

        def copy(self, tape):
            return dict(tape)

    return Kernel(manifest, Engine())


def test_a_sole_array_needs_no_name(k):
    data = given(k)
    lone = sole(k)
    run = lone.forward(data.inputs["x"], data.params, train=True)
    assert run.outputs["h"].shape == (5, 3, 2)
    gradient = lone.backward(run, data.d_outputs["h"])
    np.testing.assert_array_equal(gradient.inputs["x"], 2 * data.inputs["x"])
    assert not gradient.initial["h"].any()
    refuses(
        "inputs: is a ndarray; expected a dict of arrays with the names x, g",
        lambda: k.forward(data.inputs["x"], data.params),
    )


def test_a_cell_without_inputs_is_told_its_steps_by_lengths(k):
    manifest = replace(k.manifest, inputs=())
    seen = []

    class Engine:
        def forward(self, call, keep):
            seen.append((call.steps, call.batch))
            return {"h": np.zeros((4, 2, 2))}, {"h": np.zeros((2, 2))}, None

    lone = Kernel(manifest, Engine())
    params = given(k).params
    lone.forward({}, params, lengths=np.array([4, 2]))
    assert seen == [(4, 2)]
    refuses("lengths: is missing, and no input tells T and B", lambda: lone.forward({}, params))


# Errors of forward.


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda d: d.inputs.pop("g"), "inputs['g']: is missing; expected an array (T, B, 1)"),
        (
            lambda d: d.inputs.update(y=d.inputs["x"]),
            "inputs['y']: unknown name; expected one of x, g",
        ),
        (lambda d: d.params.pop("b"), "params['b']: is missing; expected an array (n_h,)"),
        (
            lambda d: d.params.update({"U[1]": d.params.pop("U[0]")}),
            "params['U[1]']: unknown name; expected one of U[0], s, M, b; did you mean U[0]?",
        ),
        (
            lambda d: d.initial.update(H=d.initial.pop("h")),
            "initial['H']: unknown name; expected one of h, x; did you mean h?",
        ),
        (
            lambda d: d.inputs.update(x=d.inputs["x"].astype(np.float32)),
            "inputs['x']: has dtype float32; expected float64: .astype(np.float64)",
        ),
        (
            lambda d: d.inputs.update(x=d.inputs["x"].astype(">f8")),
            "inputs['x']: has dtype >f8; expected float64: .astype(np.float64)",
        ),
        (lambda d: d.params.update(s=1.0), "params['s']: is a float; expected an array: np.asarray(..., "),
        (
            lambda d: d.inputs.update(x=d.inputs["x"].tolist()),
            "inputs['x']: is a list; expected an array: np.asarray(..., dtype=np.float64)",
        ),
        (lambda d: d.initial.update(h=None), "initial['h']: is a NoneType"),
        (
            lambda d: d.params.update({"U[0]": np.ones((2, 7))}),
            "params['U[0]']: has shape (2, 7); expected (2, 4), "
            "that is (n_h, n_x) with n_x = 4 from inputs['x']",
        ),
        (
            lambda d: d.params.update(b=np.ones((2, 1))),
            "params['b']: has shape (2, 1); expected (2,), that is (n_h,) with n_h = 2 from params['U[0]']",
        ),
        (lambda d: d.params.update(s=np.ones(1)), "params['s']: has shape (1,); expected ()"),
        (
            lambda d: d.inputs.update(g=np.ones((4, 3, 1))),
            "inputs['g']: has shape (4, 3, 1); expected (5, 3, 1), "
            "that is (T, B, 1) with T = 5 from inputs['x']",
        ),
        (
            lambda d: d.inputs.update(g=np.ones((5, 1))),
            "inputs['g']: has shape (5, 1); expected (T, B, 1), as inputs['x'] has a batch axis",
        ),
        (
            lambda d: d.inputs.update(x=np.ones(5)),
            "inputs['x']: has shape (5,); expected (T, B, n_x), or without a batch (T, n_x)",
        ),
        (
            lambda d: d.initial.update(h=np.ones((1, 2))),
            "initial['h']: has shape (1, 2); expected (3, 2), that is (B, n_h) with B = 3 from inputs['x']",
        ),
        (
            lambda d: (d.inputs.update(x=np.ones((5, 3, 0))), d.params.update({"U[0]": np.ones((2, 0))})),
            "inputs['x']: has shape (5, 3, 0); expected (T, B, n_x), widths of at least 1",
        ),
    ],
)
def test_wrong_arrays_are_named(k, change, fragment):
    data = given(k)
    del data.initial["x"]
    change(data)
    refuses(fragment, lambda: k.forward(data.inputs, data.params, initial=data.initial))


@pytest.mark.parametrize(
    ("lengths", "fragment"),
    [
        (np.array([5.0, 1.0, 2.0]), "lengths: has dtype float64; expected integers: .astype(np.int64)"),
        (np.array([True, False, True]), "lengths: has dtype bool"),
        (np.array([5, 6, 2]), "lengths: holds 6; expected integers from 0 to 5"),
        (np.array([5, -1, 2]), "lengths: holds -1"),
        (np.array([2**64 - 1, 0, 0], dtype=np.uint64), "lengths: holds 18446744073709551615"),
        (
            np.array([5, 5]),
            "lengths: has shape (2,); expected (3,), that is (B,) with B = 3 from inputs['x']",
        ),
        (5, "lengths: has shape ()"),
        ([[1], [2, 3]], "lengths: is no array"),
    ],
)
def test_wrong_lengths_are_named(k, lengths, fragment):
    data = given(k)
    refuses(fragment, lambda: k.forward(data.inputs, data.params, lengths=lengths))


def test_dicts_are_wanted(k):
    data = given(k)
    refuses("params: is a list; expected a dict", lambda: k.forward(data.inputs, [1]))
    refuses("initial: is a ndarray", lambda: k.forward(data.inputs, data.params, initial=data.initial["h"]))
    refuses("inputs['x']: is missing", lambda: k.forward(None, data.params))


def test_a_width_that_no_array_tells(k):
    lonely = replace(k.manifest, widths={"n_x": ("x",), "n_h": ("h", "v")}, parameters=())
    kernel = Kernel(lonely, k._engine)
    data = given(k)
    refuses("initial: no array tells the width n_h; expected h or v", lambda: kernel.forward(data.inputs, {}))


def test_sizes_beyond_all_memory(k):
    data = given(k)
    huge = np.broadcast_to(np.float64(1), (2**56, 1, 1))
    inputs = {"x": np.broadcast_to(huge, (2**56, 1, 4)), "g": huge}
    refuses("inputs['x']: needs 2,305,843,009,213,693,952 bytes", lambda: k.forward(inputs, data.params))


def test_a_tape_too_large_for_its_count(kernels):
    k = kernels["c-portable", "float64"]
    numbers = {"T": 2**40, "B": 2**20, "n_x": 1, "n_h": 8}
    refuses(
        "the tape: needs 73,786,976,294,838,206,464 bytes, more than there are",
        lambda: k._engine._measure(k._engine._tape_size, numbers, 8, "the tape"),
    )


def test_memory_that_numpy_cannot_have(kernels, monkeypatch):
    k = kernels["numpy", "float64"]
    data = given(k)

    def fail(*_):
        raise MemoryError("Unable to allocate 3.00 TiB")

    monkeypatch.setattr(k._engine, "_module", SimpleNamespace(forward=fail))
    refuses("forward: Unable to allocate 3.00 TiB", lambda: k.forward(data.inputs, data.params))


def test_a_refusal_of_the_kernel_is_an_error(kernels, monkeypatch):
    k = kernels["c-portable", "float64"]
    data = given(k)
    monkeypatch.setattr(k._engine, "_forward", lambda *_: 1)
    refuses(
        "the kernel of toy refused its arguments with code 1",
        lambda: k.forward(data.inputs, data.params),
        GategenError,
    )


# Runs and errors of backward.


def test_backward_consumes_the_run(k):
    data = given(k)
    run = k.forward(data.inputs, data.params, train=True)
    k.backward(run, data.d_outputs)
    refuses("the run was consumed by an earlier backward", lambda: k.backward(run, {}), GategenError)
    run = k.forward(data.inputs, data.params)
    refuses("call forward(..., train=True)", lambda: k.backward(run, {}), GategenError)
    refuses(
        "keep: is True, but train=False keeps no tape",
        lambda: k.forward(data.inputs, data.params, keep=True),
    )


def test_a_kept_run_serves_again(k):
    data = given(k)
    run = k.forward(data.inputs, data.params, train=True, keep=True)
    first = k.backward(run, data.d_outputs)
    second = k.backward(run, data.d_outputs)
    for one, two in zip(first.params.values(), second.params.values(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_mistake_does_not_consume(k):
    data = given(k)
    run = k.forward(data.inputs, data.params, train=True)
    d_h = data.d_outputs["h"]
    cases = [
        ({"H": d_h}, None, "d_outputs['H']: unknown name; expected one of h; did you mean h?"),
        ({"h": d_h[:2]}, None, "d_outputs['h']: has shape (2, 3, 2); expected (5, 3, 2)"),
        ({"h": d_h.astype(np.float32)}, None, "d_outputs['h']: has dtype float32"),
        (d_h[0], None, "d_outputs['h']: has shape (3, 2)"),
        ({}, {"g": d_h}, "final['g']: unknown name; expected one of h, x"),
        ({}, {"x": np.ones((3, 2))}, "final['x']: has shape (3, 2); expected (3, 4)"),
    ]
    for d_outputs, final, fragment in cases:
        refuses(fragment, lambda d=d_outputs, f=final: k.backward(run, d, final=f))
    refuses(
        "wrt: unknown name 'U[1]'; expected some of x, g, h, U[0], s, b; did you mean U[0]?",
        lambda: k.backward(run, {}, wrt=["U[1]"]),
    )
    refuses("wrt: 'M' is frozen and has no gradient", lambda: k.backward(run, {}, wrt=["M"]))
    assert k.backward(run, d_h).inputs["x"].shape == (5, 3, 4)


def test_a_run_belongs_to_its_kernel(kernels):
    one, other = kernels["numpy", "float64"], kernels["c-portable", "float64"]
    data = given(one)
    run = one.forward(data.inputs, data.params, train=True)
    refuses("run: is no run of Kernel(toy, float64, c-portable)", lambda: other.backward(run, {}))
    refuses("run: is no run of", lambda: other.backward(None, {}))


def test_nothing_in_gives_nothing_out(k):
    data = given(k)
    gradient = k.backward(k.forward(data.inputs, data.params, train=True), None)
    for part in (gradient.inputs, gradient.params, gradient.initial):
        assert part
        assert not any(slope.any() for slope in part.values())


@pytest.mark.parametrize(
    ("wrt", "inputs", "params", "initial"),
    [
        (["s"], [], ["s"], []),
        ("g", ["g"], [], []),
        (["h", "b"], [], ["b"], ["h"]),
        ({"x": 1, "U[0]": 2}.keys(), ["x"], ["U[0]"], ["x"]),
        ([], [], [], []),
    ],
)
def test_only_what_is_wanted(k, wrt, inputs, params, initial):
    data = given(k)
    run = k.forward(data.inputs, data.params, train=True, keep=True)
    some, all_of_them = (
        k.backward(run, data.d_outputs, data.final, wrt),
        k.backward(run, data.d_outputs, data.final),
    )
    assert [list(some.inputs), list(some.params), list(some.initial)] == [inputs, params, initial]
    for part in ("inputs", "params", "initial"):
        for name, slope in getattr(some, part).items():
            np.testing.assert_array_equal(slope, getattr(all_of_them, part)[name])


def test_runs_side_by_side(k):
    one, two = given(k, seed=1), given(k, steps=7, batch=2, seed=2)
    expected = [
        k.backward(k.forward(d.inputs, d.params, train=True), d.d_outputs).params["U[0]"] for d in (one, two)
    ]
    first = k.forward(one.inputs, one.params, train=True)
    second = k.forward(two.inputs, two.params, train=True)
    np.testing.assert_array_equal(k.backward(first, one.d_outputs).params["U[0]"], expected[0])
    np.testing.assert_array_equal(k.backward(second, two.d_outputs).params["U[0]"], expected[1])


def test_threads(k):
    data = [given(k, steps=20, batch=seed + 1, seed=seed) for seed in range(4)]

    def work(d):
        run = k.forward(d.inputs, d.params, train=True)
        return k.backward(run, d.d_outputs).params["U[0]"]

    expected = [work(d) for d in data]
    wrong = []

    def repeat(number):
        for _ in range(50):
            if not np.array_equal(work(data[number]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=repeat, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_of_many_threads_consumes(k):
    data = given(k)
    run = k.forward(data.inputs, data.params, train=True)
    outcomes = []

    def work():
        try:
            k.backward(run, data.d_outputs)
            outcomes.append("done")
        except GategenError:
            outcomes.append("consumed")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["consumed"] * 7 + ["done"]


# Memory of earlier calls, and threads.


def everything(k, p, x, lengths=None, keep=False):
    """Outputs, final states and all gradients of one training step."""
    random = np.random.default_rng(5)
    run = k.forward({s.name: x for s in k.manifest.inputs}, p, lengths=lengths, train=True, keep=keep)
    d_outputs = {n: random.standard_normal(a.shape).astype(k.dtype) for n, a in run.outputs.items()}
    d_final = {n: random.standard_normal(a.shape).astype(k.dtype) for n, a in run.final.items()}
    gradient = k.backward(run, d_outputs, final=d_final)
    groups = (run.outputs, run.final, gradient.inputs, gradient.params, gradient.initial)
    return {(n, name): array.copy() for n, group in enumerate(groups) for name, array in group.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=str(name))


LEFT_OUT = """
x: input[d]
u: input[d]
v: vector
h[t] = tanh(W @ x[t] + U @ h[t-1] + sign(D @ u[t] + b) + 0 * v)
c[t] = sign(0.5 * c[t-1] + h[t])
h: output
c: output
"""
CELLS = ["lstm_peephole", "gru", "lstm_reverse", LEFT_OUT]


@pytest.mark.filterwarnings("ignore::gategen.errors.GategenWarning")
@pytest.mark.parametrize("lengths", [None, [4, 0, 7]], ids=["whole", "ragged"])
@pytest.mark.parametrize("backend", ["c", "c-portable"])
@pytest.mark.parametrize("cell", CELLS, ids=["peephole", "gru", "reverse", "left out"])
def test_memory_may_hold_anything(cell, backend, lengths, monkeypatch):
    """Every element of every result is written, whatever stood there and in workspace and tape before."""
    k = gg.compile(cell, dtype="float64", backend=backend)
    p = k.init({"x": 3, "h": 5})
    x = np.random.default_rng(1).standard_normal((7, 3, 3))
    expected = everything(k, p, x, lengths)
    for number in (np.nan, 1e300, -np.inf):

        def fill(part, shapes, names, dtype, number=number):
            return {n: np.full(shape, number, dtype) for n, shape in shapes.items() if n in names}

        monkeypatch.setattr(engines, "allocate_all", fill)
        for block in (*k._engine._work._free, *k._engine._tapes._free):
            block.array[: block.size // 8 * 8].view(np.float64).fill(number)
        assert_same(everything(k, p, x, lengths), expected)
        assert_same(everything(k, p, x, lengths, keep=True), expected)


@pytest.mark.filterwarnings("ignore::gategen.errors.GategenWarning")
def test_what_the_loss_does_not_depend_on_has_zeros():
    k = gg.compile(LEFT_OUT, dtype="float64", backend="c")
    p = k.init({"x": 3, "h": 5})
    x = np.random.default_rng(1).standard_normal((7, 3, 3))
    found = everything(k, p, x)
    assert sorted(p) == ["D", "U", "W", "b", "v"]
    zero = {name for (group, name), array in found.items() if group > 1 and not array.any()}
    assert zero == {"u", "D", "b", "v", "c"}


def test_a_pool_gives_what_fits_and_keeps_two():
    ffi = build.load(build.build("int gg_one(void) { return 1; }", "int gg_one(void);", name="one")).ffi
    pool = Pool(ffi, "char[]", "the workspace")
    blocks = [pool.take(size) for size in (10, 10**6, 10**7)]
    assert [block.size for block in blocks] == [10, 10**6, 10**7]
    assert all(block.array.ctypes.data % 64 == 0 for block in blocks)
    for block in blocks:
        pool.give(block)
    assert pool._free == blocks[1:]
    assert pool.take(900_000) is blocks[1]
    assert pool.take(900_000) is not blocks[1]
    assert pool.take(10**6) is not blocks[2]
    assert pool.take(10**7) is blocks[2]
    assert not pool._free


def test_tapes_return_when_a_run_is_consumed(kernels):
    k = kernels["c-portable", "float64"]
    data = given(k)
    k._engine._tapes._free.clear()
    run = k.forward(data.inputs, data.params, train=True)
    block = run._tape[0].block
    assert not k._engine._tapes._free
    k.backward(run, data.d_outputs)
    assert k._engine._tapes._free == [block]
    kept = k.forward(data.inputs, data.params, train=True, keep=True)
    assert kept._tape[0].block is block
    first = k.backward(kept, data.d_outputs)
    # Another run takes what the copy left; the tape of the kept one stays its own.
    k.backward(k.forward(data.inputs, data.params, train=True), None)
    np.testing.assert_array_equal(k.backward(kept, data.d_outputs).inputs["x"], first.inputs["x"])
    assert block not in k._engine._tapes._free


def test_shapes_met_before_are_still_checked(k):
    data = given(k)
    names = list(data.params)
    for _ in range(3):
        k.forward(data.inputs, data.params, initial=data.initial)
        k.forward(data.inputs, data.params, lengths=[5, 1, 2])
        refuses("lengths: holds 6", lambda: k.forward(data.inputs, data.params, lengths=[6, 1, 2]))
        wrong = {**data.params, "b": np.ones(3)}
        refuses("params['b']: has shape (3,)", lambda w=wrong: k.forward(data.inputs, w))
        # An array that changes its shape or dtype in place is another one.
        b = data.params["b"].copy()
        changed = {**data.params, "b": b}
        k.forward(data.inputs, changed)
        b.shape = (2, 1)
        refuses("params['b']: has shape (2, 1)", lambda c=changed: k.forward(data.inputs, c))
    # Names decide, not places; a scalar may be NumPy's own.
    other = {name: data.params[name] for name in reversed(names)} | {"s": data.params["s"][()]}
    np.testing.assert_array_equal(
        k.forward(data.inputs, other).outputs["h"], k.forward(data.inputs, data.params).outputs["h"]
    )
    for steps in range(1, 80):
        some = given(k, steps=steps)
        assert k.forward(some.inputs, some.params).outputs["h"].shape == (steps, 3, 2)
    assert len(k._reader._known) <= 64


@pytest.mark.parametrize("cell", ["lstm", "lstm_peephole"])
def test_any_number_of_threads_gives_the_same_bits(cell):
    x = np.random.default_rng(1).standard_normal((5, 8, 7)).astype(np.float32)
    results = []
    for number in (1, 2, 3):
        k = gg.compile(cell, threads=number)
        assert k.threads == number
        results.append(everything(k, k.init({"x": 7, "h": 17}), x))
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])


def test_threads_of_python_share_a_team():
    k = gg.compile("lstm_peephole", threads=2)
    p = k.init({"x": 7, "h": 17})
    x = np.random.default_rng(1).standard_normal((5, 8, 7)).astype(np.float32)
    expected = everything(k, p, x)
    errors = []

    def repeat():
        try:
            for _ in range(30):
                assert_same(everything(k, p, x), expected)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=repeat) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_forked_child_goes_on():
    code = """
import os, numpy as np, gategen as gg
k = gg.compile("lstm", threads=2)
p = k.init({"x": 7, "h": 17})
x = np.ones((5, 8, 7), np.float32)
expected = k.forward(x, p).outputs["h"]
child = os.fork()
same = np.array_equal(k.forward(x, p).outputs["h"], expected)
if not child:
    os._exit(0 if same else 3)
assert same
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore:b is never used")
def test_the_number_of_threads_is_read(pipeline, monkeypatch):
    monkeypatch.setenv("GATEGEN_THREADS", "3")
    assert gg.compile(TEXT).threads == 3
    assert gg.compile(TEXT, threads=2).threads == 2
    # The code is the same for any number.
    assert len(pipeline.calls) == 1
    assert gg.compile(TEXT, backend="numpy").threads == 1
    assert gg.compile(TEXT, backend="c-portable").threads == 1
    monkeypatch.setenv("GATEGEN_THREADS", "many")
    refuses("GATEGEN_THREADS: is 'many'; expected an integer from 1 to", lambda: gg.compile(TEXT))
    monkeypatch.delenv("GATEGEN_THREADS")
    assert gg.compile(TEXT).threads >= 1


# First values.


def test_init_gives_every_parameter_its_first_value(k):
    frozen = np.array([3, 4])
    params = k.init({"x": 64, "h": 2}, seed=3, values={"M": frozen})
    assert list(params) == ["U[0]", "s", "M", "b"]
    assert all(array.dtype == k.dtype for array in params.values())
    limit = np.sqrt(6 / 66)
    assert np.abs(params["U[0]"]).max() <= limit
    assert params["U[0]"].std() == pytest.approx(limit / np.sqrt(3), rel=0.15)
    assert params["s"].shape == ()
    assert params["s"] == 2
    np.testing.assert_array_equal(params["M"], frozen)
    np.testing.assert_array_equal(params["b"], [0, 0])


def test_init_depends_on_seed_and_name_only(k):
    def first(kernel, seed):
        return kernel.init({"n_x": 4, "n_h": 2}, seed=seed, values={"M": np.ones(2)})["U[0]"]

    more = replace(k.manifest, parameters=(ParameterSpec("A", "A", (N_H, N_X)), *k.manifest.parameters))
    np.testing.assert_array_equal(first(k, 5), first(k, 5))
    np.testing.assert_array_equal(first(Kernel(more, k._engine), 5), first(k, 5))
    assert not np.array_equal(first(k, 5), first(k, 6))
    both = Kernel(more, k._engine).init({"x": 4, "h": 2}, values={"M": np.ones(2)})
    assert not np.array_equal(both["A"], both["U[0]"])


def test_init_in_both_dtypes_is_one_model(kernels):
    wide, narrow = (
        kernels["numpy", dtype].init({"x": 4, "h": 2}, values={"M": np.ones(2)})["U[0]"]
        for dtype in ("float64", "float32")
    )
    np.testing.assert_array_equal(wide.astype(np.float32), narrow)


def test_multiplied_vectors_start_at_one_and_values_are_copied(k):
    manifest = replace(k.manifest, parameters=(ParameterSpec("g_h", "g_h", (N_H,), multiplied=True),))
    kernel = Kernel(manifest, k._engine)
    np.testing.assert_array_equal(kernel.init({"x": 1, "h": 3})["g_h"], np.ones(3))
    own = np.arange(3.0)
    params = kernel.init({"x": 1, "h": 3}, values={"g_h": own})
    params["g_h"] += 1
    np.testing.assert_array_equal(own, np.arange(3.0))


@pytest.mark.parametrize(
    ("widths", "fragment"),
    [
        ({"x": 4}, "widths: the width n_h is missing; expected a number for h or M or b"),
        ({}, "widths: the width n_x is missing; expected a number for x"),
        (
            {"x": 4, "H": 2},
            "widths['H']: unknown name; expected one of n_x, x, n_h, h, M, b; did you mean h?",
        ),
        (
            {"x": 4, "h": 2, "b": 3},
            "widths['b']: is 3; expected 2, as n_h = 2 from widths['h']; h, M, b have one width",
        ),
        ({"x": 4, "h": 2, "g": 2}, "widths['g']: is 2; expected 1"),
        ({"x": 0, "h": 2}, "widths['x']: is 0; expected a positive integer"),
        ({"x": 4.0, "h": 2}, "widths['x']: is 4.0; expected a positive integer"),
        ({"x": True, "h": 2}, "widths['x']: is True; expected a positive integer"),
        ([4, 2], "widths: is a list; expected a dict such as {'x': 16, 'h': 16}"),
    ],
)
def test_wrong_widths_are_named(k, widths, fragment):
    refuses(fragment, lambda: k.init(widths, values={"M": np.ones(2)}))


def test_widths_may_be_sums(k):
    total = ArraySpec("y", "y", (N_H.times(2) + Width((), 1),))
    kernel = Kernel(replace(k.manifest, outputs=(total,), parameters=()), k._engine)
    assert kernel.init({"x": 4, "y": 7}) == {}
    refuses(
        "widths['y']: is 9; expected 7, as n_h = 3 from widths['h']",
        lambda: kernel.init({"x": 4, "h": np.int64(3), "y": 9}),
    )


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        (
            None,
            "values['M']: is missing: M is frozen and has no value of its own; "
            "expected an array of shape (2,)",
        ),
        ({"m": np.ones(2)}, "values['m']: unknown name; expected one of U[0], s, M, b; did you mean M?"),
        (
            {"M": np.ones(3)},
            "values['M']: has shape (3,); expected (2,), that is (n_h,) with n_h = 2 from widths['h']",
        ),
        ({"M": np.ones(2, complex)}, "values['M']: has dtype complex128; expected real numbers"),
        ({"M": [[1], [2, 3]]}, "values['M']: is no array"),
        ([1], "values: is a list; expected a dict of arrays"),
    ],
)
def test_wrong_values_are_named(k, values, fragment):
    refuses(fragment, lambda: k.init({"x": 4, "h": 2}, values=values))


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_wrong_seeds_are_named(k, seed):
    refuses(f"seed: is {seed!r}", lambda: k.init({"x": 4, "h": 2}, seed=seed, values={"M": np.ones(2)}))


# Compilation.


def test_compiling_warns_once_about_the_cell(pipeline):
    with pytest.warns(GategenWarning) as caught:
        k = gg.compile(TEXT, dtype=np.float64, backend="numpy")
    assert [str(warning.message) for warning in caught] == ["b is never used"]
    assert caught[0].filename == __file__
    assert k.warnings == ("b is never used",)


@pytest.mark.filterwarnings("ignore:b is never used")
@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_the_second_compilation_is_warm(pipeline, backend, tmp_path):
    file = tmp_path / "own.cell"
    file.write_text(TEXT, encoding="utf-8")
    for cell in (TEXT, file, str(file), "y[t] = W @ x[t]"):
        pipeline.calls.clear()
        gg.compile(cell, backend=backend)
        gg.compile(cell, backend=backend)
        assert len(pipeline.calls) == (0 if cell == str(file) else 1)
    pipeline.calls.clear()
    gg.compile(TEXT, backend=backend, dtype="float64")
    gg.compile(TEXT, backend=backend, outputs=["y"])
    file.write_text(TEXT + "z[t] = y[t]\n", encoding="utf-8")
    gg.compile(file, backend=backend)
    assert len(pipeline.calls) == 3
    assert {call[2] for call in pipeline.calls} == {backend}


@pytest.mark.filterwarnings("ignore:b is never used")
def test_a_cell_object_meets_the_same_binary(pipeline):
    cell = parse(TEXT, "toy")
    gg.compile(cell)
    before = {entry.key for entry in cache.entries()}
    gg.compile(cell)
    assert len(pipeline.calls) == 2
    assert all(isinstance(call[0], Cell) for call in pipeline.calls)
    assert {entry.key for entry in cache.entries()} == before


@pytest.mark.filterwarnings("ignore:b is never used")
def test_a_lost_binary_is_built_again(pipeline):
    for backend, suffix in (("c", ".so"), ("numpy", ".py")):
        gg.compile(TEXT, backend=backend)
        for entry in cache.entries():
            for file in entry.folder.glob(f"*{suffix}"):
                file.write_bytes(b"")
        pipeline.calls.clear()
        gg.compile(TEXT, backend=backend)
        assert len(pipeline.calls) == 1


@pytest.mark.filterwarnings("ignore:b is never used")
def test_a_file_that_changes_meanwhile_leaves_no_entry(pipeline, tmp_path):
    file = tmp_path / "own.cell"
    file.write_text(TEXT, encoding="utf-8")
    inner = pipeline.lowered

    def slow(*arguments):
        file.write_text(TEXT + "\n", encoding="utf-8")
        return inner(*arguments)

    pipeline.lowered = slow
    gg.compile(file, backend="numpy")
    file.write_text(TEXT, encoding="utf-8")
    pipeline.lowered = inner
    gg.compile(file, backend="numpy")
    assert len(pipeline.calls) == 2


WARM = """
import sys
import numpy
import warnings
warnings.simplefilter("ignore")
import gategen as gg
k = gg.compile("lstm", backend=sys.argv[1])
slow = {"sympy", "jinja2", "cffi", "subprocess", "gategen.pipeline", "gategen.language.cell"}
assert not slow & set(sys.modules), slow & set(sys.modules)
assert k.backend == sys.argv[1], k.backend
k.init({"x": 2, "h": 3}, values={"M": numpy.ones(3)})
"""


@pytest.mark.filterwarnings("ignore:b is never used")
@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_a_warm_start_imports_nothing_slow(pipeline, monkeypatch, backend):
    monkeypatch.setitem(vars(gg), "load", lambda name, constants=None: parse(TEXT, name))
    gg.compile("lstm", backend=backend)
    done = subprocess.run(
        [sys.executable, "-c", WARM, backend], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore:b is never used")
def test_numpy_takes_over_without_a_compiler(pipeline, monkeypatch):
    monkeypatch.setenv("GATEGEN_CC", "no-such-compiler")
    for _ in range(2):
        with pytest.warns(GategenWarning) as caught:
            k = gg.compile(TEXT, dtype="float64")
        (about,) = [str(w.message) for w in caught if "compiler" in str(w.message)]
        assert "install the package gcc" in about
        assert "NumPy back end" in about
        assert k.backend == "numpy"
    data = given(k)
    assert k.forward(data.inputs, data.params).outputs["h"].shape == (5, 3, 2)
    assert len(pipeline.calls) == 1


def test_a_failing_compiler_is_quoted_and_leaves_nothing(pipeline, tmp_path, monkeypatch):
    script = tmp_path / "broken"
    script.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo broken 1.0;; *) echo "out of order" >&2; exit 3;; esac\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("GATEGEN_CC", str(script))
    for _ in range(2):
        with pytest.raises(BuildError) as caught:
            gg.compile(TEXT)
        assert "out of order" in caught.value.output
        assert "exit code 3" in str(caught.value)
    assert [entry.label for entry in cache.entries()] == ["compiler version"]
    assert not list(Path(tempfile.gettempdir()).glob("gg_toy*"))


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"dtype": "float16"}, "dtype: is float16; expected float32 or float64"),
        ({"dtype": "flaot32"}, "dtype: is flaot32; expected float32 or float64"),
        ({"dtype": None}, "dtype: is None; expected float32 or float64"),
        (
            {"backend": "numpi"},
            "backend: is 'numpi'; expected one of c, c-portable, numpy; did you mean numpy?",
        ),
        ({"threads": 0}, "threads: is 0; expected an integer from 1 to 256"),
        ({"threads": "2"}, "threads: is '2'; expected an integer from 1 to 256"),
        ({"constants": {"L": "5"}}, "constants['L']: is '5'; expected a finite number"),
        ({"constants": {"L": float("nan")}}, "constants['L']: is nan; expected a finite number"),
    ],
)
def test_wrong_options_are_named(pipeline, options, fragment):
    refuses(fragment, lambda: gg.compile(TEXT, **options))


def test_what_is_no_cell_is_named(pipeline):
    refuses(
        "cell: is a int; expected a Cell, the name of a zoo cell, ", lambda: gg.compile(5, backend="numpy")
    )


def test_a_name_that_is_nothing_is_left_to_load(pipeline, monkeypatch):
    def load(name, constants=None):
        raise GategenError(f"no cell {name}")

    monkeypatch.setitem(vars(gg), "load", load)
    for name in ("ltsm", "no/such.cell", Path("no/such.cell"), "x" * 100, "x" * 10_000):
        refuses(f"no cell {name}", lambda name=name: gg.compile(name, backend="numpy"), GategenError)


@pytest.mark.filterwarnings("ignore:b is never used")
def test_constants_and_outputs_reach_the_cell(pipeline):
    text = "k: constant = 0.5\nz = k * x[t]\nh[t] = h[t-1] + z\n"
    cell = parse(text, "own")
    for value in (0.25, np.float32(0.25)):
        gg.compile(cell, backend="numpy", constants={"k": value}, outputs=("z",))
        seen = pipeline.calls[-1][0]
        assert seen.constants["k"].value == 0.25
        assert list(seen.outputs) == ["z"]
    gg.compile(text, backend="numpy", outputs="z")
    assert list(pipeline.calls[-1][0].outputs) == ["z"]


@pytest.mark.filterwarnings("ignore:b is never used")
def test_tracebacks_show_the_lines_of_the_numpy_module(pipeline):
    k = gg.compile(TEXT, dtype="float64", backend="numpy")
    module = k._engine._module
    assert Path(module.__file__).parent.is_relative_to(cache.folder())
    assert Path(module.__file__).read_text(encoding="utf-8").endswith(NUMPY)
    assert module.forward.__code__.co_filename == module.__file__
    assert [file.name for file in Path(module.__file__).parent.iterdir() if file.is_dir()] == []


def test_processors_do_not_share_binaries():
    assert build.machine(None) != build.machine(build.find_compiler())
