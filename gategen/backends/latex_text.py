"""Any text as LaTeX that prints it, with the fonts that every installation has."""

from __future__ import annotations

import re
import unicodedata

from gategen.backends.formula import GREEK

_SPECIAL = {
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    # The sign behind the usual command comes from a font that small installations lack.
    "$": r"{\char36}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": "{}`{}",
    "\u00a0": "~",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "−": "$-$",
    "∂": r"$\partial$",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def escaped(text: str) -> str:
    """The text; a sign without a spelling here becomes its code point."""
    signs = "".join(map(_sign, unicodedata.normalize("NFC", text)))
    # Two hyphens in a row would become one dash.
    return re.sub("(?<=-)(?=-)", "{}", signs)


def _sign(sign: str) -> str:
    if sign in _SPECIAL:
        return _SPECIAL[sign]
    if " " <= sign <= "~":
        return sign
    decomposed = unicodedata.normalize("NFD", sign)
    base, mark = decomposed[:1], decomposed[1:]
    if base.isascii() and base.isalpha() and mark in _ACCENTS:
        dotless = base in "ij" and mark != "\u0327"
        return rf"\{_ACCENTS[mark]}{{{'' if not dotless else chr(92)}{base}}}"
    words = unicodedata.name(sign, "").replace("LAMDA", "LAMBDA").split()
    if len(words) == 4 and words[0] == "GREEK" and words[2] == "LETTER":
        letter = words[3].lower() if words[1] == "SMALL" else words[3].capitalize()
        if letter in GREEK:
            return rf"$\{letter}$"
    return " " if sign.isspace() else f"[U+{ord(sign):04X}]"
