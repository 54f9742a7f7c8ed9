"""How much memory a merge takes: measured in processes of their own, and enforced."""

import shutil
import tempfile
from pathlib import Path

import pytest

from cluster.stores.open_store import open_store
from fusion.evidence.weights import uniform_weights
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.pin import pin_checkpoint
from jobs.merge.libraries import expected_bytes
from jobs.merge.memory import fit_worker
from tests.support.huge import check_average, huge_shapes, upload_file, write_huge, write_many
from tests.support.limited import measure_import, run_limited

MIB, GIB = 1 << 20, 1 << 30
SOURCES = 4
WEIGHTS = uniform_weights(SOURCES)
COUNTED_LATE_BYTES = 1 << 20


@pytest.fixture
def roomy(tmp_path):
    """A folder for gigabytes: in memory if there is plenty of it, as it is quicker there."""
    memory = Path("/dev/shm")
    is_plenty = memory.exists() and shutil.disk_usage(memory).free > 12 * GIB
    with tempfile.TemporaryDirectory(dir=memory if is_plenty else tmp_path) as folder:
        yield Path(folder)


def write_sources(folder, total_bytes):
    for index in range(SOURCES):
        header_bytes = write_huge(folder / "sources" / f"m{index}", index, total_bytes)
    (folder / "merge.yaml").write_text(
        f"candidates: [{folder}/sources/*]\nweights: {{rule: uniform}}\n"
    )
    return header_bytes


def fit(sources, output, memory_bytes):
    """How two workers in one process cut their reads."""
    checkpoints = [pin_checkpoint(uri, name=uri)[0] for uri in sources]
    weights = uniform_weights(len(sources))
    plan = plan_merge(model_request(checkpoints, weights, MergeWish()))
    return fit_worker(plan, output, memory_bytes, threads=2)


def check_merge(folder, total_bytes, *, memory_bytes, data_bytes):
    """From a folder into a folder."""
    header_bytes = write_sources(folder, total_bytes)
    out = folder / "out"
    measured = run_limited(
        "merge", str(folder / "merge.yaml"), str(out), "--memory", str(memory_bytes),
        "--out-shard-size", "10B", data_bytes=data_bytes,
    )  # fmt: skip
    sources = [str(path) for path in sorted((folder / "sources").iterdir())]
    assert (
        measured.peak_bytes <= fit(sources, str(folder), memory_bytes).total_bytes <= memory_bytes
    )
    # The kernel counts pages by thread and adds them up now and then: its peaks differ a little.
    assert measured.answer["peak_bytes"] <= measured.peak_bytes + COUNTED_LATE_BYTES
    with (out / "model.safetensors").open("rb") as stream:

        def read(start, size):
            stream.seek(start)
            return stream.read(size)

        check_average(read, WEIGHTS, total_bytes, header_bytes)
    return measured


def test_four_models_of_1500_mb_merge_within_256_mib_of_what_torch_takes(roomy, record_property):
    total_bytes = 1_500_000_000
    rows, columns = huge_shapes(total_bytes)["a.large"]
    assert 2 * rows * columns > 2 * 256 * MIB
    resident, reserved = measure_import("torch")
    measured = check_merge(
        roomy, total_bytes, memory_bytes=resident + 256 * MIB, data_bytes=reserved + 256 * MIB
    )
    assert measured.peak_bytes <= resident + 256 * MIB
    record_property("peak_mib", measured.peak_bytes // MIB)
    record_property("torch_mib", resident // MIB)


@pytest.mark.slow
@pytest.mark.parametrize(("num_tensors", "num_sources"), [(20_000, 4), (199_000, 2), (50, 64)])
def test_what_is_stated_for_many_tensors_and_many_candidates_is_kept_to(
    tmp_path, record_property, num_tensors, num_sources
):
    for index in range(num_sources):
        write_many(tmp_path / "sources" / f"m{index:02}", num_tensors, value=index)
    (tmp_path / "merge.yaml").write_text(
        f"candidates: [{tmp_path}/sources/*]\nweights: {{rule: uniform}}\n"
    )
    measured = run_limited(
        "merge", str(tmp_path / "merge.yaml"), str(tmp_path / "out"), "--memory", str(4 * GIB),
        data_bytes=4 * GIB,
    )  # fmt: skip
    sources = [str(path) for path in sorted((tmp_path / "sources").iterdir())]
    before, _ = measure_import("jobs.commands.merge")
    stated = expected_bytes(fit(sources, str(tmp_path), 4 * GIB), before=before)
    record_property("peak_mib", measured.peak_bytes // MIB)
    record_property("stated_mib", stated // MIB)
    assert measured.peak_bytes <= stated <= 1.3 * measured.peak_bytes


@pytest.mark.slow
def test_a_merge_of_24_gb_between_folders_keeps_to_1_gib(tmp_path, record_property):
    measured = check_merge(tmp_path, 6_000_000_000, memory_bytes=GIB, data_bytes=GIB)
    record_property("peak_mib", measured.peak_bytes // MIB)
    shutil.rmtree(tmp_path)


S3_BYTES = 6_000_000_000


def put_huge(folder, place):
    """All sources on S3; what is the same in all of them travels once."""
    for index in range(SOURCES):
        header_bytes = write_huge(folder / f"m{index}", index, S3_BYTES)
    store = open_store(place)
    for index in range(SOURCES):
        path = folder / f"m{index}" / "model.safetensors"
        upload_file(store, f"m{index}/model.safetensors", path)
        store.put(f"m{index}/config.json", b'{"model_type": "test"}')
    return header_bytes


@pytest.mark.s3
@pytest.mark.slow
def test_a_merge_of_24_gb_from_s3_to_s3_keeps_to_1_gib(tmp_path, seaweedfs, use, record_property):
    use(seaweedfs)
    place = "s3://plain/huge"
    header_bytes = put_huge(tmp_path / "sources", place)
    config = tmp_path / "merge.yaml"
    config.write_text(f"candidates: [{place}/*]\nweights: {{rule: uniform}}\n")
    try:
        measured = run_limited(
            "merge",
            str(config),
            f"{place}-out/merged",
            "--memory",
            str(GIB),
            "--out-shard-size",
            "10B",
            data_bytes=GIB,
        )
        sources = [f"{place}/m{index}" for index in range(SOURCES)]
        assert measured.peak_bytes <= fit(sources, place, GIB).total_bytes <= GIB
        record_property("peak_mib", measured.peak_bytes // MIB)
        output = open_store(f"{place}-out/merged")
        shard, *_ = [e.key for e in output.list() if e.key.endswith(".safetensors")]

        def read(start, size):
            content = bytearray(size)
            output.read_into(shard, memoryview(content), start=start)
            return bytes(content)

        check_average(read, WEIGHTS, S3_BYTES, header_bytes)
    finally:
        store = open_store("s3://plain")
        for entry in list(store.list("huge")):
            store.delete(entry.key)
