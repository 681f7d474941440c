"""Model files of every format become one `MorphableModel`.

| file | format |
| --- | --- |
| `default` | the head that ships with the package |
| `.npz` | this package's own, a packed ICT head, or FLAME |
| `.pkl` | FLAME, its landmarks' embedding beside it |
| `.mat` | Basel 2009 and what face3d and Deep3DFace made of it, LSFM, LYHM; any version from 5 on |
| `.h5` | Basel 2017 and 2019 (statismo) |
| `.bin` | eos, such as the Surrey Face Model |
| folder | ICT-FaceKit light (`generic_neutral_mesh.obj`, ...) or FLAME (`generic_model.pkl`, ...) |

The format is told by the content, not by the name. Nothing in a pickle is executed: see
`render.pickle_io`.

Units: metres and [0, 1] albedo in memory, whatever the file held.
"""

import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from recon.contour_paths.rule import (
    MIN_COMMON,
    PathTemplate,
    generate_paths,
    landmark_misfit,
    path_template,
)
from recon.formats import bfm_io, eos_io, flame_io, ict_io, lsfm_io, matlab_io
from recon.formats.pickle_io import read_pickle
from recon.formats.raw_model import (
    RawModel,
    field,
    foreign_kind,
    listed,
    refuse,
    to_morphable,
)
from recon.morphable import (
    NUM_CONTOUR,
    NUM_LANDMARKS,
    IdentityPrior,
    MorphableModel,
    landmark_embedding,
)
from render.files_io import read_arrays, replacing
from render.pickle_io import is_pickle

_DATA = pathlib.Path(__file__).parent / "data"
_DEFAULT = _DATA / "default_head.npz"
_PEOPLE = _DATA / "people_prior.npz"
_ICT_PATHS = _DATA / "ict_paths.npz"  # drawn by contour_paths, the default head as template

_HALF_FIELDS = ("identity_basis", "expression_basis", "albedo_basis")
_INDEX_FIELDS = (
    "triangles",
    "landmark_vertices",
    "landmark_corners",
    "path_vertices",
    "uv_triangles",
    "mirror",
)
_FLOAT_FIELDS = (
    "mean",
    "identity_sigma",
    "expression_sd",
    "expression_bounds",
    "path_weights",
    "landmark_weights",
    "albedo_mean",
    "albedo_sigma",
    "uvs",
)
_OPTIONAL_FIELDS = (
    "landmark_corners",
    "landmark_weights",
    "albedo_mean",
    "albedo_basis",
    "albedo_sigma",
    "uvs",
    "uv_triangles",
    "mirror",
)
_OWN = "a model saved by save_npz"
_FORMATS = "a face model (.npz, .pkl, .mat, .h5, .bin or a folder of ICT-FaceKit or FLAME)"
_MOST_MISFIT = (
    0.3  # ICT against the default head: 0.08; a list that fits another mesh: 0.7 and more
)
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ZIP_MAGIC = b"PK\x03\x04"
_MATLAB_73 = b"MATLAB 7.3"


def load_model(source: str | os.PathLike = "default") -> MorphableModel:
    """Loads a morphable model.

    Landmarks that no published list gives for a mesh are -1, and so are all landmarks of a mesh
    that is not known; see `formats.landmark_maps`. Contour paths are drawn on load (under a second
    for 100,000 triangles); where a jaw landmark is -1 its path starts at a guess.

    Args:
      source: "default" or the path of a file or folder.

    Raises:
      ValueError: one line, naming the file, what was expected in it and what was found.
    """
    if str(source) == "default":
        return load_npz(_DEFAULT)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        return _load(pathlib.Path(source).expanduser())


