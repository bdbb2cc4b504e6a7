"""Exercise 8: what a right answer costs, when some are wrong."""

from __future__ import annotations

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex07 import counted
from kvlib.check.ex07.counted import drawn

# ---------------------------------------------------------------- exercise 8: what a right answer costs


def _asked(label: str, sizes: tuple[int, int], right: int, n: int, usd: tuple[float, float]) -> Case:
    """Requests of one size (input, output), how many were right, and a price list; for exercise 8."""
    tokens = {"input_tokens": sizes[0], "output_tokens": sizes[1], "right": right, "n": n}
    return Case(label, {**tokens, "usd_input": usd[0], "usd_output": usd[1]})


def _drawn_asked(seed: int) -> Case:
    """Requests of random size at random prices."""
    sent, written, right, wrong, new, out = drawn(
        seed, (2_000, 90_000), (20, 600), (11, 40), (2, 9), (100, 300), (500, 2_000)
    )
    n = right + wrong
    label = f"drawn at random ({right} of {n} right)"
    return _asked(label, (sent, written), right, n, (new / 100, out / 100))


HAIKU, SONNET = (1.0, 5.0), (3.0, 15.0)

USD_PER_RIGHT = Question(
    "usd_per_right",
    "USD",
    cases=(
        _asked("everything sent, 20 of 60 right", (100_000, 300), 20, 60, SONNET),
        _asked("the same at half the accuracy", (100_000, 300), 10, 60, SONNET),
        _asked("what a retriever found, 54 of 60 right", (2_000, 300), 54, 60, SONNET),
        _asked("a cheaper model, 31 of 60 right", (2_000, 300), 31, 60, HAIKU),
        _asked("long answers, all of 40 right", (500, 4_000), 40, 40, HAIKU),
        _drawn_asked(8),
    ),
    truth=counted.usd_per_right,
    slips=(
        Slip(
            "cost per request",
            lambda i, o, right, n, new, out: (i * new + o * out) / 1e6,
            "that is the cost of a request; {n} were paid for {right} right answers",
        ),
        Slip(
            "divided by the wrong answers",
            lambda i, o, right, n, new, out: n * (i * new + o * out) / 1e6 / (n - right),
            "you divided by the answers that were wrong",
        ),
        Slip(
            "only the wrong ones paid",
            lambda i, o, right, n, new, out: (n - right) * (i * new + o * out) / 1e6 / right,
            "the right answers are paid as well",
        ),
        Slip(
            "times the accuracy",
            lambda i, o, right, n, new, out: (i * new + o * out) / 1e6 * right / n,
            "in your answer a model that is right less often gives cheaper right answers",
        ),
        Slip(
            "accuracy in percent",
            lambda i, o, right, n, new, out: (i * new + o * out) / 1e6 / (100 * right / n),
            "you divided by the accuracy in percent",
        ),
        Slip(
            "one request's bill",
            lambda i, o, right, n, new, out: (i * new + o * out) / 1e6 / right,
            "you shared the bill of one request; {n} were sent",
        ),
        Slip(
            "the whole bill",
            lambda i, o, right, n, new, out: n * (i * new + o * out) / 1e6,
            "that is the bill of all {n} requests; how much of it falls on a right answer?",
        ),
        Slip(
            "output tokens forgotten",
            lambda i, o, right, n, new, out: n * i * new / 1e6 / right,
            "the answers are missing: {output_tokens:,} tokens each, right or wrong",
        ),
        Slip(
            "output of the right ones only",
            lambda i, o, right, n, new, out: (n * i * new + right * o * out) / 1e6 / right,
            "a wrong answer is written and billed as well",
        ),
        Slip(
            "output at the price of input",
            lambda i, o, right, n, new, out: n * (i + o) * new / 1e6 / right,
            "output has a price of its own: {usd_output}",
        ),
        Slip(
            "input forgotten",
            lambda i, o, right, n, new, out: n * o * out / 1e6 / right,
            "what the model reads is missing: {input_tokens:,} tokens each time",
        ),
        Slip(
            "price per token",
            lambda i, o, right, n, new, out: n * (i * new + o * out) / right,
            "the prices are per million tokens",
        ),
    ),
)
