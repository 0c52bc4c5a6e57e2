"""The derivation as a document: equations, reasons and tables, neutral as to how they are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sympy
from sympy import Expr

from gategen.backends import cost
from gategen.backends.formula import (
    Chain,
    Dimensions,
    Equality,
    Name,
    Names,
    Ones,
    OverSteps,
    Partial,
    Prime,
    Stacked,
    Transposed,
    add_all,
)
from gategen.backends.naming import width_formula
from gategen.backends.reasons import Nouns, Prose, arguments, listed, reason
from gategen.backends.walkthrough import Edge, Line, Part, Walkthrough
from gategen.calculus.ir import Contract, Island, Kind, Outer, Reduce, flatten
from gategen.calculus.order import arrange
from gategen.calculus.program import Program
from gategen.language.cell import Cell, Variable
from gategen.language.functions import ElementWise
from gategen.language.notation import At, Eq, Parameter
from gategen.language.reductions import Reduction
from gategen.language.roles import Role
from gategen.language.text import number_text

Row = tuple[Prose, ...]
"""The cells of one row of a table."""


@dataclass(frozen=True)
class Step:
    """One forward equation and what it hands back.

    Attributes:
        heading: Which of the author's equations begins here; empty inside one.
        equation: What is differentiated; None where nothing is.
        reason: The rule and the local derivatives.
        lines: The adjoint lines.
    """

    heading: str
    equation: Line | None
    reason: Prose
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Document:
    """A derivation.

    Attributes:
        name: The cell's name.
        title: First line of its text, or its name.
        citation: The other lines.
        reverse: Whether steps run from right to left.
        delay: How many steps back a step reads a state at most.
        outer: The rule of the outer product, if there is one.
        along: What functions along an axis do, if there are any.
        names: How symbols are written.
        symbols: Symbol, meaning, shape.
        functions: Function, derivative.
        equations: The forward step, as its author wrote it.
        inner: Values that the derivation names within those equations.
        arriving: Where the adjoint of a step begins.
        steps: From the last equation to the first.
        carried: What a step hands to the adjoints of other steps.
        gradients: Gradients of the inputs, and of the parameters as sums over all steps.
        batch: The products over a batch.
        jacobian: Derivatives of new states with respect to old ones.
        cost: Kind of work, forward, backward.
        total: What a step costs.
        stored: Value, plane, readers.
        storage: What a sequence stores.
        warnings: What is probably not meant.
    """

    name: str
    title: str
    citation: tuple[str, ...]
    reverse: bool
    delay: int
    outer: Prose
    along: Prose
    names: Names
    symbols: tuple[Row, ...]
    functions: tuple[Row, ...]
    equations: tuple[Line, ...]
    inner: tuple[Line, ...]
    arriving: tuple[Line, ...]
    steps: tuple[Step, ...]
    carried: tuple[Line, ...]
    gradients: tuple[Line, ...]
    batch: tuple[Line, ...]
    jacobian: tuple[Line, ...]
    cost: tuple[Row, ...]
    total: Prose
    stored: tuple[Row, ...]
    storage: Prose
    warnings: tuple[str, ...]


def document(cell: Cell, program: Program) -> Document:
    """The derivation of a cell as a document."""
    walk = Walkthrough(cell, program)
    nouns = Nouns(walk)
    first, *rest = [line.strip() for line in cell.doc.strip().splitlines()] or [cell.name]
    products, stored = cost.products(walk), cost.stored(program)
    return Document(
        name=cell.name,
        title=first.rstrip("."),
        citation=tuple(line for line in rest if line),
        reverse=program.reverse,
        delay=max((carry.delay for carry in program.carries), default=1),
        outer=_outer_rule(walk.names) if any(isinstance(n, Outer) for n in program.step) else (),
        along=_ALONG if any(map(_goes_along, cell.roles.equations)) else (),
        names=walk.names,
        symbols=tuple(_symbols(walk, nouns)),
        functions=tuple(_functions(walk)),
        equations=tuple(Line(e.left, e.right, number=i) for i, e in enumerate(cell.roles.equations, 1)),
        inner=tuple(p.equation for p in (*walk.setup, *walk.step) if _is_inner(p, walk, nouns)),
        arriving=tuple(_arriving(walk)),
        steps=(*_steps(walk, walk.step, nouns), *_steps(walk, walk.setup, nouns)),
        carried=tuple(_sums(walk, Kind.PAST, Kind.SHIFTED)),
        gradients=(*_sums(walk, Kind.INPUT), *_gradients(walk)),
        batch=tuple(_batch(walk)),
        jacobian=tuple(line for _, past in program.pasts.values() for line in walk.jacobian(past.value)),
        cost=(*map(_product_row, products), *map(_element_row, cost.elements(walk))),
        total=_total(products),
        stored=tuple(_stored_row(row, walk.names) for row in stored),
        storage=_storage(program, stored, walk.names),
        warnings=program.warnings,
    )


_ALONG: Prose = (
    " With axis 1, or the index row, a function takes each row of a matrix; "
    "with axis 0, or the index column, each column.",
)


def _goes_along(equation: Eq) -> bool:
    """A sum does not: it is the product with a vector of ones."""
    found = equation.right.atoms(Reduction)
    return any(node.axis is not None and node.row.name != "sum" for node in found)


def _is_inner(part: Part, walk: Walkthrough, nouns: Nouns) -> bool:
    return part.target.name not in nouns.authors and walk.names.of(part.target.symbol).formula is None


def _symbols(walk: Walkthrough, nouns: Nouns) -> Iterable[Row]:
    groups: dict[tuple[str, tuple[Expr, ...]], list[Prose]] = {}

    def add(meaning: str, symbol: Expr, shape: Iterable[Expr]) -> None:
        groups.setdefault((meaning, tuple(shape)), []).append((symbol,))

    for name, variable in walk.cell.variables.items():
        if variable.role is not Role.SIZE:
            signal = variable.role in (Role.INPUT, Role.STATE, Role.OUTPUT, Role.INTERMEDIATE, Role.DERIVED)
            symbol = At(name) if signal else Parameter(name)
            add(_meaning(variable, walk.cell, nouns), symbol, map(width_formula, variable.shape))
    for part in {part.target.name: part for part in (*walk.setup, *walk.step)}.values():
        if _is_inner(part, walk, nouns):
            add(nouns.of(part.target), part.target.symbol, map(width_formula, part.target.shape))
    for (meaning, shape), symbols in groups.items():
        yield listed(symbols), (meaning,), (Dimensions(*shape),)
    for part in walk.step:
        if isinstance(part.node, Contract):
            for product in part.node.products:
                if product.block is not None:
                    symbol = walk.columns.symbol(product.weight, product.block)
                    shape = (product.weight.shape[0], product.block.size)
                    whole, operand = product.weight.symbol, product.operand.symbol
                    yield (
                        (symbol,),
                        ("columns of ", whole, " that meet ", operand),
                        (Dimensions(*map(width_formula, shape)),),
                    )


_MEANINGS = {
    Role.INPUT: "input",
    Role.STATE: "state",
    Role.OUTPUT: "output",
    Role.DERIVED: "computed from parameters",
    Role.FROZEN: "fixed",
    Role.CONSTANT: "constant",
}


def _meaning(variable: Variable, cell: Cell, nouns: Nouns) -> str:
    if variable.role is Role.PARAMETER:
        meaning = ("number", "vector", "weight matrix")[len(variable.shape)] + " (learned)"
    elif variable.role is Role.INTERMEDIATE:
        meaning = "gate" if variable.name in nouns.gates else "value"
    else:
        meaning = _MEANINGS[variable.role]
    if variable.name in cell.outputs and variable.role is not Role.OUTPUT:
        meaning += ", output"
    if variable.role is Role.STATE:
        meaning += f", initially {_number(variable.value or 0.0)}"
    elif variable.role is Role.CONSTANT and variable.value is not None:
        meaning += f", {_number(variable.value)}"
    elif variable.value is not None:
        meaning += f", initially {_number(variable.value)}"
    return meaning


def _number(value: float) -> str:
    return number_text(sympy.Integer(int(value)) if value == int(value) else sympy.Float(value))


def _functions(walk: Walkthrough) -> Iterable[Row]:
    """The functions of a cell with their derivatives, from the table of functions."""
    used: dict[type[ElementWise], None] = {}
    for node in flatten((*walk.program.setup, *walk.program.step)):
        exprs = [assign.expr for assign in node.assigns] if isinstance(node, Island) else []
        for expr in [node.expr] if isinstance(node, Reduce) else exprs:
            for found in sympy.preorder_traversal(expr):
                if isinstance(found, ElementWise) and not found.row.infix and found.row.name != "where":
                    used.setdefault(found.func)
    value = _function_value(walk.names)
    for function in used:
        given = arguments(function)
        for symbol in given:
            walk.names.add(symbol.name, Name(symbol.name[-1], symbol.name[-1]))
        position = {symbol.name: index for index, symbol in enumerate((value, *given))}
        applied = function(*given)
        derivatives: list[Prose] = []
        for symbol, rule in zip(given, function.row.derivatives, strict=True):
            derivative = arrange(sympy.sympify(rule(value, *given)), position)
            left = Prime(applied) if len(given) == 1 else Partial(value, symbol)
            derivatives.append((Equality(left, derivative),))
        yield (Equality(value, applied),), (function.row.name,), listed(derivatives)


def _function_value(names: Names) -> sympy.Symbol:
    return names.add("function value", Name("y", "y"))


def _outer_rule(names: Names) -> Prose:
    shown = {letter: Name(letter, letter, rank=2 if letter == "S" else 1) for letter in "Suv"}
    S, u, v = (names.add(f"rule {letter}", name) for letter, name in shown.items())
    d_S, d_u, d_v = (names.add(f"rule d {letter}", name.of_adjoint()) for letter, name in shown.items())
    found = listed([(Equality(d_u, Chain(d_S, v)),), (Equality(d_v, Chain(Transposed(d_S), u)),)])
    return (" Likewise an outer product ", Equality(S, Chain(u, Transposed(v))), " gives ", *found, ".")


def _arriving(walk: Walkthrough) -> Iterable[Line]:
    for output in walk.program.outputs:
        adjoint = walk.adjoint_of(output)
        if adjoint is not None:
            seed = walk.program.seeds[output.name]
            yield Line(adjoint.symbol, seed.symbol, adds=output.kind is Kind.STATE)


def _steps(walk: Walkthrough, parts: tuple[Part, ...], nouns: Nouns) -> Iterable[Step]:
    """The steps of one phase; after those of each step come those of what is computed once."""
    once = parts is walk.setup
    by_origin: dict[int, list[Part]] = {}
    for part in reversed(parts):
        by_origin.setdefault(part.origin, []).append(part)
    covered = {part.origin for part in (*walk.setup, *walk.step)}
    for index, equation in reversed(list(enumerate(walk.cell.roles.equations))):
        heading = f"Equation {index + 1}" + (", once per sequence" if once else "")
        for part in by_origin.get(index, ()):
            lines = tuple(edge.line for edge in part.edges)
            shown = part.equation
            if walk.names.of(part.target.symbol).formula is not None:
                shown = Line(_function_value(walk.names), shown.right)
            yield Step(heading, shown, reason(part, nouns), lines)
            heading = ""
        if not once and index not in covered:
            because = ("No output and no state depends on ", equation.left, ": its adjoint is zero.")
            yield Step(heading, None, because, ())


def _grouped(walk: Walkthrough, kinds: Iterable[Kind]) -> dict[sympy.Symbol, list[Edge]]:
    """The edges of a step by what they contribute to, in the order of the program's values."""
    groups: dict[sympy.Symbol, list[Edge]] = {}
    for value in walk.program.values.values():
        if value.kind in kinds:
            for part in reversed(walk.step):
                for edge in part.edges:
                    if edge.read == value:
                        groups.setdefault(edge.line.left, []).append(edge)
    return groups


