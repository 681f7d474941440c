import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from render.video_io import read_video, write_video


def make_frames(height=48, width=64, count=7):
    """A bar that walks over a coloured ramp."""
    x = np.broadcast_to(np.linspace(0, 1, width), (height, width))
    for i in range(count):
        frame = np.stack([x, 0.5 + 0 * x, 1 - x], -1).astype(np.float32)
        frame[:, 8 * i : 8 * i + 8] = [1.0, 1.0, 0.0]
        yield frame


def test_what_is_written_is_read(tmp_path):
    assert write_video(tmp_path / "a.mp4", make_frames(), fps=10) == 7
    found = list(read_video(tmp_path / "a.mp4"))
    assert len(found) == 7
    for frame, expected in zip(found, make_frames(), strict=True):
        assert frame.shape == (48, 64, 3) and frame.dtype == np.uint8
        # Halved colour resolution blurs the bar's sides; a wrong colour matrix would shift all.
        assert np.abs(frame / 255 - expected).mean() < 0.02
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_browsers_can_play_it(tmp_path):
    write_video(tmp_path / "a.mp4", make_frames(), fps=12.5)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(tmp_path / "a.mp4")]
    about = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    for word in ("h264", "yuv420p(tv, bt709", "64x48", "12.50 fps", "Duration: 00:00:00.56"):
        assert word in about
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # faststart


def test_odd_sides_lose_a_line(tmp_path):
    write_video(tmp_path / "a.mp4", make_frames(47, 63), fps=10)
    assert next(read_video(tmp_path / "a.mp4")).shape == (46, 62, 3)


def test_bytes_are_taken_as_they_are(tmp_path):
    frames = [np.full((16, 16, 3), 200, np.uint8)] * 3
    write_video(tmp_path / "a.mp4", frames, fps=10)
    assert abs(next(read_video(tmp_path / "a.mp4")).astype(int) - 200).max() <= 2


def test_bad_frames_are_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    # Many frames: the encoder holds back some dozens before it writes any.
    changed = [*make_frames(200, 200, 25), *make_frames(200, 200, 25)] * 2
    changed += [np.zeros((10, 10, 3))]
    for frames, message in (
        ([], "expected at least one frame, found none"),
        ([np.zeros((8, 8))], r"expected frames \[H, W, 3\], found shape \(8, 8\)"),
        (changed, r"expected frames \(200, 200, 3\), found one of \(10, 10, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            write_video(path, frames, fps=10)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_of_ffmpeg_is_an_error(tmp_path):
    with pytest.raises(OSError, match="ffmpeg failed on"):
        write_video(tmp_path / "a.unknown", make_frames(), fps=10)
    assert not list(tmp_path.iterdir())


def test_reading_may_stop_early(tmp_path):
    write_video(tmp_path / "a.mp4", make_frames(200, 200, 20), fps=10)
    frames = read_video(tmp_path / "a.mp4")
    assert next(frames).shape == (200, 200, 3)
    frames.close()


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"expected a video, found .*a\.mp4") as error:
        list(read_video(tmp_path / "a.mp4"))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="expected a video file, found nothing at"):
        list(read_video(tmp_path / "none.mp4"))
