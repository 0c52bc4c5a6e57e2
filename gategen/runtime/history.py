"""What inputs were in the steps before a step: inside the sequence, or before it began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gategen.runtime.arguments import Call
from gategen.runtime.manifest import InputSpec
from gategen.runtime.memory import FloatArray

_Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Steps and sequences."""


@dataclass(frozen=True)
class History:
    """The steps before a place in each sequence, as many as a step of the cell reads back, oldest first.

    Attributes:
        order: Which step of the sequence each of them is, (k, B); negative before the first one.
        steps: Its place in time, if it is one.
    """

    order: NDArray[np.int64]
    steps: NDArray[np.int64]

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
        return cls(order, call.ends - 1 - order if reverse else order)

    def read(self, plane: FloatArray, start: FloatArray) -> FloatArray:
        """The values, of the shape of what the sequence starts from.

        Args:
            plane: The input, (T, B, width).
            start: What the sequence starts from, (B, width) or (k, B, width).
        """
        found: FloatArray
        if self.order.min(initial=0) >= 0:
            found = plane[self.steps, np.arange(self.order.shape[1])]
        else:
            (before, old), (inside, new) = self._before, self._inside
            found = start.reshape(*self.order.shape, start.shape[-1]).copy()
            found[before] = found[old]
            found[inside] = plane[new]
        return found.reshape(start.shape)

    def hand_back(self, slope: FloatArray, plane: FloatArray | None, start: FloatArray | None) -> None:
        """Add the gradient of what `read` gave to those of what it read; None for what is not wanted."""
        slopes: NDArray[Any] = slope.reshape(*self.order.shape, slope.shape[-1])
        (before, old), (inside, new) = self._before, self._inside
        if plane is not None:
            plane[new] += slopes[inside]
        if start is not None:
            start.reshape(slopes.shape)[old] += slopes[before]

    @property
    def _before(self) -> tuple[_Places, _Places]:
        """What was before the first step, and where it stands in what the sequence starts from."""
        rows, sequences = np.nonzero(self.order < 0)
        return (rows, sequences), (self.order[rows, sequences] + len(self.order), sequences)

    @property
    def _inside(self) -> tuple[_Places, _Places]:
        """What is a step of its sequence, and where it stands in the input."""
        rows, sequences = np.nonzero(self.order >= 0)
        return (rows, sequences), (self.steps[rows, sequences], sequences)
