"""Long sequences in little memory: states are kept every some steps, and what lies between is computed again.

Outputs, states and gradients of inputs and first states have the bits that a whole tape gives; parameter
gradients are sums over the segments. So are those of an input of which a step reads more than one past value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

from gategen.runtime.arguments import Call, Sizes
from gategen.runtime.engines import Engine, Forward, Slopes, Wanted
from gategen.runtime.history import History
from gategen.runtime.manifest import ArraySpec, InputSpec, Manifest, evaluate
from gategen.runtime.memory import Arrays, allocate


@dataclass(frozen=True)
class Segment:
    """Some steps in a row, and what they started from.

    Attributes:
        first: The first step in time.
        call: The arguments of these steps.
    """

    first: int
    call: Call

    @property
    def steps(self) -> slice:
        """The steps in time."""
        return slice(self.first, self.first + self.call.steps)


class Checkpoints:
    """An `Engine` around another one whose tape is the states between segments of 2 sqrt(T) steps.

    A segment's own tape lives while the way back is in it: at most 2 sqrt(T) steps are kept at a time.

    Args:
        manifest: Names and shapes.
        engine: Runs the segments.
    """

    def __init__(self, manifest: Manifest, engine: Engine) -> None:
        self._manifest = manifest
        self._engine = engine
        self._dtype = np.dtype(manifest.dtype)

    def forward(self, call: Call, keep: bool) -> tuple[Arrays, Arrays, list[Segment]]:
        """See `Engine`."""
        outputs = {s.name: self._plane("outputs", s, call) for s in self._manifest.outputs}
        initial, tape = call.initial, []
        final: Arrays = {}
        for first, sizes in self._cuts(call):
            segment = Segment(first, self._part(call, first, sizes, initial))
            made, final, _ = self._engine.forward(segment.call, False)
            for name, array in made.items():
                outputs[name][segment.steps] = array
            initial = {**call.initial, **final}
            tape.append(segment)
        return outputs, final, tape

    def backward(
        self, call: Call, tape: list[Segment], d_outputs: Arrays, d_final: Arrays, wanted: Wanted
    ) -> Slopes:
        """See `Engine`."""
        specs = {spec.name: spec for spec in self._manifest.inputs}
        history = {spec.name: spec for spec in self._manifest.history}
        # The past of an input in one segment is its last step in another.
        inputs = wanted.inputs | (wanted.initial & history.keys())
        carried = frozenset(spec.name for spec in self._manifest.carried)
        d_inputs = {name: self._plane("d_inputs", specs[name], call) for name in specs if name in inputs}
        d_params: Arrays = {}
        d_initial: Arrays = {}
        arriving = d_final
        for segment in reversed(tape):
            part, steps = segment.call, segment.steps
            _, _, inner = self._engine.forward(part, True)
            d_out = {name: array[steps] for name, array in d_outputs.items()}
            slopes = self._engine.backward(
                part, inner, d_out, arriving, Wanted(inputs, wanted.params, carried)
            )
            for name, array in slopes.inputs.items():
                d_inputs[name][steps] += array
            for name, array in slopes.params.items():
                if name in d_params:
                    d_params[name] += array
                else:
                    d_params[name] = array
            arriving = {name: array for name, array in slopes.initial.items() if name not in history}
            for name, slope in slopes.initial.items():
                if name in history:
                    start = d_initial.setdefault(name, np.zeros_like(slope))
                    before = self._before(call, history[name], segment.first, part.steps)
                    before.hand_back(slope, d_inputs.get(name), start)
        d_initial.update(arriving)
        return Slopes(
            {name: d_inputs[name] for name in specs if name in wanted.inputs},
            d_params,
            {name: array for name, array in d_initial.items() if name in wanted.initial},
        )

    def copy(self, tape: list[Segment]) -> list[Segment]:
        """See `Engine`; the way back consumes nothing."""
        return tape

    def packed(self, params: Arrays) -> Forward:
        """See `Engine`."""
        return self._engine.packed(params)

    def stepper(self, call: Call, outputs: Arrays) -> Any:
        """See `Engine`."""
        return self._engine.stepper(call, outputs)

    def _cuts(self, call: Call) -> Iterator[tuple[int, Sizes]]:
        """First step and sizes of every segment, in the order in which they run."""
        length = min(call.steps, 2 * isqrt(call.steps - 1) + 2)
        whole = Sizes({**call.sizes.numbers, "T": length}, call.sizes.origins)
        firsts = range(0, call.steps, length)
        for first in reversed(firsts) if self._manifest.reverse else firsts:
            steps = min(length, call.steps - first)
            yield first, whole if steps == length else Sizes({**whole.numbers, "T": steps}, whole.origins)

    def _part(self, call: Call, first: int, sizes: Sizes, initial: Arrays) -> Call:
        """The arguments of some steps; ``initial`` are the states before them."""
        steps = sizes.numbers["T"]
        inputs = {name: array[first : first + steps] for name, array in call.inputs.items()}
        lengths = None if call.lengths is None else np.clip(call.lengths - first, 0, steps)
        initial = dict(initial)
        for spec in self._manifest.history:
            start = call.start(spec, self._dtype)
            initial[spec.name] = self._before(call, spec, first, steps).read(call.inputs[spec.name], start)
        return Call(sizes, inputs, call.params, initial, lengths, True)

    def _before(self, call: Call, spec: InputSpec, first: int, steps: int) -> History:
        """The steps before some steps, in the order in which they run, of which these read an input."""
        reverse = self._manifest.reverse
        made = np.maximum(call.ends - (first + steps), 0) if reverse else np.minimum(call.ends, first)
        return History.of(call, spec, made, reverse)

    def _plane(self, part: str, spec: ArraySpec, call: Call) -> Any:
        shape = evaluate(spec.plane(), call.sizes.numbers)
        return allocate(f"{part}[{spec.name!r}]", shape, self._dtype, zero=True)
