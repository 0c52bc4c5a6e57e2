"""The stages in order: the file to read first.

    text ──parse──▶ Cell ──derive──▶ Program ──schedule──▶ Schedule ──back end──▶ text ──build──▶ Kernel

`load` and `parse` read a cell; `derive` differentiates it; `scheduled` decides what runs where; the back
ends print; `lowered` is what `gategen.compile` hands to the C compiler. Every stage takes one frozen data
type and returns the next, and can be looked at with `show`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from os.path import exists, isdir
from pathlib import Path

from gategen.backends import c, c_fast, latex, markdown, numpy, plan, text
from gategen.backends.c_structs import Interface, file_name
from gategen.backends.index import page
from gategen.calculus.arrange import flat
from gategen.calculus.derive import derive as derive_program
from gategen.calculus.lower import identifier
from gategen.calculus.program import Program
from gategen.calculus.schedule import Schedule, schedule
from gategen.calls import modified
from gategen.errors import UnknownName, nearest
from gategen.language.cell import Cell
from gategen.language.notation import At
from gategen.language.parse import parse as parse_text
from gategen.language.roles import CLOCK, Role
from gategen.language.source import MAX_BYTES, decoded
from gategen.runtime.manifest import ArraySpec, InputSpec, Manifest, ParameterSpec, StateSpec

ZOO = Path(__file__).parent / "zoo"
STAGES = ("derive", "schedule", "c", "c-portable", "numpy")


def zoo() -> tuple[str, ...]:
    """The names of the published cells that come with the package."""
    return tuple(sorted(path.stem for path in ZOO.glob("*.cell")))


def load(name: str | Path, constants: Mapping[str, float] | None = None) -> Cell:
    """Read a cell from the zoo or from a file.

    Args:
        name: A zoo name such as ``gru``, the path of a ``.cell`` file, or modifiers around one:
            ``zoneout(lstm, h=0.1, c=0.5)``.
        constants: Values for constants that the cell declares.

    Raises:
        UnknownName: Neither a zoo cell nor a file has this name.
        CellError: The text is wrong; the error says where.
    """
    if isinstance(name, str) and "(" in name and not exists(name):
        return modified(name, load).with_constants(constants or {})
    known = ZOO / f"{name}.cell"
    path = known if str(name) in zoo() else Path(name)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 4)
    except (OSError, ValueError) as error:
        problem = f"there is no {'file' if path.suffix else 'zoo cell'} {str(name)!r}"
        if exists(path):
            problem = f"{name} is a folder" if isdir(path) else f"{name} cannot be read"
        raise UnknownName(
            problem, None, "a name from 'gategen list' or a .cell file", nearest(str(name), zoo())
        ) from error
    shown = str(path.name if path == known else path)
    return parse_text(decoded(data, shown), cell_name(path), constants, file=shown)


def parse(text: str, name: str = "cell", constants: Mapping[str, float] | None = None) -> Cell:
    """Read a cell from text; see `load` for the errors."""
    return parse_text(text, name, constants)


def cell_name(path: Path) -> str:
    """The name of the cell in a file: the file's own, made an identifier."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in path.stem)
    return name if name[:1].isalpha() else f"cell_{name}"


