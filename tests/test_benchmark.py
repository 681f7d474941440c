import importlib.util
import json
import pathlib
import subprocess
import sys

import commands
import numpy as np
import pytest

from render.splat import splat
from scripts.benchmarks import measuring, mpm_suite, nerf_suite
from scripts.benchmarks.mpm_suite import MpmSuite, mpm_rows
from scripts.benchmarks.nerf_suite import NerfSuite, nerf_rows
from scripts.benchmarks.splat_suite import SplatSuite, ball, splat_rows
from scripts.benchmarks.stylegan_suite import StyleganSuite, stylegan_rows
from scripts.shell import command

pytestmark = pytest.mark.compiles

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_benchmark_writes_a_table_that_holds_what_it_prints(tmp_path):
    arguments = "--num_faces=2", "--peer_faces=1", "--suite=fit", f"--out={tmp_path}"
    done = commands.run_alone("benchmark", *arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert {"machine", "rows"} == set(report)
    for row in report["rows"]:
        assert set(row) == {"case", "ours", "unit", "peer", "peer_value", "ratio"}
        assert row["ours"] > 0 and row["case"] in done.stdout
        if row["peer_value"] is not None:
            assert row["ratio"] == pytest.approx(row["peer_value"] / row["ours"])


@pytest.mark.slow
def test_the_splat_suite_measures_picture_and_gradients_with_a_peer_or_without():
    rows = list(splat_rows(SplatSuite(cases=((60, 32),), repeats=1, peer_repeats=1)))
    assert len(rows) == 4 and all(row.ours > 0 for row in rows)
    with_peer = [row for row in rows if row.peer]
    assert len(with_peer) == 2
    for row in with_peer:
        assert (row.peer_value is None) == (row.ratio is None)


def test_the_torch_peer_draws_the_same_picture():
    torch_splats = pytest.importorskip("scripts.benchmarks.torch_splats", exc_type=ImportError)
    scene, camera = ball(200, 64, seed=0)
    fields = scene.means, scene.quats, scene.log_scales, scene.logit_opacities, scene.harmonics
    theirs = torch_splats._render([torch_splats.torch.tensor(np.array(f)) for f in fields], camera)
    ours = splat(scene, camera, background=(0.0, 0.0, 0.0)).rgb
    # They end at three standard deviations, where as much as 1 % may be left.
    np.testing.assert_allclose(theirs, ours, atol=0.02)


@pytest.mark.slow
def test_the_stylegan_suite_holds_a_peer_against_the_same_pictures():
    """Where the peer is installed, the suite itself refuses pictures that are not ours."""
    suite = StyleganSuite(16, 64, 8, w_dim=6, batches=(2,), repeats=1, peer_repeats=1)
    rows = list(stylegan_rows(suite))
    assert [row.unit for row in rows] == ["ms", "CPU-ms", "ms", "CPU-ms"]
    assert all(row.ours > 0 for row in rows) and all(row.peer for row in rows[1::2])
    for row in rows[1::2]:
        assert (row.peer_value is None) == (importlib.util.find_spec("torch") is None)


CUBE = ("neo_hookean", 200, 12)
SMALL_MPM = MpmSuite(
    cases=(CUBE,),
    num_substeps=3,
    repeats=1,
    gradient_case=CUBE,
    num_gradient_steps=3,
    growth=(200,),  # as above: compiled already
    growth_nodes=12,
    growth_repeats=1,
)


@pytest.mark.slow
def test_the_mpm_suite_measures_steps_gradients_memory_and_growth(monkeypatch):
    asked = []

    def peer(name, law, count, nodes, suite, num_gradient_steps=0):
        asked.append((name, num_gradient_steps))
        return {}

    monkeypatch.setattr(mpm_suite, "_peer", peer)
    monkeypatch.setattr(mpm_suite, "compile_anew", lambda: None)  # it would last
    rows = list(mpm_rows(SMALL_MPM))
    assert asked == [("warp", 0), ("taichi", 0), ("warp", 3)]
    assert [(row.unit, row.peer) for row in rows] == [
        *[("ms", None), ("CPU-ms", "warp"), ("m", "warp"), ("CPU-ms", "taichi"), ("m", "taichi")],
        *[("CPU-ms", None), ("CPU-ms", None)],
        *[("ms", None), ("CPU-ms", "warp"), ("MB", None), ("m", "warp")],
    ]
    assert all(row.peer_value is None and row.ratio is None for row in rows)
    assert all(row.ours > 0 for row in rows if row.unit != "m")
    # Half a cell and half the cube above the ground, and six steps of the fall.
    assert rows[2].ours == pytest.approx(3.5 / 12 + 0.2 - 6 * 2e-4, abs=0.02)


def test_a_peer_whose_cube_falls_otherwise_is_a_failure_of_one_line():
    compare = mpm_suite._compare
    compare("warp", "mean height", 0.2336, None, 1e-3)
    compare("warp", "mean height", 0.2336, 0.2340, 1e-3)
    for theirs in (0.2350, float("nan")):
        with pytest.raises(command.WorkFailed, match="mean height of warp within"):
            compare("warp", "mean height", 0.2336, theirs, 1e-3)


def test_a_peer_that_fails_says_why_and_one_that_is_missing_has_no_value(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert mpm_suite._peer("warp", *CUBE, SMALL_MPM) == {}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(command.WorkFailed, match=r"time of absent, found .*absent_mpm"):
        mpm_suite._peer("absent", *CUBE, SMALL_MPM)
    with pytest.raises(command.WorkFailed, match=r"time of absent, found .*nowhere/python"):
        measuring.run_peer("absent", "absent_mpm", {}, np.zeros(3), "nowhere/python")


@pytest.mark.slow
def test_the_nerf_suite_measures_steps_beside_a_peer_that_starts_alike(monkeypatch):
    suite = NerfSuite(
        rays=64, samples=4, few_samples=4, levels=2, log2_entries=(8,), repeats=1, stretches=1
    )
    beams = nerf_suite.draw_beams(suite)
    step, state = nerf_suite.field_step(suite, 8)
    *state, first = step(*state, beams)
    assert step(*state, beams)[2] < first  # it learns
    answers = iter([{}, {"milliseconds": 7.0, "loss": 1.1 * float(first)}, {"loss": 2.0}])
    monkeypatch.setattr(nerf_suite, "_peer", lambda *_: next(answers))
    alone = list(nerf_rows(suite))
    assert [row.unit for row in alone] == ["ms", "CPU-ms", "CPU-ms", "CPU-ms"]
    assert [row.peer_value for row in alone] == [None, None, 500.0, 500.0]
    assert all(row.ours > 0 for row in alone)
    assert next(row for row in nerf_rows(suite) if row.peer).peer_value == 7.0
    with pytest.raises(command.WorkFailed, match="first loss of nerfstudio within 20%"):
        list(nerf_rows(suite))


@pytest.mark.command
def test_compiled_anew_means_that_nothing_is_read_from_disk_or_kept_there(tmp_path):
    code = """
import jax, sys
from scripts.benchmarks import measuring
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
found = []
jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
for prepare in (jax.clear_caches, measuring.compile_anew):
    prepare()
    found.clear()
    jax.jit(lambda x: 2 * x)(1.0)
    print(any(name.endswith("/compile_requests_use_cache") for name in found))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.slow
@pytest.mark.parametrize("law", ["neo_hookean", "jelly"])
@pytest.mark.parametrize("name", ["warp", "taichi"])
def test_the_simulators_let_the_cube_fall_alike(name, law):
    pytest.importorskip(name)
    suite = MpmSuite(num_substeps=50, repeats=2)
    case = law, 2000, 16
    theirs = mpm_suite._peer(name, *case, suite)
    ours = mpm_suite._fall(mpm_suite._cube(2000, 16, 0), law, 150, 16)
    assert theirs["milliseconds"] > 0
    np.testing.assert_allclose(theirs["height"], ours.x[:, 2].mean(), atol=1e-5)
