"""A generated NumPy module, called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gategen.errors import ArgumentError
from gategen.runtime.arguments import Call
from gategen.runtime.engines import Forward, Slopes, Step, Wanted
from gategen.runtime.manifest import Manifest
from gategen.runtime.memory import Arrays, contiguous


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
        initial = self._starts(call)
        arguments = (call.sizes.numbers, call.inputs, call.params, initial, call.lengths)
        # NaN and infinities are values like others, as in C.
        with np.errstate(all="ignore"), _Memory("forward"):
            outputs, final, tape = self._module.forward(*arguments, keep)
        foreign = _ids(call.inputs, call.params, initial, tape or {})
        return _own("outputs", outputs, foreign), _own("final", final, foreign), tape

    def backward(self, call: Call, tape: Any, d_outputs: Arrays, d_final: Arrays, wanted: Wanted) -> Slopes:
        """See `Engine`."""
        initial = self._starts(call)
        arguments = (call.sizes.numbers, call.inputs, call.params, initial, call.lengths)
        states = {spec.name for spec in self._manifest.states}
        d_states = {name: slope for name, slope in d_final.items() if name in states}
        with np.errstate(all="ignore"), _Memory("backward"):
            found = self._module.backward(*arguments, tape, d_outputs, d_states)
        foreign = _ids(call.inputs, call.params, initial, d_outputs, d_final)
        manifest = self._manifest
        parts = (
            ("d_inputs", manifest.inputs),
            ("d_params", manifest.learned),
            ("d_initial", manifest.carried),
        )
        chosen = [
            _own(
                part, {s.name: arrays[s.name] for s in specs if s.name in arrays and s.name in names}, foreign
            )
            for (part, specs), names, arrays in zip(parts, wanted, found, strict=True)
        ]
        return Slopes(*chosen)

    def copy(self, tape: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Engine`."""
        with _Memory("a copy of the tape"):
            return {name: array.copy() for name, array in tape.items()}

    def stepper(self, call: Call, outputs: Arrays) -> Step:
        """See `Engine`."""

        def step() -> None:
            found, final, _ = self.forward(call, False)
            for targets, arrays in ((outputs, found), (call.initial, final)):
                for name, array in arrays.items():
                    targets[name][...] = array

        return step

    def packed(self, params: Arrays) -> Forward:
        """See `Engine`."""
        return lambda call: self.forward(call, False)[:2]

    def _starts(self, call: Call) -> Arrays:
        dtype = np.dtype(self._manifest.dtype)
        return {spec.name: call.start(spec, dtype) for spec in self._manifest.carried}


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
