"""Small model files of each maker's layout, for the tests of what reads them."""

import json
import struct

import h5py
import numpy as np
import scipy.io
import scipy.spatial

from recon.assets import load_model

RADII = np.array([0.075, 0.12, 0.1])  # metres
COLOUR_SD = np.array([0.05, 0.02])


def landmarks_on(mean):
    """The vertices [68] of an ellipsoid that lie nearest to the default head's landmarks."""
    default = load_model()
    points = np.asarray(default.mean)[np.asarray(default.landmark_vertices)]
    return scipy.spatial.cKDTree(mean).query(points)[1]


class Head:
    """An ellipsoid of a head, in metres, with three modes; the truth that files are made from."""

    def __init__(self, seed=0, rows=9, columns=14):
        rng = np.random.default_rng(seed)
        tilt = np.linspace(0.2, np.pi - 0.2, rows)[:, None]
        turn = np.arange(columns)[None] * 2 * np.pi / columns
        sphere = np.stack(
            [np.sin(tilt) * np.sin(turn), np.cos(tilt) + 0 * turn, np.sin(tilt) * np.cos(turn)], -1
        )
        self.mean = sphere.reshape(-1, 3) * RADII
        grid = np.arange(rows * columns).reshape(rows, columns)
        a, b = grid[:-1], np.roll(grid, -1, axis=1)[:-1]
        c, d = grid[1:], np.roll(grid, -1, axis=1)[1:]
        triangles = [np.stack([a, c, d], -1), np.stack([a, d, b], -1)]
        self.triangles = np.concatenate([t.reshape(-1, 3) for t in triangles])
        self.sd = np.array([0.03, 0.011, 0.004])
        self.basis = np.linalg.qr(rng.normal(size=(self.mean.size, 3)))[0]
        self.expression_sd = np.array([0.02, 0.007])
        self.expression = np.linalg.qr(rng.normal(size=(self.mean.size, 2)))[0]
        self.landmarks = landmarks_on(self.mean)
        self.colour = rng.uniform(0.2, 0.8, self.mean.shape)
        self.colour_basis = np.linalg.qr(rng.normal(size=(self.mean.size, 2)))[0]

    def shape(self, alpha, beta=()):
        moved = self.basis @ (self.sd * alpha)
        if len(beta):
            moved = moved + self.expression @ (self.expression_sd * np.asarray(beta))
        return self.mean + moved.reshape(-1, 3)


def column(array, scale=1.0):
    return (np.asarray(array).reshape(-1, 1) * scale).astype(np.float32)


def basel_2009_values(head, **changes):
    """Micrometres, deviations called EV, colours in bytes, triangles 1-based and clockwise."""
    return {
        "shapeMU": column(head.mean, 1e6),
        "shapePC": head.basis.astype(np.float32),
        "shapeEV": column(head.sd, 1e6),
        "texMU": column(head.colour, 255),
        "texPC": head.colour_basis.astype(np.float32),
        "texEV": column(COLOUR_SD, 255),
        "tl": (head.triangles[:, [0, 2, 1]] + 1).astype(np.float64),
        "segbin": np.ones((len(head.mean), 4)),
    } | changes


def write_basel_2009(path, head, **changes):
    values = basel_2009_values(head, **changes)
    scipy.io.savemat(path, {k: v for k, v in values.items() if v is not None}, do_compression=True)


def write_matlab_73(path, values):
    """Writes arrays, and structs of arrays, as MATLAB's -v7.3: HDF5 with the axes turned."""

    def put(group, values):
        for name, value in values.items():
            if isinstance(value, dict):
                put(group.create_group(name), value)
            elif value is not None:
                group.create_dataset(
                    name, data=np.atleast_2d(value).T, chunks=True, compression="gzip"
                )

    with h5py.File(path, "w", userblock_size=512) as file:
        put(file, values)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")


def face3d_values(head, **changes):
    """Basel 2009 as face3d packs it: in a struct, with expressions; triangles along columns."""
    model = {
        "shapeMU": column(head.mean, 1e6) - 500.0,
        "shapePC": head.basis.astype(np.float32),
        "shapeEV": column(head.sd, 1e6),
        "expMU": np.full((head.mean.size, 1), 500.0),
        "expPC": head.expression * 1e3,
        "expEV": column(head.expression_sd, 1e3),
        "texMU": column(head.colour, 255),
        "texPC": head.colour_basis.astype(np.float32),
        "texEV": column(COLOUR_SD, 255),
        "tri": (head.triangles[:, [0, 2, 1]] + 1).T.astype(np.float64),
        "kpt_ind": head.landmarks[None] + 1,
    }
    return {"model": model | changes}


def write_face3d(path, head, **changes):
    scipy.io.savemat(path, face3d_values(head, **changes), do_compression=True)


def write_deep3d(path, head, **changes):
    """Decimetres; columns scaled by their deviations; triangles and landmarks count from 1."""
    values = {
        "meanshape": column(head.mean, 10).T,
        "idBase": head.basis * head.sd * 10,
        "exBase": head.expression * head.expression_sd * 10,
        "meantex": column(head.colour, 255).T,
        "texBase": head.colour_basis * COLOUR_SD * 255,
        "tri": head.triangles.astype(np.float64) + 1,
        "keypoints": head.landmarks[None] + 1,
        "frontmask2_idx": np.arange(5.0)[:, None],
    } | changes
    scipy.io.savemat(path, {k: v for k, v in values.items() if v is not None})


