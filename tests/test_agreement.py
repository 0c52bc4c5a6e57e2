"""The interpreter, the NumPy back end and the C back ends give the same numbers, whatever the sizes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import cells
import numpy as np
import pytest
from c_programs import RENDERINGS, quickly

import gategen as gg
from gategen.calculus.differences import disturbed
from gategen.calculus.problem import Array, Problem, Setting, draw, relative_error, solution, solve
from gategen.language.roles import Role
from gategen.runtime.kernel import Kernel

SETTINGS = {
    "no steps": Setting(0, 3, (2, 3)),
    # Layer norm of two units, or of a number times a vector, is nearly a sign: its gradient is mere rounding.
    "one step of one": Setting(1, 1, (3, 1), started=False),
    "one step of three": Setting(1, 3, (5, 1, 3)),
    "seven of one": Setting(7, 1, (3, 5, 2)),
    "seven of three": Setting(7, 3, (1, 7, 11)),
    "lengths": Setting(7, 3, (17, 13, 5), lengths=(7, 0, 3)),
    "all ended": Setting(2, 2, (3, 2), lengths=(0, 0)),
    "even": Setting(4, 4, (8, 16)),
}
BITS = (
    "lstm",
    "gru",
    "lstm_concat",
    "lstm_peephole",
    "heads",
    "right_to_left_shifted",
    "low_rank",
    "scalar_gate",
    "past_input_in_a_product",
    "derived_matrix",
    "nested_functions",
    "delays_of_two_states",
    "right_to_left_delays",
    "right_to_left_long_inputs",
    "layer_norms",
    "layer_norm_of_inputs",
    "softmaxes",
    "running_sums",
    "extremes",
    "sum_of_a_number",
)
# Cells with numbers in them, which C spells in another way for float32.
NUMBERS = ("clips", "constants", "declared_start", "division", "powers", "reassigned", "roots", "sizes")
# Every cell on every engine; the compiler takes a second for each, so float32 leaves some out in C.
RUNS = [
    pytest.param(name, backend, dtype, id=f"{name}-{backend} {dtype}")
    for name in cells.ALL
    for backend in ("numpy", "c-portable", "c")
    for dtype in ("float64", "float32")
    if (backend[0], dtype) != ("c", "float32") or name in {*gg.pipeline.zoo()[::8], *BITS, *NUMBERS}
]


@cache
def kernel(name: str, backend: str, dtype: str) -> Kernel:
    # What the tricky ones are about is in the text.
    with warnings.catch_warnings(), quickly(*(("c-portable",) if name in cells.TRICKY else ())):
        warnings.simplefilter("ignore", gg.GategenWarning)
        made = gg.compile(cells.cell(name), dtype, backend)
    assert made.backend == backend
    return made


def run(kernel: Kernel, problem: Problem) -> dict[str, Array]:
    given = problem.in_dtype(kernel.dtype)
    made = kernel.forward(given.inputs, given.params, given.initial, given.lengths, train=True)
    return solution(made, kernel.backward(made, given.d_outputs, given.d_final), given)


@cache
def solved(name: str, setting: str) -> tuple[Problem, Mapping[str, Array], Mapping[str, Mapping[str, float]]]:
    """A problem, its solution by the interpreter, and for each dtype how far off one may be."""
    plan, _ = cells.plans(name)
    given = cells.problem(name, SETTINGS[setting])
    expected = solve(plan, given)
    bounds = {}
    for dtype in ("float64", "float32"):
        epsilon, rng = float(np.finfo(dtype).eps), np.random.default_rng(0)
        found = [solve(plan, disturbed(given, epsilon, rng)) for _ in range(4)]
        kappa = {key: max(relative_error(f[key], array) for f in found) for key, array in expected.items()}
        bounds[dtype] = {key: 32 * max(epsilon, change) for key, change in kappa.items()}
    return given, expected, bounds


@pytest.mark.parametrize(("name", "backend", "dtype"), RUNS)
def test_agrees_with_the_interpreter(name: str, backend: str, dtype: str) -> None:
    for setting in SETTINGS:
        given, expected, bounds = solved(name, setting)
        found = run(kernel(name, backend, dtype), given)
        assert {array.dtype for array in found.values()} <= {np.dtype(dtype)}
        wrong = {
            key: error
            for key, array in expected.items()
            if not (error := relative_error(found[key], array)) <= bounds[dtype][key]
        }
        assert not wrong, setting


# Not a number at every second, and others in turns.
PADDINGS = (np.nan, np.inf, np.nan, -1e30)


@pytest.mark.parametrize(
    ("name", "backend", "dtype", "padding"),
    [pytest.param(*run.values, PADDINGS[i % 4], id=run.id) for i, run in enumerate(RUNS)],
)
def test_padding_changes_no_bit(name: str, backend: str, dtype: str, padding: float) -> None:
    given, _, _ = solved(name, "lengths")
    clean = run(kernel(name, backend, dtype), given)
    dirty = run(kernel(name, backend, dtype), given.padded(padding))
    assert [key for key, array in clean.items() if not same_bits(array, dirty[key])] == []
    past = np.arange(7)[:, None] >= given.lengths
    for key, array in clean.items():
        if key.startswith(("outputs", "d inputs")):
            assert not array[past].any(), key


def same_bits(one: Array, two: Array) -> bool:
    return one.tobytes() == two.tobytes()


def part(problem: Problem, sequences: list[int]) -> Problem:
    """Some of the sequences, in the order given."""
    lengths = None if problem.lengths is None else problem.lengths[sequences]
    few = problem.changed(lambda plane: plane[:, sequences], ("inputs", "d_outputs"))
    few = few.changed(lambda state: state[..., sequences, :], ("initial", "d_final"))
    changed: dict[str, Any] = {"sizes": {**problem.sizes, "B": len(sequences)}, "lengths": lengths}
    return Problem(**{**vars(few), **changed})


SEVEN = {
    "seven": Setting(5, 7, (3, 5, 2)),
    "wide": Setting(4, 7, (19, 23, 16)),
    "lengths": Setting(5, 7, (11, 7, 3), lengths=(5, 0, 1, 4, 5, 2, 3)),
}


@pytest.mark.parametrize("setting", SEVEN)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("backend", ["c-portable", "c"])
@pytest.mark.parametrize("name", BITS)
def test_bits_do_not_depend_on_the_batch(name: str, backend: str, dtype: str, setting: str) -> None:
    made = kernel(name, backend, dtype)
    given = cells.problem(name, SEVEN[setting])
    whole = run(made, given)
    # Fewer than four sequences have other products before the loop.
    for sequences in ([0], [3], [6], [5, 2], [4, 1, 2], [1, 6, 0, 3], [6, 5, 4, 3, 2, 1, 0]):
        few = run(made, part(given, sequences))
        for key, array in few.items():
            if key.startswith("d params"):
                continue
            expected = whole[key][..., sequences, :]
            assert same_bits(array, expected), (key, sequences)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("backend", ["c-portable", "c"])
@pytest.mark.parametrize("name", BITS)
def test_bits_do_not_depend_on_the_tape_nor_on_the_call(name: str, backend: str, dtype: str) -> None:
    made = kernel(name, backend, dtype)
    given = cells.problem(name, SEVEN["lengths"]).in_dtype(dtype)
    arguments = (given.inputs, given.params, given.initial, given.lengths)
    plain, trained = made.forward(*arguments), made.forward(*arguments, train=True, keep=True)
    for one, two in ((plain.outputs, trained.outputs), (plain.final, trained.final)):
        assert all(same_bits(one[key], two[key]) for key in one)
    first = made.backward(trained, given.d_outputs, given.d_final)
    again = made.backward(trained, given.d_outputs, given.d_final)
    consumed = made.backward(made.forward(*arguments, train=True), given.d_outputs, given.d_final)
    for group in ("inputs", "params", "initial"):
        one, two, three = (getattr(slopes, group) for slopes in (first, again, consumed))
        assert all(same_bits(one[key], two[key]) and same_bits(one[key], three[key]) for key in one)
        for key, array in one.items():
            alone = made.backward(trained, given.d_outputs, given.d_final, wrt=[key])
            assert same_bits(getattr(alone, group)[key], array), key


@pytest.mark.parametrize("backend", ["c-portable", "c"])
def test_sequences_can_be_continued(backend: str) -> None:
    for name in ("lstm", "gru", "past_input", "heads", "long_past_inputs", "delays_of_two_states"):
        made = kernel(name, backend, "float64")
        given = cells.problem(name, SETTINGS["seven of three"])
        whole = made.forward(given.inputs, given.params, given.initial)
        # The first piece is shorter than the delays.
        for cut in (2, 4):
            parts = slice(cut), slice(cut, 7)
            early, late = ({k: v[part].copy() for k, v in given.inputs.items()} for part in parts)
            first = made.forward(early, given.params, given.initial)
            rest = made.forward(late, given.params, first.final)
            for key, array in whole.outputs.items():
                assert same_bits(array, np.concatenate([first.outputs[key], rest.outputs[key]]))
            assert all(same_bits(array, rest.final[key]) for key, array in whole.final.items())


@pytest.mark.parametrize("name", cells.ALL)
def test_packed_weights_stay_where_they_are(name: str) -> None:
    made = kernel(name, "c", "float64")
    few, many = (cells.problem(name, Setting(steps, batch, (5, 3, 2))) for steps, batch in ((2, 3), (9, 8)))
    packed = made.pack(few.params)
    # The workspace of many steps of many sequences has room for what follows.
    for given in (many, few, many):
        x, start, lengths = given.inputs, given.initial, given.lengths
        found = made.forward(x, packed, start, lengths)
        expected = made.forward(x, few.params, start, lengths)
        for one, two in ((found.outputs, expected.outputs), (found.final, expected.final)):
            assert all(same_bits(one[key], two[key]) for key in one)


def with_everything(name: str, backend: str) -> Kernel:
    """A kernel that gives back every value assigned per step; the text is at stake, not the compiler."""
    whole = cells.cell(name).with_outputs(assigned_per_step(name))
    with warnings.catch_warnings(), quickly(*RENDERINGS):
        warnings.simplefilter("ignore", gg.GategenWarning)
        made = gg.compile(whole, "float64", backend)
    assert made.backend == backend
    return made


def assigned_per_step(name: str) -> list[str]:
    roles = (Role.STATE, Role.OUTPUT, Role.INTERMEDIATE)
    return [key for key, variable in cells.cell(name).variables.items() if variable.role in roles]


# A kernel that gives back all of them anyway is one of those above.
MORE_TO_SEE = [name for name in cells.ALL if set(assigned_per_step(name)) != {*cells.cell(name).outputs}]


@pytest.mark.parametrize("name", MORE_TO_SEE)
def test_every_assigned_value_may_be_an_output(name: str) -> None:
    # The two renderings in C take turns.
    turn = RENDERINGS[cells.ALL.index(name) % 2]
    numpy, *compiled = (with_everything(name, backend) for backend in ("numpy", turn))
    whole = cells.cell(name).with_outputs(spec.name for spec in numpy.manifest.outputs)
    # Fewer than four sequences have their products before the loop.
    for batch, lengths in ((4, None), (4, (5, 0, 3, 4)), (2, (5, 3))):
        given = draw(whole, gg.derive(whole).program, Setting(5, batch, (3, 5, 2), lengths), seed=0)
        expected = run(numpy, given)
        for made in compiled:
            found = run(made, given)
            plain = made.forward(given.inputs, given.params, given.initial, given.lengths)
            for key, array in expected.items():
                assert relative_error(found[key], array) <= 1e-12, (made.backend, key)
            for key, array in plain.outputs.items():
                assert same_bits(array, found[f"outputs {key}"]), (made.backend, key)
            for key, array in plain.final.items():
                assert key not in given.d_final or same_bits(array, found[f"final {key}"]), (
                    made.backend,
                    key,
                )
