"""Paths drawn by hand: pixels go back to the skin they show, and strokes become the paths."""

import io

import numpy as np
import pytest
import trimesh
from PIL import Image, ImageDraw

from recon import assets
from recon.contour_paths import drawn as drawn_lib
from recon.contour_paths import strokes
from recon.contour_paths.drawn import (
    Skin,
    SkinPoints,
    even_path,
    inverse_project,
    project_orthographic,
)
from render.camera import perspective_camera
from render.rasterize import rasterize_reference

SIZE = 700
GREY = 0.6
RED = (214, 40, 40)


@pytest.fixture(scope="module")
def model():
    return assets.load_model()


@pytest.fixture(scope="module")
def skin(model):
    return drawn_lib.model_skin(model)


def camera_at(model, yaw=40.0, pitch=0.0, size=SIZE):
    return drawn_lib.view_camera(model, yaw, pitch, size)


def curve_of(points):
    return drawn_lib.spline_through(points, 20)


@pytest.mark.parametrize("yaw, pitch", [(0, 0), (40, -10), (-75, 30)])
def test_a_pixel_goes_back_to_the_point_it_shows(model, skin, yaw, pitch):
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(3), 200)
    known = SkinPoints(skin.triangles[rng.integers(len(skin.triangles), size=200)], weights)
    camera = camera_at(model, yaw, pitch)
    xy, depth = project_orthographic(camera, skin.positions(known))
    found = inverse_project(camera, skin, xy)
    found_xy, found_depth = project_orthographic(camera, skin.positions(found))
    np.testing.assert_allclose(found_xy, xy, atol=1e-7)
    assert (found_depth <= depth + 1e-9).all()  # nothing is seen through the skin
    is_same = (found.corners == known.corners).all(1)
    assert is_same.mean() > 0.2
    error = skin.positions(found)[is_same] - skin.positions(known)[is_same]
    assert np.abs(error).max() < 1e-6


def test_it_sees_what_the_rasterizer_draws(model, skin):
    camera = camera_at(model, size=32)
    drawn = rasterize_reference(camera, model.mean, model.triangles)
    triangle, depth = np.asarray(drawn.triangle), np.asarray(drawn.depth)
    row, column = np.indices(triangle.shape).reshape(2, -1)
    found = inverse_project(camera, skin, np.stack([column, row], -1) + 0.5)
    is_hit = found.corners[:, 0] >= 0
    assert np.mean(is_hit == (triangle.ravel() >= 0)) > 0.999
    both = is_hit & (triangle.ravel() >= 0)
    places = skin.positions(SkinPoints(*(f[both] for f in found)))
    _, found_depth = project_orthographic(camera, places)
    np.testing.assert_allclose(found_depth, depth.ravel()[both], atol=2e-5)
    assert 0.3 < is_hit.mean() < 0.9


def test_landmarks_are_in_the_picture_from_all_angles(model, skin):
    for yaw, pitch in [(0, 0), (90, 0), (-90, 60), (30, -60)]:
        places = skin.vertices[model.landmark_vertices]
        xy, _ = project_orthographic(camera_at(model, yaw, pitch), places)
        assert xy.min() > 0 and xy.max() < SIZE


def test_a_perspective_view_is_refused(skin):
    camera = perspective_camera((0, 0, 1), (0, 0, 0), 9, 9)
    with pytest.raises(ValueError, match="expected an orthographic camera"):
        inverse_project(camera, skin, np.zeros((1, 2)))


def test_the_nearest_point_agrees_with_trimesh():
    rng = np.random.default_rng(1)
    corners, points = rng.normal(size=(30, 3, 3)), rng.normal(size=(20, 3))
    scattered = Skin(corners.reshape(-1, 3), np.arange(90).reshape(-1, 3))
    found = scattered.positions(drawn_lib.nearest_on_skin(scattered, points))
    for point, ours in zip(points, found, strict=True):
        each = trimesh.triangles.closest_point(corners, np.tile(point, (30, 1)))
        nearest = each[np.linalg.norm(each - point, axis=1).argmin()]
        np.testing.assert_allclose(ours, nearest, atol=1e-9)


