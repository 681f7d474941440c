"""Directions in W against closed forms; their files."""

import numpy as np
import pytest

from models.stylegan import directions as directions_lib
from models.stylegan.directions import (
    boundary_of_classes,
    conditioned,
    edited,
    fit_directions,
    read_labels,
)
from models.stylegan.directions_io import (
    KeptInversion,
    read_directions,
    read_inversion,
    write_directions,
    write_inversion,
)
from models.stylegan.latents import latent_statistics, unwhitened, whitened

SIZE, COUNT = 6, 4000


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(COUNT, SIZE)) @ rng.normal(size=(SIZE, SIZE)) + rng.normal(size=SIZE)


@pytest.fixture(scope="module")
def two(samples):
    """Numbers that are linear in W, at an acute angle, and what was learnt of them."""
    truth = np.array([[1.0, 0, 0, 0.5, 0, 0], [1.0, 1.0, 0, 0, 0, 0]])
    labels = samples @ truth.T + [0.3, -1.0]
    return truth, labels, fit_directions(samples, dict(zip("ab", labels.T, strict=True)))


def test_principal_axes_are_those_of_the_singular_values(samples):
    statistics = latent_statistics(samples)
    _, sizes, axes = np.linalg.svd(samples - samples.mean(0), full_matrices=False)
    np.testing.assert_allclose(statistics.deviations, sizes / np.sqrt(COUNT), rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(statistics.axes * axes, -1)), 1.0, atol=1e-4)
    spread = np.cov(np.asarray(whitened(np.float32(samples), statistics)).T)
    # A floor under the variances makes the small ones smaller than one.
    assert np.abs(spread - np.diag(np.diag(spread))).max() < 0.02
    assert np.all(np.diag(spread) < 1.0) and spread[0, 0] > 0.95
    back = unwhitened(whitened(np.float32(samples), statistics), statistics)
    np.testing.assert_allclose(back, samples, atol=1e-3)


def test_numbers_linear_in_w_are_read_and_edits_change_one_alone(samples, two):
    truth, labels, found = two
    np.testing.assert_allclose(found.readings, truth, atol=0.02)
    assert np.all(found.explained > 0.99)
    np.testing.assert_allclose(found.means, labels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.deviations, labels.std(0), rtol=1e-6)
    np.testing.assert_allclose(read_labels(samples, found), labels, atol=0.2)
    layers = np.stack([samples[:3], samples[3:6]], 1)
    middle = (labels[:3] + labels[3:6]) / 2
    np.testing.assert_allclose(read_labels(layers, found), middle, atol=0.2)
    ws = np.repeat(np.float32(samples[:3, None]), 4, 1)
    change = read_labels(edited(ws, found, "a", 2.0), found) - read_labels(ws, found)
    np.testing.assert_allclose(change, np.tile([2.0, 0.0], (3, 1)), atol=1e-4)
    early = edited(ws, found, "a", 2.0, slice(0, 2))
    np.testing.assert_array_equal(early[:, 2:], ws[:, 2:])
    np.testing.assert_allclose(early[:, 0] - ws[:, 0], 2 * found.edits[[0] * 3], atol=1e-5)


def test_what_is_not_linear_in_w_is_not_explained(samples):
    label = samples[:, 0]
    noise = np.random.default_rng(7).normal(scale=label.std(), size=COUNT)
    assert fit_directions(samples, {"a": label + noise}).explained == pytest.approx(0.5, abs=0.05)


def test_two_clouds_are_parted_by_their_fisher_boundary():
    rng = np.random.default_rng(1)
    spread = 9.0 * np.diag([1.0, 0.3, 0.1])
    between = 3.0 * np.array([0.5, 0.4, 0.2])
    is_in = rng.random(COUNT) < 0.5
    clouds = (
        rng.normal(size=(COUNT, 3)) @ np.sqrt(spread) + np.where(is_in[:, None], 1, -1) * between
    )
    reading, bias, right = boundary_of_classes(clouds + 5.0, is_in)
    # Gaussian clouds of one spread: the log of the odds is linear, 2 S^-1 d.
    wanted = 2.0 * np.linalg.solve(spread, between)
    cosine = reading @ wanted / np.linalg.norm(reading) / np.linalg.norm(wanted)
    assert cosine > 0.99 and right > 0.8
    assert np.linalg.norm(reading) == pytest.approx(np.linalg.norm(wanted), rel=0.15)
    assert abs(bias + 5.0 * reading.sum()) < 0.15 * np.linalg.norm(reading)


def test_conditioned_on_others_a_direction_leaves_them_alone():
    direction, others = np.array([1.0, 1.0, 1.0]), np.array([[1.0, 0, 0], [1.0, 1.0, 0]])
    np.testing.assert_allclose(conditioned(direction, others), [0, 0, 1], atol=1e-12)
    with pytest.raises(ValueError, match="that the others do not span"):
        conditioned(others[0] + others[1], others)


def test_wrong_labels_and_names_are_refused(samples, two):
    with pytest.raises(ValueError, match="expected 4000 labels of tall, found"):
        fit_directions(samples, {"tall": np.zeros(3)})
    with pytest.raises(ValueError, match="all alike"):
        fit_directions(samples, {"tall": np.zeros(COUNT)})
    with pytest.raises(ValueError, match="expected one of a, b, found 'c'"):
        edited(np.zeros((1, 2, SIZE)), two[2], "c", 1.0)


def test_files_give_back_what_was_written_and_nothing_else(samples, two, tmp_path):
    path, kept = tmp_path / "d.safetensors", tmp_path / "i.safetensors"
    write_directions(path, two[2], latent_statistics(samples))
    found, statistics = read_directions(path)
    assert found.names == ("a", "b") and statistics.axes.shape == (SIZE, SIZE)
    np.testing.assert_allclose(found.edits, two[2].edits, rtol=1e-6)
    inversion = KeptInversion(
        np.ones((2, 4, SIZE)), np.zeros((2, 8, 8, 3), np.uint8), np.ones((2, 3, 3)), {"of": "me"}
    )
    write_inversion(kept, inversion)
    assert read_inversion(kept).facts == {"of": "me"}
    assert read_inversion(kept).images.dtype == np.uint8
    with pytest.raises(ValueError, match=r"expected directions in .*, found inversion"):
        read_directions(kept)
    with pytest.raises(ValueError, match=r"expected inversion in .*, found directions"):
        read_inversion(path)
    assert set(directions_lib.Directions._fields) >= {"readings", "edits"}
