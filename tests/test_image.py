import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from PIL import Image
from skimage.metrics import structural_similarity

from render.image import (
    area_downsample,
    as_picture,
    box_downsample,
    contact_sheet,
    linear_to_srgb,
    psnr,
    resize,
    resize_to_fit,
    srgb_to_linear,
    ssim,
    to_bytes,
)
from render.image_io import read_photo, write_image

# Four corners of different colours: red, green / blue, white.
CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)


def test_srgb_matches_the_standard_and_inverts():
    encoded = jnp.array([0.0, 0.04045, 0.5, 1.0])
    linear = jnp.array([0.0, 0.0031308, 0.2140411, 1.0])
    np.testing.assert_allclose(srgb_to_linear(encoded), linear, atol=1e-6)
    ramp = jnp.linspace(0, 1, 200)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(ramp)), ramp, atol=1e-5)


def test_srgb_gradients_are_right_and_finite_at_zero():
    with jax.enable_x64(True):
        x = jnp.array([0.001, 0.01, 0.2, 0.9])
        check_grads(jax.jit(srgb_to_linear), (x,), order=1)
        check_grads(jax.jit(linear_to_srgb), (x,), order=1)
    for function in (srgb_to_linear, linear_to_srgb):
        assert np.isfinite(jax.vmap(jax.grad(function))(jnp.array([-0.1, 0.0, 1e-9]))).all()


def test_psnr_of_known_noise():
    image = jnp.full((8, 8, 3), 0.5)
    np.testing.assert_allclose(psnr(image + 0.1, image), 20.0, atol=1e-4)
    assert psnr(image, image) == np.inf


