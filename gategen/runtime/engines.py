"""What a kernel needs of a cell's code, and compiled code, called. No engine holds what a call changes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np

from gategen.errors import GategenError
from gategen.language.shapes import Shape
from gategen.runtime import team
from gategen.runtime.arguments import Call, Sizes
from gategen.runtime.manifest import Manifest, evaluate
from gategen.runtime.memory import Arrays, Block, Pool, allocate_all, too_large

Step = Callable[[], None]
"""One step of a stream."""

Forward = Callable[[Call], tuple[Arrays, Arrays]]
"""A forward pass without tape: outputs and final states."""


class Slopes(NamedTuple):
    """Gradients by name, those that came in or those that went out."""

    inputs: Arrays
    params: Arrays
    initial: Arrays


class Wanted(NamedTuple):
    """The names whose gradients are asked for; ``initial`` names states and inputs whose past is read."""

    inputs: frozenset[str]
    params: frozenset[str]
    initial: frozenset[str]


class Engine(Protocol):
    """What a kernel needs of its code. T and B are at least 1."""

    def forward(self, call: Call, keep: bool) -> tuple[Arrays, Arrays, Any]:
        """Outputs (T, B, width), final states of the shapes of first ones, and the tape if ``keep``."""

    def backward(self, call: Call, tape: Any, d_outputs: Arrays, d_final: Arrays, wanted: Wanted) -> Slopes:
        """The gradients that are wanted, in the order of the manifest; what is left out is zero.

        This consumes the tape.
        """

    def copy(self, tape: Any) -> Any:
        """A tape that may be consumed while the original stays."""

    def packed(self, params: Arrays) -> Forward:
        """A forward pass that keeps what it makes of these parameters, which stay as they are.

        The calls that it gets have the same parameters. Any number of threads may call it.
        """

    def stepper(self, call: Call, outputs: Arrays) -> Step:
        """A function that runs one step, T = 1, on arrays that stay the same: those of the call and outputs.

        It reads the inputs, writes the outputs, and moves the states, all of which are in ``initial``. The
        caller keeps the arrays, the parameters too. Making it runs a step, so states are set afterwards.
        """


class _Plan:
    """What follows from the sizes of a call for a C engine.

    Attributes:
        dims: The struct of sizes.
        widths: The numbers of all widths, in the order of the manifest.
        outputs, final, inputs, params, initial: Shapes by name; of params those with a gradient.
        work: Bytes of a workspace, once somebody asked.
        tape: Bytes of a tape, once somebody asked.
    """

    def __init__(self, manifest: Manifest, numbers: Mapping[str, int], dims: Any) -> None:
        def shapes(named: Iterable[tuple[str, Shape]]) -> dict[str, tuple[int, ...]]:
            return {name: evaluate(shape, numbers) for name, shape in named}

        self.dims = dims
        self.widths = [numbers[name] for name in manifest.widths]
        self.outputs = shapes((s.name, s.plane()) for s in manifest.outputs)
        self.final = shapes((s.name, s.carried()) for s in manifest.states)
        self.inputs = shapes((s.name, s.plane()) for s in manifest.inputs)
        self.params = shapes((s.name, s.shape) for s in manifest.learned)
        self.initial = shapes((s.name, s.carried()) for s in manifest.carried)
        self.work: int | None = None
        self.tape: int | None = None


class _Tape:
    """Memory of one run, and the structs of its arguments, which the way back takes again."""

    __slots__ = ("arguments", "block", "size")

    def __init__(self, block: Block, size: int, arguments: tuple[_Struct, _Struct]) -> None:
        self.block = block
        self.size = size
        self.arguments = arguments


_Struct = tuple[Any, list[Any]]
"""A C struct, and what must stay alive as long as it."""


class CEngine:
    """A compiled module.

    Args:
        manifest: Names and shapes.
        module: From `gategen.runtime.build.load`.
        threads: How many the fast rendering may use.
    """

    def __init__(self, manifest: Manifest, module: ModuleType, threads: int = 1) -> None:
        self._manifest = manifest
        self._dtype = np.dtype(manifest.dtype)
        self._threads = threads
        ffi, lib = module.ffi, module.lib
        kind = f"f{8 * self._dtype.itemsize}"
        # The functions' names tell the prefix: a cell's name need not be an identifier.
        ending = f"_forward_{kind}"
        prefix = next(name for name in dir(lib) if name.endswith(ending)).removesuffix(ending)
        self._ffi = ffi
        self._forward = getattr(lib, f"{prefix}_forward_{kind}")
        self._backward = getattr(lib, f"{prefix}_backward_{kind}")
        self._fast = manifest.backend == "c"
        self._tape_size = getattr(lib, f"{prefix}_tape_size_{kind}")
        self._work_size = getattr(lib, f"{prefix}_work_size_{kind}")
        reals = "float[]" if kind == "f32" else "double[]"
        self._reals = ffi.typeof(reals)
        self._integers = ffi.typeof("int64_t[]")
        self._dims = ffi.typeof(f"{prefix}_dims *")
        self._params = _Members(
            ffi.typeof(f"{prefix}_params_{kind} *"), [(s.member, 0, s.name) for s in manifest.parameters]
        )
        self._inputs = _Members(
            ffi.typeof(f"{prefix}_inputs_{kind} *"),
            [(s.member, 0, s.name) for s in manifest.inputs]
            + [(s.start, 1, s.name) for s in manifest.carried],
        )
        self._outputs = _Members(
            ffi.typeof(f"{prefix}_outputs_{kind} *"),
            [(s.member, 0, s.name) for s in manifest.outputs]
            + [(s.final, 1, s.name) for s in manifest.states],
        )
        self._work = Pool(ffi, "char[]", "the workspace")
        self._tapes = Pool(ffi, reals, "the tape")

    def forward(self, call: Call, keep: bool) -> tuple[Arrays, Arrays, Any]:
        """See `Engine`."""
        plan = self._plan(call.sizes)
        params, inputs = self._struct(self._params, call.params), self._given(call)
        tape, memory = None, self._ffi.NULL
        if keep:
            size = self._tape_bytes(call.sizes, plan)
            tape = _Tape(self._tapes.take(size), size, (params, inputs))
            memory = tape.block.pointer
        work = self._work.take(self._work_bytes(call.sizes, plan))
        outputs, final = self._results(plan, params, inputs, memory, work)
        self._work.give(work)
        return outputs, final, tape

    def packed(self, params: Arrays) -> Forward:
        """See `Engine`. Packed weights stand where a workspace begins, whatever T and B are."""
        struct = self._struct(self._params, params)
        nothing: _Struct = self._ffi.NULL, []
        kept: list[tuple[list[int], Block]] = []

        def room(plan: _Plan, size: int) -> tuple[_Struct, Block]:
            """The parameters that are to be packed, none if they are, and a workspace."""
            # Popping is atomic: a thread that comes meanwhile packs for itself.
            with suppress(IndexError):
                widths, work = kept.pop()
                if self._fast and widths == plan.widths and work.size >= size:
                    return nothing, work
            return struct, self._work.new(size)

        def forward(call: Call) -> tuple[Arrays, Arrays]:
            plan = self._plan(call.sizes)
            weights, work = room(plan, self._work_bytes(call.sizes, plan))
            results = self._results(plan, weights, self._given(call), self._ffi.NULL, work)
            kept[:] = [(plan.widths, work)]
            return results

        return forward

    def _results(
        self, plan: _Plan, params: _Struct, inputs: _Struct, tape: Any, work: Block
    ) -> tuple[Arrays, Arrays]:
        """Run the forward pass into new arrays."""
        outputs = allocate_all("outputs", plan.outputs, plan.outputs, self._dtype)
        final = allocate_all("final", plan.final, plan.final, self._dtype)
        results = self._struct(self._outputs, outputs, final)
        self._run(self._forward, plan.dims, params[0], inputs[0], results[0], tape, work.pointer)
        return outputs, final

    def backward(self, call: Call, tape: _Tape, d_outputs: Arrays, d_final: Arrays, wanted: Wanted) -> Slopes:
        """See `Engine`. The code writes every array that it gets."""
        plan = self._plan(call.sizes)
        d_inputs = allocate_all("d_inputs", plan.inputs, wanted.inputs, self._dtype)
        d_params = allocate_all("d_params", plan.params, wanted.params, self._dtype)
        d_initial = allocate_all("d_initial", plan.initial, wanted.initial, self._dtype)
        (params, _), (inputs, _) = tape.arguments
        slopes = self._struct(self._outputs, d_outputs, d_final)
        to_params, to_inputs = (
            self._struct(self._params, d_params),
            self._struct(self._inputs, d_inputs, d_initial),
        )
        work = self._work.take(self._work_bytes(call.sizes, plan))
        given = (plan.dims, params, inputs, slopes[0], tape.block.pointer, to_params[0], to_inputs[0])
        self._run(self._backward, *given, work.pointer)
        self._work.give(work)
        self._tapes.give(tape.block)
        return Slopes(d_inputs, d_params, d_initial)

    def copy(self, tape: _Tape) -> _Tape:
        """See `Engine`."""
        twin = self._tapes.take(tape.size)
        twin.array[: tape.size] = tape.block.array[: tape.size]
        return _Tape(twin, tape.size, tape.arguments)

    def stepper(self, call: Call, outputs: Arrays) -> Step:
        """See `Engine`. C copies first states before it writes last ones, so they may be the same."""
        plan, null = self._plan(call.sizes), self._ffi.NULL
        params, inputs = self._struct(self._params, call.params), self._given(call)
        results = self._struct(self._outputs, outputs, call.initial)
        work = self._work.new(self._work_bytes(call.sizes, plan))
        rest = (inputs[0], results[0], null, work.pointer)
        self._run(self._forward, plan.dims, params[0], *rest)
        if not self._fast:
            return partial(self._run, self._forward, plan.dims, params[0], *rest)
        # Weights stay where they were packed.
        if self._threads > 1 and call.batch > 1:
            return partial(self._run, self._forward, plan.dims, null, *rest)
        function, given = self._forward, (plan.dims, null, *rest, null)

        def step() -> None:
            if code := function(*given):
                self._refused(code)

        return step

    def _plan(self, sizes: Sizes) -> _Plan:
        plan: _Plan | None = sizes.kept.get("c")
        if plan is None:
            plan = sizes.kept["c"] = _Plan(self._manifest, sizes.numbers, self._sizes(sizes.numbers))
        return plan

    def _sizes(self, numbers: Mapping[str, int]) -> Any:
        # By place: T, B and the widths in order, whose names may be no identifiers in C.
        return self._ffi.new(self._dims, [numbers[name] for name in ("T", "B", *self._manifest.widths)])

    def _work_bytes(self, sizes: Sizes, plan: _Plan) -> int:
        plan.work = plan.work or self._measure(self._work_size, sizes.numbers, 1, "the workspace")
        return plan.work

    def _tape_bytes(self, sizes: Sizes, plan: _Plan) -> int:
        size = self._dtype.itemsize
        plan.tape = plan.tape or size * self._measure(self._tape_size, sizes.numbers, size, "the tape")
        return plan.tape

    def _measure(self, function: Any, numbers: Mapping[str, int], itemsize: int, purpose: str) -> int:
        """A size from the module, unless it would overflow there: it grows at most as T times B does."""
        least = int(function(self._sizes({**numbers, "T": 1, "B": 1})))
        bound = least * numbers["T"] * numbers["B"] * itemsize
        if bound > sys.maxsize:
            raise too_large(purpose, bound)
        return int(function(self._sizes(numbers)))

    def _given(self, call: Call) -> _Struct:
        struct, alive = self._struct(self._inputs, call.inputs, call.initial)
        if call.lengths is not None:
            alive.append(self._ffi.from_buffer(self._integers, call.lengths))
            setattr(struct, self._manifest.lengths, alive[-1])
        return struct, alive

    def _struct(self, members: _Members, *groups: Arrays) -> _Struct:
        """A struct of pointers; what has no array is NULL."""
        pointer, reals, null = self._ffi.from_buffer, self._reals, self._ffi.NULL
        if len(groups) == 1 and len(groups[0]) == len(members.places):
            arrays = groups[0]
            pointers = [pointer(reals, arrays[name]) for _, name in members.places]
            return self._ffi.new(members.kind, pointers), pointers
        pointers = [
            null if (array := groups[group].get(name)) is None else pointer(reals, array)
            for group, name in members.places
        ]
        return self._ffi.new(members.kind, pointers), pointers

    def _run(self, function: Any, *arguments: Any) -> None:
        if not self._fast:
            code = function(*arguments)
        else:
            address = team.take(self._threads)
            try:
                code = function(*arguments, self._ffi.NULL if address is None else address)
            finally:
                team.give_back(address)
        if code:
            self._refused(code)

    def _refused(self, code: int) -> NoReturn:
        raise GategenError(f"the kernel of {self._manifest.cell} refused its arguments with code {code}")


class _Members:
    """A struct's type, and for each of its members the group and name of the array it points to.

    No array has the name of members that point to something else, such as the lengths.
    """

    def __init__(self, kind: Any, arrays: Iterable[tuple[str, int, str]]) -> None:
        self.kind = kind
        known = {member: (group, name) for member, group, name in arrays}
        pointers = [member for member, field in kind.item.fields if field.type.kind == "pointer"]
        self.places = [known.get(member, (0, "")) for member in pointers]
