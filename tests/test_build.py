"""Building and loading C: the search for a compiler, the key, one compilation, every way it can go wrong."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from gategen.errors import BuildError, GategenWarning
from gategen.runtime import build, cache, compile_c

ROOT = Path(__file__).resolve().parents[1]

SOURCE = """
#include <math.h>
#include <stdint.h>
typedef struct { int64_t n; const double *x; } toy_vector;
double toy_norm(const toy_vector *v)
{
    double sum = 0.0;
    for (int64_t i = 0; i < v->n; i++) {
        sum += v->x[i] * v->x[i];
    }
    return sqrt(sum);
}
"""
CDEF = "typedef struct { int64_t n; const double *x; } toy_vector; double toy_norm(const toy_vector *v);"


def norm(path):
    module = build.load(path)
    ffi = module.ffi
    x = ffi.new("double[]", [3.0, 4.0])
    return module.lib.toy_norm(ffi.new("toy_vector *", {"n": 2, "x": x}))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A cache folder and a temporary folder of the test's own, and the machine's own compiler."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("GATEGEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("GATEGEN_CC", raising=False)
    monkeypatch.delenv("CC", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Make a compiler from a few lines of shell, called for everything but ``--version``; log its calls."""
    real = build.find_compiler().path

    def make(lines="", version="echo fake 1.0", name="fake cc"):
        script = tmp_path / name
        log = shlex.quote(str(tmp_path / "calls"))
        script.write_text(
            f'#!/bin/sh\necho "$@" >> {log}\nif [ "$1" = --version ]; then {version}; exit 0; fi\n'
            f'{lines}\nexec {real} "$@"\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("GATEGEN_CC", str(script))
        return script

    return make


def calls(tmp_path):
    log = tmp_path / "calls"
    return log.read_text().splitlines() if log.exists() else []


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def libraries(place):
    return sorted(place.rglob("*.so"))


def python(script, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


# The ordinary case


def test_compile_load_and_call(place, capfd):
    path = build.build(SOURCE, CDEF, name="toy cell")
    assert path.is_relative_to(place)
    assert path.name.startswith("gg_toy_cell_")
    assert norm(path) == 5.0
    assert tree(path.parent) == ["entry.json", path.name], "neither C text nor objects stay behind"
    assert not list(place.glob("tmp-*"))
    assert capfd.readouterr() == ("", "")


def test_comments_may_hold_any_letter_in_any_locale():
    source = "/* ∂L/∂z = δ ⊙ σ */ int f(void) { return 4; }"
    script = (
        "from gategen.runtime import build\n"
        f"print(build.load(build.build({source!a}, 'int f(void);')).lib.f())"
    )
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert python(script, **locale).communicate() == ("4\n", "")


def test_only_what_python_calls_is_visible():
    source = "int inner(void) { return 1; } int f(void) { return inner(); }"
    path = build.build(source, "int f(void);")
    assert build.load(path).lib.f() == 1
    assert not hasattr(ctypes.CDLL(str(path)), "inner"), "two kernels' functions of one name must not meet"


def test_the_library_that_was_built_is_loaded_once(monkeypatch):
    loaded, real = [], build._import
    monkeypatch.setattr(build, "_import", lambda path: loaded.append(path) or real(path))
    path = build.build(SOURCE, CDEF)
    assert norm(path) == norm(path) == 5.0
    assert len(loaded) == 1


@pytest.mark.parametrize("flags", [build.PORTABLE, build.FAST])
def test_the_shipped_flags_work_and_keep_denormals(flags):
    source = "double half(double x) { return x * 0.5; }"
    module = build.load(build.build(source, "double half(double x);", flags=flags))
    assert module.lib.half(5e-324 * 2) == 5e-324
    assert 2.2250738585072014e-308 / 2 > 0, "loading must not change the process's floating-point mode"
    assert not {"-ffast-math", "-Ofast", "-fassociative-math"} & set(flags)


def test_a_second_build_runs_no_compiler(fake, tmp_path):
    fake()
    first = build.build(SOURCE, CDEF)
    assert len(calls(tmp_path)) == 2
    assert build.build(SOURCE, CDEF) == first
    assert len(calls(tmp_path)) == 2
    assert build.load(first) is build.load(first)


def test_find_by_key():
    compiler = build.find_compiler()
    key = build.binary_key(SOURCE, CDEF, flags=build.PORTABLE, compiler=compiler, name="toy")
    assert build.find(key) is None
    path = build.build(SOURCE, CDEF, compiler=compiler, name="toy")
    assert build.find(key) == path


def test_the_same_name_twice():
    one = build.load(build.build("int f(void) { return 1; }", "int f(void);"))
    two = build.load(build.build("int f(void) { return 2; }", "int f(void);"))
    assert (one.lib.f(), two.lib.f()) == (1, 2)


def test_types_and_opaque_types_are_realized():
    source = """
    struct opaque; union both { int i; float f; }; enum colour { RED, GREEN };
    typedef struct { struct { double a[3]; } inner; struct opaque *o; } outer;
    static const int limit = 7; int counter = 3;
    int f(outer *o, struct opaque *p, union both b) { return o && p ? b.i : limit; }
    """
    cdef = """
    struct opaque; union both { int i; float f; }; enum colour { RED, GREEN };
    typedef struct { struct { double a[3]; } inner; struct opaque *o; } outer;
    static const int limit; extern int counter; int f(outer *o, struct opaque *p, union both b);
    """
    module = build.load(build.build(source, cdef))
    b = module.ffi.new("union both *", {"i": 2})
    assert module.lib.f(module.ffi.NULL, module.ffi.NULL, b[0]) == 7
    assert (module.lib.GREEN, module.lib.counter) == (1, 3)


def test_calls_release_the_interpreter():
    source = """
    #include <time.h>
    int wait_for(volatile int *flag) {
        time_t start = time(0);
        while (time(0) - start < 20) { if (*flag) return 1; }
        return 0;
    }
    """
    module = build.load(build.build(source, "int wait_for(volatile int *flag);"))
    flag, answers = module.ffi.new("int *", 0), []
    waiter = threading.Thread(target=lambda: answers.append(module.lib.wait_for(flag)))
    waiter.start()
    flag[0] = 1
    waiter.join()
    assert answers == [1]


def test_threads_build_and_load_together(place):
    answers, start = [], threading.Barrier(4)

    def work():
        start.wait()
        answers.append(norm(build.build(SOURCE, CDEF)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [5.0] * 4
    assert len(libraries(place)) == 1


# The key


COMPILER = build.Compiler("/usr/bin/cc", ("-m64",), "cc 1.0")


@pytest.mark.parametrize(
    "change",
    [
        {"source": "int f(void);"},
        {"cdef": "int f(int);"},
        {"flags": ("-O3",)},
        {"name": "other"},
        {"compiler": dataclasses.replace(COMPILER, path="/usr/bin/gcc")},
        {"compiler": dataclasses.replace(COMPILER, arguments=("-m32",))},
        {"compiler": dataclasses.replace(COMPILER, arguments=())},
        {"compiler": dataclasses.replace(COMPILER, version="cc 1.1")},
        {"suffix": ".cpython-399-x86_64-linux-gnu.so"},
        {"processor": "x86_64 avx9000"},
    ],
    ids=repr,
)
def test_every_ingredient_changes_the_key(monkeypatch, change):
    arguments = {"source": "", "cdef": "", "flags": ("-O2",), "compiler": COMPILER, "name": "toy"}
    before = build.binary_key(**arguments)
    assert build.binary_key(**arguments) == before
    if "suffix" in change:
        monkeypatch.setattr(build, "_EXT_SUFFIX", change.pop("suffix"))
    if "processor" in change:
        answer = change.pop("processor")
        monkeypatch.setattr(build, "processor", lambda: answer)
    assert build.binary_key(**{**arguments, **change}) != before


def test_flags_do_not_run_together():
    lists = [("-O2", "-g"), ("-O2-g",), ("-O2 -g",), ("-g", "-O2"), ()]
    keys = {build.binary_key("", "", flags=flags, compiler=COMPILER, name="toy") for flags in lists}
    assert len(keys) == len(lists)


def test_the_machine_key_tells_compilers_and_their_absence_apart():
    assert len({build.machine(None), build.machine(COMPILER), build.machine(build.find_compiler())}) == 3


def test_the_processor_is_described_by_its_features(monkeypatch, tmp_path):
    text = "processor : 0\nflags\t\t: fpu {} sse\nbugs : none\n\nprocessor : 1\nflags\t\t: other\n"
    real, found = open, []
    for features in ("avx2", "avx512f"):
        (tmp_path / "cpuinfo").write_text(text.format(features))
        monkeypatch.setattr("builtins.open", lambda name, **options: real(tmp_path / "cpuinfo", **options))
        found.append(build.processor.__wrapped__())
        monkeypatch.undo()
    assert "avx2" in found[0]
    assert "avx512f" in found[1]
    assert not any("other" in description or "none" in description for description in found)
    monkeypatch.setattr("builtins.open", lambda name, **options: real(tmp_path / "absent", **options))
    assert build.processor.__wrapped__(), "other systems have no such file"


# The compiler


def test_the_order_of_the_search(monkeypatch, tmp_path):
    def compiler(name):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} 1.0\n")
        (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}")
    assert build.find_compiler() is None
    for name in ("clang", "gcc", "cc"):
        compiler(name)
        assert build.find_compiler() == build.Compiler(str(tmp_path / name), (), f"{name} 1.0")
    compiler("mine")
    monkeypatch.setenv("CC", "mine -m64 '-DNAME=a b'")
    assert build.find_compiler() == build.Compiler(str(tmp_path / "mine"), ("-m64", "-DNAME=a b"), "mine 1.0")
    compiler("own")
    monkeypatch.setenv("GATEGEN_CC", "own")
    assert build.find_compiler().path == str(tmp_path / "own")
    assert str(build.find_compiler()) == f"{tmp_path / 'own'}: own 1.0"


@pytest.mark.parametrize("broken", ["no-such-compiler", "'unbalanced", "false", " "])
def test_a_broken_cc_is_passed_over(monkeypatch, broken):
    expected = build.find_compiler()
    monkeypatch.setenv("CC", broken)
    assert build.find_compiler() == expected


def test_a_broken_gategen_cc_is_not_replaced_behind_the_users_back(monkeypatch):
    monkeypatch.setenv("GATEGEN_CC", "/no/such/cc")
    assert build.find_compiler() is None
    assert "GATEGEN_CC is set to '/no/such/cc'" in build.missing_compiler()
    with pytest.raises(BuildError, match="GATEGEN_CC is set"):
        build.build(SOURCE, CDEF)


def test_no_compiler_at_all_names_the_package(monkeypatch, tmp_path, place):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert build.find_compiler() is None
    assert "install the package gcc" in build.missing_compiler()
    with pytest.raises(BuildError, match=r"no C compiler was found .*apt install gcc libc6-dev"):
        build.build(SOURCE, CDEF)
    assert not place.exists()


def test_the_version_is_asked_once_until_the_compiler_changes(fake, tmp_path):
    script = fake()
    assert build.find_compiler().version == "fake 1.0"
    assert build.find_compiler().version == "fake 1.0"
    assert calls(tmp_path) == ["--version"]
    script.write_text(script.read_text().replace("fake 1.0", "fake 1.0.1"))
    assert build.find_compiler().version == "fake 1.0.1"
    os.utime(script, ns=(1, 1))
    build.find_compiler()
    assert calls(tmp_path) == ["--version"] * 3


def test_a_wrapped_compilers_update_is_noticed(monkeypatch, tmp_path):
    for name, text in {"wrapper": 'exec "$@"', "inner": "echo inner 1.0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("GATEGEN_CC", f"{tmp_path / 'wrapper'} {tmp_path / 'inner'}")
    assert build.find_compiler().version == "inner 1.0"
    (tmp_path / "inner").write_text("#!/bin/sh\necho inner 1.0.1\n")
    assert build.find_compiler().version == "inner 1.0.1"


def test_standing_arguments_reach_the_compiler(monkeypatch):
    monkeypatch.setenv("CC", f"{build.find_compiler().path} -DANSWER=42")
    module = build.load(build.build("int f(void) { return ANSWER; }", "int f(void);"))
    assert module.lib.f() == 42


def test_without_march_native_a_second_attempt(fake, tmp_path):
    fake("""
case " $* " in *" -march=native "*) echo "error: bad value ('native') for '-march=' switch" >&2; exit 1;; esac
""")
    assert norm(build.build(SOURCE, CDEF)) == 5.0
    assert len(calls(tmp_path)) == 3


# Failures


@pytest.fixture
def unchanged(place):
    """Fails the test if it leaves the cache other than it was."""
    build.find_compiler()
    before = tree(place)
    yield
    assert tree(place) == before


@pytest.mark.usefixtures("unchanged")
def test_a_c_error_shows_command_and_message():
    with pytest.raises(BuildError) as caught:
        build.build("int f(void) { return undeclared_name; }", "int f(void);", name="broken")
    error = caught.value
    assert "failed with exit code 1" in error.problem
    assert "undeclared_name" in error.output
    assert "-O3" in error.command
    assert "gg_broken_" in error.command
    assert error.output.strip() in str(error)


@pytest.mark.usefixtures("unchanged")
def test_wrong_declarations():
    with pytest.raises(BuildError, match="declarations of gg_kernel_"):
        build.build(SOURCE, "this is no C;")


@pytest.mark.usefixtures("unchanged")
def test_a_missing_function_is_found_before_anything_is_stored():
    with pytest.raises(BuildError, match="cannot be loaded"):
        build.build("int f(void);", "int f(void);")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("echo internal compiler error >&2; exit 4", "failed with exit code 4"),
        ("exit 0", "wrote no library"),
        ("kill -9 $$", "killed by signal 9"),
        ("echo \"fatal error: 'limits.h' file not found\" >&2; exit 1", "install libc6-dev"),
        ('while [ "$1" != -o ]; do shift; done; echo garbage > "$2"; exit 0', "cannot be loaded"),
    ],
)
def test_a_compiler_that_misbehaves(fake, place, lines, problem):
    fake(lines)
    build.find_compiler()
    before = tree(place)
    for _ in range(2):
        with pytest.raises(BuildError, match=problem):
            build.build(SOURCE, CDEF)
    assert tree(place) == before


def test_a_compiler_that_vanishes():
    gone = build.Compiler("/no/such/cc", (), "gone 1.0")
    with pytest.raises(BuildError, match="cannot be started") as caught:
        build.build(SOURCE, CDEF, compiler=gone)
    assert caught.value.command.startswith("/no/such/cc ")


def test_a_compiler_that_asks_questions_gets_no_answer(fake):
    fake("read answer", version="read answer; echo fake 1.0")
    process = python(WORKER)
    try:
        process.wait(timeout=60)  # our end of its standard input stays open
        assert process.communicate() == ("5.0\n", "")
    finally:
        process.kill()


def test_the_compilers_temporary_files_go_into_the_private_folder(fake):
    fake('[ "$TMPDIR" = "$PWD" ] || exit 9')
    assert norm(build.build(SOURCE, CDEF)) == 5.0


def test_a_library_that_is_gone(place):
    with pytest.raises(BuildError, match=r"gg_gone\.so cannot be loaded"):
        build.load(place / "gg_gone.so")


# Machines without Python's headers


def test_without_python_headers_a_plain_library(monkeypatch, tmp_path):
    headers = {"include": str(tmp_path), "platinclude": str(tmp_path)}
    monkeypatch.setattr(compile_c.sysconfig, "get_paths", lambda: headers)
    path = build.build(SOURCE, CDEF)
    assert path.name.endswith(compile_c.PLAIN_SUFFIX)
    assert norm(path) == 5.0
    assert build.build(SOURCE, CDEF) == path
    with pytest.raises(BuildError, match="cannot be loaded"):
        build.build("int f(void);", "int f(void);")


def test_half_of_pythons_headers_are_as_good_as_none(monkeypatch, tmp_path):
    (tmp_path / "Python.h").write_text("#include <pyconfig.h>\n")
    headers = {"include": str(tmp_path), "platinclude": str(tmp_path)}
    monkeypatch.setattr(compile_c.sysconfig, "get_paths", lambda: headers)
    assert norm(build.build(SOURCE, CDEF)) == 5.0


def test_declarations_that_need_the_headers_name_the_package(monkeypatch, tmp_path):
    headers = {"include": str(tmp_path), "platinclude": str(tmp_path)}
    monkeypatch.setattr(compile_c.sysconfig, "get_paths", lambda: headers)
    with pytest.raises(BuildError, match=r"Python\.h.*install python3-dev"):
        build.build(SOURCE, CDEF + " static const int limit; struct part { int a; ...; };")


# The cache under stress


def replace(file, content):
    """As a copy or a crash would leave it; writing into a loaded library in place would kill this process."""
    (file.parent / "new").write_bytes(content)
    os.replace(file.parent / "new", file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: replace(path, path.read_bytes()[:5000]),
        lambda path: replace(path, path.read_bytes()[:-1] + b"\x7f"),
        lambda path: replace(path, b""),
        lambda path: path.unlink(),
        lambda path: replace(path.parent / "entry.json", b'{"files"'),
    ],
    ids=["truncated", "one byte", "empty", "deleted", "index"],
)
def test_a_damaged_library_is_built_again(fake, tmp_path, damage):
    fake()
    path = build.build(SOURCE, CDEF)
    sound = path.read_bytes()
    damage(path)
    again = build.build(SOURCE, CDEF)
    assert again == path
    assert again.read_bytes() == sound
    assert norm(again) == 5.0
    assert len(calls(tmp_path)) == 3
    assert python(WORKER).communicate() == ("5.0\n", "")


WORKER = f"""
import sys, time
from pathlib import Path
from gategen.runtime import build
if len(sys.argv) > 1 and sys.argv[1]:
    while not Path(sys.argv[1]).exists():
        time.sleep(0.001)
path = build.build({SOURCE!r}, {CDEF!r})
module = build.load(path)
x = module.ffi.new("double[]", [3.0, 4.0])
print(module.lib.toy_norm(module.ffi.new("toy_vector *", {{"n": 2, "x": x}})))
"""


def test_six_processes_at_once_leave_one_entry(place, tmp_path):
    signal_file = tmp_path / "go"
    script = f"import sys; sys.argv[1:] = [{str(signal_file)!r}]\n{WORKER}"
    processes = [python(script) for _ in range(6)]
    time.sleep(0.3)
    signal_file.touch()
    answers = [process.communicate(timeout=120) for process in processes]
    assert answers == [("5.0\n", "")] * 6
    assert len(libraries(place)) == 1
    assert not list(place.glob("tmp-*"))
    assert norm(build.build(SOURCE, CDEF)) == 5.0


def test_kill_in_mid_build_breaks_nothing(fake, place, tmp_path):
    hang, pid = tmp_path / "hang", tmp_path / "pid"
    hang.touch()
    fake(
        f'if [ -e "{hang}" ]; then echo half > half.s; '
        f'echo $$ > "{pid}.new"; mv "{pid}.new" "{pid}"; exec sleep 600; fi'
    )
    victim = python(WORKER)
    deadline = time.monotonic() + 60
    while not pid.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.kill()
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    os.kill(int(pid.read_text()), signal.SIGKILL)
    left = list(place.glob("tmp-*"))
    assert len(left) == 1, "what the dead process left"
    hang.unlink()
    os.utime(left[0], (time.time() - cache.STALE_SECONDS - 60,) * 2)
    assert norm(build.build(SOURCE, CDEF)) == 5.0
    assert not list(place.glob("tmp-*"))
    assert len(libraries(place)) == 1


def test_an_unwritable_cache_still_builds(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GATEGEN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(GategenWarning, match="cannot be used") as caught:
        path = build.build(SOURCE, CDEF)
    assert len(caught) == 1
    assert path.is_relative_to(tmp_path / "temporary")
    assert norm(path) == 5.0
    assert build.build(SOURCE, CDEF) == path


def test_a_disk_that_fills_during_compilation(fake, place, tmp_path):
    fake(f'case "$PWD" in "{place}"*) echo "error: No space left on device" >&2; exit 1;; esac')
    with pytest.warns(GategenWarning, match="no space left"):
        path = build.build(SOURCE, CDEF)
    assert path.is_relative_to(tmp_path / "temporary")
    assert norm(path) == 5.0
    assert not libraries(place)


def test_a_folder_that_maps_no_libraries_is_replaced(monkeypatch, place, tmp_path):
    real = build._import

    def refuse(path):
        if path.is_relative_to(place):
            raise ImportError(f"{path}: failed to map segment from shared object")
        return real(path)

    monkeypatch.setattr(build, "_import", refuse)
    with pytest.warns(GategenWarning, match="libraries cannot be loaded"):
        path = build.build(SOURCE, CDEF)
    assert path.is_relative_to(tmp_path / "temporary")
    assert norm(path) == 5.0


# The cost of a warm start


def test_a_warm_start_imports_nothing_heavy():
    heavy = (
        "cffi",
        "pycparser",
        "setuptools",
        "distutils",
        "subprocess",
        "sysconfig",
        "numpy",
        "sympy",
        "jinja2",
    )
    cold = python(WORKER)
    assert cold.communicate() == ("5.0\n", "")
    warm = python(f"{WORKER}\nprint([name for name in {heavy!r} if name in sys.modules])")
    assert warm.communicate() == ("5.0\n[]\n", "")
