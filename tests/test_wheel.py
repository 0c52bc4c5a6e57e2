"""The wheel holds everything and works where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gategen

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_holds_templates_and_zoo_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {f"gategen/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("templates/**/*.j2")}
    expected |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob("gategen/**/*.cell")}
    assert expected and expected < names
    assert "gategen/py.typed" in names
    information = f"gategen-{gategen.__version__}.dist-info/"
    assert all(name.startswith(("gategen/", information)) for name in names)
    assert f"{information}licenses/LICENSE" in names


def test_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def call(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        return done.stdout.decode()

    assert Path(call("-c", "import gategen; print(gategen.__file__)").strip()).is_relative_to(site)
    assert call("-m", "gategen", "--version").split() == ["gategen", gategen.__version__]
    assert "\\begin{document}" in call("-m", "gategen", "derive", "gru", "--format", "latex")
    assert "#include" in call("-m", "gategen", "show", "gru", "--stage", "c")
