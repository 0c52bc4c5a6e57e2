"""The text of a cell as a checked syntax tree, with positions for errors. Nothing is ever evaluated."""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from gategen.errors import CellError, CellSyntaxError, LimitError, Position

MAX_BYTES = 64 * 1024
MAX_DEPTH = 40
MAX_CHAIN = 100
MAX_PARTS = 10_000
MAX_TERMS = 6_000
"""Operations times names of one equation: what its derivatives grow with."""
MAX_NUMBER = 10**9
MAX_POWER = 64
MAX_STATEMENTS = 1_000

# To quote a line, Python opens the file whose name it is given; nothing has this one.
_NO_FILE = ""
_EQUATION = "an equation such as h[t] = tanh(W_h @ x[t])"
_NOT_NESTING = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
_CHAINS = ((ast.Add, ast.Sub), (ast.Mult, ast.Div))

# Where the own words of Python mislead who writes no Python: its words, ours, what was expected.
_SYNTAX = (
    (r"'(.)' was never closed", r"'\1' is never closed", "as many closing as opening brackets"),
    (r"unmatched '(.)'", r"'\1' closes nothing", "as many closing as opening brackets"),
    (r"closing parenthesis '(.)' does not match .*'(.)'.*", r"'\1' does not close '\2'", ""),
    (r"unexpected indent", "the line is indented", "equations that start in the first column"),
    (r"unindent does not match.*", "the indentation fits no line above", "the indentation of a line above"),
    (r"inconsistent use of tabs.*", "tabs and spaces are mixed in the indentation", "spaces only"),
    (r"expected an indented block.*", "the body of the line above is missing", "an indented equation"),
    (r"Missing parentheses in call to.*", "'{}' is not part of the language", _EQUATION),
    (r"cannot assign to.*|cannot delete.*|illegal target.*", "cannot assign to '{}'", "name[t] = ..."),
    (r"only single target.*", "only one name can be declared at a time", "name: kind"),
    (r"(unterminated .*string literal).*|(.*EOL while.*)", "a string is never closed", _EQUATION),
    (r"f-string.*", "strings are not part of the language", _EQUATION),
    (r"invalid \w+ literal", "a number runs into a name", "an operator between them, such as 3 * x[t]"),
    (r"leading zeros.*", "a number begins with 0", "a number such as 7 or 0.5"),
    (r".*Perhaps you forgot a comma.*", "an operator or a comma is missing", ""),
    (r"expected ':'", "a colon is missing", "for k in range(n): or if k == 0:"),
    (r"unexpected character after line continuation.*", "a backslash is not part of the language", _EQUATION),
)
_CALLED = r"(\w+)\((t)\)"
_TOO_MUCH = re.compile(r"too many nested parentheses|too many (statically|levels).*|Exceeds the limit.*")


