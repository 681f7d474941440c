"""The face embedding: its geometry, its gradients, its loss and its files."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from models.perception import face_id, face_id_io
from models.perception.face_id import FaceId, FaceIdConfig, FaceIdNet, embed_faces
from models.perception.face_id_training import (
    FaceIdTraining,
    contrastive_loss,
    face_id_step,
    init_face_id,
    spoil,
)
from scripts.shell import identity

TINY = FaceIdConfig(side=8, stem=3, widths=(4, 5), units=(1, 1), size=6)


@pytest.fixture(scope="module")
def params():
    """Makes parameters, all of them off their first values."""
    rng = np.random.default_rng(0)

    def draw(name, shape):
        values = rng.normal(size=shape)
        if name.endswith("kernel"):
            return 1.5 * values / np.sqrt(np.prod(shape[:-1]))
        return 0.2 * values + (0.0 if name.endswith("bias") else 1.0)

    shapes = face_id_io.face_id_shapes(TINY)
    flat = {name: np.float32(draw(name, shape)) for name, shape in shapes.items()}
    return traverse_util.unflatten_dict(flat, sep=".")


@pytest.fixture
def images():
    rng = np.random.default_rng(1)
    return np.float32(0.7 * rng.random((3, 1, 1, 3)) + 0.3 * rng.random((3, 8, 8, 3)))


def test_embeddings_have_length_one_whatever_the_side(params, images):
    found = np.asarray(embed_faces(params, images, TINY))
    assert found.shape == (3, 6) and np.abs(found @ found.T - 1).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    larger = images.repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(embed_faces(params, larger, TINY), found, atol=1e-5)


def test_pictures_are_averaged_over_areas(images):
    rows = np.array([[2, 1, 0], [0, 1, 2]]) / 3  # three pixels become two
    image = images[:1, :3, :3]
    expected = np.einsum("ti,nijc,uj->ntuc", rows, image, rows)
    np.testing.assert_allclose(face_id.fit_side(jnp.asarray(image), 2), expected, atol=1e-6)
    for wrong in (images[0], images[:, :4], images[..., :1]):
        with pytest.raises(ValueError, match=r"expected square pictures \[N, S, S, 3\], found"):
            face_id.fit_side(jnp.asarray(wrong), 8)


def test_gradients_are_those_of_differences_and_finite_on_plain_pictures(params, images, x64):
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)

    @jax.jit
    @jax.value_and_grad
    def likeness(image):
        a, b = FaceIdNet(TINY).apply({"params": wide}, jnp.stack([image, jnp.float64(images[0])]))
        return a @ b

    image, way = jnp.float64(images[1]), np.random.default_rng(5).normal(size=images[1].shape)
    expected = (likeness(image + 1e-6 * way)[0] - likeness(image - 1e-6 * way)[0]) / 2e-6
    np.testing.assert_allclose(np.sum(likeness(image)[1] * way), expected, rtol=1e-5)
    for plain in (0.0, 1.0):
        assert np.isfinite(likeness(jnp.full((8, 8, 3), plain))[1]).all()
    slope = jax.jit(jax.grad(lambda h: face_id.unit_length(h)[0]))(jnp.zeros(3))
    assert np.isfinite(slope).all()


def test_the_loss_wants_the_partner_nearest_by_a_margin():
    rng = np.random.default_rng(2)
    embeddings = rng.normal(size=(6, 4))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    scale, margin = 5.0, 0.3
    total, found = 0.0, 0
    for n in range(6):
        partner = n + 1 if n % 2 == 0 else n - 1
        cosines = {m: embeddings[n] @ embeddings[m] for m in range(6) if m != n}
        found += max(cosines, key=cosines.get) == partner
        logits = {m: scale * (c - margin * (m == partner)) for m, c in cosines.items()}
        total += np.log(sum(np.exp(v) for v in logits.values())) - logits[partner]
    loss, share = jax.jit(contrastive_loss)(jnp.float32(embeddings), scale, margin)
    np.testing.assert_allclose([loss, share], [total / 6, found / 6], rtol=1e-5)


def test_files_come_back_rounded_and_others_are_refused(params, tmp_path):
    path = tmp_path / "face_id.safetensors"
    face_id_io.write_face_id(path, FaceId(params, TINY), {"steps": 3})
    back = face_id_io.read_face_id(path)
    assert back.config == TINY
    same = jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-3), back.params, params)
    assert all(jax.tree.leaves(same))
    arrays = safetensors.numpy.load_file(path)
    entry = {"config": dataclasses.asdict(TINY), "facts": {}}
    cases = [
        (arrays, None, "found other arrays"),
        (arrays, {"config": {"side": 8}}, "found other settings"),
        (arrays, {"config": entry["config"] | {"side": 12}}, "found other settings"),
        (arrays, {"config": entry["config"] | {"size": 10**9}}, "found other settings"),
        (arrays | {"more": np.zeros(1)}, entry, "found unknown more"),
    ]
    for tensors, header, message in cases:
        metadata = {"face_id": json.dumps(header)} if header else None
        path.write_bytes(safetensors.numpy.save(tensors, metadata))
        with pytest.raises(ValueError, match=f"expected a face embedding.*{message}"):
            face_id_io.read_face_id(path)


def test_the_door_says_in_a_line_that_nothing_came_along(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(identity, "SHIPPED", tmp_path / "face_id.safetensors")
    assert identity.load_face_id() is None
    said = "".join(capsys.readouterr())
    assert "identity is left out" in said and said.count("\n") == 1
    with pytest.raises(ValueError, match="found nothing at"):
        identity.load_face_id(tmp_path / "mine.safetensors")


def test_the_door_opens_to_a_file(params, images, tmp_path):
    path = tmp_path / "mine.safetensors"
    face_id_io.write_face_id(path, FaceId(params, TINY), {})
    found = identity.load_face_id(path)(images)
    np.testing.assert_allclose(np.sum(found**2, -1), 1.0, atol=1e-6)


@pytest.mark.slow
def test_people_of_one_colour_each_are_told_apart_after_some_steps():
    how = FaceIdTraining(steps=120, people=16)
    key, rng = jax.random.key(0), np.random.default_rng(3)
    colors = rng.random((64, 3))
    state = init_face_id(key, TINY, how)

    def draw(people):
        noise = 0.05 * rng.normal(size=(len(people), 2, 8, 8, 3))
        return (colors[people][:, None, None, None] + noise).astype(np.float32)

    losses = []
    for number in range(how.steps):
        images = draw(rng.choice(48, how.people, replace=False))
        share = np.float32(number / how.steps)
        state, report = face_id_step(key, state, images, share, TINY, how)
        losses.append(float(report.loss))
    assert np.mean(losses[-10:]) < np.mean(losses[:3]) - 0.5
    strangers = draw(np.arange(48, 64)).reshape(32, 8, 8, 3)
    cosines = np.asarray(FaceIdNet(TINY).apply({"params": state.averaged}, strangers))
    cosines = cosines @ cosines.T
    own = cosines[np.arange(0, 32, 2), np.arange(1, 32, 2)]
    assert own.mean() > np.triu(cosines[::2, ::2], 1).sum() / 120 + 0.2


@pytest.mark.slow
def test_spoiling_keeps_the_mean_and_differs_from_picture_to_picture():
    grey, spoiling = jnp.full((40, 8, 8, 3), 0.5), jax.jit(spoil)
    spoilt = np.asarray(spoiling(jax.random.key(0), grey))
    np.testing.assert_allclose(spoilt.mean(), 0.5, atol=0.03)
    assert spoilt.mean((1, 2)).std(0).min() > 0.02
    again = spoiling(jax.random.key(0), grey)
    np.testing.assert_array_equal(spoilt, again)
