"""The command that measures the methods: its files, its going on, its search, its bad input."""

import json
import math

import commands
import numpy as np
import pytest
import skimage.data
from PIL import Image

from recon import fit
from recon.assets import load_model
from recon.evaluation import appearance, experiments_io
from recon.evaluation.experiments import Angles
from recon.evaluation.protocol import Protocol
from render import mesh_io
from render.mesh import Mesh, apply
from scripts.evaluation import flag_texts, tuning

pytestmark = pytest.mark.compiles

FEW = ("--faces=2", "--yaw=-20:20:20", "--components=5", "--methods=mean,fixed,inner")


def run(*arguments, status=0):
    done = commands.run("evaluate_fit", *arguments)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "out"
    return folder, run(*FEW, "--etas=0.1,10", f"--out={folder}")


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_the_report_sums_up_what_the_files_hold(evaluated):
    folder, output = evaluated
    report = report_of(folder)
    assert "rotation error" in output.splitlines()[-1]
    files = sorted((folder / "results" / "inner").glob("*.npz"))
    rotation = np.stack([np.load(file)["rotation_deg"] for file in files])
    assert rotation.shape == (2, 3) and report["num_views"] == 6 and report["num_missed"] == 0
    inner = report["methods"]["inner"]
    np.testing.assert_allclose(inner["rotation_deg"]["mean"], rotation.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        inner["per_angle"]["yaw"]["-20"]["rotation_deg"]["mean"], rotation[:, 0].mean(), rtol=1e-5
    )
    assert report["methods"]["mean"]["alpha_unexplained"]["mean"] == pytest.approx(1.0)
    assert inner["alpha_unexplained"]["mean"] < 1.0
    pair = report["ratios"]["inner/fixed"]["rotation_deg"]
    fixed = report["methods"]["fixed"]["rotation_deg"]["mean"]
    assert pair["ratio"] == pytest.approx(rotation.mean() / fixed, rel=1e-4)
    assert "| inner |" in (folder / "report.md").read_text()


def test_an_experiment_file_is_enough_to_fit_and_score_it(evaluated):
    folder, _ = evaluated
    one = experiments_io.read_experiment(folder / "experiments" / "face_000.npz")
    assert one.vertices.shape[1] == 3 and len(one.identity) == 5
    np.testing.assert_array_equal(one.angles_deg[:, 0], [-20.0, 0.0, 20.0])
    np.testing.assert_allclose(one.scale, 4000.0)
    inner = one.vertices[np.asarray(load_model("default").landmark_vertices)[17:]]
    turned = inner @ np.swapaxes(one.rotation, 1, 2)
    pixels = 4000.0 * turned[..., :2] * [1, -1] + one.translation[:, None]
    off = np.linalg.norm(one.xy[:, 17:] - pixels, axis=-1)
    assert 2.5 < off.mean() < 5.0  # 3 pixels each way


def test_the_figures_are_drawn(evaluated):
    folder, _ = evaluated
    for name in ("by_angle.png", "boxes.png", "by_eta.png", "overfitting.png"):
        picture = np.asarray(Image.open(folder / name).convert("RGB"))
        assert picture.shape[1] > 800 and len(np.unique(picture[..., 0])) > 50, name


@pytest.mark.slow
def test_it_goes_on_where_it_was(evaluated):
    folder, _ = evaluated
    before = report_of(folder)
    files = sorted(folder.glob("results/*/*.npz"))
    lost = folder / "results" / "inner" / "face_001.npz"
    lost.unlink()
    written = {file: file.stat().st_mtime_ns for file in files if file != lost}
    run(*FEW, "--etas=0.1,10", f"--out={folder}")
    assert {file: file.stat().st_mtime_ns for file in written} == written
    after = report_of(folder)
    for metric in ("rotation_deg", "vertex_mm"):
        found, expected = (r["methods"]["inner"][metric]["mean"] for r in (after, before))
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_other_settings_want_another_folder(evaluated):
    folder, _ = evaluated
    errors = run(*FEW, "--noise_deg=4", f"--out={folder}", status=2)
    assert len(errors.splitlines()) == 1 and "name another --out to keep both" in errors


@pytest.mark.parametrize(
    "text, expected",
    [
        ("-30:30:10", Angles(tuple(range(-30, 31, 10)))),
        ("15", Angles((15.0,))),
        ("-40,0,40", Angles((-40.0, 0.0, 40.0))),
        ("-10:10", Angles((-10.0, 10.0), is_range=True)),
        ("0:1:0.3", Angles((0.0, 0.3, 0.6, 0.9))),
    ],
)
def test_angles_are_read(text, expected):
    found = flag_texts.read_angles(text, "--yaw")
    assert found.is_range == expected.is_range
    np.testing.assert_allclose(found.values, expected.values, atol=1e-9)


@pytest.mark.parametrize("text", ["", "a", "30:-30:10", "0:10:0", "0:1:2:3", "-200:200:10", "nan"])
def test_what_is_no_angle_is_refused(text):
    with pytest.raises(ValueError, match=r"expected .*--yaw"):
        flag_texts.read_angles(text, "--yaw")


