"""``pyrcnn data``: parses the arguments of its commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Json, Overwrite

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check, convert and split data sets of any format.")

Source = Annotated[str, typer.Argument(help="COCO .json, VOC folder, YOLO data.yaml or .csv; PATH:SPLIT,OPTION.")]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of the images, for COCO and CSV.")]


@app.command()
def check(
    sources: Annotated[list[str], typer.Argument(help="Data sets, as PATH or PATH:SPLIT.", metavar="SOURCE...")],
    images: Images = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image.")] = False,
    json: Json = False,
) -> None:
    """Report all problems, and counts of classes, images and boxes. Exit code 2 if there are problems."""
    from . import check as command

    if not command.run(sources, images, decode, json):
        raise typer.Exit(2)


@app.command()
def convert(
    source: Source,
    out: Annotated[Path, typer.Argument(help="The folder to write to.")],
    to: Annotated[str, typer.Option("--to", help="coco, voc, yolo or csv.")],
    images: Images = None,
    place: Annotated[str, typer.Option("--place", help="Of the images: copy, link, or leave (COCO and CSV).")] = "copy",
    split: Annotated[str, typer.Option("--split", help="Name of the split in VOC and YOLO.")] = "train",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a data set in another format, and say what that cannot hold."""
    from . import convert as command

    command.run(source, out, to, images, place, split, overwrite, json)


@app.command()
def split(
    source: Source,
    out: Annotated[Path, typer.Argument(help="The folder of the COCO files to write.")],
    fractions: Annotated[
        tuple[float, float, float], typer.Option("--fractions", help="For train, val and test; 0 for none.")
    ] = (0.8, 0.1, 0.1),
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives another split.")] = 0,
    group: Annotated[
        str | None,
        typer.Option("--group", help="Keep images together in whose names this matches the same.", metavar="REGEX"),
    ] = None,
    images: Images = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Split a data set into train.json, val.json and test.json with equal shares of each class."""
    from . import split as command

    command.run(source, out, fractions, seed, group, images, overwrite, json)
