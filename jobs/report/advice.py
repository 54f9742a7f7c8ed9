"""What to type next: commands that work in the state that a run has left."""

import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's model stands, and how it is used.

    Attributes:
        output: path or URI of the output.
        run: name of the run.
        model: URI of the fused model.
        base: URI of the model that a fused adapter changes; "" for a whole model.
        takes_text: whether the model can be asked about one text.
        single_writer: whether promoting by hand needs the user's word for the store.
    """

    output: str
    run: str
    model: str
    base: str = ""
    takes_text: bool = True
    single_writer: bool = False


def advise(place: Place, *, is_taken: bool, has_promoted: bool) -> tuple[tuple[str, str], ...]:
    """(purpose, command) of each command that works now.

    Args:
        place: where the model stands.
        is_taken: whether the fused model is the promoted one, or becomes it as the run ends.
        has_promoted: whether any model is promoted then.
    """
    base = ("--base", place.base) if place.base else ()
    text = "What a great phone, I love it!"
    commands: list[tuple[str, tuple[str, ...]]] = []
    if has_promoted:
        what = "the promoted model" if is_taken else "the model that stays promoted"
        commands.append((f"find {what}", ("resolve", place.output)))
        commands.append((f"bring {what} to a disk", ("pull", place.output, "./model")))
    if place.takes_text:
        ask = ("predict", place.model, *base, "--text", text)
        commands.append(("ask the fused model", ask))
    if not is_taken:
        why = ("--reason", "I looked at the report")
        vouch = ("--single-writer",) if place.single_writer else ()
        promote = ("promote", place.output, place.run, *why, *vouch)
        commands.append(("promote the fused model by hand", promote))
    return tuple((what, shlex.join(("metafuse", *words))) for what, words in commands)


def advise_unchanged(output: str, *, has_promoted: bool) -> tuple[tuple[str, str], ...]:
    """(purpose, command) where a run made no model, as there was nothing new."""
    verb = "resolve" if has_promoted else "status"
    what = "find the model that stays promoted" if has_promoted else "how runs ended"
    return ((what, shlex.join(("metafuse", verb, output))),)
