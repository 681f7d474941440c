"""Which of the default head's identities are likely among real people.

The head's own modes describe a population that was sculpted. Another model, learnt from scans of
people, says how these differ: its mean face is laid under the default head, which is bent onto it;
from then on both models are linear, so that the other's faces, each fitted with the default head's
modes, are a Gaussian of their coefficients.

Axes: V vertices of the default head, n of them near its face, U vertices and M modes of the other
model, K modes of the default head, N points.
"""

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from recon.evaluation import scans
from recon.evaluation.scans import Scan, Similarity
from recon.morphable import NUM_CONTOUR, IdentityPrior, MorphableModel
from recon.surface_distance import closest_points, triangle_tree
from render.mesh import Mesh

_ROUNDS = 15
_SETTLED = 3  # rounds, after which only the solve moves the head
_NOISE = 1.5e-3  # metres, of a point of one mesh on the other
_SEEN = 300.0  # points' worth that the face tells: neighbours tell the same
_PULL = 0.1  # weight of N(0, I) while fitting: less than its own, so that little is held back
_NEAR, _CLOSE = 0.12, 0.006  # metres from the tip of the nose, and between the meshes
_REST = 0.05  # variance of what the other model does not know
_NOSE_TIP = 30 - NUM_CONTOUR


def people_prior(head: MorphableModel, people: MorphableModel) -> IdentityPrior:
    """The identities of the default head that look like another model's faces.

    Args:
      head: the default head.
      people: a model of people, learnt from scans, with the inner landmarks.
    """
    mean = np.asarray(people.mean, np.float64)
    landmarks = scans.shape_landmarks(people, mean)
    scan = scans.place_scan(Mesh(jnp.asarray(mean, jnp.float32), people.triangles), landmarks, head)
    identity, onto = bend_onto(head, scan)
    moved = onto(_shape(head, identity))
    near = closest_points(
        triangle_tree(np.asarray(scan.mesh.vertices), np.asarray(people.triangles)), moved
    )
    tip = scan.landmarks[_NOSE_TIP]
    is_face = (np.linalg.norm(moved - tip, axis=1) < _NEAR) & (near.distance < _CLOSE)
    # The other model's modes at the head's vertices, turned as its mean was.
    turn = scans.landmark_similarity(landmarks, scan.landmarks).rotation
    modes = np.asarray(people.identity_basis, np.float64) * np.asarray(people.identity_sigma)
    corners = np.asarray(people.triangles)[near.triangle[is_face]]
    theirs = np.einsum("ij,nk,nkjm->nim", turn, near.weights[is_face], modes[corners])
    axes = [np.broadcast_to(axis, theirs.shape[:2]) for axis in np.eye(3)]
    own = onto.scale * np.einsum("ij,njm->nim", onto.rotation, _modes(head)[is_face])
    columns = [
        np.concatenate([own[:, k], scans.motion_columns(moved, moved[is_face], axes[k])], 1)
        for k in range(3)
    ]
    matrix, right = _normal_equations(
        np.concatenate(columns), np.concatenate(np.moveaxis(theirs, 1, 0)), is_face.sum()
    )
    spread = np.linalg.solve(matrix, right)[: len(identity)]
    return IdentityPrior(identity, spread @ spread.T + _REST * np.eye(len(identity)))


def bend_onto(head: MorphableModel, scan: Scan) -> tuple[NDArray, Similarity]:
    """Fits all modes of a head to the points of a scan.

    Returns:
      The identity [K], and the similarity that brings its face onto the scan.
    """
    identity = np.zeros(head.identity_sigma.shape[0])
    mean = scans.shape_landmarks(head, _shape(head, identity))
    onto = scans.landmark_similarity(mean, scan.landmarks)
    basis = _modes(head)
    triangles = np.asarray(head.triangles)
    for number in range(_ROUNDS):
        surface = triangle_tree(_shape(head, identity), triangles)
        if number < _SETTLED:
            onto = scans.refine_alignment(surface, scan.points, onto, fits_scale=True)
        near = closest_points(surface, onto.back(scan.points))
        moved = onto(near.point)
        distance = np.linalg.norm(scan.points - moved, axis=1)
        toward = (scan.points - moved) / np.maximum(distance, 1e-12)[:, None]
        local = np.einsum("nk,nkim->nim", near.weights, basis[triangles[near.triangle]])
        by_identity = onto.scale * np.einsum("ni,ij,njm->nm", toward, onto.rotation, local)
        columns = np.concatenate([by_identity, scans.motion_columns(scan.points, moved, toward)], 1)
        limit = 3.0 * np.median(distance)
        weight = np.sqrt(limit / np.maximum(distance, limit))[:, None]
        matrix, right = _normal_equations(
            weight * columns, weight * distance[:, None], len(scan.points)
        )
        right[: len(identity), 0] -= _PULL * identity
        step = np.linalg.solve(matrix, right)[:, 0]
        identity = identity + step[: len(identity)]
        onto = scans.stepped(onto, step[len(identity) :], scan.points)
    return identity, onto


def _normal_equations(columns: NDArray, right: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """The normal equations of identity and motion [K + 7], with the pull of the prior."""
    weight = _SEEN / count / _NOISE**2
    matrix = weight * columns.T @ columns
    num_identity = columns.shape[1] - 7
    matrix[:num_identity, :num_identity] += _PULL * np.eye(num_identity)
    matrix += 1e-12 * np.trace(matrix) * np.eye(len(matrix))
    return matrix, weight * columns.T @ right


def _modes(head: MorphableModel) -> NDArray:
    return np.asarray(head.identity_basis, np.float64) * np.asarray(head.identity_sigma)


def _shape(head: MorphableModel, identity: NDArray) -> NDArray:
    return np.asarray(head.mean, np.float64) + _modes(head) @ identity
