"""Builds the default head: MakeHuman's geometry, and the modes of a random population of it.

Axes: N raw vertices, V final vertices, D samples, K identity modes, E expressions, U texture
coordinates.
Units: decimetres up to the model; the model is in metres.
"""

import re
from typing import NamedTuple

import numpy as np
from scipy import linalg, ndimage

from recon.default_head import head_samples
from recon.default_head.head_mesh import HeadMesh, cut_head, pack_charts
from recon.default_head.makehuman_io import HeadData
from recon.morphable import MorphableModel

_NUM_SAMPLES = 600
_NUM_MODES = 60
_OUTER_EYE_DISTANCE = 0.082  # metres, landmarks 36 to 45 of the mean
_EXPRESSION_SD = 0.15
_EXPRESSION_BOUNDS = (-0.1, 1.0)
_MIRRORED = np.array([-1.0, 1.0, 1.0])
_SOCKETS_BOX = (0.010, 0.546, 0.153, 0.634)  # u0, v0, u1, v1 in MakeHuman's atlas

# The lower edge of the hair as y over z, metres: the nape, and the temple in front of the ear.
_HAIRLINE_Z, _HAIRLINE_Y = (-0.035, 0.010), (-0.042, 0.018)
_HAIRLINE_BLUR = 0.016


class RawMean(NamedTuple):
    """The mean head before it is cut and measured."""

    mesh: HeadMesh
    vertices: np.ndarray  # [N, 3] decimetres
    scale: float  # metres of the model to a decimetre
    middle: np.ndarray  # [3] decimetres; the origin of the model


def raw_mean_head(data: HeadData) -> RawMean:
    """Builds the mean head, helpers included: scale x (vertices - middle) in the model's frame."""
    raw = head_samples.mean_head(data.base, data.macros, data.sliders)
    raw = (raw + raw[data.mirror] * _MIRRORED) / 2
    cut = head_samples.macro_head(data.base, data.macros)
    mesh = cut_head(cut, data.quads, data.uvs, data.uv_quads, data.mirror)
    mean = mesh.mix @ raw
    eyes = mean[_final_numbers(mesh)[data.landmark_vertices[[36, 45]]]]
    scale = _OUTER_EYE_DISTANCE / np.linalg.norm(eyes[0] - eyes[1])
    return RawMean(mesh, raw, scale, (mean.min(axis=0) + mean.max(axis=0)) / 2)


def build_head(data: HeadData, seed: int) -> tuple[MorphableModel, dict[str, np.ndarray]]:
    """Builds the model; the same data and seed give the same model.

    Returns:
      The model, and what its population's traits say of the identity: `learn_traits`.
    """
    mesh, raw_mean, scale, middle = raw_mean_head(data)
    number = _final_numbers(mesh)
    landmarks = number[data.landmark_vertices]
    mean = mesh.mix @ raw_mean
    metric_mean = scale * (mean - middle)
    regions = head_regions(metric_mean, mesh, data)

    rng = np.random.default_rng(seed)
    macro_parts = data.base, data.macros, data.sliders
    raw_heads, traits = head_samples.sample_heads(rng, _NUM_SAMPLES, *macro_parts)
    is_face = regions["face"] > 0.5
    heads = np.stack([head_samples.align(mesh.mix @ head, mean, is_face) for head in raw_heads])
    # With the mirror image of every head each mode is either symmetric or antisymmetric.
    heads = np.concatenate([heads, heads[:, mesh.mirror] * _MIRRORED])
    mode_weights = _mode_weights(regions)
    modes = scale * head_samples.principal_modes(heads, mode_weights, _NUM_MODES)
    sigma = np.linalg.norm(modes, axis=(0, 1))
    learnt = learn_traits(scale * heads[:_NUM_SAMPLES], modes, mode_weights, traits)
    units = _symmetric_units(data)
    units = np.stack([scale * (mesh.mix @ unit) for unit in units.values()], axis=-1)
    model = MorphableModel(
        mean=metric_mean,
        triangles=mesh.triangles,
        identity_basis=modes / sigma,
        identity_sigma=sigma,
        expression_basis=units,
        expression_sd=np.full(units.shape[-1], _EXPRESSION_SD),
        expression_bounds=np.tile(_EXPRESSION_BOUNDS, (units.shape[-1], 1)),
        landmark_vertices=landmarks,
        path_vertices=number[data.path_vertices],
        path_weights=data.path_weights / data.path_weights.sum(axis=-1, keepdims=True),
        uvs=pack_charts(mesh.uvs, mesh.uv_triangles),
        uv_triangles=mesh.uv_triangles,
        mirror=mesh.mirror,
        regions=regions,
        expression_names=tuple(data.units),
        name="default head",
    )
    return model, learnt


