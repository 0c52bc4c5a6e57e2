"""The demonstration, to be read as a tutorial: `main` tells the story, every chapter is one function.

A cell that no library has is written down, derived, compiled and checked. Then it learns to write Python, one
character after the other, from the source text of the standard library of the Python that runs this: nothing
is fetched. At last its training step runs against the NumPy reference and, where it is installed, PyTorch.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
import sysconfig
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from gategen import demo_race, pipeline
from gategen.check import Certificate, CheckRow, check
from gategen.errors import GategenError
from gategen.language.cell import Cell
from gategen.runtime.compile import compile
from gategen.runtime.kernel import Kernel
from gategen.training.loops import evaluate_windows, sample, train_windows
from gategen.training.updates import Adam
from gategen.training.windows import Vocabulary, one_hot, windows

IDEA = (
    "A gated memory that is read together with its own change, as a controller reads an error and its "
    "derivative: what has just happened is louder than what has long been known, by a learned gain."
)
CELL = '''
"""Pulse: a gated memory, read together with its own change."""
e = W_e @ x[t]                              # the character, embedded
u = sigmoid(W_u @ e + U_u @ h[t-1] + b_u)   # how much memory to renew
o = sigmoid(W_o @ e + U_o @ h[t-1] + b_o)   # how much of it to show
g = tanh(W_g @ e + U_g @ h[t-1] + b_g)      # what to write
p = u * (g - m[t-1])                        # the pulse: memory's change
m[t] = m[t-1] + p                           # stays between -1 and 1
h[t] = o * (m[t] + k_h * p)                 # k_h: a gain for every unit
y[t] = W_y @ h[t] + b_y                     # scores of the next character
'''.lstrip()
SHOWN = ("h[t] =", "m[t] =", "p =")
"""The equations whose adjoint is shown: what is new about the cell."""

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
CHARACTERS, HELD_OUT = 3_000_000, 65_536
PROMPT = 'class Reader:\n    """Read a file."""\n\n    def '
SAMPLE = 480

EMBEDDING = 32
HIDDEN = {"c": 256, "c-portable": 160, "numpy": 96}
BATCH, STEPS = 16, 64
LEARNING_RATE, CLIP = 0.012, 1.0
TARGET = 2.3
"""Nats per character on held-out text that the training must reach; chance is log(96) = 4.56."""
PATIENCE = 1.5
"""If the target is not reached in the time given, training goes on up to this many times of it."""
REPORTS = (0.0, 0.01, 0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""The shares of the training after which the model is judged; in overtime, every tenth."""


@dataclass
class Outcome:
    """What the demonstration reached.

    Attributes:
        certificate: The comparison of all back ends.
        before: What the untrained model wrote.
        after: What the trained model wrote.
        losses: Of every training step, nats per character.
        held_out: On text that was not trained on, from time to time; the last one is final.
        seconds: What training took.
        interrupted: Whether the user stopped the training.
        times: Median seconds of one training step by contender.
    """

    certificate: Certificate
    before: str = ""
    after: str = ""
    losses: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    times: dict[str, float] = field(default_factory=dict)

    @property
    def characters(self) -> int:
        """How many were trained on, repetitions counted."""
        return len(self.losses) * BATCH * STEPS

    @property
    def loss(self) -> float:
        """Of the latest training steps."""
        return statistics.fmean(self.losses[-50:] or [math.log(len(ALPHABET))])


