import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.gaussians import Gaussians
from scripts.shell.checkpoint_io import read_checkpoint, write_checkpoint


def tree(count=3):
    scene = Gaussians(*(jnp.full((count, n), n / 7) for n in (3, 4, 3, 1, 3)))
    return {"scene": scene, "step": jnp.int32(7), "pair": (np.arange(2), jnp.zeros((), bool))}


def test_a_tree_comes_back_bit_by_bit(tmp_path):
    write_checkpoint(tmp_path / "a.npz", tree())
    again = read_checkpoint(tmp_path / "a.npz", tree())
    assert jax.tree.structure(again) == jax.tree.structure(tree())
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(tree()), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_another_tree_is_refused_by_the_name_of_the_leaf(tmp_path):
    write_checkpoint(tmp_path / "a.npz", tree())
    with pytest.raises(
        ValueError, match=r"expected float32 \[4, 3\] for \['scene'\].harm.*found float32 \[3, 3\]"
    ):
        read_checkpoint(tmp_path / "a.npz", tree(4))
    with pytest.raises(ValueError, match=r"expected nothing for \['step'\], found int32 \[\]"):
        read_checkpoint(tmp_path / "a.npz", {k: v for k, v in tree().items() if k != "step"})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_a_broken_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"expected a checkpoint, found a broken file at {path}"):
        read_checkpoint(path, tree())
    with pytest.raises(ValueError, match="found nothing at"):
        read_checkpoint(tmp_path / "b.npz", tree())


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([{"an": "object"}], object))
    with pytest.raises(ValueError, match="broken file"):
        read_checkpoint(path, {"a": np.zeros(1)})
