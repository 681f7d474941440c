"""What a scene file says, every default filled in: space, time, material, boundary conditions.

Two dialects share their keys (`scene_io.py` reads both). PhysGaussian's files measure in units of
their box, taken as metres here; a file with `"units": "SI"` is ours. All here is SI: metres,
kilograms, seconds, pascals, radians; only rotations and cameras stay in degrees, as in the file.

The object stands in the box [0, grid_lim]^3: its longest side is `scale`, its middle at `centre`.

Boundary conditions: `scene_conditions.py`.
"""

import dataclasses

from sim.scene_conditions import BoundaryCondition

MATERIALS = (
    *("jelly", "metal", "sand", "foam", "snow", "plasticine"),
    *("neo_hookean", "hencky", "fluid", "viscoelastic"),
)
SURFACES = ("sticky", "slip", "separate", "cut")


@dataclasses.dataclass(frozen=True)
class SceneMaterial:
    """One material; the fields of `material.Material`, as plain numbers."""

    law: str  # of MATERIALS
    youngs_modulus: float  # pascals
    poisson_ratio: float  # in [0, 0.5)
    density: float  # kg/m^3
    yield_stress: float = 0.0  # pascals
    hardening: float = 0.0  # xi where the file switches hardening on; snow: xi
    softening: float = 0.1  # pascals per plastic strain
    friction_angle: float = 0.4363323129985824  # radians: 25 degrees
    plastic_viscosity: float = 0.0  # Pa s
    viscosity: float = 0.0  # Pa s
    branch_ratio: float = 1.0
    branch_viscosity: float = 0.0  # Pa s
    critical_compression: float = 0.025
    critical_stretch: float = 0.0075


@dataclasses.dataclass(frozen=True)
class MaterialBox:
    """Particles with |x - point| < size are of another material; later boxes go before earlier."""

    point: tuple[float, float, float]  # metres in the box
    size: tuple[float, float, float]  # half of the sides, metres
    material: SceneMaterial


@dataclasses.dataclass(frozen=True)
class Filling:
    """How a hollow object is filled; see `filling.py`. Directions 0..5: +x -x +y -y +z -z.

    Thresholds count Gaussians, by opacity: at the middle of a single opaque one the density is 1.
    """

    n_grid: int
    density_threshold: float = 5.0  # Gaussians; ours: 1
    search_threshold: float = 3.0  # Gaussians; ours: 0.5
    max_particles_num: int = 2_000_000
    max_particles_per_cell: int = 1
    search_exclude_direction: int = 5  # none of 0..5: all six rays are to hit
    ray_cast_direction: int = 4  # none of 0..5: crossings are not counted
    boundary: tuple[float, ...] | None = None  # x0 x1 y0 y1 z0 z1, metres in the box
    smooth: bool = False
    visualize: bool = False  # what is filled in is drawn, as the nearest Gaussian looks


@dataclasses.dataclass(frozen=True)
class SceneCamera:
    """Where the film is taken from. None: whoever draws it chooses."""

    center: tuple[float, float, float] | None = None  # metres in the box, what is looked at
    upward_axis: tuple[float, float, float] = (0.0, 0.0, 1.0)  # in the box
    camera_index: int = 0  # of the capture; -1: from the angles
    azimuth: float | None = None  # degrees
    elevation: float | None = None  # degrees
    radius: float | None = None  # distance; PhysGaussian's is in units of the capture
    extent: float | None = None  # metres of the box that the picture shows, ours only
    zoom: float = 1.0  # ours only
    is_moving: bool = False
    delta_azimuth: float = 0.0  # degrees per frame
    delta_elevation: float = 0.0
    delta_radius: float = 0.0


@dataclasses.dataclass(frozen=True)
class SceneFile:
    """A whole scene; the module says what units and space mean."""

    path: str
    is_si: bool  # ours
    material: SceneMaterial
    boxes: tuple[MaterialBox, ...]
    gravity: tuple[float, float, float]  # m/s^2
    # Time.
    substep_dt: float | None  # None: chosen by `time_step.py`
    frame_dt: float
    frame_num: int
    # Space.
    grid_lim: float  # side of the box, metres
    n_grid: int  # cells along it
    file_n_grid: int  # as the file says, whatever `n_grid` became since
    scale: float  # longest side of the object, metres
    centre: tuple[float, float, float]  # of the object, metres in the box
    up: str | None  # axis of the splats that is z in the box, "y" or "-z"; None: not said
    rotation_degree: tuple[float, ...]
    rotation_axis: tuple[int, ...]  # 0 x, 1 y, 2 z; turned about in this order, after `up`
    sim_area: tuple[float, ...] | None  # x0 x1 y0 y1 z0 z1 of the splats' own space, turned
    opacity_threshold: float
    # Motion.
    velocity: tuple[float, float, float]  # at the start, m/s
    angular_velocity: tuple[float, float, float]  # rad/s about `centre`
    rpic_damping: float  # 0 is APIC, 1 keeps rotation alone, -1 is PIC
    pic_damping: float
    grid_v_damping_scale: float  # of the grid's velocity each substep; 1 and above: none
    # What is simulated.
    max_particles: int | None
    filling: Filling | None
    boundaries: tuple[BoundaryCondition, ...]
    camera: SceneCamera
    warnings: tuple[str, ...]  # one line each: what was ignored or converted
