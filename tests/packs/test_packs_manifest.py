"""What a manifest may say, and that every one in the repository says it."""

import re
from pathlib import Path

import pytest

from facechain.errors import ConfigError
from facechain.packs import Licence, Pack, combination, read_pack, read_packs
from facechain.packs.manifest import GithubSource, HubSource, NpmSource, PypiSource

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "packs"

GOOD = """
title = "A model"
role = "detector"
family = "tiny"

[licence]
name = "MIT"
url = "https://example.org/licence"
commercial = "yes"

[[files]]
path = "a.onnx"
sha256 = "{sha}"
bytes = 3

[[sources]]
kind = "hub"
repo = "owner/name"
revision = "{rev}"
members = {{ "a.onnx" = "deep/a.onnx" }}
""".format(sha="ab" * 32, rev="12" * 20)


def write(folder: Path, text: str, name: str = "tiny.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_manifest_becomes_a_pack_named_by_its_file(tmp_path):
    pack = read_pack(write(tmp_path, GOOD))
    assert pack.id == "tiny"
    assert pack.bytes == 3
    assert pack.sources == (HubSource(repo="owner/name", revision="12" * 20, members={"a.onnx": "deep/a.onnx"}),)
    assert not pack.opt_in


def test_a_size_that_others_tell_is_shown_and_tells_what_is_not_known(tmp_path):
    told = re.sub(r"sha256 = .*\nbytes = 3", "about_bytes = 2_500\nunverified = true", GOOD)
    pack = read_pack(write(tmp_path, told))
    assert (pack.bytes, pack.sized, pack.files[0].bytes) == (2_500, True, 0)
    unknown = read_pack(write(tmp_path, told.replace("about_bytes = 2_500\n", "")))
    assert (unknown.bytes, unknown.sized) == (0, False)


def test_non_commercial_is_opt_in(tmp_path):
    assert read_pack(write(tmp_path, GOOD.replace('"yes"', '"no"'))).opt_in


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('role = "detector"', 'rol = "detector"', "rol"),
        ('title = "A model"', "", "title"),
        ('title = "A model"', 'title = "A model"\nid = "other"', "id"),
        ("bytes = 3", "bytes = 3\nshaa = 1", "shaa"),
        ("bytes = 3", "bytes = 3\nabout_bytes = 4", "about_bytes"),
        ("bytes = 3", "bytes = 0", "bytes"),
        ("bytes = 3", 'bytes = "3"', "bytes"),
        ("ab" * 32, "ab" * 31, "64 hex"),
        ("ab" * 32, "AB" * 32, "64 hex"),
        (f'sha256 = "{"ab" * 32}"', "", "unverified = true"),
        ("bytes = 3", "bytes = 3\nunverified = true", "unverified"),
        ("12" * 20, "main", "commit"),
        ("12" * 20, "12" * 19, "commit"),
        ("owner/name", "name", "repository"),
        ('kind = "hub"', 'kind = "torrent"', "torrent"),
        ('kind = "hub"', 'kind = "hub"\nbranch = "main"', "branch"),
        ('"deep/a.onnx"', '"../a.onnx"', "member"),
        ('"a.onnx" = "deep/a.onnx"', '"b.onnx" = "b.onnx"', "no source has a.onnx"),
        ('path = "a.onnx"', 'path = "../a.onnx"', "leaves its folder"),
        ('path = "a.onnx"', 'path = "/a.onnx"', "leaves its folder"),
        ('path = "a.onnx"', "path = 'C:\\a.onnx'", "leaves its folder"),
        ('"yes"', '"maybe"', "maybe"),
        ("https://example.org/licence", "", "url"),
    ],
)
def test_a_bad_manifest_is_refused_by_name(tmp_path, old, new, said):
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        read_pack(write(tmp_path, GOOD.replace(old, new)))
    assert "tiny.toml" in str(caught.value)
    assert said in str(caught.value)


def test_an_archive_needs_a_hash_of_its_own(tmp_path):
    text = GOOD.split("[[sources]]", maxsplit=1)[0] + (
        '[[sources]]\nkind = "pypi"\nname = "x"\nversion = "1"\narchive = "wheel"\nsha256 = ""\nbytes = 1\n'
        'members = { "a.onnx" = "a.onnx" }\n'
    )
    with pytest.raises(ConfigError, match="archive"):
        read_pack(write(tmp_path, text))


@pytest.mark.parametrize("name", ["x\n--index-url=http://evil", "-r", "x @ http://evil", "x y"])
def test_a_package_name_cannot_carry_options_for_pip(tmp_path, name):
    text = GOOD.split("[[sources]]", maxsplit=1)[0] + (
        f'[[sources]]\nkind = "pypi"\nname = """{name}"""\nversion = "1"\narchive = "wheel"\n'
        f'sha256 = "{"ab" * 32}"\nbytes = 1\nmembers = {{ "a.onnx" = "a.onnx" }}\n'
    )
    with pytest.raises(ConfigError, match="package name"):
        read_pack(write(tmp_path, text))


def test_no_sources_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="sources"):
        read_pack(write(tmp_path, GOOD.split("[[sources]]", maxsplit=1)[0]))


def pack(id: str, commercial: str) -> Pack:
    licence = Licence(name="L", url="https://example.org", commercial=commercial)
    return Pack(id=id, title=id, role="r", family="f", licence=licence, files=(), sources=())


def test_a_combination_is_as_free_as_its_least_free_part():
    free, ask, closed = pack("free", "yes"), pack("ask", "ask"), pack("closed", "no")
    assert combination([]).commercial == "yes"
    assert combination([free, free]).commercial == "yes"
    assert combination([free, ask]).commercial == "ask"
    mixed = combination([free, closed, ask])
    assert mixed.commercial == "no"
    assert "closed" in mixed.sentence
    assert "free" not in mixed.sentence
    assert [id for id, _ in mixed.parts] == ["free", "closed", "ask"]


# ── the manifests of this repository ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_manifest(path):
    pack = read_pack(path)  # checks hashes, revisions, licence and that every file has a source
    assert pack.id == path.stem
    for source in pack.sources:
        shared = isinstance(source, HubSource | GithubSource | PypiSource | NpmSource)
        own = shared or source.folder.startswith("$FACECHAIN_WEIGHTS/")  # everybody's own folder of weights
        assert own, "a local folder means nothing to others"
    if pack.role == "photos":
        assert pack.licence.note, "say honestly whose pictures these are"


def test_the_packs_others_rely_on_are_there():
    packs = read_packs(CONFIGS)
    expected = "yunet sface dlib landmarker parser modnet open_nsfw w600k_mbf demo-photos astronaut solvay johns"
    assert set(expected.split()) <= set(packs)
    assert packs["w600k_mbf"].opt_in
    assert len(packs["johns"].files) == 55
    assert combination(packs[id] for id in ("yunet", "sface", "modnet", "landmarker")).commercial == "yes"


def test_the_worked_example_of_the_docs_is_a_manifest(tmp_path):
    text = (CONFIGS.parents[1] / "docs" / "packs.md").read_text("utf-8")
    example = read_pack(write(tmp_path, text.split("```toml\n")[1].split("```")[0], "yunet.toml"))
    real = read_pack(CONFIGS / "yunet.toml")
    assert (example.files, example.sources, example.licence) == (real.files, real.sources, real.licence)
