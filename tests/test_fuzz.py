"""A text is data: reading it ends soon, in a cell or in an error of ours, and runs nothing."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import clock, mutated, seeds
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gategen import pipeline
from gategen.errors import CellError
from gategen.language.cell import Cell
from gategen.language.parse import parse

TEXTS = seeds()
CHUNKS, SIZE = 40, 500
DERIVED = 500
LANGUAGE = "hxtzWUb_0123456789.+-*/@=()[],: \n\t\"'#<>tanhsigmoidwhereforinrangeifelsevectorinput"


def read(text: str) -> Cell | None:
    """The cell, or None if the text is refused with a message; anything else fails the test."""
    try:
        with clock(1.0):
            return parse(text)
    except CellError as error:
        assert str(error)
        assert error.where is not None
    return None


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_changed_cells(chunk: int) -> None:
    draw = random.Random(chunk)
    for _ in range(SIZE):
        text = mutated(TEXTS, draw)
        try:
            read(text)
        except Exception as error:
            error.add_note(f"the text is {text!r}")
            raise


@settings(max_examples=1500, deadline=None, database=None, derandomize=True)
@given(st.text(max_size=300) | st.text(alphabet=LANGUAGE, max_size=120))
@example("h[t] = x[t]\\")
@example("h[t] = x[t]\\\n")
@example("\x0ch[t] = x[t] + q")
@example("h[t] = (x[t]\u2028+ q)")
@example("h[t] = \u2028x[t]\r+ q")
@example('"""a\u2028b"""\nh[t] = q')
@example("h[t] = x[t] if" + " not" * 3000 + " 1 else 0")
@example("h[t] = x[t" + "-1" * 3000 + "]")
@example("h[t] = x" + "[t]" * 3000)
@example("h[t] = x" + ".a" * 3000)
@example("h[t] = x[t]" + "()" * 3000)
@example("h" + "[t]" * 50 + " = x[t]")
@example("x: " + "vector[" * 60 + "n" + "]" * 60)
@example("if 1:\n" + "".join(" " * i + "if 1:\n" for i in range(1, 99)) + " " * 99 + "h[t] = x[t]")
@example(
    "for k in range(2):\n"
    + "".join(" " * i + f"for k{i} in range(2):\n" for i in range(1, 30))
    + " " * 30
    + "pass"
)
@example("h[t] = x[t]\n" + "if 1: pass\nelif 1: pass\n" * 2000)
@example("h[t] = x[t]\n" * 5000)
@example("h[t] = " + "+".join(["x[t]"] * 5000))
@example("h[t] = " + "f'{" * 100 + "x" + "}'" * 100)
@example("h[t] = " + "1_" * 20000 + "1")
@example("h[t] = 0x" + "f" * 20000 + " * x[t]")
@example("h[t] = x[t]**-0.0 + 0**0 + h[t-1]")
@example("h[t] = -0.0 * x[t] / -0.0")
@example("L: constant = 1e99\nh[t] = x[t]**(L * L)")
@example("L: constant = 1e99\nfor k in range(L):\n    pass\nh[t] = x[t]")
@example("L: constant = 1e99\nh[t] = U_h[L] * x[t]")
@example("L: constant = 1e99\nx: input[L]\nh[t] = x[t]")
@example("L: constant = 999999999\nU: weight[L * n + L, L * n]\nh[t] = U @ x[t]")
def test_any_text(text: str) -> None:
    read(text)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.binary(max_size=200))
@example(b"\xff\xfeh\x00")
@example(b"\xef\xbb\xbfh[t] = x[t]")
@example(b"\xef\xbb")
@example(b"h[t] = x[t]\r\rh[t] = \xe9")
def test_any_bytes(data: bytes) -> None:
    try:
        parse(pipeline.decoded(data, "file"), file="file")
    except CellError as error:
        assert error.where is not None


@pytest.mark.parametrize("part", range(4))
def test_what_is_read_is_derived(part: int) -> None:
    """The stages behind the language take every cell that it lets through."""
    draw = random.Random(f"derived {part}")
    left = DERIVED // 4
    while left:
        text = mutated(TEXTS, draw)
        cell = read(text)
        if cell is None:
            continue
        left -= 1
        try:
            with clock(20.0):
                assert parse(str(cell)) == cell
                derivation = pipeline.derive(cell)
                assert derivation.schedule is not None
        except Exception as error:
            error.add_note(f"the text is {text!r}")
            raise


EVIL = r"""
h[t] = __import__("os").system("touch /evil") * x[t]
%%
h[t] = open("evil", "w").write("x")
%%
h[t] = eval("1") + exec("import socket") + compile("1", "evil", "exec")
%%
import socket, subprocess
%%
h[t] = ().__class__.__bases__[0].__subclasses__()
%%
h[t] = [c for c in ().__class__.__mro__]
%%
h[t] = (lambda: globals())()
%%
h[t] = f"{open('evil')}"
%%
h[t] = getattr(x, "__dict__")
%%
@exec
def f(): pass
%%
x: __import__("os") = open("evil")
%%
x: vector[open("evil")] = eval("1")
%%
for k in open("evil"): pass
%%
h[t] = x[__import__("os")] + U_h[eval("1")]
%%
h[t] = x[t]**eval("2")
%%
h[t] = x[t] if exec("1") else 0
%%
h[t+1] = eval("2") + h[t]
%%
lambda = exec("1")
"""

WATCH = """
import random, sys
sys.path.insert(0, sys.argv[1])
from fuzzing import mutated, seeds
from gategen.errors import CellError
from gategen.language.parse import parse

texts, evil = seeds(), open(sys.argv[2], encoding="utf-8").read().split("%%")
draw = random.Random(2)
texts += evil
tried = evil + [mutated(texts, draw) for _ in range(1500)]
for text in texts:  # SymPy imports some of its parts at their first use
    try:
        str(parse(text))
    except CellError as error:
        str(error)

# Reading a syntax tree raises `compile`; quoting a wrong line raises `open` of a file without a name.
# Code cannot run without `exec`.
harmless = {("compile", ""), ("open", "")}
seen, watching = set(), True
def hook(event, arguments):
    key = (event, arguments[1] if event == "compile" else arguments[0] if arguments else None)
    if watching and event != "builtins.id" and key not in harmless:
        seen.add((event, repr(arguments)[:200]))
sys.addaudithook(hook)
read = 0
for text in tried:
    try:
        str(parse(text))
        read += 1
    except CellError as error:
        str(error)
watching = False
print(len(tried), read, sorted(seen))
"""


def test_no_text_opens_runs_or_imports_anything(tmp_path: Path) -> None:
    """An audit hook sees every file, import, process, socket and piece of code that is touched."""
    evil = tmp_path / "evil.txt"
    evil.write_text(EVIL, encoding="utf-8")
    command = [sys.executable, "-c", WATCH, str(Path(__file__).parent), str(evil)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=300)
    assert done.returncode == 0, done.stderr
    tried, read, seen = done.stdout.strip().split(" ", 2)
    assert int(tried) > 1500
    assert int(read) > 50
    assert seen == "[]"


def test_every_evil_text_is_refused() -> None:
    for text in EVIL.split("%%"):
        with pytest.raises(CellError):
            parse(text)


def test_the_clock_stops_a_hang() -> None:
    with pytest.raises(TimeoutError), clock(0.05):
        while True:
            pass