@dataclass(frozen=True)
class Source:
    """A cell text and the name under which errors quote it."""

    text: str
    file: str

    @cached_property
    def lines(self) -> list[str]:
        """The lines as the syntax tree counts them."""
        return re.split(r"\r\n|\r|\n", self.text)

    def tree(self) -> ast.Module:
        """The syntax tree, within the limits; raises `CellSyntaxError` or `LimitError`."""
        if len(self.text) > MAX_BYTES or len(self.text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise _too_large(self.file)
        self._check_characters()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(self.text, _NO_FILE)
        except SyntaxError as error:
            raise self._syntax_error(error) from None
        except (RecursionError, MemoryError):
            raise LimitError("the text is nested too deeply", self.top()) from None
        except ValueError as error:
            raise CellSyntaxError(f"the text cannot be read: {error}", self.top(), _EQUATION) from None
        self._check_limits(tree)
        return tree

    def top(self) -> Position:
        """The beginning of the text, for what concerns all of it."""
        return Position(self.file, 1, 1)

    def _check_characters(self) -> None:
        found = re.search("[\0-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]", self.text)
        if found is None:
            return
        before = re.split(r"\r\n|\r|\n", self.text[: found.start()])
        line, column = len(before), len(before[-1]) + 1
        if found[0] == "\0":
            where = Position(self.file, line, column)
            raise CellSyntaxError("the file is binary", where, "a text with equations")
        where = Position(self.file, line, column, self.lines[line - 1])
        problem = f"the character U+{ord(found[0]):04X} cannot stand in a cell"
        raise CellSyntaxError(problem, where, "printable characters")

    def _syntax_error(self, error: SyntaxError) -> CellError:
        line = min(error.lineno or 1, len(self.lines))
        text = self.lines[line - 1]
        column = min(max(1, error.offset or 1), len(text) + 1)
        end = error.end_offset if error.end_lineno == error.lineno and error.end_offset else column + 1
        if isinstance(error, IndentationError):
            column = len(text) - len(text.lstrip()) + 1
            end = len(text.rstrip()) + 1
        if _TOO_MUCH.fullmatch(error.msg.partition(" (")[0]) or _TOO_MUCH.match(error.msg):
            problem = "a number is too long" if "integer" in error.msg else "the text is nested too deeply"
            return LimitError(problem, Position(self.file, line, column, text))
        where = Position(self.file, line, column, text, end - column)
        written = _shortened(where.written())
        for pattern, ours, expected in _SYNTAX:
            found = re.fullmatch(pattern, error.msg)
            if found:
                problem, called = found.expand(ours).replace("{}", written), re.fullmatch(_CALLED, written)
                expected = called.expand(r"\1[\2] = ...") if called and "assign" in problem else expected
                return CellSyntaxError(problem, where, expected)
        if error.msg == "invalid syntax":
            return self._invalid(line, column, text)
        return CellSyntaxError(error.msg.partition(". ")[0], where, _EQUATION)

    def _invalid(self, line: int, column: int, text: str) -> CellSyntaxError:
        """What Python only calls "invalid syntax": a keyword used as a name, an early end, a stray sign."""
        for word in re.finditer(r"[A-Za-z_]+", text):
            touches = word.start() < column <= word.end() + 2
            begins = not text[: word.start()].strip()
            as_name = begins and re.match(r"\s*(\[[^]]*\])?\s*=(?!=)", text[word.end() :])
            operator = word[0] in ("and", "or", "not", "in", "is", "if", "else", "for")
            if keyword.iskeyword(word[0]) and (as_name or (touches and not operator)):
                where = Position(self.file, line, word.start() + 1, text, len(word[0]))
                problem = f"{word[0]} is a word of Python and cannot be a name"
                return CellSyntaxError(problem, where, f"another name than {word[0]}")
        token = re.match(r"\s*(\w+|[^\w\s])", text[column - 1 :])
        if token is None or token[1] == "#":
            where = Position(self.file, line, column, text)
            return CellSyntaxError("the line ends too early", where, _EQUATION)
        start = column + token.start(1)
        where = Position(self.file, line, start, text, len(token[1]))
        expected = "an operator or the end of the line" if token[1].isidentifier() else _EQUATION
        return CellSyntaxError(f"'{_shortened(token[1])}' is not expected here", where, expected)

    def _check_limits(self, tree: ast.Module) -> None:
        level: list[tuple[ast.AST, int]] = [(node, 1) for node in tree.body]
        parts = depth = 0
        while level:
            parts, depth = parts + len(level), depth + 1
            deepest = max(level, key=lambda pair: pair[1])
            if deepest[1] > MAX_DEPTH:
                self.fail(deepest[0], f"the text is nested more than {MAX_DEPTH} deep", kind=LimitError)
            if depth > MAX_CHAIN:
                problem = f"more than {MAX_CHAIN} operators in a row"
                self.fail(level[0][0], problem, "a name for a part of them", kind=LimitError)
            if parts > MAX_PARTS:
                self.fail(level[0][0], f"the text has more than {MAX_PARTS} parts", kind=LimitError)
            level = [
                (child, nesting + (not _continues(node, child)))
                for node, nesting in level
                for child in ast.iter_child_nodes(node)
                if not isinstance(child, _NOT_NESTING)
            ]

    def position(self, node: ast.AST) -> Position:
        """The place of a node in the text."""
        line = getattr(node, "lineno", 1)
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        start, end = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", 1)
        if getattr(node, "end_lineno", line) != line:
            end = len(text.encode())
        if not text.isascii():
            raw = text.encode()
            start, end = (len(raw[:offset].decode("utf-8", "replace")) for offset in (start, end))
        return Position(self.file, line, start + 1, text, max(1, end - start))

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
        place = self.position(node)
        start = place.column - 1
        more = "..." if getattr(node, "end_lineno", place.line) != place.line else ""
        return _shortened(place.text[start : start + place.width] + more)


def decoded(data: bytes, file: str) -> str:
    """The text in the bytes of a file; raises `CellSyntaxError` if they are no UTF-8 text."""
    if len(data) > MAX_BYTES + 3:
        raise _too_large(file)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CellSyntaxError("the file is UTF-16", Position(file, 1, 1), "UTF-8 text")
    if b"\0" in data:
        raise CellSyntaxError("the file is binary", Position(file, 1, 1), "a text with equations")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig").split("\n")
        where = Position(file, len(before), len(before[-1]) + 1)
        problem = f"the byte 0x{data[error.start]:02x} is no UTF-8 text"
        raise CellSyntaxError(problem, where, "a file saved as UTF-8") from None


def _too_large(file: str) -> LimitError:
    return LimitError(f"the text is larger than {MAX_BYTES // 1024} KiB", Position(file, 1, 1))


def parts_of(node: ast.AST) -> int:
    """How many operands, operators and calls an expression has."""
    return sum(not isinstance(part, _NOT_NESTING) for part in ast.walk(node))


def _continues(node: ast.AST, child: ast.AST) -> bool:
    """Whether ``a + b`` in ``a + b + c`` goes on with the same kind of operator."""
    if not (isinstance(node, ast.BinOp) and isinstance(child, ast.BinOp) and child is node.left):
        return False
    return any(isinstance(node.op, chain) and isinstance(child.op, chain) for chain in _CHAINS)


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def is_time(node: ast.expr) -> bool:
    """Whether an index speaks of time at all."""
    return any(isinstance(part, ast.Name) and part.id == "t" for part in ast.walk(node))


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


def shifted(statement: ast.stmt, by: int) -> str:
    """A statement with every time index moved by ``by``, as text for a suggestion."""

    class Shift(ast.NodeTransformer):
        def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
            self.generic_visit(node)
            offset = time_offset(node.slice)
            if offset is not None:
                moved = offset + by
                node.slice = ast.parse(f"t{moved:+d}" if moved else "t", _NO_FILE, mode="eval").body
            elif is_time(node.slice):
                sign = ast.Add() if by > 0 else ast.Sub()
                node.slice = ast.BinOp(node.slice, sign, ast.Constant(abs(by)))
            return node

    text = ast.unparse(Shift().visit(statement))
    text = re.sub(r"\bt( [+-] \w+)+", lambda time: time[0].replace(" ", ""), text)
    return text if len(text) <= 200 else f"{text[:197]}..."
