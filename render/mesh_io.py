"""Meshes as files: .obj with its material and texture, .ply, .glb.

Files hold metres, y up, triangles counter-clockwise from outside; texture coordinates have v up
(.glb: v down, turned here). Colours are sRGB-encoded in memory, in .obj and in .ply; vertex colours
of .glb are linear. Cards, `Mesh.num_opaque` and on, have a material of their own, with the same
texture and its alpha; .ply knows no texture, so it holds them as opaque.

Source: Khronos glTF 2.0, sections 3.7.2.1 (COLOR_0 is linear) and 3.9.4 (alphaMode).
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import trimesh
from PIL import Image

from render.files_io import replacing
from render.image import linear_to_srgb, srgb_to_linear, to_bytes
from render.image_io import read_photo, write_image
from render.mesh import Mesh, vertex_normals
from render.mtl_io import Material, read_alpha, read_mtl, write_alpha, write_mtl

_LINEAR_COLOR = "_linear_color"  # trimesh writes attributes of one's own; `_name_colors` renames it


def write_obj(
    path: str | os.PathLike, mesh: Mesh, texture_name: str = "texture.png"
) -> list[pathlib.Path]:
    """Writes `mesh` as .obj, a texture with its material beside it, and returns the paths.

    Texture coordinates keep their own indices, so seams stay seams. Vertex colours follow the
    positions, as most programs read them, unless there is a texture. The alpha of cards goes to a
    picture of its own, `texture_alpha.png` beside `texture.png`.
    """
    path = pathlib.Path(path)
    mesh = jax.device_get(mesh)
    has_texture = mesh.texture is not None and mesh.uvs is not None
    lines, written = [], []
    num_opaque = _num_opaque(mesh)
    if has_texture:
        library, texture = path.with_suffix(".mtl"), path.with_name(texture_name)
        write_image(texture, mesh.texture[..., :3])
        written += [library, texture]
        materials = {"skin": Material(texture)}
        if num_opaque < len(mesh.triangles):
            alpha = texture.with_name(f"{texture.stem}_alpha.png")
            write_alpha(alpha, mesh.texture[..., 3])
            materials["cards"] = Material(texture, alpha)
            written += [alpha]
        write_mtl(library, materials)
        lines += [f"mtllib {library.name}"]
    vertices = np.asarray(mesh.vertices)
    if mesh.colors is not None and not has_texture:
        vertices = np.concatenate([vertices, np.clip(mesh.colors, 0, 1)], -1)
    lines += _rows("v", vertices, "%.7g")
    corners = np.asarray(mesh.triangles)[..., None] + 1
    if mesh.uvs is not None:
        lines += _rows("vt", mesh.uvs, "%.7g")
        corners = np.concatenate([corners, np.asarray(mesh.uv_triangles)[..., None] + 1], -1)
    line = " ".join(["f", *["/".join(["%d"] * corners.shape[-1])] * 3])
    faces = [line % tuple(row) for row in corners.reshape(len(corners), -1).tolist()]
    for name, part in (("skin", faces[:num_opaque]), ("cards", faces[num_opaque:])):
        lines += [f"usemtl {name}"] * (has_texture and bool(part)) + part
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return [path, *written]


def write_ply(path: str | os.PathLike, mesh: Mesh) -> None:
    """Writes `mesh` as binary .ply, colours as uchar. Texture coordinates are left out."""
    mesh = jax.device_get(mesh)
    fields = [(name, "<f4") for name in "xyz"]
    if mesh.colors is not None:
        fields += [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(len(mesh.vertices), fields)
    for i, name in enumerate("xyz"):
        vertices[name] = mesh.vertices[:, i]
    if mesh.colors is not None:
        for i, name in enumerate(("red", "green", "blue")):
            vertices[name] = to_bytes(mesh.colors)[:, i]
    faces = np.empty(len(mesh.triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.triangles
    types = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *(f"property {types[kind]} {name}" for name, kind in fields),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    with replacing(path) as temporary:
        content = "\n".join(header).encode() + b"\n" + vertices.tobytes() + faces.tobytes()
        temporary.write_bytes(content)


def write_glb(path: str | os.PathLike, mesh: Mesh) -> None:
    """Writes `mesh` as .glb: see `pack_glb`."""
    content = pack_glb(mesh)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def pack_glb(mesh: Mesh) -> bytes:
    """Makes a .glb of `mesh` with its texture inside, else with its vertex colours.

    A vertex of this format has one texture coordinate: vertices on seams are doubled. Normals go
    along, as viewers show faces as flat without them. Cards are a second part of the same mesh, to
    be blended; viewers draw them in their order, so the outer ones had better come last.
    """
    normals = np.asarray(vertex_normals(mesh.vertices, mesh.triangles))
    mesh = jax.device_get(mesh)
    vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    uv, image, colors = None, None, mesh.colors
    if mesh.texture is not None and mesh.uvs is not None:
        # One number per pair of vertex and coordinate: sorting rows takes ten times as long.
        pairs = triangles.astype(np.int64) * len(mesh.uvs) + mesh.uv_triangles
        pairs, corner = np.unique(pairs, return_inverse=True)
        triangles = corner.reshape(-1, 3)
        vertex, coordinate = np.divmod(pairs, len(mesh.uvs))
        vertices, normals = vertices[vertex], normals[vertex]
        uv, image, colors = mesh.uvs[coordinate], Image.fromarray(to_bytes(mesh.texture)), None
    # Without a material of its own a glTF mesh counts as metal.
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=image, metallicFactor=0.0, roughnessFactor=0.9, doubleSided=True
    )
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    # Coincident vertices stay as they are, and so does their order.
    out = trimesh.Trimesh(
        vertices, triangles, vertex_normals=normals, visual=visual, process=False, validate=False
    )
    if colors is not None:
        # Eight linear bits would show steps in dark hair: the colours go as floats.
        linear = srgb_to_linear(np.clip(colors, 0.0, 1.0))
        out.vertex_attributes[_LINEAR_COLOR] = np.asarray(linear, np.float32)

    def finish(tree: dict) -> None:
        _name_colors(tree)
        _split_cards(tree, _num_opaque(mesh))

    return out.export(file_type="glb", include_normals=True, tree_postprocessor=finish)


def read_mesh(path: str | os.PathLike) -> Mesh:
    """Reads .obj, .ply or .glb as one mesh, with its colours and its texture.

    Vertices and triangles keep their order, but cards, triangles whose material has an alpha, come
    last. Of .glb, vertices on texture seams come doubled, and `uvs` has a row for each vertex; .obj
    has its own indices for them. Of several textures of an .obj the first is taken; those of a .glb
    are put together in one.

    Raises:
      ValueError: when `path` is not a file with triangles.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in (".obj", ".ply", ".glb"):
        raise ValueError(f"expected a mesh in .obj, .ply or .glb, found {path}")
    if not path.is_file():
        raise ValueError(f"expected a mesh file, found nothing at {path}")
    try:
        mesh = _read_obj(path) if path.suffix.lower() == ".obj" else _read_by_trimesh(path)
    except Exception as error:  # trimesh's readers raise whatever a broken file makes them
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"expected a mesh, found {path}: {message}") from None
    return jax.tree.map(jnp.asarray, mesh)


