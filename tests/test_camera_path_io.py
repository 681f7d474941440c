"""Flights that viewers save are followed."""

import json

import jax
import numpy as np
import pytest

from render.camera import perspective_camera
from render.capture_io import read_cameras, read_capture


def flight(cameras, **changes):
    """The content of a camera_path.json of cameras whose fields of view are over the height."""
    path = []
    for camera in cameras:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = camera.rotation, camera.translation
        pose = np.linalg.inv(pose) @ np.diag([1, -1, -1, 1])
        degrees = 2 * np.degrees(np.arctan(0.5 * camera.height / float(camera.focal[1])))
        path.append({"camera_to_world": pose.ravel().tolist(), "fov": degrees, "aspect": 4 / 3})
    size = {"render_width": 64.0, "render_height": 48.0}
    return (
        {"camera_type": "perspective", "fps": 24, "keyframes": [], "camera_path": path}
        | size
        | changes
    )


def cameras():
    return [
        perspective_camera((np.sin(a), 0.3, 3 * np.cos(a)), (0, 0.1, 0), 64, 48, 30 + 20 * a)
        for a in (0.0, 0.5, 1.0)
    ]


def write(folder, **changes):
    (folder / "camera_path.json").write_text(json.dumps(flight(cameras(), **changes)))
    return folder / "camera_path.json"


def test_a_flight_comes_back(tmp_path):
    path = read_cameras(write(tmp_path))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), path.cameras, cameras())
    assert path.names == ["camera 0", "camera 1", "camera 2"] and not path.left_out


def test_without_a_size_the_one_asked_for_is_taken(tmp_path):
    file = write(tmp_path, render_width=None)
    found = read_cameras(file, (128, 96)).cameras
    for camera, expected in zip(found, cameras(), strict=True):
        np.testing.assert_allclose(camera.focal, 2 * expected.focal, rtol=1e-6)
    with pytest.raises(ValueError, match="expected w and h of camera 0, found none"):
        read_cameras(file)


def test_a_camera_without_a_pose_is_left_out(tmp_path):
    path = flight(cameras())["camera_path"]
    path[1]["camera_to_world"] = None
    path[2]["fov"] = None
    found = read_cameras(write(tmp_path, camera_path=[*path, 3]))
    assert found.names == ["camera 0"] and [name for name, _ in found.left_out] == [
        "camera 1",
        "camera 2",
        "camera 3",
    ]
    assert "between 0 and 180 degrees, found None" in found.left_out[1].reason


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"camera_type": "equirectangular"}, "perspective cameras, found equirectangular"),
        ({"camera_path": []}, "at least one camera in camera_path, found none"),
        ({"camera_path": [{}]}, "expected cameras in .*, found none; camera 0: expected a fov"),
        ({"render_width": "wide"}, "expected render_width and render_height, found"),
    ],
)
def test_a_broken_flight_is_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        read_cameras(write(tmp_path, **changes))
    assert "\n" not in str(error.value)


def test_a_flight_is_no_capture(tmp_path):
    with pytest.raises(ValueError, match="a capture, found a camera path without photos"):
        read_capture(write(tmp_path))
