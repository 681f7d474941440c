"""Small captures, written in every format by hand, for the tests of their readers."""

import json
import struct

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

WIDTH, HEIGHT = 24, 18
FOCAL, CENTER = (30.0, 31.0), (12.5, 8.75)
NUM_PHOTOS = 9
POINTS = np.array([[0.0, 0.1, 0.2], [0.3, -0.1, 0.0], [-0.2, 0.2, -0.3]], np.float32)
POINT_COLORS = np.array([[255, 0, 0], [0, 51, 0], [0, 0, 102]], np.uint8)
PIXELS = np.random.default_rng(0).integers(0, 256, (NUM_PHOTOS, HEIGHT, WIDTH, 3), np.uint8)


def truth():
    """World-to-camera rotation and translation of each photo; anything rigid will do."""
    rotations = Rotation.random(NUM_PHOTOS, rng=np.random.default_rng(1)).as_matrix()
    return rotations, np.random.default_rng(2).normal(size=(NUM_PHOTOS, 3))


def to_opengl(rotation, translation):
    """Inverts a pose; y then points up and z backwards."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return np.linalg.inv(pose) @ np.diag([1.0, -1.0, -1.0, 1.0])


def name_of(i):
    return f"images/{i:02}.png"


def write_photos(folder, pixels=PIXELS, name_of=name_of):
    for i, picture in enumerate(pixels):
        path = folder / name_of(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def write_points(path):
    lines = [f"element vertex {len(POINTS)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"property uchar {color}" for color in ("red", "green", "blue")]
    rows = [" ".join(map(str, (*p, *c))) for p, c in zip(POINTS, POINT_COLORS, strict=True)]
    path.write_text("\n".join(["ply", "format ascii 1.0", *lines, "end_header", *rows, ""]))


def transforms():
    """The content of transforms.json, photos in reverse order."""
    poses = [to_opengl(*pose).tolist() for pose in zip(*truth(), strict=True)]
    frames = [{"file_path": name_of(i), "transform_matrix": p} for i, p in enumerate(poses)]
    lens = dict(fl_x=FOCAL[0], fl_y=FOCAL[1], cx=CENTER[0], cy=CENTER[1], w=WIDTH, h=HEIGHT)
    return lens | {"frames": frames[::-1]}


def write_json_capture(folder, **changes):
    write_photos(folder)
    write_points(folder / "points3D.ply")
    (folder / "transforms.json").write_text(json.dumps(transforms() | changes))


def colmap_parts():
    rotations, translations = truth()
    quats = Rotation.from_matrix(rotations).as_quat(scalar_first=True)
    return [(*q, *t) for q, t in zip(quats.tolist(), translations.tolist(), strict=True)]


def write_colmap_text(folder, camera=None):
    camera = camera or f"PINHOLE {WIDTH} {HEIGHT} 30 31 12.5 8.75"
    write_photos(folder)
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    (sparse / "cameras.txt").write_text(f"# cameras\n7 {camera}\n")
    lines = ["# two lines a photo"]
    for i, pose in enumerate(colmap_parts()):
        lines += [" ".join(map(str, (i + 1, *pose, 7, f"{i:02}.png")))]
        lines += ["" if i == 0 else "1.5 2.5 3 4.5 5.5 -1"]  # a photo may see nothing
    (sparse / "images.txt").write_text("\n".join(lines) + "\n")
    points = zip(POINTS.tolist(), POINT_COLORS.tolist(), strict=True)
    rows = [" ".join(map(str, (i, *p, *c, 0.5, 1, 2))) for i, (p, c) in enumerate(points)]
    (sparse / "points3D.txt").write_text("# points\n" + "\n".join(rows) + "\n")


def write_colmap_binary(folder, model=1, params=(*FOCAL, *CENTER)):
    write_photos(folder)
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    lens = struct.pack(f"<QIiQQ{len(params)}d", 1, 7, model, WIDTH, HEIGHT, *params)
    (sparse / "cameras.bin").write_bytes(lens)
    content = struct.pack("<Q", NUM_PHOTOS)
    for i, pose in enumerate(colmap_parts()):
        content += struct.pack("<I7dI", i + 1, *pose, 7) + f"{i:02}.png".encode() + b"\0"
        content += struct.pack("<Q", i) + struct.pack("<ddq", 1.5, 2.5, -1) * i
    (sparse / "images.bin").write_bytes(content)
    content = struct.pack("<Q", len(POINTS))
    for i, (p, c) in enumerate(zip(POINTS.tolist(), POINT_COLORS.tolist(), strict=True)):
        content += struct.pack("<Q3d3BdQ", i, *p, *c, 0.5, i) + struct.pack("<II", 1, 2) * i
    (sparse / "points3D.bin").write_bytes(content)
