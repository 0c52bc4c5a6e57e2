"""Inputs that a caller gives once, or not at all, as inputs over all steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gategen.runtime.manifest import Manifest
from gategen.runtime.memory import FloatArray


def complete(manifest: Manifest, inputs: object) -> tuple[object, frozenset[str]]:
    """Repeat what a sequence has once, and count the steps where nobody does.

    Args:
        manifest: Names and shapes.
        inputs: As `Kernel.forward` takes them. What is given over all steps already stays as it is.

    Returns:
        The inputs over all steps, and the names of those repeated, whose gradients are to be summed.
        Whatever is wrong with the arrays stays wrong.
    """
    if not manifest.once:
        return inputs, frozenset()
    regular = [spec for spec in manifest.inputs if not spec.once]
    if isinstance(inputs, np.ndarray) and len(regular) == 1:
        inputs = {regular[0].name: inputs}
    if not isinstance(inputs, Mapping):
        return inputs, frozenset()
    arrays = [inputs[spec.name] for spec in regular if isinstance(inputs.get(spec.name), np.ndarray)]
    if not arrays or arrays[0].ndim not in (2, 3):
        return inputs, frozenset()
    made, repeated, leading = dict(inputs), set(), arrays[0].shape[:-1]
    for spec in manifest.once:
        given = made.get(spec.name)
        if spec.once == "clock" and given is None:
            made[spec.name] = clock(leading, manifest.dtype)
        elif spec.once == "sequence" and isinstance(given, np.ndarray) and given.ndim == len(leading):
            made[spec.name] = np.broadcast_to(given, (leading[0], *given.shape))
            repeated.add(spec.name)
    return made, frozenset(repeated)


def clock(leading: tuple[int, ...], dtype: str) -> FloatArray:
    """The number of the step from 0, (T, B, 1) or (T, 1)."""
    steps = np.arange(leading[0], dtype=dtype).reshape(-1, *[1] * len(leading))
    return np.broadcast_to(steps, (*leading, 1))
