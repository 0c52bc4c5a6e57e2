"""What every stage may assume of a program, asserted after each."""

from __future__ import annotations

from collections.abc import Iterable

from gategen.calculus.ir import Island, Node, Value, flatten, writes
from gategen.calculus.program import Program


class MalformedProgram(AssertionError):
    """A stage broke what the next one may assume; always our own mistake."""


def check(program: Program, phases: Iterable[tuple[str, Iterable[Node], Iterable[Value]]]) -> None:
    """Assert what every later stage may assume.

    In each phase, given as (name, nodes, values known before): every value read is known or has had its
    last contribution; islands have one shape; contributions have the shape of their target.
    """
    for name, nodes, known in phases:
        nodes = list(flatten(nodes))
        ready = {value.name for value in known}
        last = {value.name: index for index, node in enumerate(nodes) for value in writes(node)}
        for index, node in enumerate(nodes):
            for value in program.reads(node):
                written = last.get(value.name)
                if written is None and value.name not in ready and not value.timeless:
                    raise MalformedProgram(f"{name}: {node} reads {value.name}, which nothing computes")
                if written is not None and written >= index:
                    raise MalformedProgram(f"{name}: {value.name} is read before its last contribution")
            if isinstance(node, Island):
                for value in program.read(node.assigns[0].expr):
                    if value.shape and value.shape != node.shape:
                        raise MalformedProgram(f"{name}: {value.name} does not fit into {node}")
