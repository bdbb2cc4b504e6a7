"""The needle experiment against your own model: any OpenAI-compatible endpoint, with a bill known before and after.

    to = endpoint("gpt-4.1-nano", base_url="https://api.openai.com/v1")  # the key comes from OPENAI_API_KEY
    ahead = plan(to, kv.price("gpt-4.1-nano"), tokens=(256, 1_024))      # sends nothing; shows what it will cost
    records = run(ahead, "needle.jsonl", spend_at_most_usd=0.50)         # sends; stop it and call it again at will
    summary(records)

Context first and question last, and the questions of one haystack one after another, so that the server's prefix cache
can serve all but the first. Different haystacks are asked at the same time. The same haystacks go to every arm.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from decimal import Decimal
from pathlib import Path

import httpx

from kvlib.lab.access import Endpoint, endpoint
from kvlib.lab.endpoint_plan import ARMS, Item, Plan, dollars, in_usd, plan, tariff
from kvlib.lab.endpoint_records import Record, answer_line, results, summary
from kvlib.lab.endpoint_request import Outcome, ask
from kvlib.lab.ledger import Ledger, LedgerError
from kvlib.progress import progress_bar
from kvlib.units import whole

__all__ = [
    "ARMS",
    "Endpoint",
    "EndpointError",
    "LedgerError",
    "Plan",
    "Record",
    "endpoint",
    "plan",
    "results",
    "run",
    "summary",
    "tariff",
]

LONGEST_WAIT = 120.0  # seconds; a server that asks for more ends the run, which can be taken up later
_FINAL = ("answered", "refused")  # results that are a measurement


class EndpointError(RuntimeError):
    """The run was stopped, because going on would cost without answering. What was answered is in the file."""


def run(
    plan: Plan,
    path: str | Path,
    *,
    spend_at_most_usd: float | str | Decimal,
    concurrency: int = 4,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 120.0,
    give_up_after: int = 5,
    progress: bool | None = None,
    say: Callable[[str], object] = print,
) -> list[Record]:
    """Ask every question that has no answer in the file yet, and return the records of all, as `results` does.

    Args:
        plan: from `plan(...)`.
        path: a JSON-lines file, new or of an earlier run. What it holds is neither asked nor paid again.
        spend_at_most_usd: what all runs into this file may cost together. The worst case of a request is set aside
            before it is sent, and stays so if its outcome is unknown; what does not fit is not sent.
        concurrency: haystacks at a time.
        retries: further attempts after one that brought no answer.
        backoff: seconds before the first of them; twice as many before each next, up to a minute, less a share that
            differs from question to question. A Retry-After of the server counts if it is longer.
        timeout: seconds for one request.
        give_up_after: end the run after so many questions in a row without an answer.
        progress: as in `progress_bar`.
        say: told in a line what is about to be spent, and what was.

    Raises:
        EndpointError: if no further request would do better (a wrong key, say), or the server bills more than can be.
        LedgerError: if the file is no ledger, or another run has it open.
        ValueError: if an argument cannot be used.
        KeyboardInterrupt: after Ctrl-C, once what is under way has been answered and written down.
    """
    with Ledger(path, in_usd("spend_at_most_usd", spend_at_most_usd)) as ledger:
        todo = [[item for item in group if not ledger.answered(item.id)] for group in plan.groups]
        open_items = [item for group in todo for item in group]
        low, high = plan.estimate(open_items)
        if ledger.torn or ledger.lost:
            say(f"An earlier run broke off: {ledger.lost} requests may have been paid for without an answer.")
        used = f", of which {dollars(ledger.usd_at_most)} may be used up" if ledger.usd_at_most else ""
        say(f"{len(open_items):,} of {len(plan.items):,} questions to ask: {dollars(low)} to {dollars(high)}.")
        say(f"The cap is {dollars(ledger.cap)}{used}.")
        work = _Run(plan, ledger, whole("retries", retries), backoff, timeout, whole("give_up_after", give_up_after, 1))
        with progress_bar("question", len(open_items), progress) as step:
            work.through([group for group in todo if group], whole("concurrency", concurrency, 1), step, say)
        if ledger.capped:
            left = dollars(ledger.cap - ledger.usd_at_most)
            say(f"Stopped at the cap: {left} of {dollars(ledger.cap)} are left, and the next request might cost more.")
        say(f"Cost: {dollars(ledger.usd)} by the server's counts, at most {dollars(ledger.usd_at_most)}.")
    return results(plan, path)


class _Run:
    """The threads of one run, and when they stop."""

    def __init__(self, plan: Plan, ledger: Ledger, retries: int, backoff: float, timeout: float, patience: int) -> None:
        for name, value in {"backoff": backoff, "timeout": timeout}.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a number of seconds above 0; got {value!r}")
        self.plan, self.ledger, self.retries, self.backoff, self.timeout = plan, ledger, retries, backoff, timeout
        self.patience, self.in_vain, self.finished = patience, 0, 0
        self.stop, self.lock = threading.Event(), threading.Lock()

    def through(
        self, groups: list[list[Item]], concurrency: int, step: Callable[[int], object], say: Callable[[str], object]
    ) -> None:
        """All groups, `concurrency` at a time. However it ends, it waits for the requests under way."""
        client = self.plan.to.client(self.timeout, concurrency)
        shown = 0
        with client, ThreadPoolExecutor(concurrency) as pool:
            try:
                pending = {pool.submit(self.group, client, group) for group in groups}
                while pending:
                    done, pending = wait(pending, timeout=0.05, return_when=FIRST_COMPLETED)
                    finished = self.finished
                    step(finished - shown)
                    shown = finished
                    for future in done:
                        future.result()
            except KeyboardInterrupt:
                say("Interrupted: waiting for the requests under way. Call run again to go on.")
                raise
            finally:
                self.stop.set()
                pool.shutdown(cancel_futures=True)

    def group(self, client: httpx.Client, items: list[Item]) -> None:
        """The questions of one haystack, one after another."""
        for item in items:
            if self.stop.is_set():
                return
            outcome = self.question(client, item)
            if outcome is None:  # the cap, or somebody else's stop
                self.stop.set()
                return
            with self.lock:
                self.finished += 1
                self.in_vain = 0 if outcome.result in _FINAL else self.in_vain + 1
                if self.in_vain >= self.patience:
                    raise self._ended(f"{self.in_vain} questions in a row got no answer; the last one: {outcome.why}")

    def question(self, client: httpx.Client, item: Item) -> Outcome | None:
        """One question, with its further attempts; None if it may not be sent any more."""
        for further in range(self.retries + 1):
            worst = self.plan.worst(item)
            attempt = self.ledger.reserve(item.id, worst, self.stop.is_set)
            if attempt is None:
                return None
            outcome = ask(client, self.plan.to, item.messages, self.timeout)
            usd, at_most = self._cost(outcome, worst)
            final = outcome.result in _FINAL
            line = answer_line(item, outcome) if final else {"result": outcome.result, "why": outcome.why}
            self.ledger.settle("answer" if final else "no answer", item.id, attempt, usd, at_most, **line)
            if at_most > worst:
                raise self._ended(
                    f"the server counted {outcome.usage}, more than this request can have: is there a long "
                    "system prompt (see template_tokens of plan), or is max_tokens not obeyed?"
                )
            if outcome.result == "stop":
                raise self._ended(outcome.why)
            if outcome.wait > LONGEST_WAIT:
                raise self._ended(f"the server asks to come back in {outcome.wait:,.0f} s ({outcome.why})")
            if final or outcome.result == "rejected" or further == self.retries:
                return outcome
            pause = min(self.backoff * 2**further, 60.0) * (1 - int(item.id[:4], 16) / 2**17)  # 50 to 100 % of it
            if self.stop.wait(max(pause, outcome.wait)):
                return None
        raise AssertionError("the last attempt returns")

    def _cost(self, outcome: Outcome, worst: Decimal) -> tuple[Decimal, Decimal]:
        """USD that an attempt has cost by the server's counts, and at most."""
        if outcome.usage is None:
            return Decimal(0), Decimal(0) if outcome.free else worst
        new = outcome.usage
        bill = self.plan.price.bill(new.prompt_tokens, new.completion_tokens, cached_tokens=new.cached_tokens or 0)
        return bill.usd, bill.high

    def _ended(self, why: str) -> EndpointError:
        self.stop.set()
        return EndpointError(f"{why}. The answers so far are in {self.ledger.path}; run again to go on")