def _load(path: pathlib.Path) -> MorphableModel:
    if path.is_dir():
        if folder := ict_io.find_folder(path):
            return _finished(ict_io.read_ict(folder), path)
        file = flame_io.find_model(path)
        if file is None:
            found = "neither generic_neutral_mesh.obj nor generic_model.pkl in it"
            raise refuse(path, "a folder of ICT-FaceKit or FLAME", found)
        path = file
    head = _first_bytes(path)
    if head.startswith(_ZIP_MAGIC):
        return _from_zip(path)
    if found := foreign_kind(head):
        raise refuse(path, _FORMATS, found)
    if is_pickle(head) or path.suffix == ".pkl":
        return _finished(_from_pickle(path), path)
    if head.startswith((_HDF5_MAGIC, _MATLAB_73)):
        if bfm_io.is_statismo(path):
            return _finished(bfm_io.read_statismo(path), path)
        return _finished(_from_matlab(path, matlab_io.read_hdf5_arrays(path)), path)
    if head.startswith(matlab_io.MATLAB_5) or path.suffix == ".mat":
        return _finished(_from_matlab(path, matlab_io.read_matlab(path)), path)
    if eos_io.is_eos(head) or path.suffix == ".bin":
        return _finished(eos_io.read_eos(path), path)
    raise refuse(path, _FORMATS, f"a file that starts with {head[:8]!r}")


def save_npz(path: str | os.PathLike, model: MorphableModel) -> None:
    """Writes `model` to `path`: one array per field, `region_<name>` per region.

    Bases are float16 on disk (half the file, an error of about 5e-4 of each entry); fields that are
    None are left out.
    """
    arrays = {}
    for key in _FLOAT_FIELDS + _HALF_FIELDS + _INDEX_FIELDS:
        value = getattr(model, key)
        if value is None:
            continue
        dtype = np.int32
        if key in _FLOAT_FIELDS:
            dtype = np.float32
        elif key in _HALF_FIELDS:
            dtype = np.float16
        arrays[key] = np.asarray(value).astype(dtype)
    for region, weight in (model.regions or {}).items():
        arrays[f"region_{region}"] = np.asarray(weight, np.float32)
    arrays["expression_names"] = np.array(model.expression_names, dtype=np.str_)
    arrays["name"] = np.array(model.name, dtype=np.str_)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def save_prior(path: str | os.PathLike, prior: IdentityPrior) -> None:
    """Writes a prior, as `load_people_prior` reads it."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file, mean=np.float32(prior.mean), covariance=np.float32(prior.covariance)
        )


@functools.lru_cache(maxsize=1)
def load_people_prior() -> IdentityPrior:
    """Reads which of the default head's identities real people have."""
    arrays = read_arrays(_PEOPLE, "a prior saved by save_prior")
    return IdentityPrior(*(arrays[name].astype(np.float64) for name in ("mean", "covariance")))


def load_npz(path: str | os.PathLike) -> MorphableModel:
    """Reads what `save_npz` wrote.

    Raises:
      ValueError: one line, when the file is missing, damaged or is something else.
    """
    path = pathlib.Path(path)
    _first_bytes(path)
    return _own_model(path, read_arrays(path, _OWN))


