"""Photos are found under the names that other machines gave them."""

import pytest

from render.captures.find_io import Finder


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "name, there",
    [
        ("images/a.jpg", "images/a.jpg"),
        ("./images/a.jpg", "images/a.jpg"),
        (r"images\a.jpg", "images/a.jpg"),
        (r".\images\sub\a.jpg", "images/sub/a.jpg"),
        ("images/a", "images/a.webp"),
        ("images/a.b", "images/a.b.png"),
        ("images/a.jpg", "images/a.png"),
        ("images/a.jpg", "Images/A.JPG"),
        ("images/a.jpg", "images_4/a.jpg"),
        ("images/cam1/a.jpg", "images_8/cam1/a.jpg"),
        ("images/a.jpg", "input/a.jpg"),
        ("images_2/a.jpg", "images/a.jpg"),
        ("images/a.jpg", "a.jpg"),
        ("a.jpg", "images/a.jpg"),
        ("a.jpg", "images_2/a.tif"),
        ("cam1/a.jpg", "input/cam1/a.jpg"),
        ("/home/somebody/fox/images/a.jpg", "images/a.jpg"),
        (r"C:\Users\somebody\fox\images\a.jpg", "images/a.jpg"),
        ("../other/a.jpg", "../other/a.jpg"),
    ],
)
def test_a_photo_is_found(tmp_path, name, there):
    folder = tmp_path / "capture"
    touch(folder, there, "transforms.json", "images_2/b.jpg", "a.txt", "other/c.jpg")
    assert Finder([folder]).find(name).resolve() == (folder / there).resolve()


def test_what_is_nearest_to_the_name_is_taken(tmp_path):
    names = ("images/a.jpg", "images/A.jpg", "images/a.png", "images_2/a.jpg", "images_10/c.jpg")
    touch(tmp_path, *names, "images_2/c.jpg", "images/c_depth.png", "input/c.jpg")
    finder = Finder([tmp_path])
    assert finder.find("images/a.jpg") == tmp_path / "images/a.jpg"
    assert finder.find("images/a.png") == tmp_path / "images/a.png"
    assert finder.find("images/c.jpg") == tmp_path / "images_2/c.jpg"  # the larger copy


def test_what_is_not_there_is_not_found(tmp_path):
    touch(tmp_path, "images/a.txt", "images/ab.jpg", "cam2/b.jpg")
    finder = Finder([tmp_path, tmp_path / "none"])
    assert [finder.find(name) for name in ("images/a.jpg", "a", "cam1/b.jpg", "images")] == [
        None
    ] * 4


@pytest.mark.parametrize(
    "name, mask",
    [
        ("images/a.jpg", "masks/a.jpg"),
        ("images/a.jpg", "masks/a.png"),
        ("images/a.jpg", "masks/a.jpg.png"),
        (r"images\cam1\a.jpg", "masks/cam1/a.png"),
        ("a.jpg", "masks/a.jpg.png"),
        ("train/a", "masks/a.png"),
    ],
)
def test_masks_lie_in_a_folder_of_their_own(tmp_path, name, mask):
    touch(tmp_path, mask)
    finder = Finder([tmp_path])
    assert finder.find_mask(name) == tmp_path / mask and finder.find_mask("images/b.jpg") is None
