"""Models in folders and in repositories of the Hugging Face Hub: one weights file and a model card.

The Hub needs ``huggingface_hub`` (``pip install huggingface_hub``), which reads the environment variables
``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch

from ..atomic import replacing
from ..errors import InputError, needing, path_of, require
from ..texts import one_line, printable

FILE = "model.safetensors"  # in the folder or repository
CARD = "README.md"
SCHEME = "hf://"  # of a repository's address: hf://owner/name, hf://owner/name@revision

T = TypeVar("T", bound="Pretrained")


class Files(NamedTuple):
    """The functions that write and read a weights file; :mod:`pyrcnn.models.saved` provides them."""

    save: Callable[..., None]
    load: Callable[..., Any]


class Pretrained:
    """What detectors have from this module: ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``."""

    FILES: ClassVar[Files]
    """Set by :mod:`pyrcnn.models.saved`, which knows all families, and so stands above them and this class."""

    def save_pretrained(
        self, folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None, license: str | None = None
    ) -> None:
        """Write the model into ``folder``: ``model.safetensors``, as ``checkpoints.save`` does, and a model card.

        Args:
            folder: created if it is missing. Its weights are replaced; a ``README.md`` that is there stays.
            dtype: of the weights in the file, for example torch.float16; None: as they are.
            license: identifier for the card, for example ``"apache-2.0"``.

        Raises :class:`pyrcnn.InputError` if the folder cannot be written, or ``license`` is no identifier: then
        nothing is written.

        Example:
            >>> import tempfile
            >>> from pyrcnn import models
            >>> folder = tempfile.mkdtemp()
            >>> models.build("centernet_mobilenet_v2_fpn_512", num_classes=3).save_pretrained(folder)
            >>> models.CenterNet.from_pretrained(folder).config.num_classes
            3
        """
        place, text = Path(path_of(folder, "folder")), card(self, license)  # which checks before anything is written
        self.FILES.save(self, place / FILE, dtype)
        if not (place / CARD).exists():
            with replacing(place / CARD, argument="folder", overwrite=False) as temporary:
                temporary.write_text(text, encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls: type[T],
        folder_or_repo: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        token: str | None = None,
        **changes: Any,
    ) -> T:
        """The model that ``save_pretrained`` or ``push_to_hub`` wrote, in eval mode.

        ``Detector.from_pretrained`` takes every family, ``CenterNet.from_pretrained`` its own alone.

        Args:
            folder_or_repo: a folder, a ``.safetensors`` file, or a repository of the Hub, ``owner/name``. A folder of
                that name goes first; ``hf://owner/name`` is always a repository. Downloads are cached by
                ``huggingface_hub``.
            revision: branch, tag or commit of the repository.
            device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or a ``torch.device``.
            token: of the Hub, for private repositories; None: the one that ``hf auth login`` stored.
            changes: fields of the configuration to replace.

        Raises :class:`pyrcnn.InputError` if there is no such model, or it is of another family.
        """
        check_device(device)
        given = path_of(folder_or_repo, "folder_or_repo")
        if os.path.isdir(given):
            file = os.path.join(given, FILE)
            require(revision is None, f"revision must be left out with a folder, got {revision!r} for {given}")
        elif os.path.isfile(given):
            file = given
        else:
            file = downloaded(given, revision, token)
        model = cls.FILES.load(file, **changes)
        known = isinstance(model, cls)
        require(known, f"folder_or_repo: {given} holds a {type(model).__name__}, not a {cls.__name__}")
        return model.to(device)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        message: str = "Upload a model",
        dtype: torch.dtype | None = None,
        license: str | None = None,
    ) -> str:
        """Upload what :meth:`save_pretrained` writes into a repository of the Hub, and return the commit's address.

        Args:
            repo_id: ``owner/name``, created if it is missing. A model card that is there stays.
            private: whether a new repository is private; None: the default of the owner.
            revision: the branch; None: the main one.
            token: of the Hub; None: the one that ``hf auth login`` stored.
            message: of the commit.
            dtype: as for :meth:`save_pretrained`.
            license: as for :meth:`save_pretrained`.

        Raises :class:`pyrcnn.InputError` if the Hub refuses.
        """
        repo_id = _repository(repo_id, "repo_id")[0]
        with needing("huggingface_hub", "push_to_hub"):
            from huggingface_hub import HfApi
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder, _errors_of(repo_id, "repo_id"):
            self.save_pretrained(folder, dtype=dtype, license=license)
            api.create_repo(repo_id, private=private, exist_ok=True)
            kept = api.file_exists(repo_id, CARD, revision=revision)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=message,
                ignore_patterns=[CARD] if kept else None,
            )  # fmt: skip
        return str(commit.commit_url)


def check_device(device: str | torch.device) -> None:
    """Raise :class:`pyrcnn.InputError` unless ``device`` is a CPU, an available GPU, or meta."""
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        kind = ""
    require(kind in ("cpu", "cuda", "meta"), f"device must be cpu or cuda, got {device!r}")
    available = kind != "cuda" or torch.cuda.is_available()
    require(available, f"device {device} is not available here, use cpu")


def is_address(source: object) -> bool:
    """Whether ``source`` is the address of a repository, ``hf://…``."""
    return isinstance(source, str) and source.startswith(SCHEME)


