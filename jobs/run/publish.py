"""What was seen and decided, written: records, judgement, pages, the run's manifest."""

from collections import Counter

from cluster.stores.store import Store
from fusion.manifests.run import RunManifest
from jobs.candidates.adapters import find_doubts
from jobs.evaluate.score import ScoreBook
from jobs.merge.fuse import FusedModel
from jobs.outputs.judgements import Judgement, judgement_key, keep_judgement, keep_manifest
from jobs.outputs.puts import keep_first
from jobs.report.pages import write_report
from jobs.run.attempt import Begun
from jobs.run.baselines import delete_baselines
from jobs.run.context import RunContext
from jobs.run.judge import Judged
from jobs.run.names import INCUMBENT
from jobs.run.report_value import make_report
from jobs.run.request import RunRequest
from jobs.run.weigh import ChosenWeights
from jobs.tasks.text_classification import load_examples


def write_pages(store: Store, run: str, judgement: Judgement) -> None:
    """report.html and report.md, which follow from report.json alone. Safe to repeat."""
    for name, content in write_report(judgement.report).items():
        if name != "report.json":
            keep_first(store, judgement_key(run, name, judgement.number), content)


def keep_verdict(
    context: RunContext,
    request: RunRequest,
    begun: Begun,
    ranked: ScoreBook,
    chosen: ChosenWeights,
    fused: FusedModel,
    judged: Judged,
) -> Judgement:
    """Write what was seen and decided; nobody overwrites it afterwards."""
    context.lease.confirm()
    _keep_records(context, ranked, judged)
    examples = load_examples(context.task)
    notes = [*context.notes, *find_doubts(context.candidates)]
    if examples.num_repeated:
        notes.append(
            f"{examples.num_repeated} near-duplicates of examples in other slices were left out"
        )
    if examples.num_shared:
        notes.append(
            f"{examples.num_shared} examples of the audit slice nearly repeat one of the gate "
            "slice; they were left where they are"
        )
    if begun.identity.state == "resumed":
        notes.append("the run was interrupted and taken up again; times are of the last part")
    if begun.left_for_later:
        found = ", ".join(begun.left_for_later)
        notes.append(f"found since the run began and left for the next: {found}")
    report = make_report(
        context,
        ranked=ranked,
        chosen=chosen,
        fused=fused,
        judged=judged,
        slices=Counter(name for name in examples.slices if name),
        notes=tuple(notes),
        published=request.published,
    )
    return keep_judgement(context.store, context.plan.run, report, check=context.lease.confirm)


def _keep_records(context: RunContext, ranked: ScoreBook, judged: Judged) -> None:
    for book in (ranked, judged.book):
        for name, slice_name in book.results:
            # A run may be judged again, against another incumbent.
            against = f" {judged.incumbent.run}" if name == INCUMBENT and judged.incumbent else ""
            context.keep_records(name, slice_name, book, stored_as=name + against)


def publish_judgement(context: RunContext, fused: FusedModel, judgement: Judgement) -> str:
    """Pages and manifest of a judgement; returns the manifest's sha256."""
    context.say("report", 0, 1, "")
    context.lease.confirm()
    plan, report = context.plan, judgement.report
    write_pages(context.store, plan.run, judgement)

    def make(report_sha256: str) -> RunManifest:
        return RunManifest(
            run=plan.run,
            recipe=plan.recipe,
            logical_date=plan.logical_date,
            attempt=plan.attempt,
            recipe_digest=plan.recipe_digest,
            model=fused.folder,
            model_manifest_sha256=fused.manifest_sha256,
            verdict=report.verdict,
            scores=tuple(row.gate for row in report.models),
            report_sha256=report_sha256,
        )

    sha256 = keep_manifest(context.store, plan.run, judgement, make)
    delete_baselines(context.store, plan.run)
    context.say("report", 1, 1, "")
    return sha256
