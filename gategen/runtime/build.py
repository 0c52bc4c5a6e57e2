"""C text to a loaded module: find the compiler, name the binary by all that goes into it, compile once, load.

A warm start imports neither cffi nor anything that runs a process.
"""

from __future__ import annotations

import errno
import functools
import importlib
import importlib.machinery
import importlib.util
import os
import platform
import re
import shlex
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gategen.errors import BuildError
from gategen.runtime import cache

_NATIVE = ("-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
PORTABLE = ("-std=c99", "-O3", *_NATIVE)
"""Flags for the plain C99 rendering."""
FAST = ("-std=gnu11", "-fopenmp-simd", "-O2", "-fno-unroll-loops", *_NATIVE)
"""Flags for the rendering with GNU vector types; -O3, or clang where it unrolls, would take four times as
long to compile for nothing."""

_EXT_SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
_OBJECT = f"{cache.OWN_PREFIX}linked.o"
_loading = threading.Lock()
_loaded: dict[tuple[int, int], ModuleType] = {}
"""Modules by device and inode, as the dynamic linker tells libraries apart: renaming one makes no second."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler that ran: its absolute path, its standing arguments, all it prints for ``--version``."""

    path: str
    arguments: tuple[str, ...]
    version: str

    @property
    def command(self) -> tuple[str, ...]:
        """Path and arguments, as a process is started with."""
        return (self.path, *self.arguments)

    def __str__(self) -> str:
        return f"{' '.join(self.command)}: {self.version.partition(chr(10))[0]}"


def find_compiler() -> Compiler | None:
    """The compiler: ``GATEGEN_CC`` alone if set, else the first of ``CC``, cc, gcc, clang that runs."""
    own = os.environ.get("GATEGEN_CC", "").strip()
    for text in (own,) if own else (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = _words(text)
        path = shutil.which(words[0]) if words else None
        if path is None:
            continue
        command = (os.path.abspath(path), *words[1:])
        version = _version(command)
        if version:
            return Compiler(command[0], command[1:], version)
    return None


def missing_compiler() -> str:
    """One sentence for the user when `find_compiler` finds nothing."""
    own = os.environ.get("GATEGEN_CC", "").strip()
    problem = (
        f"GATEGEN_CC is set to {own!r}, which is no working C compiler"
        if own
        else "no C compiler was found (tried CC, cc, gcc and clang)"
    )
    return (
        f"{problem}; install the package gcc (Debian, Ubuntu: apt install gcc libc6-dev; Fedora: "
        "dnf install gcc; Alpine: apk add gcc musl-dev; macOS: xcode-select --install) or set GATEGEN_CC"
    )


@functools.cache
def processor() -> str:
    """What ``-march=native`` depends on: a binary must not run on a processor that lacks its instructions."""
    found = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if not line.strip():
                    break  # the first processor speaks for all
                if name.strip() in ("flags", "Features", "CPU part", "isa"):
                    found[name.strip()] = " ".join(sorted(value.split()))
    except OSError:
        pass  # not Linux
    return f"{platform.machine()} {found or platform.processor()}"


def missing_vectors() -> str:
    """Why this processor is none that the rendering with vector types is made for; empty if it is."""
    name = platform.machine()
    if name.lower() in ("x86_64", "amd64"):
        # What cannot be asked for its instructions has them: all such processors since 2013 do.
        lacking = "flags" in processor() and " avx " not in processor()
        return "this processor has no AVX" if lacking else ""
    return "" if name.lower() in ("aarch64", "arm64") else f"the processor architecture {name!r} is unknown"


def machine(compiler: Compiler | None) -> str:
    """Key of everything outside gategen that decides whether a binary may be loaded here."""
    parts = ("", "") if compiler is None else ("\0".join(compiler.command), compiler.version)
    return cache.key(*parts, _EXT_SUFFIX, processor())


def binary_key(
    source: str, cdef: str, *, flags: Sequence[str], compiler: Compiler, name: str, linked: str = ""
) -> str:
    """Key of the library that `build` makes from the same arguments."""
    return cache.key("binary", name, source, linked, cdef, "\0".join(flags), machine(compiler))


def find(key: str) -> Path | None:
    """The library stored under a `binary_key`, or None."""
    entry = cache.lookup(key)
    return None if entry is None else _library(entry)


def build(
    source: str,
    cdef: str,
    *,
    flags: Sequence[str] = PORTABLE,
    compiler: Compiler | None = None,
    name: str = "kernel",
    linked: str = "",
) -> Path:
    """Compile C text unless that was done before, and return the library for `load`.

    Args:
        source: The whole C text; includes what it needs.
        cdef: Declarations of what Python calls, as cffi reads them.
        flags: Language and optimisation; what makes a shared library is added.
        compiler: From `find_compiler`, which is asked if this is None.
        name: Part of the file's name, for people.
        linked: More C text that the library is linked with; compiled once for all libraries.

    Raises:
        BuildError: There is no compiler, it failed, or its library cannot be loaded. Nothing was stored.
    """
    compiler = compiler or find_compiler()
    if compiler is None:
        raise BuildError(missing_compiler())
    key = binary_key(source, cdef, flags=flags, compiler=compiler, name=name, linked=linked)
    found = find(key)
    if found is not None:
        return found
    module = f"{cache.OWN_PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', name)}_{key[:16]}"
    command = compiler.command

    more = [_object(linked, flags, compiler)] if linked else []

    def fill(folder: Path) -> None:
        _cold_start().compile_module(folder, module, source, cdef, command, flags, more)
        try:
            load(_library(folder))
        except BuildError as error:
            if "failed to map segment" in error.problem:
                raise PermissionError(errno.EACCES, "libraries cannot be loaded from it") from error
            raise

    return _library(cache.store(key, fill, label=name))


def _object(source: str, flags: Sequence[str], compiler: Compiler) -> Path:
    """The compiled form of a text, before linking."""
    key = cache.key("object", source, "\0".join(flags), machine(compiler))

    def fill(folder: Path) -> None:
        _cold_start().compile_object(folder / _OBJECT, source, compiler.command, flags)

    return (cache.lookup(key) or cache.store(key, fill, label="what kernels share")) / _OBJECT


def load(path: Path) -> ModuleType:
    """Load a library from `build`; the module has cffi's ``ffi`` and ``lib``. Loads each library once.

    Raises:
        BuildError: The library cannot be loaded here.
    """
    with _loading:
        try:
            status = path.stat()
            identity = (status.st_dev, status.st_ino)
            if identity not in _loaded:
                plain = not path.name.endswith(_EXT_SUFFIX)
                module = _cold_start().load_plain(path) if plain else _import(path)
                _touch(module)
                _loaded[identity] = module
        except (ImportError, OSError, AttributeError) as error:
            raise BuildError(f"the library {path} cannot be loaded: {error}") from error
        return _loaded[identity]


def _cold_start() -> ModuleType:
    # The only deferred import: cffi and subprocess cost more time than a whole warm start.
    return importlib.import_module("gategen.runtime.compile_c")


def _words(text: str) -> list[str]:
    """A command with arguments as the shell would split it, unless all of it is one path with spaces."""
    if os.path.isfile(text):
        return [text]
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _version(command: tuple[str, ...]) -> str:
    """The compiler's version, from the cache while none of the programs named in the command changes."""
    parts = ["compiler", *command]
    for word in command:
        program = shutil.which(word)
        if program is not None:
            status = os.stat(program)
            parts.append(f"{program} {status.st_mtime_ns} {status.st_size}")
    key = cache.key(*parts)
    known = (cache.read_manifest(key) or {}).get("version")
    if isinstance(known, str):
        return known
    version: str = _cold_start().compiler_version(command)
    if version:
        cache.write_manifest(key, {"version": version}, label="compiler version")
    return version


def _library(folder: Path) -> Path:
    """The one loadable file of an entry."""
    for file in sorted(folder.iterdir()):
        if file.name.startswith(cache.OWN_PREFIX) and file.name.endswith(
            ".so" if os.name == "posix" else _EXT_SUFFIX
        ):
            return file
    raise BuildError(f"the cache entry {folder} holds no library")


def _import(path: Path) -> ModuleType:
    name = path.name.removesuffix(_EXT_SUFFIX)
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _touch(module: ModuleType) -> None:
    """Make cffi realize every type now, under our lock: it does so lazily, and threads may then collide."""
    ffi, lib = module.ffi, module.lib
    typedefs, structs, unions = ffi.list_types()
    for name in [*typedefs, *(f"struct {tag}" for tag in structs), *(f"union {tag}" for tag in unions)]:
        kind = ffi.typeof(name)
        if kind.kind in ("struct", "union") and _is_complete(ffi, kind):
            _ = kind.fields
    for name in dir(lib):
        value = getattr(lib, name)
        if callable(value):
            ffi.typeof(value)


def _is_complete(ffi: Any, kind: Any) -> bool:
    # Asking an opaque type for its fields aborts the process in cffi 2.0.
    try:
        ffi.sizeof(kind)
    except (ValueError, ffi.error):
        return False
    return True
