import os

import pytest
from hypothesis import settings

from tests.servers.fault_proxy import FaultProxy
from tests.support.servers import ceph_server, moto_server, seaweedfs_server

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Stores that tests break stay broken.
os.environ.setdefault("METAFUSE_S3_OUTAGE_SECONDS", "0")
# How long an example takes says how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def moto():
    with moto_server() as environment:
        yield environment


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory):
    with seaweedfs_server(tmp_path_factory.mktemp("seaweedfs")) as environment:
        yield environment


@pytest.fixture(scope="session")
def ceph(tmp_path_factory):
    with ceph_server(tmp_path_factory.mktemp("ceph")) as environment:
        yield environment


@pytest.fixture
def use(monkeypatch):
    """Point the AWS chain at a server."""

    def apply(environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return apply


@pytest.fixture(scope="session")
def faulty(seaweedfs):
    """A proxy in front of SeaweedFS, without a fault until one is added."""
    with FaultProxy(seaweedfs["AWS_ENDPOINT_URL_S3"]) as proxy:
        yield proxy
