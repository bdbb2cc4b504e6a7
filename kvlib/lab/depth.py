"""The map of depth and length: is the needle found wherever it lies, and what does one cached prefix save?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from random import Random

from kvlib.lab.asking import Trial, judged
from kvlib.lab.needle import Haystack, needles
from kvlib.lab.tinylm import SCHEMES, TinyLM, load
from kvlib.lab.trials import FEW_FACTS, PLAIN, REPORTING, Arm, Record, each, summary
from kvlib.units import whole

DEPTHS = tuple(eighth / 8 for eighth in range(9))
MAP_LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
_TASK = 32_768  # tokens of haystacks in a task


@dataclass(frozen=True, eq=False)
class _Map:
    """Haystacks of one length, with a needle at every depth: a piece of work for `heatmap`."""

    model: TinyLM
    arm: Arm
    tokens: int
    depths: tuple[float, ...]
    seeds: str
    repetitions: range
    fork: bool

    def haystacks(self) -> Iterator[Haystack]:
        recipe = {name: value for name, value in vars(self.arm).items() if name not in ("name", "depth")}
        for repetition in self.repetitions:
            yield needles(Random(f"{self.seeds} map {self.tokens} {repetition}"), self.tokens, self.depths, **recipe)


def heatmap(
    model: TinyLM,
    lengths: Sequence[int] = MAP_LENGTHS,
    depths: Sequence[float] = DEPTHS,
    arm: Arm = PLAIN,
    *,
    repetitions: int = 12,
    fork: bool = True,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """Accuracy by depth and length, from haystacks that hold a needle at every depth: one text, one question each.

    The haystack is read once, and its cache is forked to the questions: what a prefix cache does. Each needle is one
    more fact to the others.

    Args:
        model: the model to ask.
        lengths: tokens of the prompts, question included.
        depths: 0 for a needle before all hay, 1 for one beside the question.
        arm: what the haystacks are made of; its depth does not count.
        repetitions: haystacks per length, and so trials per cell.
        fork: False reads the haystack again for every question. The answers are the same; it takes longer.
        seeds: `REPORTING` or `TUNING`, or any other text for haystacks of your own.
        executor: works on the haystacks; None: this process does.
        progress: whether to show a bar on what takes over 2 s; None: on a terminal only.

    Returns:
        A record per length and depth, with arm, scheme, tokens and depth, as `trials.summary` makes them.

    Raises:
        ValueError: as `needle.needles`, or if repetitions is not 1 or more.
    """
    step = max(1, _TASK // max(lengths))
    work = [
        _Map(model, arm, tokens, tuple(depths), seeds, range(start, min(start + step, repetitions)), fork)
        for tokens in lengths
        for start in range(0, whole("repetitions", repetitions, 1), step)
    ]
    cells: dict[tuple[int, float], list[Trial]] = {(tokens, depth): [] for tokens in lengths for depth in depths}
    for task, rows in zip(work, each(_map, work, executor, progress), strict=True):
        for row in rows:
            for depth, outcome in zip(depths, row, strict=True):
                cells[task.tokens, depth].append(outcome)
    head = {"arm": arm.name, "scheme": model.scheme}
    return [
        head | {"tokens": tokens, "depth": depth} | summary(outcomes) for (tokens, depth), outcomes in cells.items()
    ]


def schemes(
    names: Sequence[str] = SCHEMES,
    lengths: Sequence[int] = MAP_LENGTHS[:5],
    depths: Sequence[float] = DEPTHS[::2],
    arm: Arm = FEW_FACTS,
    *,
    repetitions: int = 30,
    seeds: str = REPORTING,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """The maps of the trained models with different positions, over the same haystacks. Arguments as `heatmap`."""
    return [
        row
        for name in names
        for row in heatmap(
            load(name),
            lengths,
            depths,
            arm,
            repetitions=repetitions,
            seeds=seeds,
            executor=executor,
            progress=progress,
        )
    ]


def _map(task: _Map) -> list[list[Trial]]:
    """For each haystack of a task, what became of the question at each depth."""
    return [_forked(task.model, hay) if task.fork else _one_by_one(task.model, hay) for hay in task.haystacks()]


def _forked(model: TinyLM, hay: Haystack) -> list[Trial]:
    """All questions of a haystack from one prefill."""
    cache = model.prefill(hay.ids).fork(len(hay.questions))
    reading = model.read(cache, [one.ids for one in hay.questions])
    kv_bytes, tokens = cache.nbytes // len(hay.questions), cache.tokens
    return [judged(hay, reading, row, tokens, kv_bytes, row) for row in range(len(hay.questions))]


def _one_by_one(model: TinyLM, hay: Haystack) -> list[Trial]:
    """The same questions, each with a prefill of its own."""
    outcomes = []
    for row, one in enumerate(hay.questions):
        cache = model.prefill(hay.ids)
        reading = model.read(cache, one.ids)
        outcomes.append(judged(hay, reading, 0, cache.tokens, cache.nbytes, row))
    return outcomes
