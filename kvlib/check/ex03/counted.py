"""The truth of exercise 03, found by dealing things out to GPUs one by one: slow on purpose, no formula to copy."""

from __future__ import annotations

Design = dict[str, int]

WIDTH = 2  # bytes of a bf16 number


def heads_on_gpus(kv_heads: int, tp: int) -> list[int]:
    """KV heads on each of `tp` GPUs: dealt out like cards; with fewer heads than GPUs, each GPU takes a copy of one."""
    hands = [0] * tp
    for card in range(max(kv_heads, tp)):
        hands[card % tp] += 1
    return hands


def token_on_gpu(layers: int, kv_heads: int, head_dim: int, tp: int) -> int:
    """Bytes in bf16 of one token on the GPU that holds most: layer by layer, a key and a value for each head."""
    total = 0
    for _layer in range(layers):
        for _head in range(max(heads_on_gpus(kv_heads, tp))):
            for _part in ("key", "value"):
                total += sum(WIDTH for _number in range(head_dim))
    return total


def latent_tokens(free_bytes: int, layers: int, rank: int, rope_dim: int, tp: int, dcp: int) -> int:
    """Tokens that a TP group remembers: every GPU keeps whole latents, `dcp` ranks keep different tokens."""
    one_token = sum(WIDTH for _layer in range(layers) for part in (rank, rope_dim) for _number in range(part))
    distinct: dict[int, int] = {}
    for gpu in range(tp):
        stripe = gpu % dcp  # GPUs of the same stripe hold copies of the same tokens
        distinct[stripe] = len(range(one_token, free_bytes + 1, one_token))
    return sum(distinct.values())


def cache_room(
    gpus: int, label_gb: int, visible_mib: int, percent: int, weights: int, non_torch: int, activation: int
) -> int:
    """MiB left for the cache on all GPUs of one replica: walk over the GPUs and pay every GPU's own costs there."""
    room = -weights
    for _gpu in range(gpus):
        room += visible_mib * percent // 100
        room -= non_torch
        room -= activation
    return room


def layers_of_stages(layers: int, pp: int) -> list[int]:
    """Layers of each pipeline stage: dealt out one by one, so that no stage has two more than another."""
    stages = [0] * pp
    for layer in range(layers):
        stages[layer % pp] += 1
    return stages


def stage_bytes(layers: int, pp: int, tp: int, kv_heads: int, head_dim: int, tokens: int) -> int:
    """Bytes in bf16 of one sequence on a GPU of the stage with most layers."""
    fullest = max(layers_of_stages(layers, pp))
    one_token = token_on_gpu(fullest, kv_heads, head_dim, tp)
    return sum(one_token for _token in range(tokens))


def users_that_fit(gpus: int, room: int, weights: int, cache: int) -> int:
    """Users of one shared copy of the weights: let them in one after the other until the next does not fit."""
    free, users = sum(room for _gpu in range(gpus)) - weights, 0
    while free >= cache:
        free -= cache
        users += 1
    return users


def expert_weights(shared: int, expert: int, experts: int, spare: int, ep: int) -> int:
    """Bytes of weights on the fullest of `ep` GPUs: all that is no routed expert, and the experts dealt out."""
    held = [shared] * ep
    for card in range(experts + spare):
        held[card % ep] += expert
    return max(held)


# ---------------------------------------------------------------- exercise 8: a cluster for 64 users

LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM = 94, 64, 4, 128  # Qwen3 235B-A22B
LAYER_WEIGHTS = 2_488_000_000  # bytes in fp8 of one of its 94 layers, rounded
END_WEIGHTS = 622_000_000  # bytes in fp8 of its embedding, and of its output head, rounded
USERS, CONTEXT, NODE = 64, 32_768, 8
VISIBLE_MIB, PERCENT, RUNTIME_MIB = 81_559, 90, 5_500  # an H100, and what the engine needs on each card


def card_bytes(design: Design) -> int:
    """Bytes on the fullest card: walk over the stages, the users of one copy, and the layers."""
    copies = [0] * design["dp"]
    for user in range(USERS):
        copies[user % design["dp"]] += 1
    heads = max(heads_on_gpus(KV_HEADS, design["tp"]))
    one_layer = sum(2 * WIDTH * HEAD_DIM for _head in range(heads)) * CONTEXT
    held = []
    stages = layers_of_stages(LAYERS, design["pp"])
    for stage, layers in enumerate(stages):
        weights = sum(LAYER_WEIGHTS for _layer in range(layers))
        weights += END_WEIGHTS if stage == 0 else 0
        weights += END_WEIGHTS if stage == len(stages) - 1 else 0
        caches = sum(one_layer for _layer in range(layers) for _user in range(max(copies)))
        held.append(len(range(0, weights, design["tp"])) + caches)
    return max(held)


def card_room() -> int:
    """Bytes of a card that weights and cache may fill."""
    return (VISIBLE_MIB * PERCENT // 100 - RUNTIME_MIB) * 2**20
