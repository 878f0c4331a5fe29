"""The conversion benchmark runs, at a size that takes seconds."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from checkpoints import TINY

from pi0_jax.model.config import pi0


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """bench/conversion.py, which is no package."""
    path = Path(__file__).resolve().parents[1] / "bench/conversion.py"
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("bench_convert", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_convert"] = module
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_the_full_size_checkpoint_is_the_published_one(bench: ModuleType) -> None:
    shapes = bench.tensors(pi0())
    # 776 weights (the embedding once, as lm_head) and the expert's unused word table.
    assert len(shapes) == 777
    assert shapes["paligemma_with_expert.paligemma.lm_head.weight"] == (257152, 2048)


def test_shards_are_filled_up_to_their_limit(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "SHARD_BYTES", 8000)
    monkeypatch.setattr(bench, "_POOL", 1000)
    size = bench.make_checkpoint(tmp_path / "s", TINY)
    shards = sorted((tmp_path / "s").glob("*.safetensors"))
    assert len(shards) > 2 and size == sum(file.stat().st_size for file in shards)


def test_the_table_shows_each_step_beside_the_copy(bench: ModuleType) -> None:
    rows = [bench.Measured("plain copy", 2.0), bench.Measured("convert", 5.0, 3 * 10**9)]
    table = bench.report(rows).splitlines()
    assert table[1].split() == ["plain", "copy", "2.0", "1.00"]
    assert table[2].split() == ["convert", "5.0", "2.50", "3.00", "GB"]


def test_a_failing_converter_stops_the_benchmark(bench: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="failed with status 2"):
        bench.command("convert.jax_to_flax", str(tmp_path / "none"), str(tmp_path / "x"))
