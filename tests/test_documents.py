"""The documents: exact lines, names as written, safe text, and LaTeX that compiles."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import sympy
from cells import TRICKY
from jinja2 import meta

from gategen.backends import cost, latex, latex_text, markdown, text
from gategen.backends.document import document
from gategen.backends.formula import (
    Chain,
    Diagonal,
    Identity,
    Kronecker,
    Ones,
    Operator,
    OverUnits,
    Running,
    Selection,
    Total,
    Transposed,
)
from gategen.backends.render import FOLDERS, environment
from gategen.backends.view import View
from gategen.backends.walkthrough import Edge, Part, Walkthrough
from gategen.calculus.derive import derive
from gategen.calculus.ir import Apply, Extreme, Kind, Move, Outer, Reduce, Scan, Shift, Turn, Unit, Value
from gategen.language.cell import Cell
from gategen.language.functions import ElementWise
from gategen.language.parse import parse
from gategen.language.reductions import Reduction
from gategen.language.shapes import Shape, Width

ROOT = Path(__file__).resolve().parents[1]
ZOO = sorted((ROOT / "gategen" / "zoo").glob("*.cell"))
TARGETS = {"latex": latex, "markdown": markdown, "text": text}
TEMPLATES = {
    "latex": "latex/derivation.tex.j2",
    "markdown": "markdown/derivation.md.j2",
    "text": "text/derivation.txt.j2",
}

ODD = r'''"""Odd $cell$ with 100% _specials_ # & {braces} \input{x} ^~ <b> "q" `x` -- é ß Ł α ∂ 中.

