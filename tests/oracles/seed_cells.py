"""The cells of five tutorials, written by hand in PyTorch in the tutorials' own notation.

``W_xi`` multiplies the input on its way into i, ``W_hi`` the state; on a concatenation ``W_i`` multiplies
``[h, x]``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor, sigmoid, tanh

from .sequence import Named, Oracle, Step, oracle

Params = SimpleNamespace
MEMORY = {"c": "n", "h": "n"}


def net(p: Params, gate: str, x: Tensor, h: Tensor) -> Tensor:
    return x @ getattr(p, f"W_x{gate}").T + h @ getattr(p, f"W_h{gate}").T + getattr(p, f"b_{gate}")


def joint(p: Params, gate: str, h: Tensor, x: Tensor) -> Tensor:
    return torch.cat([h, x], dim=1) @ getattr(p, f"W_{gate}").T + getattr(p, f"b_{gate}")


def separate(gates: str, peepholes: str = "") -> dict[str, str]:
    square = [f"W_h{gate}" for gate in gates] + [f"W_c{gate}" for gate in peepholes]
    return {
        "n d": " ".join(f"W_x{gate}" for gate in gates),
        "n n": " ".join(square),
        "n": " ".join(f"b_{gate}" for gate in gates),
    }


def concatenated(gates: str) -> dict[str, str]:
    return {
        "n n+d": " ".join(f"W_{gate}" for gate in gates),
        "n": " ".join(f"b_{gate}" for gate in gates),
    }


def with_head(step: Step, shapes: dict[str, str], states: dict[str, str]) -> Oracle:
    """The same cell with ``y = W_hy @ h + b_y`` behind it."""

    def longer(p: Params, **now: Tensor) -> Named:
        new = step(p, **now)
        return {**new, "y": new["h"] @ p.W_hy.T + p.b_y}

    shapes = {**shapes, "o n": "W_hy", "o": "b_y"}
    return oracle(longer, shapes, states=states, outputs=("h", "y"), others={"y": "o"})


def simple_rnn(activation: Callable[[Tensor], Tensor]) -> Oracle:
    def step(p: Params, x: Tensor, h: Tensor) -> Named:
        return {"h": activation(net(p, "h", x, h))}

    return with_head(step, separate("h"), {"h": "n"})


def lstm_joint(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    i, f, o = (sigmoid(joint(p, gate, h, x)) for gate in "ifo")
    c = f * c + i * tanh(joint(p, "c", h, x))
    return {"c": c, "h": o * tanh(c)}


def lstm(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    i, f, o = (sigmoid(net(p, gate, x, h)) for gate in "ifo")
    c = f * c + i * tanh(net(p, "g", x, h))
    return {"c": c, "h": o * tanh(c)}


def lstm_reverse(p: Params, x: Tensor, x_before: Tensor, c: Tensor, h: Tensor) -> Named:
    """Right to left, on the input of the step it comes from; ``x`` of its own step is not read."""
    return lstm_joint(p, x_before, c, h)


def lstm_peephole(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    i, f = sigmoid(net(p, "i", x, h) + c @ p.W_ci.T), sigmoid(net(p, "f", x, h) + c @ p.W_cf.T)
    c = f * c + i * tanh(net(p, "c", x, h))
    return {"c": c, "h": sigmoid(net(p, "o", x, h) + c @ p.W_co.T) * tanh(c)}


def gru(p: Params, x: Tensor, h: Tensor) -> Named:
    z, r = sigmoid(net(p, "z", x, h)), sigmoid(net(p, "r", x, h))
    return {"h": (1 - z) * h + z * tanh(net(p, "g", x, r * h))}


def gru_joint(p: Params, x: Tensor, h: Tensor) -> Named:
    z, r = sigmoid(joint(p, "z", h, x)), sigmoid(joint(p, "r", h, x))
    return {"h": (1 - z) * h + z * tanh(joint(p, "h", r * h, x))}


def gru_before(p: Params, x: Tensor, h: Tensor) -> Named:
    z = sigmoid(net(p, "z", x, h))
    return {"h": (1 - z) * h + z * tanh(net(p, "h", x, (1 - z) * h))}


def gru_after(p: Params, x: Tensor, h: Tensor) -> Named:
    z = sigmoid(net(p, "z", x, h))
    return {"h": (1 - z) * h + z * tanh(x @ p.W_xh.T + (h @ p.W_hh.T) * (1 - z) + p.b_h)}


def gru_on_input(p: Params, x: Tensor, h: Tensor) -> Named:
    z, r = sigmoid(net(p, "z", x, h)), sigmoid(net(p, "r", x, h))
    return {"h": (1 - z) * h + z * tanh((x @ p.W_xg.T) * r + (h @ p.W_hg.T) * (1 - z) + p.b_g)}


SEEDS: dict[str, Oracle] = {
    "S1 tanh": simple_rnn(torch.tanh),
    "S1 relu": simple_rnn(torch.relu),
    "S1 sigmoid": simple_rnn(torch.sigmoid),
    "S2": with_head(lstm_joint, concatenated("ifoc"), MEMORY),
    "S3": oracle(lstm, separate("ifog"), states=MEMORY),
    "S4": oracle(lstm_reverse, concatenated("ifoc"), states=MEMORY, backwards=True, history={"x": 1}),
    "S5": oracle(lstm_peephole, separate("ifco", "ifo"), states=MEMORY),
    "S6": oracle(gru, separate("zrg")),
    "S6 joint": with_head(gru_joint, concatenated("zrh"), {"h": "n"}),
    # Nothing reads r, so no equation ties its width to the state's; it must be given.
    "S7": oracle(gru_before, separate("rzh"), others={"r": "n"}),
    "S8": oracle(gru_after, separate("rzh"), others={"r": "n"}),
    "S9": oracle(gru_on_input, separate("zrg")),
}
