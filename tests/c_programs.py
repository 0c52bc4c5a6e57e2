"""Generated C as plain C programs: a driver that calls the kernels of some cells, and the compilers.

Both renderings have the same interface, but that the functions of the fast one end in a team: NULL here.

The driver gives every array exactly the size that its comment in the header names, fills what a kernel is
to write (tape and workspace too) with NaN first, and requires finite numbers afterwards.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import cells
import pytest

import gategen as gg
from gategen.backends import c, c_fast
from gategen.backends.c import SUFFIX
from gategen.backends.c_fast_function import FastInterface
from gategen.backends.c_structs import Interface, Member, file_name
from gategen.backends.c_text import laid_out

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
STRICTER = (*STRICT, "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wundef", "-Wcast-qual")
FAST = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fopenmp-simd", "-fno-unroll-loops")
# For kernels of which the text is at stake and not what a compiler makes of it, by rendering.
_QUICK = {"c-portable": ("-std=c99", "-O0"), "c": ("-std=gnu11", "-O0", "-march=native")}
RENDERINGS = tuple(_QUICK)
# What processors may have: vectors of 64 bytes here if this one has them, of 32, and of 16.
WIDTHS = {"native": ("-march=native",), "avx2": ("-mavx2", "-mfma"), "sse2": ()}

# Authors' names that are words of C or C++, of the C library, or ours.
NAMES = {
    "words_of_c": (
        "gamma: vector\nint: vector\nregister = sigmoid(W @ double[t] + gamma * y0[t-1] + int)\n"
        "y0[t] = register * y0[t-1] + double[t]"
    ),
    "words_of_cpp": (
        "template: vector\noperator: vector\nNULL: vector\n"
        "namespace[t] = template * tanh(this[t] + namespace[t-1]) + operator\n"
        "errno[t] = NULL * namespace[t] + errno[t-1]"
    ),
    "arguments": (
        "tape: vector\nwork: vector\ndims: vector\nparams: vector\n"
        "b[t] = tanh(tape * b[t-1] + work * lengths[t] + lengths[t-1] * dims)\n"
        "outputs[t] = params * b[t] + outputs[t-1]"
    ),
    "locals": (
        "rest: vector\nkeep: vector\nrow: vector\nj: vector\nk: vector\nreal: vector\nh_t: vector\n"
        "h_all: vector\nh_start: vector\nW_h_T: vector\n"
        "h[t] = tanh(W_h @ x[t] + rest * h[t-1] + keep * row) * j + k * real + h_t * h_all - h_start * W_h_T"
    ),
    "members": (
        "h_initial: input\nx_initial: input\n"
        "h_final[t] = tanh(x[t] + h_initial[t] * h_final[t-1])\nh[t] = h_final[t] * h[t-1] + x[t]\n"
        "z[t] = x[t-1] + x_initial[t]\nh_final: output\nh: output\nz: output"
    ),
    "adjoints": (
        "a_h: vector\nno_seed_h: vector\nd_h[t] = tanh(x[t] + d_h[t-1])\n"
        "h[t] = d_h[t] + h[t-1] * h_prev[t]\n"
        "back_h = tanh(a_h * h[t-1] + seed_h[t])\nz[t] = back_h * no_seed_h"
    ),
    "routines": (
        "gg_product: vector\ngg_exp: vector\nint64_t: vector\nINT64_MAX: vector\nM_PI: vector\n"
        "size_t: vector\n"
        "h[t] = tanh(gg_product * x[t] + gg_exp * h[t-1]) * int64_t + INT64_MAX * M_PI * size_t"
    ),
    "widths": "x: input[int]\nh: state[j]\nh[t] = tanh(W_h @ x[t] + U_h @ h[t-1]) * sqrt(int) / j",
    "widths_as_values": "n_x: vector\nn_h: vector\nh[t] = tanh(W_h @ x[t] + n_h * h[t-1] + n_h * n_x)",
    "matrix_b": "h[t] = tanh(A @ h[t-1] + B @ x[t])",
    "long_names": (
        f"W_{'a' * 60}: weight\nx_{'b' * 60}: input\n"
        f"h_{'c' * 60}[t] = tanh(W_{'a' * 60} @ x_{'b' * 60}[t] + U_h @ h_{'c' * 60}[t-1] + b_{'d' * 60})"
    ),
}

PRELUDE = """
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 1, hash = 14695981039346656037u;
static void *held[512];
static int holding;

