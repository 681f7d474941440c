"""What the generator that comes along shows: the people that its latents mean."""

import numpy as np
import pytest

from models.stylegan.stylegan_io import load_generator, shipped_generators
from recon.looks.latent_people import BLOCKS, LATENT_SIZE
from scripts.generators import judge, pool_io, sheets


def test_it_is_known_by_name():
    assert shipped_generators() == ["heads"]
    heads = load_generator("heads")
    assert heads.config.resolution == 64 and heads.config.z_dim == LATENT_SIZE
    blocks = {name: slice(*ends) for name, ends in heads.facts["latent_blocks"].items()}
    assert blocks == BLOCKS  # the map is the one that it was taught by
    with pytest.raises(ValueError, match="expected a generator's file or one of heads"):
        load_generator("hands")


@pytest.mark.slow
def test_it_draws_who_its_latents_mean(tmp_path):
    heads = load_generator("heads")
    _, held_out = pool_io.make_pool(tmp_path, 4, 12345, 64)
    truth = judge.at_resolution(held_out.rgb[:40], 64)
    drawn = np.clip(sheets.draw(heads, held_out.z[:40]), -1.0, 1.0)
    errors = np.mean((drawn - truth) ** 2, (1, 2, 3)) / 4.0
    assert np.mean(-10.0 * np.log10(errors)) > 28.0
    others = np.mean((drawn - truth[::-1]) ** 2, (1, 2, 3)) / 4.0
    assert (errors < 0.25 * others).mean() > 0.9
