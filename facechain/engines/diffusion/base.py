"""A Stable Diffusion base, from a diffusers folder or one weight file, as a plain diffusers pipeline."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.family import channels_of, class_of, family_of
from facechain.engines.diffusion.layouts import write_layout
from facechain.engines.diffusion.networks import refused
from facechain.engines.diffusion.parts import open_vae, part_of_folder, parts_of_file, parts_of_folder, vae_config
from facechain.engines.diffusion.setup import Setup, fit, precision_of
from facechain.engines.weights import read_config, read_shapes, weight_files
from facechain.errors import EngineError, PackMissing

log = logging.getLogger(__name__)

PIPELINES = {"sd15": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
TOKENIZERS = {"sd15": ("tokenizer",), "sdxl": ("tokenizer", "tokenizer_2")}


@dataclass(frozen=True, kw_only=True)
class BaseRef:
    """Where a base lies. `vae` replaces its own; `layout` and `vocabulary` complete a base that is one file."""

    path: Path  # diffusers folder or weight file
    name: str = ""  # as portraits record it; the file's name when empty
    vae: Path | None = None  # diffusers folder or weight file
    layout: Path | None = None  # diffusers folder without weights; the published one when None
    vocabulary: Path | None = None  # CLIP's merges as OpenCLIP ships them; needed when `layout` has no tokenizer
    setup: Setup = field(default_factory=Setup)

    @property
    def title(self) -> str:
        return self.name or self.path.stem


def layout_beside(path: Path) -> Path | None:
    """base.safetensors may have a diffusers folder base/ beside it, which then says what the file is made of."""
    folder = path.with_suffix("")
    return folder if path.is_file() and (folder / "model_index.json").is_file() else None


def load(base: BaseRef) -> Any:
    """A diffusers pipeline on the right device, in the right precision. Its safety checker stays if it has one."""
    pipe = assemble(base)
    fit(pipe, base.setup)
    return pipe


def assemble(base: BaseRef) -> Any:
    """The pipeline on the CPU, in the setup's precision, nothing else changed.

    Raises PackError or PackMissing for what is damaged or not there, EngineError for what is no base or has no
    VAE.
    """
    import diffusers

    quiet_libraries()
    family, dtype = family_of(base.path), precision_of(base.setup)
    with _layout(base, family) as layout:
        index = read_config(layout / "model_index.json")
        parts = {name: _tokenizer(layout / name, base) for name in TOKENIZERS[family]}
        own_vae = base.vae is None
        if base.path.is_dir():
            nets = parts_of_folder(base.path, family, base.title, own_vae)
        else:
            nets = parts_of_file(base.path, family, layout, base.title, own_vae)
        if base.vae is not None:
            nets["vae"] = open_vae(base.vae, vae_config(layout, family))
        if nets["vae"] is None:
            raise no_vae()
        parts |= nets | {"scheduler": _scheduler(layout, class_of(index, "scheduler"), base)}
        if family == "sd15":
            parts |= _safety(base.path, class_of(index, "safety_checker"), base)
        else:
            parts["force_zeros_for_empty_prompt"] = bool(index.get("force_zeros_for_empty_prompt", True))
    for net in (*nets.values(), parts.get("safety_checker")):
        if net is not None:
            net.to(dtype)
    return getattr(diffusers, PIPELINES[family])(**parts)


def no_vae() -> EngineError:
    return EngineError("This base has no VAE, which makes pictures of latents.", "Name one: --set vae=FOLDER or FILE.")


@contextmanager
def _layout(base: BaseRef, family: str) -> Iterator[Path]:
    """A folder with the configuration and the tokenizers."""
    if base.path.is_dir() or base.layout is not None:
        yield base.path if base.layout is None else base.layout
        return
    if base.vocabulary is None:
        raise EngineError(
            f"{base.path.name} holds no vocabulary for its prompts.", "Fetch it: facechain packs fetch clip_vocabulary"
        )
    with tempfile.TemporaryDirectory(prefix="facechain-layout-") as folder:
        noise = _noise_of(read_shapes(base.path))
        yield write_layout(Path(folder), family, base.vocabulary, channels_of(base.path), noise)


def _noise_of(shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Bases that answer with a velocity, or learned on pure noise too, are marked by an empty tensor of that name."""
    velocity = {"prediction_type": "v_prediction"} if "v_pred" in shapes else {}
    return velocity | ({"rescale_betas_zero_snr": True} if "ztsnr" in shapes else {})


def _tokenizer(folder: Path, base: BaseRef) -> Any:
    from transformers import CLIPTokenizer

    if not any((folder / file).is_file() for file in ("vocab.json", "tokenizer.json")):
        raise PackMissing(f"{base.title} has no {folder.name}/vocab.json.", "Download the folder again.")
    with refused(f"{folder.name} of {base.title}"):
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _scheduler(layout: Path, name: str, base: BaseRef) -> Any:
    import diffusers

    config = read_config(layout / "scheduler" / "scheduler_config.json")
    cls = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if cls is None:
        raise EngineError(
            f"{base.title} has a scheduler of the unknown kind {name!r}.", "Correct its model_index.json."
        )
    with refused(f"scheduler/scheduler_config.json of {base.title}"):
        return cls.from_config(config)


def _safety(folder: Path, named: str, base: BaseRef) -> dict[str, Any]:
    """The base's own checker, where it has one. Our guard looks at every portrait, with and without."""
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if not named or not folder.is_dir():
        return none
    checker = folder / "safety_checker"
    if not (weight_files(checker, "model") or weight_files(checker, "pytorch_model")):
        log.warning("%s names a safety checker that is not there: it is left out.", base.title)
        return none
    from transformers import CLIPImageProcessor

    net = part_of_folder("safety_checker", checker, base.title)
    with refused(f"feature_extractor of {base.title}"):
        extractor = CLIPImageProcessor.from_pretrained(folder / "feature_extractor", local_files_only=True)
    return {"safety_checker": net, "feature_extractor": extractor, "requires_safety_checker": True}


def quiet_libraries() -> None:
    """No progress bars and no false alarms in our own output: errors still show."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
