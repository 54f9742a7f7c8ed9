"""Small steps with stores, for the tests of all of them."""

import hashlib
from contextlib import contextmanager

import pytest

SEAWEEDFS = [pytest.mark.s3, pytest.mark.xdist_group("seaweedfs")]
CEPH = [pytest.mark.s3, pytest.mark.slow, pytest.mark.xdist_group("ceph")]
SERVERS = [
    pytest.param("moto", marks=pytest.mark.s3),
    pytest.param("seaweedfs", marks=SEAWEEDFS),
    pytest.param("ceph", marks=CEPH),
]
STORES = [pytest.param("memory"), pytest.param("local"), pytest.param("fenced"), *SERVERS]


class Willing:
    """A guard that lets every process write."""

    def confirm(self):
        """Says yes."""


def sha(data):
    return hashlib.sha256(data).hexdigest()


def write(upload, number, data, offset):
    writer = upload.start_part(number, offset=offset, size=len(data), with_sha256=True)
    writer.append(memoryview(data)[:3])
    writer.append(memoryview(data)[3:])
    return writer.finish()


def write_whole(store, key, data):
    """An object in one part."""
    upload = store.start_upload(key, size=len(data), metadata={})
    return upload.complete([write(upload, 1, data, 0)])


def read_range(store, key, start, size, **condition):
    buffer = bytearray(size)
    store.read_into(key, memoryview(buffer), start=start, **condition)
    return bytes(buffer)


def read_with(reader, start, size):
    buffer = bytearray(size)
    reader.read_into(memoryview(buffer), start=start)
    return bytes(buffer)


@contextmanager
def small_pages(store, **limits):
    """Let an S3 server answer lists in small pages: MaxKeys, MaxParts or MaxUploads."""

    def limit(params, model, **_):
        params.update({k: v for k, v in limits.items() if k in model.input_shape.members})

    if not store.is_remote:
        yield
        return
    events = store.client.meta.events
    events.register("before-parameter-build.s3", limit)
    try:
        yield
    finally:
        events.unregister("before-parameter-build.s3", limit)
