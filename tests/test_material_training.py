"""Descent to properties of a scene, and their fit to a motion, on the smallest of scenes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim import matching, material_training, properties
from sim.families.family import FAMILIES, family_view
from sim.families.random_scenes import random_scene
from sim.material_training import (
    LearntScene,
    MaterialBatch,
    MaterialTraining,
    init_material,
    material_step,
    video_and_slopes,
)
from sim.motion_video import ClipTiming, film_motion, in_forward_mode
from sim.simulation import roll_clip

pytestmark = pytest.mark.compiles
TIMING = ClipTiming(num_frames=4, per_frame=24)
TINY = dataclasses.replace(
    FAMILIES["stalk"],
    num_particles=50,
    num_nodes=14,
    timing=TIMING,
    frame_seconds=0.03,
    size=10,
)
TRUTH = 5.0
BATCH = MaterialBatch(jax.random.key(0), np.int32(0))


def scene_of(names=("youngs_modulus",), **how):
    simulation = random_scene(3, TINY)
    bounds = {"youngs_modulus": (10.0**3.9, 10.0**6.3)}
    unknowns = properties.make_unknowns(names, simulation, bounds=bounds, **how)
    return LearntScene(simulation, unknowns, family_view(TINY))


SCENE = scene_of()


def theta_of(value):
    return {"youngs_modulus": jnp.array([value], jnp.float32)}


@pytest.fixture(scope="module")
def seen():
    """The film of the truth."""
    return video_and_slopes(theta_of(TRUTH), SCENE)[0].video


def descend(seen, start, steps=20, scale=lambda number: 1.0, **how):
    training = MaterialTraining(steps=steps, **how)
    state, reports, path = init_material(theta_of(start)), [], []
    for number in range(steps):
        state, report = material_step(
            state,
            BATCH,
            np.float32(number / steps),
            lambda clip, _, number=number: scale(number) * (clip - seen),
            SCENE,
            training,
        )
        path.append(float(state.theta["youngs_modulus"][0]))
        reports.append(report)
    return path, reports, state


@pytest.mark.parametrize("start", [4.1, 5.9])
def test_in_logarithms_a_descent_comes_to_a_film_from_either_side(seen, start):
    path, reports, _ = descend(seen, start)
    assert path[0] == pytest.approx(start + np.sign(TRUTH - start) * 0.12, abs=1e-4)
    assert abs(path[-1] - TRUTH) < 0.05
    assert reports[-1].loss < 0.02 * reports[0].loss


def test_the_papers_rule_moves_by_the_derivative_to_the_value(seen):
    """Eq. 5: log theta moves by t times d loss / d theta, with t from the first step."""
    path, reports, _ = descend(seen, 4.1, steps=3, rule="paper")
    lengths = [float(report.length) for report in reports]
    assert path[0] == pytest.approx(4.1 + 0.12, abs=1e-4)
    # The derivative to the value is that to its logarithm, over the value.
    expected = 0.12 * lengths[1] / lengths[0] / 10.0**0.12
    cosine = 0.1 + 0.9 * 0.5 * (1.0 + np.cos(np.pi / 3))
    assert path[1] - path[0] == pytest.approx(expected * cosine, rel=1e-3)


def test_linear_updates_move_the_value_by_equal_steps(seen):
    path, _, _ = descend(seen, 4.1, steps=1, rule="linear")
    moved = 10.0 ** (path[0] - 4.1) - 1.0
    assert moved == pytest.approx(0.12 * np.log(10.0), rel=1e-3)


def test_a_gradient_that_is_far_too_long_is_shortened_and_counted(seen):
    _, reports, state = descend(seen, 4.1, 4, lambda number: 1e3 if number == 2 else 1.0)
    assert [bool(report.was_shortened) for report in reports] == [False, False, True, False]
    assert int(state.shortened) == 1


@pytest.mark.slow
def test_in_reverse_it_finds_the_same_gradient(seen):
    theta = theta_of(4.6)
    ask = lambda clip, _: clip - seen  # noqa: E731
    forwards, *_ = material_training._pull_forwards(theta, BATCH, ask, SCENE)
    backwards, *_ = material_training._pull_backwards(theta, BATCH, ask, SCENE)
    np.testing.assert_allclose(forwards["youngs_modulus"], backwards["youngs_modulus"], rtol=2e-3)


def test_clips_that_fail_have_no_finite_loss(seen):
    broken = SCENE.simulation.replace(
        state=SCENE.simulation.state.replace(v=SCENE.simulation.state.v + 400.0)
    )
    scene = SCENE._replace(simulation=broken)
    _, report = material_step(
        init_material(theta_of(5.0)), BATCH, 0.0, lambda clip, _: clip, scene, MaterialTraining()
    )
    assert not np.isfinite(report.loss)


@pytest.mark.parametrize("start", [TRUTH - 1.0, TRUTH + 1.0])
def test_a_film_is_matched_from_ten_times_too_low_and_too_high(seen, start):
    found = matching.match(matching.observe_video(SCENE), seen, theta_of(start), SCENE)
    assert found.converged and abs(float(found.theta["youngs_modulus"][0]) - TRUTH) < 0.01
    assert found.cost < 1e-6


@pytest.mark.slow
def test_a_trajectory_gives_stiffness_and_velocity_together():
    scene = scene_of(("youngs_modulus", "velocity"))
    observe = matching.observe_places(scene)
    truth = theta_of(TRUTH) | {"velocity": jnp.array([0.4, -0.2, 0.1])}
    seen = np.asarray(observe(truth)[0])
    start = theta_of(TRUTH - 1.0) | {"velocity": jnp.zeros(3)}
    found = matching.match(observe, seen, start, scene)
    assert abs(float(found.theta["youngs_modulus"][0]) - TRUTH) < np.log10(1.02)
    np.testing.assert_allclose(found.theta["velocity"], truth["velocity"], atol=0.01)


@pytest.mark.slow
def test_groups_are_every_so_many_frames_of_one_motion():
    """Two groups of two are the four frames that one group has."""
    whole = film_motion(SCENE.simulation, SCENE.view).video
    timing = dataclasses.replace(TIMING, num_frames=2, groups=2)
    view = SCENE.view.replace(timing=timing)
    for group in (0, 1):
        part = film_motion(SCENE.simulation, view, np.int32(group)).video
        np.testing.assert_allclose(part, whole[group::2], atol=1e-5)


@pytest.mark.slow
def test_truncated_derivatives_see_the_last_substeps_alone():
    simulation = in_forward_mode(SCENE.simulation)

    def slopes(tracked):
        def places(value):
            material = simulation.material.replace(log_youngs_modulus=value)
            return roll_clip(simulation.replace(material=material), 24, 3, tracked).x

        return jax.jvp(places, (jnp.float32(11.5),), (jnp.float32(1.0),))

    x, whole = slopes(None)
    same, frame = slopes(24)
    _, step = slopes(1)
    np.testing.assert_allclose(same, x, atol=1e-6)
    np.testing.assert_allclose(frame[1], whole[1], atol=1e-7)  # before it lies no other frame
    assert jnp.abs(frame[2] - whole[2]).max() > 0.1 * jnp.abs(whole[2]).max()
    assert 0.0 < jnp.abs(step[2]).max() < 0.02 * jnp.abs(whole[2]).max()
