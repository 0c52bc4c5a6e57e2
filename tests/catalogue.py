"""The 108 published cells of the catalogue: where each is written, or what the language lacks for it.

A cell that a feature is missing for names it, with a text that the language refuses for that reason. When the
feature is there, the text is no longer refused, and the cell has to be written down.

Shapes are given in the letters of the papers: n units, d inputs, o outputs, p projected units. Every cell
says which of the language's widths each letter is.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """A cell in our notation, with the shapes that inference must find.

    Attributes:
        text: Declarations and equations.
        states: ``name:letter``, separated by commas.
        parameters: ``shape: names; shape: names``.
        letters: The width that a letter stands for.
        outputs: Names of the outputs.
        inputs: ``name:letter``, separated by commas; no letter for a scalar.
    """

    text: str
    states: str
    parameters: str
    letters: dict[str, str] = field(default_factory=lambda: {"n": "n_h", "d": "n_x"})
    outputs: tuple[str, ...] = ("h",)
    inputs: str = "x:d"


@dataclass(frozen=True)
class Missing:
    """A feature that the language does not have, a text that needs it, and what the error says."""

    feature: str
    text: str
    error: str


@dataclass(frozen=True)
class Published:
    """A cell of the catalogue.

    Attributes:
        name: As the catalogue has it.
        zoo: The name in the zoo, if it is there.
        entry: The name in `WRITTEN`, if it is there.
        missing: What the language lacks, if it cannot be written.
        depth: Matrix products one behind the other from old states to new ones, as the catalogue counts them.
        linear: Whether new states are linear in old ones, as the catalogue has it.
        found: Depth and linearity where we find others, for the reason given there.
    """

    name: str
    zoo: str = ""
    entry: str = ""
    missing: tuple[Missing, ...] = ()
    depth: int = 1
    linear: bool = False
    found: tuple[int, bool] | None = None


_WITH_OUTPUT = {"n": "n_h", "d": "n_x", "o": "n_y"}

WRITTEN = {
    "elman": Entry(
        "h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)",
        states="h:n",
        parameters="n×n: U_h; n×d: W_h; n: b_h",
    ),
    "jordan": Entry(
        """
h = sigmoid(W_h @ x[t] + R_h @ y[t-1] + b_h)
y[t] = sigmoid(V_y @ h + b_y)
""",
        states="y:o",
        parameters="n×o: R_h; o×n: V_y; o: b_y; n×d: W_h; n: b_h",
        letters=_WITH_OUTPUT,
        outputs=("y",),
    ),
    "irnn": Entry(
        "h[t] = relu(W_h @ x[t] + U_h @ h[t-1] + b_h)",
        states="h:n",
        parameters="n×n: U_h; n×d: W_h; n: b_h",
    ),
    "indrnn": Entry(
        "h[t] = relu(W_h @ x[t] + u_h*h[t-1] + b_h)",
        states="h:n",
        parameters="n×d: W_h; n: b_h u_h",
    ),
    "echo_state_network": Entry(
        """
W_h: frozen
U_h: frozen
b_h: frozen
h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)
y[t] = V_y @ concat(x[t], h[t])
""",
        states="h:n",
        parameters="o×d+n: V_y; n×n: U_h; n×d: W_h; n: b_h",
        letters=_WITH_OUTPUT,
        outputs=("h", "y"),
    ),
    "leaky_echo_state_network": Entry(
        """
alpha: constant = 0.3
W_h: frozen
U_h: frozen
R_h: frozen
b_h: frozen
hc = tanh(W_h @ x[t] + U_h @ h[t-1] + R_h @ y[t-1] + b_h)
h[t] = (1 - alpha)*h[t-1] + alpha*hc
y[t] = V_y @ concat(x[t], h[t])
""",
        states="h:n, y:o",
        parameters="o×d+n: V_y; n×o: R_h; n×n: U_h; n×d: W_h; n: b_h",
        letters=_WITH_OUTPUT,
        outputs=("y",),
    ),
    "ct_rnn": Entry(
        """
dt: constant = 0.1
tau: vector = 1.0
h[t] = h[t-1] + (dt/tau)*(-h[t-1] + tanh(W_h @ x[t] + U_h @ h[t-1] + b_h))
""",
        states="h:n",
        parameters="n: tau b_h; n×n: U_h; n×d: W_h",
    ),
    "lstm_no_forget": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = c[t-1] + i*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_g U_i U_o; n×d: W_g W_i W_o; n: b_g b_i b_o",
    ),
    "lstm": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o",
    ),
    # Chrono initialisation: the graph of the LSTM, written as papers do, every gate with its time.
    "chrono_lstm": Entry(
        """
