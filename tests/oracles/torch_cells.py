"""Every cell of the zoo, written from its paper as one step on PyTorch tensors.

The steps are deliberately plain: rows of a batch times a transposed weight, gate by gate, as the papers
print them. Nothing is shared with the package, not even the names of intermediate values.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, relu, sigmoid, tanh

from .sequence import Named, Oracle, oracle

Params = SimpleNamespace


def net(p: Params, gate: str, x: Tensor, h: Tensor) -> Tensor:
    """The usual sum into a gate: input part, state part, bias."""
    return x @ getattr(p, f"W_{gate}").T + h @ getattr(p, f"U_{gate}").T + getattr(p, f"b_{gate}")


def sums(gates: str, **more: str) -> dict[str, str]:
    """Parameter shapes of gates with ``W``, ``U`` and ``b``; ``more`` adds names by shape letters."""
    shapes = {
        "n d": " ".join(f"W_{gate}" for gate in gates),
        "n n": " ".join(f"U_{gate}" for gate in gates),
        "n": " ".join(f"b_{gate}" for gate in gates),
    }
    for letters, names in more.items():
        key = " ".join(letters)
        shapes[key] = f"{shapes[key]} {names}" if key in shapes else names
    return shapes


MEMORY = {"c": "n", "h": "n"}


def rnn(p: Params, x: Tensor, h: Tensor) -> Named:
    return {"h": tanh(net(p, "h", x, h))}


def irnn(p: Params, x: Tensor, h: Tensor) -> Named:
    return {"h": relu(net(p, "h", x, h))}


def jordan(p: Params, x: Tensor, y: Tensor) -> Named:
    hidden = sigmoid(x @ p.W_h.T + y @ p.R_h.T + p.b_h)
    return {"y": sigmoid(hidden @ p.V_y.T + p.b_y)}


def indrnn(p: Params, x: Tensor, h: Tensor) -> Named:
    return {"h": relu(x @ p.W_h.T + p.u_h * h + p.b_h)}


def lstm(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    write, keep, read = (sigmoid(net(p, gate, x, h)) for gate in "ifo")
    c = keep * c + write * tanh(net(p, "g", x, h))
    return {"c": c, "h": read * tanh(c)}


def lstm_concat(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    hx = torch.cat([h, x], dim=1)
    write, keep = sigmoid(hx @ p.W_i.T + p.b_i), sigmoid(hx @ p.W_f.T + p.b_f)
    c = keep * c + write * tanh(hx @ p.W_c.T + p.b_c)
    return {"c": c, "h": sigmoid(hx @ p.W_o.T + p.b_o) * tanh(c)}


def lstm_cifg(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    keep, read = sigmoid(net(p, "f", x, h)), sigmoid(net(p, "o", x, h))
    c = keep * c + (1 - keep) * tanh(net(p, "g", x, h))
    return {"c": c, "h": read * tanh(c)}


def lstm_peephole(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    write, keep = sigmoid(net(p, "i", x, h) + p.p_i * c), sigmoid(net(p, "f", x, h) + p.p_f * c)
    c = keep * c + write * tanh(net(p, "g", x, h))
    read = sigmoid(net(p, "o", x, h) + p.p_o * c)
    return {"c": c, "h": read * tanh(c)}


def lstm_peephole_full(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    write, keep = sigmoid(net(p, "i", x, h) + c @ p.P_i.T), sigmoid(net(p, "f", x, h) + c @ p.P_f.T)
    c = keep * c + write * tanh(net(p, "g", x, h))
    read = sigmoid(net(p, "o", x, h) + c @ p.P_o.T)
    return {"c": c, "h": read * tanh(c)}


def lstmp(p: Params, x: Tensor, c: Tensor, r: Tensor) -> Named:
    write = sigmoid(x @ p.W_i.T + r @ p.R_i.T + p.b_i)
    keep = sigmoid(x @ p.W_f.T + r @ p.R_f.T + p.b_f)
    read = sigmoid(x @ p.W_o.T + r @ p.R_o.T + p.b_o)
    c = keep * c + write * tanh(x @ p.W_g.T + r @ p.R_g.T + p.b_g)
    return {"c": c, "r": (read * tanh(c)) @ p.P_r.T}


def lstm_1997(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    # 4 / (1 + exp(-v)) - 2 is 2 * tanh(v / 2): the paper's g, which lies in (-2, 2), and twice its h.
    c = c + sigmoid(net(p, "i", x, h)) * 2 * tanh(net(p, "g", x, h) / 2)
    return {"c": c, "h": sigmoid(net(p, "o", x, h)) * tanh(c / 2)}


def lstm_nig(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    c = sigmoid(net(p, "f", x, h) + p.p_f * c) * c + tanh(net(p, "g", x, h))
    return {"c": c, "h": sigmoid(net(p, "o", x, h) + p.p_o * c) * tanh(c)}


def lstm_nfg(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    c = c + sigmoid(net(p, "i", x, h) + p.p_i * c) * tanh(net(p, "g", x, h))
    return {"c": c, "h": sigmoid(net(p, "o", x, h) + p.p_o * c) * tanh(c)}


def lstm_nog(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    write, keep = sigmoid(net(p, "i", x, h) + p.p_i * c), sigmoid(net(p, "f", x, h) + p.p_f * c)
    c = keep * c + write * tanh(net(p, "g", x, h))
    return {"c": c, "h": tanh(c)}


def lstm_niaf(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    write, keep = sigmoid(net(p, "i", x, h) + p.p_i * c), sigmoid(net(p, "f", x, h) + p.p_f * c)
    c = keep * c + write * net(p, "g", x, h)
    return {"c": c, "h": sigmoid(net(p, "o", x, h) + p.p_o * c) * tanh(c)}


def lstm_noaf(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    write, keep = sigmoid(net(p, "i", x, h) + p.p_i * c), sigmoid(net(p, "f", x, h) + p.p_f * c)
    c = keep * c + write * tanh(net(p, "g", x, h))
    return {"c": c, "h": sigmoid(net(p, "o", x, h) + p.p_o * c) * c}


def lstm_fgr(p: Params, x: Tensor, i: Tensor, f: Tensor, c: Tensor, o: Tensor, h: Tensor) -> Named:
    write = sigmoid(net(p, "i", x, h) + p.p_i * c + i @ p.R_ii.T + f @ p.R_fi.T + o @ p.R_oi.T)
    keep = sigmoid(net(p, "f", x, h) + p.p_f * c + i @ p.R_if.T + f @ p.R_ff.T + o @ p.R_of.T)
    c = keep * c + write * tanh(net(p, "g", x, h))
    read = sigmoid(net(p, "o", x, h) + p.p_o * c + i @ p.R_io.T + f @ p.R_fo.T + o @ p.R_oo.T)
    return {"i": write, "f": keep, "c": c, "o": read, "h": read * tanh(c)}


def janet(p: Params, x: Tensor, h: Tensor) -> Named:
    s = net(p, "f", x, h)
    return {"h": sigmoid(s) * h + (1 - sigmoid(s - 1.0)) * tanh(net(p, "g", x, h))}


def gru(p: Params, x: Tensor, h: Tensor) -> Named:
    update, reset = sigmoid(net(p, "z", x, h)), sigmoid(net(p, "r", x, h))
    candidate = tanh(net(p, "g", x, reset * h))
    return {"h": (1 - update) * h + update * candidate}


def gru_reset_after(p: Params, x: Tensor, h: Tensor) -> Named:
    reset, update = sigmoid(net(p, "r", x, h)), sigmoid(net(p, "z", x, h))
    new = tanh(x @ p.W_n.T + p.b_n + reset * (h @ p.U_n.T + p.c_n))
    return {"h": (1 - update) * new + update * h}


def gru_update_as_reset_before(p: Params, x: Tensor, h: Tensor) -> Named:
    update = sigmoid(net(p, "z", x, h))
    return {"h": (1 - update) * h + update * tanh(net(p, "g", x, (1 - update) * h))}


def gru_update_as_reset_after(p: Params, x: Tensor, h: Tensor) -> Named:
    update = sigmoid(net(p, "z", x, h))
    candidate = tanh(x @ p.W_g.T + (h @ p.U_g.T) * (1 - update) + p.b_g)
    return {"h": (1 - update) * h + update * candidate}


def gru_reset_on_input(p: Params, x: Tensor, h: Tensor) -> Named:
    update, reset = sigmoid(net(p, "z", x, h)), sigmoid(net(p, "r", x, h))
    candidate = tanh((x @ p.W_g.T) * reset + (h @ p.U_g.T) * (1 - update) + p.b_g)
    return {"h": (1 - update) * h + update * candidate}


def mgu(p: Params, x: Tensor, h: Tensor) -> Named:
    forget = sigmoid(net(p, "f", x, h))
    return {"h": (1 - forget) * h + forget * tanh(net(p, "h", x, forget * h))}


def ugrnn(p: Params, x: Tensor, h: Tensor) -> Named:
    keep = sigmoid(net(p, "g", x, h))
    return {"h": keep * h + (1 - keep) * tanh(net(p, "c", x, h))}


def fastgrnn(p: Params, x: Tensor, h: Tensor) -> Named:
    shared = x @ p.W_h.T + h @ p.U_h.T
    keep, new = sigmoid(shared + p.b_z), tanh(shared + p.b_h)
    return {"h": (sigmoid(p.zeta) * (1 - keep) + sigmoid(p.nu)) * new + keep * h}


PEEPHOLES = sums("ifog", n="p_i p_f p_o")
RECURRENT_GATES = sums("ifog", n="p_i p_f p_o", nn=" ".join(f"R_{a}{b}" for a in "ifo" for b in "ifo"))
CONCATENATED = {"n n+d": "W_i W_f W_o W_c", "n": "b_i b_f b_o b_c"}
PROJECTED = {
    "n d": "W_i W_f W_o W_g",
    "n p": "R_i R_f R_o R_g",
    "p n": "P_r",
    "n": "b_i b_f b_o b_g",
}

ORACLES: dict[str, Oracle] = {
    "rnn": oracle(rnn, sums("h")),
    "irnn": oracle(irnn, sums("h")),
    "jordan": oracle(
        jordan,
        {"n d": "W_h", "n o": "R_h", "n": "b_h", "o n": "V_y", "o": "b_y"},
        states={"y": "o"},
        others={"h": "n"},
    ),
    "indrnn": oracle(indrnn, {"n d": "W_h", "n": "u_h b_h"}),
    "lstm": oracle(lstm, sums("ifog"), states=MEMORY),
    "lstm_concat": oracle(lstm_concat, CONCATENATED, states=MEMORY),
    "lstm_cifg": oracle(lstm_cifg, sums("fog"), states=MEMORY),
    "lstm_peephole": oracle(lstm_peephole, PEEPHOLES, states=MEMORY),
    "lstm_peephole_full": oracle(lstm_peephole_full, sums("ifog", nn="P_i P_f P_o"), states=MEMORY),
    "lstmp": oracle(lstmp, PROJECTED, states={"c": "n", "r": "p"}),
    "lstm_reverse": oracle(lstm, sums("ifog"), states=MEMORY, backwards=True),
    "lstm_1997": oracle(lstm_1997, sums("iog"), states=MEMORY),
    "lstm_nig": oracle(lstm_nig, sums("fog", n="p_f p_o"), states=MEMORY),
    "lstm_nfg": oracle(lstm_nfg, sums("iog", n="p_i p_o"), states=MEMORY),
    "lstm_nog": oracle(lstm_nog, sums("ifg", n="p_i p_f"), states=MEMORY),
    "lstm_niaf": oracle(lstm_niaf, PEEPHOLES, states=MEMORY),
    "lstm_noaf": oracle(lstm_noaf, PEEPHOLES, states=MEMORY),
    "lstm_fgr": oracle(lstm_fgr, RECURRENT_GATES, states={"i": "n", "f": "n", "c": "n", "o": "n", "h": "n"}),
    "janet": oracle(janet, sums("fg")),
    "gru": oracle(gru, sums("zrg")),
    "gru_reset_after": oracle(gru_reset_after, sums("rzn", n="c_n")),
    "gru_update_as_reset_before": oracle(gru_update_as_reset_before, sums("rzg")),
    "gru_update_as_reset_after": oracle(gru_update_as_reset_after, sums("rzg")),
    "gru_reset_on_input": oracle(gru_reset_on_input, sums("zrg")),
    "mgu": oracle(mgu, sums("fh")),
    "ugrnn": oracle(ugrnn, sums("gc")),
    "fastgrnn": oracle(fastgrnn, {"n d": "W_h", "n n": "U_h", "n": "b_z b_h", "": "zeta nu"}),
}
