"""A cell's text run by PyTorch as Python reads it: nothing of gategen's parser, calculus or functions."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_FAR = 20
"""Steps before the first one, and behind the last one, at which an input may be read: it is zero there."""

OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def _straight(x: Tensor, value: Tensor) -> Tensor:
    """A value whose gradient is that of ``x``."""
    return x + (value - x).detach()


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "floor": torch.floor,
    "sign": torch.sign,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "logsigmoid": torch.nn.functional.logsigmoid,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "elu": torch.nn.functional.elu,
    "hard_tanh": torch.nn.functional.hardtanh,
    "hard_sigmoid": torch.nn.functional.hardsigmoid,
    "softsign": torch.nn.functional.softsign,
    "erf": torch.erf,
    "log1p": torch.log1p,
    "abs": torch.abs,
    "mod": torch.remainder,
    "clip": torch.clip,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "max": lambda v, *w: torch.maximum(*torch.broadcast_tensors(v, *w)) if w else v.amax(-1, keepdim=True),
    "min": lambda v, *w: torch.minimum(*torch.broadcast_tensors(v, *w)) if w else v.amin(-1, keepdim=True),
    "where": torch.where,
    "stop_gradient": torch.Tensor.detach,
    "surrogate": lambda value, way: _straight(way, value),
    "round_ste": lambda x: _straight(x, torch.round(x)),
    "sum": lambda v: v.sum(-1, keepdim=True),
    "mean": lambda v: v.mean(-1, keepdim=True),
    "var": lambda v: v.var(-1, keepdim=True, unbiased=False),
    "norm": lambda v: v.norm(dim=-1, keepdim=True),
    "dot": lambda v, w: (v * w).sum(-1, keepdim=True),
    "logsumexp": lambda v: v.logsumexp(-1, keepdim=True),
    "softmax": lambda v: v.softmax(-1),
    "cumsum": lambda v: v.cumsum(-1),
    "layer_norm": lambda v, gain=1, bias=0: torch.nn.functional.layer_norm(v, v.shape[-1:]) * gain + bias,
    "outer": lambda v, w: v[..., :, None] * w[..., None, :],
    "repeat": lambda v, times: v.repeat_interleave(int(times), dim=-1),
    "reshape": lambda v, rows: v.unflatten(-1, (int(rows), -1)),
    "flatten": lambda matrix: matrix.flatten(-2),
    "T": lambda matrix: matrix.T,
    "I": lambda rows: torch.eye(int(rows), dtype=torch.float64),
    "split": lambda v, parts: v.chunk(int(parts), dim=-1),
}
ALONG = frozenset({"sum", "mean", "var", "norm", "logsumexp", "softmax", "cumsum"})
"""Functions of one vector that may have the axis of a matrix behind it."""
COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class Step:
    """One step of a cell: what its names stand for there.

    Args:
        known: Values by name and step, ``("h", -1)`` for h[t-1] in the first step; grows as steps run.
        params: Parameters by name, and numbers.
        t: The step.
        batch: B.
    """

    def __init__(
        self, known: dict[tuple[str, int], Tensor], params: Mapping[str, Tensor], t: int, batch: int
    ) -> None:
        self.batch = batch
        self.known = known
        self.params = params
        self.t = t
        self.bare: dict[str, Tensor] = {}

    def run(self, statement: ast.stmt) -> None:
        """Assign one value, or the parts of one; declarations say nothing about values."""
        if isinstance(statement, ast.Assign):
            (target,) = statement.targets
            value = self.value(statement.value)
            if isinstance(target, ast.Tuple):
                for single, part in zip(target.elts, value, strict=True):
                    self.assign(single, part)
            else:
                self.assign(target, value)

    def assign(self, target: ast.expr, value: Tensor) -> None:
        """Give a value a name; what is declared as bare has no time."""
        name = target.value if isinstance(target, ast.Subscript) else target
        assert isinstance(name, ast.Name)
        # What depends on parameters only is the same for every sequence.
        value = self.rows(value)
        self.known[name.id, self.t] = self.bare[name.id] = value

    def value(self, node: ast.expr) -> Any:
        """The value of an expression, (B, width)."""
        match node:
            case ast.Constant(value=number):
                return torch.tensor(float(number), dtype=torch.float64)
            case ast.Name(id="t"):
                return self.known["t", self.t]
            case ast.Name(id=name) if (name, self.t) in self.known and name not in self.bare:
                return self.known[name, self.t]
            case ast.Name(id=name):
                return self.bare[name] if name in self.bare else self.params[name]
            case ast.Subscript(value=whole, slice=ast.Tuple(elts=[ast.Slice(), ast.Constant(value=None)])):
                return self.vector(whole)[..., :, None]
            case ast.Subscript(value=whole, slice=ast.Tuple(elts=[ast.Constant(value=None), ast.Slice()])):
                return self.vector(whole)[..., None, :]
            case ast.Subscript(value=whole, slice=ast.Slice(lower=first, upper=end)):
                return self.value(whole)[..., _number(first) : _number(end)]
            case ast.Subscript(value=ast.Call(func=ast.Name(id="split")) as whole, slice=place):
                return self.value(whole)[_number(place)]
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=key)) if (
                f"{name}[{key}]" in self.params
            ):
                return self.params[f"{name}[{key}]"]
            case ast.Subscript(value=whole, slice=ast.Constant(value=int() as place)):
                return self.value(whole)[..., place : place + 1]
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                return self.known[name, self.t + offset(index)]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.List(elts=parts):
                return torch.cat([self.vector(part) for part in parts], dim=-1)
            case ast.BinOp(left=weight, op=ast.MatMult(), right=operand):
                return _product(self.value(weight), self.vector(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](*_fitting(self.value(left), self.value(right)))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return COMPARISONS[type(op)](*_fitting(self.value(left), self.value(right)))
            case ast.Call(
                func=ast.Name(id=name), args=arguments, keywords=[ast.keyword(value=ast.Constant(value=axis))]
            ):
                return _along(name, axis, map(self.value, arguments))
            case ast.Call(func=ast.Name(id=name), args=[matrix, ast.Constant(value=int() as axis)]) if (
                name in ALONG
            ):
                return _along(name, axis, [self.value(matrix)])
            case ast.Call(func=ast.Name(id=name), args=arguments):
                values = map(self.vector, arguments) if name == "outer" else map(self.value, arguments)
                return FUNCTIONS[name](*values)
        raise ValueError(f"no rule for {ast.dump(node)}")

    def vector(self, node: ast.expr) -> Tensor:
        """The value of what is a vector for every sequence."""
        return self.rows(self.value(node))

    def rows(self, value: Tensor) -> Tensor:
        """One row for every sequence."""
        return value.expand(self.batch, -1 if value.dim() else 1) if value.dim() < 2 else value


def _along(name: str, axis: int, values: Iterable[Tensor]) -> Tensor:
    """A reduction of the last axis, done to another one, which is gone unless the function keeps it."""
    turned = [value.transpose(-1, axis - 2) if value.dim() > 1 else value for value in values]
    made = FUNCTIONS[name](*turned)
    return made.transpose(-1, axis - 2) if name in ("softmax", "cumsum", "layer_norm") else made[..., 0]


def _number(node: ast.expr | None) -> int | None:
    return int(node.value) if isinstance(node, ast.Constant) else None


def _product(left: Tensor, right: Tensor) -> Tensor:
    """A weight, or a matrix or a vector of every sequence, times vectors or matrices of every sequence."""
    if left.dim() == 3:
        return (left @ right[..., None])[..., 0]
    return (left[:, None, :] @ right)[:, 0] if right.dim() == 3 else right @ left.T


def _fitting(left: Any, right: Any) -> tuple[Any, Any]:
    """Two values of which one may be a number of every sequence, the other a matrix."""
    sides = [left, right]
    for place, other in ((0, right), (1, left)):
        if sides[place].dim() == 2 and sides[place].shape[-1] == 1 and other.dim() == 3:
            sides[place] = sides[place][..., None]
    return sides[0], sides[1]


def offset(index: ast.expr) -> int:
    """0 for t, -2 for t-2."""
    if isinstance(index, ast.BinOp):
        assert isinstance(index.right, ast.Constant)
        steps = int(index.right.value)
        return -steps if isinstance(index.op, ast.Sub) else steps
    return 0


def run(
    text: str,
    inputs: Mapping[str, Tensor],
    params: Mapping[str, Tensor],
    initial: Mapping[str, Tensor],
    matrices: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, Tensor]:
    """Every assigned name over all steps, (T, B, width).

    Args:
        text: The cell, loops unrolled.
        inputs: (T, B, width) each; those without a time in the text may differ from step to step.
        params: By name, numbers of constants and widths included.
        initial: (B, width), or (k, B, width) for k steps before the first one.
        matrices: Rows and columns of those inputs and states that are rows of the elements of a matrix.
    """
    statements = ast.parse(text).body
    steps, batch = next(iter(inputs.values())).shape[:2]

    def shaped(name: str, plane: Tensor) -> Tensor:
        return plane.reshape(*plane.shape[:-1], *(matrices or {}).get(name, plane.shape[-1:]))

    known = {}
    for name, plane in inputs.items():
        nothing = torch.zeros_like(shaped(name, plane[0]))
        known |= {(name, t): nothing for t in (*range(-_FAR, 0), *range(steps, steps + _FAR))}
        known |= {(name, t): shaped(name, plane[t]) for t in range(steps)}
    for name, start in initial.items():
        rows = start if start.dim() == 3 else start[None]
        known |= {(name, place - len(rows)): shaped(name, row) for place, row in enumerate(rows)}
    for t in range(steps):
        step = Step(known, params, t, batch)
        for statement in statements:
            step.run(statement)
    names = {name for name, t in known if t == steps - 1} - {*inputs}
    planes = {name: torch.stack([known[name, t] for t in range(steps)]) for name in sorted(names)}
    return {name: plane.flatten(2) if plane.dim() == 4 else plane for name, plane in planes.items()}
