"""Random scenes and how they are filmed: symmetry, statics, and the exact prior on real clips."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.diffusion.ensemble import band_weights, ensemble_denoiser
from models.diffusion.guidance import draw_bank, forces_along
from models.diffusion.words import BANDS
from sim import identify
from sim.families.family import FAMILIES, family_view
from sim.families.random_scenes import random_log10_modulus, random_scene
from sim.motion_video import (
    ClipTiming,
    in_forward_mode,
    mirror_video,
    motion_video,
    rest_colors,
    video_and_slope,
)
from sim.time_step import largest_dt

TINY = dataclasses.replace(
    FAMILIES["stalk"], num_particles=60, num_nodes=14, timing=ClipTiming(3, 30), size=16
)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_scene_follows_from_its_number(name):
    family = FAMILIES[name]
    first, again, other = (random_scene(n, family) for n in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first.state.x, other.state.x)
    moduli = [random_log10_modulus(n, family) for n in range(200)]
    low, high = family.log10_range
    assert low <= min(moduli) < low + 0.1 and high - 0.1 < max(moduli) <= high


@pytest.mark.parametrize("name", FAMILIES)
def test_scenes_stand_in_their_box_and_are_filled_evenly(name):
    family = FAMILIES[name]
    for number in range(8):
        scene = random_scene(number, family)
        x, volume = np.asarray(scene.state.x), np.asarray(scene.state.volume)
        assert x.shape == (family.num_particles, 3) and not bool(scene.state.out_of_grid)
        assert x[:, 2].min() > family.floor - family.dx and np.all((x > 0) & (x < family.side))
        # A lattice of the particles' own volume: nearest neighbours are about a pitch away.
        gaps = np.linalg.norm(x[:, None] - x, axis=-1) + 1e9 * np.eye(len(x))
        assert 0.6 < np.median(gaps.min(1)) / volume[0] ** (1 / 3) < 1.1


def test_a_stalk_is_held_at_its_foot_and_moves_most_at_its_top():
    scene = random_scene(0, FAMILIES["stalk"])
    (hold,) = scene.conditions.on_particles
    held, speed = np.asarray(hold.chosen) > 0, np.linalg.norm(scene.state.v, axis=-1)
    z = np.asarray(scene.state.x)[:, 2]
    assert 0 < held.sum() < len(z) / 3 and z[held].max() <= z[~held].min() + 1e-6
    assert np.all(speed[held] == 0) and np.argmax(speed) in np.argsort(z)[-60:]


@pytest.mark.parametrize("name", FAMILIES)
def test_words_name_the_bands_that_a_family_is_judged_by(name):
    assert tuple(BANDS.values()) == FAMILIES[name].bands


@pytest.mark.parametrize("name", FAMILIES)
def test_the_substep_suits_the_stiffest(name):
    family = FAMILIES[name]
    scene = random_scene(0, family)
    stiffest = jnp.log(10.0) * family.log10_range[1]
    material = scene.material.replace(log_youngs_modulus=stiffest, poisson_ratio=0.35)
    assert family.dt < largest_dt(material, family.dx)
    seconds = family.dt * family.timing.per_frame
    np.testing.assert_allclose(seconds, family.frame_seconds)


def test_colours_say_where_matter_rests():
    foot = jnp.array([0.5, 0.5, 0.1])
    rest = foot + jnp.array([[0, 0, 0], [0.1, 0, 0.2], [-0.1, 0.3, 0.2], [9, 0, 9]])
    colors = rest_colors(rest, foot, 0.5)
    np.testing.assert_allclose(colors[0], [0.5, 0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(colors[1], [0.7, 0.3, 0.4], atol=1e-6)
    np.testing.assert_allclose(colors[2], [0.3, 0.7, 0.4], atol=1e-6)  # depth is not told
    np.testing.assert_array_equal(colors[3], [1.0, 0.0, 1.0])


@pytest.mark.slow
def test_a_mirrored_scene_gives_the_mirrored_video_and_derivatives_those_of_differences():
    view, scene = family_view(TINY), in_forward_mode(random_scene(5, TINY))
    flip = jnp.array([-1.0, 1.0, 1.0])
    x = scene.state.x * flip + jnp.array([2 * TINY.middle, 0, 0])
    state = scene.state.replace(x=x, v=scene.state.v * flip)
    swapped = scene.gaussians.harmonics[..., jnp.array([1, 0, 2])]
    mirrored = scene.replace(
        state=state,
        gaussians=scene.gaussians.replace(means=x, harmonics=swapped),
        binding=scene.binding.replace(rest=x),
    )
    clip, slope = video_and_slope(5.0, scene, view)
    other, other_slope = video_and_slope(5.0, mirrored, view)
    assert not bool(clip.failed) and clip.video.shape == (3, 16, 16, 3)
    assert jnp.abs(clip.video[2] - clip.video[0]).max() > 0.1
    np.testing.assert_allclose(other.video, mirror_video(clip.video), atol=2e-3)
    assert _cosine(other_slope, mirror_video(slope)) > 0.99
    high, low = (video_and_slope(e, scene, view)[0].video for e in (5.03, 4.97))
    difference = (high - low) / 0.06
    assert _cosine(slope, difference) > 0.98
    np.testing.assert_allclose(jnp.linalg.norm(slope), jnp.linalg.norm(difference), rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_with_the_exact_prior_every_stiffness_is_pushed_to_its_band(name):
    family = FAMILIES[name]
    view, scene = family_view(family), random_scene(0, family)
    rng = np.random.default_rng(0)
    # Evenly spread: by chance alone some would lie so close that they attract by themselves.
    low, high = family.log10_range
    moduli = low + (high - low) * (np.arange(200) + rng.uniform(size=200)) / 200
    clips = []
    for modulus in moduli:
        faster = scene.state.replace(v=scene.state.v * rng.normal(1.0, 0.02))
        ratio = scene.material.poisson_ratio + rng.uniform(-0.01, 0.01)
        material = scene.material.replace(poisson_ratio=jnp.float32(ratio))
        clip = motion_video(modulus, scene.replace(state=faster, material=material), view)
        assert not bool(clip.failed)
        clips.append(clip.video)
    grid = np.linspace(*family.log10_range, 25)
    scan = [video_and_slope(e, scene, view) for e in grid]
    videos, slopes = jnp.stack([c.video for c, _ in scan]), jnp.stack([s for _, s in scan])
    for sigma in (4.0, 8.0, 16.0):
        bank = draw_bank(jax.random.key(2), 12, videos.shape[1:], (sigma, sigma))
        for band in family.bands:
            denoise = ensemble_denoiser(jnp.stack(clips), band_weights(moduli, band))
            mean = np.asarray(forces_along(denoise, videos, slopes, bank)).mean(1)
            assert identify.share_of_right_signs(grid, mean, band) >= 0.95
            zeros = identify.zeros_of(grid, mean)
            assert abs(zeros - band).min() < 0.1 and abs(zeros - band).max() < 0.15
            # Below, the nearest clips of the ensemble may attract each for itself.
            assert len(zeros) == 1 or sigma < 8.0


def _cosine(a, b):
    return float(jnp.sum(a * b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b)))
