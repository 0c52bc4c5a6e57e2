"""From a cell to a kernel, by the shortest way: what was compiled before is found and loaded.

A warm start by name, path or text imports neither SymPy nor Jinja nor cffi: the later stages are reached
through the lazy package, and only if the cache has nothing.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

import gategen as gg
from gategen.errors import ArgumentError, BuildError, GategenWarning, nearest
from gategen.runtime import build, cache
from gategen.runtime.engines import CEngine, Engine
from gategen.runtime.kernel import Kernel
from gategen.runtime.manifest import Manifest
from gategen.runtime.numpy_engine import NumpyEngine
from gategen.runtime.pair import Pair
from gategen.runtime.team import threads_wanted

if TYPE_CHECKING:
    from gategen.language.cell import Cell

_FLAGS = {"c": build.FAST, "c-portable": build.PORTABLE, "numpy": ()}
"""The back ends, and what the C compiler is told for each."""
_ZOO = Path(__file__).resolve().parents[1] / "zoo"
_ZOO_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_MODIFIED = re.compile(r"\w+\([^\n]*\)")
"""A cell behind modifiers, ``zoneout(lstm, h=0.1)``, which no equation looks like."""


@dataclass(frozen=True)
class _Text:
    """A cell as text: its name, where it comes from (a zoo name or path for `gategen.load`), the text."""

    name: str
    place: str
    text: str


@dataclass(frozen=True)
class _Options:
    """What decides, besides the cell, how the code looks."""

    dtype: str
    rendering: str
    constants: Mapping[str, float]
    outputs: tuple[str, ...]
    compiler: build.Compiler | None
    threads: int

    def key(self, cell: _Text) -> str:
        """The key of everything that a warm start needs."""
        return cache.key(
            "compiled",
            cell.name,
            cell.text,
            self.dtype,
            self.rendering,
            repr(sorted(self.constants.items())),
            repr(self.outputs),
            cache.fingerprint(),
            build.machine(self.compiler),
        )


def compile(
    cell: Cell | str | Path,
    dtype: DTypeLike = "float32",
    backend: str = "c",
    constants: Mapping[str, float] | None = None,
    outputs: Iterable[str] | None = None,
    threads: int | None = None,
) -> Kernel:
    """Compile a cell, or find what was compiled before; one kernel serves all sizes.

    Args:
        cell: A `Cell`, the name of a zoo cell, with modifiers or without, the path of a ``.cell`` file, or
            the text of a cell.
        dtype: float32 or float64.
        backend: ``c``, ``c-portable`` or ``numpy``. Without a C compiler NumPy takes over, with a warning.
        constants: Other values for the cell's constants.
        outputs: The names to give back instead of the cell's own outputs; any that is assigned per step.
        threads: How many a call may use, by default what GATEGEN_THREADS says, else one per processor.

    Raises:
        CellError: The cell is wrong.
        ArgumentError: An option is wrong.
        BuildError: The C compiler failed.
    """
    options = _read_options(dtype, backend, constants, outputs, threads)
    if options.compiler is None and backend != "numpy":
        # The user's line is told, not ours.
        told = f"{build.missing_compiler()}. Until then the NumPy back end runs {_title(cell)}"
        warnings.warn(told, GategenWarning, stacklevel=2)
    elif backend == "c" and options.rendering != "c":
        told = f"the portable C runs {_title(cell)}: {build.missing_vectors()}"
        warnings.warn(told, GategenWarning, stacklevel=2)
    source = _find_text(cell)
    kernel = None if source is None else _warm(source, options)
    if kernel is None:
        kernel = _cold(cell, source, options)
    for remark in kernel.warnings:
        warnings.warn(remark, GategenWarning, stacklevel=2)
    return kernel


def pair(cell: Cell | str | Path, **options: Any) -> Pair:
    """Compile a cell for both directions: bidirectional, as Schuster, Paliwal 1997.

    Args:
        cell: As for `compile`, running from left to right.
        options: Those of `compile`.

    Raises:
        CellError: The cell is wrong.
        ArgumentError: An option is wrong.
        BuildError: The C compiler failed.
    """
    source = _find_text(cell)
    loaded = _load(cell, source, _read_options("float32", "numpy", options.get("constants"), None, None))
    return Pair(*(compile(one, **options) for one in gg.modifiers.bidirectional(loaded)))


def _title(cell: object) -> str:
    name = cell if isinstance(cell, str | Path) else getattr(cell, "name", cell)
    return "the cell" if "\n" in str(name) else str(name)


def _read_options(
    dtype: DTypeLike,
    backend: str,
    constants: Mapping[str, float] | None,
    outputs: Iterable[str] | None,
    threads: int | None,
) -> _Options:
    try:
        kind = np.dtype(dtype).name if dtype is not None else "None"
    except TypeError:
        kind = str(dtype)
    if kind not in ("float32", "float64"):
        raise ArgumentError("dtype", f"is {kind}", "float32 or float64")
    if backend not in _FLAGS:
        known = f"one of {', '.join(_FLAGS)}"
        raise ArgumentError("backend", f"is {backend!r}", known, nearest(str(backend), _FLAGS))
    for name, value in (constants or {}).items():
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ArgumentError(f"constants[{name!r}]", f"is {value!r}", "a finite number")
    numbers = {name: _plain(value) for name, value in (constants or {}).items()}
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs or ())
    compiler = None if backend == "numpy" else build.find_compiler()
    rendering = "numpy" if compiler is None else backend
    if rendering == "c" and build.missing_vectors():
        rendering = "c-portable"
    return _Options(kind, rendering, numbers, names, compiler, threads_wanted(threads))


def _plain(value: Any) -> float:
    """NumPy's scalars as Python's: they print in another way."""
    return value.item() if isinstance(value, np.generic) else value  # type: ignore[no-any-return]


def _find_text(cell: Cell | str | Path) -> _Text | None:
    """The text behind a name or path, or None if there is none: then `gategen.load` says what is wrong."""
    if isinstance(cell, str):
        if "\n" in cell:
            return _Text("cell", "", cell)
        if _ZOO_NAME.fullmatch(cell) and (_ZOO / f"{cell}.cell").is_file():
            return _read(_ZOO / f"{cell}.cell", cell)
    if isinstance(cell, str | Path):
        found = _read(Path(cell), str(cell))
        if found is None and isinstance(cell, str) and "=" in cell and not _MODIFIED.fullmatch(cell):
            return _Text("cell", "", cell)
        return found
    return None


def _read(path: Path, place: str) -> _Text | None:
    try:
        return _Text(path.stem, place, path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError):
        return None


def _warm(source: _Text, options: _Options) -> Kernel | None:
    """The kernel of an earlier compilation."""
    known = cache.read_manifest(options.key(source))
    entry = known and cache.lookup(known["code"])
    if not known or not entry:
        return None
    manifest = Manifest.from_json(known["manifest"])
    library = build.find(known["code"]) if manifest.backend != "numpy" else _module(entry)
    return None if library is None else _kernel(manifest, library, options)


def _cold(cell: Cell | str | Path, source: _Text | None, options: _Options) -> Kernel:
    """The kernel by all stages; the code is still looked for before it is built."""
    manifest, library, code = _built(_load(cell, source, options), options)
    kernel = _kernel(manifest, library, options)
    # A file that changed while it was compiled must not leave its new code under its old text.
    if source is not None and _find_text(cell) == source:
        entry = {"manifest": manifest.to_json(), "code": code}
        cache.write_manifest(options.key(source), entry, label=manifest.cell)
    return kernel


def _built(cell: Cell, options: _Options) -> tuple[Manifest, Path, str]:
    """The manifest of a cell, its code, and the key of the code."""
    lowered = gg.pipeline.lowered(cell, options.dtype, options.rendering)
    manifest: Manifest = lowered.manifest
    if options.compiler is None:
        code = cache.key("module", lowered.source)

        def fill(folder: Path) -> None:
            name = re.sub(r"[^A-Za-z0-9_]", "_", manifest.cell)
            text = folder / f"{cache.OWN_PREFIX}{name}_{code[:16]}.py"
            text.write_text(lowered.source, encoding="utf-8")

        return manifest, _module(cache.store(code, fill, label=manifest.cell)), code
    about: Any = {"flags": _FLAGS[options.rendering], "compiler": options.compiler, "name": manifest.cell}
    about["linked"] = lowered.linked
    code = build.binary_key(lowered.source, lowered.cdef, **about)
    try:
        return manifest, build.build(lowered.source, lowered.cdef, **about), code
    except BuildError as error:
        if options.rendering != "c":
            raise
        # Not every compiler has GNU vectors; what is wrong elsewhere is wrong for the portable C as well.
        manifest, library, code = _built(cell, replace(options, rendering="c-portable"))
        told = (
            f"the portable C runs {manifest.cell}: this compiler cannot make the fast one ({error.problem})"
        )
        return replace(manifest, warnings=(*manifest.warnings, told)), library, code


def _load(cell: Cell | str | Path, source: _Text | None, options: _Options) -> Cell:
    constants = dict(options.constants)
    if source is not None and not source.place:
        loaded: Cell = gg.parse(source.text, name=source.name, constants=constants or None)
    elif isinstance(cell, str | Path):
        loaded = gg.load(str(cell), constants=constants or None)
    elif isinstance(cell, gg.Cell):
        loaded = cell.with_constants(constants) if constants else cell
    else:
        expected = "a Cell, the name of a zoo cell, the path of a .cell file, or the text of a cell"
        raise ArgumentError("cell", f"is a {type(cell).__name__}", expected)
    return loaded.with_outputs(options.outputs) if options.outputs else loaded


def _module(entry: Path) -> Path:
    """The text of a NumPy module in its entry."""
    return next(file for file in sorted(entry.iterdir()) if file.suffix == ".py")


def _kernel(manifest: Manifest, library: Path, options: _Options) -> Kernel:
    # Only the fast rendering can use more than one.
    threads = options.threads if manifest.backend == "c" else 1
    engine: Engine
    if manifest.backend == "numpy":
        engine = NumpyEngine(manifest, library)
    else:
        engine = CEngine(manifest, build.load(library), threads)
    return Kernel(manifest, engine, threads)
