"""What a file is that people take for splats, and what to do about it.

Sources: git-lfs, the specification of its pointers; mkkellogg, GaussianSplats3D (the header of
.ksplat); PlayCanvas, the format SOG; ASPRS, LAS 1.4.
"""

import struct

CUT_SHORT = "the file is cut short, so copy or download it again"
_KSPLAT_HEADER = 4096  # bytes
_CONVERT = "`npx @playcanvas/splat-transform IN OUT.ply` makes a .ply of it"
_TRAIN = "it has no Gaussians; `train_splats` makes them from photos"
_AS_GLB = "if it is a mesh, export it as .glb"
_PICTURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"RIFF": "WebP"}


class RefusedFileError(ValueError):
    """What was expected and found, and a way out."""

    def __init__(self, message: str, remedy: str):
        super().__init__(message)
        self.remedy = remedy

    def at(self, path: object) -> ValueError:
        """Returns the whole line for a file at `path`."""
        return ValueError(f"{self} in {path}: {self.remedy}")


def foreign_kind(content: bytes) -> tuple[str, str] | None:
    """Says what a file of another kind is, and the way out; None where its content does not tell.

    Args:
      content: the file, or its first 64 kB or more.
    """
    text = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer", "`git lfs pull` brings the file itself"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page", "download the file itself, by the link behind its button"
    if text.startswith((b"<?xml", b"<error")):
        return "XML, such as the message of a server", "download the file itself"
    if _is_ksplat(content):
        return ".ksplat", _CONVERT
    if content.startswith(b"PK\x03\x04"):
        return _zip_kind(content)
    if text.startswith(b"{"):
        return _json_kind(content)
    if content.startswith(b"glTF"):
        return "glTF", _AS_GLB
    if content.startswith((b"LASF", b"# .PCD")):
        return "a point cloud", _TRAIN
    if content.startswith(b"\x28\xb5\x2f\xfd"):
        return "something compressed by zstd", "decompress it"
    for magic, name in _PICTURES.items():
        if content.startswith(magic):
            return f"a picture ({name})", "`train_splats` makes splats of many"
    return None


def refuse_foreign(content: bytes, what: str = "splats") -> None:
    """Refuses files of other kinds.

    Raises:
      RefusedFileError: `content`, the beginning of a file, is of such a kind.
    """
    if found := foreign_kind(content):
        raise RefusedFileError(f"expected {what}, found {found[0]}", found[1])


def refuse_points(properties: tuple[str, ...], elements: tuple[str, ...]) -> None:
    """Refuses what a .ply may hold instead of Gaussians.

    Args:
      properties: of element vertex.
      elements: names of all elements.

    Raises:
      RefusedFileError: it is a point cloud.
      ValueError: it is a mesh.
    """
    if {"f_dc_0", "opacity", "rot_0", "scale_0"} & set(properties):
        return
    if "face" in elements:
        raise ValueError("expected splats, found a mesh")
    if {"x", "y", "z"} <= set(properties):
        what = "a point cloud, without opacities, scales and rotations"
        raise RefusedFileError(f"expected splats, found {what},", _TRAIN)


def _is_ksplat(content: bytes) -> bool:
    if len(content) < _KSPLAT_HEADER or not content.startswith((b"\0\1\0\0", b"\0\2\0\0")):
        return False
    most_sections, sections, most_splats, splats = struct.unpack_from("<4I", content, 4)
    (level,) = struct.unpack_from("<H", content, 20)
    return 0 < sections <= most_sections and splats <= most_splats and level <= 2


def _zip_kind(content: bytes) -> tuple[str, str]:
    if b"means_l" in content or b"meta.json" in content:
        return ".sog", _CONVERT
    if b"data.pkl" in content:
        return "a checkpoint of PyTorch", "export its splats as .ply where it was trained"
    return "a .zip", "unpack it"


def _json_kind(content: bytes) -> tuple[str, str]:
    if b'"means"' in content and b'"quats"' in content:
        return "meta.json of a .sog", _CONVERT
    if b'"asset"' in content:
        return "glTF", _AS_GLB
    return "JSON", "splats come as .ply, .spz or .splat"
