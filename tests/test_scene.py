import dataclasses
import json
import math
import pathlib

import pytest

from sim.scene import MATERIALS
from sim.scene_conditions import name_of
from sim.scene_io import SHIPPED, read_scene_file

THEIRS = pathlib.Path(__file__).parent / "data" / "scenes"
REGION = {"point": [1, 1, 1], "size": [0.5, 0.5, 0.5]}


def read(folder, data, name="F.json"):
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return read_scene_file(path)


def read_condition(folder, **condition):
    (found,) = read(folder, {"units": "SI", "boundary_conditions": [condition]}).boundaries
    return found


def test_an_empty_file_has_the_decoders_defaults(tmp_path):
    scene = read(tmp_path, {})
    material = scene.material
    assert (material.law, material.youngs_modulus, material.poisson_ratio) == ("jelly", 1e5, 0.4)
    assert (material.density, material.softening, material.yield_stress) == (200.0, 0.1, 0.0)
    assert material.friction_angle == pytest.approx(math.radians(25))
    assert (scene.substep_dt, scene.frame_dt, scene.frame_num) == (1e-4, 1e-2, 100)
    assert (scene.grid_lim, scene.n_grid, scene.scale, scene.centre) == (2.0, 50, 1.0, (1, 1, 1))
    assert scene.gravity == (0.0, 0.0, -9.8)
    assert (scene.opacity_threshold, scene.sim_area, scene.rotation_axis) == (0.02, None, ())
    assert (scene.rpic_damping, scene.grid_v_damping_scale) == (0.0, 1.1)
    assert scene.camera.center is None and scene.camera.camera_index == 0
    assert scene.filling is None and not scene.boundaries and not scene.boxes
    assert not scene.warnings and not scene.is_si and scene.up is None


def test_an_empty_filling_has_the_decoders_defaults(tmp_path):
    filling = read(tmp_path, {"n_grid": 60, "particle_filling": {}}).filling
    assert filling.n_grid == 240
    assert (filling.density_threshold, filling.search_threshold) == (5.0, 3.0)
    assert (filling.max_particles_num, filling.max_particles_per_cell) == (2_000_000, 1)
    assert (filling.search_exclude_direction, filling.ray_cast_direction) == (5, 4)
    assert filling.boundary is None and not filling.smooth and not filling.visualize


@pytest.mark.parametrize(
    "name, law, n_grid, modulus, density, dt, kinds",
    [
        ("ficus", "jelly", 50, 2e6, 200, 1e-4, {"cuboid", "particle_impulse"}),
        (
            *("pillow2sofa", "jelly", 100, 1e4, 2000, 1e-4),
            {"bounding_box", "cuboid", "enforce_particle_translation"},
        ),
        (
            *("plane", "metal", 120, 1e5, 1000, 1e-4),
            {
                *("bounding_box", "enforce_particle_translation"),
                "enforce_particle_velocity_rotation",
            },
        ),
        (
            *("bread", "jelly", 150, 2e3, 200, 1e-4),
            {"bounding_box", "enforce_particle_translation"},
        ),
        (
            *("vasedeck", "jelly", 120, 1e4, 40, 1e-4),
            {"enforce_particle_translation", "enforce_particle_velocity_rotation"},
        ),
        (
            *("wolf", "sand", 200, 5e7, 2000, 2e-5),
            {"bounding_box", "surface_collider", "release_particles_sequentially"},
        ),
    ],
)
def test_physgaussian_files_are_read_without_a_warning(
    name, law, n_grid, modulus, density, dt, kinds
):
    scene = read_scene_file(THEIRS / f"{name}.json")
    assert (scene.material.law, scene.n_grid, scene.substep_dt) == (law, n_grid, dt)
    assert (scene.material.youngs_modulus, scene.material.density) == (modulus, density)
    assert {name_of(condition) for condition in scene.boundaries} == kinds
    assert scene.warnings == ()


