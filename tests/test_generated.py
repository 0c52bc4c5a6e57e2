"""Generated files: the same bytes in every process, marked as ours, and without a trace of the machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import gategen as gg
from gategen.generated import MARK, differences, zoo_files

DIGESTS = """
import hashlib, json
from gategen.generated import zoo_files
print(json.dumps({name: hashlib.sha256(text.encode()).hexdigest() for name, text in zoo_files().items()}))
"""
ROOT = Path(__file__).parents[1]
TEMPLATES, BACKENDS = ROOT / "templates", ROOT / "gategen" / "backends"
# The order of sets differs between these, in this process, and in CI's own check of the tree.
SEEDS = ("4242",)


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return zoo_files()


def digests(seed: str) -> dict[str, str]:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", DIGESTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_bytes_do_not_depend_on_the_process(files: dict[str, str]) -> None:
    expected = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(digests, SEEDS):
            assert [name for name in expected if found[name] != expected[name]] == []
            assert list(found) == list(expected)


def test_the_tree_is_fresh(files: dict[str, str]) -> None:
    assert differences(ROOT / "generated", files) == []


def test_every_cell_has_every_file(files: dict[str, str]) -> None:
    kinds = [".h", "_f32.c", "_f64.c", "_reference.py", "_derivation.tex"]
    expected = {f"{name}/{name}{kind}" for name in gg.pipeline.zoo() for kind in kinds}
    pages = {"README.md", *(f"{name}/README.md" for name in gg.pipeline.zoo())}
    assert set(files) == expected | pages


def test_every_file_says_where_it_comes_from(files: dict[str, str]) -> None:
    for name, text in files.items():
        top = text.encode()[:2000].decode(errors="ignore").lower()
        assert MARK in top, name
        assert f"{name.split('/')[0]}.cell" in top or name == "README.md", name
        assert re.search(r"gategen (build|derive|generate)", top), name


def test_no_trace_of_the_machine(files: dict[str, str]) -> None:
    traces = [
        r"(?<![\w.~}*-])/(home|root|Users|usr|opt|work|workspace|mnt|tmp|var)/\w",
        r"\b20\d\d-[01]\d-[0-3]\d\b",
        r"\b[0-2]\d:[0-5]\d:[0-5]\d\b",
        rf"\b{re.escape(os.uname().nodename)}\b",
    ]
    # Numbers of the vector mathematics are ours; any other one could be an address.
    written = "".join(path.read_text() for path in (*TEMPLATES.rglob("*.j2"), *BACKENDS.glob("c_*.py")))
    ours = set(re.findall(r"0x[0-9a-f]{6,}", written))
    for name, text in files.items():
        assert not re.search("|".join(traces), text), name
        assert set(re.findall(r"0x[0-9a-f]{6,}", text)) <= ours, name


def test_lines_end_the_same_way_everywhere(files: dict[str, str]) -> None:
    for name, text in files.items():
        assert text.endswith("\n") and not text.endswith("\n\n") and "\r" not in text, name
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), name


def test_equal_cells_keep_the_order_in_which_they_are_written() -> None:
    one, other = (
        gg.parse(f"h[t] = tanh({text})", "cell") for text in ("W @ x[t] + h[t-1]", "h[t-1] + W @ x[t]")
    )
    assert one == other
    assert "W @ x[t] + h[t-1]" in gg.pipeline.artefacts(one)["cell_f32.c"]
    assert "h[t-1] + W @ x[t]" in gg.pipeline.artefacts(other)["cell_f32.c"]
