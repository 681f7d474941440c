"""StyleGAN2 in NumPy, float64, one picture at a time and with a kernel for each: what tests expect.

Nothing is fast here, and nothing is shared with the networks under test but the parameters' names.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

TAPS = np.array([1.0, 3.0, 3.0, 1.0]) / 8.0


def correlated(x, kernel, pad):
    """Correlation of [H, W, I] with [k, k, I, O] among zeros."""
    x = np.pad(x, [(pad, pad), (pad, pad), (0, 0)])
    windows = sliding_window_view(x, kernel.shape[:2], (0, 1))
    return np.tensordot(windows, kernel, ([3, 4, 2], [0, 1, 2]))


def filtered(x, pad, gain=1.0):
    channels = x.shape[-1]
    kernel = np.einsum("a,b,io->abio", TAPS, TAPS, gain * np.eye(channels))
    return correlated(x, kernel, pad)


def transposed_twin(x, kernel):
    """Each pixel of [H, W, I] lays its share of a kernel [3, 3, I, O] at twice its place."""
    height, width, _ = x.shape
    y = np.zeros((2 * height + 1, 2 * width + 1, kernel.shape[-1]))
    for i in range(height):
        for j in range(width):
            y[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("i,abio->abo", x[i, j], kernel)
    return y


def upsampled_twin(x):
    between = np.zeros((2 * x.shape[0] + 3, 2 * x.shape[1] + 3, x.shape[2]))
    between[2:-1:2, 2:-1:2] = x  # two zeros before, one more than those between after
    return filtered(between, 0, 4.0)


def down_twin(x, kernel):
    if kernel.shape[0] == 1:
        return correlated(filtered(x, 1)[::2, ::2], kernel, 0)
    return correlated(filtered(x, 2), kernel, 0)[::2, ::2]


def leaky(x, gain=1.0, clamp=np.inf):
    return np.clip(np.where(x > 0, x, 0.2 * x) * np.sqrt(2) * gain, -clamp * gain, clamp * gain)


def dense(layer, x, rate=1.0):
    return x @ layer["weight"] * rate / np.sqrt(len(layer["weight"])) + layer["bias"] * rate


def unit(x):
    return x / np.sqrt(np.mean(x**2) + 1e-8)


def mapped_twin(mapping, z, c, rate):
    """The latent [w_dim] of z [z_dim] and labels [c_dim], either of which may be None."""
    parts = ([] if z is None else [unit(z)]) + (
        [] if c is None else [unit(dense(mapping["embed"], c))]
    )
    x = np.concatenate(parts)
    for layer in sorted(name for name in mapping if name.startswith("fc")):
        x = leaky(dense(mapping[layer], x, rate))
    return x


def styled_twin(layer, x, w, noise, clamp, is_up):
    kernel = layer["weight"] * dense(layer["affine"], w)[:, None]
    kernel = kernel / np.sqrt(np.sum(kernel**2, (0, 1, 2)) + 1e-8)
    x = filtered(transposed_twin(x, kernel), 1, 4.0) if is_up else correlated(x, kernel, 1)
    return leaky(x + layer["noise_strength"] * noise[..., None] + layer["bias"], clamp=clamp)


def painted_twin(layer, x, w, clamp):
    styles = dense(layer["affine"], w) / np.sqrt(x.shape[-1])
    return np.clip(
        correlated(x, layer["weight"] * styles[:, None], 0) + layer["bias"], -clamp, clamp
    )


def generated_twin(synthesis, ws, noise, clamp):
    """What the blocks give, (features, picture) by resolution, of latents [L, w_dim]."""
    outputs, x, image, layer = {}, None, None, 0
    for resolution in sorted(int(name[1:]) for name in synthesis):
        block, field = synthesis[f"b{resolution}"], noise[f"b{resolution}"]
        if x is None:
            x = block["const"]
        else:
            x = styled_twin(block["conv0"], x, ws[layer], field["conv0"], clamp, is_up=True)
            layer += 1
        x = styled_twin(block["conv1"], x, ws[layer], field["conv1"], clamp, is_up=False)
        layer += 1
        share = painted_twin(block["torgb"], x, ws[layer], clamp)
        image = share if image is None else upsampled_twin(image) + share
        outputs[resolution] = x, image
    return outputs


def plain_twin(layer, x, clamp, gain=1.0, is_down=False):
    kernel = layer["weight"] / np.sqrt(np.prod(layer["weight"].shape[:3]))
    x = down_twin(x, kernel) if is_down else correlated(x, kernel, len(kernel) // 2)
    if "bias" not in layer:  # what passes a block by
        return gain * x
    return leaky(x + layer["bias"], gain, clamp)


def deviation_twin(images, group_size):
    """One number for each picture's features [N, H, W, C]."""
    count = len(images)
    groups = count // group_size
    numbers = []
    for n in range(count):
        group = images[n % groups :: groups]
        numbers.append(np.mean(np.sqrt(np.mean((group - group.mean(0)) ** 2, 0) + 1e-8)))
    return np.array(numbers)


def judged_twin(params, images, c, group_size, clamp, rate):
    """Logits [N] of pictures [N, H, W, 3] and labels [N, c_dim], or None."""
    features = []
    for x in images:
        resolution = x.shape[0]
        x = plain_twin(params[f"b{resolution}"]["fromrgb"], x, clamp)
        while resolution > 4:
            block, half = params[f"b{resolution}"], np.sqrt(0.5)
            kept = plain_twin(block["skip"], x, clamp, half, is_down=True)
            x = plain_twin(block["conv0"], x, clamp)
            x = kept + plain_twin(block["conv1"], x, clamp, half, is_down=True)
            resolution //= 2
        features.append(x)
    logits, end = [], params["b4"]
    for n, number in enumerate(deviation_twin(np.stack(features), group_size)):
        x = np.concatenate([features[n], np.full((4, 4, 1), number)], -1)
        x = plain_twin(end["conv"], x, clamp)
        x = leaky(dense(end["fc"], np.moveaxis(x, -1, 0).ravel()))
        x = dense(end["out"], x)
        if c is None:
            logits.append(x[0])
        else:
            label = mapped_twin(params["mapping"], None, c[n], rate)
            logits.append(x @ label / np.sqrt(len(label)))
    return np.array(logits)
