"""Runs without candidates or workers: a committed model, a judgement, and the real rest."""

from dataclasses import replace

from cluster.digests import RunningDigest
from fusion.canonical import digest
from fusion.checkpoints.checkpoint import Pin
from fusion.manifests.model import FileEntry, ModelManifest
from fusion.manifests.run import RunManifest
from jobs.outputs.judgements import find_judgement, keep_judgement, keep_manifest
from jobs.outputs.model import commit_model
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import RunPlan, find_unfinished, identify_run, read_incumbent, read_outcome
from jobs.run.conclude import Ruling, find_promoted, finish, incumbents, promote
from tests.support.sample_report import make_report

RECIPE = "nightly"
UNIT = 8
REPORT = make_report()


def wanted_plan(store, date, data="1", recipe=RECIPE) -> RunPlan:
    return RunPlan(
        run="", recipe=recipe, logical_date=date, attempt=0, recipe_digest="0" * 64, candidates=(),
        skipped=(), data=Pin(1, data, None), incumbent=read_incumbent(store),
    )  # fmt: skip


def begin(store, date, data="1", recipe=RECIPE):
    """The attempt to work on, as a driver finds it."""
    unfinished = find_unfinished(store, recipe=recipe, logical_date=date, recipe_digest="0" * 64)
    return unfinished or identify_run(store, wanted_plan(store, date, data, recipe))


def write_model(store, run, files=None) -> tuple[str, str]:
    """A committed model of two units, or of the files of a checkpoint by their names.

    Returns:
        Its folder, and its manifest's sha256.
    """
    folder = f"runs/{run}/model-{digest(run.encode())[:12]}"
    side = dict(files or {"config.json": b"{}"})
    content = side.pop("model.safetensors", f"tensors {run:>12}"[: 2 * UNIT - 3].encode())
    # S3 takes no small parts but the last.
    unit = len(content) if store.is_remote or files else UNIT
    if not any(True for _ in store.list(f"{folder}/model.safetensors")):
        upload = store.start_upload(
            f"{folder}/model.safetensors", size=len(content), metadata={"plan": run}
        )
        parts = []
        for number, start in enumerate(range(0, len(content), unit), 1):
            piece = content[start : start + unit]
            writer = upload.start_part(number, offset=start, size=len(piece), with_sha256=True)
            writer.append(memoryview(piece))
            parts.append(writer.finish())
        upload.complete(parts)
    crc = RunningDigest(with_sha256=False)
    crc.update(content)
    units = tuple(digest(content[start : start + unit]) for start in range(0, len(content), unit))
    whole = digest(b"".join(map(bytes.fromhex, units)))
    shard = FileEntry("model.safetensors", len(content), whole, unit, crc.crc64nvme, units)
    sha256 = commit_model(
        store, folder, side_files={**side, "README.md": run.encode()},
        shards=[shard], manifest=ModelManifest(run, "linear", (), ()),
    )  # fmt: skip
    return folder, sha256


def judge(store, plan, folder, model_sha256, incumbent, decision) -> Ruling:
    """What the gate says, unless it has said so before."""
    before = incumbent.run if incumbent else ""
    judgement = find_judgement(RunFolder(store, plan.run), before)
    if judgement is None:
        verdict = replace(REPORT.verdict, decision=decision)
        report = replace(REPORT, run=plan.run, incumbent=before, verdict=verdict)
        judgement = keep_judgement(RunFolder(store, plan.run), report)
    verdict = judgement.report.verdict

    def make(report_sha256):
        return RunManifest(
            plan.run, plan.recipe, plan.logical_date, plan.attempt, plan.recipe_digest, folder,
            model_sha256, verdict, (), report_sha256,
        )  # fmt: skip

    sha256 = keep_manifest(RunFolder(store, plan.run), judgement, make)
    return Ruling(verdict.decision, verdict.sentence, sha256, before)


def drive(store, date, decision="PROMOTE", data="1", recipe=RECIPE, files=None):
    """One driver of a run, from its beginning to its outcome: (name, outcome, state)."""
    identity = begin(store, date, data, recipe)
    plan = identity.plan
    if identity.state == "nothing_new":
        return plan.run, identity.outcome, "nothing_new"
    outcome = find_promoted(store, plan)
    if outcome is None:
        folder, model_sha256 = write_model(store, plan.run, files)
        for incumbent, is_last in incumbents(store, plan):
            ruling = judge(store, plan, folder, model_sha256, incumbent, decision)
            outcome = promote(store, plan, folder, ruling=ruling, is_last=is_last)
            if outcome is not None:
                break
    run = RunFolder(store, plan.run)
    outcome = finish(run, outcome or find_promoted(store, plan)).outcome
    assert read_outcome(run) == outcome
    return plan.run, outcome, identity.state
