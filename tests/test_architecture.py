"""The rules that keep the project readable: direction of imports, budgets, names, and what is banned."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gategen

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gategen"

# A module imports only from modules above it, so there is no cycle either. A new module gets a line here.
ORDER = [
    "errors",
    "language.arrangements",
    "language.functions",
    "language.reductions",
    "language.names",
    "language.notation",
    "language.shapes",
    "language.roles",
    "language.text",
    "language.ranks",
    "language.inference",
    "language.cell",
    "language.source",
    "language.fixed",
    "language.arrangement_reader",
    "language.expressions",
    "language.parse",
    "calculus.order",
    "calculus.ir",
    "calculus.program",
    "calculus.invariants",
    "calculus.recurrence",
    "calculus.reduce",
    "calculus.arrange",
    "calculus.axes",
    "calculus.lower",
    "calculus.derive",
    "calculus.fuse",
    "calculus.schedule",
    "calculus.storage",
    "calculus.evaluation",
    "calculus.interpret",
    "calculus.problem",
    "calculus.differences",
    "backends.render",
    "backends.formula",
    "backends.printer",
    "backends.naming",
    "backends.matrices",
    "backends.walkthrough",
    "backends.cost",
    "backends.reasons",
    "backends.document",
    "backends.view",
    "backends.latex_text",
    "backends.latex",
    "backends.markdown",
    "backends.index",
    "backends.text",
    "backends.plan",
    "backends.numpy_syntax",
    "backends.numpy_order",
    "backends.numpy_past",
    "backends.numpy_matrices",
    "backends.numpy_lines",
    "backends.numpy_pass",
    "backends.numpy",
    "backends.c_names",
    "backends.c_text",
    "backends.c_math",
    "backends.c_syntax",
    "backends.c_structs",
    "backends.c_arrays",
    "backends.c_units",
    "backends.c_pass",
    "backends.c_function",
    "backends.c_forward",
    "backends.c_backward",
    "backends.c",
    "backends.c_fast_arrays",
    "backends.c_fast_units",
    "backends.c_fast_products",
    "backends.c_fast_pass",
    "backends.c_fast_function",
    "backends.c_fast_forward",
    "backends.c_fast_backward",
    "backends.c_fast",
    "runtime.cache",
    "runtime.compile_c",
    "runtime.build",
    "runtime.team",
    "runtime.initialise",
    "runtime.manifest",
    "runtime.memory",
    "runtime.arguments",
    "runtime.engines",
    "runtime.numpy_engine",
    "runtime.history",
    "runtime.packed",
    "runtime.checkpoints",
    "runtime.parameters",
    "runtime.stream",
    "runtime.completion",
    "runtime.kernel",
    "runtime.pair",
    "runtime.compile",
    "training.arguments",
    "training.losses",
    "training.updates",
    "training.windows",
    "training.loops",
    "draft",
    "modifiers",
    "calls",
    "pipeline",
    "check",
    "matching",
    "diff",
    "doctor",
    "generated",
    "bench",
    "demo_race",
    "demo",
    "cli",
]

# These start fast: they reach the later stages through the lazy package, ``import gategen as gg``.
LAZY = {"cli", "runtime.compile"}
# The package as a name, for its version.
PACKAGE_ITSELF = LAZY | {"doctor"}
# What may be missing on a user's machine, and is therefore imported where it is used.
OPTIONAL = {"torch", "matplotlib"}
# What loads modules by name: the lazy package, and the cold start of the runtime.
LOADERS = {"__init__", "runtime.build"}

MODULE_LINES = 400
FUNCTION_LINES = 60
TEMPLATE_LINES = 120
TEMPLATE_CONTROL = 0.20
TEMPLATE_NESTING = 2
PUBLIC_NAMES = 20
VAGUE = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc", "core", "tools"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def is_plumbing(name: str) -> bool:
    """The package's own face: it names everything and holds nothing."""
    return name.split(".")[-1] in ("__init__", "__main__")


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name: path for name, path in FILES.items() if not is_plumbing(name)}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
TEMPLATES = sorted((ROOT / "templates").rglob("*.j2"))


