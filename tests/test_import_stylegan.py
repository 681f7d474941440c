"""The command as its users meet it: what lies in --out, and the one line about a bad file."""

import json

import commands
import numpy as np
import pytest
import stylegan_pickles as files
from PIL import Image
from test_official_pickle import JUDGE, TINY, assert_same, judge, made
from torch_files import call, constant, named

from models.stylegan.stylegan_io import read_discriminator, read_generator


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    generator = files.Official().generator(made())
    whole = files.pickled(
        {"G_ema": generator, "D": files.Official().discriminator(judge().params, JUDGE)}
    )
    (folder / "tiny.pkl").write_bytes(whole)
    (folder / "cut.pkl").write_bytes(whole[: len(whole) // 2])
    (folder / "text.pkl").write_text("This is no network.\n")
    run = call(named("os", "system"), constant(f"touch {folder / 'ran'}"))
    (folder / "bad.pkl").write_bytes(files.pickled({"G_ema": generator, "extra": run}))
    odd = call(named("mylib.layers", "Fancy"))
    (folder / "odd.pkl").write_bytes(files.pickled({"G_ema": generator, "extra": odd}))
    claim = files.block(np.ones(4, np.float32), claimed=2**30)
    claim = files.tensor_of(np.ones(4, np.float32), content=claim)
    (folder / "claim.pkl").write_bytes(files.pickled({"G_ema": generator, "extra": claim}))
    (folder / "G.pkl").write_bytes(files.pickled({"G": generator}))
    resnet = files.Official(architecture="resnet").generator(made())
    (folder / "resnet.pkl").write_bytes(files.pickled({"G_ema": resnet}))
    return folder


BAD_INPUT = {  # arguments -> what the line says
    "--network={inputs}/none.pkl": "expected a file with networks of StyleGAN2, found nothing at",
    "--network={inputs}/cut.pkl": "expected a pickle of StyleGAN2, found {inputs}/cut.pkl: ",
    "--network={inputs}/text.pkl": "expected a pickle of StyleGAN2, found {inputs}/text.pkl: ",
    "--network={inputs}/bad.pkl": "a pickle that asks for os.system, which is not allowed",
    "--network={inputs}/odd.pkl": "asks for mylib.layers.Fancy, which is not allowed",
    "--network={inputs}/claim.pkl": "storage 94 of 16 bytes instead of 4294967296",
    "--network={inputs}/resnet.pkl": "found architecture 'resnet' of synthesis.b4",
    "--network={inputs}/G.pkl": "expected G_ema in {inputs}/G.pkl, found G",
    "--network={inputs}/G.pkl --which=G --discriminator": "expected D in {inputs}/G.pkl, found G",
    "--network={inputs}/tiny.pkl --which=D": "--which",
    "--network={inputs}/tiny.pkl --samples=-1": "--samples",
    "--out=out/x": "--network",
}


@pytest.mark.parametrize("arguments", BAD_INPUT)
def test_bad_input_takes_one_line(inputs, tmp_path, arguments):
    out = tmp_path / "out"
    done = commands.run("import_stylegan", f"--out={out}", *arguments.format(inputs=inputs).split())
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("import_stylegan: ")
    assert BAD_INPUT[arguments].format(inputs=inputs) in line
    assert not out.exists() and not (inputs / "ran").exists()


def test_networks_become_files_of_ours(inputs, tmp_path):
    flags = (f"--network={inputs / 'tiny.pkl'}", f"--out={tmp_path}", "--samples=0")
    done = commands.run("import_stylegan", *flags, "--discriminator")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"wrote {tmp_path}: G_ema of 8 px, ")
    assert ", 2 classes" in done.stdout
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"generator.safetensors", "generator.json", "discriminator.safetensors"}
    found = read_generator(tmp_path / "generator.safetensors")
    assert_same(found, made())
    assert found.facts["source"] == "tiny.pkl" and found.facts["network"] == "G_ema"
    assert_same(read_discriminator(tmp_path / "discriminator.safetensors"), judge())
    header = json.loads((tmp_path / "generator.json").read_text())
    assert header["config"]["resolution"] == TINY.resolution and header["facts"] == found.facts


@pytest.mark.slow
def test_samples_lie_side_by_side(inputs, tmp_path):
    flags = (f"--network={inputs / 'tiny.pkl'}", f"--out={tmp_path}", "--samples=5")
    done = commands.run("import_stylegan", *flags)
    assert done.returncode == 0, done.stderr
    sheet = np.asarray(Image.open(tmp_path / "samples.png"))
    assert sheet.shape == (2 * 8 + 4, 3 * 8 + 2 * 4, 3)
    assert len(np.unique(sheet[:8, :8].reshape(-1, 3), axis=0)) > 4
    assert np.all(sheet[-8:, -8:] == 255)  # no sixth one
