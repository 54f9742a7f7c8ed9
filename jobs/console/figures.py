"""How fast a step goes: what was said of it, folded into rates, time left and who does the work."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from cluster.workers.runner import host_of
from jobs.console.sizes import format_size, format_wait

# Rates "now" are of this long.
WINDOW_SECONDS = 30.0
SAMPLE_SECONDS = 1.0
# A worker counts as at work if it finished something within this long, or 3 of its longest units.
AT_WORK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of a step beside its counts. Zeros and "" where it is not.

    Attributes:
        num_bytes: bytes done so far; 0 where bytes are not counted.
        total_bytes: bytes of the whole step; 0 where bytes are not counted.
        num_retried: number of tries beyond the first.
        unit: unit that was done last, or what the step is about; "" where neither is known.
        seconds: duration of that unit in seconds; 0 where it is not known.
        worker: worker that did that unit, host/process; "" where it is not known.
        num_examples: examples done so far; 0 where bytes or nothing are counted.
        total_examples: examples of the whole step; 0 where bytes or nothing are counted.
    """

    num_bytes: int = 0
    total_bytes: int = 0
    num_retried: int = 0
    unit: str = ""
    seconds: float = 0.0
    worker: str = ""
    num_examples: int = 0
    total_examples: int = 0

    @property
    def amount(self) -> tuple[int, int]:
        """(done, total) of what rates are of: examples where they are counted, else bytes."""
        if self.total_examples:
            return self.num_examples, self.total_examples
        return self.num_bytes, self.total_bytes


# Called as a step goes on: done, total, and what else is known of it.
Tell = Callable[[int, int, Figures], object]


class Say(Protocol):
    """Who hears how steps go on."""

    def step(self, name: str, /) -> Tell:
        """A step of that name begins, or goes on."""


@dataclass(frozen=True, slots=True)
class Steps:
    """All steps told to one function: (step, done, total, figures)."""

    hear: Callable[[str, int, int, Figures], object]

    def step(self, name: str, /) -> Tell:
        """A step of that name begins, or goes on."""
        return partial(self.hear, name)


def tell_nobody(_done: int, _total: int, _figures: Figures, /) -> None:
    """Take progress and drop it."""


@dataclass(frozen=True, slots=True)
class SlowUnit:
    """The unit that took longest, and the host it was done on."""

    unit: str
    seconds: float
    host: str


@dataclass(frozen=True, slots=True)
class Course:
    """A step as it stands. `samples` are (clock, done, amount): the first, then the last seconds.

    Attributes:
        step: name of the step.
        done: number of units done.
        total: number of all units.
        figures: figures of the last call.
        now: clock reading at the last call, in seconds.
        samples: (clock, done, amount), at most one a second.
        seen: clock reading at each worker's last result, in seconds, by worker.
        slowest: unit that took longest; None where units are not told.
    """

    step: str
    done: int
    total: int
    figures: Figures
    now: float
    samples: tuple[tuple[float, int, int], ...]
    seen: Mapping[str, float] = field(default_factory=dict)
    slowest: SlowUnit | None = None

    @property
    def rate_now(self) -> float | None:
        """Bytes or examples a second of the last 30 s; None where it is not known yet."""
        return _rate(self.samples[1] if len(self.samples) > 2 else self.samples[0], self, 2)

    @property
    def rate_mean(self) -> float | None:
        """Bytes or examples a second since the step began; None where it is not known yet."""
        return _rate(self.samples[0], self, 2)

    @property
    def seconds_left(self) -> float | None:
        """Seconds left at the mean rate, of the amount where known, else of units; None if unknown.

        The first small file says nothing: it takes a second, and a hundredth of what there is.
        """
        amount = self.figures.amount[1]
        column, total = (2, amount) if amount else (1, self.total)
        first, last = self.samples[0], self.samples[-1]
        rate = _rate(first, self, column)
        if not rate or last[0] - first[0] < SAMPLE_SECONDS or last[column] < total / 100:
            return None
        return max(0, total - last[column]) / rate

    @property
    def workers(self) -> tuple[str, ...]:
        """Those at work: each finished something lately."""
        longest = self.slowest.seconds if self.slowest else 0.0
        since = self.now - max(AT_WORK_SECONDS, 3 * longest)
        return tuple(sorted(worker for worker, when in self.seen.items() if when >= since))


