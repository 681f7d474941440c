"""The bridge from a material to a picture: values, derivatives in both modes, compilations."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.camera import orbit
from render.frames import with_room
from render.gaussians import Gaussians
from render.splat import SplatConfig, splat, splat_clip
from sim import motion, mpm, simulation
from sim.mpm import advance, rollout, rollout_frames
from sim.scene_io import read_scene_file
from sim.simulation import clip_at, gaussians_at, make_simulation, roll_clip, step_frame

pytestmark = pytest.mark.compiles


PER_FRAME = 12
SIZE = 32  # pixels
PAIRS = 2**15  # long Gaussians are cut, a thousand into twenty thousand


def ball(count, degree=0, seed=0):
    """A ball of Gaussians of many colours, y up, a metre wide, one of them faint."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(count, 3))
    means *= 0.5 * rng.uniform(size=(count, 1)) ** (1 / 3) / np.linalg.norm(means, axis=-1)[:, None]
    harmonics = rng.normal(size=(count, (degree + 1) ** 2, 3))
    return Gaussians(
        means=jnp.asarray(means, jnp.float32),
        quats=jnp.float32(rng.normal(size=(count, 4))),
        log_scales=jnp.float32(np.log(0.06) + 0.3 * rng.normal(size=(count, 3))),
        logit_opacities=jnp.full(count, 2.0).at[0].set(-5.0),
        harmonics=jnp.float32(harmonics),
    )


def falling(folder, count=1000, n_grid=24, **keys):
    """A soft ball that hits the floor at once."""
    path = folder / "scene.json"
    scene = {
        **{"units": "SI", "scale": 0.3, "grid_lim": 1.0, "n_grid": n_grid, "E": 2e4, "nu": 0.3},
        **{"density": 1000, "material": "neo_hookean", "frame_dt": 0.02},
        **{"centre": [0.5, 0.5, 0.34], "velocity": [0.3, 0, -2.0]},
        "boundary_conditions": [{"type": "bounding_box"}],
    }
    path.write_text(json.dumps(scene | keys))
    return make_simulation(read_scene_file(path), ball(count), up="y")


def double(tree):
    return jax.tree.map(
        lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )


def in_mode(one, forward_mode):
    grid = dataclasses.replace(one.config.grid, forward_mode=forward_mode)
    return one.replace(config=dataclasses.replace(one.config, grid=grid))


def camera():
    return orbit((0.0, -0.1, 0.0), 1.6, 1, SIZE, SIZE)[0]


def video(one, change, num_frames):
    """The film [T, H, W, 3] of a simulation whose matter is `change` stiffer, in log E."""
    material = one.material
    material = material.replace(log_youngs_modulus=material.log_youngs_modulus + change)
    one = one.replace(material=material)
    frames = roll_clip(one, PER_FRAME, num_frames)
    config = SplatConfig(max_pairs=PAIRS, forward_mode=one.config.grid.forward_mode)
    clip = splat_clip(clip_at(one, frames), camera(), config)
    return clip.rgb, clip.overflow | frames.out_of_grid


@pytest.mark.parametrize(
    "count, n_grid, num_frames",
    [
        pytest.param(100, 16, 3, marks=pytest.mark.slow),
        pytest.param(1000, 24, 8, marks=pytest.mark.slow),
    ],
)
def test_a_video_says_how_it_changes_with_stiffness(tmp_path, count, n_grid, num_frames):
    with jax.enable_x64(True):
        one = double(falling(tmp_path, count, n_grid).simulation)
        one = one.replace(dt=jnp.float64(1.5e-3))
        zero = jnp.zeros(())
        forward, reverse = in_mode(one, True), in_mode(one, False)

        def film(change):
            return video(forward, change, num_frames=num_frames)

        picture, slope, is_wrong = jax.jit(
            lambda e: jax.jvp(film, (e,), (jnp.ones_like(e),), has_aux=True)
        )(zero)
        assert picture.shape == (num_frames, SIZE, SIZE, 3) and not is_wrong
        # So small, because a pixel jumps where a Gaussian falls under 1/255 of it or two of them
        # change places in depth: a longer step meets some.
        step = 3e-8
        plain = jax.jit(lambda e: film(e)[0])
        differences = (plain(zero + step) - plain(zero - step)) / (2 * step)
        size = float(jnp.linalg.norm(slope))
        assert size > 1e-2
        assert float(jnp.linalg.norm(slope - differences)) < 1e-5 * size

        def weighed(change, weight):
            return jnp.sum(weight * video(reverse, change, num_frames=num_frames)[0])

        pull = jax.jit(jax.grad(weighed))
        for weight in (jax.random.normal(jax.random.key(1), picture.shape), differences):
            pushed = jnp.sum(weight * slope)
            np.testing.assert_allclose(pull(zero, weight), pushed, rtol=1e-6, atol=1e-8 * size)


def test_forward_mode_is_finite_in_float32_where_a_node_is_barely_touched(tmp_path):
    one = in_mode(falling(tmp_path, count=300).simulation, True)

    def end(change):
        material = one.material
        material = material.replace(log_youngs_modulus=material.log_youngs_modulus + change)
        last = rollout(one.state, material, one.conditions, one.dt, 100, one.config)
        return last.x, last.v

    _, slopes = jax.jit(lambda e: jax.jvp(end, (e,), (jnp.ones_like(e),)))(jnp.zeros(()))
    assert all(np.isfinite(leaf).all() for leaf in slopes)
    assert np.abs(slopes[0]).max() > 1e-5


