"""Objects in a folder: temporary names, rename, fsync; a lock file makes conditions atomic."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cluster.errors import (
    AccessError,
    ClusterError,
    FullError,
    MissingPlaceError,
    NotFoundError,
    PreconditionError,
    UnreachableError,
    UnsupportedError,
    UploadGoneError,
)
from cluster.store import ObjectInfo, Part

LOCK_NAME = ".metafuse-lock"
HIDDEN = ".metafuse-"
VERIFY_BYTES = 4 << 20


class LocalStore:
    """Objects below one folder; keys are relative paths."""

    def __init__(self, root: str) -> None:
        self._root = Path(root).expanduser().absolute()
        self.uri = str(self._root)

    def head(self, key: str, /) -> ObjectInfo:
        with translated(self.uri, key):
            return _describe(key, self._existing(key).stat())

    def list(self, prefix: str = "", /) -> Iterator[ObjectInfo]:
        found: list[str] = []
        for folder, _, names in os.walk(self._start(prefix)):
            below = Path(folder).relative_to(self._root).as_posix()
            stem = "" if below == "." else below + "/"
            found += [
                stem + name
                for name in names
                if not name.startswith(HIDDEN) and (stem + name).startswith(prefix)
            ]
        for key in sorted(found):
            with contextlib.suppress(NotFoundError):
                yield self.head(key)

    def read(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> bytes:
        self._refuse_version(version)
        with self._opened(key, if_match) as descriptor:
            size = os.fstat(descriptor).st_size
            content = bytearray(size)
            _fill(descriptor, memoryview(content), 0, f"{self.uri}/{key}")
            return bytes(content)

    def read_into(
        self,
        key: str,
        buffer: memoryview,
        /,
        *,
        start: int,
        if_match: str | None = None,
        version: str | None = None,
    ) -> None:
        self._refuse_version(version)
        with self._opened(key, if_match) as descriptor:
            _fill(descriptor, buffer, start, f"{self.uri}/{key}")

    def put(
        self, key: str, data: bytes, /, *, if_match: str | None = None, if_absent: bool = False
    ) -> ObjectInfo:
        target = self.path(key)
        with translated(self.uri, key):
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f"{HIDDEN}{uuid.uuid4().hex}")
            try:
                _write_new(aside, data)
                with self._locked() if if_match or if_absent else contextlib.nullcontext():
                    self._check_condition(key, target, if_match, if_absent=if_absent)
                    entry = _describe(key, aside.stat())
                    aside.replace(target)
            finally:
                aside.unlink(missing_ok=True)
            _sync_folder(target.parent)
        return entry

    def delete(self, key: str, /) -> None:
        with translated(self.uri, key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path = self.path(key)
            path.unlink()
            for folder in path.parents:
                if folder == self._root:
                    break
                try:
                    folder.rmdir()
                except OSError:
                    break  # not empty: other objects live there

    def start_upload(self, key: str, /, *, size: int, metadata: Mapping[str, str]) -> "LocalUpload":
        """As the protocol says; a folder keeps no metadata."""
        target = self.path(key)
        with translated(self.uri, key):
            target.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(target.parent).free
            if free < size:
                raise FullError(
                    f"{self.uri}/{key} needs {size:,} bytes, {free:,} are free; nothing written",
                    "free some space and run the same command again",
                )
            upload_id = f"{HIDDEN}{uuid.uuid4().hex}.part"
            aside = target.with_name(upload_id)
            try:
                _preallocate(aside, size)
            except OSError:
                aside.unlink(missing_ok=True)
                raise
        return LocalUpload(self, key, upload_id, size)

    def resume_upload(self, key: str, upload_id: str, /, *, size: int) -> "LocalUpload":
        return LocalUpload(self, key, upload_id, size)

    def path(self, key: str) -> Path:
        """Where the object of this key lies.

        Raises:
            UnsupportedError: the key would leave the root.
        """
        parts = key.split("/")
        wrong = not key or any(part in ("", ".", "..") for part in parts)
        if wrong or "\0" in key or "\\" in key or key.startswith("/"):
            raise UnsupportedError(f"{key!r} is not a key: it would leave {self.uri}")
        return self._root.joinpath(*parts)

    def _existing(self, key: str) -> Path:
        """The path of an object that is a regular file inside the root."""
        path = self.path(key)
        real, root = path.resolve(strict=True), self._root.resolve()
        if not real.is_relative_to(root):
            raise AccessError(
                f"{self.uri}/{key} is a link that leaves {self.uri}; it was not opened",
                "copy the file to where the link stands",
            )
        if not stat.S_ISREG(real.stat().st_mode):
            raise NotFoundError(f"{self.uri}/{key} is not a regular file")
        return path

    def _start(self, prefix: str) -> Path:
        folder = prefix.rpartition("/")[0]
        return self.path(folder) if folder else self._root

    @contextlib.contextmanager
    def _opened(self, key: str, if_match: str | None) -> Iterator[int]:
        with translated(self.uri, key):
            descriptor = os.open(self._existing(key), os.O_RDONLY | os.O_CLOEXEC)
            try:
                _check_etag(descriptor, if_match, f"{self.uri}/{key}")
                yield descriptor
                _check_etag(descriptor, if_match, f"{self.uri}/{key}")
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._root / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _check_condition(
        self, key: str, target: Path, if_match: str | None, *, if_absent: bool
    ) -> None:
        try:
            etag = _etag(target.stat())
        except FileNotFoundError:
            etag = None
        if if_absent and etag is not None:
            raise PreconditionError(f"{self.uri}/{key} exists")
        if if_match is not None and etag != if_match:
            raise PreconditionError(f"{self.uri}/{key} is {etag}, not {if_match}")

    def _refuse_version(self, version: str | None) -> None:
        if version is not None:
            raise UnsupportedError(f"{self.uri} keeps no versions")


class LocalUpload:
    """A preallocated file under a temporary name beside its target."""

    def __init__(self, store: LocalStore, key: str, upload_id: str, size: int) -> None:
        self.key = key
        self.id = upload_id
        self._uri = store.uri
        self._size = size
        self._target = store.path(key)
        if "/" in upload_id or not upload_id.startswith(HIDDEN):
            raise UnsupportedError(f"{upload_id!r} is not an upload of {store.uri}")
        self._aside = self._target.with_name(upload_id)

    def write_part(self, number: int, data: memoryview, /, *, offset: int, sha256: str) -> Part:
        with translated(self._uri, self.key):
            try:
                descriptor = os.open(self._aside, os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise UploadGoneError(
                    f"upload {self.id} of {self._uri}/{self.key} is gone"
                ) from None
            try:
                done = 0
                while done < len(data):
                    done += os.pwrite(descriptor, data[done:], offset + done)
            finally:
                os.close(descriptor)
        return Part(number, offset, len(data), sha256, sha256)

    def is_open(self) -> bool:
        return self._aside.exists()

    def find_parts(self, parts: Iterable[Part], /) -> frozenset[int]:
        with translated(self._uri, self.key):
            try:
                descriptor = os.open(self._aside, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return frozenset()
            try:
                return frozenset(part.number for part in parts if _holds(descriptor, part))
            finally:
                os.close(descriptor)

    def complete(self, parts: Sequence[Part], /) -> ObjectInfo:
        with translated(self._uri, self.key):
            try:
                descriptor = os.open(self._aside, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return self._finished()
            try:
                size = os.fstat(descriptor).st_size
                if size != self._size or sum(part.size for part in parts) != size:
                    raise UploadGoneError(
                        f"upload {self.id} of {self._uri}/{self.key} is not whole: {size} bytes, "
                        f"{self._size} expected"
                    )
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._aside.replace(self._target)
            _sync_folder(self._target.parent)
            return _describe(self.key, self._target.stat())

    def abort(self) -> None:
        with translated(self._uri, self.key):
            self._aside.unlink(missing_ok=True)

    def _finished(self) -> ObjectInfo:
        try:
            entry = _describe(self.key, self._target.stat())
        except FileNotFoundError:
            entry = None
        if entry is None or entry.size != self._size:
            raise UploadGoneError(f"upload {self.id} of {self._uri}/{self.key} is gone")
        return entry


@contextlib.contextmanager
def translated(uri: str, key: str) -> Iterator[None]:
    """Turn errors of the operating system into ours."""
    try:
        yield
    except ClusterError:
        raise
    except OSError as error:
        where = f"{uri}/{key}"
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
        raise UnreachableError(f"{where}: {error.strerror}") from None


def _describe(key: str, facts: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, facts.st_size, _etag(facts), None, facts.st_mtime)


def _etag(facts: os.stat_result) -> str:
    return f"{facts.st_mtime_ns:x}-{facts.st_ino:x}-{facts.st_size:x}"


def _check_etag(descriptor: int, if_match: str | None, where: str) -> None:
    etag = _etag(os.fstat(descriptor))
    if if_match is not None and etag != if_match:
        raise PreconditionError(f"{where} is {etag}, not {if_match}")


def _fill(descriptor: int, buffer: memoryview, start: int, where: str) -> None:
    done = 0
    while done < len(buffer):
        count = _read_at(descriptor, buffer[done:], start + done)
        if count == 0:
            raise UnreachableError(
                f"{where}: bytes {start} to {start + len(buffer)} asked, it ends at {start + done}"
            )
        done += count


def _read_at(descriptor: int, buffer: memoryview, start: int) -> int:
    """Read into a buffer; without preadv (some versions of macOS) by way of a copy."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], start)
    content = os.pread(descriptor, len(buffer), start)
    buffer[: len(content)] = content
    return len(content)


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _preallocate(path: Path, size: int) -> None:
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


def _holds(descriptor: int, part: Part) -> bool:
    found = hashlib.sha256()
    buffer = bytearray(min(VERIFY_BYTES, max(part.size, 1)))
    done = 0
    while done < part.size:
        view = memoryview(buffer)[: part.size - done]
        count = _read_at(descriptor, view, part.offset + done)
        if count == 0:
            return False
        found.update(view[:count])
        done += count
    return found.hexdigest() == part.sha256


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
