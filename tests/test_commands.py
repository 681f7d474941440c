"""Commands as their users meet them: exit status, the one line on stderr, what lies in --out."""

import functools
import json
import pathlib
import re

import commands
import numpy as np
import pytest
from absl import flags
from PIL import Image
from skimage import data

from recon import fit
from recon.bind import BindConfig
from recon.landmarks_io import read_pts, write_pts
from render.splat_io import read_splats

ROOT = commands.ROOT

# Points of the astronaut photo, from the detector.
ASTRONAUT_POINTS = ROOT / "tests" / "data" / "astronaut.pts"


reconstruct = commands.load("reconstruct")
run = functools.partial(commands.run, "reconstruct")


BAD_INPUT = {  # name: arguments, exit status, what the line says
    "text named .jpg": ("--photo={inputs}/text.jpg", 2, "expected an image, found {inputs}"),
    "no face": ("--photo={inputs}/plain.png", 1, "no face found in the 320 x 240 photo"),
    "fifth face": ("--photo={inputs}/face.png --face=5", 2, "expected a face from 0 to "),
    "truncated model": ("--photo={inputs}/face.png --model={inputs}/cut.npz", 2, "cut.npz"),
    "NaN landmarks": ("--landmarks={inputs}/nan.pts", 2, "nan) at 12"),
    "67 points": ("--landmarks={inputs}/67.pts", 2, "expected 68 points, found 67"),
    "all of several missing": ("--photo={inputs}/a.jpg,{inputs}/b.jpg", 2, "found nothing at"),
    "text among none": (
        "--photo={inputs}/text.jpg,{inputs}/text2.jpg",
        2,
        "expected 2 heads, found 0; without one: {inputs}/text.jpg, {inputs}/text2.jpg",
    ),
    "empty pattern": ("--photo={inputs}/*.gif", 2, "expected files like {inputs}/*.gif for --ph"),
    "a shell's pattern": (
        "--photo {inputs}/face.png {inputs}/plain.png",
        2,
        "found {inputs}/plain.png: several files go into one flag",
    ),
    "no such --face": ("--photo={inputs}/face.png --face=two", 2, "expected --face=list or a num"),
    "unknown method": ("--photo={inputs}/face.png --method=magic", 2, "<fixed|inner|"),
    "unknown flag": ("--foto={inputs}/face.png", 2, "Unknown command line flag 'foto'"),
    "blocked --out": (
        "--photo={inputs}/face.png --out={inputs}/text.jpg/deep/er",
        2,
        "expected a folder in --out, found a file at {inputs}/text.jpg",
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("text.jpg", "text2.jpg"):
        (folder / name).write_text("This is not a picture.\n")
    slope = np.linspace(0, 255, 320).astype(np.uint8)
    Image.fromarray(np.broadcast_to(slope[None, :, None], (240, 320, 3)).copy()).save(
        folder / "plain.png"
    )
    Image.fromarray(data.astronaut()).save(folder / "face.png")
    model = (ROOT / "recon" / "data" / "default_head.npz").read_bytes()
    (folder / "cut.npz").write_bytes(model[: len(model) // 2])
    points = read_pts(ASTRONAUT_POINTS)
    write_pts(folder / "67.pts", points[:67])
    points[12, 1] = np.nan
    write_pts(folder / "nan.pts", points)
    return folder


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_takes_one_line(inputs, tmp_path, case):
    arguments, status, message = BAD_INPUT[case]
    out = tmp_path / "out"
    done = run(f"--out={out}", *arguments.format(inputs=inputs).split())
    assert done.returncode == status, done.stderr
    *warnings, line = done.stderr.splitlines()
    assert line.startswith("reconstruct: ") and message.format(inputs=inputs) in line
    assert len(warnings) == (2 if case == "text among none" else 0), done.stderr
    assert done.stderr.startswith("reconstruct: ")
    assert not out.exists()


def test_the_faces_of_a_photo_are_listed_and_numbered(inputs, tmp_path):
    done = run(f"--photo={inputs / 'face.png'}", "--face=list", f"--out={tmp_path / 'who'}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^--face=0: score 1\.\d+, \d+ px wide, around", done.stdout, re.MULTILINE)
    picture = np.asarray(Image.open(tmp_path / "who" / "faces.png"))
    assert picture.shape == (512, 512, 3)
    changed = (picture != data.astronaut()).any(-1)
    assert changed[80:180, 170:280].sum() > 400 and changed.mean() < 0.02
    assert done.stdout.count("perhaps no face") == 1  # the patch on her suit


@pytest.mark.slow
@pytest.mark.compiles
def test_points_of_no_face_end_the_work(tmp_path):
    scattered = np.random.default_rng(0).uniform(100, 300, (68, 2))
    scattered[[36, 45, 8]] = [[120, 150], [280, 150], [200, 290]]
    write_pts(tmp_path / "some.pts", scattered)
    done = run(f"--landmarks={tmp_path / 'some.pts'}", "--method=inner", f"--out={tmp_path / 'o'}")
    assert done.returncode == 1, done.stderr
    assert "of the eye distance: they are not those of a face" in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.command
@pytest.mark.parametrize("name", commands.NAMES)
def test_each_command_starts_alone_and_tells_how_it_is_used(name, tmp_path):
    done = commands.run_alone(name, "--help", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    command = commands.load(name)
    assert done.stdout.startswith(command.__doc__.strip())
    own = flags.FLAGS.flags_by_module_dict()[command.__name__]
    assert {flag.name for flag in own} >= {"out"}
    for flag in own:
        assert re.search(rf"\n  --(\[no\])?{flag.name}:", done.stdout), flag.name


def test_the_manual_names_every_method():
    assert all(f"\n  {method} " in reconstruct.__doc__ for method in fit.METHODS)


@pytest.mark.command
@pytest.mark.slow
def test_a_head_from_points_alone(tmp_path):
    points = read_pts(ASTRONAUT_POINTS)
    points[[0, 40]] = np.nan  # hidden
    write_pts(tmp_path / "me.pts", points)
    arguments = ("--landmarks=me.pts", "--method=inner", "--frames=0")
    done = commands.run_alone("reconstruct", *arguments, "--out=head", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("wrote head: ")
    assert "2 of 68 points are hidden and left out: 0, 40\n" in done.stdout
    written = {path.name for path in (tmp_path / "head").iterdir()}
    assert written >= {"head.obj", "head.ply", "head.glb", "overlay.png", "config.json"}
    assert "uncertainty.png" in written
    assert not any(name.startswith(".") for name in written)
    splats = read_splats(tmp_path / "head" / "splats.ply")
    assert len(splats.means) == BindConfig.max_gaussians
    height = np.ptp(np.asarray(splats.means)[:, 1])
    assert 0.15 < height < 0.35, "metres"
    report = json.loads((tmp_path / "head" / "fit.json").read_text())
    assert set(report) == {
        *("method", "model", "identity", "expression", "rotation", "translation_px"),
        *("scale_px_per_m", "inner_error_px", "contour_error_px", "eye_distance_px"),
        *("iterations", "converged", "seconds"),
        *("identity_std", "rotation_std_deg", "translation_std_px", "vertex_std_mm", "hair"),
    }
    assert report["method"] == "inner" and report["converged"]
    assert report["inner_error_px"] < 0.03 * report["eye_distance_px"]
    assert all(0.0 < std < 1.0 for std in report["identity_std"])  # the prior's is 1
    assert all(0.1 < std < 10.0 for std in report["rotation_std_deg"])
    assert len(report["translation_std_px"]) == 2 and 0.5 < report["vertex_std_mm"] < 20.0
    assert np.shape(report["rotation"]) == (3, 3) and np.shape(report["translation_px"]) == (2,)
    np.testing.assert_allclose(
        np.array(report["rotation"]) @ np.transpose(report["rotation"]), np.eye(3), atol=1e-5
    )
    np.testing.assert_allclose(read_pts(tmp_path / "head" / "landmarks.pts"), points, atol=1e-5)


@pytest.mark.slow
def test_photos_of_one_person_share_its_identity(inputs, tmp_path):
    photo = Image.open(inputs / "face.png")
    photo.rotate(8, Image.Resampling.BICUBIC).save(tmp_path / "tilted.png")
    photos = f"{inputs / 'face.png'},{tmp_path / 'tilted.png'},{inputs / 'plain.png'}"
    done = run(f"--photo={photos}", "--same_person", "--frames=0", f"--out={tmp_path}")
    assert done.returncode == 1, done.stderr
    warning, last = done.stderr.splitlines()
    assert "plain.png: no face found in the 320 x 240 photo" in warning
    assert last.startswith("reconstruct: expected 3 heads, found 2; without one: ")
    assert not (tmp_path / "plain").exists()
    one, other = (
        json.loads((tmp_path / name / "fit.json").read_text()) for name in ("face", "tilted")
    )
    assert one["identity"] == other["identity"] and one["identity_std"] == other["identity_std"]
    assert one["expression"] != other["expression"] and one["rotation"] != other["rotation"]


@pytest.mark.slow
def test_every_link_of_the_demo_leads_somewhere(tmp_path):
    done = commands.run("demo", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "index.html").read_text()
    links = re.findall(r'(?:src|href|poster)="([^"]+)"', page)
    assert len(links) > 15
    assert all((tmp_path / link).is_file() for link in links)


def test_several_photos_get_a_folder_each():
    out = pathlib.Path("out")
    tasks = reconstruct.list_tasks(["a/x.jpg", "b/y.png"], ["1.pts", "2.pts"], out)
    assert tasks == [("a/x.jpg", "1.pts", out / "x"), ("b/y.png", "2.pts", out / "y")]
    assert reconstruct.list_tasks([], ["1.pts"], out) == [(None, "1.pts", out)]


@pytest.mark.parametrize(
    "photos, points, message",
    [
        ([], [], "expected --photo or --landmarks, found neither"),
        (["a.jpg", "b.jpg"], ["a.pts"], "expected as many --landmarks as photos, found 1 for 2"),
        (["x/a.jpg", "y/a.jpg"], [], "expected photos of different names, found 'a' twice"),
    ],
)
def test_lists_that_do_not_pair_are_refused(photos, points, message):
    with pytest.raises(ValueError, match=message):
        reconstruct.list_tasks(photos, points, pathlib.Path("out"))
