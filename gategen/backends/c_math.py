"""Exponential functions for C kernels: without branches, so that compilers can vectorize what calls them."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

from gategen.backends.render import render

OWN = {
    "exp": ("exponential", "exp"),
    "expm1": ("exponential", "expm1"),
    "tanh": ("exponential", "expm1", "tanh"),
}
"""Functions that a kernel defines although the C library has them, and the definitions that they need."""


@dataclass(frozen=True)
class ExponentialView:
    """What differs between float32 and float64, as C has it."""

    rint: str
    per_ln2: str
    ln2_high: str
    ln2_low: str
    first: str
    terms: tuple[str, ...]
    word: str
    bits: str
    low: str
    high: str


@dataclass(frozen=True)
class TangentView:
    """The functions of the C library that the hyperbolic tangent calls, and where its formulas meet."""

    fabs: str
    copysign: str
    small: str


@dataclass(frozen=True)
class PlainView:
    """Nothing differs between float32 and float64."""


def definitions(name: str, single: bool) -> dict[str, str]:
    """The definitions that a function of `OWN` needs, itself the last, by name."""
    return {part: render(f"c/functions/{part}.c.j2", _view(part, single)).rstrip() for part in OWN[name]}


def _view(part: str, single: bool) -> ExponentialView | TangentView | PlainView:
    suffix = "f" if single else ""
    if part == "tanh":
        return TangentView(f"fabs{suffix}", f"copysign{suffix}", f"0.55{suffix}")
    if part != "exponential":
        return PlainView()
    # With these last terms the series is exact to a tenth of the last bit on |r| <= ln(2) / 2.
    last = 7 if single else 13
    inverse = [f"1.0{suffix} / {factorial(n)}.0{suffix}" for n in range(last, 1, -1)]
    return ExponentialView(
        rint=f"rint{suffix}",
        per_ln2="1.44269504f" if single else "1.4426950408889634",
        # The high part has so few digits that its product with any k is exact.
        ln2_high="0.693145751953125f" if single else "0.69314718036912382",
        ln2_low="1.42860677e-6f" if single else "1.9082149292705877e-10",
        first=inverse[0],
        terms=tuple(f"sum = sum * r + {term};" for term in inverse[1:]),
        word="uint32_t" if single else "uint64_t",
        bits="(uint32_t)(k + 127) << 23" if single else "(uint64_t)(k + 1023) << 52",
        low="-104.0f" if single else "-746.0",
        high="89.0f" if single else "710.0",
    )
