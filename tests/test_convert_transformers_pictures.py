"""Pictures of transformers: the settings of its own PI0 pass, others are an error by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers.models.pi0.image_processing_pi0 import PI0ImageProcessor

from pi0_jax.convert.settings.transformers_pictures import check_pictures
from pi0_jax.errors import InputError


@pytest.mark.parametrize("nested", [False, True])
def test_its_defaults_pass(tmp_path: Path, nested: bool) -> None:
    values: dict[str, Any] = {
        "image_mean": list(PI0ImageProcessor.image_mean), "image_std": [0.5, 0.5, 0.5],
        "rescale_factor": 0.00392156862745098, "do_normalize": True, "size": {"height": 224},
    }  # fmt: skip
    name = "processor_config.json" if nested else "preprocessor_config.json"
    (tmp_path / name).write_text(json.dumps({"image_processor": values} if nested else values))
    check_pictures(tmp_path)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("image_mean", [0.485, 0.456, 0.406], "image_mean is"),
        ("do_normalize", False, "do_normalize is False, pi0_jax computes True"),
        ("do_center_crop", True, "do_center_crop is True"),
    ],
)
def test_other_numbers_are_an_error(
    tmp_path: Path, setting: str, value: object, message: str
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({setting: value}))
    with pytest.raises(InputError, match=message):
        check_pictures(tmp_path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text('{"image_processor": 3}')
    with pytest.raises(InputError, match="image_processor is 3, expected an object"):
        check_pictures(tmp_path)
    (tmp_path / "processor_config.json").write_text("[1]")
    with pytest.raises(InputError, match="expected a JSON object"):
        check_pictures(tmp_path)
