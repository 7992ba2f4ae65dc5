"""What low precision costs: ``python -m benchmarks.precision IMAGES ANNOTATIONS [--model NAME]… [--dtype bfloat16]…``.

Average precision of the embedded models on a data set in COCO's format, plain in float32 and optimized in each dtype.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from pyrcnn import data, deploy, evaluate, models
from pyrcnn.checkpoints import embedded


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--model", action="append", choices=list(embedded.weights()))
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16", "float16"])
    arguments = parser.parse_args()
    dataset = data.coco(arguments.images, arguments.annotations)
    print("| model | network in | AP | change | AP50 | AP75 |\n|---|---|---|---|---|---|", flush=True)
    for name in arguments.model or embedded.weights():
        model = models.load(embedded.weights()[name])
        contenders = {"float32, plain": model}
        for dtype in arguments.dtype or ["float32", "bfloat16"]:
            contenders[f"{dtype}, optimized"] = deploy.optimize(model, getattr(torch, dtype))
        plain = None
        for label, contender in contenders.items():
            scores = evaluate.coco(contender, dataset)
            plain = scores["AP"] if plain is None else plain
            cells = [f"{scores['AP']:.4f}", f"{scores['AP'] - plain:+.4f}"]
            cells += [f"{scores[key]:.4f}" for key in ("AP50", "AP75")]
            print("|", " | ".join([name, label, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
