"""What was seen and decided, written: records, judgement, pages, the run's manifest."""

from fusion.manifests.run import RunManifest
from jobs.console.figures import Figures
from jobs.evaluate.score import ScoreBook
from jobs.merge.fuse import FusedModel
from jobs.outputs.baselines import delete_baselines
from jobs.outputs.judgements import (
    Judgement,
    find_judgement,
    judgement_name,
    keep_judgement,
    keep_manifest,
)
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import Incumbent
from jobs.report.pages import write_report
from jobs.run.conclude import Ruling
from jobs.run.context import RunContext
from jobs.run.judge import Judged, judge_fused
from jobs.run.names import INCUMBENT
from jobs.run.report_value import make_report
from jobs.run.witness import Witness


def judge(context: RunContext, witness: Witness, incumbent: Incumbent | None) -> Judgement:
    """Judge a model against an incumbent and write that down, unless it was judged already.

    No driver overwrites the judgement afterwards.
    """
    known = find_judgement(context.folder, incumbent.run if incumbent else "")
    if known is not None:
        return known
    with context.timed("evaluate fused"):
        judged = judge_fused(context, witness.chosen, witness.fused, witness.others, incumbent)
    _keep_records(context, witness.ranked, judged)
    return keep_judgement(context.folder, make_report(context, witness, judged))


def publish(context: RunContext, fused: FusedModel, judgement: Judgement) -> Ruling:
    """Pages, then the manifest of a judgement; baselines have served and go. Safe to repeat."""
    tell = context.say.step("report")
    tell(0, 1, Figures())
    plan, report = context.plan, judgement.report
    write_pages(context.folder, judgement)

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

    sha256 = keep_manifest(context.folder, judgement, make)
    delete_baselines(context.folder)
    tell(1, 1, Figures())
    verdict = report.verdict
    return Ruling(verdict.decision, verdict.sentence, sha256, report.incumbent)


def write_pages(folder: RunFolder, judgement: Judgement) -> None:
    """report.html and report.md, which follow from report.json alone. Safe to repeat."""
    for name, content in write_report(judgement.report).items():
        if name != "report.json":
            folder.keep(judgement_name(name, judgement.number), content)


def _keep_records(context: RunContext, ranked: ScoreBook, judged: Judged) -> None:
    for book in (ranked, judged.book):
        for name, slice_name in book.results:
            # A run may be judged again, against another incumbent.
            against = f" {judged.incumbent.run}" if name == INCUMBENT and judged.incumbent else ""
            context.keep_records(name, slice_name, book, stored_as=name + against)