@pytest.mark.parametrize(
    "read, text, message",
    [
        (flag_texts.read_noise, ["1", "2", "3"], "expected --noise_px of one or two numbers"),
        (flag_texts.read_noise, ["-1"], "expected --noise_px of one or two numbers, zero or more"),
        (flag_texts.read_components, "0", "expected --components of 1 and more, or all"),
        (flag_texts.read_components, "2.5", "expected --components of 1 and more, or all"),
        (flag_texts.read_components, "ten", "expected a number in --components, found 'ten'"),
        (flag_texts.read_etas, ["1", "-2"], "expected --etas of zero and more, found -2"),
        (flag_texts.find_meshes, ["none/*.ply"], r"found nothing at none/\*\.ply"),
        (lambda held_out: Protocol(held_out=held_out), 1, "no mode is left"),
    ],
)
def test_flags_that_say_nothing_are_refused(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


def test_flags_are_read():
    assert flag_texts.read_noise(["3"]) == (3.0, 3.0)
    assert flag_texts.read_noise(["8", "10"]) == (8.0, 10.0)
    assert flag_texts.read_components("all") is None and flag_texts.read_components("50") == 50
    assert flag_texts.find_meshes(["model"]) == ()


def test_unknown_methods_are_refused_before_any_work(tmp_path):
    errors = run("--methods=fixed,magic", f"--out={tmp_path / 'out'}", status=2)
    assert len(errors.splitlines()) == 1 and "found magic" in errors
    assert not (tmp_path / "out").exists()


def test_a_scan_of_other_vertices_wants_dlib(tmp_path):
    triangles = np.array([[0, 1, 2]], np.int32)
    mesh_io.write_ply(tmp_path / "scan.ply", Mesh(0.2 * np.eye(3, dtype=np.float32), triangles))
    errors = run(f"--truth={tmp_path / '*.ply'}", f"--out={tmp_path / 'out'}", status=2)
    assert len(errors.splitlines()) == 1 and "or --detector=dlib, found 3 vertices" in errors


def test_the_search_finds_weights_that_are_far_off():
    wanted = {"contour_weight": 3.0, "identity_weight": 0.4, "normal_sd": 0.2}

    def objective(config):
        return math.exp(sum(math.log(getattr(config, name) / w) ** 2 for name, w in wanted.items()))

    found = tuning.search(objective, fit.METHODS["robust"])
    for name, value in wanted.items():
        assert abs(math.log(getattr(found, name) / value)) < 0.5 * math.log(2.0) + 1e-6, name
    for name in {*tuning.WEIGHTS} - {*wanted}:
        assert getattr(found, name) == getattr(fit.METHODS["robust"], name)


@pytest.mark.slow
def test_scans_are_faces_too(tmp_path):
    """The model's own faces as meshes, in millimetres and moved, score as themselves."""
    arguments = (*FEW, "--detector=exact")
    run(*arguments, f"--out={tmp_path / 'faces'}")
    paths = sorted((tmp_path / "faces" / "experiments").glob("*.npz"))
    triangles = np.asarray(load_model("default").triangles)
    for path in paths:
        vertices = np.load(path)["vertices"]
        mesh = Mesh(1e3 * vertices + np.float32([10, 0, 5]), triangles)
        mesh_io.write_ply(tmp_path / f"{path.stem}.ply", mesh)
    run(*arguments[1:], f"--truth={tmp_path / '*.ply'}", f"--out={tmp_path / 'scans'}")
    faces, scans = (report_of(tmp_path / name)["methods"]["inner"] for name in ("faces", "scans"))
    assert scans["vertex_mm"]["mean"] < 1.5 * faces["vertex_mm"]["mean"] + 0.2
    assert scans["rotation_deg"]["mean"] < 3.0
    assert scans["alpha_error"] is None
    assert scans["scan_median_mm"]["mean"] < scans["vertex_mm"]["mean"]


@pytest.mark.slow
def test_dlib_looks_at_scans_of_other_vertices(tmp_path):
    model = load_model("default")
    look = appearance.photo_appearance(model, skimage.data.astronaut() / 255.0)
    vertices = 1e3 * np.asarray(apply(look.drawn, model.mean))  # millimetres
    colors = np.asarray(look.albedo)
    triangles = np.asarray(look.drawn.triangles)
    assert len(vertices) != len(model.mean)
    mesh_io.write_ply(tmp_path / "painted.ply", Mesh(vertices, triangles, colors=colors))
    scan = f"--truth={tmp_path / 'painted.ply'}"
    run("--detector=dlib", scan, "--yaw=-15,15", "--methods=inner", f"--out={tmp_path / 'out'}")
    report = report_of(tmp_path / "out")
    inner = report["methods"]["inner"]
    assert report["num_missed"] == 0 and inner["alpha_error"] is None
    assert inner["rotation_deg"]["mean"] < 6.0 and inner["scan_median_mm"]["mean"] < 2.0
    assert inner["vertex_mm"] is None
    assert (tmp_path / "out" / "cumulative.png").exists()


@pytest.mark.slow
def test_the_real_detector_finds_rendered_faces(tmp_path):
    run(*FEW, "--detector=dlib", f"--out={tmp_path / 'out'}")
    report = report_of(tmp_path / "out")
    assert report["num_missed"] == 0
    assert report["methods"]["inner"]["rotation_deg"]["mean"] < 8.0


@pytest.mark.slow
def test_the_tuning_writes_what_it_found(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_MODES", (5,))
    protocol = Protocol(num_faces=2, yaw=Angles((-20.0, 20.0)))
    tuning.tune(tmp_path, protocol, ["default"], "inner")
    report = json.loads((tmp_path / "tune.json").read_text())
    assert report["objective"] <= 1.0 and set(report["best"]) == set(tuning.WEIGHTS)
    assert (tmp_path / "eta.png").exists() and len(report["eta"]) == 3