i[t] = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
f[t] = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o[t] = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g[t] = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f[t]*c[t-1] + i[t]*g[t]
h[t] = o[t]*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o",
    ),
    "cifg": Entry(
        """
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + (1 - f)*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_o; n×d: W_f W_g W_o; n: b_f b_g b_o",
    ),
    "peephole": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + b_o)
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o p_f p_i p_o",
    ),
    "peephole_full": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + P_i @ c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + P_f @ c[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + P_o @ c[t] + b_o)
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: P_i P_f P_o U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o",
    ),
    "no_input_gate": Entry(
        """
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + b_o)
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_o; n×d: W_f W_g W_o; n: b_f b_g b_o p_f p_o",
    ),
    "no_forget_gate": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + b_i)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = c[t-1] + i*g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + b_o)
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_g U_i U_o; n×d: W_g W_i W_o; n: b_g b_i b_o p_i p_o",
    ),
    "no_output_gate": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
h[t] = tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i; n×d: W_f W_g W_i; n: b_f b_g b_i p_f p_i",
    ),
    "no_input_activation": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + b_f)
g = W_g @ x[t] + U_g @ h[t-1] + b_g
c[t] = f*c[t-1] + i*g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + b_o)
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o p_f p_i p_o",
    ),
    "no_output_activation": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + b_o)
