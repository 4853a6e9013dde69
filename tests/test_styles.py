"""Every look in configs/styles keeps the promises looks make; a new file is tested by being there."""

import re
from pathlib import Path

import pytest

from facechain.config import read_styles
from facechain.engines.diffusion.prompts import AGES, fill, noun
from facechain.engines.diffusion.samplers import SAMPLERS, read_fast
from facechain.engines.diffusion.words import parse
from facechain.types import Style

CONFIGS = Path(__file__).parent.parent / "configs"
STYLES = read_styles(CONFIGS)
PAINTED = {id: style for id, style in STYLES.items() if not style.template_pack}

# Judgements of looks, origins and undress have no place in a look that anybody may wear.
UNWANTED = re.compile(
    r"\b(beautiful|beauty|pretty|gorgeous|sexy|handsome|attractive|perfect skin|flawless|nude|naked|nudity|nsfw|"
    r"topless|lingerie|bikini|caucasian|asian|african|european|latina|latino|hispanic|arab|indian|chinese|korean|"
    r"white skin|black skin|dark skin|fair skin|pale skin|slim|skinny|young|girl|boy|man|woman|male|female)\b"
)
GROUPS = {"portrait", "headshot", "id photo", "film", "period", "regional dress", "art", "season", "profession"}


def test_there_are_enough_in_every_group():
    assert len(PAINTED) >= 40
    assert {style.group for style in PAINTED.values()} == GROUPS


@pytest.mark.parametrize("style", PAINTED.values(), ids=PAINTED)
def test_look(style: Style):
    assert style.title
    assert style.licence
    assert style.revision
    assert "{person}" in style.prompt
    assert style.negative
    assert set(style.ages) == set(AGES)
    assert style.sampler in SAMPLERS
    assert style.steps is not None
    assert 1 <= style.steps <= 60
    assert style.guidance is not None
    assert 0 <= style.guidance <= 12
    assert style.width_px % 64 == style.height_px % 64 == 0
    for lora in style.loras:
        assert (CONFIGS / "packs" / f"{lora.pack}.toml").is_file()
        assert 0 < lora.scale <= 1.5


@pytest.mark.parametrize("style", PAINTED.values(), ids=PAINTED)
@pytest.mark.parametrize("age", ["", *AGES])
def test_words(style: Style, age: str):
    words = fill(style.prompt, f"ohwx {noun(age)}", age, style.ages)
    assert not re.search(r"[{}]", words)
    assert "ohwx" in words
    assert parse(words) == ((words, 1.0),)
    said = f"{style.title}, {words}, {style.negative}".lower()
    assert not UNWANTED.search(said), UNWANTED.search(said)


def test_the_subject_takes_the_place_of_whoever_is_named():
    assert (
        fill("photo of an adult with short hair, park", "ohwx person") == "photo of ohwx person with short hair, park"
    )
    assert fill("a park, ", "ohwx person") == "portrait photo of ohwx person, a park"
    assert fill("", "ohwx person") == "portrait photo of ohwx person"


def test_no_two_looks_are_one():
    assert len({style.title for style in STYLES.values()}) == len(STYLES)
    assert len({style.prompt for style in PAINTED.values()}) == len(PAINTED)


def test_fast_modes():
    modes = read_fast(CONFIGS / "fast")
    assert set(modes) == {"lcm", "lightning", "hyper", "turbo"}
    assert modes["turbo"].lora("sdxl") == ""
    for mode in modes.values():
        assert mode.steps <= 8
        assert mode.guidance <= 2


def test_fast_modes_name_packs_that_exist():
    from facechain.packs import read_packs

    packs = read_packs(CONFIGS / "packs")
    for mode in read_fast(CONFIGS / "fast").values():
        for family in ("sd15", "sdxl"):
            if named := getattr(mode, f"lora_{family}"):
                pack, file = named.split("/", 1)
                assert packs[pack].family == family
                assert packs[pack].file(file) is not None
