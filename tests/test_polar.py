import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation

from sim import polar

pytestmark = pytest.mark.compiles

COUNT = 500
STRETCHES = {
    "moderate": lambda rng: np.exp(0.2 * rng.normal(size=(COUNT, 3))),
    "strong": lambda rng: np.exp(rng.uniform(np.log(0.02), np.log(20.0), (COUNT, 3))),
    "inverted": lambda rng: rng.uniform(0.5, 2.0, (COUNT, 3)) * [1, 1, -0.5],
    "identity": lambda rng: np.ones((COUNT, 3)),
    "two equal": lambda rng: np.tile([1.3, 0.7, 1.3], (COUNT, 1)),
    "flat": lambda rng: rng.uniform(0.5, 2.0, (COUNT, 3)) * [1, 1, 0],
    "tiny": lambda rng: 1e-12 * rng.uniform(0.5, 2.0, (COUNT, 3)),
    "mirror": lambda rng: np.tile([1.0, 1.0, -1.0], (COUNT, 1)),
    "line": lambda rng: rng.uniform(0.5, 2.0, (COUNT, 3)) * [1, 0, 0],
    "point": lambda rng: np.zeros((COUNT, 3)),
}
OPEN = ("mirror", "line", "point")  # the nearest rotation is one of many


def lanes(matrices):
    return [jnp.asarray(matrices[..., i, j]) for i in range(3) for j in range(3)]


def matrices(lanes):
    return np.stack([np.asarray(a, np.float64) for a in lanes], -1).reshape(*lanes[0].shape, 3, 3)


def stretched(kind, dtype=np.float64):
    """Matrices of known stretches between random rotations."""
    sigma = STRETCHES[kind](np.random.default_rng(0))
    U, V = (Rotation.random(COUNT, random_state=seed).as_matrix() for seed in (1, 2))
    return np.einsum("nij,nj,nkj->nik", U, sigma, V).astype(dtype)


def numpy_svd(F):
    """numpy's, the reflections moved to the sign of the last singular value."""
    U, sigma, Vt = np.linalg.svd(F)
    for A in (U, Vt.swapaxes(-1, -2)):
        flip = np.linalg.det(A)
        A[..., 2] *= flip[..., None]
        sigma[..., 2] *= flip
    return U, sigma, Vt.swapaxes(-1, -2)


def difference(f, x, direction, step=1e-5):
    """Derivative of f along a direction, of fourth order."""
    ahead = lambda k: f(x + k * step * direction)  # noqa: E731
    return (8 * (ahead(1) - ahead(-1)) - (ahead(2) - ahead(-2))) / (12 * step)


# These programs run once: the compiler need not try hard.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
rotation_of = quick_jit(polar.rotation_of)


