import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.spatial.transform import Rotation

from render.transforms import (
    cross_matrix,
    euler_rotation,
    multiply_quats,
    nearest_rotation,
    rodrigues,
    rotation_angle,
    rotation_to_quat,
    safe_norm,
    safe_normalize,
)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 9e-4, 1.1e-3, 0.7, 3.0])
def test_rodrigues_equals_scipy(angle):
    vector = angle * np.array([0.6, -0.48, 0.64])
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            rodrigues(jnp.asarray(vector)), Rotation.from_rotvec(vector).as_matrix(), atol=1e-14
        )


@pytest.mark.parametrize("angle", [0.0, 9.9e-4, 1.01e-3, 1.0])
@pytest.mark.usefixtures("x64")
def test_rodrigues_gradients_match_finite_differences(angle):
    check_grads(rodrigues, (angle * jnp.array([0.6, -0.48, 0.64]),), order=1, rtol=1e-6)


def test_rodrigues_at_zero_turns_like_the_cross_product():
    v = jnp.array([0.3, -0.2, 0.5])
    _, turn = jax.jvp(rodrigues, (jnp.zeros(3),), (v,))
    np.testing.assert_allclose(turn, cross_matrix(v), atol=1e-7)
    np.testing.assert_allclose(turn @ jnp.array([1.0, 2.0, 3.0]), np.cross(v, [1, 2, 3]), rtol=1e-6)


def test_norm_and_unit_vector_have_finite_gradients_at_zero():
    zero = jnp.zeros(3)
    np.testing.assert_array_equal(jax.grad(safe_norm)(zero), zero)
    assert np.isfinite(jax.jacfwd(safe_normalize)(zero)).all()
    np.testing.assert_allclose(safe_normalize(jnp.array([3.0, 0.0, 4.0])), [0.6, 0.0, 0.8])


def test_yaw_turns_the_nose_to_the_viewers_right_and_roll_comes_last():
    nose = jnp.array([0.0, 0.0, 1.0])
    turned = euler_rotation(jnp.deg2rad(30.0), jnp.array(0.0), jnp.array(0.0)) @ nose
    np.testing.assert_allclose(turned, [0.5, 0.0, np.sqrt(0.75)], atol=1e-6)
    angles = np.array([0.3, -0.2, 0.1])
    expected = Rotation.from_euler("yxz", angles).as_matrix()
    np.testing.assert_allclose(euler_rotation(*angles), expected, atol=1e-6)


def test_nearest_rotation_keeps_rotations_and_never_mirrors():
    rotation = Rotation.from_rotvec([0.4, 1.0, -0.3]).as_matrix()
    np.testing.assert_allclose(nearest_rotation(jnp.asarray(1.7 * rotation)), rotation, atol=1e-6)
    mirrored = nearest_rotation(jnp.asarray(rotation @ np.diag([1.0, 1.0, -1.0])))
    assert np.linalg.det(mirrored) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("angle", [0.0, 1e-3, 1.5, 3.1])
def test_rotation_angle(angle):
    rotation = rodrigues(angle * jnp.array([0.0, 0.6, 0.8]))
    np.testing.assert_allclose(rotation_angle(rotation), angle, atol=2e-6)


@pytest.mark.usefixtures("x64")
def test_quaternions_turn_as_their_matrices_do():
    turns = [Rotation.from_rotvec(v) for v in np.eye(3) * np.pi * 0.999]
    turns += [Rotation.random(20, random_state=0)[i] for i in range(20)] + [Rotation.identity()]
    for turn in turns:
        quat = np.roll(turn.as_quat(), 1)
        found = rotation_to_quat(jnp.asarray(turn.as_matrix()))
        np.testing.assert_allclose(found, quat * np.sign(quat[0] + 1e-9), atol=1e-12)
    first, second = turns[5], turns[6]
    product = multiply_quats(
        rotation_to_quat(jnp.asarray(first.as_matrix())),
        rotation_to_quat(jnp.asarray(second.as_matrix())),
    )
    expected = np.roll((first * second).as_quat(), 1)
    np.testing.assert_allclose(np.abs(product @ expected), 1.0, rtol=1e-12)
    half_turn = rotation_to_quat(jnp.diag(jnp.array([1.0, -1.0, -1.0])))
    np.testing.assert_allclose(half_turn, [0, 1, 0, 0], atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_gradients_of_quaternions_match_finite_differences():
    for vector in ((0.1, 0.2, -0.3), (3.0, 0.1, 0.2), (0.0, 0.0, 0.0)):
        check_grads(
            jax.jit(lambda v: rotation_to_quat(rodrigues(v))),
            (jnp.array(vector),),
            order=1,
            modes=["rev"],
        )