static uint64_t draw(uint64_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
}

static void *take(int64_t bytes)
{
    void *taken = malloc((size_t)bytes);
    if (!taken || holding == 512) {
        exit(2);
    }
    memset(taken, 0xff, (size_t)bytes);
    return held[holding++] = taken;
}

static void release(void)
{
    while (holding) {
        free(held[--holding]);
    }
}

/* The lengths of B sequences: NULL, all full, or any. */
static int64_t *draw_lengths(int64_t T, int64_t B)
{
    const uint64_t kind = draw(3);
    int64_t *lengths = take(B * 8);
    for (int64_t b = 0; b < B; b++) {
        lengths[b] = kind == 1 ? T : (int64_t)draw((uint64_t)T + 1);
    }
    return kind ? lengths : NULL;
}

/* Whether a member that may be NULL is: never, always, or at random. */
static int left_out(int way)
{
    return way == 1 || (way == 2 && draw(2));
}
"""

TEAM = """
void *gg_team_make(int64_t size);
static void *team;
"""

TYPED = """
static {real} *random_{suffix}(int64_t count, int without)
{{
    if (without) {{
        return NULL;
    }}
    {real} *array = take(count * (int64_t)sizeof({real}));
    for (int64_t k = 0; k < count; k++) {{
        array[k] = ({real})((double)draw(2000001) / 1e6 - 1);
    }}
    return array;
}}

static {real} *empty_{suffix}(int64_t count, int without)
{{
    return without ? NULL : take(count * (int64_t)sizeof({real}));
}}

static void check_{suffix}(const char *name, const {real} *array, int64_t count)
{{
    for (int64_t k = 0; array && k < count; k++) {{
        unsigned char bytes[sizeof({real})];
        if (!isfinite(array[k])) {{
            printf("%s[%ld] is not finite\\n", name, (long)k);
            exit(1);
        }}
        memcpy(bytes, array + k, sizeof bytes);
        for (size_t i = 0; i < sizeof bytes; i++) {{
            hash = (hash ^ bytes[i]) * 1099511628211u;
        }}
    }}
}}
"""

RUN = """
static void run_{cell}_{suffix}(int64_t T, int64_t B, const int64_t *widths, int way, int keep)
{{
    const {prefix}_dims d = {{T, B, {widths}}};
    {prefix}_params_{suffix} p = {{0}}, d_p = {{0}};
    {prefix}_inputs_{suffix} in = {{0}}, d_in = {{0}};
    {prefix}_outputs_{suffix} out = {{0}}, d_out = {{0}};
    {fill}
    in.{lengths} = draw_lengths(T, B);
    {real} *tape = empty_{suffix}({prefix}_tape_size_{suffix}(&d), !keep);
    void *work = take({prefix}_work_size_{suffix}(&d));
    if ({prefix}_forward_{suffix}(&d, &p, &in, &out, tape, work{team})) {{
        exit(3);
    }}
    {check_outputs}
    if (keep) {{
        memset(work, 0xff, (size_t){prefix}_work_size_{suffix}(&d));
        if ({prefix}_backward_{suffix}(&d, &p, &in, &d_out, tape, &d_p, &d_in, work{team})) {{
            exit(4);
        }}
        {check_gradients}
    }}
    release();
}}

