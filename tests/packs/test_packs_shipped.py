"""Packs that come with the program: nothing to fetch, checked like every other."""

import pytest
from packs_kit import sha

from facechain.errors import ConfigError, HashMismatch, PackMissing
from facechain.packs import Packs, Verified, read_pack

DATA = b"weights"
MANIFEST = f"""
title = "Small"
role = "base"
family = "f"
shipped = true

[licence]
name = "MIT"
url = "https://example.org"
commercial = "yes"

[[files]]
path = "unet/a.bin"
sha256 = "{sha(DATA)}"
bytes = {len(DATA)}
"""


@pytest.fixture
def configs(tmp_path):
    folder = tmp_path / "configs"
    (folder / "small" / "unet").mkdir(parents=True)
    (folder / "small" / "unet" / "a.bin").write_bytes(DATA)
    (folder / "small.toml").write_text(MANIFEST)
    return folder


@pytest.fixture
def packs(configs, tmp_path):
    return Packs.load(configs, tmp_path / "models", offline=True)


def test_it_is_here_and_verified_without_being_fetched(packs, configs, tmp_path):
    status = packs.status("small")
    assert (status.present, status.verified, status.source) == (True, Verified.YES, "comes with the program")
    assert packs.path("small", "unet/a.bin") == configs.absolute() / "small" / "unet" / "a.bin"
    assert packs.fetch("small") == packs.verify("small") == status
    assert len(packs.revision("small")) == 12
    assert not (tmp_path / "models").exists(), "nothing is copied and nothing recorded"


def test_a_changed_file_is_refused_and_says_how_to_get_it_back(packs, configs):
    (configs / "small" / "unet" / "a.bin").write_bytes(b"changed")
    status = packs.status("small")
    assert (status.present, status.verified) == (True, Verified.NO)
    for use in (packs.fetch, packs.verify, lambda id: packs.path(id, "unet/a.bin")):
        with pytest.raises(HashMismatch, match="restore configs/small from the repository"):
            use("small")


def test_a_missing_file_is_not_here(packs, configs):
    (configs / "small" / "unet" / "a.bin").unlink()
    assert not packs.status("small").present
    for use in (packs.fetch, packs.verify):
        with pytest.raises(PackMissing, match="comes with the program"):
            use("small")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('shipped = "yes"', "shipped is 'yes'"),
        ("shipped = false", "lists no sources"),
        ('shipped = true\nhome = "/"', "the key 'home'"),
    ],
)
def test_what_a_manifest_may_not_say(configs, line, says):
    (configs / "small.toml").write_text(MANIFEST.replace("shipped = true", line))
    with pytest.raises(ConfigError, match=says):
        read_pack(configs / "small.toml")


def test_what_is_shipped_has_no_other_source(configs):
    more = '\n[[sources]]\nkind = "local"\nfolder = "$X"\nmembers = { "unet/a.bin" = "a.bin" }\n'
    (configs / "small.toml").write_text(MANIFEST + more)
    with pytest.raises(ConfigError, match="lists sources though it is shipped"):
        read_pack(configs / "small.toml")
