"""The table of element-wise functions: one row each, and the only scalar derivatives written by hand.

A row gives the derivative through the value already computed (``y``) wherever that is possible, so that
what a backward pass must keep falls out of the free symbols. A *primitive* is spelled by every back end;
every other function is defined here, in primitives, in a form that never overflows.

Conventions at kinks follow PyTorch: relu'(0) = 0, abs'(0) = 0, clip' = 1 on the closed interval, and
max(a, b) at a tie gives one half to each side. Comparisons order NaN as IEEE 754 does; the definitions
are arranged so that a NaN argument gives a NaN value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import sympy
from sympy import Expr, Integer, Rational, pi

Formula = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    r"""One element-wise function.

    Attributes:
        name: The name in the language and in generated code.
        derivatives: One formula per argument, called as ``formula(y, *arguments)``.
        definition: The value in primitives, called with the arguments; None for a primitive.
        latex: The LaTeX spelling; empty for ``\operatorname{name}``.
        infix: The operator between two arguments, for comparisons.
        declared: Whether the derivatives are not those of the value but what gradients are to take for them.
    """

    name: str
    derivatives: tuple[Formula, ...]
    definition: Formula | None = None
    latex: str = ""
    infix: str = ""
    declared: bool = False

    @property
    def arity(self) -> int:
        """Number of arguments."""
        return len(self.derivatives)


class ElementWise(sympy.Function):  # type: ignore[misc]
    """A SymPy function that stands for one row; never evaluates itself."""

    row: ClassVar[Row]

    def fdiff(self, argindex: int = 1) -> Expr:
        """The row's derivative with respect to argument ``argindex`` (from 1)."""
        return sympy.sympify(self.row.derivatives[argindex - 1](self, *self.args))

    def define(self) -> Expr:
        """The value in primitives, or the function itself when it is one."""
        return self if self.row.definition is None else sympy.sympify(self.row.definition(*self.args))


FUNCTIONS: dict[str, type[ElementWise]] = {}
"""Every element-wise function by name, in the order of the table."""

ALIASES = {"max": "maximum", "min": "minimum"}
"""Other spellings that papers and libraries use."""


def _row(
    name: str,
    *derivatives: Formula,
    definition: Formula | None = None,
    latex: str = "",
    infix: str = "",
    declared: bool = False,
) -> type[ElementWise]:
    row = Row(name, derivatives, definition, latex, infix, declared)
    made = type(name, (ElementWise,), {"row": row, "nargs": len(derivatives), "__module__": __name__})
    FUNCTIONS[name] = made
    return made


def _zero(*_: Any) -> Expr:
    return Integer(0)


# Comparisons are 1 where they hold and 0 elsewhere; they pass no gradient.
greater = _row("greater", _zero, _zero, infix=">")
greater_equal = _row("greater_equal", _zero, _zero, infix=">=")
less = _row("less", _zero, _zero, infix="<")
less_equal = _row("less_equal", _zero, _zero, infix="<=")
equal = _row("equal", _zero, _zero, infix="==")
not_equal = _row("not_equal", _zero, _zero, infix="!=")

# fmt: off
where: type[ElementWise] = _row("where", _zero, lambda y, c, a, b: where(c, 1, 0),
                                lambda y, c, a, b: where(c, 0, 1))

# Primitives: the functions that a back end spells itself.
exp = _row("exp", lambda y, x: y, latex=r"\exp")
expm1 = _row("expm1", lambda y, x: y + 1)
log = _row("log", lambda y, x: 1 / x, latex=r"\log")
log1p = _row("log1p", lambda y, x: 1 / (1 + x))
sqrt = _row("sqrt", lambda y, x: 1 / (2 * y))
sin = _row("sin", lambda y, x: cos(x), latex=r"\sin")
cos: type[ElementWise] = _row("cos", lambda y, x: -sin(x), latex=r"\cos")
tanh = _row("tanh", lambda y, x: 1 - y**2, latex=r"\tanh")
erf = _row("erf", lambda y, x: 2 / sqrt(pi) * exp(-(x**2)))
abs = _row("abs", lambda y, x: sign(x))
floor = _row("floor", _zero)
maximum = _row("maximum",
               lambda y, a, b: where(greater(a, b), 1, where(less(a, b), 0, Rational(1, 2))),
               lambda y, a, b: where(less(a, b), 1, where(greater(a, b), 0, Rational(1, 2))),
               latex=r"\max")
