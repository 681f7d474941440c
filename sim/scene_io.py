"""Scene files: JSON in, a checked `SceneFile` out, or one line that names the key and the file.

PhysGaussian's files, and DreamPhysics' after them, keep every key (misspelt ones too), every
default and every leniency of their decoder: an unknown key is ignored, and `warnings` says so.
DreamPhysics writes Young's moduli in 1e7 Pa; nothing that is simulated is as soft as
`_MAX_E_1E7_PA` pascals, so what lies below is converted. A file with `"units": "SI"` is ours and
strict.

Sources: Xie et al. 2024 (PhysGaussian), its decode_param.py; Huang et al. 2024 (DreamPhysics).
"""

import dataclasses
import math
import os
import pathlib
from typing import Any

from render.files_io import read_object
from sim.entries import REQUIRED, Entries, is_number, shown
from sim.scene import (
    MATERIALS,
    SURFACES,
    Filling,
    MaterialBox,
    SceneCamera,
    SceneFile,
    SceneMaterial,
)
from sim.scene_conditions import CONDITIONS, FOREVER, BoundaryCondition

SHIPPED = {
    path.stem: path
    for path in sorted((pathlib.Path(__file__).parent / "data" / "scenes").glob("*.json"))
}  # the scenes that come along, by name

_MAX_E_1E7_PA = 10.0
_MAX_GRID = 1024  # cells a side: a thousand million of them
_SNOW_HARDENING = 10.0  # Stomakhin et al. 2013, table 1
_YIELDING = ("metal", "foam", "plasticine")  # without a yield stress they are puddles

_OURS = frozenset(
    [
        *("centre", "velocity", "angular_velocity", "max_particles", "seconds", "camera", "up"),
        *("viscosity", "critical_compression", "critical_stretch"),
    ]
)
# Of each type of boundary condition: (field, how it is read, default).
_REGION = (("point", "vector", REQUIRED), ("size", "sizes", REQUIRED))
_EVERYWHERE = (("point", "vector", (1.0, 1.0, 1.0)), ("size", "sizes", (1.0, 1.0, 1.0)))
_VELOCITY = ("velocity", "vector", REQUIRED)
_SURFACE = (("surface", "surface", "sticky"), ("friction", "not negative", 0.0))
_BOUNDARIES: dict[str, tuple[tuple[str, str, Any], ...]] = {
    "bounding_box": (),
    "cuboid": (*_REGION, _VELOCITY, ("reset", "flag", 0)),
    "particle_impulse": (*_EVERYWHERE, ("force", "vector", REQUIRED), ("num_dt", "count", 1)),
    "enforce_particle_translation": (*_REGION, _VELOCITY),
    "enforce_particle_velocity_rotation": (
        ("point", "vector", REQUIRED),
        ("normal", "direction", REQUIRED),
        ("half_height_and_radius", "pair", REQUIRED),
        ("rotation_scale", "any", REQUIRED),
        ("translation_scale", "any", REQUIRED),
    ),
    "surface_collider": (
        ("point", "vector", REQUIRED),
        ("normal", "direction", REQUIRED),
        *_SURFACE,
    ),
    "release_particles_sequentially": (
        ("normal", "direction", REQUIRED),
        ("start_position", "any", REQUIRED),
        ("end_position", "any", REQUIRED),
        ("num_layers", "count", REQUIRED),
    ),
    "wind": (
        _VELOCITY,
        ("rate", "not negative", 1.0),
        ("gust", "share", 0.0),
        ("gust_frequency", "not negative", 1.0),
        *_REGION,
    ),
    "force": (*_REGION, ("force", "vector", None), ("curve", "curve", None)),
    "drag": (*_REGION, ("path", "curve", REQUIRED), ("frequency", "positive", 8.0)),
    "pin": _REGION,
    "sphere": (
        ("point", "vector", None),
        ("velocity", "vector", (0.0, 0.0, 0.0)),
        ("path", "curve", None),
        ("radius", "positive", REQUIRED),
        *_SURFACE,
    ),
}


