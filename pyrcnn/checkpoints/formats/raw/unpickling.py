"""Reads pickles as data: a stack machine that calls nothing that a file names, so that no code in it is executed.

A pickle is a program that names classes and functions and applies them. Here a name is a :class:`Global`, and applying
it makes a :class:`Placeholder`, which holds what was given. Only the stand-ins that the caller passes are called; they
rebuild tensors and arrays.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

MOST_OPCODES = 1_000_000  # a checkpoint with an optimizer has 20 to 100 per tensor; this many take 3 s and 0.3 GB
RENAMED = {"numpy._core": "numpy.core", "__builtin__": "builtins", "copy_reg": "copyreg"}  # one name for all versions
# What a pickle can repeat with two bytes must not be copied each time
MOST_ARGUMENTS = 20
LONGEST_NAME = 1000
KEYS = (str, float, bool, bytes, type(None))


class Unreadable(Exception):
    """Content that violates its format; the caller adds the file's name."""


class Global:
    """A class or function that a pickle names."""

    __slots__ = ("name",)

    def __init__(self, module: str, name: str):
        for old, new in RENAMED.items():
            if module == old or module.startswith(f"{old}."):
                module = new + module[len(old) :]
        self.name = f"{module}.{name}"


class Placeholder(dict[Any, Any]):
    """What a pickle made with a class or function: its name, arguments and state; a mapping's items are its own."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: Any = ()):
        super().__init__()
        self.name, self.arguments, self.state = name, arguments, None

    def set_state(self, state: Any) -> None:
        """Keep the object's state."""
        self.state = state


StandIns = Mapping[str, Callable[..., Any]]


