"""Boxes of points in a photo, as it is and turned by quarters; pixels as in `recon.landmarks`."""

import numpy as np

Box = tuple[float, float, float, float]  # left, top, right, bottom; pixels


def turned_points(xy: np.ndarray, width: int, height: int, quarter_turns: int) -> np.ndarray:
    """Where points [N, 2] of a photo lie in `np.rot90(photo, quarter_turns)`."""
    for _ in range(quarter_turns % 4):
        xy = np.stack([xy[:, 1], width - xy[:, 0]], axis=1)
        width, height = height, width
    return xy


def turned_box(box: Box, width: int, height: int, quarter_turns: int) -> Box:
    """Where a box of a photo lies in `np.rot90(photo, quarter_turns)`."""
    corners = turned_points(np.reshape(box, (2, 2)), width, height, quarter_turns)
    return (*corners.min(0).tolist(), *corners.max(0).tolist())


def overlap(a: Box, b: Box) -> float:
    """Returns the area two boxes share over the area they cover."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (a, b)]
    return width * height / (sum(areas) - width * height)
