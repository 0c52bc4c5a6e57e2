"""Every cell of the zoo, written from its paper as one step on PyTorch tensors.

The steps are deliberately plain: rows of a batch times a transposed weight, gate by gate, as the papers
print them. Nothing is shared with the package, not even the names of intermediate values.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, relu, sigmoid, tanh
from torch.nn.functional import elu, layer_norm, logsigmoid, silu, softplus

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


def narx(p: Params, x: Tensor, h: Tensor) -> Named:
    return {"h": tanh(x @ p.W_h.T + h[-1] @ p.U_1.T + h[-2] @ p.U_2.T + h[-3] @ p.U_3.T + p.b_h)}


def rnn_dilated(p: Params, x: Tensor, h: Tensor) -> Named:
    return {"h": tanh(net(p, "h", x, h[-3]))}


def gru_skip(p: Params, x: Tensor, h: Tensor) -> Named:
    before = h[-4]
    reset, new = sigmoid(net(p, "r", x, before)), sigmoid(net(p, "u", x, before))
    candidate = relu(x @ p.W_c.T + reset * (before @ p.U_c.T) + p.b_c)
    return {"h": before + new * (candidate - before)}


def tau_gru(p: Params, x: Tensor, h: Tensor) -> Named:
    now, delayed = tanh(h[-1] @ p.W_u.T + x @ p.U_u.T), tanh(h[-3] @ p.W_z.T + x @ p.U_z.T)
    gate, weight = (sigmoid(h[-1] @ W.T + x @ U.T) for W, U in ((p.W_g, p.U_g), (p.W_a, p.U_a)))
    return {"h": (1 - gate) * h[-1] + gate * (now + weight * delayed)}


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
    return forget_and_write(p, x, h, sigmoid(net(p, "f", x, h)))


def ugrnn(p: Params, x: Tensor, h: Tensor) -> Named:
    keep = sigmoid(net(p, "g", x, h))
    return {"h": keep * h + (1 - keep) * tanh(net(p, "c", x, h))}


def fastgrnn(p: Params, x: Tensor, h: Tensor) -> Named:
    shared = x @ p.W_h.T + h @ p.U_h.T
    keep, new = sigmoid(shared + p.b_z), tanh(shared + p.b_h)
    return {"h": (sigmoid(p.zeta) * (1 - keep) + sigmoid(p.nu)) * new + keep * h}


def lstm_multiplicative(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    mixed = (x @ p.W_m.T) * (h @ p.U_m.T)
    gates = {
        k: x @ getattr(p, f"W_{k}").T + mixed @ getattr(p, f"V_{k}").T + getattr(p, f"b_{k}") for k in "ifog"
    }
    c = sigmoid(gates["f"]) * c + sigmoid(gates["i"]) * tanh(gates["g"])
    return {"c": c, "h": sigmoid(gates["o"]) * tanh(c)}


def lstm_mogrifier(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    matrices = vars(p)
    for turn in (1, 3, 5):
        x = 2 * sigmoid(h @ matrices[f"Q_[{turn}]"].T) * x
        if turn < 5:
            h = 2 * sigmoid(x @ matrices[f"S_[{turn + 1}]"].T) * h
    return lstm(p, x, c, h)


def lstm_nested(p: Params, x: Tensor, c_2: Tensor, c: Tensor, h: Tensor) -> Named:
    written, kept = sigmoid(net(p, "i", x, h)) * tanh(net(p, "g", x, h)), sigmoid(net(p, "f", x, h)) * c

    def inner(gate: str) -> Tensor:
        sides = written @ getattr(p, f"A_{gate}").T + kept @ getattr(p, f"R_{gate}").T
        return sides + getattr(p, f"b_{gate}2")

    c_2 = sigmoid(inner("f")) * c_2 + sigmoid(inner("i")) * tanh(inner("g"))
    c = sigmoid(inner("o")) * tanh(c_2)
    return {"c_2": c_2, "c": c, "h": sigmoid(net(p, "o", x, h)) * tanh(c)}


def lstm_residual(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    write, keep = sigmoid(net(p, "i", x, h) + p.p_i * c), sigmoid(net(p, "f", x, h) + p.p_f * c)
    c = keep * c + write * tanh(net(p, "g", x, h))
    read = sigmoid(net(p, "o", x, h) + p.p_o * c)
    return {"c": c, "h": read * (tanh(c) @ p.U_m.T + x @ p.W_r.T)}


def multiplicative_rnn(p: Params, x: Tensor, h: Tensor) -> Named:
    factors = (x @ p.W_f.T) * (h @ p.U_f.T)
    return {"h": tanh(factors @ p.V_h.T + x @ p.W_h.T + p.b_h)}


def mi_rnn(p: Params, x: Tensor, h: Tensor) -> Named:
    seen, known = x @ p.W_h.T, h @ p.U_h.T
    return {"h": tanh(p.alpha * seen * known + p.beta_1 * known + p.beta_2 * seen + p.b_h)}


def ct_rnn(p: Params, x: Tensor, h: Tensor) -> Named:
    return {"h": h + 0.1 / p.tau * (tanh(net(p, "h", x, h)) - h)}


def cornn(p: Params, x: Tensor, z: Tensor, y: Tensor) -> Named:
    force = tanh(x @ p.W_y.T + y @ p.U_y.T + z @ p.U_z.T + p.b_y)
    z = z + 0.05 * (force - y - z)
    return {"z": z, "y": y + 0.05 * z}


def lem(p: Params, x: Tensor, z: Tensor, y: Tensor) -> Named:
    fast, slow = sigmoid(net(p, "1", x, y)), sigmoid(net(p, "2", x, y))
    z = (1 - fast) * z + fast * tanh(net(p, "z", x, y))
    return {"z": z, "y": (1 - slow) * y + slow * tanh(net(p, "y", x, z))}


def mgu1(p: Params, x: Tensor, h: Tensor) -> Named:
    return forget_and_write(p, x, h, sigmoid(h @ p.U_f.T + p.b_f))


def mgu2(p: Params, x: Tensor, h: Tensor) -> Named:
    return forget_and_write(p, x, h, sigmoid(h @ p.U_f.T))


def mgu3(p: Params, x: Tensor, h: Tensor) -> Named:
    return forget_and_write(p, x, h, sigmoid(p.b_f))


def forget_and_write(p: Params, x: Tensor, h: Tensor, forget: Tensor) -> Named:
    """What the minimal gated unit does with its gate."""
    return {"h": (1 - forget) * h + forget * tanh(net(p, "h", x, forget * h))}


def mut1(p: Params, x: Tensor, h: Tensor) -> Named:
    update, reset = sigmoid(x @ p.W_z.T + p.b_z), sigmoid(net(p, "r", x, h))
    return {"h": (1 - update) * h + update * tanh((reset * h) @ p.U_h.T + tanh(x) + p.b_h)}


def mut2(p: Params, x: Tensor, h: Tensor) -> Named:
    update, reset = sigmoid(net(p, "z", x, h)), sigmoid(x + h @ p.U_r.T + p.b_r)
    return {"h": (1 - update) * h + update * tanh(net(p, "h", x, reset * h))}


def mut3(p: Params, x: Tensor, h: Tensor) -> Named:
    update, reset = sigmoid(net(p, "z", x, tanh(h))), sigmoid(net(p, "r", x, h))
    return {"h": (1 - update) * h + update * tanh(net(p, "h", x, reset * h))}


def intersection_rnn(p: Params, x: Tensor, h: Tensor) -> Named:
    depth, time = sigmoid(net(p, "a", x, h)), sigmoid(net(p, "b", x, h))
    up, on = relu(net(p, "y", x, h)), tanh(net(p, "h", x, h))
    return {"y": depth * x + (1 - depth) * up, "h": time * h + (1 - time) * on}


def star(p: Params, x: Tensor, h: Tensor) -> Named:
    write = sigmoid(net(p, "k", x, h))
    return {"h": tanh((1 - write) * h + write * tanh(x @ p.W_z.T + p.b_z))}


def ran(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    c = sigmoid(net(p, "i", x, h)) * (x @ p.W_c.T) + sigmoid(net(p, "f", x, h)) * c
    return {"c": c, "h": tanh(c)}


def cfn(p: Params, x: Tensor, h: Tensor) -> Named:
    return {"h": sigmoid(net(p, "q", x, h)) * tanh(h) + sigmoid(net(p, "e", x, h)) * tanh(x @ p.W_h.T)}


def brc(p: Params, x: Tensor, h: Tensor) -> Named:
    feedback = 1 + tanh(x @ p.W_a.T + p.u_a * h + p.b_a)
    keep = sigmoid(x @ p.W_c.T + p.u_c * h + p.b_c)
    return {"h": keep * h + (1 - keep) * tanh(x @ p.W_h.T + feedback * h)}


def minimal_rnn(p: Params, x: Tensor, h: Tensor) -> Named:
    seen = tanh(x @ p.W_z.T + p.b_z)
    keep = sigmoid(h @ p.U_u.T + seen @ p.V_u.T + p.b_u)
    return {"h": keep * h + (1 - keep) * seen}


def fastrnn(p: Params, x: Tensor, h: Tensor) -> Named:
    return {"h": sigmoid(p.alpha) * tanh(net(p, "h", x, h)) + sigmoid(p.beta) * h}


def fastgrnn_lsq(p: Params, x: Tensor, h: Tensor) -> Named:
    shared = x @ p.B_w.T @ p.A_w.T + h @ p.B_u.T @ p.A_u.T
    keep, new = sigmoid(shared + p.b_z), tanh(shared + p.b_h)
    return {"h": (sigmoid(p.zeta) * (1 - keep) + sigmoid(p.nu)) * new + keep * h}


def nas(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    seen = [x @ getattr(p, f"W_{k}").T for k in range(8)]
    known = [h @ getattr(p, f"U_{k}").T for k in range(8)]
    sums = [a + b for a, b in zip(seen, known, strict=True)]
    first = tanh(sigmoid(sums[0]) * relu(sums[1]))
    second = tanh(sigmoid(sums[2]) + relu(seen[3] * known[3]))
    third = tanh(tanh(sums[4]) * sigmoid(sums[5]))
    fourth = sigmoid(tanh(sums[6]) + sigmoid(sums[7]))
    c = tanh(first + c) * second
    return {"c": c, "h": tanh(c * tanh(third + fourth))}


def rhn(p: Params, x: Tensor, h: Tensor) -> Named:
    named = vars(p)
    for step in range(3):
        new, move = (h @ named[f"R_{k}[{step}]"].T + named[f"b_{k}[{step}]"] for k in "ht")
        if step == 0:
            new, move = new + x @ p.W_h.T, move + x @ p.W_t.T
        h = tanh(new) * sigmoid(move) + h * (1 - sigmoid(move))
    return {"h": h}


def mingru(p: Params, x: Tensor, h: Tensor) -> Named:
    update = sigmoid(x @ p.W_z.T)
    return {"h": (1 - update) * h + update * (x @ p.W_h.T)}


def minlstm(p: Params, x: Tensor, h: Tensor) -> Named:
    keep, write = sigmoid(x @ p.W_f.T), sigmoid(x @ p.W_i.T)
    return {"h": (keep * h + write * (x @ p.W_h.T)) / (keep + write)}


def sru_v1(p: Params, x: Tensor, c: Tensor) -> Named:
    keep, pass_on = sigmoid(x @ p.W_f.T + p.b_f), sigmoid(x @ p.W_r.T + p.b_r)
    c = keep * c + (1 - keep) * (x @ p.W_c.T)
    return {"c": c, "h": pass_on * tanh(c) + (1 - pass_on) * x}


def sru(p: Params, x: Tensor, c: Tensor) -> Named:
    keep = sigmoid(x @ p.W_f.T + p.v_f * c + p.b_f)
    pass_on = sigmoid(x @ p.W_r.T + p.v_r * c + p.b_r)
    c = keep * c + (1 - keep) * (x @ p.W_c.T)
    return {"c": c, "h": pass_on * c + (1 - pass_on) * x}


def window(p: Params, gate: str, x: Tensor, before: Tensor) -> Tensor:
    """A convolution over two steps."""
    return x @ getattr(p, f"W_{gate}").T + before @ getattr(p, f"Z_{gate}").T


def qrnn_f(p: Params, x: Tensor, h: Tensor, x_before: Tensor) -> Named:
    keep = sigmoid(window(p, "f", x, x_before))
    return {"h": keep * h + (1 - keep) * tanh(window(p, "z", x, x_before))}


def qrnn_fo(p: Params, x: Tensor, c: Tensor, x_before: Tensor) -> Named:
    c = qrnn_f(p, x, c, x_before)["h"]
    return {"c": c, "h": sigmoid(window(p, "o", x, x_before)) * c}


def qrnn_ifo(p: Params, x: Tensor, c: Tensor, x_before: Tensor) -> Named:
    keep, write, read = (sigmoid(window(p, gate, x, x_before)) for gate in "fio")
    c = keep * c + write * tanh(window(p, "z", x, x_before))
    return {"c": c, "h": read * c}


def t_rnn(p: Params, x: Tensor, h: Tensor) -> Named:
    keep = sigmoid(x @ p.W_f.T + p.b_f)
    return {"h": keep * h + (1 - keep) * (x @ p.W_z.T)}


def t_gru(p: Params, x: Tensor, h: Tensor, x_before: Tensor) -> Named:
    keep, read = sigmoid(window(p, "f", x, x_before) + p.b_f), tanh(window(p, "o", x, x_before) + p.b_o)
    return {"h": keep * h + read * (window(p, "z", x, x_before) + p.b_z)}


def t_lstm(p: Params, x: Tensor, c: Tensor, x_before: Tensor) -> Named:
    keep, read = sigmoid(window(p, "f", x, x_before) + p.b_f), tanh(window(p, "o", x, x_before) + p.b_o)
    c = keep * c + (1 - keep) * (window(p, "z", x, x_before) + p.b_z)
    return {"c": c, "h": read * c}


def normed(p: Params, v: Tensor, name: str) -> Tensor:
    """PyTorch's own layer norm."""
    return layer_norm(v, v.shape[1:], getattr(p, f"g_{name}"), getattr(p, f"b_{name}", None))


