"""What the fast forward and backward functions share: one part for every thread, and who starts them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gategen.backends.c_fast_arrays import FastArrays
from gategen.backends.c_fast_pass import FastNodeWriter
from gategen.backends.c_fast_products import Merge
from gategen.backends.c_function import (
    Function,
    FunctionText,
    Sections,
    mentions,
    unused_arrays,
    without_arrays,
)
from gategen.backends.c_pass import ALL
from gategen.backends.c_structs import Interface
from gategen.backends.c_text import product
from gategen.backends.render import render
from gategen.calculus.ir import Contract, Kind, Node, Value, writes
from gategen.calculus.program import Program
from gategen.calculus.schedule import Schedule
from gategen.calculus.storage import Placement


@dataclass
class FastInterface(Interface):
    """The C interface of the fast rendering: its functions end in the team of threads."""

    rules = (
        "work: aligned for the type of the elements; keeps the packed weights between calls.",
        "params: may be NULL if they are those of the call before with the same widths and work.",
        "team: the threads that share the work, from gg_team_make; NULL for the caller's alone.",
        "No array that is written may overlap another one, but a final state may be its own start.",
        "Returns 0, or 1 if a pointer is NULL that must not be, or a width too small; then nothing was done.",
    )

    def arguments(self, what: str) -> list[str]:
        """The arguments of ``forward`` or ``backward`` behind the sizes."""
        return [*super().arguments(what), "void *team"]


@dataclass(frozen=True)
class PartView:
    """One pass, ready to be laid out."""

    what: str
    members: tuple[str, ...]
    rank: str
    call: str
    opening: tuple[str, ...]
    packing: tuple[str, ...]
    wait: str
    before: tuple[str, ...]
    loop: str
    pointers: tuple[str, ...]
    steps: tuple[str, ...]
    after: tuple[str, ...]
    head: str
    refused: str
    given: str
    threads: tuple[str, ...]


_DECLARATIONS = {
    "whole": "const int {whole} = {keep} || {hoisted};",
    "keep": "const int {keep} = tape != NULL;",
    "hoisted": "const int {hoisted} = {B} < 4;",
    "ends": "const int64_t *{ends} = {lengths} ? {lengths} + {first} : NULL;",
    "rows": "const int64_t {rows} = {crew} > 1 ? {B} : {till} - {from};",
    "first": "const int64_t {first} = {crew} > 1 ? 0 : {from};",
    "till": "const int64_t {till} = gg_share({B}, {rank} + 1, {size});",
    "from": "const int64_t {from} = gg_share({B}, {rank}, {size});",
    "crew": "const int64_t {crew} = {call}->crew;",
    "place": "const int64_t {place} = {call}->crew > 1 ? {rank} : 0;",
    "high": "const int64_t {high} = gg_share({T} * {B}, {rank} + 1, {size});",
    "low": "const int64_t {low} = gg_share({T} * {B}, {rank}, {size});",
    "lengths": "const int64_t *{lengths} = inputs->{ends_of_all};",
    "rest": "real *{rest} = gg_aligned(work);",
}
"""Words of ours as a function declares those that it uses, the last one first."""


class FastFunction(Function):
    """One function of a cell; mixed with the class that knows the pass."""

    arrays: FastArrays
    writer: FastNodeWriter

    def __init__(
        self, plan: Schedule, program: Program, placement: Placement, interface: Interface, single: bool
    ) -> None:
        super().__init__(plan, program, placement, interface, single)
        taped = frozenset(value.name for value in self.taped)
        self.arrays = FastArrays(program, placement, interface.sizes, taped)
        self.writer: FastNodeWriter = FastNodeWriter(self.arrays, single, self.adjoint)
        self.copies: list[str] = []
        self.loop = self._merged()
        self.writer.number_groups(self.loop)

    def _merged(self) -> list[Node]:
        """The nodes of the loop, with products that may run before it or, where that is faster, inside."""
        loop, merges = list(self.placement.phases.loop), self.writer.merges
        alone: list[Node] = []
        for before in self._movable():
            met = len(before.products)
            inside = next((n for n in loop if before.target in writes(n)), None)
            if not isinstance(inside, Contract):
                inside = replace(before, products=(), addends=())
                alone.append(inside)
            products = before.products + inside.products
            whole = replace(before, products=products, addends=before.addends + inside.addends)
            merges[id(before)] = merges[id(inside)] = Merge(whole, met)
        return [*alone, *loop]

    def _movable(self) -> list[Contract]:
        """Products before the loop that a step could make as well: nothing else there reads or makes them."""
        nodes, program = self.placement.phases.before, self.program
        read = [value.name for node in nodes for value in program.reads(node)]
        made = [value.name for node in nodes for value in writes(node)]
        given = {program.gradients[v.name].name for v in program.inputs if v.name in program.gradients}
        loop = self.placement.phases.loop
        stepwise = {v.name for node in loop for v in (*program.reads(node), *writes(node))}
        return [
            node
            for node in nodes
            if isinstance(node, Contract)
            and node.target.name in stepwise - {*read, *given}
            and made.count(node.target.name) == 1
            and all(part.operand.kind is not Kind.PAST for part in node.products)
        ]

    def before(self) -> list[str]:
        """What runs before the loop; products that the loop could make only where they are hoisted, last."""
        nodes, merges = self.placement.phases.before, self.writer.merges
        lines = self.writer.write([node for node in nodes if id(node) not in merges], ALL)
        movable = self.writer.write([node for node in nodes if id(node) in merges], ALL)
        if not movable:
            return lines
        return [*lines, f"if ({self.arrays.ours['hoisted']}) {{", *(f"    {line}" for line in movable), "}"]

    def reached(self) -> list[Value]:
        """What the steps reach because of products that may run before the loop."""
        wholes = [merge.whole for merge in self.writer.merges.values()]
        return [value for node in wholes for value in (node.target, *(p.operand for p in node.products))]

    @property
    def moved(self) -> set[str]:
        """The values that products make before the loop or inside."""
        return {merge.whole.target.name for merge in self.writer.merges.values()}

    def declare_arguments(self) -> None:
        """Parameters in whole vectors, inputs in rows of whole vectors."""
        arrays, lines = self.arrays, []
        islands = [node for node in self.nodes if not isinstance(node, Contract)]
        element_wise = {value.name for node in islands for value in self.program.reads(node)}
        for value in self.program.parameters:
            if value.name not in self.used or value.kind in (Kind.CONSTANT, Kind.SIZE):
                continue
            member = f"params->{self.interface.params[value.name].name}"
            self.required.append(f"!{member}")
            arrays.base[value.name] = member
            name = arrays.names[value.name]
            if len(value.shape) == 2 and value.name in element_wise:
                lines.append(f"const real *{name} = params ? {member} : NULL;")
            if len(value.shape) < 2 or value.name in element_wise:
                arrays.base[value.name] = name
            if len(value.shape) < 2:
                lines.append(arrays.take(name, arrays.stride(value.width)))
                self.copies.append(self.writer.call("vector_of", arrays.width(value.width), member, name))
        self.sections.add("Parameters; vectors are copied.", lines)
        self.declare_derived()
        self.once_at = len(self.sections.texts)
        self._declare_inputs()

    def _declare_inputs(self) -> None:
        arrays, missing = self.arrays, []
        lines = []
        for value in self.program.inputs:
            if value.name in self.used:
                given = f"inputs->{self.interface.inputs[value.name].name}"
                name = arrays.base[value.name] = arrays.new(f"{value.name}_all")
                lines.append(f"const real *{name} = {self.rows(name, value, given)}")
                missing.append(f"!{given}")
        self.sections.add("Inputs, [T][B] rows.", lines)
        if self.adjoint and self.taped:
            missing.append("!tape")
        self.required += [
            f"{self.interface.width(width, of='dims->')} < {least}"
            for width, least in self.program.least.items()
        ]
        if missing:
            text = " || ".join(missing)
            self.required.append(f"(T * B > 0 && {f'({text})' if len(missing) > 1 else text})")

    def rows(self, name: str, value: Value, given: str) -> str:
        """What the caller gives for all steps in rows of whole vectors."""
        arrays, ours = self.arrays, self.arrays.ours
        rows, width = product(ours["T"], ours["B"]), arrays.width(value.width)
        arrays.count(name, f"gg_spare({rows}, {width})")
        self.writer.routines.update(("take", "vector_of"))
        return self.writer.call("rows", self.writer.rest(), ours["low"], ours["high"], rows, width, given)

    def begin(self, name: str, value: Value, given: str, number: str = "0", steps: int = 1) -> str:
        """A copy in the workspace of what the caller gives for some steps, else filled with a number."""
        arrays, ours = self.arrays, self.arrays.ours
        arrays.count(name, str(steps), arrays.step_size(value))
        head = (self.writer.rest(), steps, ours["from"], ours["till"], ours["B"], arrays.width(value.width))
        return self.writer.call("begin", *head, given, number)

    def ahead(self, name: str, value: Value, given: str, number: str, steps: int) -> str:
        """The same for states of a cell that runs from right to left, in the order of time."""
        arrays, ours = self.arrays, self.arrays.ours
        arrays.count(name, str(steps), arrays.step_size(value))
        head = (self.writer.rest(), steps, ours["from"], ours["till"], ours["T"], ours["B"])
        return self.writer.call("ahead", *head, arrays.width(value.width), ours["lengths"], given, number)

    def own_begin(self, name: str, value: Value, given: str) -> str:
        """The same, but where the thread's own rows are."""
        return f"{self.begin(name, value, given)[:-1]} + {product(*self.arrays.own('0', value.width))};"

    def take_step(self, name: str, value: Value) -> str:
        """The thread's own rows of one step."""
        taken = self.arrays.take(name, self.arrays.step_size(value))[:-1]
        return f"{taken} + {product(*self.arrays.own('0', value.width))};"

    def declare_once(self, setup: Sequence[str]) -> None:
        """What is computed once: derived parameters and packed weights."""
        rank, wait = self.arrays.ours["rank"], self.writer.wait()
        alone = [*self.copies, *setup]
        lines = [f"if ({rank} == 0) {{", *(f"    {line}" for line in alone), "}", wait] if alone else []
        self.once = [*lines, *self.writer.packing, *self.writer.late_packing]
        sums = []
        for gradient, name in self.writer.sums.items():
            value = self.program.values[gradient]
            sums.append(f"real *{name} = {self.own_begin(name, value, 'NULL')}")
        packs = Sections()
        packs.add("Packed weights.", self.writer.packs)
        # Before what depends on T, so that they stay where they are from call to call.
        self.sections.texts[self.once_at : self.once_at] = packs.texts
        self.sections.add("Past states of all steps.", self.writer.planes)
        self.sections.add("Sums over the steps, one for each sequence.", sums)
        tiles = [
            self.arrays.take(name, f"gg_tiled({targets}, {n})")
            for n, (name, targets) in self.writer.tiles.items()
        ]
        self.sections.add("Room for packed rows of outer products.", tiles)

    def assembled(
        self, before: Sequence[str], pointers: dict[str, str], steps: Sequence[str], after: Sequence[str]
    ) -> FunctionText:
        """The function of one thread's part, and the one that callers see."""
        ours, interface = self.arrays.ours, self.interface
        body = "\n".join([*before, *steps, *after])
        arguments = interface.arguments(self.what)[:-1]
        dims = f"const {interface.prefix}_dims *dims"
        members = [argument.replace("*", " *").replace("  ", " ") + ";" for argument in (dims, *arguments)]
        view = PartView(
            what=self.what,
            members=tuple(members),
            rank=ours["rank"],
            call=ours["call"],
            opening=tuple(self.sections.texts),
            packing=tuple(self.once),
            wait=self.writer.wait(),
            before=tuple(before),
            loop=self.loop_header(),
            pointers=tuple(line for name, line in pointers.items() if mentions(body, name)),
            steps=tuple(steps),
            after=tuple(after),
            head=interface.head(self.what),
            refused=self._refused(),
            given=f"{{{', '.join(map(_name, (dims, *arguments)))}, members, 1, 1}}",
            threads=self._threads(),
        )
        view = self._without_unused(view)
        first = self._declarations(_body(view), arguments)
        code = render("c_fast/rank.c.j2", replace(view, opening=(first, *view.opening)))
        routines, functions = frozenset({*self.writer.routines, "take", "wait"}), self.writer.functions
        return FunctionText(
            "\n".join([*self.writer.units, code]), routines, functions, tuple(self.arrays.counts)
        )

    def _refused(self) -> str:
        tensors = [text for text in self.required if text.startswith("!params->")]
        others = [text for text in self.required if text not in tensors]
        given = [f"(params && ({' || '.join(tensors)}))"] if tensors else []
        return " || ".join([*given, *others, "!work"])

    def _threads(self) -> tuple[str, ...]:
        part = f"gg_{self.what}_part"
        names = "|".join(map(re.escape, self.arrays.sizes.values()))
        links = " + ".join(self.writer.work) or "1"
        links = re.sub(rf"\b({names})\b", r"dims->\1", links) if names else links
        return (
            "/* Threads have sequences of their own or share each step, if there is work to wake them. */",
            f"const int64_t links = {links};",
            "if (members && members->size > 1 && T * B * links >= gg_least_work) {",
            "    const int apart = B >= (links < gg_large ? 2 : 4) * members->size;",
            "    call.size = apart || B * links >= gg_least_step ? members->size : 1;",
            "    call.crew = apart ? 1 : call.size;",
            "}",
            "if (call.size > 1) {",
            f"    members->run(members, {part}, &call);",
            "} else {",
            f"    {part}(&call, 0);",
            "}",
        )

    def _without_unused(self, view: PartView) -> PartView:
        """The pass without arrays that nothing uses."""
        unused = unused_arrays(_body(view))
        if not unused:
            return view
        self.arrays.counts = [count for count in self.arrays.counts if count[1] not in unused]
        texts = (without_arrays(text, unused) for text in view.opening)
        return self._without_unused(replace(view, opening=tuple(text for text in texts if text)))

    def _declarations(self, body: str, arguments: Sequence[str]) -> str:
        """Declarations of what the body mentions."""
        ours, call = self.arrays.ours, self.arrays.ours["call"]
        lines = [
            f"gg_team *{ours['team']} = {call}->team;",
            f"const int64_t {ours['size']} = {call}->size;",
        ]
        tail: list[str] = []
        self.writer.routines.add("aligned")
        for word, text in _DECLARATIONS.items():
            if mentions(body + "\n".join(tail), ours[word]):
                tail.insert(0, text.format(**ours, ends_of_all=self.interface.lengths))
        text = body + "\n".join(tail)
        own = {"T": ours["T"], "B": ours["B"], **{name: name for name in self.arrays.sizes.values()}}
        sizes = [f"{name} = dims->{member}" for member, name in own.items() if mentions(text, name)]
        if sizes:
            tail.insert(0, f"const int64_t {', '.join(sizes)};")
        text = body + "\n".join(tail)
        for argument in arguments:
            name = _name(argument)
            if name == "tape" and mentions(text, name):
                lines.append(f"real *tape = gg_aligned({call}->tape);")
            elif mentions(text, name):
                lines.append(f"{argument} = {call}->{name};")
        if mentions(text, "dims"):
            lines.append(f"const {self.interface.prefix}_dims *dims = {call}->dims;")
        return "\n".join([*lines, *tail])


def _name(argument: str) -> str:
    return argument.split("*")[-1]


def _body(view: PartView) -> str:
    """The text of a pass without its comments, whose words are no names."""
    parts = [
        *view.opening,
        *view.packing,
        *(["params"] if view.packing else []),
        *view.before,
        view.loop,
        *view.pointers,
        *view.steps,
        *view.after,
        view.wait,
    ]
    return re.sub(r"/\*.*?\*/", "", "\n".join(parts), flags=re.DOTALL)
