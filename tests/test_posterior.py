"""The posterior against closed forms and brute force, and whether fits know how wrong they are."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from recon import fit, morphable, pose, posterior, residuals
from recon.assets import load_model
from recon.evaluation import calibration, detector
from recon.fit import FaceFit, FaceParams
from recon.landmarks import Landmarks
from recon.pose import Pose
from recon.residuals import FitModel, Observation
from render.transforms import euler_rotation

pytestmark = pytest.mark.compiles

ICT = pathlib.Path(__file__).parents[2] / "shared" / "data" / "ict" / "ict_head_100.npz"
NUM_IDENTITY, NUM_FACES, SCALE = 10, 200, 4000.0
INNER, ROBUST = fit.METHODS["inner"], fit.METHODS["robust"]
SIZES = 0.04, 0.05, 0.03  # root of the sum of squares of the points' x, y and z, metres
MODE_SIZE = 0.002  # of how far the seen mode moves them


def orthogonal_problem(sigma=3.0):
    """A face whose unknowns do not touch each other: each column of the Jacobian is its own.

    x, y, z and a pattern of a mode are orthogonal to each other and to one over the 51 points. The
    first mode moves the points in the picture, the second in depth, where nobody sees it.
    """
    rng = np.random.default_rng(0)
    patterns, _ = np.linalg.qr(np.concatenate([np.ones((51, 1)), rng.normal(size=(51, 5))], 1))
    mean = patterns[:, 1:4] * SIZES
    modes = np.zeros((51, 3, 2))
    modes[:, 0, 0], modes[:, 2, 1] = MODE_SIZE * patterns[:, 4], MODE_SIZE * patterns[:, 5]
    rows = np.concatenate([np.zeros((17, 3, 3)), np.concatenate([mean[..., None], modes], -1)])
    model = FitModel(
        landmark_rows=jnp.asarray(rows),
        is_present=jnp.ones(68),
        path_frames=jnp.zeros((17, 2, 9, 3)),
        chain_frames=jnp.zeros((17, 2, 9, 3)),
        path_blend=jnp.zeros((1, 4, 2)),
        expression_sd=jnp.zeros(0),
        expression_bounds=jnp.zeros((0, 2)),
        num_identity=2,
    )
    head = Pose(jnp.eye(3), jnp.array([300.0, 200.0]), jnp.array(SCALE))
    params = FaceParams(jnp.zeros(2), jnp.zeros(0), head, jnp.zeros(17))
    seen = Observation(
        xy=pose.project(head, model.landmark_rows[..., 0]), sigma_px=jnp.full(68, sigma)
    )
    return model, seen, FaceFit(params, *[jnp.zeros(())] * 6)


def deviations(model, seen, face, config=INNER):
    return jax.device_get(posterior.posterior(model, seen, face, config))


@pytest.mark.parametrize("sigma", [3.0, 6.0])
def test_a_linear_gaussian_problem_has_its_closed_form(sigma):
    found = deviations(*orthogonal_problem(sigma))
    x, y, z = SIZES
    pitch = yaw = sigma / (SCALE * z)
    around = sigma / (SCALE * np.hypot(x, y))  # roll, and the scale
    np.testing.assert_allclose(found.rotation_std_deg, np.rad2deg([pitch, yaw, around]), rtol=1e-5)
    np.testing.assert_allclose(found.translation_std_px, sigma / np.sqrt(51), rtol=1e-5)
    np.testing.assert_allclose(found.scale_std, around, rtol=1e-5)
    seen_mode = 1 / np.sqrt(1 + (SCALE * MODE_SIZE / sigma) ** 2)
    np.testing.assert_allclose(found.coefficient_std, [seen_mode, 1.0], rtol=1e-5)
    np.testing.assert_allclose(
        found.coefficient_covariance, np.diag([seen_mode**2, 1.0]), atol=1e-5
    )


def test_a_known_scale_is_no_unknown():
    model, seen, face = orthogonal_problem()
    free, known = (
        deviations(model, seen.replace(known_scale=scale), face)
        for scale in (None, jnp.array(SCALE))
    )
    assert known.scale_std == 0.0 < free.scale_std
    np.testing.assert_allclose(known.rotation_std_deg, free.rotation_std_deg, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradients_match_finite_differences():
    wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), orthogonal_problem())
    model, seen, face = wide

    def spread(log_sigma, head):
        found = posterior.posterior(
            model,
            seen.replace(sigma_px=jnp.exp(log_sigma)),
            face.replace(params=face.params.replace(pose=head)),
            INNER,
        )
        return jnp.concatenate([found.rotation_std_deg, found.coefficient_std])

    tilted = face.params.pose.replace(rotation=euler_rotation(0.3, 0.2, 0.1))
    check_grads(spread, (jnp.log(seen.sigma_px), tilted), order=1, modes=["fwd"])


@pytest.fixture(scope="module")
def model():
    return morphable.with_modes(load_model("default"), NUM_IDENTITY, use_expression=False)


@pytest.fixture(scope="module")
def fit_model(model):
    return fit.prepare(model)


def random_heads(seed, count):
    """Poses turned by up to 30 degrees, and faces."""
    rng = np.random.default_rng(seed)
    angles = np.deg2rad(rng.uniform([-30, -10, -5], [30, 10, 5], (count, 3)).T)
    rotation = jax.vmap(euler_rotation)(*jnp.asarray(angles, jnp.float32))
    shift = jnp.asarray(rng.uniform(400, 600, (count, 2)), jnp.float32)
    identity = morphable.random_identity(jax.random.key(seed), count, NUM_IDENTITY)
    return Pose(rotation, shift, jnp.full(count, SCALE)), identity


def judged(fit_model, xy, sigma_px, config):
    """Fits and posteriors of points [F, 68, 2] that are as noisy as `sigma_px` [68] says."""
    sigma_px = jnp.broadcast_to(jnp.asarray(sigma_px, jnp.float32), (len(xy), 68))
    seen = Observation(xy=xy, sigma_px=sigma_px)
    faces = fit.fit_faces(fit_model, seen, config)
    found = jax.vmap(lambda s, f: posterior.posterior(fit_model, s, f, config))(seen, faces)
    return seen, faces, found


@pytest.fixture(scope="module")
def noisy_faces(model, fit_model):
    """Faces drawn from the prior, their inner points exactly as noisy as the fit is told."""
    heads, identity = random_heads(1, NUM_FACES)
    rows = fit_model.landmark_rows
    points = rows[..., 0] + jnp.einsum("pdk,fk->fpd", rows[..., 1:], identity)
    noise = 5.0 * jax.random.normal(jax.random.key(2), (NUM_FACES, 68, 2))
    xy = jax.vmap(pose.project)(heads, points) + noise
    return heads, identity, *judged(fit_model, xy, np.full(68, 5.0), INNER)


@pytest.mark.slow
def test_fits_know_how_wrong_they_are(model, noisy_faces):
    heads, identity, _, faces, found = noisy_faces
    neutral = jnp.zeros((NUM_FACES, 0))
    of = calibration.calibration(model, faces.params, found, identity, neutral, heads)
    for kind in (of.rotation, of.translation, of.coefficients):
        assert 0.85 < kind.rms < 1.15
        assert 0.62 < kind.within_one < 0.74
        assert 0.92 < kind.within_two < 0.98
    assert 0.85 < of.vertex_ratio < 1.15
    bold = jax.tree.map(lambda x: 0.5 * x, found)
    of_bold = calibration.calibration(model, faces.params, bold, identity, neutral, heads)
    np.testing.assert_allclose(of_bold.rotation.rms, 2.0 * of.rotation.rms, rtol=1e-5)
    np.testing.assert_allclose(of_bold.vertex_ratio, 2.0 * of.vertex_ratio, rtol=1e-5)
    assert of_bold.coefficients.within_one < 0.45  # 0.38 of a normal distribution


@pytest.mark.slow
def test_a_landmark_left_out_makes_everything_less_sure(fit_model, noisy_faces):
    _, _, seen, faces, found = noisy_faces
    sigma = seen.sigma_px.at[:, jnp.array([17, 30, 36, 45])].set(jnp.inf)
    less = jax.vmap(lambda s, f: posterior.posterior(fit_model, s, f, INNER))(
        seen.replace(sigma_px=sigma), faces
    )
    assert (less.rotation_std_deg > found.rotation_std_deg).all()
    assert (less.translation_std_px > found.translation_std_px).all()
    assert (less.coefficient_std >= 0.9999 * found.coefficient_std).all()


def test_the_solution_is_where_its_own_pose_is_the_start(fit_model, noisy_faces):
    seen, faces = jax.tree.map(lambda x: x[0], noisy_faces[2:4])
    still = jnp.zeros(3)
    unknowns = residuals.Unknowns(
        faces.params.identity, still, still[:2], still[0], faces.params.path
    )
    left = residuals.residual(unknowns, fit_model, faces.params.pose, seen, INNER)
    np.testing.assert_allclose(0.5 * jnp.sum(left**2), faces.cost, rtol=1e-4)


def test_vertices_spread_as_the_covariance_says(model, noisy_faces):
    found = jax.tree.map(lambda x: x[0], noisy_faces[-1])
    basis = np.asarray(model.identity_basis * model.identity_sigma, np.float64)[:50]
    covariance = np.asarray(found.coefficient_covariance, np.float64)
    spread = np.einsum("vdk,kl,vdl->v", basis, covariance, basis)
    np.testing.assert_allclose(posterior.vertex_std(model, found)[:50], np.sqrt(spread), rtol=1e-4)


@pytest.mark.slow
def test_float32_equals_brute_force_in_float64():
    """All modes and expressions on sliding contours, by a plain inverse of plain autodiff."""
    whole = fit.prepare(load_model("default"))
    head = Pose(euler_rotation(0.4, 0.1, 0.0), jnp.array([400.0, 300.0]), jnp.array(SCALE))
    xy = pose.project(head, whole.landmark_rows[..., 0])
    xy = xy + 3.0 * jax.random.normal(jax.random.key(0), xy.shape)
    seen = fit.observe(Landmarks(xy=xy, sigma_px=jnp.full(68, 3.0)), ROBUST)
    num_expression = len(whole.expression_sd)
    params = FaceParams(
        identity=jax.random.normal(jax.random.key(1), (whole.num_identity,)),
        expression=jax.random.uniform(jax.random.key(2), (num_expression,), maxval=0.3),
        pose=head,
        path=jnp.linspace(0.0, 0.5, 17),
    )
    face = FaceFit(params, *[jnp.zeros(())] * 6)
    found = deviations(whole, seen, face, ROBUST)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (whole, seen, face.params))
        model, seen, params = wide
        num = len(params.identity) + len(params.expression)
        flat = np.concatenate([params.identity, params.expression, np.zeros(6), params.path])

        @jax.jit
        def residual(flat):
            unknowns = residuals.split_unknowns(flat, num)
            return residuals.residual(unknowns, model, params.pose, seen, ROBUST)

        jacobian = np.asarray(jax.jit(jax.jacfwd(residual))(flat))
    covariance = np.linalg.inv(jacobian.T @ jacobian)
    std = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found.rotation_std_deg, np.rad2deg(std[num : num + 3]), rtol=2e-3)
    np.testing.assert_allclose(found.translation_std_px, std[num + 3 : num + 5], rtol=2e-3)
    np.testing.assert_allclose(found.scale_std, std[num + 5], rtol=2e-3)
    np.testing.assert_allclose(found.coefficient_covariance, covariance[:num, :num], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "ict"])
def test_robust_knows_how_wrong_it_is_at_a_real_detectors_noise(name):
    if name == "ict" and not ICT.exists():
        pytest.skip("needs the ICT-FaceKit head")
    source = "default" if name == "default" else ICT
    model = morphable.with_modes(load_model(source), NUM_IDENTITY, use_expression=False)
    heads, identity = random_heads(1, NUM_FACES)
    outline = detector.face_outline(model)
    noise = detector.DetectorConfig(inner_px=8.0, contour_px=10.0, sliding_deg=6.0)

    def photograph(face):
        key, identity, head = face
        vertices = morphable.face_shape(model, identity, jnp.zeros(0))
        return detector.detect(key, outline, vertices, head, noise)

    keys = jax.random.split(jax.random.key(3), NUM_FACES)
    xy = jax.lax.map(photograph, (keys, identity, heads))
    sigma = detector.detector_sigma(noise)
    _, faces, found = judged(fit.prepare(model), xy, sigma, ROBUST)
    neutral = jnp.zeros((NUM_FACES, 0))
    of = calibration.calibration(model, faces.params, found, identity, neutral, heads)
    print(name, jax.tree.map(float, of))
    assert 0.85 < of.rotation.rms < 1.2 and 0.85 < of.translation.rms < 1.2
    assert 0.85 < of.coefficients.rms < 1.15 and 0.85 < of.vertex_ratio < 1.15
