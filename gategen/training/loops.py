"""Training steps and sampling through compiled kernels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from gategen.errors import ArgumentError, GategenWarning
from gategen.training.arguments import FloatArray, any_array, finite_number, lookup
from gategen.training.losses import softmax_cross_entropy, weight_penalty
from gategen.training.updates import Update, clip_by_norm
from gategen.training.windows import Vocabulary, Window, one_hot

Loss = Callable[[FloatArray], tuple[float, FloatArray]]
"""From an output to the loss and its gradient with respect to that output."""


class Kernel(Protocol):
    """What training needs of a compiled cell."""

    def forward(
        self, inputs: Any, params: Any, *, initial: Any = ..., lengths: Any = ..., train: bool = ...
    ) -> Any:
        """Run the cell over all steps."""

    def backward(self, run: Any, d_outputs: Any) -> Any:
        """Run the adjoint over all steps."""


@dataclass(frozen=True)
class Step:
    """What one training step did.

    Attributes:
        loss: Before the update, without the penalty.
        norm: Of all gradients together, before clipping.
        final: The states after the last step, ``initial`` of the next window.
        d_inputs: The gradient for each input, for what stands before the cell, such as an embedding.
    """

    loss: float
    norm: float
    final: Mapping[str, FloatArray]
    d_inputs: Mapping[str, FloatArray]


def train_step(
    kernel: Kernel,
    inputs: Mapping[str, FloatArray],
    parameters: Mapping[str, FloatArray],
    loss: Loss,
    update: Update,
    *,
    output: str = "y",
    initial: Mapping[str, FloatArray] | None = None,
    lengths: ArrayLike | None = None,
    clip: float = math.inf,
    penalty: float = 0.0,
) -> Step:
    """Forward, loss, backward, clip, update.

    If the gradient is not finite the parameters stay as they are and a warning says so.

    Args:
        kernel: A compiled cell.
        inputs: By name, ``(T, B, width)``.
        parameters: By name; changed in place.
        loss: From the output, ``(T, B, width)``, to the loss and its gradient.
        update: The rule that changes the parameters.
        output: The name of the output that the loss reads.
        initial: The states before the first step; the cell's own when not given.
        lengths: ``(B,)``, for padded sequences.
        clip: The largest norm of all gradients together.
        penalty: The rate of the weight penalty on matrices.

    Returns:
        What happened.
    """
    run = kernel.forward(inputs, parameters, initial=initial, lengths=lengths, train=True)
    value, slope = loss(lookup("outputs", run.outputs, output))
    gradients = kernel.backward(run, {output: slope})
    wanted = dict(gradients.params)
    if penalty:
        matrices = [name for name in wanted if np.ndim(wanted[name]) == 2]
        _, extra = weight_penalty(parameters, penalty, matrices)
        wanted.update({name: wanted[name] + extra[name] for name in matrices})
    # The largest float is a limit that no finite norm exceeds: the norm is measured, nothing is clipped.
    norm = clip_by_norm(wanted, min(clip, np.finfo(np.float64).max))
    if math.isfinite(norm):
        update.step(parameters, wanted)
    else:
        warnings.warn(f"the gradient's norm is {norm}: no update", GategenWarning, stacklevel=2)
    return Step(value, norm, run.final, gradients.inputs)


def train_windows(
    kernel: Kernel,
    parameters: Mapping[str, FloatArray],
    windows: Iterable[Window],
    size: int,
    update: Update,
    *,
    source: str = "x",
    output: str = "y",
    clip: float = math.inf,
    penalty: float = 0.0,
) -> Iterator[Step]:
    """Truncated backpropagation through time over one pass of the windows, the state carried.

    One update per window. The cell reads one-hot vectors of the inputs and gives logits of the targets.

    Args:
        kernel: A compiled cell.
        parameters: By name; changed in place.
        windows: From ``windows``; the first begins with the cell's own initial state.
        size: The size of the vocabulary.
        update: The rule that changes the parameters.
        source: The name of the input.
        output: The name of the output that holds the logits.
        clip: The largest norm of all gradients together.
        penalty: The rate of the weight penalty on matrices.

    Yields:
        What each step did.
    """
    dtype = _dtype(parameters)
    state: Mapping[str, FloatArray] | None = None
    for inputs, targets in windows:
        step = train_step(
            kernel,
            {source: one_hot(inputs, size, dtype)},
            parameters,
            _cross_entropy(targets),
            update,
            output=output,
            initial=state,
            clip=clip,
            penalty=penalty,
        )
        state = step.final
        yield step


def evaluate_windows(
    kernel: Kernel,
    parameters: Mapping[str, FloatArray],
    windows: Iterable[Window],
    size: int,
    *,
    source: str = "x",
    output: str = "y",
) -> float:
    """Mean cross-entropy per target in nats over the windows, the state carried; nothing is changed.

    Divided by ``log(2)`` it is bits per character, its exponential is the perplexity.
    """
    dtype = _dtype(parameters)
    state: Mapping[str, FloatArray] | None = None
    total, count = 0.0, 0
    for inputs, targets in windows:
        run = kernel.forward({source: one_hot(inputs, size, dtype)}, parameters, initial=state)
        value, _ = softmax_cross_entropy(lookup("outputs", run.outputs, output), targets)
        state = run.final
        total, count = total + value * targets.size, count + targets.size
    if count == 0:
        raise ArgumentError("windows", "is empty", "at least one window")
    return total / count


def draw(logits: ArrayLike, rng: np.random.Generator, temperature: float = 1.0) -> int:
    """Draw a class from ``softmax(logits / temperature)``.

    Args:
        logits: ``(classes,)``; minus infinity excludes a class.
        rng: The source of randomness.
        temperature: 0 takes the largest logit.

    Returns:
        The class.
    """
    finite_number("temperature", temperature, 0.0, "a finite number of at least 0")
    values = any_array("logits", logits)
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iuf":
        raise ArgumentError(
            "logits", f"has shape {values.shape} and dtype {values.dtype}", "(classes,) numbers"
        )
    largest = float(values.max())
    if not math.isfinite(largest):
        raise ArgumentError("logits", f"has the maximum {largest}", "a finite maximum")
    if temperature == 0:
        return int(values.argmax())
    with np.errstate(over="ignore"):
        weights = np.exp((values.astype(np.float64) - largest) / temperature)
    return int(rng.choice(values.size, p=weights / weights.sum()))


def sample(
    kernel: Kernel,
    parameters: Mapping[str, FloatArray],
    vocabulary: Vocabulary,
    prompt: str,
    length: int,
    rng: np.random.Generator,
    *,
    temperature: float = 1.0,
    source: str = "x",
    output: str = "y",
) -> str:
    """Continue a text: read the prompt, then draw ``length`` characters, each the input of the next step.

    Args:
        kernel: A compiled cell that reads one-hot characters and gives logits.
        parameters: By name.
        vocabulary: Of the text the model was trained on.
        prompt: At least one character.
        length: How many characters to draw.
        rng: The source of randomness.
        temperature: Below 1 more cautious, above 1 more varied.
        source: The name of the input.
        output: The name of the output that holds the logits.

    Returns:
        The drawn characters, without the prompt.
    """
    if not prompt:
        raise ArgumentError("prompt", "is empty", "at least one character")
    dtype = _dtype(parameters)
    ids = vocabulary.encode(prompt)
    state: Mapping[str, FloatArray] | None = None
    drawn: list[int] = []
    for _ in range(length):
        run = kernel.forward(
            {source: one_hot(ids[:, None], len(vocabulary), dtype)}, parameters, initial=state
        )
        state = run.final
        drawn.append(draw(lookup("outputs", run.outputs, output)[-1, 0], rng, temperature))
        ids = np.array(drawn[-1:], dtype=np.int64)
    return vocabulary.decode(drawn)


def _cross_entropy(targets: ArrayLike) -> Loss:
    return lambda logits: softmax_cross_entropy(logits, targets)


def _dtype(parameters: Mapping[str, FloatArray]) -> np.dtype[Any]:
    for parameter in parameters.values():
        return np.asarray(parameter).dtype
    return np.dtype(np.float32)
