"""The demonstration: what it shows, what it reaches, and what it does on a machine that lacks something."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

import gategen as gg
from gategen import demo, demo_race
from gategen.check import Certificate, CheckRow
from gategen.cli import main as command
from gategen.errors import GategenError
from gategen.training.loops import Step

CHAPTERS = ("A cell that no library has", "derived", "Compiled", "Checked", "Trained", "Timed")
PASSED = Certificate("pulse", 0, (CheckRow("complex step", "d params W_u", 1e-16, 1e-12, True),))


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check has tests of its own, and one here."""
    monkeypatch.setattr(demo, "check", lambda cell: PASSED)


@pytest.fixture(scope="module")
def kernel() -> Any:
    return gg.compile(gg.parse(demo.CELL, name="pulse"))


def model(kernel: Any, hidden: int = 8) -> demo.Model:
    return demo.Model(kernel, demo.library_text(5 * demo.HELD_OUT), hidden, seed=0)


class TestCell:
    def test_passes_the_check_without_a_warning(self) -> None:
        cell = gg.parse(demo.CELL, name="pulse")
        assert gg.check(cell).passed
        assert gg.derive(cell).warnings == ()

    def test_shapes(self) -> None:
        cell = gg.parse(demo.CELL, name="pulse")
        assert (list(cell.inputs), list(cell.states)) == (["x"], ["m", "h"])
        assert "y" in cell.outputs
        assert [str(width) for width in cell.parameters["W_e"].shape] == ["n_e", "n_x"]
        assert [str(width) for width in cell.parameters["k_h"].shape] == ["n_h"]

    def test_stays_bounded(self, kernel: Any) -> None:
        subject = model(kernel)
        large = {name: 50 * array for name, array in subject.parameters.items() if name != "k_h"}
        x = np.ones((200, 2, len(demo.ALPHABET)), np.float32)
        run = kernel.forward({"x": x}, large | {"k_h": subject.parameters["k_h"]})
        assert np.abs(run.final["m"]).max() <= 1
        assert np.abs(run.outputs["h"]).max() <= 3

    def test_gradients_agree_with_autograd(self) -> None:
        rng = np.random.default_rng(0)
        compiled = gg.compile(gg.parse(demo.CELL, name="pulse"), dtype="float64")
        parameters = compiled.init({"x": 7, "e": 3, "h": 5, "y": 7}, seed=1)
        for array in parameters.values():
            array += 0.3 * rng.standard_normal(array.shape)
        x = rng.standard_normal((6, 4, 7))
        threads = torch.get_num_threads()
        steps = demo_race.contenders({"c": compiled}, parameters, x)
        own, other = steps["c"](), steps["PyTorch eager"]()
        assert own.keys() == other.keys() == parameters.keys()
        for name, gradient in own.items():
            expected = other[name].numpy()
            assert np.abs(gradient - expected).max() <= 1e-12 * np.abs(expected).max(), name
        assert torch.get_num_threads() == threads

    def test_races_without_torch(self, kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(demo_race, "find_spec", lambda name: None)
        x = np.zeros((2, 1, len(demo.ALPHABET)), np.float32)
        steps = demo_race.contenders({"c": kernel}, model(kernel).parameters, x)
        assert list(steps) == ["c"]
        assert demo_race.run(steps, 3)["c"].ratio == 1


class TestStory:
    @pytest.mark.usefixtures("checked")
    def test_short_run(self, capsys: pytest.CaptureFixture[str]) -> None:
        outcome = demo.main(steps=150, hidden=32, rounds=1)
        text = capsys.readouterr().out
        assert np.mean(outcome.losses[-20:]) < 3.0
        assert outcome.held_out[-1] < 3.0 < outcome.held_out[0] < 5.0
        assert len(outcome.held_out) == len(demo.REPORTS)
        assert len(outcome.before) == len(outcome.after) == demo.SAMPLE
        assert outcome.after.count(" ") > outcome.before.count(" ")
        assert [text.index(chapter) for chapter in CHAPTERS] == sorted(text.index(c) for c in CHAPTERS)
        assert "\x1b" not in text and "\r" not in text
        assert min(outcome.times.values()) > 0
        assert outcome.times.keys() >= {"compiled C", "NumPy reference"}

    @pytest.mark.usefixtures("checked")
    def test_what_it_shows(self, capsys: pytest.CaptureFixture[str]) -> None:
        demo.main(steps=1, hidden=4, rounds=0)
        text = capsys.readouterr().out
        assert all(line in text for line in demo.CELL.splitlines())
        assert "δp = δh[t] * o * k_h" in text and "δm[t-1] += δm[t]" in text
        assert "const real p = u[j] * (g[j] - m_prev[j]);" in text
        assert text.index("m[j] = m_prev[j] + p;") < text.index("h[j] = o[j] * (m[j] + k_h[j] * p);")
        assert "complex step" in text and "1 comparisons" in text
        assert max(map(len, text.splitlines())) <= 80

    @pytest.mark.usefixtures("checked")
    def test_steps_can_be_repeated_exactly(self) -> None:
        first, second = (demo.main(steps=12, hidden=8, rounds=0) for _ in range(2))
        assert (first.losses, first.held_out, first.after) == (second.losses, second.held_out, second.after)

    def test_interrupt_shows_what_was_reached(
        self, checked: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        real = demo.train_windows

        def stopped(*arguments: Any, **options: Any) -> Iterator[Step]:
            for place, step in enumerate(real(*arguments, **options)):
                if place == 3:
                    raise KeyboardInterrupt
                yield step

        monkeypatch.setattr(demo, "train_windows", stopped)
        outcome = demo.main(hidden=8)
        text = capsys.readouterr().out
        assert outcome.interrupted and len(outcome.losses) == 3 and not outcome.times
        assert "stopped by you" in text and "Held-out loss" in text and "Timed" not in text

    def test_a_failed_check_ends_it(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        failed = dataclasses.replace(PASSED, rows=(CheckRow("complex step", "d", 1.0, 1e-12, False),))
        monkeypatch.setattr(demo, "check", lambda cell: failed)
        with pytest.raises(GategenError, match="check of pulse failed"):
            demo.main(steps=1)
        assert "FAILED" in capsys.readouterr().out

    def test_what_did_not_run_is_not_counted(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        absent = CheckRow("c-portable float32", "no C compiler", math.nan, math.nan, None)
        mixed = dataclasses.replace(PASSED, rows=(*PASSED.rows, absent))
        monkeypatch.setattr(demo, "check", lambda cell: mixed)
        demo.main(steps=1, hidden=4, rounds=0)
        text = capsys.readouterr().out
        assert "not run" in text and "1 comparisons" in text and "nan" not in text


class TestTime:
    """Training ends by the clock, but not before the target; a clock that we move stands in for waiting."""

    def learned(self, monkeypatch: pytest.MonkeyPatch, loss: Callable[[float], float]) -> demo.Outcome:
        clock = SimpleNamespace(now=0.0)

        def steps(*_: Any, **__: Any) -> Iterator[Any]:
            while True:
                clock.now += 1.0
                yield SimpleNamespace(loss=2.0)

        monkeypatch.setattr(demo, "time", SimpleNamespace(perf_counter=lambda: clock.now))
        monkeypatch.setattr(demo, "train_windows", steps)
        stand_in: Any = SimpleNamespace(
            kernel=None,
            parameters={},
            trained=[],
            vocabulary=demo.ALPHABET,
            judge=lambda: loss(clock.now),
            write=lambda: "\n",
        )
        outcome = demo.Outcome(PASSED)
        demo.learn(stand_in, outcome, 100.0, None, Console(quiet=True))
        return outcome

    def test_ends_on_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        outcome = self.learned(monkeypatch, lambda now: 2.0)
        assert outcome.seconds == 100
        assert len(demo.REPORTS) - 1 <= len(outcome.held_out) <= len(demo.REPORTS)

    def test_goes_on_to_the_target(self, monkeypatch: pytest.MonkeyPatch) -> None:
        outcome = self.learned(monkeypatch, lambda now: 4.0 if now < 115 else 2.0)
        assert 115 <= outcome.seconds <= 122

    def test_gives_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(GategenError, match=r"held-out loss is 4.00 after 15\d s"):
            self.learned(monkeypatch, lambda now: 4.0)

    def test_judging_takes_a_third_at_most(self) -> None:
        assert demo._next_report(0.05, 0.1) == 0.4
        assert demo._next_report(0.9, 0.3) == 1.0
        assert demo._next_report(1.0, 0.0) == 1.1

    def test_rate_rises_and_falls(self) -> None:
        rates = [demo._rate(share) for share in (0.0, 0.03, 0.4, 0.7, 1.0, 1.5)]
        assert rates == pytest.approx([0.02, 1.0, 1.0, 0.525, 0.05, 0.05])


class TestText:
    def test_is_printable_and_long_enough(self) -> None:
        text = demo.library_text(demo.CHARACTERS)
        assert set(text) <= set(demo.ALPHABET)
        assert text == demo.library_text(demo.CHARACTERS)
        assert len(text) >= 1_000_000 and "\n    def " in text

    def test_a_library_without_source(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "only.py").write_text("print()\n")
        monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
        with pytest.raises(GategenError, match="too little source text"):
            demo.library_text(demo.CHARACTERS)

    def test_training_and_judging_text_do_not_overlap(self, kernel: Any) -> None:
        subject = model(kernel)
        seen = sum(window.inputs.size for window in subject.trained)
        judged = sum(window.inputs.size for window in subject.held_out)
        assert 3.9 * demo.HELD_OUT < seen <= 4 * demo.HELD_OUT
        assert 0.9 * demo.HELD_OUT < judged <= demo.HELD_OUT


class TestMachines:
    def run(self, code: str, environment: Mapping[str, str], tmp_path: Path) -> str:
        """A fresh interpreter with an empty home and cache; its output and errors."""
        places = {"HOME": str(tmp_path), "GATEGEN_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**os.environ, **places, **environment},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def test_no_compiler(self, tmp_path: Path) -> None:
        """NumPy takes over, says so once, and everything still happens."""
        code = "from gategen import demo; o = demo.main(steps=30, hidden=16, rounds=1); print(o.times.keys())"
        environment = {"PATH": str(tmp_path), "CC": "", "GATEGEN_CC": ""}
        text = self.run(code, environment, tmp_path)
        assert text.count("no C compiler was found") == 1
        assert "not run" in text and "compiled C" not in text and "NumPy reference" in text

    def test_ascii_only(self, tmp_path: Path) -> None:
        code = "from gategen import demo; demo.main(steps=2, hidden=4, rounds=0)"
        text = self.run(code, {"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}, tmp_path)
        assert text.isascii() and "Held-out loss" in text and "####" in text

    @pytest.mark.usefixtures("checked")
    def test_from_the_command_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = demo.main
        monkeypatch.setattr(demo, "main", lambda: real(steps=1, hidden=4, rounds=0))
        result = CliRunner().invoke(command, ["demo"])
        assert result.exit_code == 0 and "Held-out loss" in result.output
