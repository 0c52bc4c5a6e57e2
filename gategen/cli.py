"""The command line: every verb asks the package for a result and prints it.

Results go to standard output and stay clean for a pipe; remarks go to standard error. The exit code is 1 for
a failed check and 2 for a mistake, which is reported in its own words and never as a traceback.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

import gategen as gg

if TYPE_CHECKING:
    from gategen.language.cell import Cell, Variable

_STAGES = {"derive": "text", "schedule": "text", "c": "c", "c-portable": "c", "numpy": "python"}
_FORMATS = ("text", "latex", "markdown")
_cell = click.argument("cell", metavar="CELL")


class _Failure(click.ClickException):
    """A mistake, told in its own words."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        _remark(f"error: {self.message}", "red")


class _Commands(click.Group):
    """Turns every error made on purpose into text and an exit code, and warnings into lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order in which a newcomer needs them."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", gg.GategenWarning)
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except gg.GategenError as error:
                raise _Failure(str(error)) from error
            except OSError as error:
                if error.errno == errno.EPIPE:
                    raise  # the reader has seen enough; click ends quietly
                raise _Failure(f"{error.filename or 'system'}: {error.strerror or error}") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(gg.__version__, prog_name="gategen", message="%(prog)s %(version)s")
def main() -> None:
    """From the equations of a gated recurrent cell to its derivation and to compiled kernels.

    CELL is a name from `gategen list`, or the path of a .cell file.
    """


@main.command("list")
def list_zoo() -> None:
    """The zoo: name, states, gates, reference."""
    rows = []
    for name in gg.pipeline.zoo():
        cell = gg.load(name)
        assigned = dict.fromkeys(equation.left.signal for equation in cell.equations)
        gates = [n for n in assigned if n not in cell.states and n not in cell.outputs]
        rows.append((name, " ".join(cell.states), " ".join(gates), _reference(cell.doc)))
    _table(("name", "states", "gates", "reference"), rows)


@main.command()
@_cell
@click.option("--stage", type=click.Choice(list(_STAGES)), help="An intermediate instead of the cell itself.")
def show(cell: str, stage: str | None) -> None:
    """The cell with what was inferred, or a stage on its way to code."""
    loaded = gg.load(cell)
    if stage is None:
        _code("\n".join([str(loaded).rstrip("\n"), "", *_facts(loaded)]), "python")
    else:
        _code(gg.pipeline.show(loaded, stage), _STAGES[stage])


@main.command()
@_cell
@click.option("--format", "form", type=click.Choice(_FORMATS), default="text", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file to write.")
def derive(cell: str, form: str, output: Path | None) -> None:
    """The derivation of the backward pass, line by line."""
    derivation = gg.derive(gg.load(cell))
    for warning in derivation.warnings:
        _remark(f"warning: {warning}", "yellow")
    text = {"text": derivation.text, "latex": derivation.latex, "markdown": derivation.markdown}[form]()
    if output is None:
        click.echo(text.rstrip("\n"))
    else:
        output.write_text(text, encoding="utf-8")
        _remark(f"wrote {output}")


@main.command()
@_cell
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A folder.")
def build(cell: str, output: Path) -> None:
    """C, header, NumPy reference, LaTeX, Markdown into a folder."""
    files = gg.pipeline.artefacts(gg.load(cell))
    changed = gg.generated.write(output, files)
    for name in files:
        click.echo(output / name)
    _remark(f"{len(changed)} of {len(files)} files written; next: gategen check {cell}")


@main.command()
@_cell
@click.option("--seed", default=0, show_default=True, help="Of the arrays that are drawn.")
@click.option("--json", "as_json", is_flag=True, help="The certificate for a program.")
@click.pass_context
def check(ctx: click.Context, cell: str, seed: int, as_json: bool) -> None:
    """The certificate: back ends and gradients compared.

    Every back end against every other, and against differences. The exit code is 1 on disagreement.
    """
    certificate = gg.check(gg.load(cell), seed=seed)
    if as_json:
        click.echo(certificate.json())
    else:
        _table(("test", "subject", "error", "bound", ""), certificate.table())
    ran = [row for row in certificate.rows if row.passed is not None]
    failed = sum(not row.passed for row in ran)
    if certificate.passed:
        _remark(f"all {len(ran)} checks passed", "green")
    else:
        _remark(f"{failed} of {len(ran)} checks failed", "red")
    if certificate.left_out:
        _remark(f"left out, because there is no C compiler: {', '.join(certificate.left_out)}", "yellow")
    ctx.exit(0 if certificate.passed else 1)


@main.command()
@click.argument("first", metavar="CELL")
@click.argument("second", metavar="CELL")
@click.option("--json", "as_json", is_flag=True, help="The difference for a program.")
@click.pass_context
def diff(ctx: click.Context, first: str, second: str, as_json: bool) -> None:
    """What sets two cells apart: equations, then numbers.

    Names are matched by what they stand for. The exit code is 1 if the cells compute different things.
    """
    found = gg.diff(gg.load(first), gg.load(second))
    if as_json:
        click.echo(found.json())
    else:
        colours = {"- ": "red", "+ ": "green"}
        for line in found.text().splitlines():
            click.secho(line, fg=None if os.environ.get("NO_COLOR") else colours.get(line[:2]))
    ctx.exit(0 if found.equal and found.whole else 1)


@main.command()
@_cell
@click.option("--steps", default=100, show_default=True, type=click.IntRange(1), help="Length of a sequence.")
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1), help="Sequences at once.")
@click.option("--width", default=64, show_default=True, type=click.IntRange(1), help="Of inputs and states.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "float64"]))
@click.option("--rounds", default=11, show_default=True, type=click.IntRange(1), help="Runs of each.")
@click.option("--json", "as_json", is_flag=True, help="The figures for a program.")
def bench(cell: str, as_json: bool, **sizes: Any) -> None:
    """The kernel's time against its NumPy reference and PyTorch."""
    rows = gg.bench.bench(gg.load(cell), **sizes)
    if as_json:
        click.echo(json.dumps({"cell": cell, **sizes, "rows": [row.as_dict() for row in rows]}, indent=1))
        return
    figures = [(r.work, r.contender, f"{r.seconds * 1e3:.3f}", f"{r.ratio:.2f}") for r in rows]
    _table(("work", "contender", "ms, median", "times gategen's"), figures)


