"""E001 to E050: mistakes in environments and command lines, each with what must come of it."""

import io
import json
import os
import resource
import shutil
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from cluster.ray.places import find_ray_folder
from cluster.stores.open_store import open_store
from cluster.workers.patience import Patience
from fusion.canonical import digest
from jobs.outputs.lease import held_lease
from tests.mistakes.support import (
    DATE,
    RUN,
    Row,
    Step,
    check_row,
    edited,
    listed_ids,
    planned,
    refused,
)
from tests.servers.fault_proxy import FaultProxy
from tests.support.light_runs import drive
from tests.support.servers import make_client, moto_server

QUICK = Patience(lease_beat=0.2)
NOBODY = 65534
KEYS = {"AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "AWS_DEFAULT_REGION": "us-east-1", "METAFUSE_S3_RETRIES": "1"}  # fmt: skip
NOWHERE = "http://127.0.0.1:9"  # the port of "discard", where nothing listens
FIRST = "nightly-2026-11-20"
MODEL = f"model-{digest(FIRST.encode())[:12]}"
LONG = "/nowhere/" + "x" * 120 + "/tmp"
S3_OUT = ("output: ./out", "output: s3://bucket/merged")
NOT_PROMOTED = "nothing promoted is 13 for every verb that reads an output, as a missing model is"


def nothing(_: Path) -> None:
    """The base itself."""


def files_of(checkpoint: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in checkpoint.iterdir()}


def ended(*nights: str):
    """Runs of the base that ended so, one a night from 2026-11-20 on; their models are real."""

    def make(folder: Path) -> None:
        store = open_store(str(folder / "out"))
        for day, decision in enumerate(nights, 20):
            drive(
                store, f"2026-11-{day}", decision, data=str(day), files=files_of(folder / "ckpts/a")
            )

    return make


def all_of(*steps):
    def make(folder: Path) -> None:
        for step in steps:
            step(folder)

    return make


def as_folder(name: str):
    return lambda folder: (folder / name).mkdir()


def move_in(folder: Path) -> None:
    """The whole base below a folder whose name has a space and an ampersand."""
    place = folder / "my models & data"
    place.mkdir()
    for name in ("ckpts", "eval.csv", "recipe.yaml"):
        (folder / name).rename(place / name)
    ended("PROMOTE")(place)


def lock(folder: Path) -> None:
    (folder / "locked").mkdir(mode=0o555)
    edited("output: ./out", "output: ./locked/out")(folder)


@contextmanager
def as_nobody(folder: Path):
    """Without the rights of root, in a folder that everybody may enter."""
    if os.geteuid():
        yield
        return
    place = Path("/tmp") / f"metafuse-nobody-{os.getpid()}"  # pytest's own is closed
    shutil.copytree(folder, place)
    for path in (place, *place.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    os.chdir(place)
    datetime.strptime(DATE, "%Y-%m-%d")  # noqa: DTZ007  # imported while it may be read
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.chdir(folder)
        shutil.rmtree(place)


@contextmanager
def small_files(_: Path):
    """No file of more than 8 KiB: Python ignores the signal, and writes fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def without_reader(_: Path):
    """stdout is a pipe whose reader has left."""
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.MonkeyPatch.context() as patch, os.fdopen(writing, "w") as stream:
        patch.setattr(sys, "stdout", stream)
        yield


def reading(stream):
    """stdin is that; None is what Python makes of a closed one."""

    @contextmanager
    def around(_: Path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", stream and io.TextIOWrapper(io.BytesIO(stream)))
            yield

    return around


def faulty(kind: str, path: str = ".", method: str | None = None):
    """An S3 server with the base's candidates, in front of which a fault stands."""

    @contextmanager
    def around(folder: Path):
        with moto_server() as there, FaultProxy(there["AWS_ENDPOINT_URL_S3"]) as proxy:
            client = make_client(there)
            for file in (folder / "ckpts").rglob("*.*"):
                key = f"mistakes/{file.relative_to(folder)}"
                client.put_object(Bucket="plain", Key=key, Body=file.read_bytes())
            if kind:
                proxy.add(kind, path=path, method=method)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in {**there, **KEYS, "AWS_ENDPOINT_URL_S3": proxy.url}.items():
                    patch.setenv(name, value)
                yield

    return around


@contextmanager
def held(folder: Path):
    """Another driver of the same run is at work."""
    with held_lease(open_store(str(folder / "out")), f"nightly-{DATE}", patience=QUICK):
        yield


class Stop(KeyboardInterrupt):
    """Ctrl-C."""


def stop_after_evaluation(step: str, done: int, total: int, _: object) -> None:
    if step.startswith("evaluate") and done == total:
        raise Stop


def copy_over(folder: Path) -> None:
    """Other weights of the same size."""
    path = folder / "ckpts/b/model.safetensors"
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(9).normal(0, 0.02, 8).astype("<f4").tobytes()
    content[-len(noise) :] = noise
    path.write_bytes(content)


def one_object(naming: str):
    def check(out: str, _: str) -> None:
        assert naming in json.dumps(json.loads(out)), out

    return check


def one_line(out: str, _: str) -> None:
    assert out.count("\n") == 1, out
    assert "\x1b" not in out


def empty(out: str, _: str) -> None:
    assert not out


def held_after_rollback(folder: Path) -> None:
    _, outcome, _ = drive(open_store(str(folder / "out")), "2026-11-25", data="25")
    assert (outcome.result, outcome.exit_status) == ("hold", 4)
    assert all(word in outcome.reason for word in ("users complain", "metafuse unhold"))


def half_a_pointer(folder: Path) -> None:
    ended("PROMOTE")(folder)
    (folder / "out/latest.json").write_text('{"run": ')


def in_use(folder: Path) -> None:
    ended("PROMOTE")(folder)
    (folder / "model").mkdir()
    (folder / "model/notes.txt").write_text("mine")
    (folder / "model/config.json").write_text("{}")


def with_document(folder: Path) -> None:
    (folder / "merged").mkdir()
    (folder / "mergekit.yml").write_text("merge_method: linear\nmodels: [{model: ckpts/a}]\n")


def uses_s3(endpoint: str = NOWHERE, **more: str | None) -> dict[str, str | None]:
    return {**KEYS, "AWS_ENDPOINT_URL_S3": endpoint, **more}


def verb(*words: str, statuses: tuple[int, ...] = (2,), says: tuple[str, ...] = (), **more) -> Step:
    return Step(words, statuses, says, **more)


WITH_A_REASON = ("--reason", "x")
ROWS = (
    Row("E001", nothing, (verb("recipe.yaml", "run", says=("metafuse run recipe.yaml",)),)),
    Row("E002", nothing,
        (verb("promot", "./out", DATE, *WITH_A_REASON, says=("Did you mean 'promote'",)),)),
    Row("E003", nothing, (verb("run", "recipe.yml", statuses=(2, 10, 21),
                               says=("{folder}/recipe.yml", "recipe.yaml")),)),
    Row("E004", nothing, (verb("run", ".", statuses=(2, 10), says=("folder", "recipe.yaml")),)),
    Row("E005", nothing, (verb("run", "recipe.yaml", "--dry-run", says=("--dry-run",)),)),
    Row("E006", nothing, (verb("run", "recipe.yaml", "other.yaml", says=("other.yaml",)),)),
    Row("E007", nothing, (verb("resolve", "recipe.yaml", statuses=(2, 10, 21),
                               says=("OUTPUT", "{folder}/out"), check=empty),)),
    Row("E008", nothing, (verb("resolve", "./out", statuses=(3, 13, 21), check=empty,
                               says=("nothing was promoted", "metafuse run")),),
        reason=NOT_PROMOTED),
    Row("E009", as_folder("out"),
        (verb("history", "./out", statuses=(0,), says=("no run",)),
         verb("history", "./out", "--within", "26h", statuses=(3,), says=("no run",)))),
    Row("E010", ended("HOLD"),
        (verb("predict", "./out", "--text", "good", statuses=(10, 13, 21),
              says=("nothing was promoted", FIRST, "held", "metafuse promote ./out")),),
        reason=NOT_PROMOTED),
    Row("E011", ended("HOLD"),
        (verb("promote", "./out", FIRST, says=("--reason",)),
         verb("promote", "./out", FIRST, *WITH_A_REASON, statuses=(0,), says=(FIRST,)),
         verb("resolve", "./out", statuses=(0,), says=(f"out/runs/{FIRST}/model-",)))),
    Row("E012", ended("HOLD"),
        (verb("promote", "./out", "1999-01-01", *WITH_A_REASON, statuses=(10, 13, 21),
              says=("'1999-01-01'", "metafuse (history|status) ./out")),),
        reason="a run that is not there is 13, as a candidate that is not there is"),
    Row("E013", ended("PROMOTE"),
        (verb("rollback", "./out", "--reason", "users complain", statuses=(11, 13),
              says=(f"no model was promoted before {FIRST}", "hold")),)),
    Row("E014", ended("PROMOTE", "HOLD"),
        (verb("rollback", "./out", "--to", "nightly-2026-11-21", *WITH_A_REASON, statuses=(11,),
              says=("nightly-2026-11-21 was never promoted", "metafuse promote")),)),
    Row("E015", ended("PROMOTE"), (verb("unhold", "./out", statuses=(0, 3), says=("no hold",)),)),
    Row("E016", ended("PROMOTE", "PROMOTE"),
        (verb("rollback", "./out", "--reason", "users complain", statuses=(0,), says=("hold",)),
         verb("status", "./out", "--watch", "0", statuses=(0,), says=("users complain",),
              before=held_after_rollback)),
        reason="the run itself is that of tests/support/light_runs.py, whose outcome is held to 4"),
    Row("E017", ended("PROMOTE", "PROMOTE", "HOLD"),
        (verb("gc", "./out", "--keep", "0", "--older-than", "0s", statuses=(0,),
              says=("removed", f"{FIRST}/model-")),
         verb("resolve", "./out", "--verify", statuses=(0,), says=("2026-11-21/model-",)))),
    Row("E018", ended("PROMOTE"),
        (verb("gc", "./out", "--older-than", "7", says=("--older-than", "7d")),)),
    Row("E019", nothing,
        (planned("3 candidates"),
         refused("locked", "cannot be written", statuses=(21,), before=lock, around=as_nobody),
         refused("locked", "cannot be written", statuses=(21,), words=RUN, around=as_nobody))),
    Row("E020", lambda folder: (folder / "out").touch(),
        (refused("{folder}/out is a file", "folder", statuses=(10, 21)),
         refused("{folder}/out is a file", "folder", statuses=(10, 21), words=RUN))),
    Row("E021", move_in,
        (planned("3 candidates", words=("plan", "{folder}/my models & data/recipe.yaml")),
         verb("resolve", "{folder}/my models & data/out", statuses=(0,), check=one_line,
              says=("{folder}/my models & data/out/runs/",)),
         verb("predict", "{folder}/my models & data/out/runs/" + FIRST + "/" + MODEL,
              "--text", "good", statuses=(0,), says=("good",)))),
    Row("E022", edited("{rule: softmax, temperature: 1.0}", "{rule: uniform}"),
        (verb("merge", "recipe.yaml", "./fused", statuses=(21, 22), says=("fused",),
              around=small_files),
         verb("merge", "recipe.yaml", "./fused", statuses=(0,))),
        writes=r"fused|\.metafuse-lock",
        reason="by `merge`, which writes a model as `run` does; files of 8 KiB, models of 18"),
    Row("E023", edited("output: ./out", "output: s3:/bucket/merged"),
        (refused("recipe.yaml:10: output", "s3://bucket/merged"),)),
    Row("E024", edited("[./ckpts/*]", "[https://bucket.s3.amazonaws.com/run-42/]"),
        (refused("https://bucket.s3.amazonaws.com/run-42", "write s3://bucket/run-42"),)),
    Row("E025", edited("output: ./out", "output: s3://nightly-modls/merged"),
        (refused("nightly-modls", "does not exist", "http://127.0.0.1:", statuses=(21,),
                 around=faulty("")),)),
    Row("E026", edited(*S3_OUT), (refused("credentials", "AWS_ACCESS_KEY_ID", "AWS_PROFILE",
                                          statuses=(21,)),),
        environment={"HOME": "{folder}/none", "AWS_EC2_METADATA_DISABLED": "true"}),
    Row("E027", edited(*S3_OUT),
        (refused("s3://bucket/merged", "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY",
                 statuses=(21,), around=faulty("signature"), never=("canary",)),)),
    Row("E028", edited(*S3_OUT),
        (refused("s3://bucket/merged", "us-east-1", "AWS_REGION=eu-central-1", statuses=(21,),
                 around=faulty("region")),)),
    Row("E029", edited(*S3_OUT),
        (refused("AWS_ENDPOINT_URL_S3", "127.0.0.1:9000", "http://127.0.0.1:9000",
                 statuses=(10, 21)),),
        environment=uses_s3("127.0.0.1:9000")),
    Row("E030", nothing,
        (verb("status", "s3://bucket/merged", statuses=(21,), says=(NOWHERE, "refused"),
              never=("nothing (is|was) promoted",)),),
        environment=uses_s3(METAFUSE_S3_RETRIES="0"),
        reason="without retries, so that it does not take long"),
    Row("E031", edited("./ckpts/*", "s3://plain/mistakes/ckpts/*"),
        (Step(("plan", "recipe.yaml"), (0, 21), ("ckpts/b/model.safetensors", "s3:GetObject"),
              ("missing",), around=faulty("denied", "ckpts/b/model.safetensors", "GET")),)),
    Row("E032", edited("output: ./out", "output: s3://plain//merged/"),
        (refused("recipe.yaml:10: output", "s3://plain/merged", around=faulty("")),)),
    Row("E033", nothing, (planned("3 candidates"),), environment={"HOME": None},
        reason="by `plan`; tests/cluster/ray/test_places.py has what Ray does without HOME"),
    Row("E034", lambda _: find_ray_folder({"TMPDIR": LONG}), (planned("3 candidates"),),
        environment={"TMPDIR": LONG},
        reason="Ray's files go to a shorter folder; tests/jobs/run/test_on_ray.py starts it so"),
    Row("E035", lambda folder: (folder / "ckpts/c").rename(folder / "ckpts/modèle"),
        (planned(r"use mod(è|\\xe8|(\\ufffd)+)le", is_process=True),),
        environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    Row("E036", ended(*["HOLD"] * 9),
        (verb("history", "./out", "--last", "0", statuses=(0,), around=without_reader),)),
    Row("E037", ended("PROMOTE"),
        (verb("resolve", "./out", statuses=(0,), says=("{folder}/out/runs/",), check=one_line),),
        environment={"COLUMNS": "20"}),
    Row("E038", ended("PROMOTE"),
        (verb("predict", "./out", statuses=(0, 2, 10), says=("--text", "--input"),
              around=reading(None)),)),
    Row("E039", ended("PROMOTE"),
        (verb("predict", "./out", statuses=(10,), says=("line 1", "UTF-8"),
              around=reading(b"caf\xe9 was nice\n")),)),
    Row("E040", ended("PROMOTE"),
        (verb("predict", "./out", "--text", "good", "--input", "eval.csv",
              says=("--text and --input",)),)),
    Row("E041", ended("PROMOTE"),
        (verb("predict", "./out", "--input", "eval.csv", "--output", "eval.csv",
              statuses=(2, 10), says=("eval.csv", "--input", "--output")),)),
    Row("E042", ended("PROMOTE"),
        (verb("predict", "./out", "--input", "eval.csv", "--output", "answers.xlsx",
              statuses=(2, 10), says=(".xlsx", ".parquet, .jsonl, .csv")),)),
    Row("E043", lambda folder: (folder / "eval.csv").unlink(),
        (verb(*RUN, "--json", statuses=(10, 21), check=one_object("eval.csv")),),
        writes="out"),
    Row("E044", nothing,
        (verb("run", "recipe.yaml", "--date", "01/06/2024", statuses=(2, 10),
              says=("--date 01/06/2024", "2024-06-01")),)),
    Row("E045", nothing,
        (refused(f"nightly-{DATE} is alive", statuses=(30,), words=RUN, around=held),),
        writes="out"),
    Row("E046", nothing,
        (Step(RUN, (130,), is_serial=True, hear=stop_after_evaluation),
         Step(RUN, (20,), ("ckpts/b",), before=copy_over, is_serial=True)),
        writes="out"),
    Row("E047", half_a_pointer,
        (verb("resolve", "./out", statuses=(11,), check=empty,
              says=("latest.json", "JSON", "metafuse history ./out")),
         verb("history", "./out", statuses=(0,), says=(FIRST,)))),
    Row("E048", in_use,
        (verb("pull", "./out", "./model", statuses=(10, 11, 21), says=("model", "config.json")),),
        reason="a folder that cannot be written is 21"),
    Row("E049", edited("gate:", 'schedule: {cron: "0 25 * * *", zone: Europe/Paris}\ngate:'),
        (refused("schedule.cron", "hour", "0 to 23", words=("schedule", "list", "recipe.yaml")),)),
    Row("E050", with_document,
        (verb("merge", "./merged", "mergekit.yml", statuses=(2, 10),
              says=("merged", "folder", r"metafuse merge mergekit.yml (\./)?merged")),)),
)  # fmt: skip


def test_the_table_has_every_row():
    assert [row.id for row in ROWS] == listed_ids("E")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_mistake_in_an_environment_or_a_command_line(row, base, capsys):
    check_row(row, base, capsys)
