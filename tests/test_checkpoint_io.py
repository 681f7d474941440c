import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from render.gaussians import Gaussians
from scripts.shell.checkpoint_io import Header, read_checkpoint, read_header, write_checkpoint

HEADER = Header(step=7, seconds=0.1 + 0.2, settings={"rates": [1e-3, None], "preset": "small"})


def tree(count=3):
    scene = Gaussians(*(jnp.full((count, n), n / 7) for n in (3, 4, 3, 1, 3)))
    return {
        "scene": scene,
        "step": jnp.int32(7),
        "pair": (np.arange(2), jnp.zeros((), bool)),
        "half": jnp.linspace(-1, 1, 5, dtype=jnp.bfloat16),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "none": np.zeros((0, 3), np.float16),
        "keys": jax.random.split(jax.random.key(5), 4),
        "fast": jax.random.key(6, impl="rbg"),
    }


def test_a_tree_comes_back_bit_by_bit_and_type_by_type(tmp_path):
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, tree(), HEADER)
    again = read_checkpoint(path, tree())
    assert jax.tree.structure(again) == jax.tree.structure(tree())
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(tree()), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_shapes_and_types_are_enough_to_read_by(tmp_path):
    path = tmp_path / "a.safetensors"
    part = {name: tree()[name] for name in ("scene", "half", "keys", "fast")}
    write_checkpoint(path, part, HEADER)
    again = read_checkpoint(path, jax.eval_shape(lambda: part))
    np.testing.assert_array_equal(again["half"], part["half"])
    assert bool((again["keys"] == part["keys"]).all())


def test_the_header_is_read_alone(tmp_path):
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, tree(), HEADER)
    assert read_header(path) == HEADER


def test_leaves_have_the_names_of_their_paths(tmp_path):
    write_checkpoint(tmp_path / "a.safetensors", tree(), HEADER)
    names = set(safetensors.numpy.load_file(tmp_path / "a.safetensors"))
    assert names > {"scene.log_scales", "step", "pair.0", "pair.1", "half", "keys"}


def test_the_same_tree_gives_the_same_bytes(tmp_path):
    files = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for path in files:
        write_checkpoint(path, tree(), HEADER)
    assert len({path.read_bytes() for path in files}) == 1


def test_another_tree_is_refused_by_the_name_of_the_leaf(tmp_path):
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, tree(), HEADER)
    others = [
        (tree(4), r"expected float32 \[4, 3\] for scene.harmonics, found float32 \[3, 3\]"),
        ({k: v for k, v in tree().items() if k != "step"}, "nothing for step, found int32"),
        (tree() | {"half": np.zeros(5, np.float32)}, "float32 .5. for half, found bfloat16 .5."),
        (tree() | {"fast": jax.random.key(6)}, "expected key<fry> .. for fast, found key<rbg> .."),
        (tree() | {"fast": np.zeros(4, np.uint32)}, "uint32 .4. for fast, found key<rbg>"),
    ]
    for other, line in others:
        with pytest.raises(ValueError, match=line):
            read_checkpoint(path, other)


def test_a_tree_that_would_not_come_back_is_not_written(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=r"of different names, found several of a\.b$"):
        write_checkpoint(path, {"a": {"b": np.zeros(1)}, "a.b": np.ones(1)}, HEADER)
    with pytest.raises(ValueError, match="for a, found float8_e4m3fn"):
        write_checkpoint(path, {"a": jnp.zeros(1, jnp.float8_e4m3fn)}, HEADER)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
@pytest.mark.parametrize("read", [read_header, lambda path: read_checkpoint(path, tree())])
def test_a_broken_file_is_refused_in_one_line(tmp_path, read, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"expected a checkpoint, found a broken file at {path}"):
        read(path)
    with pytest.raises(ValueError, match="found nothing at"):
        read(tmp_path / "b.safetensors")


@pytest.mark.parametrize("cut", [40, -3])
def test_a_file_cut_short_is_refused(tmp_path, cut):
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, tree(), HEADER)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="found a broken file"):
        read_checkpoint(path, tree())


def test_weights_without_a_training_are_no_checkpoint(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="expected the checkpoint of a training, found other"):
        read_header(path)
