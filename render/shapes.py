"""Splats made from nothing, for scenes without a capture: a ball, a cube, a potted plant, a cord.

They have side two about the origin, z up, and are looked at from -y. Only surfaces are drawn; what
is inside is filled in by the scene.

Axes: U x V a grid of places on a surface, T points of a line.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from render import harmonics
from render.gaussians import Gaussians

_SPACING = 0.035  # of the shape's half side
_THIN = 0.006  # of a Gaussian that lies flat in a surface
_OPAQUE = 4.0  # logit
_COLORS = np.array([[0.86, 0.22, 0.20], [0.96, 0.93, 0.86], [0.18, 0.42, 0.72], [0.97, 0.76, 0.25]])
_SUN = np.array([0.4, -0.5, 0.77])

Patch = tuple[np.ndarray, np.ndarray]  # places [U, V, 3] of a surface, colours likewise


def shape(name: str) -> Gaussians:
    """Returns the shape of a name in `NAMES`."""
    return _SHAPES[name]()


def _ball() -> Gaussians:
    return _wedges(lambda places: 1.0 - np.linalg.norm(places, axis=-1))


def _cube() -> Gaussians:
    return _wedges(lambda places: 1.0 - np.abs(places).max(-1))


def _wedges(depth_of: Callable) -> Gaussians:
    """The shell, by the depth [N] of places [N, 3], in wedges of colour."""
    line = np.arange(-1.0 + _SPACING / 2, 1.0, _SPACING)
    places = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    depth = depth_of(places)
    places = places[(depth > 0) & (depth < 2.2 * _SPACING)]
    turn = np.arctan2(places[:, 1], places[:, 0]) / (2 * np.pi) % 1.0
    color = _COLORS[np.floor(8 * turn).astype(int) % len(_COLORS)]
    cap = np.abs(places[:, 2]) > 0.93 * np.abs(places[:, 2]).max()
    color = np.where(cap[:, None], _COLORS[1], color)
    normals = places / np.linalg.norm(places, axis=-1, keepdims=True)
    quats = np.tile([1.0, 0.0, 0.0, 0.0], (len(places), 1))
    return _gaussians(places, quats, np.full((len(places), 3), 0.6 * _SPACING), color, normals)


def _plant() -> Gaussians:
    """A pot of earth, a stem with five leaves, and a blossom that looks up at who looks at it."""
    pot = [(0, -1), (0.25, -1), (0.33, -0.62), (0.38, -0.62), (0.38, -0.5), (0.33, -0.5)]
    earth = [(0.33, -0.5), (0.32, -0.55), (0, -0.55)]
    t = np.linspace(0.0, 1.0, 48)[:, None]
    stem = np.concatenate([0.09 * np.sin(2.6 * t), 0.04 * np.sin(4 * t), -0.57 + 1.16 * t], -1)
    green = np.array([0.27, 0.53, 0.22]) + t[:, None] * [0.1, 0.12, 0.03]
    patches = [
        (_turned(pot), np.array([0.78, 0.42, 0.29])),
        (_turned(earth), np.array([0.30, 0.21, 0.15])),
        (_tube(stem, 0.045 - 0.015 * t[:, 0], 14), green),
    ]
    for at, degrees, length in ((9, 200, 0.6), (15, -15, 0.62), (22, 95, 0.52), (28, 240, 0.5)):
        patches.append(_leaf(stem[at], np.radians(degrees), length))
    return _painted([*patches, _leaf(stem[33], np.radians(5), 0.36), *_blossom(stem[-1])])


def _leaf(base: np.ndarray, azimuth: float, length: float) -> Patch:
    """A blade that rises, bends over and hangs, folded a little along its midrib."""
    s, v = np.meshgrid(np.linspace(0, 1, 26), np.linspace(-1, 1, 11), indexing="ij")
    half_width = length * (0.035 + 0.2 * np.sin(np.pi * s**0.8) ** 0.9) * (1 - s**6)
    out = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    side = np.array([-out[1], out[0], 0.0])
    height = length * (0.85 * s - 0.95 * s**2) + 0.3 * half_width * np.abs(v)
    places = base + (0.92 * length * s)[..., None] * out + (half_width * v)[..., None] * side
    places[..., 2] += height
    vein = np.exp(-((v / 0.16) ** 2)) + 0.35 * (np.sin(26 * s - 7 * np.abs(v)) > 0.75)
    color = np.array([0.16, 0.44, 0.18]) + s[..., None] * [0.10, 0.13, 0.02]
    return places, color + 0.16 * np.clip(vein, 0, 1)[..., None] * [1.0, 1.0, 0.5]


def _blossom(middle: np.ndarray) -> list[Patch]:
    """Two wreaths of petals about a disc of florets."""
    face = _unit(np.array([0.12, -0.8, 0.6]))
    right = _unit(np.cross(face, [0.0, 0.0, 1.0]))
    up = np.cross(face, right)

    def place(radius, angle, height):
        flat = np.cos(angle)[..., None] * right + np.sin(angle)[..., None] * up
        return middle + radius[..., None] * flat + height[..., None] * face

    s, v = np.meshgrid(np.linspace(0, 1, 15), np.linspace(-1, 1, 9), indexing="ij")
    patches = []
    for count, turn, reach, lift in ((11, 0.0, 0.31, 0.0), (9, 0.2, 0.22, 0.035)):
        for k in range(count):
            half_width = np.pi / count * reach * (0.4 + 0.75 * s) * np.sqrt(1.0 - 0.97 * s**5)
            radius = 0.05 + (reach - 0.05) * s * (1 - 0.06 * v**2)
            angle = 2 * np.pi * (k + turn) / count + v * half_width / (radius + 0.05)
            height = lift + 0.11 * s**2 - 0.05 * s + 0.02 * v**2 * s + 0.006 * (k % 2)
            shade = np.clip(s + 0.25 * np.abs(v), 0, 1)[..., None]
            color = (1 - shade) * [0.80, 0.20, 0.42] + shade * [0.98, 0.66, 0.74]
            patches.append((place(radius, angle, height), color))
    s, turn = np.meshgrid(np.linspace(0.02, 1, 9), np.linspace(0, 2 * np.pi, 25), indexing="ij")
    florets = 0.5 + 0.5 * np.cos(16 * s) * np.cos(12 * turn)
    color = np.array([0.93, 0.66, 0.13]) - florets[..., None] * [0.14, 0.24, 0.06]
    return [*patches, (place(0.1 * s, turn, 0.05 + 0.055 * np.sqrt(1.0 - s**2 + 1e-9)), color)]


def _cord() -> Gaussians:
    """A laid cord from a rose of wood down to a plumb of brass."""
    rose = [(0, 0.86), (0.07, 0.86), (0.2, 0.92), (0.24, 0.95), (0.24, 1), (0, 1)]
    plumb = [(0, -1), (0.03, -0.97), (0.2, -0.8), (0.26, -0.68), (0.27, -0.62)]
    plumb += [(0.24, -0.56), (0.12, -0.5), (0.08, -0.46), (0.08, -0.42), (0, -0.42)]
    line = np.stack([np.zeros(66), np.zeros(66), np.linspace(-0.44, 0.88, 66)], -1)
    cord = _tube(line, 0.055, 22)
    turn = np.linspace(0.0, 1.0, 23)
    strand = (3 * turn + 9 * line[:, 2:]) % 1.0
    fibre = 0.5 + 0.5 * np.cos(2 * np.pi * strand)[..., None]
    brass = _turned(plumb)
    band = np.abs(brass[..., 2:] + 0.65) < 0.03
    return _painted(
        [
            (_turned(rose), np.array([0.58, 0.39, 0.24])),
            (cord, (1 - fibre) * [0.90, 0.86, 0.76] + fibre * [0.55, 0.20, 0.18]),
            (brass, np.where(band, [0.95, 0.88, 0.66], [0.83, 0.64, 0.27])),
        ]
    )


def _turned(profile: Sequence[tuple[float, float]], num_around: int = 56) -> np.ndarray:
    """Places [U, V, 3] of a profile of radius and height, from below, turned about z."""
    points = np.asarray(profile, float)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=-1))])
    at = np.linspace(0.0, way[-1], round(way[-1] / _SPACING) + 1)
    radius, height = (np.interp(at, way, column)[:, None] for column in points.T)
    angle = np.linspace(0.0, -2 * np.pi, num_around)  # this way round, normals point outwards
    return np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), height), -1)


def _tube(line: np.ndarray, radius: np.ndarray | float, num_around: int) -> np.ndarray:
    """Places [T, num_around + 1, 3] about a line [T, 3] that goes up."""
    forward = _unit(np.gradient(line, axis=0))[:, None]
    right = _unit(np.cross([0.0, 1.0, 0.0], forward))
    angle = np.linspace(0.0, -2 * np.pi, num_around + 1)[:, None]
    circle = np.cos(angle) * right + np.sin(angle) * np.cross(forward, right)
    return line[:, None] + np.broadcast_to(radius, len(line))[:, None, None] * circle


def _painted(patches: Sequence[Patch]) -> Gaussians:
    """A flat Gaussian at each place of each patch, as long and wide as its neighbours are apart."""
    parts = []
    for places, color in patches:
        along, across = np.gradient(places, axis=0), np.gradient(places, axis=1)
        normals, first = _unit(np.cross(along, across)), _unit(along)
        # Where a patch ends in a point any axes will do.
        is_flat = np.linalg.norm(normals, axis=-1, keepdims=True) > 0.5
        normals = np.where(is_flat, normals, _unit(np.cross(first, [0.3, 0.8, 0.5])))
        axes = np.stack([first, np.cross(normals, first), normals], -1)
        sizes = [0.6 * np.linalg.norm(way, axis=-1) for way in (along, across)]
        scales = np.maximum(np.stack([*sizes, np.zeros_like(sizes[0])], -1), _THIN)
        quats = Rotation.from_matrix(axes.reshape(-1, 3, 3)).as_quat(scalar_first=True)
        colors = np.broadcast_to(color, places.shape)
        parts.append((quats, *(a.reshape(-1, 3) for a in (places, scales, colors, normals))))
    quats, places, scales, colors, normals = (np.concatenate(a) for a in zip(*parts, strict=True))
    return _gaussians(places, quats, scales, colors, normals)


def _gaussians(places, quats, scales, colors, normals) -> Gaussians:
    """Opaque Gaussians in the light of the sun."""
    light = 0.75 + 0.25 * np.clip(normals @ _SUN, -1.0, 1.0)
    colors = np.clip(light[:, None] * colors, 0.0, 1.0)
    return Gaussians(
        means=np.float32(places),
        quats=np.float32(quats),
        log_scales=np.float32(np.log(scales)),
        logit_opacities=np.full(len(places), _OPAQUE, np.float32),
        harmonics=np.float32((colors[:, None] - 0.5) / harmonics.CONSTANT),
    )


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


_SHAPES = {"ball": _ball, "cube": _cube, "plant": _plant, "cord": _cord}
NAMES = tuple(_SHAPES)
