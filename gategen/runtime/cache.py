"""A folder of content-addressed entries, published whole and read without locks.

An entry is the folder ``<cache>/v1/<first two digits>/<key>/``: some files and ``entry.json``, which holds
the size and SHA-256 of each. Entries are filled in a private folder beside them and renamed into place, so a
reader sees all of an entry or nothing; what does not match its index counts as missing and is written again.
"""

from __future__ import annotations

import atexit
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gategen.errors import CacheError, GategenWarning

INDEX = "entry.json"
MANIFEST = "manifest.json"
OWN_PREFIX = "gg_"
"""Files of an entry start with this unless its index names them."""
STALE_SECONDS = 3600.0
"""A private folder this old was left by a process that died."""

_KEY = re.compile(r"[0-9a-f]{64}")
_PRIVATE = re.compile(r"tmp-[0-9]+-[0-9a-f]{12}")
_ADVICE = "set GATEGEN_CACHE_DIR to a folder of your own"

_lock = threading.Lock()
_replacement: dict[Path, Path] = {}
"""For a cache folder that proved unusable in this process: where its entries go instead."""


@dataclass(frozen=True)
class Entry:
    """One entry as ``gategen cache list`` shows it; ``size`` in bytes, ``age`` in seconds."""

    key: str
    label: str
    folder: Path
    size: int
    age: float


def key(*parts: str) -> str:
    """SHA-256 of the parts; each is preceded by its length, so no two lists of parts run together."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


@functools.cache
def fingerprint() -> str:
    """SHA-256 over gategen's own sources and templates: a changed package never meets its old manifests."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "templates"
    templates = inside if inside.is_dir() else package.parent / "templates"
    files = {*package.rglob("*.py"), *(path for path in templates.rglob("*") if path.is_file())}
    digest = hashlib.sha256()
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(package.parent)}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def folder() -> Path:
    """The folder that entries are written to; made if absent.

    Raises:
        CacheError: The folder is not ours alone, so code in it cannot be trusted.
    """
    wanted = _wanted()
    try:
        if wanted not in _replacement:
            _make(wanted)
        return _replacement.get(wanted, wanted)
    except OSError as why:
        return _fall_over(wanted, why)


def lookup(key: str) -> Path | None:
    """The folder of an intact entry, or None."""
    for place in _places():
        entry = _entry(place, key)
        if _intact(entry):
            return entry
    return None


def store(key: str, fill: Callable[[Path], None], *, label: str = "", replace: bool = False) -> Path:
    """Have ``fill`` write an entry's files into a private folder, publish them, and return where they are.

    Whoever loses a race uses the winner's entry; whoever cannot publish uses the private copy. If the cache
    folder cannot be written, a temporary one takes over and ``fill`` is called again. What else ``fill``
    raises passes through, and nothing is stored.

    Args:
        key: The entry's name, from `key`.
        fill: Writes files, not folders, into the folder given.
        label: What `entries` shows.
        replace: Whether an intact entry of that key is overwritten.

    Raises:
        CacheError: Neither the cache folder nor a temporary one can be written.
    """
    wanted, place = _wanted(), folder()
    try:
        return _store(place, key, fill, label, replace)
    except OSError as why:
        place = _fall_over(wanted, why)
    try:
        return _store(place, key, fill, label, replace)
    except OSError as why:
        raise CacheError(
            f"neither the cache nor a temporary folder can be written ({why})", str(place)
        ) from why


def read_manifest(key: str) -> dict[str, Any] | None:
    """What `write_manifest` stored under the key, or None."""
    entry = lookup(key)
    return None if entry is None else _read_json(entry / MANIFEST)


def write_manifest(key: str, manifest: dict[str, Any], *, label: str = "") -> None:
    """Store a dict of JSON values under a key, in place of an earlier one."""
    text = json.dumps(manifest, sort_keys=True, indent=1)

    def fill(private: Path) -> None:
        (private / MANIFEST).write_text(text, encoding="utf-8")

    store(key, fill, label=label, replace=True)


