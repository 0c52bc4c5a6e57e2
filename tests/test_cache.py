"""The cache: which folder, what an entry is, and what happens when either cannot be had."""

from __future__ import annotations

import errno
import json
import os
import pwd
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from gategen.errors import CacheError, GategenWarning
from gategen.runtime import cache

ROOT = Path(__file__).resolve().parents[1]
KEY = cache.key("some entry")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A cache folder and a temporary folder of the test's own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("GATEGEN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(text):
    return lambda folder: (folder / "file.txt").write_text(text) and None


def stored(key=KEY, text="content", **options):
    return cache.store(key, write(text), **options)


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def as_new_process(monkeypatch):
    monkeypatch.setattr(cache, "_replacement", {})


# Which folder


def test_the_users_setting_comes_first_and_the_folder_is_private(place):
    assert cache.folder() == place
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_relative_setting_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEGEN_CACHE_DIR", "here")
    assert cache.folder() == tmp_path / "here"


def test_xdg_then_home(monkeypatch, tmp_path):
    monkeypatch.delenv("GATEGEN_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "gategen"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/invalid")
    assert cache.folder() == tmp_path / "home" / ".cache" / "gategen"


def test_without_home_or_user_name_a_temporary_folder_by_number(monkeypatch, tmp_path):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("GATEGEN_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache.folder() == tmp_path / "temporary" / f"gategen-uid{os.getuid()}"
    assert stat.S_IMODE(cache.folder().stat().st_mode) == 0o700
    assert cache.lookup(KEY) is None
    assert stored() == cache.lookup(KEY)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720, 0o1777])
def test_a_folder_that_others_can_write_is_refused(place, mode):
    place.mkdir()
    place.chmod(mode)
    for use in (cache.folder, stored, lambda: cache.lookup(KEY), lambda: cache.read_manifest(KEY)):
        with pytest.raises(CacheError, match=r"other users can write .*chmod go-w") as caught:
            use()
        assert str(place) in str(caught.value)
    assert tree(place) == []


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_folder_that_others_can_only_read_is_accepted(place, mode):
    place.mkdir()
    place.chmod(mode)
    assert cache.folder() == place


def test_a_foreign_folder_is_refused(place, monkeypatch):
    stored()
    monkeypatch.setattr(os, "getuid", lambda: place.stat().st_uid + 1)
    for use in (cache.folder, stored, lambda: cache.lookup(KEY)):
        with pytest.raises(CacheError, match="belongs to another user; set GATEGEN_CACHE_DIR"):
            use()


@pytest.mark.parametrize("look", ["lstat", "stat"])
def test_a_link_and_its_target_must_both_be_ours(place, monkeypatch, tmp_path, look):
    (tmp_path / "real").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "real")
    assert cache.folder() == place
    ours = place.stat()
    foreign = os.stat_result((*ours[:4], ours.st_uid + 1, *ours[5:10]))
    real = getattr(Path, look)

    def answer(self, **options):
        return foreign if self == place and not options else real(self, **options)

    monkeypatch.setattr(Path, look, answer)
    with pytest.raises(CacheError, match="belongs to another user"):
        cache.folder()


# Folders that do not work