def main(
    seconds: float = 40.0, steps: int | None = None, hidden: int | None = None, seed: int = 0, rounds: int = 9
) -> Outcome:
    """Tell the whole story, and return what was reached.

    Args:
        seconds: How long to train; longer only if the target is not reached.
        steps: How many training steps instead, for a run that can be repeated exactly.
        hidden: The width of the memory; by default what the back end can train in the time.
        seed: Of the first weights and the samples.
        rounds: How often each contender of the race runs; 0 leaves the race out.

    Raises:
        GategenError: The standard library has no source here, or a check or the training failed.
    """
    begin = time.perf_counter()
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal that cannot show Greek letters gets their codes instead of an end in mid-sentence.
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(highlight=False)

    _chapter("1  A cell that no library has", console)
    cell = declare(console)
    _chapter("2  Its backward pass, derived", console)
    show(cell, console)
    _chapter("3  Compiled", console)
    kernel = build(cell, console)
    _chapter("4  Checked", console)
    outcome = Outcome(certify(cell, console))
    _chapter("5  Trained to write Python", console)
    model = Model(kernel, library_text(CHARACTERS), hidden or HIDDEN[kernel.backend], seed)
    learn(model, outcome, seconds, steps, console)
    if rounds and not outcome.interrupted:
        _chapter("6  Timed", console)
        outcome.times = race(cell, model, rounds, console)
    _chapter("", console)
    console.print(conclusion(outcome, time.perf_counter() - begin))
    return outcome


def declare(console: Console) -> Cell:
    """Chapter 1: equations are text. What they leave open, such as roles and shapes, is inferred."""
    console.print(IDEA)
    console.print(Padding(_code(CELL), (1, 0, 1, 2)))
    cell = pipeline.parse(CELL, name="pulse")
    for title, names in (("inputs", cell.inputs), ("states", cell.states), ("learned", cell.parameters)):
        console.print(f"  {title:<9}{' '.join(names)}", style="dim", markup=False)
    return cell


def show(cell: Cell, console: Console) -> None:
    """Chapter 2: `derive` differentiates the equations, the last one first, and says by which rule."""
    blocks = re.split(r"\n\n(?:Equation \d+\n)?", pipeline.derive(cell).text())
    for block in (block for start in SHOWN for block in blocks if block.startswith(f"Since {start}")):
        reason, *lines = block.splitlines()
        console.print(reason, style="dim", markup=False)
        _indented(Text("\n".join(line.strip() for line in lines), "cyan"), console)
    console.print("And so on, back to every weight.", style="dim")


def build(cell: Cell, console: Console) -> Kernel:
    """Chapter 3: one call makes C of both passes and compiles it; the next call finds it in the cache."""
    begin = time.perf_counter()
    kernel = compile(cell, dtype="float32")
    duration = time.perf_counter() - begin
    if kernel.backend == "numpy":
        console.print(f"No C compiler: both passes as NumPy code, after {duration:.1f} s.")
        return kernel
    console.print(f"Both passes as compiled C, for arrays of any size, after {duration:.1f} s. Inside:")
    found = re.search(r"^ */\* p = (?:.*\n)*?(?= *\})", pipeline.show(cell, "c"), re.MULTILINE)
    _indented(_code(textwrap.dedent(found[0]) if found else "", "c"), console)
    return kernel


def certify(cell: Cell, console: Console) -> Certificate:
    """Chapter 4: gradients against differences, every back end against every other.

    Raises:
        GategenError: Something disagrees.
    """
    begin = time.perf_counter()
    with console.status("comparing"):
        certificate = check(cell)
    table = _table("comparison", "worst error", "allowed")
    table.add_column()
    for test, row in _worst(certificate).items():
        numbers = ("-" if math.isnan(value) else f"{value:.1e}" for value in (row.error, row.bound))
        table.add_row(test, *numbers, {True: "ok", False: "FAILED", None: "not run"}[row.passed])
    _indented(table, console)
    if not certificate.passed:
        raise GategenError(f"the check of {cell.name} failed; the table says where")
    count, duration = len(certificate.rows) - len(certificate.left_out), time.perf_counter() - begin
    console.print(f"{count} comparisons, all of them fine, in {duration:.1f} s.", style="green")
    return certificate


def _worst(certificate: Certificate) -> dict[str, CheckRow]:
    """The row nearest to its bound of every test; the passes of the schedule count as one."""
    worst: dict[str, tuple[float, CheckRow]] = {}
    for row in certificate.rows:
        test = "schedule, pass by pass" if row.test.startswith("schedule") else row.test
        share = row.error / row.bound if row.bound else row.error
        if test not in worst or share > worst[test][0]:
            worst[test] = (share, row)
    return {test: row for test, (_, row) in worst.items()}