@functools.cache
def of_all_kinds(function, dtype):
    """The function of every kind of matrix, compiled once; a dictionary by kind."""
    with jax.enable_x64(dtype == np.float64):
        F = lanes(np.concatenate([stretched(kind, dtype) for kind in STRETCHES]))
        out = jax.device_get(quick_jit(function)(F))
    return {
        kind: jax.tree.map(lambda a, i=i: a[i * COUNT : (i + 1) * COUNT], out)
        for i, kind in enumerate(STRETCHES)
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", STRETCHES)
def test_the_rotation_is_proper_and_nearest(kind, dtype):
    eps = np.finfo(dtype).eps
    F = stretched(kind, dtype)
    R = of_all_kinds(polar.rotation_of, dtype)[kind]
    assert R[0].dtype == dtype
    R = matrices(R)
    np.testing.assert_allclose(
        R @ R.swapaxes(1, 2), np.tile(np.eye(3), (COUNT, 1, 1)), atol=8 * eps
    )
    np.testing.assert_allclose(np.linalg.det(R), 1.0, atol=8 * eps)
    U, sigma, V = numpy_svd(F.astype(np.float64))
    # tr(R^T F) is as large as it can be: sum(sigma).
    found = np.einsum("nij,nij->n", R, F)
    np.testing.assert_allclose(found, sigma.sum(1), atol=40 * eps * np.abs(sigma).max())
    if kind not in OPEN:
        condition = sigma[:, 0] / (sigma[:, 1] + sigma[:, 2])
        error = np.abs(R - U @ V.swapaxes(1, 2)).max((1, 2))
        assert (error < 100 * eps * np.maximum(condition, 1)).all(), (error / condition).max() / eps


def test_a_rotation_is_its_own_and_a_stretch_has_none():
    turn = Rotation.random(20, random_state=0).as_matrix()
    with jax.enable_x64(True):
        np.testing.assert_allclose(matrices(rotation_of(lanes(turn))), turn, atol=1e-14)
        S = turn * [1.5, 0.9, 0.2] @ turn.swapaxes(1, 2)
        np.testing.assert_allclose(
            matrices(rotation_of(lanes(S))), np.tile(np.eye(3), (20, 1, 1)), atol=1e-14
        )


def test_the_derivative_of_the_rotation_matches_finite_differences():
    kinds = [kind for kind in STRETCHES if kind not in (*OPEN, "tiny")]
    F = np.concatenate([stretched(kind)[:100] for kind in kinds])
    _, sigma, _ = numpy_svd(F)
    room = (sigma[:, 1] + sigma[:, 2])[:, None, None]  # how far R lets itself be expanded
    direction = room * np.random.default_rng(3).normal(size=F.shape)
    turn = np.random.default_rng(4).normal(size=F.shape)
    with jax.enable_x64(True):
        slope = quick_jit(lambda F, d: jax.jvp(polar.rotation_of, (F,), (d,))[1])
        found = matrices(slope(lanes(F), lanes(direction)))
        expected = difference(lambda F: matrices(rotation_of(lanes(F))), F, direction, 1e-3)
        back = quick_jit(lambda F, ct: jax.vjp(polar.rotation_of, F)[1](ct)[0])
        F_bar = matrices(back(lanes(F), lanes(turn)))
    np.testing.assert_allclose(found, expected, atol=1e-7)
    # Reverse mode is its transpose.
    np.testing.assert_allclose((F_bar * direction).sum((1, 2)), (turn * found).sum((1, 2)), 1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", STRETCHES)
def test_singular_values_and_vectors(kind, dtype):
    eps = np.finfo(dtype).eps
    F = stretched(kind, dtype)
    frame = of_all_kinds(polar.frame_of, dtype)[kind]
    U, V, sigma = matrices(frame.U), matrices(frame.V), np.stack(frame.sigma, -1)
    for A in (U, V):
        np.testing.assert_allclose(
            A @ A.swapaxes(1, 2), np.tile(np.eye(3), (COUNT, 1, 1)), atol=20 * eps
        )
        np.testing.assert_allclose(np.linalg.det(A), 1.0, atol=20 * eps)
    scale = np.abs(F).max()
    # Where the rotation is ill-conditioned, its error shows here squared or times a small value.
    slack = 2000 if kind in ("inverted", "flat", *OPEN) else 20
    if kind == "mirror":
        slack = eps**-0.5
    rebuilt = U * sigma[:, None] @ V.swapaxes(1, 2)
    np.testing.assert_allclose(rebuilt, F, atol=slack * eps * scale)
    turned = U.swapaxes(1, 2) @ F @ V
    mixed = np.stack([turned[:, i, j] for i, j in ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1))])
    np.testing.assert_allclose(np.stack(frame.mixed), mixed, atol=20 * eps * scale)
    expected = numpy_svd(F.astype(np.float64))[1]
    np.testing.assert_allclose(np.sort(sigma)[:, ::-1], expected, atol=40 * eps * scale)


