import uuid

import pytest

from cluster.stores.open_store import open_store
from cluster.stores.probe import probe_store
from jobs.outputs.fenced import Fenced
from tests.support.stores import SERVERS, STORES, Willing

FACTS = {}


@pytest.fixture(params=STORES)
def store(request, tmp_path, use):
    name = uuid.uuid4().hex[:12]
    if request.param == "memory":
        return open_store(f"memory://{name}/prefix")
    if request.param == "fenced":
        return Fenced(open_store(f"memory://{name}/prefix"), Willing())
    if request.param == "local":
        return open_store(str(tmp_path / name))
    use(request.getfixturevalue(request.param))
    return open_store(f"s3://plain/{name}")


@pytest.fixture(params=["memory", *SERVERS])
def versioned(request, use):
    """A store that keeps versions."""
    name = uuid.uuid4().hex[:12]
    if request.param == "memory":
        return open_store(f"memory://{name}")
    use(request.getfixturevalue(request.param))
    return open_store(f"s3://versioned/{name}")


@pytest.fixture(params=SERVERS)
def server(request, use):
    """The environment of an S3 server, in force."""
    environment = request.getfixturevalue(request.param)
    use(environment)
    return environment


@pytest.fixture
def facts(request, store):
    """What a thorough probe says about `store`."""
    name = request.node.callspec.params["store"]
    if name not in FACTS:
        FACTS[name] = probe_store(store, is_thorough=True)
    return FACTS[name]
