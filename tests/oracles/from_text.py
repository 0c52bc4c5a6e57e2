"""A cell's text run by PyTorch as Python reads it: nothing of gategen's parser, calculus or functions."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_FAR = 9
"""Steps before the first one at which an input that no gradient needs may be read."""

OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "relu": torch.relu,
    "abs": torch.abs,
    "sin": torch.sin,
    "softplus": torch.nn.functional.softplus,
    "softsign": torch.nn.functional.softsign,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "max": torch.maximum,
    "min": torch.minimum,
    "where": torch.where,
    "stop_gradient": torch.Tensor.detach,
    "sum": lambda v: v.sum(-1, keepdim=True),
    "mean": lambda v: v.mean(-1, keepdim=True),
    "var": lambda v: v.var(-1, keepdim=True, unbiased=False),
    "dot": lambda v, w: (v * w).sum(-1, keepdim=True),
    "logsumexp": lambda v: v.logsumexp(-1, keepdim=True),
    "softmax": lambda v: v.softmax(-1),
    "cumsum": lambda v: v.cumsum(-1),
    "layer_norm": lambda v, gain=1, bias=0: torch.nn.functional.layer_norm(v, v.shape[-1:]) * gain + bias,
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
        """Assign one value; declarations say nothing about values."""
        if isinstance(statement, ast.Assign):
            (target,) = statement.targets
            name = target.value if isinstance(target, ast.Subscript) else target
            assert isinstance(name, ast.Name)
            value = self.value(statement.value)
            # What depends on parameters only is the same for every sequence.
            value = value.expand(self.batch, -1) if value.dim() < 2 else value
            self.known[name.id, self.t] = self.bare[name.id] = value

    def value(self, node: ast.expr) -> Any:
        """The value of an expression, (B, width)."""
        match node:
            case ast.Constant(value=number):
                return torch.tensor(float(number), dtype=torch.float64)
            case ast.Name(id=name):
                return self.bare[name] if name in self.bare else self.params[name]
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                return self.known[name, self.t + offset(index)]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.List(elts=parts):
                return torch.cat([self.value(part) for part in parts], dim=-1)
            case ast.BinOp(left=weight, op=ast.MatMult(), right=operand):
                return self.value(operand) @ self.value(weight).T
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](self.value(left), self.value(right))
            case ast.Compare(left=left, ops=[ast.Gt()], comparators=[right]):
                return self.value(left) > self.value(right)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return FUNCTIONS[name](*map(self.value, arguments))
        raise ValueError(f"no rule for {ast.dump(node)}")


def offset(index: ast.expr) -> int:
    """0 for t, -2 for t-2."""
    if isinstance(index, ast.BinOp):
        assert isinstance(index.right, ast.Constant)
        steps = int(index.right.value)
        return -steps if isinstance(index.op, ast.Sub) else steps
    return 0


def run(
    text: str, inputs: Mapping[str, Tensor], params: Mapping[str, Tensor], initial: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Every assigned name over all steps, (T, B, width)."""
    statements = ast.parse(text).body
    steps, batch = next(iter(inputs.values())).shape[:2]
    known = {(name, -k): torch.zeros_like(x[0]) for name, x in inputs.items() for k in range(1, _FAR)}
    for name, start in initial.items():
        rows = start if start.dim() == 3 else start[None]
        known |= {(name, place - len(rows)): row for place, row in enumerate(rows)}
    known |= {(name, t): plane[t] for name, plane in inputs.items() for t in range(steps)}
    for t in range(steps):
        step = Step(known, params, t, batch)
        for statement in statements:
            step.run(statement)
    names = {name for name, t in known if t == steps - 1} - {*inputs}
    return {name: torch.stack([known[name, t] for t in range(steps)]) for name in sorted(names)}
