"""One day of a provider, as it was published: tokens, nodes, cost, revenue, and what follows line by line.

DeepSeek, 24 hours from 2025-02-27 12:00 (UTC+8): 608 billion input tokens, 56.3 % of them out of a cache, 226.75 nodes
of eight H800, 87,072 USD of cost and 562,027 USD of revenue if every token had been sold at the price of R1. It called
the difference a "cost profit margin of 545 %". That is a markup on cost; the margin on revenue is 84.5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from kvlib.anchors import records
from kvlib.bills import Price, Rates
from kvlib.catalogue import model
from kvlib.cost import SECONDS, CostPerMillion, cost_per_million, margin, markup
from kvlib.hardware import Source

MILLION = 10**6
_DAY = 24 * SECONDS


@dataclass(frozen=True)
class Step:
    """One line: `what`, `how` it is computed, what we see, and the published number (None where there is none)."""

    what: str
    how: str
    ours: float
    published: float | None = None

    @property
    def off(self) -> float | None:
        """How far ours is from the published number, as a share of it; None if there is none."""
        return None if self.published is None else self.ours / self.published - 1


@dataclass(frozen=True)
class PublishedDay:
    """The published figures; the properties compute what follows. Tokens per day, USD, tokens per second."""

    what: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    hit_rate: float
    average_nodes: float
    peak_nodes: int
    gpus_per_node: int
    usd_per_gpu_hour: float
    input_per_second_per_node: int
    output_per_second_per_node: int
    tokens_per_second_per_user: tuple[int, int]
    cache_tokens_per_output_token: int
    prefill_nodes_per_unit: int
    decode_nodes_per_unit: int
    usd_per_million_cached: float
    usd_per_million_input: float
    usd_per_million_output: float
    cost_usd: int
    revenue_usd: int
    printed_percent: int
    source: Source
    as_of: str

    @property
    def cost(self) -> float:
        """Nodes x GPUs of a node x rent x 24 hours."""
        return self.average_nodes * self.gpus_per_node * self.usd_per_gpu_hour * 24

    @property
    def list_price(self) -> Rates:
        """The price of R1, at which the publisher counted every token."""
        figures = self.usd_per_million_input, self.usd_per_million_output, self.usd_per_million_cached
        new, written, cached = (Decimal(str(usd)) for usd in figures)
        return Rates(new, written, cached)

    def revenue(self, rates: Rates | Price | None = None, *, discount: bool = True) -> float:
        """USD that the day's tokens earn at `rates` (those of R1, if None), with or without the discount for hits."""
        rates = rates.rates if isinstance(rates, Price) else rates or self.list_price
        cached = rates.input if rates.cached_input is None or not discount else rates.cached_input
        new = self.input_tokens - self.cached_tokens
        return float((self.cached_tokens * cached + new * rates.input + self.output_tokens * rates.output) / MILLION)

    @property
    def prefill_nodes(self) -> float:
        """Nodes that read, by the published speed of one (cached tokens count as read)."""
        return self.input_tokens / _DAY / self.input_per_second_per_node

    @property
    def decode_nodes(self) -> float:
        """Nodes that write, by the published speed of one."""
        return self.output_tokens / _DAY / self.output_per_second_per_node

    @property
    def prices(self) -> CostPerMillion:
        """Cost per million tokens by those speeds, machines always busy."""
        return cost_per_million(
            self.usd_per_gpu_hour,
            gpus=self.gpus_per_node,
            utilisation=1,
            input_per_second=self.input_per_second_per_node,
            output_per_second=self.output_per_second_per_node,
        )

    @property
    def writing(self) -> tuple[float, float]:
        """(fewest, most) sequences that are being written at once: output per second over the speed of one user."""
        slow, fast = self.tokens_per_second_per_user
        return self.output_tokens / _DAY / fast, self.output_tokens / _DAY / slow

    def cache_bytes_per_gpu(self, tokens_per_second_per_user: float = 21) -> float:
        """KV bytes on a GPU that decodes: its sequences x the published length x the bytes per token of DeepSeek-V3."""
        sequences = self.output_tokens / _DAY / tokens_per_second_per_user
        per_gpu = sequences / (self.decode_nodes * self.gpus_per_node)
        return per_gpu * self.cache_tokens_per_output_token * int(model("deepseek-v3").growth("bf16"))

    def lines(self) -> tuple[Step, ...]:
        """The day, line by line."""
        revenue, cost = self.revenue(), self.cost
        hits = self.cached_tokens / self.input_tokens
        nodes = self.prefill_nodes + self.decode_nodes
        return (
            Step("cost, USD", "226.75 nodes x 8 GPUs x 2 USD x 24 h", cost, self.cost_usd),
            Step("cache hits, share", "342 / 608", hits, self.hit_rate),
            Step("revenue, USD", "342 x 0.14 + 266 x 0.55 + 168 x 2.19 thousand", revenue, self.revenue_usd),
            Step("markup on cost, %", "(revenue - cost) / cost", 100 * markup(revenue, cost), self.printed_percent),
            Step("margin on revenue, %", "(revenue - cost) / revenue", 100 * margin(revenue, cost)),
            Step("nodes that read", "608 billion / 86,400 s / 73,700", self.prefill_nodes),
            Step("nodes that write", "168 billion / 86,400 s / 14,800", self.decode_nodes),
            Step("nodes", "the sum", nodes, self.average_nodes),
            Step("average / peak nodes, %", "226.75 / 278", 100 * self.average_nodes / self.peak_nodes),
        )


@cache
def published_day() -> PublishedDay:
    """The published day, from data/cost_anchors.toml."""
    (row,) = records("deepseek_day")
    return PublishedDay(**{**row, "tokens_per_second_per_user": tuple(row["tokens_per_second_per_user"])})
