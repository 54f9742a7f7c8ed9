"""What the operator's verbs do and show. All from storage: no Ray, no torch, no recipe."""

import re
from dataclasses import asdict
from datetime import UTC, datetime

from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from fusion.errors import ManifestError, NoManifestError
from jobs.console.show import Progress, show, show_json
from jobs.console.sizes import format_size
from jobs.errors import NoCandidatesError, PointerError, UsageError
from jobs.operate.promotion import Steered, hold, promote, roll_back, unhold
from jobs.outputs.keys import POINTER_KEY
from jobs.outputs.open_output import open_output
from jobs.outputs.pointer import read_pointer
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import read_outcome
from jobs.outputs.verify import CheckedModel, check_model, check_run, verify_model


def run_promote(
    output: str, run: str, *, reason: str, is_dry_run: bool, single_writer: bool, as_json: bool
) -> int:
    """`metafuse promote`."""
    store = _writable(output, single_writer=single_writer)
    done = promote(store, run, reason=check_reason(reason), is_dry_run=is_dry_run)
    return _show_steered(done, output, as_json=as_json)


def run_rollback(
    output: str,
    to: str | None,
    *,
    reason: str,
    is_dry_run: bool,
    single_writer: bool,
    as_json: bool,
) -> int:
    """`metafuse rollback`."""
    store = _writable(output, single_writer=single_writer)
    done = roll_back(store, to, reason=check_reason(reason), is_dry_run=is_dry_run)
    return _show_steered(done, output, as_json=as_json)


def run_hold(output: str, *, reason: str, single_writer: bool, as_json: bool) -> int:
    """`metafuse hold`."""
    store = _writable(output, single_writer=single_writer)
    return _show_steered(hold(store, reason=check_reason(reason)), output, as_json=as_json)


def run_unhold(output: str, *, reason: str, single_writer: bool, as_json: bool) -> int:
    """`metafuse unhold`."""
    store = _writable(output, single_writer=single_writer)
    return _show_steered(unhold(store, reason=reason), output, as_json=as_json)


def run_verify(target: str, run: str | None, *, share: float, seed: str, as_json: bool) -> int:
    """`metafuse verify`."""
    store = open_store(target)
    model = _find_model(store, run)
    seed = seed or datetime.now(UTC).date().isoformat()
    progress = Progress(is_quiet=as_json)
    found = verify_model(
        store,
        model,
        share=share,
        seed=seed,
        tell=progress.step("verify"),
    )
    progress.close()
    what = f"{store.uri}/{model.folder}".rstrip("/")
    read = f"{format_size(found.read_bytes)} of {format_size(found.num_bytes)}"
    units = f"{found.num_read} of {found.num_units} units of {found.num_files} files"
    if found.differences:
        raise ManifestError(
            "\n".join(found.differences)
            + f"\n{len(found.differences)} of {found.num_read} units read differ ({units}, {read})",
            "metafuse rollback OUTPUT --reason TEXT goes back to the model before it",
        )
    if as_json:
        show_json({"model": what, "seed": seed, "is_good": True, **asdict(found)})
        return 0
    rest = "" if found.num_read == found.num_units else f"; seed {seed} chose them"
    show(f"good     {what}")
    show(f"         {units} read, {read}, none differs{rest}")
    return 0


def check_reason(reason: str) -> str:
    """A reason that says something.

    Raises:
        UsageError: the reason is blank.
    """
    if not reason.strip():
        raise UsageError("--reason is empty; nothing was changed")
    return reason.strip()


def parse_share(text: str) -> float:
    """A share of 1 from "5%" or "0.05".

    Raises:
        UsageError: not between 0 and 1.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(%?)", text.strip())
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{text!r} is not a share such as 5% or 0.05")
    return share


def _writable(output: str, *, single_writer: bool) -> Store:
    return open_output(output, single_writer=single_writer).store


def _find_model(store: Store, run: str | None) -> CheckedModel:
    """The model of a run, else the promoted model, else the model that the URI itself is."""
    if run is not None:
        outcome = read_outcome(RunFolder(store, run))
        if outcome is None or not outcome.manifest_sha256:
            raise PointerError(
                f"{store.uri} has no finished, judged run {run!r}; nothing was read",
                f"metafuse status {store.uri} lists its runs",
            )
        return check_run(store, run, outcome.manifest_sha256)
    seen = read_pointer(store)
    if seen is not None:
        return check_run(store, seen.pointer.run, seen.pointer.manifest_sha256)
    try:
        return check_model(store, "")
    except NoManifestError:
        raise NoCandidatesError(
            f"{store.uri} is neither an output with a promoted model ({POINTER_KEY}) nor a model "
            "(manifest.json); nothing was read",
            "metafuse verify OUTPUT --run RUN looks at a run that was not promoted",
        ) from None


def _show_steered(done: Steered, output: str, *, as_json: bool) -> int:
    if as_json:
        before = asdict(done.before) if done.before else None
        show_json({
            "is_changed": done.is_changed,
            "text": done.text, "before": before, "after": asdict(done.after),
        })  # fmt: skip
        return 0
    show(done.text)
    if done.after.hold:
        show(f"hold     {done.after.hold}")
        show(f"         metafuse unhold {output}   # lets runs promote again")
    return 0
