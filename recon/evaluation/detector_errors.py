"""What a detector is off by on faces that are known: always, and at random.

A detector and a model do not mean the same place by "corner of the jaw". What it is off by on every
face is an offset of the model's landmark; what is left is noise, and that of neighbours goes
together.

Axes: F faces, A views of a face, L = 51 inner landmarks. Lengths are parts of the distance between
the outer eye corners; directions are the model's axes.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from recon import pose
from recon.evaluation import detector
from recon.evaluation.detector import FaceOutline
from recon.evaluation.experiments import Experiment
from recon.landmarks import LEFT_EYE_CORNER, RIGHT_EYE_CORNER
from recon.morphable import NUM_CONTOUR, NUM_LANDMARKS, MorphableModel, landmark_embedding
from recon.pose import Pose

_FLIP = np.array([1.0, -1.0])  # the picture's y points down
# In views, against offsets that few of them tell: views of a face err alike, along the outline none
# tells anything, and turned by 30 degrees they tell little of z.
_RIDGE = np.array([5.0, 5.0, 10.0])
_OUTLINE_DEG = 2.0  # between points of the outline
_SHRINKAGE = 0.1  # of correlations, that few faces leave uncertain


class DetectorErrors(NamedTuple):
    """What a detector is off by."""

    offsets: NDArray  # [68, 3] from the model's landmark to where the detector finds it
    sigma: NDArray  # [68] root mean square of the rest, a coordinate; of the contour across it
    correlation: NDArray  # [L, L] of the rest, both coordinates alike


class _Sighting(NamedTuple):
    """What one view says of the errors, along directions [68, D, 3] in the model's axes."""

    directions: NDArray
    errors: NDArray  # [68, D]


def measure_errors(model: MorphableModel, faces: Iterable[Experiment]) -> DetectorErrors:
    """Measures a detector on faces of a model, where it found one.

    Raises:
      ValueError: it found none.
    """
    outline = detector.face_outline(model)
    seen = [one for face in faces for one in _sightings(model, outline, face)]
    if not seen:
        raise ValueError("expected a face found in some view, found none")
    directions = np.stack([one.directions for one in seen])  # [N, 68, D, 3]
    errors = np.stack([one.errors for one in seen])
    matrix = np.einsum("nldi,nldj->lij", directions, directions) + np.diag(_RIDGE)
    offsets = np.linalg.solve(matrix, np.einsum("nldi,nld->li", directions, errors)[..., None])[
        ..., 0
    ]
    rest = errors - np.einsum("nldi,li->nld", directions, offsets)
    sigma = np.sqrt((rest**2).mean((0, 2)))
    sigma[:NUM_CONTOUR] *= np.sqrt(2.0)  # their second direction is empty
    inner = rest[:, NUM_CONTOUR:] / sigma[NUM_CONTOUR:, None]
    correlation = np.einsum("nld,nmd->lm", inner, inner) / (2 * len(inner))
    shrunk = (1.0 - _SHRINKAGE) * correlation + _SHRINKAGE * np.eye(len(correlation))
    return DetectorErrors(offsets, sigma, shrunk)


def _sightings(
    model: MorphableModel, outline: FaceOutline, face: Experiment
) -> Iterator[_Sighting]:
    """What the views of a face say, in which the detector found it."""
    corners, weights = map(np.asarray, landmark_embedding(model))
    points = np.einsum("lc,lci->li", weights, np.asarray(face.vertices)[corners])
    eyes = np.linalg.norm(points[LEFT_EYE_CORNER] - points[RIGHT_EYE_CORNER])
    for view in range(len(face.scale)):
        xy = np.asarray(face.xy[view], np.float64)
        if not np.isfinite(xy).all():
            continue
        head = jax.tree.map(lambda x: x[view], face.head)  # noqa: B023
        ruler = eyes * float(head.scale)
        errors = (xy - np.asarray(pose.project(head, points))) / ruler
        across, normals = _contour_errors(outline, face.vertices, head, xy[:NUM_CONTOUR])
        errors[:NUM_CONTOUR] = np.stack([across / ruler, np.zeros(NUM_CONTOUR)], -1)
        in_picture = np.tile(np.eye(2), (NUM_LANDMARKS, 1, 1))
        in_picture[:NUM_CONTOUR] = np.stack([normals, np.zeros_like(normals)], 1)
        rows = np.asarray(head.rotation, np.float64)[:2] * _FLIP[:, None]
        yield _Sighting(in_picture @ rows, errors)


def _contour_errors(
    outline: FaceOutline, vertices: NDArray, head: Pose, xy: NDArray
) -> tuple[NDArray, NDArray]:
    """How far points [17, 2] lie outside of the outline, pixels, and its normals [17, 2] there."""
    inner = pose.project(head, detector.inner_points(outline, jnp.asarray(vertices)))
    center = jnp.mean(inner, 0)
    angles = np.deg2rad(np.arange(-60.0, 240.0, _OUTLINE_DEG))  # from ear to ear, by the chin
    line = detector.outline(
        pose.project(head, jnp.asarray(vertices)), outline.region, center, jnp.asarray(angles)
    )
    line = np.asarray(line, np.float64)
    start, along = line[:-1], np.diff(line, axis=0)
    share = np.einsum("psi,si->ps", xy[:, None] - start, along) / np.maximum(
        (along**2).sum(1), 1e-12
    )
    nearest = start + np.clip(share, 0.0, 1.0)[..., None] * along
    away = xy[:, None] - nearest  # [17, S, 2]
    best = np.linalg.norm(away, axis=-1).argmin(1)
    normals = np.stack([along[best, 1], -along[best, 0]], -1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    outward = nearest[np.arange(len(xy)), best] - np.asarray(center)
    normals *= np.sign((normals * outward).sum(1, keepdims=True))
    return (away[np.arange(len(xy)), best] * normals).sum(1), normals
