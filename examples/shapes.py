"""Draws a small data set to train on: coloured discs, squares and triangles on noise, in COCO's format.

    python examples/shapes.py FOLDER [--images 80]

writes FOLDER/images/*.jpg and FOLDER/shapes.json. The same arguments draw the same images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SIDE = 128  # pixels
CLASSES = ("disc", "square", "triangle")


def corners(rng: np.random.Generator, taken: list[list[int]]) -> list[int] | None:
    """Return x1 y1 x2 y2 of a place that hardly touches those that are taken, or None if there is none."""
    for _ in range(20):
        size = int(rng.integers(20, 49))
        x, y = (int(v) for v in rng.integers(2, SIDE - size - 2, 2))
        if all(x > b[2] or y > b[3] or x + size < b[0] or y + size < b[1] for b in taken):
            return [x, y, x + size, y + size]
    return None


def draw_image(rng: np.random.Generator) -> tuple[Image.Image, list[tuple[int, list[int]]]]:
    """Draw an image with one to four shapes; return it and (label, box) of each."""
    noise = rng.normal(90, 25, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    image, objects = Image.fromarray(noise), []
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 5))):
        box = corners(rng, [taken for _, taken in objects])
        if box is None:
            break
        label, colour = int(rng.integers(3)), tuple(int(v) for v in rng.integers(130, 256, 3))
        x1, y1, x2, y2 = box
        if label == 0:
            pen.ellipse((x1, y1, x2 - 1, y2 - 1), colour)
        elif label == 1:
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), colour)
        else:
            pen.polygon([((x1 + x2) // 2, y1), (x2 - 1, y2 - 1), (x1, y2 - 1)], colour)
        objects.append((label, box))
    return image, objects


def make(folder: Path, count: int, seed: int = 0) -> Path:
    """Write ``count`` images and their annotations; return the annotation file."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        image, objects = draw_image(rng)
        name = f"{number:04d}.jpg"
        image.save(folder / "images" / name, quality=92)
        images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        for label, (x1, y1, x2, y2) in objects:
            w, h = x2 - x1, y2 - y1
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": label + 1,
                                "bbox": [x1, y1, w, h], "area": w * h, "iscrowd": 0})  # fmt: skip
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    path = folder / "shapes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=80)
    options = parser.parse_args()
    print(f"{make(options.folder, options.images)}: {options.images} images")