def _read_by_trimesh(path: pathlib.Path) -> Mesh:
    scene = trimesh.load_scene(path, process=False)
    if any(map(_is_card, scene.geometry.values())):
        return _join_cards(scene.dump())
    loaded = scene.to_mesh()
    triangles = np.asarray(loaded.faces, np.int32)
    if not triangles.size:
        raise ValueError("no triangles")
    mesh = Mesh(np.asarray(loaded.vertices, np.float32), triangles)
    visual = loaded.visual
    if visual.kind in ("vertex", "face"):
        colors = np.asarray(visual.vertex_colors[:, :3], np.float32) / 255.0
        return mesh.replace(colors=colors)
    if visual.kind != "texture":
        return mesh
    if visual.uv is not None:
        mesh = mesh.replace(uvs=np.asarray(visual.uv, np.float32), uv_triangles=triangles)
    texture = getattr(visual.material, "baseColorTexture", None)
    if texture is not None:
        texture = np.asarray(texture.convert("RGB"), np.float32) / 255.0
    # Colours beside a material get lost on the way from the scene to one mesh.
    parts = [part.visual for part in scene.geometry.values()]
    colors = None
    if len(parts) == 1 and "color" in parts[0].vertex_attributes:
        colors = parts[0].vertex_attributes["color"]
        scale = 255.0 if colors.dtype.kind == "u" else 1.0
        colors = np.asarray(linear_to_srgb(np.asarray(colors[:, :3], np.float32) / scale))
    return mesh.replace(texture=texture, colors=colors)


