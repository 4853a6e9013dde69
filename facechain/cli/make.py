"""facechain train, make and judge"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facechain.cli import jobs
from facechain.cli.options import Json, Queue
from facechain.limits import PORTRAITS, SEED


def make(
    person: Annotated[list[str], typer.Argument(help="Who; several for one picture with several faces.")],
    engine: Annotated[str, typer.Option(help="How to paint; see `facechain engines`.")] = "",
    base: Annotated[str, typer.Option(help="What to paint on: a pack, a diffusers folder or .safetensors file.")] = "",
    style: Annotated[str, typer.Option(help="A look; see `facechain styles`.")] = "",
    template: Annotated[Path | None, typer.Option(help="Your own picture to paint into.")] = None,
    faces: Annotated[str, typer.Option(help="Which face each person becomes, left to right, e.g. 2,1.")] = "",
    prompt: Annotated[str, typer.Option(help="Text prompt; ignored by engines without text input.")] = "",
    negative: Annotated[str, typer.Option(help="Negative prompt.")] = "",
    count: Annotated[int | None, typer.Option(min=1, max=PORTRAITS, help="How many to make.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, max=PORTRAITS, help="How many of them to keep at most.")] = None,
    pose: Annotated[
        list[str] | None,
        typer.Option(help="ControlNet image; choose types with --set control=…; KIND=FILE gives a preprocessed map."),
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Initial image (img2img); --set denoising_strength=0.7.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Inpainting mask for --start; white is regenerated.")] = None,
    budget: Annotated[
        int | None,
        typer.Option(min=1, max=PORTRAITS, help="Go on until --keep are the same person, at most this many."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=SEED, help="Same seed, same pictures.")] = None,
    floor: Annotated[float | None, typer.Option(min=-1, max=1, help="Minimum similarity to keep (−1 to 1).")] = None,
    size: Annotated[str, typer.Option(help="Size of generated pictures, e.g. 768x1024; empty: the style's.")] = "",
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="An engine's option; see `facechain engines NAME`."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Copy the kept portraits here.")] = None,
    format: Annotated[str, typer.Option(help="png, jpeg or webp.")] = "png",
    queue: Queue = False,
    as_json: Json = False,
) -> None:
    """Make portraits, judge them, keep the true likenesses."""
    from facechain.bootstrap import studio
    from facechain.cli import progress, show
    from facechain.config import settings
    from facechain.types import Request

    width_px, height_px = show.sides(size)
    request = Request(
        people=tuple(person),
        engine=engine,
        base=base,
        style=style,
        slots=show.numbers(faces),
        prompt=prompt,
        negative=negative,
        count=count or studio().app.count,
        keep=keep,
        budget=budget,
        seed=seed,
        floor=floor,
        width_px=width_px,
        height_px=height_px,
        options=settings(option or ()),
    )
    follow = show.named_files(pose or ())
    if queue:
        asked = {name: value for name, value in vars(request).items() if name not in ("template", "template_name")}
        given = {"base": base, "template": template, "start": start, "mask": mask, "out": out}
        files = {name: jobs.path(file) for name, file in given.items()}
        poses = {kind: jobs.path(file) for kind, file in follow.items()}
        jobs.leave("make", {**asked, **files, "pose": poses, "format": format}, as_json)
        return
    with progress.progress(as_json) as tick:
        made = studio().make(
            request,
            template=template,
            pose=follow,
            start=start,
            mask=mask,
            out=out,
            format=format,
            tick=tick,
        )
    if as_json:
        typer.echo(show.as_json(made))
        return
    show.verdicts(made.results)
    show.notes(made.notes)
    typer.echo(f"\n{made.summary}\nThey are in {made.folder}")


def train(
    person: Annotated[str, typer.Argument(help="Who.")],
    base: Annotated[str, typer.Option(help="What to learn on: a pack, a diffusers folder or .safetensors file.")] = "",
    option: Annotated[list[str] | None, typer.Option("--set", help="A training setting, e.g. steps=400.")] = None,
    prepare: Annotated[bool, typer.Option("--prepare", help="Only write the captions, for you to edit.")] = False,
    queue: Queue = False,
    as_json: Json = False,
) -> None:
    """Learn a person into weights of their own (LoRA); stopped, the same command goes on."""
    from facechain.bootstrap import studio
    from facechain.cli import progress, show
    from facechain.config import settings

    chosen = settings(option or ()) | ({"prepare": True} if prepare else {})
    if queue:
        jobs.leave("train", {"name": person, "base": jobs.path(base), "settings": chosen}, as_json)
        return
    with progress.progress(as_json) as tick, show.remarks("facechain.engines.lora"):
        learned = studio().train(person, base, chosen, tick)
    if as_json:
        typer.echo(show.as_json({"person": person, "engine": learned.engine, "folder": learned.folder}))
    elif prepare:
        typer.echo(f"Edit what the photos show in {learned.folder}/examples/*.txt, then train without --prepare.")
    else:
        typer.echo(f"{person} is learned: {learned.folder}\nHow alike, step by step: {learned.folder}/curve.png")


def judge(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    person: Annotated[str, typer.Option("--person", help="Who they should show.")],
    as_json: Json = False,
) -> None:
    """Say of any picture whether it shows the person, by a recogniser that made none of them."""
    from facechain.bootstrap import studio
    from facechain.cli import progress, show

    with progress.progress(as_json) as tick:
        results = studio().judge(pictures, person, tick)
    typer.echo(show.as_json(results)) if as_json else show.verdicts(results)
