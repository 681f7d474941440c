import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sim.constitutive import LAWS

pytestmark = pytest.mark.compiles

E, NU = 1.0e4, 0.3
MU, LAM = E / (2 * (1 + NU)), E * NU / ((1 + NU) * (1 - 2 * NU))
COUNT = 24
P = {
    "mu": MU,
    "lam": LAM,
    "yield_stress": 300.0,
    "hardening": 0.5,
    "softening": 400.0,
    "friction_angle": 0.5,
    "plastic_viscosity": 3.0,
    "viscosity": 20.0,
    "branch_ratio": 0.5,
    "branch_viscosity": 6.0,
    "critical_compression": 0.025,
    "critical_stretch": 0.0075,
}
DT = 1e-3
SOLIDS = [name for name in LAWS if name != "fluid"]
FLOWING = [name for name in LAWS if LAWS[name].project]
HENCKY = ["hencky", "metal", "sand", "foam", "plasticine"]
LONG = ["hencky", "metal", "foam", "snow", "plasticine", "viscoelastic"]  # to compile backwards


# These programs run once: the compiler need not try hard.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def lanes(matrices):
    return [jnp.asarray(matrices[..., i, j]) for i in range(3) for j in range(3)]


def matrices(lanes):
    return np.stack([np.asarray(a, np.float64) for a in lanes], -1).reshape(*lanes[0].shape, 3, 3)


def symmetric(rows):
    """Matrices [COUNT, 3, 3] of their upper triangles [6, COUNT]."""
    xx, xy, xz, yy, yz, zz = rows
    return matrices([xx, xy, xz, xy, yy, yz, xz, yz, zz])


def properties(name, count=COUNT, dtype=np.float64, **changed):
    values = P | changed
    return {key: jnp.full(count, values[key], dtype) for key in LAWS[name].parameters}


def run(name, F, C=None, history=0.0, **changed):
    """All that a law says of matrices F [COUNT, 3, 3], as numpy, in float64."""
    with jax.enable_x64(True):
        F, C = np.broadcast_to(F, (COUNT, 3, 3)), np.zeros((COUNT, 3, 3)) if C is None else C
        stress, energy, gradient, flowed = evaluate(name)(
            lanes(F), lanes(C), properties(name, **changed), histories(name, history)
        )
        after = (matrices(flowed[0]), np.squeeze(flowed[1]))
    return matrices(stress), np.asarray(energy), matrices(gradient), after


def histories(name, values=0.0, dtype=np.float64):
    """As many numbers as the law remembers, all alike or in rows."""
    count = LAWS[name].num_history
    rows = np.broadcast_to(values, (count, COUNT)) if count else ()
    return tuple(jnp.asarray(row, dtype) for row in rows)


@functools.cache
def evaluate(name):
    law = LAWS[name]

    def everything(F, C, p, history):
        energy = law.energy(F, p, history)
        gradient = jax.grad(lambda F: law.energy(F, p, history).sum())(F)
        flowed = law.project(F, p, history, DT) if law.project else (F, history)
        return law.stress(F, C, p, history), energy, gradient, flowed

    return quick_jit(everything)


def turned(sigma, seed=1):
    """Matrices [COUNT, 3, 3] of given stretches between random rotations."""
    U, V = (Rotation.random(COUNT, random_state=seed + k).as_matrix() for k in (0, 1))
    return U * np.broadcast_to(sigma, (COUNT, 3))[:, None] @ V.swapaxes(1, 2)


def random_stretches(size, seed=0):
    return np.exp(size * np.random.default_rng(seed).normal(size=(COUNT, 3)))


def deviator(a):
    return a - np.trace(a, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)


def norm(a):
    return np.sqrt((a**2).sum((1, 2)))


