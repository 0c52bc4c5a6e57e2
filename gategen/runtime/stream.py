"""One step at a time: a cell that keeps its states between calls, for data that arrives as it is used."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from gategen.errors import ArgumentError, GategenError
from gategen.language.shapes import Shape
from gategen.runtime.arguments import Call, Sizes, has_shapes, read_named, settle
from gategen.runtime.engines import Engine
from gategen.runtime.manifest import ArraySpec, Manifest, evaluate
from gategen.runtime.memory import Arrays, FloatArray, allocate


class Stream:
    """A cell that runs one step per call and keeps its states; made by `Kernel.stream`.

    Arrays are (width,) if the batch is 1, else (batch, width). Every step gives the bits that
    `Kernel.forward` gives over the whole sequence. One thread at a time may use a stream; there may be many.

    Args:
        manifest: Names and shapes.
        engine: The code.
        params: By name, of the shapes that `Kernel.init` gives; copied.
        batch: The number of sequences.
        initial: By name, what the first step starts from; the declared values by default.
    """

    def __init__(
        self,
        manifest: Manifest,
        engine: Engine,
        params: Mapping[str, FloatArray],
        batch: int = 1,
        initial: Mapping[str, FloatArray] | None = None,
    ) -> None:
        _check_direction(manifest)
        if isinstance(batch, bool) or not isinstance(batch, int | np.integer) or batch < 1:
            raise ArgumentError("batch", f"is {batch!r}", "a positive integer")
        self._manifest = manifest
        self._dtype: np.dtype[Any] = np.dtype(manifest.dtype)
        self._batched = batch > 1
        given = read_named("params", params, manifest.parameters, self._dtype, required=attrgetter("shape"))
        start = self._read_initial(initial)
        self._sizes = Sizes({"T": 1, "B": int(batch)}, {"T": "a step", "B": "batch"})
        shapes = [(f"params[{s.name!r}]", s.shape, given[s.name]) for s in manifest.parameters]
        shapes += [
            (f"initial[{s.name!r}]", s.carried(self._batched), start[s.name])
            for s in manifest.carried
            if s.name in start
        ]
        settle(manifest, self._sizes, shapes)
        self._call = Call(
            self._sizes,
            self._buffers({spec.name: spec.plane() for spec in manifest.inputs}),
            {name: np.array(array, order="C") for name, array in given.items()},
            self._buffers({spec.name: spec.carried() for spec in manifest.carried}),
            None,
            True,
        )
        planes = self._buffers({spec.name: spec.plane() for spec in manifest.outputs})
        self._step = engine.stepper(self._call, planes)
        self._inputs = self._views({name: array[0] for name, array in self._call.inputs.items()})
        self._outputs = self._views({name: array[0] for name, array in planes.items()})
        self._states = self._views(self._call.initial)
        self._history = [(self._states[s.name], self._inputs[s.name]) for s in manifest.history]
        self._input = next(iter(self._inputs.values())) if len(self._inputs) == 1 else None
        self._shape = None if self._input is None else self._input.shape
        self._output = next(iter(self._outputs.values())) if len(self._outputs) == 1 else None
        self._clock = next((spec.name for spec in manifest.once if spec.once == "clock"), "")
        self._number = 0
        self._set(start)

    def __repr__(self) -> str:
        return f"Stream({self._manifest.cell}, batch {self._sizes.numbers['B']})"

    def __call__(
        self,
        inputs: Mapping[str, FloatArray] | FloatArray | None = None,
        out: Arrays | FloatArray | None = None,
    ) -> Any:
        """Run one step.

        Args:
            inputs: By name, (width,) each, or (batch, width); a sole input may come without its name. There
                is no axis of time: `Kernel.forward` runs many steps, from `state` as its ``initial``.
            out: Where the output is written to, of its shape; for several outputs arrays by name.

        Returns:
            The output (width,) or (batch, width) if the cell has one, else all of them by name; new arrays,
            or ``out``.

        Raises:
            ArgumentError: An argument is wrong; no step has run.
        """
        if self._clock:
            inputs = self._counted(inputs)
        # One plain array for a sole input is the common case, and a step may take a microsecond.
        if type(inputs) is np.ndarray and inputs.dtype is self._dtype and inputs.shape == self._shape:
            self._input[...] = inputs  # type: ignore[index]
        else:
            self._read_inputs(inputs)
        if out is not None:
            self._check_out(out)
        self._step()
        self._number += 1
        for past, present in self._history:
            if past.ndim > present.ndim:
                past[:-1] = past[1:]
                past = past[-1]
            past[...] = present
        if out is not None:
            return self._write(out)
        if self._output is not None:
            return self._output.copy()
        return {name: array.copy() for name, array in self._outputs.items()}

    @property
    def state(self) -> Arrays:
        """What the next step starts from, by name: states, and inputs whose past the cell reads; copies."""
        return {name: array.copy() for name, array in self._states.items()}

    def reset(self, initial: Mapping[str, FloatArray] | None = None) -> None:
        """Start again, from the declared values or from those given by name, with step 0.

        Raises:
            ArgumentError: An array is wrong; nothing has changed.
        """
        start = self._read_initial(initial)
        for spec in self._manifest.carried:
            if spec.name in start:
                shape = spec.carried(self._batched)
                self._sizes.check(f"initial[{spec.name!r}]", shape, start[spec.name].shape)
        self._number = 0
        self._set(start)

    def _row(self, spec: ArraySpec) -> Shape:
        return spec.row(self._batched)

    def _buffers(self, shapes: Mapping[str, Shape]) -> Arrays:
        numbers = self._sizes.numbers
        return {
            name: allocate(f"stream[{name!r}]", evaluate(shape, numbers), self._dtype, zero=True)
            for name, shape in shapes.items()
        }

    def _views(self, rows: Arrays) -> Arrays:
        """Rows (B, width) as the caller sees them."""
        return rows if self._batched else {name: array[..., 0, :] for name, array in rows.items()}

    def _read_initial(self, initial: object) -> Arrays:
        """What the caller gives to start from; one sequence may have its batch axis, as forward gives it."""
        found = read_named("initial", initial, self._manifest.carried, self._dtype)
        for spec in self._manifest.carried:
            array = found.get(spec.name)
            own = len(spec.carried(False))
            if array is not None and not self._batched and array.ndim > own and array.shape[-2] == 1:
                found[spec.name] = array[..., 0, :]
        return found

    def _counted(self, inputs: Any) -> Any:
        """The inputs with the number of the step."""
        regular = [spec.name for spec in self._manifest.inputs if spec.name != self._clock]
        if isinstance(inputs, np.ndarray) and len(regular) == 1:
            inputs = {regular[0]: inputs}
        if not isinstance(inputs, Mapping) or self._clock in inputs:
            return inputs
        number = np.full(self._inputs[self._clock].shape, self._number, self._dtype)
        return {**inputs, self._clock: number}

    def _set(self, start: Arrays) -> None:
        for spec in self._manifest.carried:
            value: Any = start[spec.name] if spec.name in start else getattr(spec, "initial", 0.0)
            self._states[spec.name][...] = value

    def _read_inputs(self, inputs: object) -> None:
        specs = self._manifest.inputs
        shapes = {name: array.shape for name, array in self._inputs.items()}
        if not has_shapes(inputs, shapes, self._dtype) or len(inputs) != len(shapes):  # type: ignore[arg-type]
            inputs = read_named("inputs", inputs, specs, self._dtype, required=self._row, bare=True)
            for spec in specs:
                self._sizes.check(f"inputs[{spec.name!r}]", self._row(spec), inputs[spec.name].shape)
        for name, buffer in self._inputs.items():
            buffer[...] = inputs[name]  # type: ignore[index]

    def _check_out(self, out: Any) -> None:
        ours = self._output
        if (
            type(out) is np.ndarray
            and ours is not None
            and out.dtype is self._dtype
            and out.shape == ours.shape
        ):
            if not out.flags.writeable:
                raise ArgumentError("out", "is read-only", "an array to write to")
            return
        bare = self._output is not None and not isinstance(out, Mapping)
        specs = self._manifest.outputs
        for name, array in read_named("out", out, specs, self._dtype, bare=bare).items():
            argument = "out" if bare else f"out[{name!r}]"
            spec = next(spec for spec in specs if spec.name == name)
            self._sizes.check(argument, self._row(spec), array.shape)
            if not array.flags.writeable:
                raise ArgumentError(argument, "is read-only", "an array to write to")

    def _write(self, out: Arrays | FloatArray) -> Arrays | FloatArray:
        if isinstance(out, np.ndarray):
            out[...] = self._output
        else:
            for name, array in out.items():
                array[...] = self._outputs[name]
        return out


def _check_direction(manifest: Manifest) -> None:
    """Raise if a step needs what comes later."""
    if manifest.reverse:
        problem = "it runs from right to left, so its first step is the last of the sequence"
    elif manifest.ahead:
        problem = f"a step reads {manifest.ahead[0]}, which comes later"
    else:
        return
    raise GategenError(f"{manifest.cell} cannot run step by step: {problem}; use forward")
