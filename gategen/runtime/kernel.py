"""Arrays in, arrays out: a compiled cell, its runs and their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gategen.errors import ArgumentError, GategenError, nearest
from gategen.language.shapes import Shape
from gategen.runtime.arguments import Call, Reader, has_shapes, lay_out, read_named
from gategen.runtime.checkpoints import Checkpoints
from gategen.runtime.completion import complete
from gategen.runtime.engines import Engine, Slopes, Wanted
from gategen.runtime.history import History
from gategen.runtime.manifest import ArraySpec, CarriedSpec, InputSpec, Manifest, evaluate
from gategen.runtime.memory import Arrays, FloatArray, allocate
from gategen.runtime.packed import Packed
from gategen.runtime.parameters import first_parameters
from gategen.runtime.stream import Stream

_Shaped = tuple[ArraySpec, Shape]


class Run:
    """One forward pass.

    Attributes:
        outputs: By name, (T, B, width); (T, width) if the inputs had no batch axis.
        final: What another run takes as ``initial`` to continue: every state, and every input whose past
            the cell reads, after the last step of each sequence; (B, width), or (width,). What is read k > 1
            steps back is there for the last k steps, oldest first: (k, B, width), or (k, width).
    """

    def __init__(
        self,
        owner: Kernel,
        engine: Engine,
        call: Call,
        outputs: Arrays,
        final: Arrays,
        tape: list[Any],
        keep: bool,
        repeated: frozenset[str],
    ):
        self.outputs = outputs
        self.final = final
        self._owner = owner
        self._engine = engine
        self._call = call
        self._keep = keep
        self._repeated = repeated
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

    Runs may be open side by side and in several threads. A kernel keeps the memory that calls are done with
    for the next ones: at most two workspaces and two tapes.

    Attributes:
        name: The cell's name.
        dtype: Of every array but ``lengths``; nothing else is accepted.
        backend: The rendering that runs.
        manifest: Names, shapes and widths.
        warnings: What compiling said about the cell.
        threads: How many a call may use; results have the same bits for any number.
    """

    def __init__(self, manifest: Manifest, engine: Engine, threads: int = 1) -> None:
        self.name = manifest.cell
        self.dtype: np.dtype[Any] = np.dtype(manifest.dtype)
        self.backend = manifest.backend
        self.manifest = manifest
        self.warnings = manifest.warnings
        self.threads = threads
        self._engine = engine
        self._reader = Reader(manifest)
        self._everything = Wanted(
            frozenset(spec.name for spec in manifest.inputs),
            frozenset(spec.name for spec in manifest.learned),
            frozenset(spec.name for spec in manifest.carried),
        )

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

    def pack(self, params: Mapping[str, FloatArray]) -> Packed:
        """Parameters for many forward passes: ``p = k.pack(p)``, then ``k.forward(x, p)`` for every x.

        The first pass packs the weights for the processor, the others find them packed. The parameters are
        copied now: later changes do not count. Whatever takes parameters takes what this returns as well.

        Args:
            params: By name, of the shapes that `init` gives.

        Raises:
            ArgumentError: A name is missing or unknown, or a shape or dtype is wrong.
        """
        return Packed(self.manifest, self._engine, params)

    def forward(
        self,
        inputs: Mapping[str, FloatArray] | FloatArray,
        params: Mapping[str, FloatArray],
        initial: Mapping[str, FloatArray] | None = None,
        lengths: ArrayLike | None = None,
        train: bool = False,
        keep: bool = False,
        tape: Literal["full", "sqrt"] = "full",
    ) -> Run:
        """Run the cell over all steps.

        Args:
            inputs: By name, (T, B, width), a scalar being of width 1; all of them (T, width) for one
                sequence. A sole input may come without its name. What the cell declares as ``sequence`` is
                (B, width), or (width,); the number of the step, ``t``, counts from 0 where it is not given.
            params: By name, of the shapes that `init` gives; or what `pack` made of them.
            initial: By name, (B, width), or (width,) for one sequence; (k, B, width), or (k, width), oldest
                first, for what the cell reads k > 1 steps back. The declared values by default.
            lengths: Integers (B,) from 0 to T: steps past the end do not count, outputs are zero there.
            train: Whether `backward` will follow; it needs a tape, and inputs and parameters unchanged.
            keep: Whether `backward` may follow more than once.
            tape: ``sqrt`` keeps the states between segments of 2 sqrt(T) steps and computes the rest again in
                `backward`: little memory for a third more time. The results have the same bits, gradients of
                parameters up to rounding.

        Returns:
            Outputs and last states.

        Raises:
            ArgumentError: An argument is wrong; nothing has run.
        """
        if keep and not train:
            raise ArgumentError("keep", "is True, but train=False keeps no tape", "train=True, keep=True")
        engine = self._engine if tape == "full" else self._checkpoints(tape, train)
        packed = params if isinstance(params, Packed) else None
        planes, repeated = complete(self.manifest, inputs)
        call = self._reader.read(planes, params if packed is None else packed.arrays, initial, lengths)
        held = None
        if packed is not None and packed.engine is engine and not train and not call.empty:
            outputs, final = packed.forward(call)
        elif not call.empty:
            outputs, final, held = engine.forward(call, train)
        else:
            outputs = {s.name: self._zeros("outputs", s, s.plane(), call) for s in self.manifest.outputs}
            final = {s.name: call.start(s, self.dtype).copy() for s in self.manifest.states}
        for spec in self.manifest.history:
            start = call.start(spec, self.dtype)
            final[spec.name] = self._last_inputs(call, spec).read(call.inputs[spec.name], start)
        if not call.batched:
            outputs = {name: array[:, 0] for name, array in outputs.items()}
            final = {name: array[..., 0, :] for name, array in final.items()}
        return Run(self, engine, call, outputs, final, [held] if train else [], keep, repeated)

    def _checkpoints(self, tape: str, train: bool) -> Engine:
        """What runs the cell in segments."""
        if tape != "sqrt":
            raise ArgumentError(
                "tape", f"is {tape!r}", "'full' or 'sqrt'", nearest(str(tape), ("full", "sqrt"))
            )
        if not train:
            raise ArgumentError("tape", "is 'sqrt', but train=False keeps no tape", "train=True, tape='sqrt'")
        if self.manifest.ahead:
            problem = f"is 'sqrt', but a segment cannot see {self.manifest.ahead[0]} in the next one"
            raise ArgumentError("tape", problem, "'full'")
        return Checkpoints(self.manifest, self._engine)

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
        if not call.empty:
            if run._keep:
                tape = run._engine.copy(tape)
            slopes = run._engine.backward(call, tape, d_out, d_last, wanted)
        else:
            passed = {name: d_last[name].copy() for name in wanted.initial & d_last.keys()}
            slopes = Slopes({}, {}, passed)
        slopes = self._complete(call, slopes, wanted)
        if self.manifest.history and not call.empty:
            self._add_history(call, slopes, d_last)
        if not call.batched:
            slopes.inputs.update({name: array[:, 0] for name, array in slopes.inputs.items()})
            slopes.initial.update({name: array[..., 0, :] for name, array in slopes.initial.items()})
        for name in run._repeated & slopes.inputs.keys():
            slopes.inputs[name] = slopes.inputs[name].sum(0)
        return Gradients(slopes.inputs, slopes.params, slopes.initial)

    def stream(
        self,
        params: Mapping[str, FloatArray],
        batch: int = 1,
        initial: Mapping[str, FloatArray] | None = None,
    ) -> Stream:
        """The cell one step at a time: ``s = k.stream(p)``, then ``y = s(x)`` for every x, (width,).

        Args:
            params: By name, of the shapes that `init` gives. They are packed now: later changes do not count.
            batch: The number of sequences; for more than one, arrays are (batch, width).
            initial: By name, what the first step starts from; the declared values by default.

        Raises:
            ArgumentError: An argument is wrong.
            GategenError: A step needs what comes later: the cell runs from right to left or reads x[t+1].
        """
        return Stream(self.manifest, self._engine, params, batch, initial)

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
        every = self._everything
        if wrt is None:
            return every
        names = every.inputs | every.params | every.initial
        chosen = {wrt} if isinstance(wrt, str) else set(wrt)
        for name in sorted(chosen - names, key=str):
            frozen = any(spec.name == name for spec in self.manifest.parameters)
            problem = f"{name!r} is frozen and has no gradient" if frozen else f"unknown name {name!r}"
            known = f"some of {', '.join(self._in_order(names))}"
            raise ArgumentError("wrt", problem, known, "" if frozen else nearest(str(name), names))
        return Wanted(every.inputs & chosen, every.params & chosen, every.initial & chosen)

    def _in_order(self, names: frozenset[str]) -> list[str]:
        every = (*self.manifest.inputs, *self.manifest.states, *self.manifest.parameters)
        return [spec.name for spec in every if spec.name in names]

    def _read_slopes(self, argument: str, given: Any, specs: Sequence[ArraySpec], call: Call) -> Arrays:
        """Gradients that come in: named, checked against the run, contiguous, with a batch axis."""
        if given is None:
            return {}
        bare = argument == "d_outputs"
        if bare and type(given) is np.ndarray and len(specs) == 1:
            given = {specs[0].name: given}
        shapes = call.sizes.kept.get(argument)
        if shapes is None or not has_shapes(given, shapes, self.dtype):
            given = read_named(argument, given, specs, self.dtype, bare=bare)
            wanted = {
                s.name: s.carried(call.batched) if isinstance(s, CarriedSpec) else s.plane(call.batched)
                for s in specs
            }
            for name, array in given.items():
                call.sizes.check(f"{argument}[{name!r}]", wanted[name], array.shape)
            numbers = call.sizes.numbers
            call.sizes.kept[argument] = {name: evaluate(shape, numbers) for name, shape in wanted.items()}
        slopes: Arrays = {**given}
        if not call.batched:
            slopes = {name: np.expand_dims(array, -2) for name, array in slopes.items()}
        lay_out(argument, slopes)
        return slopes

    def _complete(self, call: Call, found: Slopes, wanted: Wanted) -> Slopes:
        """The gradients wanted in the author's order, zeros for what the code left out."""

        def fill(part: str, names: frozenset[str], arrays: Arrays, shaped: Iterable[_Shaped]) -> Arrays:
            if len(arrays) == len(names):
                return arrays
            return {
                spec.name: arrays[spec.name] if spec.name in arrays else self._zeros(part, spec, shape, call)
                for spec, shape in shaped
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

    def _last_inputs(self, call: Call, spec: InputSpec) -> History:
        """The last steps of each sequence, of which the next run reads an input."""
        return History.of(call, spec, call.ends, self.manifest.reverse)

    def _add_history(self, call: Call, slopes: Slopes, d_final: Arrays) -> None:
        """Hand the gradient of ``final[input]`` to where it was read."""
        for spec in self.manifest.history:
            name = spec.name
            if name in d_final:
                last = self._last_inputs(call, spec)
                last.hand_back(d_final[name], slopes.inputs.get(name), slopes.initial.get(name))