h[t] = o*c[t]
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o p_f p_i p_o",
    ),
    "full_gate_recurrence": Entry(
        """
i[t] = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + R_ii @ i[t-1] + R_fi @ f[t-1] + R_oi @ o[t-1] + b_i)
f[t] = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + R_if @ i[t-1] + R_ff @ f[t-1] + R_of @ o[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f[t]*c[t-1] + i[t]*g
o[t] = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + R_io @ i[t-1] + R_fo @ f[t-1] + R_oo @ o[t-1] + b_o)
h[t] = o[t]*tanh(c[t])
""",
        states="h:n, c:n, i:n, f:n, o:n",
        parameters=(
            "n×n: R_ii R_fi R_oi R_if R_ff R_of R_io R_fo R_oo U_f U_g U_i U_o; "
            "n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o p_f p_i p_o"
        ),
    ),
    "lstmp": Entry(
        """
i = sigmoid(W_i @ x[t] + R_i @ r[t-1] + p_i*c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + R_f @ r[t-1] + p_f*c[t-1] + b_f)
g = tanh(W_g @ x[t] + R_g @ r[t-1] + b_g)
c[t] = f*c[t-1] + i*g
o = sigmoid(W_o @ x[t] + R_o @ r[t-1] + p_o*c[t] + b_o)
r[t] = P_r @ (o*tanh(c[t]))
""",
        states="r:p, c:n",
        parameters="n×p: R_i R_f R_g R_o; p×n: P_r; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o p_f p_i p_o",
        letters={"n": "n_c", "d": "n_x", "p": "n_r"},
        outputs=("r",),
    ),
    "janet": Entry(
        """
beta: constant = 1.0
s = W_f @ x[t] + U_f @ h[t-1] + b_f
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
h[t] = sigmoid(s)*h[t-1] + (1 - sigmoid(s - beta))*g
""",
        states="h:n",
        parameters="n×n: U_f U_g; n×d: W_f W_g; n: b_f b_g",
    ),
    # The paper makes the mixed signal as wide as the state; the equations alone leave it free.
    "multiplicative_lstm": Entry(
        """
U_m: weight[n, n]
m = (W_m @ x[t])*(U_m @ h[t-1])
i = sigmoid(W_i @ x[t] + V_i @ m + b_i)
f = sigmoid(W_f @ x[t] + V_f @ m + b_f)
o = sigmoid(W_o @ x[t] + V_o @ m + b_o)
g = tanh(W_g @ x[t] + V_g @ m + b_g)
c[t] = f*c[t-1] + i*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: V_i V_f V_o V_g U_m; n×d: W_f W_g W_i W_m W_o; n: b_f b_g b_i b_o",
        letters={"n": "n", "d": "n_x"},
    ),
    "multiplicative_lstm_free": Entry(
        """
m = (W_m @ x[t])*(U_m @ h[t-1])
i = sigmoid(W_i @ x[t] + V_i @ m + b_i)
f = sigmoid(W_f @ x[t] + V_f @ m + b_f)
o = sigmoid(W_o @ x[t] + V_o @ m + b_o)
g = tanh(W_g @ x[t] + V_g @ m + b_g)
c[t] = f*c[t-1] + i*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×k: V_i V_f V_o V_g; k×n: U_m; k×d: W_m; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o",
        letters={"n": "n_h", "d": "n_x", "k": "n_m"},
    ),
    "plrnn": Entry(
        """
M_h: frozen
V_h = M_h * U_h
h[t] = a_h*h[t-1] + V_h @ relu(h[t-1]) + W_h @ x[t] + b_h
""",
        states="h:n",
        parameters="n×n: U_h M_h; n×d: W_h; n: a_h b_h",
    ),
    # The masks are drawn anew at every step.
    "zoneout_lstm": Entry(
        """
h: state[n]
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
cc = f*c[t-1] + i*g
c[t] = d_c[t]*c[t-1] + (1 - d_c[t])*cc
h[t] = d_h[t]*h[t-1] + (1 - d_h[t])*(o*tanh(cc))
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o",
        letters={"n": "n", "d": "n_x"},
        inputs="x:d, d_c:n, d_h:n",
    ),
    "gru_ode": Entry(
        """
dl: input[1]
r = sigmoid(W_r @ x[t] + U_r @ h[t-1] + b_r)
z = sigmoid(W_z @ x[t] + U_z @ h[t-1] + b_z)
u = tanh(W_u @ x[t] + U_u @ (r*h[t-1]) + b_u)
h[t] = h[t-1] + dl[t]*(1 - z)*(u - h[t-1])
""",
        states="h:n",
        parameters="n×n: U_r U_u U_z; n×d: W_r W_u W_z; n: b_r b_u b_z",
        inputs="x:d, dl:",
    ),
    # Complex in the paper; here the real and imaginary parts of the state, of B and of C.
    "lru": Entry(
        """
v: state[n]
y: output
rho = exp(-exp(nu_l))
a = rho*cos(exp(theta_l))
b = rho*sin(exp(theta_l))
u[t] = a*u[t-1] - b*v[t-1] + exp(gamma_l)*(B_u @ x[t])
v[t] = a*v[t-1] + b*u[t-1] + exp(gamma_l)*(B_v @ x[t])
y[t] = C_u @ u[t] - C_v @ v[t] + D_y*x[t]
""",
        states="u:n, v:n",
        parameters="n: nu_l theta_l gamma_l; n×d: B_u B_v; d×n: C_u C_v; d: D_y",
        letters={"n": "n", "d": "n_x"},
        outputs=("y",),
    ),
    "narx": Entry(
        "h[t] = tanh(W_h @ x[t] + U_1 @ h[t-1] + U_2 @ h[t-2] + U_3 @ h[t-3] + b_h)",
        states="h:n",
        parameters="n×n: U_1 U_2 U_3; n×d: W_h; n: b_h",
    ),
    "dilated": Entry(
        "s: constant = 3\nh[t] = tanh(W_h @ x[t] + U_h @ h[t-s] + b_h)",
        states="h:n",
        parameters="n×n: U_h; n×d: W_h; n: b_h",
    ),
    "scrn": Entry(
        """
alpha: constant = 0.95
s[t] = (1 - alpha)*(B_s @ x[t]) + alpha*s[t-1]
h[t] = sigmoid(P_h @ s[t] + W_h @ x[t] + U_h @ h[t-1])
y[t] = softmax(V_y @ h[t] + Q_y @ s[t])
""",
        states="s:q, h:n",
        parameters="q×d: B_s; n×q: P_h; o×n: V_y; o×q: Q_y; n×n: U_h; n×d: W_h",
        letters={"n": "n_h", "d": "n_x", "o": "n_y", "q": "n_s"},
        outputs=("h", "y"),
    ),
    # With a chunk size of one; the catalogue has s units to each master gate.
    "on_lstm": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
mf = cumsum(softmax(Z_a @ x[t] + R_a @ h[t-1] + b_a))
mi = 1 - cumsum(softmax(Z_b @ x[t] + R_b @ h[t-1] + b_b))
w = mf*mi
c[t] = (f*w + mf - w)*c[t-1] + (i*w + mi - w)*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: R_a R_b U_f U_g U_i U_o; n×d: Z_a Z_b W_f W_g W_i W_o; n: b_a b_b b_f b_g b_i b_o",
    ),
    "skip_lstm": Entry(
        """
du: state = 1
b_p: scalar
uc = cu[t-1] + min(du[t-1], 1 - cu[t-1])
u = round_ste(uc)
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
cc = f*c[t-1] + i*g
c[t] = u*cc + (1 - u)*c[t-1]
h[t] = u*(o*tanh(cc)) + (1 - u)*h[t-1]
du[t] = u*sigmoid(dot(w_p, cc) + b_p) + (1 - u)*du[t-1]
cu[t] = (1 - u)*uc
h: output
""",
        states="h:n, c:n, du:, cu:",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o w_p; : b_p",
    ),
    "gated_feedback": Entry(
        """
g11 = sigmoid(dot(a_11, x[t]) + dot(c_11, h1[t-1]) + dot(d_11, h2[t-1]))
g21 = sigmoid(dot(a_21, x[t]) + dot(c_21, h1[t-1]) + dot(d_21, h2[t-1]))
h1[t] = tanh(W_1 @ x[t] + g11*(U_11 @ h1[t-1]) + g21*(U_21 @ h2[t-1]))
g12 = sigmoid(dot(a_12, h1[t]) + dot(c_12, h1[t-1]) + dot(d_12, h2[t-1]))
g22 = sigmoid(dot(a_22, h1[t]) + dot(c_22, h1[t-1]) + dot(d_22, h2[t-1]))
h2[t] = tanh(V_2 @ h1[t] + g12*(U_12 @ h1[t-1]) + g22*(U_22 @ h2[t-1]))
""",
        states="h1:n, h2:m",
        parameters=(
            "d: a_11 a_21; n: c_11 c_21 a_12 c_12 a_22 c_22; m: d_11 d_21 d_12 d_22; "
            "n×d: W_1; n×n: U_11; n×m: U_21; m×n: V_2 U_12; m×m: U_22"
        ),
        letters={"n": "n_h1", "m": "n_h2", "d": "n_x"},
        outputs=("h2",),
    ),
    # Each gate by itself; the catalogue takes mean and variance over both.
    "layer_norm_gru": Entry(
        """
z = sigmoid(layer_norm(U_z @ h[t-1], g_1, b_1) + layer_norm(W_z @ x[t], g_2, b_2))
r = sigmoid(layer_norm(U_r @ h[t-1], g_5, b_5) + layer_norm(W_r @ x[t], g_6, b_6))
g = tanh(layer_norm(W_h @ x[t], g_3, b_3) + r*layer_norm(U_h @ h[t-1], g_4, b_4))
h[t] = (1 - z)*h[t-1] + z*g
""",
        states="h:n",
        parameters="n×n: U_z U_r U_h; n×d: W_z W_r W_h; n: g_1 b_1 g_2 b_2 g_3 b_3 g_4 b_4 g_5 b_5 g_6 b_6",
    ),
    "lmu": Entry(
        """
A_m: frozen
B_m: frozen
u = dot(e_x, x[t]) + dot(e_h, h[t-1]) + dot(e_m, m[t-1])
m[t] = A_m @ m[t-1] + B_m*u
h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + V_h @ m[t])
""",
        states="h:n, m:q",
        parameters="d: e_x; n: e_h; q: e_m B_m; n×q: V_h; n×n: U_h; n×d: W_h; q×q: A_m",
        letters={"n": "n_h", "d": "n_x", "q": "n_m"},
    ),
    # Softmax over the window by its definition; tanh keeps the exponents small.
    "lstmn": Entry(
        """
