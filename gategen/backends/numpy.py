"""`Schedule` to the NumPy reference: one readable module, one function per pass.

Inside the loop a value that only the step needs is a plain name; a value that is needed beyond it is a plane
(T, B, width) under the same name and is written ``z[t]``, as in a paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gategen.backends.numpy_pass import Backward, Forward, PassView
from gategen.backends.numpy_syntax import LocalNames, NumpyWriter
from gategen.backends.render import render
from gategen.calculus.ir import Kind
from gategen.calculus.program import Program
from gategen.calculus.schedule import Schedule
from gategen.language.cell import Cell


@dataclass(frozen=True)
class ReferenceView:
    """What the template prints.

    Attributes:
        cell: The cell's name.
        doc: Title and citation, fit for a docstring.
        table: Every argument with its shape.
        delayed: Whether a run starts from more than one step of anything.
        definitions: The imports, then each function that NumPy lacks.
        numpy: How the module calls NumPy.
        forward: The forward pass.
        backward: The adjoint pass.
    """

    cell: str
    doc: str
    table: str
    delayed: bool
    definitions: tuple[str, ...]
    numpy: str
    forward: PassView
    backward: PassView


def module(plan: Schedule, cell: Cell) -> str:
    """The text of the module."""
    return render("numpy/reference.py.j2", view(plan, cell))


def view(plan: Schedule, cell: Cell) -> ReferenceView:
    """The module in ready strings."""
    names = LocalNames(v.name for v in plan.program.values.values() if v.kind is not Kind.SIZE)
    functions: dict[str, str] = {}
    forward = Forward(plan, NumpyWriter(names, functions)).view()
    backward = Backward(plan, NumpyWriter(names, functions)).view()
    numpy = names("np")
    imports = [f"import numpy as {numpy}" if numpy != "np" else "import numpy as np"]
    if "erf" in functions:
        math = names("math")
        imports.insert(0, "import math\n" if math == "math" else f"import math as {math}\n")
    return ReferenceView(
        cell=_quoted(" ".join(cell.name.split())),
        doc=_quoted(cell.doc.strip() or cell.name),
        table="\n".join(_table(plan.program, cell)),
        delayed=max(plan.program.begins.values(), default=1) > 1,
        definitions=("\n".join(imports), *functions.values()),
        numpy=numpy,
        forward=forward,
        backward=backward,
    )


def _quoted(text: str) -> str:
    """Text that cannot end the docstring in which it stands; a line follows it there."""
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def _table(program: Program, cell: Cell) -> Iterator[str]:
    writer = NumpyWriter(LocalNames(()))
    weights = [v for v in program.parameters if v.kind in (Kind.PARAMETER, Kind.FROZEN)]
    rows = [("inputs", v.name, writer.shape(v.shape, "T", "B")) for v in program.inputs]
    rows += [("params", v.shown or v.name, writer.shape(v.shape)) for v in weights]
    known = {
        name: writer.shape(program.values[name].shape, *([str(steps)] if steps > 1 else []), "B")
        for name, steps in program.begins.items()
    }
    rows += [("initial", name, shape) for name, shape in known.items()]
    rows += [("outputs", v.name, writer.shape(v.shape, "T", "B")) for v in program.outputs]
    rows += [("final", carry.state.name, known[carry.state.name]) for carry in program.carries]
    wide = max(len(name) for _, name, _ in rows)
    last = ""
    for group, name, shape in rows:
        elements = cell.elements(name) if group != "params" else ""
        yield f"{group if group != last else '':8}  {name:{wide}}  {shape}{elements and ': '}{elements}"
        last = group
