import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from render.splat import splat
from scripts.benchmark_splat import SplatSuite, ball, splat_rows

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_benchmark_writes_a_table_that_holds_what_it_prints(tmp_path):
    command = [sys.executable, "-m", "scripts.benchmark", "--num_faces=2", "--peer_faces=1"]
    done = subprocess.run(
        [*command, "--suite=fit", f"--out={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert {"machine", "rows"} == set(report)
    for row in report["rows"]:
        assert set(row) == {"case", "ours", "unit", "peer", "peer_value", "ratio"}
        assert row["ours"] > 0 and row["case"] in done.stdout
        if row["peer"]:
            assert row["ratio"] == pytest.approx(row["peer_value"] / row["ours"])


def test_the_splat_suite_measures_picture_and_gradients_with_a_peer_or_without():
    rows = splat_rows(SplatSuite(cases=((60, 32),), repeats=1, peer_repeats=1))
    assert len(rows) == 4 and all(row.ours > 0 for row in rows)
    with_peer = [row for row in rows if row.peer]
    assert len(with_peer) == 2
    for row in with_peer:
        assert (row.peer_value is None) == (row.ratio is None)


def test_the_torch_peer_draws_the_same_picture():
    torch_splats = pytest.importorskip("scripts.torch_splats", exc_type=ImportError)
    scene, camera = ball(200, 64, seed=0)
    fields = scene.means, scene.quats, scene.log_scales, scene.logit_opacities, scene.harmonics
    theirs = torch_splats._render([torch_splats.torch.tensor(np.array(f)) for f in fields], camera)
    ours = splat(scene, camera, background=(0.0, 0.0, 0.0)).rgb
    # They end at three standard deviations, where as much as 1 % may be left.
    np.testing.assert_allclose(theirs, ours, atol=0.02)
