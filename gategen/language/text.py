"""Expressions and cells back to text, in the author's order and with no parenthesis too many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sympy
from sympy import Add, Expr, Mul, Pow

from gategen.language.arrangements import Arrangement
from gategen.language.functions import ElementWise
from gategen.language.notation import At, Concat, Eq, MatVec, negated, subtrahend
from gategen.language.reductions import Reduction
from gategen.language.roles import Declaration

_COMPARISON, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(6)


def number_text(number: Expr) -> str:
    """A number in full precision, as Python reads it back."""
    if isinstance(number, sympy.Integer):
        return str(number)
    if isinstance(number, sympy.Rational):
        return f"{number.p} / {number.q}"
    return repr(float(number))


def expression_text(node: Expr, bare: frozenset[str] = frozenset()) -> str:
    """An expression in the language; names in ``bare`` are written without ``[t]``."""
    return _Writer(bare).write(node, 0)


class _Writer:
    """Writes one expression; a node is put in parentheses when its level is below the one needed."""

    def __init__(self, bare: frozenset[str]) -> None:
        self.bare = bare

    def write(self, node: Expr, level: int) -> str:
        own, text = self._written(node)
        return f"({text})" if own < level else text

    def _written(self, node: Expr) -> tuple[int, str]:
        if isinstance(node, At):
            is_bare = node.signal in self.bare or node.signal == "t"
            return _ATOM, node.signal if node.offset == 0 and is_bare else node.name
        if isinstance(node, sympy.Symbol):
            return _ATOM, node.name
        if node.is_Number:
            text = number_text(node)
            return (_PRODUCT if "/" in text else _SIGN if text.startswith("-") else _ATOM), text
        if isinstance(node, MatVec):
            weight, operand = node.args
            return _PRODUCT, f"{self.write(weight, _ATOM)} @ {self.write(operand, _SIGN)}"
        if isinstance(node, Concat):
            return _ATOM, f"[{', '.join(self.write(argument, 0) for argument in node.args)}]"
        if isinstance(node, (ElementWise, Reduction)):
            return self._function(node)
        if isinstance(node, Arrangement):
            level = _ATOM if node.row.form.startswith("{0}") else 0
            return _ATOM, node.row.form.format(*(self.write(argument, level) for argument in node.args))
        if isinstance(node, Add):
            return _SUM, self._sum(node)
        if isinstance(node, Pow) and not (node.exp.is_Number and node.exp.is_negative):
            return _POWER, f"{self.write(node.base, _ATOM)}**{self.write(node.exp, _ATOM)}"
        return self._product(node)

    def _function(self, node: ElementWise | Reduction) -> tuple[int, str]:
        if isinstance(node, ElementWise) and node.row.infix:
            left, right = (self.write(argument, _SUM) for argument in node.args)
            return _COMPARISON, f"{left} {node.row.infix} {right}"
        arguments = [self.write(argument, 0) for argument in node.args]
        if isinstance(node, Reduction) and node.axis is not None:
            arguments.append(f"axis={node.axis}")
        return _ATOM, f"{node.row.name}({', '.join(arguments)})"

    def _sum(self, node: Add) -> str:
        text = self.write(node.args[0], _SUM)
        for term in node.args[1:]:
            rest = subtrahend(term)
            text += (
                f" - {self.write(rest, _PRODUCT)}" if rest is not None else f" + {self.write(term, _PRODUCT)}"
            )
        return text

    def _product(self, node: Expr) -> tuple[int, str]:
        rest = negated(node)
        if rest is not None:
            return _SIGN, f"-{self.write(rest, _SIGN)}"
        text = ""
        for factor in node.args if isinstance(node, Mul) else (node,):
            if isinstance(factor, Pow) and factor.exp.is_Number and factor.exp.is_negative:
                below = factor.base if factor.exp == -1 else Pow(factor.base, -factor.exp, evaluate=False)
                text = f"{text or '1'} / {self.write(below, _SIGN)}"
            elif text:
                text += f" * {self.write(factor, _SIGN)}"
            else:
                # Python reads W @ v * a as its author means it, a person has to think: parentheses stay.
                text = self.write(factor, _SIGN if isinstance(factor, MatVec) else _PRODUCT)
        return _PRODUCT, text


def equation_text(equation: Eq, bare: frozenset[str] = frozenset()) -> str:
    """``left = right`` in the language."""
    return f"{_target_text(equation)} = {expression_text(equation.right, bare)}"


def declaration_text(declaration: Declaration) -> str:
    """``name: kind[dims] = value`` in the language."""
    text = f"{declaration.name}: {declaration.kind}"
    if declaration.dims is not None:
        text += f"[{', '.join(map(str, declaration.dims))}]"
    if declaration.value is not None:
        text += f" = {declaration.value!r}"
    return text


def cell_text(doc: str, declarations: Iterable[Declaration], equations: Iterable[Eq]) -> str:
    """A whole cell as text that parses back to an equal one."""
    equations, declarations = tuple(equations), tuple(declarations)
    bare = {equation.left.signal for equation in equations if equation.bare}
    bare |= {declaration.name for declaration in declarations if declaration.kind == "sequence"}
    end = "\n" if "\n" in doc else ""
    parts = [f'"""{_quotable(doc)}{end}"""'] if doc else []
    parts += [declaration_text(declaration) for declaration in declarations]
    return "\n".join([*parts, *_equation_lines(equations, frozenset(bare))]) + "\n"


def _equation_lines(equations: Sequence[Eq], bare: frozenset[str]) -> list[str]:
    """One line for each equation, and for all the parts of a split."""
    lines: list[str] = []
    left = list(equations)
    while left:
        parts = _parts_of_a_split(left)
        if parts:
            targets = ", ".join(_target_text(equation) for equation in parts)
            form = type(parts[0].right).row.form.partition("[")[0]
            operand = expression_text(parts[0].right.args[0], bare)
            lines.append(f"{targets} = {form.format(operand, 0, len(parts))}")
        else:
            lines.append(equation_text(left[0], bare))
        del left[: len(parts) or 1]
    return lines


def _parts_of_a_split(equations: Sequence[Eq]) -> Sequence[Eq]:
    """The first equations, if they are all the parts of one split in order."""
    first = equations[0].right
    if not isinstance(first, Arrangement) or first.row.name != "split":
        return ()
    operand, _, count = first.args
    found = equations[: int(count)]
    wanted = [first.func(operand, place, count) for place in range(int(count))]
    return found if [equation.right for equation in found] == wanted else ()


def _target_text(equation: Eq) -> str:
    return equation.left.signal if equation.bare else f"{equation.left.signal}[t]"


def _quotable(doc: str) -> str:
    """``doc`` so that it can stand between triple quotes."""
    escaped = doc.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    escaped = "".join(c if c.isprintable() or c == "\n" else f"\\U{ord(c):08x}" for c in escaped)
    return escaped[:-1] + '\\"' if escaped.endswith('"') and not escaped.endswith('\\"') else escaped
