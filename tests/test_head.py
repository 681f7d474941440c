"""Heads made without a command around them, as a notebook does."""

import pathlib

import numpy as np
import pytest

from recon import fit
from recon.landmarks_io import read_pts
from scripts.shell.head import HeadConfig, HeadMaker

pytestmark = pytest.mark.compiles

POINTS = read_pts(pathlib.Path(__file__).parent / "data" / "astronaut.pts")


def test_points_become_heads_and_the_model_is_prepared_once(monkeypatch):
    prepared = []
    prepare = fit.prepare
    monkeypatch.setattr(fit, "prepare", lambda *known: prepared.append(known) or prepare(*known))
    maker = HeadMaker(HeadConfig(method="inner", num_identity=8, expression=False))
    maker.prepare(paints=False)
    heads = [maker.make(None, points) for points in (POINTS, POINTS + 40.0)]
    assert len(prepared) == 1
    for made in heads:
        assert made.face.params.identity.shape == (8,)
        assert made.face.inner_error_px < 0.05 * made.face.eye_distance_px
        assert np.isfinite(made.mesh.vertices).all()
    moved = heads[1].face.params.pose.translation - heads[0].face.params.pose.translation
    np.testing.assert_allclose(moved, [40.0, 40.0], atol=0.5)


def test_makers_of_different_settings_stand_side_by_side():
    few, more = (HeadMaker(HeadConfig(num_identity=count)) for count in (3, 5))
    assert few.model.identity_sigma.shape == (3,) and more.model.identity_sigma.shape == (5,)
    with pytest.raises(ValueError, match="expected --num_identity up to"):
        HeadMaker(HeadConfig(num_identity=10_000))
