"""SymPy expressions as NumPy: operators as the author wrote them, functions as NumPy has them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from keyword import iskeyword

import sympy
from sympy import Expr, Float, Integer, Pow, Symbol

from gategen.calculus.evaluation import compiled
from gategen.calculus.order import arrange
from gategen.language.functions import FUNCTIONS, ElementWise
from gategen.language.notation import rebuild, substitute
from gategen.language.shapes import Shape, Width
from gategen.language.text import expression_text

_HALF = Float(0.5)


class LocalNames:
    """Names inside a generated function: the author's stay, ours give way with a suffix."""

    def __init__(self, values: Iterable[str]) -> None:
        values = list(values)
        self._taken = set(values)
        self._values = {name: self._free(name) for name in values if iskeyword(name)}
        self._ours: dict[str, str] = {}

    def _free(self, wanted: str) -> str:
        name = wanted
        while name in self._taken or iskeyword(name):
            name += "_"
        self._taken.add(name)
        return name

    def __call__(self, wanted: str) -> str:
        """A name of ours."""
        if wanted not in self._ours:
            self._ours[wanted] = self._free(wanted)
        return self._ours[wanted]

    def value(self, name: str) -> str:
        """The name of a value of the program."""
        return self._values.get(name, name)

    def size(self, width: str) -> str:
        """The name of a width; a value may have the same one."""
        key = f"width {width}"
        if key not in self._ours:
            self._ours[key] = self._free(width)
        return self._ours[key]


@dataclass
class NumpyWriter:
    """Writes expressions for one module and collects the functions that they need.

    Attributes:
        names: Spells the module's own names.
        functions: Definitions of functions that NumPy lacks, in the order in which they need each other.
        uses_dtype: Whether anything written so far reads the dtype.
        sizes: Widths read so far.
    """

    names: LocalNames
    functions: dict[str, str] = field(default_factory=dict)
    uses_dtype: bool = False
    sizes: set[str] = field(default_factory=set)

    @property
    def numpy(self) -> str:
        """How the module calls NumPy."""
        return self.names("np")

    def dtype(self) -> str:
        """The name of the dtype, which is then needed."""
        self.uses_dtype = True
        return self.names("dtype")

    def write(
        self, expr: Expr, read: Callable[[str], str], is_number: Callable[[str], bool] = lambda name: False
    ) -> str:
        """An expression as text.

        Args:
            expr: The expression.
            read: How a value is read, by its name.
            is_number: Whether a value is a plain Python number, which takes the dtype of what it meets.
        """
        return expression_text(_Spelling(self, read, is_number).spell(expr))

    def call(self, function: str) -> str:
        """The name of a function; defined in the module if NumPy lacks it."""
        if function == "erf":
            self._define_error_function()
        elif FUNCTIONS[function].row.definition is None:
            return f"{self.numpy}.{function}"
        elif function not in self.functions:
            self._define(function)
        return self.names(function)

    def _define(self, function: str) -> None:
        definition = FUNCTIONS[function].row.definition
        assert definition is not None
        arguments = list(inspect.signature(definition).parameters)
        symbols = [Symbol(name, real=True) for name in arguments]
        position = {name: index for index, name in enumerate(arguments)}
        body = arrange(FUNCTIONS[function](*symbols).define(), position)
        lines = [f"def {self.names(function)}({', '.join(arguments)}):"]
        calls = _calls(body)
        repeated = [call for call in calls if calls.count(call) > 1]
        if repeated:
            longest = max(repeated, key=lambda call: len(str(call)))
            lines.append(f"    e = {self.write(longest, str)}")
            body = substitute(body, {longest: Symbol("e", real=True)})
        lines.append(f"    return {self.write(body, str)}")
        self.functions[function] = "\n".join(lines)

    def _define_error_function(self) -> None:
        self.functions["erf"] = (
            f"def {self.names('erf')}(x):\n"
            f"    return {self.numpy}.vectorize({self.names('math')}.erf, otypes=[x.dtype])(x)"
        )

    def size(self, width: str) -> str:
        """The name of a width, which is then needed."""
        self.sizes.add(width)
        return self.names.size(width)

    def width(self, width: Width) -> str:
        """A width as an integer expression."""
        return str(width.substitute({name: Width.of(self.size(name)) for name in width.names}))

    def shape(self, shape: Shape, *leading: str) -> str:
        """A shape as a tuple; time and batch lead, and then a scalar is one unit wide."""
        widths = [self.width(width) for width in shape] or (["1"] if leading else [])
        items = [*leading, *widths]
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"

    def zeros(self, shape: Shape, *leading: str) -> str:
        """An array of zeros."""
        text = self.shape(shape, *leading)
        return f"{self.numpy}.zeros({text[1:-2] if text.endswith(',)') else text}, {self.dtype()})"


