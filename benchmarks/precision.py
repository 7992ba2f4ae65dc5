"""Average precision of the bundled models per engine and dtype: ``python -m benchmarks.precision IMAGES ANNOTATIONS``.

IMAGES is a folder and ANNOTATIONS a file in COCO's format. The first row of a model is the model as built, in float32;
the others are ``deploy.optimize(model, dtype, engine=…)``, each with its change of AP. ``--engine``, ``--dtype`` and
``--model`` may be repeated. Results are the same in every process, so that a second run must print the same table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from pyrcnn import data, deploy, evaluate, models
from pyrcnn.checkpoints import bundled


def contenders(model: nn.Module, engines: list[str], dtypes: list[str]) -> Iterator[tuple[str, str, nn.Module]]:
    """Engine, dtype and the model that they make."""
    yield "none: the model as built", "float32", model
    for engine in engines:
        for dtype in dtypes:
            yield engine, dtype, deploy.optimize(model, getattr(torch, dtype), engine=engine)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--model", action="append", choices=list(bundled.weights()), help="default: each bundled one")
    parser.add_argument("--engine", action="append", help="auto, native, openvino, onnxruntime, …; default: native")
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16", "float16"])
    arguments = parser.parse_args()
    dataset = data.coco(arguments.images, arguments.annotations)
    print("| model | engine | dtype | AP | change | AP50 | AP75 |\n|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.model or bundled.weights():
        model = models.load(bundled.weights()[name]).eval()
        built = None
        engines, dtypes = arguments.engine or ["native"], arguments.dtype or ["float32", "bfloat16"]
        for engine, dtype, contender in contenders(model, engines, dtypes):
            scores = evaluate.coco(contender, dataset)
            built = scores["AP"] if built is None else built
            cells = [name, engine, dtype, f"{scores['AP']:.4f}", f"{scores['AP'] - built:+.4f}"]
            cells += [f"{scores[key]:.4f}" for key in ("AP50", "AP75")]
            print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
