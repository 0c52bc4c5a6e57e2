"""Training with the states of some steps only: the numbers of a whole tape, in less memory."""

from __future__ import annotations

import tracemalloc
import warnings
from typing import Any

import cells
import numpy as np
import pytest

import gategen as gg
from gategen.calculus.problem import Problem, Setting, draw, relative_error
from gategen.runtime.kernel import Kernel

CELLS = (
    *("lstm", "gru", "lstmp", "jordan", "lstm_reverse", "past_input", "past_input_in_a_product", "heads"),
    *("derived_matrix", "hidden_state", "lstm_peephole", "delays_of_two_states", "long_past_inputs"),
    *("longer_than_any_sequence", "right_to_left_delays", "right_to_left_past_inputs"),
    *("layer_norms", "running_sums"),
)
LENGTHS = {None: None, "lengths": (40, 0, 17, 39, 1)}


def compiled(name: str, backend: str) -> Kernel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gg.GategenWarning)
        return gg.compile(cells.cell(name), "float64", backend)


def trained(kernel: Kernel, given: Problem, **options: Any) -> tuple[Any, Any]:
    run = kernel.forward(given.inputs, given.params, given.initial, given.lengths, train=True, **options)
    outputs = {name: array.copy() for name, array in run.outputs.items()}
    return (outputs, run.final), kernel.backward(run, given.d_outputs, given.d_final)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("backend", ["c", "c-portable", "numpy"])
@pytest.mark.parametrize("name", CELLS)
def test_segments_give_what_a_whole_tape_gives(name: str, backend: str, lengths: str | None) -> None:
    kernel, cell = compiled(name, backend), cells.cell(name)
    setting = Setting(40, 5, (3, 6, 2), lengths=LENGTHS[lengths])
    given = draw(cell, gg.derive(cell).program, setting, seed=3, scale=0.5)
    (outputs, final), whole = trained(kernel, given)
    (made, last), parts = trained(kernel, given, tape="sqrt")
    exact = np.array_equal if backend != "numpy" else np.allclose
    for name_, array in outputs.items():
        assert exact(made[name_], array), name_
    for name_, array in final.items():
        assert exact(last[name_], array), name_
    for group in ("inputs", "params", "initial"):
        expected = getattr(whole, group)
        assert getattr(parts, group).keys() == expected.keys()
        for name_, array in expected.items():
            assert relative_error(getattr(parts, group)[name_], array) < 1e-12, (group, name_)


def test_a_kept_run_goes_back_more_than_once() -> None:
    kernel = compiled("gru", "c")
    p = kernel.init({"x": 3, "h": 4})
    x, d_h = np.ones((30, 2, 3)), np.ones((30, 2, 4))
    run = kernel.forward(x, p, train=True, keep=True, tape="sqrt")
    once, again = (kernel.backward(run, d_h) for _ in range(2))
    assert all(np.array_equal(once.params[n], again.params[n]) for n in p)
    single = kernel.forward(x, p, train=True, tape="sqrt")
    kernel.backward(single, d_h)
    with pytest.raises(gg.GategenError, match="consumed"):
        kernel.backward(single, d_h)


def test_only_what_is_wanted() -> None:
    kernel = compiled("past_input", "c")
    cell = cells.cell("past_input")
    given = draw(cell, gg.derive(cell).program, Setting(20, 3, (3, 6)), seed=1)
    run = kernel.forward(given.inputs, given.params, given.initial, train=True, tape="sqrt")
    found = kernel.backward(run, given.d_outputs, wrt=["x"])
    names = {"x"} & found.inputs.keys()
    assert names == {"x"} and not found.params and set(found.initial) <= {"x"}


def test_a_long_sequence_takes_little_memory() -> None:
    """10,000 steps in the memory of some hundreds: what both passes hold beyond inputs and outputs."""
    kernel = gg.compile("lstm", "float32", "c", threads=1)
    p = kernel.init({"x": 8, "h": 32})
    x = np.zeros((10_000, 2, 8), np.float32)
    d_h = np.ones((10_000, 2, 32), np.float32)
    peaks = {}
    for tape, steps in (("sqrt", 10_000), ("full", 400)):
        tracemalloc.start()
        run = kernel.forward(x[:steps], p, train=True, tape=tape)  # type: ignore[arg-type]
        kernel.backward(run, d_h[:steps])
        given = run.outputs["h"].nbytes + x[:steps].nbytes
        peaks[tape] = tracemalloc.get_traced_memory()[1] - given
        tracemalloc.stop()
    assert peaks["sqrt"] < peaks["full"]


def test_wrong_options_are_explained() -> None:
    kernel = compiled("lstm", "c")
    p = kernel.init({"x": 3, "h": 4})
    x = np.ones((4, 2, 3))
    with pytest.raises(gg.GategenError, match=r"is 'sqr'; expected 'full' or 'sqrt'; did you mean sqrt"):
        kernel.forward(x, p, train=True, tape="sqr")  # type: ignore[arg-type]
    with pytest.raises(gg.GategenError, match="train=False keeps no tape"):
        kernel.forward(x, p, tape="sqrt")
    ahead = compiled("both_inputs", "c")
    cell = cells.cell("both_inputs")
    given = draw(cell, gg.derive(cell).program, Setting(4, 2, (2, 3)), seed=1)
    with pytest.raises(gg.GategenError, match=r"a segment cannot see x\[t\+1\] in the next one"):
        ahead.forward(given.inputs, given.params, train=True, tape="sqrt")
