"""What low precision costs: ``python -m benchmarks.precision IMAGES ANNOTATIONS [--model NAME]… [--dtype bfloat16]…``.

Average precision of the embedded models on a data set in COCO's format, plain in float32 and optimized in each dtype.
With ``--rounded`` the layers compute in float32 and only their weights, inputs and results are rounded to the dtype:
the numbers of hardware that multiplies in the dtype and adds in float32, on a machine that has none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from pyrcnn import data, deploy, evaluate, models
from pyrcnn.checkpoints import embedded


def rounded(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """``model`` optimized, its layers' weights, inputs and results rounded to ``dtype``."""
    fast = deploy.optimize(model, fuse=False)
    for layer in fast.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.weight.data = layer.weight.data.to(dtype).float()
            layer.register_forward_pre_hook(lambda _, inputs: tuple(x.to(dtype).float() for x in inputs))
            layer.register_forward_hook(lambda _, inputs, result: result.to(dtype).float())
    return fast


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--model", action="append", choices=list(embedded.weights()))
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--rounded", action="store_true")
    arguments = parser.parse_args()
    dataset = data.coco(arguments.images, arguments.annotations)
    print("| model | network in | AP | change | AP50 | AP75 |\n|---|---|---|---|---|---|", flush=True)
    for name in arguments.model or embedded.weights():
        model = models.load(embedded.weights()[name])
        contenders: dict[str, nn.Module] = {"float32, plain": model}
        for dtype in arguments.dtype or ["float32", "bfloat16"]:
            if arguments.rounded:
                contenders[f"{dtype}, rounded"] = rounded(model, getattr(torch, dtype))
            else:
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
