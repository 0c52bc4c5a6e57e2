"""The team of threads: every rank runs, barriers hold, and forks, pauses, rivals and exits do no harm."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import gategen
from gategen.backends import render
from gategen.errors import ArgumentError, BuildError, GategenWarning
from gategen.runtime import build, team

ROOT = Path(gategen.__file__).resolve().parents[1]
FOLDER = ROOT / "templates" / "c_fast"
PRIME = 1000003

FACE = """
typedef struct gg_team {
    int64_t size;
    void (*run)(struct gg_team *team, void (*part)(void *call, int64_t rank), void *call);
    void (*wait)(struct gg_team *team);
} gg_team;
"""
TOY = """
#include <sched.h>
#include <stdint.h>
FACE
typedef struct { gg_team *team; int64_t rounds; int64_t slots[256]; int64_t *totals; } toy_sums;
static void toy_sum(void *given, int64_t rank)
{
    toy_sums *call = given;
    int64_t total = 0;
    for (int64_t round = 0; round < call->rounds; round++) {
        call->slots[rank] = (3 * total + rank + round) % 1000003;
        call->team->wait(call->team);
        total = 0;
        for (int64_t r = 0; r < call->team->size; r++) {
            total += call->slots[r];
        }
        total %= 1000003;
        call->team->wait(call->team);
    }
    call->totals[rank] = total;
}
int64_t toy_size(void *team) { return ((gg_team *)team)->size; }
void toy_run(void *team, int64_t rounds, int64_t *totals)
{
    toy_sums call = {team, rounds, {0}, totals};
    call.team->run(team, toy_sum, &call);
}

/* Says that it runs, then stays until the gate opens. */
static void toy_stay(void *given, int64_t rank)
{
    volatile int64_t *gate = given;
    __atomic_fetch_add(&gate[1], 1, __ATOMIC_SEQ_CST);
    while (rank == 0 && !gate[0]) {
        sched_yield();
    }
}
void toy_hold(void *team, int64_t *gate) { ((gg_team *)team)->run(team, toy_stay, gate); }
""".replace("FACE", FACE)
CDEF = """
int64_t toy_size(void *team);
void toy_run(void *team, int64_t rounds, int64_t *totals);
void toy_hold(void *team, int64_t *gate);
"""


@functools.cache
def toy():
    return build.load(build.build(TOY, CDEF, flags=team.FLAGS, name="toy"))


@functools.cache
def expected(size, rounds):
    total = 0
    for k in range(rounds):
        total = sum((3 * total + rank + k) % PRIME for rank in range(size)) % PRIME
    return total


def ran_well(address, rounds=3):
    """One run: whether every rank of the team came to the sum that takes all barriers to be right."""
    size = toy().lib.toy_size(address)
    totals = toy().ffi.new("int64_t[]", [-1] * size)
    toy().lib.toy_run(address, rounds, totals)
    return list(totals) == [expected(size, rounds)] * size


class Lent:
    """``with Lent(size) as address``, for tests."""

    def __init__(self, size):
        self.address = team.take(size)

    def __enter__(self):
        return self.address

    def __exit__(self, *_):
        team.give_back(self.address)


class Holder:
    """A second Python thread that is inside a run until ``open``."""

    def __init__(self, size=2):
        self.gate = toy().ffi.new("int64_t[2]")
        self.thread = threading.Thread(target=self.hold, args=(size,), daemon=True)
        self.thread.start()
        while self.gate[1] < size:
            time.sleep(0.001)

    def hold(self, size):
        with Lent(size) as address:
            toy().lib.toy_hold(address, self.gate)

    def open(self):
        self.gate[0] = 1
        self.thread.join()


def workers():
    """The threads of teams in this process, by number."""
    tasks = Path("/proc/self/task").iterdir()
    return sorted(int(task.name) for task in tasks if (task / "comm").read_text() == "gategen\n")


def script(text):
    """Run Python in a process of its own; one that hangs or fails fails the test."""
    body = f"import os, sys, time\nfrom test_team import *\n{textwrap.dedent(text)}"
    paths = [str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", body]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory):
    """A cache folder of this file's own, for scripts too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEGEN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("GATEGEN_THREADS", raising=False)
        toy()
        yield


def test_one_thread_is_no_team():
    assert team.take(1) is None
    team.give_back(None)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_barriers_hold_in_thousands_of_runs(size):
    with Lent(size) as address:
        assert toy().lib.toy_size(address) == size
        assert ran_well(address, 500)
        assert all(ran_well(address) for _ in range(3000 if size == 2 else 500))
    with Lent(size) as again:
        assert again == address


def test_no_wakeup_is_missed():
    # Pauses around the time after which a worker sleeps: it lies down while it is called.
    with Lent(2) as address:
        for k in range(1500):
            assert ran_well(address)
            end = time.perf_counter_ns() + 80000 + 40 * k
            while time.perf_counter_ns() < end:
                pass


