"""A report of a plausible night, for tests and for looking at."""

from fusion.evidence.verdict import Comparison, Verdict
from fusion.manifests.model import MergeFigures, SourceEntry
from fusion.manifests.report import CandidateRow, ForestRow, ModelRow, PublishedFigure, RunReport
from fusion.manifests.survey import ExampleRow, Survey
from fusion.plans.health import CandidateHealth, HealthSummary, ModelHealth, TensorHealth
from fusion.scores.confusion import Answers
from fusion.scores.records import Score
from jobs.report.advice import Place, advise


def make_score(name, loss, accuracy, slice_name="gate", n=480):
    metrics = {
        "accuracy": accuracy, "macro_f1": accuracy - 0.01, "confidence": 0.9, "brier": 0.31,
    }  # fmt: skip
    return Score(name, slice_name, n, n, loss, 0.031, metrics)


def make_health():
    """Four candidates near each other; the fourth strays in the last layers."""
    names = [f"layers.{n}.{part}.weight" for n in range(6) for part in ("attention", "dense")]
    tensors = tuple(
        TensorHealth(
            name, 0.41 + place / 50, 0.02, (0.991, 0.988, 0.985, 0.97 - place * place / 900),
            0.97 - place / 300, 1.0 if place % 2 else 0.072,
        )
        for place, name in enumerate(names)
    )  # fmt: skip
    candidates = tuple(
        CandidateHealth(f"seed-{i}", cosine, names[-1], cosine - 0.02)
        for i, cosine in enumerate((0.991, 0.988, 0.985, 0.926), 1)
    )
    summary = HealthSummary(
        "sampled", 0.083, 12, 0.63, names[-1], candidates, 0.941, tuple(reversed(names)),
        ("the norm of the fused model is 0.94 of the mean of its sources",),
    )  # fmt: skip
    return ModelHealth(summary, tensors)