def _first_bytes(path: pathlib.Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(128)
    except OSError as error:
        raise refuse(path, _FORMATS, error.strerror or type(error).__name__) from error


def _from_zip(path: pathlib.Path) -> MorphableModel:
    arrays = read_arrays(path, _OWN)
    if "modes" in arrays and "tri" in arrays:
        return _finished(ict_io.ict_npz(path, arrays), path)
    if flame_io.is_flame(arrays):
        return _finished(flame_io.flame(path, arrays), path)
    return _own_model(path, arrays)


def _from_pickle(path: pathlib.Path) -> RawModel:
    values = read_pickle(path)
    if not flame_io.is_flame(values):
        raise refuse(path, "'v_template' and 'shapedirs' (FLAME)", listed(values))
    return flame_io.flame(path, values)


def _from_matlab(path: pathlib.Path, values: dict) -> RawModel:
    """Tells the models that come in MATLAB files by the names of their arrays."""
    model = values.get("model")
    if isinstance(model, dict) and "shapeMU" in model:
        return bfm_io.face3d(path, model)
    if "meanshape" in values:
        return bfm_io.deep3d(path, values)
    if "shapeMU" in values:
        return bfm_io.basel_2009(path, values)
    if "shp" in values:
        return lsfm_io.lyhm(path, values)
    if "components" in values:
        return lsfm_io.lsfm(path, values)
    wanted = "'shapeMU' (Basel 2009), 'model' (face3d), 'meanshape' (Deep3D), "
    wanted += "'components' (LSFM) or 'shp' (LYHM)"
    raise refuse(path, wanted, listed(values))


def _own_model(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> MorphableModel:
    fields = {}
    for key in _FLOAT_FIELDS + _HALF_FIELDS + _INDEX_FIELDS:
        if key in arrays or key not in _OPTIONAL_FIELDS:
            dtype = np.int32 if key in _INDEX_FIELDS else np.float32
            fields[key] = field(path, arrays, key, _OWN).astype(dtype)
    _check_shapes(path, fields)
    regions = {
        key.removeprefix("region_"): field(path, arrays, key, _OWN).astype(np.float32)
        for key in arrays
        if key.startswith("region_")
    }
    return MorphableModel(
        **jax.device_put(fields),
        regions=jax.device_put(regions) or None,
        expression_names=tuple(str(name) for name in arrays.get("expression_names", ())),
        name=str(arrays.get("name", path.stem)),
    )


def _check_shapes(path: pathlib.Path, fields: dict[str, np.ndarray]) -> None:
    num_vertices = len(fields["mean"])
    num_identity = fields["identity_sigma"].size
    num_expression = fields["expression_sd"].size
    wanted = {
        "mean": (num_vertices, 3),
        "identity_basis": (num_vertices, 3, num_identity),
        "expression_basis": (num_vertices, 3, num_expression),
        "expression_bounds": (num_expression, 2),
        "landmark_vertices": (NUM_LANDMARKS,),
        "path_vertices": (NUM_CONTOUR, *fields["path_weights"].shape[1:]),
    }
    if "landmark_corners" in fields or "landmark_weights" in fields:
        wanted |= dict.fromkeys(("landmark_corners", "landmark_weights"), (NUM_LANDMARKS, 3))
    for key, shape in wanted.items():
        if key not in fields or fields[key].shape != shape:
            found = fields[key].shape if key in fields else "none"
            raise refuse(path, f"'{key}' of shape {shape}", f"{found}")
    for key in ("triangles", "landmark_vertices", "landmark_corners", "path_vertices"):
        if key in fields and fields[key].max(initial=0) >= num_vertices:
            raise refuse(path, f"'{key}' below {num_vertices}", str(fields[key].max()))


def _finished(raw: RawModel, path: pathlib.Path) -> MorphableModel:
    """Converts a foreign model and draws its contour paths."""
    model = to_morphable(raw, path)
    _check_landmarks(model, path)
    if len(raw.mean) == ict_io.NUM_HEAD and np.array_equal(raw.landmarks, ict_io.LANDMARKS):
        with np.load(_ICT_PATHS, allow_pickle=False) as file:
            corners, weights = file["path_vertices"], file["path_weights"]
    else:
        corners, weights = generate_paths(
            np.asarray(model.mean),
            np.asarray(model.triangles),
            np.asarray(model.landmark_vertices),
            _default_template(),
        )
    return model.replace(
        path_vertices=jnp.asarray(corners, jnp.int32), path_weights=jnp.asarray(weights)
    )


def _check_landmarks(model: MorphableModel, path: pathlib.Path) -> None:
    """Refuses a mesh that is told by its number of vertices but keeps them in another order."""
    known = np.asarray(model.landmark_vertices) >= 0
    if known.sum() < MIN_COMMON:
        return
    corners, weights = map(np.asarray, landmark_embedding(model))
    points = np.einsum("lc,lci->li", weights, np.asarray(model.mean)[corners])
    misfit = landmark_misfit(_default_template().landmarks[known], points[known])
    if misfit > _MOST_MISFIT:
        found = f"them {misfit:.0%} off; are the vertices in another order?"
        raise refuse(path, f"the landmarks of a face, {_MOST_MISFIT:.0%} off at most", found)


@functools.cache
def _default_template() -> PathTemplate:
    return path_template(load_npz(_DEFAULT))