def _material_image(part: trimesh.parent.Geometry) -> Image.Image | None:
    """Returns the picture on a part of a scene, if it has one."""
    if getattr(getattr(part, "visual", None), "uv", None) is None:
        return None
    return getattr(part.visual.material, "baseColorTexture", None)


def _is_card(part: trimesh.parent.Geometry) -> bool:
    """Whether a part of a scene is to be drawn with the alpha of its texture."""
    return bool(_material_image(part)) and part.visual.material.alphaMode in ("BLEND", "MASK")


def _join_cards(parts: list[trimesh.parent.Geometry]) -> Mesh:
    """Makes one mesh of the parts of a scene, those with alpha last."""
    parts = [part for part in parts if isinstance(part, trimesh.Trimesh)]
    cards = [part for part in parts if _is_card(part)]
    opaque = [part for part in parts if not _is_card(part)]
    parts = [*opaque, *cards]
    for part in cards:
        _cut_out(part.visual.material)
    images = [_material_image(part) for part in parts]
    colors = {image and (image.size, image.convert("RGB").tobytes()) for image in images}
    alphas = {image.convert("RGBA").tobytes() for image in images[len(opaque) :]}
    if len(colors) == len(alphas) == 1:
        image = images[-1]
        corners = [np.concatenate([part.vertices, part.visual.uv], -1) for part in parts]
        if all(np.array_equal(corner, corners[0]) for corner in corners):  # as `pack_glb` writes
            corners, triangles = corners[0], np.concatenate([part.faces for part in parts])
        else:
            corners, triangles = trimesh.util.append_faces(corners, [part.faces for part in parts])
        vertices, uvs = corners[:, :3], corners[:, 3:]
    else:
        joined = trimesh.util.concatenate(parts)
        image, uvs = joined.visual.material.baseColorTexture, joined.visual.uv
        vertices, triangles = joined.vertices, joined.faces
    triangles = np.asarray(triangles, np.int32)
    return Mesh(
        np.asarray(vertices, np.float32),
        triangles,
        uvs=np.asarray(uvs, np.float32),
        uv_triangles=triangles,
        texture=np.asarray(image.convert("RGBA"), np.float32) / 255.0,
        num_opaque=sum(len(part.faces) for part in opaque),
    )


def _cut_out(material: trimesh.visual.material.PBRMaterial) -> None:
    """Makes alpha what the mode MASK shows of it: all or nothing."""
    if material.alphaMode == "MASK":
        cutoff = 255.0 * (0.5 if material.alphaCutoff is None else material.alphaCutoff)
        image = material.baseColorTexture.convert("RGBA")
        image.putalpha(image.getchannel("A").point(lambda alpha: 255 * (alpha >= cutoff)))
        material.baseColorTexture = image


def _read_obj(path: pathlib.Path) -> Mesh:
    """Reads a Wavefront file; trimesh would merge or double vertices where there are seams."""
    points, uvs, corners, libraries, materials, names = [], [], [], [], [], [""]
    for line in path.read_text(errors="replace").splitlines():
        key, *words = line.split() or [""]
        if key == "v":
            points.append([float(word) for word in words])
        elif key == "vt":
            uvs.append([float(word) for word in words[:2]])
        elif key == "f":
            polygon = [_obj_corner(word, len(points), len(uvs)) for word in words]
            corners += [(polygon[0], *polygon[i : i + 2]) for i in range(1, len(polygon) - 1)]
            materials += [len(names) - 1] * (len(polygon) - 2)
        elif key == "mtllib":
            libraries.append(path.parent / line.split(maxsplit=1)[1].strip())
        elif key == "usemtl":
            names.append(" ".join(words))
    if not corners:
        raise ValueError("no triangles")
    corners = np.array(corners, np.int32)  # [T, 3, 2] point and texture coordinate
    triangles, uv_triangles = corners[..., 0], corners[..., 1]
    if not 0 <= triangles.min() <= triangles.max() < len(points):
        raise ValueError(f"corners {triangles.min() + 1}..{triangles.max() + 1} of {len(points)}")
    mesh = Mesh(np.array([point[:3] for point in points], np.float32), triangles)
    if min(map(len, points)) >= 6:  # x y z r g b
        mesh = mesh.replace(colors=np.array([point[3:6] for point in points], np.float32))
    if uvs and 0 <= uv_triangles.min() <= uv_triangles.max() < len(uvs):
        mesh = mesh.replace(uvs=np.array(uvs, np.float32), uv_triangles=uv_triangles)
        known = read_mtl(libraries)
        looks = [known.get(name, Material()) for name in names]
        return _with_texture(mesh, [looks[number] for number in materials])
    return mesh


