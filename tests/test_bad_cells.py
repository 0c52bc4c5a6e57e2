"""One wrong cell per file in `bad_cells/`, with the exact message that a person gets beside it.

To change a message or to add a mistake: write the ``.cell`` file, run this test and read the message that it
prints. When it says what is wrong, where, and what to write instead, put it into the ``.txt`` file by hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import gategen as gg
from gategen.errors import CellError
from gategen.language.parse import parse
from gategen.language.source import MAX_BYTES, decoded

FOLDER = Path(__file__).parent / "bad_cells"
FILES = sorted(FOLDER.glob("*.cell"))

# What a caller gives along with the text.
CONSTANTS = {"constant_unknown": {"dT": 0.2}, "constant_none_declared": {"dt": 0.2}}


def message(name: str, data: bytes) -> str:
    with pytest.raises(CellError) as caught:
        parse(decoded(data, f"{name}.cell"), name, CONSTANTS.get(name), file=f"{name}.cell")
    return f"{type(caught.value).__name__}: {caught.value}\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_message(path: Path) -> None:
    assert message(path.stem, path.read_bytes()) == path.with_suffix(".txt").read_text(encoding="utf-8")


def test_every_message_has_its_cell() -> None:
    assert len(FILES) > 200
    assert [path.stem for path in FILES] == sorted(path.stem for path in FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_messages_say_where_and_can_be_read(path: Path) -> None:
    """Every message begins with file, line and column; no line is very long or holds a control code."""
    with pytest.raises(CellError) as caught:
        parse(decoded(path.read_bytes(), path.name), path.stem, CONSTANTS.get(path.stem), file=path.name)
    error = caught.value
    assert error.where is not None
    assert str(error).startswith(f"{path.name}:{error.where.line}:{error.where.column}: {error.problem}")
    assert all(len(line) <= 160 and line.isprintable() for line in str(error).replace("\t", " ").splitlines())


def test_a_text_that_is_too_large() -> None:
    data = b"h[t] = x[t]\n" + b"# nothing\n" * (MAX_BYTES // 10)
    assert message("large", data) == "LimitError: large.cell:1:1: the text is larger than 64 KiB\n"
    with pytest.raises(CellError, match="larger than 64 KiB"):
        parse("h[t] = x[t]  # " + "é" * 40_000)


def test_a_mark_of_the_byte_order_is_no_mistake(tmp_path: Path) -> None:
    plain = parse("h[t] = x[t] + h[t-1]", "marked")
    path = tmp_path / "marked.cell"
    path.write_text("h[t] = x[t] + h[t-1]\n", encoding="utf-8-sig")
    assert gg.load(path) == plain
    assert parse("\ufeffh[t] = x[t] + h[t-1]", "marked") == plain


def test_a_file_is_quoted_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.cell"
    path.write_text("h[t] = tanh(W_h @ x)\n", encoding="utf-8")
    with pytest.raises(CellError) as caught:
        gg.load(path)
    assert str(caught.value).startswith(f"{path}:1:19: unknown name 'x'")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gruu", "did you mean: gru"),
        ("missing/gru.cell", "there is no file 'missing/gru.cell'"),
        ("x" * 5000, "there is no zoo cell"),
        ("nul\0", "there is no"),
        ("", "is a folder"),
    ],
    ids=["near", "missing", "long", "nul", "empty"],
)
def test_a_file_that_cannot_be_read(name: str, said: str) -> None:
    with pytest.raises(CellError) as caught:
        gg.load(name)
    assert said in str(caught.value)


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(CellError, match="larger than 64 KiB"):
        gg.load("/dev/zero")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.1", None, 1j], ids=repr)
def test_a_constant_that_is_no_number(value: object) -> None:
    with pytest.raises(gg.GategenError) as caught:
        gg.parse("dt: constant = 0.1\nh[t] = dt * x[t]", constants={"dt": value})  # type: ignore[dict-item]
    assert str(caught.value) == f"constants['dt']: is {value!r}; expected a finite number"


def test_a_text_that_is_no_text() -> None:
    with pytest.raises(gg.GategenError, match="text: is a bytes; expected a str"):
        gg.parse(b"h[t] = x[t]")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "a b", "1st", "a/b", "é", "a" * 65])
def test_a_name_that_no_cell_can_have(name: str) -> None:
    with pytest.raises(CellError, match="is no name for a cell"):
        gg.parse("h[t] = x[t]", name=name)
