"""PyTorch's own layers, and the cells as a person writes them in PyTorch: eager and as TorchScript."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, addmm, nn, sigmoid, tanh
from torch.nn.functional import pad, softsign

from benchmarks.contenders import Array, Contender, Problem

Pair = tuple[Tensor, Tensor]


class Loop(nn.Module):
    """A layer: one product with x for all steps, then ``step`` for each; weights come transposed."""

    def forward(self, x: Tensor, h: Tensor, c: Tensor, weights: list[Tensor]) -> Tensor:
        turned = [w.t() for w in weights]
        wx, b = turned[0], turned[1]
        b = pad(b, [0, wx.shape[1] - b.shape[0]])
        products = addmm(b, x.flatten(0, 1), wx).view(x.shape[0], x.shape[1], wx.shape[1])
        rest = turned[2:]
        states: list[Tensor] = []
        # Indexing products[t] instead would make the backward pass quadratic in T.
        for a in products.unbind(0):
            h, c = self.step(a, h, c, rest)
            states.append(h)
        return self.head(torch.stack(states), rest)

    def step(self, a: Tensor, h: Tensor, c: Tensor, w: list[Tensor]) -> Pair:
        """The next states, from the products with x and the states before; every cell has its own."""
        return a, c

    def head(self, h: Tensor, w: list[Tensor]) -> Tensor:
        """The output of all steps; most cells give the state itself."""
        return h


class Lstm(Loop):
    def step(self, a: Tensor, h: Tensor, c: Tensor, w: list[Tensor]) -> Pair:
        i, f, g, o = addmm(a, h, w[0]).chunk(4, 1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c


class Gru(Loop):
    def step(self, a: Tensor, h: Tensor, c: Tensor, w: list[Tensor]) -> Pair:
        xr, xz, xn = a.chunk(3, 1)
        hr, hz, hn = (h @ w[0]).chunk(3, 1)
        n = tanh(xn + sigmoid(xr + hr) * (hn + w[1]))
        return n + sigmoid(xz + hz) * (h - n), c


class Peephole(Loop):
    def step(self, a: Tensor, h: Tensor, c: Tensor, w: list[Tensor]) -> Pair:
        ai, af, ag, ao = addmm(a, h, w[0]).chunk(4, 1)
        pi, pf = (c @ w[1]).chunk(2, 1)
        c = sigmoid(af + pf) * c + sigmoid(ai + pi) * tanh(ag)
        return sigmoid(addmm(ao, c, w[2])) * tanh(c), c


class ResetOnInput(Loop):
    def step(self, a: Tensor, h: Tensor, c: Tensor, w: list[Tensor]) -> Pair:
        xz, xr, xg = a.chunk(3, 1)
        hz, hr, hg = (h @ w[0]).chunk(3, 1)
        z = sigmoid(xz + hz)
        g = tanh(xg * sigmoid(xr + hr) + hg * (1 - z) + w[1])
        return h + z * (g - h), c


class Mgu(Loop):
    def step(self, a: Tensor, h: Tensor, c: Tensor, w: list[Tensor]) -> Pair:
        af, ag = a.chunk(2, 1)
        f = sigmoid(addmm(af, h, w[0]))
        g = tanh(addmm(ag, f * h, w[1]))
        return h + f * (g - h), c


class Cifg(Loop):
    def step(self, a: Tensor, h: Tensor, c: Tensor, w: list[Tensor]) -> Pair:
        f, g, o = addmm(a, h, w[0]).chunk(3, 1)
        g = tanh(g)
        c = g + sigmoid(f) * (c - g)
        return sigmoid(o) * tanh(c), c


class Lstmp(Loop):
    def step(self, a: Tensor, h: Tensor, c: Tensor, w: list[Tensor]) -> Pair:
        i, f, g, o = addmm(a, h, w[0]).chunk(4, 1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return (sigmoid(o) * tanh(c)) @ w[1], c


class LstmpHead(Lstmp):
    def head(self, h: Tensor, w: list[Tensor]) -> Tensor:
        return addmm(w[3], h.flatten(0, 1), w[2]).view(h.shape[0], h.shape[1], w[3].shape[0])


class TwoSpeeds(Loop):
    def step(self, a: Tensor, h: Tensor, c: Tensor, w: list[Tensor]) -> Pair:
        s, g, z = addmm(a, h, w[0]).chunk(3, 1)
        g = tanh(g)
        c = c + 0.1 * sigmoid(s) * (g - c)
        return h + sigmoid(addmm(z, c, w[1])) * (softsign(g + c) - h), c


LOOPS: dict[str, Callable[[], Loop]] = {
    "lstm": Lstm,
    "gru_reset_after": Gru,
    "peephole": Peephole,
    "reset_on_input": ResetOnInput,
    "mgu": Mgu,
    "cifg": Cifg,
    "lstmp": Lstmp,
    "lstmp_head": LstmpHead,
    "two_speeds": TwoSpeeds,
}


def contender(peer: str, problem: Problem, threads: int) -> Contender | None:
    """PyTorch as ``nn``, ``eager`` or ``script``, or None if it has no such layer."""
    torch.set_num_threads(threads)
    if peer == "nn":
        return _module(problem) if problem.cell.module else None
    loop = LOOPS[problem.cell.name]()
    layer = torch.jit.script(loop) if peer == "script" else loop
    weights = {name: torch.from_numpy(array).clone() for name, array in problem.packed.items()}
    h, c = torch.from_numpy(problem.h), torch.from_numpy(problem.c)
    return _layer(problem, weights, lambda x: layer(x, h, c, list(weights.values())))


def _module(problem: Problem) -> Contender:
    """The layer of ``torch.nn``, with its second bias at zero but for the GRU's bias inside the reset."""
    layer = getattr(nn, problem.cell.module)(problem.shape.inputs, problem.shape.units)
    packed = {name: torch.from_numpy(array) for name, array in problem.packed.items()}
    inside = torch.zeros_like(packed["b"])
    if "bh" in packed:
        inside[-problem.shape.units :] = packed["bh"]
    with torch.no_grad():
        layer.weight_ih_l0.copy_(packed["wx"])
        layer.weight_hh_l0.copy_(packed["wh"])
        layer.bias_ih_l0.copy_(packed["b"])
        layer.bias_hh_l0.copy_(inside)
    weights = {
        "wx": layer.weight_ih_l0,
        "wh": layer.weight_hh_l0,
        "b": layer.bias_ih_l0,
        "second bias": layer.bias_hh_l0,
    }
    return _layer(problem, weights, lambda x: layer(x)[0])


def _layer(problem: Problem, weights: Mapping[str, Tensor], layer: Callable[[Tensor], Tensor]) -> Contender:
    x = torch.from_numpy(problem.x).clone().requires_grad_()
    d_output = torch.from_numpy(problem.d_output)
    wanted = [x, *(weight.requires_grad_() for weight in weights.values())]

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [layer(x)]

    def training() -> list[Tensor]:
        output = layer(x)
        return [output, *torch.autograd.grad(output, wanted, d_output)]

    def read(result: list[Tensor]) -> dict[str, Array]:
        return dict(zip(("output", "x", *weights), (t.detach().numpy() for t in result), strict=False))

    return Contender(forward, training, read)
