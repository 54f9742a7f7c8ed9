"""A merge from S3 to S3 over loopback, beside a bare download plus upload with the same client.

    python benchmarks/s3_speed.py [--models 4] [--layers 2] [--rounds 3]

Starts a SeaweedFS of its own. The bare transfer reads the same bytes by ranges of the same size in
as many threads and sends as many bytes in parts of the same size; nothing is computed. Server and
client share the machine. Writes benchmarks/s3_speed.{json,md}.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
THREADS = 8
SENDERS = 4
CHUNK = 8 << 20
PART = 64 << 20
BUCKET = "plain"


def upload_inputs(folder: Path) -> None:
    """Put the models where the merge reads them, with a digest each, as the product writes."""
    from cluster.stores.open_store import open_store

    store = open_store(f"s3://{BUCKET}/bench")
    for path in sorted(folder.glob("m*/*")):
        key = path.relative_to(folder).as_posix()
        size = path.stat().st_size
        if size < PART:
            store.put(key, path.read_bytes())
            continue
        upload = store.start_upload(key, size=size, metadata={})
        parts = []
        with path.open("rb") as stream:
            for number, start in enumerate(range(0, size, PART)):
                content = memoryview(stream.read(PART))
                writer = upload.start_part(
                    number + 1, offset=start, size=len(content), with_sha256=False
                )
                writer.append(content)
                parts.append(writer.finish())
        upload.complete(parts)


def bare_transfer(written: int) -> dict[str, float]:
    """Download all inputs, then upload as many bytes as the merge writes."""
    from cluster.stores.open_store import open_store

    store = open_store(f"s3://{BUCKET}/bench")
    entries = [e for e in store.list("m") if e.key.endswith(".safetensors")]
    spans = [
        (e.key, start, min(CHUNK, e.size - start))
        for e in entries
        for start in range(0, e.size, CHUNK)
    ]
    started, cpu = time.perf_counter(), time.process_time()

    def fetch(span: tuple[str, int, int]) -> None:
        key, start, size = span
        store.read_into(key, memoryview(bytearray(size)), start=start)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fetch, spans))
    down = time.perf_counter() - started
    upload = store.start_upload("bare", size=written, metadata={})
    content = memoryview(os.urandom(1 << 20) * (PART >> 20))

    def send(number: int) -> object:
        size = min(PART, written - number * PART)
        writer = upload.start_part(number + 1, offset=number * PART, size=size, with_sha256=False)
        writer.append(content[:size])
        return writer.finish()

    with ThreadPoolExecutor(SENDERS) as pool:
        parts = list(pool.map(send, range(-(-written // PART))))
    upload.complete(parts)  # type: ignore[arg-type]  # what finish returned
    wall = time.perf_counter() - started
    store.delete("bare")
    return {"wall": wall, "down": down, "cpu": time.process_time() - cpu}


def merge_once(folder: Path, number: int) -> dict[str, float]:
    """One merge in this process, its requests counted as they leave."""
    from cluster.stores.open_store import open_store
    from cluster.stores.s3.store import S3Store
    from jobs.commands.merge import run_merge

    requests: Counter[str] = Counter()

    def count(request: object, **_: object) -> None:
        requests[getattr(request, "method", "?")] += 1

    S3Store(f"s3://{BUCKET}/bench").client.meta.events.register("before-send.s3", count)
    started, cpu = time.perf_counter(), time.process_time()
    run_merge(folder / "merge.yml", f"s3://{BUCKET}/bench/out-{number}",
              memory="1GiB", as_json=True)  # fmt: skip
    wall = time.perf_counter() - started
    spent = time.process_time() - cpu
    store = open_store(f"s3://{BUCKET}/bench")
    for entry in list(store.list(f"out-{number}")):
        store.delete(entry.key)
    return {"wall": wall, "cpu": spent, **{name.lower(): n for name, n in requests.items()}}


def in_a_process(*arguments: str) -> dict[str, float]:
    """Run one step of this script by itself; its last line is its figures."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True,
                          check=False)  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stdout[-1000:] + done.stderr[-2000:])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(arguments[0], figures, flush=True)
    return figures


