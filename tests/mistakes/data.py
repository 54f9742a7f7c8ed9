"""Mistakes in the evaluation data, D001 to D050 of the list, each made in the nightly folder."""

import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tests.mistakes.folders import Make, recipe
from tests.mistakes.nightly import LABELS, WORDS, examples, write_csv

Rows = Sequence[Sequence[object]]
CSV = "eval.csv"


def lines(change: Callable[[list[str]], list[str]]) -> Make:
    """Change the lines of eval.csv; line 0 is the header, so that a row has its number from 1."""

    def make(folder: Path) -> None:
        path = folder / CSV
        changed = change(path.read_text().splitlines())
        path.write_text("".join(f"{line}\n" for line in changed))

    return make


def at(*numbers: int, line: str) -> Make:
    """Other lines at these places, of which the first row is 1; {text} and {label} are theirs."""

    def change(old: list[str]) -> list[str]:
        for number in numbers:
            text, label = old[number].rsplit(",", 1)
            old[number] = line.format(text=text, label=label, number=number)
        return old

    return lines(change)


def content(change: Callable[[bytes], bytes], *, file: str = CSV) -> Make:
    """Change the bytes of eval.csv, and its name."""

    def make(folder: Path) -> None:
        changed = change((folder / CSV).read_bytes())
        (folder / CSV).unlink()
        (folder / file).write_bytes(changed)
        recipe("./eval.csv", f"./{file}")(folder)

    return make


def rows(
    change: Callable[[list[tuple[str, str]]], Rows], *, header: Sequence[str] = ("text", "label")
) -> Make:
    """Other rows, and columns, in eval.csv."""

    def make(folder: Path) -> None:
        write_csv(folder / CSV, change(list(examples())), header=header)

    return make


def labelled(give: Callable[[int, str], object]) -> Make:
    """Other labels: by number of the row, from 0, and label."""
    return rows(lambda old: [(text, give(i, label)) for i, (text, label) in enumerate(old)])


def named(columns: str) -> Make:
    """Columns of the recipe."""
    return recipe("{text: text, label: label}", columns)


def jsonl(change: Callable[[int, str, str], object], *, cut: int = 0) -> Make:
    """eval.jsonl, an object a row, the last bytes cut off."""

    def make(folder: Path) -> None:
        written = "".join(json.dumps(change(i, *row)) + "\n" for i, row in enumerate(examples()))
        (folder / "eval.jsonl").write_text(written[: len(written) - cut])
        recipe("./eval.csv", "./eval.jsonl")(folder)

    return make


def arrow(change: Callable[[dict[str, list[str]]], pa.Table], *, cut: int = 0) -> Make:
    """eval.parquet of what `change` makes of the columns, the last bytes cut off."""

    def make(folder: Path) -> None:
        columns = dict(
            zip(("text", "label"), map(list, zip(*examples(), strict=True)), strict=True)
        )
        path = folder / "eval.parquet"
        parquet.write_table(change(columns), path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
        recipe("./eval.csv", "./eval.parquet")(folder)

    return make


def data_folder(folder: Path, files: dict[str, str]) -> None:
    """A folder of data in place of the file."""
    (folder / "evaldir").mkdir()
    for name, text in files.items():
        (folder / "evaldir" / name).write_text(text)
    recipe("./eval.csv", "./evaldir")(folder)


def halves() -> tuple[list[str], list[str]]:
    """Lines of the two halves of the data, without a header."""
    listed = [f"{text},{label}" for text, label in examples()]
    return listed[:200], listed[200:]


def parts_and_others(folder: Path) -> None:
    first, second = ("\n".join(("text,label", *half)) + "\n" for half in halves())
    data_folder(folder, {"part-0.csv": first, "part-1.csv": second, "README.md": "# text,label\n",
                         ".DS_Store": "Bud1", "_SUCCESS": ""})  # fmt: skip


def parts_in_two_orders(folder: Path) -> None:
    first, second = halves()
    turned = ["label,text"]
    for line in second:
        text, label = line.rsplit(",", 1)
        turned.append(f"{label},{text}")
    data_folder(folder, {"part-0.csv": "\n".join(("text,label", *first)) + "\n",
                         "part-1.csv": "\n".join(turned) + "\n"})  # fmt: skip


def converted(folder: Path) -> None:
    arrow(pa.table)(folder)
    (folder / "evaldir").mkdir()
    for name in (CSV, "eval.parquet"):
        (folder / name).rename(folder / "evaldir" / name)
    recipe("./eval.parquet", "./evaldir")(folder)


def nulls(columns: dict[str, list[str]]) -> pa.Table:
    texts: list[str | None] = list(columns["text"])
    texts[3] = texts[250] = None
    return pa.table({"text": pa.array(texts, pa.string()), "label": columns["label"]})


def categories(columns: dict[str, list[str]]) -> pa.Table:
    return pa.table({
        "text": columns["text"],
        "label": pa.array(columns["label"]).dictionary_encode(),
        "__index_level_0__": list(range(len(columns["text"]))),
    })  # fmt: skip


def pandas_json(folder: Path) -> None:
    columns = {
        name: {str(i): row[place] for i, row in enumerate(examples())}
        for place, name in enumerate(("text", "label"))
    }
    (folder / "eval.json").write_text(json.dumps(columns))
    recipe("./eval.csv", "./eval.json")(folder)


def json_array(folder: Path) -> None:
    objects = [{"text": text, "label": label} for text, label in examples()]
    (folder / "eval.jsonl").write_text(json.dumps(objects))
    recipe("./eval.csv", "./eval.jsonl")(folder)


def broken_lines(folder: Path) -> None:
    with (folder / CSV).open("w") as file:
        file.write("text,label\n")
        for number, (text, label) in enumerate(examples()):
            first, rest = text.split(" ", 1)
            file.write(f'"{first}\n{rest}",{label}\n' if number < 20 else f"{text},{label}\n")


def contradictions(old: list[tuple[str, str]]) -> Rows:
    others = [(text, LABELS[1 - LABELS.index(label)]) for text, label in old[:20]]
    return [*old[:380], *others]


def bare_quotes(folder: Path) -> None:
    written = ["text\tlabel"]
    for number, (text, label) in enumerate(examples(), 1):
        written.append(f'{text} 5" screen\t{label}' if number in (44, 200) else f"{text}\t{label}")
    (folder / "eval.tsv").write_text("\n".join(written) + "\n")
    recipe("./eval.csv", "./eval.tsv")(folder)


def number_texts(old: list[tuple[str, str]]) -> Rows:
    generator = random.Random(1)
    texts = ["007", "1.50", "12345"]
    texts += [f"{number:06d}" for number in generator.sample(range(10**6), len(old) - 3)]
    return [(text, label) for text, (_, label) in zip(texts, old, strict=True)]


def missing_words(old: list[tuple[str, str]]) -> Rows:
    words = ("NA", "null", "None", "nan")
    return [(words[i] if i < 4 else text, label) for i, (text, label) in enumerate(old)]


def long_text(old: list[tuple[str, str]]) -> Rows:
    text = " ".join(random.Random(2).choices(WORDS, k=60_000))[:300_000]
    return [(text, old[0][1]), *old[1:]]


def sorted_labels(old: list[tuple[str, str]]) -> Rows:
    return [(text, LABELS[i // 200]) for i, (text, _) in enumerate(old)]


def gzipped(plain: bytes) -> bytes:
    return gzip.compress(plain, mtime=0)
