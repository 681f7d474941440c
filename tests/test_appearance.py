"""Pictures of faces: a real detector knows them for faces, and finds its points where they are."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from recon import pose
from recon.assets import load_model
from recon.evaluation import appearance
from recon.landmarks import eye_distance
from recon.morphable import face_shape, random_identity, with_modes
from recon.pose import Pose
from recon.texture import TextureConfig
from render.transforms import euler_rotation

pytestmark = pytest.mark.compiles

ICT = pathlib.Path(__file__).parents[2] / "shared" / "data" / "ict" / "ict_head_100.npz"
COARSE = TextureConfig(max_vertices=20_000, cutout=512)
SCALE = 4000.0  # pixels per metre: a face about 500 pixels high


@pytest.fixture(scope="module")
def model():
    return with_modes(load_model("default"), 10, use_expression=False)


@pytest.fixture(scope="module")
def painted(model):
    return appearance.photo_appearance(model, data.astronaut() / 255.0, config=COARSE)


def head_at(model, yaw=0.0, pitch=0.0, roll=0.0):
    """The pose that shows the middle of the landmarks in the middle of the picture."""
    rotation = euler_rotation(*jnp.deg2rad(jnp.array([yaw, pitch, roll])))
    head = Pose(rotation, jnp.zeros(2), jnp.array(SCALE))
    middle = pose.project(head, model.mean[model.landmark_vertices].mean(0))
    return head.replace(translation=jnp.array([600.0, 450.0]) - middle)


def detector_errors(model, painted, identity, head, key):
    """Distances [68] in outer eye distances of dlib's points to the vertices; NaN: not found."""
    vertices = face_shape(model, identity, jnp.zeros(0))
    picture = appearance.render_face(key, painted, vertices, head)
    xy = np.asarray(pose.project(head, vertices[model.landmark_vertices]))
    distance = np.linalg.norm(appearance.detected_points(picture) - xy, axis=1)
    upright = pose.project(head_at(model), vertices[model.landmark_vertices])
    return distance / float(eye_distance(upright))


@pytest.mark.slow
def test_dlib_finds_the_painted_points_where_the_vertices_are(model, painted):
    identity = random_identity(jax.random.key(1), 1, 10)[0]
    errors = detector_errors(model, painted, identity, head_at(model), jax.random.key(3))
    assert errors[17:].mean() < 0.035  # measured: 0.02
    assert errors.max() < 0.2


def test_a_picture_without_a_face_has_no_points():
    assert np.isnan(appearance.detected_points(np.full((300, 400, 3), 0.5))).all()


@pytest.mark.slow
def test_light_comes_from_where_the_viewer_is_not_where_the_head_points(model, painted):
    nothing = jnp.zeros_like(painted.skin)
    gray = painted.replace(albedo=jnp.full_like(painted.albedo, 0.5), skin=nothing, hair=nothing)
    leaning = []
    for roll in (0.0, 180.0):
        head = head_at(model, roll=roll)
        picture = appearance.render_face(jax.random.key(0), gray, model.mean, head)
        left, right = picture[330:570, 480:580], picture[330:570, 620:720]
        leaning.append(float(left.mean() - right.mean()))
    assert leaning[0] * leaning[1] > 0.0
    assert abs(leaning[0]) > 0.01


def test_light_from_the_left_brightens_the_left():
    normals = jnp.array([[-0.6, 0.0, 0.8], [0.6, 0.0, 0.8], [0.0, 0.0, -1.0]])
    ambient, direct = jnp.array([0.4, 0.4, 0.5]), jnp.array([0.6, 0.5, 0.5])
    left, right, behind = appearance.lit(normals, jnp.array([-0.6, 0.0, 0.8]), ambient, direct)
    np.testing.assert_allclose(left, ambient + direct, atol=1e-6)
    np.testing.assert_allclose(right, ambient + 0.28 * direct, atol=1e-6)
    np.testing.assert_allclose(behind, ambient, atol=1e-6)


@pytest.mark.slow
def test_the_key_makes_the_picture(model, painted):
    head = head_at(model)
    first, again, other = (
        np.asarray(appearance.render_face(jax.random.key(seed), painted, model.mean, head))
        for seed in (5, 5, 6)
    )
    assert first.shape == (appearance.HEIGHT, appearance.WIDTH, 3)
    assert first.min() >= 0.0 and first.max() <= 1.0
    np.testing.assert_array_equal(first, again)
    difference = np.abs(first - other)  # of noise alone: 0.011
    for area in (difference[400:500, 550:650], difference[:100, :100]):  # face, background
        assert area.mean() > 0.03


def test_holes_are_closed_and_the_neck_is_not(model):
    triangles = np.asarray(model.triangles)
    nose = int(model.landmark_vertices[30])
    pierced = model.replace(triangles=jnp.asarray(triangles[(triangles != nose).all(1)]))
    closing, closed = appearance.close_holes(pierced)
    edges = closed[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges)  # neighbours agree on the outside
    rim = [a for a, b in directed if (b, a) not in directed]
    places = closing @ np.asarray(model.mean, np.float64)
    assert len(rim) > 20 and places[rim][:, 1].max() < -0.05  # the neck's alone
    np.testing.assert_allclose(closing.sum(1), 1.0, atol=1e-12)
    np.testing.assert_allclose(places[-1], np.asarray(model.mean)[nose], atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "ict"])
def test_dlib_finds_turned_faces(name):
    if name == "ict" and not ICT.exists():
        pytest.skip("needs the ICT-FaceKit head")
    model = with_modes(load_model("default" if name == "default" else ICT), 10, False)
    painted = appearance.photo_appearance(model, data.astronaut() / 255.0)
    identity = random_identity(jax.random.key(0), 5, 10)
    errors = np.array(
        [
            detector_errors(model, painted, one, head_at(model, yaw), jax.random.key(i))
            for i, one in enumerate(identity)
            for yaw in (-30.0, -15.0, 0.0, 15.0, 30.0)
        ]
    )
    is_found = np.isfinite(errors).all(1)
    assert is_found.mean() >= 0.9
    assert np.median(errors[is_found][:, 17:].mean(1)) < 0.035