def lstm_layer_norm(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    named = vars(p)
    seen = {k: normed(p, x @ named[f"W_{k}"].T, f"x{k}") for k in "ifog"}
    known = {k: normed(p, h @ named[f"U_{k}"].T, f"h{k}") for k in "ifog"}
    write, keep, read, new = (seen[k] + known[k] + named[f"b_{k}"] for k in "ifog")
    c = sigmoid(keep) * c + sigmoid(write) * tanh(new)
    return {"c": c, "h": sigmoid(read) * tanh(normed(p, c, "c"))}


def lstm_layer_norm_state(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    named = vars(p)
    write, keep, read, new = (
        normed(p, x @ named[f"W_{k}"].T + h @ named[f"U_{k}"].T, k) + (k == "f") for k in "ifog"
    )
    c = normed(p, sigmoid(keep) * c + sigmoid(write) * tanh(new), "c")
    return {"c": c, "h": sigmoid(read) * tanh(c)}


def gru_layer_norm(p: Params, x: Tensor, h: Tensor) -> Named:
    named = vars(p)
    seen = {k: normed(p, x @ named[f"W_{k}"].T, f"x{k}") for k in "zrg"}
    known = {k: normed(p, h @ named[f"U_{k}"].T, f"h{k}") for k in "zrg"}
    update, reset = sigmoid(seen["z"] + known["z"]), sigmoid(seen["r"] + known["r"])
    return {"h": (1 - update) * h + update * tanh(seen["g"] + reset * known["g"])}


def scrn(p: Params, x: Tensor, s: Tensor, h: Tensor) -> Named:
    s = 0.05 * (x @ p.B_s.T) + 0.95 * s
    h = sigmoid(s @ p.P_h.T + x @ p.W_h.T + h @ p.U_h.T)
    return {"s": s, "h": h, "y": torch.softmax(h @ p.V_y.T + s @ p.Q_y.T, dim=1)}


def lstm_ordered(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    write, keep, read = (sigmoid(net(p, gate, x, h)) for gate in "ifo")
    forget, enter = (
        torch.softmax(x @ z.T + h @ r.T + b, dim=1).cumsum(dim=1)
        for z, r, b in ((p.Z_a, p.R_a, p.b_a), (p.Z_b, p.R_b, p.b_b))
    )
    both = forget * (1 - enter)
    c = (keep * both + forget - both) * c + (write * both + 1 - enter - both) * tanh(net(p, "g", x, h))
    return {"c": c, "h": read * tanh(c)}


def gf_rnn(p: Params, x: Tensor, h1: Tensor, h2: Tensor) -> Named:
    def gate(below: Tensor, name: str) -> Tensor:
        seen, first, second = (getattr(p, f"{letter}_{name}") for letter in "acd")
        return sigmoid(below @ seen + h1 @ first + h2 @ second)[:, None]

    new = tanh(x @ p.W_1.T + gate(x, "11") * (h1 @ p.U_11.T) + gate(x, "21") * (h2 @ p.U_21.T))
    told = gate(new, "12") * (h1 @ p.U_12.T) + gate(new, "22") * (h2 @ p.U_22.T)
    return {"h1": new, "h2": tanh(new @ p.V_2.T + told)}


class Step(torch.autograd.Function):
    """One where positive, with the derivative of a fast sigmoid."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return (x > 0).to(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = context.saved_tensors
        return gradient / (1 + x.abs()) ** 2


def lif(p: Params, x: Tensor, u: Tensor, s: Tensor) -> Named:
    u = 0.9 * u + x @ p.W_u.T + s @ p.U_u.T - s.detach()
    return {"u": u, "s": Step.apply(u - 1)}


def slstm(p: Params, x: Tensor, m: Tensor, c: Tensor, n: Tensor, h: Tensor) -> Named:
    enter, stay = net(p, "i", x, h), logsigmoid(net(p, "f", x, h)) + m
    m = torch.maximum(stay, enter)
    write, keep = (enter - m).exp(), (stay - m).exp()
    c, n = keep * c + write * tanh(net(p, "z", x, h)), keep * n + write
    return {"m": m, "c": c, "n": n, "h": sigmoid(net(p, "o", x, h)) * c / n}


def lstm_phased(p: Params, x: Tensor, s: Tensor, c: Tensor, h: Tensor) -> Named:
    new = lstm(p, x, c, h)
    phase = torch.remainder(s - p.q, p.tau) / p.tau
    rising, falling, closed = 2 * phase / p.r, 2 - 2 * phase / p.r, 0.001 * phase
    opened = torch.where(phase < p.r / 2, rising, torch.where(phase < p.r, falling, closed))
    return {"c": torch.lerp(c, new["c"], opened), "h": torch.lerp(h, new["h"], opened)}


def lstm_time_aware(p: Params, x: Tensor, s: Tensor, c: Tensor, h: Tensor) -> Named:
    short = tanh(c @ p.U_d.T + p.b_d)
    return lstm(p, x, (c - short) + short / torch.log(math.e + s), h)


def gru_d(p: Params, x: Tensor, s: Tensor, m: Tensor, l: Tensor, h: Tensor) -> Named:  # noqa: E741
    fade, forget = (-relu(p.w_k * s + p.b_k)).exp(), (-relu(s @ p.W_e.T + p.b_e)).exp()
    guess = p.x_bar + fade * (l - p.x_bar)
    filled, h = torch.lerp(guess, x, m), forget * h
    update, reset = (sigmoid(net(p, k, filled, h) + m @ V.T) for k, V in (("z", p.V_z), ("r", p.V_r)))
    new = tanh(net(p, "g", filled, reset * h) + m @ p.V_g.T)
    return {"l": torch.lerp(l, x, m), "h": torch.lerp(h, new, update)}


def lmu(p: Params, x: Tensor, m: Tensor, h: Tensor) -> Named:
    written = torch.cat([x, h, m], dim=1) @ torch.cat([p.e_x, p.e_h, p.e_m])
    m = m @ p.A_m.T + written[:, None] * p.B_m
    return {"m": m, "h": tanh(x @ p.W_h.T + h @ p.U_h.T + m @ p.V_h.T)}


def ltc(p: Params, x: Tensor, s: Tensor, h: Tensor) -> Named:
    step = s / 3
    for _ in range(3):
        f = sigmoid(net(p, "f", x, h))
        h = (h + step * f * p.a) / (1 + step / p.tau + step * f)
    return {"h": h}


def cfc(p: Params, x: Tensor, s: Tensor, h: Tensor) -> Named:
    hidden = 1.7159 * tanh(0.666 * (torch.cat([x, h], dim=1) @ p.W_v.T + p.b_v))
    f, g, a, b = (hidden @ W.T for W in (p.W_f, p.W_g, p.W_a, p.W_b))
    return {"h": torch.lerp(tanh(f + p.b_f), tanh(g + p.b_g), sigmoid((a + p.b_a) * s + b + p.b_b))}


def rg_lru(p: Params, x: Tensor, h: Tensor) -> Named:
    a = torch.exp(-8 * softplus(p.w_a) * sigmoid(x @ p.W_r.T + p.b_r))
    return {"h": a * h + torch.sqrt(1 - a**2) * sigmoid(x @ p.W_i.T + p.b_i) * x}


def rwkv4(own: Params, x: Tensor, p: Tensor, a: Tensor, b: Tensor, x_before: Tensor) -> Named:
    k, v, r = (
        torch.lerp(x_before, x, m) @ W.T
        for m, W in ((own.m_k, own.W_k), (own.m_v, own.W_v), (own.m_r, own.W_r))
    )
    highest = torch.maximum(p, own.w_u + k)
    past, now = (p - highest).exp(), (own.w_u + k - highest).exp()
    told = (past * a + now * v) / (past * b + now)
    faded = p - own.w_d.exp()
    highest = torch.maximum(faded, k)
    past, now = (faded - highest).exp(), (k - highest).exp()
    y = (sigmoid(r) * told) @ own.W_o.T
    return {"p": highest, "a": past * a + now * v, "b": past * b + now, "y": y}


def clockwork_rnn(p: Params, x: Tensor, t: Tensor, h: Tensor) -> Named:
    new = tanh(x @ p.W_h.T + h @ (p.M_h * p.U_h).T + p.b_h)
    return {"h": torch.where(torch.remainder(t, p.T_h) == 0, new, h)}


def antisymmetric_rnn(p: Params, x: Tensor, h: Tensor) -> Named:
    turn = h @ p.U_h.T - h @ p.U_h - 0.01 * h
    return {"h": h + 0.1 * tanh(turn + x @ p.W_h.T + p.b_h)}


def on_lstm(p: Params, x: Tensor, c: Tensor, h: Tensor) -> Named:
    def master(gate: str) -> Tensor:
        Z, R, b = (getattr(p, f"{letter}_{gate}") for letter in "ZRb")
        return torch.softmax(x @ Z.T + h @ R.T + b, dim=1).cumsum(dim=1).repeat_interleave(2, dim=1)

    write, keep, read = (sigmoid(net(p, gate, x, h)) for gate in "ifo")
    forget, enter = master("a"), 1 - master("b")
    both = forget * enter
    c = (keep * both + forget - both) * c + (write * both + enter - both) * tanh(net(p, "g", x, h))
    return {"c": c, "h": read * tanh(c)}


def dot(v: Tensor, w: Tensor) -> Tensor:
    return (v * w).sum(dim=1, keepdim=True)


def outer(v: Tensor, w: Tensor) -> Tensor:
    """One matrix for every sequence, as the row of its elements."""
    return torch.einsum("bi,bj->bij", v, w).flatten(1)


def times(matrix: Tensor, v: Tensor) -> Tensor:
    """A matrix of every sequence, given as the row of its elements, times a column."""
    return torch.einsum("bij,bj->bi", matrix.unflatten(1, (-1, v.shape[1])), v)


def row_times(v: Tensor, matrix: Tensor) -> Tensor:
    """A row times such a matrix."""
    return torch.einsum("bi,bij->bj", v, matrix.unflatten(1, (v.shape[1], -1)))


def mlstm(p: Params, x: Tensor, m: Tensor, C: Tensor, n: Tensor) -> Named:
    # The paper's equations before anything keeps them in range: C and n come and go as multiples of exp(m).
    query, value = x @ p.W_q.T + p.b_q, x @ p.W_v.T + p.b_v
    key = (x @ p.W_k.T + p.b_k) / math.sqrt(n.shape[1])
    enter, stay = x @ p.w_i[:, None] + p.b_i, logsigmoid(x @ p.w_f[:, None] + p.b_f)
    C = (stay + m).exp() * C + enter.exp() * outer(value, key)
    n = (stay + m).exp() * n + enter.exp() * key
    h = sigmoid(x @ p.W_o.T + p.b_o) * times(C, query) / dot(n, query).abs().clamp(min=1)
    m = torch.maximum(stay + m, enter)
    return {"m": m, "C": C * (-m).exp(), "n": n * (-m).exp(), "h": h}


def mamba(p: Params, x: Tensor, S: Tensor, x_before: Tensor) -> Named:
    taps = torch.stack([vars(p)[f"K_c[{back}]"] for back in (3, 2, 1, 0)])
    u = silu((taps[:, None] * torch.cat([x_before, x[None]])).sum(dim=0) + p.b_c)
    step = softplus(u @ p.B_Delta.T @ p.A_Delta.T + p.b_Delta)
    fade = (-step[:, :, None] * p.A_log.exp()).exp().flatten(1)
    S = fade * S + outer(step * u, u @ p.W_B.T)
    return {"S": S, "y": (times(S, u @ p.W_C.T) + p.D * u) * silu(x @ p.W_z.T)}


def linear_attention(p: Params, x: Tensor, S: Tensor, z: Tensor) -> Named:
    query, key = elu(x @ p.W_q.T) + 1, elu(x @ p.W_k.T) + 1
    S, z = S + outer(key, x @ p.W_v.T), z + key
    return {"S": S, "z": z, "y": row_times(query, S) / dot(query, z)}


def retnet(p: Params, x: Tensor, S: Tensor) -> Named:
    S = (1 - 2**-5) * S + outer(x @ p.W_k.T, x @ p.W_v.T)
    return {"S": S, "y": row_times(x @ p.W_q.T, S) / math.sqrt(len(p.W_q))}


def gated_linear_attention(p: Params, x: Tensor, S: Tensor) -> Named:
    fade = sigmoid(x @ p.B_alpha.T @ p.A_alpha.T + p.b_alpha) ** (1 / 16)
    S = fade.repeat_interleave(len(p.W_v), dim=1) * S + outer(x @ p.W_k.T, x @ p.W_v.T)
    return {"S": S, "y": row_times(x @ p.W_q.T, S) / math.sqrt(len(p.W_q))}


def deltanet(p: Params, x: Tensor, S: Tensor) -> Named:
    # S (I - beta k k^T) + beta v k^T, multiplied out.
    query, key = silu(x @ p.W_q.T), silu(x @ p.W_k.T)
    key = key / (dot(key, key) + 1e-6).sqrt()
    rate = sigmoid(x @ p.w_beta[:, None])
    S = S - outer(rate * times(S, key), key) + outer(rate * (x @ p.W_v.T), key)
    return {"S": S, "y": times(S, query) / math.sqrt(len(p.W_q))}


def fast_weights(p: Params, x: Tensor, A: Tensor, h: Tensor) -> Named:
    A = 0.95 * A + 0.5 * outer(h, h)
    known = net(p, "h", x, h)
    h = relu(known)
    for _ in range(2):
        h = relu(layer_norm(known + times(A, h), h.shape[1:], p.g_h, p.b_l))
    return {"A": A, "h": h}


TIME = {"s": "1"}
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
    "lstm_multiplicative": oracle(
        lstm_multiplicative,
        {
            "p d": "W_m",
            "p n": "U_m",
            "n d": "W_i W_f W_o W_g",
            "n p": "V_i V_f V_o V_g",
            "n": "b_i b_f b_o b_g",
        },
        states=MEMORY,
        others={"m": "p"},
    ),
    "lstm_mogrifier": oracle(
        lstm_mogrifier,
        {
            **sums("ifog"),
            "d n": "Q_[1] Q_[3] Q_[5]",
            "n d": "S_[2] S_[4] W_i W_f W_o W_g",
        },
        states=MEMORY,
    ),
    "lstm_nested": oracle(
        lstm_nested,
        sums(
            "ifog",
            nn=" ".join(f"{side}_{gate}" for side in "AR" for gate in "ifog"),
            n="b_i2 b_f2 b_o2 b_g2",
        ),
        states={"c_2": "n", "c": "n", "h": "n"},
    ),
    "lstm_residual": oracle(lstm_residual, sums("ifog", n="p_i p_f p_o", nn="U_m", nd="W_r"), states=MEMORY),
    "multiplicative_rnn": oracle(
        multiplicative_rnn,
        {"p d": "W_f", "p n": "U_f", "n p": "V_h", "n d": "W_h", "n": "b_h"},
        others={"f": "p"},
    ),
    "mi_rnn": oracle(mi_rnn, {"n d": "W_h", "n n": "U_h", "n": "alpha beta_1 beta_2 b_h"}),
    "ct_rnn": oracle(ct_rnn, sums("h", n="tau")),
    "cornn": oracle(cornn, {"n d": "W_y", "n n": "U_y U_z", "n": "b_y"}, states={"z": "n", "y": "n"}),
    "lem": oracle(lem, sums("12zy"), states={"z": "n", "y": "n"}),
    "mgu1": oracle(mgu1, {"n d": "W_h", "n n": "U_f U_h", "n": "b_f b_h"}),
    "mgu2": oracle(mgu2, {"n d": "W_h", "n n": "U_f U_h", "n": "b_h"}),
    "mgu3": oracle(mgu3, {"n d": "W_h", "n n": "U_h", "n": "b_f b_h"}),
    "mut1": oracle(mut1, {"n n": "W_z W_r U_r U_h", "n": "b_z b_r b_h"}, input_width="n"),
    "mut2": oracle(mut2, {"n n": "W_z U_z U_r W_h U_h", "n": "b_z b_r b_h"}, input_width="n"),
    "mut3": oracle(mut3, sums("zrh")),
    "intersection_rnn": oracle(
        intersection_rnn,
        {"n n": "W_a U_a W_b U_b W_y U_y W_h U_h", "n": "b_a b_b b_y b_h"},
        outputs=("y", "h"),
        input_width="n",
    ),
    "star": oracle(star, {"n d": "W_z W_k", "n n": "U_k", "n": "b_z b_k"}),
    "ran": oracle(ran, sums("if", nd="W_c"), states=MEMORY),
    "cfn": oracle(cfn, sums("qe", nd="W_h")),
    "brc": oracle(brc, {"n d": "W_a W_c W_h", "n": "u_a b_a u_c b_c"}),
    "minimal_rnn": oracle(minimal_rnn, {"n d": "W_z", "n n": "U_u V_u", "n": "b_z b_u"}),
    "fastrnn": oracle(fastrnn, {**sums("h"), "": "alpha beta"}),
    "fastgrnn_lsq": oracle(
        fastgrnn_lsq,
        {"n o": "A_w", "o d": "B_w", "n p": "A_u", "p n": "B_u", "n": "b_z b_h", "": "zeta nu"},
        others={"n_A_w": "o", "n_A_u": "p"},
    ),
    "nas": oracle(
        nas,
        {
            "n d": " ".join(f"W_{k}" for k in range(8)),
            "n n": " ".join(f"U_{k}" for k in range(8)),
        },
        states=MEMORY,
    ),
    "rhn": oracle(
        rhn,
        {
            "n d": "W_h W_t",
            "n n": " ".join(f"R_{k}[{i}]" for i in range(3) for k in "ht"),
            "n": " ".join(f"b_{k}[{i}]" for i in range(3) for k in "ht"),
        },
    ),
    "narx": oracle(narx, {"n d": "W_h", "n n": "U_1 U_2 U_3", "n": "b_h"}, delays={"h": 3}),
    "rnn_dilated": oracle(rnn_dilated, {"n d": "W_h", "n n": "U_h", "n": "b_h"}, delays={"h": 3}),
    "gru_skip": oracle(gru_skip, sums("ruc"), delays={"h": 4}),
    "tau_gru": oracle(tau_gru, {"n d": "U_u U_z U_g U_a", "n n": "W_u W_z W_g W_a"}, delays={"h": 3}),
    "mingru": oracle(mingru, {"n d": "W_z W_h"}),
    "minlstm": oracle(minlstm, {"n d": "W_f W_i W_h"}),
    "sru_v1": oracle(
        sru_v1,
        {"n n": "W_f W_r W_c", "n": "b_f b_r"},
        states={"c": "n"},
        outputs=("h",),
        input_width="n",
    ),
    "sru": oracle(
        sru,
        {"n n": "W_f W_r W_c", "n": "v_f b_f v_r b_r"},
        states={"c": "n"},
        outputs=("h",),
        input_width="n",
    ),
    "qrnn_f": oracle(qrnn_f, {"n d": "W_z Z_z W_f Z_f"}, history={"x": 1}),
    "qrnn_fo": oracle(
        qrnn_fo,
        {"n d": "W_z Z_z W_f Z_f W_o Z_o"},
        states={"c": "n"},
        outputs=("h",),
        history={"x": 1},
    ),
    "qrnn_ifo": oracle(
        qrnn_ifo,
        {"n d": "W_z Z_z W_f Z_f W_o Z_o W_i Z_i"},
        states={"c": "n"},
        outputs=("h",),
        history={"x": 1},
    ),
    "t_rnn": oracle(t_rnn, {"n d": "W_z W_f", "n": "b_f"}),
    "t_gru": oracle(t_gru, {"n d": "W_z Z_z W_f Z_f W_o Z_o", "n": "b_z b_f b_o"}, history={"x": 1}),
    "t_lstm": oracle(
        t_lstm,
        {"n d": "W_z Z_z W_f Z_f W_o Z_o", "n": "b_z b_f b_o"},
        states={"c": "n"},
        outputs=("h",),
        history={"x": 1},
    ),
    "lstm_layer_norm": oracle(
        lstm_layer_norm,
        sums("ifog", n=" ".join(f"g_x{k} g_h{k}" for k in "ifog") + " g_c b_c"),
        states=MEMORY,
    ),
    "lstm_layer_norm_state": oracle(
        lstm_layer_norm_state, sums("ifog", n="g_i g_f g_o g_g g_c b_c"), states=MEMORY
    ),
    "gru_layer_norm": oracle(
        gru_layer_norm,
        {
            "n d": "W_z W_r W_g",
            "n n": "U_z U_r U_g",
            "n": " ".join(f"{name}_{side}{k}" for k in "zrg" for side in "xh" for name in "gb"),
        },
    ),
    "scrn": oracle(
        scrn,
        {"p d": "B_s", "n p": "P_h", "n d": "W_h", "n n": "U_h", "o n": "V_y", "o p": "Q_y"},
        states={"s": "p", "h": "n"},
        outputs=("h", "y"),
        others={"y": "o"},
    ),
    "lstm_ordered": oracle(
        lstm_ordered,
        sums("ifog", nd="Z_a Z_b", nn="R_a R_b", n="b_a b_b"),
        states=MEMORY,
    ),
    "gf_rnn": oracle(
        gf_rnn,
        {
            "d": "a_11 a_21",
            "n": "c_11 c_21 a_12 c_12 a_22 c_22",
            "o": "d_11 d_21 d_12 d_22",
            "n d": "W_1",
            "n n": "U_11",
            "n o": "U_21",
            "o n": "V_2 U_12",
            "o o": "U_22",
        },
        states={"h1": "n", "h2": "o"},
    ),
    "slstm": oracle(
        slstm, sums("zoif"), states={"m": "n", **MEMORY, "n": "n"}, positive=("n",), outputs=("h",)
    ),
    "lstm_phased": oracle(
        lstm_phased,
        sums("ifog", n="tau q r"),
        states=MEMORY,
        more_inputs=TIME,
        positive=("tau", "r"),
    ),
    "lstm_time_aware": oracle(
        lstm_time_aware, sums("ifog", nn="U_d", n="b_d"), states=MEMORY, more_inputs=TIME, positive=("s",)
    ),
    "gru_d": oracle(
        gru_d,
        sums("zrg", nd="V_z V_r V_g W_e", n="b_e") | {"d": "w_k b_k x_bar"},
        states={"l": "d", "h": "n"},
        more_inputs={"s": "d", "m": "d"},
        frozen=("x_bar",),
    ),
    "lmu": oracle(
        lmu,
        {
            "n d": "W_h",
            "n n": "U_h",
            "n p": "V_h",
            "p p": "A_m",
            "d": "e_x",
            "n": "e_h",
            "p": "e_m B_m",
        },
        states={"m": "p", "h": "n"},
        frozen=("A_m", "B_m"),
    ),
    "ltc": oracle(ltc, sums("f", n="a tau"), more_inputs=TIME, positive=("s", "tau")),
    "cfc": oracle(
        cfc,
        {"p d+n": "W_v", "p": "b_v", "n p": "W_f W_g W_a W_b", "n": "b_f b_g b_a b_b"},
        more_inputs=TIME,
        others={"v": "p"},
    ),
    "rg_lru": oracle(rg_lru, {"n n": "W_r W_i", "n": "b_r b_i w_a"}, input_width="n"),
    "rwkv4": oracle(
        rwkv4,
        {"n d": "W_k W_v W_r", "o n": "W_o", "d": "m_k m_v m_r", "n": "w_u w_d"},
        states={"p": "n", "a": "n", "b": "n"},
        outputs=("y",),
        others={"y": "o"},
        history={"x": 1},
        positive=("b",),
    ),
    "lif": oracle(lif, {"n d": "W_u", "n n": "U_u"}, states={"u": "n", "s": "n"}),
    "fastgrnn": oracle(fastgrnn, {"n d": "W_h", "n n": "U_h", "n": "b_z b_h", "": "zeta nu"}),
    "clockwork_rnn": oracle(
        clockwork_rnn,
        sums("h", nn="M_h", n="T_h"),
        more_inputs={"t": "1"},
        frozen=("M_h", "T_h"),
        whole=("t", "T_h"),
    ),
    "antisymmetric_rnn": oracle(antisymmetric_rnn, sums("h")),
    "on_lstm": oracle(
        on_lstm,
        {
            "p d": "W_i W_f W_o W_g",
            "p p": "U_i U_f U_o U_g",
            "p": "b_i b_f b_o b_g",
            "o d": "Z_a Z_b",
            "o p": "R_a R_b",
            "o": "b_a b_b",
        },
        states={"c": "p", "h": "p"},
    ),
    "mlstm": oracle(
        mlstm,
        {"n d": "W_q W_k", "n": "b_q b_k", "p d": "W_v W_o", "p": "b_v b_o", "d": "w_i w_f", "": "b_i b_f"},
        states={"m": "1", "C": "p n", "n": "n"},
        outputs=("h",),
        others={"h": "p"},
    ),
    "mamba": oracle(
        mamba,
        {
            "d": "K_c[0] K_c[1] K_c[2] K_c[3] b_c b_Delta D",
            "d o": "A_Delta",
            "o d": "B_Delta",
            "p d": "W_B W_C",
            "d p": "A_log",
            "d d": "W_z",
        },
        states={"S": "d p"},
        outputs=("y",),
        others={"B": "p", "n_A_Delta": "o"},
        history={"x": 3},
    ),
    "linear_attention": oracle(
        linear_attention,
        {"n d": "W_q W_k", "o d": "W_v"},
        states={"S": "n o", "z": "n"},
        outputs=("y",),
        others={"y": "o"},
        positive=("z",),
    ),
    "retnet": oracle(
        retnet,
        {"n d": "W_q W_k", "o d": "W_v"},
        states={"S": "n o"},
        outputs=("y",),
        others={"q": "n", "y": "o"},
    ),
    "gated_linear_attention": oracle(
        gated_linear_attention,
        {"n d": "W_q W_k", "n p": "A_alpha", "p d": "B_alpha", "n": "b_alpha", "o d": "W_v"},
        states={"S": "n o"},
        outputs=("y",),
        others={"q": "n", "y": "o", "n_A_alpha": "p"},
    ),
    "deltanet": oracle(
        deltanet,
        {"n d": "W_q W_k", "o d": "W_v", "d": "w_beta"},
        states={"S": "o n"},
        outputs=("y",),
        others={"q": "n", "y": "o"},
    ),
    "fast_weights": oracle(fast_weights, sums("h", n="g_h b_l"), states={"A": "n n", "h": "n"}),
}
