"""The code of a cell, called: one class per kind of module. Engines hold nothing that a call changes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gategen.errors import ArgumentError, GategenError
from gategen.language.shapes import Shape
from gategen.runtime.arguments import Arrays, Call, allocate, contiguous, too_large
from gategen.runtime.manifest import ArraySpec, Manifest, evaluate

_ALIGNMENT = 64


@dataclass(frozen=True)
class Slopes:
    """Gradients by name, those that came in or those that went out."""

    inputs: Arrays
    params: Arrays
    initial: Arrays


@dataclass(frozen=True)
class Wanted:
    """The names whose gradients are asked for; ``initial`` names states and inputs whose past is read."""

    inputs: frozenset[str]
    params: frozenset[str]
    initial: frozenset[str]


class Engine(Protocol):
    """What a kernel needs of its code. T and B are at least 1."""

    def forward(self, call: Call, keep: bool) -> tuple[Arrays, Arrays, Any]:
        """Outputs (T, B, width), final states (B, width), and the tape if ``keep``."""

    def backward(self, call: Call, tape: Any, d_outputs: Arrays, d_final: Arrays, wanted: Wanted) -> Slopes:
        """The gradients that are wanted; names that the code leaves out are zero. Consumes the tape."""

    def copy(self, tape: Any) -> Any:
        """A tape that may be consumed while the original stays."""


class CEngine:
    """A compiled module.

    Args:
        manifest: Names and shapes.
        module: From `gategen.runtime.build.load`.
    """

    def __init__(self, manifest: Manifest, module: ModuleType) -> None:
        self._manifest = manifest
        self._dtype = np.dtype(manifest.dtype)
        ffi, lib = module.ffi, module.lib
        kind = f"f{8 * self._dtype.itemsize}"
        # The functions' names tell the prefix: a cell's name need not be an identifier.
        ending = f"_forward_{kind}"
        prefix = next(name for name in dir(lib) if name.endswith(ending)).removesuffix(ending)
        self._ffi = ffi
        self._forward = getattr(lib, f"{prefix}_forward_{kind}")
        self._backward = getattr(lib, f"{prefix}_backward_{kind}")
        self._tape_size = getattr(lib, f"{prefix}_tape_size_{kind}")
        self._work_size = getattr(lib, f"{prefix}_work_size_{kind}")
        self._reals = ffi.typeof("float[]" if kind == "f32" else "double[]")
        self._integers = ffi.typeof("int64_t[]")
        self._bytes = ffi.typeof("char[]")
        self._dims = ffi.typeof(f"{prefix}_dims *")
        # By place: T, B and the widths in order, whose names may be no identifiers in C.
        self._dims_members = [name for name, _ in self._dims.item.fields]
        self._params = ffi.typeof(f"{prefix}_params_{kind} *")
        self._inputs = ffi.typeof(f"{prefix}_inputs_{kind} *")
        self._outputs = ffi.typeof(f"{prefix}_outputs_{kind} *")

    def forward(self, call: Call, keep: bool) -> tuple[Arrays, Arrays, Any]:
        """See `Engine`."""
        numbers = call.sizes.numbers
        outputs = {s.name: self._new("outputs", s, s.plane(), numbers) for s in self._manifest.outputs}
        final = {s.name: self._new("final", s, s.carried(), numbers) for s in self._manifest.states}
        tape = None
        if keep:
            count = self._measure(self._tape_size, numbers, self._dtype.itemsize, "the tape")
            tape = allocate("the tape", (count,), self._dtype)
        with _Pointers(self) as to:
            self._run(
                self._forward,
                self._sizes(numbers),
                to.params(call.params),
                to.inputs(call.inputs, call.initial, call.lengths),
                to.outputs(outputs, final),
                self._ffi.NULL if tape is None else to.reals(tape),
                to.work(numbers),
            )
        return outputs, final, tape

    def backward(
        self, call: Call, tape: NDArray[Any], d_outputs: Arrays, d_final: Arrays, wanted: Wanted
    ) -> Slopes:
        """See `Engine`."""
        numbers, manifest = call.sizes.numbers, self._manifest
        d_inputs = {
            s.name: self._new("d_inputs", s, s.plane(), numbers, zero=True)
            for s in manifest.inputs
            if s.name in wanted.inputs
        }
        d_params = {
            s.name: self._new("d_params", s, s.shape, numbers, zero=True)
            for s in manifest.parameters
            if s.name in wanted.params
        }
        d_initial = {
            s.name: self._new("d_initial", s, s.carried(), numbers, zero=True)
            for s in manifest.carried
            if s.name in wanted.initial
        }
        with _Pointers(self) as to:
            self._run(
                self._backward,
                self._sizes(numbers),
                to.params(call.params),
                to.inputs(call.inputs, call.initial, call.lengths),
                to.outputs(d_outputs, d_final),
                to.reals(tape),
                to.params(d_params),
                to.inputs(d_inputs, d_initial, None),
                to.work(numbers),
            )
        return Slopes(d_inputs, d_params, d_initial)

    def copy(self, tape: NDArray[Any]) -> NDArray[Any]:
        """See `Engine`."""
        twin = allocate("a copy of the tape", tape.shape, tape.dtype)
        twin[...] = tape
        return twin

    def _new(
        self, part: str, spec: ArraySpec, shape: Shape, numbers: Mapping[str, int], *, zero: bool = False
    ) -> NDArray[Any]:
        return allocate(f"{part}[{spec.name!r}]", evaluate(shape, numbers), self._dtype, zero=zero)

    def _sizes(self, numbers: Mapping[str, int]) -> Any:
        dims = self._ffi.new(self._dims)
        for member, name in zip(self._dims_members, ("T", "B", *self._manifest.widths), strict=True):
            setattr(dims, member, numbers[name])
        return dims

    def _measure(self, function: Any, numbers: Mapping[str, int], itemsize: int, purpose: str) -> int:
        """A size from the module, unless it would overflow there: it grows at most as T times B does."""
        least = int(function(self._sizes({**numbers, "T": 1, "B": 1})))
        bound = least * numbers["T"] * numbers["B"] * itemsize
        if bound > sys.maxsize:
            raise too_large(purpose, bound)
        return int(function(self._sizes(numbers)))

    def _run(self, function: Any, *arguments: Any) -> None:
        code = function(*arguments)
        if code:
            raise GategenError(f"the kernel of {self._manifest.cell} refused its arguments with code {code}")


class _Pointers:
    """The structs of one call, and what must stay alive until it returns."""

    def __init__(self, engine: CEngine) -> None:
        self._engine = engine
        self._alive: list[Any] = []

    def __enter__(self) -> _Pointers:
        return self

    def __exit__(self, *_: object) -> None:
        self._alive.clear()

    def reals(self, array: NDArray[Any]) -> Any:
        """A pointer to the elements of a contiguous array."""
        return self._pointer(self._engine._reals, array)

    def params(self, arrays: Arrays) -> Any:
        """The struct of parameters; what has no array stays NULL."""
        struct = self._engine._ffi.new(self._engine._params)
        return self._fill(struct, ((s.member, s.name) for s in self._engine._manifest.parameters), arrays)

    def inputs(self, arrays: Arrays, initial: Arrays, lengths: NDArray[np.int64] | None) -> Any:
        """The struct of inputs, first states and lengths; what has no array stays NULL."""
        manifest = self._engine._manifest
        struct = self._engine._ffi.new(self._engine._inputs)
        self._fill(struct, ((s.member, s.name) for s in manifest.inputs), arrays)
        self._fill(struct, ((s.start, s.name) for s in manifest.carried), initial)
        if lengths is not None:
            setattr(struct, manifest.lengths, self._pointer(self._engine._integers, lengths))
        return struct

    def outputs(self, arrays: Arrays, final: Arrays) -> Any:
        """The struct of outputs and last states; what has no array stays NULL."""
        manifest = self._engine._manifest
        struct = self._engine._ffi.new(self._engine._outputs)
        self._fill(struct, ((s.member, s.name) for s in manifest.outputs), arrays)
        return self._fill(struct, ((s.final, s.name) for s in manifest.states), final)

    def work(self, numbers: Mapping[str, int]) -> Any:
        """The workspace of one call, aligned."""
        engine = self._engine
        count = engine._measure(engine._work_size, numbers, 1, "the workspace")
        raw = allocate("the workspace", (count + _ALIGNMENT,), np.dtype(np.uint8))
        start = -raw.__array_interface__["data"][0] % _ALIGNMENT
        return self._pointer(engine._bytes, raw[start : start + count])

    def _fill(self, struct: Any, members: Iterable[tuple[str, str]], arrays: Arrays) -> Any:
        for member, name in members:
            if name in arrays:
                setattr(struct, member, self.reals(arrays[name]))
        return struct

    def _pointer(self, kind: Any, array: NDArray[Any]) -> Any:
        pointer = self._engine._ffi.from_buffer(kind, array)
        self._alive.append(pointer)
        return pointer


class NumpyEngine:
    """A generated NumPy module.

    Args:
        manifest: Names and shapes.
        path: The module's text; tracebacks quote it.
    """

    def __init__(self, manifest: Manifest, path: Path) -> None:
        self._manifest = manifest
        self._module = _import(path)

    def forward(self, call: Call, keep: bool) -> tuple[Arrays, Arrays, Any]:
        """See `Engine`."""
        arguments = (call.sizes.numbers, call.inputs, call.params, call.initial, call.lengths)
        # NaN and infinities are values like others, as in C.
        with np.errstate(all="ignore"), _Memory("forward"):
            outputs, final, tape = self._module.forward(*arguments, keep)
        foreign = _ids(call.inputs, call.params, call.initial, tape or {})
        return _own("outputs", outputs, foreign), _own("final", final, foreign), tape

    def backward(self, call: Call, tape: Any, d_outputs: Arrays, d_final: Arrays, wanted: Wanted) -> Slopes:
        """See `Engine`."""
        arguments = (call.sizes.numbers, call.inputs, call.params, call.initial, call.lengths)
        states = {spec.name for spec in self._manifest.states}
        d_states = {name: slope for name, slope in d_final.items() if name in states}
        with np.errstate(all="ignore"), _Memory("backward"):
            found = self._module.backward(*arguments, tape, d_outputs, d_states)
        parts = (("d_inputs", wanted.inputs), ("d_params", wanted.params), ("d_initial", wanted.initial))
        foreign = _ids(call.inputs, call.params, call.initial, d_outputs, d_final)
        chosen = [
            _own(part, {name: array for name, array in arrays.items() if name in names}, foreign)
            for (part, names), arrays in zip(parts, found, strict=True)
        ]
        return Slopes(*chosen)

    def copy(self, tape: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Engine`."""
        with _Memory("a copy of the tape"):
            return {name: array.copy() for name, array in tape.items()}