def test_an_idle_team_uses_no_processor_and_runs_again():
    with Lent(3) as address:
        assert ran_well(address)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.4)
    assert time.process_time() - before < 0.2
    with Lent(3) as address:
        assert ran_well(address)


def test_a_second_thread_gets_none():
    holder = Holder()
    assert team.take(2) is None
    assert team.take(3) is None
    holder.open()
    with Lent(2) as address:
        assert address is not None and ran_well(address)
        assert team.take(2) is None


def test_two_threads_share_one_team():
    shares, wrong = [0, 0], []

    def work(which):
        for _ in range(1500):
            with Lent(2) as address:
                if address is not None:
                    shares[which] += 1
                    wrong.extend([] if ran_well(address, 10) else [which])

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and sum(shares) > 0


FORKS = {"python": "os.fork()", "c": "__import__('ctypes').PyDLL(None).fork()"}
CHILD = """
if child == 0:
    code = 1
    try:
        with Lent(2) as address:
            code = 0 if address is not None and ran_well(address, 100) else 2
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.parametrize("fork", FORKS)
def test_a_forked_child_makes_a_team_of_its_own(fork):
    script(f"""
with Lent(2) as address:
    assert ran_well(address)
for _ in range(5):
    child = {FORKS[fork]}
{textwrap.indent(CHILD, "    ")}
    with Lent(2) as address:
        assert ran_well(address)
""")


@pytest.mark.parametrize("fork", FORKS)
def test_a_fork_during_a_run_of_another_thread_is_harmless(fork):
    script(f"""
holder = Holder()
child = {FORKS[fork]}
{CHILD}
assert team.take(2) is None
holder.open()
with Lent(2) as address:
    assert ran_well(address)
""")


def test_a_child_of_a_child_works_too():
    script(f"""
with Lent(2) as address:
    assert ran_well(address)
