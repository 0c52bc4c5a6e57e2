"""The fast rendering: GNU vectors, packed weights, threads; for gcc and clang.

The same schedule as the portable one. Rows of all arrays that a kernel keeps for itself are whole vectors;
one tile of a product, whose sums stay in registers, serves all products; functions of the cell are ordinary
scalar C that a compiler vectorizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gategen.backends.c import SUFFIX, TYPES, KernelView, RoutineView, printed, title
from gategen.backends.c_fast_backward import FastBackward
from gategen.backends.c_fast_forward import FastForward
from gategen.backends.c_fast_function import FastInterface
from gategen.backends.c_structs import file_name
from gategen.backends.c_text import comment, laid_out
from gategen.backends.render import render
from gategen.calculus.schedule import Choice, Schedule
from gategen.calculus.storage import place
from gategen.language.cell import Cell
from gategen.language.text import cell_text

ROUTINES = {
    "take": (),
    "aligned": (),
    "wait": (),
    "vector_of": (),
    "rows": ("take", "vector_of"),
    "room": ("take", "rows", "vector_of"),
    "begin": ("take",),
    "ahead": ("take",),
    "arrive": ("take",),
    "gradient": ("take",),
    "matrix": ("take",),
    "clear": (),
    "clear_start": (),
    "add": (),
    "operand": (),
    "tile": ("operand",),
    "weights": ("tile",),
    "pack_addend": (),
    "product": ("operand", "tile", "weights"),
    "outer_tile": ("operand", "tile"),
    "outer": ("operand", "outer_tile"),
    "sum": (),
    "delay": (),
    "shift": (),
    "first": (),
    "hold": (),
    "reach": (),
    "advance": (),
    "last": (),
    "depart": (),
    "emit": (),
    "emit_step": (),
    "deliver": (),
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

_SHARED = ("take", "scan", "row_extremes", "row_scans", "turn", "identity")
"""Those that both renderings have."""
_OWN = {name: f"c_fast/routines/{name}.c.j2" for name in ROUTINES if name not in _SHARED}
_LINKED = {**_OWN, "tile": "c_fast/routines/tile_linked.c.j2"}


@dataclass(frozen=True)
class FastView(KernelView):
    """One C file; ``vectors`` is what it begins with."""

    vectors: str


@dataclass(frozen=True)
class VectorView:
    """What vectors of indices are made of: a whole number as wide as an element."""

    word: str


@dataclass(frozen=True)
class TileView:
    """The C file of the tile, which is the same for all cells; ``declared`` is what kernels know of it."""

    ctype: str
    vectors: str
    operand: str
    declared: str
    tile: str


def source(plan: Schedule, cell: Cell, dtype: str) -> str:
    """The C file of a cell for one dtype."""
    return _source(plan, cell, dtype, _OWN)


def tile(dtype: str) -> str:
    """The C file that kernels of one dtype are linked with: a third of a kernel's compile time."""
    files = (_OWN["operand"], _LINKED["tile"], _OWN["tile"])
    parts = (render(file, RoutineView(linkage="")).rstrip() for file in files)
    return render("c_fast/tile.c.j2", TileView(TYPES[dtype], _vectors(dtype), *parts))


def _vectors(dtype: str) -> str:
    view = VectorView("int32_t" if dtype == "float32" else "int64_t")
    return render("c_fast/vectors.c.j2", view).rstrip()