def planned_reads(folder: Path) -> tuple[int, int]:
    """(GETs, PUTs) that the merge plans for tensors and parts."""
    from cluster.stores.open_store import open_store
    from fusion.plans.layout import plan_merge
    from jobs.candidates.pin import pin_checkpoint
    from jobs.merge.memory import fit_worker
    from jobs.mergekit.document import parse_mergekit
    from jobs.mergekit.request import mergekit_request

    text = (folder / "merge.yml").read_text()
    document = parse_mergekit(text, name="merge.yml", folder=str(folder))
    sources = [
        pin_checkpoint(open_store(uri).uri, name=model)[0]
        for model, uri in zip(document.models, document.uris, strict=True)
    ]
    plan = plan_merge(mergekit_request(document, sources))
    memory = fit_worker(plan, f"s3://{BUCKET}/bench", 1 << 30, threads=2)
    return plan.num_reads(memory.chunk_bytes), 2 * len(plan.units)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", nargs="?", choices=["upload", "bare", "merge", "plan"])
    parser.add_argument("values", nargs="*")
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--layers", type=int, default=2, help="2: 0.8 GB a model")
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    if wanted.step == "upload":
        upload_inputs(Path(wanted.values[0]))
        print("{}")
    elif wanted.step == "bare":
        print(json.dumps(bare_transfer(int(wanted.values[0]))))
    elif wanted.step == "merge":
        print(json.dumps(merge_once(Path(wanted.values[0]), int(wanted.values[1]))))
    elif wanted.step == "plan":
        gets, puts = planned_reads(Path(wanted.values[0]))
        print(json.dumps({"get": gets, "put": puts}))
    else:
        measure_all(wanted)


def measure_all(wanted: argparse.Namespace) -> None:
    """Server, inputs, rounds, table."""
    sys.path.insert(0, str(HERE.parent))
    from tests.support.servers import seaweedfs_server

    with tempfile.TemporaryDirectory(prefix="metafuse-bench-") as place:
        folder = Path(place)
        numbers = [str(wanted.models), str(wanted.layers)]
        subprocess.run([sys.executable, HERE / "inputs.py", folder / "in", *numbers], check=True)
        sizes = [p.stat().st_size for p in (folder / "in").glob("m*/*.safetensors")]
        written = sum(p.stat().st_size for p in (folder / "in" / "m0").glob("*.safetensors"))
        models = "".join(
            f"  - {{model: s3://{BUCKET}/bench/m{n}, parameters: {{weight: 1}}}}\n"
            for n in range(wanted.models)
        )
        (folder / "merge.yml").write_text(f"models:\n{models}merge_method: linear\n")
        with seaweedfs_server(folder) as environment:
            os.environ.update(environment)
            in_a_process("upload", str(folder / "in"))
            plan = in_a_process("plan", place)
            rounds = []
            for number in range(wanted.rounds + 1):
                pair = (in_a_process("bare", str(written)),
                        in_a_process("merge", place, str(number)))  # fmt: skip
                if number:
                    rounds.append(pair)
    write(sum(sizes), written, plan, rounds)


def write(
    read: int, written: int, plan: dict[str, float], rounds: list[tuple[dict[str, float], ...]]
) -> None:
    """The figures as text and JSON."""
    moved = (read + written) / 1e9
    bare = statistics.median(b["wall"] for b, _ in rounds)
    merge = statistics.median(m["wall"] for _, m in rounds)
    ratio = statistics.median(m["wall"] / b["wall"] for b, m in rounds)
    bare_cpu = statistics.median(b["cpu"] for b, _ in rounds)
    merge_cpu = statistics.median(m["cpu"] for _, m in rounds)
    last = rounds[-1][1]
    text = (
        f"{read / 1e9:.2f} GB read from and {written / 1e9:.2f} GB written to SeaweedFS on "
        f"loopback, in turns, median of {len(rounds)}.\n\n"
        "| | wall s | GB/s | CPU s a GB moved |\n| --- | ---: | ---: | ---: |\n"
        f"| bare download, then upload | {bare:.2f} | {moved / bare:.2f} | "
        f"{bare_cpu / moved:.2f} |\n"
        f"| `metafuse merge`, import of PyTorch included | {merge:.2f} | {moved / merge:.2f} | "
        f"{merge_cpu / moved:.2f} |\n\n"
        f"Ratio {ratio:.2f}. Requests of the merge: {last['get']:.0f} GET ({plan['get']:.0f} "
        f"planned for tensors), {last.get('put', 0):.0f} PUT ({plan['put']:.0f} planned for parts "
        f"and records), {last.get('head', 0):.0f} HEAD, {last.get('post', 0):.0f} POST, "
        f"{last.get('delete', 0):.0f} DELETE.\n"
    )
    print("\n" + text)
    (HERE / "s3_speed.md").write_text(text)
    content = {"read": read, "written": written, "ratio": ratio, "planned": plan, "rounds": rounds}
    (HERE / "s3_speed.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
