"""Methods on experiments: what is written, what a missed face leaves, how far the work is."""

import contextlib

import numpy as np
import pytest

from recon import evaluate
from recon.evaluation import methods, protocol
from recon.evaluation.experiments import Angles
from recon.evaluation.experiments_io import read_experiment, read_results, write_experiment
from recon.evaluation.protocol import Protocol

pytestmark = pytest.mark.compiles


FEW = Protocol(num_faces=2, yaw=Angles((-20.0, 20.0)), components=5, detector="exact")
(MEAN,) = methods.rows([evaluate.MEAN_FACE])


@pytest.fixture(scope="module")
def subject():
    return protocol.load_subject(FEW)


@pytest.mark.slow
def test_each_stage_says_how_far_it_is(tmp_path, subject):
    stages = []

    @contextlib.contextmanager
    def record(label, total=None):
        steps = []
        yield lambda: steps.append(label)
        stages.append((label, total, len(steps)))

    protocol.make_experiments(tmp_path, FEW, subject, record)
    methods.run_method(tmp_path, MEAN, FEW, subject, record)
    assert stages == [("experiments: 2 faces", 2, 2), ("mean: 4 fits", 4, 4)]
    methods.run_method(tmp_path, MEAN, FEW, subject, record)
    assert len(stages) == 2  # all is there already


def test_a_view_without_a_face_leaves_its_row_empty_and_no_other(tmp_path, subject):
    protocol.make_experiments(tmp_path, FEW, subject)
    first = protocol.experiment_paths(tmp_path)[0]
    methods.run_method(tmp_path, MEAN, FEW, subject)
    results = tmp_path / "results" / "mean" / first.name
    whole = read_results(results)
    assert {"identity", "rotation", "seconds", *methods.METRICS} <= set(whole)
    one = read_experiment(first)
    xy = np.array(one.xy)
    xy[0] = np.nan
    write_experiment(first, one.replace(xy=xy))
    results.unlink()
    methods.run_method(tmp_path, MEAN, FEW, subject)
    holed = read_results(results)
    assert np.isnan(holed["rotation"][0]).all() and np.isnan(holed["vertex_mm"][0])
    for name in set(whole) - {"seconds"}:
        np.testing.assert_allclose(holed[name][1], whole[name][1], rtol=1e-4, atol=1e-5)


def test_no_face_in_any_view_is_said(tmp_path, subject):
    protocol.make_experiments(tmp_path, FEW, subject)
    for path in protocol.experiment_paths(tmp_path):
        one = read_experiment(path)
        write_experiment(path, one.replace(xy=np.full_like(one.xy, np.nan)))
    with pytest.raises(RuntimeError, match=r"expected a face found in some view of .*, found none"):
        methods.run_method(tmp_path, MEAN, FEW, subject)


def test_modes_beyond_the_models_own_are_noted():
    subject = protocol.load_subject(Protocol(components=61, detector="exact"))
    assert subject.notes == ("modes 61 to 61 are made up: the model has 60",)