class Machine:
    """Runs one pickle after another from ``stream``; ``names`` are the globals without a stand-in, in their order.

    Args:
        stream: has ``read`` and ``readline``. Lengths in a pickle that exceed the stream are refused when read.
        stand_ins: name → what is called in place of the class or function.
        persistent: called with the ids of objects outside the pickle.
    """

    def __init__(self, stream: Any, stand_ins: StandIns, persistent: Callable[[Any], Any] | None = None):
        self.stream, self.stand_ins, self.persistent = stream, stand_ins, persistent
        self.names: dict[str, None] = {}
        self.count = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The next pickle's content. Raises :class:`Unreadable`, or the error of a damaged pickle: ``ValueError``,
        ``IndexError``, ``TypeError``, ``KeyError``, ``EOFError``.
        """
        self.stack, self.marks, self.memo = [], [], {}
        for opcode, argument, _ in pickletools.genops(self.stream):
            self.count += 1
            if self.count > MOST_OPCODES:
                raise Unreadable(f"it has more than {MOST_OPCODES} pickle instructions")
            run = INSTRUCTIONS.get(opcode.name)
            if run is not None:
                run(self, argument)
            elif argument is not None:  # numbers, strings and bytes
                self.stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
            elif opcode.name == "STOP":
                return self.stack.pop()
            else:
                raise Unreadable(f"it has the pickle instruction {opcode.name}")
        raise Unreadable("it is truncated")

    def _marked(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def _apply(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Global):
            return Placeholder("", arguments)
        known = self.stand_ins.get(function.name)
        if known is not None and isinstance(arguments, (tuple, list)) and len(arguments) <= MOST_ARGUMENTS:
            try:
                return known(*arguments)
            except (TypeError, ValueError, AttributeError, LookupError):
                pass  # not what the function takes: nothing that we rebuild
        return Placeholder(function.name, arguments)

    def _name(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Unreadable("it names a class by something else than text")
        if len(module) + len(name) > LONGEST_NAME:
            raise Unreadable("it names a class by a long text")
        found = Global(module, name)
        if found.name not in self.stand_ins:
            self.names[found.name] = None
        return found

    # ---- instructions ------------------------------------------------------------------------------------------------

    def _global(self, argument: str) -> None:
        self.stack.append(self._name(*argument.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name = self.stack.pop()
        self.stack.append(self._name(self.stack.pop(), name))

    def _inst(self, argument: str) -> None:
        arguments = self._marked()
        self.stack.append(self._apply(self._name(*argument.split(" ", 1)), arguments))

    def _obj(self, _: Any) -> None:
        function, *arguments = self._marked()
        self.stack.append(self._apply(function, arguments))

    def _reduce(self, _: Any) -> None:
        arguments = self.stack.pop()
        self.stack.append(self._apply(self.stack.pop(), arguments))

    def _newobj_ex(self, _: Any) -> None:
        self.stack.pop()  # named arguments
        self._reduce(None)

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        set_state = getattr(self.stack[-1], "set_state", None)
        if set_state is not None:
            set_state(state)

    def _extension(self, argument: int) -> None:
        self.stack.append(self._name("copyreg", f"extension {argument}"))

    def _persistent(self, identity: Any) -> None:
        if self.persistent is None:
            raise Unreadable("it refers to objects outside it")
        self.stack.append(self.persistent(self.stack.pop() if identity is None else identity))

    def _get(self, index: int) -> None:
        if index not in self.memo:
            raise Unreadable("it refers to an object that it does not hold")
        self.stack.append(self.memo[index])

    def _put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def _mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._marked()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        self._close(tuple)

    def _list(self, _: Any) -> None:
        self._close(list)

    def _dict(self, _: Any) -> None:
        self._close(_pairs)

    def _close(self, make: Callable[[list[Any]], Any]) -> None:
        items = self._marked()
        self.stack.append(make(items))

    def _setitem(self, _: Any) -> None:
        value = self.stack.pop()
        self._fill([self.stack.pop(), value])

    def _setitems(self, _: Any) -> None:
        self._fill(self._marked())

    def _fill(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(_pairs(items))

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._marked())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _last(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError("a tuple lacks items")
        self.stack[-count:] = [items]


def _key(value: Any) -> Any:
    """``value`` if it is cheap to hash, or a key that equals no other: deep tuples overflow the stack when hashed."""
    small = isinstance(value, int) and value.bit_length() <= 64
    return value if small or isinstance(value, KEYS) else Placeholder  # not a name, so no weight is lost


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise Unreadable("a dict has a key without a value")
    return {_key(items[i]): items[i + 1] for i in range(0, len(items), 2)}


def _constant(make: Callable[[], Any]) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.stack.append(make())


INSTRUCTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_TUPLE": _constant(tuple),
    "EMPTY_LIST": _constant(list),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_SET": _constant(list),  # a set is a list here: its items need not be hashed
    "TUPLE1": lambda machine, _: machine._last(1),
    "TUPLE2": lambda machine, _: machine._last(2),
    "TUPLE3": lambda machine, _: machine._last(3),
    "TUPLE": Machine._tuple,
    "LIST": Machine._list,
    "DICT": Machine._dict,
    "FROZENSET": Machine._list,
    "APPEND": Machine._append,
    "APPENDS": Machine._appends,
    "ADDITEMS": Machine._appends,
    "SETITEM": Machine._setitem,
    "SETITEMS": Machine._setitems,
    "MARK": Machine._mark,
    "POP": Machine._pop,
    "POP_MARK": Machine._pop_mark,
    "DUP": Machine._duplicate,
    "GET": Machine._get,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "PUT": Machine._put,
    "BINPUT": Machine._put,
    "LONG_BINPUT": Machine._put,
    "MEMOIZE": Machine._put,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "INST": Machine._inst,
    "OBJ": Machine._obj,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._newobj_ex,
    "REDUCE": Machine._reduce,
    "BUILD": Machine._build,
    "EXT1": Machine._extension,
    "EXT2": Machine._extension,
    "EXT4": Machine._extension,
    "PERSID": Machine._persistent,
    "BINPERSID": Machine._persistent,
}