def noisy_pair(height=40, width=33, dtype=np.float32):
    """A smooth picture and the same with noise: neither alike nor unrelated."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width, :1][:2] / 10
    smooth = 0.5 + 0.4 * np.sin(x + 2 * y + np.arange(3))
    noisy = np.clip(smooth + 0.1 * rng.standard_normal(smooth.shape), 0, 1)
    return noisy.astype(dtype), smooth.astype(dtype)


def ssim_as(border):
    return jax.jit(lambda image, reference: ssim(image, reference, border))


@pytest.mark.parametrize("border", ["valid", "zero"])
def test_ssim_is_one_for_equal_pictures_and_falls_with_noise(border):
    noisy, smooth = noisy_pair()
    similarity = ssim_as(border)
    np.testing.assert_allclose(similarity(smooth, smooth), 1.0, atol=1e-6)
    half = similarity((noisy + smooth) / 2, smooth)
    assert similarity(noisy, smooth) < half - 0.05 < 0.9
    np.testing.assert_allclose(similarity(smooth, noisy), similarity(noisy, smooth), rtol=1e-5)


def test_ssim_of_two_greys_is_what_the_formula_says():
    a, b = 0.3, 0.5  # without variance only the luminance term is left
    found = ssim_as("valid")(jnp.full((24, 24, 1), a), jnp.full((24, 24, 1), b))
    np.testing.assert_allclose(found, (2 * a * b + 1e-4) / (a * a + b * b + 1e-4), rtol=1e-6)


@pytest.mark.parametrize("dtype, atol", [(np.float32, 2e-6), (np.float64, 1e-10)])
def test_ssim_is_that_of_scikit_image(dtype, atol):
    noisy, smooth = noisy_pair(dtype=dtype)
    expected = structural_similarity(
        noisy.astype(np.float64),
        smooth.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )
    with jax.enable_x64(dtype == np.float64):
        found = ssim_as("valid")(noisy, smooth)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=atol)


def test_ssim_with_zero_border_is_that_of_pictures_framed_in_black():
    noisy, smooth = noisy_pair()
    frame = ((5, 5), (5, 5), (0, 0))
    expected = ssim_as("valid")(np.pad(noisy, frame), np.pad(smooth, frame))
    np.testing.assert_allclose(ssim_as("zero")(noisy, smooth), expected, atol=1e-6)


def test_scores_are_those_of_what_the_mask_leaves():
    rng = np.random.default_rng(8)
    image, other, spoilt = rng.random((3, 20, 24, 3), np.float32)
    mask = np.zeros((20, 24), np.float32)
    mask[:14, :17] = 1  # a corner: what a smaller photo fills
    covered = np.where(mask[..., None] > 0, image, spoilt)
    corner = image[:14, :17], other[:14, :17]
    np.testing.assert_allclose(psnr(covered, other, mask), psnr(*corner), rtol=1e-5)
    scored = jax.jit(ssim, static_argnames="border")
    for border in ("zero", "valid"):
        clean, same = (scored(view, other, border, mask) for view in (image, covered))
        assert clean == same
    np.testing.assert_allclose(
        scored(covered, other, "zero", mask), scored(*corner, "zero"), rtol=1e-5
    )
    ones = np.ones_like(mask)
    np.testing.assert_allclose(scored(image, other, "valid", ones), scored(image, other), rtol=1e-6)
    assert np.isfinite(scored(image, other, "valid", 0 * mask))  # a mask may leave nothing


@pytest.mark.parametrize("border", ["valid", "zero"])
@pytest.mark.usefixtures("x64")
def test_ssim_gradients_match_finite_differences(border):
    noisy, smooth = noisy_pair(14, 13, np.float64)
    check_grads(ssim_as(border), (noisy, smooth), order=1, modes=["rev"])
    flat = jax.jit(jax.grad(lambda image: ssim(image, smooth, border)))(0 * smooth + 0.5)
    assert np.isfinite(flat).all()


def test_ssim_refuses_what_it_cannot_compare():
    picture = np.zeros((12, 10, 3))
    with pytest.raises(ValueError, match=r"of one shape, found \(12, 10, 3\) and \(12, 10, 1\)"):
        ssim(picture, picture[..., :1])
    with pytest.raises(ValueError, match="at least 11 pixels a side, found 10"):
        ssim(picture, picture)
    with pytest.raises(ValueError, match='expected border "valid" or "zero", found \'same\''):
        ssim(picture, picture, "same")


def test_resize_keeps_a_ramp_and_its_sides():
    ramp = jnp.broadcast_to(jnp.linspace(0, 1, 40)[:, None, None], (40, 30, 3))
    small = resize(ramp, 20, 15)
    assert small.shape == (20, 15, 3)
    np.testing.assert_allclose(small[2:-2], box_downsample(ramp, 2)[2:-2], atol=0.01)
    assert resize_to_fit(ramp, 10).shape == (10, 8, 3)
    assert resize_to_fit(ramp, 40) is ramp


def test_box_downsample_is_the_mean_of_blocks():
    image = jnp.arange(24.0).reshape(4, 6, 1)
    np.testing.assert_allclose(
        box_downsample(image, 2)[..., 0], [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]
    )


def test_area_downsample_shares_out_the_pixels_on_seams():
    image = np.random.default_rng(0).random((7, 10, 2)).astype(np.float32)
    # Enlarged to a common multiple of both sizes, seams fall between pixels.
    fine = np.kron(image, np.ones((3, 4, 1))).reshape(3, 7, 4, 10, 2)
    np.testing.assert_allclose(area_downsample(image, 3, 4), fine.mean((1, 3)), atol=1e-6)
    np.testing.assert_allclose(area_downsample(image[..., 0], 7, 10), image[..., 0], atol=1e-6)
    with pytest.raises(ValueError, match="at most 7 x 10 pixels, found 8 x 10"):
        area_downsample(image, 8, 10)


def test_bytes_round_and_clip():
    found = to_bytes(np.array([-1.0, 0.0, 0.498, 0.5, 1.0, 2.0, np.nan]))
    np.testing.assert_array_equal(found, [0, 0, 127, 128, 255, 255, 0])
    assert to_bytes(CORNERS) is CORNERS


def test_a_contact_sheet_holds_all_pictures():
    images = [np.full((4, 6, 3), 0.1), np.full((2, 2), 0.5), np.full((4, 6, 3), 0.3)]
    sheet = contact_sheet(images, columns=2, gap=1)
    assert sheet.shape == (9, 13, 3)
    np.testing.assert_allclose(sheet[:4, :6], 0.1)
    np.testing.assert_allclose(sheet[1:3, 9:11], 0.5)  # in the middle of its cell
    np.testing.assert_allclose(sheet[5:, :6], 0.3)
    np.testing.assert_allclose(sheet[5:, 7:], 1.0)
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([], 2)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("shape", [(12, 9, 3), (12, 9), (12, 9, 1)])
def test_what_is_written_is_read(tmp_path, suffix, shape):
    image = np.broadcast_to(np.linspace(0, 1, 12).reshape(12, *[1] * (len(shape) - 1)), shape)
    write_image(tmp_path / f"new/image{suffix}", image)
    found = read_photo(tmp_path / f"new/image{suffix}")
    assert found.dtype == np.float32 and found.shape == (12, 9, 3)
    np.testing.assert_allclose(found, image.reshape(12, 9, -1) * np.ones(3), atol=0.03)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"image{suffix}"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    # What a camera writes that was held so: the upright picture, turned the other way.
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    upright = np.kron(CORNERS, np.ones((8, 12, 1), np.uint8))
    picture = Image.fromarray(upright)
    for turn in turns.get(orientation, []):
        picture = picture.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png"), upright / np.float32(255))


def test_transparency_shows_white(tmp_path):
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_allclose(
        read_photo(tmp_path / "a.png"), [[[1, 0, 0], [1, 1, 1], [0.8, 0.8, 0.8]]], atol=1e-6
    )


def test_palettes_with_transparency_show_white(tmp_path):
    picture = Image.fromarray(CORNERS).convert("P", palette=Image.Palette.ADAPTIVE)
    picture.info["transparency"] = picture.getpixel((0, 0))
    picture.save(tmp_path / "a.png", transparency=picture.getpixel((0, 0)))
    found = read_photo(tmp_path / "a.png")
    np.testing.assert_allclose(found[0, 0], 1.0)
    np.testing.assert_allclose(found[0, 1], [0, 1, 0], atol=0.02)


def test_grey_of_8_and_16_bits(tmp_path):
    ramp = np.linspace(0, 1, 6).reshape(2, 3)
    Image.fromarray((ramp * 255).astype(np.uint8)).save(tmp_path / "8.png")
    Image.fromarray((ramp * 65535).astype(np.uint16)).save(tmp_path / "16.png")
    Image.fromarray((ramp * 65535).astype(np.uint16)).save(tmp_path / "16.tif")
    for name, tolerance in (("8.png", 1 / 255), ("16.png", 1e-4), ("16.tif", 1e-4)):
        found = read_photo(tmp_path / name)
        np.testing.assert_allclose(found, np.repeat(ramp[..., None], 3, -1), atol=tolerance)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0 no"])
def test_what_is_no_image_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected an image, found .*photo\.png") as error:
        read_photo(path)
    assert "\n" not in str(error.value)


@pytest.fixture
def heic(tmp_path):
    """A photo as a phone keeps it: HEVC, held on its side."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(np.kron(CORNERS, np.ones((64, 96, 1), np.uint8)))
    lying = lying.transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "IMG_0001.HEIC", quality=95, exif=exif.tobytes())
    return tmp_path / "IMG_0001.HEIC"


