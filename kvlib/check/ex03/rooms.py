"""Exercises 4, 6 and 7: the room on the cards, the users of shared weights, and experts spread over many cards."""

from __future__ import annotations

import math

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex03 import counted

# ---------------------------------------------------------------- exercise 4: room for the cache


def _cards(
    label: str, gpus: int, label_gb: int, visible_mib: int, weights: int, non_torch: int, activation: int
) -> Case:
    """Cards of one replica, for exercise 4; all sizes in MiB but the label."""
    card = {"gpus": gpus, "label_gb": label_gb, "visible_mib": visible_mib, "percent": 90}
    return Case(label, {**card, "weights": weights, "non_torch": non_torch, "activation": activation})


CACHE_ROOM = Question(
    "cache_room",
    "MiB",
    cases=(
        _cards("Llama 3.3 70B in FP8 on 2 H100", 2, 80, 81_080, 69_386, 563, 4_956),
        _cards("Llama 3.1 8B on 1 H100", 1, 80, 81_080, 15_350, 133, 4_874),
        _cards("GLM-5.3-Flash in FP8 on 8 H200", 8, 141, 143_150, 313_262, 1_782, 4_137),
        _cards("made up, on 4 B300", 4, 288, 275_040, 200_000, 2_000, 5_000),
    ),
    truth=counted.cache_room,
    slips=(
        Slip(
            "not repaired",
            lambda g, label, seen, u, w, n, a: g * label * 1024 * u / 100 - w - g * n - a,
            "this is still the published formula",
        ),
        Slip(
            "label for memory",
            lambda g, label, seen, u, w, n, a: g * label * 1024 * u / 100 - w - g * (n + a),
            "the activation is right now; {label_gb} is what the box says, and the driver shows {visible_mib:,} MiB",
        ),
        Slip(
            "label for memory",
            lambda g, label, seen, u, w, n, a: g * label * 10**9 / 2**20 * u / 100 - w - g * (n + a),
            "{label_gb} is what the box says, in GB or in GiB; the driver shows {visible_mib:,} MiB",
        ),
        Slip(
            "activation once",
            lambda g, label, seen, u, w, n, a: g * seen * u / 100 - w - g * n - a,
            "the memory is right now; every one of the {gpus} GPUs needs room for activations, TP does not divide it",
        ),
        Slip(
            "non-torch once",
            lambda g, label, seen, u, w, n, a: g * seen * u / 100 - w - n - g * a,
            "every one of the {gpus} GPUs has its own CUDA context and buffers",
        ),
        Slip(
            "overhead once",
            lambda g, label, seen, u, w, n, a: g * seen * u / 100 - w - n - a,
            "you paid for one GPU's context and activations, and there are {gpus}",
        ),
        Slip(
            "weights on every GPU",
            lambda g, label, seen, u, w, n, a: g * (seen * u / 100 - w - n - a),
            "`weights` is the whole model, and the {gpus} GPUs share it",
        ),
        Slip(
            "utilisation forgotten",
            lambda g, label, seen, u, w, n, a: g * (seen - n - a) - w,
            "the engine may use {percent} % of the memory only",
        ),
        Slip(
            "utilisation of the rest",
            lambda g, label, seen, u, w, n, a: (g * (seen - n - a) - w) * u / 100,
            "the {percent} % are taken of the whole card, before anything is subtracted",
        ),
        Slip(
            "one GPU only",
            lambda g, label, seen, u, w, n, a: seen * u / 100 - w / g - n - a,
            "that is one GPU, and wanted are all {gpus}",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 6: users of shared weights

CARD_GB = 78_679_145_185  # 92 % of what an H100 shows
LLAMA_70B_FP8 = 70_553_706_496


def _users(label: str, gpus: int, room: int, weights: int, cache: int) -> Case:
    """A cluster and its users, for exercise 6; sizes in bytes."""
    return Case(label, {"gpus": gpus, "room": room, "weights": weights, "cache": cache})


USERS_THAT_FIT = Question(
    "users_that_fit",
    "users",
    cases=(
        _users("Llama 3.1 70B in FP8 on 8 H100, 200,000 tokens", 8, CARD_GB, LLAMA_70B_FP8, 32_768_000_000),
        _users("the same, 1,000,000 tokens", 8, CARD_GB, LLAMA_70B_FP8, 163_840_000_000),
        _users("the same, 8,000 tokens", 8, CARD_GB, LLAMA_70B_FP8, 1_310_720_000),
        _users("Llama 3.1 8B in bf16 on 2 H100, 100,000 tokens", 2, CARD_GB, 16_060_522_496, 13_107_200_000),
    ),
    truth=counted.users_that_fit,
    slips=(
        Slip(
            "weights for every user",
            lambda gpus, room, weights, cache: gpus * room // (weights + cache),
            "you gave every user a copy of the weights; they share one",
        ),
        Slip(
            "weights on every card",
            lambda gpus, room, weights, cache: gpus * (room - weights) // cache,
            "you put all weights on every card; the {gpus} cards share one copy",
        ),
        Slip(
            "weights forgotten",
            lambda gpus, room, weights, cache: gpus * room // cache,
            "the weights need room as well",
        ),
        Slip(
            "one card only",
            lambda gpus, room, weights, cache: (room - weights / gpus) // cache,
            "that is one card, and there are {gpus}",
        ),
        Slip(
            "a card for each user",
            lambda gpus, room, weights, cache: gpus * ((room - weights / gpus) // cache),
            "you kept each user's cache on one card; TP spreads it over all {gpus}, so no rest is lost on each of them",
        ),
        Slip(
            "rounded up",
            lambda gpus, room, weights, cache: math.ceil((gpus * room - weights) / cache),
            "you rounded up, and the last user does not fit",
        ),
        Slip(
            "rounded to the nearest",
            lambda gpus, room, weights, cache: round((gpus * room - weights) / cache),
            "you rounded to the nearest whole number, and the last user does not fit",
        ),
        Slip(
            "a part of a user",
            lambda gpus, room, weights, cache: (gpus * room - weights) / cache,
            "whole users only",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 7: experts

V3_EXPERT = 3 * 7_168 * 2_048 * 58  # bytes in fp8 of one expert, over the 58 layers that have experts
V3_SHARED = 17_117_633_536  # bytes in fp8 of everything else


def _experts(label: str, shared: int, expert: int, experts: int, spare: int, ep: int) -> Case:
    """A mixture of experts on `ep` GPUs, for exercise 7; sizes in bytes."""
    return Case(label, {"shared": shared, "expert": expert, "experts": experts, "spare": spare, "ep": ep})


EXPERT_WEIGHTS = Question(
    "expert_weights",
    "bytes",
    cases=(
        _experts("DeepSeek-V3 on 8 GPUs", V3_SHARED, V3_EXPERT, 256, 0, 8),
        _experts("DeepSeek-V3 on 32 GPUs, 32 spare experts", V3_SHARED, V3_EXPERT, 256, 32, 32),
        _experts("DeepSeek-V3 on 144 GPUs, 32 spare experts", V3_SHARED, V3_EXPERT, 256, 32, 144),
        _experts("made up, 12 experts on 4 GPUs", 1_000, 70, 12, 0, 4),
    ),
    truth=counted.expert_weights,
    slips=(
        Slip(
            "everything divided",
            lambda shared, expert, n, spare, ep: (shared + (n + spare) * expert) / ep,
            "attention and the rest are whole on each of the {ep} GPUs; only experts are dealt out",
        ),
        Slip(
            "nothing divided",
            lambda shared, expert, n, spare, ep: shared + (n + spare) * expert,
            "that is the whole model; each of the {ep} GPUs holds some of the experts",
        ),
        Slip(
            "spare experts forgotten",
            lambda shared, expert, n, spare, ep: shared + n * expert / ep,
            "the {spare} spare experts, copies of busy ones, take room too",
        ),
        Slip(
            "everything but experts forgotten",
            lambda shared, expert, n, spare, ep: (n + spare) // ep * expert,
            "each GPU also holds attention, the shared expert and the embedding",
        ),
        Slip(
            "one expert each",
            lambda shared, expert, n, spare, ep: shared + expert,
            "there are more experts than GPUs: {experts} and {spare} spare ones on {ep}",
        ),
    ),
)
