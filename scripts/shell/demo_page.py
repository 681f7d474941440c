"""The page that shows what `demo` made: one HTML file whose links stay inside its folder."""

import html
import string
from collections.abc import Iterable, Mapping

from scripts.shell.resources_io import read_resource


def demo_page(
    title: str,
    lead: str,
    stills: Mapping[str, str],
    films: Mapping[str, str],
    numbers: Mapping[str, str],
    files: Iterable[tuple[str, int]],
) -> str:
    """Returns the page.

    Args:
      title: headline.
      lead: a sentence or two under it.
      stills: file name -> what it shows, in order; the middle one stands for the video.
      films: name of a video -> its caption, side by side; each has a picture beside it, .jpg.
      numbers: what -> value.
      files: name and size in bytes of each file to offer.
    """
    names = list(stills)
    return string.Template(read_resource(__package__, "demo_page.html")).substitute(
        title=html.escape(title),
        lead=html.escape(lead),
        poster=names[len(names) // 2],
        num_stills=len(names),
        stills="".join(
            f'<img src="{html.escape(name)}" alt="{html.escape(text)}">'
            for name, text in stills.items()
        ),
        films="".join(
            f'<figure><video src="{html.escape(name)}" poster="{html.escape(_poster(name))}" '
            f"autoplay loop muted playsinline controls></video>"
            f"<figcaption>{html.escape(text)}</figcaption></figure>"
            for name, text in films.items()
        ),
        rows="".join(
            f"<tr><td>{html.escape(what)}</td><td>{html.escape(value)}</td></tr>"
            for what, value in numbers.items()
        ),
        files="".join(
            f'<li><a href="{html.escape(name)}">{html.escape(name)}'
            f"<span>{_size_text(size)}</span></a></li>"
            for name, size in files
        ),
    )


def _poster(video: str) -> str:
    return video.removesuffix(".mp4") + ".jpg"


def _size_text(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
