"""The networks a base is made of: the UNet, the VAE and the text encoders, from folders and from single files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from facechain.engines.diffusion import conventions as by
from facechain.engines.diffusion.conventions import Convention
from facechain.engines.diffusion.layouts import LAYOUTS
from facechain.engines.diffusion.networks import Weights, build, fill, open_folder
from facechain.engines.weights import read_config
from facechain.errors import EngineError

PARTS = {"sd15": ("unet", "text_encoder", "vae"), "sdxl": ("unet", "text_encoder", "text_encoder_2", "vae")}
LATENTS = 4  # channels

_TITLES = {
    "unet": "the UNet",
    "vae": "the VAE",
    "text_encoder": "the text encoder",
    "text_encoder_2": "the second text encoder",
    "safety_checker": "the safety checker",
}
_CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}  # those that a config.json names

# Tensors that files may have beside a network's, as patterns, and why they are of no use.
_SPARE_IN_TEXT = {
    r"(.+\.)?position_ids$": "counted, not learned",
    r"(.+\.)?(text_projection(\.weight)?|logit_scale)$": "for comparing with pictures; read where the encoder has it",
}
_SPARE_IN_VAE = {
    r"(first_stage_model\.)?loss\.": "the discriminator it was trained against",
    r"(first_stage_model\.)?model_ema\.": "an average over its training, beside the weights that are used",
}
_SPARE_IN_FILE = {
    r"model_ema\.": "an average over the training, beside the weights that are used",
    r"(betas|\w*alphas_cumprod\w*|posterior_\w+|logvar|lvlb_weights|denoiser\.sigmas)$": (
        "the noise schedule, which the configuration gives"
    ),
    r"(v_pred|ztsnr)$": "marks of the schedule, read from the header",
    r"embedding_manager\.": "of textual inversion, without effect on other words",
    r"(cond_stage_model|conditioner\.embedders\.\d)\.(.+\.)?(position_ids|logit_scale|text_projection(\.weight)?)$": (
        "as in a text encoder's own file"
    ),
    **_SPARE_IN_VAE,
}
_ANOTHER_VAE = {r"(first_stage_model|vae)\.": "another VAE is used"}
_REST_OF_A_BASE = {r"(model|cond_stage_model|conditioner|denoiser)\.": "of the base whose VAE it is", **_SPARE_IN_FILE}

# part -> the conventions of folders, and what may be left over there
_IN_FOLDERS: Mapping[str, tuple[tuple[Convention, ...], Mapping[str, str]]] = {
    "unet": ((by.same,), {}),
    "vae": ((by.same, by.old_vae), _SPARE_IN_VAE),
    "text_encoder": ((by.clip, by.bare_clip), _SPARE_IN_TEXT),
    "text_encoder_2": ((by.clip, by.bare_clip), _SPARE_IN_TEXT),
    "safety_checker": ((by.checker, by.bare_checker), _SPARE_IN_TEXT),
}


def part_of_folder(part: str, folder: Path, base: str) -> Any:
    """Raises PackMissing, PackError, or EngineError for a part of a kind that no base here has."""
    title = _title(part, base)
    names, spare = _IN_FOLDERS[part]
    stems = ("diffusion_pytorch_model",) if part in _CLASSES else ("model", "pytorch_model")
    return open_folder(lambda config: _make(part, config, title), folder, title, names, spare, stems)


def parts_of_folder(folder: Path, family: str, base: str, own_vae: bool) -> dict[str, Any]:
    """By name; the VAE is None when there is none, or its own is not wanted. Errors are `part_of_folder`'s."""
    nets = {}
    for part in PARTS[family]:
        missing = part == "vae" and not (own_vae and (folder / part).is_dir())
        nets[part] = None if missing else part_of_folder(part, folder / part, base)
    return nets


