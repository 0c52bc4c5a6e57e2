"""From the equations of a gated recurrent cell to its derivation, LaTeX, NumPy reference and C kernels.

Every name is found on first use, so that importing the package costs milliseconds: it brings in neither
NumPy, SymPy nor Jinja. ``pipeline.py`` names the stages and is the file to read first.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gategen.errors import GategenError, GategenWarning, nearest

if TYPE_CHECKING:
    from gategen import bench as bench
    from gategen import cli as cli
    from gategen import demo as demo
    from gategen import doctor as doctor
    from gategen import generated as generated
    from gategen import modifiers as modifiers
    from gategen import pipeline, training
    from gategen.check import check
    from gategen.diff import diff
    from gategen.language.arrangements import T as T
    from gategen.language.arrangements import column as column
    from gategen.language.arrangements import element as element
    from gategen.language.arrangements import flatten as flatten
    from gategen.language.arrangements import outer as outer
    from gategen.language.arrangements import piece as piece
    from gategen.language.arrangements import repeat as repeat
    from gategen.language.arrangements import reshape as reshape
    from gategen.language.arrangements import rest as rest
    from gategen.language.arrangements import row as row
    from gategen.language.arrangements import split as split
    from gategen.language.cell import Cell
    from gategen.language.functions import *  # noqa: F403
    from gategen.language.notation import Eq, signals, t, weights
    from gategen.language.parse import declare
    from gategen.language.reductions import cumsum as cumsum
    from gategen.language.reductions import dot as dot
    from gategen.language.reductions import layer_norm as layer_norm
    from gategen.language.reductions import logsumexp as logsumexp
    from gategen.language.reductions import max as max
    from gategen.language.reductions import mean as mean
    from gategen.language.reductions import min as min
    from gategen.language.reductions import norm as norm
    from gategen.language.reductions import softmax as softmax
    from gategen.language.reductions import sum as sum
    from gategen.language.reductions import var as var
    from gategen.pipeline import derive, load, parse
    from gategen.runtime import cache as cache
    from gategen.runtime.compile import compile, pair

__version__ = "0.1.0"

__all__ = [
    "Cell",
    "Eq",
    "GategenError",
    "GategenWarning",
    "check",
    "compile",
    "declare",
    "derive",
    "diff",
    "load",
    "pair",
    "parse",
    "pipeline",
    "signals",
    "t",
    "training",
    "weights",
]

_HOME = {
    "Cell": "language.cell",
    "Eq": "language.notation",
    "check": "check",
    "compile": "runtime.compile",
    "declare": "language.parse",
    "derive": "pipeline",
    "diff": "diff",
    "load": "pipeline",
    "pair": "runtime.compile",
    "parse": "pipeline",
    "signals": "language.notation",
    "t": "language.notation",
    "weights": "language.notation",
}
_MODULES = {
    "bench": "bench",
    "cache": "runtime.cache",
    "cli": "cli",
    "demo": "demo",
    "doctor": "doctor",
    "generated": "generated",
    "modifiers": "modifiers",
    "pipeline": "pipeline",
    "training": "training",
}


class _Package(ModuleType):
    """The package's own type: `gategen.check` stays the function when the module of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def _functions() -> dict[str, Any]:
    tables = (
        ("functions", "FUNCTIONS"),
        ("reductions", "REDUCTIONS"),
        ("arrangements", "ARRANGEMENTS"),
    )
    found = (getattr(import_module(f"gategen.language.{module}"), table) for module, table in tables)
    return {name: made for table in found for name, made in table.items()}


def _find(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"gategen.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"gategen.{_MODULES[name]}")
    # Tools probe packages for underscored names; none of them is worth importing SymPy for.
    functions = {} if name.startswith("_") else _functions()
    if name in functions:
        return functions[name]
    hint = nearest(name, [*__all__, *functions])
    raise AttributeError(f"gategen has no {name!r}" + (f"; did you mean {hint!r}?" if hint else ""))


if not TYPE_CHECKING:  # a type checker sees the imports above and knows which names do not exist

    def __getattr__(name: str) -> Any:
        value = _find(name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
