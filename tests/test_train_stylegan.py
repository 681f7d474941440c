"""The command that trains StyleGAN2, on pictures that take no time to draw."""

import dataclasses
import functools
import json
from unittest import mock

import commands
import jax
import numpy as np
import pytest
from small_people import TINY_GENERATOR, write_heads

from models.stylegan import train
from models.stylegan.config import DiscriminatorConfig, GeneratorConfig
from models.stylegan.generator import init_generator
from models.stylegan.regression import RegressionTraining, Stage
from models.stylegan.stylegan_io import read_generator, write_generator
from models.stylegan.train import StyleganPreset, StyleganTraining
from recon.looks.studio import LABELS
from render import image_io
from scripts.generators import judge, pool_io
from scripts.shell import metrics_io
from scripts.shell.training import LoopConfig

SIDE, PART = TINY_GENERATOR.resolution, 20
FILES = {
    *("generator.safetensors", "samples.png", "film.mp4", "sheets", "metrics.json"),
    *("metrics.csv", "config.json", "checkpoint.safetensors"),
}
TINY = StyleganPreset(
    TINY_GENERATOR,
    DiscriminatorConfig(SIDE, (4, 4, 4)),
    RegressionTraining((Stage(8, 7, 4, 1e-2), Stage(16, 7, 4, 1e-2))),
    StyleganTraining(steps=6, batch=4),
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Makes a pool of pictures that only a test would take for heads, the preset small."""
    folder = tmp_path_factory.mktemp("pool")
    for first in (0, PART, 2 * PART):
        write_heads(folder, SIDE, PART, first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_io, "HELD_OUT", PART)
        patch.setattr(pool_io, "_PART", PART)
        patch.setitem(train.PRESETS, "ci", TINY)
        patch.setattr(judge, "_SEEN", 2)
        yield folder


def train_people(pool, out, *more):
    return commands.run(
        "train_stylegan",
        *("--people", "--preset=ci", "--num_pictures=40", "--evaluate_every=7"),
        *(f"--pool={pool}", f"--out={out}", *more),
    )


@pytest.fixture(scope="module")
def people(pool, tmp_path_factory):
    out = tmp_path_factory.mktemp("people") / "out"
    done = train_people(pool, out)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.mark.slow
def test_it_writes_a_generator_its_scores_and_pictures_to_look_at(people):
    out, done = people
    assert {path.name for path in out.iterdir()} == FILES | {"turns.png"}
    report = json.loads((out / "metrics.json").read_text())
    assert report["steps"] == 14 and "psnr_db" in report["gates_missed"]
    assert [row["resolution"] for row in report["history"]] == [8, 16]
    assert f"PSNR {report['psnr_db']:.2f} dB, not yet good enough: psnr_db" in done.stdout
    generator = read_generator(out / "generator.safetensors")
    assert generator.config == TINY.generator
    assert generator.facts["latent_blocks"]["pitch"] == [1, 2]
    assert generator.facts["scores"]["psnr_db"] == report["psnr_db"]
    assert np.abs(generator.buffers["w_avg"] - 2.5).max() < 0.2
    assert "train_psnr_db" in metrics_io.read_rows(out / "metrics.csv")[0]


@pytest.mark.slow
def test_ended_anywhere_and_started_again_it_ends_with_the_same_bytes(pool, people, tmp_path):
    command = commands.load("train_stylegan")
    whole = command.draw_heads

    def breaks_at_ten(learnt, number, *rest):
        if number == 10:
            raise OSError("the machine is gone")
        return whole(learnt, number, *rest)

    often = functools.partial(LoopConfig, checkpoint_seconds=0.0)
    with (
        mock.patch.object(command, "draw_heads", breaks_at_ten),
        mock.patch.object(command, "LoopConfig", often),
    ):
        assert train_people(pool, tmp_path).returncode != 0
    done = train_people(pool, tmp_path)
    assert done.returncode == 0 and "going on from step" in done.stdout, done
    kept, again = (
        read_generator(folder / "generator.safetensors") for folder in (people[0], tmp_path)
    )
    same = jax.tree.map(np.array_equal, (kept.params, kept.buffers), (again.params, again.buffers))
    assert all(jax.tree.leaves(same))
    refused = train_people(pool, tmp_path, "--num_pictures=39")
    assert refused.returncode == 2 and "num_pictures" in refused.stderr


@pytest.mark.slow
def test_a_discriminator_goes_on_from_it_and_the_pictures_stay(pool, people, tmp_path):
    start = people[0] / "generator.safetensors"
    done = train_people(pool, tmp_path, f"--start={start}", "--adversarial")
    assert done.returncode == 0, done.stderr
    rows = metrics_io.read_rows(tmp_path / "metrics.csv")
    assert np.isfinite([rows[0]["paired_loss"], rows[0]["discriminator_loss"]]).all()
    kept, tuned = read_generator(start), read_generator(tmp_path / "generator.safetensors")
    np.testing.assert_array_equal(
        tuned.params["mapping"]["fc0"]["weight"], kept.params["mapping"]["fc0"]["weight"]
    )
    assert tuned.facts["training"] == "adversarial"


@pytest.mark.slow
def test_regression_goes_on_from_it_at_full_size(pool, people, tmp_path):
    start = people[0] / "generator.safetensors"
    done = train_people(pool, tmp_path, f"--start={start}", "--steps=3", "--evaluate_every=3")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["steps"] == 3 and report["history"][0]["resolution"] == SIDE
    before = json.loads((people[0] / "metrics.json").read_text())
    assert report["psnr_db"] == pytest.approx(before["psnr_db"], abs=2.0)


@pytest.mark.slow
def test_a_folder_of_pictures_is_learnt(pool, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(6):
        shape = (20 + number, 24, 3) if number else (12, 40, 3)
        image_io.write_image(
            tmp_path / "in" / "deep" / f"{number}.png", np.float32(rng.random(shape))
        )
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    done = commands.run(
        "train_stylegan",
        *(f"--images={tmp_path / 'in'}", f"--out={out}", "--preset=ci", "--evaluate_every=3"),
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == FILES
    assert "1 of 7 pictures are left out" in done.stderr + done.stdout
    report = json.loads((out / "metrics.json").read_text())
    assert len(report["history"]) == 2 and report["frechet"] > 0


@pytest.mark.command
def test_bad_input_is_one_line(pool, tmp_path):
    (tmp_path / "empty").mkdir()
    config = GeneratorConfig(8, (4, 4), z_dim=4, w_dim=4, mapping_layers=1)
    starts = {}
    for name, change in {
        "plain": {},
        "grey": {"image_channels": 1},
        "sorted": {"c_dim": 2},
    }.items():
        generator = init_generator(jax.random.key(0), dataclasses.replace(config, **change))
        write_generator(tmp_path / name, generator)
        starts[name] = f"--start={tmp_path / name}"
    cases = [
        ((), "expected either --people or --images"),
        (("--people", f"--images={tmp_path}"), "expected either --people or --images"),
        (("--people", "--resolution=32"), "expected --resolution with --images only"),
        (("--people", "--adversarial"), "expected --start with --people --adversarial"),
        (("--images=nowhere",), "expected a folder of pictures, found none at nowhere"),
        ((f"--images={tmp_path / 'empty'}",), "expected at least 2 pictures"),
        (("--images=nowhere", "--resolution=48"), "expected a power of two"),
        (("--people", "--steps=5"), "expected --steps with --start or --images"),
        (("--images=nowhere", "--pool=here"), "expected --pool with --people"),
        (("--people", f"--seed={2**70}"), "--seed"),
        (("--images=nowhere", f"--resolution={2**20}"), "--resolution"),
        (("--people", starts["plain"]), "expected a generator of random people"),
        (("--images=nowhere", starts["plain"], "--resolution=16"), "expected --resolution=8"),
        (("--images=nowhere", starts["grey"]), "expected a generator of coloured pictures"),
        (("--images=nowhere", starts["sorted"]), "without labels"),
    ]
    for arguments, line in cases:
        done = commands.run("train_stylegan", *arguments, f"--out={tmp_path / 'out'}")
        assert done.returncode == 2, (arguments, done)
        assert line in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_pool_that_is_none_is_named(pool, tmp_path):
    for number in (0, PART):
        (tmp_path / f"heads-{SIDE}-seed0-{number:06d}.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="expected pictures of heads, found a broken file at"):
        pool_io.make_pool(tmp_path, PART, 0, SIDE)
    whole = dict(np.load(pool / f"heads-{SIDE}-seed0-000000.npz"))
    for name, wrong, words in (
        ("label", whole["label"][:, :4], r"found label \(20, 4, 16\)"),
        ("label", whole["label"] + np.uint8(99), "expected labels below"),
        ("rgb", whole["rgb"] / 255, "found rgb .* of float64"),
    ):
        np.savez(tmp_path / f"heads-{SIDE}-seed0-000000.npz", **whole | {name: wrong})
        with pytest.raises(ValueError, match=words):
            pool_io.make_pool(tmp_path, PART, 0, SIDE)


def test_a_latent_follows_from_its_number_and_pixels_count_by_label(pool):
    learnt, held_out = pool_io.make_pool(pool, 30, 0, SIDE)
    assert len(learnt.z) == 30 and len(held_out.z) == PART
    np.testing.assert_array_equal(learnt.z[4], pool_io.latent_of(0, PART + 4))
    assert not np.array_equal(pool_io.latent_of(1, 3), pool_io.latent_of(0, 3))
    weights = dict(zip(LABELS, pool_io.pixel_weights(np.arange(len(LABELS))), strict=True))
    assert weights["eyes"] > weights["skin"] > weights["background"] > 0
    assert {weights[name] for name in ("eyes", "brows", "lips", "mouth")} == {weights["eyes"]}


def test_a_perfect_generator_gets_full_marks_and_a_blurred_one_does_not(pool):
    learnt, held_out = pool_io.make_pool(pool, 40, 0, SIDE)
    reference = judge.make_reference(learnt, held_out, SIDE)
    best = judge.judge_heads(reference.images, reference)
    assert best["psnr_db"] > 90 and best["yaw_r2"] == best["yaw_r2_of_renders"]
    assert best["yaw_r2"] > 0.3 + best["pitch_r2"], "no more than the yaw is to be seen"
    assert best["laplacian_energy"] == pytest.approx(1) and best["variety"] == pytest.approx(1)
    assert best["frechet"] == pytest.approx(best["frechet_floor"])
    grey = judge.judge_heads(0.5 * reference.images, reference)
    assert grey["laplacian_energy"] == pytest.approx(0.5, rel=0.02)
    assert grey["variety"] == pytest.approx(0.5, rel=0.02) and grey["psnr_db"] < 30
    assert grey["frechet"] > best["frechet"]
    dim = np.clip(reference.images, -0.8, 0.8)
    apart = judge.judge_heads(dim + 0.2, reference._replace(images=dim))
    assert apart["psnr_db"] == pytest.approx(20.0, abs=1e-3)  # a tenth of the range


def test_faces_are_counted_in_enlarged_pictures():
    pictures = np.full((4, SIDE, SIDE, 3), -1.0, np.float32)
    pictures[1] = 1.0

    def detect(image):
        assert image.shape == (4 * SIDE, 4 * SIDE, 3) and 0.0 <= image.min() <= image.max() <= 1.0
        return ["a face"] if image.mean() > 0.5 else []

    with (
        mock.patch.object(judge.landmarks, "detect_faces", detect),
        mock.patch.object(judge, "_SEEN", 4),
    ):
        assert judge.share_of_faces(pictures) == 0.25
