"""The one writer of films."""

import numpy as np
import pytest
from PIL import Image

from render import video_io
from scripts.shell.film_io import write_film


def shades(count):
    for number in range(count):
        yield np.full((16, 16, 3), 1.5 * number / count, np.float32)  # beyond white at the end


def test_a_film_has_all_pictures_and_its_sheet_eight_of_them(tmp_path):
    kept = write_film(tmp_path / "a.mp4", shades(20), 20, 10.0, sheet=tmp_path / "a.png", keep=[5])
    frames = [np.asarray(frame) for frame in video_io.read_video(tmp_path / "a.mp4")]
    assert len(frames) == 20
    means = np.array([frame.mean() for frame in frames]) / 255
    np.testing.assert_allclose(means, np.clip(1.5 * np.arange(20) / 20, 0, 1), atol=0.03)
    sheet = np.asarray(Image.open(tmp_path / "a.png"), float) / 255
    assert sheet.shape == (2 * 16 + 4, 4 * 16 + 3 * 4, 3)  # every third of 20: seven
    np.testing.assert_allclose(
        sheet[8, 8 + 20 * np.arange(4), 0], 1.5 * np.arange(0, 12, 3) / 20, atol=0.01
    )
    (picture,) = kept
    np.testing.assert_allclose(picture, 1.5 * 5 / 20, rtol=1e-6)


def test_a_film_that_breaks_off_leaves_nothing(tmp_path):
    def broken():
        yield from shades(3)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_film(tmp_path / "a.mp4", broken(), 9, 10.0, sheet=tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
