"""The wheel holds every file of the rooms, and its commands run where there is no checkout."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from setuptools import Distribution

from render import image_io

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = ("recon", "sim", "render", "models", "scripts")
METADATA = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def files_of_rooms():
    """Returns all files of the checkout that a user needs, as paths in it."""
    paths = (path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file())
    kept = (path for path in paths if "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in kept}


def test_every_folder_with_code_is_a_package_and_every_other_file_its_data(monkeypatch):
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.script_name = "setup.py"  # which is what a build sets
    distribution.parse_config_files(["setup.cfg"])
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    packed = {pathlib.Path(module).as_posix() for _, _, module in build.find_all_modules()}
    for _, folder, _, names in build.data_files:
        packed |= {f"{folder}/{name}" for name in names}
    assert packed == files_of_rooms()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder in which pip has put the wheel, without the libraries that it stands on."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: setuptools packs what an earlier build left in build/
    for room in ROOMS:
        shutil.copytree(
            ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    for name in METADATA:
        shutil.copy(ROOT / name, source / name)
    pip("wheel", "--no-build-isolation", f"--wheel-dir={folder}", source)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files_of_rooms()
    pip("install", f"--target={folder / 'site'}", wheel)
    return folder / "site"


def pip(verb, *arguments):
    line = [sys.executable, "-m", "pip", verb, "--quiet", "--no-deps", "--no-index", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def run(installed, folder, *arguments):
    """Runs Python in `folder` with what is installed; returns what it prints."""
    environment = os.environ | {"PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    line = [sys.executable, *arguments]
    done = subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
def test_what_runs_below_comes_from_the_wheel(installed, tmp_path, room):
    place = run(installed, tmp_path, "-c", f"import {room}; print({room}.__file__)")
    assert pathlib.Path(place.strip()) == installed / room / "__init__.py"


@pytest.mark.slow
def test_the_installed_reconstruct_makes_a_head(installed, tmp_path):
    from skimage import data

    image_io.write_image(tmp_path / "photo.png", data.astronaut() / 255.0)
    flags = "--photo=photo.png", "--out=me", "--frames=2", "--size=64", "--texture_size=128"
    printed = run(installed, tmp_path, "-m", "scripts.reconstruct", *flags)
    assert printed.splitlines()[-1].startswith("wrote me")
    assert json.loads((tmp_path / "me" / "fit.json").read_text())["converged"]
    assert (tmp_path / "me" / "head.glb").is_file()


@pytest.mark.slow
def test_the_installed_simulate_reads_a_scene_that_comes_along(installed, tmp_path):
    flags = "--splats=ball", "--scene=ball_drop", "--frames=2", "--max_particles=500"
    run(installed, tmp_path, "-m", "scripts.simulate", *flags, "--size=64", "--out=drop")
    report = json.loads((tmp_path / "drop" / "report.json").read_text())
    assert report["frames"] == 2 and report["failure"] is None


@pytest.mark.slow
def test_the_installed_page_of_annotate_paths_has_its_files(installed, tmp_path):
    code = (
        "from scripts.annotation import page; "
        "print(*map(len, map(page.page_file, ['page.html', *page.MEDIA_TYPES])))"
    )
    assert all(int(size) > 500 for size in run(installed, tmp_path, "-c", code).split())
