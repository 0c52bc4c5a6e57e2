"""One loop over time for every oracle; an oracle itself is the few lines of its step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor

Named = dict[str, Tensor]
Step = Callable[..., Named]


@dataclass(frozen=True)
class Oracle:
    """A step function together with the shapes of what it reads and writes.

    A shape is a string of axes, each a width letter, 1, or a sum of letters: ``"n n+d"``.

    Attributes:
        step: ``step(p, **inputs_at_t, **states)`` gives the new states and outputs by name.
        shapes: Parameter names, separated by spaces, by their shape.
        inputs: Input names to width letter.
        states: State names to width letter, to two for a matrix: ``step`` gets the row of its elements, row
            after row, and gives such a row.
        outputs: Names of the outputs; the last of the states unless said otherwise.
        others: Names of no array whose width is nevertheless free, to width letter.
        backwards: True for a cell that runs from right to left.
        history: Inputs read back, to how many steps, as extra states ``x_before`` that hold the input just
            left, or (k, B, width) of them, the oldest first.
        frozen: Parameters without a gradient.
        positive: Names of anything that divides: drawn away from zero.
        whole: Names of what counts something: drawn from 1, 2 and 3.
        delays: States read more than one step back, to how many: ``step`` gets them as (k, B, width), the
            oldest first, and gives the newest.
    """

    step: Step
    shapes: dict[str, str]
    inputs: dict[str, str]
    states: dict[str, str]
    outputs: tuple[str, ...]
    others: dict[str, str]
    backwards: bool = False
    history: dict[str, int] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    delays: dict[str, int] = field(default_factory=dict)

    def parameter_shapes(self, sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, from the size of every letter."""
        return {
            name: tuple(sum(sizes[letter] for letter in axis.split("+")) for axis in shape.split())
            for shape, names in self.shapes.items()
            for name in names.split()
        }

    def widths(self, sizes: dict[str, int]) -> dict[str, int]:
        """What ``Kernel.init`` is to be given: the width of every vector."""
        named = {**self.inputs, **self.states, **self.others}
        return {name: sizes[letter] for name, letter in named.items() if letter in sizes}

    def units(self, sizes: dict[str, int]) -> dict[str, int]:
        """How many numbers a row of every input and state has."""
        named = {**self.inputs, **self.states}
        return {name: math.prod(sizes[axis] for axis in axes.split()) for name, axes in named.items()}

    def __call__(
        self, params: Named, inputs: Named, initial: Named, lengths: Tensor | None = None
    ) -> tuple[Named, Named]:
        """Run over ``(T, B, width)`` inputs.

        Past a sequence's own length outputs are zero and states hold, so that a cell from right to left
        starts at the sequence's own end, and one of length 0 returns its initial states.
        """
        p = SimpleNamespace(**params)
        steps, batch = next(iter(inputs.values())).shape[:2]
        if lengths is None:
            lengths = torch.full((batch,), steps)
        states = dict(initial)
        windows = dict(self.delays)
        for name, count in self.history.items():
            before = torch.zeros_like(inputs[name][0])
            states[f"{name}_before"] = before if count == 1 else torch.stack([before] * count)
            windows |= {f"{name}_before": count} if count > 1 else {}
        rows: dict[str, list[Tensor]] = {name: [] for name in self.outputs}
        for t in reversed(range(steps)) if self.backwards else range(steps):
            live = (t < lengths)[:, None]
            now = {name: array[t] for name, array in inputs.items()}
            new = self.step(p, **now, **states)
            new |= {f"{name}_before": now[name] for name in self.history}
            outs = {name: new[name] for name in self.outputs}
            new |= {name: torch.cat([states[name][1:], new[name][None]]) for name in windows}
            states = {name: torch.where(live, new[name], old) for name, old in states.items()}
            for name in self.outputs:
                rows[name].append(torch.where(live, outs[name], torch.zeros_like(outs[name])))
        outputs = {name: torch.stack(row[::-1] if self.backwards else row) for name, row in rows.items()}
        return outputs, {name: states[name] for name in self.states}


def oracle(
    step: Step,
    shapes: dict[str, str],
    *,
    states: dict[str, str] | None = None,
    outputs: tuple[str, ...] = (),
    others: dict[str, str] | None = None,
    backwards: bool = False,
    history: dict[str, int] | None = None,
    frozen: tuple[str, ...] = (),
    positive: tuple[str, ...] = (),
    whole: tuple[str, ...] = (),
    delays: dict[str, int] | None = None,
    input_width: str = "d",
    more_inputs: dict[str, str] | None = None,
) -> Oracle:
    """An oracle with the usual defaults: input ``x`` of width d, state ``h`` of width n, output the last."""
    states = states or {"h": "n"}
    return Oracle(
        step=step,
        shapes=shapes,
        inputs={"x": input_width, **(more_inputs or {})},
        states=states,
        outputs=outputs or (list(states)[-1],),
        others=others or {},
        backwards=backwards,
        history=history or {},
        frozen=frozen,
        positive=positive,
        whole=whole,
        delays=delays or {},
    )
