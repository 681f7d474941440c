"""The page that shows what `demo` made: one HTML file whose links stay inside its folder."""

import html
import string
from collections.abc import Iterable, Mapping

_PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  :root { color-scheme: light; --ink: #1d1f23; --soft: #6b7078; --line: #e6e6e3; --paper: #f7f7f5 }
  * { box-sizing: border-box }
  body { margin: 0; background: var(--paper); color: var(--ink);
         font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
  main { max-width: 1080px; margin: 0 auto; padding: 3.5rem 1.5rem 5rem }
  h1 { font-size: 2.3rem; line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 .4rem }
  h2 { font-size: 1.05rem; margin: 3rem 0 .9rem }
  p { color: var(--soft); margin: 0 0 1.6rem; max-width: 44rem }
  img, video { display: block; width: 100%; background: #fff; border-radius: 12px }
  figure { margin: 0 }
  figcaption { color: var(--soft); font-size: .85rem; padding: .5rem .2rem 0 }
  .trio { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: 1.2rem }
  .trio img, .trio video { aspect-ratio: 1; object-fit: cover; border: 1px solid var(--line) }
  .row { display: grid; grid-template-columns: repeat($num_stills, 1fr); gap: .6rem }
  .row img { border-radius: 8px; border: 1px solid var(--line) }
  table { border-collapse: collapse; width: 100%; max-width: 44rem }
  td { border-top: 1px solid var(--line); padding: .5rem 0; vertical-align: top }
  td + td { padding-left: 1.5rem; text-align: right; white-space: nowrap;
    font-variant-numeric: tabular-nums }
  a { color: inherit; text-decoration-color: #b9bdc4; text-underline-offset: .2em }
  ul { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .5rem }
  li a { display: block; background: #fff; border: 1px solid var(--line); border-radius: 999px;
         padding: .35rem .9rem; text-decoration: none; font-size: .9rem }
  li span { color: var(--soft); padding-left: .4rem }
  @media (max-width: 640px) { .trio { grid-template-columns: 1fr } }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p>$lead</p>
<div class="trio">
  <figure><img src="photo.jpg" alt="The photo"><figcaption>The photo</figcaption></figure>
  <figure><video src="turntable.mp4" poster="$poster" autoplay loop muted playsinline
    controls></video><figcaption>The head, from all sides</figcaption></figure>
  <figure><video src="jelly.mp4" poster="jelly.jpg" autoplay loop muted playsinline
    controls></video><figcaption>The head as jelly, poked</figcaption></figure>
</div>
<h2>Seen from elsewhere</h2>
<div class="row">$stills</div>
<h2>How well it fits</h2>
<figure><img src="overlay.png" alt="The landmarks and the head over the photo">
<figcaption>Left: the 68 points found in the photo. Right: the bare head where the fit puts it.
</figcaption></figure>
<h2>Numbers</h2>
<table>$rows</table>
<h2>Files</h2>
<ul>$files</ul>
</main>
</body>
</html>
""")


def demo_page(
    title: str,
    lead: str,
    stills: Mapping[str, str],
    numbers: Mapping[str, str],
    files: Iterable[tuple[str, int]],
) -> str:
    """Returns the page.

    Args:
      title: headline.
      lead: a sentence or two under it.
      stills: file name -> what it shows, in order; the middle one stands for the video.
      numbers: what -> value.
      files: name and size in bytes of each file to offer.
    """
    names = list(stills)
    return _PAGE.substitute(
        title=html.escape(title),
        lead=html.escape(lead),
        poster=names[len(names) // 2],
        num_stills=len(names),
        stills="".join(
            f'<img src="{html.escape(name)}" alt="{html.escape(text)}">'
            for name, text in stills.items()
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


def _size_text(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
