import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from PIL import Image

from render.image import sample_texture, srgb_to_linear
from render.image_io import write_image
from render.mesh import Mesh, vertex_normals
from render.mesh_io import read_mesh, write_glb, write_obj, write_ply

# A pyramid. Its base is vertex 0..3, its top vertex 4.
VERTICES = np.array(
    [[-0.1, 0, -0.1], [0.1, 0, -0.1], [0.1, 0, 0.1], [-0.1, 0, 0.1], [0.012345, 0.15, 0]]
)
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3], [0, 4, 1], [1, 4, 2], [2, 4, 3], [3, 4, 0]])
COLORS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.25, 0.03], [1, 1, 1]])


def plain():
    return Mesh(jnp.array(VERTICES, jnp.float32), jnp.array(TRIANGLES))


def colored():
    return plain().replace(colors=jnp.array(COLORS, jnp.float32))


def textured():
    """Every triangle has its own piece of the texture: each edge is a seam."""
    uvs = np.random.default_rng(0).random((18, 2)).astype(np.float32)
    texture = np.random.default_rng(1).random((12, 16, 3)).astype(np.float32)
    return plain().replace(
        uvs=jnp.array(uvs),
        uv_triangles=jnp.arange(18).reshape(6, 3),
        texture=jnp.array(texture),
    )


def with_cards():
    """The same, its last two triangles cards."""
    alpha = np.random.default_rng(2).random((12, 16, 1)).astype(np.float32)
    texture = jnp.concatenate([textured().texture, jnp.array(alpha)], -1)
    return textured().replace(texture=texture, num_opaque=4)


WRITERS = {".obj": write_obj, ".ply": write_ply, ".glb": write_glb}


def write(folder, suffix, mesh):
    path = folder / f"new/head{suffix}"
    WRITERS[suffix](path, mesh)
    return path


@pytest.mark.parametrize("make", [plain, colored, textured, with_cards])
@pytest.mark.parametrize("suffix", WRITERS)
def test_trimesh_finds_the_same_surface(tmp_path, suffix, make):
    found = trimesh.load_mesh(write(tmp_path, suffix, make()), process=False)
    corners = np.asarray(found.vertices)[found.faces]
    order = np.lexsort(corners.reshape(6, 9).round(6).T)
    expected = VERTICES[TRIANGLES]
    expected = expected[np.lexsort(expected.reshape(6, 9).round(6).T)]
    np.testing.assert_allclose(corners[order], expected, atol=1e-6)
    assert found.volume > 0  # counter-clockwise from outside


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_trimesh_finds_the_colors(tmp_path, suffix):
    found = trimesh.load_mesh(write(tmp_path, suffix, colored()), process=False)
    np.testing.assert_allclose(found.visual.vertex_colors[:, :3] / 255, COLORS, atol=1 / 255)


def test_colors_of_glb_are_linear_as_its_standard_says(tmp_path):
    scene = trimesh.load_scene(write(tmp_path, ".glb", colored()), process=False)
    (part,) = scene.geometry.values()
    colors = part.visual.vertex_attributes["color"]
    np.testing.assert_allclose(colors, srgb_to_linear(COLORS), atol=1e-6)
    assert part.visual.material.metallicFactor == 0.0
    normals = vertex_normals(colored().vertices, colored().triangles)
    np.testing.assert_allclose(part.vertex_normals, normals, atol=1e-5)


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_trimesh_finds_the_texture_and_where_it_goes(tmp_path, suffix):
    mesh = textured()
    found = trimesh.load_mesh(write(tmp_path, suffix, mesh), process=False)
    corners = np.concatenate([found.vertices[found.faces], found.visual.uv[found.faces]], -1)
    expected = np.concatenate([VERTICES[TRIANGLES], mesh.uvs[mesh.uv_triangles]], -1)
    order, expected_order = (np.lexsort(c.reshape(6, 15).round(4).T) for c in (corners, expected))
    np.testing.assert_allclose(corners[order], expected[expected_order], atol=1e-6)
    material = found.visual.material
    picture = material.image if suffix == ".obj" else material.baseColorTexture
    pixels = np.asarray(picture.convert("RGB")) / 255
    np.testing.assert_allclose(pixels, mesh.texture, atol=0.003)


