"""The recurrent layers that Keras and ONNX share, and the cells of ours that they compute.

Both know an RNN, an LSTM and a GRU, each gate with a matrix for the input, one for the state and biases.
A row says which of our gates goes where; some cells are one of the three with gates tied or held open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .compare import Arrays, Problem

# The bias of a gate that is always open: the logistic function of it is 1 to the last bit.
OPEN = 1000.0


@dataclass(frozen=True)
class Row:
    """A cell of ours as one of theirs.

    Attributes:
        kind: ``RNN``, ``LSTM`` or ``GRU``.
        gates: Our suffix for each of their gates: ``-f`` is the gate 1 - f, from negated parameters, and
            ``open`` the gate 1. What our gate lacks, such as a bias, is zero in theirs.
        activation: Of the RNN.
        reset_after: Whether the GRU resets after its matrix product.
        peepholes: Whether only a layer with peepholes will do.
    """

    kind: str
    gates: dict[str, str]
    activation: str = "tanh"
    reset_after: bool = False
    peepholes: bool = False


def lstm(peepholes: bool = False, **gates: str) -> Row:
    return Row("LSTM", {"i": "i", "f": "f", "c": "g", "o": "o"} | gates, peepholes=peepholes)


def gru(z: str = "-z", r: str = "r", h: str = "g", reset_after: bool = False) -> Row:
    """Their z is the share of the old state: most of ours call the other share z."""
    return Row("GRU", {"z": z, "r": r, "h": h}, reset_after=reset_after)


ROWS = {
    "rnn": Row("RNN", {"h": "h"}),
    "irnn": Row("RNN", {"h": "h"}, activation="relu"),
    "lstm": lstm(),
    "lstm_reverse": lstm(),
    "lstm_cifg": lstm(i="-f"),
    "lstm_peephole": lstm(peepholes=True),
    "lstm_nig": lstm(peepholes=True, i="open"),
    "lstm_nfg": lstm(peepholes=True, f="open"),
    "lstm_nog": lstm(peepholes=True, o="open"),
    "gru": gru(),
    "gru_reset_after": gru(z="z", h="n", reset_after=True),
    "gru_update_as_reset_before": gru(r="-z"),
    "gru_update_as_reset_after": gru(r="-z", reset_after=True),
    "mgu": gru(z="-f", r="f", h="h"),
    "mgu1": gru(z="-f", r="f", h="h"),
    "mgu2": gru(z="-f", r="f", h="h"),
    "mgu3": gru(z="-f", r="f", h="h"),
}


def stacked(given: Problem, row: Row, order: str) -> Arrays:
    """Their parameters, gate below gate in the order of the library.

    Returns:
        For k gates ``W`` (k n, d), ``U`` (k n, n), biases ``b`` and ``c`` and peepholes ``p`` (k n,). The
        bias ``c`` goes with the state, and is zero but inside a reset.
    """
    units, width = given.initial["h"].shape[-1], given.inputs["x"].shape[-1]
    shapes = {"W": (units, width), "U": (units, units), "b": (units,), "c": (units,), "p": (units,)}

    def block(letter: str, gate: str) -> np.ndarray:
        if gate == "open":
            return np.full(shapes[letter], OPEN if letter == "b" else 0.0)
        array = given.params.get(f"{letter}_{gate.lstrip('-')}", np.zeros(shapes[letter]))
        return -array if gate.startswith("-") else array

    return {letter: np.concatenate([block(letter, row.gates[gate]) for gate in order]) for letter in shapes}
