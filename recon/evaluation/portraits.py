"""Pictures of random people for detectors that look at pictures, in given poses and shapes.

The default head is drawn as `recon.looks` draws people: skin, brows, lashes and hair of its own
for each. A model of another maker has no such looks. So the default head is painted with portraits
of such people, and laid over the other's mean face, surface on surface, for its paint to rub off:
lips come to lie on lips, wherever either model has its landmarks.

Axes: K identity modes of the default head. Pixels as in `landmarks.py`.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import scipy.spatial
from numpy.typing import NDArray

from recon import assets, morphable
from recon.default_head.people_prior import bend_onto
from recon.evaluation import appearance, scans
from recon.evaluation.appearance import Appearance
from recon.looks import looks_io, people, picture
from recon.looks.people import View
from recon.looks.picture import PersonPicture, PictureConfig
from recon.looks.studio import Studio, build_studio
from recon.morphable import MorphableModel
from recon.pose import Pose
from render.camera import project
from render.frames import with_room
from render.mesh import Mesh, apply

_SHARE = 2  # of the test environment's picture, each way: dlib's predictor sees no finer
_TEXTURE = 512
_FAR_DEGREES = 0.5  # field of view that is as good as orthographic
_PAIRS = 300_000  # of triangle and tile, to begin with
_BODY = 0.4  # share of the head's turn that the shoulders take
_COVERING = ("bob01", "bob02", "short03")  # hair that hangs over an eye,
_INSTEAD = "short02"
_PORTRAIT = 640  # pixels a side
_PORTRAIT_EXTENT = 0.34  # metres a side


def load_studio() -> Studio:
    """The studio of the default head."""
    return build_studio(
        assets.load_model("default"), looks_io.load_looks(), looks_io.load_traits(), _TEXTURE
    )


def draw_in_pose(
    key: jax.Array, studio: Studio, identity: NDArray, angles_deg: NDArray, head: Pose
) -> NDArray:
    """Draws a face of the default head [450, 600, 3], sRGB-encoded, in [0, 1].

    The picture is the test environment's at half its size.

    Args:
      key: draws all but shape and pose: equal keys give one person in one light.
      studio: from `load_studio`.
      identity: [k] coefficients of the shape, k <= K; its expression is neutral.
      angles_deg: [3] yaw, pitch and roll.
      head: of these angles, in the test environment's picture.
    """
    width, height = appearance.WIDTH // _SHARE, appearance.HEIGHT // _SHARE
    extent = appearance.HEIGHT / float(head.scale)
    view = _view_of(key, np.deg2rad(angles_deg), extent)
    view = view.replace(fov_degrees=jnp.array(_FAR_DEGREES))
    config = PictureConfig(width, height)
    origin, _ = project(picture.person_camera(view, config), jnp.zeros((1, 3)))
    missing = np.asarray(head.translation) / _SHARE - np.asarray(origin[0])
    shift = missing * [1.0, -1.0] * extent / height
    view = view.replace(shift=jnp.asarray(shift, jnp.float32))
    return _draw(key, studio, view, config, identity).rgb


def photo_of_person(key: jax.Array, studio: Studio) -> tuple[NDArray, NDArray]:
    """Draws a random person from the front, lit evenly.

    Returns:
      The picture [640, 640, 3] and the model's landmarks in it [68, 2].
    """
    view = _view_of(key, np.zeros(3), _PORTRAIT_EXTENT)
    # Most of the light comes from everywhere: what it leaves in the paint would be seen twice.
    view = view.replace(light_colors=0.3 * view.light_colors, sky=jnp.ones_like(view.sky))
    config = PictureConfig(_PORTRAIT, _PORTRAIT)
    drawn = _draw(key, studio, view, config, np.zeros(0))
    return drawn.rgb, drawn.landmarks


def dressed_appearances(
    model: MorphableModel, studio: Studio, photos: Iterable[tuple[NDArray, NDArray]]
) -> Iterator[Appearance]:
    """What faces of a model look like in the paint of photos of the default head.

    Args:
      model: any model with landmarks.
      studio: from `load_studio`.
      photos: from `photo_of_person`.
    """
    drawn = appearance.drawn_surface(model)
    mean = np.asarray(model.mean, np.float64)
    scan = scans.place_scan(
        Mesh(jnp.asarray(mean, jnp.float32), model.triangles),
        scans.shape_landmarks(model, mean),
        studio.model,
    )
    identity, onto = bend_onto(studio.model, scan)
    shape = morphable.face_shape(studio.model, jnp.asarray(identity, jnp.float32), jnp.zeros(0))
    places = np.asarray(apply(drawn, scan.mesh.vertices))
    tree = None
    for look in appearance.photo_appearances(studio.model, photos):
        if tree is None:  # the same for all
            tree = scipy.spatial.cKDTree(onto(np.asarray(apply(look.drawn, shape), np.float64)))
            _, nearest = tree.query(places)
        yield Appearance(drawn, look.albedo[nearest], look.skin[nearest], look.hair[nearest])


def _view_of(key: jax.Array, angles: NDArray, extent: float) -> View:
    """A view of its own light and background, of this pose, in the middle."""
    view = people.sample_view(jax.random.fold_in(key, 1))
    return view.replace(
        angles=jnp.asarray(angles, jnp.float32),
        body_angles=jnp.asarray(_BODY * angles, jnp.float32),
        shift=jnp.zeros(2),
        extent=jnp.asarray(extent, jnp.float32),
    )


def _draw(
    key: jax.Array, studio: Studio, view: View, config: PictureConfig, identity: NDArray
) -> PersonPicture:
    """The drawn picture of the person of a key, of this identity and without expression."""
    person = people.sample_person(jax.random.fold_in(key, 0), studio.casting, studio.albedo_model)
    whole = np.zeros(person.identity.shape, np.float32)
    whole[: len(identity)] = identity
    person = person.replace(
        identity=jnp.asarray(whole),
        expression=jnp.zeros_like(person.expression),
        look=person.look.replace(hair=_off_the_face(person.look.hair)),
    )

    def draw(max_pairs: int | None):
        room = dataclasses.replace(config, max_pairs=max_pairs)
        return picture.render_person(studio, person, view, room)

    drawn, _ = with_room(draw, _PAIRS)
    return jax.device_get(drawn)


def _off_the_face(hair: jax.Array) -> jax.Array:
    """Another style for one that hides what the detector is to find."""
    names = looks_io.load_looks().hair_names
    covering = jnp.array([names.index(name) for name in _COVERING])
    return jnp.where((hair == covering).any(), names.index(_INSTEAD), hair)
