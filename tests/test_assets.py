"""Small files of each format, written here, must come back as the head they were made from."""

import json
import pathlib
import pickle
import struct

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
from flame_files import write_flame
from model_files import (
    COLOUR_SD,
    Head,
    basel_2009_values,
    eos_bytes,
    face3d_values,
    write_basel_2009,
    write_basel_2017,
    write_deep3d,
    write_eos,
    write_face3d,
    write_lsfm,
    write_lyhm,
    write_matlab_73,
    write_obj,
)

from recon.assets import load_model, load_npz, save_npz
from recon.formats import ict_io, landmark_maps
from recon.formats.raw_model import signed_volume
from recon.morphable import face_shape

SHARED = pathlib.Path(__file__).parents[2] / "shared"
ICT_NPZ = SHARED / "data" / "ict" / "ict_head_100.npz"
CASES = SHARED / "data" / "hand_cases" / "models"
ICT_FOLDER = SHARED / "data" / "ict" / "FaceXModel"


@pytest.fixture
def head():
    return Head()


def assert_is_head(model, head, beta=None, atol=2e-6):
    """The model gives the head's shapes in metres, counter-clockwise, with unit columns."""
    np.testing.assert_allclose(model.mean, head.mean, atol=atol)
    columns = np.asarray(model.identity_basis).reshape(-1, 3)
    np.testing.assert_allclose(np.linalg.norm(columns, axis=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(model.identity_sigma, head.sd, rtol=1e-5)
    alpha = np.array([1.2, -0.7, 2.0])
    coefficients = jnp.array([] if beta is None else beta, jnp.float32)
    shape = face_shape(model, jnp.array(alpha, jnp.float32), coefficients)
    np.testing.assert_allclose(shape, head.shape(alpha, beta or ()), atol=atol)
    assert model.mean.dtype == jnp.float32 and model.triangles.dtype == jnp.int32
    assert signed_volume(np.asarray(model.mean), np.asarray(model.triangles)) > 0
    rolled = {tuple(np.roll(t, -np.argmin(t))) for t in np.asarray(model.triangles)}
    assert rolled == {tuple(np.roll(t, -np.argmin(t))) for t in head.triangles}
    assert model.landmark_vertices.shape == (68,)
    assert model.path_vertices.shape == model.path_weights.shape == (17, 10, 3)


def assert_has_colours(model, head):
    np.testing.assert_allclose(model.albedo_mean, head.colour, atol=1e-5)
    np.testing.assert_allclose(model.albedo_sigma, COLOUR_SD, rtol=1e-5)
    np.testing.assert_allclose(
        np.asarray(model.albedo_basis).reshape(-1, 2), head.colour_basis, atol=1e-5
    )


def test_basel_2009_is_read_in_metres_with_deviations_and_turned_triangles(tmp_path, head):
    write_basel_2009(tmp_path / "01_MorphableModel.mat", head)
    model = load_model(tmp_path / "01_MorphableModel.mat")
    assert_is_head(model, head)
    assert_has_colours(model, head)


def test_basel_2009_saved_as_hdf5_is_the_same(tmp_path, head):
    write_matlab_73(tmp_path / "m.mat", basel_2009_values(head))
    model = load_model(tmp_path / "m.mat")
    assert_is_head(model, head)
    assert_has_colours(model, head)
    write_matlab_73(tmp_path / "m.mat", face3d_values(head))
    assert_is_head(load_model(tmp_path / "m.mat"), head, beta=[0.5, -2.0])


@pytest.mark.parametrize("write", [write_face3d, write_deep3d])
def test_what_others_made_of_basel_2009(tmp_path, head, write):
    write(tmp_path / "m.mat", head)
    model = load_model(tmp_path / "m.mat")
    assert_is_head(model, head, beta=[0.5, -2.0])
    assert_has_colours(model, head)
    np.testing.assert_array_equal(model.landmark_vertices, head.landmarks)
    np.testing.assert_array_equal(model.path_vertices[:, 0, 0], head.landmarks[:17])
    np.testing.assert_array_equal(model.expression_bounds, [[-3, 3]] * 2)


@pytest.mark.parametrize("version", [(0, 8), (0, 9), (1, 0), None])
def test_basel_2017_basis_is_read_by_version(tmp_path, head, version):
    write_basel_2017(tmp_path / "model.h5", head, version=version)
    model = load_model(tmp_path / "model.h5")
    assert_is_head(model, head, beta=[0.5, -2.0])
    assert_has_colours(model, head)
    np.testing.assert_array_equal(model.expression_sd, 1.0)
    np.testing.assert_array_equal(model.expression_bounds, [[-3, 3]] * 2)


def test_basel_2017_file_without_version_is_told_by_its_columns(tmp_path, head):
    head.sd = head.sd / 100  # tenths of millimetres: an error of scale would show
    write_basel_2017(tmp_path / "model.h5", head, version=(0, 8))
    with h5py.File(tmp_path / "model.h5", "a") as file:
        for group in ("shape", "expression", "color"):
            del file[f"{group}/version"]
    assert_is_head(load_model(tmp_path / "model.h5"), head)


def test_basel_2017_mean_expression_belongs_to_the_neutral_face(tmp_path, head):
    write_basel_2017(tmp_path / "model.h5", head, mean_expression=0.003)
    assert_is_head(load_model(tmp_path / "model.h5"), head)


def test_basel_2017_landmarks_are_found_by_name(tmp_path, head):
    named = [("center.nose.tip", head.mean[40]), ("left.lips.corner", head.mean[7] * 1.01)]
    write_basel_2017(tmp_path / "model.h5", head, named=[*named, ("left.ear.tip", head.mean[3])])
    landmarks = np.asarray(load_model(tmp_path / "model.h5").landmark_vertices)
    assert landmarks[30] == 40 and landmarks[54] == 7 and (landmarks >= 0).sum() == 2


def test_lsfm_variances_become_deviations(tmp_path, head):
    write_lsfm(tmp_path / "all_all_all.mat", head)
    assert_is_head(load_model(tmp_path / "all_all_all.mat"), head)


def test_cropped_lsfm_carries_the_landmarks_of_the_full_one(tmp_path, head):
    full = landmark_maps.known_landmarks(53215)
    inner = np.random.default_rng(1).permutation(np.r_[full[36:46], np.arange(len(head.mean) - 10)])
    write_lsfm(tmp_path / "cropped.mat", head, map_cropped_to_full=inner)
    landmarks = np.asarray(load_model(tmp_path / "cropped.mat").landmark_vertices)
    np.testing.assert_array_equal(inner[landmarks[36:46]], full[36:46])
    assert (landmarks >= 0).sum() == 10


def test_lyhm_is_read_with_colours(tmp_path, head):
    write_lyhm(tmp_path / "lyhm.mat", head)
    model = load_model(tmp_path / "lyhm.mat")
    assert_is_head(model, head)
    assert_has_colours(model, head)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_eos_versions(tmp_path, head, version):
    uvs = np.random.default_rng(2).uniform(size=(len(head.mean), 2))
    write_eos(tmp_path / "model.bin", head, version=version, uvs=uvs)
    model = load_model(tmp_path / "model.bin")
    assert_is_head(model, head)
    assert_has_colours(model, head)
    np.testing.assert_allclose(model.uvs, np.c_[uvs[:, 0], 1 - uvs[:, 1]], atol=1e-6)
    np.testing.assert_array_equal(model.uv_triangles, model.triangles)


def test_eos_pca_expressions_are_in_deviations(tmp_path, head):
    write_eos(tmp_path / "model.bin", head, expression="pca")
    model = load_model(tmp_path / "model.bin")
    assert_is_head(model, head, beta=[0.5, -2.0])
    np.testing.assert_array_equal(model.expression_sd, 1.0)


def test_eos_blendshapes_keep_their_size_and_names(tmp_path, head):
    write_eos(tmp_path / "model.bin", head, expression="blendshapes")
    head.expression_sd = np.ones(2)
    model = load_model(tmp_path / "model.bin")
    assert_is_head(model, head, beta=[0.5, 1.0])
    assert model.expression_names == ("smile", "frown")
    np.testing.assert_allclose(model.expression_sd, 0.15)
    np.testing.assert_allclose(model.expression_bounds, [[-0.1, 1.0]] * 2)


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0, 1e3, 1e6])
def test_units_are_told_by_the_size_of_the_head(tmp_path, head, scale):
    write_eos(tmp_path / "model.bin", head, scale=scale)
    assert_is_head(load_model(tmp_path / "model.bin"), head)


