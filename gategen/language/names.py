"""Which words can be names, and which the language keeps for itself."""

from __future__ import annotations

import keyword
import re

from gategen.language.arrangements import ARRANGEMENTS, BY_SIGNS
from gategen.language.functions import ALIASES, FUNCTIONS
from gategen.language.reductions import REDUCTIONS

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
KEYED = re.compile(rf"({IDENTIFIER.pattern})\[(\d{{1,9}})\]")
"""A parameter with a number as its key, such as ``U_h[0]``."""

CALLED = {*FUNCTIONS, *ALIASES, *REDUCTIONS, *(ARRANGEMENTS.keys() - BY_SIGNS), "gather", "stack"}
"""What a person calls by its name."""

RESERVED = {*CALLED, "concat", "t", "range"}
"""Names that a person cannot give to a value."""

PLAIN = "a letter A-Z or a-z, then letters, digits and _, 64 at most"
"""What a name looks like, for errors."""


def fault(name: str) -> str:
    """Why ``name`` cannot be a name, to be read after it; empty if it can."""
    if name in RESERVED:
        return "is the step number" if name == "t" else "is the name of a function"
    if keyword.iskeyword(name):
        return "is a word of Python and cannot be a name"
    return "" if IDENTIFIER.fullmatch(name) else "cannot be a name"


def speaks_for_itself(name: str) -> bool:
    """Whether a bare name that nothing assigns is a parameter without being declared."""
    return "_" in name or name == "b" or bool(key_of(name))


def key_of(name: str) -> str:
    """``U_h`` for the parameter ``U_h[0]``; empty for a name without key."""
    found = KEYED.fullmatch(name)
    return found[1] if found else ""
