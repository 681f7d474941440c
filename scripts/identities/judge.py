"""Judges a face embedding by people that it was not taught: are two pictures of one person?

Axes: N people, V pictures of each, D numbers of an embedding.
"""

from typing import Any

import numpy as np
import scipy.stats

from models.perception.face_id import FaceIdConfig, embed_faces
from recon.detection.descriptor import describe_face
from scripts.identities.sightings_io import People
from scripts.shell import command

GATES = {  # a shipped embedding is above these
    "auc": 0.97,
    "d_prime": 2.5,
    "likeness_same": 0.7,
    "rank_correlation_with_dlib": 0.5,
}

_BATCH = 100
_TURNED_DEGREES = 30.0  # two views are far apart from there on


def embed(params: Any, config: FaceIdConfig, rgb: np.ndarray) -> np.ndarray:
    """Returns the embeddings [N, V, D] of pictures of bytes [N, V, S, S, 3]."""
    flat = rgb.reshape(-1, *rgb.shape[2:])
    found = []
    for first in range(0, len(flat), _BATCH):
        part = flat[first : first + _BATCH]
        padded = np.pad(part, [(0, _BATCH - len(part))] + [(0, 0)] * 3)  # one size, one compilation
        found.append(np.asarray(embed_faces(params, as_floats(padded), config))[: len(part)])
    return np.concatenate(found).reshape(*rgb.shape[:2], -1)


def as_floats(rgb: np.ndarray) -> np.ndarray:
    """Returns pictures of bytes as floats in [0, 1]."""
    return rgb.astype(np.float32) / np.float32(255.0)


def describe(people: People) -> np.ndarray:
    """Returns dlib's descriptors [N, V, 128] of pictures that are large enough for it."""
    count, views = people.restyled.shape
    described = []
    with command.progress("dlib's descriptors", count) as advance:
        for rgb, landmarks in zip(people.rgb, people.landmarks, strict=True):
            described.append([describe_face(rgb[v], landmarks[v]) for v in range(views)])
            advance()
    return np.array(described)


def verification(likeness: np.ndarray, people: People) -> dict[str, float]:
    """Scores how well a likeness of pictures tells who is who.

    Args:
      likeness: [M, M] of the people's pictures, in their order; larger is more alike.
      people: whose pictures they are, M = N V.

    Returns:
      auc: chance that two pictures of one person are more alike than two of two people.
      d_prime: means of both, apart in deviations.
      auc_turned: among views whose yaws are 30 to 80 degrees apart.
      auc_restyled: of one person's pictures those with different hairdos.
      likeness_same, likeness_different, likeness_same_turned: means.
    """
    is_same, is_pair = _pairs(people)
    yaw = np.degrees(people.angles[..., 0]).ravel()
    is_turned = np.abs(yaw[:, None] - yaw) > _TURNED_DEGREES
    restyled = people.restyled.ravel()
    is_restyled = restyled[:, None] != restyled
    same, different = likeness[is_pair & is_same], likeness[is_pair & ~is_same]
    turned_same = likeness[is_pair & is_same & is_turned]
    turned_different = likeness[is_pair & ~is_same & is_turned]
    spread = np.sqrt((same.var() + different.var()) / 2)
    return {
        "auc": _auc(same, different),
        "d_prime": float((same.mean() - different.mean()) / spread),
        "auc_turned": _auc(turned_same, turned_different),
        "auc_restyled": _auc(likeness[is_pair & is_same & is_restyled], different),
        "likeness_same": float(same.mean()),
        "likeness_different": float(different.mean()),
        "likeness_same_turned": float(turned_same.mean()),
    }


def agreement(likeness: np.ndarray, others: np.ndarray, people: People) -> dict[str, float]:
    """Correlates two likenesses [M, M]: over all pairs, one person's weighing as much as others'.

    Returns:
      correlation, rank_correlation: of as many pairs of one person as of two.
      rank_correlation_of_strangers: among pairs of two people alone.
    """
    is_same, is_pair = _pairs(people)
    same = np.flatnonzero(is_pair & is_same)
    different = np.flatnonzero(is_pair & ~is_same)
    some = np.random.default_rng(0).choice(different, min(len(same), len(different)), False)
    a, b = (values.ravel()[np.concatenate([same, some])] for values in (likeness, others))
    apart = [values.ravel()[different] for values in (likeness, others)]
    return {
        "correlation": float(np.corrcoef(a, b)[0, 1]),
        "rank_correlation": float(scipy.stats.spearmanr(a, b)[0]),
        "rank_correlation_of_strangers": float(scipy.stats.spearmanr(*apart)[0]),
    }


def cosines(embeddings: np.ndarray) -> np.ndarray:
    """Returns the cosines [M, M] of unit embeddings [N, V, D], M = N V."""
    flat = embeddings.reshape(-1, embeddings.shape[-1])
    return flat @ flat.T


def closeness(described: np.ndarray) -> np.ndarray:
    """Returns minus the distances [M, M] of descriptors [N, V, 128]."""
    flat = described.reshape(-1, described.shape[-1]).astype(np.float64)
    square = np.sum(flat**2, 1)
    return -np.sqrt(np.maximum(square[:, None] + square - 2 * flat @ flat.T, 0.0))


def _pairs(people: People) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs [M, M] are of one person, and which count: each once, none with itself."""
    count, views = people.restyled.shape
    person = np.repeat(np.arange(count), views)
    return person[:, None] == person, np.triu(np.ones((count * views,) * 2, bool), 1)


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve, by ranks; half for ties."""
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))[: len(positive)]
    above = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))
