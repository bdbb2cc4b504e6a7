"""One GPU shared out: model + card + switches -> parts of the memory, blocks, requests. Pure functions, no controls."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvlib.engine import Pool, pool
from kvlib.hardware import Accelerator, gpu
from kvlib.memory import Budget, budget
from kvlib.model import Model
from kvlib.show.svg import Picture, bar, plural
from kvlib.show.tables import Html, table
from kvlib.units import GB, GiB, MiB, size

# What no formula gives. Both were printed by engines at start-up; the log of each is in data/logs.toml.
NON_TORCH = round(0.26 * GiB)  # an 8B model on an 80 GB card: 15.26 GiB consumed, 15.0 of it weights
GRAPHS = round(0.23 * GiB)  # the same start
GRAPHS_HOW = {"inside": "reserved inside the limit (vLLM from 0.21)", "on top": "on top of the limit (up to 0.20)"}
_CLOSE = 0.04  # two numbers of requests that are meant to be the same


@dataclass(frozen=True)
class OneGpu:
    """A model on a card. `pool` is None where the engine would not start, and `problem` says why."""

    model: Model
    card: Accelerator
    weight_dtype: str
    kv_dtype: str
    tokens: int
    budget: Budget
    pool: Pool | None
    problem: str = ""

    @property
    def requests(self) -> int:
        """Requests of full length that fit at the same time."""
        return int(self.pool.max_concurrency) if self.pool else 0


def visible(card: Accelerator) -> tuple[int, str]:
    """Bytes of a card as an engine sees it, and how we know: logged by engines, or else what the driver shows.

    Raises:
        ValueError: if nobody recorded either.
    """
    if card.engine_bytes:
        return card.engine_bytes[0], "the total that engines printed for this card"
    if card.visible_bytes:
        return card.visible_bytes, "what the driver shows; engines see about half a GiB less"
    raise ValueError(f"card: nobody recorded what the driver shows for {card.name}; choose another")


def one_gpu(
    model: Model,
    card: str | Accelerator,
    utilisation: float = 90,
    weight_dtype: str = "bf16",
    kv_dtype: str = "bf16",
    tokens: int = 131_072,
    activation: int = 1_536,
    graphs: str = "inside",
) -> OneGpu:
    """Shares out one GPU.

    Args:
        model: a `kv.Model`.
        card: an accelerator or its name.
        utilisation: per cent of the card that the engine may use.
        weight_dtype: format of every weight.
        kv_dtype: format of keys and values, one of `kvlib.pages.KV_DTYPES`.
        tokens: the longest request, in tokens.
        activation: peak of the profiling run, in MiB.
        graphs: "inside" if CUDA graphs are taken off the KV cache, "on top" if they come on top of the limit.

    Raises:
        ValueError: if a value is out of range, or nobody recorded the memory of the card.
    """
    if graphs not in GRAPHS_HOW:
        raise ValueError(f'graphs must be "inside" or "on top"; got {graphs!r}')
    chosen = gpu(card)
    total, _ = visible(chosen)
    shared = budget(
        total,
        model.weight_bytes(weight_dtype),
        utilisation=utilisation / 100,
        non_torch=NON_TORCH,
        activation=activation * MiB,
        graphs=GRAPHS,
        subtract_graphs=graphs == "inside",
    )
    made, problem = _pool(model, shared, tokens, kv_dtype)
    return OneGpu(model, chosen, weight_dtype, kv_dtype, tokens, shared, made, problem)


def _pool(model: Model, shared: Budget, tokens: int, kv_dtype: str) -> tuple[Pool | None, str]:
    """The pool, or None and what the engine would say."""
    if not shared.fits:
        return None, f"The engine refuses to start: no room for a cache, {_gib(-shared.kv_bytes)} are missing"
    try:
        made = pool(model, tokens, available_bytes=shared.kv_bytes, kv_dtype=kv_dtype)
    except ValueError as error:
        return None, f"This cannot be laid out: {error}"
    if made.fits:
        return made, ""
    needed = f"one request of {tokens:,} tokens needs {_gib(made.needed_bytes)}, and {_gib(shared.kv_bytes)} are left"
    return None, f"The engine refuses to start: {needed}. The longest that fits has {made.longest:,} tokens"


def one_gpu_picture(plan: OneGpu) -> Picture:
    """The card as a bar: what is used, the cache cut into full requests and a rest, what lies outside the limit."""
    parts: list[tuple[str, int]] = []
    for name, part in plan.budget.parts:
        parts += _cut(plan.pool, plan.requests, part) if name == "KV cache" and plan.pool else [(name, part)]
    parts = [(name, part) for name, part in parts if part > 0]
    label = f"{title(plan.model)} on {plan.card.title}"
    return bar(parts, plan.budget.total, label=label, marks=[("limit", plan.budget.limit)])


def _cut(made: Pool, requests: int, kv_bytes: int) -> list[tuple[str, int]]:
    """The cache as full requests and the rest."""
    whole = requests * made.needed_bytes
    return [(f"KV cache: {plural(requests, 'full request')}", whole), ("KV cache: the rest", kv_bytes - whole)]


def one_gpu_question(plan: OneGpu) -> str:
    """What to predict, with everything that is needed for it and nothing of the answer."""
    share = plan.budget.limit / plan.budget.total
    return (
        f"{title(plan.model)} ({plan.model.parameters / 1e9:,.3g} billion weights, {plan.weight_dtype}) on a card that "
        f"shows {_gib(plan.budget.total)}; the engine may use {share:.0%} of it. How many requests of {plan.tokens:,} "
        f"tokens fit at the same time, the cache in {plan.kv_dtype}? Write your prediction, then press Reveal."
    )


def one_gpu_sentence(plan: OneGpu) -> str:
    """The result in words."""
    shared = plan.budget
    if plan.pool is None:
        return f"{plan.problem}."
    made = plan.pool
    return (
        f"Of {size(shared.total)} the engine may use {_gib(shared.limit)}; the KV cache gets {_gib(shared.kv_bytes)}. "
        f"One request of {plan.tokens:,} tokens holds {made.per_request:,} blocks, {_gib(made.needed_bytes)}. So "
        f"{plan.requests:,} of full length fit at the same time ({made.max_concurrency:,.2f}x), {_tokens(made)}."
    )


def _tokens(made: Pool) -> str:
    """The tokens of a pool, and which tokens they are."""
    if len(made.groups) == 1:
        return f"{made.tokens:,} tokens in all"
    return f"printed as {made.tokens_new:,} tokens by vLLM from 0.21 and as {made.tokens_old:,} before"


def one_gpu_table(plan: OneGpu) -> Html:
    """The card line by line, each part with how we know it."""
    how = {
        "weights": f"{plan.model.parameters:,} weights in {plan.weight_dtype}",
        "non-torch": "CUDA context and libraries, as logged on one 80 GB card",
        "activation": "peak of a trial run; only a log knows it, so it is a slider",
        "CUDA graphs": "as logged on one 80 GB card; a switch says whether they are reserved",
        "KV cache": "what is left inside the limit",
        "outside the limit": "the engine does not touch it",
    }
    shown = [(name, size(part), how[name]) for name, part in plan.budget.parts]
    body = [("the card", size(plan.budget.total), visible(plan.card)[1]), *shown]
    made = plan.pool
    if made is None:
        body.append(("no pool", plan.problem, "as it would come out at start-up"))
    else:
        body += [
            ("blocks", f"{made.blocks:,} of {size(made.block_bytes)}", f"{made.block_tokens:,} tokens each"),
            ("one full request", f"{made.per_request:,} blocks", f"{plan.tokens:,} tokens"),
            ("full requests", f"{made.max_concurrency:,.2f}", "blocks / blocks of one request"),
        ]
    caption = f"{title(plan.model)} on one {plan.card.title}, cache in {plan.kv_dtype}"
    return table(caption, ("part", "size", "how we know"), body)


def verdict(plan: OneGpu, predicted: float) -> str:
    """How far a predicted number of requests is off, and the usual mistake that leads to it, if one does.

    Raises:
        ValueError: if predicted is not a finite number, 0 or more.
    """
    if not (math.isfinite(predicted) and predicted >= 0):
        raise ValueError(f"predicted must be a number of requests, 0 or more; got {predicted!r}")
    said = f"You predicted {predicted:,g}, it is {plan.requests:,}"
    if plan.pool is None:
        return f"{said}{': right' if predicted < 1 else ''}."
    exact = plan.pool.max_concurrency
    if int(predicted) == plan.requests or abs(predicted - exact) <= _CLOSE * exact:
        return f"{said}: right."
    for name, kv_bytes in _slips(plan).items():
        slipped = kv_bytes / plan.pool.needed_bytes
        if abs(predicted - slipped) <= _CLOSE * slipped or int(predicted) == int(slipped) > 0:
            return f"{said}. It looks as if you {name}."
    return f"{said}."


def _slips(plan: OneGpu) -> dict[str, int]:
    """Usual mistakes, and the bytes each leaves for the cache."""
    shared, label = plan.budget, plan.card.label_gb
    rest = shared.non_torch + shared.activation + (shared.graphs if shared.graphs_subtracted else 0)
    return {
        "used the whole card, not the engine's share of it": shared.total - shared.weights - rest,
        "took the label for GB, and all of it for weights and cache": label * GB - shared.weights,
        "took the label for GiB, and all of it for weights and cache": label * GiB - shared.weights,
        "left out what the engine needs for itself": shared.limit - shared.weights,
        "left out the weights": shared.limit,
    }


def title(model: Model) -> str:
    """A model's readable name."""
    return model.title or model.name


def _gib(n: float) -> str:
    return f"{n / GiB:,.2f} GiB"
