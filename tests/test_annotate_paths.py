"""Paths drawn in a real browser and on a picture: what is saved is what was drawn."""

import http.client
import json
import pathlib
import re

import browser
import commands
import jax
import numpy as np
import pytest
from browser import needs_browser
from PIL import Image, ImageDraw

from recon import assets, fit, landmarks, landmarks_io
from recon.contour_paths import drawn as drawn_lib
from recon.contour_paths import paths_io
from recon.contour_paths.editor import Editor, farthest_move
from recon.contour_paths.rule import path_points
from scripts.annotation.face_view import SIZE
from scripts.annotation.page import MEDIA_TYPES, PageSettings, annotation_page, page_file
from scripts.shell import head

ROOT = pathlib.Path(__file__).parents[1]
CLICKS = np.array([[700.0, 560], [640, 540], [560, 480]])  # on the cheek, seen from 40 degrees


@pytest.fixture(scope="module")
def model():
    return assets.load_model()


@pytest.fixture
def editor(model):
    return Editor(model)


def camera_at(model, yaw=40.0):
    return drawn_lib.view_camera(model, yaw, 0.0, SIZE)


def drawn(editor, clicks=CLICKS, path=13, mirror=True):
    for xy in clicks:
        editor.place(path, xy, camera_at(editor.model), mirror)
    return editor


def saved_points(model, path):
    """Where the control points [17, C, 3] of a file are."""
    return path_points(np.asarray(model.mean, np.float64), *paths_io.read_paths(path, model))


def test_clicks_place_points_in_order_from_the_landmark_on(editor, model):
    drawn(editor)
    placed = editor.skin.positions(editor.paths[13].placed)
    np.testing.assert_array_equal(placed[0], editor.skin.vertices[model.landmark_vertices[13]])
    xy, _ = drawn_lib.project_orthographic(camera_at(model), placed[1:])
    np.testing.assert_allclose(xy, CLICKS, atol=1e-6)
    corners, weights = editor.result()
    assert corners.shape == weights.shape == (17, 10, 3)
    line = editor.lines()[13].curve
    away = np.linalg.norm(line[:, None] - placed, axis=-1).min(0)
    assert away.max() < 1e-3  # the path that the fit follows runs through what was placed


def test_the_other_side_mirrors_and_undo_takes_both_back(editor):
    drawn(editor, CLICKS[:2])
    assert editor.changed() == [3, 13]
    here, there = (editor.skin.positions(editor.paths[i].placed) for i in (13, 3))
    np.testing.assert_allclose(there, here * (-1, 1, 1), atol=2e-4)
    editor.undo()
    assert [len(editor.paths[i].placed.corners) for i in (3, 13)] == [2, 2]
    editor.undo()
    editor.undo()  # there is nothing left
    assert editor.changed() == []


def test_one_side_alone_and_the_chin(editor):
    drawn(editor, mirror=False)
    assert editor.changed() == [13]
    editor.clear(8, mirror=True)
    assert editor.changed() == [8, 13] and len(editor.paths[8].placed.corners) == 1


def test_a_click_on_the_landmark_is_the_landmark(editor, model):
    landmark = editor.skin.positions(editor._start(13))[0]
    start, _ = drawn_lib.project_orthographic(camera_at(model), landmark)
    drawn(editor, [start + 5])
    assert len(editor.paths[13].placed.corners) == 1


def test_a_move_is_one_step_however_long(editor, model):
    drawn(editor)
    for shift in (2, 4, 6):
        editor.move(13, 2, CLICKS[1] + shift, camera_at(model), True, goes_on=shift > 2)
    xy, _ = drawn_lib.project_orthographic(camera_at(model), editor.lines()[13].points)
    np.testing.assert_allclose(xy[2], CLICKS[1] + 6, atol=1e-6)
    editor.undo()
    xy, _ = drawn_lib.project_orthographic(camera_at(model), editor.lines()[13].points)
    np.testing.assert_allclose(xy[1:], CLICKS, atol=1e-6)


def test_the_models_own_path_can_be_mended_and_comes_back(editor, model):
    own = editor.lines()[12].points
    xy, _ = drawn_lib.project_orthographic(camera_at(model), own)
    editor.move(12, 5, xy[5] + (0, 25), camera_at(model), False)
    moved = editor.lines()[12].points
    np.testing.assert_array_equal(np.delete(moved, 5, 0), np.delete(own, 5, 0))
    assert 2e-3 < farthest_move(model, *editor.result()) < 2e-2
    editor.reset(12, False)
    assert editor.changed() == []


