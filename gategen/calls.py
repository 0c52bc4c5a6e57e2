"""Modifiers as a person writes them: ``dilated(zoneout(lstm, h=0.1), 4)``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

from gategen.errors import CellSyntaxError, UnknownName, nearest
from gategen.language.cell import Cell
from gategen.modifiers import MODIFIERS


def modified(text: str, load: Callable[[str], Cell]) -> Cell:
    """A cell from modifiers as a person writes them, ``dilated(zoneout(lstm, h=0.1), 4)``.

    Args:
        text: Calls of modifiers; the first argument of each is a cell.
        load: Finds a cell by its name.

    Raises:
        CellSyntaxError: The text is no such call.
        UnknownName: There is no such modifier, or none of its arguments has this name.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _no_call(text) from None
    return _called(tree, text, load)


_EXAMPLE = "a call such as zoneout(lstm, h=0.1, c=0.5)"


def _no_call(text: str) -> CellSyntaxError:
    return CellSyntaxError(f"{text!r} is neither a cell nor a modifier of one", expected=_EXAMPLE)


def _called(node: ast.expr, text: str, load: Callable[[str], Cell]) -> Cell:
    match node:
        case ast.Name(id=name) | ast.Constant(value=str() as name):
            return load(name)
        case ast.Call(func=ast.Name(id=name), args=[cell, *arguments], keywords=keywords):
            if name not in MODIFIERS:
                near = nearest(name, MODIFIERS)
                raise UnknownName(f"there is no modifier {name!r}", None, ", ".join(MODIFIERS), near)
            given = [_constant(argument, text) for argument in arguments]
            named = {str(keyword.arg): _constant(keyword.value, text) for keyword in keywords}
            made = _called(cell, text, load)
            try:
                inspect.signature(MODIFIERS[name]).bind(made, *given, **named)
            except TypeError:
                problem = f"{name} takes other arguments than in {text!r}"
                raise CellSyntaxError(problem, expected=_usage(name)) from None
            return MODIFIERS[name](made, *given, **named)
    raise _no_call(text)


def _constant(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = None
    if not isinstance(value, (int, float, str)):
        raise CellSyntaxError(f"{ast.unparse(node)} in {text!r} is no number and no name", expected=_EXAMPLE)
    return value


def _usage(name: str) -> str:
    return f"{name}({', '.join(map(str, _plain(inspect.signature(MODIFIERS[name]))))})"


def _plain(signature: inspect.Signature) -> list[inspect.Parameter]:
    return [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()
    ]
