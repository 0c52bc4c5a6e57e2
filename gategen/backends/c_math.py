"""Element-wise functions for C kernels: without branches, so that compilers can vectorize what calls them.

Each is within 2.5 units in the last place where its value is a normal number; smaller values may become 0.
The polynomials are weighted minimax fits: least squares in 70 digits on Chebyshev nodes, the weights moved
to where the error is greatest, then each coefficient rounded, lowest order first, and the others fitted anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from gategen.backends.render import render

OWN = {
    "exp": ("bits", "power_of_two", "exp"),
    "expm1": ("bits", "power_of_two", "remainder", "expm1"),
    "tanh": ("bits", "power_of_two", "remainder", "tanh"),
    "log": ("bits", "logarithm", "log"),
    "log1p": ("bits", "logarithm", "log1p"),
    "sigmoid": ("bits", "power_of_two", "remainder", "sigmoid"),
    "softplus": ("bits", "power_of_two", "exp", "logarithm", "log1p_exp", "softplus"),
    "logsigmoid": ("bits", "power_of_two", "exp", "logarithm", "log1p_exp", "logsigmoid"),
    "erf": ("bits", "power_of_two", "exp", "erf"),
}
"""Functions that a kernel defines itself, and the definitions that they need, in order."""

_Coefficients = tuple[tuple[str, ...], tuple[str, ...]]
# Coefficients by dtype (float32 first), lowest order first, and how near the polynomials come.
# (exp(r) - 1 - r) / r^2 on [0, ln 2] to 2^-28 and 2^-63.
_EXP = (
    ("0.50000226", "0.1666321", "0.041854374", "0.007869259", "0.0019120774"),
    (
        "0.5000000000000004",
        "0.16666666666664143",
        "0.041666666667224586",
        "0.008333333326760912",
        "0.0013888889358498876",
        "0.00019841248113961797",
        "2.4802259416470812e-05",
        "2.7543301860677182e-06",
        "2.7751451681307044e-07",
        "2.335115534857618e-08",
        "2.9257424027310557e-09",
    ),
)
# The same on [-ln(2) / 2, ln(2) / 2], relative to exp(r) - 1, to 2^-25 (2^-27 for |r| < 0.2) and 2^-61.
_REMAINDER = (
    ("0.5", "0.16666584", "0.04166648", "0.008362387", "0.0013933467"),
    (
        "0.5",
        "0.16666666666666677",
        "0.04166666666666668",
        "0.008333333333321426",
        "0.001388888888887695",
        "0.00019841269886619565",
        "2.480158734267543e-05",
        "2.755724372626294e-06",
        "2.755725671782657e-07",
        "2.5109205091876078e-08",
        "2.0920426850913865e-09",
    ),
)
# (2 artanh(s) - 2 s) / s^3 by z = s^2 for |s| <= 0.172, to 2^-29 and 2^-58.
_LOGARITHM = (
    ("0.66666776", "0.39977568", "0.2987143"),
    (
        "0.6666666666666735",
        "0.3999999999940972",
        "0.2857142874352241",
        "0.22222198452904637",
        "0.18183570790813997",
        "0.15313879650260437",
        "0.147977137950655",
    ),
)
# erf(x) / x - 1 by z = x^2 for |x| <= 0.95, to 2^-25 and 2^-55.
_ERF = (
    ("0.12837915", "-0.37612474", "0.11281527", "-0.026754664", "0.004974416", "-0.00058914267"),
    (
        "0.12837916709551256",
        "-0.3761263890318333",
        "0.11283791670935905",
        "-0.026866170641679038",
        "0.005223977593346976",
        "-0.0008548325263170861",
        "0.00012055271885305669",
        "-1.492425839009657e-05",
        "1.64410285795451e-06",
        "-1.6155361815371537e-07",
        "1.3470621016416291e-08",
        "-7.289924042506414e-10",
    ),
)
# -log(1 - erf(y)) / y where the former ends and until erf is 1, to 2^-30 and 2^-57 of erf.
_TAIL = (
    (
        "1.1286685",
        "0.6350702",
        "0.106370516",
        "-0.023876777",
        "0.0036965262",
        "-0.00033606248",
        "1.2552224e-05",
    ),
    (
        "1.1283791404757082",
        "0.6366199795586286",
        "0.10277199582741653",
        "-0.01912804644990741",
        "-0.00020642940876829653",
        "0.001685139080659616",
        "-0.0005671171826225181",
        "-6.8702177136774104e-06",
        "9.909837007956291e-05",
        "-5.778253747391742e-05",
        "2.1015046779843364e-05",
        "-5.583156304561008e-06",
        "1.1238089796693106e-06",
        "-1.710136330895352e-07",
        "1.9153401529394068e-08",
        "-1.4926938820412727e-09",
        "7.235457141873877e-11",
        "-1.6425353736373728e-12",
    ),
)


@dataclass(frozen=True)
class Polynomial:
    """Horner's rule: what the sum starts with, and its further lines."""

    first: str
    terms: tuple[str, ...]


