"""A model on some GPUs: what fits, and what one of the GPUs reads, computes and sends in a decode step or a prefill."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kvlib.catalogue import model as known_model
from kvlib.dtypes import DType, dtype
from kvlib.flops import decode_attention_flops, decode_flops, prefill_attention_flops, prefill_flops
from kvlib.hardware import Accelerator
from kvlib.hardware import gpu as known_gpu
from kvlib.links import (
    ACTIVATION_BYTES,
    RETURNED_BYTES,
    SENT_BYTES,
    all_reduce_seconds,
    all_to_all_seconds,
    link_bandwidth,
)
from kvlib.model import Model
from kvlib.precision import cache_format, peak_unit
from kvlib.question import ACTIVATION, ALONE, JOINED, SMALL_ACTIVATION, SMALL_CARD
from kvlib.shards import Split, refusal, stage_weights
from kvlib.steps import Step, smaller
from kvlib.traffic import cache_read, formats, weights_read
from kvlib.units import GB, GiB, whole

CHUNK = 8192  # tokens that an engine prefills in one step (vLLM's and TensorRT-LLM's usual max_num_batched_tokens)
UTILISATION = 0.9  # share of the visible memory that an engine may use


@dataclass(frozen=True)
class Placement:
    """`copies` of a model, each on `tp` x `pp` GPUs. With `ep` the copies share one set of routed experts."""

    model: Model
    gpu: Accelerator
    tp: int
    pp: int
    copies: int
    ep: bool
    weights: Mapping[str, DType] = field(hash=False)
    kv: DType
    compute: str | None = None

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.tp * self.pp * self.copies

    @property
    def split(self) -> Split:
        """The layout as `kvlib.cluster` knows it."""
        return Split(self.tp, self.pp, self.copies, self.tp * self.copies if self.ep else 1)

    # --- what fits

    def room(self, ideal: bool = False) -> float:
        """Bytes for caches on the fullest GPU; ideally all visible memory beside an even share of the weights.

        Otherwise as an engine counts: 90 % of the visible memory, less weights, activation and runtime.
        """
        visible = self.gpu.visible_bytes
        if ideal:
            even = sum(stage_weights(self.model, self.weights, Split()))
            return (visible or self.gpu.label_gb * GiB) - even / (self.gpus if self.ep else self.tp * self.pp)
        total = visible or self.gpu.label_gb * GB
        activation = ACTIVATION if total >= SMALL_CARD else SMALL_ACTIVATION
        runtime = ALONE if self.gpus == 1 else JOINED
        return UTILISATION * total - max(stage_weights(self.model, self.weights, self.split)) - activation - runtime

    def fitting(self, contexts: Sequence[int], ideal: bool = False) -> float:
        """Sequences, on all copies together, whose caches fit at once, as many of each length; not rounded."""
        each = sum(self.model.cache_bytes(n, self.kv, self.tp) for n in contexts) / len(contexts) / self.pp
        return self.copies * self.room(ideal) / each if each else math.inf

    # --- what one step costs

    def decode(self, batch: Any, context: Any, native: bool = True) -> Step:
        """One decode step: every one of `batch` sequences, `context` tokens long, gets one token.

        With pipeline stages the batch goes through in as many parts as there are stages, or fewer if there are fewer
        sequences; each part reads the weights again. `native` takes the matrix units that engines use, else the
        fastest that could be used.
        """
        parts = smaller(self.pp, batch / self.copies)
        each = batch / self.copies / parts
        cache = each * cache_read(self.model, context, self.kv, self.tp) / self.pp
        attention = decode_attention_flops(self.model, context)
        linear = decode_flops(self.model, context) - attention
        layers = len(self.model.layers)
        return self._step(
            read=self.pp * (self._weights_read(each) + cache) / self.gpu.bandwidth,
            linear=each * linear / self.tp,
            attention=each * attention / self.tp,
            tokens=each,
            times=1,
            launches=layers,
            sequences=each,
            native=native,
        )

    def prefill(self, tokens: Any, cached: Any = 0, batch: Any = 1, native: bool = True) -> Step:
        """Reading `batch` prompts of `tokens` new tokens each, after `cached` ones, in one copy.

        An engine does it in chunks of 8,192 tokens, and reads the weights for each; that is left out unless `native`.
        """
        every = batch * tokens
        chunks = -(-every / CHUNK // 1) if native else 1
        attention = prefill_attention_flops(self.model, tokens, cached)
        linear = prefill_flops(self.model, tokens, cached) - attention
        return self._step(
            read=chunks * self._weights_read(every) / self.gpu.bandwidth,
            linear=batch * linear / (self.tp * self.pp),
            attention=batch * attention / (self.tp * self.pp),
            tokens=every,
            times=chunks,
            launches=chunks * len(self.model.layers),
            sequences=0,
            native=native,
            idle=(self.pp - 1) / (chunks + self.pp - 1) if native else 0.0,
        )

    # --- parts of these

    def _step(
        self,
        read: Any,
        linear: Any,
        attention: Any,
        tokens: Any,
        times: Any,
        launches: Any,
        sequences: Any,
        native: bool,
        idle: Any = 0.0,
    ) -> Step:
        """Bytes already as seconds, FLOPs not yet."""
        unit = self.compute or peak_unit(self.gpu, self.weights["other"], native)
        moved, waits = self._talk(tokens, times)
        return Step(
            read=read,
            linear=linear / self.gpu.flops[unit],
            attention=attention / self.gpu.flops[peak_unit(self.gpu, self.kv, native)],
            moved=moved,
            waits=waits,
            launches=launches,
            sequences=sequences,
            idle=idle,
            group=self.tp * self.pp > 1 or self.ep,
            fp4=unit == "fp4",
            experts=bool(self.model.experts),
        )

    def _weights_read(self, tokens: Any) -> Any:
        """Bytes of weights that one GPU reads when each copy has `tokens` tokens to work on."""
        fixed = weights_read(self.model, 0, self.weights)
        reach = tokens * self.copies if self.ep else tokens
        experts = (weights_read(self.model, reach, self.weights) - fixed) / (self.copies if self.ep else 1)
        return (fixed + experts) / (self.tp * self.pp)

    def _talk(self, tokens: Any, times: Any) -> tuple[Any, Any]:
        """(seconds of sending, seconds of latency) for `tokens` tokens of one copy that pass in `times` steps.

        Two all-reduces a layer with TP, two all-to-alls a layer with EP, a hand-over at each stage boundary with PP.
        """
        layers, width = len(self.model.layers), self.model.hidden_size
        message: Any = tokens * width * ACTIVATION_BYTES
        moved, waits = 0.0 * message, 0.0 * message
        if self.tp > 1:
            speed = link_bandwidth(self.gpu, self.tp)
            moved = moved + 2 * layers * message * all_reduce_seconds(1, self.tp, speed, latency=False)
            waits = waits + 2 * layers * times * all_reduce_seconds(0, self.tp, speed)
        ranks = self.tp * self.copies
        if self.ep:
            speed = link_bandwidth(self.gpu, ranks)
            targets = min(self.model.experts_per_token, ranks)  # a token goes to each GPU once at most
            sent = tokens / self.tp * targets * width * (SENT_BYTES + RETURNED_BYTES)
            moved = moved + layers * sent * all_to_all_seconds(1, ranks, speed, latency=False)
            waits = waits + 2 * layers * times * all_to_all_seconds(0, ranks, speed)
        if self.pp > 1:
            moved = moved + (self.pp - 1) * message / link_bandwidth(self.gpu, self.gpus)
        return moved, waits

    @cached_property
    def domain(self) -> int:
        """GPUs that one TP group may span: a server, or the domain of the link."""
        link = self.gpu.link
        return max(8, link.domain or 65_536) if link else 8


def place(
    model: Model | str,
    gpu: str | Accelerator,
    *,
    tp: int = 1,
    pp: int = 1,
    gpus: int | None = None,
    weight_dtype: str | DType | Mapping[str, str | DType] = "bf16",
    kv_dtype: str | DType | None = None,
    compute: str | None = None,
) -> Placement:
    """A model on `gpus` GPUs (None: one copy): as many copies as `tp` x `pp` allow; MoE copies share their experts.

    Raises:
        ValueError: if an argument is out of range, or no engine could start this layout.
    """
    chosen = known_model(model) if isinstance(model, str) else model
    if not isinstance(chosen, Model) or not chosen.layers:
        raise ValueError(f"model must be a kvlib Model with layers, or a name from kv.models(); got {model!r:.80}")
    card, tp, pp = known_gpu(gpu), whole("tp", tp, 1), whole("pp", pp, 1)
    gpus = whole("gpus", tp * pp if gpus is None else gpus, 1)
    if gpus % (tp * pp):
        raise ValueError(f"gpus must be a multiple of tp x pp = {tp * pp}; got {gpus}")
    stored = formats(weight_dtype)
    if compute is not None and compute not in card.flops:
        raise ValueError(f"compute must be one of {', '.join(card.flops)} on {card.name}; got {compute!r}")
    copies = gpus // (tp * pp)
    placed = Placement(
        model=chosen,
        gpu=card,
        tp=tp,
        pp=pp,
        copies=copies,
        ep=bool(chosen.experts) and copies > 1,
        weights=stored,
        kv=cache_format(card, stored["other"]) if kv_dtype is None else _kv(kv_dtype),
        compute=compute,
    )
    why = refusal(chosen, placed.split, placed.domain)
    if why:
        raise ValueError(f"tp, pp and gpus must be a layout that can start; got tp={tp}, pp={pp}, gpus={gpus}: {why}")
    if gpus > 1 and card.link is None:
        raise ValueError(f"gpus must be 1 on {card.name}, whose link nobody recorded; got {gpus}")
    return placed


def _kv(name: str | DType) -> DType:
    try:
        return dtype(name)
    except ValueError as unknown:
        raise ValueError(f"kv_{unknown}") from None
