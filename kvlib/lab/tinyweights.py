"""The weights of the tiny model: which arrays there are, of which shape, and how they are kept in a file.

154,112 numbers, 616 kB as float32 in memory, about 290 kB as 16-bit floats in an .npz.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import IO

import numpy as np

from kvlib.lab.attention import Array

VOCABULARY, WIDTH, HEADS, HEAD_DIM, MLP = 433, 64, 4, 16, 256
WINDOW = 16  # tokens that the local layer sees: the token itself and 15 before it

_BLOCK = {
    **dict.fromkeys(("q", "k", "v", "o"), (WIDTH, WIDTH)),
    **dict.fromkeys(("attention_gain", "mlp_gain"), (WIDTH,)),
    **{"up": (MLP, WIDTH), "down": (WIDTH, MLP)},
}
SHAPES: dict[str, tuple[int, ...]] = {
    "embedding": (VOCABULARY, WIDTH),
    "local_bias": (HEADS, WINDOW),  # added to the score of local head h at distance 0, 1, ... 15
    **{f"{name}{block}": shape for block in (0, 1) for name, shape in _BLOCK.items()},
    "final_gain": (WIDTH,),
    "head": (VOCABULARY, WIDTH),
}  # linear maps are stored [out, in]: y = x @ W.T


def checked(weights: Mapping[str, Array]) -> dict[str, Array]:
    """The weights as they are, if they are all there and of the right shape and dtype."""
    if missing := [name for name in SHAPES if name not in weights]:
        raise ValueError(f"weights must hold {', '.join(SHAPES)}; missing: {', '.join(missing)}")
    if unknown := [name for name in weights if name not in SHAPES]:
        raise ValueError(f"weights must hold {', '.join(SHAPES)} and no others; got {', '.join(unknown)}")
    for name, shape in SHAPES.items():
        if weights[name].shape != shape:
            raise ValueError(f"weight {name!r} must have shape {shape}; got {weights[name].shape}")
    dtypes = {str(weight.dtype) for weight in weights.values()}
    if dtypes not in ({"float32"}, {"float64"}):
        raise ValueError(f"weights must be all float32 or all float64; got {', '.join(sorted(dtypes))}")
    return dict(weights)


def save_weights(path: str | PathLike[str], weights: Mapping[str, Array]) -> None:
    """Write the weights as an .npz of 16-bit floats, half the size of float32 or less.

    Raises:
        ValueError: as `TinyLM`, or if a weight is too large for 16 bits (65,504) or not a number.
    """
    with np.errstate(over="ignore"):
        halves = {name: weight.astype(np.float16) for name, weight in checked(weights).items()}
    for name, half in halves.items():
        if not np.isfinite(half).all():
            raise ValueError(f"weights must be finite as 16-bit floats, at most 65,504 in size; {name!r} is not")
    np.savez_compressed(path, allow_pickle=False, **halves)


def load_weights(path: str | PathLike[str] | IO[bytes]) -> dict[str, Array]:
    """The weights of an .npz as float32 arrays by name."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}
