"""The zoo against torchrecurrent, Keras and the reference evaluator of ONNX, and where they are wrong.

PyTorch's own modules are in ``test_outside``. Keras, on NumPy, and ONNX have values and no gradients.
"""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchrecurrent
from oracles import keras_layers, onnx_nodes
from oracles.compare import PADDED, SIZES, Solution, differences, problem, run_kernel, solve
from oracles.torch_cells import ORACLES
from oracles.torchrecurrent_cells import AGREEING, DEPARTURES, STARTS, THEIRS_ONLY, adapted, build

import gategen as gg

BOUND = 1e-10
SINGLE = 2e-6  # Keras on NumPy.
# torchrecurrent has one width for what may have widths of its own in ours.
SQUARE = SIZES | {"p": SIZES["n"], "o": SIZES["n"]}

# The two cells with an unused reset gate say so, and must.
pytestmark = pytest.mark.filterwarnings("ignore::gategen.errors.GategenWarning")


@functools.cache
def kernel(name, backend="numpy"):
    return gg.compile(name, dtype="float64", backend=backend)


def reworded(name, before, after):
    """A kernel of a cell of the zoo with other words in one place."""
    text = (gg.pipeline.ZOO / f"{name}.cell").read_text()
    assert text.count(before) == 1
    cell = gg.parse(text.replace(before, after), name=name)
    return gg.compile(cell, dtype="float64", backend="numpy")


def test_every_cell_of_torchrecurrent_has_its_place():
    cells = {name for name in torchrecurrent.__all__ if name.endswith("Cell")}
    compared = {row.theirs for row in (*AGREEING, *(departure.row for departure in DEPARTURES))}
    assert compared | THEIRS_ONLY == cells
    assert not compared & THEIRS_ONLY


@pytest.mark.parametrize("row", AGREEING, ids=lambda row: row.ours)
def test_torchrecurrent(row):
    given = problem(ORACLES[row.ours], None, seed=2, sizes=SQUARE)
    assert differences(run_kernel(kernel(row.ours), given), solve(adapted(row), given), BOUND) == {}


def test_torchrecurrent_in_c():
    row = next(row for row in AGREEING if row.ours == "mgu")
    given = problem(ORACLES[row.ours], None, seed=2, sizes=SQUARE)
    assert differences(run_kernel(kernel(row.ours, "c"), given), solve(adapted(row), given), BOUND) == {}


@pytest.mark.parametrize("departure", DEPARTURES, ids=lambda departure: departure.row.ours)
def test_torchrecurrent_departs(departure):
    """It disagrees, and agrees with our text once that has its fault."""
    row = departure.row
    given = problem(ORACLES[row.ours], None, seed=2, sizes=SQUARE)
    theirs = solve(adapted(row), given)
    state = row.gives.split()[0]
    assert f"final {state}" in differences(run_kernel(kernel(row.ours), given), theirs, 0.05), departure.why
    changed = reworded(row.ours, departure.ours, departure.theirs)
    assert differences(run_kernel(changed, given), theirs, BOUND) == {}


@pytest.mark.parametrize("start", STARTS, ids=lambda start: f"{start.ours}-{start.parameter}")
def test_torchrecurrent_starts_elsewhere(start):
    row = next(row for row in AGREEING if row.theirs == start.theirs)
    ours = kernel(start.ours).init({"x": 3, "h": 5}, seed=0)
    theirs = dict(build(row, 3, 5).named_parameters())
    first = ours[start.parameter], theirs[start.parameter].item()
    assert first == (start.our_value, start.their_value), start.why


def test_delay_of_torchrecurrent():
    """Its layer, as the paper, counts a delay from the state before the step: 2 for our h[t-1-2]."""
    row = next(row for row in AGREEING if row.ours == "tau_gru")
    given = problem(ORACLES["tau_gru"], None, seed=2)
    given.initial["h"][:-1] = 0.0  # It begins with one state, and zeros before that.
    layer = torchrecurrent.tauGRU(SIZES["d"], SIZES["n"], delay=2, dtype=torch.float64)
    with torch.no_grad():
        for name, names in row.tensors.items():
            stack = np.concatenate([given.params[part] for part in names.split()])
            getattr(layer.cells[0], name).copy_(torch.tensor(stack))
        rows, _ = layer(torch.tensor(given.inputs["x"]), torch.tensor(given.initial["h"][-1:]))
    wanted = Solution({"output h": rows.numpy()})
    assert differences(run_kernel(kernel("tau_gru"), given), wanted, BOUND) == {}


LIBRARIES = {"keras": (keras_layers, SINGLE), "onnx": (onnx_nodes, BOUND)}
CELLS = [(library, name) for library, (module, _) in LIBRARIES.items() for name in module.CELLS]


def compare(library, name, backend="numpy", lengths=None):
    module, bound = LIBRARIES[library]
    given = problem(ORACLES[name], lengths, seed=3)
    (wanted,) = module.solve(name, [given])
    assert differences(run_kernel(kernel(name, backend), given), wanted, bound) == {}


@pytest.mark.parametrize(("library", "name"), CELLS)
def test_layer(library, name):
    compare(library, name)


@pytest.mark.parametrize("name", keras_layers.CELLS)
def test_masked_layer(name):
    compare("keras", name, lengths=PADDED)


@pytest.mark.parametrize(("library", "name"), [("keras", "lstm"), ("onnx", "gru")])
def test_layer_in_c(library, name):
    compare(library, name, "c")


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "gru_reset_after"])
@pytest.mark.parametrize("case", ["keras", "keras masked", "onnx"])
def test_both_directions(case, name):
    module, bound = LIBRARIES[case.split()[0]]
    lengths = PADDED if "masked" in case else None
    forth, back = (problem(ORACLES[name], lengths, seed=seed) for seed in (3, 4))
    sides = {"forward": forth, "backward": replace(back, inputs=forth.inputs)}
    pair = gg.pair(name, dtype="float64", backend="numpy")
    run = pair.forward(
        forth.inputs,
        {side: given.params for side, given in sides.items()},
        initial={side: given.initial for side, given in sides.items()},
        lengths=lengths,
    )
    halves = np.split(run.outputs["h"], 2, axis=-1)
    wanted = module.solve(name, list(sides.values()))
    for side, half, own in zip(sides, halves, wanted, strict=True):
        final = {f"final {state}": array for state, array in run.final[side].items()}
        assert differences(Solution({"output h": half, **final}), own, bound) == {}


@pytest.mark.parametrize("row", onnx_nodes.IGNORED, ids=lambda row: f"{row.asked}-{row.why.split()[0][:-1]}")
def test_evaluator_of_onnx_ignores(row):
    """It gives what it would give without being asked for more, and our cell gives what was asked for."""
    given = problem(ORACLES[row.computed], None, seed=3)
    asked = replace(given, lengths=row.lengths)
    (theirs,) = onnx_nodes.solve(row.computed, [asked], **row.attributes)
    assert differences(run_kernel(kernel(row.computed), given), theirs, BOUND) == {}
    own = {name: array for name, array in given.params.items() if name in gg.load(row.asked).parameters}
    ours = run_kernel(kernel(row.asked), replace(asked, params=own))
    assert set(differences(ours, theirs, 0.05)) == set(theirs.arrays), row.why


def test_evaluator_of_onnx_refuses_relu():
    """The operator has it, so ``irnn`` is compared elsewhere."""
    with pytest.raises(RuntimeError, match="Unknown activation function 'Relu'"):
        onnx_nodes.solve("irnn", [problem(ORACLES["irnn"], None)], activations=["Relu"])
