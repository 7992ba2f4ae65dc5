"""Random mutations of valid annotation and result files: each is read with a report, or refused by ``InputError``.

``python -m tests.fuzz.annotations --mutations 10000 --seed 0`` prints how many were read without a word, read with a
report and refused, the longest time of one, and the peak of memory. Anything else ends it with the seed of the file.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import random
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from pyrcnn import InputError, data, evaluate

MOST_SECONDS, MOST_MEMORY = 10.0, 1.5e9  # of processor time for one file; of the process
SIZE = (64, 48)
SKELETON = ["nose", "left_eye", "right_eye"]

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 2**31, 2**63, 10**30, 10**400, -(10**400), 0.0, -0.0, 0.5, 1.0, 1e-320, 1e-9,
    1e9, 1e300, -1e300, float("nan"), float("inf"), -float("inf"), "", "0", "1", "2.0", " 7 ", "1e999", "nan", "abc",
    "1.png", "../1.png", "/etc/passwd", "a\0b", "\ud800", "..", "x" * 5000, "日本", "\x1b[31m", "[bold]", [], [1],
    [None], [[]], [[[[]]]], [1, 2, 3, 4], [1, 2, 3, -4], ["1", "2", "3", "4"], [0] * 2000, {}, {"id": 1},
    {"counts": "", "size": [0, 0]}, {"counts": [10**400], "size": [1, 1]}, [[0, 0, 1, 0, 1, 1]],
    {"counts": "PPPPPPP", "size": [1e9, 1e9]},
]  # fmt: skip
BYTES = [
    b"\0",
    b"\xff",
    b'"',
    b"{",
    b"]",
    b",",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"1" * 5000,
    b"\\u0000",
    b"NaN",
    b"-",
]


def valid() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return an annotation file and results that score AP 1.0 on it: crowds, polygons, run lengths, keypoints."""
    width, height = SIZE
    images = [{"id": i, "file_name": f"{i}.png", "width": width, "height": height} for i in (1, 2, 7)]
    categories = [{"id": 3, "name": "cat", "supercategory": "animal"},
                  {"id": 5, "name": "person", "keypoints": SKELETON, "skeleton": [[1, 2]]}]  # fmt: skip
    annotations: list[dict[str, Any]] = []
    for image in images:
        for category in (3, 5):
            x, y = 2 + 7 * category, 3 + category
            annotation = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category,
                          "bbox": [x, y, 12.5, 9], "area": 112.5, "iscrowd": 0,
                          "segmentation": [[x, y, x + 12.5, y, x + 12.5, y + 9, x, y + 9]]}  # fmt: skip
            if category == 5:
                annotation |= {"keypoints": [x + 1, y + 1, 2, x + 4, y, 1, 0, 0, 0], "num_keypoints": 2}
            annotations.append(annotation)
    crowd = {"size": [height, width], "counts": [10, 5, height * width - 15]}
    annotations.append({"id": 99, "image_id": 7, "category_id": 3, "bbox": [0, 10, 1, 5], "area": 5, "iscrowd": 1,
                        "segmentation": crowd})  # fmt: skip
    truth = {"info": {"year": 2020}, "images": images, "annotations": annotations, "categories": categories}
    return truth, results_of(truth)