static void drive_{cell}_{suffix}(void)
{{
    static const int64_t widths[][8] = {{
        {{1, 1, 1, 1, 1, 1, 1, 1}}, {{3, 5, 2, 4, 7, 1, 6, 9}}, {{9, 8, 3, 5, 2, 6, 1, 4}}
    }};
    static const int64_t sizes[][2] = {{{{0, 2}}, {{3, 0}}, {{1, 1}}, {{1, 3}}, {{4, 1}}, {{5, 6}}}};
    for (int size = 0; size < 6; size++) {{
        for (int way = 0; way < 3; way++) {{
            for (int keep = 0; keep < 2; keep++) {{
                run_{cell}_{suffix}(sizes[size][0], sizes[size][1], widths[(size + way) % 3], way, keep);
            }}
        }}
    }}
    printf("{cell} {suffix} %016lx\\n", (unsigned long)hash);
}}
"""


def cell(name: str) -> gg.Cell:
    """A cell of the zoo, of the tricky ones, or of those with names that C has for something else."""
    return gg.parse(NAMES[name], name) if name in NAMES else cells.cell(name)


def interface(cell: gg.Cell, dtype: str, fast: bool = False) -> Interface:
    """Names and shapes of the C interface."""
    kind = FastInterface if fast else Interface
    return kind(cell, gg.derive(cell).program, SUFFIX[dtype], c.TYPES[dtype])


def files(cell: gg.Cell, fast: bool = False) -> dict[str, str]:
    """Header and both sources by file name."""
    return dict(_files(cell, str(cell), fast))


@cache
def _files(cell: gg.Cell, _text: str, fast: bool) -> dict[str, str]:
    """The same; equal cells may be written in another order."""
    plan, name = gg.derive(cell).schedule, file_name(cell)
    if not fast:
        texts = {f"{name}_{SUFFIX[dtype]}.c": c.source(plan, cell, dtype) for dtype in SUFFIX}
        return {f"{name}.h": c.header(plan, cell), **texts}
    texts = {f"{name}_{SUFFIX[dtype]}.c": c_fast.source(plan, cell, dtype) for dtype in SUFFIX}
    return {f"{name}.h": _header(cell), **texts}


def _header(cell: gg.Cell) -> str:
    interfaces = [interface(cell, dtype, fast=True) for dtype in SUFFIX]
    declared = [interfaces[0].dims(), *(api.declarations() for api in interfaces)]
    return laid_out("\n\n".join(["#pragma once", "#include <stdint.h>", *declared]))


def files_of(kernels: Iterable[tuple[gg.Cell, str]], fast: bool = False) -> dict[str, str]:
    """What kernels in one program take; fast ones share the tile of their dtype, as they do in Python."""
    texts: dict[str, str] = {}
    for cell, dtype in kernels:
        name, suffix = file_name(cell), SUFFIX[dtype]
        if not fast:
            both = files(cell)
            texts |= {file: both[file] for file in (f"{name}.h", f"{name}_{suffix}.c")}
            continue
        made, own = gg.pipeline.lowered(cell, dtype, "c"), f"#define gg_tiles gg_tiles_{suffix}\n"
        texts |= {f"{name}.h": _header(cell), f"{name}_{suffix}.c": own + made.source}
        texts[f"tile_{suffix}.c"] = own + made.linked
    return texts


def main(kernels: Iterable[tuple[gg.Cell, str]], fast: bool = False, threads: int = 1) -> str:
    """A program that runs each cell in a dtype, with every sort of sizes and arguments.

    With more than one thread it makes a team if it is started with an argument.
    """
    kernels = list(kernels)
    texts = [f'#include "{name}.h"' for name in dict.fromkeys(cell.name for cell, _ in kernels)]
    texts += [PRELUDE, TEAM] if threads > 1 else [PRELUDE]
    for dtype in dict.fromkeys(dtype for _, dtype in kernels):
        texts.append(TYPED.format(real=c.TYPES[dtype], suffix=SUFFIX[dtype]))
    texts += [
        _driver(interface(cell, dtype, fast), "team" if threads > 1 else "NULL") for cell, dtype in kernels
    ]
    calls = "\n".join(f"    drive_{cell.name}_{SUFFIX[dtype]}();" for cell, dtype in kernels)
    team = f"    team = argc > 1 ? gg_team_make({threads}) : NULL;\n" if threads > 1 else "    (void)argc;\n"
    head = f"int main(int argc, char **argv)\n{{\n    (void)argv;\n{team}"
    return "\n".join([*texts, f"{head}{calls}\n    return 0;\n}}\n"])


def _driver(api: Interface, team: str) -> str:
    fill = [_filled(api, "p", member, "random", "0") for member in api.params.values()]
    for key, member in api.inputs.items():
        fill.append(
            _filled(api, "in", member, "random", "left_out(way)" if key.startswith("start ") else "0")
        )
    for struct, members, maker in (
        ("out", api.outputs, "empty"),
        ("d_out", api.outputs, "random"),
        ("d_p", api.params, "empty"),
        ("d_in", api.inputs, "empty"),
    ):
        fill += [_filled(api, struct, member, maker, "left_out(way)") for member in members.values()]
    gradients = [("d_p", member) for member in api.params.values() if "frozen" not in member.meaning]
    gradients += [("d_in", member) for member in api.inputs.values()]
    return RUN.format(
        cell=api.cell.name,
        suffix=api.suffix,
        prefix=api.prefix,
        real=api.ctype,
        team=f", {team}" if isinstance(api, FastInterface) else "",
        widths=", ".join(_widths(api)) or "0",
        lengths=api.lengths,
        fill="\n    ".join(fill),
        check_outputs="\n    ".join(_checked(api, "out", member) for member in api.outputs.values()),
        check_gradients="\n        ".join(_checked(api, struct, member) for struct, member in gradients),
    )


def _widths(api: Interface) -> list[str]:
    """A width of the row for each that the cell has, or the least that it can do with."""
    least = {name: number for width, number in api.program.least.items() for name in width.names}
    found = [f"widths[{place}]" for place in range(len(api.sizes))]
    return [
        f"{width} < {least[name]} ? {least[name]} : {width}" if name in least else width
        for name, width in zip(api.sizes, found, strict=True)
    ]


def _count(api: Interface, member: Member) -> str:
    """The number of elements that the shape of a member's comment tells."""
    sizes = {"T": "d.T", "B": "d.B", **{name: f"d.{name}" for name in api.sizes.values()}}
    factors = member.shape.strip("[]").split("][")
    return " * ".join(f"({' '.join(_sized(factor, sizes))})" for factor in factors)


