"""Two kernels on the same inputs, one from left to right and one from right to left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gategen.errors import ArgumentError
from gategen.runtime.kernel import Gradients, Kernel, Run
from gategen.runtime.memory import Arrays, FloatArray

DIRECTIONS = ("forward", "backward")
"""What the two are called, in every dict."""


class PairRun(NamedTuple):
    """One forward pass of both.

    Attributes:
        outputs: By name, (T, B, 2 width) or (T, 2 width): the forward direction's units first.
        final: The last states of each direction; those of ``backward`` are before the first step.
        runs: The pass of each direction.
    """

    outputs: Arrays
    final: dict[str, Arrays]
    runs: dict[str, Run]


class PairGradients(NamedTuple):
    """What `Pair.backward` gives.

    Attributes:
        inputs: By name, the sums over both directions.
        params: By direction and name.
        initial: By direction and name.
    """

    inputs: Arrays
    params: dict[str, Arrays]
    initial: dict[str, Arrays]


class Pair:
    """A cell in both directions, with parameters of its own in each; made by `gategen.pair`.

    Attributes:
        kernels: The kernel of each direction.
    """

    def __init__(self, forth: Kernel, back: Kernel) -> None:
        self.kernels = dict(zip(DIRECTIONS, (forth, back), strict=True))

    def __repr__(self) -> str:
        return f"Pair({self.kernels['forward'].name}, {self.kernels['forward'].dtype})"

    def init(self, widths: Mapping[str, int], seed: int = 0) -> dict[str, Arrays]:
        """First values of all parameters, by direction; see `Kernel.init`."""
        return {
            name: k.init(widths, 2 * seed + place) for place, (name, k) in enumerate(self.kernels.items())
        }

    def forward(
        self,
        inputs: Mapping[str, FloatArray] | FloatArray,
        params: Mapping[str, Mapping[str, FloatArray]],
        initial: Mapping[str, Mapping[str, FloatArray]] | None = None,
        lengths: ArrayLike | None = None,
        train: bool = False,
    ) -> PairRun:
        """Run the cell in both directions; see `Kernel.forward`.

        Args:
            inputs: By name, (T, B, width), or (T, width) for one sequence.
            params: For each direction by name.
            initial: What each direction starts from, by name; the declared values by default.
            lengths: Integers (B,): ``backward`` begins with the last step of each sequence.
            train: Whether `backward` will follow.

        Raises:
            ArgumentError: An argument is wrong; nothing has run.
        """
        _check("params", params)
        starts = {} if initial is None else _check("initial", initial)
        runs = {
            name: k.forward(inputs, params[name], starts.get(name), lengths, train)
            for name, k in self.kernels.items()
        }
        forth, back = (run.outputs for run in runs.values())
        outputs = {name: np.concatenate([forth[name], back[name]], axis=-1) for name in forth}
        return PairRun(outputs, {name: run.final for name, run in runs.items()}, runs)

    def backward(
        self,
        run: PairRun,
        d_outputs: Mapping[str, FloatArray] | FloatArray | None,
        final: Mapping[str, Mapping[str, FloatArray]] | None = None,
    ) -> PairGradients:
        """Run both adjoints; see `Kernel.backward`.

        Args:
            run: From `forward` with ``train=True``.
            d_outputs: The loss's gradient for outputs, of their shapes; a sole one may come without its name.
            final: The loss's gradient for ``run.final``.

        Raises:
            ArgumentError: An argument is wrong.
            GategenError: The run has no tape, or it was consumed.
        """
        ends = {} if final is None else _check("final", final)
        halves = self._halves(run, d_outputs)
        found: dict[str, Gradients] = {
            name: k.backward(run.runs[name], halves[name], ends.get(name)) for name, k in self.kernels.items()
        }
        forth, back = (slopes.inputs for slopes in found.values())
        return PairGradients(
            {name: forth[name] + back[name] for name in forth},
            {name: slopes.params for name, slopes in found.items()},
            {name: slopes.initial for name, slopes in found.items()},
        )

    def _halves(self, run: PairRun, given: Any) -> dict[str, Any]:
        if given is None:
            return dict.fromkeys(DIRECTIONS)
        named = given if isinstance(given, Mapping) else dict.fromkeys(list(run.outputs)[:1], given)
        halves: dict[str, Any] = {name: {} for name in DIRECTIONS}
        for name, array in named.items():
            expected = run.outputs[name].shape if name in run.outputs else None
            if expected is None or getattr(array, "shape", None) != expected:
                wanted = f"one of {', '.join(run.outputs)}" if expected is None else f"shape {expected}"
                raise ArgumentError(f"d_outputs[{name!r}]", "does not fit", wanted)
            parts = np.split(array, 2, axis=-1)
            halves |= {
                side: {**halves[side], name: part} for side, part in zip(DIRECTIONS, parts, strict=True)
            }
        return halves


def _check(argument: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping) or set(given) != set(DIRECTIONS):
        known = ", ".join(map(str, given)) if isinstance(given, Mapping) else f"a {type(given).__name__}"
        raise ArgumentError(argument, f"has {known or 'nothing'}", f"a dict with {' and '.join(DIRECTIONS)}")
    return given
