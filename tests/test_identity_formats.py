"""The tables of every published checkpoint reproduce its tensor count, parameter count and file size."""

from pathlib import Path

import pytest
import torch

from facechain.engines.identity import checkpoint, formats, naming, parts
from facechain.engines.identity.formats import parameters
from facechain.engines.identity.layout import SD15, SDXL, Layout

# builder, base, tensors, parameters, bytes a number, file bytes; from the published pages
PUBLISHED = {
    "InstantID": ("instantid", SDXL, 191, 422_765_824, 4, 1_691_134_141),
    "faceid_sd15": ("faceid", SD15, 294, 48_354_816, 2, 96_700_000),
    "faceid-plus_sd15": ("faceid_plus", SD15, 344, 78_260_736, 2, 156_558_503),
    "faceid-plusv2_sd15": ("faceid_plus", SD15, 344, 78_260_736, 2, 156_558_509),
    "portrait_sd15": ("portrait", SD15, 38, 32_291_328, 2, 64_586_611),
    "portrait-v11_sd15": ("portrait", SD15, 38, 32_291_328, 2, 64_586_623),
    "faceid_sdxl": ("faceid", SDXL, 1266, 535_507_968, 2, 1_071_149_741),
    "faceid-plusv2_sdxl": ("faceid_plus", SDXL, 1316, 743_707_648, 2, 1_487_555_181),
    "portrait_sdxl": ("portrait", SDXL, 146, 374_903_808, 2, 749_822_515),
    "portrait_sdxl_unnorm": ("instantid", SDXL, 191, 422_765_824, 2, 845_552_136),
    "PuLID v1": ("pulid_v1", SDXL, 250, 395_673_600, 4, 1_580_000_000),
    "PuLID v1.1": ("pulid_v11", SDXL, 312, 492_185_600, 2, 984_000_000),
    "Arc2Face text": ("arc2face_text", SD15, 196, 123_060_480, 4, 492_000_000),
}
# Sizes that are published in three digits only: how far off the whole number may be.
ROUNDED = {"PuLID v1": 5_000_000, "PuLID v1.1": 500_000, "Arc2Face text": 500_000}


