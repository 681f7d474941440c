"""A model as its file holds it, and its conversion to the conventions of `MorphableModel`.

The readers of the formats only name what is what; everything that users get wrong by hand (units,
axes, winding, index base, variance or deviation) is settled here, once, by measuring the mesh.

Axes: V vertices, T triangles, K identity modes, E expression modes, A albedo modes.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.spatial
from numpy.typing import NDArray

from recon.contour_paths.rule import NUM_CONTROL
from recon.morphable import NUM_CONTOUR, NUM_LANDMARKS, MorphableModel

BLENDSHAPE_SD = 0.15
BLENDSHAPE_BOUNDS = (-0.1, 1.0)
PCA_BOUNDS = (-3.0, 3.0)  # in standard deviations
_TYPICAL_SIZE = 0.25  # metres; between a face mask (0.17) and a head with neck (0.34)
_HUGE = 1e30  # its square is finite; no unit makes a head as large
_MIRROR_TOLERANCE = 1e-3  # metres; a mesh is called symmetric up to this median distance


@dataclasses.dataclass
class RawModel:
    """Plain arrays in the file's own unit, axes and winding; `x y z` already apart."""

    mean: NDArray  # [V, 3]
    triangles: NDArray  # [T, 3]
    identity_modes: NDArray  # [V, 3, K] displacement of one standard deviation
    first_index: int = 0  # of a vertex in `triangles`
    expression_modes: NDArray | None = None  # [V, 3, E] displacement of one unit
    expression_names: tuple[str, ...] = ()
    is_blendshapes: bool = False  # else a unit of expression is one standard deviation
    albedo_mean: NDArray | None = None  # [V, 3] in [0, 1] or [0, 255]
    albedo_modes: NDArray | None = None  # [V, 3, A] displacement of one standard deviation
    landmarks: NDArray | None = None  # [68] vertices, -1 where there is none
    landmark_corners: NDArray | None = None  # [68, 3] vertices, in place of `landmarks`
    landmark_weights: NDArray | None = None  # [68, 3] barycentric, of the corners
    uvs: NDArray | None = None  # [U, 2], v up
    uv_triangles: NDArray | None = None  # [T, 3]
    regions: dict[str, NDArray] | None = None  # name -> [V]
    name: str = "unnamed"


class ModelFileError(ValueError):
    """A model file is not what it should be; the message is one line."""


def refuse(path: Any, expected: str, found: str) -> ModelFileError:
    """Returns the one-line error for a file that is not what it should be."""
    return ModelFileError(" ".join(f"{path}: expected {expected}, found {found}".split()))


def guarded(path: Any, expected: str, read: Callable[[], Any]) -> Any:
    """Runs a reader; whatever a damaged file makes the libraries raise becomes one line."""
    try:
        return read()
    except ModelFileError:
        raise
    except Exception as error:  # parsers of binary formats raise anything on damaged input
        reason = str(error).strip() or "no reason given"
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise refuse(path, expected, kind + reason[:200]) from error


