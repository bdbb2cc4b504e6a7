"""Cut into parts, a layer gives the same answer; what each part keeps is what kvlib counts for a GPU under TP."""

import numpy as np
import pytest

from kvlib.lab.attention import Attention
from kvlib.lab.latent import LatentAttention
from kvlib.lab.parallel import attend_together, share_out

SHAPE = {"width": 32, "heads": 8, "head_dim": 4, "dtype": "float64"}


def layers():
    rng = np.random.default_rng(seed=3)
    for kv_heads in (8, 4, 2, 1):
        yield f"{kv_heads} KV heads", Attention.random(rng, kv_heads=kv_heads, **SHAPE)
    yield "window", Attention.random(rng, kv_heads=2, window=5, **SHAPE)
    yield "MLA", LatentAttention.random(rng, rank=6, rope_dim=2, **SHAPE)


EVERY = list(layers())


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
@pytest.mark.parametrize(("name", "layer"), EVERY, ids=[name for name, _ in EVERY])
def test_the_parts_add_up_to_the_layer_and_keep_what_the_formula_says(name, layer, tp):
    x = np.random.default_rng(seed=5).standard_normal((12, 32))
    parts = share_out(layer, tp)
    caches, alone = [part.new_cache() for part in parts], layer.new_cache()
    for rows in (x[:9], x[9:10], x[10:]):  # a prompt, a token, two tokens
        assert np.allclose(attend_together(parts, rows, caches), layer.attend(rows, alone))
    assert len(parts) == tp
    assert {cache.nbytes for cache in caches} == {8 * layer.layer.cached_elements(12, tp=tp)}


def test_a_copied_head_is_the_same_on_every_gpu_that_has_it():
    layer = Attention.random(np.random.default_rng(seed=1), kv_heads=2, **SHAPE)
    keys = [part.key for part in share_out(layer, 8)]
    assert all((key == keys[0]).all() for key in keys[:4])
    assert all((key == keys[4]).all() for key in keys[4:])
    assert (keys[0] != keys[4]).any()


@pytest.mark.parametrize(
    ("kv_heads", "tp", "message"),
    [
        (8, 3, "tp must divide the 8 query heads; got 3"),
        (8, 16, "tp must divide the 8 query heads; got 16"),
        (8, 0, "tp must be a whole number, 1 or more; got 0"),
    ],
)
def test_heads_are_not_cut(kv_heads, tp, message):
    layer = Attention.random(np.random.default_rng(seed=1), kv_heads=kv_heads, **SHAPE)
    with pytest.raises(ValueError, match=message):
        share_out(layer, tp)


def test_kv_heads_are_not_cut_either():
    layer = Attention.random(np.random.default_rng(seed=1), width=24, heads=6, kv_heads=3, head_dim=4)
    with pytest.raises(ValueError, match="tp must divide the 3 KV heads or be a multiple of them; got 2"):
        share_out(layer, 2)


def test_every_part_needs_its_own_cache():
    layer = Attention.random(np.random.default_rng(seed=1), kv_heads=8, **SHAPE)
    parts = share_out(layer, 4)
    with pytest.raises(ValueError, match=r"shorter|longer|argument"):
        attend_together(parts, np.zeros((2, 32)), [parts[0].new_cache()])
