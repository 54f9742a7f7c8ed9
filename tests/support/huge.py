"""Checkpoints of any size that take little space: holes, with some numbers here and there."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from fusion.checkpoints.header import format_header

BLOCK = 4096  # elements
UPLOAD_PART_BYTES = 64 << 20


def huge_shapes(total_bytes: int) -> dict[str, tuple[int, int]]:
    """Shapes of bfloat16 tensors: one takes two thirds of the bytes, eight share the rest."""
    rows = total_bytes // 2 // 4096
    return {"a.large": (rows * 2 // 3, 4096), **{f"b.{i}": (rows // 24, 4096) for i in range(8)}}


def write_huge(folder: Path, seed: int, total_bytes: int) -> int:
    """One checkpoint of zeros with a block of numbers at the begin, middle and end of each tensor.

    Returns:
        Bytes of the header.
    """
    shapes = huge_shapes(total_bytes)
    header = format_header([(n, "BF16", s) for n, s in shapes.items()], {"format": "pt"})
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "test"}')
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(header)
        start = len(header)
        for number, (rows, columns) in enumerate(shapes.values()):
            for at in places(rows * columns):
                stream.seek(start + 2 * at)
                stream.write(numbers(seed, number).view(torch.uint8).numpy().tobytes())
            start += 2 * rows * columns
        stream.truncate(start)
    return len(header)


def write_many(folder: Path, num_tensors: int, *, value: float) -> None:
    """One checkpoint of very many very small tensors that are full of one value."""
    tensors = [
        (f"layers.{i // 10}.block.weight_{i % 10}", "BF16", (32,)) for i in range(num_tensors)
    ]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "test"}')
    content = torch.full((32 * num_tensors,), value, dtype=torch.bfloat16)
    header = format_header(tensors, {"format": "pt"})
    (folder / "model.safetensors").write_bytes(header + content.view(torch.uint8).numpy().tobytes())


def places(elements: int) -> tuple[int, ...]:
    return (0, elements // 2 + 1, elements - BLOCK)


def numbers(seed: int, tensor: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100 * seed + tensor)
    return torch.randn(BLOCK, generator=generator).to(torch.bfloat16)


def check_average(read, weights, total_bytes: int, header_bytes: int) -> None:
    """Look at the blocks and at the zeros beside them; `read(start, size)` gives bytes."""
    start = header_bytes
    for number, (rows, columns) in enumerate(huge_shapes(total_bytes).values()):
        exact = sum(w * numbers(i, number).double() for i, w in enumerate(weights))
        for at in places(rows * columns):
            content = bytearray(read(start + 2 * at, 2 * BLOCK))
            found = torch.frombuffer(content, dtype=torch.bfloat16).double()
            assert ((found - exact).abs() <= exact.abs() * 2**-8 + 2**-24).all()
        assert not any(read(start + 2 * (BLOCK + 7), 8192))
        start += 2 * rows * columns


def upload_file(store, key: str, path: Path) -> None:
    """A large file in parts, three at a time."""
    size, step = path.stat().st_size, UPLOAD_PART_BYTES
    upload = store.start_upload(key, size=size, metadata={})

    def send(number):
        start = number * step
        with path.open("rb") as stream:
            stream.seek(start)
            content = stream.read(step)
        part = upload.start_part(number + 1, offset=start, size=len(content), with_sha256=False)
        part.append(memoryview(content))
        return part.finish()

    with ThreadPoolExecutor(3) as pool:
        upload.complete(list(pool.map(send, range(-(-size // step)))))
