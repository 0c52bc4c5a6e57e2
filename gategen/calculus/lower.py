"""`Cell` equations to the forward nodes of a `Program`: islands, contractions, shifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sympy import Add, Expr

from gategen.calculus.arrange import applied, arranged, concatenated, elements, flat
from gategen.calculus.axes import reduced_along
from gategen.calculus.ir import (
    Assign,
    Block,
    Contract,
    Island,
    Kind,
    Node,
    Product,
    Shift,
    Value,
    writes,
)
from gategen.calculus.order import arrange
from gategen.calculus.reduce import into, reduced
from gategen.language.arrangements import Arrangement
from gategen.language.cell import Cell, Variable
from gategen.language.functions import ElementWise
from gategen.language.notation import (
    At,
    Concat,
    Eq,
    MatVec,
    Parameter,
    rebuild,
    symbols_in_order,
)
from gategen.language.reductions import Reduction
from gategen.language.roles import Role
from gategen.language.shapes import Shape, Width

_KINDS = {
    Role.INPUT: Kind.INPUT,
    Role.STATE: Kind.STATE,
    Role.OUTPUT: Kind.LOCAL,
    Role.INTERMEDIATE: Kind.LOCAL,
    Role.DERIVED: Kind.DERIVED,
    Role.PARAMETER: Kind.PARAMETER,
    Role.FROZEN: Kind.FROZEN,
    Role.CONSTANT: Kind.CONSTANT,
    Role.SIZE: Kind.SIZE,
}


@dataclass
class Lowering:
    """The forward nodes of a cell while they are made.

    Attributes:
        cell: The cell.
        values: Every value so far, by name.
        setup: Nodes on parameters only.
        step: Nodes of one step.
        pasts: The past value of each state.
        derived: Functions of parameters only, computed once.
        kept: Values of our own that several arrangements read.
        least: What widths must be at least, so that every element that is read is there.
    """

    cell: Cell
    values: dict[str, Value] = field(default_factory=dict)
    setup: list[Node] = field(default_factory=list)
    step: list[Node] = field(default_factory=list)
    pasts: dict[str, Value] = field(default_factory=dict)
    derived: dict[Expr, Value] = field(default_factory=dict)
    kept: dict[Expr, Value] = field(default_factory=dict)
    least: dict[Width, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bare = self.cell.roles.bare
        self._taken = {identifier(name) for name in self.cell.variables} | set(self.cell.widths)
        for name, variable in self.cell.variables.items():
            timed = variable.role in (Role.INPUT, Role.STATE, Role.OUTPUT, Role.INTERMEDIATE)
            shown = f"{name}[t]" if timed and name not in bare else name
            shape = flat(variable.shape) if timed else variable.shape
            self.values[name] = Value(identifier(name), shape, _KINDS[variable.role], shown)
        for index, equation in enumerate(self.cell.roles.equations):
            self._lower_equation(index, equation)

    def size(self, width: Width) -> Expr:
        """A width as a number inside an expression."""
        parts = [factor * self._unit(name).symbol for name, factor in width.terms]
        return arrange(Add(*parts, width.constant), {})

    def _unit(self, width: str) -> Value:
        """The value of a width that has a name of its own; what a person may give it gives way."""
        sizes = {value.shown: value for value in self.values.values() if value.kind is Kind.SIZE}
        if width not in sizes:
            name = width if width not in self.values else self.new(width, (), Kind.SIZE).name
            sizes[width] = self.values[name] = Value(name, (), Kind.SIZE, width)
        return sizes[width]

    def new(self, wanted: str, shape: Shape, kind: Kind, shown: str = "") -> Value:
        """A value of our own; the name gives way to the author's with a suffix."""
        name = wanted
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        made = Value(name, shape, kind, shown or name)
        self.values[name] = made
        return made

    def _lower_equation(self, index: int, equation: Eq) -> None:
        target = self.values[equation.left.signal]
        extent = self.cell.variables[equation.left.signal].shape
        _Equation(self, index, target, extent, self.kept).lower(equation.right)

    def at(self, symbol: At) -> Value:
        """The value behind a signal read; makes past states and shifted inputs at the first read."""
        value = self.values[symbol.signal]
        if symbol.offset == 0:
            return value
        suffix = "_prev" if symbol.offset < 0 else "_next"
        suffix += str(abs(symbol.offset)) if abs(symbol.offset) > 1 else ""
        found = self.pasts.get(symbol.name)
        if found is None:
            kind = Kind.PAST if value.kind is Kind.STATE else Kind.SHIFTED
            found = self.new(symbol.signal + suffix, value.shape, kind, symbol.name)
            self.pasts[symbol.name] = found
            if kind is Kind.SHIFTED:
                self.step.append(Shift(found, value, symbol.offset))
        return found

    def variable(self, name: str) -> Variable:
        """The cell's variable behind a value."""
        return self.cell.variables[name]


