"""Other people's code: the recurrent operators of ONNX in its reference evaluator, which has values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper
from onnx.reference import ReferenceEvaluator

from .compare import PADDED, Problem, Solution
from .gates import ROWS, stacked
from .torch_cells import ORACLES

ORDERS = {"RNN": "h", "LSTM": "iofc", "GRU": "zrh"}
PEEPHOLES = "iof"
STATES = {"RNN": ["h"], "LSTM": ["h", "c"], "GRU": ["h"]}
# The evaluator's RNN refuses Relu, which the operator has.
CELLS = [name for name, row in ROWS.items() if row.activation == "tanh"]


@dataclass(frozen=True)
class Ignored:
    """Something that the operator has and its reference evaluator passes over without a word.

    Attributes:
        asked: Our cell for what is asked.
        computed: Our cell for what is computed.
        why: What the operator's text says. The evaluator has a note that such attributes are yet to come.
        attributes: What asks for it.
        lengths: What asks for it.
    """

    asked: str
    computed: str
    why: str
    attributes: dict[str, Any] = field(default_factory=dict)
    lengths: np.ndarray | None = None


PLAIN = {"activation_alpha": [1.0], "activation_beta": [0.0]}
IGNORED = [
    Ignored("lstm_cifg", "lstm", "input_forget: couple input and forget gates if 1.", {"input_forget": 1}),
    Ignored(
        "lstm_niaf",
        "lstm_peephole",
        "activations: the functions f, g and h; Affine is alpha x + beta. g is the input activation.",
        {"activations": ["Sigmoid", "Affine", "Tanh"], **PLAIN},
    ),
    Ignored(
        "lstm_noaf",
        "lstm_peephole",
        "activations, as before. h is the output activation.",
        {"activations": ["Sigmoid", "Tanh", "Affine"], **PLAIN},
    ),
    *(
        Ignored(name, name, "sequence_lens: the lengths of the sequences in a batch.", lengths=PADDED)
        for name in ("rnn", "lstm", "gru")
    ),
]


def solve(name: str, sides: Sequence[Problem], **attributes: Any) -> list[Solution]:
    """The values of one cell, or of both directions of a bidirectional node: forward, then backward."""
    row, given = ROWS[name], sides[0]
    states = STATES[row.kind]
    feeds = {"X": given.inputs["x"]}
    parts = [stacked(side, row, ORDERS[row.kind]) for side in sides]
    feeds["W"] = np.stack([part["W"] for part in parts])
    feeds["R"] = np.stack([part["U"] for part in parts])
    feeds["B"] = np.stack([np.concatenate([part["b"], part["c"]]) for part in parts])
    if given.lengths is not None:
        feeds["sequence_lens"] = given.lengths.astype(np.int32)
    for state in states:
        feeds[f"initial_{state}"] = np.stack([side.initial[state] for side in sides])
    if row.peepholes:
        feeds["P"] = np.stack([stacked(side, row, PEEPHOLES)["p"] for side in sides])
    if row.kind == "GRU":
        attributes["linear_before_reset"] = int(row.reset_after)
    backwards = "reverse" if ORACLES[name].backwards else "forward"
    # Inputs go by place, and an empty name leaves one out.
    places = ["X", "W", "R", "B", "sequence_lens", *(f"initial_{state}" for state in states)]
    places += ["P"] if row.kind == "LSTM" else []
    node = helper.make_node(
        row.kind,
        [place if place in feeds else "" for place in places],
        ["Y", *(f"Y_{state}" for state in states)],
        hidden_size=given.initial["h"].shape[-1],
        direction="bidirectional" if len(sides) == 2 else backwards,
        **attributes,
    )
    outputs, *finals = ReferenceEvaluator(node).run(None, feeds)
    return [
        Solution(
            {"output h": outputs[:, side]}
            | {f"final {state}": array[side] for state, array in zip(states, finals, strict=True)}
        )
        for side in range(len(sides))
    ]
