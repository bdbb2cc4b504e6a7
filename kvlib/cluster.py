"""How many GPUs, laid out how, for this context and this many users.

Every layout TP x PP x DP (x EP for models with experts) is tried, the impossible ones are refused with the reason, and
what fits is ranked: fewest GPUs first, then most free memory on the fullest GPU.
"""

from __future__ import annotations

import html
import importlib.util
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from kvlib.dtypes import DType
from kvlib.hardware import Accelerator
from kvlib.model import Model
from kvlib.plans import Plan, judge
from kvlib.question import Question, ask
from kvlib.search import Search, by_arrays, by_loop
from kvlib.shards import Split
from kvlib.units import size, tokens, whole

_LARGEST = 65_536


@dataclass(frozen=True)
class Ranking(Sequence[Plan]):
    """Plans in order: those that fit (fewest GPUs, then most free memory), near misses, impossible layouts.

    The first `len(fitting)` fit; `tried` layouts were looked at, `fit_count` of them fit. `bag` is the number of GPUs
    if memory could be cut anywhere: a floor that no layout beats.
    """

    question: Question = field(repr=False)
    fitting: tuple[Plan, ...]
    misses: tuple[Plan, ...]
    refused: tuple[Plan, ...]
    tried: int
    fit_count: int
    max_gpus: int

    @property
    def plans(self) -> tuple[Plan, ...]:
        """All of them, in order."""
        return self.fitting + self.misses + self.refused

    @property
    def best(self) -> Plan | None:
        """The first plan that fits, or None."""
        return self.fitting[0] if self.fitting else None

    @property
    def bag(self) -> int | None:
        """GPUs if their memory were one bag; None if one GPU's overheads fill it."""
        return self.question.bag

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights, held once."""
        return self.question.all_weights

    @property
    def cache_bytes(self) -> int:
        """Bytes of the cache of all sequences, held once."""
        return self.question.sequences * self.question.one_sequence

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader should know although it is no error."""
        return self.question.warnings

    def __len__(self) -> int:
        return len(self.plans)

    @overload
    def __getitem__(self, item: int) -> Plan: ...
    @overload
    def __getitem__(self, item: slice) -> tuple[Plan, ...]: ...
    def __getitem__(self, item: int | slice) -> Plan | tuple[Plan, ...]:
        return self.plans[item]

    @property
    def title(self) -> str:
        """The question and the count, in one sentence."""
        q = self.question
        many = f"{q.sequences:,} sequence{'s' if q.sequences > 1 else ''} of {tokens(q.context)}"
        fit = f"{self.fit_count:,} of {self.tried:,} layouts up to {self.max_gpus:,} GPUs fit"
        return f"{q.model.name}, {many}, {q.gpu_name}: {fit}"

    @property
    def needs(self) -> str:
        """Weights and cache, held once, and the floor they set."""
        floor = f"at least {self.bag:,} GPUs" if self.bag else "no number of GPUs is enough"
        return f"weights {size(self.weight_bytes)} + KV cache {size(self.cache_bytes)}: {floor}"

    def __repr__(self) -> str:
        shown = [*self.fitting[:5], *(self.misses[:2] or self.refused[:2])]
        notes = [f"note: {warning}" for warning in self.warnings]
        return "\n  ".join([self.title, self.needs, *notes, *(repr(plan) for plan in shown)])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("GPUs", "layout", "weights", "KV cache", "free", "why"))
        rows = []
        for plan in self.plans[: len(self.fitting) + len(self.misses) + 6]:
            held = plan.per_gpu
            sizes = (size(held.weights), size(held.kv_cache), size(held.free)) if held else ("–", "–", "–")
            cells = (f"{plan.gpus:,}", str(plan.split), *sizes, ("" if plan.fits else "no: ") + plan.why)
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
        notes = "".join(f"<br>{html.escape(warning)}" for warning in self.warnings)
        caption = f"{html.escape(self.title)}<br>{html.escape(self.needs)}{notes}"
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{''.join(rows)}</table>"


def size_cluster(
    model: Model | str,
    context: int,
    sequences: int,
    gpu: str | Accelerator | float,
    weight_dtype: str | DType | Mapping[str, str | DType] = "bf16",
    kv_dtype: str | None = None,
    max_gpus: int = 256,
    *,
    utilisation: float = 0.9,
    activation: float | None = None,
    runtime: float | None = None,
    domain: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    ep: int | None = None,
    dcp: int | None = 1,
    keep: int = 10,
) -> Ranking:
    """Layouts that hold `sequences` sequences of `context` tokens, ranked by GPUs, then by free memory.

    Args:
        model: a Model, or a name from `kv.models()`.
        context: tokens of each sequence, prompt and answer together. More than the model was trained for is a warning.
        sequences: sequences in memory at the same time.
        gpu: a name from `kv.gpus()`, an Accelerator, or the visible bytes of one GPU.
        weight_dtype: format of the weights; or a mapping from part ("attention", "mlp", "experts", "embedding", "head",
            "norms", ...) to format, with "other" for the rest. An FP8 checkpoint keeps embedding and head in bf16:
            {"other": "fp8", "embedding": "bf16", "head": "bf16"}.
        kv_dtype: format of the cache, one of `kvlib.pages.KV_DTYPES`; None is bf16, whatever the weights are, as in
            engines.
        max_gpus: the largest cluster to try.
        utilisation: share of the visible memory that the engine may use, as in `kv.budget`.
        activation: bytes of activation on each GPU. None is 4.84 GiB, or 1.26 GiB on cards below 70 GB: measured, not
            a constant of nature. TP does not divide it.
        runtime: bytes outside PyTorch on each GPU (CUDA context, NCCL). None is 0.13 GiB for a GPU alone and 1.74 GiB
            for one of a group, plus 2.7 GiB with DCP.
        domain: GPUs that one TP group may span. None is one server of 8, or the NVLink domain of the GPU where that is
            larger (72 for GB200 and GB300). PP, DP and EP may cross it.
        tp: tensor parallelism; None tries all degrees, here and below.
        pp: pipeline stages.
        dp: data-parallel copies.
        ep: GPUs that share whole experts out: TP times a divisor of DP; 1 for none.
        dcp: decode context parallelism, off by default.
        keep: how many fitting plans to list.

    Returns:
        A Ranking: a sequence of Plan, the best first, then near misses and impossible layouts with their reasons.

    Raises:
        ValueError: if an argument is out of range, or there is no such model, GPU or format.

    Sources: shards.py names the rule of each division, plans.py the measurements behind the defaults.
    """
    question = ask(model, context, sequences, gpu, weight_dtype, kv_dtype, utilisation, activation, runtime, domain)
    search = _search(question, max_gpus, tp=tp, pp=pp, dp=dp, ep=ep, dcp=dcp)
    return rank(search, whole("keep", keep, 1))


