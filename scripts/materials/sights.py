"""A scene as it looks: for priors that know photographs, and to be compared with a film."""

from render.gaussians import join_gaussians
from scripts.shell import filming
from scripts.shell.surroundings import floor_splats
from sim.families.likeness import Clips, Corner, Likeness, room_for
from sim.material import with_modulus
from sim.motion_video import ClipTiming, MotionView
from sim.simulation import ReadyScene, with_material

_WHITE = (1.0, 1.0, 1.0)


def make_sight(
    ready: ReadyScene,
    clips: Clips,
    num_frames: int,
    size: int,
    log10_range: tuple[float, float],
    corner: Corner | None = None,
    is_exact: bool = False,
) -> Likeness:
    """Films a scene in its own colours, by the camera that its file says.

    Args:
      ready: the scene.
      clips: spacing and groups; the scene's own frames where it says none.
      num_frames: T.
      size: pixels per side.
      log10_range: stiffnesses that are searched, log10 of pascals.
      corner: the material for which the substep is to do, of the stiffest of these.
      is_exact: the camera is to be the one of a film that was made elsewhere.

    Raises:
      ValueError: when it is to be exact, and the scene leaves the camera to be chosen.
    """
    camera = ready.scene.camera
    if is_exact and (camera.center is None or camera.extent is None):
        raise ValueError(
            f"expected a camera with center and extent in {ready.scene.path}, as the film to match "
            "has one, found that it is left to be chosen"
        )
    seconds = clips.frame_seconds or ready.scene.frame_dt
    stiffest = with_modulus(ready.simulation.material, 10.0 ** log10_range[1])
    ready = with_material(ready, corner(stiffest) if corner else stiffest, seconds / clips.groups)
    simulation = ready.simulation.replace(material=stiffest)
    around = floor_splats(ready.scene, simulation.placement) if ready.scene.gravity[2] < 0 else []
    # What is bound to no particle stays where it is.
    seen = join_gaussians([simulation.gaussians, *around])
    camera = filming.still_camera(ready, filming.Shot(size, size))
    timing = ClipTiming(num_frames, ready.time_step.per_frame, clips.groups, clips.tracked)
    view = MotionView(camera, timing, room_for(seen, camera), _WHITE)
    return Likeness(ready, simulation.replace(gaussians=seen), view, 0.0)