def test_photos_of_phones_are_read(heic):
    found = read_photo(heic)
    assert found.shape == (128, 192, 3)
    at_corners = found[[[16], [112]], [[24, 168]]]
    np.testing.assert_allclose(at_corners, CORNERS / 255, atol=0.1)


def test_without_its_decoder_heic_is_named(heic, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"found HEIC in .*0001.HEIC: `pip install pillow-heif`"):
        read_photo(heic)


def test_broken_heic_is_refused_in_one_line(heic):
    content = heic.read_bytes()
    for end in (20, 200, len(content) // 2, len(content) - 40):
        heic.write_bytes(content[:end])
        with pytest.raises(ValueError, match="expected an image") as error:
            read_photo(heic)
        assert "\n" not in str(error.value)


def test_a_truncated_image_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg"):
        Image.fromarray(noise).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match="expected an image"):
            read_photo(tmp_path / name)


def test_a_missing_image_is_refused(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(ValueError, match="expected an image file, found nothing at"):
            read_photo(path)


NOTEBOOK_PICTURES = {
    "uint8": lambda rgb: (rgb * 255).astype(np.uint8),
    "uint16": lambda rgb: (rgb * 65535).astype(np.uint16),
    "int64": lambda rgb: (rgb * 255).astype(np.int64),
    "float to 255": lambda rgb: rgb * 255.0,
    "half floats": lambda rgb: rgb.astype(np.float16),
    "RGBA": lambda rgb: np.concatenate([rgb, np.ones_like(rgb[..., :1])], -1),
    "RGBA to 255": lambda rgb: 255.0 * np.concatenate([rgb, np.ones_like(rgb[..., :1])], -1),
    "of Pillow": lambda rgb: Image.fromarray((rgb * 255).astype(np.uint8)),
    "of jax": jnp.asarray,
    "rows of rows": lambda rgb: rgb.tolist(),
}


@pytest.fixture
def ramp():
    return np.linspace(0.0, 1.0, 60).reshape(4, 5, 3)


@pytest.mark.parametrize("kind", NOTEBOOK_PICTURES)
def test_pictures_of_all_kinds_are_one(ramp, kind):
    found = as_picture(NOTEBOOK_PICTURES[kind](ramp))
    assert found.dtype == np.float32 and isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, ramp, atol=1 / 255)