def test_details_of_physgaussian_files():
    plane = read_scene_file(THEIRS / "plane.json")
    assert plane.material.yield_stress == 100.0 and plane.rotation_axis == (1, 2)
    assert plane.sim_area == (-2.0, 0.0, -0.7, 0.9, -1.0, 1.0)
    assert plane.boundaries[2].normal == (1.0, 0.0, 0.0)  # [2, 0, 0] in the file
    assert plane.camera.upward_axis == (0, -1, 0)
    bread = read_scene_file(THEIRS / "bread.json")
    assert (bread.scale, bread.rpic_damping) == (0.6, 0.5)
    assert bread.filling.search_exclude_direction == -1
    assert bread.filling.smooth and bread.filling.visualize
    wolf = read_scene_file(THEIRS / "wolf.json")
    assert wolf.material.friction_angle == pytest.approx(math.radians(30))
    ficus = read_scene_file(THEIRS / "ficus.json")
    assert ficus.boxes[0].material.density == 70 and ficus.boxes[0].size == (1, 1, 0.4)
    assert ficus.boundaries[1].end_time == pytest.approx(2e-4)
    assert ficus.boundaries[1].size == (1.0, 1.0, 1.0)
    assert (ficus.camera.azimuth, ficus.camera.is_moving) == (-30.0, True)
    pillow = read_scene_file(THEIRS / "pillow2sofa.json")
    assert pillow.filling.max_particles_per_cell == 4
    assert [getattr(c, "reset", None) for c in pillow.boundaries] == [None, True, None, False]


def test_moduli_of_dreamphysics_are_converted_and_said(tmp_path):
    scene = read_scene_file(THEIRS / "dreamphysics_ball.json")
    assert scene.material.youngs_modulus == pytest.approx(5e4)
    assert len(scene.warnings) == 1 and "0.005" in scene.warnings[0]
    box = {**REGION, "E": 0.01, "nu": 0.3}
    mixed = read(tmp_path, {"E": 2e6, "additional_material_params": [box]})
    assert mixed.material.youngs_modulus == 2e6
    assert mixed.boxes[0].material.youngs_modulus == pytest.approx(1e5)
    assert "additional_material_params[0]" in mixed.warnings[0]
    ours = read(tmp_path, {"units": "SI", "E": 5.0})
    assert ours.material.youngs_modulus == 5.0 and not ours.warnings


def test_a_box_without_density_takes_the_scenes(tmp_path):
    box = {**REGION, "E": 1e4, "nu": 0.3}
    found = read(tmp_path, {"density": 40, "additional_material_params": [box]}).boxes[0].material
    assert (found.density, found.poisson_ratio, found.law) == (40.0, 0.3, "jelly")


def test_gravity_is_a_number_or_a_vector(tmp_path):
    assert read(tmp_path, {"g": 5}).gravity == (0.0, 0.0, -5.0)
    assert read(tmp_path, {"g": [1, 2, 3]}).gravity == (1.0, 2.0, 3.0)
    up = {"mpm_space_vertical_upward_axis": [0, 2, 0]}
    assert read(tmp_path, {"g": 5, **up}).gravity == (0.0, -5.0, 0.0)


def test_unknown_keys_of_theirs_are_ignored_and_said(tmp_path):
    scene = read(tmp_path, {"densty": 3, "velocity": [1, 0, 0], "particle_filling": {"n_gird": 2}})
    lines = "\n".join(scene.warnings)
    assert len(scene.warnings) == 3 and scene.velocity == (0, 0, 0)
    assert "ignored the unknown key 'densty' (did you mean 'density'?)" in lines
    assert '\'velocity\' (it is read where "units" are "SI")' in lines
    assert "'n_gird' (did you mean 'n_grid'?) in particle_filling of" in lines


def test_other_surfaces_of_theirs_are_separate(tmp_path):
    wall = {"type": "surface_collider", "point": [1, 1, 1], "normal": [0, 0, 1], "surface": "ice"}
    scene = read(tmp_path, {"boundary_conditions": [wall]})
    assert scene.boundaries[0].surface == "separate"
    assert 'took the surface "ice" as separate' in scene.warnings[0]


