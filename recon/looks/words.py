"""Says in words and plain numbers who is in a picture, for tables and files."""

from typing import Any

import jax
import numpy as np

from recon.looks import people
from recon.looks.casting import Casting
from recon.looks.look import Looks
from recon.looks.people import Person, View
from recon.looks.picture import PersonPicture

_DIGITS = 5
_SHAVED, _BEARDED = 0.05, 0.4  # cover of a beard that counts as stubble, as a beard


def attributes_in_words(person: Person, looks: Looks, casting: Casting) -> dict[str, Any]:
    """Names a person's attributes."""
    of = jax.tree.map(lambda leaf: np.asarray(leaf).item(), person.attributes)
    beard = "none" if of.beard < _SHAVED else "stubble" if of.beard < _BEARDED else "beard"
    bald = "shaved" if np.asarray(person.look.stubble) > 0.25 else "bald"
    return {
        "sex": people.SEXES[of.sex],
        "age_group": people.AGE_GROUPS[of.age_group],
        "age": _rounded(of.age),
        "tone": people.TONES[of.tone],
        "hair_style": looks.hair_names[of.hair_style] if of.hair_style >= 0 else bald,
        "hair_color": list(people.HAIR_COLORS)[of.hair_color],
        "eye_color": casting.eye_colors[of.eye_color],
        "brow": looks.brow_names[of.brow],
        "lips": "painted" if of.painted_lips else "natural",
        "beard": beard,
        "expression": people.EXPRESSIONS[of.expression],
        "smile": _rounded(of.smile),
        "mouth_open": _rounded(of.mouth_open),
    }


def picture_in_words(
    person: Person, view: View, picture: PersonPicture, looks: Looks, casting: Casting
) -> dict[str, Any]:
    """Says everything known about a picture; see the command's manual for its fields."""
    values = np.asarray(person.expression)
    units = dict(zip(casting.unit_names, values, strict=True))
    yaw, pitch, roll = _rounded(np.degrees(np.asarray(view.angles)))
    camera = picture.camera
    lights = zip(np.asarray(view.light_directions), np.asarray(view.light_colors), strict=True)
    return {
        "attributes": attributes_in_words(person, looks, casting),
        "identity": _rounded(person.identity),
        "expression": {name: _rounded(value) for name, value in units.items() if value != 0},
        "pose": {"yaw_degrees": yaw, "pitch_degrees": pitch, "roll_degrees": roll},
        "camera": {
            "rotation": _rounded(camera.rotation),
            "translation": _rounded(camera.translation),
            "focal": _rounded(camera.focal),
            "center": _rounded(camera.center),
            "width": camera.width,
            "height": camera.height,
        },
        "light": {
            "harmonics": _rounded(picture.light),
            "lights": [
                {"direction": _rounded(direction), "color": _rounded(color)}
                for direction, color in lights
                if color.any()
            ],
        },
        "landmarks": _rounded(picture.landmarks),
    }


def _rounded(values: Any) -> Any:
    """Numbers as JSON has them, without digits that say nothing."""
    return np.round(np.asarray(values, np.float64), _DIGITS).tolist()
