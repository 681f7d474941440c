"""Shows what a generator makes: sheets of pictures, turns of heads, a film between latents.

Pictures are [N, r, r, 3] in [-1, 1].
"""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.stylegan.generator import Generator, map_latents, synthesize
from recon.looks.latent_people import BLOCKS
from render import image_io
from render.image import contact_sheet, to_bytes
from scripts.shell.film_io import write_film

_BATCH = 50
_SHOWN_SIDE = 128  # pixels of a picture on a sheet
_COLUMNS = 16
_CAPTION = 14  # pixels
_TURNS, _TURNED, _MOST_TURN = 9, 6, 2.4  # pictures, people, deviations of the yaw's latent
_STOPS, _FRAMES, _FPS = 8, 24, 24.0  # of the film: latents, pictures from one to the next


def draw(generator: Generator, z: np.ndarray, resolution: int | None = None) -> np.ndarray:
    """Returns pictures of latents [N, z_dim], without noise."""
    params, buffers, config, _ = generator
    pictures = []
    for first in range(0, len(z), _BATCH):
        part = z[first : first + _BATCH]
        padded = np.pad(part, [(0, _BATCH - len(part)), (0, 0)])  # one size, one compilation
        ws = map_latents(params, buffers, padded, None, config)
        made = jax.device_get(synthesize(params, ws, None, config, upto=resolution))
        pictures.append(made[: len(part)])
    return np.concatenate(pictures)


def write_pairs(path: pathlib.Path, truth: np.ndarray, pictures: np.ndarray) -> None:
    """Writes rows of renders, each above the generator's row of the same latents."""
    rows = []
    for first in range(0, len(pictures), _COLUMNS):
        row = slice(first, first + _COLUMNS)
        rows += [*truth[row], *pictures[row]]
    write_sheet(path, np.stack(rows))


def write_sheet(
    path: pathlib.Path,
    pictures: np.ndarray,
    columns: int = _COLUMNS,
    names: Sequence[str] = (),
) -> None:
    """Writes pictures, enlarged pixel by pixel.

    Args:
      path: to write.
      pictures: row by row.
      columns: pictures of a row.
      names: of equal parts of the pictures, each written into the first of its part.
    """
    shown = [_shown(picture) for picture in pictures]
    part = len(shown) // max(len(names), 1)
    for number, name in enumerate(names):
        shown[number * part] = _captioned(shown[number * part], name)
    image_io.write_image(path, contact_sheet(shown, columns, gap=0))


def write_turns(path: pathlib.Path, generator: Generator, z: np.ndarray) -> None:
    """Writes heads that turn: a row a person, by the yaw's number of the latent alone."""
    turned = np.repeat(z[:_TURNED], _TURNS, 0)
    turned = turned / np.sqrt(np.mean(turned**2, 1, keepdims=True))
    yaw = np.linspace(-_MOST_TURN, _MOST_TURN, _TURNS)
    turned[:, BLOCKS["yaw"]] = np.tile(yaw, len(turned) // _TURNS)[:, None]
    write_sheet(path, draw(generator, np.float32(turned)), _TURNS)


def write_interpolation(path: pathlib.Path, generator: Generator, z: np.ndarray) -> None:
    """Writes a film that goes from latent to latent, and back to the first."""
    stops = z[:_STOPS]
    share = (np.arange(_FRAMES) / _FRAMES)[:, None]
    between = [a + share * (b - a) for a, b in zip(stops, np.roll(stops, -1, 0), strict=True)]
    pictures = draw(generator, np.float32(np.concatenate(between)))
    write_film(path, map(_shown, pictures), len(pictures), _FPS, "film")


def _captioned(picture: np.ndarray, name: str) -> np.ndarray:
    image = Image.fromarray(to_bytes(picture))
    font = ImageFont.load_default(_CAPTION)
    words = name.replace("_", " ")
    ImageDraw.Draw(image).text((4, 2), words, "white", font, stroke_width=2, stroke_fill="black")
    return np.float32(image) / 255.0


def _shown(picture: np.ndarray) -> np.ndarray:
    times = max(1, _SHOWN_SIDE // len(picture))
    values = np.clip(picture / 2 + 0.5, 0.0, 1.0).astype(np.float32)
    if values.shape[-1] < 3:  # grey ones
        values = values[..., :1].repeat(3, -1)
    return values.repeat(times, 0).repeat(times, 1)
