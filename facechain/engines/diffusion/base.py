"""A Stable Diffusion base, from a diffusers folder or one safetensors file, as a plain diffusers pipeline."""

from __future__ import annotations

import json
import struct
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.layouts import write_layout
from facechain.engines.diffusion.setup import Setup, fit, precision_of
from facechain.errors import EngineError

FAMILIES = ("sd15", "sdxl")
CHANNELS = (4, 9)  # into a UNet: latents, and in inpainting bases also a mask and the latents outside of it
PIPELINES = {"sd15": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
_FIRST_WEIGHT = "model.diffusion_model.input_blocks.0.0.weight"  # of a UNet in one file
_WIDTHS = {768: "sd15", 1024: "sd21", 2048: "sdxl", 1280: "sdxl-refiner"}  # of the text a UNet attends to


# diffusers and transformers make models on no device while they open one, for the whole process: a second thread that
# opens another one meanwhile gets weights that are nowhere.
OPENING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class BaseRef:
    """Where a base lies. `vae` replaces its own; `layout` and `vocabulary` complete a base that is one file."""

    path: Path  # diffusers folder or .safetensors file
    name: str = ""  # as portraits record it; the file's name when empty
    vae: Path | None = None  # diffusers folder or .safetensors file
    layout: Path | None = None  # diffusers folder without weights; the published one when None
    vocabulary: Path | None = None  # CLIP's merges as OpenCLIP ships them; needed when `layout` has no tokenizer
    setup: Setup = field(default_factory=Setup)

    @property
    def title(self) -> str:
        return self.name or self.path.stem


def family_of(path: Path) -> str:
    """ "sd15" or "sdxl". Raises EngineError for anything else, saying what was found."""
    if path.is_dir():
        found = _family_of_folder(path)
    elif path.is_file():
        found = _family_of_file(path)
    else:
        raise EngineError(f"There is no base model at {path}.", "Give a diffusers folder or a .safetensors file.")
    if found not in FAMILIES:
        raise EngineError(f"{path.name} is a base of the family {found}.", f"Known: {', '.join(FAMILIES)}.")
    return found


def channels_of(path: Path) -> int:
    """How many channels go into the base's UNet; more than the latents' 4 if it was made for inpainting."""
    if path.is_dir():
        return int(json.loads((path / "unet" / "config.json").read_text("utf-8")).get("in_channels", 4))
    return safetensors_shapes(path)[_FIRST_WEIGHT][1]


def layout_beside(path: Path) -> Path | None:
    """base.safetensors may have a diffusers folder base/ beside it, which then says what the file is made of."""
    folder = path.with_suffix("")
    return folder if path.is_file() and (folder / "model_index.json").is_file() else None


def _family_of_folder(folder: Path) -> str:
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        unet = json.loads((folder / "unet" / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{folder} is not a diffusers folder: {error}.", "It needs model_index.json.") from None
    if unet.get("in_channels", 4) not in CHANNELS:
        return f"of {unet['in_channels']} input channels"
    if index.get("text_encoder_2", [None])[0] and index.get("text_encoder", [None])[0]:
        return "sdxl"
    if index.get("text_encoder_2", [None])[0]:
        return "sdxl-refiner"
    width = unet.get("cross_attention_dim", 768)
    return "sd21" if width == 1024 else "sd15"


def _family_of_file(path: Path) -> str:
    shapes = safetensors_shapes(path)
    first = shapes.get(_FIRST_WEIGHT)
    if first is None:
        return "other than Stable Diffusion 1.5 and SDXL"
    if first[1] not in CHANNELS:
        return f"of {first[1]} input channels"
    if any(key.startswith("conditioner.embedders.1.") for key in shapes):
        return "sdxl"
    if any(key.startswith("conditioner.embedders.0.model.") for key in shapes):
        return "sdxl-refiner"
    if any(key.startswith("cond_stage_model.transformer.") for key in shapes):
        return "sd15"
    return "sd21" if any(key.startswith("cond_stage_model.model.") for key in shapes) else "unknown"


def safetensors_shapes(path: Path) -> dict[str, list[int]]:
    """Names and shapes of a file's tensors, from its header alone."""
    if path.suffix != ".safetensors":
        raise EngineError(f"{path.name} may run code when opened.", "Convert it to .safetensors first.")
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 100_000_000:
                raise ValueError("the header is too long")
            header = json.loads(file.read(length))
    except (OSError, ValueError, struct.error) as error:
        raise EngineError(f"{path.name} is not a safetensors file: {error}.", "Download it again.") from None
    return {key: value["shape"] for key, value in header.items() if key != "__metadata__"}


def load(base: BaseRef) -> Any:
    """A diffusers pipeline on the right device, in the right precision. Its safety checker stays if it has one."""
    pipe = assemble(base)
    fit(pipe, base.setup)
    return pipe


def assemble(base: BaseRef) -> Any:
    """The pipeline on the CPU, in the setup's precision, nothing else changed."""
    import diffusers

    quiet_libraries()
    family = family_of(base.path)
    dtype = precision_of(base.setup)
    cls = getattr(diffusers, PIPELINES[family])
    with OPENING:
        more = {"vae": _open_vae(base, family, dtype)} if base.vae else {}
        if base.path.is_dir():
            return cls.from_pretrained(base.path, dtype=dtype, local_files_only=True, **more)
        with _layout(base, family) as layout:
            return cls.from_single_file(
                str(base.path), config=str(layout), dtype=dtype, local_files_only=True, disable_mmap=False, **more
            )


@contextmanager
def _layout(base: BaseRef, family: str) -> Iterator[Path]:
    if base.layout is not None:
        yield base.layout
        return
    if base.vocabulary is None:
        raise EngineError(
            f"{base.path.name} holds no vocabulary for its prompts.", "Fetch it: facechain packs fetch clip_vocabulary"
        )
    with tempfile.TemporaryDirectory(prefix="facechain-layout-") as folder:
        noise = _noise_of(safetensors_shapes(base.path))
        yield write_layout(Path(folder), family, base.vocabulary, channels_of(base.path), noise)


def _noise_of(shapes: Mapping[str, list[int]]) -> dict[str, Any]:
    """Bases that answer with a velocity, or learned on pure noise too, are marked by an empty tensor of that name."""
    velocity = {"prediction_type": "v_prediction"} if "v_pred" in shapes else {}
    return velocity | ({"rescale_betas_zero_snr": True} if "ztsnr" in shapes else {})


def _open_vae(base: BaseRef, family: str, dtype: Any) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    assert base.vae is not None
    if base.vae.is_dir():
        return AutoencoderKL.from_pretrained(base.vae, dtype=dtype, local_files_only=True)
    if base.layout is not None:
        return AutoencoderKL.from_single_file(str(base.vae), config=str(base.layout), subfolder="vae", dtype=dtype)
    with tempfile.TemporaryDirectory(prefix="facechain-layout-") as folder:
        layout = write_layout(Path(folder), family, None)
        return AutoencoderKL.from_single_file(str(base.vae), config=str(layout), subfolder="vae", dtype=dtype)


def quiet_libraries() -> None:
    """No progress bars and no false alarms in our own output: errors still show."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