def entries() -> tuple[Entry, ...]:
    """Every entry in the cache folder, damaged ones included, by label and key."""
    found = []
    for entry in _entry_folders(folder()):
        index = _read_json(entry / INDEX) or {}
        try:
            files = [file.stat() for file in entry.iterdir()]
        except OSError:
            continue
        size = sum(file.st_size for file in files)
        age = time.time() - max((file.st_mtime for file in files), default=time.time())
        found.append(Entry(entry.name, str(index.get("label", "")), entry, size, max(age, 0.0)))
    return tuple(sorted(found, key=lambda entry: (entry.label, entry.key)))


def clear() -> int:
    """Delete the entries of the cache folder, and nothing that gategen did not write; the number deleted."""
    place = folder()
    _sweep(place)
    deleted = 0
    for entry in list(_entry_folders(place)):
        named = (_read_json(entry / INDEX) or {}).get("files")
        own = {INDEX, MANIFEST, *(named if isinstance(named, dict) else ())}
        for file in list(entry.iterdir()):
            if file.name in own or file.name.startswith(OWN_PREFIX):
                file.unlink(missing_ok=True)
        deleted += _remove_if_empty(entry)
        _remove_if_empty(entry.parent)
    _remove_if_empty(place / "v1")
    return deleted


def _wanted() -> Path:
    """The cache folder by the user's settings, whether usable or not."""
    own = os.environ.get("GATEGEN_CACHE_DIR")
    if own:
        return Path(os.path.abspath(os.path.expanduser(own)))
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):
        return Path(shared) / "gategen"
    home = os.path.expanduser("~")
    if os.path.isabs(home):
        return Path(home) / ".cache" / "gategen"
    return _personal_temporary()


def _personal_temporary() -> Path:
    """The temporary folder that all processes of this user share; by number, for users may have no name."""
    try:
        root = tempfile.gettempdir()
    except OSError as why:
        raise CacheError(f"no temporary folder can be written; {_ADVICE}") from why
    return Path(root) / f"gategen-uid{os.getuid() if os.name == 'posix' else 0}"


def _make(place: Path) -> None:
    """Make the folder; OSError says why it cannot hold code that we write and load."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_trust(place)
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "it is not writable")
    if _forbids_execution(place):
        raise PermissionError(errno.EACCES, "it is mounted noexec")


def _check_trust(place: Path) -> None:
    """Refuse a folder into which others can put code that we would load."""
    if os.name != "posix":
        return
    status = place.stat()
    if {status.st_uid, place.lstat().st_uid} != {os.getuid()}:
        raise CacheError(f"the cache folder belongs to another user; {_ADVICE}", str(place))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheError("other users can write to the cache folder; run chmod go-w on it", str(place))


def _forbids_execution(place: Path) -> bool:
    """Whether the file system refuses to load code, as /tmp does on hardened machines."""
    return os.name == "posix" and bool(os.statvfs(place).f_flag & getattr(os, "ST_NOEXEC", 0))


def _fall_over(wanted: Path, why: OSError) -> Path:
    """Choose a temporary folder in place of an unusable one, for the rest of the process, and warn once."""
    with _lock:
        if wanted in _replacement:
            return _replacement[wanted]
        _replacement[wanted] = place = _temporary(wanted)
    reason = why.strerror or str(why)
    text = (
        f"the cache folder {wanted} cannot be used ({reason}); {place} takes its place. To choose, {_ADVICE}"
    )
    warnings.warn(text, GategenWarning, stacklevel=4)
    return place


def _temporary(wanted: Path) -> Path:
    """A trusted temporary folder: this user's, else a fresh one that lasts as long as the process."""
    personal = _personal_temporary()
    try:
        if personal != wanted:
            _make(personal)
            return personal
    except (OSError, CacheError):
        pass  # somebody else made it first, or it cannot hold code: a fresh one is as good
    for root in (personal.parent, Path("/var/tmp"), Path("/dev/shm")):
        try:
            place = Path(tempfile.mkdtemp(prefix="gategen-", dir=root))
        except OSError:
            continue
        _remove_at_exit(place)
        if not _forbids_execution(place):
            return place
    raise CacheError(f"no temporary folder can hold compiled code; {_ADVICE}", str(wanted))