- no list, | no pipe, [no link](x), *no emphasis*
1. no number
"""
alpha: scalar = 0.5
dt: constant = 0.1
eps: constant = 0.30000000000000004
M: frozen[n, n]
A_ = tanh(M * 2)
W_xi: weight[n, d]
xi: vector[n] = 1.0
d_z = W_xi @ x[t] + xi * h[t-1]
c_ = where(d_z > 0, d_z / (1 + abs(d_z)), alpha * d_z)
forget[t] = sigmoid(U_h[0] @ h[t-1] + U_h[1] @ x[t-1] + b)
k = sqrt(1 + forget[t]**2) / (2 + exp(-c_)) * dt
h[t] = A_ @ (forget[t] * c_) - -k * h[t-1] ** 3 / sqrt(n) + max(k, eps) - relu(c_) * hard_sigmoid(k) - 2 * k
y[t] = V_y @ h[t] + clip(h[t], -1, 1) + where(h[t] > 1, 1, 0) + 0.1
'''


@functools.cache
def zoo(name: str, target: str) -> str:
    cell = parse((ROOT / "gategen" / "zoo" / f"{name}.cell").read_text(encoding="utf-8"), name)
    return TARGETS[target].document(cell, derive(cell))


def made(source: str, target: str, name: str = "cell") -> str:
    cell = parse(source, name)
    return TARGETS[target].document(cell, derive(cell))


def walkthrough(source: str) -> Walkthrough:
    cell = parse(source, "cell")
    return Walkthrough(cell, derive(cell))


# What is printed


@pytest.mark.parametrize(
    "line",
    [
        r"z_t &= \sigma(W_z x_t + U_z h_{t-1} + b_z) \tag{1} \\",
        r"g_t &= \tanh(W_g x_t + U_g\, (r_t \odot h_{t-1}) + b_g) \tag{3} \\",
        r"h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot g_t \tag{4}",
        r"a_{g,t} &= W_g x_t + U_g v_{g,t} + b_g",
        r"\delta h_t &\mathrel{+}= \nabla_{h_t} \ell",
        r"\delta z_t &= \delta h_t \odot (g_t - h_{t-1}) \\",
        r"\delta h_{t-1} &\mathrel{+}= \delta h_t \odot (1 - z_t) \\",
        r"\delta g_t &= \delta h_t \odot z_t",
        r"\delta a_{z,t} &= \delta z_t \odot z_t \odot (1 - z_t)",
        r"\delta x_t &= W_g^{\top}\, \delta a_{g,t} \\",
        r"\delta W_z &\mathrel{+}= \delta a_{z,t}\, x_t^{\top} \\",
        r"\delta W_z &= {\textstyle\sum_t}\, \delta a_{z,t}\, x_t^{\top} \\",
        r"\delta b_z &= {\textstyle\sum_t}\, \delta a_{z,t} \\",
        r"\delta W_z &= {\textstyle\sum_t}\, \boldsymbol{\delta a}_{z,t}^{\top}\, \boldsymbol{x}_t \\",
        r"\boldsymbol{a}_{z,t} &= \boldsymbol{x}_t W_z^{\top} + \boldsymbol{h}_{t-1} U_z^{\top}"
        r" + \mathbf{1} b_z^{\top} \\",
        r"$v_{g,t}$ & $T \times B \times n_h$ & $\delta U_g$ \\",
    ],
)
def test_lines_of_the_gru(line: str) -> None:
    assert line in zoo("gru", "latex").splitlines()


def test_reasons_name_rule_derivatives_and_receivers() -> None:
    assert (
        r"Since $h_t = (1 - z_t) \odot h_{t-1} + z_t \odot g_t$, the sum and product rules give "
        r"$\partial h_t / \partial z_t = g_t - h_{t-1}$, $\partial h_t / \partial h_{t-1} = 1 - z_t$ and "
        r"$\partial h_t / \partial g_t = z_t$. Hence the gate $z_t$, the carried state $h_{t-1}$ and the "
        r"value $g_t$ receive"
    ) in zoo("gru", "latex")
    assert "Since $`g_t = \\tanh(a_{g,t})`$, the derivative of $`\\tanh(x)`$ gives" in zoo("lstm", "markdown")


@pytest.mark.parametrize(
    "line",
    [
        r"h_t &= o_t \odot \tanh(c_t) && \quad (6)",
        r"\delta o_t &= \delta h_t \odot \tanh(c_t) \\",
        r"\delta c_t &\mathrel{+}= \delta h_t \odot o_t \odot (1 - \tanh(c_t)^{2})",
        r"\delta c_{t-1} &\mathrel{+}= \delta c_t \odot f_t \\",
        r"\frac{\mathrm{d} c_t}{\mathrm{d} c_{t-1}} &= \mathrm{diag}(f_t) \\",
        r"\frac{\mathrm{d} h_t}{\mathrm{d} h_{t-1}} &= \mathrm{diag}(\tanh(c_t))\, "
        r"\mathrm{diag}(o_t \odot (1 - o_t))\, U_o + \mathrm{diag}(o_t \odot (1 - \tanh(c_t)^{2}))\, "
        r"\frac{\mathrm{d} c_t}{\mathrm{d} h_{t-1}}",
        r"| $`y = \sigma(x)`$ | sigmoid | $`\sigma'(x) = y\, (1 - y)`$ |",
        r"| $`U_i h_{t-1}`$, $`U_f h_{t-1}`$, $`U_o h_{t-1}`$ and $`U_g h_{t-1}`$ | $`4\, n_h^{2}`$ "
        r"multiply-adds | $`8\, n_h^{2}`$ multiply-adds |",
        "Besides the inputs these are at most $`6\\, n_h`$ numbers per step and sequence.",
    ],
)
def test_lines_of_the_lstm(line: str) -> None:
    assert line in zoo("lstm", "markdown").splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "(4) h[t] = (1 - z) * h[t-1] + z * g",
        "δz = δh[t] * (g - h[t-1])",
        "δh[t-1] += δh[t] * (1 - z)",
        "δW_z = sum over t of δa_z @ x[t]^T",
    ],
)
def test_lines_for_the_terminal(line: str) -> None:
    assert f"  {line}" in zoo("gru", "text").splitlines()


def test_a_reverse_cell_runs_the_other_way() -> None:
    made = zoo("lstm_reverse", "latex")
    assert r"c_t &= f_t \odot c_{t+1} + i_t \odot g_t" in made
    assert r"$t = T-1, \ldots, 0$" in made and "states of step $t+1$" in made
    assert "h_{t-1}" not in made


def test_scalars_are_plain_and_their_adjoints_summed() -> None:
    made = zoo("fastgrnn", "latex")
    assert r"h_t &= (\sigma(\zeta)\, (1 - z_t) + \sigma(\nu)) \odot g_t + z_t \odot h_{t-1}" in made
    assert r"\delta[\sigma(\nu)] &\mathrel{+}= \mathbf{1}^{\top} (\delta h_t \odot g_t)" in made
    assert r"\delta \zeta &= \delta[\sigma(\zeta)]\, \sigma(\zeta)\, (1 - \sigma(\zeta))" in made


def test_groups_of_columns_have_adjoints_of_their_own() -> None:
    made = zoo("lstm_concat", "latex")
    assert r"i_t &= \sigma(W_i\, [h_{t-1};\, x_t] + b_i)" in made
    assert r"a_{i,t} &= W_i^{[1]} h_{t-1} + W_i^{[2]} x_t + b_i" in made
    assert r"\delta x_t &= W_c^{[2]\top}\, \delta a_{g,t}" in made
    assert r"\delta W_i^{[2]} &\mathrel{+}= \delta a_{i,t}\, x_t^{\top}" in made


def test_terms_of_a_sum_share_its_adjoint() -> None:
    made = zoo("gru_reset_after", "latex")
    assert r"\delta m_{n,t} &= \delta a_{n,t}" in made
    assert r"\delta W_n &\mathrel{+}= \delta a_{n,t}\, x_t^{\top}" in made


def test_what_has_no_effect_is_said_and_warned_of() -> None:
    made = zoo("gru_update_as_reset_after", "latex")
    assert "No output and no state depends on $r_t$: its adjoint is zero." in made
    assert "the gradient of W\\_r is identically zero" in made


# Names


@pytest.mark.parametrize(
    ("author", "printed"),
    [
        ("W_xi", "W_{xi}"),
        ("W_z", "W_z"),
        ("xi", r"\xi"),
        ("alpha_x", r"\alpha_x"),
        ("eps", r"\mathit{eps}"),
        ("h1", r"\mathit{h1}"),
        ("W_x_i", "W_{x,i}"),
        ("U_h[0]", "U_h^{(0)}"),
        ("S[12]", "S^{(12)}"),
        ("c_", r"c^{\prime}"),
    ],
)
def test_names_print_as_written(author: str, printed: str) -> None:
    base = author.partition("[")[0]
    source = f"{base}: weight\n" if author == base else ""
    made_ = made(f"{source}h[t] = tanh({author} @ x[t]) + h[t-1]", "latex")
    assert f"\\tanh({printed} x_t)" in made_
    assert f"\\delta {printed} &=" in made_


def test_two_names_never_print_alike() -> None:
    source = "h[t] = tanh(W_h1 @ x[t] + W_h_1 @ x[t] + W_h_1_ @ x[t] + W_h[2] @ x[t] + W_h @ h[t-1])"
    walk = walkthrough(source)
    printer = latex.LatexPrinter(walk.names)
    printed = [printer.name(name) for name in walk.names.table.values()]
    assert len(set(printed)) == len(printed)


@pytest.mark.parametrize("target", ["latex", "markdown"])
@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.stem)
def test_no_subscript_becomes_greek(path: Path, target: str) -> None:
    assert r"\xi" not in zoo(path.stem, target)


def test_order_and_parentheses_are_the_authors() -> None:
    made_ = made("h[t] = -(x[t] - (h[t-1] + 1)) * 2 + x[t] / (1 + h[t-1]) * h[t-1] - x[t]**2 / 3", "latex")
    assert (
        r"h_t &= -(x_t - (h_{t-1} + 1)) \cdot 2 + \frac{x_t}{1 + h_{t-1}} \odot h_{t-1} - \frac{x_t^{2}}{3}"
    ) in made_


def test_divisors_stand_below_one_line() -> None:
    made_ = made("h[t] = sqrt(x[t]) / (1 + h[t-1]) / 3 + h[t-1]", "latex")
    assert r"h_t &= \frac{\sqrt{x_t}}{(1 + h_{t-1}) \cdot 3} + h_{t-1}" in made_
    assert r"$\operatorname{sqrt}'(x) = \frac{1}{2\, y}$" in made_


def test_numbers_have_full_precision() -> None:
    made_ = made("k: constant = 0.30000000000000004\nh[t] = 1e-07 * x[t] + h[t-1] * k", "latex")
    assert r"(1 \cdot 10^{-7})\, x_t" in made_
    assert "constant, 0.30000000000000004" in made_


def test_long_equations_break_between_terms() -> None:
    terms = " + ".join(f"W_{k} @ x[t]" for k in "abcdefghijklmnopqr")
    made_ = made(f"h[t] = tanh({terms} + U_h @ h[t-1])", "latex")
    assert re.search(r"W_o x_t \\\\\n&\\quad \+ W_p x_t", made_)


# Text is only text


def test_text_is_escaped_for_latex() -> None:
    made_ = made(ODD, "latex")
    assert (
        r"Odd {\char36}cell{\char36} with 100\% \_specials\_ \# \& \{braces\} \textbackslash{}input\{x\} "
        r"\textasciicircum{}\textasciitilde{} \textless{}b\textgreater{} ''q'' {}`{}x{}`{} -{}- \'{e} \ss{} "
        r"\L{} $\alpha$ $\partial$ [U+4E2D]"
    ) in made_
    assert "\\input" not in made_


def test_text_is_escaped_for_markdown() -> None:
    made_ = made(ODD, "markdown")
    assert r"# Odd \$cell\$ with 100% \_specials\_ \# \& \{braces\} \\input\{x\} ^\~ \<b\> " in made_
    assert r"\- no list, \| no pipe, \[no link\](x), \*no emphasis\*" in made_
    assert r"1\. no number" in made_


def test_text_cannot_steer_a_terminal() -> None:
    plain = parse("h[t] = tanh(x[t]) + h[t-1]", "cell")
    cell = Cell("cell", plain.equations, doc="A\x1b[2Jtitle.")
    assert "\x1b" not in text.document(cell, derive(cell))


def test_any_sign_becomes_ascii_in_latex() -> None:
    printed = latex_text.escaped("".join(map(chr, [*range(32, 0x500), 0x1F600, 0x2028])))
    assert printed.isascii() and balanced(printed)


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_line_says_what_made_it(target: str) -> None:
    top = zoo("gru", target).partition("\n")[0]
    assert f"Generated by gategen from gru.cell: gategen derive gru.cell --format {target}" in top


@pytest.mark.parametrize("source", [ODD, "h[t] = x[t] + h[t-1]"])
def test_markdown_uses_only_what_github_renders(source: str) -> None:
    made_ = made(source, "markdown")
    assert not re.search(r"\\(operatorname|mbox|phantom|tag|newcommand|def|require)\b", made_)
    fences = [line for line in made_.splitlines() if line.startswith("```")]
    assert fences[::2] == ["```math"] * (len(fences) // 2) and fences[1::2] == ["```"] * (len(fences) // 2)
    outside = re.sub(r"```math\n.*?\n```", "", made_, flags=re.S)
    for line in outside.splitlines():
        prose = re.sub(r"\$`[^`]*`\$", "", line)
        assert not re.search(r"(?<!\\)[$`]", prose), line
        if line.startswith("|"):
            assert line.count("|") == 4


# LaTeX

_MACROS = set(
    re.findall(
        r"\w+",
        """
