import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recon.default_head import head_samples


def test_align_undoes_a_similarity_and_reads_only_the_used_part():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(30, 3))
    rotation = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()
    points = 1.7 * target @ rotation.T + [1.0, 2.0, -3.0]
    is_used = np.arange(30) < 20
    np.testing.assert_allclose(head_samples.align(points, target, is_used), target, atol=1e-12)
    points[~is_used] += 5.0
    aligned = head_samples.align(points, target, is_used)
    np.testing.assert_allclose(aligned[is_used], target[is_used], atol=1e-12)


def test_align_never_mirrors():
    target = np.random.default_rng(1).normal(size=(30, 3))
    mirrored = target * [-1.0, 1.0, 1.0]
    aligned = head_samples.align(mirrored, target, np.ones(30, bool))
    source, result = mirrored - mirrored.mean(0), aligned - aligned.mean(0)
    transform, *_ = np.linalg.lstsq(source, result)
    assert np.linalg.det(transform) > 0


@pytest.mark.parametrize("old, weight, muscle", [(0, 0, 0), (0.4, -0.3, 0.8), (1, 1, -1)])
def test_macro_weights_are_shares(old, weight, muscle):
    weights = head_samples.macro_weights(np.array([0.6, 0.1, 0.3]), 0.3, old, weight, muscle)
    builds = [value for name, value in weights.items() if name.startswith("universal")]
    origins = [value for name, value in weights.items() if not name.startswith("universal")]
    assert len(builds) == 36 and len(origins) == 12
    assert min(builds + origins) >= 0
    np.testing.assert_allclose([sum(builds), sum(origins)], 1.0)


def test_opposite_targets_become_one_slider():
    names = [
        "nose-width-decr",
        "nose-width-incr",
        "head-oval",
        "l-ear-trans-up",
        "l-ear-trans-down",
    ]
    paired = head_samples.pair_sliders(names)
    assert set(paired) == {
        ("nose-width-incr", "nose-width-decr"),
        ("head-oval", None),
        ("l-ear-trans-up", "l-ear-trans-down"),
    }


def test_the_two_sides_nearly_share_their_draw():
    paired = [head_samples.Slider(f"{side}-eye-up", f"{side}-eye-down") for side in "lr"]
    rng = np.random.default_rng(0)
    draws = [head_samples.slider_weights(rng, paired) for _ in range(500)]
    left, right = (
        np.array([draw[f"{side}-eye-up"] - draw[f"{side}-eye-down"] for draw in draws])
        for side in "lr"
    )
    assert np.std(left) == pytest.approx(0.16, rel=0.1)
    assert np.std(left - right) == pytest.approx(np.sqrt(2) * 0.2 * 0.16, rel=0.1)


def test_principal_modes_recover_a_known_population():
    rng = np.random.default_rng(0)
    modes, _ = np.linalg.qr(rng.normal(size=(60, 2)))
    modes = (modes * [3.0, 1.0]).reshape(20, 3, 2)
    scores = rng.normal(size=(400, 2))
    heads = 10.0 + np.tensordot(scores, modes, axes=(1, 2))
    found = head_samples.principal_modes(heads, np.ones(20), num_modes=2)
    for k in range(2):
        sign = np.sign((found[..., k] * modes[..., k]).sum())
        np.testing.assert_allclose(sign * found[..., k], modes[..., k], atol=0.2)


def test_weights_choose_the_order_of_modes_but_do_not_shrink_them():
    heads = np.zeros((400, 2, 3))
    rng = np.random.default_rng(0)
    heads[:, 0, 0], heads[:, 1, 1] = rng.normal(0, 1, 400), rng.normal(0, 2, 400)
    first = head_samples.principal_modes(heads, np.array([1.0, 0.01]), num_modes=1)[..., 0]
    assert abs(first[0, 0]) == pytest.approx(1.0, rel=0.1)
    second = head_samples.principal_modes(heads, np.array([1.0, 0.01]), num_modes=2)[..., 1]
    assert abs(second[1, 1]) == pytest.approx(2.0, rel=0.1)
