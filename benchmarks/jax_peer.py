"""The cells as a person writes them in JAX: a jitted scan over the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import sigmoid, soft_sign
from jax.numpy import split, tanh

from benchmarks.contenders import Array, Contender, Problem

Tensor = jax.Array
Pair = tuple[Tensor, Tensor]
Weights = list[Tensor]


def _lstm(a: Tensor, h: Tensor, c: Tensor, w: Weights) -> Pair:
    i, f, g, o = split(a + h @ w[0].T, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _gru(a: Tensor, h: Tensor, c: Tensor, w: Weights) -> Pair:
    xr, xz, xn = split(a, 3, axis=1)
    hr, hz, hn = split(h @ w[0].T, 3, axis=1)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = tanh(xn + r * (hn + w[1]))
    return (1 - z) * n + z * h, c


def _peephole(a: Tensor, h: Tensor, c: Tensor, w: Weights) -> Pair:
    ai, af, ag, ao = split(a + h @ w[0].T, 4, axis=1)
    pi, pf = split(c @ w[1].T, 2, axis=1)
    c = sigmoid(af + pf) * c + sigmoid(ai + pi) * tanh(ag)
    return sigmoid(ao + c @ w[2].T) * tanh(c), c


def _reset_on_input(a: Tensor, h: Tensor, c: Tensor, w: Weights) -> Pair:
    xz, xr, xg = split(a, 3, axis=1)
    hz, hr, hg = split(h @ w[0].T, 3, axis=1)
    z, r = sigmoid(xz + hz), sigmoid(xr + hr)
    g = tanh(xg * r + hg * (1 - z) + w[1])
    return (1 - z) * h + z * g, c


def _mgu(a: Tensor, h: Tensor, c: Tensor, w: Weights) -> Pair:
    af, ag = split(a, 2, axis=1)
    f = sigmoid(af + h @ w[0].T)
    g = tanh(ag + (f * h) @ w[1].T)
    return (1 - f) * h + f * g, c


def _cifg(a: Tensor, h: Tensor, c: Tensor, w: Weights) -> Pair:
    af, ag, ao = split(a + h @ w[0].T, 3, axis=1)
    f = sigmoid(af)
    c = f * c + (1 - f) * tanh(ag)
    return sigmoid(ao) * tanh(c), c


def _lstmp(a: Tensor, h: Tensor, c: Tensor, w: Weights) -> Pair:
    whole, c = _lstm(a, h, c, w)
    return whole @ w[1].T, c


def _two_speeds(a: Tensor, h: Tensor, c: Tensor, w: Weights) -> Pair:
    s, g, z = split(a + h @ w[0].T, 3, axis=1)
    g = tanh(g)
    c = c + 0.1 * sigmoid(s) * (g - c)
    z = sigmoid(z + c @ w[1].T)
    return (1 - z) * h + z * soft_sign(g + c), c


STEPS: dict[str, Callable[[Tensor, Tensor, Tensor, Weights], Pair]] = {
    "lstm": _lstm,
    "gru_reset_after": _gru,
    "peephole": _peephole,
    "reset_on_input": _reset_on_input,
    "mgu": _mgu,
    "cifg": _cifg,
    "lstmp": _lstmp,
    "lstmp_head": _lstmp,
    "two_speeds": _two_speeds,
}


def contender(peer: str, problem: Problem, threads: int) -> Contender:
    """The scan; its threads are bounded by the worker, which runs on as many processors."""
    del peer, threads
    step, name = STEPS[problem.cell.name], problem.cell.name
    h, c, d_output = jnp.asarray(problem.h), jnp.asarray(problem.c), jnp.asarray(problem.d_output)
    arrays = [jnp.asarray(array) for array in (problem.x, *problem.packed.values())]

    def layer(x: Tensor, wx: Tensor, b: Tensor, *rest: Tensor) -> Tensor:
        weights = list(rest)
        products = x @ wx.T + jnp.pad(b, (0, len(wx) - len(b)))

        def body(states: Pair, a: Tensor) -> tuple[Pair, Tensor]:
            states = step(a, *states, weights)
            return states, states[0]

        outputs: Tensor = lax.scan(body, (h, c), products)[1]
        return outputs @ weights[2].T + weights[3] if name == "lstmp_head" else outputs

    def loss(d_output: Tensor, *arrays: Tensor) -> Pair:
        output = layer(*arrays)
        return jnp.sum(output * d_output), output

    infer = jax.jit(layer)
    wait: Callable[[Any], Any] = jax.block_until_ready
    everything = tuple(range(1, len(arrays) + 1))
    differentiate = jax.jit(jax.value_and_grad(loss, argnums=everything, has_aux=True))

    def training() -> list[Tensor]:
        (_, output), gradients = wait(differentiate(d_output, *arrays))
        return [output, *gradients]

    def read(result: list[Any]) -> dict[str, Array]:
        return dict(zip(("output", "x", *problem.packed), map(np.asarray, result), strict=False))

    return Contender(lambda: [wait(infer(*arrays))], training, read)