def _obj_corner(word: str, num_points: int, num_uvs: int) -> tuple[int, int]:
    """Reads "1", "1/2", "1//3" or "1/2/3"; counts from one, or back from the end; -1 for none."""
    point, uv = (*word.split("/"), "")[:2]
    point, uv = int(point), int(uv or 0)
    return point - 1 if point > 0 else num_points + point, uv - 1 if uv >= 0 else num_uvs + uv


def _with_texture(mesh: Mesh, looks: list[Material]) -> Mesh:
    """Adds the first texture of the materials [T] in use, and the alpha of those that have it."""
    color = next((look.color for look in looks if look.color), None)
    if color is None:
        return mesh
    texture = read_photo(color)
    alphas = [look.alpha if look.color == color else None for look in looks]
    alpha = next(filter(None, alphas), None)
    if alpha is None:
        return mesh.replace(texture=texture)
    is_card = np.array([other == alpha for other in alphas])
    order = np.argsort(is_card, kind="stable")
    alpha = read_alpha(alpha, *texture.shape[:2])
    return mesh.replace(
        triangles=mesh.triangles[order],
        uv_triangles=mesh.uv_triangles[order],
        texture=np.concatenate([texture, alpha[..., None]], -1),
        num_opaque=int(np.sum(~is_card)),
    )


def _num_opaque(mesh: Mesh) -> int:
    """Returns how many triangles hide what is behind them; all, without alpha in the texture."""
    has_alpha = mesh.texture is not None and mesh.uvs is not None and mesh.texture.shape[-1] == 4
    whole = len(mesh.triangles)
    return whole if mesh.num_opaque is None or not has_alpha else min(mesh.num_opaque, whole)


def _split_cards(tree: dict, num_opaque: int) -> None:
    """Gives the triangles from `num_opaque` on a part of their own, which is blended.

    Both parts share all arrays; that of the corners is cut in two.
    """
    (primitive,) = (p for mesh in tree["meshes"] for p in mesh["primitives"])
    corners = tree["accessors"][primitive["indices"]]
    if 3 * num_opaque >= corners["count"]:
        return
    material = tree["materials"][primitive["material"]]
    cards = {**material, "alphaMode": "BLEND", "doubleSided": True}
    if num_opaque == 0:
        tree["materials"][primitive["material"]] = cards
        return
    tree["materials"].append(cards)
    # Bounds, which are optional here, would be those of both.
    corners = {key: value for key, value in corners.items() if key not in ("min", "max")}
    start = corners.get("byteOffset", 0)
    first = corners | {"count": 3 * num_opaque}
    rest = corners | {
        "count": corners["count"] - 3 * num_opaque,
        "byteOffset": start + 12 * num_opaque,
    }
    tree["accessors"][primitive["indices"]] = first
    tree["accessors"].append(rest)
    second = {"indices": len(tree["accessors"]) - 1, "material": len(tree["materials"]) - 1}
    tree["meshes"][0]["primitives"].append(primitive | second)


def _name_colors(tree: dict) -> None:
    for mesh in tree["meshes"]:
        attributes = mesh["primitives"][0]["attributes"]
        if _LINEAR_COLOR in attributes:
            attributes["COLOR_0"] = attributes.pop(_LINEAR_COLOR)


def _rows(prefix: str, values: np.ndarray, form: str) -> list[str]:
    """Formats the rows of a table, one line each."""
    values = np.asarray(values)
    line = " ".join([prefix, *[form] * values.shape[-1]])
    return [line % tuple(row) for row in values.tolist()]
