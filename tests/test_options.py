"""Options are known without loading an engine, and checked before anybody is learned."""

from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import pytest
from pydantic import Field

from facechain import bootstrap
from facechain.engines.table import ENGINES
from facechain.errors import EngineError, UserError
from facechain.params import EngineParams, File, Picture, WeightedFile
from facechain.studio import Studio
from facechain.types import Request

NAMES = sorted(ENGINES)


class Params(EngineParams):
    share: float = Field(default=1.0, ge=0, le=1, description="A share.")
    steps: int = Field(default=30, ge=1, le=200, description="Steps.")
    preset: Literal["soft", "hard"] = Field(default="soft", description="A preset.")
    on: bool = Field(default=False, description="A switch.")
    start: Picture | None = Field(default=None, description="A picture.")
    vae: File = Field(default="", description="A file.")
    lora: tuple[WeightedFile, ...] = Field(default=(), description="Files.")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"step": 3}, "no option 'step'. Did you mean 'steps'"),
        ({"share": 1.5}, "share is 1.5. Expected less than or equal to 1"),
        ({"share": "much"}, "share is 'much'"),
        ({"share": float("inf")}, "share is inf"),
        ({"steps": 2.5}, "steps is 2.5. Expected a valid integer"),
        ({"steps": 0}, "steps is 0"),
        ({"preset": "loud"}, "preset is 'loud'. Expected 'soft' or 'hard'"),
        ({"preset": ["soft"]}, "preset is"),
        ({"on": "perhaps"}, "on is 'perhaps'. Expected a valid boolean"),
        ({"start": "me.png"}, "start is 'me.png', not a picture"),
        ({"vae": "absent.safetensors"}, "There is no 'absent.safetensors'"),
        ({"vae": "x" * 5000}, "There is no"),
        ({"lora": ["absent.safetensors:0.5"]}, "There is no 'absent.safetensors:0.5'"),
    ],
)
def test_a_wrong_option_is_refused_by_name_with_what_was_expected(given, says):
    with pytest.raises(EngineError, match=says):
        Params.parse(given, "This engine")


def test_right_options_pass(tmp_path):
    file = tmp_path / "a.safetensors"
    file.touch()
    given = {"share": 1, "steps": 200, "preset": "hard", "on": 1, "vae": str(file), "lora": [f"{file}:0.5", str(file)]}
    parsed = Params.parse(given, "This engine")
    assert (parsed.on, parsed.steps, len(parsed.lora)) == (True, 200, 2)


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_says_its_options_on_its_card(name):
    card = ENGINES[name].card
    assert all(field.description for field in card.params.model_fields.values()), "every option says what it does"
    assert len(card.params.rows()) >= 3
    with pytest.raises(EngineError, match="'nonsense'"):
        card.params.parse({"nonsense": 5}, card.title)
    assert bool(card.training) == (card.learns == "by training")


def test_a_schema_is_made_once_and_not_for_a_parent():
    class More(Params):
        extra: int = Field(default=1, description="One more.")

    assert Params.json_schema() is Params.json_schema()
    assert "extra" in More.json_schema()["properties"]
    assert "extra" not in Params.json_schema()["properties"]


class Learner:
    """An engine that must not be asked to learn."""

    def __init__(self, card):
        self.card, self.checked = card, []

    def check(self, style, options):
        self.checked.append(options)
        if style.title == "Elsewhere":
            raise EngineError("The style is made for another base.", "Take another.")

    def learn(self, person, tick):
        raise AssertionError("it was learned before its options were checked")

    @contextmanager
    def sitting(self, identity, style):
        raise AssertionError("it was loaded")
        yield


@pytest.fixture
def studio(models, tmp_path, monkeypatch):
    """With one person, and engines that refuse to learn."""
    import store_kit

    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("FACECHAIN_MODELS", str(models))
    bootstrap.studio.cache_clear()
    ours = bootstrap.studio()
    ours.tools.workspace.save_person("ada", store_kit.person(), [])
    tools = replace(ours.tools, engine=lambda name, base, train: Learner(ENGINES[name].card))
    elsewhere = replace(ours.style("astronaut"), template_pack="", title="Elsewhere")
    yield Studio(ours.app, {style.id: style for style in ours.styles()} | {"elsewhere": elsewhere}, tools)
    bootstrap.studio.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_refused_before_anybody_is_learned(studio, name):
    with pytest.raises(UserError, match="'nonsense'"):
        studio.make(Request(people=("ada",), engine=name, options={"nonsense": 5}))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"options": {"strength": 0.5}}, "only with a template or an initial image"),
        ({"options": {"identity_scale": -1}}, "identity_scale is -1"),
        ({"style": "elsewhere"}, "another base"),
    ],
)
def test_nothing_is_trained_for_a_portrait_that_cannot_be_painted(studio, asked, says):
    with pytest.raises(UserError, match=says):
        studio.make(Request(people=("ada",), engine="lora", **asked))


def test_a_training_is_checked_before_it_is_opened(studio):
    with pytest.raises(UserError, match="targets is"):
        studio.train("ada", settings={"targets": ["a"]})


def test_the_create_page_sends_an_engine_its_own_options_and_says_which_fields_it_has_no_use_for():
    from facechain.ui.phrases import Words
    from facechain.ui.tabs.create import suited

    filled = {"Steps": ("steps", 20), "Weight of the face": ("identity_scale", 0.5)}
    assert suited(Words(), ENGINES["lora"].card, filled) == {"steps": 20, "identity_scale": 0.5}
    assert suited(Words(), ENGINES["faceid"].card, filled) == {"steps": 20, "identity_scale": 0.5}
    with pytest.raises(UserError, match="Face shape"):
        suited(Words(), ENGINES["lora"].card, {"Face shape": ("shape", 0.5)})