def some_slow(*slow):
    """All laws; those named take long to compile and much like another."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in LAWS]


@pytest.mark.parametrize("name", some_slow("hencky", "metal", "plasticine"))
def test_the_stress_is_the_derivative_of_the_energy(name):
    F = turned(
        np.concatenate([random_stretches(0.3)[:12], random_stretches(1.0)[12:] * [1, 1, -0.5]])
    )
    stress, _, gradient, _ = run(name, F, history=0.3)
    expected = gradient @ F.swapaxes(1, 2)
    np.testing.assert_allclose(stress, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(stress, stress.swapaxes(1, 2), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_rest_and_rigid_turns_are_free_of_stress_and_flow(name):
    F = turned([1.0, 1.0, 1.0])
    F[0] = np.eye(3)
    stress, energy, _, (flowed, history) = run(name, F)
    np.testing.assert_allclose(stress, 0.0, atol=1e-10)
    np.testing.assert_allclose(energy, 0.0, atol=1e-10)
    np.testing.assert_allclose(history, 0.0, atol=1e-14)
    expected = np.broadcast_to(np.eye(3), F.shape) if name == "fluid" else F
    np.testing.assert_allclose(flowed, expected, atol=1e-14)


@pytest.mark.parametrize("name", LAWS)
def test_a_law_turns_with_the_particle_and_does_not_see_turns_before(name):
    F = turned(random_stretches(0.3))
    Q, before = (Rotation.random(COUNT, random_state=seed).as_matrix() for seed in (8, 9))
    stress, energy, _, (flowed, history) = run(name, F)
    turned_stress, same_energy, _, (turned_flowed, same_history) = run(name, Q @ F @ before)
    np.testing.assert_allclose(turned_stress, Q @ stress @ Q.swapaxes(1, 2), atol=1e-8)
    np.testing.assert_allclose(same_energy, energy, rtol=1e-10)
    if name == "viscoelastic":  # a strain before all turns
        history, same_history = (symmetric(h) for h in (history, same_history))
        history = before.swapaxes(1, 2) @ history @ before
    np.testing.assert_allclose(same_history, history, atol=1e-12)
    expected = flowed if name == "fluid" else Q @ flowed @ before
    np.testing.assert_allclose(turned_flowed, expected, atol=1e-12)


@pytest.mark.parametrize("name", SOLIDS)
def test_small_strains_give_linear_elasticity(name):
    strain = 1e-6 * np.random.default_rng(0).normal(size=(COUNT, 3, 3))
    strain = strain + strain.swapaxes(1, 2)
    spin = Rotation.random(COUNT, random_state=0).as_matrix()
    stress = run(name, (np.eye(3) + strain) @ spin)[0]
    trace = np.trace(strain, axis1=1, axis2=2)[:, None, None]
    expected = E / (1 + NU) * (strain + NU / (1 - 2 * NU) * trace * np.eye(3))
    expected *= 1.0 + P["branch_ratio"] * (name == "viscoelastic")
    np.testing.assert_allclose(stress, expected, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize("a", [0.6, 1.7])
def test_uniaxial_stretch_by_hand(a):
    F = np.diag([1.0, a, 1.0])
    along, across = {}, {}
    for name in ("neo_hookean", "hencky", "jelly"):
        tau = run(name, F)[0][0]
        along[name], across[name] = tau[1, 1], tau[0, 0]
        np.testing.assert_allclose(tau, np.diag(np.diag(tau)), atol=1e-10)
    np.testing.assert_allclose(along["neo_hookean"], MU * (a * a - 1) + LAM * np.log(a))
    np.testing.assert_allclose(across["neo_hookean"], LAM * np.log(a))
    np.testing.assert_allclose(along["hencky"], (2 * MU + LAM) * np.log(a))
    np.testing.assert_allclose(across["hencky"], LAM * np.log(a))
    np.testing.assert_allclose(along["jelly"], (2 * MU + LAM) * a * (a - 1))
    np.testing.assert_allclose(across["jelly"], LAM * a * (a - 1))


def strong_and_weak():
    """Half far beyond yielding, half a hair's breadth from rest."""
    return turned(
        np.where(np.arange(COUNT)[:, None] % 2, random_stretches(0.3), random_stretches(1e-3))
    )


@pytest.mark.parametrize("name", FLOWING)
def test_flow_is_done_at_once_and_takes_energy(name):
    F = strong_and_weak()
    at_once = {"plastic_viscosity": 0.0, "branch_viscosity": 0.0}
    _, before, _, (once, history) = run(name, F, history=0.01, **at_once)
    _, _, _, (twice, same) = run(name, once, history=history, **at_once)
    np.testing.assert_allclose(twice, once, atol=1e-9)
    np.testing.assert_allclose(same, history, atol=1e-9)
    # Of one number moduli hang.
    after = run(name, once, history=history if name == "viscoelastic" else 0.01)[1]
    if name == "snow":  # clamping one stretch may press the volume: bounded by what mu gives back
        assert (after[1::2] < before[1::2]).all()
    else:
        assert (after <= before + 1e-9).all()