def parts_of_file(file: Path, family: str, layout: Path, base: str, own_vae: bool) -> dict[str, Any]:
    """As `parts_of_folder`; `layout` has the configurations."""
    weights, nets = Weights.read(file, [file]), {}
    for part in PARTS[family]:
        nets[part] = None
        if part == "vae" and not own_vae:
            continue
        title = _title(part, base)
        config = vae_config(layout, family) if part == "vae" else read_config(layout / part / "config.json")
        net = build(lambda: _make(part, config, title), title)  # noqa: B023 called at once
        if fill(net, weights, _in_file(part, family, net.config), title):
            nets[part] = net
        elif part != "vae":
            raise EngineError(f"{file.name} has no tensor of {title}.", "Give the whole checkpoint.")
    weights.refuse_surplus(base, _SPARE_IN_FILE | ({} if own_vae else _ANOTHER_VAE))
    return nets


def open_vae(path: Path, usual: Mapping[str, Any]) -> Any:
    """An AutoencoderKL from a diffusers folder; or from a file, made as a config.json beside it or `usual` says.

    Raises PackMissing and PackError, or EngineError for what is no VAE of Stable Diffusion.
    """
    if path.is_dir():
        return part_of_folder("vae", path, path.name)
    title, beside = _title("vae", path.name), path.parent / "config.json"
    own = read_config(beside) if beside.is_file() else {}
    config = own if own.get("_class_name") == _CLASSES["vae"] else usual
    net, weights = build(lambda: _make("vae", config, title), title), Weights.read(path, [path])
    if not fill(net, weights, (*_ldm_vae(config, "", "first_stage_model.", "vae."), by.same, by.old_vae), title):
        raise EngineError(f"{path.name} has no VAE.", "Give a diffusers folder or a file with one.")
    weights.refuse_surplus(title, _SPARE_IN_VAE | _REST_OF_A_BASE)
    return net


def _title(part: str, base: str) -> str:
    return f"{_TITLES[part]} of {base}"


def _make(part: str, config: Mapping[str, Any], title: str) -> Any:
    """The network of a part. Raises EngineError when the configuration is of another kind."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    wanted = _CLASSES.get(part, "")
    if (found := config.get("_class_name", wanted)) != wanted and wanted:
        raise EngineError(f"{title} is of the kind {found}.", f"Choose one of the kind {wanted}.")
    given = dict(config)
    makers: Mapping[str, Callable[[], Any]] = {
        "unet": lambda: UNet2DConditionModel.from_config(given),
        "vae": lambda: AutoencoderKL.from_config(given),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig.from_dict(given)),
        "text_encoder_2": lambda: CLIPTextModelWithProjection(CLIPTextConfig.from_dict(given)),
        "safety_checker": lambda: StableDiffusionSafetyChecker(CLIPConfig.from_dict(given)),
    }
    net: Any = makers[part]()
    if part == "vae" and (channels := net.config.latent_channels) != LATENTS:
        raise EngineError(f"{title} makes latents of {channels} channels.", f"Choose one of {LATENTS}.")
    return net


def _in_file(part: str, family: str, config: Any) -> tuple[Convention, ...]:
    first = "cond_stage_model.transformer." if family == "sd15" else "conditioner.embedders.0.transformer."
    if part == "unet":
        return (by.under("model.diffusion_model.", by.ldm_unet(config)),)
    if part == "vae":
        return _ldm_vae(config, "first_stage_model.", "vae.")
    if part == "text_encoder":
        return (by.under(first, by.clip), by.under(first, by.bare_clip))
    return (by.under("conditioner.embedders.1.model.", by.open_clip),)


def _ldm_vae(config: Mapping[str, Any], *prefixes: str) -> tuple[Convention, ...]:
    return tuple(by.under(prefix, by.ldm_vae(len(config["block_out_channels"]))) for prefix in prefixes)


def vae_config(layout: Path, family: str) -> Mapping[str, Any]:
    """Of a base's folder, or as published."""
    file = layout / "vae" / "config.json"
    return read_config(file) if file.is_file() else published_vae(family)


def published_vae(family: str) -> Mapping[str, Any]:
    return LAYOUTS[family]["vae/config.json"]
