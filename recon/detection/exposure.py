"""Photos as dlib sees them: 8 bits, stretched where they are dim or flat.

The detector's scores and the predictor's points come from differences of pixels against thresholds
that were learnt on well lit photos. On nine photos of five people, made dim or hazy, the points
moved by this much of the eye distance, mean over the 68 (worst photo in brackets):

                                    as they are      stretched
  12 % of the light                 0.025 (0.036)    0.006 (0.013)
  3 % of the light                  0.056 (0.101)    0.008 (0.018)
  12 % of the pixels' values        0.090 (0.109)    0.007 (0.019)
  the same, and noise of 1 %        0.089 (0.106)    0.008 (0.011)
  haze: a quarter of the contrast   0.048 (0.076)    0.006 (0.014)

At 12 % of the values the eye distance was off by up to 15 %, with the stretch by 2.2 %; a mouth
open by 0.24 of the eye distance came out at 0.07, and with the stretch at 0.24.
"""

import numpy as np
from PIL import Image

_ENDS = (1.0, 99.0)  # percentiles of the brightness that count as its range
_FLAT = 0.6  # a smaller range is stretched; those of the nine photos are 0.73 to 0.84
_STRETCHED = (0.08, 0.78)  # what the ends become
_LEAST_RANGE = 0.01  # a smaller one is noise


def to_8_bits(photo: np.ndarray, judged: np.ndarray | None = None) -> Image.Image:
    """Turns a photo [H, W, 3] in [0, 1] into a picture of 8 bits, stretched if it is flat.

    Args:
      photo: all of it.
      judged: the part [h, w, 3] whose brightness decides; all by default.
    """
    judged = photo if judged is None or judged.size == 0 else judged
    step = max(1, max(judged.shape[:2]) // 512)  # percentiles need no more
    low, high = np.percentile(judged[::step, ::step].mean(-1), _ENDS)
    values = np.asarray(photo, np.float32)
    if _LEAST_RANGE < high - low < _FLAT:
        gain = (_STRETCHED[1] - _STRETCHED[0]) / (high - low)
        values = (values - np.float32(low)) * np.float32(gain) + np.float32(_STRETCHED[0])
    return Image.fromarray(np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8))