class _Memory:
    """Turns NumPy's memory error, which names the bytes, into ours."""

    def __init__(self, purpose: str) -> None:
        self._purpose = purpose

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, MemoryError):
            raise ArgumentError(self._purpose, str(error), "fewer steps or sequences") from error


def _ids(*groups: Mapping[str, NDArray[Any]]) -> set[int]:
    return {id(array) for group in groups for array in group.values()}


def _own(part: str, arrays: Mapping[str, NDArray[Any]], foreign: set[int]) -> Arrays:
    """Results that the caller may write to without changing the tape, the arguments or each other."""
    return {
        name: contiguous(f"{part}[{name!r}]", array if _is_own(array, foreign) else np.array(array))
        for name, array in arrays.items()
    }


def _is_own(array: object, foreign: set[int]) -> bool:
    if not isinstance(array, np.ndarray) or id(array) in foreign:
        return False
    return array.flags.owndata and array.flags.writeable


class _Loader(SourceFileLoader):
    """Leaves no byte code beside the text: the cache holds nothing but what its index names."""

    def set_data(self, path: str, data: bytes | bytearray | memoryview, *, _mode: int = 0o666) -> None:  # type: ignore[override]
        """Write nothing."""


def _import(path: Path) -> ModuleType:
    name = path.stem
    spec = spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