def foreign_kind(head: bytes) -> str | None:
    """Says what a file of no model format is, by its first bytes, and the way out."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "no bytes"
    if text.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer: `git lfs pull` brings the file itself"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")):
        return "a web page: log in where the model comes from, and download the file itself"
    if text.startswith((b"{", b"[")):
        return "JSON, perhaps what a server answered: download the file itself"
    if head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")):
        return "a compressed file: unpack it first"
    return None


def listed(names: Iterable[str]) -> str:
    """Names the first things a file holds, for an error."""
    return ", ".join(sorted(map(str, names))[:12]) or "nothing"


def field(path: Any, values: dict, key: str, expected: str) -> NDArray:
    """Returns the numeric array `values[key]`, refusing the file where it is missing."""
    if key not in values:
        raise refuse(path, f"{expected} with '{key}'", listed(values))
    array = np.asarray(values[key])
    if array.dtype.kind not in "fiu":
        raise refuse(path, f"numbers in '{key}'", f"type {array.dtype}")
    check_finite(path, {f"'{key}'": array})
    return array


def columns(path: Any, key: str, matrix: NDArray, num_vertices: int) -> NDArray:
    """Splits a matrix of rows x1 y1 z1 x2 ... into [V, 3, K]."""
    matrix = np.asarray(matrix, np.float32)
    if matrix.size == 0 or len(matrix) != 3 * num_vertices:
        raise refuse(path, f"{3 * num_vertices} rows in '{key}'", f"shape {matrix.shape}")
    return matrix.reshape(num_vertices, 3, -1)


def points(path: Any, key: str, vector: NDArray) -> NDArray:
    """Splits a vector x1 y1 z1 x2 ... into [V, 3]."""
    vector = np.asarray(vector, np.float32).ravel()
    if vector.size == 0 or vector.size % 3:
        raise refuse(path, f"a multiple of 3 numbers in '{key}'", str(vector.size))
    check_finite(path, {f"'{key}'": vector})
    return vector.reshape(-1, 3)


def deviations(path: Any, key: str, values: NDArray, num_modes: int) -> NDArray:
    """Checks standard deviations or variances [K]: one per mode, none negative."""
    values = np.asarray(values, np.float32).ravel()
    if values.size != num_modes or not (values >= 0).all():
        found = f"{values.size} numbers, least {values.min(initial=0):g}"
        raise refuse(path, f"{num_modes} non-negative numbers in '{key}'", found)
    return values


def to_morphable(raw: RawModel, path: Any) -> MorphableModel:
    """Converts a raw model to metres, y up, z out of the face, counter-clockwise, unit columns.

    The contour paths are left empty (every control point on vertex 0), see `contour_paths.rule`.

    Args:
      raw: what the reader found.
      path: the file, for the errors.

    Raises:
      ValueError: one line, when the arrays do not fit each other.
    """
    expression = raw.expression_modes
    if expression is None:
        expression = np.zeros((len(raw.mean), 3, 0), np.float32)
    _check_numbers(raw, path)
    _check_modes(raw.identity_modes, expression, raw, path)
    landmarks = _landmarks(raw, path)
    turn = _axes(raw.mean, landmarks["landmark_vertices"]).astype(np.float32)
    unit = np.float32(metres_per_unit(raw.mean, path))
    mean = raw.mean @ turn.T * unit
    basis, sigma = _unit_columns(_turned(raw.identity_modes, turn, unit))
    fields = {
        "mean": mean,
        "identity_basis": basis,
        "identity_sigma": sigma,
        "expression_basis": _turned(expression, turn, unit),
        "path_weights": np.tile([1.0, 0.0, 0.0], (NUM_CONTOUR, NUM_CONTROL, 1)),
        "landmark_weights": raw.landmark_weights,
        "uvs": raw.uvs,
        **_expression_prior(raw, expression.shape[-1]),
        **_albedo(raw, len(mean), path),
    }
    regions = {name: jnp.asarray(x, jnp.float32) for name, x in (raw.regions or {}).items()}
    indices = {
        "path_vertices": np.zeros((NUM_CONTOUR, NUM_CONTROL, 3)),
        "mirror": mirror_vertices(mean),
        **landmarks,
        **_faces(raw, mean, path),
    }
    return MorphableModel(
        **{key: jnp.asarray(x, jnp.float32) for key, x in fields.items() if x is not None},
        **{key: jnp.asarray(x, jnp.int32) for key, x in indices.items() if x is not None},
        regions=regions or None,
        expression_names=raw.expression_names,
        name=raw.name,
    )


def check_finite(path: Any, fields: dict[str, NDArray]) -> None:
    """Refuses a model with a NaN or an infinity anywhere: a fit would end in nothing but NaN."""
    for key, array in fields.items():
        if array.size and not -_HUGE < float(array.min()) <= float(array.max()) < _HUGE:
            bad = array.size - int((np.abs(array.astype(np.float64)) < _HUGE).sum())
            raise refuse(path, "finite numbers", f"{bad} NaN, infinite or huge in its {key}")


def metres_per_unit(mean: NDArray, path: Any) -> float:
    """Returns the power of ten that makes the mesh as large as a face or a head.

    Model files do not state their unit: Basel 2009 is in micrometres, 2017 and Surrey in
    millimetres, ICT in centimetres, and conversions between them keep either. The largest side of
    the mesh is 8 to 79 cm in exactly one of them.
    """
    size = float(np.ptp(mean, axis=0).max())
    if not 0.0 < size < np.inf:
        raise refuse(path, "a mesh of some size", f"largest side {size:g}")
    return 10.0 ** round(np.log10(_TYPICAL_SIZE / size))


def signed_volume(vertices: NDArray, triangles: NDArray) -> float:
    """Volume between the mesh and its centroid; positive where triangles run CCW from outside.

    It works for a face mask as well: the mask bulges away from its centroid.
    """
    corner = (vertices - vertices.mean(axis=0)).astype(np.float64)[triangles]
    return float(np.linalg.det(corner).sum() / 6.0)


def mirror_vertices(mean: NDArray) -> NDArray | None:
    """Returns for each vertex [V] the one nearest to its mirror image; None if not symmetric."""
    distance, nearest = scipy.spatial.cKDTree(mean).query(mean * np.array([-1.0, 1.0, 1.0]))
    return nearest if np.median(distance) < _MIRROR_TOLERANCE else None


def _check_numbers(raw: RawModel, path: Any) -> None:
    arrays = dict(raw.regions or {})
    for key, value in vars(raw).items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            arrays[key.replace("_", " ")] = value
    check_finite(path, arrays)


def _check_modes(identity: NDArray, expression: NDArray, raw: RawModel, path: Any) -> None:
    for what, array in (("identity", identity), ("expression", expression)):
        if array.shape[:2] != (len(raw.mean), 3):
            found = f"shape {array.shape}"
            raise refuse(path, f"{what} modes of {len(raw.mean)} vertices", found)


def _landmarks(raw: RawModel, path: Any) -> dict[str, NDArray]:
    """Returns the vertex of each landmark and, where they lie in triangles, their corners."""
    last = len(raw.mean) - 1
    vertices, corners = raw.landmarks, raw.landmark_corners
    if corners is not None:
        weights = np.asarray(raw.landmark_weights)
        if not np.allclose(weights.sum(axis=1), 1.0, atol=1e-2):
            off = float(np.abs(weights.sum(axis=1) - 1.0).max())
            raise refuse(path, "landmarks whose barycentric weights add up to 1", f"{off:.2g} off")
        vertices = np.take_along_axis(corners, weights.argmax(axis=1)[:, None], axis=1)[:, 0]
    elif vertices is None:
        vertices = np.full(NUM_LANDMARKS, -1)
    named = vertices if corners is None else corners
    if named.max() > last or named.min() < -1:
        found = f"{named.min()} to {named.max()}"
        raise refuse(path, f"landmarks between -1 and {last}", found)
    found = {"landmark_vertices": vertices}
    return found if corners is None else found | {"landmark_corners": corners}


def _faces(raw: RawModel, mean: NDArray, path: Any) -> dict[str, NDArray | None]:
    """Returns the triangles and those of the texture, counter-clockwise from outside."""
    triangles, uv_triangles = _zero_based(raw, path), raw.uv_triangles
    if uv_triangles is not None and (
        uv_triangles.shape != triangles.shape
        or uv_triangles.min() < 0
        or uv_triangles.max() >= len(raw.uvs)
    ):
        found = f"{len(uv_triangles)} up to {uv_triangles.max(initial=0)}"
        raise refuse(path, f"{len(triangles)} texture triangles below {len(raw.uvs)}", found)
    if signed_volume(mean, triangles) < 0.0:
        triangles = triangles[:, [0, 2, 1]]
        uv_triangles = None if uv_triangles is None else uv_triangles[:, [0, 2, 1]]
    return {"triangles": triangles, "uv_triangles": uv_triangles}


def _zero_based(raw: RawModel, path: Any) -> NDArray:
    triangles = np.asarray(raw.triangles)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not len(triangles):
        raise refuse(path, "triangles [T, 3]", f"shape {triangles.shape}")
    check_finite(path, {"triangles": triangles})
    triangles = triangles.astype(np.int64) - raw.first_index
    least, most = triangles.min(), triangles.max()
    if least < 0 or most >= len(raw.mean):
        wanted = f"triangles of vertices {raw.first_index} to {len(raw.mean) - 1 + raw.first_index}"
        found = f"{least + raw.first_index} to {most + raw.first_index}"
        raise refuse(path, wanted, found)
    return triangles


def _axes(mean: NDArray, landmarks: NDArray) -> NDArray:
    """Returns the signed permutation [3, 3] to x left, y up, z out, judged by the landmarks."""

    def centre(*numbers):
        known = [landmarks[n] for n in numbers if landmarks[n] >= 0]
        return mean[known].mean(axis=0) if known else None

    right, left = centre(36, 39), centre(42, 45)
    mouth, nose = centre(48, 54), centre(30)
    if any(point is None for point in (right, left, mouth, nose)):
        return np.eye(3)
    eyes = (right + left) / 2.0
    directions = np.stack([left - right, eyes - mouth, nose - (eyes + mouth) / 2.0])
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    rows, chosen = scipy.optimize.linear_sum_assignment(-np.abs(directions))
    turn = np.zeros((3, 3))
    turn[rows, chosen] = np.sign(directions[rows, chosen])
    return turn


def _turned(modes: NDArray, turn: NDArray, unit: np.float32) -> NDArray:
    """Turns and scales the displacements [V, 3, K]."""
    if np.array_equal(turn, np.eye(3)):
        return np.asarray(modes, np.float32) * unit
    return np.einsum("ij,vjk->vik", turn, np.asarray(modes, np.float32)) * unit


def _unit_columns(modes: NDArray) -> tuple[NDArray, NDArray]:
    """Splits displacements per standard deviation into unit columns and their deviations [K]."""
    sigma = np.sqrt(np.einsum("vik,vik->k", modes, modes, dtype=np.float64)).astype(np.float32)
    return modes / np.where(sigma > 0.0, sigma, 1.0), sigma


def _expression_prior(raw: RawModel, num_modes: int) -> dict[str, NDArray]:
    sd, bounds = (BLENDSHAPE_SD, BLENDSHAPE_BOUNDS) if raw.is_blendshapes else (1.0, PCA_BOUNDS)
    return {
        "expression_sd": np.full(num_modes, sd),
        "expression_bounds": np.tile(bounds, (num_modes, 1)),
    }


def _albedo(raw: RawModel, num_vertices: int, path: Any) -> dict[str, NDArray]:
    if raw.albedo_mean is None:
        return {}
    for what, array in (("mean colours", raw.albedo_mean), ("colour modes", raw.albedo_modes)):
        if array.shape[:2] != (num_vertices, 3):
            raise refuse(path, f"{what} of {num_vertices} vertices", f"shape {array.shape}")
    # A colour model in [0, 1] overshoots by a little, one in bytes has means of 50 and more.
    unit = np.float32(1.0 / 255.0 if raw.albedo_mean.max() > 4.0 else 1.0)
    basis, sigma = _unit_columns(raw.albedo_modes * unit)
    mean = np.clip(raw.albedo_mean * unit, 0.0, 1.0)
    return {"albedo_mean": mean, "albedo_basis": basis, "albedo_sigma": sigma}