def plan(
    model: Model | str,
    context: int,
    sequences: int,
    gpu: str | Accelerator | float,
    weight_dtype: str | DType | Mapping[str, str | DType] = "bf16",
    kv_dtype: str | None = None,
    *,
    tp: int = 1,
    pp: int = 1,
    dp: int = 1,
    ep: int = 1,
    dcp: int = 1,
    **settings: Any,
) -> Plan:
    """One layout, judged: fitting or not, and why. Arguments as in `size_cluster`; an impossible one is no error."""
    question = ask(model, context, sequences, gpu, weight_dtype, kv_dtype, **settings)
    degrees = {"tp": tp, "pp": pp, "dp": dp, "ep": ep, "dcp": dcp}
    return judge(question, Split(**{name: whole(name, value, 1) for name, value in degrees.items()}))


def longest_context(
    model: Model | str,
    sequences: int,
    gpu: str | Accelerator | float,
    gpus: int,
    weight_dtype: str | DType | Mapping[str, str | DType] = "bf16",
    kv_dtype: str | None = None,
    **settings: Any,
) -> int | float:
    """Tokens that each of `sequences` sequences can have on up to `gpus` GPUs, in the best layout.

    It fits, and one token more does not. 0 if nothing fits, `math.inf` if the cache stops growing. Settings are those
    of `size_cluster`, degrees included; `size_cluster` with this context shows the layout.
    """
    search = _inverse(model, 1, sequences, gpu, gpus, weight_dtype, kv_dtype, settings)
    best: int | float = 0
    for split in search.splits():
        if best == math.inf or (split.dp > sequences and split.ep == 1):
            continue
        candidate = judge(search.question, split)
        if candidate._with(context=int(best) + 1):
            best = max(best, candidate.longest_context())
    return best


def most_sequences(
    model: Model | str,
    context: int,
    gpu: str | Accelerator | float,
    gpus: int,
    weight_dtype: str | DType | Mapping[str, str | DType] = "bf16",
    kv_dtype: str | None = None,
    **settings: Any,
) -> int | float:
    """Sequences of `context` tokens that up to `gpus` GPUs hold at the same time, in the best layout.

    They fit, and one more does not. 0 if none fits. Settings are those of `size_cluster`, degrees included.
    """
    search = _inverse(model, context, 1, gpu, gpus, weight_dtype, kv_dtype, settings)
    return max((judge(search.question, split).most_sequences() for split in search.splits()), default=0)


def _inverse(
    model: Any, context: Any, sequences: Any, gpu: Any, gpus: Any, weight_dtype: Any, kv_dtype: Any, settings: Any
) -> Search:
    degrees = {name: settings.pop(name) for name in ("tp", "pp", "dp", "ep", "dcp") if name in settings}
    question = ask(model, context, sequences, gpu, weight_dtype, kv_dtype, **settings)
    return _search(question, whole("gpus", gpus, 1), **{"dcp": 1, **degrees})


def _search(question: Question, max_gpus: Any, **degrees: Any) -> Search:
    checked = {name: None if value is None else whole(name, value, 1) for name, value in degrees.items()}
    most = whole("max_gpus", max_gpus, 1)
    if most > _LARGEST:
        raise ValueError(f"max_gpus must be at most {_LARGEST:,}; got {most:,}")
    return Search(question, most, **checked)


def rank(search: Search, keep: int, fast: bool | None = None) -> Ranking:
    """The ranking of a search; `fast` None takes arrays where numpy is installed and all numbers fit in 64 bits."""
    q = search.question
    if fast is None:
        fast = importlib.util.find_spec("numpy") is not None
        fast = fast and max(q.context, q.sequences, q.model.parameters * len(q.model.layers)) < 2**55
    tried, count, good, near = (by_arrays if fast else by_loop)(search, keep)
    fitting, misses = (tuple(judge(q, split) for split in splits) for splits in (good, near))
    refused = tuple(search.refused())
    return Ranking(q, fitting, misses, refused, tried, count, search.max_gpus)


def plans_per_second(seconds: float = 0.5, max_gpus: int = 512) -> float:
    """Layouts judged per second, measured: DeepSeek-V3, 64 users, TP x PP x DP x EP on up to `max_gpus` H200."""
    search = _search(ask("deepseek-v3", 32_768, 64, "h200-sxm", "fp8"), max_gpus, tp=None, dcp=1)
    rank(search, 10)
    tried, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        tried += rank(search, 10).tried
    return tried / (time.perf_counter() - begin)
