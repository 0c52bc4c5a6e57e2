"""The team of threads that kernels run on: how many are wanted, and who may use them now.

The C text of the team is a template that holds no placeholders, so that a warm start reads it without Jinja.
"""

from __future__ import annotations

import functools
import os
import threading
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from gategen.errors import ArgumentError, GategenError, GategenWarning
from gategen.runtime import build

MOST = 256
"""Threads of a team; the C text holds the same number."""
VARIABLE = "GATEGEN_THREADS"
"""The environment variable that says how many threads are wanted."""

FILES = ("team_types.c.j2", "team_places.c.j2", "team_flags.c.j2", "team.c.j2")
"""The C text of the team, in this order; kernels declare gg_team as the first file does."""
FLAGS = ("-std=gnu11", "-O2", "-pthread")
CDEF = "void *gg_team_make(int64_t size);"

_EXPECTED = f"an integer from 1 to {MOST}"


def threads_wanted(threads: int | None) -> int:
    """How many threads a kernel is to use: the argument, else GATEGEN_THREADS, else one per processor.

    Raises:
        ArgumentError: The argument or the variable is no number of threads.
    """
    if threads is not None:
        if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST:
            raise ArgumentError("threads", f"is {threads!r}", _EXPECTED)
        return threads
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return min(_processors(), MOST)
    # Python reads more as a number than a person means by one: 1_0, and thousands of digits not at all.
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MOST):
        raise ArgumentError(VARIABLE, f"is {text!r}", _EXPECTED)
    return int(text)


def _processors() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Teams:
    """The teams of one process by number of threads, each made when it is first wanted."""

    def __init__(self) -> None:
        self.process = os.getpid()
        # One call at a time, whatever the size: two teams would share processors.
        self.busy = threading.Lock()
        self.addresses: dict[int, Any] = {}

    def make(self, size: int) -> Any:
        """The address of a new team, or None; only for the holder of ``busy``."""
        library = _library()
        address = None if library is None else library.lib.gg_team_make(size)
        self.addresses[size] = address or None
        return self.addresses[size]


def take(size: int) -> Any:
    """The team for one call, to be given back in a ``finally`` clause.

    None means that the kernel runs on the caller's thread alone: no more are wanted, another thread uses the
    team, or there can be none.

    Args:
        size: The threads, the caller's own included, from 1 to `MOST`. The team may have fewer, if the system
            gives no more: its own ``size`` counts.

    Returns:
        The address of a ``gg_team`` as cffi's ``void *``, or None.
    """
    if size == 1:
        return None
    if _teams.process != os.getpid():  # a fork that Python was not told of
        _forget()
    teams = _teams
    if not teams.busy.acquire(False):
        return None
    address = None
    try:
        address = teams.addresses[size] if size in teams.addresses else teams.make(size)
    finally:
        if address is None:
            teams.busy.release()
    return address


def give_back(address: Any) -> None:
    """End what `take` began; nothing for None."""
    if address is not None:
        _teams.busy.release()


def text() -> str:
    """The whole C text of the team."""
    return "\n".join((_folder() / name).read_text(encoding="utf-8") for name in FILES)


def _folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    inside = package / "templates"
    return (inside if inside.is_dir() else package.parent / "templates") / "c_fast"


@functools.cache
def _library() -> ModuleType | None:
    try:
        return build.load(build.build(text(), CDEF, flags=FLAGS, name="team"))
    except GategenError as error:
        told = f"kernels run with one thread, as the library for more cannot be had: {error}"
        warnings.warn(told, GategenWarning, stacklevel=2)
        return None


def _forget() -> None:
    """Leave the teams of the parent behind: a forked child has none of their threads."""
    global _teams
    _teams = _Teams()


_teams = _Teams()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
