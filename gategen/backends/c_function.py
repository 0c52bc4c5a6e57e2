"""What the forward and the backward function share: sizes, parameters, inputs, buffers, the loop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import sympy

from gategen.backends.c_arrays import Arrays
from gategen.backends.c_pass import NodeWriter
from gategen.backends.c_structs import Counts, Interface
from gategen.backends.c_syntax import CWriter
from gategen.backends.c_text import product
from gategen.backends.render import render
from gategen.calculus.ir import Kind, Node, Value, writes
from gategen.calculus.program import Program
from gategen.calculus.schedule import Schedule
from gategen.calculus.storage import Home, Placement

_DECLARED = re.compile(r"^ *(?:const )?real \*(\w+) = (?!.*(?:&tape|d_params->|d_inputs->))", re.MULTILINE)
"""Arrays that may be left out: getting them changes nothing that others see."""


@dataclass(frozen=True)
class FunctionText:
    """One C function, what it calls, and what it takes from the workspace."""

    code: str
    routines: frozenset[str]
    functions: dict[str, str]
    counts: Counts


@dataclass(frozen=True)
class PassView:
    """One C function, ready to be laid out."""

    about: str
    head: str
    opening: tuple[str, ...]
    before: tuple[str, ...]
    loop: str
    pointers: tuple[str, ...]
    steps: tuple[str, ...]
    after: tuple[str, ...]


@dataclass
class Sections:
    """Declarations in groups, each under a comment; empty groups leave no trace."""

    texts: list[str] = field(default_factory=list)

    def add(self, title: str, lines: Sequence[str]) -> None:
        """Add a group."""
        if lines:
            self.texts.append("\n".join([f"/* {title} */", *lines] if title else lines))


class Function:
    """One function of a cell; a subclass declares what it needs and writes the nodes of its pass."""

    what = ""
    adjoint = False

    def __init__(
        self, plan: Schedule, program: Program, placement: Placement, interface: Interface, single: bool
    ) -> None:
        self.plan, self.program, self.placement = plan, program, placement
        self.interface, self.single = interface, single
        self.taped = [slot.value for slot in plan.tape]
        taped = frozenset(value.name for value in self.taped)
        self.arrays = Arrays(program, placement, interface.sizes, taped)
        self.writer = NodeWriter(self.arrays, single, self.adjoint)
        self.sections = Sections()
        self.loop: list[Node] = list(placement.phases.loop)
        last = program.setup_adjoint if self.adjoint else ()
        self.nodes: list[Node] = [*program.setup, *placement.phases.nodes, *last]
        self.used = {v.name: v for node in self.nodes for v in (*program.reads(node), *writes(node))}
        self.required: list[str] = []
        self.checked = 0

    @property
    def some(self) -> str:
        """Whether there is any step to make."""
        return f"{product(self.arrays.ours['T'], self.arrays.ours['B'])} > 0"

    def declare_arguments(self) -> None:
        """Parameters and inputs, and the check that none is missing."""
        self.sections.add("Parameters.", self._parameters())
        arrays, lines, planes = self.arrays, [], []
        for value in self.program.inputs:
            if value.name in self.used:
                name = arrays.new(f"{value.name}_all")
                lines.append(f"const real *{name} = inputs->{self.interface.inputs[value.name].name};")
                arrays.base[value.name] = name
                planes.append(f"!{name}")
        self.sections.add("Inputs, [T][B] rows.", lines)
        if self.adjoint and self.taped:
            planes.append("!tape")
        self.required += [f"{arrays.width(width)} < {least}" for width, least in self.program.least.items()]
        if planes:
            missing = " || ".join(planes)
            self.required.append(f"({self.some} && {f'({missing})' if len(planes) > 1 else missing})")
        self.checked = len(self.sections.texts)

    def _parameters(self) -> list[str]:
        arrays, lines = self.arrays, []
        for value in self.program.parameters:
            if value.name not in self.used or value.kind in (Kind.CONSTANT, Kind.SIZE):
                continue
            name = arrays.names[value.name]
            lines.append(f"const real *{name} = params->{self.interface.params[value.name].name};")
            arrays.base[value.name] = name
            self.required.append(f"!{name}")
        return lines

    def declare_starts(self, values: Iterable[Value]) -> None:
        """Where the sequences begin."""
        lines = []
        for value in values:
            carry = next((c for c in self.program.carries if c.state == value), None)
            declared = sympy.Float(carry.initial) if carry and carry.initial else sympy.Integer(0)
            literal = CWriter(self.single, str).literal(declared)
            given = f"inputs->{self.interface.inputs[f'start {value.name}'].name}"
            name, steps = self.arrays.new(f"{value.name}_start"), self.program.begins[value.name]
            if carry is not None and steps > 1 and self.program.reverse:
                call = self.ahead(name, value, given, literal, steps)
            else:
                call = self.begin(name, value, given, literal, steps)
            lines.append(f"const real *{name} = {call}")
            self.arrays.starts[value.name] = name
        several = any(steps > 1 for steps in self.program.begins.values())
        title = "Before the first step, [steps][B] rows." if several else "Before the first step, [B] rows."
        self.sections.add(title, lines)

    def begin(self, name: str, value: Value, given: str, number: str = "0", steps: int = 1) -> str:
        """A copy in the workspace of what the caller gives for some steps, else filled with a number."""
        count = self.arrays.count(name, str(steps), self.arrays.step_size(value))
        return self.writer.call("begin", self.writer.rest(), count, given, number)

    def ahead(self, name: str, value: Value, given: str, number: str, steps: int) -> str:
        """The same for states of a cell that runs from right to left, in the order of time."""
        arrays, ours = self.arrays, self.arrays.ours
        arrays.count(name, str(steps), arrays.step_size(value))
        head = (self.writer.rest(), steps, ours["T"], ours["B"], arrays.width(value.width), ours["lengths"])
        return self.writer.call("ahead", *head, given, number)

    def own_begin(self, name: str, value: Value, given: str) -> str:
        """The same for what each step changes."""
        return self.begin(name, value, given)

    def rows(self, name: str, value: Value, given: str) -> str:
        """What the caller gives for all steps."""
        return f"{given};"

    def declare_derived(self) -> None:
        """Derived parameters."""
        lines = []
        for value in (value for node in self.program.setup for value in writes(node)):
            if value.name not in self.arrays.base:
                own = self.arrays.names[value.name]
                lines.append(self.arrays.take(own, self.arrays.elements(value.shape)))
                self.arrays.base[value.name] = own
        self.sections.add("Derived parameters, computed once.", lines)

    def take_step(self, name: str, value: Value) -> str:
        """Room for the values of one step."""
        return self.arrays.take(name, self.arrays.step_size(value))

    def declare_homes(self) -> None:
        """Everything that is neither on the tape nor in a register."""
        arrays, planes, steps = self.arrays, [], []
        for name, home in self.placement.home.items():
            value = self.program.values[name]
            if name in arrays.base or name in self.placement.alias or home is Home.REGISTER:
                continue
            own = arrays.base[name] = arrays.new(f"{name}_t" if home is Home.STEP else f"{name}_all")
            if home is Home.PLANE:
                planes.append(arrays.take(own, arrays.plane_size(value)))
            elif home is Home.STEP:
                steps.append(self.take_step(own, value))
            else:
                steps.append(arrays.take(own, str(arrays.depths[name]), arrays.step_size(value)))
        self.sections.add("Values of all steps, [T][B] rows.", planes)
        self.sections.add("Values of one step, [B] rows.", steps)
        lines = []
        for name, other in self.placement.alias.items():
            arrays.base[name] = arrays.new(f"{name}_all")
            lines.append(f"real *{arrays.base[name]} = {arrays.base[other]};")
        self.sections.add(self.about_aliases, lines)

    about_aliases = ""

    def declare_once(self, setup: Sequence[str]) -> None:
        """What is computed once: transposed weights, derived parameters, their transposes."""
        self.sections.add("Transposed weights.", self.writer.copies)
        self.sections.add("", setup)
        self.sections.add("", self.writer.late)

    def pointers(self, more: Iterable[Value]) -> dict[str, str]:
        """Pointers to the values that a step reaches, by their names."""
        loop = self.loop
        written = {value.name for node in loop for value in writes(node)}
        written |= {value.name for value in self.handed_on()}
        found = [v for node in loop for v in (*self.program.reads(node), *writes(node))]
        found = [v for v in [*found, *more] if not v.timeless and self.arrays.home(v) is not Home.REGISTER]
        return self.arrays.pointers({value.name: value for value in found}.values(), written)

    def handed_on(self) -> Iterable[Value]:
        """What the end of a step changes: past the end of its sequence a state is overwritten."""
        return [carry.state for carry in self.program.carries]

    def loop_header(self) -> str:
        """The loop over time, in the order of the steps or against it."""
        t, T = self.arrays.ours["t"], self.arrays.ours["T"]
        if self.program.reverse != self.adjoint:
            return f"for (int64_t {t} = {T} - 1; {t} >= 0; {t}--)"
        return f"for (int64_t {t} = 0; {t} < {T}; {t}++)"

    def assembled(
        self, before: Sequence[str], pointers: dict[str, str], steps: Sequence[str], after: Sequence[str]
    ) -> FunctionText:
        """The function; its first declarations are made of what the others mention."""
        body = "\n".join([*before, *steps, *after])
        view = PassView(
            about=f"/* The {self.what} pass; the header describes the arguments. */",
            head=self.interface.head(self.what),
            opening=tuple(self.sections.texts),
            before=("/* Before the loop: all steps at once. */", "", *before) if before else (),
            loop=self.loop_header(),
            pointers=tuple(line for name, line in pointers.items() if mentions(body, name)),
            steps=tuple(steps),
            after=("/* After the loop: all steps at once. */", "", *after) if after else (),
        )
        body = render("c/pass.c.j2", replace(view, head="", about=""))
        view = replace(view, opening=self._opening(body))
        body = render("c/pass.c.j2", replace(view, head="", about=""))
        code = render("c/pass.c.j2", replace(view, opening=(self._first(body), *view.opening)))
        routines, functions = frozenset(self.writer.routines), self.writer.functions
        code = "\n".join([*self.writer.units, code])
        return FunctionText(code, routines, functions, tuple(self.arrays.counts))

    def _opening(self, body: str) -> tuple[str, ...]:
        """The sections without arrays that nothing uses, and the check that no pointer is missing."""
        unused = unused_arrays(body)
        if unused:
            texts = [without_arrays(text, unused) for text in self.sections.texts]
            self.arrays.counts = [count for count in self.arrays.counts if count[1] not in unused]
            self.checked -= texts[: self.checked].count("")
            self.sections.texts = [text for text in texts if text]
            return self._opening(without_arrays(body, unused))
        if self.arrays.counts:
            self.required.append("!work")
            self.writer.routines.add("take")
        check = [f"if ({' || '.join(self.required)}) {{\n    return 1;\n}}"] if self.required else []
        sections = self.sections.texts
        return (*sections[: self.checked], *check, *sections[self.checked :])

    def _first(self, body: str) -> str:
        """Declarations of what the body mentions, and a word for arguments that it does not."""
        ours = self.arrays.ours

        own = {"T": ours["T"], "B": ours["B"], **{name: name for name in self.arrays.sizes.values()}}
        sizes = [f"{name} = dims->{member}" for member, name in own.items() if mentions(body, name)]
        lines = [f"const int64_t {', '.join(sizes)};"] if sizes else []
        if mentions(body, ours["lengths"]):
            lines.append(f"const int64_t *{ours['lengths']} = inputs->{self.interface.lengths};")
        if mentions(body, ours["keep"]):
            lines.append(f"const int {ours['keep']} = tape != NULL;")
        if mentions(body, ours["rest"]):
            lines.append(f"real *{ours['rest']} = (real *)work;")
        text = "\n".join([body, *lines])
        arguments = [argument.split("*")[-1] for argument in ("*dims", *self.interface.arguments(self.what))]
        return "\n".join([*lines, *(f"(void){name};" for name in arguments if not mentions(text, name))])


def unused_arrays(body: str) -> list[str]:
    """The arrays that a C text declares and does not use."""
    times = Counter(re.findall(r"\w+", body))
    return [name for name in _DECLARED.findall(body) if times[name] == 1]


def without_arrays(text: str, names: Sequence[str]) -> str:
    """A C text without the declarations of some arrays; nothing where only the title of a section is left."""
    line = re.compile(rf"^ *(const )?real \*({'|'.join(names)}) = .*\n?", re.MULTILINE)
    left = line.sub("", text).rstrip()
    return left if "\n" in left or not left.startswith("/*") else ""


def mentions(text: str, name: str) -> bool:
    """Whether a C text has a name in it."""
    return re.search(rf"\b{re.escape(name)}\b", text) is not None
