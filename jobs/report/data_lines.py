"""Evaluation data as lines of a table, for `plan` and the report."""

from collections.abc import Sequence

from fusion.manifests.survey import Survey
from jobs.console.figures import plural

MOST_CLASSES = 12


def describe_survey(found: Survey) -> Sequence[tuple[str, str]]:
    """Lines of a table: (name, text)."""
    slices = ", ".join(f"{name} {count:,}" for name, count in found.slices.items())
    near = (
        f"; {plural(found.num_repeated, 'near-duplicate')} left out" if found.num_repeated else ""
    )
    if found.num_shared:
        near += f"; {found.num_shared:,} of audit nearly repeat one of gate"
    lines = [
        ("data", f"{found.num_rows:,} rows in {found.num_clusters:,} clusters: {slices}{near}")
    ]
    if found.num_copies:
        different = found.num_rows - found.num_copies
        said = (
            f"{found.num_copies:,} of {found.num_rows:,} rows repeat an earlier one word for word"
        )
        lines.append(("repeats", f"{said}: {different:,} are different"))
    if found.num_contradicting:
        lines.append(
            ("labels", f"{found.num_contradicting:,} texts stand with more than one label")
        )
    if found.classes:
        lines.append(("classes", _describe_classes(found)))
    about = "about " if found.is_estimate else ""
    read = "" if found.limit is None else f"; {found.limit:,} are read"
    cut = f", {about}{plural(found.num_cut, 'text')} of {found.num_rows:,} cut" if read else ""
    text = (
        f"tokens: {about}{found.median_tokens:,} in the middle, 95 % up to "
        f"{found.high_tokens:,}, the longest {found.most_tokens:,}{read}{cut}"
    )
    lines.append(("lengths", text))
    if found.is_estimate:
        lines.append(("", "lengths are an estimate, from characters or from a part of the rows"))
    return lines


def _describe_classes(found: Survey) -> str:
    ranked = sorted(found.classes.items(), key=lambda entry: -entry[1])
    parts = [f"{label} {100 * count / found.num_rows:.1f} %" for label, count in ranked if count]
    absent = sum(not count for count in found.classes.values())
    more = f", and {len(parts) - MOST_CLASSES} more" if len(parts) > MOST_CLASSES else ""
    never = f"; {plural(absent, 'label')} never" if absent else ""
    return ", ".join(parts[:MOST_CLASSES]) + more + never
