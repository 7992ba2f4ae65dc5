"""Time of ``pyrcnn detect`` per image: ``python -m benchmarks.detect_folder [--command PATH/pyrcnn] [-- --threads 2]``.

Makes 200 different images of 640 × 480 pixels out of the bundled ones and runs ``pyrcnn detect FOLDER --out DIR`` in a
process of its own. A run with a single image measures what each run needs once: starting, loading and optimizing the
model. The table shows the time per image of the whole run, and per further image without that.

Arguments after ``--`` go to ``pyrcnn detect``: ``-- --plain`` runs the model as built, ``-- --no-draw`` writes no
images. Only the command line is used, so ``--command`` may name other installed versions; several run in turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (640, 480)


def write_images(folder: Path, count: int) -> None:
    """``count`` different JPEG images of ``SIZE``."""
    folder.mkdir(parents=True)
    spec = find_spec("pyrcnn")  # does not import it
    if spec is None or spec.origin is None:
        raise SystemExit("pyrcnn must be installed")
    assets = sorted(Path(spec.origin).with_name("assets").glob("*.jpg"))
    sources = [np.asarray(Image.open(path).convert("RGB").resize(SIZE)) for path in assets]
    random = np.random.default_rng(0)
    for i in range(count):
        image = np.roll(sources[i % len(sources)], tuple(random.integers(0, SIZE[1], 2)), (0, 1))
        image = image[:: random.choice((-1, 1)), :: random.choice((-1, 1))]
        image = (image * random.uniform(0.8, 1.0)).astype(np.uint8)
        Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{i:04d}.jpg", quality=95)


def detect(command: str, images: Path, more: list[str]) -> float:
    """Seconds of one run over ``images``."""
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        call = [command, "detect", str(images), "--out", out, *more]
        done = subprocess.run(call, capture_output=True, text=True, cwd=out)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{' '.join(call)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return seconds


def main() -> None:
    """The command line."""
    own, more = sys.argv[1:], []
    if "--" in own:
        own, more = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", action="append", help="a pyrcnn command; may be repeated (default: pyrcnn)")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(own)
    commands = arguments.command or ["pyrcnn"]
    times: dict[str, list[tuple[float, float]]] = {command: [] for command in commands}
    with tempfile.TemporaryDirectory() as folder:
        all_images, one_image = Path(folder) / "all", Path(folder) / "one"
        write_images(all_images, arguments.count)
        write_images(one_image, 1)
        for _ in range(arguments.repeats):
            for command in commands:
                times[command].append((detect(command, one_image, more), detect(command, all_images, more)))
    print(
        "| command | images | one image, s | all, s | ms per image | ms per further image |\n|---|---|---|---|---|---|"
    )
    for command, runs in times.items():
        one, whole = (statistics.median(values) for values in zip(*runs, strict=True))
        each, further = 1e3 * whole / arguments.count, 1e3 * (whole - one) / max(arguments.count - 1, 1)
        shown = " ".join(["detect", *more])
        print(f"| {command} {shown} | {arguments.count} | {one:.2f} | {whole:.2f} | {each:.1f} | {further:.1f} |")


if __name__ == "__main__":
    main()