def test_what_cannot_be_done_changes_nothing(editor, model):
    camera = camera_at(model)
    before = editor.paths
    with pytest.raises(ValueError, match="beside the face"):
        editor.place(13, (20.0, 20.0), camera, True)
    with pytest.raises(ValueError, match="starts at its landmark"):
        editor.move(13, 0, CLICKS[0], camera, True)
    with pytest.raises(ValueError, match="found number 10"):
        editor.move(13, 10, CLICKS[0], camera, True)
    assert editor.paths is before and not editor.history
    editor.clear(13, True)
    with pytest.raises(ValueError, match="Path 3 has 1 of at least 3 points"):
        editor.result()


def test_a_model_without_the_landmark_or_mirror_is_drawn_from_the_first_click_on(model):
    bare = model.replace(landmark_vertices=model.landmark_vertices.at[13].set(-1), mirror=None)
    editor = drawn(Editor(bare))
    assert editor.changed() == [13] and len(editor.paths[13].placed.corners) == 3
    editor.move(13, 0, CLICKS[0] + 4, camera_at(model), True)
    editor.result()


def test_paths_of_another_length_can_be_mended_and_reset(model):
    skin = drawn_lib.model_skin(model)
    long = [drawn_lib.even_path(skin, path, 14) for path in drawn_lib.model_paths(model)]
    editor = Editor(model, long)
    editor.reset(2, True)
    corners, weights = editor.result()
    assert corners.shape == (17, 14, 3)
    assert farthest_move(model, corners, weights) < 2e-3


def test_the_page_loads_nothing_from_elsewhere_and_no_name_ends_its_settings():
    settings = PageSettings("</script><b>", "a&b", 9, 40.0, 0.0, 13, 17, 3, True)
    page = annotation_page(settings)
    assert not any("http" in text for text in (page, *map(page_file, MEDIA_TYPES)))
    for name in MEDIA_TYPES:
        assert f'"{name}"' in page
    (block,) = re.findall(r'<script type="application/json" id="settings">(.*?)</script>', page)
    assert json.loads(block) == settings._asdict()


@pytest.mark.slow
@needs_browser
@pytest.mark.command
def test_a_path_drawn_in_the_browser_is_saved_and_fits(model, tmp_path):
    out, port = tmp_path / "paths.json", browser.unused_port()
    seconds = f"--seconds={3 * browser.SECONDS}"
    arguments = f"--out={out}", f"--port={port}", "--yaw=40", "--open=false", seconds
    server = commands.start("annotate_paths", *arguments)
    try:
        browser.wait_for_port(server, port)
        with browser.running() as chromium:
            with browser.page(chromium, f"http://localhost:{port}", 1200, 900) as page:
                _draw_on(page)
        _check_refusals(port)
    finally:
        server.kill()
        output, errors = server.communicate()
    assert f"wrote {out}: 2 of 17 paths changed" in output and not errors
    clicks = CLICKS.copy()
    clicks[1] += (10.0, -30.0)
    points, own = saved_points(model, out), path_points(model.mean, *model_arrays(model))
    curve = drawn_lib.spline_through(points[13], 50)
    xy, _ = drawn_lib.project_orthographic(camera_at(model), curve)
    # A pixel of the page is 1.1 of the picture; the path is divided evenly, not at the clicks.
    away = np.linalg.norm(clicks[:, None] - xy, axis=-1).min(1)
    assert away.max() < 4.0
    xy, _ = drawn_lib.project_orthographic(camera_at(model), points[13])
    np.testing.assert_allclose(xy[-1], clicks[-1], atol=1.2)
    np.testing.assert_allclose(points[3], points[13] * (-1, 1, 1), atol=5e-4)
    same = np.delete(np.arange(17), [3, 13])
    np.testing.assert_allclose(points[same], own[same], atol=1e-7)
    _check_fit(out)


def model_arrays(model):
    return model.path_vertices, model.path_weights


