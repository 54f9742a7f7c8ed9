"""A large object in a folder: a preallocated file under a hidden name beside its target."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cluster.digests import RunningDigest
from cluster.errors import UnsupportedError, UploadGoneError
from cluster.stores.local.files import describe, holds, raise_translated, sync_folder, translated
from cluster.stores.parts import check_size
from cluster.stores.store import ObjectInfo, Part

HIDDEN = ".metafuse-"
UPLOAD = ".part"


class LocalUpload:
    """A preallocated file under a temporary name beside its target."""

    def __init__(self, uri: str, target: Path, key: str, upload_id: str, size: int) -> None:
        self.key = key
        self.id = upload_id
        self._uri = uri
        self._size = size
        self._target = target
        if "/" in upload_id or not upload_id.startswith(HIDDEN):
            raise UnsupportedError(f"{upload_id!r} is not an upload of {uri}")
        self._aside = self._target.with_name(upload_id)

    @property
    def place(self) -> str:
        """URI of the object that it will be."""
        return f"{self._uri}/{self.key}"

    def start_part(
        self, number: int, /, *, offset: int, size: int, with_sha256: bool
    ) -> "LocalPartWriter":
        with translated(self._uri, self.key):
            try:
                descriptor = os.open(self._aside, os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise self._gone() from None
        return LocalPartWriter(
            self, descriptor, number, offset=offset, size=size, with_sha256=with_sha256
        )

    def is_open(self) -> bool:
        return self._aside.exists()

    def check_open(self) -> None:
        """Refuse to go on with an upload that another process has completed or aborted.

        Raises:
            UploadGoneError: the upload was completed or aborted.
        """
        if not self.is_open():
            raise self._gone()

    def find_parts(self, parts: Iterable[Part], /) -> frozenset[int]:
        with translated(self._uri, self.key):
            try:
                descriptor = os.open(self._aside, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return frozenset()
            try:
                return frozenset(part.number for part in parts if holds(descriptor, part))
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
            try:
                self._aside.replace(self._target)
            except FileNotFoundError:
                return self._finished()  # another driver completed it meanwhile
            sync_folder(self._target.parent)
            return describe(self.key, self._target.stat())

    def abort(self) -> None:
        with translated(self._uri, self.key):
            self._aside.unlink(missing_ok=True)

    def _finished(self) -> ObjectInfo:
        try:
            entry = describe(self.key, self._target.stat())
        except FileNotFoundError:
            entry = None
        if entry is None or entry.size != self._size:
            raise self._gone()
        return entry

    def _gone(self) -> UploadGoneError:
        return UploadGoneError(f"upload {self.id} of {self._uri}/{self.key} is gone")


class LocalPartWriter:
    """Writes one part where it belongs, piece by piece."""

    def __init__(
        self,
        upload: LocalUpload,
        descriptor: int,
        number: int,
        *,
        offset: int,
        size: int,
        with_sha256: bool,
    ) -> None:
        self._descriptor = descriptor
        self._number = number
        self._offset = offset
        self._size = size
        self._digest = RunningDigest(with_sha256=with_sha256)
        self._upload = upload

    def append(self, data: memoryview, /) -> None:
        # A file that was renamed into place is still open here, but its bytes must not change.
        self._upload.check_open()
        position = self._offset + self._digest.size
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], position + done)
        except OSError as error:
            raise_translated(error, self._upload.place)
        self._digest.update(data)

    def finish(self) -> Part:
        check_size(self._digest.size, self._size)
        if hasattr(os, "posix_fadvise"):
            # Begins to write the part out now, so that `complete` has little left to wait for.
            os.posix_fadvise(self._descriptor, self._offset, self._size, os.POSIX_FADV_DONTNEED)
        self.discard()
        crc = self._digest.crc64nvme
        return Part(self._number, self._offset, self._size, crc, crc, self._digest.sha256)

    def discard(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.discard()
