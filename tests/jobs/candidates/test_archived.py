import uuid

import pytest

from cluster.stores.open_store import open_store
from jobs.candidates.find import find_candidates
from tests.servers.fault_proxy import FaultProxy
from tests.support.merging import write_sources


@pytest.mark.s3
def test_a_candidate_in_an_archive_is_left_out_by_name_with_the_way_out(moto, use, tmp_path):
    with FaultProxy(moto["AWS_ENDPOINT_URL_S3"]) as proxy:
        use({**moto, "AWS_ENDPOINT_URL_S3": proxy.url})
        root = f"s3://plain/{uuid.uuid4().hex}"
        write_sources(tmp_path, 3)
        for path in sorted(tmp_path.glob("*/*")):
            open_store(f"{root}/{path.parent.name}").put(path.name, path.read_bytes())
        proxy.add("archived", method="GET", path="/m1/model")
        found = find_candidates([f"{root}/*"], settle_seconds=0, now=0.0)
    assert [candidate.name for candidate in found.candidates] == ["m0", "m2"]
    (skipped,) = found.skipped
    assert (skipped.name, skipped.code) == ("m1", "E-INCOMPLETE")
    assert "is archived (InvalidObjectState); restore it" in skipped.reason
