"""The commands that invert pictures, find directions and train encoders, on a tiny generator."""

import dataclasses
import json

import commands
import jax
import numpy as np
import pytest
from skimage import data
from small_people import TINY_GENERATOR, people_generator
from test_lpips import random_params

from models.perception import features_io
from models.stylegan.alignment import align_to_frame, displacement
from models.stylegan.config import GeneratorConfig
from models.stylegan.directions_io import read_directions, read_inversion
from models.stylegan.generator import init_generator
from models.stylegan.inversion import InversionConfig
from models.stylegan.stylegan_io import read_generator, write_generator
from recon.landmarks_io import read_pts
from recon.looks.latent_people import LATENT_SIZE
from render import image_io
from scripts.generators import cuts, labels, sheets
from scripts.shell.perceptual import features_folder

POINTS = commands.ROOT / "tests" / "data" / "astronaut.pts"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A generator that only a test would take for one of people, a photo, a cut picture."""
    folder = tmp_path_factory.mktemp("files")
    generator = people_generator()
    write_generator(folder / "g.safetensors", generator)
    write_generator(folder / "other.safetensors", generator._replace(facts={}))
    blocks = generator.facts["latent_blocks"] | {"yaw": [1, 2]}
    old = generator.facts | {"latent_blocks": blocks}
    write_generator(folder / "old.safetensors", generator._replace(facts=old))
    labelled = GeneratorConfig(8, (4, 4), z_dim=4, c_dim=2, w_dim=4, mapping_layers=1)
    write_generator(folder / "c.safetensors", init_generator(jax.random.key(0), labelled))
    image_io.write_image(folder / "astronaut.png", data.astronaut())
    image_io.write_image(folder / "grey.png", np.full((20, 24, 3), 0.5, np.float32))
    return folder


def run(name, files, *arguments):
    return commands.run(name, f"--generator={files / 'g.safetensors'}", *arguments)


@pytest.mark.slow
def test_photos_are_cut_inverted_tuned_and_turned(files, tmp_path):
    done = run(
        "invert", files, f"--image={files / 'astronaut.png'}", f"--landmarks={POINTS}",
        "--steps=20", "--tune", "--tune_steps=10", f"--out={tmp_path / 'out'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("inversion.safetensors", "generator.safetensors", "sheet.png", "turn.png", "edits.png"),
        *("metrics.json", "config.json"),
    }
    row = json.loads((tmp_path / "out" / "metrics.json").read_text())["pictures"][0]
    assert row["start_psnr_db"] < row["found_psnr_db"] < row["psnr_db"]
    assert row["doubt"] is None and "wrote" in done.stdout
    kept = read_inversion(tmp_path / "out" / "inversion.safetensors")
    assert kept.ws.shape == (1, TINY_GENERATOR.num_ws, LATENT_SIZE)
    assert kept.images.shape == (1, 16, 16, 3)
    tuned = read_generator(tmp_path / "out" / "generator.safetensors")
    assert tuned.config == TINY_GENERATOR and tuned.facts["tuned_to"]


@pytest.mark.slow
def test_lpips_is_in_the_loss_where_its_weights_are_there(tmp_path, monkeypatch):
    """They are random, and the picture is one that the generator can paint."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network = InversionConfig.network
    features = random_params(network)
    features_io.write_features(features_io.features_file(features_folder(), network), features)
    generator = people_generator(
        dataclasses.replace(TINY_GENERATOR, resolution=64, channels=(4,) * 5)
    )
    write_generator(tmp_path / "g.safetensors", generator)
    z = np.random.default_rng(0).normal(size=(1, LATENT_SIZE)).astype(np.float32)
    picture = np.clip(0.5 * sheets.draw(generator, z)[0] + 0.5, 0.0, 1.0)
    image_io.write_image(tmp_path / "seen.png", picture)
    done = commands.run(
        "invert", f"--generator={tmp_path / 'g.safetensors'}", f"--image={tmp_path / 'seen.png'}",
        "--aligned", "--steps=10", "--tune", "--tune_steps=8", f"--out={tmp_path / 'out'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "out" / "metrics.json").read_text())["pictures"][0]
    assert row["start_psnr_db"] < row["found_psnr_db"] < row["psnr_db"]
    assert row["lpips"] < row["found_lpips"] < 0.7 * row["start_lpips"]


@pytest.mark.slow
def test_what_does_not_look_aligned_is_said_so(files, tmp_path):
    done = run(
        "invert", files, f"--image={files / 'grey.png'}", "--aligned", "--steps=2",
        f"--out={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "grey.png does not look aligned: no face is found in it" in done.stderr
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["pictures"][0]["doubt"] == "no face is found in it"


@pytest.mark.slow
def test_directions_have_the_names_of_what_latents_mean(files, tmp_path):
    done = run("find_directions", files, f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    directions, statistics = read_directions(tmp_path / "directions.safetensors")
    assert {"yaw", "pitch", "smile", "mouth_open", "age", "tone"} <= set(directions.names)
    # The mapping is affine, but for latents' length: labels are all but linear.
    assert directions.explained.min() > 0.95
    assert statistics.axes.shape == (LATENT_SIZE, LATENT_SIZE)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("directions.safetensors", "components.png", "named.png", "metrics.json"),
    }
    assert not labels.is_of_people(read_generator(files / "other.safetensors"))


@pytest.mark.command
def test_bad_input_is_one_line(files, tmp_path):
    photo = f"--image={files / 'astronaut.png'}"
    cases = [
        ("invert", ("--generator=nowhere", photo), "nowhere"),
        ("invert", (), "expected pictures in --image, found none"),
        ("invert", ("--image=nowhere.png",), "found nothing at nowhere.png"),
        ("invert", (photo, f"--landmarks={POINTS}", "--aligned"), "expected one --landmarks"),
        ("invert", (photo, f"--directions={files / 'g.safetensors'}"), "expected directions in"),
        ("invert", (f"--generator={files / 'c.safetensors'}", photo), "without labels"),
        (
            "find_directions",
            (f"--generator={files / 'old.safetensors'}",),
            "with other latent_blocks",
        ),
        ("find_directions", (f"--encoder={files / 'g.safetensors'}",), "expected an encoder"),
        ("train_encoder", (f"--generator={files / 'c.safetensors'}",), "without labels"),
    ]
    for name, arguments, line in cases:
        done = run(name, files, *arguments, f"--out={tmp_path / 'out'}")
        assert done.returncode == 2, (arguments, done)
        assert line in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_heads_lie_where_their_frame_says_and_a_real_face_fits_one_of_its_views(files):
    frame = cuts.frame_of(read_generator(files / "g.safetensors"))
    assert frame.points.shape == (len(frame.pose), 68, 2)
    front = frame.points[np.abs(frame.pose).sum(1).argmin()]
    right, left = front[36:42].mean(0), front[42:48].mean(0)
    np.testing.assert_allclose(right[0] + left[0], 1.0, atol=0.02)
    assert 0.2 < left[0] - right[0] < 0.35 and front[48:].mean(0)[1] > right[1] + 0.15
    nose = frame.points[:, 30, 0] - frame.points[:, [36, 45], 0].mean(1)
    is_flat = np.abs(frame.pose[:, 1]) < 1e-6
    assert np.all(np.diff(nose[is_flat]) > 0), "the nose goes with the yaw"
    points = read_pts(POINTS)
    found = align_to_frame(points, frame)
    assert found.residual < cuts.MOST_RESIDUAL
    aside = points + 0.2 * np.ptp(points, 0)
    own = 1.0 / np.sqrt(np.linalg.det(found.matrix[:2, :2]))  # side of the cut, pixels
    assert displacement(align_to_frame(aside, frame), aside, own) > cuts.MOST_DISPLACEMENT
