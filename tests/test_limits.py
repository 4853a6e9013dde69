"""What one request may ask for is the same at every door, and is refused by the field's name."""

from types import SimpleNamespace

import pytest

from facechain import bootstrap
from facechain.errors import UserError
from facechain.limits import BATCH_PORTRAITS, OPTIONS, PEOPLE, PORTRAITS, SEED, TEXT, check_request, whole
from facechain.types import Request


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        *(
            ({name: value}, f"{name} is")
            for name in ("count", "keep", "budget")
            for value in (0, -5, PORTRAITS + 1, 1e308)
        ),
        *(({"seed": seed}, "seed is") for seed in (-1, SEED + 1, 1.5)),
        ({"people": ("Ada",) * (PEOPLE + 1)}, "number of people"),
        ({"people": ()}, "number of people"),
        ({"floor": 1.5}, "floor is 1.5"),
        ({"width_px": 500}, "width_px is 500"),
        ({"options": dict.fromkeys(map(str, range(OPTIONS + 1)))}, "number of settings"),
        ({"options": {"scale": float("nan")}}, "scale is nan"),
        *(({name: "e" + "\u0301" * TEXT}, f"{name} has 2,001 characters") for name in ("prompt", "negative")),
        *(
            ({name: "rain \ud800"}, f"{name} contains half")
            for name in ("prompt", "negative", "style", "base", "engine")
        ),
        ({"options": {"trigger": "\udcff"}}, "trigger contains half"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"prompt": "photo <lora:film_grain:0.8>, rain"}, r"<lora:film_grain:0\.8>.*--set lora="),
        ({"negative": "< LyCO : x : 1 >"}, "not read from prompts"),
    ],
)
def test_what_cannot_be_made_is_refused_by_the_name_of_the_field(asked, says):
    with pytest.raises(UserError, match=says):
        check_request(Request(**{"people": ("Ada",), **asked}))


def test_what_can_be_made_passes():
    text = "(rain:1.2) a < b > c: " + "x" * (TEXT - 22)
    most = Request(people=("Ada",) * PEOPLE, count=PORTRAITS, seed=SEED, prompt=text, width_px=4096, floor=-1.0)
    check_request(most)


@pytest.mark.parametrize("value", [True, "3", float("nan"), float("inf"), 2.5, 10**400])
def test_only_whole_numbers_count(value):
    with pytest.raises(UserError, match="count is"):
        whole("count", value, 1, PORTRAITS)


@pytest.mark.parametrize("count", [1e9, 1e308, -5, 0, float("nan"), 2.5])
def test_the_named_endpoint_of_the_pages_has_the_same_limit(monkeypatch, count):
    from facechain.ui import endpoints

    found = {}
    monkeypatch.setattr(endpoints, "api", lambda endpoint, api_name, queue: found.update({api_name: endpoint}))
    desk = SimpleNamespace(submit=lambda *job: pytest.fail("it was queued"))
    endpoints.add(SimpleNamespace(guarded=lambda endpoint: endpoint, desk=lambda request: desk))
    with pytest.raises(UserError, match="count is"):
        found["make"]("ada", "astronaut", "", count, None, None)


def test_a_batch_is_bounded_as_a_whole_while_it_is_read(tmp_path):
    from facechain.jobs import sheet

    rows = BATCH_PORTRAITS // PORTRAITS + 1
    (tmp_path / "b.csv").write_text("people,count\n" + f"Ada,{PORTRAITS}\n" * rows)
    with pytest.raises(UserError, match="1,000,000 portraits"):
        sheet.read(tmp_path / "b.csv", sheet.Defaults())
    (tmp_path / "b.csv").write_text("people,count\nAda,9999999999\n")
    with pytest.raises(UserError, match="line 2: count is 9999999999"):
        sheet.read(tmp_path / "b.csv", sheet.Defaults())


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        ("make", {"people": ["ada"], "count": 10**12}, "count is"),
        ("make", {"people": ["ada"], "prompt": "<lora:x:1>"}, "--set lora="),
        ("make", {"people": ["ada"], "engine": "lora", "options": {"nonsense": 5}}, "'nonsense'"),
        ("make", {"people": ["ada"], "engine": "lora", "options": {"shape": 0.5}}, "'shape'"),
        ("make", {"people": ["ada"], "engine": "lora", "options": {"fast": "warp"}}, "fast is 'warp'"),
        ("make", {"people": ["ada"], "start": "me.png"}, "cannot start from a picture"),
        ("make", {"people": ["ada"], "engine": "faceid", "options": {"steps": 10**6}}, "steps is 1000000"),
        ("make", {"people": ["ada"], "engine": "faceid", "options": {"start": "me.png"}}, "--start"),
        ("make", {"people": ["ada"], "engine": "nobody's"}, "no engine"),
        ("make", {"people": ["ada"], "options": {"fuse": 1}}, "fuses the face already"),
        ("make", {"people": ["ada"], "options": {"control": "depth"}}, "takes no ControlNet image"),
        ("make", {"people": ["Bob"]}, "Bob|bob"),
        ("train", {"name": "ada", "settings": {"stepps": 5}}, "Did you mean 'steps'"),
        ("train", {"name": "ada", "settings": {"targets": ["a"]}}, "targets is"),
        ("train", {"name": "ada", "settings": {"rank": 0}}, "rank is 0"),
        ("batch", {"file": "b.csv", "count": 10**9}, "count is"),
    ],
)
def test_the_queue_takes_nothing_that_could_not_be_done(models, tmp_path, monkeypatch, kind, arguments, says):
    """Whichever door asks: the command line's --queue, the API and the pages all submit here."""
    import store_kit

    from facechain.store.workspace import Workspace

    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("FACECHAIN_MODELS", str(models))
    bootstrap.studio.cache_clear()
    Workspace(tmp_path).save_person("ada", store_kit.person(), [])
    with pytest.raises(UserError, match=says):
        bootstrap.jobs().submit(kind, arguments)
    assert bootstrap.jobs().list() == ()
    bootstrap.studio.cache_clear()