@pytest.mark.parametrize("name", ["metal", "foam", "plasticine"])
def test_what_has_not_yielded_is_left_alone(name):
    F = turned(random_stretches(1e-3))
    _, _, _, (flowed, history) = run(name, F)
    np.testing.assert_array_equal(flowed, F)
    np.testing.assert_array_equal(history, 0.0)


def test_metal_lies_on_its_hardened_yield_surface_and_keeps_its_volume():
    F = turned(random_stretches(0.3))
    _, _, _, (flowed, history) = run("metal", F, history=0.02)
    shear = norm(deviator(run("metal", flowed)[0]))
    assert (history > 0.03).all()
    np.testing.assert_allclose(shear, 300.0 + 2 * MU * 0.5 * history, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.det(flowed), np.linalg.det(F), rtol=1e-10)


def test_metal_flows_as_worked_out_by_hand():
    # A stretch of exp(2g), exp(-g), exp(-g): the deviator is itself, its norm sqrt(6) g.
    g, root = 0.1, np.sqrt(6.0)
    _, _, _, (flowed, history) = run("metal", np.diag(np.exp([2 * g, -g, -g])))
    flow = (2 * MU * root * g - 300.0) / (2 * MU * 1.5)
    np.testing.assert_allclose(history, flow)
    np.testing.assert_allclose(
        np.log(flowed[0].diagonal()), (g - flow / root) * np.array([2, -1, -1])
    )


def test_foam_relaxes_to_its_yield_surface_by_its_viscosity():
    g = 0.1
    F = np.diag(np.exp([2 * g, -g, -g]))
    bound = np.sqrt(2 / 3) * 300.0
    trial = norm(deviator(run("foam", F)[0]))
    for viscosity in (0.0, 3.0, 1e9):
        _, _, _, (flowed, _) = run("foam", F, plastic_viscosity=viscosity)
        shear = norm(deviator(run("foam", flowed)[0]))
        rate = 2 * MU * DT * np.exp(2 * g * np.array([2, -1, -1])).sum() / 3
        np.testing.assert_allclose(shear, trial - (trial - bound) * rate / (rate + viscosity))


def test_sand_stays_in_its_cone_of_friction_and_pulls_at_nothing():
    F = strong_and_weak()
    trial = run("sand", F)[0]
    _, _, _, (flowed, history) = run("sand", F)
    stress = run("sand", flowed)[0]
    pressure = -np.trace(stress, axis1=1, axis2=2) / 3
    sine = np.sin(0.5)
    # The cone through the corners of Mohr and Coulomb's: sqrt(2/3) q with q = 6 sin/(3 - sin) p.
    bound = np.sqrt(2 / 3) * 6 * sine / (3 - sine) * pressure
    assert (pressure >= -1e-9).all()
    assert (norm(deviator(stress)) <= bound + 1e-8).all()
    apart = np.linalg.det(F) > 1
    assert 4 < apart.sum() < COUNT - 4
    np.testing.assert_allclose(stress[apart], 0.0, atol=1e-9)
    np.testing.assert_allclose(history[apart], np.log(np.linalg.det(F[apart])))
    np.testing.assert_array_equal(history[~apart], 0.0)
    slides = ~apart & (norm(deviator(trial)) > bound + 1.0)
    assert slides.sum() > 4
    np.testing.assert_allclose(norm(deviator(stress[slides])), bound[slides], rtol=1e-9)


def test_sand_pushed_together_again_has_its_old_volume():
    _, _, _, (F, history) = run("sand", 1.1 * np.eye(3))
    np.testing.assert_allclose(history, 3 * np.log(1.1))
    _, _, _, (F, history) = run("sand", F * 0.99 / 1.1, history=history)
    np.testing.assert_allclose(F, np.broadcast_to(0.99 * np.eye(3), F.shape), atol=1e-12)
    np.testing.assert_allclose(history, 0.0, atol=1e-12)


def test_snow_keeps_its_stretches_in_bounds_and_hardens_when_pressed():
    F = strong_and_weak()
    _, _, _, (flowed, history) = run("snow", F)
    sigma = np.linalg.svd(flowed)[1]
    assert sigma.min() > 0.975 - 1e-12 and sigma.max() < 1.0075 + 1e-12
    volumes = np.linalg.det(flowed) * np.exp(history)
    np.testing.assert_allclose(volumes, np.linalg.det(F))  # elastic times plastic volume
    pressed = np.diag([0.99, 1.0, 1.0])
    rest, packed, loose = (
        run("snow", pressed, history=np.log(Jp), hardening=3.0)[0][0, 0, 0] for Jp in (1, 0.9, 1.1)
    )
    np.testing.assert_allclose(packed / rest, np.exp(0.3))
    np.testing.assert_allclose(loose / rest, np.exp(-0.3))
    hardest = run("snow", pressed, history=-5.0, hardening=30.0)[0][0, 0, 0]
    np.testing.assert_allclose(hardest / rest, LAWS["snow"].speed ** 2)


