"""Reads COCO's annotation files entry by entry: a file of half a gigabyte takes a few megabytes of memory.

The text is decoded in blocks. Runs of entries of the usual types go through msgspec, which checks all of their JSON
and creates only the values that are asked for. Everything else goes through Python's ``json``, so that what is valid
JSON, and the message about what is not, are Python's.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, needing
from .values import check_file

with needing("msgspec", "reading data sets"):
    import msgspec

BLOCK = 1 << 20  # bytes that are read at a time
_MARGIN = 64  # characters behind a value that must be there, so that a number is not cut off
_ATTEMPTS = 4  # at the ends of how many entries a block is cut, before its entries are read one by one
_BETWEEN = re.compile(r"\}[ \t\n\r]*,[ \t\n\r]*\{")
_POSITION = re.compile(r"(?<=position )\d+|(?<=\d-)\d+")
_SPACE = re.compile(r"[ \t\n\r]*")
_scan = json.JSONDecoder().raw_decode


class Batch(NamedTuple):
    """Some entries of a list: ``entries`` as Python's ``json`` gives them, or ``typed`` ones with their ``text``."""

    key: str
    entries: list[Any] | None
    typed: list[Any] | None = None
    text: str = ""


class Start(NamedTuple):
    """The start of the list ``key``; what came under the same key before does not count, as in Python's ``json``."""

    key: str


class Other(NamedTuple):
    """A value under another key, or one that is no list under the key of a list."""

    key: str
    value: Any = None


Event = Batch | Start | Other


def events_of(source: Mapping[str, Any], keys: Collection[str]) -> Iterator[Event]:
    """Yield the lists of a dictionary as :func:`events` does those of a file."""
    for key, value in source.items():
        if key in keys and isinstance(value, list):
            yield Start(key)
            yield Batch(key, value)
        else:
            yield Other(key, value)