K: constant = 3
h: state[n]
v = A_x @ x[t] + A_s @ s[t-1]
p = exp(dot(a_v, tanh(A_h @ h[t-1] + v)))
w = p
hs = p*h[t-1]
cs = p*c[t-1]
for j in range(2, K + 1):
    p = exp(dot(a_v, tanh(A_h @ h[t-j] + v)))
    w = w + p
    hs = hs + p*h[t-j]
    cs = cs + p*c[t-j]
s[t] = hs/w
i = sigmoid(W_i @ x[t] + U_i @ s[t] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ s[t] + b_f)
o = sigmoid(W_o @ x[t] + U_o @ s[t] + b_o)
g = tanh(W_g @ x[t] + U_g @ s[t] + b_g)
c[t] = f*cs/w + i*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n, s:n",
        parameters=(
            "q×n: A_h A_s; q×d: A_x; q: a_v; n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o"
        ),
        letters={"n": "n", "d": "n_x", "q": "n_v"},
    ),
    # B_1 and B_2 are the two halves of the matrix whose products are added.
    "sha_rnn": Entry(
        """
K: constant = 3
h: state[n]
y: output
xn = layer_norm(x[t], g_0)
i = sigmoid(W_i @ xn + U_i @ h[t-1] + b_i)
f = sigmoid(W_f @ xn + U_f @ h[t-1] + b_f)
g = tanh(W_g @ xn + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
h[t] = sigmoid(W_o @ xn + U_o @ h[t-1] + b_o)*tanh(c[t])
m[t] = layer_norm(h[t], g_m)
hm = layer_norm(h[t], g_h)
q = sigmoid(g_q)*layer_norm(A_q @ hm, g_l)*sigmoid(g_k)/sqrt(n)
w = exp(dot(q, m[t]))
a = w*m[t]
for j in range(1, K):
    p = exp(dot(q, m[t-j]))
    w = w + p
    a = a + p*m[t-j]
r = hm + v_s*a/w
y[t] = layer_norm(r, g_f) + gelu(B_1 @ layer_norm(r, g_x) + b_1) + gelu(B_2 @ layer_norm(r, g_x) + b_2)
""",
        states="h:n, c:n, m:n",
        parameters=(
            "d: g_0; n: g_m g_h g_q g_l g_k g_f g_x b_f b_g b_i b_o b_1 b_2 v_s; "
            "n×n: A_q U_f U_g U_i U_o B_1 B_2; n×d: W_f W_g W_i W_o"
        ),
        letters={"n": "n", "d": "n_x"},
        outputs=("y",),
    ),
    "hyper_lstm": Entry(
        """
c: state[n]
j = sigmoid(Z_i @ [h[t-1], x[t]] + R_i @ hh[t-1] + b_hi)
k = sigmoid(Z_f @ [h[t-1], x[t]] + R_f @ hh[t-1] + b_hf)
l = sigmoid(Z_o @ [h[t-1], x[t]] + R_o @ hh[t-1] + b_ho)
ch[t] = k*ch[t-1] + j*tanh(Z_g @ [h[t-1], x[t]] + R_g @ hh[t-1] + b_hg)
hh[t] = l*tanh(ch[t])
"""
        + "".join(
            f"""
s_{gate} = (D_h[{y}] @ (E_h[{y}] @ hh[t] + b_eh[{y}]))*(UU[{y}] @ h[t-1])
r_{gate} = (D_x[{y}] @ (E_x[{y}] @ hh[t] + b_ex[{y}]))*(WW[{y}] @ x[t]) + D_b[{y}] @ (E_b[{y}] @ hh[t])
"""
            for y, gate in enumerate("ifgo")
        )
        + """
c[t] = (
    sigmoid(layer_norm(s_f + r_f + b_0[1], g_0[1]))*c[t-1]
    + sigmoid(layer_norm(s_i + r_i + b_0[0], g_0[0]))*tanh(layer_norm(s_g + r_g + b_0[2], g_0[2]))
)
h[t] = sigmoid(layer_norm(s_o + r_o + b_0[3], g_0[3]))*tanh(layer_norm(c[t], g_c))
""",
        states="h:n, c:n, hh:q, ch:q",
        parameters=(
            "q×d+n: Z_i Z_f Z_o Z_g; q×q: R_i R_f R_o R_g; q: b_hi b_hf b_ho b_hg; n: g_c; "
            + "; ".join(
                f"n×n: UU[{y}]; n×d: WW[{y}]; n: b_0[{y}] g_0[{y}]; "
                f"n×h{y}: D_h[{y}]; h{y}×q: E_h[{y}]; h{y}: b_eh[{y}]; "
                f"n×x{y}: D_x[{y}]; x{y}×q: E_x[{y}]; x{y}: b_ex[{y}]; n×b{y}: D_b[{y}]; b{y}×q: E_b[{y}]"
                for y in range(4)
            )
        ),
        letters={
            "n": "n",
            "d": "n_x",
            "q": "n_hh",
            **{f"h{y}": f"n_b_eh_{y}" for y in range(4)},
            **{f"x{y}": f"n_b_ex_{y}" for y in range(4)},
            **{f"b{y}": f"n_D_b_{y}" for y in range(4)},
        },
    ),
    # Four matrices each in place of one that is split.
    "hm_lstm": Entry(
        """
zb: input[1]
b_z: scalar
slope: constant = 1.0
h: state[n]
i = sigmoid(U_i @ h[t-1] + z[t-1]*(V_i @ ha[t]) + zb[t]*(W_i @ x[t]) + b_i)
f = sigmoid(U_f @ h[t-1] + z[t-1]*(V_f @ ha[t]) + zb[t]*(W_f @ x[t]) + b_f)
o = sigmoid(U_o @ h[t-1] + z[t-1]*(V_o @ ha[t]) + zb[t]*(W_o @ x[t]) + b_o)
g = tanh(U_g @ h[t-1] + z[t-1]*(V_g @ ha[t]) + zb[t]*(W_g @ x[t]) + b_g)
zt = dot(w_z, h[t-1]) + z[t-1]*dot(v_z, ha[t]) + zb[t]*dot(a_z, x[t]) + b_z
c[t] = where(z[t-1] > 0.5, i*g, where(zb[t] > 0.5, f*c[t-1] + i*g, c[t-1]))
h[t] = where(max(z[t-1], zb[t]) > 0.5, o*tanh(c[t]), h[t-1])
z[t] = round_ste(max(0, min(1, 0.5*(slope*zt + 1))))
""",
        states="h:n, c:n, z:",
        parameters=(
            "n×n: U_i U_f U_o U_g; n×k: V_i V_f V_o V_g; n×d: W_i W_f W_o W_g; n: b_i b_f b_o b_g w_z; "
            "k: v_z; d: a_z; : b_z"
        ),
        letters={"n": "n", "k": "n_ha", "d": "n_x"},
        outputs=("z",),
        inputs="x:d, ha:k, zb:",
    ),
    "gated_antisymmetric_rnn": Entry(
        """
gamma: constant = 0.01
eps: constant = 0.1
h: state[n]
A_h = U_h - T(U_h) - gamma * I(n)
r = A_h @ h[t-1]
z = sigmoid(r + W_z @ x[t] + b_z)
h[t] = h[t-1] + eps * z * tanh(r + W_h @ x[t] + b_h)
""",
        states="h:n",
        parameters=("n×n: U_h; n×d: W_h W_z; n: b_h b_z"),
        letters={"n": "n", "d": "n_x"},
    ),
    "layer_norm_lstm": Entry(
        """
a = layer_norm(U_a @ h[t-1], g_1) + layer_norm(W_a @ x[t], g_2) + b_a
f, i, o, g = split(a, 4)
c[t] = sigmoid(f) * c[t-1] + sigmoid(i) * tanh(g)
h[t] = sigmoid(o) * tanh(layer_norm(c[t], g_c, b_c))
""",
        states="h:n, c:n",
        parameters=("q×n: U_a; q×d: W_a; q: b_a g_1 g_2; n: g_c b_c"),
        letters={"n": "n_h", "d": "n_x", "q": "4*n_h"},
    ),
    "variational_dropout_lstm": Entry(
        """
m_x: sequence
m_h: sequence
v = m_x * x[t]
w = m_h * h[t-1]
i = sigmoid(W_i @ v + U_i @ w + b_i)
f = sigmoid(W_f @ v + U_f @ w + b_f)
o = sigmoid(W_o @ v + U_o @ w + b_o)
g = tanh(W_g @ v + U_g @ w + b_g)
c[t] = f * c[t-1] + i * g
h[t] = o * tanh(c[t])
""",
        states="h:n, c:n",
        parameters=("n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o"),
        inputs="x:d, m_x:d, m_h:n",
    ),
    "layer_norm_gru_joint": Entry(
        """
a = layer_norm(R_a @ h[t-1], g_1, b_1) + layer_norm(Z_a @ x[t], g_2, b_2)
z, r = split(sigmoid(a), 2)
g = tanh(layer_norm(W_h @ x[t], g_3, b_3) + r * layer_norm(U_h @ h[t-1], g_4, b_4))
h[t] = (1 - z) * h[t-1] + z * g
""",
        states="h:n",
        parameters=("q×n: R_a; q×d: Z_a; q: g_1 b_1 g_2 b_2; n: g_3 g_4 b_3 b_4; n×n: U_h; n×d: W_h"),
        letters={"n": "n_h", "d": "n_x", "q": "2*n_h"},
    ),
    "ltc_circuit": Entry(
        """
dl: input[1]
L: constant = 3
cap: vector
gl: vector
vl: vector
v = h[t-1]
A_s = W_sn * sigmoid(S_sn * (x[t][:, None] - M_sn))
cm = cap / (dl[t] / L)
for l in range(L):
    A_v = W_rn * sigmoid(S_rn * (v[:, None] - M_rn))
    num = cm * v + gl * vl + sum(A_v * E_rn, 0) + sum(A_s * E_sn, 0)
    den = cm + gl + sum(A_v, 0) + sum(A_s, 0) + 1e-8
    v = num / den
h[t] = v
""",
        states="h:n",
        parameters=("d×n: W_sn S_sn M_sn E_sn; n×n: W_rn S_rn M_rn E_rn; n: cap gl vl"),
        inputs="x:d, dl:",
    ),
}