def results_of(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of COCO's annotation dictionary as detections."""
    fields = ("image_id", "category_id", "bbox", "keypoints")
    return [{k: a[k] for k in fields if k in a} | {"score": 0.9} for a in truth["annotations"] if not a["iscrowd"]]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of every value inside ``value``."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        container = waiting.pop()
        if isinstance(container, dict | list):
            keys = list(container) if isinstance(container, dict) else range(len(container))
            found += [(container, key) for key in keys]
            waiting += [container[key] for key in keys]
    return found


def mutated(document: Any, rng: random.Random) -> bytes:
    """Return the text of a document in which one to four values, or some bytes, were changed."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        choices = places(document)
        if not choices:
            break
        container, key = rng.choice(choices)
        action = rng.randrange(8)
        if action < 4:
            container[key] = copy.deepcopy(rng.choice(ODD))
        elif action == 4:
            del container[key]
        elif action == 5:
            other, other_key = rng.choice(choices)
            container[key] = copy.deepcopy(other[other_key])
        elif action == 6:
            container[key] = [container[key]] if rng.random() < 0.5 else str(container[key])[:100]
        elif isinstance(container, list):
            container.extend(copy.deepcopy([container[key]] * rng.choice((1, 2, 200))))
        else:
            container[rng.choice(("id", "bbox", "name", "score", "file_name", "é"))] = container.pop(key)
    text = json.dumps(document).encode()
    for _ in range(rng.choice((0, 0, 0, 0, 1, 2))):
        at = rng.randrange(len(text) + 1)
        text = rng.choice((text[:at], text[:at] + rng.choice(BYTES) + text[at:], text[:at] + text[at + 1 :]))
    return text


class Reports(logging.Handler):
    """Counts the reports that are logged, and formats each."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        assert record.getMessage().isprintable() or "\n" in record.getMessage()
        self.count += 1


def used(images: Path, truth: Path, results: Path) -> None:
    """Read and score the files in every way; ``InputError`` if one of them is refused."""
    refused: list[InputError] = []

    def attempt(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except InputError as error:
            refused.append(error)
            return None

    loaded = attempt(lambda: data.coco(images, truth, check=False))
    for keypoints, sigmas in ((False, None), (True, [0.1] * len(SKELETON))):
        scores = [attempt(lambda k=keypoints, s=sigmas: evaluate.coco(results, truth, keypoints=k, sigmas=s))]
        if loaded is not None:
            scores.append(attempt(lambda k=keypoints, s=sigmas: evaluate.coco(results, loaded, keypoints=k, sigmas=s)))
        for found in scores:
            assert found is None or all(v == -1 or 0 <= v <= 1 + 1e-9 for v in found.values()), found
    if loaded is not None:
        for i, record in enumerate(loaded.records):
            assert record.path.resolve().is_relative_to(images.resolve()), record.path
            targets = loaded.targets(i)
            assert targets.labels.lt(len(loaded.classes)).all()
        known = loaded.ground_truth()
        itself = evaluate.score(known, results_of(known))["AP"]
        crowded = Counter((a["image_id"], a["category_id"]) for a in known["annotations"])
        few = max(crowded.values(), default=0) <= 100  # COCO's score counts a hundred detections
        assert not few or itself == -1 or abs(itself - 1) < 1e-9, f"the truth scores {itself} against itself"
    assert all(str(error).isprintable() for error in refused), f"not one line: {refused}"
    if refused:
        raise refused[0]


def run(mutations: int, seed: int, folder: Path) -> Counter[str]:
    """Try ``mutations`` files and return how many were clean, reported and refused."""
    images = folder / "images"
    images.mkdir()
    for name in ("1.png", "2.png", "7.png"):
        Image.new("RGB", SIZE).save(images / name)
    Image.new("RGB", SIZE).save(folder / "1.png")  # outside: never read
    truth, results = valid()
    files = folder / "truth.json", folder / "results.json"
    handler, log = Reports(), logging.getLogger("pyrcnn")
    log.addHandler(handler)
    log.propagate = False
    counts: Counter[str] = Counter()
    slowest = 0.0
    try:
        for number in range(mutations):
            rng = random.Random(f"{seed} {number}")
            which = rng.randrange(3)  # the annotations, the results, or both
            found = rng.choice((results, truth | {"annotations": results}))  # a list, or with names of its own
            files[0].write_bytes(json.dumps(truth).encode() if which == 1 else mutated(truth, rng))
            files[1].write_bytes(json.dumps(found).encode() if which == 0 else mutated(found, rng))
            before, began = handler.count, time.process_time()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    used(images, *files)
                counts["with a report" if handler.count > before else "without a word"] += 1
            except InputError:
                counts["refused"] += 1
            except BaseException:
                print(f"mutation {number} of seed {seed}:")
                raise
            slowest = max(slowest, time.process_time() - began)
            assert slowest < MOST_SECONDS, f"mutation {number} of seed {seed} took {slowest:.1f} s"
    finally:
        log.removeHandler(handler)
        log.propagate = True
    counts["slowest, ms"] = round(slowest * 1000)
    return counts


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(arguments.mutations, arguments.seed, Path(folder))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for name, count in counts.items():
        print(f"{name}: {count}")
    print(f"peak memory, MB: {memory / 1e6:.0f}")
    assert memory < MOST_MEMORY, f"{memory / 1e9:.2f} GB"


if __name__ == "__main__":
    main()
