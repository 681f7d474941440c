"""Learning a field of a ball whose colours are known, and the same on many devices."""

import dataclasses

import jax
import jax.numpy as jnp
import many_devices
import numpy as np
import pytest

from models.devices import on_each_device
from models.nerf.batches import draw_batch, gather_pixels
from models.nerf.field import NerfConfig, codes_of
from models.nerf.hashgrid import HashGridConfig
from models.nerf.nerf_io import Nerf, is_nerf_file, read_nerf, write_nerf
from models.nerf.rendering import place_samples, render_picture, render_samples, to_field
from models.nerf.train import (
    NerfTraining,
    compiled_step,
    init_state,
    scene_box,
    spread,
)
from render.camera import camera_rays, orbit

pytestmark = pytest.mark.compiles

SIZE, PHOTOS, STEPS = 24, 6, 120
CONFIG = NerfConfig(
    grid=HashGridConfig(levels=4, features=2, log2_entries=12, coarsest=4, finest=32),
    background="none",
    num_photos=2 * PHOTOS,
    width=16,
    occupancy=16,
    bins=24,
    samples=8,
)
TRAINING = NerfTraining(STEPS, rays=256, styles=2, grid_cells=2**11, rate=2e-2)


def photo(camera, style):
    """A ball of radius 0.5 that shows where it is hit; restyled, in other colours."""
    rays = jax.device_get(camera_rays(camera))
    along = -np.sum(rays.origins * rays.directions, -1)
    height = np.sum(rays.origins**2, -1) - along**2
    is_hit = height < 0.25
    t = along - np.sqrt(np.maximum(0.25 - height, 0.0))
    place = rays.origins + t[..., None] * rays.directions
    rgb = 0.5 + 0.7 * place
    rgb = rgb[..., ::-1] * [1.0, 0.3, 1.0] if style else rgb
    return np.float32(np.where(is_hit[..., None], rgb, 1.0)), np.float32(is_hit)


def capture():
    cameras = orbit(np.zeros(3), 1.4, PHOTOS, SIZE, SIZE, elevation_degrees=20.0)
    styles = [0] * PHOTOS + [1] * PHOTOS
    images, masks = zip(
        *(photo(c, s) for c, s in zip(2 * cameras, styles, strict=True)), strict=True
    )
    return 2 * cameras, images, masks, styles


def learn(steps, config=CONFIG, training=TRAINING, patches=0):
    cameras, images, masks, styles = capture()
    pixels = gather_pixels(cameras, images, masks, styles, is_cut_out=True)
    state = on_each_device(init_state(jax.random.key(0), cameras, config))
    step, losses = compiled_step(config, training), []
    for number in range(steps):
        batch = spread(draw_batch(0, number, pixels, training.rays, patches))
        share = np.float32(number / training.steps)
        state, report = step(jax.random.key(1), state, batch, share)
        losses.append(report.loss)
    return jax.device_put(jax.device_get(state)), np.array(jax.device_get(losses))


@pytest.fixture(scope="module")
def learnt():
    return learn(STEPS)


@pytest.mark.slow
def test_both_appearances_are_learnt(learnt):
    state, losses = learnt
    assert losses[-10:].mean() < 0.25 * losses[0]
    camera = capture()[0][0]
    for style in (0, 1):
        output = render_picture(state.params, camera, state.grid, state.box, style, 16, CONFIG)
        _, is_hit = photo(camera, style)
        inside = (is_hit > 0) & (output.alpha > 0.8)
        errors = [np.mean((output.rgb - photo(camera, s)[0])[inside] ** 2) for s in (0, 1)]
        assert errors[style] < 0.5 * errors[1 - style], errors
        assert np.mean((output.alpha > 0.5) == (is_hit > 0.5)) > 0.9
        middle = SIZE // 2
        distance = np.linalg.norm(np.asarray(camera.translation))
        assert abs(output.depth[middle, middle] - (distance - 0.5)) < 0.15
    density = np.asarray(state.grid.density)
    assert density[4:12, 4:12, 4:12].max() > 5.0 > 5 * density[0].max()  # none at the border


@pytest.mark.slow
def test_a_run_repeats_itself(learnt):
    again, losses = learn(5)
    np.testing.assert_array_equal(losses, learnt[1][:5])
    assert int(again.step) == 5 and int(learnt[0].step) == STEPS