def on_meta(shapes):
    return {key: torch.empty(shape, device="meta", dtype=torch.float16) for key, shape in shapes.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_and_sizes_match_the_published_files(name):
    builder, layout, tensors, numbers, width, file_bytes = PUBLISHED[name]
    made = on_meta(getattr(formats, builder)(layout))
    assert len(made) == tensors
    assert sum(t.numel() for t in made.values()) == numbers
    assert abs(numbers * width - file_bytes) < ROUNDED.get(name, 1e-3 * file_bytes)


EVERY = {builder: layout for builder, layout, *_ in PUBLISHED.values()}
EVERY |= {"photomaker_v1": SDXL, "photomaker_v2": SDXL, "fact": SD15, "transface": None, "eva_clip": None}


@pytest.mark.parametrize("builder", EVERY)
def test_the_loader_names_and_passes_files_of_the_published_sizes(builder):
    layout, path = EVERY[builder], Path("published.bin")
    shapes = getattr(formats, builder)(*([layout] if layout else []))
    assert naming.structure_of(shapes, path) == builder
    checkpoint._check_keys(builder, shapes, layout or SD15, path)
    if layout:
        checkpoint._check_family(builder, shapes, layout, "")
        with pytest.raises(checkpoint.EngineError, match=f"the base is {'sdxl' if layout == SD15 else 'sd15'}"):
            checkpoint._check_family(builder, shapes, SDXL if layout == SD15 else SD15, "")


def test_identitynet_is_an_ordinary_sdxl_controlnet():
    from facechain.engines.identity.identitynet import IdentityNet

    with torch.device("meta"):
        net = IdentityNet(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            attention_head_dim=(5, 10, 20),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    weights = net.state_dict()
    assert len(weights) == 844
    assert sum(weight.numel() for weight in weights.values()) == 1_251_014_160


# ── files of other projects, which are named and not painted with ────────────────────────────────────────────────────


def consistentid(layout: Layout, projector: str = "image_proj") -> parts.Shapes:
    width = layout.context
    plus = formats.faceid_plus(layout)
    shapes = {
        key.replace("image_proj", projector).replace("ip_adapter", "adapter_modules"): s for key, s in plus.items()
    }
    seen = parts.resampler(dim=1024, depth=8, inner=1024, emb=1280, out=width, queries=1)
    shapes |= parts.under("FacialEncoder.visual_projection.", seen)
    return shapes | parts.under("FacialEncoder.fuse_module.", parts.fuse(width))


def infinite_you() -> parts.Shapes:
    return parts.under("image_proj.", parts.resampler(dim=1280, depth=4, inner=1280, emb=512, out=4096, queries=8))


def pulid_flux() -> parts.Shapes:
    shapes: parts.Shapes = {"latents": (1, 32, 1024), "proj_out": (1024, 2048)} | parts.perceiver_layers(1024, 10, 1024)
    for n in range(5):
        shapes |= parts.mapping(f"mapping_{n}", 1024, 1024, 1024)
    shapes |= parts.mapping("id_embedding_mapping", 1280, 1024, 5 * 1024)
    shapes = parts.under("pulid_encoder.", shapes)
    for n in range(20):
        layer = parts.norm("norm1", 2048) | parts.norm("norm2", 3072) | {"to_q.weight": (2048, 3072)}
        layer |= {"to_kv.weight": (4096, 2048), "to_out.weight": (3072, 2048)}
        shapes |= parts.under(f"pulid_ca.{n}.", layer)
    return shapes


def w_plus() -> parts.Shapes:
    shapes = {f"w_proj.proj_{n}.weight": (768, 3072 if n == 3 else 2048) for n in range(4)}
    shapes |= parts.under("w_proj.", parts.norm("norm", 768))
    shapes |= parts.under("wplus_adapter.", parts.injection(SD15, "to_k_wplus", "to_v_wplus"))
    return shapes | {f"wplus_adapter.{2 * k + 1}.to_q_wplus.weight": (w, w) for k, (_, w) in enumerate(SD15.blocks)}


@pytest.mark.parametrize(
    ("shapes", "tensors", "numbers", "title"),
    [
        (consistentid(SD15), 453, 184_033_024, "ConsistentID"),
        (consistentid(SDXL, "image_proj_model"), 1425, 868_832_256, "ConsistentID"),
        (infinite_you(), 51, 84_595_968, "InfiniteYou"),
        (pulid_flux(), 312, 571_033_600, "PuLID for FLUX"),
        (w_plus(), 54, 38_639_104, "w-plus-adapter"),
    ],
)
def test_files_of_other_projects_have_the_published_counts_and_are_refused_by_name(shapes, tensors, numbers, title):
    assert (len(shapes), parameters(shapes)) == (tensors, numbers)
    with pytest.raises(checkpoint.EngineError, match=title):
        naming.structure_of(shapes, Path("x.bin"))


def test_the_first_unnorm_file_mixed_precisions():
    shapes = formats.instantid(SDXL)
    projector = {key: shape for key, shape in shapes.items() if key.startswith("image_proj.")}
    size = parameters(projector) * 4 + (parameters(shapes) - parameters(projector)) * 2
    assert abs(size / 1_009_523_411 - 1) < 1e-3


@pytest.mark.parametrize(
    ("builder", "tensors", "numbers"), [("photomaker_v1", 407, 326_273_024), ("photomaker_v2", 463, 543_395_840)]
)
def test_photomaker_has_an_encoder_and_rank_64_loras(builder, tensors, numbers):
    shapes = getattr(formats, builder)(SDXL)
    encoder = {key: shape for key, shape in shapes.items() if key.startswith("id_encoder.")}
    assert (len(encoder), parameters(encoder)) == (tensors, numbers)
    loras = {key: shape for key, shape in shapes.items() if key not in encoder}
    assert (len(loras), parameters(loras)) == (1120, 92_897_280)


def test_eva02_clip_large_has_304_million_numbers():
    shapes = formats.eva_clip()
    assert round(parameters(shapes) / 1e6, 1) == 304.4
    assert shapes["visual.pos_embed"] == (1, 577, 1024)
    assert shapes["visual.head.weight"] == (768, 1024)


def test_fact_has_about_208_and_47_million_numbers():
    shapes = formats.fact(SD15)
    gates = parameters({key: shape for key, shape in shapes.items() if ".processor." in key})
    assert round(gates / 1e6) == 208
    assert round((parameters(shapes) - gates) / 1e6) == 47


def test_layouts_number_processors_like_diffusers():
    """The index of the first cross-attention of each block, as the published files number them."""
    first = {}
    for k, (path, width) in enumerate(SDXL.blocks):
        first.setdefault(path.split(".transformer_blocks")[0], (2 * k, width))
    assert first == {
        "down_blocks.1.attentions.0": (0, 640),
        "down_blocks.1.attentions.1": (4, 640),
        "down_blocks.2.attentions.0": (8, 1280),
        "down_blocks.2.attentions.1": (28, 1280),
        "up_blocks.0.attentions.0": (48, 1280),
        "up_blocks.0.attentions.1": (68, 1280),
        "up_blocks.0.attentions.2": (88, 1280),
        "up_blocks.1.attentions.0": (108, 640),
        "up_blocks.1.attentions.1": (112, 640),
        "up_blocks.1.attentions.2": (116, 640),
        "mid_block.attentions.0": (120, 1280),
    }


def test_layouts_equal_those_read_from_full_size_unets():
    from diffusers import UNet2DConditionModel

    from facechain.engines.identity.attention import layout_of

    with torch.device("meta"):
        small = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        large = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(5, 10, 20),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    assert layout_of(small) == SD15
    assert layout_of(large) == SDXL
