"""Other people's code: the cells of torchrecurrent, run on the parameters and states of ours.

A row of a table says where our arrays go. It becomes an oracle: our shapes, the loop of all oracles, and for
its step one call of their cell. The tensors stay on the autograd graph, so that gradients arrive at ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torchrecurrent
from torch import Tensor
from torch.func import functional_call

from .sequence import Named, Oracle
from .torch_cells import ORACLES, Params


@dataclass(frozen=True)
class Row:
    """One of their cells in terms of ours.

    Attributes:
        ours: Name in the zoo.
        theirs: Name of the class.
        tensors: For each of its tensors our parameters, stacked from the top: ``0`` is a block of zeros,
            ``1`` the identity matrix. A bias left out is zero; constants that they learn are in ``options``.
        reads: Our states in the order in which their cell takes them.
        gives: Our names of what it returns.
        options: Keyword arguments of the class, where its defaults are not ours.
        halved: Our parameters and states of which theirs are half.
    """

    ours: str
    theirs: str
    tensors: dict[str, str]
    reads: str = "h"
    gives: str = "h"
    options: dict[str, Any] = field(default_factory=dict)
    halved: str = ""


LSTM = {"weight_ih": "W_i W_f W_g W_o", "weight_hh": "U_i U_f U_g U_o", "bias_ih": "b_i b_f b_g b_o"}
MEMORY = {"reads": "h c", "gives": "h c"}

# Their ``weight_ch`` reads a second state, ``weight_ph`` is a peephole.
AGREEING = [
    Row(
        "antisymmetric_rnn",
        "AntisymmetricRNNCell",
        {"weight_ih": "W_h", "weight_hh": "U_h", "bias_ih": "b_h"},
        options={"epsilon": 0.1, "gamma": 0.01},
    ),
    Row("brc", "BRCell", {"weight_ih": "W_a W_c W_h", "weight_hh": "u_a u_c", "bias_ih": "b_a b_c 0"}),
    Row("cfn", "CFNCell", {"weight_ih": "W_q W_e W_h", "weight_hh": "U_q U_e", "bias_ih": "b_q b_e 0"}),
    Row(
        "cornn",
        "coRNNCell",
        {"weight_ih": "W_y", "weight_hh": "U_y", "weight_ch": "U_z", "bias_ih": "b_y"},
        reads="y z",
        gives="y z",
        options={"dt": 0.05},
    ),
    Row(
        "fastgrnn",
        "FastGRNNCell",
        {"weight_ih": "W_h", "weight_hh": "U_h", "bias_ih": "b_z b_h", "zeta": "zeta", "nu": "nu"},
        options={"nonlinearity": "sigmoid"},
    ),
    Row(
        "fastrnn",
        "FastRNNCell",
        {"weight_ih": "W_h", "weight_hh": "U_h", "bias_ih": "b_h", "alpha": "alpha", "beta": "beta"},
    ),
    Row(
        "indrnn",
        "IndRNNCell",
        {"weight_ih": "W_h", "vector_u": "u_h", "bias_ih": "b_h"},
        options={"nonlinearity": "relu"},
    ),
    Row(
        "intersection_rnn",
        "IntersectionRNNCell",
        {"weight_ih": "W_y W_h W_a W_b", "weight_hh": "U_y U_h U_a U_b", "bias_ih": "b_y b_h b_a b_b"},
        gives="y h",
    ),
    # It keeps h and c apart, as an LSTM does, and makes them equal at every step.
    Row(
        "janet",
        "JANETCell",
        {"weight_ih": "W_f W_g", "weight_hh": "U_f U_g", "bias_ih": "b_f b_g"},
        reads="h h",
        gives="h h",
        options={"beta": 1.0},
    ),
    # 4 sigmoid(v) - 2 is 2 tanh(v / 2): the functions of 1997 are its two tanh in other units.
    Row(
        "lstm_1997",
        "OriginalLSTMCell",
        {"weight_ih": "W_i W_g W_o", "weight_hh": "U_i U_g U_o", "bias_ih": "b_i b_g b_o"},
        **MEMORY,
        halved="W_g U_g b_g c",
    ),
    Row(
        "lstm_multiplicative",
        "MultiplicativeLSTMCell",
        {
            "weight_ih": "W_m W_i W_f W_g W_o",
            "weight_hh": "U_m",
            "weight_mh": "V_i V_f V_g V_o",
            "bias_ih": "0 b_i b_f b_g b_o",
        },
        **MEMORY,
    ),
    Row("lstm_peephole", "PeepholeLSTMCell", {**LSTM, "weight_ph": "p_i p_f p_o"}, **MEMORY),
    Row(
        "lstm_residual",
        "ResLSTMCell",
        {**LSTM, "weight_ph": "p_i p_f p_o", "weight_proj": "U_m", "weight_res": "W_r"},
        **MEMORY,
    ),
    Row("mgu", "MGUCell", {"weight_ih": "W_f W_h", "weight_hh": "U_f U_h", "bias_ih": "b_f b_h"}),
    Row(
        "minimal_rnn",
        "MinimalRNNCell",
        {"weight_ih": "W_z", "weight_hh": "U_u", "weight_mm": "V_u", "bias_ih": "b_z", "bias_hh": "b_u"},
    ),
    # Where the first two of these add the input as it is, they multiply it by a matrix.
    Row(
        "mut1",
        "MUT1Cell",
        {"weight_ih": "W_z W_r 1", "weight_hh": "U_r U_h", "bias_ih": "b_z b_r 0", "bias_hh": "0 b_h"},
    ),
    Row("mut2", "MUT2Cell", {"weight_ih": "W_z 1 W_h", "weight_hh": "U_z U_r U_h", "bias_ih": "b_z b_r b_h"}),
    Row(
        "mut3", "MUT3Cell", {"weight_ih": "W_z W_r W_h", "weight_hh": "U_z U_r U_h", "bias_ih": "b_z b_r b_h"}
    ),
    Row(
        "ran",
        "RANCell",
        {"weight_ih": "W_c W_i W_f", "weight_hh": "U_i U_f", "bias_ih": "b_i b_f"},
        **MEMORY,
    ),
    Row("star", "STARCell", {"weight_ih": "W_z W_k", "weight_hh": "U_k", "bias_ih": "b_z b_k"}),
    Row(
        "t_gru",
        "TGRUCell",
        {"weight_ih": "W_z W_f W_o", "weight_hh": "Z_z Z_f Z_o", "bias_ih": "b_z b_f b_o"},
        reads="h x_before",
        gives="h x_before",
    ),
    Row(
        "t_lstm",
        "TLSTMCell",
        {"weight_ih": "W_z W_f W_o", "weight_hh": "Z_z Z_f Z_o", "bias_ih": "b_z b_f b_o"},
        reads="c x_before",
        gives="h c x_before",
    ),
    Row("t_rnn", "TRNNCell", {"weight_ih": "W_z W_f", "bias_ih": "0 b_f"}),
    Row("tau_gru", "tauGRUCell", {"weight_ih": "U_u U_z U_g U_a", "weight_hh": "W_u W_z W_g W_a"}),
    Row("ugrnn", "UGRNNCell", {"weight_ih": "W_c W_g", "weight_hh": "U_c U_g", "bias_ih": "b_c b_g"}),
]


@dataclass(frozen=True)
class Departure:
    """A cell that disagrees with ours, and the change to our text that makes ours do the same.

    Attributes:
        row: How it is called.
        ours: What our text says.
        theirs: What to put in its place.
        why: Why ours is right.
    """

    row: Row
    ours: str
    theirs: str
    why: str


DEPARTURES = [
    Departure(
        Row(
            "fastgrnn",
            "FastGRNNCell",
            {"weight_ih": "W_h", "weight_hh": "U_h", "bias_ih": "b_z b_h", "zeta": "zeta", "nu": "nu"},
        ),
        "z = sigmoid(a + b_z)",
        "z = tanh(a + b_z)",
        "Kusupati et al. 2018, arXiv:1901.02358: the gate is a logistic function, the candidate a tanh. Their"
        " documentation says so too, but the option for the gate's function is tanh by default.",
    ),
    Departure(
        Row(
            "lem",
            "LEMCell",
            {
                "weight_ih": "W_2 W_1 W_z W_y",
                "weight_hh": "U_2 U_1 U_z",
                "weight_ch": "U_y",
                "bias_ih": "b_2 b_1 b_z b_y",
            },
            reads="y z",
            gives="y z",
        ),
        "U_y @ z[t] ",
        "U_y @ z[t-1] ",
        "Rusch et al. 2022, arXiv:2110.04744, the authors' code, and their documentation: y_n reads z_n, just"
        " computed. Theirs reads z_(n-1).",
    ),
    Departure(
        Row(
            "nas",
            "NASCell",
            {
                "weight_ih": " ".join(f"W_{k}" for k in range(8)),
                "weight_hh": " ".join(f"U_{k}" for k in range(8)),
            },
            **MEMORY,
        ),
        "relu((W_3 @ x[t]) * (U_3 @ h[t-1]))",
        "relu(W_3 @ x[t] + U_3 @ h[t-1])",
        "Zoph, Le 2017, arXiv:1611.01578, and TensorFlow's NASCell: one of the eight leaves of the tree"
        " multiplies what it makes of x and of h. Theirs adds in all eight.",
    ),
    Departure(
        Row(
            "scrn",
            "SCRNCell",
            {"weight_ih": "B_s W_h", "weight_hh": "U_h V_y", "weight_ch": "P_h Q_y"},
            reads="h s",
            gives="h s",
            options={"alpha": 0.95},
        ),
        "h[t] = sigmoid(P_h @ s[t] + W_h @ x[t] + U_h @ h[t-1])\ny[t] = softmax(V_y @ h[t] + Q_y @ s[t])",
        "a = sigmoid(P_h @ s[t] + W_h @ x[t] + U_h @ h[t-1])\nh[t] = tanh(V_y @ a + Q_y @ s[t])\ny[t] = h[t]",
        "Mikolov et al. 2014, arXiv:1412.7753, and their documentation: the state is the hidden layer h_t,"
        " and nothing reads back the output y_t = f(U h_t + V s_t), f a softmax. Theirs, with f a tanh,"
        " hands y_t on in place of h_t.",
    ),
]


@dataclass(frozen=True)
class Start:
    """A first value that differs."""

    ours: str
    theirs: str
    parameter: str
    our_value: float
    their_value: float
    why: str


EDGEML = "Kusupati et al. 2018, arXiv:1901.02358, and the authors' EdgeML: "
STARTS = [
    Start(
        "fastrnn", "FastRNNCell", "alpha", -3.0, 3.0, EDGEML + "alpha, the share of the new, begins small."
    ),
    Start("fastrnn", "FastRNNCell", "beta", 3.0, -3.0, EDGEML + "beta, the share of the old, begins near 1."),
    Start("fastgrnn", "FastGRNNCell", "zeta", 1.0, 3.0, EDGEML + "zeta begins at sigmoid(1)."),
    Start("fastgrnn", "FastGRNNCell", "nu", -4.0, -3.0, EDGEML + "nu begins at sigmoid(-4)."),
]

# Cells of theirs that the zoo lacks. Their RHN is not among them: its file is there, but cannot be imported.
THEIRS_ONLY = {
    "ATRCell",
    "DSGUCell",
    "GatedAntisymmetricRNNCell",
    "LiGRUCell",
    "LightRUCell",
    "MCLSTMCell",
    "MiRU1Cell",
    "MiRU2Cell",
    "NBRCell",
    "SGRNCell",
    "SGUCell",
    "UnICORNNCell",
    "WMCLSTMCell",
}


def flat(result: Any) -> list[Tensor]:
    """The tensors of nested tuples in order."""
    return [result] if isinstance(result, Tensor) else [leaf for part in result for leaf in flat(part)]


def build(row: Row, width: int, units: int) -> torch.nn.Module:
    """Their cell, in double precision."""
    return getattr(torchrecurrent, row.theirs)(width, units, **row.options, dtype=torch.float64)


def filled(shape: torch.Size, names: str, ours: Named, units: int) -> Tensor:
    """A tensor of theirs from ours; every block has as many rows as there are units."""
    blocks = {
        "0": torch.zeros(units, *shape[1:], dtype=torch.float64),
        "1": torch.eye(units, dtype=torch.float64),
        **ours,
    }
    return torch.cat([blocks[name].reshape(-1, *shape[1:]) for name in names.split()])


def adapted(row: Row) -> Oracle:
    """The oracle that a row stands for."""
    ours = ORACLES[row.ours]

    def step(p: Params, x: Tensor, **states: Tensor) -> Named:
        arrays = {**vars(p), **states}
        arrays |= {name: arrays[name] / 2 for name in row.halved.split()}
        read = [arrays[name] for name in row.reads.split()]
        if ours.delays:  # The last state and the oldest one, beside each other.
            read = [read[0][-1], read[0][0]]
        units = read[0].shape[-1]
        module = build(row, x.shape[-1], units)
        weights = {}
        for name, tensor in module.named_parameters():
            if name in row.tensors:
                weights[name] = filled(tensor.shape, row.tensors[name], arrays, units)
            elif name in row.options:  # Their own copy is in single precision.
                weights[name] = torch.tensor(row.options[name], dtype=torch.float64)
            elif name.startswith("bias"):
                weights[name] = torch.zeros_like(tensor)
        start = (tuple(read),) if module.uses_double_state() else read
        results = flat(functional_call(module, weights, (x, *start)))
        new = dict(zip(row.gives.split(), results, strict=True))
        new |= {name: 2 * new[name] for name in row.halved.split() if name in new}
        # An output that nothing reads back is, in theirs, the state.
        return new | {name: new["h"] for name in ours.outputs if name not in new}

    return replace(ours, step=step)