def make_report(**changes):
    kept = [
        CandidateRow(
            name=f"seed-{i}",
            uri=f"s3://bucket/run-42/seed-{i}",
            status="kept",
            reason=f"rank {i} of 4",
            weight=0.25 + 0.01 * (2 - i),
            num_parameters=1_362_000,
            num_bytes=5_448_000,
            seconds=2.4 + i / 10,
            peak_bytes=512_000_000,
            rank=make_score(f"seed-{i}", 0.61 + i / 50, 0.79, "rank", 300),
            gate=make_score(f"seed-{i}", 0.62 + i / 50, 0.78),
        )
        for i in range(1, 5)
    ]
    out = [
        CandidateRow(
            name="bad-lr",
            uri="s3://bucket/run-42/bad-lr",
            status="dropped",
            reason="loss 3.214 is worse than always guessing the class shares (0.693)",
            num_parameters=1_362_000,
            num_bytes=5_448_000,
            seconds=2.2,
            rank=make_score("bad-lr", 3.214, 0.51, "rank", 300),
        ),
        CandidateRow(
            name="bit-rot",
            uri="s3://bucket/run-42/bit-rot",
            status="dropped",
            reason="loss 11.9 is worse than always guessing the class shares (0.693)",
            num_parameters=1_362_000,
            num_bytes=5_448_000,
            seconds=2.2,
            rank=make_score("bit-rot", 11.9, 0.49, "rank", 300),
            health="absmax 3.1e+38 in dense.weight",
        ),
    ]
    comparisons = (
        Comparison("night-2026-11-23", "incumbent", 0.0452, 0.0121, 0.0253, 0.0651, 0.0214, 0.0690,
                   479, 480, 480, 0.0301),
        Comparison("seed-1", "best_candidate", 0.0813, 0.0174, 0.0526, 0.1100, 0.0471, 0.1155,
                   479, 480, 480, 0.0433),
    )  # fmt: skip
    values = {
        "run": "night-2026-11-24",
        "recipe": "night",
        "logical_date": "2026-11-24",
        "attempt": 1,
        "created": "2026-11-24T04:03:12+00:00",
        "version": "0.1.0",
        "output": "s3://bucket/merged",
        "model": "s3://bucket/merged/runs/night-2026-11-24/model-0123456789ab",
        "verdict": Verdict(
            "PROMOTE", "better",
            "loss 0.0452 nats lower than that of the incumbent night-2026-11-23 (95 % CI of the "
            "gain +0.0214 to +0.0690, n = 480)", comparisons,
        ),
        "headline": "Use the fused model: its loss is 0.0452 nats lower than that of the incumbent "
        "night-2026-11-23 and 0.0813 nats lower than that of the best candidate seed-1",
        "unit": "nats",
        "task": "text-classification on reviews.parquet",
        "slices": {"rank": 300, "select": 101, "gate": 480, "audit": 99},
        "rule": "softmax of minus the loss, temperature 1",
        "effective_models": 3.98,
        "reference": "seed-1",
        "smallest_effect": 0.01,
        "candidates": (*kept, *out),
        "models": (
            ModelRow("fused", "fused", make_score("fused", 0.5589, 0.802), "1 model"),
            ModelRow("uniform average", "uniform", make_score("u", 0.5612, 0.801), "1 model"),
            ModelRow("ensemble", "ensemble", make_score("e", 0.5211, 0.806), "4 models"),
            ModelRow("seed-1", "best_single", make_score("s", 0.6402, 0.78), "1 model"),
            ModelRow("night-2026-11-23", "incumbent", make_score("i", 0.6041, 0.79), "1 model"),
        ),
        "forest": (
            ForestRow("seed-2", "candidate", -0.021, -0.060, 0.018, 480, 480),
            ForestRow("seed-3", "candidate", -0.040, -0.081, 0.001, 480, 480),
            ForestRow("seed-4", "candidate", -0.060, -0.101, -0.019, 480, 480),
            ForestRow("uniform average", "uniform", 0.0790, 0.0451, 0.1129, 480, 480),
            ForestRow("ensemble", "ensemble", 0.1191, 0.0912, 0.1470, 480, 480),
            ForestRow("night-2026-11-23", "incumbent", 0.0361, 0.0021, 0.0701, 480, 480),
            ForestRow("fused", "fused", 0.0813, 0.0471, 0.1155, 480, 480),
        ),
        "merge": MergeFigures("linear", "F32", "0123456789ab" * 5, 11, 1, 21_792_000, 5_448_000,
                              0.31, 2, 402_000_000),
        "timings": (("find and pin", 0.2), ("evaluate", 12.4), ("merge", 0.3),
                    ("evaluate fused", 3.9), ("judge and report", 1.1)),
        "published": (
            PublishedFigure("founding document, one epoch", 0.9264, {"accuracy": 0.5154}),
        ),
        "sources": tuple(
            SourceEntry(c.name, c.uri, c.weight or 0, {"model.safetensors": "5448000 \"a1\""})
            for c in kept
        ),
        "notes": ("3 near-duplicates were dropped from the rank slice",),
    }  # fmt: skip
    values["health"] = make_health()
    values["data"] = Survey(
        980, 980, values["slices"], 3, 0, {"negative": 510, "positive": 470}, 14, 41, 188, 128, 6,
        is_estimate=False,
    )  # fmt: skip
    values["answers"] = (
        Answers("negative", 250, (0.84, 0.81, 0.82), (210, 40)),
        Answers("positive", 230, (175 / 230, 0.75, 0.76), (55, 175)),
    )
    values["examples"] = (
        ExampleRow("e17", "positive", 4.2101, 0.3022, "not the worst phone, if you ask me"),
        ExampleRow("e4", "negative", 0.0211, 1.8432, "great, it broke again | on day one"),
    )
    values["commands"] = advise(
        Place(values["output"], values["run"], values["model"]), is_taken=True, has_promoted=True
    )
    return RunReport(**{**values, **changes})
