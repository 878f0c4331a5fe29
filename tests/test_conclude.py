"""The end of a run: results as text, the report, and an error where nothing was measured."""

from pathlib import Path

import pytest

from pi0_jax.apps.conclude import conclude
from pi0_jax.apps.evaluate import check_measured
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.success import Row


def run_with(path: Path, *rows: Row) -> RunFolder:
    run = RunFolder(path, {}, resume=False)
    run.put_rows(list(rows))
    return run


def test_the_results_are_told_and_the_report_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    conclude(run_with(tmp_path / "run", Row("sft", "base", "lift", 1.0, 3, 4)))
    said = capsys.readouterr().err
    assert "75.0" in said and "3/4" in said
    report = tmp_path / "run" / "report.html"
    assert f"report {report}" in said
    assert "75" in report.read_text()


def test_a_run_of_errors_alone_has_measured_nothing(tmp_path: Path):
    nothing = Row("eval", "policy", "lift", 1.0, 0, 0)
    with pytest.raises(RuntimeError, match="nothing was measured"):
        check_measured(run_with(tmp_path / "none", nothing))
    lost = Row("eval", "policy", "door", 1.0, 0, 1)
    check_measured(run_with(tmp_path / "some", nothing, lost))
