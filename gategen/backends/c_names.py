"""Names in C: the author's stay as they are, unless C, C++ or the C library has them already."""

from __future__ import annotations

import re
from collections.abc import Collection

_WORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int
long register restrict return short signed sizeof static struct switch typedef union unsigned void
volatile while asm typeof main NULL real bool true false complex imaginary noreturn alignas alignof
thread_local static_assert offsetof errno assert stdin stdout stderr EOF I unix linux i386
acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs fdim
floor fma fmax fmin fmod fpclassify frexp gamma hypot ilogb isfinite isgreater isinf isless isnan
isnormal isunordered j0 j1 jn ldexp lgamma lgamma_r llrint llround log log10 log1p log2 logb lrint
lround memcpy memmove memset modf nan nearbyint nextafter nexttoward pow remainder remquo rint round
scalb scalbln scalbn signbit significand signgam sin sinh sqrt tan tanh tgamma trunc y0 y1 yn
INFINITY NAN HUGE_VAL HUGE_VALF HUGE_VALL
catch class constexpr decltype delete explicit export friend mutable namespace new noexcept nullptr
operator private protected public template this throw try typeid typename using virtual
concept requires and_eq bitand bitor compl not_eq or_eq xor xor_eq
const_cast dynamic_cast reinterpret_cast static_cast co_await co_return co_yield
"""

KEYWORDS = frozenset(_WORDS.split())
"""Words that an author may use as names but C may not."""

_RESERVED = re.compile(
    r"_\w*|gg_\w*|FP_\w+|M_\w+|(u?int\w*|char\d+|wchar|size|ptrdiff|float|double|max_align)_t"
    r"|(U?INT|SIZE|PTRDIFF|WCHAR|WINT|SIG_ATOMIC)\w*_(C|MAX|MIN)"
)
"""Names of our own functions, and types and macros of the C library."""


def c_name(wanted: str, taken: Collection[str] = ()) -> str:
    """A name that C allows and nothing else has; it gives way with a suffix."""
    name = f"{wanted}_" if wanted in KEYWORDS or _RESERVED.fullmatch(wanted) else wanted
    while name in taken:
        name += "_"
    return name
