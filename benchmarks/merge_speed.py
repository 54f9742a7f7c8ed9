"""`metafuse merge` beside a bare upper bound and mergekit, on the same files, in turns.

    python benchmarks/merge_speed.py [--models 4] [--layers 16] [--rounds 5] [--inputs FOLDER]

Whole processes: the import of PyTorch counts. Writes benchmarks/merge_speed.{json,md,svg}. Ratios
hold from machine to machine, seconds do not. mergekit runs in an environment of its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from measure import Contender, Figures, alternate, medians

HERE = Path(__file__).parent
MERGEKIT = ("torch==2.13.0", "mergekit==0.1.5")
BOUND = "upper bound"
OURS = "metafuse merge"


def mergekit_command() -> str:
    """mergekit-yaml of an environment of its own, made once."""
    place = Path(os.environ.get("MERGEKIT_VENV", HERE.parent / ".venv" / "mergekit"))
    command = place / "bin" / "mergekit-yaml"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "-q", *MERGEKIT], check=True)
    return str(command)


def contenders(inputs: Path, outputs: Path, count: int) -> list[Contender]:
    """What is compared."""
    document = outputs / "merge.yml"
    weight = 1 / count
    document.write_text(
        "models:\n"
        + "".join(
            f"  - {{model: {inputs}/m{n}, parameters: {{weight: {weight}}}}}\n"
            for n in range(count)
        )
        + "merge_method: linear\ndtype: bfloat16\n"
    )
    offline = {"HF_HUB_OFFLINE": "1"}

    def entry(name: str, folder: str, *command: str) -> Contender:
        out = outputs / folder

        def clear() -> None:
            shutil.rmtree(out, ignore_errors=True)

        return Contender(name, [*command], clear, offline)

    merge = [sys.executable, "-m", "jobs", "merge", str(document)]
    return [
        entry(BOUND, "bound", sys.executable, str(HERE / "upper_bound.py"), str(inputs),
              str(outputs / "bound")),
        entry(OURS, "ours", *merge, str(outputs / "ours")),
        entry("metafuse merge --digest sha256", "sha256", *merge, str(outputs / "sha256"),
              "--digest", "sha256"),
        entry("metafuse merge --health full", "health", *merge, str(outputs / "health"),
              "--health", "full"),
        entry("mergekit 0.1.5", "mergekit", mergekit_command(), str(document),
              str(outputs / "mergekit"), "--no-write-model-card", "--lazy-unpickle"),
    ]  # fmt: skip


def table(rows: dict[str, Figures], read_gb: float) -> str:
    """Markdown: one line a contender, ratio to the bound."""
    bound = rows[BOUND].wall_seconds
    lines = [
        "| | wall s | to the bound | CPU s | peak MiB | read GB/s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {row.wall_seconds:.2f} | {row.wall_seconds / bound:.2f} | "
        f"{row.cpu_seconds:.1f} | {row.peak_mib:.0f} | {read_gb / row.wall_seconds:.2f} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines) + "\n"


def draw(rows: dict[str, Figures], path: Path) -> None:
    """Wall time and memory as bars."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "metafuse"
    from matplotlib import pyplot

    names = list(reversed(rows))
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 2.8), sharey=True)
    for axis, values, label in (
        (axes[0], [rows[n].wall_seconds for n in names], "wall time, s"),
        (axes[1], [rows[n].peak_mib / 1024 for n in names], "peak resident memory, GiB"),
    ):
        colours = ["#0f766e" if n.startswith("metafuse") else "#94a3b8" for n in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, fmt="%.2f", padding=3)
        axis.set_xlabel(label)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--layers", type=int, default=16, help="16: 2.5 GB a model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inputs", type=Path, help="where they are, or are to be made")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metafuse-bench-") as place:
        inputs = wanted.inputs or Path(place) / "inputs"
        if not (inputs / "m0").exists():
            # In a process of its own: this one stays small.
            numbers = [str(wanted.models), str(wanted.layers)]
            subprocess.run([sys.executable, HERE / "inputs.py", inputs, *numbers], check=True)
        outputs = Path(place) / "outputs"
        outputs.mkdir()
        found = alternate(contenders(inputs, outputs, wanted.models), wanted.rounds)
        size = sum(path.stat().st_size for path in inputs.glob("m*/*.safetensors"))
    rows = {name: medians(figures) for name, figures in found.items()}
    text = (
        f"{wanted.models} checkpoints of {size / wanted.models / 1e9:.2f} GB in bfloat16, local, "
        f"page cache warm, {os.cpu_count()} cores, whole processes in turns, "
        f"median of {wanted.rounds}.\n\n" + table(rows, size / 1e9)
    )
    print("\n" + text)
    (HERE / "merge_speed.md").write_text(text)
    content = {
        "models": wanted.models,
        "bytes": size,
        "rounds": wanted.rounds,
        "medians": {name: asdict(row) for name, row in rows.items()},
        "all": {name: [asdict(row) for row in figures] for name, figures in found.items()},
    }
    (HERE / "merge_speed.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    draw(rows, HERE / "merge_speed.svg")


if __name__ == "__main__":
    main()
