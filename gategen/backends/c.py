"""The portable rendering: plain C99, forward and backward over whole sequences, one file per dtype.

No vector types, no threads, no allocation, no globals: the caller brings the tape and a workspace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gategen.backends.c_backward import Backward
from gategen.backends.c_forward import Forward
from gategen.backends.c_function import FunctionText
from gategen.backends.c_structs import Interface, file_name
from gategen.backends.c_text import comment, laid_out
from gategen.backends.render import render
from gategen.calculus.schedule import Schedule
from gategen.calculus.storage import place
from gategen.language.cell import Cell
from gategen.language.text import cell_text

SUFFIX = {"float32": "f32", "float64": "f64"}
"""What the dtype adds to the name of a function."""

TYPES = {"float32": "float", "float64": "double"}
"""The dtype in C."""

Routines = Mapping[str, tuple[str, ...]]

ROUTINES: Routines = {
    "take": (),
    "begin": ("take",),
    "ahead": ("take",),
    "arrive": ("take",),
    "clear": (),
    "gradient": ("take", "clear"),
    "copy": (),
    "fill": (),
    "add": (),
    "transposed": ("take",),
    "chains": (),
    "product": ("chains",),
    "outer": ("chains",),
    "shift": (),
    "first": (),
    "hold": (),
    "reach": (),
    "advance": (),
    "last": (),
    "depart": (),
    "emit": (),
    "extreme": (),
    "scan": (),
    "move": (),
    "spread": (),
    "each_column": (),
    "each_row": (),
    "apply": (),
    "apply_T": (),
    "row_sums": (),
    "column_sums": (),
    "row_extremes": ("extreme",),
    "column_extremes": (),
    "row_scans": ("scan",),
    "column_scans": (),
    "turn": (),
    "identity": (),
}
"""The routines of a kernel in the order in which they are printed, each with those that it needs."""


@dataclass(frozen=True)
class KernelView:
    """One C file.

    Attributes:
        title: The comment at the top: the paper and its equations.
        header: The name of the header.
        ctype: ``float`` or ``double``.
        routines: Functions that the cell's own functions call.
        sizes: The functions that tell the sizes of tape and workspace.
        forward: The forward function.
        backward: The backward function.
    """

    title: str
    header: str
    ctype: str
    routines: tuple[str, ...]
    sizes: tuple[str, ...]
    forward: str
    backward: str


@dataclass(frozen=True)
class HeaderView:
    """The C header of a cell: one declaration block per dtype."""

    title: str
    guard: str
    dims: str
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class RoutineView:
    """A routine; ``linkage`` stands before what another file may call."""

    linkage: str = "static "


def source(plan: Schedule, cell: Cell, dtype: str) -> str:
    """The C file of a cell for one dtype; it includes the header ``<cell>.h``."""
    interface = _interface(plan, cell, dtype)
    storage = place(plan)
    single = dtype == "float32"
    writers = Forward(plan, storage, interface, single), Backward(plan, storage, interface, single)
    forward, backward = (writer.text() for writer in writers)
    ours = writers[0].arrays.ours
    if writers[1].arrays.ours != ours:
        raise AssertionError("both passes must call T and B the same")
    sums = [("forward", forward.counts), ("backward", backward.counts)]
    bytes_ = f"(forward > backward ? forward : backward) * (int64_t)sizeof({interface.ctype})"
    equations = cell_text("", cell.declarations, cell.equations).strip().splitlines()
    view = KernelView(
        title=comment([*title(cell), "", *(f"    {line}" for line in equations), "", *_GUIDE]),
        header=f"{file_name(cell)}.h",
        ctype=interface.ctype,
        routines=printed({}, ROUTINES, forward, backward),
        sizes=(writers[0].tape_size(), interface.measure("work_size", ours, sums, bytes_)),
        forward=forward.code,
        backward=backward.code,
    )
    return laid_out(render("c/kernel.c.j2", view))


def header(plan: Schedule, cell: Cell) -> str:
    """The header of a cell: the structs and functions of both dtypes."""
    interfaces = [_interface(plan, cell, dtype) for dtype in SUFFIX]
    view = HeaderView(
        title=comment(title(cell)),
        guard=f"GG_{file_name(cell).upper()}_H",
        dims=interfaces[0].dims(),
        blocks=tuple(interface.declarations() for interface in interfaces),
    )
    return laid_out(render("c/header.h.j2", view))


def definition(plan: Schedule, cell: Cell, dtype: str) -> str:
    """The declarations that cffi needs: those of the header, without the preprocessor."""
    return _interface(plan, cell, dtype).definition()


def standalone(plan: Schedule, cell: Cell, dtype: str) -> str:
    """One text with the header in place of its inclusion, as the compiler of a kernel gets it."""
    return _interface(plan, cell, dtype).inlined(source(plan, cell, dtype))


def _interface(plan: Schedule, cell: Cell, dtype: str) -> Interface:
    return Interface(cell, plan.program, SUFFIX[dtype], TYPES[dtype])


_GUIDE = (
    "Both passes have three phases: what needs no state is computed before the loop over time, for all"
    " steps at once; the loop computes what one step hands to the next; what no step waits for follows"
    " behind the loop, again for all steps at once.",
    "",
    "v_all is a value at all steps, [T][B] rows; v_t is one of its steps, [B] rows; v is one row. d_v is"
    " the gradient of the loss with respect to v, a_v what stands inside the function that gives v.",
    "",
    "Every element of a matrix product is one chain of multiply-adds in a fixed order, so a sequence"
    " gives the same bits in any batch.",
)
"""What a reader of a C file should know first."""


def title(cell: Cell) -> list[str]:
    """Title, citation and where the file comes from."""
    name = " ".join(cell.name.split())
    origin = f"Generated by gategen from {name}.cell: gategen build {name}.cell. Do not edit."
    return [*(cell.doc or name).splitlines(), "", origin]


def printed(files: Mapping[str, str], needs: Routines, *functions: FunctionText) -> tuple[str, ...]:
    """The routines that some functions need, in the order of the table, and the functions of the cell.

    Args:
        files: Templates that do not stand with those of the portable rendering, by routine.
        needs: The routines, each with those that it needs.
        functions: The forward and the backward function.
    """
    used = {name for function in functions for name in function.routines}
    used |= {needed for name in used for needed in needs[name]}
    own = {name: text for function in functions for name, text in function.functions.items()}
    places = [files.get(name, f"c/routines/{name}.c.j2") for name in needs if name in used]
    return (*(render(place, RoutineView()).rstrip() for place in places), *own.values())
