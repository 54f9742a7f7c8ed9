"""Files as a folder store needs them: exact ranged reads, etags, preallocation, errors as ours."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from cluster.digests import RunningDigest
from cluster.errors import (
    AccessError,
    ClusterError,
    FullError,
    MissingPlaceError,
    NotFoundError,
    OpenFilesError,
    PreconditionError,
    UnreachableError,
)
from cluster.stores.seals import find_checksum, seal, split_seal
from cluster.stores.store import ObjectInfo, Part

VERIFY_BYTES = 4 << 20


class LocalReader:
    """An open file; its etag is asked again after every read."""

    def __init__(self, descriptor: int, if_match: str | None, where: str) -> None:
        self._descriptor = descriptor
        self._if_match = if_match
        self._where = where
        self._changed_ns = -1
        try:
            self._check()
        except PreconditionError:
            self.close()
            raise

    def read_into(self, buffer: memoryview, /, *, start: int) -> None:
        try:
            fill(self._descriptor, buffer, start, self._where)
        except OSError as error:
            # It may have ended early because it is another file by now: that goes first.
            self._check()
            raise_translated(error, self._where)
        self._check()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _check(self) -> None:
        """Raise PreconditionError unless it is what was meant; what was seen is not asked twice."""
        if self._if_match is not None and self._changed_ns >= 0:
            facts = os.fstat(self._descriptor)
            etag = split_seal(self._if_match)[0]
            if (self._changed_ns, etag) == (facts.st_ctime_ns, etag_of(facts)):
                return
        self._changed_ns = check_etag(self._descriptor, self._if_match, self._where)

    def __del__(self) -> None:
        self.close()


@contextlib.contextmanager
def translated(uri: str, key: str) -> Iterator[None]:
    """Turn errors of the operating system into ours."""
    try:
        yield
    except ClusterError:
        raise
    except OSError as error:
        raise_translated(error, f"{uri}/{key}")


def raise_translated(error: OSError, where: str) -> NoReturn:
    """Raise what an error of the operating system means to us."""
    if isinstance(error, ClusterError):
        raise error
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise FullError(
            f"no space left for {where}", "free some space and run the same command again"
        ) from None
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        raise AccessError(
            f"{where}: {error.strerror}", "check the owner and mode of the folder"
        ) from None
    if error.errno in (errno.ENOENT, errno.EISDIR, errno.ELOOP):
        raise NotFoundError(f"{where} does not exist") from None
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        raise MissingPlaceError(
            f"{where}: a part of this path is a file, not a folder", "choose another folder"
        ) from None
    if error.errno in (errno.EMFILE, errno.ENFILE):
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        whose = f"a process may have {allowed:,} (ulimit -n)"
        raise OpenFilesError(
            f"{where} was not opened: too many files are open, "
            f"{whose if error.errno == errno.EMFILE else 'this machine has no more'}",
            "raise the limit (ulimit -n 8192) and run the same command again, or use fewer workers",
        ) from None
    raise UnreachableError(f"{where}: {error.strerror}") from None


def describe(key: str, facts: os.stat_result, outside: str = "") -> ObjectInfo:
    """What the file system says of one object; `outside` as `ObjectInfo` has it."""
    return ObjectInfo(
        key,
        facts.st_size,
        etag_of(facts),
        None,
        facts.st_mtime,
        outside=outside,
        changed_ns=facts.st_ctime_ns,
    )


def etag_of(facts: os.stat_result) -> str:
    """Changes whenever a file is written or replaced: modification time, inode, size."""
    return f"{facts.st_mtime_ns:x}-{facts.st_ino:x}-{facts.st_size:x}"


def check_etag(descriptor: int, if_match: str | None, where: str) -> int:
    """Raise PreconditionError unless the open file is the one that was meant.

    Where of a sealed etag the change time alone differs, blocks of the file are compared.

    Returns:
        The change time of the file in nanoseconds since 1970.
    """
    facts = os.fstat(descriptor)
    if if_match is None:
        return facts.st_ctime_ns
    etag, changed_ns, checksum = split_seal(if_match)
    if etag_of(facts) != etag:
        raise PreconditionError(f"{where} is {etag_of(facts)}, not {if_match}")
    if changed_ns not in (None, facts.st_ctime_ns):
        found = find_checksum(_OpenFile(descriptor, where), facts.st_size)
        if found != checksum:
            raise PreconditionError(
                f"{where} is {seal(etag, facts.st_ctime_ns, found)}, not {if_match}"
            )
    return facts.st_ctime_ns


class _OpenFile:
    """An open file to be read as it is, whatever it is."""

    def __init__(self, descriptor: int, where: str) -> None:
        self._descriptor = descriptor
        self._where = where

    def read_into(self, buffer: memoryview, /, *, start: int) -> None:
        fill(self._descriptor, buffer, start, self._where)

    def close(self) -> None:
        """Nothing: it belongs to whoever opened it."""


def fill(descriptor: int, buffer: memoryview, start: int, where: str) -> None:
    """Read exactly as many bytes as the buffer holds, or raise UnreachableError."""
    done = 0
    while done < len(buffer):
        count = read_at(descriptor, buffer[done:], start + done)
        if count == 0:
            raise UnreachableError(
                f"{where}: bytes {start} to {start + len(buffer)} asked, it ends at {start + done}"
            )
        done += count


def read_at(descriptor: int, buffer: memoryview, start: int) -> int:
    """Read into a buffer; without preadv (some versions of macOS) by way of a copy."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], start)
    content = os.pread(descriptor, len(buffer), start)
    buffer[: len(content)] = content
    return len(content)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:  # of file systems that make no folders, such as /proc
        raise MissingPlaceError(f"{folder} cannot be created", "choose another folder") from None


def write_new(path: Path, data: bytes, *, is_durable: bool) -> None:
    """Write a file that does not exist yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if is_durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def preallocate(path: Path, size: int) -> None:
    """Make an empty file that has room for `size` bytes, as far as the system can promise."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        if size and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        os.truncate(descriptor, size)
    finally:
        os.close(descriptor)


def holds(descriptor: int, part: Part) -> bool:
    """Whether a range of an open file has the digests of a part."""
    found = RunningDigest(with_sha256=bool(part.sha256))
    buffer = bytearray(min(VERIFY_BYTES, max(part.size, 1)))
    done = 0
    while done < part.size:
        view = memoryview(buffer)[: part.size - done]
        count = read_at(descriptor, view, part.offset + done)
        if count == 0:
            return False
        found.update(view[:count])
        done += count
    return (found.crc64nvme, found.sha256) == (part.crc64nvme, part.sha256)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
