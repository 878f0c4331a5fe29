"""Of transformers: pictures must be pi0's, statistics are read, all else is an error by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.models.pi0.image_processing_pi0 import PI0ImageProcessor
from transformers.models.pi0.processing_pi0 import PI0Processor

from pi0_jax.convert.settings.torch_config import read_config
from pi0_jax.convert.settings.transformers_processor import (
    PROCESSOR,
    check_pictures,
    read_processor,
)
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


@pytest.fixture
def processor(tmp_path: Path) -> dict[str, Any]:
    """What the library itself writes, and reads again."""
    words = models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), unk_token="<unk>", bos_token="a", pad_token="a"
    )
    pictures = PI0ImageProcessor()
    pictures.image_seq_length = 4
    made = PI0Processor(
        pictures, tokenizer, state_mean=[1.0, 2.0], state_std=[0.5, 3.0],
        actions_mean=[4.0], actions_std=[5.0], max_state_dim=8,
    )  # fmt: skip
    made.save_pretrained(tmp_path)
    return json.loads((tmp_path / "processor_config.json").read_text())


def test_its_statistics_are_read(tmp_path: Path, processor: dict[str, Any]) -> None:
    found = read_processor(tmp_path)
    assert found.padded_dim == 8 and found.statistics is not None
    assert list(found.statistics.state.mean) == [1.0, 2.0]
    assert list(found.statistics.state.std) == [0.5, 3.0]
    assert list(found.statistics.actions.mean) == [4.0]
    assert list(found.statistics.actions.std) == [5.0]
    config = read_config(tmp_path)
    assert config.statistics is not None and config.statistics.where.endswith(PROCESSOR)
    assert config.sizes == {f"{PROCESSOR} max_state_dim": ("action_dim", 8)}
    # Without any, as the library lets it be made.
    (tmp_path / PROCESSOR).write_text('{"processor_class": "PI0Processor", "state_mean": null}')
    assert read_processor(tmp_path).statistics is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state_std": None}, "statistics without state_std; a policy needs all four"),
        (
            {"state_mean": None, "state_std": None},
            "statistics without state_mean, state_std;",
        ),
        ({"state_mean": [1.0]}, "of different widths"),
        ({"actions_std": [-1.0]}, "statistics of action: "),
        ({"actions_std": "1.0"}, "actions_std is '1.0', expected a list of finite numbers"),
        ({"state_clip": 3.0}, "state_clip .3.0. is unknown"),
        ({"processor_class": "OtherProcessor"}, "processor_class is 'OtherProcessor'"),
    ],
)
def test_what_it_may_not_say(
    tmp_path: Path, processor: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    (tmp_path / PROCESSOR).write_text(json.dumps(processor | change))
    with pytest.raises(InputError, match=message):
        read_processor(tmp_path)


def test_its_statistics_beside_another_librarys_config(
    tmp_path: Path, processor: dict[str, Any]
) -> None:
    (tmp_path / "config.json").write_text('{"action_dim": 8}')
    with pytest.raises(InputError, match=r"state_mean, .* its own config.json, and nobody here"):
        read_config(tmp_path)
    without = {key: value for key, value in processor.items() if "_mean" not in key}
    without = {key: value for key, value in without.items() if "_std" not in key}
    (tmp_path / PROCESSOR).write_text(json.dumps(without))
    assert read_config(tmp_path).statistics is None


def test_pictures_are_checked_without_a_config(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.485, 0.456, 0.406]}')
    with pytest.raises(InputError, match="image_mean is"):
        read_config(tmp_path)