@pytest.mark.slow
def test_styles_are_compared_at_the_same_samples(learnt):
    state, _ = learnt
    rays = jax.device_get(camera_rays(capture()[0][0]))
    rays = jax.tree.map(lambda v: v.reshape(-1, 3), rays)
    num = len(rays.origins)

    @jax.jit
    def densities(style):
        inside = to_field(state.box, rays)
        first, other = (codes_of(state.params, np.full(num, s, np.float32)) for s in (0, 1))
        places = place_samples(
            jax.random.key(0), state.params, inside, state.grid, first, 8, CONFIG
        )
        codes = jax.tree.map(lambda a, b: jnp.where(style, b, a), first, other)
        return render_samples(state.params, inside, places, codes, CONFIG).density

    plain, styled = densities(0.0), densities(1.0)
    assert plain.shape == (num, 8) and not np.array_equal(plain, styled)
    np.testing.assert_array_equal(plain, densities(0.0))


@pytest.mark.slow
def test_a_field_is_written_and_read_back(learnt, tmp_path):
    state, _ = learnt
    nerf = Nerf(state.params, state.grid, state.box, CONFIG, {"up": [0.0, 1.0, 0.0]})
    path = tmp_path / "nerf.safetensors"
    write_nerf(path, nerf)
    found = read_nerf(path)
    assert is_nerf_file(path) and found.config == CONFIG and found.facts == nerf.facts
    for a, b in zip(jax.tree.leaves(found[:3]), jax.tree.leaves(tuple(nerf[:3])), strict=True):
        np.testing.assert_array_equal(a, b)
    (tmp_path / "other").write_bytes(b"no field")
    assert not is_nerf_file(tmp_path / "other")
    with pytest.raises(ValueError, match="expected"):
        read_nerf(tmp_path / "other")


def test_the_box_is_where_cameras_look():
    cameras = orbit(np.array([1.0, 2.0, 3.0]), 1.4, 5, 40, 20, elevation_degrees=20.0)
    distance = 0.7 / np.tan(np.radians(15.0))
    for background, radius in (("none", 1.4), ("contraction", 0.5 * distance)):
        box = scene_box(cameras, background)
        np.testing.assert_allclose(box.center, [1.0, 2.0, 3.0], atol=1e-4)
        np.testing.assert_allclose(box.radius, radius, rtol=1e-4)


def test_masks_leave_pixels_out_or_empty():
    cameras, images, masks, _ = capture()
    pixels = gather_pixels(cameras, images, masks)
    batch = draw_batch(0, 0, pixels, 500, num_patches=2)
    assert (batch.rgb.min(-1) < 1).all() and (batch.coverage == 1).all()
    assert batch.patches.origins.shape == (2, 8, 8, 3)
    cut = draw_batch(0, 0, gather_pixels(cameras, images, masks, is_cut_out=True), 500)
    np.testing.assert_array_equal(cut.coverage > 0, cut.rgb.max(-1) > 0)
    with pytest.raises(ValueError, match="all masks are black"):
        gather_pixels(cameras, images, [0 * mask for mask in masks])


@pytest.mark.slow
@pytest.mark.parametrize("background", ["contraction", "sphere"])
def test_what_surrounds_a_subject_is_learnt_with_it(background):
    config = dataclasses.replace(CONFIG, background=background, far_grid=CONFIG.grid, far_samples=4)
    training = dataclasses.replace(TRAINING, steps=40, depth=0.01, appearance=True)
    state, losses = learn(40, config, training, patches=1)
    assert losses[-5:].mean() < 0.85 * losses[0]
    start = init_state(jax.random.key(0), capture()[0], config).params["logit_appearance"]
    assert np.std(start) > 0.05  # codes that are alike would stay so
    moved = np.abs(state.params["logit_appearance"] - start).max(1)
    assert (moved > 1e-3).all()  # each photo's code is learnt
    camera = capture()[0][0]
    output = render_picture(state.params, camera, state.grid, state.box, 0.0, 8, config)
    assert np.isfinite(output.rgb).all() and np.isfinite(output.depth).all()


@pytest.mark.slow
def test_many_devices_learn_what_one_does():
    code = "import test_nerf_training as t; print(*t.learn(20)[1])"
    one, many = (many_devices.losses(code, count) for count in (1, 8))
    np.testing.assert_allclose(many, one, rtol=2e-3)
