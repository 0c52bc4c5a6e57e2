"""Copied units, outer products, matrices of the step and what goes along units, and their derivatives."""

from __future__ import annotations

from sympy import Expr

from gategen.backends.formula import Chain, Identity, Kronecker, Ones, Running, Selection, Transposed, Units
from gategen.backends.naming import width_formula
from gategen.calculus.ir import Along, Apply, Extreme, Move, Node, Outer, Scan, Turn, Value
from gategen.language.arrangements import ARRANGEMENTS
from gategen.language.reductions import REDUCTIONS
from gategen.language.shapes import Width


def arranged(node: Along) -> Expr:
    """What a node makes, in the words of the language where it has some."""
    match node:
        case Extreme():
            return REDUCTIONS[node.name](node.source.symbol, axis=_axis(node))
        case Scan():
            return REDUCTIONS["cumsum"](node.source.symbol, axis=_axis(node))
        case Move():
            return units(node.source, node.start, node.size)
        case Outer(left=None, right=Value() as right):
            return ARRANGEMENTS["row"](right.symbol)
        case Outer(left=Value() as left, repeat=True):
            return ARRANGEMENTS["repeat"](left.symbol, node.shape[1].constant)
        case Outer(left=Value() as left, right=None):
            return ARRANGEMENTS["column"](left.symbol)
        case Outer(left=Value() as left, right=Value() as right):
            return ARRANGEMENTS["outer"](left.symbol, right.symbol)
        case Apply(repeat=True):
            return Chain(Kronecker(Identity(), Transposed(Ones())), node.matrix.symbol)
        case Apply(vector=None):
            return REDUCTIONS["sum"](node.matrix.symbol, axis=0 if node.transposed else 1)
        case Apply(vector=Value() as vector):
            if node.transposed:
                return Chain(Transposed(node.matrix.symbol), vector.symbol)
            return Chain(node.matrix.symbol, vector.symbol)
        case Turn():
            return Transposed(node.source.symbol)
    return Identity()


def _axis(node: Extreme | Scan) -> int | None:
    return None if not node.shape else 0 if node.transposed else 1


def run_back(node: Scan, d_target: Value) -> Expr:
    """What the adjoint of a running sum hands on."""
    if node.shape and not node.transposed:
        return Chain(d_target.symbol, Running())
    return Chain(Transposed(Running()), d_target.symbol)


def units(value: Value, first: Width, size: Width) -> Expr:
    """Some units of a value; the value itself if it is all of them."""
    if len(value.shape) == 2 or size == value.width:
        return value.symbol
    return Units(value.symbol, width_formula(first), width_formula(first + size))


def slope(node: Node, back: Node) -> Expr:
    """The derivative of what a node makes, the elements of matrices row after row.

    Args:
        node: The node.
        back: Its adjoint, which tells with respect to what.
    """
    match node:
        case Scan(shape=()):
            return Running()
        case Scan():
            sides = (Running(), Identity()) if node.transposed else (Identity(), Running())
            return Kronecker(*sides)
        case Move():
            if node.size == node.target.width == node.source.width:
                return Identity()
            ends = (node.into, node.into + node.size, node.start, node.start + node.size)
            return Selection(*map(width_formula, ends))
        case Outer():
            assert isinstance(back, Apply)
            other = node.left if back.transposed else node.right
            factor = Ones() if other is None else other.symbol
            return Kronecker(factor, Identity()) if back.transposed else Kronecker(Identity(), factor)
        case Apply():
            if isinstance(back, Apply):
                return Transposed(node.matrix.symbol) if node.transposed else node.matrix.symbol
            factor = Transposed(Ones() if node.vector is None else node.vector.symbol)
            return Kronecker(factor, Identity()) if node.transposed else Kronecker(Identity(), factor)
    return Identity()
