"""The small prior: its form, its training on data whose answer is known, its files."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from models.diffusion import motion_dit, motion_prior_io, words
from models.diffusion.motion_dit import DitConfig
from models.diffusion.motion_prior import MotionPrior, PriorConfig, motion_denoiser, predict_clip
from models.diffusion.motion_training import (
    Batch,
    PriorTraining,
    init_prior,
    relative_errors,
    train_prior_step,
)

pytestmark = pytest.mark.compiles

SMALL = DitConfig(num_frames=4, size=8, patch=4, span=2, width=24, depth=2, heads=2)
CONFIG = PriorConfig("stalk", 0.5, (3.9, 6.3), dit=SMALL)
TRAINING = PriorTraining(steps=200, batch=16, warm_up=10, sigma_range=(0.5, 8.0))
CLIP = (4, 8, 8, 3)


def clips_of(log10_modulus, key):
    """Clips whose whole picture brightens as fast as their stiffness says."""
    first = 0.2 * jax.random.normal(key, (len(log10_modulus), 1, *CLIP[1:]))
    gain = (log10_modulus - 5.1)[:, None, None, None, None] * jnp.arange(4.0)[
        None, :, None, None, None
    ]
    return first + 0.4 * gain


told = jax.jit(predict_clip, static_argnames="config")


def random_params(seed=0):
    state = init_prior(jax.random.key(seed), CONFIG, TRAINING)
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32), state.params
    )


@pytest.fixture(scope="module")
def trained():
    state = init_prior(jax.random.key(0), CONFIG, TRAINING)
    for number in range(TRAINING.steps):
        key = jax.random.fold_in(jax.random.key(1), number)
        moduli = jax.random.uniform(key, TRAINING.batch, minval=3.9, maxval=6.3)
        batch = Batch(clips_of(moduli, jax.random.fold_in(key, 1)), moduli)
        share = np.float32(number / TRAINING.steps)
        state, _ = train_prior_step(jax.random.key(2), state, batch, share, CONFIG, TRAINING)
    return state


def test_cutting_into_tubelets_and_joining_them_changes_nothing():
    clip = jax.random.normal(jax.random.key(0), (2, *CLIP))
    tubelets = motion_dit.cut(clip, SMALL)
    assert tubelets.shape == (2, SMALL.num_tokens, 2 * 4 * 4 * 3)
    np.testing.assert_array_equal(motion_dit.join(tubelets, SMALL), clip)
    corner = clip[:, :2, :4, :4].reshape(2, -1)  # the first tubelet is a corner of two frames
    np.testing.assert_array_equal(tubelets[:, 0], corner)


def test_before_training_it_says_what_a_gaussian_prior_says():
    params = init_prior(jax.random.key(0), CONFIG, TRAINING).params
    x, first = jax.random.normal(jax.random.key(1), (2, *CLIP)), jnp.full((2, *CLIP[1:]), 0.3)
    sigma = jnp.array([0.5, 3.0])
    D = told(params, x, sigma, first, jnp.full(2, 5.1), jnp.ones(2), CONFIG)
    np.testing.assert_array_equal(D[:, 0], first)
    share = (CONFIG.deviation**2 / (CONFIG.deviation**2 + sigma**2))[:, None, None, None, None]
    np.testing.assert_allclose(
        D[:, 1:], (first[:, None] + share * (x - first[:, None]))[:, 1:], atol=1e-6
    )


def test_clips_of_a_batch_do_not_see_each_other_and_untold_labels_do_not_count():
    params = random_params()
    x, first = jax.random.normal(jax.random.key(1), (3, *CLIP)), jnp.zeros((3, *CLIP[1:]))
    sigma, labels = jnp.array([0.5, 3.0, 8.0]), jnp.array([4.0, 5.0, 6.0])

    def D(x, labels, counts):
        return told(params, x, sigma, first, labels, counts, CONFIG)

    whole = D(x, labels, jnp.ones(3))
    np.testing.assert_allclose(
        D(x.at[1].set(0.0), labels, jnp.ones(3))[jnp.array([0, 2])],
        whole[jnp.array([0, 2])],
        atol=1e-5,
    )
    assert jnp.abs(D(x, labels + 0.5, jnp.ones(3)) - whole).max() > 1e-3
    untold = D(x, labels, jnp.zeros(3))
    np.testing.assert_array_equal(D(x, labels + 0.5, jnp.zeros(3)), untold)
    assert jnp.abs(untold - whole).max() > 1e-3


@pytest.mark.slow
def test_it_learns_what_its_label_says_and_leaves_out_what_the_null_does_not_know(trained):
    moduli = jnp.array([4.2, 4.8, 5.4, 6.0])
    batch = Batch(clips_of(moduli, jax.random.key(7)), moduli)
    error, energy = relative_errors(jax.random.key(8), trained.averaged, batch, 4.0, CONFIG)
    # Of a prior that says that nothing changes it is one.
    assert error.sum() / energy.sum() < 0.25
    prior = MotionPrior(trained.averaged, CONFIG)
    first = batch.clips[0, 0]
    blind = jnp.broadcast_to(first, (1, *CLIP)), jnp.array([8.0])
    believe = jax.jit(lambda e: motion_denoiser(prior, first, e)(*blind)[0] - first)
    soft, stiff = believe(4.3), believe(5.9)
    assert soft[-1].mean() < -0.3 and stiff[-1].mean() > 0.3


@pytest.mark.slow
def test_a_step_follows_from_seed_and_number_alone():
    moduli = jnp.linspace(4, 6, TRAINING.batch)
    batch = Batch(clips_of(moduli, jax.random.key(0)), moduli)

    def after_two():
        state = init_prior(jax.random.key(0), CONFIG, TRAINING)
        for number in range(2):
            share = np.float32(number / TRAINING.steps)
            state, _ = train_prior_step(jax.random.key(5), state, batch, share, CONFIG, TRAINING)
        return state

    jax.tree.map(np.testing.assert_array_equal, after_two(), after_two())


def test_a_prior_is_read_as_it_was_written_but_for_half_precision(tmp_path):
    prior = MotionPrior(random_params(), CONFIG)
    motion_prior_io.write_prior(tmp_path / "p.safetensors", prior, {"steps": 3})
    read = motion_prior_io.load_prior(tmp_path / "p.safetensors")
    assert read.config == CONFIG
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        read.params,
        prior.params,
    )


def test_what_is_no_prior_is_refused_in_one_line(tmp_path):
    path = tmp_path / "p.safetensors"
    prior = MotionPrior(random_params(), CONFIG)
    with pytest.raises(ValueError, match=r"^expected a prior's file or one of .*nothing at oak$"):
        motion_prior_io.load_prior("oak")
    safetensors.numpy.save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(ValueError, match=r"^expected a motion prior, found other tensors in .*p"):
        motion_prior_io.read_prior(path)
    motion_prior_io.write_prior(path, prior, {})
    with safetensors.safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        entry = json.loads(file.metadata()["prior"])
    del arrays["params.places"]
    safetensors.numpy.save_file(arrays, path, {"prior": json.dumps(entry)})
    with pytest.raises(ValueError, match=r"^expected a prior, found no params.places$"):
        motion_prior_io.read_prior(path)
    entry["config"]["dit"]["wings"] = 2
    safetensors.numpy.save_file(arrays, path, {"prior": json.dumps(entry)})
    with pytest.raises(ValueError, match=r"^expected a motion prior, found other settings in .*p"):
        motion_prior_io.read_prior(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"^expected a checkpoint, found .*p.safetensors"):
        motion_prior_io.read_prior(path)


def test_words_name_bands_inside_what_was_simulated():
    assert words.log10_modulus_of("a soft toy") == words.BANDS["soft"]
    assert words.band_of("Rubbery, bouncy!") == "rubber"
    for prompt, found in (("a flower", "none of them"), ("soft or stiff", "soft and stiff")):
        with pytest.raises(ValueError, match=f"found {found} in '{prompt}'"):
            words.band_of(prompt)
    low, high = CONFIG.log10_range
    assert all(low + 0.69 <= band <= high - 0.69 for band in words.BANDS.values())


def test_priors_that_come_along_are_of_the_family_that_names_them():
    for name in motion_prior_io.shipped_priors():
        prior = motion_prior_io.load_prior(name)
        assert prior.config.family == name
        assert dataclasses.asdict(prior.config.dit)["num_frames"] == 8
