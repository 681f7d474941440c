"""Metrics of motions whose answers are known."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sim import checks
from sim.constitutive import LAWS
from sim.material import Material
from sim.mpm import MpmState

DX = 0.1
GRAVITY = (0.0, -9.8, 0.0)


def material(count, laws=None, **properties):
    properties = {"log_youngs_modulus": np.log(1e4), "poisson_ratio": 0.3, "density": 1000.0} | {
        key: jnp.asarray(value) for key, value in properties.items()
    }
    return Material(laws=laws or (("jelly", count),), **properties)


def particles(count=50, seed=0, **fields):
    rng = np.random.default_rng(seed)
    state = MpmState(
        x=jnp.asarray(rng.uniform(size=(count, 3))),
        v=jnp.zeros((count, 3)),
        C=jnp.zeros((count, 3, 3)),
        F=jnp.broadcast_to(jnp.eye(3), (count, 3, 3)),
        history=jnp.zeros((count, 1)),
        volume=jnp.asarray(rng.uniform(0.5, 1.5, count) * 1e-3),
        time=jnp.zeros(()),
        out_of_grid=jnp.zeros((), bool),
    )
    return state.replace(**fields)


def cross(w):
    return np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])


@pytest.mark.compiles
@pytest.mark.usefixtures("x64")
def test_a_turning_body_has_the_energy_and_momentum_of_its_inertia():
    state, spin, way = particles(), np.array([1.0, -2.0, 3.0]), np.array([0.3, 0.1, -0.2])
    mass = 1000.0 * np.asarray(state.volume)
    middle = mass @ state.x / mass.sum()
    arm = np.asarray(state.x) - middle
    state = state.replace(
        v=jnp.asarray(np.cross(spin, arm) + way),
        C=jnp.broadcast_to(jnp.asarray(cross(spin)), (50, 3, 3)),
    )
    squares = np.sum(arm**2, -1)[:, None, None] * np.eye(3) - arm[:, :, None] * arm[:, None]
    # Each particle is a cloud of variance dx^2 / 4 per axis.
    inertia = np.einsum("n,nij->ij", mass, squares + 0.5 * DX**2 * np.eye(3))
    found = jax.jit(functools.partial(checks.sample, dx=DX))(state, material(50), GRAVITY)
    np.testing.assert_allclose(found.angular_momentum, inertia @ spin, rtol=1e-12)
    np.testing.assert_allclose(found.momentum, mass.sum() * way, rtol=1e-9)
    np.testing.assert_allclose(found.center, middle, rtol=1e-12)
    turning, going = 0.5 * spin @ inertia @ spin, 0.5 * mass.sum() * way @ way
    np.testing.assert_allclose(found.kinetic, turning + going, rtol=1e-12)
    np.testing.assert_allclose(found.potential, 9.8 * mass @ state.x[:, 1], rtol=1e-12)
    np.testing.assert_allclose(found.elastic, 0.0, atol=1e-12)
    assert found.clearance == np.inf and found.penetrating == 0
    np.testing.assert_allclose(found.largest_stretch, 1.0, rtol=1e-12)


@pytest.mark.compiles
@pytest.mark.usefixtures("x64")
def test_elastic_energy_is_that_of_each_particles_law():
    rng = np.random.default_rng(1)
    F = jnp.asarray(np.eye(3) + 0.1 * rng.normal(size=(5, 3, 3)))
    state = particles(5, F=F)
    moduli = jnp.asarray(rng.uniform(8.0, 10.0, 5))
    mixed = material(
        5, (("jelly", 2), ("neo_hookean", 0), ("neo_hookean", 3)), log_youngs_modulus=moduli
    )
    found = jax.jit(checks.elastic_energy)(F, state.history, state.volume, mixed)
    mu, lam = np.exp(moduli) / 2.6, np.exp(moduli) * 0.3 / (1.3 * 0.4)
    lanes, p = [F[:, i, j] for i in range(3) for j in range(3)], {"mu": mu, "lam": lam}
    soft, hard = (jax.jit(LAWS[name].energy)(lanes, p, ()) for name in ("jelly", "neo_hookean"))
    expected = jnp.sum(state.volume * jnp.where(jnp.arange(5) < 2, soft, hard))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="expected laws of 5 particles, found 4"):
        checks.elastic_energy(F, state.history, state.volume, material(4))


@pytest.mark.usefixtures("x64")
def test_a_stretched_block_stores_the_energy_of_the_closed_form():
    F = jnp.asarray(np.diag([1.2, 1.0, 1.0])) @ Rotation.random(random_state=0).as_matrix()
    state = particles(3, F=jnp.broadcast_to(F, (3, 3, 3)))
    found = jax.jit(checks.elastic_energy)(state.F, state.history, state.volume, material(3))
    mu, lam = 1e4 / 2.6, 1e4 * 0.3 / (1.3 * 0.4)
    density = mu * 0.2**2 + 0.5 * lam * 0.2**2
    np.testing.assert_allclose(found, density * state.volume.sum(), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_largest_stretch_is_the_largest_singular_value():
    F = np.random.default_rng(2).normal(size=(100, 3, 3))
    F[:3] = np.eye(3), np.zeros((3, 3)), np.diag([2.0, 2.0, 1.0])
    found = jax.jit(checks.largest_stretch)(jnp.asarray(F))
    np.testing.assert_allclose(found, np.linalg.svd(F)[1][:, 0], rtol=1e-8, atol=1e-12)


def test_volumes_and_penetration_are_told():
    def distance(x):
        return jnp.minimum(
            checks.plane_distance(x, (0.0, 0.2, 0.0), (0.0, 1.0, 0.0)),
            checks.sphere_distance(x, (0.5, 0.5, 0.5), 0.1),
        )

    F = np.tile(np.eye(3), (4, 1, 1))
    F[0] *= 2.0
    x = [[0, 0.15, 0], [0.5, 0.5, 0.47], [0, 1, 0], [0, 0.2, 0]]
    state = particles(4, F=jnp.asarray(F, jnp.float32), x=jnp.asarray(x, jnp.float32))
    summed = jax.jit(functools.partial(checks.sample, dx=DX, distance=distance))
    found = summed(state, material(4), GRAVITY)
    np.testing.assert_allclose(found.clearance, -0.07, rtol=1e-5)
    assert found.penetrating == 0.5
    np.testing.assert_allclose(found.largest_volume, 8.0, rtol=1e-5)
    assert found.smallest_volume == 1.0 and found.largest_stretch == 2.0
    mean = 1 + 7 * state.volume[0] / state.volume.sum()
    np.testing.assert_allclose(found.mean_volume, mean, rtol=1e-5)


def test_distances_from_a_box_are_signed():
    x = np.array([[0, 0, 0], [0.9, 0, 0], [2, 0, 0], [4, 6, 0], [-1, -2, -3]], float)
    found = checks.box_distance(x, (0.0, 0.0, 0.0), (1.0, 2.0, 3.0))
    np.testing.assert_allclose(found, [-1, -0.1, 1, 5, 0], atol=1e-6)


def test_a_pendulum_keeps_its_energy_and_a_push_shows():
    t = np.linspace(0, 10, 1001)
    angle, rate = 0.5 * np.cos(3 * t), -1.5 * np.sin(3 * t)
    kinetic, potential = 0.5 * rate**2, 4.5 * angle**2  # w = 3, unit inertia
    still = checks.energy_report(kinetic, 0 * t, potential)
    assert abs(still.drift) < 1e-12 and still.largest_gain < 1e-12
    np.testing.assert_allclose(still.scale, 1.125, rtol=1e-4)
    pushed = checks.energy_report(kinetic, 0.2 * (t > 4) - 0.3 * (t > 7), potential)
    np.testing.assert_allclose(pushed.largest_gain, 0.2, rtol=1e-9)
    np.testing.assert_allclose(pushed.drift, -0.1, rtol=1e-9)
    late = checks.energy_report(kinetic, -0.5 * (t > 2) + 0.2 * (t > 7), potential + 100.0)
    np.testing.assert_allclose(late.largest_gain, 0.2, rtol=1e-9)  # though less than at first
    np.testing.assert_allclose(late.scale, 1.125, rtol=1e-4)  # wherever zero is


def bouncing(t, height=1.0, restitution=0.8):
    """Height of a ball that falls, bounces and loses speed."""
    fall = np.sqrt(2 * height / 9.8)
    y = height - 4.9 * t**2
    begin, speed = fall, 9.8 * fall
    for _ in range(5):
        speed *= restitution
        flight = t - begin
        y = np.where(flight > 0, speed * flight - 4.9 * flight**2, y)
        begin += 2 * speed / 9.8
    return np.where(t > begin, 0.0, y), fall, begin


def test_a_bouncing_balls_contacts_are_counted_and_timed():
    t = np.linspace(0, 5, 5001)
    y, fall, end = bouncing(t)
    found = checks.contacts(t, y, 0.01)
    assert found.num_impacts == 6 and len(found.intervals) == 6
    # A ball of height h passes the tolerance before it lands.
    first = np.sqrt(2 * 0.99 / 9.8)
    np.testing.assert_allclose(found.intervals[0][0], first, atol=1e-5)
    np.testing.assert_allclose(found.intervals[0][1], fall + 0.01 / (0.8 * 9.8 * fall), atol=1e-4)
    assert found.intervals[-1][0] < end and found.intervals[-1][1] == 5.0


def test_what_touches_from_the_start_or_never_is_told_so():
    t = np.arange(4.0)
    assert checks.contacts(t, np.array([1.0, 1, 1, 1]), 0.1) == ([], 0)
    assert checks.contacts(t, np.array([0.0, 0, 0, 0]), 0.1) == ([(0.0, 3.0)], 0)
    assert checks.contacts(t, np.array([1.0, 0.097, 1, 1]), 0.1).num_impacts == 1
    lifted = checks.contacts(t, np.array([0.0, 0.2, 0.0, 0.0]), 0.1)
    assert lifted.num_impacts == 1
    np.testing.assert_allclose(lifted.intervals, [(0, 0.5), (1.5, 3)])


def moments(t, height, speed, clearance=None):
    """Samples of a body of one kilogram that moves up and down."""
    zero, one = np.zeros_like(t), np.ones_like(t)
    up = np.array([0.0, 1.0, 0.0])
    return checks.Sample(
        seconds=t,
        kinetic=0.5 * speed**2,
        elastic=zero,
        potential=9.8 * height,
        momentum=speed[:, None] * up,
        angular_momentum=np.zeros((len(t), 3)),
        center=height[:, None] * up,
        clearance=np.full(len(t), np.inf) if clearance is None else clearance,
        penetrating=zero,
        smallest_volume=one,
        largest_volume=one,
        mean_volume=one,
        largest_stretch=one,
    )


def test_the_report_of_a_free_fall_keeps_energy_and_tells_no_contact():
    t = np.linspace(0, 1, 31)
    found = checks.metrics(moments(t, 10 - 4.9 * t**2, -9.8 * t), tolerance=0.01)
    assert abs(found["energy_drift_ratio"]) < 1e-12 and found["seconds"] == 1.0
    np.testing.assert_allclose(found["momentum_change_kg_m_per_s"], 9.8)
    np.testing.assert_allclose(found["center_way_metres"], 4.9)
    np.testing.assert_allclose(found["center_lowest_metres"], 5.1)
    assert found["penetration_peak_metres"] is None and found["contact_first_seconds"] is None
    assert found["contact_seconds"] == 0 and found["oscillation_is_sure"] is False
    json.dumps(found, allow_nan=False)


def test_the_report_of_a_bounce_tells_contacts_and_depth():
    t = np.linspace(0, 5, 2001)
    y, _, _ = bouncing(t)
    found = checks.metrics(moments(t, y, np.gradient(y, t), y - 0.002), tolerance=0.01)
    assert found["contact_impacts"] == found["contact_intervals"] == 6
    np.testing.assert_allclose(found["penetration_peak_metres"], 0.002, atol=1e-4)
    assert found["contact_last_seconds"] == 5.0
    assert found["contact_longest_seconds"] < found["contact_seconds"] < 5.0
    assert found["energy_drift_ratio"] < -0.5
    json.dumps(found, allow_nan=False)


def test_the_report_of_a_swing_takes_the_signal_that_it_is_given():
    t = np.arange(120) / 30
    samples = moments(t, np.sin(9 * t), 9 * np.cos(9 * t))
    height = checks.metrics(samples, tolerance=0.01)
    np.testing.assert_allclose(height["oscillation_frequency_hz"], 9 / (2 * np.pi), rtol=1e-4)
    across = checks.metrics(samples, 0.01, signal=np.cos(20 * t), up=(1.0, 0.0, 0.0))
    np.testing.assert_allclose(across["oscillation_frequency_hz"], 20 / (2 * np.pi), rtol=1e-4)
    assert height["oscillation_is_sure"] is True and height["oscillation_cycles"] > 5
