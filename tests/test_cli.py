"""The command line as a person and a shell meet it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import gategen as gg
from gategen.check import Certificate, CheckRow
from gategen.cli import main
from gategen.generated import MARK

VERBS = ("list", "show", "derive", "build", "check", "bench", "demo", "generate", "doctor", "cache")
OURS = f"/* {MARK} from x.cell */\n"


def call(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def fresh(code: str, **environment: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.stdout


@pytest.fixture
def small_zoo(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Two files instead of the whole zoo."""
    files = {"a/a.c": f"{OURS}int a;\n", "a/README.md": f"<!-- {MARK} from a.cell -->\n"}
    monkeypatch.setattr("gategen.generated.zoo_files", lambda: dict(files))
    return files


class TestFace:
    def test_help_lists_every_verb_in_order(self) -> None:
        text = call("--help").stdout
        places = [text.index(f"\n  {verb} ") for verb in VERBS]
        assert places == sorted(places)

    def test_version(self) -> None:
        assert call("--version").stdout == f"gategen {gg.__version__}\n"

    def test_help_is_light(self) -> None:
        heavy = "{'numpy', 'sympy', 'jinja2', 'cffi', 'torch'}"
        code = f"""
import sys
from gategen.cli import main
main(["--help"], standalone_mode=False)
print("loaded:", sorted({heavy} & set(sys.modules)))
"""
        assert fresh(code).splitlines()[-1] == "loaded: []"

    def test_import_is_lighter_still(self) -> None:
        code = (
            "import sys, gategen; print(sorted({'numpy','sympy','jinja2','rich','click'} & set(sys.modules)))"
        )
        assert fresh(code) == "[]\n"

    def test_the_function_check_survives_the_module_check(self) -> None:
        code = "import gategen.check; from gategen.check import Certificate; print(callable(gategen.check))"
        assert fresh(code) == "True\n"

    def test_functions_come_from_their_table(self) -> None:
        code = "from gategen import sigmoid, tanh; print(sigmoid.__name__, tanh.__name__)"
        assert fresh(code) == "sigmoid tanh\n"

    def test_unknown_public_name(self) -> None:
        with pytest.raises(AttributeError, match="did you mean 'derive'"):
            getattr(gg, "dervie")  # noqa: B009


