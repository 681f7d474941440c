"""What may be learnt of a scene: coordinates, regions, bounds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim import properties
from sim.families.family import FAMILIES
from sim.families.random_scenes import random_scene
from sim.properties import PROPERTIES, make_unknowns, start_of, values_by_region, with_properties
from sim.scene import MaterialBox, SceneMaterial

TINY = dataclasses.replace(FAMILIES["stalk"], num_particles=60, num_nodes=14)
SCENE = random_scene(0, TINY)
KEY = jax.random.key(0)
MATTER = tuple(name for name in PROPERTIES if name != properties.VELOCITY)


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_coordinate_is_its_values_own(name):
    kind = PROPERTIES[name]
    for value in (kind.low if kind.low else 0.01, 0.3 * kind.high, kind.high):
        found = properties.value_of(name, properties.coordinate_of(name, value))
        np.testing.assert_allclose(found, value, rtol=1e-6)


def test_a_search_starts_from_the_scene_as_it_is():
    unknowns = make_unknowns((*MATTER, "velocity"), SCENE, velocity=(0.5, 0.0, -1.0))
    moved = with_properties(start_of(KEY, unknowns, SCENE), unknowns, SCENE)
    np.testing.assert_allclose(moved.state.v, SCENE.state.v, atol=1e-6)
    for name in ("log_youngs_modulus", "poisson_ratio", "density", "friction_angle"):
        expected = np.broadcast_to(getattr(SCENE.material, name), 60)
        np.testing.assert_allclose(getattr(moved.material, name), expected, rtol=1e-5)
    assert float(moved.material.yield_stress[0]) == pytest.approx(1.0)  # zero has no logarithm


def test_each_region_has_a_value_of_its_own():
    regions = np.arange(60) % 3
    unknowns = make_unknowns(("youngs_modulus", "poisson_ratio"), SCENE, regions)
    theta = {"youngs_modulus": jnp.array([4.0, 5.0, 6.0]), "poisson_ratio": jnp.array([1.0, 2, 3])}
    moved = with_properties(theta, unknowns, SCENE).material
    found = moved.log_youngs_modulus / np.log(10.0)
    np.testing.assert_allclose(found, np.array([4.0, 5, 6])[regions], rtol=1e-6)
    np.testing.assert_allclose(moved.poisson_ratio, np.array([0.1, 0.2, 0.3])[regions], rtol=1e-6)
    values = values_by_region(theta, unknowns)
    np.testing.assert_allclose(values["youngs_modulus"], [1e4, 1e5, 1e6], rtol=1e-5)


def test_a_velocity_takes_the_place_of_the_scenes_own():
    unknowns = make_unknowns(("velocity",), SCENE, velocity=(0.5, 0.0, 0.0))
    moved = with_properties({"velocity": jnp.array([2.0, 1.0, 0.0])}, unknowns, SCENE)
    change = np.asarray(moved.state.v - SCENE.state.v)
    np.testing.assert_allclose(change, np.broadcast_to([1.5, 1.0, 0.0], (60, 3)), atol=1e-6)


@pytest.mark.slow
def test_a_field_starts_even_and_stays_within_its_bounds():
    bounds = {"youngs_modulus": (1e4, 1e6)}
    unknowns = make_unknowns(("youngs_modulus",), SCENE, is_field=True, bounds=bounds)
    theta = start_of(KEY, unknowns, SCENE)
    everywhere = properties.coordinates_at(theta, unknowns, "youngs_modulus")
    own = float(SCENE.material.log_youngs_modulus) / np.log(10.0)
    np.testing.assert_allclose(everywhere, own, rtol=1e-5)
    smooth = theta["youngs_modulus"]
    wild = smooth._replace(field=smooth.field.replace(out=50.0 * jnp.arange(16.0) - 375.0))
    found = properties.coordinates_at({"youngs_modulus": wild}, unknowns, "youngs_modulus")
    assert found.min() >= 4.0 and found.max() <= 6.0 and jnp.ptp(found) > 0.1
    assert properties.roughness(theta) > 0.0


def test_coordinates_are_moved_into_their_bounds():
    unknowns = make_unknowns(("youngs_modulus",), SCENE, bounds={"youngs_modulus": (1e4, 1e6)})
    found = properties.bounded({"youngs_modulus": jnp.array([7.5])}, unknowns)
    assert found["youngs_modulus"] == pytest.approx(6.0)


def test_later_boxes_go_before_earlier_and_what_is_in_none_comes_last():
    x = np.array([[0.1, 0.1, 0.1], [0.5, 0.5, 0.5], [0.9, 0.9, 0.9]])
    material = SceneMaterial("jelly", 1e5, 0.3, 1000.0)
    boxes = tuple(MaterialBox((c, c, c), (s, s, s), material) for c, s in ((0.3, 0.3), (0.5, 0.1)))
    assert properties.in_boxes(x, boxes).tolist() == [0, 1, 2]
    assert properties.in_boxes(x[1:], boxes).tolist() == [0, 1]  # nothing in the first box alone


def test_clusters_are_numbered_from_below_and_always_alike():
    rng = np.random.default_rng(0)
    centres = np.array([[0.5, 0.5, 0.8], [0.5, 0.5, 0.2]])
    x = np.concatenate([centre + 0.05 * rng.normal(size=(30, 3)) for centre in centres])
    found = properties.in_clusters(x, 2)
    assert found[:30].tolist() == [1] * 30 and found[30:].tolist() == [0] * 30
    with pytest.raises(ValueError, match="at least 300 particles for 100 regions, found 60"):
        properties.in_clusters(x, 100)
