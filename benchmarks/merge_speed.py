"""The merge beside a bare upper bound, on the same files, in turns: wall, CPU and peak memory.

    python benchmarks/merge_speed.py [--models 4] [--megabytes 500] [--rounds 3]

The upper bound is a streamed mean with no checks, no digests and no header work, in two threads.
Prints a table and writes benchmarks/merge_speed.json. A ratio holds from machine to machine;
seconds do not.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CHUNK = 1 << 20
BLOCK = 1 << 16
THREADS = 2


def make_models(folder: Path, count: int, megabytes: int) -> None:
    """Checkpoints of bfloat16 matrices of 16 MiB and small vectors."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    for model in range(count):
        tensors = {}
        for layer in range(megabytes // 16):
            shape = (2048, 4096)
            tensors[f"layers.{layer}.weight"] = torch.randn(shape, generator=generator).bfloat16()
            tensors[f"layers.{layer}.norm"] = torch.randn(4096, generator=generator).bfloat16()
        place = folder / f"m{model}"
        place.mkdir()
        save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
        (place / "config.json").write_text('{"model_type": "bench"}')
    entries = "".join(
        f"  - {{model: {folder}/m{i}, parameters: {{weight: {1 / count}}}}}\n" for i in range(count)
    )
    (folder / "merge.yml").write_text(f"models:\n{entries}merge_method: linear\n")


def upper_bound(folder: Path, count: int, out: Path) -> None:
    """A streamed mean of files of one layout, as fast as reading, adding and writing allow."""
    import torch

    torch.set_num_threads(1)
    sources = [os.open(folder / f"m{i}" / "model.safetensors", os.O_RDONLY) for i in range(count)]
    header = 8 + struct.unpack("<Q", os.pread(sources[0], 8, 0))[0]
    size = os.fstat(sources[0]).st_size
    target = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.posix_fallocate(target, 0, size)
    os.pwrite(target, os.pread(sources[0], header, 0), 0)
    pieces = range(header, size, CHUNK)

    def work(first: int) -> None:
        raw = [bytearray(CHUNK) for _ in sources]
        views = [torch.frombuffer(buffer, dtype=torch.bfloat16) for buffer in raw]
        total, result = torch.empty(BLOCK), bytearray(CHUNK)
        rounded = torch.frombuffer(result, dtype=torch.bfloat16)
        for start in pieces[first::THREADS]:
            length = min(CHUNK, size - start)
            for source, buffer in zip(sources, raw, strict=True):
                os.preadv(source, [memoryview(buffer)[:length]], start)
            for low in range(0, length // 2, BLOCK):
                high = min(low + BLOCK, length // 2)
                part = total[: high - low]
                part.copy_(views[0][low:high]).mul_(1 / count)
                for view in views[1:]:
                    part.add_(view[low:high], alpha=1 / count)
                rounded[low:high].copy_(part)
            os.pwrite(target, memoryview(result)[:length], start)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of one process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bound", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.make:
        make_models(wanted.make, wanted.models, wanted.megabytes)
        return
    if wanted.bound:
        upper_bound(Path(wanted.bound[0]), wanted.models, Path(wanted.bound[1]))
        return
    with tempfile.TemporaryDirectory(prefix="metafuse-bench-") as place:
        folder = Path(place)
        # In a process of its own: peak memory of children is counted from the parent's size.
        subprocess.run([sys.executable, __file__, "--models", str(wanted.models), "--megabytes",
                        str(wanted.megabytes), "--make", place], check=True)  # fmt: skip
        script = [sys.executable, __file__, "--models", str(wanted.models), "--bound"]
        fuse = [str(Path(sys.executable).parent / "metafuse"), "merge", str(folder / "merge.yml")]
        rows: dict[str, list[tuple[float, float, float]]] = {}
        for number in range(wanted.rounds + 1):
            bound = measure([*script, str(folder), str(folder / "bound.safetensors")])
            ours = measure([*fuse, str(folder / f"out-{number}")])
            if number:  # the first round warms the page cache
                rows.setdefault("upper bound", []).append(bound)
                rows.setdefault("metafuse merge", []).append(ours)
    write_results(wanted, rows)


def write_results(
    wanted: argparse.Namespace, rows: dict[str, list[tuple[float, float, float]]]
) -> None:
    """The table on stdout, the figures as JSON."""
    names = ("wall_s", "cpu_s", "peak_mib")
    table = {
        name: {
            key: statistics.median(values)
            for key, values in zip(names, zip(*runs, strict=True), strict=True)
        }
        for name, runs in rows.items()
    }
    read = wanted.models * wanted.megabytes / 1000
    print(f"{wanted.models} models of {wanted.megabytes} MB bfloat16, median of {wanted.rounds}")
    print("| | wall s | CPU s | peak MiB | read GB/s |\n| --- | ---: | ---: | ---: | ---: |")
    for name, row in table.items():
        speed = read / row["wall_s"]
        figures = f"{row['wall_s']:.2f} | {row['cpu_s']:.2f} | {row['peak_mib']:.0f} | {speed:.2f}"
        print(f"| {name} | {figures} |")
    ratio = table["metafuse merge"]["wall_s"] / table["upper bound"]["wall_s"]
    print(f"wall ratio {ratio:.2f} (whole processes, import of torch included in both)")
    content = {
        "models": wanted.models,
        "megabytes": wanted.megabytes,
        "rows": table,
        "ratio": ratio,
    }
    path = Path(__file__).parent / "merge_speed.json"
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
