import html.parser

import numpy as np
import pytest

from scripts.shell import demo_page, pictures


class Links(html.parser.HTMLParser):
    """Collects what a page points at, and the tags left open."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found += [value for key, value in attributes if key in ("src", "href", "poster")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def example_page():
    return demo_page.demo_page(
        title="A <head> & more",
        lead="Lead.",
        stills={"left.jpg": "from the left", "front.jpg": "from the front", "r.jpg": "right"},
        films={"soft.mp4": "soft & light", "firm.mp4": "firm"},
        numbers={"Error": "1.2 px"},
        files=[("head.glb", 4_750_960), ("fit.json", 3_286)],
    )


def test_the_page_points_at_its_files_and_nothing_else():
    links = Links(example_page())
    assert links.open == []
    shown = ["photo.jpg", "turntable.mp4", "front.jpg", "jelly.mp4", "jelly.jpg"]
    shown += ["left.jpg", "front.jpg", "r.jpg", "soft.mp4", "soft.jpg", "firm.mp4", "firm.jpg"]
    assert links.found == [*shown, "overlay.png", "head.glb", "fit.json"]


def test_the_page_escapes_and_names_sizes():
    text = Links(example_page()).text
    assert "A <head> & more" in text and "soft & light" in text
    assert "head.glb4.8 MB" in text and "fit.json3.3 kB" in text


@pytest.mark.parametrize("corner", [(-3, 2), (5, 4), (-100, 0)])
def test_crops_reach_past_the_border(monkeypatch, corner):
    monkeypatch.setattr(pictures, "_SIDE", 8)
    photo = np.random.default_rng(0).random((10, 12, 3))
    around = np.full((220, 220, 3), pictures._PAPER / 255)
    around[100:110, 100:112] = photo
    left, top = np.array(corner) + 100
    crop = pictures._crop(photo, np.array(corner), 8)
    np.testing.assert_allclose(crop, around[top : top + 8, left : left + 8], atol=0.003)


def test_points_are_drawn_where_they_are():
    points = np.stack([np.linspace(20, 180, 68), np.linspace(15, 90, 68)], -1)
    drawn = pictures._draw_points(np.zeros((100, 200, 3), np.float32), points)
    x, y = np.floor(points).astype(int).T
    assert (drawn[y, x] == np.array(pictures._INK, np.float32) / 255).all()
    assert not drawn[60:, :60].any()
