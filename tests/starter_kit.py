"""The pack `starter` in a configuration of its own, with few steps: an untrained family, or the shipped one."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

from facechain import bootstrap
from facechain.packs import read_pack

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "configs" / "packs" / "starter.toml"
SHIPPED = not any(file.unverified for file in read_pack(MANIFEST).files)
FAMILIES = ["untrained", *(["shipped"] if SHIPPED else [])]
QUICK = {
    **{"steps": 3, "batch": 1, "validate_every": 3, "checkpoint_every": 3},
    **{"validation_pictures": 1, "validation_steps": 1, "validation_guidance": 2.5},
}


ship = runpy.run_path(str(ROOT / "scripts" / "ship_starter"))["main"]


def untrained(folder: Path) -> Path:
    """A run's folder as training leaves it, with an IdentityNet whose output layers are not zero."""
    import torch

    from facechain.lab import family

    preset = family.PRESETS["test"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        family.write_tokenizer(folder / "tokenizer", family.WORDS.split())
        unet, vae = family.new_unet(preset), family.new_vae(preset)
        text, net = family.new_text(preset, family.read_tokenizer(folder / "tokenizer")), family.new_identitynet(unet)
        for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
            torch.nn.init.normal_(layer.weight, std=0.2)
        family.write_family(folder / "starter", vae, unet, text, folder / "tokenizer", net)
    return folder


def configured(folder: Path, kind: str) -> Path:
    """A copy of the configuration whose default base is this family, painted in 2 steps and trained in 3."""
    configs = folder / "configs"
    shutil.copytree(bootstrap.CONFIGS, configs)
    said = configs / "packs" / "starter" / "facechain.toml"
    text = re.sub(r"(?m)^steps = 25$", "steps = 2", said.read_text("utf-8"))
    train = "".join(f"{name} = {value}\n" for name, value in QUICK.items())
    text = re.sub(r"(?s)(\[train\]\n).*?(?=\n\[)", rf"\g<1>{train}", text)
    said.write_text(text, "utf-8")
    ship(untrained(folder / "run") if kind == "untrained" else None, configs / "packs")
    app = configs / "app.toml"
    app.write_text(re.sub(r'(?m)^base = "\w*"', 'base = "starter"', app.read_text("utf-8")), "utf-8")
    return configs