def go_on(
    course: Course | None, step: str, *, done: int, total: int, figures: Figures, now: float
) -> Course:
    """The course after one more call; another step, or one that begins again, starts afresh.

    Args:
        course: course before the call; None at the beginning.
        step: name of the step.
        done: number of units done.
        total: number of all units.
        figures: what else is known of the step.
        now: reading of a clock that only goes forward, in seconds.
    """
    sample = (now, done, figures.amount[0])
    if course is None or course.step != step or done < course.done:
        return _meet(Course(step, done, total, figures, now, (sample,)), figures)
    first, *later = course.samples
    if later and now - later[-1][0] < SAMPLE_SECONDS:
        later.pop()
    later = [entry for entry in later if now - entry[0] <= WINDOW_SECONDS]
    samples = (first, *later, sample)
    changed = replace(course, done=done, total=total, figures=figures, now=now, samples=samples)
    return _meet(changed, figures)


def describe_course(course: Course) -> str:
    """Bytes, rates, time left, workers and retries in one line; what is not known is left out."""
    workers = plural(len(course.workers), "worker") if course.workers else ""
    is_open = course.done < course.total
    parts = describe_figures(
        course.figures,
        rates=(course.rate_now, course.rate_mean),
        seconds_left=course.seconds_left if is_open else None,
        workers=workers,
    )
    return ", ".join(parts)


def describe_figures(
    figures: Figures,
    *,
    rates: tuple[float | None, float | None],
    seconds_left: float | None,
    workers: str,
) -> list[str]:
    """What is known of a step, each in its words: `rates` are those of now and on the whole."""
    parts = []
    done, total = figures.amount
    if figures.total_examples:
        parts.append(f"{done:,} of {total:,} examples")
        parts += _describe_examples(*rates)
    elif total:
        parts.append(f"{format_size(done)} of {format_size(total)}")
        parts += describe_rates(*rates)
    if seconds_left is not None:
        parts.append(f"{format_wait(seconds_left)} left")
    if workers:
        parts.append(workers)
    if figures.num_retried:
        parts.append(f"{figures.num_retried} retried")
    return parts


def describe_rates(now: float | None, mean: float | None) -> list[str]:
    """Rates in GB/s, as far as they are known."""
    parts = [] if now is None else [f"{now / 1e9:.3f} GB/s now"]
    return parts if mean is None else [*parts, f"{mean / 1e9:.3f} mean"]


def _describe_examples(now: float | None, mean: float | None) -> list[str]:
    parts = [] if now is None else [f"{_round(now)} examples/s now"]
    return parts if mean is None else [*parts, f"{_round(mean)} mean"]


def _round(rate: float) -> str:
    return f"{rate:.1f}" if rate < 10 else f"{rate:,.0f}"


def plural(count: int, word: str) -> str:
    """1 worker, 2 workers."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def list_some(names: Sequence[str], most: int) -> str:
    """The first names with commas between, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _meet(course: Course, figures: Figures) -> Course:
    """Note who did the last unit."""
    if not figures.worker:
        return course
    slowest = course.slowest
    if slowest is None or figures.seconds > slowest.seconds:
        slowest = SlowUnit(figures.unit, figures.seconds, host_of(figures.worker))
    return replace(course, seen={**course.seen, figures.worker: course.now}, slowest=slowest)


def _rate(since: tuple[float, int, int], course: Course, column: int) -> float | None:
    last = course.samples[-1]
    seconds = last[0] - since[0]
    return (last[column] - since[column]) / seconds if seconds > 0 else None
