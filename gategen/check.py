"""The certificate of a cell: every back end against the interpreter, every gradient against differences.

Errors are ``max|a - b| / max|b|`` per array, a gradient being measured against a tenth of the largest one at
least. Gradients are held to 1e-12 against complex step and to 1e-8
against central differences. Back ends and schedules are held to ``32 * max(epsilon, kappa)``, kappa being
the measured change of that array when inputs and weights change by a relative epsilon of the dtype: long
sequences can be chaotic, and no back end can do better than that.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gategen import pipeline
from gategen.calculus import differences, schedule
from gategen.calculus.ir import Kind
from gategen.calculus.problem import (
    Array,
    Leaf,
    Problem,
    Setting,
    draw,
    relative_error,
    solution,
    solve,
)
from gategen.calculus.schedule import Schedule
from gategen.errors import GategenError, GategenWarning
from gategen.language.cell import Cell
from gategen.runtime.compile import compile
from gategen.runtime.kernel import Kernel

COMPLEX_STEP = 1e-12
DIFFERENCES = 1e-8
NEGLIGIBLE = 0.1
"""A gradient this much smaller than the largest one is held to what the rounding of that one allows."""
BACK_ENDS = ("numpy", "c-portable", "c")
DTYPES = ("float64", "float32")
PASSES: tuple[Callable[[Schedule], Schedule], ...] = (
    schedule.hoist,
    schedule.sink,
    schedule.defer,
    schedule.keep,
    schedule.fuse,
)
# The first two are small, because every element of every gradient takes a run of its own there.
SETTINGS = (
    Setting(5, 3, (2, 3, 5), lengths=(5, 0, 3)),
    Setting(4, 3, (3, 1, 2)),
    Setting(7, 2, (11, 5, 7), lengths=(4, 7)),
    Setting(1, 1, (1,), started=False),
    Setting(0, 3, (2, 3)),
)
SMALL = 2
DIRECTIONS = 4
DISTURBANCES = 8
# Step of the differences, scale of the numbers, longest sequence: each gets smaller as long as every draw has
# a kink within reach or diverges.
EASIER = ((3e-4, 1.0, 7), (1e-4, 0.6, 7), (3e-5, 0.3, 4), (1e-5, 0.1, 2))
DRAWS = 8
LARGEST = 1e6
NOT_RUN = "not run: no C compiler"


@dataclass(frozen=True)
class CheckRow:
    """One comparison.

    Attributes:
        test: What is compared.
        subject: The array with the worst error, or what was left out.
        error: The error; not a number if the test did not run.
        bound: What it may be.
        passed: Whether it holds; None if the test did not run.
    """

    test: str
    subject: str
    error: float
    bound: float
    passed: bool | None


@dataclass(frozen=True)
class Certificate:
    """What was compared and how well it agrees.

    Attributes:
        cell: The cell's name.
        seed: Of the numbers that were drawn.
        rows: The comparisons.
    """

    cell: str
    seed: int
    rows: tuple[CheckRow, ...]

    @property
    def passed(self) -> bool:
        """Whether everything that ran agrees; `left_out` says what did not run."""
        return all(row.passed is not False for row in self.rows)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The tests that did not run, so that ``passed`` claims nothing for them."""
        return tuple(row.test for row in self.rows if row.passed is None)

    def json(self) -> str:
        """The certificate for a program; numbers that JSON does not know are null."""
        rows = [
            {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
            for row in map(asdict, self.rows)
        ]
        whole = {"cell": self.cell, "seed": self.seed, "passed": self.passed, "left_out": self.left_out}
        return json.dumps({**whole, "rows": rows}, indent=1)

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """The rows as text: test, subject, error, bound, verdict."""
        verdicts = {True: "ok", False: "FAILED", None: "-"}
        return [
            (row.test, row.subject, number(row.error), number(row.bound), verdicts[row.passed])
            for row in self.rows
        ]


def number(value: float) -> str:
    """An error as a table shows it."""
    return "-" if math.isnan(value) else f"{value:.1e}"


def check(cell: Cell | str | Path, seed: int = 0) -> Certificate:
    """Compare everything that a cell becomes, on random problems.

    Args:
        cell: The cell, or the name or path of one.
        seed: Of the numbers that are drawn.

    Returns:
        The certificate.

    Raises:
        CellError: The cell is wrong.
        GategenError: The cell gives infinities or NaN on every problem drawn.
    """
    cell = cell if isinstance(cell, Cell) else pipeline.load(cell)
    derivation = pipeline.derive(cell)
    plan = schedule.naive(derivation.program)
    cases = [_case(cell, plan, setting, (seed, place)) for place, setting in enumerate(SETTINGS)]
    rows = [
        *_schedule_rows(plan, cases),
        *_complex_step_rows(plan, cases[:SMALL]),
        _difference_row(cases[:SMALL]),
        _identity_row(plan, cases[0].problem, seed),
        _padding_row("interpreter", lambda given: solve(derivation.schedule, given), cases[0].problem),
    ]
    for backend in BACK_ENDS:
        for dtype in DTYPES:
            rows += _kernel_rows(cell, backend, dtype, cases)
    return Certificate(cell.name, seed, tuple(rows))


@dataclass(frozen=True)
class _Case:
    """A problem away from kinks, and its solutions: by differences along some ways, by the interpreter."""

    problem: Problem
    ways: tuple[Mapping[Leaf, Array], ...]
    slopes: Array
    expected: Mapping[str, Array]
    bounds: Mapping[str, Mapping[str, float]]


def _case(cell: Cell, plan: Schedule, setting: Setting, seed: tuple[int, int]) -> _Case:
    problem, expected, ways, slopes = _well_behaved(cell, plan, setting, seed)
    bounds = {dtype: _bounds(plan, problem, expected, float(np.finfo(dtype).eps)) for dtype in DTYPES}
    return _Case(problem, ways, slopes, expected, bounds)


def _well_behaved(
    cell: Cell, plan: Schedule, setting: Setting, seed: tuple[int, int]
) -> tuple[Problem, Mapping[str, Array], tuple[Mapping[Leaf, Array], ...], Array]:
    """A draw that does not diverge, and on which no branch flips within the step of the differences."""
    finite = None
    for place, (step, scale, longest) in enumerate(EASIER):
        for attempt in range(DRAWS):
            given = draw(cell, plan.program, setting.within(longest), (*seed, place, attempt), scale)
            rng = np.random.default_rng((*seed, place))
            ways = tuple(differences.direction(given, rng, _frozen(plan)) for _ in range(DIRECTIONS))
            expected = solve(plan, given)
            far, near = differences.central(plan, given, ways, step)
            # Differences of two steps agree when both are good.
            if _below(expected, LARGEST) and relative_error(far, near) <= DIFFERENCES / 2:
                return given, expected, ways, near
            if _below(expected, float(np.finfo(np.float32).max)):
                finite = given, expected, ways, near
    if finite is None:
        raise GategenError(
            f"{cell.name} cannot be checked: from random numbers it leaves the finite ones within two steps"
        )
    return finite


def _below(arrays: Mapping[str, Array], limit: float) -> bool:
    return all(bool(np.all(np.abs(array) <= limit)) for array in arrays.values())


def _frozen(plan: Schedule) -> frozenset[Leaf]:
    return frozenset(("params", v.shown) for v in plan.program.parameters if v.kind is Kind.FROZEN)


def _bounds(
    plan: Schedule, given: Problem, expected: Mapping[str, Array], epsilon: float
) -> dict[str, float]:
    rng = np.random.default_rng(0)
    bounds = dict.fromkeys(expected, 32 * epsilon)
    for _ in range(DISTURBANCES):
        moved = solve(plan, differences.disturbed(given, epsilon, rng))
        for name, array in expected.items():
            kappa = relative_error(moved[name], array)
            if math.isfinite(kappa):
                bounds[name] = max(bounds[name], 32 * kappa)
    return bounds


def _least(expected: Mapping[str, Array]) -> float:
    """Where terms cancel, as under a norm of two units, a gradient is rounding of the size of the others."""
    gradients = (array for name, array in expected.items() if name.startswith("d "))
    return NEGLIGIBLE * max((float(np.abs(array).max(initial=0.0)) for array in gradients), default=0.0)


def _compared(
    test: str, got: Mapping[str, Array], expected: Mapping[str, Array], bounds: Mapping[str, float]
) -> list[CheckRow]:
    least = _least(expected)
    errors = {
        name: relative_error(got[name], array, least if name.startswith("d ") else 0.0)
        for name, array in expected.items()
    }
    return [CheckRow(test, name, e, bounds[name], e <= bounds[name]) for name, e in errors.items()]


def _condensed(rows: Iterable[CheckRow], key: Callable[[CheckRow], str]) -> list[CheckRow]:
    """The worst row of each group."""
    groups: dict[str, list[CheckRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return [max(group, key=lambda row: row.error / row.bound) for group in groups.values()]


def _part(row: CheckRow) -> str:
    """``d params`` of ``d params U_z``."""
    return row.subject.rpartition(" ")[0]


def _schedule_rows(plan: Schedule, cases: Sequence[_Case]) -> list[CheckRow]:
    rows: list[CheckRow] = []
    for change in PASSES:
        plan = change(plan)
        for case in cases:
            test = f"schedule after {change.__name__}"
            rows += _compared(test, solve(plan, case.problem), case.expected, case.bounds["float64"])
    return _condensed(rows, lambda row: row.test)


def _complex_step_rows(plan: Schedule, cases: Sequence[_Case]) -> list[CheckRow]:
    rows = []
    for case in cases:
        least = _least(case.expected)
        for (group, name), gradient in differences.gradients(plan, case.problem).items():
            subject = f"d {group} {name}"
            if subject in case.expected:
                error = relative_error(case.expected[subject], gradient, least)
                rows.append(CheckRow("complex step", subject, error, COMPLEX_STEP, error <= COMPLEX_STEP))
    return _condensed(rows, lambda row: row.subject)


def _difference_row(cases: Sequence[_Case]) -> CheckRow:
    found = [np.array([_inner(case.expected, way) for way in case.ways]) for case in cases]
    error = max(relative_error(got, case.slopes) for got, case in zip(found, cases, strict=True))
    return CheckRow("central differences", "random directions", error, DIFFERENCES, error <= DIFFERENCES)


def _identity_row(plan: Schedule, given: Problem, seed: int) -> CheckRow:
    """``<J u, v> = <u, J^T v>``: directions u in everything given, v in everything returned."""
    rng = np.random.default_rng((seed, 2))
    found, expected = [], []
    for _ in range(DIRECTIONS):
        way = differences.direction(given, rng, _frozen(plan))
        fresh: dict[str, Any] = {
            part: {n: rng.standard_normal(a.shape) for n, a in getattr(given, part).items()}
            for part in ("d_outputs", "d_final")
        }
        turned = replace(given, **fresh)
        found.append(_inner(solve(plan, turned), way))
        expected.append(differences.along(plan, turned, way).sum())
    error = relative_error(np.array(found), np.array(expected))
    return CheckRow("adjoint identity", "<J u, v> = <u, J^T v>", error, COMPLEX_STEP, error <= COMPLEX_STEP)


def _inner(arrays: Mapping[str, Array], way: Mapping[Leaf, Array]) -> float:
    return sum(
        float((arrays[f"d {group} {name}"] * vector).sum())
        for (group, name), vector in way.items()
        if f"d {group} {name}" in arrays
    )


def _padding_row(engine: str, run: Callable[[Problem], Mapping[str, Array]], given: Problem) -> CheckRow:
    """What stands after the end of a sequence must not change a single bit."""
    clean, dirty = run(given), run(given.padded(np.nan))
    error = max(relative_error(dirty[name], array) for name, array in clean.items())
    return CheckRow("NaN in the padding", engine, error, 0.0, error <= 0.0)


def _kernel_rows(cell: Cell, backend: str, dtype: str, cases: Sequence[_Case]) -> list[CheckRow]:
    test = f"{backend} {dtype}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GategenWarning)
        kernel = compile(cell, dtype, backend)
    if kernel.backend != backend:
        return [CheckRow(test, NOT_RUN, math.nan, math.nan, None)]
    rows: list[CheckRow] = []
    for case in cases:
        got = _run(kernel, case.problem)
        rows += _compared(test, got, case.expected, case.bounds[dtype])
    padding = _padding_row(test, lambda given: _run(kernel, given), cases[0].problem)
    return [*_condensed(rows, _part), padding]


def _run(kernel: Kernel, problem: Problem) -> dict[str, Array]:
    given = problem.in_dtype(kernel.dtype)
    with np.errstate(all="ignore"):
        run = kernel.forward(given.inputs, given.params, given.initial, given.lengths, train=True)
        grad = kernel.backward(run, given.d_outputs, given.d_final)
    return solution(run, grad, given)