def read_scene_file(path: str | os.PathLike) -> SceneFile:
    """Reads a scene file of either dialect, or a scene that comes along, by its name in `SHIPPED`.

    Raises:
      ValueError: in one line, when there is no such file, no JSON in it, or a value that no
        simulation can have; in our dialect also at a key that none of ours is.
    """
    path = SHIPPED.get(os.fspath(path), pathlib.Path(path))
    data = read_object(path, "a scene file")
    warnings: list[str] = []
    units = data.get("units")
    if units not in (None, "SI"):
        raise ValueError(f'expected "SI" as units, found {shown(units)} in {path}')
    file = Entries(data, str(path), units == "SI", warnings, _OURS)
    file.value("units")
    material = _read_material(file, None)
    time = _read_time(file)
    space = _read_space(file)
    camera = _read_camera(file)
    scene = SceneFile(
        path=str(path),
        is_si=file.is_si,
        material=material,
        boxes=tuple(_read_box(box, material) for box in file.objects("additional_material_params")),
        gravity=_read_gravity(file, camera.upward_axis),
        **time,
        **space,
        rpic_damping=file.number("rpic_damping", "damping", 0.0),
        pic_damping=file.number("pic_damping", "share", 0.0),
        grid_v_damping_scale=file.number("grid_v_damping_scale", "positive", 1.1),
        filling=_read_filling(file, space),
        boundaries=tuple(
            _read_boundary(entries, time["substep_dt"])
            for entries in file.objects("boundary_conditions")
        ),
        camera=camera,
        warnings=(),
    )
    file.finish()
    return dataclasses.replace(scene, warnings=tuple(warnings))


def _read_material(entries: Entries, base: SceneMaterial | None) -> SceneMaterial:
    """Reads the scene's material, or that of a box: what it does not say is as in `base`."""
    is_box_of_theirs = base is not None and not entries.is_si
    if is_box_of_theirs:
        law = base.law
    else:
        law = entries.choice("material", MATERIALS, base.law if base else "jelly")
    required = REQUIRED if is_box_of_theirs else None
    own = {
        "youngs_modulus": _read_youngs_modulus(entries, required),
        "poisson_ratio": _read_poisson_ratio(entries, required),
        "density": entries.number("density", "positive", None),
    }
    if base is None:
        defaults = {"youngs_modulus": 1e5, "poisson_ratio": 0.4, "density": 200.0}
        own = {key: defaults[key] if value is None else value for key, value in own.items()}
    if not is_box_of_theirs:
        others = ("yield_stress", "softening", "plastic_viscosity")
        for key in (*others, "branch_ratio", "branch_viscosity"):
            own[key] = entries.number(key, "not negative", None)
        degrees = entries.number("friction_angle", "angle", None)
        own["friction_angle"] = None if degrees is None else math.radians(degrees)
        own["hardening"] = _read_hardening(entries, law, base)
    if entries.is_si:
        own["viscosity"] = entries.number("viscosity", "not negative", None)
        for key in ("critical_compression", "critical_stretch"):
            own[key] = entries.number(key, "share", None)
    given = {key: value for key, value in own.items() if value is not None}
    if base is None:
        found = SceneMaterial(law=law, **given)
    else:
        found = dataclasses.replace(base, law=law, **given)
    if entries.is_si and law in _YIELDING and not found.yield_stress:
        entries.refuse("yield_stress", f"a positive number for {law}", found.yield_stress)
    if law == "viscoelastic" and not found.branch_viscosity:
        entries.refuse("branch_viscosity", f"a positive number for {law}", 0)
    return found


def _read_youngs_modulus(entries: Entries, default: Any) -> float | None:
    found = entries.number("E", "positive", default)
    if found is None or found > _MAX_E_1E7_PA or entries.is_si:
        return found
    entries.warnings.append(
        f"took E {found:g} as DreamPhysics' unit of 1e7 Pa: {found * 1e7:g} Pa in {entries.place}"
    )
    return found * 1e7


def _read_poisson_ratio(entries: Entries, default: Any) -> float | None:
    if is_number(entries.value("nu")) and entries.value("nu") == 0.5:
        why = ": what cannot change its volume has infinitely fast waves; 0.45 is nearly so"
        entries.refuse("nu", "a number in [0, 0.5)", 0.5, why)
    return entries.number("nu", "ratio", default)


