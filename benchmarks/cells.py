"""The cells of the benchmark: their equations, and how the peers lay out their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_LSTMP_HEAD = '''"""Long short-term memory with recurrent projection and an output head."""
i = sigmoid(W_i @ x[t] + R_i @ r[t-1] + b_i)
f = sigmoid(W_f @ x[t] + R_f @ r[t-1] + b_f)
o = sigmoid(W_o @ x[t] + R_o @ r[t-1] + b_o)
g = tanh(W_g @ x[t] + R_g @ r[t-1] + b_g)
c[t] = f * c[t-1] + i * g
r[t] = P_r @ (o * tanh(c[t]))
y[t] = V_y @ r[t] + b_y
y: output
'''

_TWO_SPEEDS = '''"""Two memories: a slow one, and a fast one that it gates. Invented for this benchmark."""
s = sigmoid(W_s @ x[t] + U_s @ h[t-1] + b_s)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = c[t-1] + 0.1 * s * (g - c[t-1])
z = sigmoid(W_z @ x[t] + U_z @ h[t-1] + V_z @ c[t] + b_z)
h[t] = (1 - z) * h[t-1] + z * softsign(g + c[t])
'''


@dataclass(frozen=True)
class BenchCell:
    """A cell, and the arrays that a person who writes it by hand would keep.

    Attributes:
        name: What the tables call it.
        source: A zoo name or a text, for gategen.
        packed: For every array of the peers the parameters stacked in it. ``wx`` meets the input in one
            product over all steps, ``b`` is added to its first rows, the others go to the step in this order.
        widths: For every vector that names a width: I, H, or P = H / 2.
        states: The state that the step calls h, and a second one if there is one.
        output: What is compared and differentiated.
        module: The layer of ``torch.nn`` that computes the same.
    """

    name: str
    source: str
    packed: Mapping[str, str]
    widths: Mapping[str, str] = field(default_factory=lambda: {"x": "I", "h": "H"})
    states: tuple[str, ...] = ("h",)
    output: str = "h"
    module: str = ""

    def sizes(self, inputs: int, units: int) -> dict[str, int]:
        """A number for every name in ``widths``."""
        numbers = {"I": inputs, "H": units, "P": units // 2}
        return {name: numbers[letter] for name, letter in self.widths.items()}


_LSTM = {"wx": "W_i W_f W_g W_o", "b": "b_i b_f b_g b_o", "wh": "U_i U_f U_g U_o"}
_LSTMP = {**_LSTM, "wh": "R_i R_f R_g R_o", "p": "P_r"}
_PROJECTED = {"x": "I", "c": "H", "r": "P"}

CELLS = {
    cell.name: cell
    for cell in (
        BenchCell("lstm", "lstm", _LSTM, states=("h", "c"), module="LSTM"),
        BenchCell(
            "gru_reset_after",
            "gru_reset_after",
            {"wx": "W_r W_z W_n", "b": "b_r b_z b_n", "wh": "U_r U_z U_n", "bh": "c_n"},
            module="GRU",
        ),
        BenchCell(
            "peephole",
            "lstm_peephole_full",
            {**_LSTM, "p": "P_i P_f", "po": "P_o"},
            states=("h", "c"),
        ),
        BenchCell(
            "reset_on_input",
            "gru_reset_on_input",
            # b_g is added after the reset gate has scaled the product with x.
            {"wx": "W_z W_r W_g", "b": "b_z b_r", "wh": "U_z U_r U_g", "bg": "b_g"},
        ),
        BenchCell("mgu", "mgu", {"wx": "W_f W_h", "b": "b_f b_h", "uf": "U_f", "uh": "U_h"}),
        BenchCell(
            "cifg",
            "lstm_cifg",
            {"wx": "W_f W_g W_o", "b": "b_f b_g b_o", "wh": "U_f U_g U_o"},
            states=("h", "c"),
        ),
        BenchCell("lstmp", "lstmp", _LSTMP, _PROJECTED, ("r", "c"), "r"),
        BenchCell(
            "lstmp_head",
            _LSTMP_HEAD,
            {**_LSTMP, "v": "V_y", "by": "b_y"},
            {**_PROJECTED, "y": "I"},
            ("r", "c"),
            "y",
        ),
        BenchCell(
            "two_speeds",
            _TWO_SPEEDS,
            {"wx": "W_s W_g W_z", "b": "b_s b_g b_z", "wh": "U_s U_g U_z", "v": "V_z"},
            states=("h", "c"),
        ),
    )
}

STANDARD = tuple(name for name, cell in CELLS.items() if cell.module)
OTHERS = tuple(name for name, cell in CELLS.items() if not cell.module)
