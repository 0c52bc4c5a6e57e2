"""Losses, updates and clipping against PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gategen import training as tr

Array = NDArray[Any]
RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.standard_normal((6, 4, 5))
LOSSES: dict[str, tuple[Any, Any, Array]] = {
    "mse": (tr.mean_squared_error, torch.nn.functional.mse_loss, RNG.standard_normal((6, 4, 5))),
    "sigmoid": (
        tr.sigmoid_binary_cross_entropy,
        torch.nn.functional.binary_cross_entropy_with_logits,
        RNG.random((6, 4, 5)),
    ),
    "softmax": (
        tr.softmax_cross_entropy,
        lambda logits, target, **kind: torch.nn.functional.cross_entropy(
            logits.movedim(-1, 1), target, **kind
        ),
        RNG.integers(0, 5, (6, 4)),
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "target"), LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("masked", [False, True])
def test_losses(ours: Any, theirs: Any, target: Array, masked: bool) -> None:
    weights = np.random.default_rng(1).random((6, 4)) if masked else None
    logits = torch.tensor(LOGITS, requires_grad=True)
    each = theirs(logits, torch.tensor(target), reduction="none")
    scale = torch.ones_like(each)
    if weights is not None:
        scale = scale * torch.tensor(weights.reshape(weights.shape + (1,) * (each.ndim - 2)))
    wanted = (each * scale).sum() / scale.sum()
    wanted.backward()
    value, gradient = ours(LOGITS, target, weights)
    assert value == pytest.approx(wanted.item(), rel=1e-13)
    assert logits.grad is not None
    reference = logits.grad.numpy()
    assert np.abs(gradient - reference).max() <= 1e-13 * np.abs(reference).max()


UPDATES: dict[str, tuple[Callable[[], Any], Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": (lambda: tr.SGD(0.05), lambda p: torch.optim.SGD(p, lr=0.05)),
    "sgd decay": (
        lambda: tr.SGD(0.05, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1),
    ),
    "momentum": (lambda: tr.SGD(0.05, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
    "nesterov": (
        lambda: tr.SGD(0.05, momentum=0.8, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True),
    ),
    "adam": (lambda: tr.Adam(), lambda p: torch.optim.Adam(p)),
    "adam betas": (
        lambda: tr.Adam(0.02, beta1=0.7, beta2=0.95, epsilon=1e-3),
        lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.7, 0.95), eps=1e-3),
    ),
    "adamw": (
        lambda: tr.Adam(0.02, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), UPDATES.values(), ids=UPDATES.keys())
def test_updates_step_by_step(
    ours: Callable[[], Any], theirs: Callable[[Any], torch.optim.Optimizer]
) -> None:
    source = np.random.default_rng(2)
    parameters = {"W": source.standard_normal((4, 3)), "b": source.standard_normal(4), "s": np.array(0.5)}
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in parameters.items()}
    update, optimiser = ours(), theirs(list(tensors.values()))
    for step in range(20):
        gradients = {
            name: np.asarray(source.standard_normal(array.shape)) for name, array in parameters.items()
        }
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradients[name])
        if step % 4 == 3:
            tensors["b"].grad = None
            del gradients["b"]
        update.step(parameters, gradients)
        optimiser.step()
        for name, tensor in tensors.items():
            wanted = tensor.detach().numpy()
            assert np.abs(parameters[name] - wanted).max() <= 1e-12 * np.abs(wanted).max()


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_clipping(limit: float) -> None:
    arrays = {"a": RNG.standard_normal((3, 4)), "b": RNG.standard_normal(5)}
    tensors = [torch.zeros(array.shape, dtype=torch.float64, requires_grad=True) for array in arrays.values()]
    for tensor, array in zip(tensors, arrays.values(), strict=True):
        tensor.grad = torch.tensor(array)
    wanted = torch.nn.utils.clip_grad_norm_(tensors, limit)
    assert tr.clip_by_norm(arrays, limit) == pytest.approx(wanted.item(), rel=1e-14)
    for tensor, array in zip(tensors, arrays.values(), strict=True):
        assert tensor.grad is not None
        # PyTorch adds 1e-6 to the norm before it divides.
        np.testing.assert_allclose(array, tensor.grad.numpy(), rtol=2e-6)
    for tensor, array in zip(tensors, arrays.values(), strict=True):
        tensor.grad = torch.tensor(array)
    torch.nn.utils.clip_grad_value_(tensors, 0.05)
    tr.clip_by_value(arrays, 0.05)
    for tensor, array in zip(tensors, arrays.values(), strict=True):
        assert tensor.grad is not None
        np.testing.assert_array_equal(array, tensor.grad.numpy())