minimum = _row("minimum",
               lambda y, a, b: where(less(a, b), 1, where(greater(a, b), 0, Rational(1, 2))),
               lambda y, a, b: where(greater(a, b), 1, where(less(a, b), 0, Rational(1, 2))),
               latex=r"\min")

# Defined in primitives.
sign: type[ElementWise] = _row("sign", _zero, latex=r"\operatorname{sign}",
            definition=lambda x: where(greater(x, 0), 1, where(less(x, 0), -1, x)))
sigmoid = _row("sigmoid", lambda y, x: y * (1 - y), latex=r"\sigma",
               definition=lambda x: where(greater_equal(x, 0), 1, exp(-abs(x))) / (1 + exp(-abs(x))))
softplus = _row("softplus", lambda y, x: sigmoid(x),
                definition=lambda x: maximum(x, 0) + log1p(exp(-abs(x))))
logsigmoid = _row("logsigmoid", lambda y, x: sigmoid(-x), latex=r"\log\sigma",
                  definition=lambda x: minimum(x, 0) - log1p(exp(-abs(x))))
relu = _row("relu", lambda y, x: where(greater(y, 0), 1, 0),
            definition=lambda x: where(less_equal(x, 0), 0, x))
leaky_relu = _row("leaky_relu", lambda y, x: where(greater(y, 0), 1, Rational(1, 100)),
                  definition=lambda x: where(greater(x, 0), x, Rational(1, 100) * x))
elu = _row("elu", lambda y, x: where(greater(y, 0), 1, y + 1),
           definition=lambda x: where(greater(x, 0), x, expm1(minimum(x, 0))))
# Beyond 800 the products are zero in every supported precision; the branches keep inf * 0 out.
silu = _row("silu",
            lambda y, x: where(less_equal(x, -800), 0, where(greater_equal(x, 800), 1,
                sigmoid(x) + y * (1 - sigmoid(x)))),
            definition=lambda x: where(less_equal(x, -800), 0, x * sigmoid(x)))
gelu = _row("gelu",
            lambda y, x: where(less_equal(x, -40), 0, where(greater_equal(x, 40), 1,
                (1 + erf(x / sqrt(2))) / 2 + x * exp(-(x**2) / 2) / sqrt(2 * pi))),
            definition=lambda x: where(less_equal(x, -40), 0, x * (1 + erf(x / sqrt(2))) / 2))
softsign = _row("softsign", lambda y, x: (1 + abs(x)) ** -2,
                definition=lambda x: where(less_equal(abs(x), 1), x / (1 + abs(x)),
                                           sign(x) * (1 - 1 / (1 + abs(x)))))
clip = _row("clip",
            lambda y, x, low, high: where(less(x, low), 0, where(greater(x, high), 0, 1)),
            lambda y, x, low, high: where(less(x, low), 1, 0),
            lambda y, x, low, high: where(less(x, low), 0, where(greater(x, high), 1, 0)),
            definition=lambda x, low, high: where(less(x, low), low, where(greater(x, high), high, x)))
hard_tanh = _row("hard_tanh", lambda y, x: where(greater(x, -1), where(less(x, 1), 1, 0), 0),
                 definition=lambda x: clip(x, -1, 1))
hard_sigmoid = _row("hard_sigmoid",
                    lambda y, x: where(greater(x, -3), where(less(x, 3), Rational(1, 6), 0), 0),
                    definition=lambda x: clip(x + 3, 0, 6) / 6)
mod = _row("mod", lambda y, a, b: 1, lambda y, a, b: -floor(a / b),
           definition=lambda a, b: a - b * floor(a / b))

# With a derivative declared: gradients take another way than the value.
stop_gradient = _row("stop_gradient", _zero, definition=lambda x: x, declared=True)
surrogate = _row("surrogate", _zero, lambda y, a, b: 1, definition=lambda a, b: a, declared=True)
# A tie goes to the even number, as in IEEE 754. Bengio et al. 2013, arXiv:1308.3432.
round_ste = _row("round_ste", lambda y, x: 1, declared=True,
                 definition=lambda x: floor(x) + where(greater(x - floor(x), Rational(1, 2)), 1,
                     where(equal(x - floor(x), Rational(1, 2)), floor(x) - 2 * floor(floor(x) / 2), 0)))
# Zenke & Ganguli 2018, arXiv:1705.11146. A slope k: surrogate(spike(x), softsign(k * x) / k).
spike = _row("spike", lambda y, x: (1 + abs(x)) ** -2, declared=True,
             definition=lambda x: where(greater(x, 0), 1, where(less_equal(x, 0), 0, x)))
# fmt: on
