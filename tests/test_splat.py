import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from render import harmonics
from render.camera import orthographic_camera, perspective_camera
from render.gaussians import (
    Gaussians,
    covariances,
    move_gaussians,
    project_gaussians,
    view_colors,
)
from render.splat import SplatConfig, needed_pairs, splat, splat_frames, splat_reference

pytestmark = pytest.mark.compiles

SIZE = 49  # pixels; odd, so that one lies in the middle
MOST = 64  # Gaussians of one program
EXACT = SplatConfig(max_pairs=4096, min_transmittance=0.0)
BACKGROUND = (0.2, 0.5, 0.7)
FIELDS = [field.name for field in dataclasses.fields(Gaussians)]


def ball(count=300, degree=1, seed=0, dtype=np.float32):
    """Gaussians in a ball of 0.5 metres around the origin, many of them nearly opaque."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(count, 3))
    means *= 0.5 * rng.random((count, 1)) ** (1 / 3) / np.linalg.norm(means, axis=1, keepdims=True)
    scene = Gaussians(
        means=means,
        quats=rng.normal(size=(count, 4)),
        log_scales=rng.normal(np.log(0.04), 0.5, (count, 3)),
        logit_opacities=rng.normal(0.5, 3.0, count),  # some beyond the largest coverage
        harmonics=rng.normal(0, 0.5, (count, (degree + 1) ** 2, 3)),
    )
    return jax.tree.map(lambda v: jnp.asarray(v, dtype), scene)


def one_gaussian(mean=(0.0, 0.0, 0.0), scale=0.05, opacity=0.9, rgb=(0.8, 0.4, 0.2)):
    return Gaussians(
        means=jnp.array([mean], float),
        quats=jnp.array([[1.0, 0.0, 0.0, 0.0]]),
        log_scales=jnp.log(jnp.broadcast_to(jnp.asarray(scale, float), (1, 3))),
        logit_opacities=jnp.log(jnp.array([opacity / (1 - opacity)])),
        harmonics=(jnp.array([[rgb]]) - 0.5) / harmonics.CONSTANT,
    )


def camera(orthographic=False, width=SIZE, height=SIZE, eye=(0.6, 0.5, 1.8)):
    if orthographic:
        return orthographic_camera(eye, (0, 0, 0), width, height, extent=1.1)
    return perspective_camera(eye, (0, 0, 0), width, height, fov_degrees=32.0)


def concatenate(*scenes):
    return jax.tree.map(lambda *v: jnp.concatenate(v), *scenes)


def shown(scene, view, background=(0.0, 0.0, 0.0), config=EXACT):
    """Draws few Gaussians of degree 0 or 1, by the program that all of them share."""
    scene = jax.tree.map(lambda v: v.astype(jnp.float32), scene)
    bands = scene.harmonics.shape[1]
    scene = scene.replace(harmonics=jnp.pad(scene.harmonics, ((0, 0), (0, 4 - bands), (0, 0))))
    missing = MOST - len(scene.means)
    rest = jax.tree.map(lambda v: jnp.repeat(v[:1], missing, 0), scene)
    rest = rest.replace(logit_opacities=jnp.full(missing, -30.0))  # below what is seen
    return splat(concatenate(scene, rest), view, config, background)


def assert_same_picture(output, reference, atol):
    assert not output.overflow
    for name in ("rgb", "alpha", "depth"):
        np.testing.assert_allclose(
            getattr(output, name), getattr(reference, name), 2e-5, atol, err_msg=name
        )


# Geometry and optics


@pytest.mark.quick
def test_one_gaussian_is_its_profile_where_it_projects():
    scene, view = one_gaussian((0.1, 0.05, 0.0), scale=0.06), camera(orthographic=True)
    focal = float(view.focal[0])
    output = shown(scene, view, BACKGROUND)
    local = np.asarray(view.rotation @ scene.means[0]) * focal
    x, y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    square = (x - SIZE / 2 - local[0]) ** 2 + (y - SIZE / 2 - local[1]) ** 2
    alpha = 0.9 * np.exp(-0.5 * square / ((0.06 * focal) ** 2 + 0.3))
    alpha = np.where(alpha > 1 / 255, alpha, 0.0)
    np.testing.assert_allclose(output.alpha, alpha, atol=2e-6)
    rgb = alpha[..., None] * (0.8, 0.4, 0.2) + (1 - alpha[..., None]) * BACKGROUND
    np.testing.assert_allclose(output.rgb, rgb, atol=3e-6)
    depth = np.linalg.norm((0.6, 0.5, 1.8)) + local[2] / focal
    np.testing.assert_allclose(output.depth[alpha > 0], depth, rtol=1e-5)
    assert np.all(np.asarray(output.depth)[alpha == 0] == 0)


def test_the_nearer_gaussian_hides_the_farther_in_any_order():
    near, far = one_gaussian((0, 0, 0.3), rgb=(1, 0, 0)), one_gaussian((0, 0, -0.3), rgb=(0, 1, 0))
    view = camera(eye=(0, 0, 2))
    for scene in (concatenate(near, far), concatenate(far, near)):
        rgb = shown(scene, view).rgb[SIZE // 2, SIZE // 2]
        np.testing.assert_allclose(rgb, [0.9, 0.09, 0.0], atol=2e-3)


def test_gaussians_of_one_depth_are_blended_in_the_order_they_come():
    red, green = one_gaussian(rgb=(1, 0, 0)), one_gaussian(rgb=(0, 1, 0))
    view, middle = camera(eye=(0, 0, 2)), (SIZE // 2, SIZE // 2)
    first_red = shown(concatenate(red, green, green), view).rgb[middle]
    first_green = shown(concatenate(green, red, red), view).rgb[middle]
    assert first_red[0] > 0.8 > 0.2 > first_red[1]
    np.testing.assert_allclose(first_red[:2], first_green[1::-1], atol=1e-6)


def test_a_gaussian_has_the_same_outline_turned_and_flattened_as_its_covariance_says():
    scene, view = ball(20), camera()
    seen = project_gaussians(scene, view, dilation=0.0)
    local = scene.means @ view.rotation.T + view.translation
    for i in range(20):
        x, y, z = np.asarray(local[i])
        jacobian = float(view.focal[0]) * np.array([[1 / z, 0, -x / z**2], [0, 1 / z, -y / z**2]])
        turned = jacobian @ np.asarray(view.rotation)
        inverse = np.linalg.inv(turned @ np.asarray(covariances(scene)[i]) @ turned.T)
        found = [[seen.a[i], seen.b[i]], [seen.b[i], seen.c[i]]]
        np.testing.assert_allclose(found, inverse, rtol=2e-3, atol=1e-5)


def test_colours_turn_with_the_view():
    scene = one_gaussian()
    bands = jnp.concatenate([scene.harmonics, jnp.zeros((1, 3, 3)).at[0, 1, 0].set(0.4)], 1)
    scene = scene.replace(harmonics=bands)  # red grows along +z, the way of the light to the eye
    front, back = camera(eye=(0, 0, 2)), camera(eye=(0, 0, -2))
    slope = 0.4 * np.sqrt(3 / (4 * np.pi))
    np.testing.assert_allclose(view_colors(scene, front)[0, 0], 0.8 - slope, rtol=1e-5)
    np.testing.assert_allclose(view_colors(scene, back)[0, 0], 0.8 + slope, rtol=1e-5)


def test_moving_the_world_and_the_camera_alike_changes_nothing():
    scene, view = ball(MOST, degree=3), camera()
    turn = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()
    matrix, shift = jnp.asarray(turn, jnp.float32), jnp.array([0.4, -0.2, 0.1])
    moved = jax.jit(move_gaussians)(scene, matrix, shift)
    rotation = view.rotation @ matrix.T
    other = view.replace(rotation=rotation, translation=view.translation - rotation @ shift)
    assert_same_picture(splat(moved, other, EXACT), splat(scene, view, EXACT), atol=2e-4)


def test_a_scene_of_twice_the_size_looks_the_same_from_twice_as_far():
    scene = ball(MOST)
    large = move_gaussians(scene, jnp.eye(3), scale=2.0)
    near, far = camera(eye=(0.6, 0.5, 1.8)), camera(eye=(1.2, 1.0, 3.6))
    small, big = shown(scene, near), shown(large, far)
    np.testing.assert_allclose(big.rgb, small.rgb, atol=1e-4)
    np.testing.assert_allclose(big.depth, 2 * small.depth, rtol=1e-4)


def test_antialiasing_keeps_the_light_of_a_gaussian_smaller_than_a_pixel():
    scene, view = one_gaussian(scale=0.002), camera(orthographic=True)
    sharp, soft = (
        float(
            jnp.sum(shown(scene, view, config=dataclasses.replace(EXACT, antialiased=value)).alpha)
        )
        for value in (False, True)
    )
    variance = (0.002 * float(view.focal[0])) ** 2
    np.testing.assert_allclose(soft / sharp, variance / (variance + 0.3), rtol=0.25)


# The reference twin


@pytest.mark.parametrize(
    "degree, orthographic", [(3, False), pytest.param(0, True, marks=pytest.mark.slow)]
)
def test_the_picture_is_that_of_the_reference(orthographic, degree):
    scene, view = ball(degree=degree), camera(orthographic, width=50, height=37)
    reference = jax.jit(splat_reference, static_argnums=2)(scene, view, EXACT, BACKGROUND)
    assert reference.alpha.max() > 0.999
    assert_same_picture(splat(scene, view, EXACT, BACKGROUND), reference, atol=2e-5)


@pytest.mark.slow
def test_stopping_early_changes_less_than_it_lets_through():
    walls = concatenate(*[one_gaussian((0, 0, -0.01 * i), 10.0, 0.5) for i in range(64)])
    view = camera(eye=(0, 0, 2))
    whole = shown(walls, view)
    early = shown(walls, view, config=dataclasses.replace(EXACT, min_transmittance=1e-3))
    assert 1e-6 < jnp.abs(whole.rgb - early.rgb).max() < 1e-3
    assert early.alpha.max() < 0.99999 < whole.alpha.min()


@functools.cache
def gradients(function, orthographic, antialiased, dtype):
    with jax.enable_x64(True):
        scene = ball(dtype=dtype)
        view = jax.tree.map(lambda v: jnp.asarray(v, dtype), camera(orthographic))
        rng = np.random.default_rng(3)
        like = [(SIZE, SIZE, 3), (SIZE, SIZE), (SIZE, SIZE)]
        pulls = [jnp.asarray(rng.normal(size=shape), dtype) for shape in like]
        config = dataclasses.replace(EXACT, antialiased=antialiased)

        def loss(scene, view, background):
            output = function(scene, view, config, background)
            shown = output.rgb, output.alpha, output.depth
            return sum(jnp.vdot(a, b) for a, b in zip(shown, pulls, strict=True))

        background = jnp.asarray(rng.random((SIZE, SIZE, 3)), dtype)
        return jax.jit(jax.grad(loss, (0, 1, 2)))(scene, view, background)


@pytest.mark.parametrize(
    "dtype, rtol, orthographic, antialiased",
    [
        # As the one of finite differences below, whose reference needs no compilation.
        pytest.param(np.float64, 1e-11, False, False, marks=pytest.mark.slow),
        (np.float64, 1e-11, True, True),
        pytest.param(np.float32, 3e-4, False, True, marks=pytest.mark.slow),
    ],
)
def test_every_gradient_is_that_of_the_reference(dtype, rtol, orthographic, antialiased):
    ours = gradients(splat, orthographic, antialiased, dtype)
    theirs = gradients(splat_reference, orthographic, antialiased, np.float64)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
    ):
        name = jax.tree_util.keystr(path)
        assert a.dtype == dtype, name
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(b).max() > 0, name
        assert np.abs(a - b).max() <= rtol * np.abs(b).max(), name


@jax.jit
def pulled(scene, view):
    rgb = splat(scene, view, EXACT).rgb
    return jnp.vdot(rgb, np.random.default_rng(1).normal(size=rgb.shape).astype(rgb.dtype))


pulled_gradient = jax.jit(jax.grad(pulled, (0, 1)))


@pytest.mark.parametrize("name", [*FIELDS, "rotation", "translation", "focal", "center"])
@pytest.mark.usefixtures("x64")
def test_gradients_match_finite_differences(name):
    """Along a random direction; few Gaussians, whose cut at 1/255 stays out of the picture."""
    scene = ball(count=4, dtype=np.float64)
    scene = scene.replace(
        means=scene.means * 0.3,
        log_scales=0.1 * scene.log_scales - 0.2,
        logit_opacities=jnp.full(4, 3.0),
        harmonics=0.3 * scene.harmonics,
    )
    view = jax.tree.map(lambda v: jnp.asarray(v, jnp.float64), camera())
    owner = scene if name in FIELDS else view
    start = getattr(owner, name)
    direction = np.random.default_rng(2).normal(size=start.shape)

    def moved(step):
        changed = owner.replace(**{name: start + step * direction})
        return (changed, view) if name in FIELDS else (scene, changed)

    step = 1e-5
    difference = (pulled(*moved(step)) - pulled(*moved(-step))) / (2 * step)
    by_scene, by_view = pulled_gradient(scene, view)
    gradient = getattr(by_scene if name in FIELDS else by_view, name)
    np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=1e-5)


@jax.jit
@jax.grad
def coverage_gradient(scene, view):
    return splat(scene, view, EXACT).alpha[SIZE // 2, SIZE // 2]


@pytest.mark.parametrize(
    "opacity, is_free", [pytest.param(0.9, True, marks=pytest.mark.slow), (0.99999, False)]
)
def test_the_largest_coverage_has_no_gradient(opacity, is_free):
    scene, view = one_gaussian(opacity=opacity), camera(eye=(0, 0, 2))
    gradient = coverage_gradient(scene, view)
    expected = opacity * (1 - opacity) if is_free else 0.0
    np.testing.assert_allclose(gradient.logit_opacities, expected, rtol=1e-4)


# What may go wrong


def test_too_many_pairs_are_reported_with_a_capacity_that_does():
    scene, view = ball(), camera(width=48, height=48)
    small = splat(scene, view, SplatConfig(max_pairs=64))
    assert small.overflow
    told, needed = int(needed_pairs(scene, view)), int(small.needed)
    assert needed <= told <= needed + 8 * 9
    enough = splat(scene, view, SplatConfig(max_pairs=needed))
    assert_same_picture(enough, splat(scene, view, EXACT), atol=1e-3)
    assert splat(scene, view, SplatConfig(max_pairs=needed - 8)).overflow


@pytest.mark.slow
def test_frames_grow_their_capacity_and_say_so():
    scene, grown = ball(MOST), []
    views = [camera(eye=(0, 0, z)) for z in (30.0, 1.5, 1.6)]
    outputs = list(splat_frames(scene, views, on_growth=grown.append))
    assert grown and len(outputs) == 3
    roomy = SplatConfig(max_pairs=EXACT.max_pairs)
    for view, output in zip(views, outputs, strict=True):
        assert_same_picture(output, shown(scene, view, (1.0, 1.0, 1.0), roomy), atol=1e-6)


def test_frames_show_a_scene_each_where_scenes_are_given():
    scenes = [one_gaussian((x, 0, 0)) for x in (-0.2, 0.2)]
    left, right = splat_frames(iter(scenes), [camera(eye=(0, 0, 2))] * 2, SplatConfig(max_pairs=64))
    np.testing.assert_allclose(left.alpha, right.alpha[:, ::-1], atol=1e-5)
    assert left.alpha[:, : SIZE // 2].sum() > 2 * left.alpha[:, SIZE // 2 :].sum()


def test_an_empty_scene_is_background():
    empty = jax.tree.map(lambda v: v[:0], ball())
    output = splat(empty, camera(), EXACT, BACKGROUND)
    np.testing.assert_allclose(output.rgb, np.broadcast_to(BACKGROUND, (SIZE, SIZE, 3)), rtol=1e-6)
    assert not output.overflow and output.alpha.max() == output.depth.max() == 0


def test_what_is_behind_the_camera_or_beside_the_picture_is_not_seen():
    view = camera(eye=(0, 0, 2))
    for mean in ((0, 0, 2.1), (0, 0, 1.995), (3, 0, 0), (0, -3, 0)):
        output = shown(one_gaussian(mean, scale=0.01), view)
        assert output.alpha.max() == 0 and output.needed == 0


def test_a_gaussian_beside_the_camera_does_not_smear_over_the_picture():
    output = shown(one_gaussian((1, 0, 1.8), scale=0.15), camera(eye=(0, 0, 2)))
    assert output.alpha.max() == 0  # it reaches 45 degrees to 80 beside the axis, the picture 16


@pytest.mark.parametrize("scale", [1e3, 1e12, 1e30])
def test_a_huge_gaussian_covers_the_picture_evenly(scale):
    output = shown(one_gaussian(scale=scale), camera())
    np.testing.assert_allclose(output.alpha, 0.9, rtol=1e-4)


def test_a_huge_needle_stays_thin():
    output = shown(one_gaussian(scale=(1e6, 1e-6, 1e-6)), camera(eye=(0, 0, 2)))
    alpha = np.asarray(output.alpha)
    assert alpha[SIZE // 2].min() > 0.2
    assert alpha[: SIZE // 2 - 4].max() == alpha[SIZE // 2 + 4 :].max() == 0


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_gaussians_are_left_out_and_have_no_gradient(name, value):
    if name == "logit_opacities" and value == np.inf:
        pytest.skip("an opacity of one is none broken")
    scene, view = ball(count=MOST), camera()
    invisible = scene.replace(logit_opacities=scene.logit_opacities.at[0].set(-20))
    broken = scene.replace(**{name: getattr(scene, name).at[0].set(value)})
    assert_same_picture(shown(broken, view), shown(invisible, view), atol=1e-6)
    for leaf in jax.tree.leaves(pulled_gradient(broken, view)):
        assert np.isfinite(leaf).all()
    for leaf in jax.tree.leaves(pulled_gradient(broken, view)[0]):
        assert np.abs(leaf[0]).max() == 0 < np.abs(leaf).max()


def test_a_quaternion_of_zeros_turns_nothing():
    scene = one_gaussian(scale=(0.1, 0.02, 0.02))
    zero = scene.replace(quats=jnp.zeros((1, 4)))
    assert_same_picture(shown(zero, camera()), shown(scene, camera()), atol=1e-6)


# Inside other transformations


@pytest.mark.slow
def test_it_composes_with_jit_vmap_and_grad():
    scene, views = ball(count=MOST), [camera(eye=(0, 0, 2)), camera(eye=(1, 0, 2))]
    stacked = jax.tree.map(lambda *v: jnp.stack(v), *views)
    both = jax.jit(jax.vmap(lambda view: splat(scene, view, EXACT).rgb))(stacked)
    for view, rgb in zip(views, both, strict=True):
        np.testing.assert_allclose(rgb, shown(scene, view, (1.0, 1.0, 1.0)).rgb, atol=1e-5)
    value = jax.jit(lambda: splat(scene, views[0], EXACT).rgb.sum())()  # nothing traced goes in
    np.testing.assert_allclose(value, both[0].sum(), rtol=1e-5)


@pytest.mark.gpu
def test_a_gpu_draws_the_picture_that_a_cpu_draws():
    scene, view = ball(degree=3), camera()
    with jax.default_device(jax.devices("cpu")[0]):
        expected = jax.device_get(splat_reference(scene, view, EXACT, BACKGROUND))
    assert_same_picture(splat(scene, view, EXACT, BACKGROUND), expected, atol=2e-5)