@pytest.mark.parametrize("scale, dtype", [(1.0, np.float32), (255.0, np.uint8), (1, bool)])
def test_grey_becomes_three_equal_channels(ramp, scale, dtype):
    grey = (scale * ramp[..., 0]).astype(dtype)
    expected = np.repeat(grey[..., None], 3, -1) / scale
    for picture in (grey, grey[..., None]):
        np.testing.assert_allclose(as_picture(picture), expected, atol=1e-6)


def test_alpha_shows_white():
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    expected = [[[1, 0, 0], [1, 1, 1], [0.8, 0.8, 0.8]]]
    np.testing.assert_allclose(as_picture(rgba), expected, atol=1e-6)
    grey_alpha = rgba[..., 2:]
    np.testing.assert_allclose(as_picture(grey_alpha)[0, :, 0], [0, 1, 0.8], atol=1e-6)


def test_a_picture_in_the_house_form_stays_as_it_is(ramp):
    picture = ramp.astype(np.float32)
    assert np.shares_memory(as_picture(picture), picture)


def test_what_resampling_overshoots_is_clipped(ramp):
    np.testing.assert_allclose(as_picture(1.2 * ramp - 0.1), np.clip(1.2 * ramp - 0.1, 0, 1))
    found = as_picture((280.0 * ramp - 12.0).astype(np.float32))
    assert found.min() == 0.0 and found.max() == 1.0


@pytest.mark.parametrize(
    "picture, message",
    [
        (None, "found None: was its file read"),
        ("me.jpg", "found the path 'me.jpg': image_io.read_photo reads it"),
        (pathlib.Path("a/me.jpg"), "found the path 'a/me.jpg'"),
        (np.zeros((0, 0, 3), np.uint8), r"found an empty array \(0, 0, 3\)"),
        (np.array([]), r"found an empty array \(0,\)"),
        (np.zeros((3, 40, 50)), r"found an array \(3, 40, 50\): np.moveaxis\(image, 0, -1\)"),
        (np.zeros((1, 40, 50, 3)), r"found an array \(1, 40, 50, 3\): one picture at a time"),
        (np.zeros((40, 50, 7)), r"found an array \(40, 50, 7\)"),
        (np.zeros(9), r"found an array \(9,\)"),
        (np.linspace(-1, 1, 12).reshape(2, 2, 3), "from 0 to 255, found float64 from -1 to 1"),
        (np.full((2, 2, 3), 3.0), "found float64 from 3 to 3"),
        (np.full((2, 2, 3), 65535.0), "found float64 from 65535 to 65535"),
        (np.full((2, 2, 3), np.nan), "found float64 from nan to nan"),
        (np.full((2, 2, 3), -7), "found int64 from -7 to -7"),
        (np.full((2, 2, 3), 1j), "found an array of complex128"),
        (np.full((2, 2), "x"), "expected a picture of numbers"),
    ],
)
def test_what_is_no_picture_says_so_in_one_line(picture, message):
    with pytest.raises(ValueError, match=message) as error:
        as_picture(picture)
    assert "\n" not in str(error.value)


def test_integers_are_not_compared_or_resampled_as_if_floats(ramp):
    levels = (ramp * 255).astype(np.uint8)
    for call in (lambda: psnr(levels, levels), lambda: resize(levels, 2, 2)):
        with pytest.raises(ValueError, match="found uint8"):
            call()


def test_integers_of_any_width_are_written_alike(tmp_path, ramp):
    for name, picture in (("8", ramp * 255), ("16", ramp * 65535)):
        write_image(tmp_path / f"{name}.png", np.rint(picture).astype(f"uint{name}"))
        np.testing.assert_allclose(read_photo(tmp_path / f"{name}.png"), ramp, atol=1 / 255)


@pytest.mark.parametrize(
    "picture, message",
    [
        ("me.jpg", "expected a picture .*, found str"),
        (np.zeros((0, 4, 3)), r"found an array \(0, 4, 3\)"),
        (np.full((4, 4, 3), 120.0), "divide it by 255"),
    ],
)
def test_what_would_show_nothing_is_not_written(tmp_path, picture, message):
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / "a.png", picture)
    assert not list(tmp_path.iterdir())