def _calls(expr: Expr) -> list[Expr]:
    inner = [call for argument in expr.args for call in _calls(argument)]
    calls = isinstance(expr, ElementWise) and not expr.row.infix and expr.row.name != "where"
    return [*inner, expr] if calls else inner


@dataclass
class _Spelling:
    """Replaces every function and symbol of an expression by a symbol that reads as its text."""

    writer: NumpyWriter
    read: Callable[[str], str]
    is_number: Callable[[str], bool]

    def spell(self, node: Expr) -> Expr:
        if isinstance(node, Symbol):
            return Symbol(self.read(node.name))
        if node is sympy.pi:
            return Symbol(f"{self.writer.numpy}.pi")
        if isinstance(node, ElementWise):
            return self._number(node) if self._is_number(node) else self._array(node)
        if not node.args:
            return node
        return rebuild(node, [self.spell(argument) for argument in node.args])

    def _text(self, node: Expr) -> str:
        return expression_text(self.spell(node))

    def _is_number(self, node: Expr) -> bool:
        return all(self.is_number(symbol.name) for symbol in node.free_symbols)

    def _number(self, node: ElementWise) -> Expr:
        """A function of plain numbers, itself a plain number: NumPy's own scalars would widen float32."""
        if node.free_symbols:
            arguments = self._arguments(node)
            if node.row.definition is not None or node.row.name == "erf":
                arguments = [f"{self.writer.numpy}.float64({argument})" for argument in arguments]
            return Symbol(f"{self._call(node, arguments)}.item()")
        if node.row.name == "sqrt" and node.args[0].is_positive:
            return Pow(self.spell(node.args[0]), _HALF, evaluate=False)
        return Float(compiled(node)(str))

    def _array(self, node: ElementWise) -> Expr:
        if node.row.infix:
            node = FUNCTIONS["where"](node, Integer(1), Integer(0))
        text = self._call(node, self._arguments(node))
        # Where all branches are plain numbers NumPy would choose the dtype itself.
        return Symbol(f"{text}.astype({self.writer.dtype()})" if self._chooses_number(node) else text)

    def _call(self, node: ElementWise, arguments: list[str]) -> str:
        if node.row.infix:
            left, right = arguments
            return f"{self.writer.numpy}.where({left} {node.row.infix} {right}, 1, 0)"
        return f"{self.writer.call(node.row.name)}({', '.join(arguments)})"

    def _arguments(self, node: ElementWise) -> list[str]:
        if node.row.name != "where":
            return [self._text(argument) for argument in node.args]
        condition, *branches = node.args
        if isinstance(condition, ElementWise) and condition.row.infix:
            condition = condition.func(*[self.spell(argument) for argument in condition.args])
            return [expression_text(condition), *(self._branch(branch) for branch in branches)]
        return [self._text(condition), *(self._branch(branch) for branch in branches)]

    def _branch(self, node: Expr) -> str:
        if self._chooses_number(node) and not self._is_number(node):
            return self._call(node, self._arguments(node))
        return self._text(node)

    def _chooses_number(self, node: Expr) -> bool:
        if not isinstance(node, ElementWise) or node.row.name != "where":
            return False
        return all(self._is_number(branch) or self._chooses_number(branch) for branch in node.args[1:])
