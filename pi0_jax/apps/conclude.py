"""The end of a run with a simulator: its results as text, and its report."""

from pi0_jax.report.page import write_report
from pi0_jax.run.folder import RESULTS, RunFolder
from pi0_jax.run.success import table


def conclude(run: RunFolder) -> None:
    """Tells the results, and writes the report."""
    text = "\n".join([table(run.rows), *map(str, run.paired)])
    run.message(f"results in {run.path}\n\n{text}\n", RESULTS)
    run.message(f"report {write_report(run.path)}", RESULTS)
