"""The ``pyrcnn`` command: parses arguments. Commands import their module when they run, so that ``--help`` is fast."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from .commands import terminal
from .errors import InputError, needing, require

try:
    with needing("typer", "the command line"):
        import typer
        from typer.core import TyperGroup
except InputError as missing:
    terminal.complain(missing)
    raise SystemExit(2) from None

from . import __version__
from .commands import interrupts
from .commands.data import app as data_commands
from .commands.options import Json, Overwrite


class Interrupted(Exception):
    """Ctrl-C, with what the command says about it; typer would replace a ``KeyboardInterrupt``."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted(str(error)) from None


# How torch's allocators say it, on the CPU and on CUDA.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
TOO_LITTLE_MEMORY = "the memory is too small for this: use a smaller --size or --batch, smaller images or another model"

app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time of --help, and read brackets in the texts as markup
    help="Faster R-CNN and CenterNet: detect, evaluate, train.",
)

app.add_typer(data_commands.app, name="data")

Images = Annotated[
    list[Path] | None,
    typer.Argument(help="Images, videos, folders, patterns, lists (FILE.txt, @FILE). Default: a bundled image."),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="A name that `pyrcnn models` lists. Default: faster_rcnn_mobilenet_v2_fpn."),
]
Weights = Annotated[
    str, typer.Option("--weights", help="Weights file, or 'zoo' to download the published weights.", metavar="FILE")
]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="Of the network: float32, bfloat16, float16 or auto.")]
Data = Annotated[
    str | None,
    typer.Option("--data", help="COCO .json, VOC folder, YOLO data.yaml or .csv; PATH:SPLIT.", metavar="SOURCE"),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value, a setting of the model or the training.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, max=1024, help="Threads to compute with.")]
Engine = Annotated[str | None, typer.Option("--engine", help="What runs the networks; see deploy.optimize.")]
Plain = Annotated[bool, typer.Option("--plain", help="Run the model as built, without deploy.optimize.")]
BUNDLED = "bundled"


def main() -> None:
    """Run the command line. Bad input, a full disk or too little memory print one line and exit with code 2."""
    try:
        with terminal.Notes(), interrupts.noted():
            sys.exit(app(prog_name="pyrcnn", standalone_mode=len(sys.argv) == 1))  # without arguments it shows its help
    except BrokenPipeError:  # the reader has ended, as `head` does
        terminal.forget(sys.stdout)
        sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:
        code, message = _outcome(error)
    terminal.complain(message)
    if message.startswith(terminal.UNWRITABLE):
        terminal.forget(sys.stdout)
    sys.exit(code)


def _outcome(error: BaseException) -> tuple[int, str]:
    """The exit code and the line for an exception that ends a command; raises those that are bugs again."""
    usage: Any = error  # click's UsageError; where that class is depends on typer's version
    if isinstance(error, Interrupted | KeyboardInterrupt | typer.Abort):
        return 130, str(error) or "interrupted"
    if isinstance(error, InputError | FloatingPointError):  # the latter: a training that diverged
        return 2, str(error)
    if hasattr(usage, "format_message"):
        command = usage.ctx.command_path if getattr(usage, "ctx", None) else "pyrcnn"
        return 2, f"{usage.format_message().rstrip('.')}; see {command} --help"
    if isinstance(error, OSError) and error.strerror:
        return 2, f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
        return 2, TOO_LITTLE_MEMORY
    raise error


def _version(wanted: bool) -> None:
    if wanted:
        terminal.show(f"pyrcnn {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Faster R-CNN and CenterNet: detect, evaluate, train."""
    alone = os.environ.get("WORLD_SIZE", "1") == "1" or "MASTER_ADDR" not in os.environ
    name = context.invoked_subcommand
    require(alone or name == "train", f"torchrun must start pyrcnn train, got {name}: start it without torchrun")


@app.command()
def detect(
    images: Images = None,
    model: Model = None,
    weights: Weights = BUNDLED,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the annotated copies. Default: a new one, pyrcnn-detections[-NUMBER]."),
    ] = None,
    overwrite: Overwrite = False,
    score: Annotated[float, typer.Option("--score", min=0, max=1, help="Show detections above this score.")] = 0.3,
    format: Annotated[str, typer.Option("--format", help="Of the results: text, json, jsonl or coco.")] = "text",
    image_format: Annotated[str, typer.Option("--image-format", help="Of the annotated copies: jpg or png.")] = "jpg",
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="COCO file with the ids of the images, for --format coco.")
    ] = None,
    every: Annotated[int, typer.Option("--every", min=1, help="Of a video, every N-th frame.", metavar="N")] = 1,
    draw: Annotated[bool, typer.Option("--draw/--no-draw", help="Write annotated copies.")] = True,
    device: Device = "cpu",
    threads: Threads = None,
    plain: Plain = False,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Detect objects in images and videos, and write annotated copies."""
    from .commands.detect import command

    require(not json or format == "text", f"--json must be left out with --format {format}")
    asked = command.Options(
        out,
        score,
        "json" if json else format,
        image_format,
        annotations,
        every,
        draw,
        plain,
        engine,
        threads,
        overwrite,
    )
    code = command.run(images or [], model, weights, device, asked)
    if code:
        raise typer.Exit(code)


@app.command()
def evaluate(
    annotations: Annotated[Path | None, typer.Option("--annotations", help="COCO annotation file.")] = None,
    detections: Annotated[Path | None, typer.Option("--detections", help="COCO results file to score.")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of the images, to run a model on.")] = None,
    data: Data = None,
    model: Model = None,
    weights: Weights = BUNDLED,
    metric: Annotated[str, typer.Option("--metric", help="coco, voc2007 or voc2012.")] = "coco",
    report: Annotated[
        Path | None, typer.Option("--report", help="Folder for a page with curves, confusion and worst mistakes.")
    ] = None,
    overwrite: Overwrite = False,
    keypoints: Annotated[bool, typer.Option("--keypoints", help="Score keypoints instead of boxes.")] = False,
    device: Device = "cpu",
    threads: Threads = None,
    plain: Plain = False,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Print the average precision of a model or results file, and write a report about it."""
    from .commands import evaluate as command
    from .commands.data.given import Given

    asked = command.Options(metric, keypoints, report, overwrite, plain, engine, json)
    command.run(Given(data, images, annotations), detections, model, weights, device, threads, asked)