def _source(plan: Schedule, cell: Cell, dtype: str, routines: Mapping[str, str]) -> str:
    interface = _interface(plan, cell, dtype)
    writers = _writers(plan, interface, dtype)
    forward, backward = (writer.text() for writer in writers)
    ours = writers[0].arrays.ours
    if writers[1].arrays.ours != ours:
        raise AssertionError("both passes must call our own words the same")
    sums = [("forward", forward.counts), ("backward", backward.counts)]
    bytes_ = f"(forward > backward ? forward : backward) * (int64_t)sizeof({interface.ctype}) + 64"
    equations = cell_text("", cell.declarations, cell.equations).strip().splitlines()
    view = FastView(
        title=comment([*title(cell), "", *(f"    {line}" for line in equations), "", *_GUIDE]),
        header=f"{file_name(cell)}.h",
        ctype=interface.ctype,
        vectors=_vectors(dtype),
        routines=printed(routines, ROUTINES, forward, backward),
        sizes=(writers[0].tape_size(), interface.measure("work_size", ours, sums, bytes_)),
        forward=forward.code,
        backward=backward.code,
    )
    return laid_out(render("c_fast/kernel.c.j2", view))


def choices(plan: Schedule, cell: Cell) -> tuple[Choice, ...]:
    """What this rendering decides beyond the schedule, and why."""
    writers = _writers(plan, _interface(plan, cell, "float32"), "float32")
    for writer in writers:
        # Writers decide while they write.
        writer.text()
    return (*(choice for writer in writers for choice in writer.writer.choices), *_ALWAYS)


_ALWAYS = (
    Choice("tiles of 6 rows and 4 vectors", "fast C, AVX-512", "24 sums in 32 registers, none left idle"),
    Choice("tiles of 6 rows and 2 vectors", "fast C, else", "12 sums in 16 registers"),
    Choice(
        "weight gradients in chunks of 384 rows", "fast C", "the packed rows of a panel stay in the cache"
    ),
    Choice(
        "pack left sides of weight gradients", "fast C, rows of 2 KiB or more", "else they evict each other"
    ),
    Choice(
        "fetch what the next tile reads",
        "fast C, tiles of 5 or 6 rows",
        "more streams than processors foresee",
    ),
    Choice(
        "fetch what the next tile writes",
        "fast C, where steps have rows of their own",
        "no cache has them yet",
    ),
    Choice(
        "share the sequences among threads",
        "fast C, two for each, four if a step has 2^18 weights, 2^21 multiply-adds or more",
        "no thread waits in the loop; less work is done before threads are awake",
    ),
    Choice(
        "share the units of every step among threads",
        "fast C, fewer sequences, 2^16 multiply-adds a step or more",
        "each thread's cache holds its share of the weights; smaller steps end before the threads have met",
    ),
)


def _writers(plan: Schedule, interface: FastInterface, dtype: str) -> tuple[FastForward, FastBackward]:
    storage, single = place(plan), dtype == "float32"
    return FastForward(plan, storage, interface, single), FastBackward(plan, storage, interface, single)


def definition(plan: Schedule, cell: Cell, dtype: str) -> str:
    """The declarations that cffi needs: those of the header, without the preprocessor."""
    return _interface(plan, cell, dtype).definition()


def standalone(plan: Schedule, cell: Cell, dtype: str) -> str:
    """One text with the header in place of its inclusion, without the tile, as a kernel is compiled."""
    return _interface(plan, cell, dtype).inlined(_source(plan, cell, dtype, _LINKED))


def _interface(plan: Schedule, cell: Cell, dtype: str) -> FastInterface:
    return FastInterface(cell, plan.program, SUFFIX[dtype], TYPES[dtype])


_GUIDE = (
    "Both passes have three phases: what needs no state is computed before the loop over time, for all"
    " steps at once; the loop computes what one step hands to the next; what no step waits for follows"
    " behind the loop, again for all steps at once. Large batches make the products of the first phase"
    " as parts of those in the loop instead, while their operands are in the cache.",
    "",
    "v_all is a value at all steps, [T][B] rows; v_t is one of its steps, from the first row of this"
    " thread on; v is one row. Our own rows are whole vectors, gg_row(n) elements for n units.",
    "",
    "Every element of a matrix product is one chain of multiply-adds in a fixed order, so a sequence"
    " gives the same bits in any batch and on any number of threads.",
)
"""What a reader of a C file should know first."""