@pytest.mark.parametrize(
    "turn",
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],  # z up
        [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],  # y down
        [[0, 0, 1], [0, 1, 0], [1, 0, 0]],  # left-handed: facing x
    ],
)
def test_axes_are_told_by_the_landmarks(tmp_path, head, turn):
    where = {
        "37": (-0.045, 0.03, 0.08),
        "40": (-0.02, 0.03, 0.09),
        "43": (0.02, 0.03, 0.09),
        "46": (0.045, 0.03, 0.08),
        "49": (-0.025, -0.04, 0.09),
        "55": (0.025, -0.04, 0.09),
    }
    named = {k: int(((head.mean - p) ** 2).sum(1).argmin()) for k, p in where.items()}
    nose = int(((head.mean - (0, 0, 0.1)) ** 2).sum(1).argmin())
    head.mean[nose, 2] += 0.02
    write_eos(tmp_path / "model.bin", head, named=named | {"31": nose}, turn=np.array(turn))
    assert_is_head(load_model(tmp_path / "model.bin"), head)


@pytest.fixture
def ict_folder(tmp_path):
    """A folder of the layout of ICT-FaceKit: 11,248 vertices of the head and 40 of teeth."""
    sphere = Head(rows=76, columns=148)
    mean = np.concatenate([sphere.mean * 100, np.full((40, 3), 1.0)])  # centimetres
    default = load_model()
    points = np.asarray(default.mean)[np.asarray(default.landmark_vertices)]
    mean[list(landmark_maps.ICT)] = points * 100
    grid = np.arange(76 * 148).reshape(76, 148)
    quads = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], -1)
    quads = np.concatenate([quads.reshape(-1, 4), [[11248, 11249, 11250, 11251]]])
    faces = [*np.stack([quads, quads[:, ::-1] // 2], axis=-1)]
    faces[-3] = faces[-3][:3]  # the real mesh has a few triangles among its quads
    uvs = np.random.default_rng(3).uniform(size=(len(mean), 2))
    shapes = {
        "generic_neutral_mesh": mean,
        "identity000": mean + np.array([0, 0.5, 0]),
        "identity001": mean + np.array([0.1, 0, 0]),
        "jawOpen": mean - np.array([0, 1.0, 0]),
        "mouthSmile_L": mean + np.array([0, 0, 0.3]),
    }
    (tmp_path / "FaceXModel").mkdir()
    for name, vertices in shapes.items():
        write_obj(tmp_path / "FaceXModel" / f"{name}.obj", vertices, uvs, faces)
    config = {"expressions": ["mouthSmile_L", "jawOpen"]}
    (tmp_path / "FaceXModel" / "vertex_indices.json").write_text(json.dumps(config))
    return tmp_path, mean[:11248] / 100, quads[:-1], uvs


def test_ict_folder_is_cropped_to_the_head(ict_folder):
    folder, mean, quads, uvs = ict_folder
    model = load_model(folder)
    np.testing.assert_allclose(model.mean, mean, atol=1e-6)
    assert model.triangles.shape == (2 * len(quads) - 1, 3)
    assert signed_volume(np.asarray(model.mean), np.asarray(model.triangles)) > 0
    moved = np.asarray(model.identity_basis) * np.asarray(model.identity_sigma)
    np.testing.assert_allclose(moved[..., 0], np.tile([0, 0.005, 0], (11248, 1)), atol=1e-6)
    assert model.expression_names == ("mouthSmile_L", "jawOpen")
    np.testing.assert_allclose(
        model.expression_basis[..., 1], np.tile([0, -0.01, 0], (11248, 1)), atol=1e-6
    )
    np.testing.assert_allclose(model.expression_sd, 0.15)
    corner_uvs = np.asarray(model.uvs)[np.asarray(model.uv_triangles)[1]]  # 0: the triangle
    np.testing.assert_allclose(corner_uvs, uvs[(quads[0, ::-1] // 2)[:3]], atol=1e-6)
    np.testing.assert_array_equal(model.landmark_vertices, landmark_maps.ICT)
    np.testing.assert_array_equal(model.path_vertices[:, 0, 0], landmark_maps.ICT[:17])
    np.testing.assert_array_equal(load_model(folder / "FaceXModel").mean, model.mean)


@pytest.mark.skipif(not ICT_FOLDER.exists(), reason="needs files of ICT-FaceKit")
def test_ict_folder_as_downloaded(tmp_path):
    for path in ICT_FOLDER.glob("*.obj"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "vertex_indices.json").write_text('{"expressions": ["jawOpen"]}')
    model, packed = load_model(tmp_path), load_model(ICT_NPZ)
    np.testing.assert_allclose(model.mean, packed.mean, atol=1e-7)
    np.testing.assert_array_equal(*(np.unique(m.triangles, axis=0) for m in (model, packed)))
    chin = np.asarray(model.expression_basis)[landmark_maps.ICT[8], :, 0]
    assert chin[1] < -0.01  # an open jaw lowers it


@pytest.mark.skipif(not ICT_NPZ.exists(), reason="needs the ICT head")
def test_packed_ict_head():
    model = load_model(ICT_NPZ)
    with np.load(ICT_NPZ) as file:
        mean, modes, lm68 = file["mean"], file["modes"].astype(np.float32), file["lm68"]
    np.testing.assert_allclose(model.mean, mean / 100, atol=1e-7)
    assert signed_volume(np.asarray(model.mean), np.asarray(model.triangles)) > 0.003
    alpha = np.random.default_rng(0).normal(size=100).astype(np.float32)
    expected = (mean + np.einsum("kvi,k->vi", modes, alpha)) / 100
    np.testing.assert_allclose(face_shape(model, alpha, jnp.zeros(0)), expected, atol=2e-6)
    np.testing.assert_array_equal(model.landmark_vertices[17:], lm68[17:])
    np.testing.assert_array_equal(model.landmark_vertices[8], lm68[8])
    eyes = np.asarray(model.mean)[np.asarray(model.landmark_vertices)[[36, 45]]]
    assert 0.08 < eyes[1, 0] - eyes[0, 0] < 0.1
    twice = np.asarray(model.mirror)[np.asarray(model.mirror)]
    np.testing.assert_array_equal(twice, np.arange(len(mean)))


@pytest.mark.parametrize("num_vertices", [3448, 11248, 53149, 53215, 53490])
def test_landmark_lists_name_each_vertex_once(num_vertices):
    landmarks = landmark_maps.known_landmarks(num_vertices)
    known = landmarks[landmarks >= 0]
    assert landmarks.shape == (68,) and len(set(known)) == len(known) >= 26
    assert known.max() < num_vertices


def test_default_head_loads():
    model = load_model()
    assert model.mean.shape[1] == 3 and model.identity_basis.dtype == jnp.float32
    assert signed_volume(np.asarray(model.mean), np.asarray(model.triangles)) > 0.002
    assert (np.asarray(model.landmark_vertices) >= 0).all()
    assert len(model.expression_names) == model.expression_sd.size


def test_own_file_comes_back(tmp_path, head):
    write_eos(tmp_path / "model.bin", head, expression="blendshapes", named={"9": 4})
    model = load_model(tmp_path / "model.bin").replace(
        regions={"face": jnp.arange(len(head.mean)) / 1000.0}, name="a head"
    )
    save_npz(tmp_path / "model.npz", model)
    again = load_npz(tmp_path / "model.npz")
    for key, value in vars(model).items():
        found = getattr(again, key)
        if key in ("identity_basis", "expression_basis", "albedo_basis"):
            np.testing.assert_allclose(found, value, atol=5e-4 * float(abs(value).max()))
        elif key == "regions":
            np.testing.assert_array_equal(found["face"], value["face"])
        elif value is None or isinstance(value, str | tuple):
            assert found == value
        else:
            np.testing.assert_array_equal(found, value)
            assert found.dtype == value.dtype
    assert again.uvs is None and again.expression_names == ("smile", "frown")
    np.testing.assert_array_equal(load_model(str(tmp_path / "model.npz")).mean, model.mean)


def refusal(path):
    """The one line that `load_model` refuses `path` with."""
    with pytest.raises(ValueError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message and "expected" in message and "found" in message
    return message


WRITERS = {
    "basel_2009.mat": write_basel_2009,
    "basel_2017.h5": write_basel_2017,
    "face3d.mat": write_face3d,
    "deep3d.mat": write_deep3d,
    "newer.mat": lambda path, head: write_matlab_73(path, basel_2009_values(head)),
    "lsfm.mat": write_lsfm,
    "lyhm.mat": write_lyhm,
    "surrey.bin": write_eos,
    "generic_model.pkl": write_flame,
    "own.npz": lambda path, head: save_npz(path, load_model()),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.95])
def test_cut_files_are_refused(tmp_path, head, name, share):
    WRITERS[name](tmp_path / name, head)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(share * len(data))])
    assert name in refusal(tmp_path / name)


def mutated(rng, data):
    """A copy with some bytes changed, most near the front, and at times a piece lost or doubled."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        place = int(len(data) * rng.random() ** rng.choice([1, 4]))
        data[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
    kind, (start, end) = rng.integers(6), np.sort(rng.integers(len(data), size=2))
    if kind == 0:
        del data[start : min(end, start + 40)]
    elif kind == 1:
        data[start:start] = data[start : min(end, start + 40)]
    elif kind == 2:
        del data[start:]
    return bytes(data)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path, name):
    coarse = Head(rows=8, columns=12) if name == "generic_model.pkl" else Head()
    WRITERS[name](tmp_path / name, coarse)
    victims = [path for path in tmp_path.iterdir() if path.suffix != ".json"]
    contents = {path: path.read_bytes() for path in victims}
    rng = np.random.default_rng(list(name.encode()))
    num_refused = 0
    for _ in range(40):
        for path in victims:
            path.write_bytes(mutated(rng, contents[path]))
            try:
                model = load_model(tmp_path / name)
                assert np.isfinite(np.asarray(model.identity_basis)).all()
            except ValueError as error:
                num_refused += 1
                assert "\n" not in str(error)
            path.write_bytes(contents[path])
    assert num_refused > 5


@pytest.mark.parametrize("name", WRITERS)
def test_unrelated_content_is_refused_whatever_the_name(tmp_path, name):
    for content in (b"", b"PK\x03\x04 not a zip", b"Dear all,\nthis is a letter.\n" * 40):
        (tmp_path / name).write_bytes(content)
        assert name in refusal(tmp_path / name)


def test_what_is_no_model_file_is_named(tmp_path):
    contents = {
        "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "web page": b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        "JSON": b'{"error": "forbidden"}',
        "unpack": b"\x1f\x8b\x08" + bytes(100),
        "no bytes": b"",
    }
    for word, content in contents.items():
        for name in ("m.mat", "m.h5", "m.npz", "m.pkl"):
            (tmp_path / name).write_bytes(content)
            assert word in refusal(tmp_path / name)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_is_refused_anywhere(tmp_path, head, bad):
    for key in ("shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl"):
        values = basel_2009_values(head)
        values[key].flat[-1] = bad
        write_basel_2009(tmp_path / "m.mat", head, **values)
        assert f"'{key}'" in refusal(tmp_path / "m.mat")
    for key in ("color/model/pcaBasis", "expression/model/pcaBasis", "shape/model/pcaBasis"):
        write_basel_2017(tmp_path / "m.h5", head)
        with h5py.File(tmp_path / "m.h5", "a") as file:
            file[key][-1, -1] = bad
        assert "NaN" in refusal(tmp_path / "m.h5")
    uvs = np.zeros((len(head.mean), 2))
    uvs[-1] = bad
    write_eos(tmp_path / "m.bin", head, uvs=uvs)
    assert "NaN" in refusal(tmp_path / "m.bin")
    save_npz(tmp_path / "m.npz", load_model())
    with np.load(tmp_path / "m.npz") as file:
        arrays = dict(file)
    for key in ("identity_basis", "expression_sd", "region_face"):
        changed = arrays[key].copy()
        changed.flat[0] = bad
        np.savez(tmp_path / "m.npz", **arrays | {key: changed})
        assert f"'{key}'" in refusal(tmp_path / "m.npz")


@pytest.mark.skipif(not CASES.exists(), reason="needs files that people had")
def test_files_that_people_had():
    for name, num_expressions in (("bfm09_v73.mat", 0), ("face3d_BFM.mat", 5)):
        model = load_model(CASES / name)
        assert model.mean.shape == (3448, 3) and model.expression_sd.size == num_expressions
        assert signed_volume(np.asarray(model.mean), np.asarray(model.triangles)) > 0
        assert 0.1 < float(np.ptp(model.mean[:, 1])) < 0.4
    assert "web page" in refusal(CASES / "html.mat")
    assert "numbers of type 0" in refusal(CASES / "kills_the_reader.mat")


def test_zip_of_an_unknown_version_is_refused(tmp_path):
    save_npz(tmp_path / "m.npz", load_model())
    data = bytearray((tmp_path / "m.npz").read_bytes())
    central = data.rindex(b"PK\x01\x02")
    data[central + 6] = 99  # the version that is needed to unpack
    (tmp_path / "m.npz").write_bytes(data)
    assert "broken" in refusal(tmp_path / "m.npz")


def test_missing_things_are_named(tmp_path, head):
    assert "No such file" in refusal(tmp_path / "absent.mat")
    assert "generic_neutral_mesh.obj" in refusal(tmp_path)
    for key in ("shapePC", "shapeEV", "tl"):
        write_basel_2009(tmp_path / "m.mat", head, **{key: None})
        assert f"'{key}'" in refusal(tmp_path / "m.mat")
    for key in ("eigenvalues", "trilist", "mean"):
        write_lsfm(tmp_path / "m.mat", head, **{key: None})
        assert f"'{key}'" in refusal(tmp_path / "m.mat")
    write_lyhm(tmp_path / "m.mat", head, tri=None)
    assert "'tri'" in refusal(tmp_path / "m.mat")
    scipy.io.savemat(tmp_path / "m.mat", {"letter": 1})
    assert "shapeMU" in refusal(tmp_path / "m.mat") and "letter" in refusal(tmp_path / "m.mat")
    for key in ("shape/model/mean", "shape/model/pcaVariance", "shape/representer/cells"):
        write_basel_2017(tmp_path / "m.h5", head, without=key)
        assert f"'{key}'" in refusal(tmp_path / "m.h5")
    np.savez(tmp_path / "m.npz", mean=np.zeros((4, 3)))
    assert "'identity_sigma'" in refusal(tmp_path / "m.npz")


def test_arrays_that_do_not_fit_are_refused(tmp_path, head):
    bad = head.triangles.copy()
    bad[5, 1] = len(head.mean)
    write_lsfm(tmp_path / "m.mat", head, trilist=bad)
    assert f"0 to {len(head.mean)}" in refusal(tmp_path / "m.mat")
    write_basel_2009(tmp_path / "m.mat", head, tl=head.triangles.astype(float))  # counts from 0
    assert "triangles" in refusal(tmp_path / "m.mat")
    write_lsfm(tmp_path / "m.mat", head, components=head.basis[:-3])
    assert "'components'" in refusal(tmp_path / "m.mat")
    write_lsfm(tmp_path / "m.mat", head, eigenvalues=-np.ones(3))
    assert "'eigenvalues'" in refusal(tmp_path / "m.mat")
    write_lsfm(tmp_path / "m.mat", head, mean=np.full(head.mean.size, np.nan))
    assert "'mean'" in refusal(tmp_path / "m.mat")
    write_lsfm(tmp_path / "m.mat", head, mean="none")
    assert "'mean'" in refusal(tmp_path / "m.mat")
    write_lsfm(tmp_path / "m.mat", head, components=head.basis.T)
    assert "'components'" in refusal(tmp_path / "m.mat")
    write_eos(tmp_path / "m.bin", head, named={"31": len(head.mean)})
    assert "landmarks" in refusal(tmp_path / "m.bin")
    write_eos(tmp_path / "m.bin", head, uvs=np.zeros((5, 2)))
    assert "texture triangles" in refusal(tmp_path / "m.bin")
    (tmp_path / "m.bin").write_bytes(eos_bytes(head) + b"more")
    assert "4 bytes more" in refusal(tmp_path / "m.bin")
    (tmp_path / "m.bin").write_bytes(struct.pack("<I", 9) + eos_bytes(head)[4:])
    assert "version 9" in refusal(tmp_path / "m.bin")


def test_landmarks_of_another_mesh_are_refused(tmp_path, head):
    vertices = np.random.default_rng(4).permutation(len(head.mean))[:51]
    named = {str(18 + i): int(v) for i, v in enumerate(vertices)}
    write_eos(tmp_path / "m.bin", head, named=named)
    assert "another order" in refusal(tmp_path / "m.bin")


def test_ict_files_are_refused_one_by_one(ict_folder):
    folder = ict_folder[0] / "FaceXModel"
    text = (folder / "identity001.obj").read_text()
    for cut in (text[:100_000], "\n".join(text.split("\n")[:6000]), "nothing"):
        (folder / "identity001.obj").write_text(cut)
        assert "identity001.obj" in refusal(folder)
    (folder / "identity001.obj").write_text(text)
    (folder / "jawOpen.obj").unlink()
    assert "jawOpen.obj" in refusal(folder)
    for path in folder.glob("identity*.obj"):
        path.unlink()
    assert "identity000.obj" in refusal(folder)
    np.savez(folder / "m.npz", mean=np.zeros((7, 3)), tri=[[0, 1, 2]], modes=np.zeros((1, 7, 3)))
    assert str(ict_io.NUM_HEAD) in refusal(folder / "m.npz")


class _Trap:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(_Trap.path),)


def test_pickles_are_never_executed(tmp_path):
    _Trap.path = str(tmp_path / "opened")
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(_Trap()))
    refusal(tmp_path / "flame.pkl")
    (tmp_path / "flame.mat").write_bytes(pickle.dumps(_Trap()))
    refusal(tmp_path / "flame.mat")
    np.savez(tmp_path / "flame.npz", mean=np.array([_Trap()], dtype=object))
    refusal(tmp_path / "flame.npz")
    assert not (tmp_path / "opened").exists()