def events(path: str | os.PathLike[str], name: str, kinds: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the entries of some lists of a JSON object in a file, in the file's order.

    Args:
        path: the file.
        name: what messages begin with.
        kinds: key of each list → the type (a ``msgspec.Struct``) that its entries usually have, or None.

    Raises:
        pyrcnn.InputError: if the file cannot be read or is not valid JSON.
    """
    file = Path(path)
    check_file(file, name)
    try:
        with file.open("rb") as stream:
            text = _Text(stream)
            try:
                yield from _Reader(text, kinds).read()
            except json.JSONDecodeError as error:
                raise ValueError(text.place(error)) from None
    except OSError as error:
        raise InputError(f"{name} must be a readable file, got {file} ({error.strerror})") from None
    except RecursionError:
        raise InputError(f"{name} must be valid JSON, got {file}, which is nested too deeply") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{name} must be valid JSON, got {file} ({str(error)[:200]})") from None


class _Text:
    """The part of a file's text that is in memory, from the position ``at`` on."""

    def __init__(self, stream: Any):
        self.stream, self.text, self.at, self.ended = stream, "", 0, False
        self.bytes = 0  # that were read
        self.before, self.lines, self.column = 0, 0, 0  # characters and line ends before, and the last line's length
        self.decoder: codecs.IncrementalDecoder | None = None
        self.more()

    def more(self, size: int | None = None) -> bool:
        """Read on, and forget what lies before ``at``. False at the end of the file."""
        if self.ended:
            return False
        content = self.stream.read(size or BLOCK)
        self.ended = not content
        if self.decoder is None:
            self.decoder = codecs.getincrementaldecoder(json.detect_encoding(content))("surrogatepass")
        past = self.text[: self.at]
        self.before += len(past)
        lines = past.count("\n")
        self.lines += lines
        self.column = len(past) - past.rindex("\n") - 1 if lines else self.column + len(past)
        self.bytes += len(content)
        try:
            decoded = self.decoder.decode(content, final=self.ended)
        except UnicodeDecodeError as error:  # its positions are those in the bytes that were left, and these
            before = self.bytes - len(error.object)
            raise ValueError(_POSITION.sub(lambda found: str(int(found[0]) + before), str(error))) from None
        self.text, self.at = self.text[self.at :] + decoded, 0
        return not self.ended or bool(self.text)

    def place(self, error: json.JSONDecodeError) -> str:
        """Return the message of an error in ``text`` with its place in the file."""
        head = self.text[: error.pos]
        lines = head.count("\n")
        column = len(head) - head.rindex("\n") if lines else self.column + len(head) + 1
        return f"{error.msg}: line {self.lines + lines + 1} column {column} (char {self.before + error.pos})"

    def skip(self) -> str:
        """Move to the next character that is no space, and return it; empty at the end of the file."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self, wanted: str, message: str) -> str:
        """Skip spaces and one character, which must be among ``wanted``."""
        found = self.skip()
        if not found or found not in wanted:
            raise json.JSONDecodeError(message, self.text, self.at)
        self.at += 1
        return found

    def value(self) -> Any:
        """Return the value at ``at`` and move behind it."""
        self.skip()
        size = BLOCK
        while True:
            try:
                found, end = _scan(self.text, self.at)
                if self.ended or len(self.text) - end >= _MARGIN:
                    self.at = end
                    return found
            except json.JSONDecodeError:
                if self.ended:
                    raise
            self.more(size)
            size *= 2  # so that reading a long value takes time in proportion to its length


class _Reader:
    def __init__(self, text: _Text, kinds: Mapping[str, Any]):
        self.text = text
        self.decoders = {key: None if kind is None else msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
                         for key, kind in kinds.items()}  # fmt: skip

    def read(self) -> Iterator[Event]:
        text = self.text
        if text.skip() != "{":
            text.value()
            self._end()
            return
        text.at += 1
        if text.skip() == "}":
            text.at += 1
            self._end()
            return
        while True:
            if text.skip() != '"':
                raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text.text, text.at)
            key = text.value()
            text.take(":", "Expecting ':' delimiter")
            if key in self.decoders and text.skip() == "[":
                text.at += 1
                yield Start(key)
                yield from self._entries(key)
            else:
                yield Other(key, text.value())
            if text.take(",}", "Expecting ',' delimiter") == "}":
                break
        self._end()

    def _end(self) -> None:
        if self.text.skip():
            raise json.JSONDecodeError("Extra data", self.text.text, self.text.at)

    def _entries(self, key: str) -> Iterator[Batch]:
        text = self.text
        if text.skip() == "]":
            text.at += 1
            return
        while True:
            batch = self._run(key)
            if batch is not None:  # ends before the comma of a further entry
                yield batch
                text.take(",", "Expecting ',' delimiter")
                text.more()
                continue
            found = []
            while True:  # one by one to the end of what is in memory
                found.append(text.value())
                last = text.take(",]", "Expecting ',' delimiter") == "]"
                if last or (len(text.text) - text.at < BLOCK // 16 and not text.ended):
                    break
            yield Batch(key, found)
            if last:
                return
            text.more()

    def _run(self, key: str) -> Batch | None:
        """Return the entries up to one of the last in memory, if they can be read at once."""
        text, decoder = self.text, self.decoders[key]
        text.skip()
        ends = [
            m.start() + 1 for m in _BETWEEN.finditer(text.text, max(text.at, len(text.text) - max(BLOCK // 8, 4096)))
        ]
        for end in ends[: -_ATTEMPTS - 1 : -1]:
            part = f"[{text.text[text.at : end]}]"
            batch = _decoded(key, part, decoder)
            if batch is not None:
                text.at = end
                return batch
        return None


def _decoded(key: str, text: str, decoder: Any) -> Batch | None:
    """Return the entries of a whole list; None if the text is none."""
    if decoder is not None:
        try:
            return Batch(key, None, decoder.decode(text), text)
        except msgspec.ValidationError:  # of other types
            pass
        except (msgspec.DecodeError, UnicodeError):  # no JSON, or some that Python alone accepts: NaN, lone surrogates
            if "NaN" not in text and "Infinity" not in text and "\\u" not in text and text.isascii():
                return None
    try:
        return Batch(key, json.loads(text))
    except json.JSONDecodeError:
        return None