def test_hardening_joins_its_switch_and_xi(tmp_path):
    def hardening(**keys):
        return read(tmp_path, {"yield_stress": 5.0} | keys).material.hardening

    assert hardening(material="metal", xi=0.3) == 0.0
    assert hardening(material="metal", xi=0.3, hardening=1) == 0.3
    assert hardening(material="metal", xi=0.3, units="SI") == 0.3
    assert hardening(material="metal", xi=0.3, units="SI", hardening=0) == 0.0
    assert hardening(material="snow") == 10.0
    assert hardening(material="snow", xi=7) == 7.0
    box = {**REGION, "material": "metal"}
    snow = {"units": "SI", "material": "snow", "yield_stress": 5.0}
    snow["additional_material_params"] = [box]
    assert read(tmp_path, snow).boxes[0].material.hardening == 0.0


def test_our_defaults_follow_the_size_of_the_object(tmp_path):
    scene = read(tmp_path, {"units": "SI", "scale": 0.3})
    assert scene.is_si and scene.grid_lim == 0.6 and scene.centre == (0.3, 0.3, 0.3)
    assert scene.camera.center is None and scene.substep_dt is None


def test_our_own_keys(tmp_path):
    scene = read(
        tmp_path,
        {
            "units": "SI",
            "centre": [1, 1, 0.5],
            "velocity": [0, 0, 2],
            "angular_velocity": [0, 1, 0],
            "max_particles": 500,
            "seconds": 2.0,
            "frame_dt": 0.04,
            "up": "y",
            "friction_angle": 45,
            "viscosity": 3,
            "plastic_viscosity": 2,
            "branch_ratio": 1.5,
            "branch_viscosity": 70,
            "critical_compression": 0.1,
            "critical_stretch": 0.2,
            "camera": {"azimuth": 10, "elevation": 20, "extent": 0.5, "zoom": 2},
        },
    )
    assert scene.centre == (1, 1, 0.5) and scene.velocity == (0, 0, 2)
    assert scene.angular_velocity == (0, 1, 0) and scene.max_particles == 500
    assert scene.frame_num == 50 and scene.up == "y"
    assert scene.material.friction_angle == pytest.approx(math.pi / 4)
    assert (scene.material.viscosity, scene.material.plastic_viscosity) == (3, 2)
    assert (scene.material.branch_ratio, scene.material.branch_viscosity) == (1.5, 70)
    assert (scene.material.critical_compression, scene.material.critical_stretch) == (0.1, 0.2)
    camera = scene.camera
    assert (camera.azimuth, camera.elevation, camera.extent, camera.zoom) == (10, 20, 0.5, 2)


def test_our_boxes_say_only_what_differs(tmp_path):
    boxes = [{**REGION, "material": "fluid"}, {**REGION, "E": 1e6, "friction_angle": 10}]
    scene = read(tmp_path, {"units": "SI", "nu": 0.1, "additional_material_params": boxes})
    first, second = (box.material for box in scene.boxes)
    assert (first.law, first.youngs_modulus, first.poisson_ratio) == ("fluid", 1e5, 0.1)
    assert (second.law, second.youngs_modulus) == ("jelly", 1e6)
    assert second.friction_angle == pytest.approx(math.radians(10))


