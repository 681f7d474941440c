import pytest

from scripts.shell.metrics_io import append_row, read_rows, write_rows

ROWS = [
    {"step": 10, "seconds": 0.1 + 0.2, "loss": 1 / 3},
    {"step": 20, "seconds": 1.0, "loss": 1e-30, "psnr_db": 21.5},
    {"step": 30, "seconds": 2.0, "loss": float("inf")},
]


def test_rows_come_back_exactly_and_the_header_stands_once(tmp_path):
    path = tmp_path / "metrics.csv"
    for number in range(len(ROWS)):
        append_row(path, ROWS[: number + 1])
        assert read_rows(path) == ROWS[: number + 1]
    lines = path.read_text().splitlines()
    assert lines[0] == "step,seconds,loss,psnr_db" and len(lines) == 4
    assert lines[1] == "10,0.30000000000000004,0.3333333333333333,"


def test_rows_written_at_once_are_those_that_were_added_one_by_one(tmp_path):
    for number in range(len(ROWS)):
        append_row(tmp_path / "a.csv", ROWS[: number + 1])
    write_rows(tmp_path / "b.csv", ROWS)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_table_without_rows_can_be_read_and_added_to(tmp_path):
    path = tmp_path / "metrics.csv"
    assert read_rows(path) == []
    write_rows(path, [])
    assert read_rows(path) == []
    append_row(path, ROWS[:1])
    assert read_rows(path) == ROWS[:1]


def test_a_line_that_was_not_written_to_its_end_is_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    write_rows(path, ROWS)
    path.write_text(path.read_text()[:-1])
    assert read_rows(path) == ROWS[:2]


@pytest.mark.parametrize("text", ["step,loss\n1,much\n", "step\n1,2,3\n", "a,b\n1\n"])
def test_another_table_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"expected a table of numbers, .* in {path}"):
        read_rows(path)