def _read_hardening(entries: Entries, law: str, base: SceneMaterial | None) -> float | None:
    """Joins the switch `hardening` and the number `xi`; snow hardens without the switch."""
    xi = entries.number("xi", "not negative", None)
    is_on = entries.number("hardening", "any", 1.0 if entries.is_si else 0.0) == 1.0
    was_snow = base is not None and base.law == "snow"
    if law == "snow":
        return xi if xi is not None else (base.hardening if was_snow else _SNOW_HARDENING)
    if xi is not None and is_on:
        return xi
    return 0.0 if was_snow else None


def _read_box(entries: Entries, base: SceneMaterial) -> MaterialBox:
    return MaterialBox(
        point=entries.vector("point"),
        size=entries.numbers("size", 3, "not negative"),
        material=_read_material(entries, base),
    )


def _read_gravity(file: Entries, up: tuple[float, ...]) -> tuple[float, ...]:
    found = file.value("g", 9.8)
    if isinstance(found, list):
        return file.vector("g")
    strength = file.number("g", "any", 9.8)
    length = math.hypot(*up)
    return tuple(-strength * v / length + 0.0 for v in up)


def _read_time(file: Entries) -> dict:
    substep_dt = file.number("substep_dt", "positive", None if file.is_si else 1e-4)
    frame_dt = file.number("frame_dt", "positive", 1e-2)
    frame_num = file.count("frame_num", None)
    if file.is_si and (seconds := file.number("seconds", "positive", None)) is not None:
        if frame_num is not None:
            raise ValueError(f"expected frame_num or seconds, found both in {file.place}")
        frame_num = max(1, round(seconds / frame_dt))
    if substep_dt is not None and substep_dt > frame_dt:
        file.refuse("substep_dt", f"at most the frame_dt of {frame_dt:g}", substep_dt)
    return {
        "substep_dt": substep_dt,
        "frame_dt": frame_dt,
        "frame_num": 100 if frame_num is None else frame_num,
    }


def _read_space(file: Entries) -> dict:
    scale = file.number("scale", "positive", 1.0)
    grid_lim = file.number("grid_lim", "positive", 2.0 * scale if file.is_si else 2.0)
    degrees = file.numbers("rotation_degree", None, "any", ())
    axes = file.numbers("rotation_axis", None, "any", ())
    if not all(axis in (0, 1, 2) for axis in axes):
        file.refuse("rotation_axis", "axes 0, 1 or 2", list(axes))
    if len(degrees) != len(axes):
        file.refuse("rotation_axis", f"one axis for each of {len(degrees)} angles", list(axes))
    threshold = file.number("opacity_threshold", "share", 0.02)
    n_grid = file.count("n_grid", 50, low=8, high=_MAX_GRID)
    space = {
        "grid_lim": grid_lim,
        "n_grid": n_grid,
        "file_n_grid": n_grid,
        "scale": scale,
        "rotation_degree": degrees,
        "rotation_axis": tuple(int(axis) for axis in axes),
        "sim_area": file.extent("sim_area"),
        "opacity_threshold": threshold,
    }
    zero = (0.0, 0.0, 0.0)
    if not file.is_si:  # the middle is (1, 1, 1) there whatever the box
        ours = {"centre": (1.0,) * 3, "up": None, "velocity": zero, "angular_velocity": zero}
        return space | ours | {"max_particles": None}
    ups = tuple(sign + axis for axis in "xyz" for sign in ("", "-"))
    return space | {
        "centre": file.vector("centre", (0.5 * grid_lim,) * 3),
        "up": file.choice("up", ups) if file.value("up") is not None else None,
        "velocity": file.vector("velocity", zero),
        "angular_velocity": file.vector("angular_velocity", zero),
        "max_particles": file.count("max_particles", None),
    }


def _read_filling(file: Entries, space: dict) -> Filling | None:
    entries = file.object("particle_filling")
    if entries is None:
        return None
    # PhysGaussian's defaults are of captures whose Gaussians lie thick; ours find any surface that
    # one opaque Gaussian makes.
    density, search = (1.0, 0.5) if file.is_si else (5.0, 3.0)
    return Filling(
        n_grid=entries.count("n_grid", min(4 * space["n_grid"], _MAX_GRID), high=_MAX_GRID),
        density_threshold=entries.number("density_threshold", "not negative", density),
        search_threshold=entries.number("search_threshold", "not negative", search),
        max_particles_num=entries.count("max_particles_num", 2_000_000),
        max_particles_per_cell=entries.count("max_partciels_per_cell", 1, high=1000),
        search_exclude_direction=entries.count("search_exclude_direction", 5, low=-1, high=6),
        ray_cast_direction=entries.count("ray_cast_direction", 4, low=-1, high=6),
        boundary=entries.extent("boundary"),
        smooth=entries.flag("smooth"),
        visualize=entries.flag("visualize"),
    )


