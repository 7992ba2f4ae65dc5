"""Writes ``docs/report.jpg``, the top of the report of the bundled Faster R-CNN, with Chromium.

``python scripts/site/report_screenshot.py IMAGES ANNOTATIONS``, the folder and the file of BCCD's test images in COCO's
format. It uses the tests' driver of the browser.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import pyrcnn  # noqa: E402
from pyrcnn import data, evaluate  # noqa: E402
from tests.browser import Page  # noqa: E402

WIDTH, HEIGHT, SCALE = 1200, 2130, 0.75


def main() -> None:
    """Evaluate, open the page, and write its top as a JPEG."""
    images, annotations = sys.argv[1:]
    model = pyrcnn.load_model("faster_rcnn_mobilenet_v2_fpn")
    with tempfile.TemporaryDirectory() as folder:
        title = "faster_rcnn_mobilenet_v2_fpn on BCCD's test images"
        page = evaluate.report(model, data.coco(images, annotations), folder, title=title)
        with Page(page, WIDTH) as shown:
            # The picture shows one thing of each kind, and no time, which would be that of whoever made the picture.
            for part in ("#scores", "#threshold"):
                shown.evaluate(f"document.querySelector('{part}').parentElement.remove()")
            shown.evaluate("document.querySelector('.tile:last-child').remove()")
            area = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": SCALE}
            png = shown.screenshot(whole=True, clip=area)
    Image.open(io.BytesIO(png)).convert("RGB").save(ROOT / "docs/report.jpg", quality=72, optimize=True)


if __name__ == "__main__":
    main()
