"""A schedule as text: what runs before, inside and after the loop, what is kept, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gategen.backends.render import render
from gategen.calculus.ir import (
    Apply,
    Contract,
    Extreme,
    Island,
    Move,
    Node,
    Outer,
    OuterRows,
    Reduce,
    Scan,
    Shift,
    SumRows,
    Turn,
    Unit,
)
from gategen.calculus.recurrence import recurrence
from gategen.calculus.schedule import Choice, Phases, Schedule, product_text
from gategen.calculus.storage import Storage, place
from gategen.language.shapes import Width
from gategen.language.text import expression_text


@dataclass(frozen=True)
class PlanView:
    """The lines of a schedule."""

    name: str
    recurrence: str
    forward: tuple[str, ...]
    backward: tuple[str, ...]
    tape: tuple[str, ...]
    packs: tuple[str, ...]
    choices: tuple[str, ...]


def document(plan: Schedule, more: Sequence[Choice] = ()) -> str:
    """The schedule as plain text; ``more`` are decisions of a back end."""
    storage = place(plan)
    kept = {slot.value.name: slot.value for slot in plan.tape}
    view = PlanView(
        name=plan.program.name,
        recurrence=str(recurrence(plan.program)),
        forward=tuple(_phases(plan.forward)),
        backward=tuple(_phases(plan.backward)),
        tape=tuple(f"{name} [T][B][{value.width}]{_shared(name, storage)}" for name, value in kept.items()),
        packs=tuple(
            f"{pack.phase}: {', '.join(weight.name for weight in pack.weights)} @ {pack.operand.name}"
            for pack in plan.packs
        ),
        choices=tuple(
            f"{choice.decision} ({choice.when}): {choice.why}" for choice in (*plan.choices, *more)
        ),
    )
    return render("text/schedule.txt.j2", view)


def _shared(name: str, storage: Storage) -> str:
    users = [
        other
        for placement in (storage.forward, storage.backward)
        for other, home in placement.alias.items()
        if home == name
    ]
    return f", in turn {', '.join(users)}" if users else ""


def _units_text(first: Width, size: Width) -> str:
    return f"[{first}:{first + size}]"


def _phases(phases: Phases) -> Iterable[str]:
    for title, nodes in (
        ("all steps at once", phases.before),
        ("every step", phases.loop),
        ("all steps at once", phases.after),
    ):
        if nodes:
            yield f"{title}:"
            for node in nodes:
                yield from (f"    {line}" for line in node_lines(node))


def _along(node: Extreme | Scan) -> str:
    if not node.shape:
        return ""
    return "each column of " if node.transposed else "each row of "


def node_lines(node: Node) -> list[str]:
    """One node in the notation of the equations."""
    match node:
        case Island():
            width = node.shape[0] if node.shape else 1
            lines = [f"{a.target.name} += {expression_text(a.expr)}" for a in node.assigns]
            return [f"element-wise over {width}:", *(f"    {line}" for line in lines)]
        case Reduce() | SumRows():
            return [f"{node.target.name} += sum of {expression_text(node.expr)}"]
        case Extreme():
            kind = "largest" if node.largest else "smallest"
            return [f"{node.target.name} = the {kind} of {_along(node)}{node.source.name}"]
        case Scan():
            end = ", from the last unit" if node.back else ""
            return [f"{node.target.name} += running sum of {_along(node)}{node.source.name}{end}"]
        case Move():
            into, start = (_units_text(first, node.size) for first in (node.into, node.start))
            return [f"{node.target.name}{into} += {node.source.name}{start}"]
        case Outer():
            left, right = ("1" if side is None else side.name for side in (node.left, node.right))
            return [f"{node.target.name} += outer({left}, {right})"]
        case Apply():
            vector = "1" if node.vector is None else node.vector.name
            sides = (vector, node.matrix.name) if node.transposed else (node.matrix.name, vector)
            return [f"{node.target.name} += {' @ '.join(sides)}"]
        case Turn():
            return [f"{node.target.name} += T({node.source.name})"]
        case Unit():
            return [f"{node.target.name} += I({node.target.shape[0]})"]
        case Contract():
            products = [product_text(p.weight, p.operand, p.transposed) for p in node.products]
            return [
                f"{node.target.name} += {' + '.join([*(addend.name for addend in node.addends), *products])}"
            ]
        case OuterRows():
            return [f"{node.target.name} += sum over t and b of outer({node.left.name}, {node.right.name})"]
        case Shift():
            return [f"{node.target.name} += {node.source.name}[t{node.offset:+d}]"]