@pytest.mark.parametrize(
    "condition, expected",
    [
        ({"type": "bounding_box"}, {}),
        (
            {"type": "cuboid", **REGION, "velocity": [1, 0, 0]},
            {"velocity": [1.0, 0, 0], "reset": 0},
        ),
        (
            {"type": "particle_impulse", **REGION, "force": [1, 2, 3], "num_dt": 5},
            {"force": [1.0, 2.0, 3.0], "num_dt": 5, "end_time": pytest.approx(5e-4)},
        ),
        ({"type": "wind", **REGION, "velocity": [1, 0, 0]}, {"rate": 1.0, "gust": 0.0}),
        ({"type": "wind", **REGION, "velocity": [1, 0, 0]}, {"gust_frequency": 1.0}),
        ({"type": "force", **REGION, "force": [0, 0, 7]}, {"curve": [[0.0, 0.0, 0.0, 7.0]]}),
        (
            {"type": "force", **REGION, "curve": [[0, 1, 1, 1], [2, 0, 0, 0]]},
            {"curve": [[0.0, 1.0, 1.0, 1.0], [2.0, 0.0, 0.0, 0.0]]},
        ),
        (
            {"type": "drag", **REGION, "path": [[0, 1, 1, 1], [1, 2, 1, 1]]},
            {"frequency": 8.0, "path": [[0.0, 1.0, 1.0, 1.0], [1.0, 2.0, 1.0, 1.0]]},
        ),
        ({"type": "pin", **REGION}, {"size": [0.5, 0.5, 0.5], "point": [1.0, 1.0, 1.0]}),
        (
            {"type": "sphere", "point": [1, 1, 1], "radius": 0.1, "surface": "slip"},
            {"path": [[0.0, 1.0, 1.0, 1.0], [1e3, 1.0, 1.0, 1.0]], "friction": 0.0, "radius": 0.1},
        ),
        (
            {
                **{"type": "surface_collider", "point": [0, 0, 1], "normal": [0, 0, -3]},
                **{"surface": "slip", "friction": 0.4},
            },
            {"normal": [0.0, 0.0, -1.0], "surface": "slip", "friction": 0.4},
        ),
        (
            {
                **{"type": "enforce_particle_velocity_rotation", "point": [0, 0, 1]},
                **{"normal": [0, 4, 0], "half_height_and_radius": [1, 2]},
                **{"rotation_scale": -3, "translation_scale": 0},
            },
            {"normal": [0, 1, 0], "half_height_and_radius": [1.0, 2.0], "rotation_scale": -3.0},
        ),
        (
            {
                **{"type": "release_particles_sequentially", "normal": [1, 0, 0]},
                **{"start_position": 2, "end_position": 1, "num_layers": 7},
            },
            {"start_position": 2.0, "end_position": 1.0, "num_layers": 7},
        ),
        (
            {"type": "enforce_particle_translation", **REGION, "velocity": [0, 0, 1]},
            {"velocity": [0.0, 0.0, 1.0]},
        ),
    ],
    ids=lambda value: value.get("type", "") if isinstance(value, dict) else None,
)
def test_conditions_come_with_every_field(tmp_path, condition, expected):
    found = read_condition(tmp_path, **condition)
    assert name_of(found) == condition["type"]
    expected = {"start_time": 0.0, "end_time": 1000.0} | expected
    plain = json.loads(json.dumps(dataclasses.asdict(found)))  # numbers alone, in rows
    assert {key: plain[key] for key in expected} == expected
    if condition["type"] not in ("force", "sphere"):
        assert set(condition) <= {"type", *plain}
    assert hash(found) == hash(dataclasses.replace(found))


