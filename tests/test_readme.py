"""What the README says: its code runs as it is printed, and its figures are those that were recorded."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import gategen as gg
from benchmarks.results import Report
from benchmarks.tables import markdown
from gategen.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECORDED = Report.read(ROOT / "benchmarks" / "results.json")


def blocks(heading: str) -> list[str]:
    """The indented blocks of a section."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(found) for found in re.findall(r"(?:^(?:    .*)?\n)+", section, re.MULTILINE)]


@pytest.mark.filterwarnings("ignore::gategen.errors.GategenWarning")
def test_the_python_code_runs() -> None:
    names: dict[str, object] = {}
    for block in (block for block in blocks("From Python") if block.strip()):
        exec(block, names)
    run, y = names["run"], names["y"]
    assert isinstance(run, gg.runtime.kernel.Run) and run.outputs["h"].shape == (100, 16, 128)
    assert isinstance(y, np.ndarray) and y.shape == (128,)
    assert isinstance(names["minimal"], gg.Cell)
    assert names["dilated"].delays == {"h": 8}  # type: ignore[attr-defined]


def test_every_command_exists() -> None:
    (listed,) = (block for block in blocks("From the shell") if block.strip())
    told = {line.split()[1] for line in listed.splitlines() if line.startswith("gategen")}
    assert (
        {"list", "show", "derive", "build", "check", "bench", "doctor", "cache"} <= told <= set(main.commands)
    )
    (stages,) = re.findall(r"a stage: (.*)", listed)
    assert tuple(re.split(r", | or ", stages)) == gg.pipeline.STAGES
    for stage in gg.pipeline.STAGES:
        assert CliRunner().invoke(main, ["show", "gru", "--stage", stage]).exit_code == 0


def test_the_equation_has_the_three_forms() -> None:
    cell, made = (block for block in blocks("One equation, three forms") if block.strip())
    assert gg.parse(cell, "gru") == gg.load("gru")
    source = (ROOT / "generated" / "gru" / "gru_f32.c").read_text(encoding="utf-8")
    assert textwrap.dedent(made).strip() in textwrap.dedent(source).replace("\n        ", "\n")


def test_the_figures_are_the_recorded_ones() -> None:
    assert markdown(RECORDED) in README
    assert {min(r.rounds for r in RECORDED.results), max(r.rounds for r in RECORDED.results)} == {3, 5}
    shapes = {result.shape for result in RECORDED.results if not result.shape.odd}
    assert len(shapes) == 9
    assert {min(s.batch for s in shapes), max(s.batch for s in shapes)} == {1, 128}
    assert {min(s.units for s in shapes), max(s.units for s in shapes)} == {32, 1024}
    assert len({result.cell for result in RECORDED.results}) == 9
    assert (ROOT / "benchmarks" / "results.png").read_bytes().startswith(b"\x89PNG")
