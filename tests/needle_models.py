"""For tests of the needle experiments: a model of random weights, one whose every answer is known, and an executor."""

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from kvlib.lab.tinylm import SHAPES, Reading, TinyLM
from kvlib.lab.words import VALUES, WORDS


def random_model(seed=0, scheme="nope"):
    rng = np.random.default_rng(seed)
    weights = {name: (0.2 * rng.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()}
    return TinyLM(weights, scheme)


@dataclass
class Ids:
    """A cache of 10 bytes a token that remembers what was read."""

    ids: np.ndarray

    @property
    def tokens(self):
        return self.ids.shape[1]

    @property
    def nbytes(self):
        return 10 * self.ids.size

    def fork(self, copies):
        return Ids(np.repeat(self.ids, copies, axis=0))


class LastValue:
    """Answers with the last number it has read, and pays it half of its attention; the rest is spread evenly.

    `sent` holds the length of every prompt it has answered, `settings` the temperature and keys it was given.
    """

    scheme = "nope"

    def __init__(self):
        self.sent, self.settings, self.prefilled = [], [], 0

    def prefill(self, ids):
        ids = np.atleast_2d(ids)
        self.prefilled += ids.size
        return Ids(ids)

    def read(self, cache, ids, temperature=1.0, top_keys=None):
        cache.ids = np.concatenate([cache.ids, np.atleast_2d(ids)], axis=1)
        batch, tokens = cache.ids.shape
        self.sent += [tokens] * batch
        self.settings += [(temperature, top_keys)] * batch
        number = (cache.ids >= VALUES.start) & (cache.ids < VALUES.stop)
        last = np.where(number.any(axis=1), tokens - 1 - number[:, ::-1].argmax(axis=1), 0)
        logits, attention = np.zeros((batch, len(WORDS))), np.full((batch, 4, tokens), 0.5 / (tokens - 1))
        rows = np.arange(batch)
        logits[rows, np.where(number.any(axis=1), cache.ids[rows, last], 0)] = 1
        attention[rows, :, last] = 0.5
        return Reading(logits, attention)


class Backwards(Executor):
    """Works on the last piece first, and notes what it was given."""

    def __init__(self):
        self.tasks = []

    def map(self, function, work, **_):
        self.tasks = list(work)
        return reversed([function(one) for one in reversed(self.tasks)])
