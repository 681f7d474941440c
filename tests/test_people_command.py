"""`render --show=people` as its users meet it."""

import functools
import json
import pathlib

import commands
import pytest

from render import image_io

run = functools.partial(commands.run, "render", "--show=people", "--size=16")


@pytest.mark.parametrize("flag", ["--still", "--azimuth=0:90", "--fps=10"])
def test_flags_of_films_are_refused(tmp_path, flag):
    done = run(f"--out={tmp_path}", flag)
    assert done.returncode == 2
    assert f"found {flag.split('=')[0]}" in done.stderr
    assert not list(tmp_path.iterdir())


def test_flags_of_people_are_refused_elsewhere(tmp_path):
    done = commands.run("render", "--show=flowers", "--count=3", f"--out={tmp_path}")
    assert done.returncode == 2 and "found --count" in done.stderr


def test_a_folder_keeps_to_its_settings(tmp_path):
    settings = {"show": "people", "seed": 5, "size": "16x16"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    done = run(f"--out={tmp_path}", "--seed=6")
    assert done.returncode == 2 and "seed of 5, found 6" in done.stderr


def test_what_is_no_table_of_people_is_refused(tmp_path):
    (tmp_path / "people.jsonl").write_text('{"number": 3}\n')
    done = run(f"--out={tmp_path}")
    assert done.returncode == 2 and "expected people from 0 on" in done.stderr


def content(folder: pathlib.Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "config.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_people(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run("--count=4", "--seed=1", f"--out={whole}").returncode == 0
    assert run("--count=2", "--seed=1", f"--out={cut}").returncode == 0
    # As a kill leaves it: half a line, a picture without one, and one that is lost.
    table = cut / "people.jsonl"
    table.write_text(table.read_text() + '{"number": 2, "pic')
    (cut / "pictures" / "0000" / "0000001.png").unlink()
    assert run("--count=4", "--seed=1", f"--out={cut}").returncode == 0
    assert content(cut) == content(whole)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert [row["number"] for row in rows] == [0, 1, 2, 3]
    for row in rows:
        assert image_io.read_photo(cut / row["picture"]).shape == (16, 16, 3)
        assert (cut / row["mask"]).is_file()
        assert len(row["landmarks"]) == 68 and len(row["light"]["harmonics"]) == 9
    assert len({(cut / row["picture"]).read_bytes() for row in rows}) == 4
