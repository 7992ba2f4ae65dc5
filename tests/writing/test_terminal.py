"""What reaches the terminal: names as they are, but harmless, on every command and whatever the terminal is."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pyrcnn import checkpoints, cli, data, models
from pyrcnn.checkpoints.report import Report
from pyrcnn.commands import terminal
from pyrcnn.texts import printable
from tests.conftest import python
from tests.detector import annotation_file
from tests.test_cli import run

NAME = "centernet_mobilenet_v2_fpn_512"
NAMES = {  # a name as Python holds it → as it is shown
    "shot[bold].png": "shot[bold].png",
    "[red]a[1].png": "[red]a[1].png",
    "[link=x]a[not closed.png": "[link=x]a[not closed.png",
    "a{task.description}%s%n.png": "a{task.description}%s%n.png",
    "two\nlines.png": "two\\nlines.png",
    "back\rspace\b.png": "back\\rspace\\x08.png",
    "\x1b[31mred\x1b]0;title\x07.png": "\\x1b[31mred\\x1b]0;title\\x07.png",
    "\x9b2Jc1.png": "\\x9b2Jc1.png",
    "gpj.\u202egnp.png": "gpj.\\u202egnp.png",
    "\u2066isolate\u2069.png": "\\u2066isolate\\u2069.png",
    "zero\u200bwidth\ufeff.png": "zero\\u200bwidth\\ufeff.png",
    "caf\udce9.png": "caf\\xe9.png",
    "\udcff\udcfe.png": "\\xff\\xfe.png",
    "日本　語é ß.png": "日本　語é ß.png",
    "a\u2028b.png": "a\\u2028b.png",
    "--help.png": "--help.png",
    " spaces  inside .png": " spaces  inside .png",
    "emoji👍.png": "emoji👍.png",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "m.safetensors"
    model = models.build(NAME, num_classes=2, input_size=64)
    model.classes = ["[bold]\x1b[31mcell\n", "\ud800\u202edisc"]
    checkpoints.save(model, file)
    return file


@pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=range(len(NAMES)))
def test_printable(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(shown) == shown
    assert shown.isprintable() or "\u3000" in shown
    printable(name).encode()


# ---- names on every command ------------------------------------------------------------------------------------------


def test_detect_shows_any_name(monkeypatch, capfd, tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "set[red]\x1b[5m"
    folder.mkdir()
    for name in NAMES:
        Image.new("RGB", (40, 30)).save(folder / name)
    out = tmp_path / "out[v1]"
    arguments = ("detect", folder, "--weights", weights, "--score", 0)
    assert run(monkeypatch, *arguments, "--out", out) == 0
    printed = capfd.readouterr().out
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    lines = printed.split("\n")
    for shown in NAMES.values():
        assert f"{tmp_path}/set[red]\\x1b[5m/{shown}: 20 objects" in lines
        assert f"  annotated image: {out}/{shown.removesuffix('.png')}.jpg" in lines
    assert sum("[bold]\\x1b[31mcell\\n" in line for line in lines) + sum("\\u202edisc" in x for x in lines) == 360
    assert len(list(out.iterdir())) == len(NAMES)
    assert run(monkeypatch, *arguments, "--out", tmp_path / "json", "--json") == 0
    printed = capfd.readouterr().out
    assert printed.isascii()
    entries = json.loads(printed)
    assert {Path(entry["image"]).name for entry in entries} == set(NAMES)
    assert all(Path(entry["annotated"]).exists() for entry in entries)
    assert {d["label"] for entry in entries for d in entry["detections"]} <= {
        "[bold]\x1b[31mcell\n",
        "\ud800\u202edisc",
    }


@pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=range(len(NAMES)))
def test_every_command_complains_in_one_line_about_any_name(
    name: str, shown: str, monkeypatch, capfd, tmp_path: Path, weights: Path
) -> None:
    missing, given = tmp_path / "no" / name, tmp_path / name
    given.write_text("no image, no weights, no annotations")
    for arguments in (
        ("detect", missing),
        ("detect", given),
        ("detect", "--weights", missing),
        ("detect", "--weights", given, "--model", NAME),
        ("detect", "--model", name),
        ("detect", "--out", given),
        ("detect", f"--{name}"),
        ("evaluate", "--annotations", missing, "--detections", missing),
        ("evaluate", "--annotations", given, "--detections", given),
        ("train", NAME, "--images", tmp_path, "--annotations", missing),
        ("train", NAME, "--images", tmp_path, "--annotations", given, "--out", tmp_path / "run"),
        ("train", NAME, "--images", tmp_path, "--annotations", given, "--set", name),
        ("convert", missing, tmp_path / "o.safetensors", "--model", NAME),
        ("convert", given, tmp_path / "o.safetensors", "--model", NAME),
        ("convert", weights, given, "--model", NAME),
        ("export", given, "--weights", weights),
        ("benchmark", "--weights", missing),
        ("benchmark", "--model", name),
        (name,),
    ):
        assert run(monkeypatch, *arguments) == 2, arguments
        error = capfd.readouterr().err
        assert error.startswith("pyrcnn: "), arguments
        assert error.count("\n") == 1, error
        assert error[:-1].isprintable() or "\u3000" in error, error
        assert "\x1b" not in error


def test_reports_and_results_show_any_name(monkeypatch, capfd, tmp_path: Path, weights: Path) -> None:
    report = Report("\x1b[2J.pth", ("a",), unexpected=("x\ny", "\u202e"), notes=("\x07",))
    assert str(report).split("\n") == [
        "\\x1b[2J.pth: 1 entries used", "  unexpected: x\\ny, \\u202e", "  note: \\x07"
    ]  # fmt: skip
    problems = data.report.Report("a\rb.json")
    problems.add("image \x1b[1m\n.jpg", "the file is missing", "image skipped")
    assert str(problems).split("\n")[1:] == ["  image \\x1b[1m\\n.jpg: the file is missing; image skipped"]
    out = tmp_path / "out[x]\x1b[7m.safetensors"
    assert run(monkeypatch, "convert", weights, out, "--model", NAME, "--set", "num_classes=2") == 0
    assert capfd.readouterr().out.split("\n")[-2] == f"{tmp_path}/out[x]\\x1b[7m.safetensors"
    folder = tmp_path / "run\x1b[0m[bold]"
    (tmp_path / "a.json").write_text(json.dumps(annotation_file(tmp_path / "images")))
    arguments = ("--images", tmp_path / "images", "--annotations", tmp_path / "a.json", "--weights", weights)
    sets = [v for s in ("input_size=64", "epochs=1", "batch_size=2") for v in ("--set", s)]
    assert run(monkeypatch, "train", NAME, *arguments, *sets, "--out", folder) == 0
    shown = capfd.readouterr()
    assert f"{tmp_path}/run\\x1b[0m[bold]/last.safetensors" in shown.out
    assert "\x1b" not in shown.out
    assert "\x1b" not in shown.err


def test_what_is_logged_is_shown_as_any_name(monkeypatch, capfd) -> None:
    def log(*_: object) -> None:
        logging.getLogger("pyrcnn.data").warning("class %s; %s", "\x1b[31mred", "a\nb")

    monkeypatch.setattr(terminal, "print_pairs", log)
    for _ in range(2):
        assert run(monkeypatch, "info") == 0
        assert capfd.readouterr().err == "class \\x1b[31mred; a\\nb\n"
    assert not logging.getLogger("pyrcnn").handlers


# ---- terminals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16", "shift-jis"])
def test_an_encoding_that_lacks_the_characters(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.show(*NAMES, "…")
    terminal.print_pairs("日本", {"é": "👍"}, False)
    lines = stream.buffer.getvalue().decode(encoding).split("\n")  # type: ignore[attr-defined]
    assert len(lines) == len(NAMES) + 1 + 2 + 1
    assert lines[0] == "shot[bold].png"


def test_numbers_that_json_lacks() -> None:
    shown = io.StringIO()
    before, sys.stdout = sys.stdout, shown
    try:
        terminal.print_json(
            {"a": float("nan"), "b": [float("inf"), (-1.5, float("-inf"))], "c": Path("x"), "\udce9": 1}
        )
    finally:
        sys.stdout = before
    text = shown.getvalue()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None, "b": [None, [-1.5, None]], "c": "x", "\udce9": 1
    }  # fmt: skip


def test_without_standard_output(monkeypatch, capsys, tmp_path: Path, weights: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(sys, "stdout", None)
    assert run(monkeypatch, "detect", tmp_path / "a.png", "--weights", weights, "--out", tmp_path / "out") == 0
    assert run(monkeypatch, "models") == 0
    monkeypatch.setattr(sys, "stderr", None)
    assert run(monkeypatch, "detect", tmp_path / "none.png") == 2
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.jpg"]


def command(*arguments: object, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    code, folder = python("from pyrcnn.cli import main\nsys.argv[0] = 'pyrcnn'\nmain()", *arguments)
    if shell:
        code = ["sh", "-c", shell, *code]
    return subprocess.run(code, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written() -> None:
    full = command("models", "--urls", shell='exec "$0" "$@" > /dev/full')
    assert (full.returncode, full.stderr) == (2, "pyrcnn: standard output cannot be written: No space left on device\n")
    both = command("models", "--urls", shell='exec "$0" "$@" > /dev/full 2>&1')
    assert both.returncode == 2
    closed = command("models", "--urls", shell='exec "$0" "$@" >&- 2>&-')
    assert closed.returncode == 0
    ended = command("models", "--urls", shell='"$0" "$@" | true')
    assert ended.stderr == ""


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "utf-8:strict", "COLUMNS": "1"},
    ],
    ids=["C", "ascii", "narrow"],
)
def test_locales(environment: dict[str, str], tmp_path: Path, weights: Path) -> None:
    names = [os.fsencode(name) for name in ("caf\udce9.png", "日本.png", "\x1b[31m.png")]
    for name in names:
        Image.new("RGB", (40, 30)).save(os.fsdecode(os.fsencode(tmp_path / "x.png")))
        os.rename(tmp_path / "x.png", os.fsencode(tmp_path) + b"/" + name)
    ran = command("detect", tmp_path, "--weights", weights, "--out", tmp_path / "out", **environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("annotated image: ") == 3
    assert "\x1b" not in ran.stdout
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(n.replace(b".png", b".jpg") for n in names)


@pytest.mark.parametrize("columns", ["1", "20", "300"])
def test_progress_on_a_terminal(columns: str, tmp_path: Path, weights: Path) -> None:
    """The bar shows on a terminal of any width, and names on it stay harmless."""
    for n in range(3):
        Image.new("RGB", (40, 30)).save(tmp_path / f"[bold]{n}\x1b[31m.png")
    code, folder = python("from pyrcnn.cli import main\nmain()", "detect", tmp_path, "--weights", weights, "--out",
                          tmp_path / "out", "--json")  # fmt: skip
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": columns, "TERM": "xterm", "LC_ALL": "C", "NO_COLOR": "1"}
    process = subprocess.Popen(code, cwd=folder, stdout=subprocess.PIPE, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the process has ended
            break
        if not part:
            break
        shown += part
    os.close(master)
    printed = process.communicate()[0]
    assert process.returncode == 0, shown
    assert len(json.loads(printed)) == 3
    assert b"\x1b[31m" not in shown
    assert b"Error" not in shown


# ---- the end of a command --------------------------------------------------------------------------------------------


def test_bugs_keep_their_traceback(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pyrcnn", "info"])
    monkeypatch.setattr(terminal, "print_pairs", lambda *_: {}["a bug"])
    with pytest.raises(KeyError, match="a bug"):
        cli.main()


def test_a_model_that_does_not_fit_the_memory(monkeypatch, capsys, weights: Path) -> None:
    for options in (("--size", 10**7, 10**7), ("--batch", 10**9)):
        assert run(monkeypatch, "benchmark", "--weights", weights, *options) == 2
        assert capsys.readouterr().err == f"pyrcnn: {cli.TOO_LITTLE_MEMORY}\n"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--size", 0, 64), "--size"), (("--size", 64, -1), "--size"), (("--size", "a", 64), "--size"),
        (("--size", 10**30, 64), "--size"), (("--size", 2**31, 2**31), "--size"),
        (("--batch", 0), "--batch"), (("--batch", 1.5), "--batch"),
        (("--threads", 0), "--threads"), (("--threads", 10**9), "--threads"), (("--repeat", -1), "--repeat"),
        (("--device", "gpu"), "device"), (("--device", ""), "device"), (("--engine", ""), "engine"),
        (("--dtype", ""), "--dtype"), (("--model", ""), "model"), (("--weights", ""), "weights"),
    ],
)  # fmt: skip
def test_values_that_cannot_be(options: tuple[Any, ...], named: str, monkeypatch, capsys, weights: Path) -> None:
    given = options if "--weights" in options or "--model" in options else (*options, "--weights", weights)
    assert run(monkeypatch, "benchmark", *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line


def test_ctrl_c_in_detect_leaves_whole_files(tmp_path: Path, weights: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for n in range(150):
        Image.new("RGB", (400, 300), (n % 256, 0, 0)).save(folder / f"{n:03}.png", compress_level=0)
    listening = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # also in the background
    code, cwd = python(f"{listening}from pyrcnn.cli import main\nmain()", "detect", folder, "--weights", weights,
                       "--out", out)  # fmt: skip
    process = subprocess.Popen(code, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "pyrcnn: interrupted\n")
    written = list(out.iterdir())
    assert 0 < len(written) < 150
    for path in written:
        with Image.open(path) as image:
            image.load()


# ---- nothing else prints ---------------------------------------------------------------------------------------------

FOLDER = Path(cli.__file__).parent
QUIET = sorted({*FOLDER.glob("commands/*.py"), FOLDER / "cli.py"} - {FOLDER / "commands/terminal.py"})


@pytest.mark.parametrize("path", QUIET, ids=lambda p: p.name)
def test_only_terminal_prints(path: Path) -> None:
    calls = [ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    printing = {"print", "typer.echo", "typer.secho", "click.echo", "rprint", "Console", "sys.stdout.write"}
    assert not [call for call in calls if call in printing or call.startswith(("sys.stdout.", "sys.stderr."))]
