"""The fast step against the slow one, conservation, and what a wrong derivative would show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render import stages
from sim.boundary import BoundingBox, Conditions, Cuboid, Sphere, Surface, Wind
from sim.constitutive import LAWS
from sim.grid import GridConfig
from sim.substep import Lanes, Properties, substep, substep_reference

pytestmark = pytest.mark.compiles

CONFIG = GridConfig(num_nodes=12, side=0.6)
DT = 1e-3


def some(law, seed, num_chunks=2, size=16, dtype=np.float64):
    """Particles in the lower half of the box, some of them at the walls."""
    rng = np.random.default_rng(seed)
    shape = num_chunks, size
    values = {
        "mu": rng.uniform(50, 90, shape),
        "lam": rng.uniform(40, 90, shape),
        "yield_stress": np.full(shape, 3.0),
        "hardening": np.full(shape, 0.5),
        "friction_angle": np.full(shape, 0.5),
        "plastic_viscosity": np.full(shape, 2.0),
        "viscosity": np.full(shape, 3.0),
        "branch_ratio": np.full(shape, 0.7),
        "branch_viscosity": np.full(shape, 0.1),
        "softening": np.full(shape, 0.1),
        "critical_compression": np.full(shape, 0.025),
        "critical_stretch": np.full(shape, 0.0075),
    }
    eye = np.eye(3).reshape(1, 9, 1)
    lanes = Lanes(
        x=rng.uniform([0.1, 0.1, 0.14], [0.4, 0.4, 0.3], (*shape, 3)).swapaxes(1, 2),
        v=rng.normal(0, 0.5, (num_chunks, 3, size)) - np.array([0, 0, 1.0])[:, None],
        C=rng.normal(0, 3.0, (num_chunks, 9, size)),
        F=eye + rng.normal(0, 0.08, (num_chunks, 9, size)),
        history=(np.zeros(shape),) * LAWS[law].num_history,
    )
    parameters = {name: values[name] for name in LAWS[law].parameters}
    properties = Properties(
        rng.uniform(0.01, 0.02, shape), rng.uniform(1e-5, 2e-5, shape), parameters
    )
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), (lanes, properties))


def vector(*values):
    return jnp.array(values, jnp.float64)


def all_conditions():
    span = {"start_time": vector(0)[0], "end_time": vector(1)[0]}
    return Conditions(
        gravity=vector(0.3, -0.2, -9.8),
        on_grid=(
            BoundingBox(),
            Cuboid(vector(0.1, 0.3, 0.2), vector(0.06, 0.06, 0.06), vector(0.5, 0, 0.2), **span),
            Surface(vector(0, 0, 0.18), vector(0, 0.6, 0.8), vector(0.3)[0], **span),
            Sphere(
                *(vector(0, 1), jnp.stack([vector(0.3, 0.3, 0.25), vector(-0.1, 0.3, 0.25)])),
                *(vector(0.11)[0], vector(0.2)[0]),
                **span,
                kind="slip",
            ),
            Wind(
                *(vector(1, 0, 0), vector(3)[0], vector(0.5)[0], vector(2)[0]),
                *(vector(0.3, 0.3, 0.3), vector(1, 1, 1)),
                **span,
            ),
        ),
    )


DAMPED = {"rpic_damping": 0.4, "velocity_scale": 0.9}


@pytest.mark.parametrize(
    "laws, damping",
    [
        pytest.param(("neo_hookean",), {}, marks=pytest.mark.slow),
        pytest.param(("jelly", "fluid"), DAMPED, marks=pytest.mark.slow),
        pytest.param(("neo_hookean",), {"pic_damping": 1.0}, marks=pytest.mark.slow),
        pytest.param(("metal", "snow", "sand"), {}, marks=pytest.mark.slow),
        pytest.param(("hencky", "foam", "plasticine"), {}, marks=pytest.mark.slow),
        pytest.param(("viscoelastic",), {}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_it_is_the_slow_step_and_so_are_its_derivatives(laws, damping):
    config = GridConfig(num_nodes=12, side=0.6, **damping)
    with jax.enable_x64(True):
        lanes, properties = zip(*(some(law, seed) for seed, law in enumerate(laws)), strict=True)
        time, dt, conditions = vector(0.01)[0], vector(DT)[0], all_conditions()
        weights = [
            jax.random.normal(jax.random.key(i), leaf.shape, jnp.float64)
            for i, leaf in enumerate(jax.tree.leaves(lanes))
        ]

        def measured(step):
            def total(lanes, properties, conditions):
                lanes = step(lanes, properties, conditions, time, dt, laws, config)
                leaves = jax.tree.leaves(lanes)
                return sum(jnp.vdot(a, w) for a, w in zip(leaves, weights, strict=True)), lanes

            gradient = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))
            return gradient(lanes, properties, conditions)

        (fast, moved), (slow, expected) = measured(substep), measured(substep_reference)
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11 * max(np.abs(b).max(), 1.0))
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(slow), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9 * max(np.abs(b).max(), 1e-9))


@pytest.mark.slow
def test_single_precision_is_near_double():
    def moved(dtype):
        lanes, properties = some("jelly", 0, dtype=dtype)
        conditions = Conditions(jnp.array([0, 0, -9.8], dtype), (BoundingBox(),))
        arguments = (lanes,), (properties,), conditions, dtype(0), dtype(DT), ("jelly",), CONFIG
        return jax.jit(substep, static_argnums=(5, 6))(*arguments)[0]

    single = moved(np.float32)
    with jax.enable_x64(True):
        double = moved(np.float64)
    for a, b in zip(single, double, strict=True):
        assert a.dtype == jnp.float32 and b.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * np.abs(b).max())


_OTHERS = [pytest.param(law, marks=pytest.mark.slow) for law in ("jelly", "fluid")]


@pytest.mark.parametrize("law", ["neo_hookean", *_OTHERS])
def test_momentum_is_kept_without_forces_from_outside(law):
    with jax.enable_x64(True):
        lanes, properties = some(law, 3)
        conditions = Conditions(jnp.zeros(3))
        step = jax.jit(substep, static_argnums=(5, 6))
        arguments = conditions, vector(0)[0], vector(DT)[0], (law,), CONFIG
        (moved,) = step((lanes,), (properties,), *arguments)

        def momentum(lanes):
            return jnp.einsum("kb,kib->i", properties.mass, lanes.v)

        def spin(lanes):
            """With the affine part: what APIC keeps (Jiang et al. 2015)."""
            C = lanes.C.reshape(*lanes.C.shape[:1], 3, 3, -1)
            axial = jnp.stack(
                [C[:, 2, 1] - C[:, 1, 2], C[:, 0, 2] - C[:, 2, 0], C[:, 1, 0] - C[:, 0, 1]], 1
            )
            swirl = jnp.cross(lanes.x, lanes.v, axis=1) + CONFIG.dx**2 / 4 * axial
            return jnp.einsum("kb,kib->i", properties.mass, swirl)

        np.testing.assert_allclose(momentum(moved), momentum(lanes), atol=1e-14)
        np.testing.assert_allclose(spin(moved), spin(lanes), atol=1e-14)


def test_a_particle_alone_at_the_edge_of_its_stencil_keeps_its_velocity():
    """Nodes that have their mass from the smallest weights must not make velocities of noise."""
    count = 4000
    rng = np.random.default_rng(0)
    lanes, properties = some("neo_hookean", 0, 1, count, np.float32)
    cell = rng.integers(3, 8, (count, 3)) + np.where(rng.random((count, 3)) < 0.5, 0.5, 0.0)
    nudge = rng.choice([0, 1e-6, -1e-6, 3e-5, -1e-4], (count, 3))
    lanes = lanes._replace(
        x=jnp.asarray(CONFIG.dx * (cell + nudge).T[None], jnp.float32),
        v=jnp.ones((1, 3, count), jnp.float32),
        C=jnp.zeros((1, 9, count), jnp.float32),
    )
    step = jax.jit(substep, static_argnums=(5, 6))
    conditions = Conditions(jnp.zeros(3))
    for i in range(0, count, 400):  # few at a time: alone at most nodes
        one = jax.tree.map(lambda a: a[..., i : i + 3], (lanes, properties))  # noqa: B023
        zero = jnp.float32(0)
        (moved,) = step(
            (one[0],), (one[1],), conditions, zero, jnp.float32(1e-5), ("neo_hookean",), CONFIG
        )
        assert np.abs(moved.C).max() < 1e3
        assert np.abs(moved.v - 1).max() < 0.5


def test_pieces_are_kept_apart_in_the_compiled_program():
    lanes, properties = some("neo_hookean", 0, dtype=np.float32)
    zero = jnp.float32(0)
    arguments = (
        (lanes,),
        (properties,),
        Conditions(jnp.zeros(3)),
        zero,
        zero,
        ("neo_hookean",),
        CONFIG,
    )
    lowered = jax.jit(substep, static_argnums=(5, 6)).lower(*arguments)
    assert lowered.compile().as_text().count(" call(") >= 10


def test_fences_are_nothing_on_other_devices(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    double = stages.stage(lambda x: 2 * x)
    text = str(jax.make_jaxpr(double)(1.0))
    assert "jit" not in text
