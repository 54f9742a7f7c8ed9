import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cluster.digests import crc64nvme
from cluster.errors import DigestError
from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from cluster.workers.runner import SerialRunner
from cluster.workers.threads import ThreadRunner
from fusion.canonical import to_json
from fusion.errors import MismatchError, NonFiniteError
from fusion.manifests.model import FileEntry, ModelManifest
from fusion.plans.adapter_request import adapter_request
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.find import pin_base
from jobs.candidates.pin import pin_checkpoint
from jobs.commands.merge import run_merge
from jobs.errors import IncompleteError, PickleError, RecipeError, SourceChangedError
from jobs.merge.driver import merge_all
from jobs.merge.job import MergeJob
from jobs.merge.memory import fit_worker
from tests.support.adapters import check_close, dense, random_factors, write_adapter, write_base
from tests.support.merging import load_merged, write_checkpoint

DOUBLE = MergeWish(dtype="float64")
GOLDEN = Path(__file__).parent.parent.parent / "golden" / "peft"
SHAPES = {"emb.weight": (50, 33), "x.weight": (97, 33), "y.weight": (33, 129), "z.bias": (97,)}
MODULES = {"x": (97, 33), "y": (33, 129)}


def pin(base, *folders):
    whole = pin_base(str(base))
    return [pin_checkpoint(str(f), name=f.name, base=whole)[0] for f in folders]


def merge(request, out, *, unit_bytes=64 << 20, chunk_bytes=None, workers=1, runner=None):
    plan = plan_merge(request, unit_bytes=unit_bytes)
    memory = fit_worker(plan, str(out), 1 << 30)
    memory = replace(memory, chunk_bytes=chunk_bytes or memory.chunk_bytes)
    job = MergeJob(plan, str(out), "model", "ledger", memory)
    return plan, merge_all(job, Hands(runner or SerialRunner(), workers))


def merged(request, out, **more):
    plan, _ = merge(request, out, **more)
    return load_merged(out, plan)


@pytest.fixture
def two(tmp_path):
    """A base and two adapters of it, of other ranks and modules."""
    base = write_base(tmp_path / "base", SHAPES)
    a, b = random_factors(1, MODULES), random_factors(2, {"x": (97, 33)}, rank=7)
    write_adapter(tmp_path / "a", a, saved={"z.bias": torch.ones(97)})
    write_adapter(tmp_path / "b", b, r=7, lora_alpha=3, use_rslora=True)
    return base, a, b


@pytest.mark.parametrize(
    "case", sorted(p.parent.name for p in GOLDEN.glob("*/expected.safetensors"))
)
def test_base_and_adapter_give_what_peft_merges(case, tmp_path):
    kind = case.partition("-")[0]
    (adapter,) = pin(GOLDEN / kind, GOLDEN / case)
    found = merged(model_request([adapter], [1.0], DOUBLE), tmp_path)
    expected = load_file(GOLDEN / case / "expected.safetensors")
    before = load_file(GOLDEN / kind / "model.safetensors")
    for name, values in found.items():
        if name in expected:
            assert (values - expected[name]).abs().max() < 1e-6 * expected[name].abs().max(), name
            assert not torch.equal(values, before[name].double())
        else:
            assert torch.equal(values, before[name].double()), name


