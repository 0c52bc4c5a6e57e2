"""What training a cell needs besides the kernel: losses, update rules, data windows, loops.

``losses``: ``mean_squared_error``, ``softmax_cross_entropy``, ``sigmoid_binary_cross_entropy``,
``weight_penalty``; ``accuracy``, ``binary_accuracy``.
``updates``: ``SGD``, ``Adam``, ``clip_by_norm``, ``clip_by_value``.
``windows``: ``Vocabulary``, ``split_text``, ``windows``, ``sliding_windows``, ``one_hot``, ``embed``,
``embed_gradient``, ``pad``, ``by_length``, ``length_mask``, ``dropout_mask``.
``loops``: ``train_step``, ``train_windows``, ``evaluate_windows``, ``draw``, ``sample``.

A character model in a few lines::

    vocabulary = Vocabulary(text)
    train, held_out = (windows(vocabulary.encode(part), batch=32, steps=64) for part in split_text(text))
    update = Adam(0.002)
    for step in train_windows(kernel, parameters, train, len(vocabulary), update, clip=1.0):
        print(step.loss)
    print(evaluate_windows(kernel, parameters, held_out, len(vocabulary)))
    print(sample(kernel, parameters, vocabulary, "def ", 200, rng, temperature=0.7))
"""

from gategen.training.loops import Step, draw, evaluate_windows, sample, train_step, train_windows
from gategen.training.losses import (
    accuracy,
    binary_accuracy,
    mean_squared_error,
    sigmoid_binary_cross_entropy,
    softmax_cross_entropy,
    weight_penalty,
)
from gategen.training.updates import SGD, Adam, clip_by_norm, clip_by_value
from gategen.training.windows import (
    Batch,
    Vocabulary,
    Window,
    by_length,
    dropout_mask,
    embed,
    embed_gradient,
    length_mask,
    one_hot,
    pad,
    sliding_windows,
    split_text,
    windows,
)

__all__ = [
    "SGD",
    "Adam",
    "Batch",
    "Step",
    "Vocabulary",
    "Window",
    "accuracy",
    "binary_accuracy",
    "by_length",
    "clip_by_norm",
    "clip_by_value",
    "draw",
    "dropout_mask",
    "embed",
    "embed_gradient",
    "evaluate_windows",
    "length_mask",
    "mean_squared_error",
    "one_hot",
    "pad",
    "sample",
    "sigmoid_binary_cross_entropy",
    "sliding_windows",
    "softmax_cross_entropy",
    "split_text",
    "train_step",
    "train_windows",
    "weight_penalty",
    "windows",
]
