"""The encoder that comes along, on people that nobody has seen."""

import numpy as np
import pytest

from models.stylegan.encoder import encode_latents
from models.stylegan.encoder_io import load_encoder, shipped_encoders
from models.stylegan.generator import map_latents
from models.stylegan.inversion import psnr_db
from models.stylegan.stylegan_io import load_generator, shipped_generators
from scripts.generators import judge, pool_io, readings


def test_it_is_that_of_the_generator_of_its_name():
    assert set(shipped_encoders()) <= set(shipped_generators())
    heads = load_generator("heads")
    assert readings.load_encoder_of("heads", None, heads.config).config == (
        load_encoder("heads").config
    )


@pytest.mark.slow
def test_it_reads_latents_in_pictures_and_the_generator_paints_them_again(tmp_path):
    heads, encoder = load_generator("heads"), load_encoder("heads")
    _, held_out = pool_io.make_pool(tmp_path, 4, 12345, 64)
    z, images = held_out.z[:50], judge.at_resolution(held_out.rgb[:50], 64)
    wanted = np.asarray(map_latents(heads.params, heads.buffers, z, None, heads.config))[:, 0]
    found = encode_latents(encoder.params, images, encoder.statistics, encoder.config)
    error = np.sum((np.asarray(found.shared) - wanted) ** 2)
    assert 1.0 - error / np.sum((wanted - wanted.mean(0)) ** 2) > 0.4
    drawn = readings.painted(heads, np.asarray(found.ws))
    assert np.mean(psnr_db(drawn, images)) > 24.0
    assert np.mean(psnr_db(drawn[::-1], images)) < 18.0
