import dataclasses
import json
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.gaussians import Gaussians, covariances
from sim.conditions import make_conditions
from sim.material import Material
from sim.particles import (
    Placement,
    deformation_out_of_box,
    gaussians_out_of_box,
    into_box,
    out_of_box,
    prepare,
)
from sim.scene_io import read_scene_file
from sim.time_step import CFL, choose_time_step, largest_dt

THEIRS = pathlib.Path(__file__).parent / "data" / "scenes"


def make_gaussians(means, sigma=0.02, opacity=0.9, degree=1):
    means = jnp.asarray(means, jnp.float32)
    count, rng = len(means), np.random.default_rng(0)
    return Gaussians(
        means=means,
        quats=jnp.asarray(rng.normal(size=(count, 4)), jnp.float32),
        log_scales=jnp.full((count, 3), math.log(sigma)),
        logit_opacities=jnp.full(count, math.log(opacity / (1 - opacity))),
        harmonics=jnp.asarray(rng.normal(size=(count, (degree + 1) ** 2, 3)), jnp.float32),
    )


def block(shape=(1.0, 0.5, 0.25), spacing=0.05, at=(0.0, 0.0, 0.0)):
    """Points of a solid block, as a lattice about `at`."""
    ticks = [(np.arange(round(s / spacing)) + 0.5) * spacing - s / 2 for s in shape]
    return np.stack(np.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3) + at


def hollow(half=0.5, spacing=0.025):
    ticks = np.arange(-half, half + 1e-9, spacing)
    grid = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), -1).reshape(-1, 3)
    return grid[np.isclose(np.abs(grid).max(-1), half)]


def scene_of(folder, **keys):
    path = folder / "F.json"
    path.write_text(json.dumps(keys))
    return read_scene_file(path)


def our_scene(folder, **keys):
    return scene_of(folder, units="SI", **keys)


# Space.


def test_the_longest_side_is_scaled_and_centred(tmp_path):
    setup = prepare(scene_of(tmp_path, scale=0.6), make_gaussians(block(at=(7.0, -3.0, 2.0))))
    x = np.asarray(setup.state.x)
    np.testing.assert_allclose(x.max(0) + x.min(0), 2.0, atol=1e-5)
    np.testing.assert_allclose(
        np.ptp(x, 0), 0.6 * np.array([1, 0.45 / 0.95, 0.2 / 0.95]), rtol=1e-5
    )
    assert setup.dx == pytest.approx(0.04)


def test_rotations_turn_one_after_the_other(tmp_path):
    keys = {"rotation_degree": [90, 90], "rotation_axis": [0, 2]}
    setup = prepare(scene_of(tmp_path, **keys), make_gaussians(block()))
    turn_x = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    turn_z = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(setup.placement.rotation, turn_z @ turn_x, atol=1e-6)
    # The long side was x; about z it goes to y.
    assert np.argmax(np.ptp(np.asarray(setup.state.x), 0)) == 1


