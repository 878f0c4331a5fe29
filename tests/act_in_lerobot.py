"""Loads exported policies in an installed lerobot and acts; run by lerobot's own Python.

    python act_in_lerobot.py JOB.json

JOB has `sizes` (those of the tiny networks, which lerobot knows no names for) and `policies`, each
with `export` (folder), `observation` (npz: state, noise, one array per camera), `prompt`, `result`
(npz to write: actions) and `saved` (folder to make: what lerobot itself saves of the policy).
lerobot only prints when weights do not load, so every tensor of the file is compared with the
loaded model. Known to run with lerobot 0.4.4 to 0.6.1.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from safetensors.torch import load_file

Json = dict[str, Any]


class Bytes:
    """Stands in for PaliGemma's tokenizer: begin-of-sequence 1, byte b is b + 2, padding 0."""

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> dict[str, torch.Tensor]:
        rows = [[1, *(byte + 2 for byte in text.encode())] for text in texts]
        assert max(map(len, rows)) <= max_length
        ids = torch.tensor([row + [0] * (max_length - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (max_length - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": mask}


def shrink(module: Any, sizes: Json) -> None:
    """Makes the library build networks of these sizes."""
    config_class = module.GemmaConfig
    shared = sizes["shared"]
    variants = {"gemma_2b": sizes["vlm"], "gemma_300m": sizes["expert"]}
    module.get_gemma_config = lambda name: config_class(**variants[name], **shared)
    for name in ("PaliGemmaForConditionalGeneration", "GemmaForCausalLM"):
        # lerobot from 0.5 on has its own classes of both.
        for each in (f"{name}WithPiGemma", f"Pi{name}", name):
            if hasattr(module, each):
                setattr(module, each, resized(getattr(module, each), sizes))
                break


def resized(make: Any, sizes: Json) -> Any:
    """The constructor of a network with the sizes that the library has as literals replaced."""

    def build(config: Any, *rest: Any, **named: Any) -> Any:
        """Builds the network."""
        if hasattr(config, "vision_config"):
            for key, value in sizes["vision"].items():
                setattr(config.vision_config, key, value)
            config.text_config.vocab_size = sizes["vocab"]
            config._vocab_size = config.image_token_index = sizes["vocab"]
            config.projection_dim = sizes["vlm"]["width"]
        else:
            config.vocab_size = sizes["vocab"]
        return make(config, *rest, **named)

    return build


def load(folder: Path, sizes: Json) -> tuple[Any, Any]:
    """The policy and its config, every tensor of the file checked."""
    config = PreTrainedConfig.from_pretrained(str(folder))
    module = importlib.import_module(f"lerobot.policies.{config.type}.modeling_{config.type}")
    shrink(module, sizes)
    name = "PI05Policy" if config.type == "pi05" else "PI0Policy"
    policy = getattr(module, name).from_pretrained(str(folder), config=config, strict=True)
    stored = load_file(folder / "model.safetensors")
    loaded = policy.state_dict()
    wrong = sorted(stored.keys() ^ loaded.keys())
    wrong += [key for key in stored if key in loaded and not torch.equal(stored[key], loaded[key])]
    if wrong:
        raise SystemExit(f"{folder}: not loaded: {wrong[:5]}")
    return policy.eval(), config


def act(job: Json, sizes: Json) -> np.ndarray:
    """float32[1, H, e]: actions in the robot's units at a raw observation."""
    folder = Path(job["export"])
    policy, config = load(folder, sizes)
    before, behind = make_pre_post_processors(
        config,
        pretrained_path=str(folder),
        preprocessor_overrides={
            "tokenizer_processor": {"tokenizer": Bytes(), "tokenizer_name": None},
            "device_processor": {"device": "cpu"},
        },
    )
    with np.load(job["observation"]) as file:
        arrays = dict(file)
    noise = torch.tensor(arrays.pop("noise"))
    raw = {"observation.state": torch.tensor(arrays.pop("state")), "task": job["prompt"]}
    for name, image in arrays.items():
        # As lerobot's cameras give them: channels first, between 0 and 1.
        raw[f"observation.images.{name}"] = torch.tensor(image).permute(2, 0, 1) / 255
    batch = before(raw)
    sample = policy.model.sample_actions
    policy.model.sample_actions = lambda *rest, **named: sample(*rest, **named | {"noise": noise})
    with torch.no_grad():
        actions = behind(policy.predict_action_chunk(batch)).numpy()
    save(policy, before, behind, job["saved"])
    return actions


def save(policy: Any, before: Any, behind: Any, folder: str) -> None:
    """Saves a policy as lerobot's training does, with the tokenizer that it had."""
    for step in before.steps:
        if hasattr(step, "tokenizer_name"):
            step.tokenizer, step.tokenizer_name = None, "google/paligemma-3b-pt-224"
    for part in (policy, before, behind):
        part.save_pretrained(folder)


def main() -> None:
    """Runs every policy of the job."""
    job = json.loads(Path(sys.argv[1]).read_text())
    for each in job["policies"]:
        np.savez(each["result"], actions=act(each, job["sizes"]))


if __name__ == "__main__":
    main()