def _draw_on(page):
    """Chooses path 13, draws it, moves a point, and saves."""
    page.wait_for_function("paths.length === 17")
    assert page.title() == "Contour paths of default head"
    page.get_by_role("button", name="13", exact=True).click()
    box = page.locator("#lines").bounding_box()

    def place(xy):
        return box["x"] + xy[0] * box["width"] / SIZE, box["y"] + xy[1] * box["height"] / SIZE

    page.mouse.click(*place((15, 15)))
    page.wait_for_function("document.getElementById('note').textContent.includes('beside')")
    for count, xy in enumerate(CLICKS, start=2):
        page.mouse.click(*place(xy))
        page.wait_for_function(f"paths[13].points.length === {count} && paths[13].line.length")
    page.mouse.move(*place(CLICKS[1]))
    page.mouse.down()
    page.mouse.move(*place(CLICKS[1] + (10, -30)), steps=3)
    page.mouse.up()
    there = (CLICKS[1] + (10, -30)).tolist()
    page.wait_for_function(
        f"Math.hypot(paths[13].points[2][0] - {there[0]}, paths[13].points[2][1] - {there[1]}) < 2"
    )

    def is_joined(picture):
        """The first span of the path is drawn, half way between its ends."""
        x, y = np.array(place(CLICKS[0] - (25, 2))).astype(int)
        near = picture[y - 16 : y + 16, x - 4 : x + 4]
        return (np.abs(near - np.array([214, 36, 110]) / 255).max(-1) < 0.1).sum() > 8

    assert is_joined(browser.look_until(page, is_joined))
    page.get_by_role("button", name="Save").click()
    page.wait_for_function("document.getElementById('saved').textContent.includes('Saved')")


def _check_refusals(port):
    """Other pages of the browser may neither draw nor save."""
    body = json.dumps({"act": "save", "yaw": 0, "pitch": 0})
    for headers in ({"Content-Type": "text/plain"}, {"Host": "elsewhere.org"}):
        connection = http.client.HTTPConnection("localhost", port, timeout=commands.SECONDS)
        headers = {"Content-Type": "application/json"} | headers
        connection.request("POST", "/act", body, headers)
        assert connection.getresponse().status == 403
        connection.close()


def _check_fit(paths):
    """The fit runs on saved paths, and they are written down."""
    config = head.HeadConfig(paths=str(paths), num_identity=5, expression=False)
    model = head.load_model(config)
    np.testing.assert_array_equal(
        model.path_vertices, paths_io.read_paths(paths, assets.load_model())[0]
    )
    points = landmarks_io.read_pts(ROOT / "tests" / "data" / "astronaut.pts")
    seen = fit.observe(landmarks.landmarks_from_points(points), head.fit_config(config))
    face = jax.device_get(fit.fit_face(fit.prepare(model), seen, head.fit_config(config)))
    assert face.converged
    assert face.inner_error_px < 0.06 * face.eye_distance_px
    assert face.contour_error_px < 0.06 * face.eye_distance_px


def test_strokes_on_a_picture_become_paths(model, tmp_path):
    view, painted, out = (tmp_path / name for name in ("side.png", "drawn.jpg", "paths.json"))
    done = commands.run("annotate_paths", f"--view={view}", "--yaw=-40")
    assert "side.json: 10 of 17 landmarks to start at" in done.stdout, done.stderr
    with Image.open(view) as file:
        picture = file.convert("RGB")
    own = path_points(np.asarray(model.mean, np.float64), *model_arrays(model))
    camera = camera_at(model, -40.0)
    line, _ = drawn_lib.project_orthographic(camera, drawn_lib.spline_through(own[4]))
    bent = line + 12.0 * np.sin(np.linspace(0, np.pi, len(line)))[:, None] * (0.3, 1.0)
    ImageDraw.Draw(picture).line([tuple(xy) for xy in bent], fill=(0, 160, 60), width=5)
    picture.save(painted, quality=88)
    picture.close()
    arguments = f"--view={view}", f"--picture={painted}", f"--out={out}"
    done = commands.run("annotate_paths", *arguments)
    assert f"wrote {out}: 1 of 17 paths changed" in done.stdout, done.stderr
    points = saved_points(model, out)
    xy, _ = drawn_lib.project_orthographic(camera, points[4])
    dense, _ = drawn_lib.project_orthographic(camera, drawn_lib.spline_through(points[4], 30))
    assert np.linalg.norm(xy[:, None] - bent, axis=-1).min(1).max() < 2.0
    assert np.linalg.norm(bent[:, None] - dense, axis=-1).min(1).max() < 4.0
    np.testing.assert_allclose(np.delete(points, 4, 0), np.delete(own, 4, 0), atol=1e-7)


def test_a_picture_of_another_model_is_refused_in_one_line(tmp_path):
    (tmp_path / "drawn.json").write_text('{"num_vertices": 5, "model": "other"}')
    Image.new("RGB", (8, 8)).save(tmp_path / "drawn.png")
    files = f"--picture={tmp_path / 'drawn.png'}", f"--out={tmp_path / 'paths.json'}"
    done = commands.run("annotate_paths", *files)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "model of 4070 vertices, found 5 ('other')" in done.stderr
    assert "wrote" not in done.stdout
