"""C text laid out: lines of at most a hundred characters, sums with one summand a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

WIDTH = 100
"""The longest line of a C file."""

_BREAKS = (", ", " || ", " && ", " ? ", " : ", " + ", " - ", " * ", " = ")
"""Where a line may be broken, the best first: after commas and equal signs, before operators."""

_PLACES = re.compile(rf"[()\[\]]|(?=({'|'.join(map(re.escape, _BREAKS))}))")
"""Brackets, and where a line may be broken."""
_INNER = re.compile(r"\([^()]*\)")
_LOOSE = re.compile(r" [-+?] ")


def product(*factors: str) -> str:
    """A product without ones; sums get parentheses."""
    if "0" in factors:
        return "0"
    written = [f"({factor})" if _LOOSE.search(_INNER.sub("", factor)) else factor for factor in factors]
    return " * ".join(factor for factor in written if factor != "1") or "1"


def offset(base: str, *factors: str) -> str:
    """A pointer so many elements behind another one."""
    count = product(*factors)
    return base if count == "0" else f"{base} + {count}"


def comment(lines: Iterable[str]) -> str:
    """A block comment, which no text in it can end."""
    texts = [text.replace("*/", "* /").replace("/*", "/ *") for text in lines]
    body = [line for text in texts for line in _wrapped(text, WIDTH - 3)]
    return "\n".join(["/*", *(f" * {line}".rstrip() for line in body), " */"])


def head(name: str, arguments: Sequence[str]) -> str:
    """The head of a function with one argument a line, under each other unless the name is too long."""
    first, indent = f"{name}(", " " * (len(name) + 1)
    if len(indent) + max(map(len, arguments)) + 2 > WIDTH:
        first, indent = f"{name}(\n    ", "    "
    return f"{first}{f',{chr(10)}{indent}'.join(arguments)})"


def summed(name: str, summands: Sequence[tuple[str, str]]) -> str:
    """A constant that is a sum, one summand a line with what it stands for."""
    if not summands:
        return f"const int64_t {name} = 0;"
    left = f"const int64_t {name} = "
    texts = [text for text, _ in summands]
    texts[-1] += ";"
    # One long summand does not move what the others stand for out of the page.
    wide = min(max(map(len, texts)), 40)
    lines = [f"{t:{wide}} /* {meaning} */" for t, (_, meaning) in zip(texts, summands, strict=True)]
    return left + f"\n{' ' * (len(left) - 2)}+ ".join(lines)


def laid_out(text: str) -> str:
    """The text with long lines broken and without blank lines in a row, at the start or end of a block."""
    folded = "\n".join(line for written in text.splitlines() for line in _folded(written.rstrip()))
    folded = re.sub(r"\n{3,}", "\n\n", folded)
    return re.sub(r"\{\n\n+", "{\n", re.sub(r"\n\n+(\s*\})", r"\n\1", folded)).strip() + "\n"


def _folded(line: str) -> list[str]:
    if len(line) <= WIDTH or line.lstrip().startswith("* "):
        return [line]
    if line.lstrip().startswith("#"):
        *rows, last = _broken(line, len(line) - len(line.lstrip()) + 4, WIDTH - 2)
        return [*(f"{row} \\" for row in rows), last]
    before, sign, text = line.partition("/* ")
    if not sign:
        return _broken(line, len(line) - len(line.lstrip()) + 4)
    words = _wrapped(text, WIDTH - len(before) - 3)
    return [before + sign + words[0], *(" " * len(before + sign) + more for more in words[1:])]


def _wrapped(text: str, width: int) -> list[str]:
    """The text on lines of at most so many characters; what stands indented stays so."""
    indent = " " * (len(text) - len(text.lstrip()))
    lines = [""]
    for word in text.split():
        if lines[-1] and len(indent + lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return [indent + line for line in lines]


def _broken(line: str, hang: int, width: int = WIDTH) -> list[str]:
    """A line broken where fewest brackets are open, as late as possible, and aligned at the bracket."""
    if len(line) <= width:
        return [line]
    best: tuple[tuple[int, int], int, int] | None = None
    columns: list[int] = []
    depth = 0
    for found in _PLACES.finditer(line, len(line) - len(line.lstrip())):
        place, bracket, sign = found.start(), found[0], found[1]
        if place > width:
            break
        if bracket:
            opened = bracket in "(["
            depth += 1 if opened else -1
            columns = [*columns, place + 1] if opened else columns[:-1]
            continue
        rank = _BREAKS.index(sign)
        last = rank == len(_BREAKS) - 1
        end = place + 2 * last + (rank == 0)
        goodness = (len(line) if last else depth, rank)
        if end <= width and (best is None or goodness <= best[0]):
            best = (goodness, end, columns[-1] if columns else hang)
    if best is None:
        return [line]
    _, end, column = best
    first, rest = line[:end].rstrip(), line[end:].strip()
    more = _broken(" " * column + rest, column, width)
    if max(map(len, more)) > width:
        # The bracket stands too far right for what is left.
        more = _broken(" " * hang + rest, hang, width)
    return [first, *more]
