"""LIBERO imported with assets of our choice: neither its settings nor an earlier task choose."""

import shutil
from pathlib import Path

from naive_libero import KIT
from skips import needs_libero

from pi0_jax.env.base import Job
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.robosuite.libero import libero_tasks
from pi0_jax.env.workers.pool import SimulatorPool

pytestmark = needs_libero


def read(simulator) -> set[str]:
    """Job function: the files of the objects, and the folder of the scene."""
    objects = simulator._env.objects_dict.values()
    return {simulator._env.custom_asset_dir, *(thing.file for thing in objects)}


def test_each_task_reads_its_own_assets_in_one_process(tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(KIT, copy)
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "config.yaml").write_text('{"assets": "/nowhere"}')
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(settings))
    with SimulatorPool(1, 120, renderer=choose_renderer()) as pool:
        for folder in (KIT, copy):
            options = {"image_size": 8, "pictures": "coarse"}
            (task,) = libero_tasks("libero_object", (0,), str(folder), **options)
            (files,) = pool.map([Job(task, read)])
            assert len(files) > 5
            assert all(Path(file).is_relative_to(folder) for file in files), files
