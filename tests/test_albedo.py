"""The albedo model: it says the skins again, without their stubble."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from recon.looks import albedo
from recon.painting.atlas import at_texels, build_atlas, to_picture

pytestmark = pytest.mark.compiles
SIZE = 128


@pytest.fixture(scope="module")
def skins(looks, default_model):
    return albedo.build_albedo_model(looks, default_model, SIZE)


@pytest.fixture(scope="module")
def regions(default_model):
    atlas = build_atlas(
        default_model.uvs, default_model.uv_triangles, default_model.triangles, SIZE
    )
    return {
        name: np.asarray(to_picture(atlas, at_texels(atlas, share[:, None])))[..., 0]
        for name, share in default_model.regions.items()
    }


def painted(skins, number, modes=16):
    scores = skins.scores[number, :modes]
    return np.asarray(albedo.log_albedo(skins, skins.tones[number], scores, jnp.float32(1)))


def seen(looks, number, size=SIZE):
    """The skin laid out by looking up the mean of the texels around each place: [S, S, 3] log."""
    u, v = np.meshgrid((np.arange(size) + 0.5) / size, 1 - (np.arange(size) + 0.5) / size)
    u0, v0, u1, v1 = np.asarray(looks.skin_window)
    rows, columns = looks.skins.shape[1:3]
    column = np.clip((u - u0) / (u1 - u0) * columns, 0, columns - 1).astype(int)
    row = np.clip((v1 - v) / (v1 - v0) * rows, 0, rows - 1).astype(int)
    srgb = np.asarray(looks.skins)[number] / 255.0
    logs = np.log(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4) + 0.008)
    return ndimage.uniform_filter(logs, (3, 2, 1))[row, column]


def test_sixteen_modes_say_the_skins_again(skins, looks, regions):
    face = (regions["face"] > 0.9) & (np.asarray(skins.keep) > 0.99)
    # The texture shows parts of the face a second time in the charts of eyes and mouth, of which
    # the skins say nothing.
    u0, v0, u1, v1 = np.asarray(looks.skin_window)
    u, v = (np.arange(SIZE) + 0.5) / SIZE, 1 - (np.arange(SIZE) + 0.5) / SIZE
    face &= (u > u0) & (u < u1) & ((v > v0) & (v < v1))[:, None]
    targets = np.stack([seen(looks, number)[face] for number in range(20)])
    details = targets - np.asarray(skins.tones)[:, None]
    painted_faces = np.stack([painted(skins, number)[face] for number in range(20)])
    # Half of the rest is two ways of making a picture smaller.
    assert np.mean((painted_faces - targets) ** 2) < 0.08 * np.var(details)


def test_tone_is_the_mean_over_the_face(skins, looks, regions):
    bare = regions["face"] * (regions["lips"] < 0.05) * (regions["eyelids"] < 0.2)
    for number in (0, 13):
        mean = (seen(looks, number) * bare[..., None]).sum((0, 1)) / bare.sum()
        np.testing.assert_allclose(skins.tones[number], mean, atol=0.03)


def test_scores_have_variance_one_over_the_skins_and_their_mirror_images(skins):
    # Modes of mirror images are symmetric or antisymmetric, so that both have the same squares.
    np.testing.assert_allclose(np.mean(np.square(skins.scores), 0), 1, atol=0.06)


def test_stubble_is_out_of_the_skins_and_in_the_zone(skins, looks, regions):
    skull = regions["skull"] > 0.9
    darkest = int(np.argmin(skins.tones.mean(1)))
    off = painted(skins, darkest) - np.asarray(skins.tones[darkest])
    assert np.abs(off[skull]).mean() < 0.01
    # What was painted there is more than a shade darker than the face.
    assert (seen(looks, darkest) - np.asarray(skins.tones[darkest]))[skull].mean() < -0.7
    zone = np.asarray(skins.hair_zone)
    assert zone[skull].mean() > 0.9
    middle = (regions["face"] > 0.9) & (regions["skull"] < 0.01)
    assert zone[middle].mean() < 0.15
    assert zone[regions["lips"] > 0.5].max() < 0.05
    assert zone[regions["ears"] > 0.9].max() < 0.1
    assert 0.8 < np.std(np.asarray(skins.stubble_pattern)[zone > 0.5]) < 1.2


def test_contrast_scales_what_is_not_the_tone(skins):
    tone, detail = skins.tones[3], skins.scores[3]
    flat, half, full = (albedo.log_albedo(skins, tone, detail, c) for c in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(flat, np.broadcast_to(tone, flat.shape), atol=1e-6)
    np.testing.assert_allclose(half, (flat + full) / 2, atol=1e-5)
    assert albedo.to_albedo(full).min() >= 0 and albedo.to_albedo(full).max() <= 1
