"""Contour paths: on the skin, even, smooth, and crossed by the outline of a turned head."""

import pathlib

import numpy as np
import pytest

from recon import assets
from recon.contour_paths.rule import (
    PathTemplate,
    carry_points,
    generate_paths,
    landmark_misfit,
    path_points,
    path_template,
)

ICT_NPZ = pathlib.Path(__file__).parents[2] / "shared" / "data" / "ict" / "ict_head_100.npz"
MIRRORED = np.array([-1.0, 1.0, 1.0])
RIGHT = range(8)  # the subject's right side, without the chin

needs_ict = pytest.param(
    "ict", marks=pytest.mark.skipif(not ICT_NPZ.exists(), reason="needs the ICT head")
)


class Drawn:
    """A head with its paths: drawn anew for the default head, as they ship for ICT."""

    def __init__(self, name):
        self.model = assets.load_model(ICT_NPZ if name == "ict" else "default")
        self.mean = np.asarray(self.model.mean, np.float64)
        self.triangles = np.asarray(self.model.triangles)
        self.landmarks = np.asarray(self.model.landmark_vertices)
        self.corners = np.asarray(self.model.path_vertices)
        self.weights = np.asarray(self.model.path_weights)
        if name == "drawn":
            template = path_template(self.model)
            self.corners, self.weights = generate_paths(
                self.mean, self.triangles, self.landmarks, template
            )
        self.points = path_points(self.mean, self.corners, self.weights)

    def normals(self):
        """Unit normals at the control points, of the smooth surface."""
        a, b, c = np.moveaxis(self.mean[self.triangles], 1, 0)
        normal = np.zeros_like(self.mean)
        np.add.at(normal, self.triangles, np.cross(b - a, c - a)[:, None])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        at = path_points(normal, self.corners, self.weights)
        return at / np.linalg.norm(at, axis=-1, keepdims=True)


@pytest.fixture(scope="module", params=["default", "drawn", needs_ict])
def head(request):
    return Drawn(request.param)


@pytest.fixture(scope="module", params=["drawn", needs_ict])
def drawn(request):
    return Drawn(request.param)


@pytest.fixture(scope="module")
def default_template():
    return path_template(assets.load_model())


