"""Files of contour paths: what is written is read again, and what does not fit is refused."""

import json

import numpy as np
import pytest

from recon import assets
from recon.contour_paths.paths_io import read_paths, write_paths


@pytest.fixture(scope="module")
def model():
    return assets.load_model()


@pytest.fixture
def written(model, tmp_path):
    path = tmp_path / "paths.json"
    write_paths(path, model, model.path_vertices, model.path_weights)
    return path


def test_what_is_written_is_read_again(model, written):
    corners, weights = read_paths(written, model)
    assert corners.dtype == np.int32 and weights.dtype == np.float32
    np.testing.assert_array_equal(corners, model.path_vertices)
    np.testing.assert_allclose(weights, model.path_weights, atol=1e-7)
    data = json.loads(written.read_text())
    assert data["model"] == model.name and data["num_vertices"] == len(model.mean)


def test_rounded_weights_are_made_to_sum_to_one(model, written):
    data = json.loads(written.read_text())
    for path in data["paths"]:
        path["barycentric"] = np.round(path["barycentric"], 4).tolist()
    written.write_text(json.dumps(data))
    _, weights = read_paths(written, model)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-6)


def one_point(data, field, values):
    data["paths"][3][field][2] = values


REFUSED = {  # what is done to the file, and what the line says
    "other mesh": (
        lambda d: d.update(num_vertices=7),
        "on a model of 4070 vertices, found 7",
    ),
    "no mesh": (lambda d: d.pop("num_vertices"), "found None"),
    "no paths": (lambda d: d.pop("paths"), "expected a list named 'paths'"),
    "missing": (lambda d: d["paths"].pop(4), r"found none at \[4\]"),
    "twice": (lambda d: d["paths"][5].update(landmark=4), "one path at landmark 4, found two"),
    "no landmark": (
        lambda d: d["paths"][5].update(landmark=17),
        "from 0 to 16, found 17",
    ),
    "no entry": (lambda d: d["paths"].append(3), "landmarks from 0 to 16, found None"),
    "no vertex": (lambda d: one_point(d, "vertices", [0, 1, 4070]), "path 3: .* found 4070"),
    "negative": (lambda d: one_point(d, "vertices", [0, 1, -1]), "path 3: .* found -1"),
    "half vertex": (lambda d: one_point(d, "vertices", [0, 1, 2.5]), "path 3: .* found 2.5"),
    "sum": (lambda d: one_point(d, "barycentric", [0.5, 0.5, 0.1]), "sum to 1, found 1.1"),
    "below 0": (lambda d: one_point(d, "barycentric", [1.5, -0.5, 0]), "from 0 to 1, found -0.5"),
    "no number": (lambda d: one_point(d, "barycentric", [1, None, 0]), "three numbers in 'bary"),
    "ragged": (lambda d: one_point(d, "barycentric", [1, 0]), "three numbers in 'barycentric'"),
    "short": (lambda d: d["paths"][3]["vertices"].pop(), "path 3: .* found 9 and 10"),
    "uneven": (
        lambda d: [d["paths"][3][field].pop() for field in ("vertices", "barycentric")],
        r"as many points each, found \[9, 10\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_does_not_fit_is_refused_in_one_line(model, written, case):
    break_it, message = REFUSED[case]
    data = json.loads(written.read_text())
    break_it(data)
    written.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message) as caught:
        read_paths(written, model)
    assert str(written) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"paths": 3}'])
def test_other_files_are_refused(model, tmp_path, content):
    path = tmp_path / "paths.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected"):
        read_paths(path, model)
    with pytest.raises(ValueError, match="found nothing at"):
        read_paths(tmp_path / "none.json", model)
