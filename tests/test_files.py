"""What a flag that names files stands for."""

import pytest

from scripts.shell.files import list_files

ENDINGS = (".jpg", ".heic")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.jpg", "A.JPG", "c.heic", "notes.txt", "._b.jpg", "Doe, Jane.jpg", "x[1].jpg"):
        (tmp_path / name).touch()
    (tmp_path / "deep.jpg").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "values, names",
    [
        (["b.jpg"], ["b.jpg"]),
        (["b.jpg,c.heic"], ["b.jpg", "c.heic"]),
        (["b.jpg, c.heic"], ["b.jpg", "c.heic"]),
        (["b.jpg", "c.heic"], ["b.jpg", "c.heic"]),
        (["Doe, Jane.jpg"], ["Doe, Jane.jpg"]),
        (["b.jpg,Doe, Jane.jpg,c.heic"], ["b.jpg", "Doe, Jane.jpg", "c.heic"]),
        (["*.heic,b.jpg"], ["c.heic", "b.jpg"]),
        (["?.jpg"], ["b.jpg"]),
        (["Doe, *.jpg"], ["Doe, Jane.jpg"]),
        (["x[1].jpg"], ["x[1].jpg"]),
        (["none.jpg,b.jpg,"], ["none.jpg", "b.jpg"]),
        (["."], ["A.JPG", "Doe, Jane.jpg", "b.jpg", "c.heic", "x[1].jpg"]),
        ([], []),
    ],
)
def test_a_flag_stands_for_its_files(folder, values, names):
    assert list_files(values, ENDINGS, "photo") == names


@pytest.mark.parametrize(
    "value, wanted",
    [("*.png", "files like *.png"), ("deep.jpg", "files ending in .jpg, .heic in deep.jpg")],
)
def test_a_folder_or_a_pattern_without_files_is_refused(folder, value, wanted):
    with pytest.raises(ValueError) as error:
        list_files([value], ENDINGS, "photo")
    assert str(error.value) == f"expected {wanted} for --photo, found none"
