"""What this machine offers: compiler, headers, cache folder, versions."""

from __future__ import annotations

import importlib.metadata
import platform
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import gategen
from gategen.errors import CacheError
from gategen.runtime import build, cache

_REQUIRED = ("numpy", "sympy", "jinja2", "cffi", "click", "rich")
_OPTIONAL = ("torch",)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: What was looked for.
        found: What there is, or what to do about it.
        fine: False when something works less well, or not at all, because of it.
    """

    subject: str
    found: str
    fine: bool = True


def examine() -> tuple[Finding, ...]:
    """Look at everything that gategen uses; compiles nothing."""
    return (
        Finding("gategen", gategen.__version__),
        Finding("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        Finding("platform", platform.platform()),
        *(_version(name, needed=True) for name in _REQUIRED),
        *(_version(name, needed=False) for name in _OPTIONAL),
        _compiler(),
        _header(),
        _cache(),
    )


def _version(name: str, needed: bool) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed" + ("" if needed else " (optional)"), fine=not needed)


def _compiler() -> Finding:
    found = build.find_compiler()
    if found is None:
        return Finding("C compiler", f"{build.missing_compiler()}; the NumPy back end is used", fine=False)
    return Finding("C compiler", str(found))


def _header() -> Finding:
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if header.is_file():
        return Finding("Python.h", str(header))
    return Finding("Python.h", f"not at {header}; kernels are loaded in a slower way", fine=False)


def _cache() -> Finding:
    try:
        entries, folder = cache.entries(), cache.folder()
    except CacheError as error:
        return Finding("cache", str(error), fine=False)
    return Finding("cache", f"{folder} ({len(entries)} entries)")