def _sums(walk: Walkthrough, *kinds: Kind) -> Iterable[Line]:
    for left, edges in _grouped(walk, kinds).items():
        yield Line(left, add_all([edge.line.right for edge in edges]), edges[0].line.adds)


_LEARNED = (Kind.PARAMETER, Kind.DERIVED)


def _gradients(walk: Walkthrough) -> Iterable[Line]:
    for left, edges in _grouped(walk, _LEARNED).items():
        yield Line(left, OverSteps(add_all([edge.line.right for edge in edges])))


def _batch(walk: Walkthrough) -> Iterable[Line]:
    for part in walk.step:
        if isinstance(part.node, Contract):
            terms = [
                Chain(Stacked(p.operand.symbol), Transposed(walk.columns.symbol(p.weight, p.block)))
                for p in part.node.products
            ]
            terms += [Chain(Ones(), Transposed(addend.symbol)) for addend in part.node.addends]
            yield Line(Stacked(part.target.symbol), add_all(terms))
    signals = (Kind.LOCAL, Kind.STATE, Kind.PAST, Kind.SHIFTED, Kind.INPUT)
    for left, edges in _grouped(walk, signals).items():
        terms = [edge.stacked for edge in edges if edge.stacked is not None]
        if terms:
            adds = len(terms) < len(edges) or any(edge.line.adds for edge in edges[:1])
            yield Line(Stacked(left), add_all(terms), adds)
    for left, edges in _grouped(walk, _LEARNED).items():
        yield Line(left, OverSteps(add_all([edge.stacked for edge in edges if edge.stacked is not None])))