def test_an_unwritable_folder_is_replaced_with_one_warning(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GATEGEN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert cache.lookup(KEY) is None
    with pytest.warns(GategenWarning, match=r"cannot be used .*set GATEGEN_CACHE_DIR") as caught:
        entry = stored()
    assert len(caught) == 1
    assert (entry / "file.txt").read_text() == "content"
    assert cache.lookup(KEY) == entry
    assert cache.folder() == tmp_path / "temporary" / f"gategen-uid{os.getuid()}"
    stored(cache.key("second"))  # a second warning would be an error here


def forbid_writing(monkeypatch, place):
    """As a read-only file system answers, also to root."""
    real_access, real_mkdir = os.access, os.mkdir

    def access(path, mode, **options):
        below = Path(os.path.abspath(path)).is_relative_to(place)
        return not (below and mode & os.W_OK) and real_access(path, mode, **options)

    def mkdir(path, *arguments, **options):
        if Path(path) != place and Path(os.path.abspath(path)).is_relative_to(place):
            raise OSError(errno.EROFS, "Read-only file system")
        real_mkdir(path, *arguments, **options)

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(os, "mkdir", mkdir)


def test_a_read_only_cache_is_read_and_written_beside(place, monkeypatch, tmp_path):
    stored()
    forbid_writing(monkeypatch, place)
    assert cache.lookup(KEY) == place / "v1" / KEY[:2] / KEY  # and no warning
    other = cache.key("other")
    with pytest.warns(GategenWarning, match="not writable"):
        entry = stored(other)
    assert entry.is_relative_to(tmp_path / "temporary")
    assert cache.lookup(KEY) is not None
    as_new_process(monkeypatch)
    assert cache.lookup(other) == entry, "the next process starts warm, and without a warning"


def test_a_full_disk_makes_way_for_a_temporary_folder(place, tmp_path):
    attempts = []

    def fill(folder):
        attempts.append(folder)
        (folder / "half").write_text("half")
        if folder.is_relative_to(place):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.warns(GategenWarning, match="No space left"):
        entry = cache.store(KEY, fill)
    assert len(attempts) == 2
    assert entry.is_relative_to(tmp_path / "temporary")
    assert not list(place.glob("tmp-*"))
    assert cache.lookup(KEY) == entry


def test_nowhere_to_write_is_one_clear_error(monkeypatch):
    def fill(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.warns(GategenWarning),
        pytest.raises(CacheError, match="neither the cache nor a temporary folder can be written"),
    ):
        cache.store(KEY, fill)


def test_a_noexec_folder_is_replaced(place, monkeypatch):
    stored()
    monkeypatch.setattr(cache, "_forbids_execution", lambda folder: folder == place)
    assert cache.lookup(KEY) is None
    with pytest.warns(GategenWarning, match="noexec"):
        assert not stored().is_relative_to(place)


def test_noexec_is_read_from_the_file_system(place, monkeypatch):
    place.mkdir(mode=0o700)
    assert not cache._forbids_execution(place)
    real = os.statvfs(place)
    flagged = os.statvfs_result((*real[:8], real.f_flag | os.ST_NOEXEC, *real[9:10]))
    monkeypatch.setattr(os, "statvfs", lambda path: flagged)
    assert cache._forbids_execution(place)


def test_a_squatted_temporary_folder_is_not_used(monkeypatch, tmp_path):
    squatted = tmp_path / "temporary" / f"gategen-uid{os.getuid()}"
    squatted.mkdir()
    squatted.chmod(0o777)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GATEGEN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert cache.lookup(KEY) is None
    with pytest.warns(GategenWarning):
        entry = stored()
    assert entry.is_relative_to(tmp_path / "temporary")
    assert not entry.is_relative_to(squatted)
    assert stat.S_IMODE(cache.folder().stat().st_mode) == 0o700


def test_the_fresh_temporary_folder_outlives_a_forked_child_but_not_the_process(tmp_path):
    (tmp_path / "fresh").mkdir()
    script = f"""
import os, sys
from pathlib import Path
from gategen.runtime import cache
folder = Path({str(tmp_path / "fresh")!r})
cache._remove_at_exit(folder)
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
print(folder.exists())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
    assert not (tmp_path / "fresh").exists()


# Entries


def test_store_then_lookup(place):
    assert cache.lookup(KEY) is None
    entry = stored(label="toy")
    assert entry == cache.lookup(KEY) == place / "v1" / KEY[:2] / KEY
    assert (entry / "file.txt").read_text() == "content"
    assert tree(entry) == ["entry.json", "file.txt"]
    assert tree(place)[:3] == ["v1", f"v1/{KEY[:2]}", f"v1/{KEY[:2]}/{KEY}"]
    assert cache.lookup(cache.key("another")) is None


def test_an_intact_entry_is_not_filled_again():
    def fill(folder):
        raise AssertionError("there is an entry")

    stored()
    assert (cache.store(KEY, fill) / "file.txt").read_text() == "content"
    assert (stored(text="other", replace=True) / "file.txt").read_text() == "other"
    assert cache.lookup(KEY) is not None


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "file.txt").write_text("conten"),
        lambda entry: (entry / "file.txt").write_text("Content"),
        lambda entry: (entry / "file.txt").unlink(),
        lambda entry: (entry / "entry.json").unlink(),
        lambda entry: (entry / "entry.json").write_bytes(b""),
        lambda entry: (entry / "entry.json").write_bytes(b'{"files": {"file.txt'),
        lambda entry: (entry / "entry.json").write_bytes(b"[1, 2]"),
        lambda entry: (entry / "entry.json").write_bytes(b'{"files": 3}'),
        lambda entry: (entry / "entry.json").write_bytes(b"\xff\xfe"),
        lambda entry: (entry / "entry.json").write_bytes(b"[" * 100_000),
        lambda entry: (entry / "entry.json").write_bytes(b'{"files": {"file.txt": null}}'),
    ],
)
def test_a_damaged_entry_counts_as_missing_and_is_written_again(place, damage):
    damage(stored())
    assert cache.lookup(KEY) is None
    assert (stored() / "file.txt").read_text() == "content"
    assert cache.lookup(KEY) == place / "v1" / KEY[:2] / KEY
    assert not list(place.glob("tmp-*"))


def test_a_failing_fill_leaves_nothing(place):
    stored(cache.key("before"))
    before = tree(place)

    def fill(folder):
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.store(KEY, fill)
    assert tree(place) == before


def test_the_loser_of_a_race_uses_the_winners_entry(place):
    def fill(folder):
        (folder / "file.txt").write_text("loser")
        stored(text="winner")

    entry = cache.store(KEY, fill)
    assert (entry / "file.txt").read_text() == "winner"
    assert not list(place.glob("tmp-*"))


def test_who_cannot_publish_uses_the_private_copy(place, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    entry = stored()
    assert entry.name.startswith("tmp-")
    assert (entry / "file.txt").read_text() == "content"
    assert cache.lookup(KEY) is None


def test_a_reader_never_sees_half_an_entry():
    seen, finished = set(), threading.Event()

    def read():
        while not finished.is_set():
            manifest = cache.read_manifest(KEY)
            seen.add("nothing" if manifest is None else len({manifest["a"], manifest["b"]}))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(200):
            cache.write_manifest(KEY, {"a": number, "padding": "x" * 5000, "b": number})
    finally:
        finished.set()
        reader.join()
    assert seen <= {"nothing", 1}
    assert 1 in seen


def test_stale_private_folders_are_swept_and_young_ones_kept(place):
    cache.folder()
    young, old, foreign = place / "tmp-1-aaaaaaaaaaaa", place / "tmp-2-bbbbbbbbbbbb", place / "tmp-notes"
    for folder in (young, old, foreign):
        folder.mkdir()
        (folder / "half.c").write_text("int")
    for folder in (old, foreign):
        os.utime(folder, (time.time() - cache.STALE_SECONDS - 60,) * 2)
    stored()
    assert young.exists()
    assert foreign.exists()
    assert not old.exists()


# Manifests


def test_manifest_round_trip_and_replacement():
    assert cache.read_manifest(KEY) is None
    cache.write_manifest(KEY, {"name": "gru", "widths": [1, 2], "über": None})
    assert cache.read_manifest(KEY) == {"name": "gru", "widths": [1, 2], "über": None}
    cache.write_manifest(KEY, {"name": "lstm"})
    assert cache.read_manifest(KEY) == {"name": "lstm"}


def test_an_entry_without_manifest_has_none():
    stored()
    assert cache.read_manifest(KEY) is None


def test_the_cache_holds_text_that_json_reads(place):
    cache.write_manifest(KEY, {"name": "gru"})
    for file in place.rglob("*.json"):
        json.loads(file.read_text())


# Keys


def test_keys_do_not_run_together():
    lists = [(), ("",), ("", ""), ("ab",), ("a", "b"), ("b", "a"), ("a", "", "b"), ("1:a",), ("a\0b",)]
    keys = {cache.key(*parts) for parts in lists}
    assert len(keys) == len(lists)
    assert all(cache._KEY.fullmatch(key) for key in keys)
    assert cache.key("a", "b") == cache.key("a", "b")


def fake_package(tmp_path, monkeypatch, templates):
    package = tmp_path / "gategen"
    for file in ("runtime/cache.py", "errors.py"):
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text(file)
    (tmp_path / templates / "c").mkdir(parents=True)
    (tmp_path / templates / "c" / "kernel.c.j2").write_text("for")
    monkeypatch.setattr(cache, "__file__", str(package / "runtime" / "cache.py"))
    return package, tmp_path / templates


@pytest.mark.parametrize("templates", ["templates", "gategen/templates"])
def test_the_fingerprint_follows_every_source_and_template(tmp_path, monkeypatch, templates):
    package, templates = fake_package(tmp_path, monkeypatch, templates)
    compute = cache.fingerprint.__wrapped__
    seen = [compute()]
    assert compute() == seen[0]
    (package / "errors.py").write_text("errors.PY")
    seen.append(compute())
    (package / "new.py").write_text("")
    seen.append(compute())
    (templates / "c" / "kernel.c.j2").write_text("if")
    seen.append(compute())
    (templates / "c" / "kernel.c.j2").rename(templates / "c" / "other.c.j2")
    seen.append(compute())
    assert len(set(seen)) == len(seen)
    (package / "notes.txt").write_text("no source")
    assert compute() == seen[-1]


def test_the_fingerprint_does_not_depend_on_the_place(tmp_path, monkeypatch):
    found = set()
    for place in ("here", "there"):
        fake_package(tmp_path / place, monkeypatch, "templates")
        found.add(cache.fingerprint.__wrapped__())
    assert len(found) == 1


# Listing and clearing


def test_entries_are_listed_by_label():
    stored(cache.key("1"), label="lstm")
    stored(cache.key("2"), label="gru")
    first, second = cache.entries()
    assert (first.label, second.label) == ("gru", "lstm")
    assert first.key == cache.key("2")
    assert first.size == sum(file.stat().st_size for file in first.folder.iterdir()) > 0
    assert 0 <= first.age < 60


def test_clear_deletes_entries_even_damaged_ones(place):
    for number in range(5):
        stored(cache.key(str(number)))
    damaged = cache.store(KEY, lambda folder: (folder / "gg_toy.so").write_bytes(b"library") and None)
    (damaged / "entry.json").write_text("{")
    assert len(cache.entries()) == 6
    assert cache.clear() == 6
    assert cache.entries() == ()
    assert tree(place) == []
    assert cache.clear() == 0


def test_clear_leaves_what_is_not_ours(place):
    entry = stored()
    foreign = [
        place / "notes.txt",
        place / "tmp-notes" / "a.txt",
        place / "v1" / "notes.txt",
        place / "v1" / KEY[:2] / "notes.txt",
        place / "v1" / KEY[:2] / ("g" * 64) / "gg_toy.so",
        place / "v1" / "zz" / KEY / "gg_toy.so",
        place / "v2" / KEY[:2] / KEY / "entry.json",
        entry / "notes.txt",
    ]
    for file in foreign:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    cache.clear()
    assert all(file.read_text() == "mine" for file in foreign)
    assert not (entry / "entry.json").exists()
    assert not (entry / "file.txt").exists()


def test_clear_never_leaves_its_folder(place, tmp_path):
    outside = tmp_path / "precious.txt"
    outside.write_text("mine")
    entry = stored()
    (entry / "entry.json").write_text(json.dumps({"files": {"../../../../precious.txt": [4, "0"]}}))
    cache.clear()
    assert outside.read_text() == "mine"


def test_clear_leaves_a_build_in_progress(place):
    def fill(folder):
        (folder / "file.txt").write_text("content")
        cache.clear()

    entry = cache.store(KEY, fill)
    assert cache.lookup(KEY) == entry
