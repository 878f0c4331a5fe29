"""config.json of transformers: what changes the forward pass must be what pi0_jax computes."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import GOLDENS

from pi0_jax.convert.settings.torch_config import read_config
from pi0_jax.errors import InputError

GOLDEN = GOLDENS / "tiny_pi0_torch_transformers"


def test_the_reference_data() -> None:
    found = read_config(GOLDEN)
    assert found.heads == (8, 1, 4)
    assert found.depths == {"depth": 2, "vision_depth": 2}
    assert found.sizes["dit_config.hidden_size"] == ("action_width", 32)
    assert found.is_transformers and found.notes == ()


def changed(folder: Path, key: str, value: Any) -> Path:
    """The reference config with one entry set, such as "dit_config.hidden_act"."""
    values = json.loads((GOLDEN / "config.json").read_text())
    *parts, last = key.split(".")
    place = values
    for part in parts:
        place = place[part]
    place[last] = value
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_period", 8.0, "max_period is 8.0, pi0_jax computes 4.0"),
        ("dit_config.hidden_act", "silu", "dit_config.hidden_act is 'silu'"),
        ("dit_config.rms_norm_eps", 1e-5, "dit_config.rms_norm_eps is 1e-05"),
        ("vlm_config.text_config.attention_bias", True, "text_config.attention_bias is True"),
        ("dit_config.rope_parameters.rope_theta", 1e6, "rope_parameters.rope_theta is 1000000.0"),
        ("vlm_config.vision_config.layer_norm_eps", 1e-5, "vision_config.layer_norm_eps is 1e-05"),
        ("dit_config.num_hidden_layers", 3, "num_hidden_layers is 2 in text_config and 3"),
        ("dit_config.sliding_window", 4, r"dit_config.sliding_window \(4\) is unknown"),
        ("model_type", "pi05", "the library has no pi0.5"),
    ],
)
def test_another_computation_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config(changed(tmp_path, key, value))


def test_other_flow_steps_are_said(tmp_path: Path) -> None:
    assert "5 flow steps" in read_config(changed(tmp_path, "num_inference_steps", 5)).notes[0]
