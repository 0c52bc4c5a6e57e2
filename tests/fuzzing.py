"""Texts that are nearly cells: the zoo and others with tokens changed; and a clock that stops a hang."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from gategen import pipeline

TOKEN = re.compile(r"\s+|\w+|\*\*|[^\w\s]")

OTHERS = [
    "L: constant = 3\ns = W_s @ x[t]\nfor k in range(L):\n    s = tanh(U_s[k] @ s + h[t-1])\nh[t] = s\n",
    "dt: constant = 0.1\ntau: vector[n] = 1.0\nh: state[n] = 0.5\nh[t] = h[t-1] + dt / tau * x[t]\n",
    "M_h: frozen[n, n]\nx: input[1]\ny: output\nh[t] = where(x[t] > 0, M_h @ h[t-1], 0)\ny[t] = h[t]**2\n",
    "d: constant = 2\nh[t] = tanh(U_h @ h[t-d] + x[t-d+1])\nc[t] = c[t-3] * h[t] + c[t-d-2] + x[t-4]\n",
    "a: scalar\ns = dot(x[t], v_s) + a\nh[t] = layer_norm(s * x[t], g_h) + softmax(h[t-1]) * max(h[t-1])\n",
    "A_s = exp(W_a) * 2\nif 1 > 0:\n    z[t] = clip(A_s @ [x[t], x[t-1]], -1, 1)\nh[t] = z[t] if 1 else 0\n",
]

WORDS = [
    *(
        "h",
        "x",
        "t",
        "W_z",
        "b",
        "z",
        "[t]",
        "[t-1]",
        "[t+1]",
        "[t-4]",
        "[t+20]",
        "t-9999",
        "h[t-1]",
        "x[t]",
        "tanh(",
        "W_z @ ",
        "0",
        "1",
        "64",
    ),
    *(
        "1e300",
        "1e-300",
        "999999999",
        "0.5",
        "-",
        "--",
        "+",
        "*",
        "/",
        "**",
        "**64",
        "**0.5",
        "@",
        "(",
        ")",
        "[",
        "]",
    ),
    *(
        ",",
        "=",
        "==",
        ":",
        ";",
        "\n",
        "\n    ",
        "\t",
        "\r",
        "\f",
        "\\\n",
        "#",
        '"',
        '"""',
        "'",
        "{",
        "}",
        ".",
        "...",
    ),
    *(
        "for k in range(1000):\n    ",
        "for k in range(3):\n    ",
        "if 1:\n    ",
        "else",
        "lambda",
        "import os",
        "exec",
    ),
    *(
        "__import__",
        "open('x')",
        "eval",
        "where(",
        "max(",
        "sum(",
        "softmax(",
        "layer_norm(",
        "concat(",
        "sqrt(",
        "x < 0",
        "n: constant = 2\n",
        "k",
    ),
    *(
        "\0",
        "\x1b",
        "\ufeff",
        "\u2028",
        "é",
        "ℎ",
        "х",
        "σ",
        "𝒽",
        "\ud800",
        "漢",
        "’",
        "\u00a0",
        "\u202e",
        "1_000",
    ),
]

NAMES = [
    *(
        "h",
        "x",
        "z",
        "c",
        "t",
        "b",
        "W_z",
        "U_z",
        "b_z",
        "b_h",
        "n",
        "k",
        "L",
        "dt",
        "y",
        "0",
        "1",
        "2",
        "0.5",
        "1e99",
    ),
    *(
        "tanh",
        "sigmoid",
        "sqrt",
        "exp",
        "abs",
        "max",
        "clip",
        "where",
        "concat",
        "constant",
        "scalar",
        "vector",
    ),
    *("weight", "frozen", "input", "state", "output", "range", "lambda", "__class__", "64", "1000000000"),
]
OPERATORS = ["+", "-", "*", "/", "@", "**", ",", "=", "<", ">", "%", "//"]


def seeds() -> list[str]:
    return [
        pipeline.ZOO.joinpath(f"{name}.cell").read_text(encoding="utf-8") for name in pipeline.zoo()
    ] + OTHERS


def mutated(texts: list[str], draw: random.Random) -> str:
    """One of the texts, changed in one to six places."""
    text = draw.choice(texts)
    if draw.random() < 0.9:
        # The docstring takes most of the characters of a zoo cell and hides most changes.
        text = re.sub(r'^""".*?"""\n', "", text, flags=re.DOTALL)
    tokens = TOKEN.findall(text)
    if draw.random() < 0.6:
        return "".join(alike(tokens, draw))
    for _ in range(draw.choice([1, 1, 1, 2, 3, 6])):
        place, other = draw.randrange(len(tokens) + 1), draw.randrange(len(tokens) + 1)
        first, last = sorted((place, other))
        match draw.randrange(10):
            case 0 | 1:
                tokens[place : place + 1] = []
            case 2 | 3:
                tokens[place : place + 1] = [draw.choice(tokens or ["h"])]
            case 4:
                tokens[place:place] = tokens[first : min(last, first + 12)]
            case 5:
                tokens[place:place] = [draw.choice(WORDS)]
            case 6:
                tokens[place : place + 1] = [draw.choice(WORDS)]
            case 7:
                tokens[first:last] = tokens[first:last][::-1]
            case 8:
                tokens[place:place] = ["".join(chr(draw.randrange(1, 0x3000)) for _ in range(3))]
            case 9:
                tokens[place : place + 1] = [nested(tokens[place] if place < len(tokens) else "x[t]", draw)]
        tokens = tokens or ["h"]
    return "".join(tokens)


def alike(tokens: list[str], draw: random.Random) -> list[str]:
    """Words exchanged for words, signs for signs, lines for lines: texts whose syntax is mostly right."""
    for _ in range(draw.choice([1, 2, 4])):
        words = [i for i, token in enumerate(tokens) if token[0].isalnum()]
        operators = [i for i, token in enumerate(tokens) if token in OPERATORS]
        ends = [0, *(i + 1 for i, token in enumerate(tokens) if "\n" in token), len(tokens)]
        match draw.randrange(8):
            case 0 | 1 if words:
                tokens[draw.choice(words)] = tokens[draw.choice(words)]
            case 2 if words:
                tokens[draw.choice(words)] = draw.choice(NAMES)
            case 3 | 4 if operators:
                tokens[draw.choice(operators)] = draw.choice(OPERATORS)
            case 5 if words:
                wrapped = draw.choice(words)
                tokens[wrapped] = nested(tokens[wrapped], draw, draw.choice([1, 2, 20]))
            case 6:
                first = draw.randrange(len(ends) - 1)
                start = draw.choice(ends)
                tokens[start:start] = tokens[ends[first] : ends[first + 1]]
            case 7:
                first = draw.randrange(len(ends) - 1)
                tokens[ends[first] : ends[first + 1]] = []
        tokens = tokens or ["h"]
    return tokens


def nested(inside: str, draw: random.Random, depth: int = 0) -> str:
    """Something wrapped or repeated many times."""
    depth = depth or draw.choice([3, 30, 300, 3000])
    opening, closing = draw.choice(
        [
            ("(", ")"),
            ("tanh(", ")"),
            ("[", "]"),
            ("-", ""),
            ("W_z @ ", ""),
            ("(2*", ")"),
            ("(", ")**64"),
            ("x[t] + ", ""),
        ]
    )
    return opening * depth + inside + closing * depth


@contextmanager
def clock(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` once the block has used this much processor time, however busy the machine is."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
