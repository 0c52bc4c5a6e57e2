"""Other people's code: PyTorch's own recurrent modules, called with the parameters of our cells.

Each adapter has the signature of an oracle. The tensors stay on the autograd graph, so that gradients arrive
at our parameters, not at the module's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .sequence import Named

Adapter = Callable[[Named, Named, Named, Tensor | None], tuple[Named, Named]]


def stack(params: Named, prefix: str, gates: str) -> Tensor:
    """The rows of all gates in the module's order."""
    return torch.cat([params[f"{prefix}_{gate}"] for gate in gates])


def call(
    module: nn.RNNBase, weights: Named, x: Tensor, start: object, lengths: Tensor | None
) -> tuple[Tensor, object]:
    """Run a module on time-major arrays; ``lengths`` must be positive, as packing demands."""
    named = {f"{name}_l0": tensor for name, tensor in weights.items()}
    if lengths is None:
        return functional_call(module, named, (x, start))
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    rows, final = functional_call(module, named, (packed, start))
    assert isinstance(rows, PackedSequence)
    return pad_packed_sequence(rows, total_length=len(x))[0], final


def simple_rnn(nonlinearity: str) -> Adapter:
    """``nn.RNN``; our one bias is its input bias."""

    def run(
        params: Named, inputs: Named, initial: Named, lengths: Tensor | None = None
    ) -> tuple[Named, Named]:
        units, width = params["W_h"].shape
        module = nn.RNN(width, units, nonlinearity=nonlinearity, dtype=torch.float64)
        weights = {
            "weight_ih": params["W_h"],
            "weight_hh": params["U_h"],
            "bias_ih": params["b_h"],
            "bias_hh": torch.zeros_like(params["b_h"]),
        }
        rows, h = call(module, weights, inputs["x"], initial["h"][None], lengths)
        return {"h": rows}, {"h": h[0]}

    return run


def lstm(params: Named, inputs: Named, initial: Named, lengths: Tensor | None = None) -> tuple[Named, Named]:
    """``nn.LSTM``, gates in the order i, f, g, o."""
    units, width = params["W_i"].shape
    module = nn.LSTM(width, units, dtype=torch.float64)
    bias = stack(params, "b", "ifgo")
    weights = {
        "weight_ih": stack(params, "W", "ifgo"),
        "weight_hh": stack(params, "U", "ifgo"),
        "bias_ih": bias,
        "bias_hh": torch.zeros_like(bias),
    }
    start = initial["h"][None], initial["c"][None]
    rows, (h, c) = call(module, weights, inputs["x"], start, lengths)
    return {"h": rows}, {"h": h[0], "c": c[0]}


def lstm_projected(
    params: Named, inputs: Named, initial: Named, lengths: Tensor | None = None
) -> tuple[Named, Named]:
    """``nn.LSTM`` with ``proj_size``; its h is our r."""
    units, width = params["W_i"].shape
    module = nn.LSTM(width, units, proj_size=len(params["P_r"]), dtype=torch.float64)
    bias = stack(params, "b", "ifgo")
    weights = {
        "weight_ih": stack(params, "W", "ifgo"),
        "weight_hh": stack(params, "R", "ifgo"),
        "bias_ih": bias,
        "bias_hh": torch.zeros_like(bias),
        "weight_hr": params["P_r"],
    }
    start = initial["r"][None], initial["c"][None]
    rows, (r, c) = call(module, weights, inputs["x"], start, lengths)
    return {"r": rows}, {"r": r[0], "c": c[0]}


def gru(params: Named, inputs: Named, initial: Named, lengths: Tensor | None = None) -> tuple[Named, Named]:
    """``nn.GRU``, gates in the order r, z, n; the bias inside the reset is its third state bias."""
    units, width = params["W_n"].shape
    module = nn.GRU(width, units, dtype=torch.float64)
    nothing = torch.zeros_like(params["c_n"])
    weights = {
        "weight_ih": stack(params, "W", "rzn"),
        "weight_hh": stack(params, "U", "rzn"),
        "bias_ih": stack(params, "b", "rzn"),
        "bias_hh": torch.cat([nothing, nothing, params["c_n"]]),
    }
    rows, h = call(module, weights, inputs["x"], initial["h"][None], lengths)
    return {"h": rows}, {"h": h[0]}


MODULES: dict[str, Adapter] = {
    "rnn": simple_rnn("tanh"),
    "irnn": simple_rnn("relu"),
    "lstm": lstm,
    "lstmp": lstm_projected,
    "gru_reset_after": gru,
}
