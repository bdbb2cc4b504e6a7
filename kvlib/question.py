"""What is asked of a cluster, and what the fullest GPU of a layout would hold.

    weights + KV cache + activation + runtime  <=  utilisation x visible memory,   on every GPU

Activation and runtime are charged on each GPU, never once per replica: TP does not divide them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kvlib.catalogue import model as known_model
from kvlib.dtypes import DType, dtype
from kvlib.hardware import Accelerator, Link, gpu
from kvlib.model import Model
from kvlib.pages import kv_format
from kvlib.shards import Split, cache_of, stage_caches, stage_weights
from kvlib.units import GB, GiB, size, whole

# Measured at start-up (vLLM logs). They depend on flags, most of all on max_num_batched_tokens: give your own.
ACTIVATION = round(4.84 * GiB)  # Llama 3.3 70B FP8, per GPU of two H100 (llm-d-planner, table of measurements)
SMALL_ACTIVATION = round(1.26 * GiB)  # Qwen2.5 32B on L40S (vLLM log): smaller cards get fewer tokens per step
SMALL_CARD = 70 * GB
ALONE = round(0.13 * GiB)  # non-torch memory of a single H100 (llm-d-planner, table of measurements)
JOINED = round(1.74 * GiB)  # the same with NCCL buffers: eight H200, TP 8 (vLLM 0.28 log)
STRIPED = round(2.7 * GiB)  # workspace of decode context parallelism (vLLM log, sparse MLA)
NODE = 8
_MOST = 10**15


@dataclass(frozen=True)
class PerGPU:
    """Bytes on the fullest GPU, which is one of stage `stage` (counted from 0). `free` is negative if it is too full.

    `parts` lays (name, bytes) end to end; they add up to `total`, the visible bytes, so a bar can be drawn from them.
    """

    total: int
    limit: int
    weights: int
    kv_cache: int
    activation: int
    runtime: int
    stage: int

    @property
    def used(self) -> int:
        """Bytes that the plan needs on this GPU."""
        return self.weights + self.kv_cache + self.activation + self.runtime

    @property
    def free(self) -> int:
        """Bytes left under the limit; negative when the plan does not fit."""
        return self.limit - self.used

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """(name, bytes), which add up to `total`."""
        names = ("weights", "KV cache", "activation", "runtime", "free", "outside the limit")
        sizes = (self.weights, self.kv_cache, self.activation, self.runtime, self.free, self.total - self.limit)
        return tuple(zip(names, sizes, strict=True))

    def __repr__(self) -> str:
        return " + ".join(f"{name} {size(part)}" for name, part in self.parts) + f" = {size(self.total)}"


@dataclass(frozen=True)
class Question:
    """What is asked of a cluster, checked: bytes in `total`, `limit`, `activation`, `runtime` (None: by layout)."""

    model: Model
    context: int
    sequences: int
    gpu_name: str
    total: int
    limit: int
    formats: Mapping[str, DType] = field(hash=False)
    kv_dtype: str
    activation: int
    runtime: int | None
    domain: int
    link: Link | None
    warnings: tuple[str, ...]

    def overhead(self, split: Split) -> int:
        """Bytes of activation and runtime on each GPU."""
        if self.runtime is not None:
            return self.activation + self.runtime
        alone = split.tp * split.pp == 1 and split.ep == 1
        return self.activation + (ALONE if alone else JOINED) + (STRIPED if split.dcp > 1 else 0)

    def per_gpu(self, split: Split) -> PerGPU:
        """What the fullest GPU of the layout holds; the layout must be one that `refusal` lets pass."""
        each = -(-self.sequences // split.dp)
        weights = stage_weights(self.model, self.formats, split)
        caches = stage_caches(self.model, self.context, self.kv_dtype, split)
        stage = max(range(split.pp), key=lambda s: weights[s] + each * caches[s])
        runtime = self.overhead(split) - self.activation
        return PerGPU(self.total, self.limit, weights[stage], each * caches[stage], self.activation, runtime, stage)

    @cached_property
    def one_sequence(self) -> int:
        """Bytes of one sequence's cache, held once: no TP, no repetition."""
        return sum(stage_caches(self.model, self.context, self.kv_dtype, Split()))

    @cached_property
    def all_weights(self) -> int:
        """Bytes of the weights, held once."""
        return sum(stage_weights(self.model, self.formats, Split()))

    @property
    def bag(self) -> int | None:
        """GPUs if their memory were one bag that could be cut anywhere: no layout needs fewer. None: nothing fits."""
        room = self.limit - self.overhead(Split())
        held = self.all_weights + self.sequences * self.one_sequence
        return max(1, -(-held // room)) if room > 0 else None


def ask(
    model: Model | str,
    context: int,
    sequences: int,
    gpu_name: str | Accelerator | float,
    weight_dtype: str | DType | Mapping[str, str | DType] = "bf16",
    kv_dtype: str | None = None,
    utilisation: float = 0.9,
    activation: float | None = None,
    runtime: float | None = None,
    domain: int | None = None,
) -> Question:
    """The question, with defaults filled in and bad input refused; the arguments are those of `size_cluster`."""
    chosen = known_model(model) if isinstance(model, str) else model
    if not isinstance(chosen, Model) or not chosen.layers:
        raise ValueError(f"model must be a kvlib Model with layers, or a name from kv.models(); got {model!r:.80}")
    context, sequences = _count("context", context), _count("sequences", sequences)
    if isinstance(utilisation, bool) or not isinstance(utilisation, int | float) or not 0 < utilisation <= 1:
        raise ValueError(f"utilisation must be a share above 0 and at most 1; got {utilisation!r}")
    card = None if isinstance(gpu_name, int | float) else gpu(gpu_name)
    total = _visible(card) if card else _bytes("gpu", gpu_name, 1)
    warnings = []
    if chosen.max_context is not None and context > chosen.max_context:
        trained = f"{chosen.name} was trained for {chosen.max_context:,} tokens"
        warnings.append(f"{trained}: this says what {context:,} need in memory, not that the answers are good")
    if card is not None and card.visible_bytes is None:
        warnings.append(f"nobody recorded what the driver shows for {card.name}; its label counts as {size(total)}")
    link = card.link if card else None
    if domain is None:
        domain = max(NODE, (link.domain if link else None) or 1)
    stored = kv_format("bf16" if kv_dtype is None else kv_dtype)
    for layer in chosen.layer_counts:
        cache_of(layer, context, stored)  # refuses, by name, a format that these layers cannot use
    return Question(
        model=chosen,
        context=context,
        sequences=sequences,
        gpu_name=card.name if card else f"GPU of {size(total)}",
        total=total,
        limit=math.floor(total * utilisation),
        formats=_formats(weight_dtype),
        kv_dtype=stored,
        activation=_default_activation(total) if activation is None else _bytes("activation", activation),
        runtime=None if runtime is None else _bytes("runtime", runtime),
        domain=whole("domain", domain, 1),
        link=link,
        warnings=tuple(warnings),
    )


def _count(name: str, value: Any) -> int:
    number = whole(name, value, 1)
    if not isinstance(number, int) or number > _MOST:
        raise ValueError(f"{name} must be one whole number, at most {_MOST:,}; got {value!r:.80}")
    return number


def _visible(card: Accelerator) -> int:
    """Visible bytes; where nobody recorded them the label in GB, which no recorded card falls short of."""
    return card.visible_bytes or card.label_gb * GB


def _default_activation(total: int) -> int:
    return ACTIVATION if total >= SMALL_CARD else SMALL_ACTIVATION


def _formats(weight_dtype: Any) -> dict[str, DType]:
    """One format for all parts of the weights, or one for some of them and "other" for the rest."""
    if not isinstance(weight_dtype, Mapping):
        weight_dtype = {"other": weight_dtype}
    if "other" not in weight_dtype:
        raise ValueError(f'weight_dtype must name a format for "other" parts too; got {dict(weight_dtype)!r:.80}')
    try:
        return {part: dtype(name) for part, name in weight_dtype.items()}
    except ValueError as unknown:
        raise ValueError(f"weight_{unknown}") from None


def _bytes(name: str, value: Any, least: int = 0) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= _MOST:  # false for nan and inf
        raise ValueError(f"{name} must be a number of bytes, {least} to {_MOST:,}; got {value!r:.80}")
    nearest: int = round(value)
    return nearest