def learn_traits(
    heads: np.ndarray, modes: np.ndarray, mode_weights: np.ndarray, traits: np.ndarray
) -> dict[str, np.ndarray]:
    """Regresses identities on traits, such as sex and age.

    Args:
      heads: [D, V, 3], metres.
      modes: [V, 3, K] one standard deviation each.
      mode_weights: [V] what a vertex counts.
      traits: [D, P] of the heads.

    Returns:
      `mean` and `sd` [P] of the traits; `directions` [P, K], the identity of a head one deviation
      off in one trait; `rest` [K, K], the square root of the covariance that they leave.
    """
    root = np.sqrt(mode_weights)[:, None]
    columns = (modes * root[..., None]).reshape(-1, modes.shape[-1])
    rows = ((heads - heads.mean(axis=0)) * root).reshape(len(heads), -1)
    identities = np.linalg.lstsq(columns, rows.T, rcond=None)[0].T
    mean, sd = traits.mean(axis=0), traits.std(axis=0)
    deviations = (traits - mean) / sd
    directions = np.linalg.lstsq(deviations, identities, rcond=None)[0]
    left = np.cov(identities - deviations @ directions, rowvar=False)
    rest = linalg.sqrtm(left).real
    learnt = {"mean": mean, "sd": sd, "directions": directions, "rest": rest}
    return {name: value.astype(np.float32) for name, value in learnt.items()}


def _symmetric_units(data: HeadData) -> dict[str, np.ndarray]:
    """Returns the expressions [N, 3] with left and right exact mirror images of each other."""
    other = {"Left": "Right", "Right": "Left"}
    symmetric = {}
    for name, unit in data.units.items():
        partner = re.sub("Left|Right", lambda side: other[side[0]], name)
        symmetric[name] = (unit + data.units[partner][data.mirror] * _MIRRORED) / 2
    return symmetric


def random_face_rms(model: MorphableModel, num_faces: int, seed: int) -> float:
    """Returns how far random faces lie from the mean, metres: root mean square over the face.

    Each face is brought to the mean by a similarity first. Scanned faces vary by 2.63 mm.
    """
    mean, is_face = np.asarray(model.mean, float), np.asarray(model.regions["face"]) > 0.5
    modes = np.asarray(model.identity_basis, float) * np.asarray(model.identity_sigma, float)
    rng = np.random.default_rng(seed)
    rms = []
    for identity in rng.normal(size=(num_faces, modes.shape[-1])):
        face = head_samples.align(mean + modes @ identity, mean, is_face)
        rms.append(np.sqrt(np.mean(np.sum((face - mean)[is_face] ** 2, axis=1))))
    return float(np.mean(rms))


def _final_numbers(mesh: HeadMesh) -> np.ndarray:
    """Returns the final number [N] of each raw vertex, -1 where it is gone."""
    number = np.full(mesh.mix.shape[1], -1)
    is_raw = np.diff(mesh.mix.indptr) == 1
    number[mesh.mix[is_raw].indices] = np.flatnonzero(is_raw)
    return number


def _mode_weights(regions: dict[str, np.ndarray]) -> np.ndarray:
    """What each vertex [V] counts in the choice of the modes: the visible face most."""
    weight = np.where(regions["face"] > 0.5, 1.0, 0.25)
    weight[regions["eyeballs"] > 0.5] = 0.2
    weight[(regions["sockets"] > 0.5) | (regions["inner_mouth"] > 0.5)] = 0.05
    return weight


def head_regions(mean: np.ndarray, mesh: HeadMesh, data: HeadData) -> dict[str, np.ndarray]:
    """Returns region name -> membership [V] in [0, 1], the same on both sides.

    face, ears, lips, eyelids and inner_mouth are MakeHuman's painted masks. face, ears, skull,
    neck, sockets, eyeballs and inner_mouth (with the plug) together cover the head once.

    Args:
      mean: [V, 3] the mean head, metres.
      mesh: the final mesh.
      data: the raw head.
    """
    is_eye = mesh.mix @ data.is_eye > 0.5
    regions = {
        name: np.where(is_eye, 0.0, _at_vertices(_sample_mask(mask, mesh.uvs), mesh))
        for name, mask in data.masks.items()
    }
    box = np.array(_SOCKETS_BOX)
    outside = ((mesh.uvs < box[:2]) | (mesh.uvs > box[2:])).any(axis=1)
    regions["sockets"] = 1 - _at_vertices(outside.astype(float), mesh)
    regions["eyeballs"] = is_eye.astype(float)
    regions["mouth_plug"] = np.zeros(len(mean))
    regions["mouth_plug"][mesh.plug] = 1

    # At the borders of the painted masks the first one named wins.
    rest = np.ones(len(mean))
    for name in ("eyeballs", "sockets", "inner_mouth", "ears", "face"):
        regions[name] = np.minimum(regions[name], rest)
        rest = rest - regions[name]
    hairline = np.interp(mean[:, 2], _HAIRLINE_Z, _HAIRLINE_Y)
    hair = np.clip((mean[:, 1] - hairline) / _HAIRLINE_BLUR + 0.5, 0, 1)
    regions["skull"], regions["neck"] = rest * hair, rest * (1 - hair)
    return {name: (region + region[mesh.mirror]) / 2 for name, region in regions.items()}


def _sample_mask(mask: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    """Samples an image [H, W], row 0 at v = 1, at texture coordinates [U, 2]."""
    height, width = mask.shape
    at = np.stack([(1 - uvs[:, 1]) * height - 0.5, uvs[:, 0] * width - 0.5])
    return ndimage.map_coordinates(mask, at, order=1, mode="nearest")


def _at_vertices(values: np.ndarray, mesh: HeadMesh) -> np.ndarray:
    """Returns the largest value [V] that a vertex has among its texture coordinates [U]."""
    result = np.zeros(mesh.mix.shape[0])
    np.maximum.at(result, mesh.triangles.ravel(), values[mesh.uv_triangles.ravel()])
    return result