documentclass usepackage setlength textwidth oddsidemargin textheight topmargin parindent parskip
emergencystretch renewcommand arraystretch newcommand ruled par hline allowdisplaybreaks begin end
LARGE section subsection emph delta top odot ldots operatorname mathbf mathrm mathrel partial nabla
ell sigma tanh exp log sin cos max min quad tag frac tfrac sum textstyle times otimes boldsymbol mathit
prime left right lvert rvert lVert rVert langle rangle text ge le ne cdot sqrt textbackslash
textasciitilde textasciicircum textless textgreater textbar char ss L alpha xi zeta nu beta gamma tau theta
eta Delta
""",
    )
)


def balanced(text_: str) -> bool:
    depth = 0
    for sign in re.findall(r"\\.|[{}]", text_, flags=re.S):
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return False
    return depth == 0


def check_structure(text_: str) -> None:
    """What can be said about LaTeX text without LaTeX."""
    assert text_.isascii()
    assert balanced(text_)
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{([^}]*)\}", text_):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    assert set(re.findall(r"\\([A-Za-z]+)", text_)) <= _MACROS
    body = re.sub(r"\\begin\{align\*\}.*?\\end\{align\*\}", "", text_, flags=re.S)
    assert len(re.findall(r"(?<!\\)\$", body)) % 2 == 0
    for block in re.findall(r"\\begin\{align\*\}\n(.*?)\n\\end\{align\*\}", text_, flags=re.S):
        for line in re.split(r" \\\\\n", block):
            assert "&" in line


@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.stem)
def test_the_structure_of_every_zoo_document(path: Path) -> None:
    check_structure(zoo(path.stem, "latex"))


@pytest.mark.parametrize("name", ["gru", "fastgrnn", "lstm_concat", "lstm_fgr", "odd", "stateless"])
def test_latex_compiles(name: str, tmp_path: Path) -> None:
    sources = {"odd": ODD, "stateless": "y[t] = where(x[t] > 0, 1, 0)"}
    text_ = made(sources[name], "latex") if name in sources else zoo(name, "latex")
    check_structure(text_)
    compiler = shutil.which("pdflatex")
    if compiler is None:  # then the structure above is all that can be looked at
        return
    (tmp_path / "cell.tex").write_text(text_, encoding="ascii")
    run = subprocess.run(
        [compiler, "-no-shell-escape", "-halt-on-error", "-interaction=batchmode", "cell.tex"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    log = (tmp_path / "cell.log").read_text(encoding="latin-1")
    assert run.returncode == 0, log[-2000:]
    if name in ("gru", "fastgrnn", "lstm_concat", "lstm_fgr"):
        assert "Overfull" not in log


# Templates


@pytest.mark.parametrize("target", TARGETS)
def test_templates_and_view_have_the_same_names(target: str) -> None:
    template = TEMPLATES[target]
    jinja = environment(target == "latex")
    source = jinja.loader.get_source(jinja, template)[0]
    assert meta.find_undeclared_variables(jinja.parse(source)) == {f.name for f in dataclasses.fields(View)}


def test_templates_are_found_beside_or_inside_the_package() -> None:
    assert any((folder / "latex").is_dir() for folder in FOLDERS)


# Stability


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_documents_do_not_depend_on_the_hash_seed(seed: str) -> None:
    names = ["gru", "lstm_fgr", "fastgrnn", "lstm_concat"]
    code = (
        "import hashlib, sys\n"
        "from gategen.backends import latex, markdown, text\n"
        "from gategen.calculus.derive import derive\n"
        "from gategen.language.parse import parse\n"
        "digest = hashlib.sha256()\n"
        "for name in sys.argv[1:]:\n"
        "    cell = parse(open(f'gategen/zoo/{name}.cell', encoding='utf-8').read(), name)\n"
        "    for target in (latex, markdown, text):\n"
        "        digest.update(target.document(cell, derive(cell)).encode())\n"
        "print(digest.hexdigest())\n"
    )
    variables = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code, *names],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    here = hashlib.sha256()
    for name in names:
        for target in TARGETS:
            here.update(zoo(name, target).encode())
    assert run.stdout.strip() == here.hexdigest()


# The numbers behind the letters

_FUNCTIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "greater": lambda a, b: (a > b) * 1.0,
    "where": lambda c, a, b: np.where(c > 0, a, b),
    "less": lambda a, b: (a < b) * 1.0,
    "equal": lambda a, b: (a == b) * 1.0,
    "maximum": np.maximum,
    "tanh": np.tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "mod": np.mod,
    "softplus": lambda x: np.logaddexp(x, 0),
    "logsigmoid": lambda x: -np.logaddexp(-x, 0),
    # What has the declared derivatives.
    "stop_gradient": lambda x: 0 * x,
    "abs": np.abs,
    "spike": lambda x: x / (1 + np.abs(x)),
}


_REDUCTIONS = {"max": np.max, "cumsum": np.cumsum}


class Sized(Operator):
    """One factor of a Jacobian, its rows and columns, and the units of the loop that it stems from."""


def chained(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A product of matrices and numbers."""
    return a @ b if a.ndim and b.ndim else a * b