def turning(points):
    """Angles [17, C - 2] between successive segments, degrees."""
    step = np.diff(points, axis=1)
    step /= np.linalg.norm(step, axis=-1, keepdims=True)
    cosine = (step[:, 1:] * step[:, :-1]).sum(axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_paths_start_at_the_jaw_landmarks(head):
    np.testing.assert_array_equal(head.points[:, 0], head.mean[head.landmarks[:17]])


def test_control_points_lie_on_triangles(drawn):
    faces = {frozenset(t) for t in drawn.triangles.tolist()}
    assert all(frozenset(t) in faces for t in drawn.corners[:, 1:].reshape(-1, 3).tolist())
    assert drawn.weights.min() >= 0
    np.testing.assert_allclose(drawn.weights.sum(axis=-1), 1, atol=1e-6)
    assert drawn.corners.dtype == np.int32 and drawn.weights.dtype == np.float32


def test_control_points_are_evenly_spaced(drawn):
    length = np.linalg.norm(np.diff(drawn.points, axis=1), axis=-1)
    assert (length.max(axis=1) / length.min(axis=1)).max() < 1.05


def test_paths_turn_gently(head):
    assert turning(head.points).max() < 18.5


def test_paths_of_a_symmetric_head_are_symmetric(head):
    error = np.linalg.norm(head.points[::-1] * MIRRORED - head.points, axis=-1)
    assert error.max() < 2e-4  # the ICT head is itself 0.05 mm off


def test_paths_stay_clear_of_eyes_mouth_and_nose(head):
    inner = head.mean[head.landmarks[27:]]
    distance = np.linalg.norm(head.points[:, :, None] - inner, axis=-1)
    assert distance.min() > 0.002
    tip = head.mean[head.landmarks[30]]
    assert np.linalg.norm(head.points - tip, axis=-1).min() > 0.03


def test_cheek_paths_are_level_and_jaw_paths_climb(head):
    rise = head.points[:9, -1] - head.points[:9, 0]
    slope = np.degrees(np.arctan2(rise[:, 1], rise[:, 2]))
    assert (np.abs(slope[:3]) < 20).all() and (slope[4:] > 10).all() and (rise[:, 2] > 0).all()


@pytest.mark.parametrize("yaw", [10, 20, 30, 40])
def test_outline_of_the_far_side_crosses_each_path_once(head, yaw):
    """Where the jaw landmark has turned away, the outline lies further along its path."""
    turn = np.radians(yaw)
    facing = head.normals() @ np.array([np.sin(turn), 0, np.cos(turn)])  # the right side is far
    crossed = 0
    for path in RIGHT:
        changes = np.flatnonzero(np.diff(np.sign(facing[path])))
        if facing[path, 0] < 0:
            assert len(changes) == 1 and facing[path, -1] > 0
            crossed += 1
        else:
            assert (facing[path] > -0.15).all()  # a dent of the cheek at most
    assert crossed >= {10: 2, 20: 5, 30: 7, 40: 7}[yaw]


@pytest.mark.parametrize("path", RIGHT)
def test_path_starts_on_the_outline_of_a_frontal_face(head, path):
    limit = 0.3 if path < 6 else 0.7  # the chin's outline is its underside
    assert abs(head.normals()[path, 0, 2]) < limit


@pytest.mark.skipif(not ICT_NPZ.exists(), reason="needs the ICT head")
def test_shipped_ict_paths_are_the_drawn_ones(default_template):
    ict = Drawn("ict")
    corners, weights = generate_paths(ict.mean, ict.triangles, ict.landmarks, default_template)
    again = path_points(ict.mean, corners, weights)
    np.testing.assert_allclose(again, ict.points, atol=2e-4)


def sphere(rows=61, columns=120, radius=0.1):
    tilt = np.linspace(0, np.pi, rows)[:, None]
    turn = np.arange(columns)[None] * 2 * np.pi / columns
    points = np.stack(
        [np.sin(tilt) * np.sin(turn), np.cos(tilt) + 0 * turn, np.sin(tilt) * np.cos(turn)], -1
    )
    grid = np.arange(rows * columns).reshape(rows, columns)
    a, b = grid[:-1], np.roll(grid, -1, axis=1)[:-1]
    c, d = grid[1:], np.roll(grid, -1, axis=1)[1:]
    triangles = np.concatenate([np.stack([a, c, d], -1), np.stack([a, d, b], -1)])
    return radius * points.reshape(-1, 3), triangles.reshape(-1, 3)


def test_paths_on_a_sphere_are_planar_arcs_of_equal_angle():
    vertices, triangles = sphere()
    rng = np.random.default_rng(0)
    front = np.flatnonzero((vertices[:, 2] > 0.02) & (np.abs(vertices[:, 1]) < 0.08))
    side = np.linspace(-1.4, 1.4, 17)
    jaw = 0.1 * np.stack([np.sin(side), -0.3 * np.cos(side), np.full(17, 0.1)], -1)
    landmarks = np.r_[
        np.linalg.norm(vertices - jaw[:, None], axis=-1).argmin(axis=1), rng.choice(front, 51)
    ]
    ends = 0.1 * np.stack([0.4 * np.sin(side), -0.3 * np.cos(side), np.full(17, 0.8)], -1)
    template = PathTemplate(vertices[landmarks], vertices[landmarks[:17]], ends)
    corners, weights = generate_paths(vertices, triangles, landmarks, template, num_control=7)
    points = path_points(vertices, corners, weights)
    assert corners.shape == (17, 7, 3)
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 0.1, atol=2e-4)
    centred = points - points.mean(axis=1, keepdims=True)
    assert np.linalg.svd(centred, compute_uv=False)[:, 2].max() < 2e-6  # float32 weights
    angles = turning(points)
    np.testing.assert_allclose(angles, np.median(angles, axis=1)[:, None] * np.ones(5), atol=0.6)
    np.testing.assert_allclose(points[:, -1], _onto_sphere(points[:, 0], ends), atol=0.02)