@dataclass(frozen=True)
class Derivation:
    """A cell with its derived adjoint, to be read, shown in a notebook, or printed for a paper.

    Attributes:
        cell: The cell.
        program: The forward and adjoint step.
    """

    cell: Cell
    program: Program

    @cached_property
    def schedule(self) -> Schedule:
        """What runs before, inside and after the time loop."""
        return schedule(self.program)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is probably not meant: gradients that are zero, equations that nothing uses."""
        return self.program.warnings

    def latex(self) -> str:
        """The derivation as a LaTeX document that compiles as it is."""
        return latex.document(self.cell, self.program)

    def markdown(self) -> str:
        """The derivation as Markdown, as GitHub renders it."""
        return markdown.document(self.cell, self.program)

    def text(self) -> str:
        """The derivation as plain text."""
        return text.document(self.cell, self.program)

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def __str__(self) -> str:
        return self.text()


def derive(cell: Cell) -> Derivation:
    """Derive back-propagation through time for a cell."""
    # Equal cells may be written in another order, or by another title, and what is printed keeps that.
    return _derived(cell, str(cell))


@lru_cache(maxsize=256)
def _derived(cell: Cell, _text: str) -> Derivation:
    return Derivation(cell, derive_program(cell))


@dataclass(frozen=True)
class Lowered:
    """What a kernel is built from.

    Attributes:
        manifest: What the runtime knows of the kernel.
        source: The text of the kernel.
        cdef: For C, the declarations that cffi needs.
        linked: For C, a second text, the same for many kernels; empty if there is none.
    """

    manifest: Manifest
    source: str
    cdef: str = ""
    linked: str = ""


def lowered(cell: Cell, dtype: str, rendering: str) -> Lowered:
    """A cell as source text of one back end.

    Args:
        cell: The cell.
        dtype: ``float32`` or ``float64``.
        rendering: ``c``, ``c-portable`` or ``numpy``.
    """
    derivation = derive(cell)
    made = manifest(derivation, dtype, rendering)
    if rendering == "numpy":
        return Lowered(made, numpy.module(derivation.schedule, cell))
    printer = c_fast if rendering == "c" else c
    source = printer.standalone(derivation.schedule, cell, dtype)
    declared = printer.definition(derivation.schedule, cell, dtype)
    return Lowered(made, source, declared, c_fast.tile(dtype) if rendering == "c" else "")


def manifest(derivation: Derivation, dtype: str, rendering: str) -> Manifest:
    """What running a kernel takes besides its code."""
    cell, program = derivation.cell, derivation.program
    interface = Interface(cell, program, "", "")
    steps = program.begins

    def start(name: str) -> str:
        return interface.inputs[f"start {name}"].name

    return Manifest(
        cell=cell.name,
        dtype="float32" if dtype == "float32" else "float64",
        backend=rendering,
        widths=cell.widths,
        inputs=tuple(
            InputSpec(
                v.name,
                interface.inputs[v.name].name,
                flat(v.shape),
                steps=steps.get(v.name, 0),
                start=start(v.name) if v.name in steps else "",
                once="clock" if v.name == CLOCK else "sequence" if v.name in cell.roles.constant else "",
            )
            for v in cell.inputs.values()
        ),
        states=tuple(
            StateSpec(
                v.name,
                v.name,
                flat(v.shape),
                steps=steps[v.name],
                initial=v.value or 0.0,
                start=start(v.name),
                final=interface.outputs[f"final {v.name}"].name,
            )
            for v in cell.states.values()
        ),
        outputs=tuple(
            ArraySpec(v.name, interface.outputs[v.name].name, flat(v.shape)) for v in cell.outputs.values()
        ),
        parameters=tuple(
            ParameterSpec(
                v.name,
                interface.params[identifier(v.name)].name,
                v.shape,
                kind="frozen" if v.role is Role.FROZEN else "parameter",
                value=v.value,
                multiplied=v.multiplied,
            )
            for v in cell.parameters.values()
        ),
        reverse=cell.reverse,
        warnings=program.warnings,
        lengths=interface.lengths,
        ahead=_ahead(cell),
        least=tuple(program.least.items()),
    )


def _ahead(cell: Cell) -> tuple[str, ...]:
    """What a step reads of inputs that come after it, in the order in which steps run."""
    sign = -1 if cell.reverse else 1
    reads = ((name, by) for name in cell.inputs for by in sorted(cell.roles.offsets.get(name, ()), key=abs))
    return tuple(str(At(name, by)) for name, by in reads if sign * by > 0)


def show(cell: Cell, stage: str) -> str:
    """Any intermediate form of a cell as text; ``stage`` is one of `STAGES`."""
    derivation = derive(cell)
    if stage == "derive":
        return derivation.text()
    if stage == "schedule":
        return plan.document(derivation.schedule, c_fast.choices(derivation.schedule, cell))
    if stage == "c":
        return c_fast.source(derivation.schedule, cell, "float32")
    if stage == "c-portable":
        return c.source(derivation.schedule, cell, "float32")
    if stage == "numpy":
        return numpy.module(derivation.schedule, cell)
    raise UnknownName(f"unknown stage {stage!r}", None, ", ".join(STAGES), nearest(stage, STAGES))


def artefacts(cell: Cell) -> dict[str, str]:
    """Everything that is generated for a cell: text by file name."""
    derivation, name = derive(cell), file_name(cell)
    return {
        f"{name}.h": c.header(derivation.schedule, cell),
        f"{name}_f32.c": c.source(derivation.schedule, cell, "float32"),
        f"{name}_f64.c": c.source(derivation.schedule, cell, "float64"),
        f"{name}_reference.py": numpy.module(derivation.schedule, cell),
        f"{name}_derivation.tex": derivation.latex(),
        "README.md": derivation.markdown(),
    }


def index(cells: Iterable[Cell]) -> str:
    """A page about many cells, as Markdown."""
    return page((cell, derive(cell).program) for cell in cells)