def _read_camera(file: Entries) -> SceneCamera:
    up = file.vector("mpm_space_vertical_upward_axis", (0.0, 0.0, 1.0))
    if not any(up):
        file.refuse("mpm_space_vertical_upward_axis", "a direction", list(up))
    file.value("show_hint")
    camera = SceneCamera(
        center=file.vector("mpm_space_viewpoint_center", None),
        upward_axis=up,
        camera_index=file.count("default_camera_index", -1 if file.is_si else 0, low=-1),
        azimuth=file.number("init_azimuthm", "any", None),
        elevation=file.number("init_elevation", "any", None),
        radius=file.number("init_radius", "positive", None),
        is_moving=file.flag("move_camera"),
        delta_azimuth=file.number("delta_a", "any", 0.0),
        delta_elevation=file.number("delta_e", "any", 0.0),
        delta_radius=file.number("delta_r", "any", 0.0),
    )
    own = file.object("camera") if file.is_si else None
    if own is None:
        return camera
    return dataclasses.replace(
        camera,
        center=own.vector("center", camera.center),
        azimuth=own.number("azimuth", "any", camera.azimuth),
        elevation=own.number("elevation", "any", camera.elevation),
        extent=own.number("extent", "positive", None),
        zoom=own.number("zoom", "positive", 1.0),
    )


def _read_boundary(entries: Entries, substep_dt: float | None) -> BoundaryCondition:
    kind = entries.choice("type", tuple(_BOUNDARIES))
    found: dict[str, Any] = {
        "start_time": entries.number("start_time", "not negative", 0.0),
        "end_time": entries.number("end_time", "any", FOREVER),
    }
    for key, how, default in _BOUNDARIES[kind]:
        found[key] = _read_field(entries, key, how, default)
    if kind == "particle_impulse":  # lasts for substeps of the file, whatever ours will be
        found["end_time"] = found["start_time"] + found["num_dt"] * (substep_dt or 1e-4)
    elif kind == "force":
        force = found.pop("force")
        _refuse_both(entries, force=force, curve=found["curve"])
        if force is not None:
            found["curve"] = ((0.0, *force),)
    elif kind == "sphere":
        start, velocity = found.pop("point"), found.pop("velocity")
        _refuse_both(entries, point=start, path=found["path"])
        if start is not None:
            end = found["end_time"]
            there = [a + end * b for a, b in zip(start, velocity, strict=True)]
            found["path"] = ((0.0, *start), (end, *there))
    if entries.is_si and found["end_time"] <= found["start_time"]:
        what = f"a time after the start_time {found['start_time']:g}"
        entries.refuse("end_time", what, found["end_time"])
    return CONDITIONS[kind](**found)


def _refuse_both(entries: Entries, **found: Any) -> None:
    """Refuses two ways to say the same, and neither."""
    number = sum(value is not None for value in found.values())
    if number != 1:
        names = " or a ".join(found)
        told = "both" if number else "none"
        raise ValueError(f"expected a {names}, found {told} in {entries.place}")


def _read_field(entries: Entries, key: str, how: str, default: Any) -> Any:
    if how in ("vector", "direction", "curve", "count"):
        return getattr(entries, how)(key, default)
    if how == "sizes":
        return entries.numbers(key, 3, "not negative", default)
    if how == "pair":
        return entries.numbers(key, 2, "not negative", default)
    if how == "flag":
        return entries.flag(key, bool(default))
    if how == "surface":
        return _read_surface(entries, key)
    return entries.number(key, how, default)


def _read_surface(entries: Entries, key: str) -> str:
    found = entries.value(key, REQUIRED)
    if entries.is_si or found in SURFACES:
        return entries.choice(key, SURFACES)
    entries.warnings.append(f"took the surface {shown(found)} as separate in {entries.place}")
    return "separate"