def downloaded(repository: str, revision: str | None = None, token: str | None = None) -> str:
    """The path of the weights file of a repository, ``owner/name`` or ``hf://owner/name[@revision]``, in the cache.

    Raises :class:`pyrcnn.InputError` if ``huggingface_hub``, the repository or the file is missing.
    """
    name, own_revision = _repository(repository, "folder_or_repo")
    require(revision is None or own_revision is None, f"revision must be given once, got {revision} and {repository}")
    with needing("huggingface_hub", f"downloading {name} from the Hub"):
        from huggingface_hub import hf_hub_download
    with _errors_of(name, "folder_or_repo"):
        return str(hf_hub_download(name, FILE, revision=revision or own_revision, token=token))


def _repository(text: str, argument: str) -> tuple[str, str | None]:
    """The name ``owner/name`` and the revision in the address of a repository."""
    name, _, revision = text.removeprefix(SCHEME).partition("@")
    parts = name.split("/")
    good = len(parts) == 2 and all(parts) and not name.startswith((".", "~")) and name.isprintable()
    require(good, f"{argument} must be a folder with {FILE}, or a repository owner/name, got {printable(text)!r}")
    return name, revision or None


@contextmanager
def _errors_of(name: str, argument: str) -> Iterator[None]:
    """Turn the errors of ``huggingface_hub`` and of the network into an :class:`InputError` about the repository."""
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except InputError:
        raise
    except RepositoryNotFoundError:
        reason = "there is no such repository, or it needs a token: hf auth login"
    except RevisionNotFoundError:
        reason = "it has no such revision"
    except EntryNotFoundError as error:  # also where the network is off and nothing is cached
        missing = getattr(error, "response", None) is not None
        reason = f"it holds no {FILE}" if missing else one_line(error)
    except (OSError, ValueError, RuntimeError) as error:  # HTTP, no connection, invalid names
        reason = one_line(error) or type(error).__name__
    except Exception as error:  # the errors of the HTTP library that huggingface_hub uses
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "requests"):
            raise
        reason = f"no connection: {one_line(error)}"
    else:
        return
    raise InputError(f"{argument}: {name} on the Hub: {reason}")


def card(model: Any, license: str | None = None) -> str:
    """A model card in the Hub's format (YAML, then Markdown), written from what the model tells about itself."""
    require(license is None or license.replace("-", "").replace(".", "").isalnum(),
            f"license must be an identifier such as 'apache-2.0', got {license!r}")  # fmt: skip
    config, family = model.config, type(model).__name__
    task = "keypoint-detection" if getattr(config, "joints", 0) else "object-detection"
    head = ["---", "library_name: pyrcnn", f"pipeline_tag: {task}", *([f"license: {license}"] if license else []),
            "tags:", f"- {family.lower()}", f"- {config.backbone}", "---"]  # fmt: skip
    defaults = type(config)()
    changed = [
        f"`{field.name}={getattr(config, field.name)!r}`"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(defaults, field.name)
    ]
    size = sum(parameter.numel() for parameter in model.parameters())
    rows = [f"| {label} | {_cell(name)} | {_cell(category)} |"
            for label, (name, category) in enumerate(zip(model.classes, model.category_ids, strict=True))]  # fmt: skip
    body = f"""
# {family} with the backbone {config.backbone}

A detector of pyrcnn with {size / 1e6:.1f} million parameters and {len(rows)} classes.

```python
from pyrcnn import models

model = models.Detector.from_pretrained("FOLDER_OR_REPOSITORY")
detections = model(["image.jpg"])[0]  # boxes x1 y1 x2 y2 in pixels, scores, labels
names = [model.classes[label] for label in detections.labels]
```

Settings other than the defaults of {type(config).__name__}: {", ".join(changed) or "none"}.

| label | class | category id |
|---|---|---|
"""
    return "\n".join(head) + "\n" + body + "\n".join(rows) + "\n"


def _cell(value: object) -> str:
    """Text from a stranger, literally, in a cell of a table."""
    return "".join(f"&#{ord(c)};" if c in "|<>&`*_[]\\!" else c for c in printable(value))
