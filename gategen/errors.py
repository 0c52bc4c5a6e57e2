"""Every error a person can meet, as data: fields first, one sentence made from them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class GategenError(Exception):
    """Base of all errors raised on purpose; catching it catches every user mistake."""


class GategenWarning(UserWarning):
    """Something that works but is probably not what was meant."""


@dataclass(frozen=True)
class Position:
    """A place in a cell text: 1-based line and column, the line itself, and how much of it is meant."""

    file: str
    line: int
    column: int
    text: str = ""
    width: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def written(self) -> str:
        """What stands at the place."""
        return self.text[self.column - 1 : self.column - 1 + self.width]

    def quote(self) -> str:
        """The offending line, or the piece of a long one, with a marker below the offending part."""
        start = max(0, self.column - 1 - 60) if len(self.text) > 100 else 0
        shown = self.text[start : start + 100]
        clean = "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in shown)
        before = "".join(c if c == "\t" else " " for c in clean[: self.column - 1 - start])
        marker = before + "^" * max(1, min(self.width, len(clean) - len(before)))
        return f"    {clean}\n    {marker}"


@dataclass(eq=False)
class CellError(GategenError):
    """A mistake in the equations of a cell.

    Attributes:
        problem: What is wrong, without the place.
        where: The place in the text, if the cell came from text.
        expected: What would have been right.
        suggestion: The nearest valid name or form.
    """

    problem: str
    where: Position | None = None
    expected: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.problem}" if self.where else self.problem]
        if self.where and self.where.text:
            lines.append(self.where.quote())
        if self.expected:
            lines.append(f"expected: {self.expected}")
        if self.suggestion:
            lines.append(f"did you mean: {self.suggestion}")
        return "\n".join(lines)


class CellSyntaxError(CellError):
    """The text is not in the language."""


class UnknownName(CellError):
    """A name is used that nothing defines."""


class RoleError(CellError):
    """A name is used against its role: a state never assigned, a value read before its assignment."""


class ShapeError(CellError):
    """Two widths or ranks that must agree do not."""


class LimitError(CellError):
    """The text is larger, deeper or more repetitive than a cell can reasonably be."""


@dataclass(eq=False)
class ArgumentError(GategenError):
    """A wrong array, name or option at run time; raised before any kernel runs.

    Attributes:
        argument: The argument as the caller wrote it, such as ``inputs['x']``.
        problem: What is wrong with it.
        expected: What would have been right.
        suggestion: The nearest valid name.
    """

    argument: str
    problem: str
    expected: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        text = f"{self.argument}: {self.problem}"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.suggestion:
            text += f"; did you mean {self.suggestion}?"
        return text


@dataclass(eq=False)
class BuildError(GategenError):
    """The compiler failed or is missing. Nothing was cached.

    Attributes:
        problem: What happened.
        command: The command line that was run, if any.
        output: What the compiler printed.
    """

    problem: str
    command: str = ""
    output: str = ""

    def __str__(self) -> str:
        return "\n".join(part for part in (self.problem, self.command, self.output.rstrip()) if part)


@dataclass(eq=False)
class CacheError(GategenError):
    """The cache folder cannot be trusted or used."""

    problem: str
    folder: str = ""

    def __str__(self) -> str:
        return f"{self.problem}: {self.folder}" if self.folder else self.problem


def nearest(name: str, valid: Iterable[str]) -> str:
    """The valid name nearest to ``name``, or the empty string when none is near."""
    candidates = sorted(valid)
    folded = {candidate.lower(): candidate for candidate in reversed(candidates)}
    if name.lower() in folded:
        return folded[name.lower()]
    matches = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return matches[0] if matches else ""