def test_obj_keeps_indices_of_texture_coordinates_apart(tmp_path):
    path = write(tmp_path, ".obj", textured())
    lines = path.read_text().splitlines()
    assert sum(line.startswith("v ") for line in lines) == 5
    assert sum(line.startswith("vt ") for line in lines) == 18
    assert [line for line in lines if line.startswith("f ")][1] == "f 1/4 3/5 4/6"
    assert {entry.name for entry in path.parent.iterdir()} == {
        "head.obj",
        "head.mtl",
        "texture.png",
    }
    # Relative names: the folder may move.
    assert (
        "mtllib head.mtl" in lines and "map_Kd texture.png" in path.with_suffix(".mtl").read_text()
    )
    paths = write_obj(path, textured(), texture_name="skin.png")
    assert [entry.name for entry in paths] == ["head.obj", "head.mtl", "skin.png"]


@pytest.mark.parametrize("make", [plain, colored, textured, with_cards])
@pytest.mark.parametrize("suffix", WRITERS)
def test_what_is_written_is_read(tmp_path, suffix, make):
    mesh = make()
    found = read_mesh(write(tmp_path, suffix, mesh))
    corners = found.vertices[found.triangles]
    np.testing.assert_allclose(corners, VERTICES[TRIANGLES], atol=1e-6)
    if make is colored:
        np.testing.assert_allclose(found.colors, COLORS, atol=1 / 255)
    else:
        assert found.colors is None
    if make in (textured, with_cards) and suffix != ".ply":
        assert found.num_opaque == mesh.num_opaque
        np.testing.assert_allclose(found.texture, mesh.texture, atol=0.003)
        assert found.uvs.shape == (18, 2)
        found_uvs, uvs = found.uvs[found.uv_triangles], mesh.uvs[mesh.uv_triangles]
        np.testing.assert_allclose(found_uvs, uvs, atol=1e-6)
    else:
        assert found.texture is None


def test_glb_blends_cards_and_shows_both_sides_of_them(tmp_path):
    content = write(tmp_path, ".glb", with_cards()).read_bytes()
    length, kind = struct.unpack("<I4s", content[12:20])
    tree = json.loads(content[20 : 20 + length])
    assert kind == b"JSON"
    (mesh,) = tree["meshes"]
    skin, cards = mesh["primitives"]
    assert skin["attributes"] == cards["attributes"]
    counts = [tree["accessors"][part["indices"]]["count"] for part in (skin, cards)]
    assert counts == [12, 6]
    materials = [tree["materials"][part["material"]] for part in (skin, cards)]
    assert [m.get("alphaMode", "OPAQUE") for m in materials] == ["OPAQUE", "BLEND"]
    assert materials[1]["doubleSided"] and len(tree["images"]) == 1
    # Without something opaque, or without cards, there is one part: none may be empty.
    for num_opaque, mode in ((0, "BLEND"), (6, "OPAQUE")):
        tree = trimesh.load_scene(
            write(tmp_path, ".glb", with_cards().replace(num_opaque=num_opaque)), process=False
        )
        (part,) = tree.geometry.values()
        assert (part.visual.material.alphaMode or "OPAQUE") == mode


def test_obj_gives_cards_a_material_with_their_alpha(tmp_path):
    path = write(tmp_path, ".obj", with_cards())
    words = [line.split() for line in path.read_text().splitlines()]
    order = [line[1] if line[0] == "usemtl" else "" for line in words if line[0] in ("usemtl", "f")]
    assert order == ["skin", *[""] * 4, "cards", *[""] * 2]
    materials = path.with_suffix(".mtl").read_text().split("newmtl ")
    assert "map_d" not in materials[1] and "map_d texture_alpha.png" in materials[2]
    with Image.open(path.with_name("texture_alpha.png")) as picture:
        grey, alpha = np.moveaxis(np.asarray(picture) / 255, -1, 0)
    np.testing.assert_allclose(alpha, with_cards().texture[..., 3], atol=0.003)
    np.testing.assert_array_equal(grey, alpha)
    with Image.open(path.with_name("texture.png")) as picture:
        assert picture.mode == "RGB"  # nothing else shines through in programs that know no map_d