@main.command()
def demo() -> None:
    """Everything once: a new cell, trained on real text."""
    gg.demo.main()


@main.command()
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit code 1 if anything is stale.")
@click.option("--root", default="generated", show_default=True, type=click.Path(path_type=Path))
@click.pass_context
def generate(ctx: click.Context, only_check: bool, root: Path) -> None:
    """Rewrite, or verify, generated/: one folder per zoo cell."""
    files = gg.generated.zoo_files()
    if not only_check:
        written = gg.generated.write(root, files)
        deleted = gg.generated.delete_stale(root, files)
        _remark(f"{len(files)} files in {root}: {len(written)} written, {len(deleted)} stale ones deleted")
    found = gg.generated.differences(root, files)
    for difference in found:
        click.echo(difference)
    if found:
        _remark(f"{root} is not what the sources give; run: gategen generate", "red")
        ctx.exit(1)
    if only_check:
        _remark(f"{len(files)} files in {root} are fresh", "green")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="The findings for a program.")
def doctor(as_json: bool) -> None:
    """What this machine offers: compiler, cache, versions."""
    findings = gg.doctor.examine()
    if as_json:
        click.echo(json.dumps({f.subject: {"found": f.found, "fine": f.fine} for f in findings}, indent=1))
    else:
        _table(("", "subject", "found"), [("ok" if f.fine else "!!", f.subject, f.found) for f in findings])


@main.group("cache")
def cache_verbs() -> None:
    """Where compiled kernels are kept."""


@cache_verbs.command("path")
def cache_path() -> None:
    """The folder."""
    click.echo(gg.cache.folder())


@cache_verbs.command("list")
def cache_list() -> None:
    """What is in it."""
    rows = [
        (entry.key[:16], entry.label, f"{entry.size / 1024:.0f}", f"{entry.age / 3600:.1f}")
        for entry in gg.cache.entries()
    ]
    _table(("key", "what", "kB", "age, h"), rows)


@cache_verbs.command("clear")
def cache_clear() -> None:
    """Delete every entry."""
    _remark(f"{gg.cache.clear()} entries deleted from {gg.cache.folder()}")


def _facts(cell: Cell) -> list[str]:
    """What was inferred, as comments, so that the whole stays a valid cell."""
    groups: dict[str, Iterable[str]] = {
        "inputs": _shaped(cell.inputs),
        "states": _shaped(cell.states),
        "outputs": _shaped(cell.outputs),
        "parameters": _shaped(cell.parameters),
        "constants": (f"{name} = {variable.value}" for name, variable in cell.constants.items()),
        "delays": (f"{name} {steps} steps" for name, steps in cell.delays.items() if steps > 1),
        "widths": (f"{name} of {' '.join(members)}" for name, members in cell.widths.items()),
    }
    indent = f"# {'':<11} "
    return [
        line
        for title, group in groups.items()
        if (items := list(group))
        for line in textwrap.wrap(
            ", ".join(items), 100, initial_indent=f"# {title:<11} ", subsequent_indent=indent
        )
    ]


def _shaped(variables: Mapping[str, Variable]) -> Iterable[str]:
    for name, variable in variables.items():
        yield name + (f"[{', '.join(map(str, variable.shape))}]" if variable.shape else "")


def _reference(doc: str) -> str:
    """The first line after the title: who published the cell."""
    lines = [line.strip() for line in doc.splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for a person; for a pipe, lines with tabs between the columns and no head."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _code(text: str, language: str) -> None:
    if sys.stdout.isatty() and language != "text" and not os.environ.get("NO_COLOR"):
        Console().print(Syntax(text, language, theme="ansi_dark", background_color="default", word_wrap=True))
    else:
        click.echo(text.rstrip("\n"))


def _remark(text: str, colour: str | None = None) -> None:
    click.secho(text, fg=colour, err=True, color=False if os.environ.get("NO_COLOR") else None)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _remark(f"warning: {message}", "yellow")
