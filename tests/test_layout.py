"""The house rules: who may import whom, who may touch the disk, who may define flags."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MAY_IMPORT = {
    "render": set(),
    "recon": {"render"},
    "sim": {"render"},
    "models": {"render"},
    "scripts": {"recon", "sim", "models", "render"},
}
DISK_ROOMS = {"assets.py", "weights.py"}  # and *_io.py
DISK_MODULES = {"h5py", "imageio", "pickle", "shutil", "tempfile", "trimesh", "zipfile"}
DISK_CALLS = {
    *("open", "load", "loadtxt", "fromfile", "loadmat", "read_text", "read_bytes"),
    *("save", "savez", "savez_compressed", "savetxt", "tofile", "savemat", "dump"),
    *("write_text", "write_bytes", "mkdir", "makedirs", "touch", "unlink", "rmdir", "remove"),
}
PATHS = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def called_names(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr


def each_path(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PATHS, ids=each_path)
def test_imports_point_down(path):
    folder = path.relative_to(ROOT).parts[0]
    rooms = {name.split(".")[0] for name in imported_modules(path)} & set(MAY_IMPORT)
    assert rooms <= MAY_IMPORT[folder] | {folder}


@pytest.mark.parametrize("path", PATHS, ids=each_path)
def test_only_readers_and_writers_touch_the_disk(path):
    if path.name in DISK_ROOMS or path.name.endswith("_io.py"):
        return
    assert not set(called_names(path)) & DISK_CALLS
    assert not {name.split(".")[0] for name in imported_modules(path)} & DISK_MODULES


@pytest.mark.parametrize("path", PATHS, ids=each_path)
def test_only_scripts_define_flags(path):
    if path.relative_to(ROOT).parts[0] == "scripts":
        return
    assert "absl" not in {name.split(".")[0] for name in imported_modules(path)}


@pytest.mark.parametrize("path", PATHS, ids=each_path)
def test_one_file_knows_the_solver(path):
    uses_jaxopt = "jaxopt" in {name.split(".")[0] for name in imported_modules(path)}
    assert not uses_jaxopt or each_path(path) == "recon/levenberg_marquardt.py"
