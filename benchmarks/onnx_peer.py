"""onnxruntime's LSTM and GRU, inference only, on models of one node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from benchmarks.contenders import Array, Contender, Problem

_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""Our gates i f g o and r z n as ONNX wants them: i o f g and z r n."""


def contender(peer: str, problem: Problem, threads: int) -> Contender | None:
    """An inference session, or None for a cell that ONNX does not have."""
    del peer
    if not problem.cell.module:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(_model(problem), options, providers=["CPUExecutionProvider"])
    feed = {"X": problem.x}
    # Y has an axis of directions between time and batch.
    return Contender(lambda: session.run(["Y"], feed), None, lambda result: {"output": result[0][:, 0]})


def _model(problem: Problem) -> bytes:
    kind, (steps, batch, inputs, units) = problem.cell.module, problem.shape
    packed = problem.packed
    inside = np.zeros_like(packed["b"])
    if "bh" in packed:
        inside[-units:] = packed["bh"]

    def reordered(array: Array) -> Array:
        gates = np.split(array, len(_ORDER[kind]))
        return np.concatenate([gates[place] for place in _ORDER[kind]])

    biases = np.concatenate([reordered(packed["b"]), reordered(inside)])
    constants = {"W": reordered(packed["wx"]), "R": reordered(packed["wh"]), "B": biases}
    # In ONNX the reset before or after the product is an option of the one GRU.
    options: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(kind, ["X", "W", "R", "B"], ["Y"], hidden_size=units, **options)
    graph = helper.make_graph(
        [node],
        kind,
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, (steps, batch, inputs))],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, (steps, 1, batch, units))],
        [numpy_helper.from_array(array[None], name) for name, array in constants.items()],
    )
    # onnx writes newer versions than onnxruntime reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return bytes(model.SerializeToString())