@pytest.mark.parametrize("up", ["x", "-x", "y", "-y", "z", "-z"])
def test_up_becomes_z(tmp_path, up):
    setup = prepare(our_scene(tmp_path, up=up), make_gaussians(block()))
    rotation = np.asarray(setup.placement.rotation)
    axis = np.zeros(3)
    axis["xyz".index(up[-1])] = -1 if up.startswith("-") else 1
    np.testing.assert_allclose(rotation @ axis, [0, 0, 1], atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_whose_up_counts(tmp_path):
    def rotation(scene, **keys):
        return np.asarray(prepare(scene, make_gaussians(block()), **keys).placement.rotation)

    ours, theirs = our_scene(tmp_path), scene_of(tmp_path)
    np.testing.assert_allclose(rotation(ours)[2], [0, -1, 0])
    np.testing.assert_allclose(rotation(ours, up="y")[2], [0, 1, 0])
    np.testing.assert_allclose(rotation(our_scene(tmp_path, up="x"), up="y")[2], [1, 0, 0])
    np.testing.assert_allclose(rotation(theirs, up="y"), np.eye(3))


@pytest.mark.parametrize("up", ["x", "-x", "y", "-y", "z", "-z"])
@pytest.mark.parametrize("keys", [{}, {"rotation_degree": [90, 20], "rotation_axis": [0, 2]}])
@pytest.mark.parametrize("is_ours", [True, False])
def test_an_up_that_is_wanted_goes_before_the_scene(tmp_path, up, keys, is_ours):
    scene = our_scene(tmp_path, up="x") if is_ours else scene_of(tmp_path, **keys)
    setup = prepare(scene, make_gaussians(block()), wanted_up=up)
    rotation = np.asarray(setup.placement.rotation)
    axis = np.zeros(3)
    axis["xyz".index(up[-1])] = -1 if up.startswith("-") else 1
    np.testing.assert_allclose(rotation @ axis, [0, 0, 1], atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-5)
    assert any(f"their {up} is up" in note for note in setup.notes)


def test_a_run_says_where_it_lies_and_what_its_regions_hold(tmp_path):
    region = {"point": [0.7, 1, 1], "size": [0.3, 1, 1]}
    keys = {
        "boundary_conditions": [
            {"type": "enforce_particle_translation", **region, "velocity": [1, 0, 0]},
            {"type": "cuboid", "point": [0, 0, 0], "size": [0.1] * 3, "velocity": [0, 0, 0]},
        ],
        "additional_material_params": [region | {"E": 1e5, "nu": 0.3, "density": 100}],
    }
    notes = "\n".join(prepare(scene_of(tmp_path, **keys), make_gaussians(block())).notes)
    assert "lie from [0.5, 0.763, 0.895] to [1.5, 1.24, 1.11] m in the box of 2 m" in notes
    assert "[0] (enforce_particle_translation) holds 500 of 1000 particles" in notes
    assert "boundary_conditions[1] (cuboid) holds no particle, matter may come there" in notes
    assert "additional_material_params[0] holds 500 of 1000 particles (50 %)" in notes


def moved_mean(setup, scene):
    """Velocity of the whole, m/s, once its impulses are over."""
    mass = np.asarray(setup.material.density * setup.state.volume, np.float64)
    x = np.asarray(setup.state.x)
    conditions = make_conditions(scene.boundaries, (0, 0, 0), x, mass, setup.meant)
    v = np.zeros((3, len(x)))
    for push in conditions.on_particles:
        span = float(push.end_time - push.start_time)
        v += np.asarray(push.weight) * span * np.asarray(push.force[0])[:, None]
    return (v * mass).sum(-1) / mass.sum(), v


KICK = {"type": "particle_impulse", "force": [-0.2, 0.0, 0.1], "num_dt": 2}
PART = KICK | {"point": [0.7, 1, 1], "size": [0.31, 1, 1]}


@pytest.mark.parametrize(
    "kicks",
    [pytest.param([KICK], marks=pytest.mark.slow, id="all"), pytest.param([PART], id="part")],
)
def test_thinning_does_not_change_what_an_impulse_does(tmp_path, kicks):
    """A block twice as dense at one end, as captures are."""
    places = np.concatenate([block(spacing=0.025), block((0.5, 0.5, 0.25), 0.02, (0.25, 0, 0))])
    scene, gaussians = scene_of(tmp_path, boundary_conditions=kicks), make_gaussians(places)
    whole = prepare(scene, gaussians)
    assert whole.meant is None
    expected, v = moved_mean(whole, scene)
    assert np.linalg.norm(expected) > 1e-3
    for share in (0.25, 0.03):
        few = prepare(scene, gaussians, max_particles=int(share * len(places)))
        found, moved = moved_mean(few, scene)
        if kicks == [KICK]:
            np.testing.assert_allclose(found, expected, rtol=0.01)
        mass = np.asarray(few.state.volume)
        is_pushed = np.any(moved != 0, 0)
        whole_mass, was_pushed = np.asarray(whole.state.volume), np.any(v != 0, 0)
        np.testing.assert_allclose(
            (moved * mass)[:, is_pushed].sum(-1) / mass[is_pushed].sum(),
            (v * whole_mass)[:, was_pushed].sum(-1) / whole_mass[was_pushed].sum(),
            rtol=0.01,
        )
    coarse = dataclasses.replace(scene, n_grid=24)  # as the viewer has it
    few = prepare(coarse, gaussians, max_particles=len(places) // 33)
    if kicks == [KICK]:
        np.testing.assert_allclose(moved_mean(few, coarse)[0], expected, rtol=0.01)


def test_long_gaussians_are_cut_to_the_particles_spacing_and_follow(tmp_path):
    gaussians = make_gaussians(block((1.0, 0.2, 0.2)), sigma=0.01)
    gaussians = gaussians.replace(log_scales=gaussians.log_scales.at[::7, 0].set(math.log(0.5)))
    setup = prepare(our_scene(tmp_path, scale=2.0, up="z"), gaussians)
    spacing = np.median(setup.state.volume) ** (1 / 3) / float(setup.placement.scale)
    stds = np.exp(np.asarray(setup.gaussians.log_scales)).max(-1)
    assert stds.max() <= spacing and len(stds) > len(gaussians.means)
    num_old = len(gaussians.means)
    np.testing.assert_array_equal(setup.gaussians.means[:num_old], gaussians.means)
    assert set(range(num_old, len(stds))) <= set(np.asarray(setup.binding.followers).tolist())
    assert any("long Gaussians into" in note for note in setup.notes)


def test_the_way_into_the_box_and_back(tmp_path):
    keys = {"rotation_degree": [30, 50], "rotation_axis": [1, 0]}
    gaussians = make_gaussians(block(at=(3.0, 1.0, 0.0)))
    setup = prepare(scene_of(tmp_path, **keys), gaussians)
    places = into_box(setup.placement, gaussians.means)
    owner = setup.binding.particle_gaussians
    np.testing.assert_allclose(places[owner], setup.state.x, atol=2e-6)
    np.testing.assert_allclose(out_of_box(setup.placement, places), gaussians.means, atol=5e-6)
    np.testing.assert_allclose(setup.binding.rest, gaussians.means[owner], atol=5e-6)
    F = deformation_out_of_box(setup.placement, setup.state.F)
    np.testing.assert_allclose(F, setup.state.F, atol=1e-6)
    # F S F^T may be taken in either space.
    F = jnp.asarray(np.random.default_rng(0).normal(size=(len(places), 3, 3)), jnp.float32)
    inside = F @ covariances(gaussians) @ F.mT
    back = gaussians_out_of_box(setup.placement, gaussians)
    outer = deformation_out_of_box(setup.placement, F)
    outside = outer @ covariances(back) @ outer.mT
    rotation, scale = setup.placement.rotation, setup.placement.scale
    np.testing.assert_allclose(scale**2 * rotation @ outside @ rotation.T, inside, atol=1e-7)


def test_a_placement_is_a_pytree():
    placement = Placement(jnp.asarray(2.0), jnp.eye(3), jnp.ones(3))
    x = jax.jit(out_of_box)(placement, jnp.full((4, 3), 5.0))
    np.testing.assert_allclose(x, 2.0)


def test_ours_stands_where_it_is_told(tmp_path):
    scene = our_scene(tmp_path, scale=0.2, grid_lim=1.0, centre=[0.5, 0.4, 0.3], up="z")
    x = np.asarray(prepare(scene, make_gaussians(block())).state.x)
    np.testing.assert_allclose((x.max(0) + x.min(0)) / 2, [0.5, 0.4, 0.3], atol=1e-6)
    assert np.ptp(x, 0).max() == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize(
    "keys, axis, remedy, key",
    [
        ({"units": "SI", "grid_lim": 1.0}, "x", r"a grid_lim of (\S+) would hold it", "grid_lim"),
        ({"grid_lim": 1.45}, "x", r"a grid_lim of (\S+) would hold it", "grid_lim"),
        ({"scale": 2.0}, "x", r"a scale of (\S+) would fit", "scale"),
        (
            {"units": "SI", "grid_lim": 3, "centre": [1.5, 1.5, 0.2]},
            "z",
            r"a scale of (\S+)",
            "scale",
        ),
    ],
)
def test_what_does_not_fit_is_told_what_would(tmp_path, keys, axis, remedy, key):
    gaussians = make_gaussians(block())
    with pytest.raises(ValueError, match=f"found {axis} from .*{remedy}") as error:
        prepare(scene_of(tmp_path, **keys), gaussians)
    better = float(re.search(remedy, str(error.value))[1])
    x = np.asarray(prepare(scene_of(tmp_path, **{**keys, key: better}), gaussians).state.x)
    assert len(x) and "\n" not in str(error.value)


def test_a_centre_in_the_wall_is_refused(tmp_path):
    scene = our_scene(tmp_path, grid_lim=3, centre=[1.5, 1.5, 0.1])
    with pytest.raises(ValueError, match=r"found z from .*: its centre, 0.1, is outside"):
        prepare(scene, make_gaussians(block()))


# Roles.


def test_each_gaussian_has_one_role(tmp_path):
    means = np.concatenate([block(), block(at=(5, 0, 0))])
    gaussians = make_gaussians(means)
    logits = gaussians.logit_opacities.at[::7].set(-9.0)
    gaussians = gaussians.replace(
        logit_opacities=logits, means=gaussians.means.at[3, 1].set(jnp.inf)
    )
    area = [-1, 1, -1, 1, -1, 1]
    setup = prepare(scene_of(tmp_path, sim_area=area), gaussians)
    still = np.setdiff1d(np.arange(len(means)), setup.binding.moving)
    np.testing.assert_array_equal(still, [3, *range(len(means) // 2, len(means))])
    faint = np.arange(0, len(means) // 2, 7)
    np.testing.assert_array_equal(setup.binding.followers, faint)
    assert not np.isin(setup.binding.gaussians, faint).any()
    assert "left out 1 Gaussians that are not finite" in setup.notes
    assert any(f"{len(faint)} Gaussians are too faint" in note for note in setup.notes)


def test_the_sim_area_is_of_the_turned_splats(tmp_path):
    means = np.concatenate([block(at=(0, 3, 0)), block(at=(3, 0, 0))])
    keys = {"rotation_degree": [90], "rotation_axis": [2], "sim_area": [-9, 9, 2, 4, -9, 9]}
    setup = prepare(scene_of(tmp_path, **keys), make_gaussians(means))  # x goes to y
    count = len(means) // 2
    np.testing.assert_array_equal(setup.binding.particle_gaussians, np.arange(count, 2 * count))


def test_an_empty_sim_area_is_refused_with_the_extent_there_is(tmp_path):
    scene = scene_of(tmp_path, sim_area=[5, 6, 5, 6, 5, 6])
    line = (
        r"inside the sim_area of \S*F.json, found none: .* from \[-0.475, -0.225, -0.1\] to \[0.4"
    )
    with pytest.raises(ValueError, match=line):
        prepare(scene, make_gaussians(block()))


def test_nothing_opaque_nothing_finite_and_nothing_wide_are_refused(tmp_path):
    scene = scene_of(tmp_path)
    with pytest.raises(ValueError, match=r"above the opacity_threshold 0.02 .* found 0.01 at most"):
        prepare(scene, make_gaussians(block(), opacity=0.01))
    broken = make_gaussians(np.full((5, 3), np.nan))
    with pytest.raises(ValueError, match="expected finite Gaussians, found none among 5"):
        prepare(scene, broken)
    huge = make_gaussians(block(), sigma=1e30)
    with pytest.raises(ValueError, match="expected finite Gaussians"):
        prepare(scene, huge)
    with pytest.raises(ValueError, match=r"apart from each other, found all at \[1, 2, 3\]"):
        prepare(scene, make_gaussians([[1.0, 2.0, 3.0]]))


def test_too_many_become_followers(tmp_path):
    gaussians = make_gaussians(block(spacing=0.02))
    setup = prepare(our_scene(tmp_path, max_particles=300), gaussians)
    count = len(setup.binding.particle_gaussians)
    assert 200 <= count <= 300 and len(setup.binding.followers) == len(gaussians.means) - count
    assert any(note.startswith(f"simulates {count} of") for note in setup.notes)
    assert len(prepare(our_scene(tmp_path), gaussians, max_particles=50).state.x) <= 50


def test_ours_have_eight_a_cell_at_most_and_theirs_all(tmp_path):
    gaussians = make_gaussians(block(spacing=0.01, shape=(0.5, 0.1, 0.1)))
    setup = prepare(our_scene(tmp_path, n_grid=20), gaussians)
    # Cubes of the sampling are not those of the grid: it is eight a cell on average.
    volume = np.prod(np.ptp(np.asarray(setup.state.x), 0) + 0.05)
    assert len(setup.state.x) <= 8 * volume / setup.dx**3
    assert len(setup.state.x) < len(gaussians.means)
    assert len(prepare(scene_of(tmp_path, n_grid=20), gaussians).state.x) == len(gaussians.means)


def test_a_region_that_holds_nothing_is_noted(tmp_path):
    far = {"type": "pin", "point": [0.1, 0.1, 0.1], "size": [0.05, 0.05, 0.05]}
    near = {"type": "pin", "point": [1, 1, 1], "size": [0.5, 0.5, 0.5]}
    setup = prepare(our_scene(tmp_path, boundary_conditions=[near, far]), make_gaussians(block()))
    assert [note for note in setup.notes if "no particle" in note] == [
        "boundary_conditions[1] (pin) holds no particle"
    ]


# Matter.


def test_volumes_sum_to_the_cells_of_the_object(tmp_path):
    setup = prepare(scene_of(tmp_path), make_gaussians(block(spacing=0.02)))
    x = np.asarray(setup.state.x, np.float64)
    cells = np.unique(np.floor(x / setup.dx), axis=0)
    assert float(setup.state.volume.sum()) == pytest.approx(len(cells) * setup.dx**3, rel=1e-5)
    # 1 x 0.5 x 0.25 with the lattice's ends, scaled by 1 / 0.98; cells on the rim count as whole.
    assert float(setup.state.volume.sum()) == pytest.approx(0.125 / 0.98**3, rel=0.3)


def test_grains_of_sand_are_alike(tmp_path):
    means = np.random.default_rng(0).random((3000, 3))
    jelly = prepare(scene_of(tmp_path), make_gaussians(means)).state.volume
    sand = prepare(scene_of(tmp_path, material="sand"), make_gaussians(means)).state.volume
    assert np.ptp(np.asarray(jelly)) > 0
    np.testing.assert_allclose(sand, np.mean(np.asarray(jelly)), rtol=1e-5)


def test_a_filled_object_has_its_volume(tmp_path):
    keys = {"n_grid": 40, "density_threshold": 1e9, "search_threshold": 1.5}
    keys |= {"max_partciels_per_cell": 2}
    scene = scene_of(tmp_path, particle_filling=keys, n_grid=40, scale=0.98)
    setup = prepare(scene, make_gaussians(hollow()), seed=3)
    owner = setup.binding.particle_gaussians
    assert np.sum(owner < 0) == 2 * 18**3 and np.sum(owner >= 0) == len(hollow())
    assert float(setup.state.volume.sum()) == pytest.approx(1.0, rel=1e-5)  # 20^3 cells of 0.05
    again = prepare(scene, make_gaussians(hollow()), seed=3)
    np.testing.assert_array_equal(setup.state.x, again.state.x)
    assert any("filled in" in note for note in setup.notes)
    assert len(setup.gaussians.means) == len(hollow())


def test_units_of_the_splats_do_not_matter_to_the_filling(tmp_path):
    keys = {"n_grid": 20, "density_threshold": 5, "search_threshold": 0.2}
    scene = scene_of(tmp_path, particle_filling=keys)
    small = prepare(scene, make_gaussians(hollow()))
    large = prepare(scene, make_gaussians(8.0 * hollow(), sigma=8.0 * 0.02))
    assert np.sum(small.binding.particle_gaussians < 0) > 100
    np.testing.assert_allclose(small.state.x, large.state.x, atol=1e-5)


def test_nothing_is_filled_in_near_the_walls(tmp_path):
    keys = {"n_grid": 50, "density_threshold": 0.01}
    scene = scene_of(tmp_path, scale=1.75, particle_filling=keys)
    setup = prepare(scene, make_gaussians(block(), sigma=0.1))
    x = np.asarray(setup.state.x)
    assert np.sum(setup.binding.particle_gaussians < 0) > 100
    assert x.min() > 0.1199 and x.max() < 1.8801


def test_what_is_filled_in_can_be_drawn(tmp_path):
    keys = {"n_grid": 20, "density_threshold": 1e9, "search_threshold": 0.2, "visualize": True}
    gaussians = make_gaussians(hollow() + 4.0)
    setup = prepare(scene_of(tmp_path, particle_filling=keys), gaussians)
    owner, count = setup.binding.particle_gaussians, len(gaussians.means)
    assert owner.min() == 0 and len(np.unique(owner)) == len(owner)
    assert len(setup.gaussians.means) == len(owner) > count
    moved = into_box(setup.placement, setup.gaussians.means)
    np.testing.assert_allclose(moved[owner], setup.state.x, atol=1e-5)
    looks = {tuple(row) for row in np.asarray(gaussians.harmonics[:, 0])}
    assert all(tuple(row) in looks for row in np.asarray(setup.gaussians.harmonics[count:, 0]))


def test_boxes_set_materials_and_laws_are_runs(tmp_path):
    boxes = [
        {"point": [1.4, 1, 1], "size": [0.4, 1, 1], "material": "sand", "friction_angle": 40},
        {"point": [1.5, 1, 1], "size": [0.2, 1, 1], "E": 7e4, "nu": 0.1, "density": 9},
    ]
    scene = our_scene(tmp_path, additional_material_params=boxes, up="z", yield_stress=5)
    gaussians = make_gaussians(block())
    setup = prepare(scene, gaussians)
    x, material = np.asarray(setup.state.x), setup.material
    assert [law for law, _ in material.laws] == ["jelly", "sand"]
    (_, jelly), (_, sand) = material.laws
    assert jelly + sand == len(x)
    is_sand = (x[:, 0] > 1) & (x[:, 0] <= 1.3 + 1e-6)
    np.testing.assert_array_equal(is_sand, np.arange(len(x)) >= jelly)
    np.testing.assert_allclose(np.asarray(material.friction_angle)[is_sand], math.radians(40))
    light = x[:, 0] > 1.3 + 1e-6
    np.testing.assert_allclose(np.exp(material.log_youngs_modulus), np.where(light, 7e4, 1e5), 1e-5)
    np.testing.assert_allclose(material.density, np.where(light, 9, 200))
    np.testing.assert_allclose(material.poisson_ratio, np.where(light, 0.1, 0.4))
    np.testing.assert_allclose(material.yield_stress, 5)
    # The order is that of the particles everywhere.
    moved = into_box(setup.placement, gaussians.means)
    np.testing.assert_allclose(moved[setup.binding.particle_gaussians], x, atol=1e-6)
    assert all(leaf.shape == (len(x),) for leaf in jax.tree.leaves(material))


def test_the_start_is_at_rest_or_as_told(tmp_path):
    state = prepare(scene_of(tmp_path), make_gaussians(block())).state
    count = len(state.x)
    np.testing.assert_array_equal(state.F, np.broadcast_to(np.eye(3), (count, 3, 3)))
    assert not np.any(state.v) and not np.any(state.C) and not np.any(state.history)
    assert state.time == 0 and not state.out_of_grid and state.x.dtype == jnp.float32
    scene = our_scene(tmp_path, velocity=[1, 2, 3], angular_velocity=[0, 0, 2])
    state = prepare(scene, make_gaussians(block())).state
    x, v = np.asarray(state.x), np.asarray(state.v)
    np.testing.assert_allclose(v.mean(0), [1, 2, 3], atol=1e-5)
    np.testing.assert_allclose(v[:, 0], 1 - 2 * (x[:, 1] - 1), atol=1e-5)
    np.testing.assert_allclose(v[:, 1], 2 + 2 * (x[:, 0] - 1), atol=1e-5)


@pytest.mark.parametrize("path", sorted(THEIRS.glob("*.json")), ids=lambda path: path.stem)
def test_files_of_physgaussian_prepare_a_stand_in(path):
    scene = read_scene_file(path)
    at = (-1.0, 0.1, 0.0) if scene.sim_area and path.stem == "plane" else (0.0, 0.0, 0.0)
    if scene.sim_area:  # turned back, so that it lies in the area
        scene = dataclasses.replace(scene, rotation_degree=(), rotation_axis=())
    if scene.filling is not None:  # in no more cells than a test has time for
        filling = dataclasses.replace(scene.filling, n_grid=40)
        scene = dataclasses.replace(scene, filling=filling)
    gaussians = make_gaussians(hollow(0.4, 0.04) + at, sigma=0.02)
    setup = prepare(scene, gaussians)
    assert setup.time_step.dt == pytest.approx(scene.substep_dt)
    assert setup.time_step.dt * setup.time_step.per_frame == pytest.approx(scene.frame_dt)
    assert any("filled in" in note for note in setup.notes) == (scene.filling is not None)
    assert np.isfinite(np.asarray(setup.state.x)).all() and np.all(setup.state.volume > 0)


# Time.


def jelly(modulus=1e5, ratio=0.3, density=100.0, count=1, law="jelly", **more):
    leaves = {"log_youngs_modulus": math.log(modulus), "poisson_ratio": ratio, "density": density}
    leaves = {key: jnp.full(count, value) for key, value in (leaves | more).items()}
    return Material(laws=((law, count),), **leaves)


def highest_frequency(x, material, dx, size=5):
    """The highest angular frequency of equal particles at `x` [N, 3], by brute force."""
    modulus, ratio = math.exp(material.log_youngs_modulus[0]), float(material.poisson_ratio[0])
    mu = modulus / (2 * (1 + ratio))
    lam = 2 * mu * ratio / (1 - 2 * ratio)
    nodes = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1).reshape(-1, 3) * dx
    away = np.abs(nodes - x[:, None]) / dx
    spline = np.where(away < 0.5, 0.75 - away**2, 0.5 * np.maximum(1.5 - away, 0) ** 2)
    weight = spline.prod(-1)  # [N, nodes]
    slope = 4 / dx**2 * weight[..., None] * (nodes - x[:, None])  # [N, nodes, 3]
    stiffness = np.zeros((len(nodes), 3, len(nodes), 3))
    for b in slope:  # energy of grad v = sum v b^T, with unit volumes
        stiffness += lam * np.einsum("ia,jb->iajb", b, b) + mu * np.einsum("ib,ja->iajb", b, b)
        stiffness += mu * np.einsum("ik,jk,ab->iajb", b, b, np.eye(3))
    mass = float(material.density[0]) * weight.sum(0)
    used = np.repeat(mass > 1e-9 * mass.max(), 3)
    root = np.repeat(np.sqrt(np.maximum(mass, 1e-300)), 3)
    matrix = stiffness.reshape(len(root), -1)[np.ix_(used, used)]
    matrix = matrix / root[used] / root[used, None]
    return math.sqrt(np.linalg.eigvalsh(matrix)[-1])


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.45])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_no_frequency_exceeds_the_bound_and_one_particle_reaches_it(ratio, count):
    dx, material = 0.1, jelly(ratio=ratio)
    x = np.random.default_rng(count).uniform(1.5 * dx, 2.5 * dx, (count, 3))
    longest = 2.0 / highest_frequency(x, material, dx)
    bound = largest_dt(material, dx)
    assert bound <= longest * (1 + 1e-5)
    if count == 1:
        assert bound == pytest.approx(longest, rel=1e-4)


def test_the_bound_of_viscous_matter():
    thick = largest_dt(jelly(modulus=1e-3, viscosity=5.0, law="fluid"), 0.1)
    assert thick == pytest.approx(100 * 0.1**2 / (4 * 5.0), rel=1e-4)  # 2 / gamma
    both = largest_dt(jelly(viscosity=50.0), 0.1)
    omega = 2 / 0.1 * math.sqrt(1e5 / (1 - 0.6) / 100)
    assert both**2 * omega**2 + 2 * both * 8 * 50 / (100 * 0.01) == pytest.approx(4, rel=1e-4)


def test_a_branch_counts_as_the_spring_that_it_is_at_first():
    stiff = largest_dt(jelly(3e5), 0.1)
    both = jelly(law="viscoelastic", branch_ratio=2.0, branch_viscosity=1e9)
    assert largest_dt(both, 0.1) == pytest.approx(stiff, rel=1e-5)
    assert largest_dt(both.replace(laws=(("jelly", 1),)), 0.1) > 1.7 * stiff


def test_the_stiffest_and_lightest_particle_decides():
    mixed = Material(
        laws=(("jelly", 3),),
        log_youngs_modulus=jnp.log(jnp.array([1e4, 1e6, 1e4])),
        poisson_ratio=jnp.full(3, 0.3),
        density=jnp.array([100.0, 100.0, 1.0]),
    )
    assert largest_dt(mixed, 0.1) == pytest.approx(largest_dt(jelly(1e6), 0.1), rel=1e-5)
    assert largest_dt(mixed, 0.1, speed=3.0) == pytest.approx(
        1 / (1 / largest_dt(mixed, 0.1) + 30), rel=1e-6
    )


def test_a_given_substep_is_kept_or_refused_with_the_allowed_one(tmp_path):
    material = jelly()
    fine = scene_of(tmp_path, substep_dt=1e-3, frame_dt=0.01)
    assert choose_time_step(fine, material, 0.1)[:2] == (0.001, 10)
    uneven = choose_time_step(scene_of(tmp_path, substep_dt=3e-4, frame_dt=0.01), material, 0.1)
    assert uneven.per_frame == 34 and uneven.dt == pytest.approx(0.01 / 34)
    much = 1.01 * largest_dt(material, 0.1)
    with pytest.raises(ValueError, match=r"expected a substep_dt of at most (\S+) s.*0.00202") as e:
        choose_time_step(scene_of(tmp_path, substep_dt=much), material, 0.1)
    allowed = float(str(e.value).split("at most ")[1].split()[0])
    assert allowed <= largest_dt(material, 0.1) <= allowed * 1.01
    assert choose_time_step(scene_of(tmp_path, substep_dt=allowed), material, 0.1).dt <= allowed


def test_a_chosen_substep_divides_the_frame_and_stays_below_the_bound(tmp_path):
    scene = our_scene(tmp_path, g=[0, 0, 0], frame_dt=0.04)
    found = choose_time_step(scene, jelly(), 0.1)
    assert found.dt * found.per_frame == pytest.approx(0.04)
    assert found.dt <= CFL * found.bound < 1.3 * found.dt
    still = our_scene(tmp_path, g=[0, 0, 0], frame_dt=1e-5)
    assert choose_time_step(still, jelly(), 0.1).per_frame == 1


def test_what_moves_fast_and_what_hardens_gets_a_shorter_substep(tmp_path):
    region = {"point": [1, 1, 1], "size": [1, 1, 1]}
    still = {"g": [0, 0, 0], "frame_dt": 1.0}
    cylinder = {"point": [1, 1, 1], "normal": [0, 0, 1], "half_height_and_radius": [1, 1]}
    cylinder |= {"translation_scale": 0, "rotation_scale": 50}

    def dt(law="jelly", **keys):
        return choose_time_step(our_scene(tmp_path, **(still | keys)), jelly(law=law), 0.1).dt

    def with_condition(**condition):
        return dt(boundary_conditions=[condition])

    slow = dt()
    assert dt("snow") < 0.6 * slow
    assert dt(g=[0, 0, -1000]) < 0.8 * slow
    assert dt(velocity=[50, 0, 0]) < 0.7 * slow
    assert dt(angular_velocity=[0, 60, 0]) < 0.7 * slow
    assert with_condition(type="cuboid", velocity=[0, 50, 0], **region) < 0.7 * slow
    assert with_condition(type="enforce_particle_velocity_rotation", **cylinder) < 0.7 * slow
    path = [[0, 1, 1, 1], [0.01, 1.5, 1, 1], [0.02, 1.5, 1, 1]]
    assert with_condition(type="drag", path=path, **region) < 0.7 * slow