@app.command()
def train(
    model: Annotated[
        str,
        typer.Argument(
            help="A name that `pyrcnn models` lists, or a .safetensors file of ours; with --resume, a run's folder."
        ),
    ],
    data: Data = None,
    val_data: Annotated[
        str | None, typer.Option("--val-data", help="Data set to score on, as --data.", metavar="SOURCE")
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of the images.")] = None,
    annotations: Annotated[Path | None, typer.Option("--annotations", help="COCO file to learn from.")] = None,
    val_annotations: Annotated[Path | None, typer.Option("--val-annotations", help="COCO file to score on.")] = None,
    val_images: Annotated[Path | None, typer.Option("--val-images", help="Its images, if elsewhere.")] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="Settings to start from; `pyrcnn models --recipes` lists them.")
    ] = "finetune",
    augment: Annotated[
        str | None, typer.Option("--augment", help="Instead of the recipe's: 'HorizontalFlip, ScaleJitter(0.6, 1.3)'.")
    ] = None,
    settings: Settings = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="FILE", help="To start from: a file, 'bundled', 'zoo', or 'random' (the default)."
        ),
    ] = None,
    backbone: Annotated[Path | None, typer.Option("--backbone", help="ImageNet classifier to start from.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("runs/train"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a run: `train --resume DIR`, or the one in --out.")
    ] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Write only a picture of the first batches.")] = False,
    overwrite: Overwrite = False,
    device: Device = "cpu",
    cache: Annotated[bool, typer.Option("--cache", help="Keep the decoded images in memory.")] = False,
) -> None:
    """Train a model on a data set: --data, or --images and --annotations."""
    from .commands import train as command
    from .commands.data.given import Given

    learn_from = Given(data, images, annotations)
    score_on = Given(val_data, val_images or images, val_annotations, "val-")
    command.run(
        model, learn_from, score_on, recipe, settings or [], weights, backbone, out, resume, overwrite,
        device, cache, augment, preview,
    )  # fmt: skip


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Weights of another program or of ours, or 'zoo'.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    model: Annotated[str, typer.Option("--model", help="A name that `pyrcnn models` lists.")],
    settings: Settings = None,
    half: Annotated[bool, typer.Option("--half", help="Store the weights in half precision.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Convert another program's weights into a file of ours."""
    from .commands import convert as command

    command.run(source, out, model, settings or [], half, overwrite)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="The file to write: .pt2, or .onnx for onnx.")],
    model: Model = None,
    weights: Weights = BUNDLED,
    format: Annotated[str, typer.Option("--format", help="torch, aoti or onnx.")] = "torch",
    size: Annotated[
        tuple[int, int] | None, typer.Option("--size", help="Height and width of the images. Default: any.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Images per call, with --size.")] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Leave out preprocessing; for onnx, write the networks alone.")
    ] = False,
    dtype: Dtype = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Export a detector, from images to boxes, as a PyTorch program, AOTInductor or ONNX."""
    from .commands import export as command

    command.run(out, model, weights, format, size, batch, pixels, dtype, device, overwrite)


@app.command()
def benchmark(
    model: Model = None,
    weights: Weights = BUNDLED,
    device: Device = "cpu",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images per call.")] = 1,
    size: Annotated[tuple[int, int], typer.Option("--size", help="Height and width of the images.")] = (480, 640),
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Timed calls.")] = 20,
    optimize: Annotated[bool, typer.Option("--optimize", help="Time the optimized model too.")] = False,
    dtype: Dtype = None,
    engine: Engine = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Measure a model's latency, from images to detections."""
    from .commands import benchmark as command

    command.run(model, weights, device, batch, size, repeat, optimize, dtype, engine, threads, json)


@app.command()
def models(
    urls: Annotated[bool, typer.Option("--urls", help="List the addresses of the published weights instead.")] = False,
    recipes: Annotated[bool, typer.Option("--recipes", help="List the recipes of `pyrcnn train` instead.")] = False,
    json: Json = False,
) -> None:
    """List the models: size, accuracy, speed, weights."""
    from .commands import models as command

    (command.urls if urls else command.recipes if recipes else command.run)(json)


@app.command()
def info(json: Json = False) -> None:
    """Print what was built and what runs, for bug reports."""
    from .commands import info as command

    command.run(json)
