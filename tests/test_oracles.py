"""The oracles themselves: our loops against PyTorch's modules, and the rules for padded sequences."""

import numpy as np
import pytest
import torch
from oracles.compare import PACKABLE, PADDED, SIZES, STEPS, as_tensors, differences, problem, solve
from oracles.torch_cells import ORACLES
from oracles.torch_modules import MODULES


@pytest.mark.parametrize("lengths", [None, PACKABLE], ids=["whole", "padded"])
@pytest.mark.parametrize("name", MODULES)
def test_loop_agrees_with_the_module(name, lengths):
    given = problem(ORACLES[name], lengths)
    module, loop = solve(MODULES[name], given), solve(ORACLES[name], given)
    assert module.arrays.keys() == loop.arrays.keys()
    assert differences(loop, module, 1e-12) == {}


@pytest.mark.parametrize("name", ORACLES)
def test_padding_is_never_read(name):
    oracle = ORACLES[name]
    given = problem(oracle, PADDED)
    before = solve(oracle, given)
    past_end = np.arange(STEPS)[:, None] >= PADDED
    for array in (*given.inputs.values(), *given.d_outputs.values()):
        array[past_end] = 5.0
    after = solve(oracle, given)
    for key, array in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[key], array, err_msg=key)


@pytest.mark.parametrize("name", ORACLES)
def test_padded_is_each_sequence_alone(name):
    oracle = ORACLES[name]
    given = problem(oracle, PADDED)
    padded = solve(oracle, given).arrays
    params = as_tensors(given.params)
    for row, length in enumerate(PADDED):
        initial = {key: torch.tensor(array[..., row : row + 1, :]) for key, array in given.initial.items()}
        if length == 0:
            final = initial
        else:
            inputs = {key: torch.tensor(array[:length, row : row + 1]) for key, array in given.inputs.items()}
            outputs, final = oracle(params, inputs, initial)
            for key, array in outputs.items():
                np.testing.assert_allclose(
                    padded[f"output {key}"][:length, row], array.detach()[:, 0], rtol=1e-12
                )
        for key, array in final.items():
            np.testing.assert_allclose(
                padded[f"final {key}"][..., row, :], array.detach()[..., 0, :], rtol=1e-12
            )
        for key in given.d_outputs:
            assert not padded[f"output {key}"][length:, row].any()


def test_backwards_is_forwards_on_the_reversed_sequence():
    given = problem(ORACLES["lstm_reverse"], None)
    backwards = solve(ORACLES["lstm_reverse"], given).arrays
    given.inputs["x"] = given.inputs["x"][::-1].copy()
    given.d_outputs["h"] = given.d_outputs["h"][::-1].copy()
    forwards = solve(ORACLES["lstm"], given).arrays
    for key, array in forwards.items():
        whole = array[::-1] if key in ("output h", "d inputs x") else array
        np.testing.assert_allclose(backwards[key], whole, rtol=1e-12, atol=1e-14, err_msg=key)


def test_concatenation_is_the_separate_form():
    given = problem(ORACLES["lstm_concat"], PADDED)
    loop = solve(ORACLES["lstm_concat"], given).arrays
    units = SIZES["n"]
    for ours, theirs in zip("ifog", "ifoc", strict=True):
        matrix, bias = given.params.pop(f"W_{theirs}"), given.params.pop(f"b_{theirs}")
        parts = {f"U_{ours}": matrix[:, :units], f"W_{ours}": matrix[:, units:], f"b_{ours}": bias}
        given.params.update(parts)
    separate = solve(ORACLES["lstm"], given).arrays
    for key in ("output h", "final c", "d inputs x", "d initial h"):
        np.testing.assert_allclose(loop[key], separate[key], rtol=1e-12, atol=1e-14, err_msg=key)
