"""Reads the `.bin` models of the eos library, such as the Surrey Face Model.

The file is a cereal binary archive, little-endian: a version (1 to 4), a shape model, a colour
model (empty if there is none), from version 2 an optional expression model, from 3 optional
landmark names, texture coordinates, and from 4 their triangles. Matrices are int32 rows and
columns, then float32 column by column; lists and strings are an uint64 count, then the items. The
package eos-py reads it too, but is no dependency: it serves the benchmark alone.

Sources: Huber et al. 2016; eos `MorphableModel.hpp`, checked on files that eos 1.5.0 wrote.
"""

import os
import pathlib

import numpy as np
from numpy.typing import NDArray

from recon.formats import landmark_maps
from recon.formats.raw_model import RawModel, deviations, points, refuse

_VERSIONS = (1, 2, 3, 4)


def is_eos(head: bytes) -> bool:
    """Whether a file's first 12 bytes are a version and a column of 3V numbers."""
    if len(head) < 12:
        return False
    version, rows, columns = np.frombuffer(head[:12], "<i4")
    return version in _VERSIONS and rows > 0 and rows % 3 == 0 and columns == 1


def read_eos(path: os.PathLike) -> RawModel:
    """Reads an eos model.

    Raises:
      ValueError: one line, when the file is too short, too long or contradicts itself.
    """
    path = pathlib.Path(path)
    archive = _Archive(path)
    version = int(archive.numbers("<u4", 1, "a version")[0])
    if version not in _VERSIONS:
        raise refuse(path, "an eos model of version 1 to 4", f"version {version}")
    mean, modes, triangles = archive.pca("the shape")
    albedo_mean, albedo_modes, _ = archive.pca("the colours")
    expression, names = None, {}
    expression_names, is_blendshapes = (), False
    if version >= 2 and archive.is_present("an expression model"):
        offset, expression, expression_names = archive.expression(len(mean))
        is_blendshapes = offset is None
        mean = mean if is_blendshapes else mean + offset
    if version >= 3 and archive.is_present("landmark names"):
        for _ in range(archive.count("landmark names", 9)):
            name = archive.text("a landmark name")
            names[name] = int(archive.numbers("<i4", 1, f"the vertex of landmark {name}")[0])
    num_uvs = archive.count("texture coordinates", 16)
    uvs = archive.numbers("<f8", 2 * num_uvs, "texture coordinates").reshape(-1, 2)
    uv_triangles = archive.triangles("texture triangles") if version >= 4 else triangles[:0]
    archive.finish()
    return RawModel(
        mean=mean,
        triangles=triangles,
        identity_modes=modes,
        expression_modes=expression,
        expression_names=expression_names,
        is_blendshapes=is_blendshapes,
        albedo_mean=albedo_mean if len(albedo_mean) else None,
        albedo_modes=albedo_modes if len(albedo_mean) else None,
        landmarks=landmark_maps.add_named(landmark_maps.known_landmarks(len(mean)), names),
        name=path.stem,
        **_texture(uvs, uv_triangles, triangles),
    )


class _Archive:
    """A cereal archive that is read from front to back and never past its end."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.data = path.read_bytes()
        self.place = 0

    def numbers(self, kind: str, count: int, what: str) -> NDArray:
        size = np.dtype(kind).itemsize * count
        left = len(self.data) - self.place
        if size > left:
            raise refuse(self.path, f"{size} bytes of {what}", f"{left} (file cut short?)")
        values = np.frombuffer(self.data, kind, count, self.place)
        self.place += size
        return values

    def count(self, what: str, item_size: int) -> int:
        count = int(self.numbers("<u8", 1, f"the number of {what}")[0])
        left = len(self.data) - self.place
        if count * item_size > left:
            raise refuse(self.path, f"{count} {what}", f"{left} bytes (file cut short?)")
        return count

    def is_present(self, what: str) -> bool:
        return not self.numbers("u1", 1, f"whether there is {what}")[0]  # it stores "absent"

    def text(self, what: str) -> str:
        length = self.count(f"letters of {what}", 1)
        return self.numbers("u1", length, what).tobytes().decode("utf-8", "replace")

    def matrix(self, what: str) -> NDArray:
        rows, columns = (int(n) for n in self.numbers("<i4", 2, f"the size of {what}"))
        if rows < 0 or columns < 0:
            raise refuse(self.path, f"a size of {what}", f"{rows} by {columns}")
        return self.numbers("<f4", rows * columns, what).reshape(columns, rows).T

    def triangles(self, what: str) -> NDArray:
        return self.numbers("<i4", 3 * self.count(what, 12), what).reshape(-1, 3)

    def pca(self, what: str) -> tuple[NDArray, NDArray, NDArray]:
        """Returns mean [V, 3], displacements per standard deviation [V, 3, K], triangles."""
        mean = self.matrix(f"the mean of {what}")
        basis = self.matrix(f"the basis of {what}")
        variance = self.matrix(f"the variances of {what}")
        triangles = self.triangles(f"triangles of {what}")
        if not mean.size:
            return np.zeros((0, 3), np.float32), np.zeros((0, 3, 0), np.float32), triangles
        if basis.shape[0] != mean.size:
            raise refuse(self.path, f"a basis of {mean.size} rows", f"{basis.shape[0]} in {what}")
        sd = np.sqrt(deviations(self.path, f"variances of {what}", variance, basis.shape[1]))
        modes = (basis * sd).reshape(-1, 3, basis.shape[1])
        return points(self.path, f"mean of {what}", mean), modes, triangles

    def expression(self, num_vertices: int) -> tuple[NDArray | None, NDArray, tuple[str, ...]]:
        """Returns the mean displacement (None for blendshapes), the modes and their names."""
        kind = int(self.numbers("<i4", 1, "the kind of expression model")[0])
        if kind == 0:
            mean, modes, _ = self.pca("the expressions")
            if len(mean) != num_vertices:
                raise refuse(self.path, f"expressions of {num_vertices} vertices", str(len(mean)))
            return mean, modes, tuple(f"pca_{i}" for i in range(modes.shape[-1]))
        if kind != 1:
            raise refuse(self.path, "an expression model of kind 0 or 1", f"kind {kind}")
        shapes = {}
        for _ in range(self.count("blendshapes", 16)):
            name = self.text("the name of a blendshape")
            shapes[name] = self.matrix(f"blendshape {name}")
            if shapes[name].size != 3 * num_vertices:
                found = f"{shapes[name].size} in blendshape {name}"
                raise refuse(self.path, f"{3 * num_vertices} numbers", found)
        modes = [shape.reshape(num_vertices, 3) for shape in shapes.values()]
        modes = np.stack(modes, axis=-1) if modes else np.zeros((num_vertices, 3, 0), np.float32)
        return None, modes, tuple(shapes)

    def finish(self) -> None:
        left = len(self.data) - self.place
        if left:
            raise refuse(self.path, "the end of the eos model", f"{left} bytes more")


def _texture(uvs: NDArray, uv_triangles: NDArray, triangles: NDArray) -> dict[str, NDArray]:
    if not len(uvs):
        return {}
    if not len(uv_triangles):
        uv_triangles = triangles  # one coordinate per vertex
    flipped = np.stack([uvs[:, 0], 1.0 - uvs[:, 1]], axis=1)  # eos counts v from the top
    return {"uvs": flipped, "uv_triangles": uv_triangles}
