"""Arrays in, arrays out: a compiled cell, its runs and their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gategen.errors import ArgumentError, GategenError, nearest
from gategen.language.shapes import Shape
from gategen.runtime.arguments import Arrays, Call, FloatArray, allocate, contiguous, read_call, read_named
from gategen.runtime.engines import Engine, Slopes, Wanted
from gategen.runtime.manifest import ArraySpec, Manifest, evaluate
from gategen.runtime.parameters import first_parameters

_Shaped = tuple[ArraySpec, Shape]


class Run:
    """One forward pass.

    Attributes:
        outputs: By name, (T, B, width); (T, width) if the inputs had no batch axis.
        final: What another run takes as ``initial`` to continue: every state, and every input whose past
            the cell reads, after the last step of each sequence; (B, width), or (width,).
    """

    def __init__(
        self, owner: Kernel, call: Call, outputs: Arrays, final: Arrays, tape: list[Any], keep: bool
    ):
        self.outputs = outputs
        self.final = final
        self._owner = owner
        self._call = call
        self._keep = keep
        self._trained = bool(tape)
        # A list, because its pop is atomic: of two threads only one consumes the run.
        self._tape = tape

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.outputs.items())
        return f"Run({shapes})"


class Gradients:
    """What `Kernel.backward` gives; ``wrt`` limits the names.

    Attributes:
        inputs: By name, of the inputs' shapes.
        params: By name, of the parameters' shapes; frozen ones have none.
        initial: By name, of the shapes of ``initial``: states, and inputs whose past the cell reads.
    """

    def __init__(self, inputs: Arrays, params: Arrays, initial: Arrays) -> None:
        self.inputs = inputs
        self.params = params
        self.initial = initial

    def __repr__(self) -> str:
        parts = (self.inputs, self.params, self.initial)
        return "Gradients(inputs: {}; params: {}; initial: {})".format(*(" ".join(part) for part in parts))


class Kernel:
    """A compiled cell: one for all sizes, which come from the arrays. Made by `gategen.compile`.

    Nothing in a kernel ever changes: runs may be open side by side and in several threads.

    Attributes:
        name: The cell's name.
        dtype: Of every array but ``lengths``; nothing else is accepted.
        backend: The rendering that runs.
        manifest: Names, shapes and widths.
        warnings: What compiling said about the cell.
    """

    def __init__(self, manifest: Manifest, engine: Engine) -> None:
        self.name = manifest.cell
        self.dtype: np.dtype[Any] = np.dtype(manifest.dtype)
        self.backend = manifest.backend
        self.manifest = manifest
        self.warnings = manifest.warnings
        self._engine = engine

    def __repr__(self) -> str:
        return f"Kernel({self.name}, {self.dtype}, {self.backend})"

    def init(
        self, widths: Mapping[str, int], seed: int = 0, values: Mapping[str, ArrayLike] | None = None
    ) -> Arrays:
        """First values of all parameters.

        Declared values, else Glorot uniform for matrices, ones for what is multiplied, zeros for the rest.
        Every parameter draws from a stream of its own, so that it stays the same when others come or go.

        Args:
            widths: For every width one number, under its own name or that of any vector that has it.
            seed: The same seed gives the same values, rounded to the kernel's dtype.
            values: Values to use instead, cast to the kernel's dtype; frozen parameters need one.

        Returns:
            The parameters by name, in the author's order, of their own shapes.

        Raises:
            ArgumentError: A width is missing or contradicts another, a name is unknown, a shape is wrong.
        """
        return first_parameters(self.manifest, widths, seed, values)

    def forward(
        self,
        inputs: Mapping[str, FloatArray] | FloatArray,
        params: Mapping[str, FloatArray],
        initial: Mapping[str, FloatArray] | None = None,
        lengths: ArrayLike | None = None,
        train: bool = False,
        keep: bool = False,
    ) -> Run:
        """Run the cell over all steps.

        Args:
            inputs: By name, (T, B, width), a scalar being of width 1; all of them (T, width) for one
                sequence. A sole input may come without its name.
            params: By name, of the shapes that `init` gives.
            initial: By name, (B, width), or (width,) for one sequence; the declared values by default.
            lengths: Integers (B,) from 0 to T: steps past the end do not count, outputs are zero there.
            train: Whether `backward` will follow; it needs a tape, and inputs and parameters unchanged.
            keep: Whether `backward` may follow more than once.

        Returns:
            Outputs and last states.

        Raises:
            ArgumentError: An argument is wrong; nothing has run.
        """
        if keep and not train:
            raise ArgumentError("keep", "is True, but train=False keeps no tape", "train=True, keep=True")
        call = read_call(self.manifest, inputs, params, initial, lengths)
        tape = None
        if call.steps and call.batch:
            outputs, final, tape = self._engine.forward(call, train)
        else:
            outputs = {s.name: self._zeros("outputs", s, s.plane(), call) for s in self.manifest.outputs}
            final = {s.name: call.initial[s.name].copy() for s in self.manifest.states}
        for spec in self.manifest.history:
            final[spec.name] = self._last_input(call, spec.name)
        if not call.batched:
            outputs = {name: array[:, 0] for name, array in outputs.items()}
            final = {name: array[0] for name, array in final.items()}
        return Run(self, call, outputs, final, [tape] if train else [], keep)

    def backward(
        self,
        run: Run,
        d_outputs: Mapping[str, FloatArray] | FloatArray | None,
        final: Mapping[str, FloatArray] | None = None,
        wrt: Iterable[str] | None = None,
    ) -> Gradients:
        """Run the adjoint over all steps. This consumes the run, unless it was made with ``keep=True``.

        Args:
            run: From `forward` with ``train=True``.
            d_outputs: The loss's gradient for outputs, of their shapes; what is not there is zero. A sole
                output may come without its name.
            final: The loss's gradient for ``run.final``, of its shapes; what is not there is zero.
            wrt: Names of inputs, parameters and states whose gradients are wanted; all by default.

        Returns:
            Gradients of the shapes of what they belong to. What the loss does not depend on has zeros.

        Raises:
            ArgumentError: An argument is wrong; nothing has run, and the run is as it was.
            GategenError: The run has no tape, or it was consumed.
        """
        if not isinstance(run, Run) or run._owner is not self:
            raise ArgumentError("run", f"is no run of {self!r}", "what its forward returned")
        call = run._call
        wanted = self._wanted(wrt)
        d_out = self._read_slopes("d_outputs", d_outputs, self.manifest.outputs, call)
        d_last = self._read_slopes("final", final, self.manifest.carried, call)
        tape = self._take_tape(run)
        if call.steps and call.batch:
            if run._keep:
                tape = self._engine.copy(tape)
            slopes = self._engine.backward(call, tape, d_out, d_last, wanted)
        else:
            passed = {name: d_last[name].copy() for name in wanted.initial & d_last.keys()}
            slopes = Slopes({}, {}, passed)
        slopes = self._complete(call, slopes, wanted)
        if call.steps and call.batch:
            self._add_history(call, slopes, d_last)
        if not call.batched:
            slopes.inputs.update({name: array[:, 0] for name, array in slopes.inputs.items()})
            slopes.initial.update({name: array[0] for name, array in slopes.initial.items()})
        return Gradients(slopes.inputs, slopes.params, slopes.initial)

    def _take_tape(self, run: Run) -> Any:
        if not run._trained:
            raise GategenError(
                "the run has no tape: it was made with train=False; call forward(..., train=True)"
            )
        try:
            return run._tape[0] if run._keep else run._tape.pop()
        except IndexError:
            raise GategenError(
                "the run was consumed by an earlier backward; call forward(..., train=True, keep=True) to "
                "use it more than once"
            ) from None

    def _wanted(self, wrt: Iterable[str] | None) -> Wanted:
        inputs = {spec.name for spec in self.manifest.inputs}
        learned = {spec.name for spec in self.manifest.learned}
        carried = {spec.name for spec in self.manifest.carried}
        names = inputs | learned | carried
        if wrt is not None:
            chosen = {wrt} if isinstance(wrt, str) else set(wrt)
            for name in sorted(chosen - names, key=str):
                frozen = any(spec.name == name for spec in self.manifest.parameters)
                problem = f"{name!r} is frozen and has no gradient" if frozen else f"unknown name {name!r}"
                known = f"some of {', '.join(self._in_order(names))}"
                raise ArgumentError("wrt", problem, known, "" if frozen else nearest(str(name), names))
            names = chosen
        return Wanted(frozenset(names & inputs), frozenset(names & learned), frozenset(names & carried))

    def _in_order(self, names: set[str]) -> list[str]:
        every = (*self.manifest.inputs, *self.manifest.states, *self.manifest.parameters)
        return [spec.name for spec in every if spec.name in names]

    def _read_slopes(self, argument: str, given: object, specs: tuple[ArraySpec, ...], call: Call) -> Arrays:
        """Gradients that come in: named, checked against the run, contiguous, with a batch axis."""
        slopes = read_named(argument, given, specs, self.dtype, bare=argument == "d_outputs")
        for spec in specs:
            if spec.name in slopes:
                array, name = slopes[spec.name], f"{argument}[{spec.name!r}]"
                outputs = argument == "d_outputs"
                shape = spec.plane(call.batched) if outputs else spec.carried(call.batched)
                call.sizes.check(name, shape, array.shape)
                if not call.batched:
                    array = array[:, None] if outputs else array[None]
                slopes[spec.name] = contiguous(name, array)
        return slopes

    def _complete(self, call: Call, found: Slopes, wanted: Wanted) -> Slopes:
        """The gradients wanted in the author's order, zeros for what the code left out."""

        def fill(part: str, names: frozenset[str], arrays: Arrays, all_shapes: Iterable[_Shaped]) -> Arrays:
            return {
                spec.name: arrays[spec.name] if spec.name in arrays else self._zeros(part, spec, shape, call)
                for spec, shape in all_shapes
                if spec.name in names
            }

        inputs, learned, carried = self.manifest.inputs, self.manifest.learned, self.manifest.carried
        return Slopes(
            fill("d_inputs", wanted.inputs, found.inputs, ((spec, spec.plane()) for spec in inputs)),
            fill("d_params", wanted.params, found.params, ((spec, spec.shape) for spec in learned)),
            fill("d_initial", wanted.initial, found.initial, ((spec, spec.carried()) for spec in carried)),
        )

    def _zeros(self, part: str, spec: ArraySpec, shape: Shape, call: Call) -> NDArray[Any]:
        numbers = evaluate(shape, call.sizes.numbers)
        return allocate(f"{part}[{spec.name!r}]", numbers, self.dtype, zero=True)

    def _last_step(self, call: Call) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For every sequence the place (B,) of its last step in time, and whether it has one (B,)."""
        lengths = np.full(call.batch, call.steps) if call.lengths is None else call.lengths
        last = np.zeros_like(lengths) if self.manifest.reverse else np.maximum(lengths - 1, 0)
        return last, lengths > 0

    def _last_input(self, call: Call, name: str) -> FloatArray:
        """The input (B, width) at the last step of each sequence; the initial one if there was no step."""
        last, alive = self._last_step(call)
        found = call.initial[name].copy()
        found[alive] = call.inputs[name][last[alive], np.flatnonzero(alive)]
        return found

    def _add_history(self, call: Call, slopes: Slopes, d_final: Arrays) -> None:
        """Hand the gradient of ``final[input]`` to where `_last_input` read it."""
        last, alive = self._last_step(call)
        for spec in self.manifest.history:
            name = spec.name
            if name not in d_final:
                continue
            if name in slopes.inputs:
                slopes.inputs[name][last[alive], np.flatnonzero(alive)] += d_final[name][alive]
            if name in slopes.initial:
                slopes.initial[name][~alive] += d_final[name][~alive]
