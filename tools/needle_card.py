"""The model card of the needle models, its tables written from runs.json."""
# ruff: noqa: E501  (rows of Markdown tables cannot be broken)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TEXT = """<!-- Written by tools/ship_needle.py from runs.json. -->
# The needle models

Three transformers of 154,112 weights that answer questions about facts in a text: `nope.npz`, `alibi.npz` and
`rope.npz`, 16-bit floats; SHA-256 sums in `SHA256SUMS`. They were trained for lesson 07, from nothing, by
`tools/train_needle.py` on one CPU core, and their use ends there: a vocabulary of 433 words, one kind of question, answers
of one word.

**Shape.** 64 wide, 4 heads of 16, two blocks without biases, untied head. Block 0 sees 16 tokens, with a learned bias per
head and distance; block 1 sees all. The three differ in how block 1 tells positions apart: not at all (NoPE), by a price
per token of distance (ALiBi, arXiv 2108.12409), or by rotation (RoPE, arXiv 2104.09864).

**Data.** Made while training, by `tools/needle_sequences.py`: facts, filler and questions of `kvlib/lab/sentences.py`,
sequences of 32 to 256 tokens, up to 12 facts each, half of them rivals that share one or two of the three key words. No
text from anywhere else.

**Recipe.** AdamW (3e-3, 0.9, 0.98, decay 0.1 on matrices), gradient norm clipped at 1, 150 steps of warm-up, a straight
descent over the last 30 %; batches of about 4,096 tokens in three stages; {steps:,} steps. The first weights already compare
and copy (`first_weights` in `tools/needle_network.py`): that is an engineer's shortcut, without which so short a training
stays on a plateau.

**The rule**, written down before any seed was trained: ship the seed with the median effective length on facts alone; of
several, the one with the median accuracy at 4,096 tokens. No seed is left out. Shipped: {picked}.

## Scores

Share of right answers; n = 200 at 256 tokens, 60 at 4,096, 40 at 8,192, 30 at 16,384. "Effective" is the last of nine
lengths, 64 to 16,384 tokens, with 85 % of the accuracy at 64. A 95 % interval is about ±6 points at n = 200 and 50 %, and
±17 points at n = 30. All figures and intervals: `runs.json`.

{table}

## Limits

- Runs of one recipe differ between seeds; one seed is not "the" model.
- Trained on 256 tokens at most. Longer texts mix "longer than trained" with "more rivals"; lesson 07 keeps them apart.
- 4,800 different things can be asked for, so a long text of facts holds many near misses. That is the point of it.
- The numbers are these models' own. What may carry over to large ones is the shape: dilution by length, a price by
  likeness, and that retrieval helps only if it finds the needle.
"""
ROW = "| {scheme} | {steps:,} | {seed}{mark} | {effective:,} | {a:.3f} | {b:.3f} | {c:.3f} | {d:.3f} | {plain} | {rivals:.3f} |"
HEAD = """| scheme | steps | seed | effective | 256 | 4,096 | 8,192 | 16,384 | plain filler 8,192 / 16,384 | 16 rivals at 256 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def card(runs: Sequence[Mapping[str, Any]], picked: Mapping[str, int]) -> str:
    """The whole card as Markdown, for all runs and the seed picked of each scheme."""
    rows = []
    steps = min(run["steps"] for run in runs)
    for run in runs:
        score = {(row["arm"], row["tokens"]): row["accuracy"] for row in run["rows"]}
        facts = (score["100 % facts", tokens] for tokens in (256, 4096, 8192, 16384))
        plain = " / ".join(f"{score['plain filler', tokens]:.3f}" for tokens in (8192, 16384))
        shipped = run["steps"] == steps and picked[run["scheme"]] == run["seed"]
        row = dict(zip("abcd", facts, strict=True)) | {name: run[name] for name in ("scheme", "steps", "seed")}
        row |= {"mark": " (shipped)" if shipped else "", "effective": run["effective_length"], "plain": plain}
        rows.append(ROW.format(**row, rivals=score["16 rivals", 256]))
    names = ", ".join(f"{scheme} seed {seed}" for scheme, seed in picked.items())
    return TEXT.format(steps=steps, picked=names, table="\n".join([HEAD, *rows]))
