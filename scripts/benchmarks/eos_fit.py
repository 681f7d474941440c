"""A peer for the benchmark: the fit of eos, of the same model, as its examples call it.

eos alternates: pose, the nearest vertices of a fixed contour on the side turned to the viewer, the
occluding edges on the other, then the shape by linear least squares. It wants the edges of the mesh
with their triangles, and which vertices may be the contour: here the mesh's shortest way along the
jaw, from landmark 1 to the chin and from 17 to the chin. As in its own files, the 16 landmarks
beside the chin are contour and have no vertex of their own.

Axes: V vertices, T triangles, R edges, K identity modes. Units: millimetres there, metres here.
Sources: Huber et al. 2016; Bas et al. 2016 (the occluding edges); eos 1.5.0.
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse import csgraph

from recon.morphable import MorphableModel
from scripts.benchmarks import eos_maps_io
from scripts.benchmarks.eos_maps_io import CHIN, LEFT, RIGHT

_MILLIMETRES = 1e3  # per metre


class EosFace(NamedTuple):
    """What eos found."""

    identity: NDArray  # [K] standard deviations
    rotation: NDArray  # [3, 3] model to viewer


class EosFit:
    """A model as eos wants it.

    Args:
      eos: the module.
      model: with all 68 landmarks.
      picture: width and height in pixels.
    """

    def __init__(self, eos: ModuleType, model: MorphableModel, picture: tuple[int, int]):
        self._eos, self._picture = eos, picture
        self.model = eos_model(eos, model)
        self._edges = eos.morphablemodel.EdgeTopology(
            *(rows.tolist() for rows in edge_topology(np.asarray(model.triangles)))
        )
        self._mapper, *self._contour = eos_maps_io.load_maps(
            eos, np.asarray(model.landmark_vertices), model_contour(model)
        )

    def landmarks(self, xy: NDArray) -> list:
        """Pixels [68, 2] as eos takes them."""
        xy = np.asarray(xy, np.float32)
        return [self._eos.core.Landmark(str(i + 1), point) for i, point in enumerate(xy)]

    def fit(self, landmarks: list, num_iterations: int, uses_contour: bool) -> tuple:
        """Fits one photo, all else as eos has it; `face` takes what it returns."""
        return self._eos.fitting.fit_shape_and_pose(
            self.model,
            landmarks,
            self._mapper,
            *self._picture,
            *([self._edges, *self._contour] if uses_contour else []),
            num_iterations=num_iterations,
        )

    @staticmethod
    def face(result: tuple) -> EosFace:
        _, rendering, identity, _ = result
        return EosFace(np.array(identity), np.array(rendering.get_modelview())[:3, :3])


def eos_model(eos: ModuleType, model: MorphableModel):
    """A `MorphableModel` of eos with the same identities, and one expression that moves nothing.

    Without any expression the fit of eos 1.5.0 ends the process. It calls the basis orthonormal but
    only ever scales its columns; ours have unit length, and need not be orthogonal.
    """
    parts = eos.morphablemodel
    num = model.identity_sigma.shape[0]
    mean = _column(model.mean, _MILLIMETRES)
    identity = parts.PcaModel(
        mean,
        np.asfortranarray(np.asarray(model.identity_basis, np.float32).reshape(-1, num)),
        _column(model.identity_sigma, _MILLIMETRES) ** 2,
        np.asarray(model.triangles).tolist(),
    )
    still = parts.Blendshape("still", np.zeros_like(mean))
    return parts.MorphableModel(identity, [still], parts.PcaModel())


def _column(values, scale: float) -> NDArray:
    return scale * np.asarray(values, np.float32).reshape(-1, 1)


def edge_topology(triangles: NDArray) -> tuple[NDArray, NDArray]:
    """Triangles [R, 2] on both sides of each edge of [T, 3], and its vertices [R, 2].

    Both count from 1; the first triangle of an edge at the rim is 0.
    """
    sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, edge, count = np.unique(sides, axis=0, return_inverse=True, return_counts=True)
    triangle = 1 + np.argsort(edge.ravel(), kind="stable") // 3  # by edge
    last = np.cumsum(count) - 1
    first = np.where(count > 1, triangle[last - 1], 0)
    return np.stack([first, triangle[last]], axis=1), 1 + edges


def model_contour(model: MorphableModel) -> tuple[NDArray, NDArray]:
    """Vertices along the jaw from the right ear to beside the chin, and from the left."""
    mean, index = np.asarray(model.mean), np.asarray(model.landmark_vertices)
    start, end = edge_topology(np.asarray(model.triangles))[1].T - 1
    length = np.linalg.norm(mean[start] - mean[end], axis=1)
    graph = scipy.sparse.coo_array((length, (start, end)), (len(mean), len(mean))).tocsr()

    def way(places):
        vertices = index[[*places, CHIN]]
        before = csgraph.dijkstra(
            graph, directed=False, indices=vertices[:-1], return_predecessors=True
        )[1]
        found = []
        for row, first, at in zip(before, vertices[:-1], vertices[1:], strict=True):
            stretch = []
            while at != first and row[at] >= 0:  # negative where no way leads there
                at = row[at]
                stretch.append(at)
            found += reversed(stretch or [first])
        return np.array(found)

    return way(RIGHT), way(LEFT)
