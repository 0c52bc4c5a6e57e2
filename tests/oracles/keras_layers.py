"""Other people's code: the recurrent layers of Keras on its NumPy back end.

It has values and no gradients, and its products are in single precision, whatever a layer's ``dtype``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from .compare import Problem, Solution
from .gates import ROWS, Row, stacked
from .torch_cells import ORACLES

# Keras reads its back end once, when it is imported, and then writes its settings to its home.
with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
    patch.setenv("KERAS_BACKEND", "numpy")
    patch.setenv("KERAS_HOME", home)
    import keras

LAYERS = {"RNN": keras.layers.SimpleRNN, "LSTM": keras.layers.LSTM, "GRU": keras.layers.GRU}
ORDERS = {"RNN": "h", "LSTM": "ifco", "GRU": "zrh"}
STATES = {"RNN": ["h"], "LSTM": ["h", "c"], "GRU": ["h"]}
CELLS = [name for name, row in ROWS.items() if not row.peepholes]


def layer(row: Row, units: int, backwards: bool) -> Any:
    """A layer that gives all its outputs, zero past the end, and its last states."""
    options = {"RNN": {"activation": row.activation}, "LSTM": {}, "GRU": {"reset_after": row.reset_after}}
    return LAYERS[row.kind](
        units,
        return_sequences=True,
        return_state=True,
        zero_output_for_mask=True,
        go_backwards=backwards,
        **options[row.kind],
    )


def weights(row: Row, given: Problem) -> list[np.ndarray]:
    """Kernel (d, k n), recurrent kernel (n, k n) and bias (k n,), or (2, k n) if the reset comes after."""
    ours = stacked(given, row, ORDERS[row.kind])
    bias = np.stack([ours["b"], ours["c"]]) if row.reset_after else ours["b"]
    return [ours["W"].T, ours["U"].T, bias]


def solve(name: str, sides: Sequence[Problem]) -> list[Solution]:
    """The values of one cell, or of both directions of a bidirectional layer: forward, then backward."""
    row, given = ROWS[name], sides[0]
    units, states = given.initial["h"].shape[-1], STATES[row.kind]
    x = given.inputs["x"].swapaxes(0, 1)
    start = [side.initial[state] for side in sides for state in states]
    mask = None if given.lengths is None else np.arange(x.shape[1]) < given.lengths[:, None]
    if len(sides) == 1:
        backwards = ORACLES[name].backwards
        model = layer(row, units, backwards)
    else:
        backwards = False  # The wrapper puts its backward outputs in order itself.
        both = layer(row, units, False), layer(row, units, True)
        model = keras.layers.Bidirectional(both[0], backward_layer=both[1], merge_mode=None)
    model.build(x.shape)
    model.set_weights([array for side in sides for array in weights(row, side)])
    results = [np.asarray(array) for array in model(x, initial_state=start, mask=mask)]
    outputs, finals = results[: len(sides)], results[len(sides) :]
    solutions = []
    for side, rows in enumerate(outputs):
        arrays = {"output h": (rows[:, ::-1] if backwards else rows).swapaxes(0, 1)}
        own = finals[side * len(states) :]
        arrays |= {f"final {state}": array for state, array in zip(states, own, strict=False)}
        solutions.append(Solution(arrays))
    return solutions
