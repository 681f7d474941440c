"""Judges a generator by its pictures: against renders of the same latents, and as a set.

What a latent means is known, so pictures are compared pixel by pixel, and poses are read back from
them by a regression that was solved on renders. Pictures are [N, r, r, 3] in [-1, 1].

Axes: N pictures, r their side, F features.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from models.stylegan.features import frechet_distance, random_features
from recon import landmarks
from recon.looks.latent_people import pose_of_latent
from render.image import resize
from scripts.generators.pool_io import Pool

GATES = {  # a shipped generator of 64 pixels is above these
    "psnr_db": 27.0,
    "yaw_r2": 0.9,
    "pitch_r2": 0.8,
    "laplacian_energy": 0.7,
    "variety": 0.9,
    "faces_found": 0.9,
}

_READ_AT = 16  # side of the pictures that poses are read from, at most
_HIDDEN, _RIDGE = 768, 3.0
_BATCH = 100
_TAUGHT = 6000  # renders that a reader of poses is solved on
_REFERENCE = 2000  # renders that sets are compared with
_ENLARGED = 4  # times the side, for the face detector
_SEEN = 100  # pictures shown to the face detector


@dataclasses.dataclass(frozen=True)
class PoseReader:
    """Reads yaw and pitch from pictures: ridge regression on pixels and random features."""

    random: np.ndarray  # [pixels, hidden]
    matrix: np.ndarray  # [features, 2]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns yaw and pitch [N, 2], degrees."""
        return self._features(images) @ self.matrix

    def _features(self, images: np.ndarray) -> np.ndarray:
        return _pose_features(images, self.random)


class HeldOut(NamedTuple):
    """What a generator is held against at one resolution."""

    z: np.ndarray  # [N, 64], held out
    images: np.ndarray  # [N, r, r, 3] their renders
    pose: np.ndarray  # [N, 2] degrees
    reader: PoseReader
    features: np.ndarray  # [M, F] of other renders
    floor: float  # Frechet distance of the held-out renders themselves


def at_resolution(rgb: np.ndarray, resolution: int) -> np.ndarray:
    """Returns pictures of bytes [N, H, H, 3] as numbers in [-1, 1] [N, r, r, 3]."""
    return averaged(rgb, resolution) / 127.5 - 1.0


def averaged(values: np.ndarray, resolution: int) -> np.ndarray:
    """Averages [N, H, H, ...] over the pixels of a lower resolution, [N, r, r, ...]."""
    count, side, _, *rest = values.shape
    by = side // resolution
    blocks = values.reshape(count, resolution, by, resolution, by, *rest)
    return blocks.mean((2, 4), dtype=np.float32)


def pose_degrees(z: np.ndarray) -> np.ndarray:
    """Returns the yaw and pitch [N, 2] that latents mean."""
    return np.degrees(np.asarray(pose_of_latent(z)))


def learn_reader(images: np.ndarray, pose: np.ndarray) -> PoseReader:
    """Solves for a reader of poses [N, 2] from renders."""
    rng = np.random.default_rng(0)
    pixels = 3 * min(_READ_AT, images.shape[1]) ** 2
    random = rng.normal(size=(pixels, _HIDDEN)) / np.sqrt(pixels)
    features = _pose_features(images, random)
    square = features.T @ features + _RIDGE * np.eye(features.shape[1])
    return PoseReader(random, np.linalg.solve(square, features.T @ pose))


def make_reference(learnt: Pool, held_out: Pool, resolution: int) -> HeldOut:
    """Prepares what a generator is judged by at a resolution."""
    taught = slice(0, min(_TAUGHT, len(learnt.z)))
    images = at_resolution(held_out.rgb, resolution)
    some = at_resolution(learnt.rgb[taught], resolution)
    features = features_of(some[:_REFERENCE])
    return HeldOut(
        z=held_out.z,
        images=images,
        pose=pose_degrees(held_out.z),
        reader=learn_reader(some, pose_degrees(learnt.z[taught])),
        features=features,
        floor=frechet_distance(features_of(images), features),
    )


