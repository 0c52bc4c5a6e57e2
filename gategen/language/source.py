"""The text of a cell as a checked syntax tree, with positions for errors. Nothing is ever evaluated."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from typing import NoReturn

from gategen.errors import CellError, CellSyntaxError, LimitError, Position

MAX_BYTES = 64 * 1024
MAX_DEPTH = 64
MAX_NODES = 20_000
MAX_NUMBER = 10**9
MAX_POWER = 64
MAX_STATEMENTS = 1_000

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True)
class Source:
    """A cell text and the name under which errors quote it."""

    text: str
    file: str

    def tree(self) -> ast.Module:
        """The syntax tree, within the limits; raises `CellSyntaxError` or `LimitError`."""
        if len(self.text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise LimitError(f"{self.file}: the text is larger than {MAX_BYTES // 1024} KiB")
        if "\0" in self.text:
            raise CellSyntaxError(f"{self.file}: the file is binary", expected="a text with equations")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(self.text)
        except SyntaxError as error:
            raise self._syntax_error(error) from None
        except (RecursionError, MemoryError):
            raise LimitError(f"{self.file}: the text is nested too deeply") from None
        except ValueError as error:
            raise CellSyntaxError(f"{self.file}: {error}") from None
        self._check_limits(tree)
        return tree

    def _syntax_error(self, error: SyntaxError) -> CellSyntaxError:
        line = error.lineno or 1
        lines = self.text.splitlines()
        text = lines[line - 1] if line <= len(lines) else ""
        position = Position(self.file, line, max(1, error.offset or 1), text)
        return CellSyntaxError(
            f"syntax error: {error.msg}", position, "equations such as h[t] = tanh(W @ x[t])"
        )

    def _check_limits(self, tree: ast.Module) -> None:
        count = 0
        level: list[ast.AST] = [tree]
        depth = 0
        while level:
            count += len(level)
            deepest = next((node for node in level if hasattr(node, "lineno")), tree)
            if depth > MAX_DEPTH * 2 or count > MAX_NODES:
                self.fail(deepest, "the text is nested too deeply or too long", kind=LimitError)
            level = [child for node in level for child in ast.iter_child_nodes(node)]
            depth += 1

    def position(self, node: ast.AST) -> Position:
        """The place of a node in the text."""
        line = getattr(node, "lineno", 1)
        lines = self.text.splitlines()
        text = lines[line - 1] if line <= len(lines) else ""
        raw = text.encode("utf-8", "surrogatepass")
        start = len(raw[: getattr(node, "col_offset", 0)].decode("utf-8", "replace"))
        width = 1
        if getattr(node, "end_lineno", line) == line:
            end = len(raw[: getattr(node, "end_col_offset", start + 1)].decode("utf-8", "replace"))
            width = max(1, end - start)
        return Position(self.file, line, start + 1, text, width)

    def fail(
        self,
        node: ast.AST,
        problem: str,
        expected: str = "",
        suggestion: str = "",
        kind: type[CellError] = CellSyntaxError,
    ) -> NoReturn:
        """Raise an error at a node."""
        raise kind(problem, self.position(node), expected, suggestion)

    def written(self, node: ast.AST) -> str:
        """A node as it stands in the text, shortened."""
        found = ast.get_source_segment(self.text, node) or type(node).__name__
        first = found.splitlines()[0]
        return first if len(first) <= 40 else first[:37] + "..."


def time_offset(node: ast.expr) -> int | None:
    """The k of an index written ``t``, ``t + k`` or ``t - k``; None for anything else."""
    if isinstance(node, ast.Name) and node.id == "t":
        return 0
    if (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, (ast.Add, ast.Sub))
        and isinstance(node.left, ast.Name)
        and node.left.id == "t"
        and isinstance(node.right, ast.Constant)
        and type(node.right.value) is int
    ):
        return node.right.value if isinstance(node.op, ast.Add) else -node.right.value
    return None


def is_time(node: ast.expr) -> bool:
    """Whether an index speaks of time at all."""
    return any(isinstance(part, ast.Name) and part.id == "t" for part in ast.walk(node))


def shifted(statement: ast.stmt, by: int) -> str:
    """A statement with every time index moved by ``by``, as text for a suggestion."""

    class Shift(ast.NodeTransformer):
        def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
            self.generic_visit(node)
            offset = time_offset(node.slice)
            if offset is not None:
                moved = offset + by
                node.slice = ast.parse(f"t{moved:+d}" if moved else "t", mode="eval").body
            return node

    return ast.unparse(Shift().visit(statement)).replace("t - ", "t-").replace("t + ", "t+")