def test_plasticine_weakens_as_it_flows_and_breaks_in_the_end():
    F = turned([1.2, 1.0, 0.9])
    _, _, _, (flowed, history) = run("plasticine", F, history=0.1)
    assert (history > 0.11).all()
    np.testing.assert_allclose(norm(deviator(run("hencky", flowed)[0])), 300.0 - 400.0 * history)
    # It keeps its stiffness until a tenth of the strength is left, and none without any.
    soft = turned(random_stretches(1e-3))
    whole = run("hencky", soft)[0]
    np.testing.assert_allclose(run("plasticine", soft, history=0.6)[0], whole)
    np.testing.assert_allclose(run("plasticine", soft, history=0.75 * 0.95)[0], 0.5 * whole)
    np.testing.assert_allclose(run("plasticine", soft, history=0.75 * 0.975)[0], 0.15625 * whole)
    np.testing.assert_array_equal(run("plasticine", soft, history=0.75)[0], 0.0)
    _, _, _, (broken, history) = run("plasticine", F, history=10.0)
    np.testing.assert_allclose(deviator(run("hencky", broken)[0]), 0.0, atol=1e-8)


def test_a_fluid_presses_alike_on_all_sides_and_resists_shearing():
    F, C = turned(random_stretches(0.1)), np.random.default_rng(2).normal(size=(COUNT, 3, 3))
    J = np.linalg.det(F)[:, None, None]
    bulk = LAM + 2 * MU / 3
    still = run("fluid", F)[0]
    np.testing.assert_allclose(still, -J * bulk / 7 * (J**-7 - 1) * np.eye(3), atol=1e-9)
    drag = run("fluid", F, C)[0] - still
    np.testing.assert_allclose(drag, 20.0 * J * deviator(C + C.swapaxes(1, 2)), atol=1e-9)
    squeezed = run("fluid", (1 - 1e-7) ** (1 / 3) * np.eye(3))[0][0, 0, 0]
    np.testing.assert_allclose(-squeezed / 1e-7, bulk, rtol=1e-5)
    flowed = run("fluid", F)[3][0]
    np.testing.assert_allclose(flowed, np.cbrt(J) * np.eye(3), atol=1e-12)


def test_a_held_stretch_relaxes_as_a_standard_linear_solid():
    """E (1 + ratio exp(-t / tau)) along a bar of small strain, and nothing across."""
    strain, steps, ratio, tau = 1e-6, 40, 0.5, 0.025
    F = np.diag([1 + strain, 1 - NU * strain, 1 - NU * strain])
    history, seen = 0.0, []
    for _ in range(steps):
        stress, _, _, (_, history) = run(
            "viscoelastic", F, history=history, branch_viscosity=tau * ratio * MU
        )
        seen.append(stress[0] / (E * strain))
    decay = np.exp(-DT * np.arange(steps) / tau)
    np.testing.assert_allclose(np.array(seen)[:, 0, 0], 1 + ratio * decay, rtol=1e-5)
    np.testing.assert_allclose(np.array(seen)[:, 1:, 1:], 0.0, atol=1e-5)