def rank(name: str) -> int:
    """The place of a module; a folder stands where its last module does."""
    places = [i for i, other in enumerate(ORDER) if other == name or other.startswith(f"{name}.")]
    assert places, f"{name} has no line in ORDER"
    return places[-1]


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module of ours that a module imports, as dotted name without the package, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "gategen":
                    yield alias.name.partition(".")[2], node.lineno
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gategen":
            inner = (node.module or "").partition(".")[2]
            for alias in node.names:
                whole = f"{inner}.{alias.name}".strip(".")
                yield (whole if whole in FILES or f"{whole}.__init__" in FILES else inner), node.lineno


def test_every_module_has_its_place() -> None:
    assert sorted(MODULES) == sorted(ORDER)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_up(name: str) -> None:
    wrong = []
    for target, line in imported(TREES[name]):
        if not (rank(target) < rank(name) if target else name in PACKAGE_ITSELF):
            wrong.append(f"line {line}: {name} imports {target or 'the package'}")
    assert not wrong


@pytest.mark.parametrize("name", MODULES)
def test_imports_stand_at_the_top(name: str) -> None:
    hidden = []
    for function in ast.walk(TREES[name]):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                hidden += [f"{function.name}: {n}" for n in names if n.partition(".")[0] not in OPTIONAL]
    assert not hidden
    if name not in LOADERS:
        assert "import_module" not in FILES[name].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_modules_and_functions_are_short(name: str) -> None:
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= MODULE_LINES
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(TREES[name])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert not long


def test_names_say_what_a_module_holds() -> None:
    assert not [name for name in FILES if VAGUE & set(name.split("."))]
    assert not [path for path in TEMPLATES if VAGUE & set(path.name.split("."))]


def test_public_names_are_few_and_work() -> None:
    assert len(gategen.__all__) <= PUBLIC_NAMES
    assert list(gategen.__all__) == sorted(set(gategen.__all__))
    assert all(getattr(gategen, name) is not None for name in gategen.__all__)


TAG = re.compile(r"(?:\{%|<%)([-+]?)\s*(.*?)\s*([-+]?)(?:%\}|%>)")
PRINT = re.compile(r"(?:\{\{|<<)([-+]?)\s*(.*?)\s*([-+]?)(?:\}\}|>>)")
FIELD = r"[A-Za-z_][\w.]*"
STATEMENT = re.compile(rf"for {FIELD}(, ?{FIELD})* in {FIELD}|if (not )?{FIELD}|else|endif|endfor")
EXPRESSION = re.compile(rf"{FIELD}( ?\| ?(join|indent)(\([^()]*\))?)*")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_only_lay_out(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= TEMPLATE_LINES
    control = sum(bool(TAG.search(line)) for line in lines)
    # The smallest useful loop takes two lines whatever surrounds it.
    assert control <= max(4, TEMPLATE_CONTROL * len(lines))
    depth = deepest = 0
    for before, statement, after in TAG.findall(text):
        assert STATEMENT.fullmatch(statement), statement
        assert not before and not after, "the environment trims; no signs for white space"
        depth += statement.startswith(("for ", "if ")) - statement.startswith("end")
        deepest = max(deepest, depth)
    assert deepest <= TEMPLATE_NESTING
    for _, expression, _ in PRINT.findall(text):
        assert EXPRESSION.fullmatch(expression), expression


def texts() -> list[Path]:
    """Everything a person wrote or gategen printed, apart from this file."""
    folders = ("gategen", "templates", "tests", "benchmarks", "generated", ".ci", "docs")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    found += [*ROOT.glob("*.md"), *ROOT.glob("*.toml")]
    hidden = {"__pycache__", ".benchmarks", ".hypothesis"}
    pictures = {".png"}
    return [
        p
        for p in found
        if not hidden & set(p.parts) and p.suffix not in pictures and p != Path(__file__).resolve()
    ]


@pytest.mark.parametrize(
    "forbidden",
    [
        pytest.param(r"\b(TODO|FIXME|XXX|HACK)\b", id="promises"),
        pytest.param(r"\bNotImplementedError\b", id="stubs"),
        pytest.param(r"\bpytest\.(skip|xfail|importorskip)\b|\bmark\.(skip|xfail)", id="tests left out"),
        pytest.param(r"(?<![\w.~}*-])/(home|root|Users|work|workspace|mnt|tmp)/\w", id="machine paths"),
    ],
)
def test_nothing_is_left_behind(forbidden: str) -> None:
    pattern = re.compile(forbidden)
    found = []
    for path in texts():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    assert not found