Operand = tuple[Value, Value, Block | None]
"""A weight, what it is applied to, and the columns that it takes."""


@dataclass
class _Equation:
    """The lowering of one equation."""

    lowering: Lowering
    index: int
    target: Value
    extent: Shape
    kept: dict[Expr, Value]

    def lower(self, right: Expr) -> None:
        nodes = self.sink(self.target)
        if isinstance(right, Concat) and len(self.target.shape) == 1:
            concatenated(self, right, self.target)
            return
        plain = self._split_sum(right)
        if plain is not None and not plain.rest and plain.products:
            nodes.append(self._contract(self.target, plain))
            return
        if isinstance(right, ElementWise) and right.row.arity == 1 and right.args[0].args:
            lowered = right.func(self._pre_activation(right.args[0]).symbol)
        else:
            before, lowered = len(nodes), self.lowered(right)
            whole = isinstance(right, (Reduction, Arrangement, MatVec))
            if whole and nodes[before:] and lowered == writes(nodes[-1])[0].symbol:
                nodes[-1] = into(self.target, nodes[-1])
                return
        nodes.append(Island((Assign(self.target, lowered, self.index),)))

    def sink(self, target: Value) -> list[Node]:
        """Where the nodes that compute a value go."""
        return self.lowering.setup if target.timeless else self.lowering.step

    def _pre_activation(self, argument: Expr) -> Value:
        plain = self._split_sum(argument)
        if plain is not None and plain.products and not plain.rest:
            return self._product_value(plain, "a")
        expr = self.lowered(argument)
        return self.value_of(expr, "a")

    def value_of(self, expr: Expr, prefix: str) -> Value:
        """``expr`` as a value of its own; a symbol is one already."""
        if expr.is_Symbol:
            return self.lowering.values[self._original(expr.name)]
        return self.assigned(expr, prefix)

    def assigned(self, expr: Expr, prefix: str) -> Value:
        """A value of our own that is ``expr``."""
        value = self.made(prefix, self.shape(expr), expr)
        self.sink(value).append(Island((Assign(value, expr, self.index),)))
        return value

    def made(self, prefix: str, shape: Shape, expr: Expr) -> Value:
        """A value of our own, computed from ``expr``; it has time if that has."""
        return self.own(prefix, shape, self._timeless(expr))

    def own(self, prefix: str, shape: Shape, timeless: bool) -> Value:
        """A value of our own."""
        kind = Kind.DERIVED if timeless else Kind.LOCAL
        return self.lowering.new(f"{prefix}_{self.target.name}", shape, kind)

    def need(self, value: Value, units: int) -> None:
        """Remember that a vector must have so many units."""
        least = self.lowering.least
        if value.width.terms:
            least[value.width] = max(units, least.get(value.width, 0))

    def natural(self, name: str) -> Shape:
        """The shape that an author sees."""
        return self.lowering.variable(name).shape

    def _original(self, name: str) -> str:
        return next(key for key, value in self.lowering.values.items() if value.name == name)

    def _values(self, expr: Expr) -> list[Value]:
        by_name = {value.name: value for value in self.lowering.values.values()}
        return [by_name[symbol.name] for symbol in symbols_in_order(expr)]

    def _timeless(self, expr: Expr) -> bool:
        return all(value.timeless for value in self._values(expr))

    def shape(self, expr: Expr) -> Shape:
        """The shape of a lowered expression."""
        return max((value.shape for value in self._values(expr)), key=len, default=())

    def lowered(self, node: Expr) -> Expr:
        """The scalar form of an expression; nodes for what it needs come before."""
        if isinstance(node, At):
            return elements(self, self.lowering.at(node))
        if isinstance(node, Parameter):
            return elements(self, self.lowering.values[node.name])
        plain = self._split_sum(node)
        if plain is not None and plain.products:
            value = self._product_value(plain, "m")
            if not plain.rest:
                return value.symbol
            return Add(value.symbol, *[self.lowered(term) for term in plain.rest], evaluate=False)
        match node:
            case Reduction(axis=int()):
                return reduced_along(self, node)
            case Reduction():
                return reduced(self, node.row, [self.lowered(argument) for argument in node.args])
            case Arrangement():
                return arranged(self, node)
            case MatVec():
                return applied(self, node)
            case Concat():
                return concatenated(self, node)
        if not node.args:
            return node
        lowered = rebuild(node, [self.lowered(argument) for argument in node.args])
        if isinstance(node, ElementWise) and node.row.arity == 1 and node.free_symbols:
            return self._computed_once(lowered)
        return lowered

    def _computed_once(self, function: Expr) -> Expr:
        """A function of parameters only becomes a derived parameter, so that no step repeats it."""
        if self.target.timeless or not self._timeless(function):
            return function
        known = self.lowering.derived.get(function)
        if known is None:
            symbols = symbols_in_order(function)
            own = symbols[0].name if len(symbols) == 1 else self.target.name
            name = f"{function.row.name}_{own}"
            known = self.lowering.new(name, self.shape(function), Kind.DERIVED)
            self.lowering.setup.append(Island((Assign(known, function, self.index),)))
            self.lowering.derived[function] = known
        return known.symbol

    def _split_sum(self, node: Expr) -> _Sum | None:
        """A sum with matrix products, or one matrix product, in its parts; None for anything else."""
        if self._is_weighted(node):
            return _Sum([node], [], [])
        if not isinstance(node, Add):
            return None
        found = _Sum([], [], [])
        for term in _terms(node):
            if self._is_weighted(term):
                found.products.append(term)
            elif isinstance(term, (Parameter, At)) and self._is_addend(term):
                found.addends.append(term)
            else:
                found.rest.append(term)
        return found

    def _is_weighted(self, node: Expr) -> bool:
        """Whether an expression is the product of a weight and a vector."""
        if not isinstance(node, MatVec):
            return False
        weight = node.args[0]
        name = weight.signal if isinstance(weight, At) else weight.name
        role = self.lowering.variable(name).role
        return len(self.natural(name)) == 2 and role in (Role.PARAMETER, Role.FROZEN, Role.DERIVED)

    def _is_addend(self, term: Expr) -> bool:
        name = term.signal if isinstance(term, At) else term.name
        variable = self.lowering.variable(name)
        return variable.role in (Role.PARAMETER, Role.FROZEN, Role.DERIVED) and len(variable.shape) == 1

    def _product_value(self, plain: _Sum, prefix: str) -> Value:
        weight = plain.products[0].args[0]
        name = weight.signal if isinstance(weight, At) else weight.name
        shape = self.lowering.variable(name).shape[:1]
        operands = [self._operands(product) for product in plain.products]
        timeless = all(value.timeless for group in operands for _, value, _ in group)
        kind = Kind.DERIVED if timeless else Kind.LOCAL
        value = self.lowering.new(f"{prefix}_{self.target.name}", shape, kind)
        self.sink(value).append(self._contract(value, plain, operands))
        return value

    def _contract(
        self, target: Value, plain: _Sum, operands: Sequence[Sequence[Operand]] | None = None
    ) -> Node:
        """``target = addends + products``; what is the same for all steps is computed once."""
        groups = operands or [self._operands(product) for product in plain.products]
        items = [item for group in groups for item in group]
        addends = [
            self.lowering.at(term) if isinstance(term, At) else self.lowering.values[term.name]
            for term in plain.addends
        ]
        if not target.timeless and any(item[1].timeless for item in items):
            once = [item for item in items if item[1].timeless]
            value = self.lowering.new(f"m_{self.target.name}", target.shape, Kind.DERIVED)
            self.lowering.setup.append(Contract(value, _products(once), (), self.index))
            addends.append(value)
            items = [item for item in items if not item[1].timeless]
        if not items:
            total = Add(*[addend.symbol for addend in addends], evaluate=False)
            return Island((Assign(target, total, self.index),))
        return Contract(target, _products(items), tuple(addends), self.index)

    def _operands(self, product: MatVec) -> list[Operand]:
        factor, operand = product.args
        name = factor.signal if isinstance(factor, At) else factor.name
        weight = self.lowering.values[name]
        if not isinstance(operand, Concat):
            return [(weight, self.value_of(self.lowered(operand), "v"), None)]
        start = Width()
        parts: list[Operand] = []
        for part in operand.args:
            value = self.value_of(self.lowered(part), "v")
            parts.append((weight, value, Block(start, value.width)))
            start = start + value.width
        return parts


def _products(items: Sequence[Operand]) -> tuple[Product, ...]:
    return tuple(Product(weight, value, block=block) for weight, value, block in items)


@dataclass
class _Sum:
    products: list[MatVec]
    addends: list[Expr]
    rest: list[Expr]


def _terms(node: Expr) -> list[Expr]:
    if isinstance(node, Add):
        return [term for argument in node.args for term in _terms(argument)]
    return [node]


def identifier(name: str) -> str:
    """The author's name as an identifier: ``U_h[0]`` becomes ``U_h_0``."""
    return name.replace("[", "_").replace("]", "").replace("-", "m")


def without_dead_nodes(nodes: Sequence[Node], live: set[str], reads: dict[int, list[Value]]) -> list[Node]:
    """The nodes that some live value needs, in order; ``live`` grows by what they read."""
    kept = []
    for index in range(len(nodes) - 1, -1, -1):
        node = nodes[index]
        if isinstance(node, Island):
            assigns = tuple(a for a in node.assigns if a.target.name in live)
            if not assigns:
                continue
            node = replace(node, assigns=assigns)
        elif node.target.name not in live:
            continue
        live.update(value.name for value in reads[index])
        kept.append(node)
    return kept[::-1]
