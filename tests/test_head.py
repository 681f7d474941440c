"""Heads made without a command around them, as a notebook does."""

import pathlib

import numpy as np
import pytest

from recon import assets, fit
from recon.landmarks_io import read_pts
from recon.looks.photo_hair import HairWish
from scripts.shell.head import HeadConfig, HeadMaker, hair_wish

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


def test_hair_that_there_is_not_is_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match=r"^expected --hair of auto, none, afro01.*'mullet'$"):
        HeadMaker(HeadConfig(hair="mullet"))
    with pytest.raises(ValueError, match=r"^expected --hair_colour like brown.*'brwn'$"):
        HeadMaker(HeadConfig(hair_colour="brwn"))
    model = assets.load_model().replace(uvs=None, uv_triangles=None)
    assets.save_npz(tmp_path / "bare.npz", model)
    config = HeadConfig(model=str(tmp_path / "bare.npz"), hair="bob01")
    with pytest.raises(ValueError, match=r"^expected the default head for --hair=bob01"):
        HeadMaker(config)


def test_a_colour_of_hair_is_a_name_or_a_number():
    assert hair_wish(HeadConfig(hair_colour="#336699")).color == (0.2, 0.4, 0.6)
    assert hair_wish(HeadConfig(hair_colour="black")).color == (0, 0, 0)
    assert hair_wish(HeadConfig(hair="bob02")) == HairWish("bob02")