def test_glb_of_other_programs_keeps_its_pictures_and_its_alpha(tmp_path):
    # Cards first, with a picture of their own that is cut out at a third; then a skin.
    rng = np.random.default_rng(0)

    def part(shift, pixels, **settings):
        vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]]) + shift
        image = Image.fromarray((255 * pixels).astype(np.uint8))
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=image, **settings)
        visual = trimesh.visual.TextureVisuals(
            uv=[[0.3, 0.3], [0.7, 0.3], [0.3, 0.7]], material=material
        )
        return trimesh.Trimesh(vertices, [[0, 1, 2]], visual=visual, process=False)

    hair = rng.random((8, 8, 4))
    hair[..., 3] = np.where(np.arange(8) < 4, 0.4, 0.3)
    parts = [
        part(1.0, hair, alphaMode="MASK", alphaCutoff=0.35),
        part(0.0, np.full((8, 8, 3), 0.5)),
    ]
    trimesh.Scene(parts).export(tmp_path / "a.glb")
    found = read_mesh(tmp_path / "a.glb")
    assert found.num_opaque == 1
    np.testing.assert_allclose(found.vertices[found.triangles[0, 0]], 0.0)
    np.testing.assert_allclose(found.vertices[found.triangles[1, 0]], 1.0)
    at = found.uvs[found.uv_triangles]
    np.testing.assert_allclose(sample_texture(found.texture, at[0])[:, :3], 0.5, atol=0.01)
    np.testing.assert_allclose(sample_texture(found.texture, at[1])[:, 3], [1, 0, 1], atol=0.01)


def test_reading_keeps_the_order_of_vertices_and_triangles(tmp_path):
    # A vertex of no triangle and coincident ones must not move the others.
    mesh = Mesh(jnp.array(np.concatenate([VERTICES[:1], VERTICES]), jnp.float32), TRIANGLES + 1)
    for suffix in WRITERS:
        found = read_mesh(write(tmp_path, suffix, mesh))
        np.testing.assert_allclose(found.vertices, mesh.vertices, atol=1e-6)
        np.testing.assert_array_equal(found.triangles, mesh.triangles)


def test_obj_of_other_programs_is_read(tmp_path):
    (tmp_path / "a.mtl").write_text(
        "newmtl other\nmap_Kd none.png\nnewmtl skin\n  map_Kd -s 1 1 1 skin.png\nmap_Kd x.png"
    )
    (tmp_path / "a.obj").write_text(
        "# quads, relative indices, normals, a blank line\n\nmtllib a.mtl\no head\n"
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0 0\nvt 1 0 0\nvt 1 1 0\nvn 0 0 1\n"
        "usemtl skin\ns off\nf 1/1/1 2/2/1 3/3/1 4/1/1\nf -4/-3 -3/-2 -2/-1\n"
    )
    write_image(tmp_path / "skin.png", np.full((2, 2, 3), 0.2))
    found = read_mesh(tmp_path / "a.obj")
    np.testing.assert_array_equal(found.triangles, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])
    np.testing.assert_array_equal(found.uv_triangles, [[0, 1, 2], [0, 2, 0], [0, 1, 2]])
    assert found.vertices.shape == (4, 3) and found.uvs.shape == (3, 2)
    np.testing.assert_allclose(found.texture, 0.2, atol=1e-3)


def test_obj_corners_out_of_range_are_refused(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 4\n")
    with pytest.raises(ValueError, match=r"expected a mesh, found .*a\.obj: corners 1\.\.4 of 3"):
        read_mesh(tmp_path / "a.obj")


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_is_no_mesh_is_refused_in_one_line(tmp_path, suffix):
    path = tmp_path / f"head{suffix}"
    with pytest.raises(ValueError, match="expected a mesh file, found nothing at"):
        read_mesh(path)
    for content in (b"", b"\x00\x01 no mesh\nat all\n" * 10):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="expected a mesh") as error:
            read_mesh(path)
        assert "\n" not in str(error.value)


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"expected a mesh in \.obj, \.ply or \.glb, found head.stl"
    ):
        read_mesh("head.stl")
