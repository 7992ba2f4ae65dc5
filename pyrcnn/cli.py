"""The ``pyrcnn`` command. Each command imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import InputError, require

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Faster R-CNN and CenterNet: detect, evaluate, train.",
)

Images = Annotated[list[Path] | None, typer.Argument(help="Pictures, or folders of them. None: the embedded picture.")]
Model = Annotated[str | None, typer.Option("--model", help="A name that `pyrcnn models` lists.")]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="A file, or zoo: the published ones; none: the embedded.")
]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON value on standard output, nothing else.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="Of the network: float32, bfloat16, float16 or auto.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value, of the model or the training.")]


def main() -> None:
    """Run the command line; what is wrong with the input is one line, and exit code 2."""
    try:
        sys.exit(app(prog_name="pyrcnn", standalone_mode=len(sys.argv) == 1))  # alone it shows its help
    except InputError as error:
        message = str(error)
    except typer.Abort:
        sys.exit(130)  # interrupted
    except Exception as error:
        usage: Any = error  # of click; where that is depends on typer's version
        if not hasattr(usage, "format_message"):
            raise
        command = usage.ctx.command_path if getattr(usage, "ctx", None) else "pyrcnn"
        message = f"{usage.format_message().rstrip('.')}; see {command} --help"
    print(f"pyrcnn: {message}", file=sys.stderr)
    sys.exit(2)


@app.command()
def detect(
    images: Images = None,
    model: Model = None,
    weights: Weights = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the annotated pictures.")] = Path("pyrcnn-detections"),
    score: Annotated[float, typer.Option("--score", min=0, max=1, help="Show what scores above this.")] = 0.3,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Find objects in pictures: an annotated PNG each, and a table."""
    from . import pipeline

    paths = pipeline.picture_files(images or [])
    found = pipeline.detect(pipeline.open_model(model, weights, device), paths, out, score, quiet=json)
    if json:
        print(jsonlib.dumps([entry.as_json() for entry in found], indent=1))
    else:
        pipeline.print_detections(found)


@app.command()
def evaluate(
    annotations: Annotated[Path, typer.Option("--annotations", help="COCO annotation file.")],
    detections: Annotated[Path | None, typer.Option("--detections", help="COCO results file to score.")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of the pictures, to run a model on.")] = None,
    model: Model = None,
    weights: Weights = None,
    keypoints: Annotated[bool, typer.Option("--keypoints", help="Score keypoints instead of boxes.")] = False,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """COCO's average precision, of a results file or of a model."""
    from . import evaluate as scoring
    from . import pipeline

    require((detections is None) != (images is None), "give either --detections, a results file, or --images, a folder")
    if detections is not None:
        scores = scoring.coco(detections, annotations, keypoints=keypoints)
    else:
        scores = pipeline.evaluate(pipeline.open_model(model, weights, device), images, annotations, keypoints, json)
    if json:
        print(jsonlib.dumps(scores))
    else:
        pipeline.print_pairs("COCO, keypoints" if keypoints else "COCO, boxes", scores)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A name that `pyrcnn models` lists.")],
    images: Annotated[Path, typer.Option("--images", help="Folder of the pictures.")],
    annotations: Annotated[Path, typer.Option("--annotations", help="COCO annotation file to learn from.")],
    val_annotations: Annotated[Path | None, typer.Option("--val-annotations", help="COCO file to score on.")] = None,
    val_images: Annotated[Path | None, typer.Option("--val-images", help="Its pictures, if elsewhere.")] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="Settings to start from.")] = "finetune",
    settings: Settings = None,
    weights: Weights = None,
    backbone: Annotated[Path | None, typer.Option("--backbone", help="torchvision's ImageNet MobileNetV2.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("runs/train"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    device: Device = "cpu",
    cache: Annotated[bool, typer.Option("--cache", help="Keep the decoded pictures in memory.")] = False,
) -> None:
    """Train a model on a data set in COCO's format."""
    from . import pipeline

    data = (images, annotations), (val_images or images, val_annotations) if val_annotations else None
    run = {"out": str(out), "resume": resume, "device": device}
    result = pipeline.train(model, data, recipe, settings or [], weights, backbone, run, cache)
    print(f"{result.last_file}" + (f"\n{result.best_file}  AP {result.best:.3f}" if result.best_file else ""))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Weights of another program or of ours, or zoo: the published ones.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    model: Annotated[str, typer.Option("--model", help="A name that `pyrcnn models` lists.")],
    settings: Settings = None,
    half: Annotated[bool, typer.Option("--half", help="Store the weights in half precision.")] = False,
) -> None:
    """Turn another program's weights into a file of ours."""
    from . import pipeline

    print(pipeline.convert(source, out, model, settings or [], half))


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="The file to write: .pt2, for onnx .onnx.")],
    model: Model = None,
    weights: Weights = None,
    format: Annotated[str, typer.Option("--format", help="torch, aoti or onnx (the network alone).")] = "torch",
    size: Annotated[tuple[int, int] | None, typer.Option("--size", help="Height and width of the input.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures at a time.")] = 1,
    dtype: Dtype = None,
    device: Device = "cpu",
) -> None:
    """Write a model for serving: a PyTorch program, an AOTInductor package, or an ONNX network."""
    from . import pipeline

    print(pipeline.export(out, model, weights, format, size, batch, dtype, device))


@app.command()
def benchmark(
    model: Model = None,
    weights: Weights = None,
    device: Device = "cpu",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures at a time.")] = 1,
    size: Annotated[tuple[int, int], typer.Option("--size", help="Height and width of the pictures.")] = (480, 640),
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Timed calls.")] = 20,
    optimize: Annotated[bool, typer.Option("--optimize", help="Time the optimized model too.")] = False,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Time a model on this machine, from pictures to detections."""
    from . import pipeline

    times = pipeline.benchmark(model, weights, device, batch, size, repeat, optimize or dtype is not None, dtype)
    if json:
        print(jsonlib.dumps(times))
    else:
        pipeline.print_pairs("milliseconds per call", times)


@app.command()
def models(
    urls: Annotated[bool, typer.Option("--urls", help="Where their published weights lie, instead.")] = False,
    json: Json = False,
) -> None:
    """The models that can be built: size, published accuracy and speed, weights."""
    from . import pipeline

    if urls:
        pipeline.print_urls(json)
        return
    listing = pipeline.list_models()
    if json:
        print(jsonlib.dumps(listing))
    else:
        pipeline.print_models(listing)


@app.command()
def info(json: Json = False) -> None:
    """What was built and what runs: put it into bug reports."""
    from . import __version__, build_info, pipeline

    facts: dict[str, Any] = {"pyrcnn": __version__, **build_info()}
    if json:
        print(jsonlib.dumps(facts, default=str))
    else:
        pipeline.print_pairs("pyrcnn", facts)