def _product_row(row: cost.ProductCost) -> Row:
    forward, backward = ((count, " multiply-adds") for count in (row.forward, row.backward))
    return listed([(product,) for product in row.products]), forward, backward


def _element_row(row: cost.ElementCost) -> Row:
    """Element-wise work, in operations and function values."""
    work = []
    for operations, functions in (row.forward, row.backward):
        text = _counted(operations, "operation")
        work.append((f"{text}, {_counted(functions, 'function')}" if functions else text,))
    return ("each of ", row.width, " units"), *work


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _total(products: list[cost.ProductCost]) -> Prose:
    forward = cost.ordered(2 * sum(row.forward for row in products))
    backward = cost.ordered(2 * sum(row.backward for row in products))
    ends = (" FLOPs forward and ", backward, " FLOPs backward.")
    return ("With two FLOPs per multiply-add, the products take ", forward, *ends)


def _stored_row(row: cost.Stored, names: Names) -> Row:
    plane = _plane(names, width_formula(row.value.width))
    return (row.value.symbol,), (plane,), listed([(reader.symbol,) for reader in row.readers])


def _plane(names: Names, width: Expr) -> Expr:
    sizes = (names.add(f"number of {letter}", Name(letter, letter)) for letter in "TB")
    return Dimensions(*sizes, width)


def _storage(program: Program, stored: list[cost.Stored], names: Names) -> Prose:
    """The planes that a run keeps; inputs are the caller's, and a past state is the state's plane."""
    states = {name: carry.state for name, (carry, _) in program.pasts.items()}
    kept = {
        states.get(row.value.name, row.value).name: row.value.width
        for row in stored
        if row.value.kind not in (Kind.INPUT, Kind.SHIFTED)
    }
    total = cost.ordered(sum((width_formula(width) for width in kept.values()), sympy.Integer(0)))
    return ("Besides the inputs these are at most ", total, " numbers per step and sequence.")