def _onto_sphere(start, end):
    """The last points, roughly: the ends pushed out to the surface."""
    return 0.1 * end / np.linalg.norm(end, axis=-1, keepdims=True)


def test_carrying_is_exact_under_an_affine_map():
    rng = np.random.default_rng(1)
    source, points = rng.normal(size=(68, 3)), rng.normal(size=(5, 3))
    matrix, shift = rng.normal(size=(3, 3)), rng.normal(size=3)
    carried = carry_points(points, source, source @ matrix + shift)
    np.testing.assert_allclose(carried, points @ matrix + shift, atol=1e-9)


def test_carrying_follows_the_landmarks_where_they_bend():
    rng = np.random.default_rng(2)
    source = rng.normal(size=(68, 3))
    target = source + 0.2 * np.sin(source[:, ::-1])
    carried = carry_points(source, source, target)
    left = np.sqrt(((carried - target) ** 2).mean())
    assert left < 0.25 * landmark_misfit(source, target) * target.std()


def test_misfit_tells_a_face_from_shuffled_landmarks(default_template):
    landmarks = default_template.landmarks
    bigger = landmarks * np.array([1.1, 0.9, 1.3]) + 0.5
    assert landmark_misfit(landmarks, bigger) < 1e-9
    assert landmark_misfit(landmarks, np.random.default_rng(3).permutation(landmarks)) > 0.7


def test_unknown_jaw_landmarks_leave_valid_paths(head, default_template):
    landmarks = head.landmarks.copy()
    landmarks[:8] = landmarks[9:17] = -1
    corners, weights = generate_paths(head.mean, head.triangles, landmarks, default_template)
    points = path_points(head.mean, corners, weights)
    assert corners.min() >= 0 and corners.max() < len(head.mean)
    np.testing.assert_array_equal(points[8, 0], head.mean[landmarks[8]])
    # A guess along the jaw: lists differ by up to 2 cm there.
    assert np.linalg.norm(points[:, 0] - head.points[:, 0], axis=-1).max() < 0.022
    assert turning(points).max() < 30


def test_paths_on_a_mask_end_at_its_rim(head, default_template):
    """A mask as the Surrey model's: the face up to 3 cm behind the corners of the eyes."""
    depth = head.mean[head.triangles].mean(axis=1)[:, 2]
    mask = head.triangles[depth > head.mean[head.landmarks[36], 2] - 0.03]
    landmarks = head.landmarks.copy()
    landmarks[:8] = landmarks[9:17] = -1
    corners, weights = generate_paths(head.mean, mask, landmarks, default_template)
    assert np.isin(corners, mask).all()
    points = path_points(head.mean, corners, weights)
    assert np.isfinite(points).all()
    assert np.linalg.norm(np.diff(points, axis=1), axis=-1).sum(axis=1).min() > 0.01


def test_points_over_a_gap_go_to_its_rim(head, default_template):
    depth = head.mean[head.triangles].mean(axis=1)[:, 2]
    low, high = np.quantile(head.points[1, :, 2], [0.3, 0.7])
    kept = head.triangles[(depth < low) | (depth > high)]
    corners, weights = generate_paths(head.mean, kept, head.landmarks, default_template)
    points = path_points(head.mean, corners, weights)
    assert np.isin(corners[1], kept).all()
    np.testing.assert_array_equal(points[1, 0], head.points[1, 0])
    np.testing.assert_allclose(points[1, -1], head.points[1, -1], atol=5e-3)


def test_a_model_without_landmarks_gets_paths_of_one_vertex(head, default_template):
    corners, weights = generate_paths(
        head.mean, head.triangles, np.full(68, -1), default_template, num_control=4
    )
    assert corners.shape == weights.shape == (17, 4, 3)
    assert (corners == 0).all() and (weights == [1, 0, 0]).all()


def test_template_needs_all_landmarks():
    model = assets.load_model()
    with pytest.raises(ValueError, match=r"68 landmarks, found none at \[3\]"):
        path_template(model.replace(landmark_vertices=model.landmark_vertices.at[3].set(-1)))