class TestMistakes:
    def test_unknown_cell(self) -> None:
        result = call("show", "lstmm")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert "lstm" in result.stderr.replace("lstmm", "")

    def test_bad_cell_is_quoted_with_its_place(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.cell"
        path.write_text("h[t] = sigmiod(W @ x[t] + U @ h[t-1])\n")
        result = call("check", path)
        assert result.exit_code == 2
        assert "bad.cell:1:" in result.stderr
        assert "sigmoid" in result.stderr

    def test_a_folder_is_no_cell(self, tmp_path: Path) -> None:
        assert call("show", tmp_path).exit_code == 2

    def test_file_that_cannot_be_written(self, tmp_path: Path) -> None:
        result = call("derive", "rnn", "-o", tmp_path / "absent" / "rnn.txt")
        assert result.exit_code == 2
        assert "No such file" in result.stderr

    def test_no_escape_codes_in_a_pipe(self) -> None:
        for arguments in (["show", "nope"], ["show", "gru"], ["list"]):
            result = call(*arguments)
            assert "\x1b" not in result.stdout + result.stderr

    def test_red_only_where_colour_is_wanted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "\x1b[31m" in CliRunner().invoke(main, ["show", "nope"], color=True).stderr
        monkeypatch.setenv("NO_COLOR", "1")
        assert "\x1b" not in CliRunner().invoke(main, ["show", "nope"], color=True).stderr


class TestResults:
    def test_list_gives_one_line_per_cell(self) -> None:
        rows = [line.split("\t") for line in call("list").stdout.splitlines()]
        assert [row[0] for row in rows] == list(gg.pipeline.zoo())
        assert {row[0]: row[1:3] for row in rows}["gru"] == ["h", "z r g"]

    def test_shown_cell_is_the_cell(self, tmp_path: Path) -> None:
        path = tmp_path / "gru.cell"
        path.write_text(call("show", "gru").stdout)
        assert gg.load(str(path)) == gg.load("gru")

    @pytest.mark.parametrize("stage", gg.pipeline.STAGES)
    def test_every_stage_can_be_seen(self, stage: str) -> None:
        assert call("show", "gru", "--stage", stage).stdout.strip()

    @pytest.mark.parametrize("form", ["text", "latex", "markdown"])
    def test_derivation_in_a_file_is_the_one_printed(self, form: str, tmp_path: Path) -> None:
        path = tmp_path / "derivation"
        printed = call("derive", "rnn", "--format", form).stdout
        assert call("derive", "rnn", "--format", form, "-o", path).exit_code == 0
        assert path.read_text(encoding="utf-8").rstrip("\n") + "\n" == printed

    def test_warnings_do_not_enter_the_pipe(self) -> None:
        result = call("derive", "gru_update_as_reset_before")
        assert "warning:" in result.stderr
        assert "warning:" not in result.stdout

    def test_bench_compares(self) -> None:
        result = call(
            "bench", "rnn", "--steps", "3", "--batch", "2", "--width", "4", "--rounds", "1", "--json"
        )
        rows = json.loads(result.stdout)["rows"]
        assert {row["contender"] for row in rows} >= {"gategen", "numpy"}
        assert all(row["seconds"] > 0 for row in rows)

    def test_doctor(self) -> None:
        findings = json.loads(call("doctor", "--json").stdout)
        assert {"gategen", "C compiler", "Python.h", "cache", "sympy"} <= set(findings)

    def test_doctor_without_a_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GATEGEN_CC", "no-such-compiler")
        assert json.loads(call("doctor", "--json").stdout)["C compiler"]["fine"] is False

    def test_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("GATEGEN_CACHE_DIR", str(tmp_path / "cache"))
        assert call("cache", "path").stdout == f"{tmp_path / 'cache'}\n"
        gg.cache.write_manifest(gg.cache.key("test"), {"answer": 1}, label="a test")
        assert "a test" in call("cache", "list").stdout
        assert "1 entries deleted" in call("cache", "clear").stderr
        assert call("cache", "list").stdout == ""


class TestCheck:
    def test_agreement_is_exit_code_0(self) -> None:
        result = call("check", "rnn")
        assert result.exit_code == 0
        assert "FAILED" not in result.stdout

    def test_json(self) -> None:
        assert json.loads(call("check", "rnn", "--json").stdout)

    def test_disagreement_is_exit_code_1(self, monkeypatch: pytest.MonkeyPatch) -> None:
        failing = Certificate("rnn", 0, (CheckRow("differences", "d_W", 1.0, 1e-12, False),))
        monkeypatch.setattr(gg, "check", lambda cell, seed=0: failing)
        result = call("check", "rnn")
        assert result.exit_code == 1
        assert result.stdout.split("\t") == ["differences", "d_W", "1.0e+00", "1.0e-12", "FAILED\n"]
        assert "1 of 1 checks failed" in result.stderr
        assert call("check", "rnn", "--json").exit_code == 1


class TestBuild:
    def test_writes_marked_files_and_says_which(self, tmp_path: Path) -> None:
        result = call("build", "rnn", "-o", tmp_path / "out")
        paths = [Path(line) for line in result.stdout.splitlines()]
        assert sorted(paths) == sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
        assert all(gg.generated.is_ours(path) for path in paths)

    def test_again_changes_nothing_and_spares_the_rest(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("mine")
        names = call("build", "rnn", "-o", tmp_path).stdout
        again = call("build", "rnn", "-o", tmp_path)
        assert again.stdout == names
        assert again.stderr.startswith("0 of ")
        assert (tmp_path / "thesis.tex").read_text() == "mine"

    def test_refuses_a_foreign_file_before_writing_any(self, tmp_path: Path) -> None:
        last = sorted(gg.pipeline.artefacts(gg.load("rnn")))[-1]
        foreign = tmp_path / last
        foreign.parent.mkdir(parents=True, exist_ok=True)
        foreign.write_text("mine")
        result = call("build", "rnn", "-o", tmp_path)
        assert result.exit_code == 2
        assert str(foreign) in result.stderr
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [foreign]
        assert foreign.read_text() == "mine"

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        result = call("build", "rnn", "-o", tmp_path / "out")
        assert result.exit_code == 2
        assert "expected a folder" in result.stderr


class TestGenerate:
    def test_what_is_written_is_fresh(self, small_zoo: dict[str, str], tmp_path: Path) -> None:
        assert call("generate", "--root", tmp_path).exit_code == 0
        assert call("generate", "--check", "--root", tmp_path).exit_code == 0
        assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")} == set(small_zoo)

    def test_missing(self, small_zoo: dict[str, str], tmp_path: Path) -> None:
        result = call("generate", "--check", "--root", tmp_path / "generated")
        assert result.exit_code == 1
        assert result.stdout == "missing: a/README.md\nmissing: a/a.c\n"
        assert "run: gategen generate" in result.stderr
        assert not (tmp_path / "generated").exists()

    def test_changed(self, small_zoo: dict[str, str], tmp_path: Path) -> None:
        call("generate", "--root", tmp_path)
        (tmp_path / "a/a.c").write_text(f"{OURS}int b;\n")
        result = call("generate", "--check", "--root", tmp_path)
        assert result.exit_code == 1
        assert result.stdout.startswith("changed: a/a.c\n")
        assert "\n-int b;\n+int a;\n" in result.stdout

    def test_only_the_ends_of_lines_changed(self, small_zoo: dict[str, str], tmp_path: Path) -> None:
        call("generate", "--root", tmp_path)
        (tmp_path / "a/a.c").write_bytes(f"{OURS}int a;\n".replace("\n", "\r\n").encode())
        assert "ends of the lines" in call("generate", "--check", "--root", tmp_path).stdout

    def test_stale_files_of_ours_go_and_others_stay(self, small_zoo: dict[str, str], tmp_path: Path) -> None:
        call("generate", "--root", tmp_path)
        (tmp_path / "gone").mkdir()
        (tmp_path / "gone/gone.c").write_text(OURS)
        (tmp_path / "a/notes.txt").write_text("mine")
        check = call("generate", "--check", "--root", tmp_path)
        assert check.exit_code == 1
        assert "stale: gone/gone.c" in check.stdout
        assert "remove it yourself: a/notes.txt" in check.stdout
        assert call("generate", "--root", tmp_path).exit_code == 1
        assert not (tmp_path / "gone").exists()
        assert (tmp_path / "a/notes.txt").read_text() == "mine"

    def test_names_cannot_leave_the_folder(self, tmp_path: Path) -> None:
        for name in ("../x.c", "/x.c", "a/../../x.c", ""):
            with pytest.raises(gg.GategenError, match="leaves the folder"):
                gg.generated.write(tmp_path, {name: OURS})


def test_rows_of_the_bench_are_plain_data() -> None:
    row = gg.bench.BenchRow("forward", "gategen", 0.5, 1.0)
    assert row.as_dict() == dataclasses.asdict(row)
