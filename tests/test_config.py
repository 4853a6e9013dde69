"""Settings as people write them: name=value, on the command line and in a batch's table."""

import re
from pathlib import Path

import pytest

from facechain.config import read_app, settings
from facechain.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def test_settings_are_read_as_json_where_they_are():
    said = [
        "strength=0.8",
        "fast=lcm",
        "mix=true",
        " control = openpose,canny:0.7",
        "words=a=b",
        "deep=" + "[" * 100_000,
    ]
    assert settings(said) == {
        "strength": 0.8,
        "fast": "lcm",
        "mix": True,
        "control": "openpose,canny:0.7",
        "words": "a=b",
        "deep": "[" * 100_000,
    }


def test_every_repeated_lora_counts():
    assert settings(["lora=a.safetensors:0.5"]) == {"lora": "a.safetensors:0.5"}
    assert settings(["lora=a:0.5", "steps=3", "lora=b", "lora=c"]) == {"lora": ["a:0.5", "b", "c"], "steps": 3}
    assert settings(['lora=["a", "b"]', "lora=c"]) == {"lora": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("said", "says"), [(["steps=3", "steps=4"], "steps is given twice"), (["steps"], "'steps'"), (["=3"], "'=3'")]
)
def test_settings_nobody_can_obey_are_refused(said, says):
    with pytest.raises(UserError, match=says):
        settings(said)


def test_the_former_name_of_the_judges_still_works(tmp_path):
    text = (ROOT / "configs" / "app.toml").read_text("utf-8")
    (tmp_path / "app.toml").write_text(re.sub(r"(?m)^judges = .*$", 'judge = "dlib"', text), "utf-8")
    assert read_app(tmp_path).judges == ("dlib",)