@pytest.mark.parametrize(
    "keys, line",
    [
        ({"E": 0}, r"^expected a number above 0 as E, found 0 in \S*F\.json$"),
        ({"E": -5}, "expected a number above 0 as E, found -5"),
        ({"E": "soft"}, 'expected a number above 0 as E, found "soft"'),
        ({"E": True}, "expected a number above 0 as E, found true"),
        ({"E": math.nan}, "expected a number above 0 as E, found NaN"),
        ({"nu": 0.5}, r"expected a number in \[0, 0.5\) as nu, found 0.5 .*: what cannot change"),
        ({"nu": 0.6}, r"expected a number in \[0, 0.5\) as nu, found 0.6"),
        ({"nu": -0.1}, r"as nu, found -0.1"),
        ({"density": 0}, "expected a number above 0 as density, found 0"),
        ({"density": math.inf}, "as density, found Infinity"),
        ({"n_grid": 0}, "expected a whole number from 8 to 1024 as n_grid, found 0"),
        ({"n_grid": 50.5}, "as n_grid, found 50.5"),
        ({"n_grid": 10**400}, "expected a whole number .* as n_grid, found 1000"),
        ({"frame_num": 0}, "expected a whole number from 1 .* as frame_num, found 0"),
        ({"frame_dt": 0}, "expected a number above 0 as frame_dt"),
        ({"substep_dt": 1.0}, "expected at most the frame_dt of 0.01 as substep_dt, found 1.0"),
        ({"yield_stress": -1}, "expected a number not below 0 as yield_stress"),
        ({"friction_angle": 90}, r"expected degrees in \[0, 90\) as friction_angle"),
        ({"rpic_damping": 2}, "expected a number from 0 to 1, or -1 as rpic_damping"),
        ({"opacity_threshold": 2}, "expected a number from 0 to 1 as opacity_threshold"),
        ({"g": [0, 0]}, r"expected 3 numbers as g, found \[0, 0\]"),
        ({"g": "down"}, "expected a number as g"),
        ({"rotation_degree": [90]}, "expected one axis for each of 1 angles as rotation_axis"),
        ({"rotation_degree": [1], "rotation_axis": [3]}, "expected axes 0, 1 or 2 as rotation_ax"),
        ({"rotation_degree": 90}, "expected a list of numbers as rotation_degree, found 90"),
        ({"sim_area": [0, 1, 0, 1]}, "expected 6 numbers as sim_area"),
        ({"sim_area": [0, 1, 1, 0, 0, 1]}, "expected xmin < xmax, ymin < ymax"),
        ({"material": "jely"}, "one of jelly, metal, .* as material, .*did you mean 'jelly'"),
        ({"material": ["sand"]}, r"expected one of .* as material, found \[\"sand\"\]"),
        ({"units": "cm"}, 'expected "SI" as units, found "cm"'),
        ({"boundary_conditions": {}}, "expected a list of objects as boundary_conditions"),
        ({"boundary_conditions": [{}]}, r"expected a key type, found none in boundary_cond.*\[0\]"),
        (
            {"boundary_conditions": [{"type": "cubiod"}]},
            r"expected one of .* as type, found \"cubiod\" in boundary_conditions\[0\] of .*cuboid",
        ),
        (
            {"boundary_conditions": [{"type": "cuboid", **REGION}]},
            r"expected a key velocity, found none in boundary_conditions\[0\] of",
        ),
        (
            {"boundary_conditions": [{"type": "pin", "point": [1, 1, 1], "size": [1, -1, 1]}]},
            r"expected 3 numbers, each a number not below 0 as size",
        ),
        (
            {"additional_material_params": [{**REGION, "nu": 0.3}]},
            r"expected a key E, found none in additional_material_params\[0\]",
        ),
        ({"particle_filling": {"boundary": [1, 0, 0, 1, 0, 1]}}, "as boundary, .* in particle_fi"),
        ({"particle_filling": {"ray_cast_direction": 9}}, "expected a whole number from -1 to 6"),
        ({"particle_filling": []}, "expected an object as particle_filling"),
        ({"mpm_space_vertical_upward_axis": [0, 0, 0]}, "expected a direction as mpm_space_vert"),
        ({"units": "SI", "densty": 3}, r"expected a key of a scene, found 'densty' \(did you mean"),
        (
            {"units": "SI", "particle_filling": {"nonsense": 3}},
            r"expected a key of a scene, found 'nonsense' in particle_filling of",
        ),
        (
            {"units": "SI", "boundary_conditions": [{"type": "pin", **REGION, "speed": 3}]},
            r"found 'speed' in boundary_conditions\[0\]",
        ),
        ({"units": "SI", "camera": {"azimut": 3}}, r"'azimut' \(did you mean 'azimuth'\?\)"),
        ({"units": "SI", "seconds": 1, "frame_num": 3}, "expected frame_num or seconds, found bot"),
        ({"units": "SI", "up": "w"}, "expected one of x, -x, y, -y, z, -z as up"),
        ({"units": "SI", "max_particles": 0}, "as max_particles, found 0"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else None,
)
def test_what_no_scene_can_have_is_refused_in_one_line(tmp_path, keys, line):
    with pytest.raises(ValueError, match=line) as error:
        read(tmp_path, keys)
    assert "\n" not in str(error.value) and "F.json" in str(error.value)


@pytest.mark.parametrize(
    "condition, line",
    [
        ({"type": "force", **REGION}, "expected a force or a curve, found none"),
        (
            {"type": "force", **REGION, "force": [1, 0, 0], "curve": [[0, 1, 1, 1]]},
            "expected a force or a curve, found both",
        ),
        ({"type": "drag", **REGION, "path": []}, "expected rows of four numbers"),
        ({"type": "drag", **REGION, "path": [[0, 1, 1]]}, "expected rows of four numbers"),
        (
            {"type": "drag", **REGION, "path": [[1, 1, 1, 1], [1, 2, 2, 2]]},
            "t growing as path",
        ),
        (
            {"type": "sphere", "point": [1, 1, 1], "radius": 1, "surface": "stick"},
            "expected one of sticky, slip, separate, cut as surface.*did you mean 'sticky'",
        ),
        (
            {"type": "pin", **REGION, "start_time": 2, "end_time": 1},
            "a time after the start_time 2",
        ),
        (
            {"type": "surface_collider", "point": [1, 1, 1], "normal": [0, 0, 0]},
            "expected a direction as normal",
        ),
    ],
)
def test_what_no_condition_can_have_is_refused(tmp_path, condition, line):
    with pytest.raises(ValueError, match=line):
        read_condition(tmp_path, **condition)


@pytest.mark.parametrize(
    "text, line",
    [
        ('{"E": 1e5,\n "nu": }', r"found Expecting value at line 2, column 8 of"),
        ("[1, 2]", r"expected an object of keys, found \[1, 2\] in"),
        ("", "expected JSON, found Expecting value at line 1, column 1"),
        ("[" * 100_000, "expected JSON, found"),
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path, text, line):
    with pytest.raises(ValueError, match=line):
        read(tmp_path, text)


def test_no_file_and_no_text_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a scene file, found nothing at"):
        read_scene_file(tmp_path / "none.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match="expected JSON, found something else in"):
        read_scene_file(tmp_path / "a.json")


def test_null_counts_as_not_given(tmp_path):
    scene = read(tmp_path, {"sim_area": None, "init_azimuthm": None, "E": None})
    assert scene.sim_area is None and scene.material.youngs_modulus == 1e5


@pytest.mark.parametrize("law", MATERIALS)
def test_every_material_is_known_to_both_dialects(tmp_path, law):
    needed = {"branch_viscosity": 5.0} if law == "viscoelastic" else {"yield_stress": 5.0}
    assert read(tmp_path, {"material": law} | needed).material.law == law
    keys = {"material": law, "units": "SI"}
    assert read(tmp_path, keys | needed).material.law == law
    if law in ("metal", "foam", "plasticine", "viscoelastic"):  # they would flow at once
        what = f"expected a positive number for {law} as {next(iter(needed))}, found 0"
        with pytest.raises(ValueError, match=what):
            read(tmp_path, keys)


@pytest.mark.parametrize("name", SHIPPED)
def test_scenes_that_come_along_are_read_by_name_and_are_of_our_dialect(name):
    scene = read_scene_file(name)
    assert scene == read_scene_file(SHIPPED[name])
    assert scene.is_si and not scene.warnings and scene.boundaries and scene.frame_num > 10


def test_a_name_that_does_not_come_along_is_a_file_that_is_missing():
    assert "ball_drop" in SHIPPED
    with pytest.raises(ValueError, match="expected a scene file, found nothing at ball_drip"):
        read_scene_file("ball_drip")
