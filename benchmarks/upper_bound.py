"""What this machine can do: a streamed mean of checkpoints of one layout, no checks, no digests.

    python benchmarks/upper_bound.py FOLDER OUT        FOLDER holds m0, m1, ...

Reading wants large chunks, arithmetic wants blocks that stay in the core's cache. Nothing is
parsed, checked, digested or made durable: a merge that does all that is compared with this.
"""

import os
import struct
import sys
import threading
from pathlib import Path

import torch

CHUNK = 1 << 20
BLOCK = 1 << 16
THREADS = 2


def main(folder: Path, out: Path) -> None:
    """Average everything in two threads."""
    torch.set_num_threads(1)
    models = sorted(folder.glob("m*/"))
    weight = 1 / len(models)
    out.mkdir(parents=True, exist_ok=True)
    pieces = []
    for name in sorted(path.name for path in models[0].glob("*.safetensors")):
        sources = [os.open(model / name, os.O_RDONLY) for model in models]
        header = 8 + struct.unpack("<Q", os.pread(sources[0], 8, 0))[0]
        size = os.fstat(sources[0]).st_size
        target = os.open(out / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.posix_fallocate(target, 0, size)
        os.pwrite(target, os.pread(sources[0], header, 0), 0)
        pieces += [(sources, target, s, min(CHUNK, size - s)) for s in range(header, size, CHUNK)]

    def work(first: int) -> None:
        raw = [bytearray(CHUNK) for _ in models]
        views = [torch.frombuffer(buffer, dtype=torch.bfloat16) for buffer in raw]
        total, result = torch.empty(BLOCK), bytearray(CHUNK)
        rounded = torch.frombuffer(result, dtype=torch.bfloat16)
        for sources, target, start, length in pieces[first::THREADS]:
            for source, buffer in zip(sources, raw, strict=True):
                os.preadv(source, [memoryview(buffer)[:length]], start)
            for low in range(0, length // 2, BLOCK):
                high = min(low + BLOCK, length // 2)
                part = total[: high - low]
                part.copy_(views[0][low:high]).mul_(weight)
                for view in views[1:]:
                    part.add_(view[low:high], alpha=weight)
                rounded[low:high].copy_(part)
            os.pwrite(target, memoryview(result)[:length], start)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
