"""Cells in both directions, beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gategen as gg
from gategen.errors import ArgumentError, GategenError

SIDES = {"forward": "", "backward": "_reverse"}
GATES = dict(zip("ifgo", range(4), strict=True))


def parameters(layer: torch.nn.LSTM, suffix: str, n: int) -> dict[str, np.ndarray]:
    found = {}
    for gate, k in GATES.items():
        rows = slice(k * n, k * n + n)
        found[f"W_{gate}"] = getattr(layer, f"weight_ih_l0{suffix}")[rows]
        found[f"U_{gate}"] = getattr(layer, f"weight_hh_l0{suffix}")[rows]
        found[f"b_{gate}"] = (getattr(layer, f"bias_ih_l0{suffix}") + getattr(layer, f"bias_hh_l0{suffix}"))[
            rows
        ]
    return {name: tensor.detach().numpy().copy() for name, tensor in found.items()}


@pytest.mark.parametrize("lengths", [None, [5, 2, 3]])
@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_is_that_of_pytorch(backend: str, lengths: list[int] | None) -> None:
    torch.manual_seed(0)
    layer = torch.nn.LSTM(3, 4, bidirectional=True).double()
    x = torch.randn(5, 3, 3, dtype=torch.float64, requires_grad=True)
    seed = np.random.default_rng(0).standard_normal((5, 3, 8))
    if lengths is None:
        y, _ = layer(x)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0], total_length=5)
    (y * torch.tensor(seed)).sum().backward()
    both = gg.pair("lstm", dtype="float64", backend=backend)
    p = {side: parameters(layer, suffix, 4) for side, suffix in SIDES.items()}
    run = both.forward(x.detach().numpy(), p, lengths=lengths, train=True)
    np.testing.assert_allclose(run.outputs["h"], y.detach().numpy(), rtol=1e-12, atol=1e-14)
    grad = both.backward(run, seed)
    np.testing.assert_allclose(grad.inputs["x"], x.grad.numpy(), rtol=1e-11, atol=1e-13)
    for side, suffix in SIDES.items():
        slope = getattr(layer, f"weight_hh_l0{suffix}").grad.numpy()
        ours = np.concatenate([grad.params[side][f"U_{gate}"] for gate in GATES])
        np.testing.assert_allclose(ours, slope, rtol=1e-11, atol=1e-13)


def test_first_values_differ_and_states_go_both_ways() -> None:
    both = gg.pair(gg.load("gru"), dtype="float64", backend="numpy")
    p = both.init({"x": 3, "h": 2}, seed=1)
    assert (p["forward"]["W_z"] != p["backward"]["W_z"]).all()
    x = np.random.default_rng(0).standard_normal((6, 3))
    whole = both.forward(x, p)
    first = both.forward(
        x[:3], p, initial={"forward": {}, "backward": both.forward(x[3:], p).final["backward"]}
    )
    assert np.allclose(first.outputs["h"], whole.outputs["h"][:3])
    assert np.allclose(whole.final["forward"]["h"], whole.outputs["h"][-1, :2])
    assert np.allclose(whole.final["backward"]["h"], whole.outputs["h"][0, 2:])


def test_mistakes_are_told() -> None:
    both = gg.pair("rnn", dtype="float64", backend="numpy")
    p = both.init({"x": 3, "h": 2})
    x = np.zeros((4, 1, 3))
    with pytest.raises(
        ArgumentError, match="params: has W_h, U_h, b_h; expected a dict with forward and backward"
    ):
        both.forward(x, p["forward"])
    run = both.forward(x, p, train=True)
    with pytest.raises(ArgumentError, match=r"d_outputs\['h'\]: does not fit; expected shape \(4, 1, 4\)"):
        both.backward(run, np.zeros((4, 1, 2)))
    both.backward(run, np.zeros((4, 1, 4)))
    with pytest.raises(GategenError):
        both.backward(run, np.zeros((4, 1, 4)))
    with pytest.raises(ArgumentError, match="backend"):
        gg.pair("rnn", backend="d")
