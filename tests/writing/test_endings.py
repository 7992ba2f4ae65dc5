"""How every command ends after an error: one line and an exit code."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import typer

from pyrcnn import InputError, cli
from pyrcnn.commands import terminal
from tests.test_cli import run

NAME = "centernet_mobilenet_v2_fpn_512"
COMMANDS = {
    "detect": (),
    "evaluate": ("--annotations", "a.json"),
    "train": (NAME, "--images", "i", "--annotations", "a.json"),
    "convert": ("a.pth", "b.safetensors", "--model", NAME),
    "export": ("a.pt2",),
    "benchmark": (),
    "models": (),
    "info": (),
    "data check": ("a.json",),
    "data convert": ("a.json", "b", "--to", "yolo"),
    "data split": ("a.json", "b"),
}
MODULES = {"detect": "detect.command"}


def ending(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> int:
    """The exit code of a command whose work raises ``error``."""
    module = importlib.import_module(f"pyrcnn.commands.{MODULES.get(name, name.replace(' ', '.'))}")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "run", fail)
    return run(monkeypatch, *name.split(), *COMMANDS[name])


def test_the_commands_are_all_tested() -> None:
    found: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    below = {f"{name} {part}" for name, command in found.items() for part in getattr(command, "commands", ())}
    assert set(COMMANDS) == below | {name for name, command in found.items() if not hasattr(command, "commands")}


@pytest.mark.parametrize("name", COMMANDS)
def test_how_commands_end(name: str, monkeypatch, capsys) -> None:
    for error, code, line in (
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("stopped after step 3 of 9"), 130, "stopped after step 3 of 9"),
        (InputError("images: \x1b[1m\nis bad"), 2, "images: \\x1b[1m\\nis bad"),
        (OSError(28, "No space left on device", "/x\x1b[1m"), 2, "/x\\x1b[1m: No space left on device"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (FloatingPointError("training diverged"), 2, "training diverged"),
        (MemoryError(), 2, cli.TOO_LITTLE_MEMORY),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried to"
                " allocate 9 bytes.\nError code 12"
            ),
            2,
            cli.TOO_LITTLE_MEMORY,
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."), 2, cli.TOO_LITTLE_MEMORY),
    ):
        assert ending(monkeypatch, name, error) == code
        shown = capsys.readouterr()
        assert (shown.out, shown.err) == ("", f"pyrcnn: {line}\n")


def test_the_first_of_several_processes_speaks(monkeypatch, capsys) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for rank, said in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        terminal.show("result")
        terminal.note("note")
        terminal.complain("error")
        shown = capsys.readouterr()
        wanted = ("result\n", "note\npyrcnn: error\n") if said else ("", "pyrcnn: error\n")
        assert (shown.out, shown.err) == wanted
    monkeypatch.delenv("MASTER_ADDR")  # another launcher's rank
    terminal.show("result")
    assert capsys.readouterr().out == "result\n"