child = os.fork()
if child == 0:
    with Lent(2) as address:
        ran_well(address)
    child = os.fork()
    {textwrap.indent(CHILD, "    ").strip()}
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""")


@pytest.mark.parametrize("end", ["", "os._exit(0)", "sys.exit()", "Holder()"])
def test_a_process_ends_right_after_a_call(end):
    text = "with Lent(2) as address:\n    print(ran_well(address), flush=True)\n"
    assert script(text + end) == "True\n"


def test_workers_leave_the_callers_processor_and_its_mask_alone():
    script("""
    allowed = sorted(os.sched_getaffinity(0))
    size = min(len(allowed), 3)
    with Lent(max(size, 2)) as address:
        assert ran_well(address)
        assert os.sched_getaffinity(0) == set(allowed)
        assert size < 2 or all(len(os.sched_getaffinity(worker)) == 1 for worker in workers())
    for here in allowed * 2:
        os.sched_setaffinity(0, {here})  # the holder's thread inherits it
        holder = Holder(max(size, 2))
        found = [os.sched_getaffinity(worker) for worker in workers()]
        holder.open()
        if size >= 2:
            assert len(found) == size - 1 and all(len(mask) == 1 for mask in found)
            assert len(set.union({here}, *found)) == size
        else:
            assert found == [set(allowed)]
        assert os.sched_getaffinity(0) == {here}
    """)


def test_more_threads_than_processors_are_not_pinned():
    script("""
    allowed = os.sched_getaffinity(0)
    with Lent(len(allowed) + 1) as address:
        assert ran_well(address, 50)
    assert [os.sched_getaffinity(worker) for worker in workers()] == [allowed] * len(allowed)
    """)


def test_one_processor_is_enough():
    script("""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    assert team.threads_wanted(None) == 1
    for size in (2, 3):
        with Lent(size) as address:
            assert all(ran_well(address, 20) for _ in range(300))
    """)


def test_signals_are_left_to_the_interpreter():
    with Lent(2) as address:
        assert ran_well(address)
    found = [
        re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/self/task/{w}/status").read_text()) for w in workers()
    ]
    assert found and all(int(blocked[1], 16) & 0x3 == 0x3 for blocked in found)
    own = re.search(r"SigBlk:\s*(\w+)", Path("/proc/thread-self/status").read_text())
    assert int(own[1], 16) == 0


def test_a_team_is_smaller_if_the_system_gives_no_more_threads():
    script("""
    import resource
    toy(), team._library()
    def allow(more):
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, resource.RLIM_INFINITY))
    allow(2 << 20)
    assert team.take(100) is None and not workers()
    allow(40 << 20)
    with Lent(101) as address:
        assert 2 <= toy().lib.toy_size(address) <= 6
        assert len(workers()) == toy().lib.toy_size(address) - 1
        assert ran_well(address)
    """)


def test_a_warm_start_is_light():
    team.give_back(team.take(2))
    heavy = "print(sorted({'jinja2', 'sympy', 'cffi', 'subprocess'} & set(sys.modules)))"
    body = f"import sys\nfrom gategen.runtime import team\nassert team.take(2) is not None\n{heavy}"
    done = subprocess.run([sys.executable, "-c", body], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_a_library_one_thread_runs(monkeypatch):
    def fail(*_, **__):
        raise BuildError("no compiler")

    monkeypatch.setattr(build, "build", fail)
    monkeypatch.setattr(team, "_library", functools.cache(team._library.__wrapped__))
    monkeypatch.setattr(team, "_teams", team._Teams())
    with pytest.warns(GategenWarning, match="one thread.*no compiler") as told:
        assert team.take(2) is None
        assert team.take(2) is None
        assert team.take(3) is None
    assert len(told) == 1


def test_a_team_that_was_not_made_is_not_taken(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(team, "_teams", team._Teams())
    with monkeypatch.context() as patch:
        patch.setattr(team, "_library", interrupt)
        with pytest.raises(KeyboardInterrupt):
            team.take(2)
    with Lent(2) as address:
        assert address is not None and ran_well(address)


@pytest.mark.parametrize("threads", [1, 2, 256])
def test_the_argument_counts_first(threads, monkeypatch):
    monkeypatch.setenv("GATEGEN_THREADS", "many")
    assert team.threads_wanted(threads) == threads


@pytest.mark.parametrize("threads", [0, -1, 257, True, False, 2.0, "2"])
def test_a_wrong_argument_is_an_error(threads):
    with pytest.raises(ArgumentError) as error:
        team.threads_wanted(threads)
    assert str(error.value) == f"threads: is {threads!r}; expected an integer from 1 to 256"


@pytest.mark.parametrize("text, number", [("1", 1), (" 12 ", 12), ("256", 256), ("007", 7)])
def test_the_variable_counts_next(text, number, monkeypatch):
    monkeypatch.setenv("GATEGEN_THREADS", text)
    assert team.threads_wanted(None) == number


@pytest.mark.parametrize("text", ["0", "-1", "257", "many", "2.0", "1_0", "+2", "٣", "9" * 5000])
def test_a_wrong_variable_is_an_error(text, monkeypatch):
    monkeypatch.setenv("GATEGEN_THREADS", text)
    with pytest.raises(ArgumentError) as error:
        team.threads_wanted(None)
    assert str(error.value) == f"GATEGEN_THREADS: is {text!r}; expected an integer from 1 to 256"


@pytest.mark.parametrize("text", [None, "", "  "])
def test_otherwise_every_processor_is_used(text, monkeypatch):
    if text is not None:
        monkeypatch.setenv("GATEGEN_THREADS", text)
    for count, number in ((3, 3), (300, 256)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=count: set(range(count)), raising=False)
        assert team.threads_wanted(None) == number
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert team.threads_wanted(None) == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert team.threads_wanted(None) == 1


def test_the_text_needs_no_jinja():
    assert render.environment(False).from_string(team.text()).render() == team.text()
    assert f"gg_most = {team.MOST}," in team.text()


def test_all_declare_the_same_team():
    declared = set()
    for path in FOLDER.rglob("*.j2"):
        plain = re.sub(r"/\*.*?\*/", "", path.read_text("utf-8"), flags=re.DOTALL)
        declared |= {
            " ".join(found.split()) for found in re.findall(r"typedef struct gg_team \{.*?\}", plain, re.S)
        }
    assert len(declared) == 1
    assert declared.pop() in " ".join(TOY.split())


@pytest.mark.parametrize("compiler", [name for name in ("gcc", "clang") if shutil.which(name)])
@pytest.mark.parametrize("options", [(), ("-U__linux__",), ("-O0",)], ids=["", "no Linux", "plain"])
def test_compiles_without_a_warning(compiler, options, tmp_path):
    (tmp_path / "team.c").write_text(team.text())
    strict = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
    command = [compiler, *strict, *options, "-c", "team.c", "-o", "team.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


MAIN = """
#include <stdio.h>
int main(void)
{
    int64_t totals[5];
    for (int64_t size = 2; size <= 3; size++) {
        gg_team *team = gg_team_make(size);
        for (int64_t k = 0; k < 150; k++) {
            toy_run(team, 5, totals);
            usleep((unsigned)(k % 2 * 2 * k));
        }
    }
    return (int)printf("done\\n") != 5;
}
"""


def test_has_no_data_race(tmp_path):
    (tmp_path / "main.c").write_text(team.text() + TOY.replace(FACE, "") + MAIN)
    command = ["gcc", "-std=gnu11", "-O1", "-g", "-pthread", "-fsanitize=thread", "main.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
