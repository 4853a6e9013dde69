"""Every identity engine over small random bases, and what their tests compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny_identity as tiny
import torch

from facechain.engines.arc2face import Arc2FaceEngine
from facechain.engines.diffusion.base import BaseRef
from facechain.engines.diffusion.session import DiffusionContext
from facechain.engines.diffusion.words import Encoder
from facechain.engines.faceid import FaceIdEngine, PortraitParams
from facechain.engines.fact import FactEngine
from facechain.engines.instantid import InstantIdEngine
from facechain.engines.photomaker import PhotoMakerEngine
from facechain.engines.pulid import CARD, CARD_V1, PulidEngine

UNIT = tiny.FakeReader("w600k_r50", unit_norm=True)
RAW = tiny.FakeReader("glintr100", unit_norm=False)


SD15 = Path(__file__).parent.parent / "configs" / "packs" / "starter"  # what base it is decides nothing here


class Opened:
    """A model cache that holds one pipeline already."""

    def __init__(self, pipeline, controlnet=None):
        self._pipeline, self._controlnet = pipeline, controlnet

    def pipeline(self, base):
        return self._pipeline()

    def controlnet(self, path, pipe):
        return self._controlnet()


def context(pipeline, controlnet=None):
    """What engines are handed, for a pipeline that `pipeline()` gives."""
    return DiffusionContext(
        base=lambda: BaseRef(path=SD15),
        models=Opened(pipeline, controlnet),
        controlnet=lambda kind, family, named: Path(kind),
    )


def clip_folder(folder):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def faceid(name, structure, family="sd15", **more):
    def make(folder, base):
        file = tiny.save(folder / name, tiny.weights(structure, tiny.layout(base())))
        reader = tiny.FakeReader("w600k_r50", unit_norm="unnorm" not in name)
        clip = clip_folder(folder / "clip") if "plus" in structure else None
        return FaceIdEngine(context=context(base), checkpoint=file, reader=reader, clip=clip, **more)

    return family, make


def instantid(folder, base):
    file = tiny.save(folder / "ip-adapter.bin", tiny.weights("instantid", tiny.layout(base())))
    return InstantIdEngine(context=context(base), checkpoint=file, identitynet=tiny.identitynet(folder), reader=RAW)


def photomaker(version):
    def make(folder, base):
        flat = tiny.weights(f"photomaker_{version}", tiny.layout(base()))
        flat["id_encoder.fuse_module.layer_norm.weight"] *= 30  # one word among 77 must show in so small a model
        reader = tiny.FakeReader("w600k_r50", unit_norm=False)
        return PhotoMakerEngine(
            context=context(base), checkpoint=tiny.save(folder / f"photomaker-{version}.bin", flat), reader=reader
        )

    return make


def pulid(structure):
    def make(folder, base):
        flat = tiny.weights(structure, tiny.layout(base()))
        tower = tiny.save(folder / "eva.pt", tiny.weights("eva_clip"))
        file, card = tiny.save(folder / "pulid.safetensors", flat), CARD_V1 if structure == "pulid_v1" else CARD
        return PulidEngine(context=context(base), checkpoint=file, reader=RAW, tower=tower, card=card)

    return make


def fact(folder, base):
    file = tiny.save(folder / "film.ckpt", tiny.weights("fact", tiny.layout(base())))
    return FactEngine(
        context=context(base), checkpoint=file, transface=tiny.save(folder / "tf.pt", tiny.weights("transface"))
    )


def arc2face_text(pipe):
    """Shapes of a text encoder that fits this pipeline's."""
    return tiny.formats.arc2face_text(
        tiny.layout(pipe), layers=2, mlp=1152, vocabulary=len(pipe.tokenizer), positions=77
    )


def arc2face(folder, base):
    file = tiny.save(folder / "pytorch_model.pt", tiny.filled(arc2face_text(base())))
    return Arc2FaceEngine(context=context(base), text_encoder=file, reader=tiny.FakeReader("arcface", True))


# name -> the base it paints on, and how it is built
ENGINES = {
    "faceid": faceid("ip-adapter-faceid_sd15.bin", "faceid"),
    "faceid-xl": faceid("ip-adapter-faceid_sdxl.bin", "faceid", "sdxl"),
    "plus": faceid("ip-adapter-faceid-plus_sd15.bin", "faceid_plus"),
    "plusv2": faceid("ip-adapter-faceid-plusv2_sdxl.bin", "faceid_plus", "sdxl"),
    "portrait": faceid("ip-adapter-faceid-portrait_sd15.bin", "portrait", params=PortraitParams),
    "unnorm": faceid("ip-adapter-faceid-portrait_sdxl_unnorm.bin", "instantid", "sdxl"),
    "instantid": ("sdxl", instantid),
    "photomaker-v1": ("sdxl", photomaker("v1")),
    "photomaker-v2": ("sdxl", photomaker("v2")),
    "pulid-v1": ("sdxl", pulid("pulid_v1")),
    "pulid-v1.1": ("sdxl", pulid("pulid_v11")),
    "fact": ("sd15", fact),
    "arc2face": ("arc2face", arc2face),
}


def bases(folder):
    """One pipeline for each family; Arc2Face's is as wide as a face vector needs."""
    return {"sd15": tiny.sd15(folder), "sdxl": tiny.sdxl(folder), "arc2face": tiny.sd15(folder, context=576)}


def off(name):
    """Options that turn the face off."""
    return {"scale": 0.0} | ({"control_scale": 0.0} if name == "instantid" else {})


def quick(name):
    """Options under which the face shows after few steps."""
    # PhotoMaker's face comes in after the first step, and the last step changes little.
    return {"merge_after": 0, "steps": 3} if "photomaker" in name else {}


def plain(pipe, shot):
    """What the base paints by itself."""
    made = pipe(
        **Encoder(pipe).encode(shot.prompt, shot.negative).arguments(),
        width=64,
        height=64,
        num_inference_steps=2,
        guidance_scale=shot.options["guidance"],
        generator=torch.Generator("cpu").manual_seed(shot.seed),
        output_type="np",
    ).images[0]
    return (made * 255).round().astype(np.uint8)


def marks(pipe):
    """Everything a sitting may touch: tensors, their places, processors, modules."""
    nets = [pipe.unet, pipe.text_encoder, pipe.vae]
    tensors = {
        f"{n}.{k}": (v, v.clone(), v.data_ptr()) for n, net in enumerate(nets) for k, v in net.state_dict().items()
    }
    return tensors, dict(pipe.unet.attn_processors), list(pipe.unet.modules()), dict(pipe.unet.config)


def assert_untouched(pipe, before):
    tensors, processors, modules, config = before
    now = marks(pipe)
    assert now[0].keys() == tensors.keys()
    for key, (_, copy, place) in tensors.items():
        assert now[0][key][2] == place
        assert torch.equal(now[0][key][0], copy)
    assert now[1] == processors
    assert all(a is b for a, b in zip(now[2], modules, strict=True))
    assert now[3] == config
