"""dlib's face descriptor: 128 numbers, of which two pictures of one person have similar ones.

It was taught real people, so it judges independently of whatever was learnt here. Distances below
0.6 are taken for one person.

Source: King 2017 (dlib's ResNet, taught by pairs of photos; He et al. 2016).
"""

import functools

import dlib
import numpy as np

from recon.detection.predictor import model_file


def describe_face(photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Returns the descriptor [128] of a face.

    Args:
      photo: [H, W, 3] uint8, sRGB-encoded.
      landmarks: [68, 2] pixels, as `recon.landmarks` has them.
    """
    # Pixels of dlib have their middle at whole numbers.
    points = [dlib.point(*point) for point in np.rint(landmarks - 0.5).astype(int).tolist()]
    low, high = np.rint([landmarks.min(0), landmarks.max(0)]).astype(int).tolist()
    found = dlib.full_object_detection(dlib.rectangle(*low, *high), points)
    return np.array(_network().compute_face_descriptor(np.ascontiguousarray(photo), found))


@functools.lru_cache(maxsize=1)
def _network() -> dlib.face_recognition_model_v1:
    return dlib.face_recognition_model_v1(model_file("dlib_face_recognition_resnet_model_v1.dat"))
