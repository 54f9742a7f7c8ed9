"""Objects in a folder: temporary names, rename, fsync; a lock file makes conditions atomic."""

import contextlib
import fcntl
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from cluster.digests import KnownCrc
from cluster.errors import (
    AccessError,
    FullError,
    NotFoundError,
    PreconditionError,
    UnsupportedError,
)
from cluster.stores.local.files import (
    LocalReader,
    check_etag,
    describe,
    etag_of,
    fill,
    make_folder,
    preallocate,
    sync_folder,
    translated,
    write_new,
)
from cluster.stores.local.upload import HIDDEN, UPLOAD, LocalUpload
from cluster.stores.seals import split_seal
from cluster.stores.store import ObjectInfo, PartCheck, UploadInfo

LOCK_NAME = ".metafuse-lock"


class LocalStore:
    """Objects below one folder; keys are relative paths."""

    is_remote = False

    def __init__(self, root: str) -> None:
        self._root = Path(root).expanduser().absolute()
        self.uri = str(self._root)

    def head(self, key: str, /, *, version: str | None = None) -> ObjectInfo:
        self._refuse_version(version)
        with translated(self.uri, key):
            entry, facts = self._look(key)
            self._check_owner(key, facts)
            return entry

    def find_crc(
        self,
        key: str,
        /,
        *,
        if_match: str | None = None,
        version: str | None = None,
        every_part: bool = False,
    ) -> KnownCrc | None:
        self._refuse_version(version)
        with self._opened(key, if_match):
            return None  # a folder keeps bytes alone

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
            with contextlib.suppress(NotFoundError), translated(self.uri, key):
                yield self._look(key)[0]

    def read(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> bytes:
        self._refuse_version(version)
        with self._opened(key, if_match) as descriptor:
            size = os.fstat(descriptor).st_size
            content = bytearray(size)
            fill(descriptor, memoryview(content), 0, f"{self.uri}/{key}")
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
            fill(descriptor, buffer, start, f"{self.uri}/{key}")

    def open_reader(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> LocalReader:
        self._refuse_version(version)
        with translated(self.uri, key):
            descriptor = self._open(key, if_match)
        return LocalReader(descriptor, if_match, f"{self.uri}/{key}")

    def put(
        self,
        key: str,
        data: bytes,
        /,
        *,
        if_match: str | None = None,
        if_absent: bool = False,
        is_durable: bool = True,
    ) -> ObjectInfo:
        target = self.path(key)
        with translated(self.uri, key):
            make_folder(target.parent)
            aside = target.with_name(f"{HIDDEN}{uuid.uuid4().hex}")
            try:
                write_new(aside, data, is_durable=is_durable)
                with self._locked() if if_match or if_absent else contextlib.nullcontext():
                    self._check_condition(key, target, if_match, if_absent=if_absent)
                    entry = describe(key, aside.stat())
                    aside.replace(target)
            finally:
                aside.unlink(missing_ok=True)
            if is_durable:
                sync_folder(target.parent)
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

    def start_upload(self, key: str, /, *, size: int, metadata: Mapping[str, str]) -> LocalUpload:
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
            upload_id = f"{HIDDEN}{uuid.uuid4().hex}-{target.name}{UPLOAD}"
            aside = target.with_name(upload_id)
            try:
                preallocate(aside, size)
            except OSError:
                aside.unlink(missing_ok=True)
                raise
        return LocalUpload(self.uri, self.path(key), key, upload_id, size)

    def resume_upload(self, key: str, upload_id: str, /, *, size: int) -> LocalUpload:
        return LocalUpload(self.uri, self.path(key), key, upload_id, size)

    def list_uploads(self, prefix: str = "", /) -> Iterator[UploadInfo]:
        found = []
        for folder, _, names in os.walk(self._start(prefix)):
            below = Path(folder).relative_to(self._root).as_posix()
            stem = "" if below == "." else below + "/"
            for name in names:
                if not (name.startswith(HIDDEN) and name.endswith(UPLOAD)):
                    continue
                key = stem + name.removesuffix(UPLOAD).partition("-")[2].partition("-")[2]
                if key.startswith(prefix):
                    found.append((key, name, Path(folder) / name))
        for key, name, path in sorted(found):
            with contextlib.suppress(FileNotFoundError):  # ended meanwhile
                facts = path.stat()
                yield UploadInfo(key, name, facts.st_mtime, facts.st_blocks * 512)

    def find_part_check(self, key: str, /) -> PartCheck:
        return "local"

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

    def _look(self, key: str) -> tuple[ObjectInfo, os.stat_result]:
        """What is said of a regular file, or of whatever a link out of the store leads to."""
        try:
            real, root = self.path(key).resolve(strict=True), self._root.resolve()
        except RuntimeError:  # what Python before 3.13 says of links in a circle
            raise NotFoundError(f"{self.uri}/{key} is a link to itself") from None
        facts = real.stat()
        outside = "" if real.is_relative_to(root) else str(real)
        if not outside and not stat.S_ISREG(facts.st_mode):
            raise NotFoundError(f"{self.uri}/{key} is not a regular file")
        return describe(key, facts, outside), facts

    def _check_owner(self, key: str, facts: os.stat_result) -> None:
        """Refuse a second name that someone gave to a file which is not his."""
        if facts.st_nlink == 1:
            return
        if facts.st_uid != self.path(key).resolve().parent.stat().st_uid:
            raise AccessError(
                f"{self.uri}/{key} is a second name of another owner's file; it was not opened",
                "copy the file to where the name stands",
            )

    def _open(self, key: str, if_match: str | None) -> int:
        """A descriptor of a regular file; what lies outside is opened by its etag alone."""
        entry, facts = self._look(key)
        self._check_owner(key, facts)
        if entry.outside and if_match is None:
            raise AccessError(
                f"{self.uri}/{key} is a link that leaves {self.uri}; it was not opened",
                "copy the file to where the link stands",
            )
        if not stat.S_ISREG(facts.st_mode):
            raise NotFoundError(f"{self.uri}/{key} is not a regular file")
        if entry.outside and if_match is not None and split_seal(if_match)[0] != entry.etag:
            raise PreconditionError(f"{self.uri}/{key} is {entry.etag}, not {if_match}")
        return os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)

    def _start(self, prefix: str) -> Path:
        folder = prefix.rpartition("/")[0]
        return self.path(folder) if folder else self._root

    @contextlib.contextmanager
    def _opened(self, key: str, if_match: str | None) -> Iterator[int]:
        with translated(self.uri, key):
            descriptor = self._open(key, if_match)
            try:
                check_etag(descriptor, if_match, f"{self.uri}/{key}")
                try:
                    yield descriptor
                finally:
                    # Also after a failure: that the file changed explains it best.
                    check_etag(descriptor, if_match, f"{self.uri}/{key}")
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
            etag = etag_of(target.stat())
        except FileNotFoundError:
            etag = None
        if if_absent and etag is not None:
            raise PreconditionError(f"{self.uri}/{key} exists")
        if if_match is not None and etag != if_match:
            raise PreconditionError(f"{self.uri}/{key} is {etag}, not {if_match}")

    def _refuse_version(self, version: str | None) -> None:
        if version is not None:
            raise UnsupportedError(f"{self.uri} keeps no versions")
