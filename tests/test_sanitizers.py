"""The kernels of the whole zoo under the sanitizers: no access out of bounds, no undefined behaviour."""

from __future__ import annotations

from pathlib import Path

import c_programs
import cells
import pytest

import gategen as gg

SANITIZED = (
    *("gcc", "-std=c99", "-g1", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "-fno-omit-frame-pointer",
)
# What has code of its own: shifts, right to left, scalars, derived parameters, blocks of weights, heads.
MORE = (
    *("past_input", "both_inputs", "right_to_left_shifted", "scalars", "derived_product", "derived_matrix"),
    *("scalar_state", "heads", "low_rank", "loop", "concatenation", "frozen", "hidden_state", "copied_input"),
)
HALVES = {"zoo": gg.pipeline.zoo(), "more": MORE}


@pytest.mark.parametrize("half", HALVES)
def test_nothing_is_out_of_bounds_or_undefined(half: str, tmp_path: Path) -> None:
    kernels = [
        (cells.cell(name), "float64" if index % 2 else "float32") for index, name in enumerate(HALVES[half])
    ]
    sources = ["main.c"]
    (tmp_path / "main.c").write_text(c_programs.main(kernels))
    for cell, dtype in kernels:
        for name, text in c_programs.files(cell).items():
            if name.endswith((".h", f"_{c_programs.SUFFIX[dtype]}.c")):
                (tmp_path / name).write_text(text)
                sources += [name] if name.endswith(".c") else []
    objects = c_programs.compiled(tmp_path, sources, SANITIZED)
    c_programs.run([*SANITIZED, *map(str, objects), "-o", "program", "-lm"], tmp_path)
    assert c_programs.run(["./program"], tmp_path).count("\n") == len(kernels)
