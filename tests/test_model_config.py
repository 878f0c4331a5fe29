"""Model sizes: what cannot be is refused by name."""

import dataclasses
import json

import pytest
from tiny import CONFIG

from pi0_jax.errors import InputError
from pi0_jax.model.config import PRESETS, ExpertConfig, Pi0Config, VisionConfig, preset
from pi0_jax.plain_values import build


def test_json_round_trip():
    values = json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    assert values["vision"]["patch_size"] == 8
    assert build("model", Pi0Config, values) == CONFIG


def test_tokens_of_an_image():
    assert preset("pi0").vision.num_tokens == 256  # (224 / 14) squared
    assert preset("tiny").vision.num_tokens == 4
    assert preset("pi05").prompt_length == 200
    assert CONFIG.vision.num_tokens == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 4, "num_kv_heads": 3}, "num_heads must be a multiple .* 4 and 3"),
        ({"num_kv_heads": 0}, "Pi0Config.num_kv_heads must be a whole number in .*, got 0"),
        ({"depth": "2"}, "Pi0Config.depth must be a whole number in .*, got '2'"),
        ({"vision": VisionConfig(patch_size=0)}, "VisionConfig.patch_size must be a whole number"),
        ({"head_dim": 5}, r"head_dim must be even \(RoPE\), got 5"),
        ({"action": ExpertConfig(13, 16)}, "action.width must be even, got 13"),
        ({"compute_dtype": "float16"}, "compute_dtype must be one of .* got 'float16'"),
        ({"vision": VisionConfig(image_size=225)}, "image_size must be a multiple .* 225 and 14"),
        ({"vision": VisionConfig(width=100)}, "width must be a multiple .* 100 and 16"),
    ],
)
def test_impossible_sizes(changes, message):
    with pytest.raises(InputError, match=f"model config: .*{message}"):
        dataclasses.replace(CONFIG, **changes)


def test_presets():
    for name in PRESETS:
        assert preset(name).action_dim >= 7, name
    with pytest.raises(InputError, match=r"one of \['pi0', 'pi05', 'tiny', .* got 'pi'"):
        preset("pi")
