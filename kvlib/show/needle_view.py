"""A prompt from which sentences are taken away: what the model answers and where it looks, before and after.

The law: a sentence that goes leaves its share `a` of the attention to the others, and all their shares grow by
1 / (1 - a). It holds head by head, since each head is a softmax of its own. It is exact for every token but the 15
behind a cut: the model's local layer looks back over 16 tokens, and theirs are now others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

import numpy as np
from numpy.typing import NDArray

from kvlib.lab.asking import quoted
from kvlib.lab.dilution import after_deleting
from kvlib.lab.needle import Haystack, haystack
from kvlib.lab.tinylm import TinyLM
from kvlib.lab.tinyweights import WINDOW

FACTS, RIVALS = 0.3, 4  # the hay of a prompt: a share of facts about other things, and near rivals on top
MOST = 2_000  # prompts that a search tries before it gives up


@dataclass(frozen=True, eq=False)
class Look:
    """One answer: its word id, what each head pays to each sentence, and what the prompt costs."""

    answer: int
    heads: NDArray[np.float64]  # (heads, sentences): shares of the answer's attention
    tokens: int
    kv_bytes: int


def look(model: TinyLM, prompt: Haystack) -> Look:
    """Read a prompt into a new cache and answer its first question."""
    ids = prompt.prompt()
    cache = model.prefill(ids[:-1])
    reading = model.read(cache, ids[-1:])
    so_far = np.concatenate([np.zeros((len(reading.attention[0]), 1)), reading.attention[0].cumsum(1, np.float64)], 1)
    starts, ends = np.array(prompt.spans, dtype=np.int64).reshape(-1, 2).T
    return Look(int(reading.answer[0]), so_far[:, ends] - so_far[:, starts], cache.tokens, cache.nbytes)


@dataclass(frozen=True, eq=False)
class Edit:
    """A prompt without some of its sentences. Places count the sentences of the whole prompt, from 0."""

    model: TinyLM
    prompt: Haystack
    before: Look
    deleted: frozenset[int]
    after: Look

    @classmethod
    def of(cls, model: TinyLM, prompt: Haystack) -> Edit:
        """The whole prompt, read once."""
        whole = look(model, prompt)
        return cls(model, prompt, whole, frozenset(), whole)

    def without(self, places: Iterable[int]) -> Edit:
        """The whole prompt but for these places, read anew; none gives back the numbers of the whole prompt.

        Raises:
            ValueError: a place that is no sentence.
        """
        gone = frozenset(places)
        after = look(self.model, self.prompt.without(gone)) if gone else self.before
        return replace(self, deleted=gone, after=after)

    @property
    def needle(self) -> int:
        """Place of the sentence that answers the question."""
        return self.prompt.questions[0].needle

    @property
    def right(self) -> bool:
        """Whether the answer is now the needle's value."""
        return self.after.answer == self.prompt.questions[0].answer

    @cached_property
    def kept(self) -> list[int]:
        """Places that are still there."""
        return [place for place in range(len(self.prompt.sentences)) if place not in self.deleted]

    @cached_property
    def old(self) -> NDArray[np.float64]:
        """Share of each sentence in the whole prompt: mean of the heads."""
        shares: NDArray[np.float64] = self.before.heads.mean(axis=0)
        return shares

    @cached_property
    def new(self) -> NDArray[np.float64]:
        """Share of each sentence now; 0 where it is gone."""
        shares = np.zeros(len(self.prompt.sentences))
        shares[self.kept] = self.after.heads.mean(axis=0)
        return shares

    @cached_property
    def law(self) -> NDArray[np.float64]:
        """Share of each sentence as the law predicts it from the whole prompt, head by head; 0 where it is gone."""
        gone = self.before.heads[:, sorted(self.deleted)].sum(axis=1)
        heads = zip(self.before.heads, gone, strict=True)
        grown: NDArray[np.float64] = np.mean([after_deleting(head, float(share)) for head, share in heads], axis=0)
        grown[sorted(self.deleted)] = 0
        return grown

    @property
    def loudest(self) -> list[int]:
        """All places, that with the largest share of the whole prompt first."""
        return [int(place) for place in np.argsort(-self.old, kind="stable")]

    @property
    def rival(self) -> int | None:
        """The loudest sentence of those that are left, the needle aside; None if there is no other."""
        others = [place for place in self.kept if place != self.needle]
        return max(others, key=lambda place: self.new[place], default=None)

    @property
    def quoted(self) -> list[int]:
        """Places that are left and hold the answer as one of their words."""
        return [place for place in self.kept if self.after.answer in self.prompt.sentences[place].ids]

    @property
    def disturbed(self) -> list[int]:
        """Places that are left and begin within 15 tokens behind a cut; all of them if the question does."""
        ends = [self.prompt.spans[place][1] for place in self.deleted]

        def near(start: int) -> bool:
            return any(0 <= start - end < WINDOW - 1 for end in ends)

        if near(len(self.prompt.ids)):
            return self.kept
        return [place for place in self.kept if near(self.prompt.spans[place][0])]


def next_wrong(model: TinyLM, tokens: int, start: int = 0, mended: bool = False) -> tuple[int, Edit]:
    """The first prompt that the model gets wrong because of a rival, and its number, which is its seed.

    Args:
        model: the model to ask.
        tokens: length of the prompts.
        start: number of the first prompt tried.
        mended: pass over prompts that do not come right when their loudest rival is deleted.

    Raises:
        ValueError: if there is none among `MOST` prompts.
    """
    for number in range(start, start + MOST):
        edit = Edit.of(model, haystack(Random(number), tokens, facts=FACTS, rivals=RIVALS))
        if quoted(edit.prompt, edit.after.answer).endswith("of 3"):  # the value of another fact
            assert edit.rival is not None
            if not mended or edit.without([edit.rival]).right:
                return number, edit
    raise ValueError(f"model must get one of {MOST:,} prompts of {tokens:,} tokens wrong by a rival; it got none")