def write_basel_2017(path, head, version=(0, 9), mean_expression=0.0, named=None, without=None):
    """Millimetres, variances, one row per triangle corner; version 0.8 scales the basis."""
    scale = 1e3
    with h5py.File(path, "w") as file:
        for group, mean, basis, sd, unit in (
            ("shape", head.mean - mean_expression, head.basis, head.sd, scale),
            ("expression", np.full_like(head.mean, mean_expression), head.expression, None, scale),
            ("color", head.colour, head.colour_basis, COLOUR_SD, 1.0),
        ):
            sd = (head.expression_sd if sd is None else sd) * unit
            model = file.create_group(f"{group}/model")
            model["mean"] = column(mean, unit).ravel()
            model["pcaVariance"] = (sd**2).astype(np.float32)
            model["pcaBasis"] = (basis * (sd if version == (0, 8) else 1.0)).astype(np.float32)
            model["noiseVariance"] = np.zeros(1, np.float32)
            file[f"{group}/representer/cells"] = head.triangles.T.astype(np.int32)
            file[f"{group}/representer/points"] = (head.mean.T * scale).astype(np.float32)
            if version is not None:
                file[f"{group}/version/majorVersion"] = np.array([version[0]], np.int32)
                file[f"{group}/version/minorVersion"] = np.array([version[1]], np.int32)
        if named:
            entries = [{"id": k, "coordinates": (np.array(v) * scale).tolist()} for k, v in named]
            file["metadata/landmarks/json"] = json.dumps(entries)
        if without:
            del file[without]


def write_lsfm(path, head, **changes):
    """One long row for the mean, variances, triangles 0-based."""
    values = {
        "mean": column(head.mean, 1e3).ravel(),
        "components": head.basis.astype(np.float32),
        "eigenvalues": (head.sd * 1e3) ** 2,
        "trilist": head.triangles.astype(np.uint32),
        "n_training_samples": 8402,
    } | changes
    scipy.io.savemat(path, {k: v for k, v in values.items() if v is not None})


def write_lyhm(path, head, **changes):
    """Structs; variances; triangles 1-based, clockwise."""
    values = {
        "shp": {
            "mu": column(head.mean, 1e3).T,
            "eigVec": head.basis,
            "eigVal": (head.sd * 1e3) ** 2,
        },
        "tex": {
            "mu": column(head.colour).T,
            "eigVec": head.colour_basis,
            "eigVal": COLOUR_SD**2,
        },
        "tri": {"faces": head.triangles[:, [0, 2, 1]] + 1},
    } | changes
    scipy.io.savemat(path, {k: v for k, v in values.items() if v is not None})


def eos_matrix(matrix):
    matrix = np.asarray(matrix, "<f4")
    return struct.pack("<ii", *matrix.shape) + matrix.T.tobytes()


def eos_triangles(triangles):
    return struct.pack("<Q", len(triangles)) + np.asarray(triangles, "<i4").tobytes()


def eos_text(text):
    return struct.pack("<Q", len(text)) + text.encode()


def eos_bytes(head, version=4, expression=None, named=None, uvs=(), scale=1e3, turn=None):
    """Variances, matrices column by column."""

    def pca(mean, basis, variance, triangles):
        parts = (column(mean), np.asarray(basis), column(variance))
        return b"".join(map(eos_matrix, parts)) + eos_triangles(triangles)

    turn = np.eye(3) if turn is None else turn
    basis = np.einsum("ij,vjk->vik", turn, head.basis.reshape(-1, 3, 3)).reshape(-1, 3)
    data = struct.pack("<I", version)
    data += pca(head.mean @ turn.T * scale, basis, (head.sd * scale) ** 2, head.triangles)
    data += pca(head.colour, head.colour_basis, COLOUR_SD**2, head.triangles)
    if version >= 2:
        data += bytes([expression is None])
        if expression == "pca":
            variance = (head.expression_sd * scale) ** 2
            data += struct.pack("<i", 0)
            data += pca(0 * head.mean, head.expression, variance, head.triangles)
        elif expression == "blendshapes":
            data += struct.pack("<iQ", 1, 2)
            for name, shape in zip(("smile", "frown"), head.expression.T, strict=True):
                data += eos_text(name) + eos_matrix(column(shape, scale))
    if version >= 3:
        data += bytes([named is None])
        if named is not None:
            data += struct.pack("<Q", len(named))
            for name, vertex in named.items():
                data += eos_text(name) + struct.pack("<i", vertex)
    data += struct.pack("<Q", len(uvs)) + np.asarray(uvs, "<f8").tobytes()
    return data + (eos_triangles(head.triangles if len(uvs) else ()) if version >= 4 else b"")


def write_eos(path, head, **options):
    path.write_bytes(eos_bytes(head, **options))


def write_obj(path, vertices, uvs, faces):
    lines = ["# ICT FaceKit v 1", "mtllib ICTFaceModelMaterial.mtl"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in uvs]
    lines += ["f " + " ".join(f"{v + 1}/{t + 1}" for v, t in face) for face in faces]
    path.write_text("\n".join(lines) + "\n")
