"""The page of `annotate_paths`: page.html, page.css and page.js, and what is filled in."""

import json
import string
from typing import NamedTuple

from scripts.shell.resources_io import read_resource

MEDIA_TYPES = {"page.css": "text/css", "page.js": "text/javascript"}


class PageSettings(NamedTuple):
    """What page.js wants to know."""

    model: str  # its name
    out: str  # the file that "Save" writes
    size: int  # of the picture, pixels
    yaw: float  # degrees, to begin with
    pitch: float  # degrees, to begin with
    path: int  # to begin with
    count: int  # of paths
    least: int  # points of a path
    has_mirror: bool  # the model says which vertices mirror each other


def annotation_page(settings: PageSettings) -> str:
    """Returns the HTML, with the settings as a block of JSON in it."""
    text = json.dumps(settings._asdict()).replace("<", "\\u003c")  # no tag may end the block
    return string.Template(read_resource(__package__, "page.html")).substitute(settings=text)


def page_file(name: str) -> str:
    """Returns a file that the page loads, one of `MEDIA_TYPES`."""
    return read_resource(__package__, name)