class Numbers:
    """Puts numbers into the formulas of a walkthrough."""

    def __init__(self, walk: Walkthrough, past: str) -> None:
        self.walk = walk
        random = np.random.default_rng(0)
        self.sizes = sizes = {name: 3 + index for index, name in enumerate(sorted(walk.cell.widths))}
        moved = [node.target for node in walk.program.step if isinstance(node, Shift)]
        known = [
            *walk.program.inputs,
            *moved,
            *walk.program.parameters,
            *(past.value for _, past in walk.program.pasts.values()),
        ]
        shapes = {value.name: [width.evaluate(sizes) for width in value.shape] for value in known}
        self.values = {name: np.array(random.normal(size=shape)) for name, shape in shapes.items()}
        self.values |= {name: np.array(number) for name, number in walk.program.constants.items()}
        self.values |= {f"width {name}": np.array(float(size)) for name, size in sizes.items()}
        for value in walk.program.parameters:
            if value.kind is Kind.SIZE:
                self.values[value.name] = np.array(float(sizes[value.shown]))
        self.size = self.values[past].size
        self.units = 0
        self.totals: dict[sympy.Expr, np.ndarray] = {}
        for value in known:
            for block in walk.columns.blocks.get(walk.names.table[value.name].author, ()):
                start = block.start.evaluate(sizes)
                columns = self.values[value.name][:, start : start + block.size.evaluate(sizes)]
                self.values[walk.columns.symbol(value, block).name] = columns

    def run(self) -> None:
        for part in (*self.walk.setup, *self.walk.step):
            along = isinstance(part.node, (Extreme, Scan)) and bool(part.node.shape)
            arranged = along or isinstance(part.node, (Move, Outer, Apply, Turn, Unit))
            self.values[part.target.name] = self.arranged(part) if arranged else self(part.equation.right)

    def arranged(self, part: Part) -> np.ndarray:
        """Copied units, and products with matrices of the step, which are kept as rows of elements."""
        node, target = part.node, part.target
        shape = [width.evaluate(self.sizes) for width in target.shape]
        match node:
            case Move():
                into, start, size = (w.evaluate(self.sizes) for w in (node.into, node.start, node.size))
                made = self.values.get(target.name, np.zeros(shape)).ravel()
                made[into : into + size] += self.values[node.source.name].ravel()[start : start + size]
            case Extreme() | Scan():
                function = np.cumsum if isinstance(node, Scan) else np.max if node.largest else np.min
                made = function(self.matrix(node.source, node.shape), 0 if node.transposed else 1)
            case Outer():
                made = np.outer(*map(self.vector, (node.left, node.right), node.shape))
            case Apply():
                matrix = self.matrix(node.matrix, node.shape)
                matrix = matrix.T if node.transposed else matrix
                made = matrix @ self.vector(node.vector, node.shape[0 if node.transposed else 1])
            case Turn():
                made = self.values[node.source.name].T
            case _:
                made = np.eye(shape[0])
        return made.reshape(shape)

    def matrix(self, value: Value, shape: Shape) -> np.ndarray:
        """A matrix from the row of its elements."""
        return self.values[value.name].reshape([width.evaluate(self.sizes) for width in shape])

    def vector(self, value: Value | None, width: Width) -> np.ndarray:
        """A vector, of ones where there is none."""
        return np.ones(width.evaluate(self.sizes)) if value is None else self.values[value.name]

    def sized(self, part: Part, edge: Edge) -> Edge:
        """An edge whose factor tells its size; the identity has that of the past state."""
        multiple = isinstance(edge.factor, Chain) and isinstance(edge.factor.args[-1], Identity)
        if isinstance(edge.factor, Identity) or multiple:
            return edge
        of_node = isinstance(part.node, Reduce) or (isinstance(part.node, Scan) and bool(part.node.shape))
        shape = part.node.shape if of_node else part.target.shape
        axis = 0 if len(shape) < 2 or part.node.transposed else 1
        units = shape[axis].evaluate(self.sizes) if shape else 1
        size = [value.width.evaluate(self.sizes) for value in (part.target, edge.read)]
        return dataclasses.replace(edge, factor=Sized(edge.factor, *size, units))

    def __call__(self, node: sympy.Expr) -> np.ndarray:
        if node in self.totals:
            return self.totals[node]
        if node.is_Symbol:
            return self.values[node.name]
        if node.is_Number:
            return np.array(float(node))
        match node:
            case Sized():
                *size, self.units = map(int, node.args[1:])
                return self.factor(node.args[0], *size)
            case Identity():
                return np.eye(self.size)
            case Diagonal():
                return np.diag(self(node.args[0]))
            case Ones():
                return np.ones(self.units)
            case Running():
                return np.tril(np.ones((self.units, self.units)))
            case Transposed():
                return self(node.args[0])[None, :]
            case OverUnits():
                return np.array(self(node.args[0]).sum())
            case Reduction():
                return _REDUCTIONS[node.row.name](self(node.args[0]))
            case Chain():
                return functools.reduce(chained, map(self, node.args))
            case ElementWise():
                return _FUNCTIONS[node.row.name](*map(self, node.args))
        operation = {sympy.Add: np.add, sympy.Mul: np.multiply, sympy.Pow: np.power}[node.func]
        return functools.reduce(operation, map(self, node.args))

    def factor(self, node: sympy.Expr, rows: int, columns: int) -> np.ndarray:
        """One factor of a Jacobian as a matrix."""
        match node:
            case Kronecker():
                made = self.kronecker(node, rows, columns)
            case Selection():
                first, end, start, stop = (int(self(argument)) for argument in node.args)
                made = np.zeros((rows, columns))
                made[first:end, start:stop] = np.eye(stop - start)
            case Transposed():
                made = self(node.args[0]).reshape(columns, rows).T
            case _:
                made = np.reshape(self(node), (rows, columns))
        assert made.shape == (rows, columns)
        return made

    def kronecker(self, node: Kronecker, rows: int, columns: int) -> np.ndarray:
        """The identity is as large as the smaller side; a row or a column makes the other side larger."""
        if node.has(Running):
            # Along an axis of as many units as the factor tells.
            return np.kron(
                *(self(s) if isinstance(s, Running) else np.eye(rows // self.units) for s in node.args)
            )
        identity = np.eye(min(rows, columns))
        self.units = max(rows, columns) // len(identity)
        sides = []
        for side in node.args:
            turned = isinstance(side, Transposed)
            vector = side.args[0] if turned else side
            made = identity if isinstance(side, Identity) else self(vector).reshape(-1, 1)
            sides.append(made.T if turned else made)
        return np.kron(*sides)


# Without an extreme that hands a gradient on: the number of its ties has none, and so cannot be varied here.
ALONG = """
q = softmax(S[t-1] * M_s, axis=1)
S[t] = 0.5 * tanh(cumsum(q, axis=0)) + 0.2 * layer_norm(S[t-1] + x[t][None, :], g_s[:, None], axis=0)
h[t] = mean(S[t], 0) * h[t-1] + norm(cumsum(S[t-1] * M_s, axis=1), 0) * logsumexp(q, 0)
"""
STEPS = (
    {"along_axes": ALONG}
    | {path.stem: path.read_text(encoding="utf-8") for path in ZOO}
    | {
        name: TRICKY[name]
        for name in (
            *("matrix_state", "matrix_left_and_right", "matrix_some_steps_back", "split_values"),
            *("joined_values", "repeated_values", "matrices_of_parameters"),
        )
    }
)


@pytest.mark.parametrize("form", [text, latex, markdown])
@pytest.mark.parametrize("name", ["matrix_along_its_axes", "matrix_of_columns_and_rows"])
def test_what_goes_along_an_axis_is_explained(form: ModuleType, name: str) -> None:
    """Sums along an axis are products with ones, and need no word."""
    cell = parse(TRICKY[name], name)
    written = form.document(cell, derive(cell))
    along = name == "matrix_along_its_axes"
    assert ("softmax(S[t-1] * M_s, axis=1)" in written or "_{\\mathrm{row}}" in written) == along
    assert ("the index row, a function takes each row of a matrix" in " ".join(written.split())) == along


@pytest.mark.parametrize("name", STEPS)
def test_the_jacobian_is_that_of_the_step(name: str) -> None:
    walk = walkthrough(STEPS[name])
    sizes = Numbers(walk, next(iter(walk.program.pasts)))
    walk.step = tuple(
        dataclasses.replace(part, edges=tuple(sizes.sized(part, edge) for edge in part.edges))
        for part in walk.step
    )
    for past in walk.program.pasts:
        numbers = Numbers(walk, past)
        numbers.run()
        # Auxiliary derivatives stand below the lines that use them, and the last first.
        waiting = walk.jacobian(walk.program.values[past])
        while waiting:
            ready = [
                line for line in waiting if all(total in numbers.totals for total in line.right.atoms(Total))
            ]
            assert ready, "a derivative is used that no line gives"
            for line in ready:
                numbers.totals[line.left] = numbers(line.right)
            waiting = [line for line in waiting if line not in ready]
        for other in walk.program.carries:
            found = numbers.totals.get(Total(other.state.symbol, walk.program.values[past].symbol))
            expected = differences(walk, past, other.state.name)
            if found is None:
                assert not expected.any()
            else:
                np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def differences(walk: Walkthrough, past: str, state: str) -> np.ndarray:
    """The derivative of a new state with respect to a past one, a column for each unit of that."""
    columns = []
    for unit in range(Numbers(walk, past).size):
        ends = []
        for step in (1e-5, -1e-5):
            numbers = Numbers(walk, past)
            numbers.values[past].reshape(-1)[unit] += step
            numbers.run()
            ends.append(numbers.values[state].ravel())
        columns.append((ends[0] - ends[1]) / 2e-5)
    return np.stack(columns, axis=1)


def test_costs_are_counted() -> None:
    walk = walkthrough((ROOT / "gategen" / "zoo" / "lstmp.cell").read_text(encoding="utf-8"))
    sizes = {"n_x": 3, "n_c": 5, "n_r": 2}
    assert set(walk.cell.widths) == set(sizes)
    values = {sympy.Symbol(f"width {name}", real=True): size for name, size in sizes.items()}
    forward = sum(row.forward.doit().subs(values) for row in cost.products(walk))
    assert forward == 4 * 5 * 3 + 4 * 5 * 2 + 2 * 5
    assert sum(row.backward.doit().subs(values) for row in cost.products(walk)) == 2 * forward
    (units,) = [row for row in cost.elements(walk) if row.width == sympy.Symbol("width n_c", real=True)]
    assert units.forward == (4 + 3 + 1, 5)


def test_every_adjoint_line_of_the_program_is_printed() -> None:
    for path in ZOO:
        cell = parse(path.read_text(encoding="utf-8"), path.stem)
        program = derive(cell)
        made_ = document(cell, program)
        lines = sum(len(step.lines) for step in made_.steps)
        # What arrives at x[t-1] is written as that: no line moves it to another step.
        nodes = [
            n for phase in (program.adjoint, program.setup_adjoint) for n in phase if not isinstance(n, Shift)
        ]
        contributions = sum(len(getattr(node, "assigns", (node,))) for node in nodes) - len(program.outputs)
        shared = sum(
            line.right.is_Symbol and line.left.name.startswith("d ") for s in made_.steps for line in s.lines
        )
        assert lines == contributions + shared, path.stem
