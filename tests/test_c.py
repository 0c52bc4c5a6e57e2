"""The portable C: it compiles everywhere without a word, links without clashes, keeps every name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import c_programs
import cells
import pytest
from c_programs import NAMES, cell

import gategen as gg
from gategen.backends import c
from gategen.backends.c_names import KEYWORDS, c_name
from gategen.backends.c_text import WIDTH, laid_out
from gategen.calculus.problem import Setting, draw, relative_error, solution

ZOO = gg.pipeline.zoo()
FEW = (
    "lstm",
    "gru_reset_after",
    "fastgrnn",
    "both_inputs",
    "right_to_left",
    "heads",
    "derived_matrix",
    "kinks",
)


def written(name: str, folder: Path) -> list[str]:
    """Header and sources of a cell on disk; the names of the sources."""
    texts = c_programs.files(cell(name))
    for file, text in texts.items():
        (folder / file).write_text(text)
    return [file for file in texts if file.endswith(".c")]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_other_cell_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    """Compilers and dtypes take turns."""
    own = [*cells.TRICKY, *NAMES][compiler == "clang" :: 2]
    sources = [written(name, tmp_path)[i % 2] for i, name in enumerate(own)]
    c_programs.compiled(tmp_path, sources, [compiler, *c_programs.STRICTER, "-O1"])


@pytest.mark.parametrize("name", [*NAMES, *ZOO[::5]])
def test_the_header_serves_cpp(name: str, tmp_path: Path) -> None:
    written(name, tmp_path)
    (tmp_path / "use.cpp").write_text(f'#include "{name}.h"\n#include "{name}.h"\n')
    strict = ["-std=c++98", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-long-long"]
    for version in (strict, ["-std=c++20", *strict[1:]]):
        c_programs.run(["g++", *version, "-fsyntax-only", "use.cpp"], tmp_path)


def test_the_zoo_makes_one_program(tmp_path: Path) -> None:
    """No warning, no symbol twice, nothing kept between calls, and little asked of the C library.

    Compilers and dtypes take turns, because each takes its seconds; some cells have both dtypes.
    """
    sources = {name: written(name, tmp_path) for name in ZOO}
    both = [name for place, name in enumerate(ZOO) if place % 3 == 0 or name in FEW]
    turns = [sources[name][place // 2 % 2] for place, name in enumerate(ZOO)]
    others = [source for name in both for source in sources[name] if source not in turns]
    objects = [
        *c_programs.compiled(tmp_path, turns[::2], ["gcc", *c_programs.STRICTER, "-O2"]),
        *c_programs.compiled(tmp_path, turns[1::2], ["clang", *c_programs.STRICTER, "-O2"]),
        *c_programs.compiled(tmp_path, others, ["gcc", "-std=c99", "-O0"]),
    ]
    kernels = [
        (cells.cell(name), dtype)
        for name in ZOO
        for source, dtype in zip(sources[name], ("float32", "float64"), strict=True)
        if source in (*turns, *others)
    ]
    (tmp_path / "main.c").write_text(c_programs.main(kernels))
    c_programs.run(["gcc", "-std=c99", "main.c", *map(str, objects), "-o", "program", "-lm"], tmp_path)
    printed = c_programs.run(["./program"], tmp_path)
    assert printed.count("\n") == len(kernels)
    for path in objects:
        symbols = [line.split() for line in c_programs.run(["nm", path.name], tmp_path).splitlines()]
        kinds = {kind for *_, kind, _ in symbols}
        assert kinds <= {"T", "t", "r", "R", "U"}, f"{path.name} has writable data: {kinds}"
        asked = {name for *_, kind, name in symbols if kind == "U"}
        assert asked <= {"_GLOBAL_OFFSET_TABLE_", *MEMORY, *MATHEMATICS, *(f"{n}f" for n in MATHEMATICS)}


MEMORY = ("memcpy", "memmove", "memset")
MATHEMATICS = ("copysign", "floor", "pow", "sqrt")


def test_optimization_changes_no_bit(tmp_path: Path) -> None:
    """Without contraction every operation is as IEEE 754 has it, in whatever order the compiler works."""
    sources = [source for name in FEW for source in written(name, tmp_path)]
    kernels = [(cells.cell(name), dtype) for name in FEW for dtype in ("float32", "float64")]
    (tmp_path / "main.c").write_text(c_programs.main(kernels))
    printed = []
    for command in (["gcc", "-O0"], ["gcc", "-O3"], ["clang", "-O2", "-ffp-contract=off"]):
        objects = c_programs.compiled(tmp_path, [*sources, "main.c"], [*command, "-std=c99"])
        c_programs.run([command[0], *map(str, objects), "-o", "program", "-lm"], tmp_path)
        printed.append(c_programs.run(["./program"], tmp_path))
    assert printed[0] == printed[1] == printed[2]


@pytest.mark.parametrize("name", NAMES)
def test_names_change_nothing(name: str) -> None:
    """The compiled kernel and the NumPy reference agree whatever the author called his values."""
    named = cell(name)
    program = gg.derive(named).program
    found = []
    for backend in ("numpy", "c-portable", "c"):
        kernel = gg.compile(named, "float64", backend)
        assert kernel.backend == backend
        given = draw(named, program, Setting(5, 4, (2, 3, 5), lengths=(5, 0, 3, 4)), seed=1)
        run = kernel.forward(given.inputs, given.params, given.initial, given.lengths, train=True)
        found.append(solution(run, kernel.backward(run, given.d_outputs, given.d_final), given))
    for key, array in found[0].items():
        assert all(relative_error(other[key], array) < 1e-13 for other in found[1:]), key


def test_members_keep_the_authors_names() -> None:
    header = c.header(gg.derive(cell("words_of_c")).schedule, cell("words_of_c"))
    assert "float *gamma_;" in header and "float *double_;" in header and "float *W;" in header
    assert "float *h_initial;" in c.header(gg.derive(cell("lstm")).schedule, cell("lstm"))
    manifest = gg.pipeline.manifest(gg.derive(cell("members")), "float64", "c-portable")
    assert [state.start for state in manifest.states] == ["h_final_initial", "h_initial_"]
    assert [state.final for state in manifest.states] == ["h_final_final", "h_final_"]


def test_no_text_can_leave_its_comment() -> None:
    plain = cell("rnn")
    named = gg.Cell('a */ "; int\nb', plain.equations, plain.declarations, "*/ int main(void) { } /* x\n*/")
    for backend in ("c", "c-portable"):
        assert gg.compile(named, "float32", backend).backend == backend
        texts = c_programs.files(named, fast=backend == "c")
        assert sorted(texts) == ["a_______int_b.h", "a_______int_b_f32.c", "a_______int_b_f64.c"]
        for text in texts.values():
            assert not re.search(r"\bmain\b", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("name", sorted(KEYWORDS))
def test_no_word_of_c_is_a_name(name: str) -> None:
    assert c_name(name) == f"{name}_"
    assert c_name(name, {f"{name}_"}) == f"{name}__"


@pytest.mark.parametrize("fast", [False, True], ids=["portable", "fast"])
@pytest.mark.parametrize("name", [*ZOO, *cells.TRICKY, *NAMES])
def test_the_text_is_laid_out(name: str, fast: bool) -> None:
    for file, text in c_programs.files(cell(name), fast).items():
        lines = text.splitlines()
        # A line that is one long name cannot be broken.
        assert not [line for line in lines if len(line) > WIDTH and name != "long_names"], file
        assert not [line for line in lines if line != line.rstrip() or "\t" in line], file
        assert text.isascii() and text.endswith("\n") and "\n\n\n" not in text, file
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        assert not re.search(r"\(1\) \*|\* 1[;,) ]|\+ 0[;,) ]", code), file


def test_long_lines_are_broken_at_the_bracket() -> None:
    call = f"    gg_call({', '.join(f'argument_{n}' for n in range(12))});"
    first, second = laid_out(f"{{\n{call}\n}}").splitlines()[1:3]
    assert len(first) <= WIDTH and first.endswith(",") and second.startswith("            argument_")
    condition = f"    if ({' || '.join(f'!argument_{n}' for n in range(9))}) {{"
    assert laid_out(condition).splitlines()[1].startswith("        || !argument_")


def test_no_compiler_is_left_out() -> None:
    for compiler in ("gcc", "clang", "g++"):
        assert subprocess.run([compiler, "--version"], capture_output=True).returncode == 0
