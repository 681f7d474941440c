import json
import pathlib
import subprocess
import sys

import pytest

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
