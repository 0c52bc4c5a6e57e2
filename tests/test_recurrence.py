"""How a step hangs on the one before: products in a row, and what is linear."""

from __future__ import annotations

import pytest

import gategen as gg
from gategen.calculus.recurrence import Recurrence, recurrence

# As the papers have them: products one behind the other from h[t-1] to h[t].
DEPTHS = {
    "brc": 0,
    "fastgrnn_lsq": 2,
    "gru": 2,
    "gru_reset_after": 1,
    "indrnn": 0,
    "jordan": 2,
    "lstm": 1,
    "lstm_mogrifier": 6,
    "lstm_multiplicative": 2,
    "lstm_peephole": 1,
    "lstm_peephole_full": 2,
    "lstm_reverse": 1,
    "lstmp": 2,
    "mgu": 2,
    "rhn": 3,
    "rnn": 1,
    "sru": 0,
}
LINEAR = (
    "mingru",
    "minlstm",
    "qrnn_f",
    "qrnn_fo",
    "qrnn_ifo",
    "rg_lru",
    "sru_v1",
    "t_gru",
    "t_lstm",
    "t_rnn",
)
# Outer products are added up, and read by products with a matrix of the step.
MEMORIES = {
    "deltanet": Recurrence(1, True, False),
    "gated_linear_attention": Recurrence(0, True, True),
    "linear_attention": Recurrence(0, True, True),
    "mamba": Recurrence(0, True, True),
    "retnet": Recurrence(0, True, True),
}
TEXTS = {
    "a matrix": ("h[t] = U_h @ h[t-1] + W_h @ x[t]", Recurrence(1, True, False)),
    "two matrices": ("h[t] = U_h @ (V_h @ h[t-1]) + x[t]", Recurrence(2, True, False)),
    "two states": ("c[t] = 0.5 * c[t-1] + x[t]\nh[t] = h[t-1] - 2 * c[t]", Recurrence(0, True, True)),
    "a square": ("h[t] = h[t-1]**2 + x[t]", Recurrence(0, False, True)),
    "a product of states": ("c[t] = c[t-1] + x[t]\nh[t] = c[t-1] * h[t-1]", Recurrence(0, False, True)),
    "divided by the input": ("h[t] = h[t-1] / (1 + x[t]**2)", Recurrence(0, True, True)),
    "divided by the state": ("h[t] = x[t] / (1 + h[t-1]**2)", Recurrence(0, False, True)),
    "an identity as a function": ("h[t] = stop_gradient(h[t-1]) + x[t]", Recurrence(0, True, True)),
    "the input decides": ("h[t] = where(x[t] > 0, h[t-1], x[t])", Recurrence(0, True, True)),
    "the state decides": ("h[t] = where(h[t-1] > 0, h[t-1], x[t])", Recurrence(0, False, True)),
    "a value that is not carried on": (
        "y[t] = tanh(V_y @ h[t-1])\nh[t] = 0.5 * h[t-1] + x[t]\nh: output\ny: output",
        Recurrence(0, True, True),
    ),
    "running sums": ("h[t] = cumsum(h[t-1]) / 2 + x[t]", Recurrence(0, True, False)),
    "means of rows": (
        "S[t] = S[t-1] - mean(S[t-1], axis=1)[:, None] + outer(x[t], x[t])",
        Recurrence(0, True, False),
    ),
    "the largest of a row": (
        "S[t] = S[t-1] - max(S[t-1], axis=1)[:, None] + outer(x[t], x[t])",
        Recurrence(0, False, False),
    ),
    "no state": ("h[t] = tanh(W_h @ x[t])", Recurrence(0, True, True)),
    "a scalar state": ("s: input[1]\nq: state[1]\nq[t] = 0.9 * q[t-1] + s[t]", Recurrence(0, True, True)),
}


def of(cell: gg.Cell) -> Recurrence:
    return recurrence(gg.derive(cell).program)


@pytest.mark.parametrize("name", DEPTHS)
def test_depth(name: str) -> None:
    assert of(gg.load(name)).depth == DEPTHS[name]


def test_linear_cells_of_the_zoo() -> None:
    found = {name: of(gg.load(name)) for name in gg.pipeline.zoo()}
    assert {name for name, step in found.items() if step.linear} == {*LINEAR, *MEMORIES}
    assert all(found[name] == Recurrence(0, True, True) for name in LINEAR)
    assert {name: found[name] for name in MEMORIES} == MEMORIES


@pytest.mark.parametrize("case", TEXTS)
def test_texts(case: str) -> None:
    text, expected = TEXTS[case]
    assert of(gg.parse(text, "cell")) == expected


@pytest.mark.parametrize("name", LINEAR)
def test_linear_cells_have_no_product_in_the_loop(name: str) -> None:
    text = gg.pipeline.show(gg.load(name), "schedule")
    assert "linear in the states, unit by unit, no matrix products between old and new states" in text
    loop = text.partition("every step:")[2].partition("all steps at once")[0]
    assert "@" not in loop.partition("backward")[0]


def test_the_page_of_the_zoo() -> None:
    page = gg.pipeline.index([gg.load("lstm"), gg.load("mingru"), gg.parse("h[t] = x[t]", "own")])
    table = [line for line in page.splitlines() if line.startswith("| [")]
    assert table == [
        r"| [lstm](#lstm) | c, h: $`n_h`$ | $`4\, n_h + 4\, n_h^{2} + 4\, n_h\, n_x`$ "
        r"| $`4\, n_h^{2} + 4\, n_h\, n_x`$ | 1 |  |",
        r"| [mingru](#mingru) | h: $`n_h`$ | $`2\, n_h\, n_x`$ | $`2\, n_h\, n_x`$ | 0 | unit by unit |",
        r"| [own](#own) |  | $`0`$ | $`0`$ | 0 | unit by unit |",
    ]
    assert "3 published cells" in page
    assert "c[t] = f * c[t-1] + i * g" in page
    assert "doi:10.1162/089976600300015015" in page
