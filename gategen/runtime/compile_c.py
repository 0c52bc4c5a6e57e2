"""What only a cold start needs: cffi's wrapper and the runs of the C compiler.

Importing this module costs more than loading a kernel that is already built, so `build` imports it on demand.
"""

from __future__ import annotations

import errno
import importlib.machinery
import io
import os
import shlex
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import cffi

from gategen.errors import BuildError

EXT_SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
PLAIN_SUFFIX = ".plain.so"
"""Ends a library without Python wrapper, which needs no Python headers; its declarations lie beside it."""

_SHARED = ("-fPIC", "-shared")
_NO_HEADERS = (
    "the C headers of Python (Python.h) are missing and the declarations need them; install python3-dev "
    "(Debian, Ubuntu, Alpine) or python3-devel (Fedora, openSUSE)"
)


class _HeadersMissing(Exception):
    """The wrapper cannot be compiled on this machine, whatever the source."""


def compiler_version(command: Sequence[str]) -> str:
    """What the compiler prints for ``--version``, or the empty string if it does not run."""
    try:
        done = _run([*command, "--version"], Path.cwd())
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def compile_object(path: Path, source: str, command: Sequence[str], flags: Sequence[str]) -> None:
    """Compile a text to what `compile_module` links.

    Raises:
        BuildError: The source or the compiler are at fault.
        OSError: The folder is full.
    """
    text = path.with_suffix(".c")
    try:
        text.write_text(source, encoding="utf-8")
        _compile([*command, *flags, "-fPIC", "-fvisibility=hidden", "-c"], text, path)
    finally:
        text.unlink(missing_ok=True)


def compile_module(
    folder: Path,
    module: str,
    source: str,
    cdef: str,
    command: Sequence[str],
    flags: Sequence[str],
    objects: Sequence[Path] = (),
) -> None:
    """Leave one library in the folder: a Python module, or a plain one if Python's headers are missing.

    Raises:
        BuildError: The declarations, the source or the compiler are at fault.
        OSError: The folder is full.
    """
    ffi = cffi.FFI()
    try:
        ffi.cdef(cdef)
    except Exception as error:  # cffi passes pycparser's errors on, which share no base class
        raise BuildError(f"the declarations of {module} cannot be read: {error}") from error
    text, linked = folder / f"{module}.c", [str(path) for path in objects]
    try:
        try:
            # Silent, as cffi prints what it writes; to a buffer, as it writes files in the locale's encoding.
            # The wrapper behind the source only converts arguments: it is not worth the compiler's time.
            ffi.set_source(module, f'{source}\n#pragma GCC optimize ("O0")\n', compiler_verbose=0)
            wrapped = io.StringIO()
            ffi.emit_c_code(wrapped)
            text.write_text(wrapped.getvalue(), encoding="utf-8")
            includes = _header_folders()
            flags_api = [*flags, *_SHARED, "-fvisibility=hidden", *_undefined_symbols(), *includes]
            _compile([*command, *flags_api, *linked], text, folder / f"{module}{EXT_SUFFIX}")
        except _HeadersMissing:
            if "..." in cdef:
                raise BuildError(_NO_HEADERS) from None
            text.write_text(source, encoding="utf-8")
            (folder / f"{module}.h").write_text(cdef, encoding="utf-8")
            _compile([*command, *flags, *_SHARED, *linked], text, folder / f"{module}{PLAIN_SUFFIX}")
    finally:
        text.unlink(missing_ok=True)


def load_plain(path: Path) -> ModuleType:
    """Load a plain library; the result has ``ffi`` and ``lib`` like a wrapped one."""
    ffi = cffi.FFI()
    name = path.name.removesuffix(PLAIN_SUFFIX)
    ffi.cdef((path.parent / f"{name}.h").read_text(encoding="utf-8"))
    module = ModuleType(name)
    module.__dict__.update(ffi=ffi, lib=ffi.dlopen(str(path)))
    return module


def _header_folders() -> list[str]:
    paths = sysconfig.get_paths()
    folders = sorted({paths["include"], paths["platinclude"]})
    if not any(os.path.isfile(os.path.join(folder, "Python.h")) for folder in folders):
        raise _HeadersMissing
    return [f"-I{folder}" for folder in folders]


def _undefined_symbols() -> list[str]:
    """Apple's linker wants to be told that the interpreter supplies what is missing."""
    return ["-undefined", "dynamic_lookup"] if os.uname().sysname == "Darwin" else []


def _compile(command: Sequence[str], text: Path, library: Path) -> None:
    """Run the compiler once; a second time if it has no ``-march=native``."""
    call = [*command, text.name, "-o", library.name, "-lm"]
    try:
        done = _run(call, text.parent)
        if done.returncode and "-march=native" in call and "march" in done.stderr:
            call.remove("-march=native")
            done = _run(call, text.parent)
    except OSError as why:
        raise BuildError(f"the C compiler cannot be started: {why}", shlex.join(call)) from why
    output = done.stderr + done.stdout
    if done.returncode == 0 and library.is_file():
        return
    if "No space left on device" in output or "Disk quota exceeded" in output:
        raise OSError(errno.ENOSPC, "no space left")
    if "fatal error" in output and any(f"{name}.h" in output for name in ("Python", "pyconfig")):
        raise _HeadersMissing
    raise BuildError(_what_happened(done.returncode, output), shlex.join(call), output)


def _what_happened(code: int, output: str) -> str:
    if code == 0:
        return "the C compiler reported success but wrote no library"
    if code < 0:
        return f"the C compiler was killed by signal {-code}; was the memory full?"
    if "fatal error" in output and any(
        f"{name}.h" in output for name in ("limits", "math", "stdint", "stddef")
    ):
        return "the C library's headers are missing; install libc6-dev (Debian, Ubuntu) or musl-dev (Alpine)"
    return f"the C compiler failed with exit code {code}"


def _run(call: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    # The compiler's own temporary files go where ours go, so that a killed build leaves them in one place.
    # The C locale keeps versions, which are part of keys, and messages, which we search, in one language.
    environment = {**os.environ, "TMPDIR": str(folder), "LC_ALL": "C"}
    return subprocess.run(
        call,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