def library_text(characters: int) -> str:
    """The source of the standard library, in an order that mixes subjects, in printable ASCII.

    Raises:
        GategenError: This Python came without it.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"))
    order = np.random.default_rng(0).permutation(len(files))
    whole = "".join(files[place].read_text(encoding="utf-8", errors="replace") for place in order)
    text = re.sub(r"[^\n -~]", "?", whole[:characters])
    if len(text) < 4 * HELD_OUT:
        raise GategenError(f"too little source text in {folder}: is the standard library installed zipped?")
    return text


class Model:
    """A cell with its weights, and text to learn from and to be judged by.

    Attributes:
        kernel: The compiled cell.
        parameters: Its weights by name; training changes them in place.
        vocabulary: Of the characters.
        trained: Windows of the text to learn from: batches of stretches that follow each other.
        held_out: Windows of the text that is kept back.
    """

    def __init__(self, kernel: Kernel, text: str, hidden: int, seed: int) -> None:
        self.kernel, self.seed = kernel, seed
        self.vocabulary = Vocabulary(ALPHABET)
        size = len(self.vocabulary)
        self.parameters = kernel.init({"x": size, "e": EMBEDDING, "h": hidden, "y": size}, seed=seed)
        ids = self.vocabulary.encode(text)
        self.trained = windows(ids[:-HELD_OUT], BATCH, STEPS)
        self.held_out = windows(ids[-HELD_OUT:], 4 * BATCH, STEPS)

    def judge(self) -> float:
        """Mean loss on the text kept back, nats per character."""
        return evaluate_windows(self.kernel, self.parameters, self.held_out, len(self.vocabulary))

    def write(self) -> str:
        """What the model writes after the prompt."""
        model = (self.kernel, self.parameters, self.vocabulary)
        return sample(*model, PROMPT, SAMPLE, np.random.default_rng(self.seed), temperature=0.6)


def learn(model: Model, outcome: Outcome, seconds: float, steps: int | None, console: Console) -> None:
    """Chapter 5: the compiled kernel trains like any other model.

    Adam, gradients clipped by norm, truncated backpropagation through time: the state at the end of a window
    begins the next one.

    Raises:
        GategenError: Time is up and the held-out loss is still above the target.
    """
    outcome.before = model.write()
    _page("before training", outcome.before, console)
    weights = sum(array.size for array in model.parameters.values())
    console.print(
        f"{weights:,} weights; {sum(w.targets.size for w in model.trained) / 1e6:.1f} million characters of "
        f"the standard library, in windows of {STEPS} from {BATCH} places at once."
    )
    begin = time.perf_counter()
    try:
        _train(model, outcome, seconds, steps, console)
    except KeyboardInterrupt:
        outcome.interrupted = True
        outcome.held_out.append(model.judge())
    outcome.seconds = time.perf_counter() - begin
    outcome.after = model.write()
    _page("stopped by you" if outcome.interrupted else "after training", outcome.after, console)
    if not (steps or outcome.interrupted) and outcome.held_out[-1] > TARGET:
        reached = f"{outcome.held_out[-1]:.2f} after {outcome.seconds:.0f} s of training"
        raise GategenError(f"the held-out loss is {reached}, above {TARGET}; is this machine very busy?")


def _train(model: Model, outcome: Outcome, seconds: float, steps: int | None, console: Console) -> None:
    """Train until time, or a number of steps, is spent; longer while the target is missed."""
    begin, update, due = time.perf_counter(), Adam(LEARNING_RATE), 0.0
    look = (TextColumn("  {task.description}"), BarColumn(30), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*look, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0)
        for loss in _losses(model, update):
            outcome.losses.append(loss)
            elapsed = time.perf_counter() - begin
            spent = len(outcome.losses) / steps if steps else elapsed / seconds
            update.learning_rate = LEARNING_RATE * _rate(spent)
            speed = f"{outcome.characters / elapsed / 1000:.0f}k characters/s   loss {outcome.loss:.2f}"
            progress.update(task, completed=min(spent, 1.0), description=speed)
            if spent >= due:
                outcome.held_out.append(model.judge())
                _report(outcome, progress.console)
                cost = 0.0 if steps else (time.perf_counter() - begin - elapsed) / seconds
                due = _next_report(spent, cost)
                if spent >= 1 and (steps or spent >= PATIENCE or outcome.held_out[-1] <= TARGET):
                    return


def _losses(model: Model, update: Adam) -> Iterator[float]:
    """One step after the other, for as many passes over the text as are asked for."""
    while True:
        size = len(model.vocabulary)
        for step in train_windows(model.kernel, model.parameters, model.trained, size, update, clip=CLIP):
            yield step.loss


def _rate(spent: float) -> float:
    """The share of the learning rate: a short rise, a plateau, a long fall to a twentieth."""
    return min(1.0, 0.02 + spent / 0.03) * (1 - 0.95 * min(1.0, max(0.0, spent - 0.4) / 0.6))


def _next_report(spent: float, cost: float) -> float:
    """The share of the training after which the next report is due, so that judging takes a third at most."""
    later = [share for share in REPORTS if share > spent + 2 * cost]
    return later[0] if later else 1.0 if spent < 1 else spent + 0.1


def _report(outcome: Outcome, console: Console) -> None:
    """One line of the falling loss, with a bar as long as the loss."""
    held_out = outcome.held_out[-1]
    bar = ("#" if console.options.ascii_only else "━") * round(6 * held_out)
    text = f"  {outcome.characters:9,} characters  loss {outcome.loss:.2f}  held out {held_out:.2f}  "
    console.print(Text.assemble(text, (bar, "green")))


def race(cell: Cell, model: Model, rounds: int, console: Console) -> dict[str, float]:
    """Chapter 6: one training step of each, for a batch and for one sequence."""
    kernels = {"NumPy reference": compile(cell, "float32", "numpy")}
    if model.kernel.backend != "numpy":
        kernels = {"compiled C": model.kernel, **kernels}
    x = one_hot(model.trained[0].inputs, len(model.vocabulary))
    with console.status("timing"):
        fields = [demo_race.contenders(kernels, model.parameters, part) for part in (x, x[:, :1])]
        results = [demo_race.run(field, rounds) for field in fields]
    table = _table("one training step", f"ms, {BATCH} sequences", "ratio", "ms, 1 sequence", "ratio")
    for name in results[0]:
        times = [result[name] for result in results]
        table.add_row(name, *(text for t in times for text in (f"{1e3 * t.seconds:.1f}", f"{t.ratio:.1f}")))
    _indented(table, console)
    return {name: result.seconds for name, result in results[0].items()}


def conclusion(outcome: Outcome, total: float) -> str:
    """The last words."""
    held_out = outcome.held_out[-1]
    return (
        f"Held-out loss [bold]{held_out:.2f}[/bold] nats per character ({held_out / math.log(2):.2f} bits), "
        f"from {math.log(len(ALPHABET)):.2f} by chance, after {outcome.characters / 1e6:.1f} million "
        f"characters in {outcome.seconds:.0f} s. Everything took {total:.0f} s.\n\n"
        "Now yours: write equations into mine.cell, then\n"
        "  gategen check mine.cell\n  gategen build mine.cell -o mine"
    )


def _chapter(title: str, console: Console) -> None:
    console.print(Padding(Rule(title, align="left", style="dim"), (1, 0, 0, 0)))


def _page(title: str, text: str, console: Console) -> None:
    """The prompt and how the model went on."""
    page = _code((PROMPT + text).rstrip(), wrap=True)
    console.print(Panel(page, title=title, title_align="left", border_style="dim"))


def _code(text: str, language: str = "python", wrap: bool = False) -> Syntax:
    return Syntax(text.strip("\n"), language, theme="ansi_dark", background_color="default", word_wrap=wrap)


def _table(*columns: str) -> Table:
    table = Table(columns[0], box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns[1:]:
        table.add_column(name, justify="right")
    return table


def _indented(content: Any, console: Console) -> None:
    console.print(Padding(content, (0, 0, 0, 2)))