def test_derivatives_of_isotropic_scalars_match_finite_differences():
    F = np.concatenate([stretched(kind)[:200] for kind in ("moderate", "inverted", "two equal")])
    sigma = numpy_svd(F)[1]
    F = F[sigma[:, 1] + sigma[:, 2] > 0.2]  # nearer, another value may become the negative one
    direction = np.random.default_rng(3).normal(size=F.shape)

    def scalar(F):
        a, b, c = polar.frame_of(F).sigma
        return jnp.exp(a) + jnp.exp(b) + jnp.exp(c) + a * b * c

    with jax.enable_x64(True):
        value = quick_jit(scalar)
        found = quick_jit(lambda F, d: jax.jvp(scalar, (F,), (d,))[1])(lanes(F), lanes(direction))
        expected = difference(lambda F: np.asarray(value(lanes(F))), F, direction, 1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def gradients(F):
    def total(F):
        each = [*polar.rotation_of(F), *left(F, 0.7), *both(F, 0.7)]
        sigma = sum(polar.frame_of(F).sigma)
        return sum((a * (k + 1.0)).sum() for k, a in enumerate(each)) + sigma.sum()

    return jax.grad(total)([jnp.clip(f, -3.0, 3.0) for f in F])


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_gradients_are_finite_everywhere(dtype):
    for kind, found in of_all_kinds(gradients, dtype).items():
        assert np.isfinite(np.stack(found)).all(), kind


def mixing(sigma, weight):
    """An isotropic function whose values depend on all three arguments."""
    total = sigma[0] * sigma[1] + sigma[1] * sigma[2] + sigma[2] * sigma[0]
    return [weight * jnp.exp(0.5 * s) + jnp.sin(total) * s**2 for s in sigma]


def left(F, weight):
    return polar.symmetric(polar.frame_of(F), lambda sigma: mixing(sigma, weight))


def both(F, weight):
    return polar.between(polar.frame_of(F), lambda sigma: mixing(sigma, weight))


def functions(F, weight):
    return left(F, weight), both(F, weight)


values_of = quick_jit(functions)
slopes_of = quick_jit(lambda F, d, w, dw: jax.jvp(functions, (F, w), (d, dw))[1])


def pair(found):
    return np.stack([matrices(a) for a in found])


def test_functions_of_singular_values_equal_numpy():
    F = stretched("moderate")
    U, sigma, V = numpy_svd(F)
    with jax.enable_x64(True):
        values = np.stack(mixing(jnp.moveaxis(jnp.asarray(sigma), -1, 0), 0.7), -1)
        y, z = pair(values_of(lanes(F), 0.7))
    np.testing.assert_allclose(y, U * values[:, None] @ U.swapaxes(1, 2), atol=1e-12)
    np.testing.assert_allclose(z, U * values[:, None] @ V.swapaxes(1, 2), atol=1e-12)


def test_symmetric_and_between_give_matrix_functions():
    S = stretched("moderate")[0]
    S = S @ S.T
    with jax.enable_x64(True):

        def functions(F):
            frame = polar.frame_of(F)
            logs = polar.symmetric(frame, lambda sigma: [jnp.log(s) for s in sigma])
            powers = polar.between(frame, lambda sigma: [jnp.exp(s) for s in sigma])
            return logs, powers, polar.between(frame, lambda sigma: sigma)

        logs, powers, same = quick_jit(functions)(lanes(S[None]))
    np.testing.assert_allclose(matrices(logs)[0], logm(S), atol=1e-13)
    np.testing.assert_allclose(matrices(powers)[0], expm(S), atol=1e-12)
    np.testing.assert_allclose(matrices(same)[0], S, atol=1e-14)


GAPS = (0.0, 1e-12, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 4e-3, 8e-3, 0.1)


def nearly_equal(thirds):
    """Matrices whose values are close, and directions to move them in."""
    sigma = [[1.1, 1.1 + gap, third(gap)] for gap in GAPS for third in thirds]
    U, V = (Rotation.random(len(sigma), random_state=seed).as_matrix() for seed in (1, 2))
    F = np.einsum("nij,nj,nkj->nik", U, np.array(sigma), V)
    return F, np.random.default_rng(4).normal(size=F.shape)


def test_derivatives_of_functions_are_exact_at_near_and_equal_values():
    thirds = (lambda gap: 0.6, lambda gap: 1.1, lambda gap: 1.1 - gap, lambda gap: -0.5)
    F, direction = nearly_equal(thirds)
    weights = np.random.default_rng(5).normal(size=(2, *F.shape))
    with jax.enable_x64(True):
        weight, one = jnp.asarray(0.7), jnp.asarray(1.0)
        found = pair(slopes_of(lanes(F), lanes(direction), weight, one))

        def along(t):
            return pair(values_of(lanes(F + t * direction), 0.7 + t))

        expected = difference(along, 0.0, 1.0, 1e-3)
        np.testing.assert_allclose(found, expected, atol=3e-8)
        # Reverse mode is its transpose.
        back = quick_jit(lambda F, w, ct: jax.vjp(functions, F, w)[1](ct))
        F_bar, w_bar = back(lanes(F), weight, tuple(lanes(a) for a in weights))
    total = (matrices(F_bar) * direction).sum() + np.asarray(w_bar)
    np.testing.assert_allclose(total, (weights * found).sum(), rtol=1e-12)


@pytest.mark.slow
def test_derivatives_of_functions_hold_in_float32():
    F, direction = nearly_equal([lambda gap: 0.8])
    slopes = []
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            inputs = lanes(F.astype(dtype)), lanes(direction.astype(dtype))
            slopes.append(
                pair(slopes_of(*inputs, jnp.asarray(0.7, dtype), jnp.asarray(1.0, dtype)))
            )
    np.testing.assert_allclose(*slopes, atol=3e-4)