def _sized(width: str, sizes: dict[str, str]) -> list[str]:
    words = width.replace("*", " * ").split()
    return [sizes.get(word, word) for word in words]


def _filled(api: Interface, struct: str, member: Member, maker: str, without: str) -> str:
    return f"{struct}.{member.name} = {maker}_{api.suffix}({_count(api, member)}, {without});"


def _checked(api: Interface, struct: str, member: Member) -> str:
    name = f"{struct}.{member.name}"
    return f'check_{api.suffix}("{api.cell.name} {name}", {name}, {_count(api, member)});'


@contextmanager
def quickly(*renderings: str, dtypes: Sequence[str] = tuple(SUFFIX)) -> Iterator[None]:
    """Kernels of these renderings and dtypes are compiled without optimization meanwhile."""
    module = import_module("gategen.runtime.compile")
    built, quick = module._built, {rendering: _QUICK[rendering] for rendering in renderings}

    def build(cell: gg.Cell, options: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if options.dtype in dtypes:
                patch.setattr(module, "_FLAGS", module._FLAGS | quick)
            return built(cell, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_built", build)
        yield


def compiled(folder: Path, sources: Sequence[str], command: Sequence[str]) -> list[Path]:
    """Objects of the sources, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda name: _object(folder, name, command), sources))


def _object(folder: Path, name: str, command: Sequence[str]) -> Path:
    made = folder / f"{name}.o"
    run([*command, "-c", name, "-o", made.name], folder)
    return made


def run(command: Sequence[str], folder: Path) -> str:
    """What a command prints; it must not fail."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