def judge_heads(pictures: np.ndarray, reference: HeldOut) -> dict[str, float]:
    """Scores pictures of the reference's latents, in its order; as many as one likes of them.

    Returns:
      psnr_db: mean over pictures, held out.
      laplacian_energy, variety: mean absolute Laplacian, and root mean square difference of pairs,
        over those of the renders.
      yaw_r2, pitch_r2: explained share of the poses, read from the pictures; beside them what the
        reader reaches on renders, yaw_r2_of_renders and pitch_r2_of_renders.
      frechet: distance of the pictures' random features from renders; frechet_floor of renders.
    """
    pictures = np.clip(pictures, -1.0, 1.0)
    truth, pose = reference.images[: len(pictures)], reference.pose[: len(pictures)]
    squares = np.mean((pictures - truth) ** 2, (1, 2, 3)) / 4.0
    scores = {
        "psnr_db": float(np.mean(-10 * np.log10(np.maximum(squares, 1e-10)))),
        "laplacian_energy": _laplacian(pictures) / _laplacian(truth),
        "variety": _variety(pictures) / _variety(truth),
    }
    for name, seen in (("", pictures), ("_of_renders", truth)):
        yaw, pitch = _explained(pose, reference.reader(seen))
        scores |= {f"yaw_r2{name}": yaw, f"pitch_r2{name}": pitch}
    apart = distance(pictures, reference.features)
    return scores | {"frechet": apart, "frechet_floor": reference.floor}


def distance(pictures: np.ndarray, features: np.ndarray) -> float:
    """Returns how far pictures are as a set from those that have `features` [M, F]."""
    return frechet_distance(features_of(np.clip(pictures, -1.0, 1.0)), features)


def share_of_faces(pictures: np.ndarray) -> float:
    """Returns the share of pictures, enlarged, in which a detector of faces finds one."""
    found = 0
    some = pictures[:_SEEN]
    for picture in np.clip(some / 2 + 0.5, 0.0, 1.0).astype(np.float32):
        side = _ENLARGED * picture.shape[0]
        large = np.clip(np.asarray(resize(picture, side, side)), 0.0, 1.0)
        found += bool(landmarks.detect_faces(large))
    return found / len(some)


def _pose_features(images: np.ndarray, random: np.ndarray) -> np.ndarray:
    """Pixels, of one mean and deviation a picture, and random features of them."""
    pixels = averaged(images, min(_READ_AT, images.shape[1])).astype(np.float64)
    pixels = pixels.reshape(len(images), -1)
    pixels -= pixels.mean(1, keepdims=True)
    pixels /= pixels.std(1, keepdims=True) + 1e-6
    hidden = np.maximum(3.0 * (pixels @ random), 0.0)
    return np.concatenate([pixels, hidden, np.ones((len(pixels), 1))], 1)


def _explained(truth: np.ndarray, read: np.ndarray) -> tuple[float, float]:
    """Shares of the variance of each column."""
    rest = np.sum((truth - read) ** 2, 0)
    yaw, pitch = 1 - rest / np.sum((truth - truth.mean(0)) ** 2, 0)
    return float(yaw), float(pitch)


def features_of(images: np.ndarray) -> np.ndarray:
    """Returns the random features [N, F] of pictures."""
    parts = [images[i : i + _BATCH] for i in range(0, len(images), _BATCH)]
    return np.concatenate([jax.device_get(random_features(part)) for part in parts])


def _laplacian(x: np.ndarray) -> float:
    around = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
    return float(np.mean(np.abs(4 * x[:, 1:-1, 1:-1] - around)))


def _variety(x: np.ndarray) -> float:
    half = len(x) // 2
    return float(np.sqrt(np.mean((x[:half] - x[half : 2 * half]) ** 2)))
