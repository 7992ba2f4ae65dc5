"""Time and memory of opening a large COCO file: ``python -m benchmarks.data.open_coco FOLDER [--images 100000]``.

Writes the data set unless it is there: ``--images`` images of 64x48 pixels, all hard links to one JPEG file, and eight
annotations per image with a polygon of 25 corners each, which is a file of 400 MB for 100,000 images. A fresh process
then opens it and prints its seconds (passed, and of the processor) and its peak of memory. ``--workers`` also shows
what two processes of a data loader take, for each way of starting them. Only ``data.coco`` and ``data.batches`` are
used, so ``--python`` may name the interpreter of another installed version.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path

PER_IMAGE, CORNERS = 8, 25

OPEN = """
import resource, sys, time
from pyrcnn import data
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter(), time.process_time()
dataset = data.coco(sys.argv[1], sys.argv[2], check=sys.argv[3] == "whole")
seconds, busy = time.perf_counter() - began[0], time.process_time() - began[1]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"| open, check={sys.argv[3]} | {len(dataset)} | {seconds:.1f} | {busy:.1f} | "
      f"{before * 1024 / 1e6:.0f} | {peak * 1024 / 1e6:.0f} |")
"""

WORKERS = """
import itertools, os, sys, time
import torch
from torch import multiprocessing
from pyrcnn import data

def memory(process):
    lines = open(f"/proc/{process}/smaps_rollup").read().splitlines()[1:]
    of = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return of["Rss"] / 1024, of["Pss"] / 1024, (of["Private_Clean"] + of["Private_Dirty"]) / 1024

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[3])
    torch.set_num_threads(1)
    small = sys.argv[4] == "one image"
    dataset = data.coco(sys.argv[1], sys.argv[2], check=False)
    if small:
        dataset = dataset.select([0])
    began = time.perf_counter()
    batches, _ = data.batches(dataset, 8, workers=2)
    first = next(batches)
    started = time.perf_counter() - began
    for _ in itertools.islice(batches, 2000):
        pass
    children = [c.pid for c in multiprocessing.active_children()]
    found = [memory(child) for child in children]
    shown = " | ".join(f"{sum(values) / len(values):.0f}" for values in zip(*found))
    print(f"| {sys.argv[3]}, {sys.argv[4]} | {started:.1f} | {shown} |")
"""


def write(folder: Path, images: int) -> None:
    """Write the images and ``annotations.json``."""
    from PIL import Image

    place = folder / "images"
    place.mkdir(parents=True)
    drawn = random.Random(0)
    pixels = Image.new("RGB", (64, 48))
    pixels.putdata([(drawn.randrange(256), i % 256, i // 64) for i in range(64 * 48)])
    pixels.save(place / "first.jpg")
    with (folder / "annotations.json").open("w") as file:
        file.write('{"info": {"year": 2026}, "images": [')
        for i in range(images):
            name = f"{i:012d}.jpg"
            if i % 10_000 == 0:  # a file takes a limited number of links
                (folder / "one.jpg").unlink(missing_ok=True)
                (folder / "one.jpg").write_bytes((place / "first.jpg").read_bytes())
            os.link(folder / "one.jpg", place / name)
            entry = {"license": 3, "file_name": name, "coco_url": f"http://images.example.org/{name}", "height": 48,
                     "width": 64, "date_captured": "2013-11-14 17:02:52", "id": i + 1}  # fmt: skip
            file.write((", " if i else "") + json.dumps(entry))
        file.write('], "annotations": [')
        for i in range(images * PER_IMAGE):
            x, y = drawn.uniform(0, 40), drawn.uniform(0, 30)
            w, h = drawn.uniform(2, 20), drawn.uniform(2, 16)
            polygon = [round(v, 2) for _ in range(CORNERS) for v in (x + drawn.random() * w, y + drawn.random() * h)]
            entry = {"segmentation": [polygon], "area": round(w * h, 4), "iscrowd": 0,
                     "image_id": i // PER_IMAGE + 1, "bbox": [round(v, 2) for v in (x, y, w, h)],
                     "category_id": 1 + i % 80, "id": i + 1}  # fmt: skip
            file.write((", " if i else "") + json.dumps(entry))
        file.write('], "categories": ')
        json.dump([{"id": i, "name": f"class {i}", "supercategory": "thing"} for i in range(1, 81)], file)
        file.write("}")
    (place / "first.jpg").unlink()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--workers", action="store_true", help="measure the workers of a data loader too")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if not (folder / "annotations.json").is_file():
        write(folder, arguments.images)
    files = [str(folder / "images"), str(folder / "annotations.json")]
    print(f"annotations.json: {(folder / 'annotations.json').stat().st_size / 1e6:.0f} MB\n", flush=True)
    print("| | images | s | CPU s | RSS before, MB | peak RSS, MB |\n|---|---|---|---|---|---|", flush=True)
    for check in ("whole", "header"):
        subprocess.run([arguments.python, "-c", OPEN, *files, check], check=True)
    if arguments.workers:
        print("\n| workers | first batch, s | RSS, MiB | PSS, MiB | private, MiB |\n|---|---|---|---|---|", flush=True)
        script = folder / "workers.py"  # processes that are not forked import it
        script.write_text(WORKERS)
        for method in ("fork", "spawn", "forkserver"):
            for size in ("one image", "all images"):
                subprocess.run([arguments.python, script, *files, method, size], check=True)


if __name__ == "__main__":
    main()