TWO_MATRICES = Missing(
    "product of two matrices",
    """
M: sequence[k, e]
A_m: weight[e, q]
s[t] = sum(tanh(M @ A_m), 0)
h[t] = tanh(W_h @ x[t] + h[t-1])
""",
    "'A_m' is a matrix and stands right of @",
)
COMPLEX = Missing(
    "complex numbers", "h[t] = exp(1j*w_h) * h[t-1] + W_h @ x[t]", "imaginary numbers are not part"
)
BATCH = Missing("batch statistics", "h[t] = batch_norm(W_h @ x[t]) + h[t-1]", "unknown function 'batch_norm'")
CONVOLUTION = Missing("convolution", "h[t] = conv(K_h, x[t]) + h[t-1]", "unknown function 'conv'")
TREE = Missing("tree", "left: input\nh[t] = tanh(W_h @ x[t] + U_h @ h[t - left[t]])", "is not a time")
MATRIX_FUNCTION = Missing(
    "matrix function", "Q = expm(U_h)\nh[t] = Q @ h[t-1] + W_h @ x[t]", "unknown function 'expm'"
)

CATALOGUE = {
    1: Published("Elman (simple RNN)", zoo="rnn"),
    2: Published("Jordan network", zoo="jordan", depth=2),
    3: Published("IRNN (ReLU, identity init)", zoo="irnn"),
    4: Published("IndRNN", zoo="indrnn", depth=0),
    5: Published("Echo state network", entry="echo_state_network"),
    6: Published("Leaky-integrator ESN", entry="leaky_echo_state_network", depth=2),
    7: Published("CT-RNN, explicit Euler", zoo="ct_rnn"),
    8: Published("SCRN (structurally constrained)", zoo="scrn"),
    9: Published("Clockwork RNN", zoo="clockwork_rnn"),
    10: Published("Multiplicative RNN", zoo="multiplicative_rnn", depth=2),
    11: Published("MI-RNN (multiplicative integration)", zoo="mi_rnn"),
    12: Published("AntisymmetricRNN", zoo="antisymmetric_rnn"),
    13: Published("Gated AntisymmetricRNN", entry="gated_antisymmetric_rnn"),
    14: Published("expRNN / orthogonal RNN", missing=(MATRIX_FUNCTION,)),
    15: Published("uRNN (unitary, complex)", missing=(COMPLEX,), depth=2),
    16: Published("coRNN", zoo="cornn"),
    17: Published("LEM (long expressive memory)", zoo="lem", depth=2),
    18: Published("PLRNN (piecewise linear)", entry="plrnn"),
    19: Published("NARX RNN (order 3)", zoo="narx"),
    20: Published("Dilated RNN", zoo="rnn_dilated"),
    21: Published("LSTM without forget gate", zoo="lstm_1997"),
    22: Published("LSTM (forget gate)", zoo="lstm"),
    23: Published("Chrono LSTM", entry="chrono_lstm"),
    24: Published("LSTM, coupled input-forget (CIFG)", zoo="lstm_cifg"),
    25: Published("Peephole LSTM (diagonal) = Greff V", zoo="lstm_peephole"),
    26: Published("Peephole LSTM (full matrices)", zoo="lstm_peephole_full", depth=2),
    27: Published("LSTM no input gate (NIG)", zoo="lstm_nig"),
    28: Published("LSTM no forget gate (NFG)", zoo="lstm_nfg"),
    29: Published("LSTM no output gate (NOG)", zoo="lstm_nog"),
    30: Published("LSTM no input activation (NIAF)", zoo="lstm_niaf"),
    31: Published("LSTM no output activation (NOAF)", zoo="lstm_noaf"),
    32: Published("LSTM full gate recurrence (FGR)", zoo="lstm_fgr"),
    33: Published("LSTMP (recurrent projection)", entry="lstmp", depth=2),
    34: Published("JANET", zoo="janet"),
    35: Published("Multiplicative LSTM", zoo="lstm_multiplicative", depth=2),
    36: Published("Mogrifier LSTM (R = 5 rounds)", zoo="lstm_mogrifier", depth=6),
    37: Published("LayerNorm LSTM", entry="layer_norm_lstm"),
    38: Published("BatchNorm LSTM", missing=(BATCH,)),
    39: Published("Zoneout LSTM", entry="zoneout_lstm"),
    40: Published("Variational-dropout LSTM", entry="variational_dropout_lstm"),
    41: Published("sLSTM (xLSTM)", zoo="slstm"),
    42: Published("mLSTM (xLSTM, matrix memory)", zoo="mlstm", depth=0, linear=True, found=(0, False)),
    43: Published("Nested LSTM (depth 2)", zoo="lstm_nested", depth=2),
    44: Published("ConvLSTM (with Hadamard peepholes)", missing=(CONVOLUTION,)),
    45: Published("Attention-augmented LSTM (Bahdanau)", missing=(TWO_MATRICES,), depth=4),
    # The catalogue counts dot with a learned vector as a product; for us it is a reduction. So with 54.
    46: Published("LSTMN (intra-attention, window K)", entry="lstmn", depth=3, found=(2, False)),
    47: Published("SHA-RNN core (window K)", entry="sha_rnn"),
    48: Published("Child-sum Tree-LSTM", missing=(TREE,)),
    49: Published("Binary (N-ary) Tree-LSTM", missing=(TREE,)),
    50: Published("ON-LSTM (chunk size s)", zoo="on_lstm"),
    51: Published("HyperLSTM", entry="hyper_lstm", depth=3),
    52: Published("Phased LSTM", zoo="lstm_phased"),
    53: Published("T-LSTM (time-aware)", zoo="lstm_time_aware"),
    54: Published("Skip LSTM", entry="skip_lstm", depth=2, found=(1, False)),
    55: Published("Residual LSTM", zoo="lstm_residual", depth=2),
    56: Published("T-RNN (strongly typed)", zoo="t_rnn", depth=0, linear=True),
    57: Published("T-GRU (strongly typed)", zoo="t_gru", depth=0, linear=True),
    58: Published("T-LSTM (strongly typed)", zoo="t_lstm", depth=0, linear=True),
    59: Published("HM-LSTM, one middle layer", entry="hm_lstm"),
    60: Published("GRU, reset BEFORE the matvec (arXiv v3)", zoo="gru", depth=2),
    61: Published("GRU, reset AFTER the matvec (arXiv v1, cuDNN)", zoo="gru_reset_after"),
    62: Published("MGU", zoo="mgu", depth=2),
    63: Published("MGU1 (gate variant)", zoo="mgu1", depth=2),
    64: Published("MGU2 (gate variant)", zoo="mgu2", depth=2),
    65: Published("MGU3 (gate variant)", zoo="mgu3"),
    66: Published("MUT1", zoo="mut1", depth=2),
    67: Published("MUT2", zoo="mut2", depth=2),
    68: Published("MUT3", zoo="mut3", depth=2),
    69: Published("UGRNN", zoo="ugrnn"),
    70: Published("Intersection RNN (+RNN)", zoo="intersection_rnn"),
    71: Published("LiGRU", missing=(BATCH,)),
    72: Published("SLi-GRU (stabilised)", missing=(BATCH,)),
    73: Published("STAR", zoo="star"),
    74: Published("RAN", zoo="ran"),
    75: Published("CFN (chaos-free)", zoo="cfn"),
    76: Published("BRC (bistable)", zoo="brc", depth=0),
    77: Published("MinimalRNN", zoo="minimal_rnn"),
    78: Published("FastRNN", zoo="fastrnn"),
    79: Published("FastGRNN", zoo="fastgrnn"),
    80: Published("FastGRNN-LSQ (low rank)", zoo="fastgrnn_lsq", depth=2),
    81: Published("NAS cell", zoo="nas"),
    82: Published("Recurrent Highway Network (L micro-steps)", zoo="rhn", depth=3),
    83: Published("Gated-feedback RNN (2 layers, tanh)", zoo="gf_rnn", depth=2),
    84: Published("GRU-D", zoo="gru_d", depth=2),
    85: Published("GRU-ODE, Euler step", entry="gru_ode", depth=2),
    86: Published("LayerNorm GRU", entry="layer_norm_gru_joint"),
    87: Published("minGRU", zoo="mingru", depth=0, linear=True),
    88: Published("minLSTM", zoo="minlstm", depth=0, linear=True),
    89: Published("SRU (v1, no state in gates)", zoo="sru_v1", depth=0, linear=True),
    90: Published("SRU (EMNLP 2018)", zoo="sru", depth=0),
    91: Published("QRNN, f-pooling (width 2)", zoo="qrnn_f", depth=0, linear=True),
    92: Published("QRNN, fo-pooling (width 2)", zoo="qrnn_fo", depth=0, linear=True),
    93: Published("QRNN, ifo-pooling (width 2)", zoo="qrnn_ifo", depth=0, linear=True),
    94: Published("LMU (Legendre memory unit)", zoo="lmu", depth=2),
    95: Published("LRU", entry="lru", depth=0, linear=True),
    96: Published("S4D (diagonal SSM, ZOH)", missing=(COMPLEX,), depth=0, linear=True),
    97: Published("Mamba / S6 (selective SSM core)", zoo="mamba", depth=0, linear=True),
    98: Published("RG-LRU (Griffin / Hawk)", zoo="rg_lru", depth=0, linear=True),
    # Linear once the running maximum is taken out, which keeps the exponentials in range; as it is written it
    # is not, and no scan over products would be right.
    99: Published("RWKV-4 time-mix (wkv)", zoo="rwkv4", depth=0, linear=True, found=(0, False)),
    100: Published("Linear attention as RNN", zoo="linear_attention", depth=0, linear=True),
    101: Published("RetNet (one head)", zoo="retnet", depth=0, linear=True),
    102: Published("Gated linear attention", zoo="gated_linear_attention", depth=0, linear=True),
    103: Published("DeltaNet", zoo="deltanet", linear=True),
    104: Published("Fast weights (S inner steps)", zoo="fast_weights", depth=3),
    105: Published("LTC, fused semi-implicit Euler (L unfolds)", zoo="ltc", depth=3),
    106: Published("LTC neural circuit (per-synapse sigmoid)", entry="ltc_circuit", depth=0),
    107: Published("CfC (closed-form continuous)", zoo="cfc", depth=2),
    108: Published("LIF spiking layer, surrogate gradient", zoo="lif"),
}