def test_a_branch_is_a_spring_for_sudden_strains_and_nothing_for_slow_ones():
    F = turned(random_stretches(0.3))
    slow, spring = run("neo_hookean", F)[0], run("hencky", F)[0]
    thick = np.where(np.arange(COUNT) % 2, 1e30, 1e-30)[:, None, None]
    stress, _, _, (flowed, history) = run("viscoelastic", F, branch_viscosity=thick[:, 0, 0])
    np.testing.assert_allclose(stress, slow + 0.5 * spring, rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(flowed, F)
    stress = run("viscoelastic", F, history=history)[0]
    expected = slow + np.where(thick > 1, 0.5, 0.0) * spring
    np.testing.assert_allclose(stress, expected, rtol=1e-9, atol=1e-6)


def test_strains_relax_together_whatever_turns_with_them():
    """Log of b falls at the rate of the branch, in its own axes; twice half a step is a step."""
    F, start = (
        turned(random_stretches(0.3)),
        0.02 * np.random.default_rng(4).normal(size=(6, COUNT)),
    )
    _, _, _, (_, once) = run("viscoelastic", F, history=start)
    _, _, _, (_, twice) = run("viscoelastic", F, history=once)
    _, _, _, (_, fast) = run("viscoelastic", F, history=start, branch_viscosity=3.0)
    np.testing.assert_allclose(twice, fast, atol=1e-12)

    def strains(history):
        b = F @ (np.eye(3) + symmetric(history)) @ F.swapaxes(1, 2)
        values, axes = np.linalg.eigh(b)
        return axes @ (0.5 * np.log(values)[..., None] * axes.swapaxes(1, 2))

    kept = np.exp(-DT * 0.5 * MU / 6.0)
    np.testing.assert_allclose(strains(once), kept * strains(start), atol=1e-12)


def outputs(name):
    """Stress, unless it is that of another law, and flow, as one list of arrays."""
    law = LAWS[name]

    def function(F, C, p, history):
        out = []
        if name not in ("metal", "sand", "foam"):
            out += [tau / MU for tau in law.stress(F, C, p, history)]
        if law.project:
            flowed, history = law.project(F, p, history, DT)
            out += [*flowed, *history]
        return out

    return function


@functools.cache
def derivatives(name):
    """Compiled values and reverse derivatives of `outputs`."""
    function = outputs(name)
    back = lambda inputs, weights: jax.vjp(function, *inputs)[1](weights)  # noqa: E731
    return quick_jit(function), quick_jit(back)


def inputs_of(name, dtype=np.float64):
    """F at random, equal, at rest and on both sides of yielding; C, properties and history."""
    rng = np.random.default_rng(7)
    sigma = random_stretches(0.2, seed=3)
    sigma[:4] = 1.0
    sigma[4:8, 1] = sigma[4:8, 0]
    sigma[8:12] = random_stretches(1e-3)[:4]
    sigma[12:14] = [1.2, 0.9, -0.4]
    F = turned(sigma)
    F[0] = F[1] = np.eye(3)
    C = rng.normal(size=(COUNT, 3, 3))
    history = np.full(COUNT, 0.05)
    if name == "sand":  # at rest it is at the tip of its cone, where no derivative is exact
        F[:4] *= 0.97
        history[:] = 0.01
    if name == "snow":
        history = rng.uniform(-0.3, 0.3, COUNT)
    F, C = ([a.astype(dtype) for a in lanes(x)] for x in (F, C))
    return (F, C, properties(name, dtype=dtype), histories(name, history, dtype))


@pytest.mark.parametrize("name", some_slow(*LONG))
def test_derivatives_in_all_inputs_match_finite_differences(name):
    rng = np.random.default_rng(11)
    with jax.enable_x64(True):
        value, back = derivatives(name)
        inputs = inputs_of(name)
        directions = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), inputs)
        for key in inputs[2]:
            directions[2][key] *= 0.2 * P[key]
        weights = [jnp.asarray(rng.normal(size=COUNT)) for _ in value(*inputs)]
        gradient = back(inputs, weights)

        def along(t):
            moved = jax.tree.map(lambda a, d: a + t * d, inputs, directions)
            return (np.stack(value(*moved)) * np.stack(weights)).sum(0)

        step = 1e-5
        ahead = 8 * (along(step) - along(-step)) - (along(2 * step) - along(-2 * step))
        found = sum(
            jax.tree.leaves(jax.tree.map(lambda g, d: np.asarray(g * d), gradient, directions))
        )
    np.testing.assert_allclose(found, ahead / (12 * step), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("name", some_slow(*LONG))
def test_values_and_gradients_are_finite_in_float32_at_any_deformation(name):
    sigma = random_stretches(1.0) * np.tile([[1, 1, -1], [1, 1, 0], [1, 0, 0]], (COUNT // 3, 1))
    F = turned(sigma)
    F[0], F[1], F[2], F[3] = 0.0, np.diag([1, 1, -1]), np.eye(3), -np.eye(3)
    _, C, p, _ = inputs_of(name, np.float32)
    p |= {key: 0 * p[key] for key in ("plastic_viscosity", "branch_viscosity") if key in p}
    inputs = (lanes(F.astype(np.float32)), C, p, histories(name, 0.0, np.float32))
    value, back = derivatives(name)
    out = value(*inputs)
    found = jax.tree.leaves((out, back(inputs, [jnp.ones_like(a) for a in out])))
    assert all(np.isfinite(a).all() for a in found)
    assert all(a.dtype == np.float32 for a in found)