def test_the_average_of_adapters_is_the_average_of_the_dense_models(two, tmp_path):
    base, a, b = two
    adapters = pin(base, tmp_path / "a", tmp_path / "b")
    found = merged(model_request(adapters, [0.3, 0.9], MergeWish()), tmp_path / "out")
    dense_a, sizes_a = dense(base, a, scale=2.0, saved={"z.bias": torch.ones(97)})
    dense_b, sizes_b = dense(base, b, scale=3 / 7**0.5)
    exact = {n: 0.25 * dense_a[n] + 0.75 * dense_b[n] for n in dense_a}
    sizes = {n: 0.25 * sizes_a[n] + 0.75 * sizes_b[n] for n in dense_a}
    check_close(found, exact, sizes, terms=7 + 3 + 2 * 2 + 4)
    assert torch.equal(found["emb.weight"], load_file(base / "model.safetensors")["emb.weight"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_sum_is_rounded_once_to_the_dtype_of_the_base(dtype, tmp_path):
    base = write_base(tmp_path / "base", SHAPES, dtype=dtype)
    a, b = random_factors(1, MODULES), random_factors(2, MODULES)
    write_adapter(tmp_path / "a", a)
    write_adapter(tmp_path / "b", b)
    adapters = pin(base, tmp_path / "a", tmp_path / "b")
    found = merged(model_request(adapters, [1, 1], MergeWish()), tmp_path / "out")
    assert {t.dtype for t in found.values()} == {dtype}
    (dense_a, sizes_a), (dense_b, sizes_b) = (dense(base, f, scale=2.0) for f in (a, b))
    exact = {n: (dense_a[n] + dense_b[n]) / 2 for n in dense_a}
    sizes = {n: (sizes_a[n] + sizes_b[n]) / 2 for n in dense_a}
    check_close(found, exact, sizes, terms=0.001 if dtype == torch.float64 else 4 + 3 + 8)


@pytest.mark.long
def test_the_bits_do_not_depend_on_units_chunks_or_workers(tmp_path):
    shapes = {"x.weight": (1500, 301), "y.weight": (301, 999)}
    base = write_base(tmp_path / "base", shapes, dtype=torch.bfloat16)
    settings = {"model_type": "gpt2"}
    (base / "config.json").write_text(json.dumps(settings))
    factors = {"x": (1500, 301), "y": (999, 301)}  # y is stored as [inputs, outputs]
    for name in "ab":
        write_adapter(tmp_path / name, random_factors(ord(name), factors))
    adapters = pin(base, tmp_path / "a", tmp_path / "b")
    request = model_request(adapters, [0.4, 0.6], MergeWish(dtype="float32"))
    digests, number = set(), 0
    for unit_bytes in (10_001, 777_777, 64 << 20):
        for chunk_bytes in (1 << 19, 1 << 21):
            for workers in (1, 3):
                number += 1
                out = tmp_path / f"out{number}"
                plan, outcome = merge(
                    request, out, unit_bytes=unit_bytes, chunk_bytes=chunk_bytes,
                    workers=workers, runner=ThreadRunner(),
                )  # fmt: skip
                twice = 8 * len(plan.units)  # elements that straddle two units
                assert plan.read_bytes <= outcome.read_bytes <= plan.read_bytes + twice
                digests.add(
                    hashlib.sha256((out / "model/model.safetensors").read_bytes()).hexdigest()
                )
    assert len(digests) == 1


def test_one_adapter_of_several_adds_what_they_add_together(two, tmp_path):
    base, a, _ = two
    adapters = pin(base, tmp_path / "a", tmp_path / "b")
    config = tmp_path / "merge.yaml"
    config.write_text(
        "candidates: [a, b]\nbase: base\nmerge: {output: adapter}\n"
        "weights: {rule: fixed, values: {a: 0.25, b: 0.75}}\n"
    )
    run_merge(config, str(tmp_path / "one"), memory="1GiB", as_json=True)
    settings = json.loads((tmp_path / "one/adapter_config.json").read_text())
    assert (settings["rank_pattern"], settings["alpha_pattern"]) == ({"x": 11}, {"x": 11}) or (
        settings["r"] == 11
    )
    (one,) = pin(base, tmp_path / "one")
    ranks = {m.module: (m.rank, m.scale) for m in one.adapter.adapted.values()}
    assert ranks == {"x": (11, 1.0), "y": (4, 1.0)}
    from_one = merged(model_request([one], [1.0], DOUBLE), tmp_path / "from-one")
    from_all = merged(model_request(adapters, [1, 3], DOUBLE), tmp_path / "from-all")
    _, sizes = dense(base, a, scale=2.0)
    for name, values in from_one.items():
        allowed = 20 * 2**-24 * (sizes[name] + sizes[name].mean())
        assert ((values - from_all[name]).abs() <= allowed).all(), name


def test_one_adapter_does_not_depend_on_the_cutting(two, tmp_path):
    base, _, _ = two
    request = adapter_request(pin(base, tmp_path / "a", tmp_path / "b"), [1, 2], MergeWish())
    digests = set()
    for number, unit_bytes in enumerate((101, 1000, 64 << 20)):
        out = tmp_path / f"out{number}"
        merge(request, out, unit_bytes=unit_bytes)
        content = (out / "model/adapter_model.safetensors").read_bytes()
        digests.add(hashlib.sha256(content).hexdigest())
    assert len(digests) == 1


def test_gpt2_and_embedding_adapters_become_one_adapter_too(tmp_path):
    for case in ("bert-embedding", "gpt2-conv1d"):
        kind = case.partition("-")[0]
        twins = pin(GOLDEN / kind, GOLDEN / case)
        other = tmp_path / f"{case}-other"
        shutil.copytree(GOLDEN / case, other)
        adapters = [*twins, *pin(GOLDEN / kind, other)]
        from_all = merged(model_request(adapters, [1, 1], DOUBLE), tmp_path / f"all-{kind}")
        config = tmp_path / f"{case}.yaml"
        config.write_text(
            f"candidates: ['{GOLDEN / case}', '{other}']\nbase: '{GOLDEN / kind}'\n"
            "merge: {output: adapter}\n"
        )
        run_merge(config, str(tmp_path / f"one-{kind}"), memory="1GiB", as_json=True)
        (one,) = pin(GOLDEN / kind, tmp_path / f"one-{kind}")
        found = merged(model_request([one], [1.0], DOUBLE), tmp_path / f"from-{kind}")
        for name, values in found.items():
            assert torch.allclose(values, from_all[name], rtol=1e-5, atol=1e-6), name


def test_mergekits_notation_names_base_and_adapter(two, tmp_path):
    base, _, _ = two
    (tmp_path / "merge.yml").write_text(
        "models:\n  - {model: base+a, parameters: {weight: 1}}\n"
        "  - {model: base+b, parameters: {weight: 3}}\nmerge_method: linear\n"
    )
    run_merge(tmp_path / "merge.yml", str(tmp_path / "out"), memory="1GiB", as_json=True)
    adapters = pin(base, tmp_path / "a", tmp_path / "b")
    found = load_file(tmp_path / "out/model.safetensors")
    exact = merged(model_request(adapters, [1, 3], DOUBLE), tmp_path / "exact")
    for name, values in found.items():
        assert (values - exact[name]).abs().max() < 1e-5
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [source["name"] for source in manifest["sources"]] == ["base+a", "base+b"]
    assert manifest["base"]["uri"] == str(base)


def test_adapters_of_two_bases_are_refused(two, tmp_path):
    shutil.copytree(tmp_path / "base", tmp_path / "other")
    (tmp_path / "merge.yml").write_text(
        "models:\n  - {model: base+a, parameters: {weight: 1}}\n"
        "  - {model: other+b, parameters: {weight: 1}}\nmerge_method: linear\n"
    )
    with pytest.raises(MismatchError, match=r"2 bases: base .*, other"):
        run_merge(tmp_path / "merge.yml", str(tmp_path / "o"), memory="1GiB", as_json=True)


@pytest.mark.parametrize("model", ["base+", "+a", "base+a+b", "base@main+a"])
def test_other_notations_of_mergekit_are_refused(model, tmp_path):
    (tmp_path / "merge.yml").write_text(
        f"models: [{{model: '{model}', parameters: {{weight: 1}}}}]\nmerge_method: linear\n"
    )
    with pytest.raises(RecipeError):
        run_merge(tmp_path / "merge.yml", str(tmp_path / "o"), memory="1GiB", as_json=True)


def test_a_whole_checkpoint_and_an_adapter_average_as_models_but_not_as_one_adapter(two, tmp_path):
    base, a, _ = two
    tensors, _ = dense(base, a, scale=2.0)
    write_checkpoint(tmp_path / "whole", {n: t.float() for n, t in tensors.items()})
    text = "candidates: [a, whole]\nbase: base\n"
    config = tmp_path / "merge.yaml"
    config.write_text(text)
    run_merge(config, str(tmp_path / "out"), memory="1GiB", as_json=True)
    found = load_file(tmp_path / "out/model.safetensors")
    assert (found["x.weight"] - tensors["x.weight"]).abs().max() < 1e-5
    config.write_text(text + "merge: {output: adapter}\n")
    with pytest.raises(MismatchError, match="whole is a whole checkpoint"):
        run_merge(config, str(tmp_path / "o"), memory="1GiB", as_json=True)


def test_a_base_that_changed_after_planning_stops_the_merge(two, tmp_path):
    base, _, _ = two
    request = model_request(pin(base, tmp_path / "a"), [1.0], MergeWish())
    write_base(base, SHAPES, seed=9)
    with pytest.raises(SourceChangedError, match=r"base/model\.safetensors was"):
        merge(request, tmp_path / "out")


def test_an_adapter_that_changed_after_planning_stops_the_merge(two, tmp_path):
    base, _, _ = two
    request = model_request(pin(base, tmp_path / "a"), [1.0], MergeWish())
    write_adapter(tmp_path / "a", random_factors(9, MODULES))
    with pytest.raises(SourceChangedError, match=r"a/adapter_model\.safetensors was"):
        merge(request, tmp_path / "out")


def test_a_nan_in_a_factor_names_the_adapter_and_the_tensor(two, tmp_path):
    base, a, _ = two
    a["x"][1][5, 2] = float("nan")
    write_adapter(tmp_path / "a", a)
    request = model_request(pin(base, tmp_path / "a", tmp_path / "b"), [1, 1], MergeWish())
    with pytest.raises(NonFiniteError, match=r"x\.weight of a has 33 NaN") as caught:
        merge(request, tmp_path / "out")
    assert (caught.value.checkpoint, caught.value.tensor) == ("a", "x.weight")


def test_a_nan_in_the_base_is_not_blamed_on_an_adapter(two, tmp_path):
    base, _, _ = two
    tensors = load_file(base / "model.safetensors")
    tensors["x.weight"][5, 2] = float("nan")
    write_checkpoint(base, tensors)
    request = model_request(pin(base, tmp_path / "a", tmp_path / "b"), [1, 1], MergeWish())
    with pytest.raises(NonFiniteError, match=r"x\.weight of the base base .* has 1 NaN") as caught:
        merge(request, tmp_path / "out")
    assert caught.value.checkpoint == ""


def test_without_a_base_the_error_says_how_to_name_one(two, tmp_path):
    with pytest.raises(IncompleteError, match="is an adapter") as caught:
        pin_checkpoint(str(tmp_path / "a"), name="a")
    assert "base: PATH" in caught.value.hint


def test_an_adapter_in_a_pickle_is_not_opened(two, tmp_path):
    base, _, _ = two
    (tmp_path / "a/adapter_model.safetensors").rename(tmp_path / "a/adapter_model.bin")
    with pytest.raises(PickleError, match=r"adapter_model\.bin"):
        pin(base, tmp_path / "a")


def test_an_adapter_without_its_tensors_is_incomplete(two, tmp_path):
    base, _, _ = two
    (tmp_path / "a/adapter_model.safetensors").unlink()
    with pytest.raises(IncompleteError, match=r"no adapter_model\.safetensors"):
        pin(base, tmp_path / "a")


def test_a_tokenizer_that_is_not_the_bases_is_refused(two, tmp_path):
    base, _, _ = two
    (base / "vocab.txt").write_text("[PAD]\ngood\n")
    (tmp_path / "a/vocab.txt").write_text("[PAD]\ngood\n<tool>\n")
    with pytest.raises(MismatchError, match="tokenizer of 3 tokens"):
        pin(base, tmp_path / "a")


MERGE_ALONE = """
import sys
from pathlib import Path
from cluster.workers.hands import Hands
from cluster.workers.runner import SerialRunner
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.find import find_candidates
from jobs.merge.driver import merge_all
from jobs.merge.job import MergeJob
from jobs.merge.memory import fit_worker

here, allowed = sys.argv[1], int(sys.argv[2])
found = find_candidates([f"{here}/m*"], settle_seconds=0, now=0, base=f"{here}/base")
plan = plan_merge(model_request(found.candidates, [1] * 4, MergeWish()))
memory = fit_worker(plan, f"{here}/out", allowed)
outcome = merge_all(
    MergeJob(plan, f"{here}/out", "model", "ledger", memory), Hands(SerialRunner(), 1
))
print(memory.chunk_bytes, memory.total_bytes, outcome.peak_bytes)
"""


@pytest.mark.long
def test_a_worker_stays_within_the_memory_that_it_states(tmp_path):
    shapes = {"x.weight": (8192, 4096)}
    write_base(tmp_path / "base", shapes, dtype=torch.bfloat16)
    for seed in range(4):
        factors = random_factors(seed, {"x": (8192, 4096)}, rank=32)
        write_adapter(tmp_path / f"m{seed}", factors, r=32)
    sizes = {}
    for allowed in (1 << 30, 404 << 20):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-c", MERGE_ALONE, str(tmp_path), str(allowed)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        chunk, stated, peak = map(int, done.stdout.split())
        assert peak <= stated <= allowed
        sizes[allowed] = chunk
    assert sizes[404 << 20] < sizes[1 << 30]


@pytest.mark.s3
def test_adapters_on_s3_give_the_bytes_of_local_ones(two, tmp_path, moto, use):
    use(moto)
    base, _, _ = two
    for name in ("base", "a", "b"):
        store = open_store(f"s3://plain/adapters/{name}")
        for path in (tmp_path / name).iterdir():
            store.put(path.name, path.read_bytes())
    whole = pin_base("s3://plain/adapters/base")
    adapters = [pin_checkpoint(f"s3://plain/adapters/{n}", name=n, base=whole)[0] for n in "ab"]
    merge(
        model_request(adapters, [1, 3], MergeWish()), "s3://plain/adapters/out", unit_bytes=5 << 20
    )
    content = open_store("s3://plain/adapters/out").read("model/model.safetensors")
    local = model_request(pin(base, tmp_path / "a", tmp_path / "b"), [1, 3], MergeWish())
    merge(local, tmp_path / "out", unit_bytes=3000)
    assert content == (tmp_path / "out/model/model.safetensors").read_bytes()


@pytest.mark.parametrize("unit_bytes", [700, 64 << 20])
def test_every_byte_of_base_and_adapters_is_compared_with_what_was_stored(
    two, tmp_path, unit_bytes
):
    base, _, _ = two
    request = model_request(pin(base, tmp_path / "a", tmp_path / "b"), [1, 3], MergeWish())
    for name in ("base", "a", "b"):
        (file,) = (tmp_path / name).glob("*.safetensors")
        content = file.read_bytes()
        entry = FileEntry(file.name, len(content), "", crc64nvme=crc64nvme(content))
        manifest = ModelManifest(plan="", method="linear", files=(entry,), sources=())
        (tmp_path / name / "manifest.json").write_bytes(to_json(manifest))
    _, outcome = merge(request, tmp_path / "out", unit_bytes=unit_bytes)
    assert (outcome.num_checked, outcome.num_unchecked) == (3, 0)
    wrong = replace(manifest, files=(replace(entry, crc64nvme="AAAAAAAAAAA="),))
    (tmp_path / "b/manifest.json").write_bytes(to_json(wrong))
    with pytest.raises(DigestError, match=r"b/adapter_model\.safetensors arrived"):
        merge(request, tmp_path / "other", unit_bytes=unit_bytes)
