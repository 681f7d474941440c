"""Which vertex of a known mesh is which of the 68 iBUG landmarks.

There is no published list that is complete for every model: -1 marks a point that the model's list
leaves out, above all the jaw, which no single vertex stands for once the head turns.

Sources: ICT-FaceKit README (68 points and the jawlines that replace the jaw); A. Bas, BFMLandmarks
(Basel 2009); 3DDFA_V2 key points (53,215 vertices, Basel 2009 without the inner mouth, as LSFM);
P. Huber, eos: ibug_to_sfm and ibug_to_bfm2017-1_bfm_nomouth; names of Basel 2017/2019 landmarks.
"""

import numpy as np
from numpy.typing import NDArray

from recon.morphable import NUM_LANDMARKS

# The README's jawlines run along the outline of the face seen from the front, 1 cm behind the jaw
# points of its 68-point list; a contour path has to start there.
ICT = (
    *(1278, 1272, 12, 1834, 243, 781, 2199, 1447, 966),
    *(3661, 4390, 3022, 2484, 4036, 2253, 3490, 3496),
    *(268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509),
    *(978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360),
    *(1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732),
    *(5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841),
    *(5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966),
)
_BASEL_2009_ONE_BASED = (
    *(22143, 22813, 22840, 23250, 44124, 45884, 47085, 47668, 48188),
    *(48708, 49299, 50498, 52457, 32022, 32386, 32359, 32979),
    *(38886, 39636, 40030, 40238, 40433, 41172, 41368, 41578, 42011, 42646),
    *(8291, 8305, 8314, 8320, 6783, 7687, 8331, 8977, 9879),
    *(1832, 3760, 5050, 6087, 4546, 3516, 10731, 11758, 12919, 14859, 13191, 12157),
    *(5523, 6155, 7442, 8345, 9506, 10799, 11199, 10179, 9277, 8374, 7471, 6566),
    *(5909, 7322, 8354, 9386, 10941, 9141, 8367, 7194),
)
_NO_INNER_MOUTH = (
    *(21874, 22150, 21654, 21037, 43237, 44919, 46167, 47136, 47915),
    *(48696, 49668, 50925, 52614, 33679, 33006, 32470, 32710),
    *(38696, 39393, 39783, 39988, 40155, 40894, 41060, 41268, 41662, 42368),
    *(8162, 8178, 8188, 8193, 6516, 7244, 8205, 9164, 9884),
    *(2216, 3887, 4921, 5829, 4802, 3641, 10456, 11354, 12384, 14067, 12654, 11493),
    *(5523, 6026, 7496, 8216, 8936, 10396, 10796, 9556, 8837, 8237, 7637, 6916),
    *(5910, 7385, 8224, 9065, 10538, 8830, 8230, 7630),
)
_SURREY = (
    *(-1, -1, -1, -1, -1, -1, -1, -1, 33, -1, -1, -1, -1, -1, -1, -1, -1),
    *(225, 229, 233, 2086, 157, 590, 2091, 666, 662, 658),
    *(2842, 379, 272, 114, 100, 2794, 270, 2797, 537),
    *(177, 172, 191, 181, 173, 174, 614, 624, 605, 610, 607, 606),
    *(398, 315, 413, 329, 825, 736, 812, 841, 693, 411, 264, 431),
    *(-1, 416, 423, 828, -1, 817, 442, 404),
)
_BASEL_2017 = (
    *(-1, -1, -1, -1, -1, -1, -1, -1, 47846, -1, -1, -1, -1, -1, -1, -1, -1),
    *(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
    *(-1, -1, -1, 8156, -1, -1, -1, -1, -1),
    *(2602, -1, -1, 5830, -1, -1, 10390, -1, -1, 13481, -1, -1),
    *(5522, 6026, 7355, 8181, 9007, 10329, 10857, 9730, 8670, 8199, 7726, 6898),
    *(6291, 7364, 8190, 9016, 10088, 8663, 8191, 7719),
)
_BY_NUM_VERTICES = {
    3448: _SURREY,
    11248: ICT,
    53149: _BASEL_2017,
    53215: _NO_INNER_MOUTH,
    53490: tuple(index - 1 for index in _BASEL_2009_ONE_BASED),
}

# Names in the metadata of Basel 2017/2019 files. "center.chin.tip" (5 mm above the bottom of the
# chin) and the inner ends of the brows (between two iBUG points) have no counterpart.
NAMED = {
    "right.eyebrow.bend.upper": 18,
    "left.eyebrow.bend.upper": 25,
    "center.nose.tip": 30,
    "right.nose.wing.tip": 31,
    "center.nose.attachement_to_philtrum": 33,
    "left.nose.wing.tip": 35,
    "right.eye.corner_outer": 36,
    "right.eye.corner_inner": 39,
    "left.eye.corner_inner": 42,
    "left.eye.corner_outer": 45,
    "right.lips.corner": 48,
    "right.lips.philtrum_ridge": 50,
    "center.lips.upper.outer": 51,
    "left.lips.philtrum_ridge": 52,
    "left.lips.corner": 54,
    "center.lips.lower.outer": 57,
    "center.lips.upper.inner": 62,
    "center.lips.lower.inner": 66,
}


def known_landmarks(num_vertices: int) -> NDArray:
    """Returns the landmarks [68] of the mesh with that many vertices; all -1 if unknown."""
    return np.array(_BY_NUM_VERTICES.get(num_vertices, (-1,) * NUM_LANDMARKS))


def add_named(landmarks: NDArray, named: dict[str, int]) -> NDArray:
    """Fills what `landmarks` [68] leaves open from a file's own names.

    Args:
      landmarks: [68] vertices, -1 where unknown.
      named: vertex by name; a name is one of `NAMED` or an iBUG number, "1" to "68".
    """
    landmarks = landmarks.copy()
    for name, vertex in named.items():
        number = int(name) - 1 if name.isdecimal() else NAMED.get(name, -1)
        if 0 <= number < NUM_LANDMARKS and landmarks[number] < 0:
            landmarks[number] = vertex
    return landmarks
