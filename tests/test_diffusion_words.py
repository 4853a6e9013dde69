"""Prompts: notation, weights and length, for both families."""

import pytest

from facechain.engines.diffusion.words import Encoder, parse

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("a red coat", (("a red coat", 1.0),)),
        ("a (red) coat", (("a ", 1.0), ("red", 1.1), (" coat", 1.0))),
        ("a (red:1.5) coat", (("a ", 1.0), ("red", 1.5), (" coat", 1.0))),
        ("((red))", (("red", 1.21),)),
        ("(a (red:2) coat:0.5)", (("a ", 0.5), ("red", 1.0), (" coat", 0.5))),
        ("[red] hat", (("red", 0.909091), (" hat", 1.0))),
        (r"a \(real\) hat", (("a (real) hat", 1.0),)),
        ("8:30 o'clock, 1:2", (("8:30 o'clock, 1:2", 1.0),)),
        ("a (red coat", (("a ", 1.0), ("red coat", 1.1))),
        ("a red) coat]", (("a red) coat]", 1.0),)),
        ('80s+ "film" look-', (('80s+ "film" look-', 1.0),)),
        ("", ()),
    ],
)
def test_notation(prompt, pieces):
    assert parse(prompt) == pieces


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def pipe(request):
    from diffusers import DiffusionPipeline

    torch.set_num_threads(1)
    return DiffusionPipeline.from_pretrained(request.getfixturevalue(request.param))


def test_plain_prompts_are_encoded_as_the_pipeline_does(pipe):
    ours = Encoder(pipe).encode("a red coat", "blurry")
    theirs = pipe.encode_prompt("a red coat", "cpu", 1, True, negative_prompt="blurry") if ours.pooled is None else None
    if theirs is None:
        theirs = pipe.encode_prompt("a red coat", negative_prompt="blurry")
        torch.testing.assert_close(ours.pooled, theirs[2], atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.negative_pooled, theirs[3], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.positive, theirs[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.negative, theirs[1], atol=1e-5, rtol=0)


def test_an_empty_negative_is_what_the_pipeline_uses(pipe):
    ours = Encoder(pipe).encode("a red coat", "")
    two = ours.pooled is not None
    theirs = pipe.encode_prompt("a red coat") if two else pipe.encode_prompt("a red coat", "cpu", 1, True)
    torch.testing.assert_close(ours.negative, theirs[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_words_far_behind_and_weights_count(pipe, side):
    encoder = Encoder(pipe)
    long = "a portrait of a woman in the garden, " * 12

    def tokens(text):
        given = (text, "") if side == "positive" else ("", text)
        return getattr(encoder.encode(*given), side)

    assert tokens(long).shape[1] > 77
    assert (tokens(long + "red hat") - tokens(long + "blue hat")).abs().max() > 0.01
    plain, strong, weak = tokens("a red coat"), tokens("a (red:1.5) coat"), tokens("a (red:0.5) coat")
    empty = tokens(" , ")
    assert (plain - strong).abs().max() > 0.01
    assert (plain - weak).abs().max() > 0.01
    assert not torch.equal(empty, plain)


def test_both_sides_have_one_length(pipe):
    made = Encoder(pipe).encode("hat " * 100, "blurry")
    assert made.positive.shape == made.negative.shape
    assert made.positive.shape[1] == 2 * 77
