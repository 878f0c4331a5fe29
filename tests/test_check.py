"""`python -m pi0_jax.check`: one line per thing, and an exit code that a script can ask."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import episode

from pi0_jax.apps.check import main
from pi0_jax.errors import InputError
from pi0_jax.io.digests import write_digests
from pi0_jax.io.episodes import save_episodes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with digests, and an episode file."""
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/config.json").write_text("{}")
    write_digests(tmp_path / "policy")
    save_episodes(tmp_path / "episodes/a.npz", [episode(2, [0])])
    return tmp_path


def test_whole_and_damaged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = f"whole   {run}/policy\nwhole   {run}/episodes/a.npz\n"
    assert main([str(run)]) == 0
    assert capsys.readouterr().out == whole
    (run / "policy/config.json").write_text("[]")
    (run / "episodes/a.npz").write_text("")
    assert main([str(run)]) == 1
    assert capsys.readouterr().out == (
        f"DAMAGED {run}/policy: config.json\nDAMAGED {run}/episodes/a.npz: not what was written\n"
    )
    assert main(["--renew", str(run / "policy")]) == 0
    (run / "policy/digests.json").write_text("{")
    assert main([str(run)]) == 1
    assert "policy/digests.json: expected JSON" in capsys.readouterr().out


def test_wrong_arguments(tmp_path: Path) -> None:
    for arguments in ([], ["a", "b"], [str(tmp_path / "nowhere")], [str(tmp_path)]):
        with pytest.raises(InputError):
            main(arguments)


def test_as_a_program(run: Path) -> None:
    """It imports no jax: a check of a folder starts at once."""
    code = "import runpy, sys; sys.argv[1:] = [sys.argv[1]]\n"
    code += "try: runpy.run_module('pi0_jax.check', run_name='__main__')\n"
    code += "except SystemExit as end: assert end.code == 0 and 'jax' not in sys.modules"
    command = [sys.executable, "-c", code, str(run)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"whole   {run}/policy\nwhole   {run}/episodes/a.npz\n"
