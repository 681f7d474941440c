"""Whatever a material is made of can be learnt from where its particles end up."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.boundary import BoundingBox, Conditions
from sim.constitutive import LAWS
from sim.grid import GridConfig
from sim.material import Material
from sim.mpm import MpmConfig, initial_state, rollout

# Values with which each law flows within a few steps.
PROPERTIES = {
    "log_youngs_modulus": np.log(2e4),
    "poisson_ratio": 0.25,
    "density": 900.0,
    "yield_stress": 300.0,
    "hardening": 0.4,
    "softening": 200.0,
    "friction_angle": 0.5,
    "plastic_viscosity": 8.0,
    "viscosity": 20.0,
    "branch_ratio": 0.8,
    "branch_viscosity": 60.0,
    "critical_compression": 0.02,
    "critical_stretch": 0.01,
}
READING = ("metal", "sand", "foam", "snow", "plasticine", "fluid", "viscoelastic")
EACH, STEPS = 8, 12

# These programs run once: the compiler need not try hard.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def test_the_table_holds_all_that_any_law_reads():
    fields = {field.name for field in dataclasses.fields(Material)} - {"laws"}
    assert fields == set(PROPERTIES)
    read = set().union(*(LAWS[name].parameters for name in READING)) - {"mu", "lam"}
    assert read == fields - {"log_youngs_modulus", "poisson_ratio", "density"}


@pytest.mark.slow
@pytest.mark.compiles
@pytest.mark.parametrize("law", READING)
def test_where_particles_end_up_tells_of_every_property(law):
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.uniform(0.2, 0.3, (EACH, 3)))
        v = jnp.asarray(rng.normal(0.0, 0.5, (EACH, 3)))
        F = jnp.asarray(np.eye(3) + rng.normal(0.0, 0.1, (EACH, 3, 3)))
        start = initial_state(x, 1.5e-5, v, max(1, LAWS[law].num_history)).replace(F=F)
        around = Conditions(jnp.array([0.0, 0.0, -9.8]), (BoundingBox(),))
        weights = jnp.asarray(rng.normal(size=x.shape))

        def end(properties, forward_mode=False):
            grid = GridConfig(num_nodes=12, side=0.6, forward_mode=forward_mode)
            stuff = Material(((law, EACH),), **(PROPERTIES | properties))
            config = MpmConfig(grid, segment=STEPS)
            return 1e3 * jnp.vdot(weights, rollout(start, stuff, around, 1e-3, STEPS, config).x)

        names = ["log_youngs_modulus", "poisson_ratio", "density", *LAWS[law].parameters[2:]]
        point = {name: jnp.array(PROPERTIES[name]) for name in names}
        value = quick_jit(end)
        reverse = quick_jit(jax.grad(end))(point)
        one = {name: jnp.array(0.0) for name in names}
        along = quick_jit(lambda way: jax.jvp(lambda p: end(p, True), (point,), (way,))[1])
        for name in names:
            step = 1e-5 * PROPERTIES[name]
            there, back = (point | {name: point[name] + s} for s in (step, -step))
            expected = float(value(there) - value(back)) / (2 * step)
            assert expected != 0.0, name
            np.testing.assert_allclose(reverse[name], expected, rtol=1e-4, err_msg=name)
            forward = along(one | {name: jnp.array(1.0)})
            np.testing.assert_allclose(forward, reverse[name], rtol=1e-8, err_msg=name)
