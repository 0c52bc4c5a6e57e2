"""Templates to text: the only user of Jinja."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import BaseLoader, Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (_PACKAGE / "templates", _PACKAGE.parent / "templates")
"""Inside the package, where a wheel carries them, then beside it, where a checkout has them."""

_LATEX = {
    "variable_start_string": "<<",
    "variable_end_string": ">>",
    "block_start_string": "<%",
    "block_end_string": "%>",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
}


@cache
def environment(latex: bool) -> Environment:
    """The environment of all templates; those for LaTeX have delimiters that LaTeX does not use itself."""
    loader: BaseLoader = FileSystemLoader([str(folder) for folder in FOLDERS])
    delimiters: dict[str, Any] = _LATEX if latex else {}
    made = Environment(
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        **delimiters,
    )
    made.filters = {name: made.filters[name] for name in ("indent", "join")}
    return made


def render(template: str, view: DataclassInstance) -> str:
    """Fill a template.

    Args:
        template: Its path below the templates folder, such as ``c/kernel.c.j2``.
        view: A frozen dataclass of ready strings; its fields are the names the template knows.
    """
    context = {field.name: getattr(view, field.name) for field in fields(view)}
    return environment(template.startswith("latex/")).get_template(template).render(context)
