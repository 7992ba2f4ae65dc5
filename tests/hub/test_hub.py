"""Uploads and downloads with the real ``huggingface_hub`` against a stand-in for the Hub."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from pyrcnn import checkpoints, models
from tests.conftest import python
from tests.hub.server import TOKEN, hub
from tests.hub.test_folders import IMAGE, small

pytest.importorskip("huggingface_hub")

CODE = """
import json, os, torch, pyrcnn
from pyrcnn import InputError, models
folder, results = sys.argv[1], {}
def refusal(call):
    try:
        call()
    except InputError as error:
        return str(error)
model = models.load(folder + "/m.safetensors")
image = torch.load(folder + "/image.pt")
wanted = model([image])[0]
results["commit"] = model.push_to_hub("me/cells", private=True, token="hf_test", license="mit")
results["without a token"] = refusal(lambda: models.Detector.from_pretrained("me/cells"))
again = models.Detector.from_pretrained("me/cells", token="hf_test")
results["same"] = bool(torch.equal(again([image])[0].scores, wanted.scores)) and again.classes == model.classes
model.classes = ["a", "b"]
results["second"] = model.push_to_hub("me/cells", token="hf_test")
os.environ["HF_TOKEN"] = "hf_test"
results["newest"] = pyrcnn.load_model("hf://me/cells").classes
results["first"] = pyrcnn.load_model("hf://me/cells@" + results["commit"].rpartition("/")[2]).classes
results["revision"] = models.CenterNet.from_pretrained("me/cells", revision="main").classes
results["weights"] = pyrcnn.load_model("centernet_mobilenet_v2_fpn_512", weights="hf://me/cells").classes
results["no repository"] = refusal(lambda: pyrcnn.load_model("hf://me/lost"))
results["no revision"] = refusal(lambda: pyrcnn.load_model("hf://me/cells@v9"))
results["no file"] = refusal(lambda: pyrcnn.load_model("hf://me/empty"))
results["bad name"] = refusal(lambda: pyrcnn.load_model("hf://me/--x"))
results["refused upload"] = refusal(lambda: model.push_to_hub("me/cells", token="hf_wrong"))
print(json.dumps(results))
"""
OFFLINE = """
import pyrcnn
from pyrcnn import InputError
print(pyrcnn.load_model("hf://me/cells").classes)
try:
    pyrcnn.load_model("hf://me/other")
except InputError as error:
    print(error)
"""


def run(code: str, folder: Path, address: str, **more: str) -> str:
    command, working = python(code, folder)
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | settings | more
    ran = subprocess.run(command, cwd=working, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip().splitlines()[-1] if "json" in code else ran.stdout.strip()


def test_a_model_goes_to_the_hub_and_back(tmp_path: Path) -> None:
    model = small()
    checkpoints.save(model, tmp_path / "m.safetensors")
    torch.save(IMAGE, tmp_path / "image.pt")
    with hub() as server:
        server.repositories["me/empty"] = []
        server.commit("me/empty", {"a.txt": b""})
        results = json.loads(run(CODE, tmp_path, server.address))
        commits = server.repositories["me/cells"]
        address = server.address
        assert server.private["me/cells"] is True
    assert results["same"] is True
    assert results["commit"].startswith(f"{address}/me/cells/commit/")
    assert [set(files) for files in commits[1:]] == [{".gitattributes", "README.md", "model.safetensors"}] * 2
    assert commits[1]["README.md"].startswith(b"---\nlibrary_name: pyrcnn")
    # The card that is there stays, although the classes changed.
    assert commits[2]["README.md"] == commits[1]["README.md"]
    (tmp_path / "model.safetensors").write_bytes(commits[1]["model.safetensors"])
    assert models.load(tmp_path / "model.safetensors").classes == model.classes
    assert results["newest"] == results["revision"] == results["weights"] == ["a", "b"]
    assert results["first"] == model.classes
    missing = "there is no such repository, or it needs a token: hf auth login"
    assert results["without a token"] == f"folder_or_repo: me/cells on the Hub: {missing}"
    assert results["no repository"] == f"folder_or_repo: me/lost on the Hub: {missing}"
    assert results["no revision"] == "folder_or_repo: me/cells on the Hub: it has no such revision"
    assert results["no file"] == "folder_or_repo: me/empty on the Hub: it holds no model.safetensors"
    assert results["bad name"].startswith("folder_or_repo: me/--x on the Hub: ")
    assert results["refused upload"].startswith("repo_id: me/cells on the Hub: ")
    assert all("\n" not in text for text in results.values() if isinstance(text, str))
    # The cache works without the server, and what is not there is one line.
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        classes, message = run(OFFLINE, tmp_path, address, HF_TOKEN=TOKEN, **more).splitlines()
        assert classes == "['a', 'b']"
        assert message.startswith("folder_or_repo: me/other on the Hub: ")
