"""What inputs were in the steps before a step: inside the sequence, or before it began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gategen.runtime.arguments import Call
from gategen.runtime.manifest import InputSpec
from gategen.runtime.memory import FloatArray


@dataclass(frozen=True)
class History:
    """The steps before a place in each sequence, as many as a step of the cell reads back, oldest first.

    Attributes:
        inside: Whether each of them is a step of the sequence, (k, B).
        steps: Its place in time, where it is one.
        places: Its place in what the sequence starts from, where it is none.
    """

    inside: NDArray[np.bool_]
    steps: NDArray[np.int64]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, call: Call, spec: InputSpec, made: NDArray[np.int64], reverse: bool) -> History:
        """The steps before the next one of sequences that have made some already.

        Args:
            call: The arguments of the whole run.
            spec: The input.
            made: How many steps of each sequence are done, (B,), at most its length.
            reverse: Whether the cell runs from right to left.
        """
        order = made + np.arange(-spec.steps, 0)[:, None]
        steps = call.ends - 1 - order if reverse else order
        return cls(order >= 0, steps, order + spec.steps)

    @property
    def _sequences(self) -> NDArray[np.int64]:
        return np.broadcast_to(np.arange(self.inside.shape[1]), self.inside.shape)

    def read(self, plane: FloatArray, start: FloatArray) -> FloatArray:
        """The values, of the shape of what the sequence starts from.

        Args:
            plane: The input, (T, B, width).
            start: What the sequence starts from, (B, width) or (k, B, width).
        """
        found: FloatArray = start.reshape(*self.inside.shape, start.shape[-1]).copy()
        before, inside = ~self.inside, self.inside
        found[before] = found[self.places[before], self._sequences[before]]
        found[inside] = plane[self.steps[inside], self._sequences[inside]]
        return found.reshape(start.shape)

    def hand_back(self, slope: FloatArray, plane: FloatArray | None, start: FloatArray | None) -> None:
        """Add the gradient of what `read` gave to those of what it read; None for what is not wanted."""
        slopes: NDArray[Any] = slope.reshape(*self.inside.shape, slope.shape[-1])
        before, inside = ~self.inside, self.inside
        if plane is not None:
            plane[self.steps[inside], self._sequences[inside]] += slopes[inside]
        if start is not None:
            rows = start.reshape(slopes.shape)
            rows[self.places[before], self._sequences[before]] += slopes[before]