@pytest.mark.slow
def test_forward_mode_batches(tmp_path):
    one = in_mode(falling(tmp_path, count=100, n_grid=16).simulation, True)

    def height(changes):
        logs = one.material.log_youngs_modulus + changes[0]
        material = one.material.replace(
            log_youngs_modulus=logs, density=one.material.density * (1 + changes[1])
        )
        last = rollout(one.state, material, one.conditions, one.dt, 20, one.config)
        return jnp.mean(last.x[:, 2])

    both = jax.jit(jax.jacfwd(height))(jnp.zeros(2))
    one = in_mode(one, False)
    np.testing.assert_allclose(both, jax.jit(jax.grad(height))(jnp.zeros(2)), rtol=2e-3)


@pytest.mark.slow
def test_another_material_time_step_or_length_compiles_nothing(tmp_path):
    ready = falling(tmp_path, count=200, n_grid=16)
    one = ready.simulation
    motion.run(ready._replace(simulation=one.replace(substeps=jnp.int32(3))), 2)
    before = advance._cache_size()
    for scale, substeps, num_frames in ((1.0, 5, 3), (40.0, 90, 1), (0.1, 1, 4)):
        material = one.material
        logs = material.log_youngs_modulus + np.log(scale)
        changed = one.replace(
            material=material.replace(log_youngs_modulus=logs),
            dt=jnp.float32(2e-4 / scale),
            substeps=jnp.int32(substeps),
        )
        found = motion.run(ready._replace(simulation=changed), num_frames)
        assert found.failure is None
        spent = num_frames * substeps * 2e-4 / scale
        assert found.seconds[-1] == pytest.approx(spent, rel=1e-5)
    assert advance._cache_size() == before

    clip = jax.jit(lambda one: video(one, 0.0, num_frames=2))
    clip(one.replace(dt=jnp.float32(1e-3)))
    clip(changed)
    assert clip._cache_size() == 1


@pytest.mark.slow
def test_frames_of_a_clip_are_those_of_a_run(tmp_path):
    one = falling(tmp_path, count=200, n_grid=16).simulation
    one = one.replace(dt=jnp.float32(1e-3), substeps=jnp.int32(70))
    state, expected = one.state, [one.state]
    for _ in range(2):
        state = step_frame(one, state)
        expected.append(state)
    frames = roll_clip(one, 70, 3)
    for number, state in enumerate(expected):
        np.testing.assert_allclose(frames.x[number], state.x, atol=2e-6)
        np.testing.assert_allclose(frames.F[number], state.F, atol=2e-5)
        assert np.isclose(state.time, 0.07 * number)
    assert not frames.out_of_grid
    clip = clip_at(one, frames)
    for clip_leaf, leaf in zip(
        jax.tree.leaves(clip), jax.tree.leaves(gaussians_at(one, state)), strict=True
    ):
        np.testing.assert_allclose(clip_leaf[-1], leaf, atol=1e-4)


def test_what_leaves_the_grid_between_key_frames_is_told(tmp_path):
    ready = falling(tmp_path, count=100, n_grid=16, velocity=[60.0, 0, 0], boundary_conditions=[])
    one = ready.simulation
    arguments = one.state, one.material, one.conditions, jnp.float32(1e-3), 20, 3, one.config
    assert rollout_frames(*arguments).out_of_grid
    assert advance(*arguments[:4], 40, one.config).out_of_grid


def test_a_simulation_is_a_pytree_of_the_splats_own_space(tmp_path):
    ready = falling(tmp_path, count=150, n_grid=16)
    one = ready.simulation
    assert isinstance(one, simulation.Simulation)
    copied = jax.tree.map(lambda leaf: leaf, one)
    at_rest = jax.jit(gaussians_at)(copied, one.state)
    np.testing.assert_allclose(at_rest.means, one.gaussians.means, atol=2e-6)
    several = jax.vmap(lambda dt: step_frame(one.replace(dt=dt), one.state).x)(
        jnp.float32([1e-4, 2e-4])
    )
    alone = step_frame(one.replace(dt=jnp.float32(2e-4)), one.state).x
    np.testing.assert_allclose(several[1], alone, atol=1e-6)


@pytest.mark.slow
def test_a_clip_is_its_pictures_and_grows_its_room(tmp_path):
    one = falling(tmp_path, count=200, n_grid=16).simulation
    clip = clip_at(one, roll_clip(one.replace(dt=jnp.float32(1e-3)), 40, 3))
    grown = []
    found, room = with_room(
        lambda pairs: splat_clip(clip, camera(), SplatConfig(max_pairs=pairs)),
        64,
        on_growth=grown.append,
    )
    assert grown == [room] and not found.overflow and room >= int(found.needed)
    too_small = splat_clip(clip, camera(), SplatConfig(max_pairs=64))
    assert too_small.overflow and 64 < int(too_small.needed) <= room
    for number in range(3):
        frame = jax.tree.map(lambda leaf: leaf[number], clip)  # noqa: B023
        picture = splat(frame, camera(), SplatConfig(max_pairs=room))
        np.testing.assert_allclose(found.rgb[number], picture.rgb, atol=1e-6)
    assert np.abs(found.rgb[2] - found.rgb[0]).max() > 0.1


@pytest.mark.slow
def test_advance_takes_the_steps_of_rollout(tmp_path):
    one = falling(tmp_path, count=100, n_grid=16).simulation
    arguments = one.state, one.material, one.conditions, jnp.float32(5e-4)
    config = dataclasses.replace(one.config, segment=16)
    for count in (1, 16, 37):
        expected = rollout(*arguments, count, config)
        found = advance(*arguments, jnp.int32(count), config)
        np.testing.assert_allclose(found.x, expected.x, atol=1e-6)
        np.testing.assert_allclose(found.time, expected.time, rtol=1e-6)
    assert advance(*arguments, jnp.int32(0), config).time == 0.0
    assert mpm.MpmConfig().grid.forward_mode is False