def test_skin_that_looks_the_other_way_is_not_the_nearest():
    sheet = np.array([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    two = Skin(np.concatenate([sheet, sheet - [0, 0, 0.3]]), np.array([[0, 2, 1], [3, 4, 5]]))
    point = np.array([[0.0, 0.0, -0.1]])
    assert two.positions(drawn_lib.nearest_on_skin(two, point))[0, 2] == 0.0
    found = drawn_lib.nearest_on_skin(two, point, np.array([[0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(two.positions(found), [[0, 0, -0.3]], atol=1e-12)


def test_a_path_of_few_points_becomes_the_even_path_on_the_skin(model, skin):
    triangles = {tuple(sorted(t)) for t in skin.triangles.tolist()}
    for own in drawn_lib.model_paths(model)[3:16:4]:
        placed = SkinPoints(own.corners[::3], own.weights[::3])
        path = even_path(skin, placed, 10)
        points, own_points = skin.positions(path), skin.positions(own)
        np.testing.assert_allclose(points[[0, -1]], own_points[[0, -1]], atol=1e-12)
        assert np.linalg.norm(points - own_points, axis=1).max() < 2e-3
        assert all(tuple(sorted(c)) in triangles for c in path.corners[1:-1].tolist())
        assert path.weights.min() >= 0.0
        np.testing.assert_allclose(path.weights.sum(1), 1.0, atol=1e-12)
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        assert np.ptp(steps) < 0.05 * steps.mean()


def test_points_at_one_place_count_once(model, skin):
    own = drawn_lib.model_paths(model)[12]
    twice = drawn_lib.join([own, SkinPoints(own.corners[-1:], own.weights[-1:])])
    np.testing.assert_allclose(even_path(skin, twice, 7).weights, even_path(skin, own, 7).weights)
    with pytest.raises(ValueError, match="expected 3 points or more on a path, found 2"):
        even_path(skin, SkinPoints(twice.corners[-3:], twice.weights[-3:]), 7)


def test_the_mirrored_path_lies_on_the_other_side(model, skin):
    own = drawn_lib.model_paths(model)[12]
    other = drawn_lib.mirrored(skin, own, np.asarray(model.mirror))
    expected = skin.positions(own) * (-1, 1, 1)
    np.testing.assert_allclose(skin.positions(other), expected, atol=2e-4)
    assert other.corners[0].tolist() == [int(model.landmark_vertices[4])] * 3


def painted(lines, width=4, size=SIZE, quality=None):
    """A grey picture with smooth-edged strokes along `lines`, perhaps through a JPEG."""
    large = Image.new("RGB", (4 * size, 4 * size), (int(255 * GREY),) * 3)
    brush = ImageDraw.Draw(large)
    for line in lines:
        brush.line([tuple(4 * xy) for xy in line], fill=RED, width=4 * width, joint="curve")
    image = large.resize((size, size), Image.Resampling.BOX)
    if quality:
        content = io.BytesIO()
        image.save(content, "jpeg", quality=quality)
        image = Image.open(content).convert("RGB")
    return np.asarray(image, np.float32) / 255


def clean(size=SIZE):
    return np.full((size, size, 3), int(255 * GREY) / 255, np.float32)


def read(model, skin, camera, picture):
    return strokes.paths_from_strokes(
        strokes.find_strokes(clean(), picture),
        camera,
        skin,
        np.asarray(model.landmark_vertices),
        10,
    )


def own_lines(model, skin, camera, numbers):
    paths = drawn_lib.model_paths(model)
    return [project_orthographic(camera, curve_of(skin.positions(paths[i])))[0] for i in numbers]


@pytest.mark.parametrize(
    "yaw, numbers, width, quality",
    [(40, (9, 11, 13, 15), 4, None), (-40, (1, 3, 5), 3, 85), (50, (12, 16), 7, 60)],
)
def test_strokes_along_paths_give_the_paths_back(model, skin, yaw, numbers, width, quality):
    camera = camera_at(model, yaw)
    lines = own_lines(model, skin, camera, numbers)
    either_way = [line[::-1] if i % 2 else line for i, line in enumerate(lines)]
    found = read(model, skin, camera, painted(either_way, width, quality=quality))
    assert sorted(found) == list(numbers)
    for number, line in zip(numbers, lines, strict=True):
        xy, _ = project_orthographic(camera, skin.positions(found[number]))
        away = np.linalg.norm(xy[:, None] - line, axis=-1).min(1)
        assert away.max() < 2.0
        np.testing.assert_allclose(xy[[0, -1]], line[[0, -1]], atol=2.0)
        assert found[number].corners[0].tolist() == [int(model.landmark_vertices[number])] * 3


def test_a_stroke_may_start_a_little_beside_the_face(model, skin):
    camera = camera_at(model, 0)
    (line,) = own_lines(model, skin, camera, [3])
    outside = line[0] + np.array([-14.0, 4.0])
    assert inverse_project(camera, skin, outside).corners[0, 0] < 0
    found = read(model, skin, camera, painted([np.concatenate([[outside], line])]))
    assert sorted(found) == [3]


def refused(model, skin, lines):
    with pytest.raises(ValueError) as caught:
        read(model, skin, camera_at(model), painted(lines))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_strokes_that_say_nothing_clear_are_refused(model, skin):
    camera = camera_at(model)
    (line,) = own_lines(model, skin, camera, [13])
    start = line[0]
    assert "found no change" in refused(model, skin, [])
    second = start + np.array([[3, 16], [-60, 70]])
    assert "one stroke at landmark 13, found two" in refused(model, skin, [line, second])
    assert "start at a jaw landmark" in refused(model, skin, [line[60:]])
    away = np.concatenate([line, [[20.0, line[-1, 1]]]])
    assert "at landmark 13 leaving it at" in refused(model, skin, [away])
    branch = np.array([line[90], line[90] + [0, 120]])
    assert "do not branch" in refused(model, skin, [line, branch])
    nose, _ = project_orthographic(camera, skin.vertices[int(model.landmark_vertices[30])])
    beyond = nose - [30, 12]
    assert "leaping" in refused(model, skin, [np.array([*line, nose, beyond])])
    dashes = [np.array([[100, y], [400, y]]) for y in range(20, 560, 30)]
    assert "expected up to 17 strokes, found 18" in refused(model, skin, dashes)
    with pytest.raises(ValueError, match="of 700 x 700 pixels, like the view, found 350 x 350"):
        strokes.find_strokes(clean(), painted([], size=350))


def test_specks_and_the_noise_of_a_jpeg_are_no_strokes(model, skin):
    camera = camera_at(model)
    lines = own_lines(model, skin, camera, [13])
    picture = painted(lines, quality=50)
    picture += np.random.default_rng(0).normal(0, 0.02, picture.shape).astype(np.float32)
    picture[20:22, 30:32] = 0.0
    assert len(strokes.find_strokes(clean(), picture)) == 1


def test_hidden_landmarks_start_no_stroke(model, skin):
    seen = strokes.seen_landmarks(camera_at(model, 50), skin, np.asarray(model.landmark_vertices))
    is_seen = np.isfinite(seen[:, 0])
    assert is_seen[9:].all() and not is_seen[:5].any()