@dataclass(frozen=True)
class MathView:
    """What differs between float32 and float64, as C has it.

    Attributes:
        exp: For a remainder in [0, ln 2].
        remainder: For a remainder in [-ln(2) / 2, ln(2) / 2].
        erf: Near 0.
        tail: Elsewhere.
        word: The unsigned whole number as wide as the dtype.
        digits: Bits of the fraction; by these ``shifted`` moves a whole number.
        magic: One and a half powers of two, so that its last bit is worth 1, and the bias of exponents.
        magic_half: The same less 1.
        per_ln2_below: A number below 1 / ln 2: the whole numbers at both ends of the range are not missed.
        reach: Beyond it exp(-x) is less than the smallest normal number.
        high: Beyond it exp(x) is infinite.
        minus_one: Beyond it exp(-x) - 1 is -1; beyond ``tanh_one`` and ``erf_one`` these functions are 1.
        erf_tail: Where the two polynomials for erf meet.
        tiny: The smallest normal number; ``scale`` is two to the power ``shift``.
        ln2_high: So few digits of ln 2 that its product with any exponent is exact.
        to_one: Bits of 1 less those of sqrt(1/2), the latter being ``root``.
        whole: Bits of a number whose last bit is worth 1; ``whole_and_bias`` is that number and the bias.
        top: Bits of infinity.
    """

    exp: Polynomial
    remainder: Polynomial
    logarithm: Polynomial
    erf: Polynomial
    tail: Polynomial
    word: str
    digits: int
    shifted: str
    half: str
    magic: str
    magic_half: str
    per_ln2: str
    per_ln2_below: str
    ln2: str
    ln2_high: str
    ln2_low: str
    reach: str
    high: str
    minus_one: str
    tanh_one: str
    to_one: str
    mask: str
    root: str
    whole: str
    whole_and_bias: str
    top: str
    tiny: str
    scale: str
    shift: str
    erf_tail: str
    erf_one: str
    fabs: str
    copysign: str


def definitions(name: str, single: bool) -> dict[str, str]:
    """The definitions that a function of `OWN` needs, itself the last, by name."""
    view = _view(single)
    return {part: render(f"c/functions/{part}.c.j2", view).rstrip() for part in OWN[name]}


def _view(single: bool) -> MathView:
    return MathView(
        **_polynomials(single),
        word="uint32_t" if single else "uint64_t",
        digits=23 if single else 52,
        shifted=f"gg_to_bits(rounded) << {23 if single else 52}",
        half="0.5f" if single else "0.5",
        magic="12583039.0f" if single else "6755399441056767.0",
        magic_half="12583038.0f" if single else "6755399441056766.0",
        per_ln2="1.44269504f" if single else "1.4426950408889634",
        per_ln2_below="1.4426949f" if single else "1.4426950408889632",
        ln2="0.69314718f" if single else "0.6931471805599453",
        ln2_high="0.693145751953125f" if single else "0.69314718036912382",
        ln2_low="1.42860677e-6f" if single else "1.9082149292705877e-10",
        reach="88.0f" if single else "709.0",
        high="89.0f" if single else "710.0",
        minus_one="18.0f" if single else "38.0",
        tanh_one="9.2f" if single else "19.5",
        to_one="0x4afb0du" if single else "UINT64_C(0x95f619980c433)",
        mask="0x7fffffu" if single else "UINT64_C(0xfffffffffffff)",
        root="0x3f3504f3u" if single else "UINT64_C(0x3fe6a09e667f3bcd)",
        whole="0x4b000000u" if single else "UINT64_C(0x4330000000000000)",
        whole_and_bias="8388735.0f" if single else "4503599627371519.0",
        top="0x7f800000u" if single else "UINT64_C(0x7ff0000000000000)",
        tiny="1.17549435e-38f" if single else "2.2250738585072014e-308",
        scale="8388608.0f" if single else "4503599627370496.0",
        shift="23" if single else "52",
        erf_tail="0.95f" if single else "0.95",
        erf_one="3.95f" if single else "5.95",
        fabs="fabsf" if single else "fabs",
        copysign="copysignf" if single else "copysign",
    )


def _polynomials(single: bool) -> dict[str, Polynomial]:
    return {
        "exp": _horner("sum", "r", _EXP, single),
        "remainder": _horner("sum", "r", _REMAINDER, single),
        "logarithm": _horner("sum", "z", _LOGARITHM, single),
        "erf": _horner("near", "z", _ERF, single),
        "tail": _horner("far", "y", _TAIL, single),
    }


def _horner(total: str, variable: str, coefficients: _Coefficients, single: bool) -> Polynomial:
    own = [f"{text}f" if single else text for text in reversed(coefficients[0 if single else 1])]
    signed = [f"- {text[1:]}" if text.startswith("-") else f"+ {text}" for text in own]
    return Polynomial(own[0], tuple(f"{total} = {total} * {variable} {text};" for text in signed[1:]))