def _places() -> Iterator[Path]:
    """The folders to read from: the wanted one even if read-only, then what stands in for it."""
    wanted = _wanted()
    try:
        _check_trust(wanted)
        if not _forbids_execution(wanted):
            yield wanted
    except OSError:
        pass  # it does not exist yet
    if wanted in _replacement:
        yield _replacement[wanted]
    elif not os.access(wanted, os.W_OK):
        # An earlier process may have had to fall over; its entries are in the personal folder.
        personal = _personal_temporary()
        try:
            _check_trust(personal)
        except (OSError, CacheError):
            return
        if personal != wanted and not _forbids_execution(personal):
            yield personal


def _entry(place: Path, key: str) -> Path:
    return place / "v1" / key[:2] / key


def _entry_folders(place: Path) -> Iterator[Path]:
    """All folders below the cache folder that have the name of an entry."""
    for entry in (place / "v1").glob("*/*"):
        if _KEY.fullmatch(entry.name) and entry.parent.name == entry.name[:2] and entry.is_dir():
            yield entry


def _read_json(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None if there is none to be had."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _intact(entry: Path) -> bool:
    """Whether every file is as its index says; loading a truncated library would kill the process."""
    index = _read_json(entry / INDEX)
    files = index.get("files") if index else None
    try:
        return isinstance(files, dict) and all(_describe(entry / name) == files[name] for name in files)
    except OSError:
        return False


def _describe(file: Path) -> list[int | str]:
    content = file.read_bytes()
    return [len(content), hashlib.sha256(content).hexdigest()]


def _store(place: Path, key: str, fill: Callable[[Path], None], label: str, replace: bool) -> Path:
    """`store` in one given folder; OSError if that folder does not serve."""
    final = _entry(place, key)
    if not replace and _intact(final):
        return final
    _sweep(place)
    private = place / f"tmp-{os.getpid()}-{os.urandom(6).hex()}"
    private.mkdir(mode=0o700)
    try:
        fill(private)
        files = {file.name: _describe(file) for file in sorted(private.iterdir())}
        index = json.dumps({"label": label, "files": files}, indent=1)
        (private / INDEX).write_text(index, encoding="utf-8")
        return _publish(private, final, replace)
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise


def _publish(private: Path, final: Path, replace: bool) -> Path:
    """Move a finished entry into place and return where to read it from."""
    try:
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.rename(private, final)
        return final
    except OSError:
        pass  # an entry is there already, or this file system cannot rename a folder
    try:
        if replace or not _intact(final):
            _overwrite(private, final)
    except OSError:
        _remove_at_exit(private)
        return private
    shutil.rmtree(private, ignore_errors=True)
    return final


def _overwrite(private: Path, final: Path) -> None:
    """Replace an entry file by file; readers see it as missing until the last one is there."""
    for name in os.listdir(private):
        copy = private / f"copy-{name}"
        shutil.copyfile(private / name, copy)
        os.replace(copy, final / name)


def _sweep(place: Path) -> None:
    """Delete private folders whose process must have died."""
    for private in place.glob("tmp-*"):
        try:
            old = time.time() - private.stat().st_mtime > STALE_SECONDS
        except OSError:
            continue
        if old and _PRIVATE.fullmatch(private.name):
            shutil.rmtree(private, ignore_errors=True)


def _remove_if_empty(place: Path) -> bool:
    try:
        place.rmdir()
    except OSError:
        return False
    return True


def _remove_at_exit(place: Path) -> None:
    """Delete a folder when this process ends, but not when a forked child does."""
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(place, ignore_errors=True)

    atexit.register(remove)
