"""A pickle machine for tensors by name: it knows the few instructions and names that they need, and refuses others.

A pickle is a program, and Python's own machine does whatever a file asks for.  Here nothing is imported and nothing of
the file is called: what a name stands for is built into `Machine.call`.  Python's `pickletools` describes the
instructions, and https://pytorch.org/docs/stable/notes/serialization.html what PyTorch writes with them.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from numroberta.checkpoint.errors import CheckpointError, show

# PyTorch's storages, and safetensors' names of what they hold.
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
MOST_DIMENSIONS = 32  # NumPy 1's limit


class PickledStorage(NamedTuple):
    """The numbers that tensors are views of."""

    dtype: str  # safetensors' name
    key: str  # by which the file holds them
    size: int  # how many there are


class _Name(NamedTuple):
    """A class or function that the pickle names."""

    module: str
    name: str


class _Object(dict[Any, Any]):
    """An OrderedDict of the pickle; its attributes (a state_dict's _metadata) are dropped."""


class PickledTensor(NamedTuple):
    """A view of a storage, inside it; offset and strides count elements."""

    storage: PickledStorage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Machine:
    """Runs one pickle: `run()` gives the object that it describes, `end` says where the pickle ends."""

    def __init__(self, path: Path, raw: bytes | mmap.mmap, start: int = 0):
        self.path, self.raw, self.end = path, raw, start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, PickledStorage] = {}

    def broken(self, what: str) -> NoReturn:
        raise CheckpointError(f"{self.path} has a pickle that {what}")

    def run(self) -> Any:
        while (code := self.take(1)) != b".":
            step = _STEPS.get(code)
            if step is None:
                self.broken(f"has the instruction {code!r} at byte {self.end - 1}: tensors by name need none such")
            step(self)
        return self.pop()

    def take(self, count: int) -> bytes:
        part = self.raw[self.end : self.end + count]
        if len(part) != count:
            self.broken(f"ends in the middle, at byte {len(self.raw)}")
        self.end += count
        return bytes(part)

    def number(self, format: str) -> Any:
        """The next bytes of the pickle as one number; format: as in `struct`, "<I" for example."""
        return struct.unpack(format, self.take(struct.calcsize(format)))[0]

    def text(self, count: int) -> str:
        try:
            return self.take(count).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            self.broken(f"has a string that is not UTF-8 before byte {self.end}")

    def line(self) -> str:
        stop = self.raw.find(b"\n", self.end)
        if stop < 0 or stop - self.end > 1000:
            self.broken(f"has a name without an end at byte {self.end}")
        line = self.text(stop - self.end)
        self.end += 1
        return line

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            self.broken(f"takes from an empty stack at byte {self.end}")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        if not self.marks:
            self.broken(f"looks for a mark that is not there at byte {self.end}")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def top(self, kind: type[Any]) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            self.broken(f"fills something that is no {kind.__name__} at byte {self.end}")
        return self.stack[-1]

    def put(self, place: int) -> None:
        value = self.pop()
        self.push(value)
        self.memo[place] = value

    def get(self, place: int) -> None:
        if place not in self.memo:
            self.broken(f"asks for the object {place}, which it has not made, at byte {self.end}")
        self.push(self.memo[place])

    def set_items(self, items: list[Any]) -> None:
        into = self.top(dict)
        if len(items) % 2:
            self.broken(f"has a key without a value before byte {self.end}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                self.broken(f"has {kind_of(key)} as a key before byte {self.end}")
            into[key] = value

    def name(self, module: object, name: object) -> None:
        """Push the class or function that the pickle names, as a name only: nothing is imported.

        Raises CheckpointError for a name outside the few that tensors need.
        """
        known = isinstance(module, str) and isinstance(name, str) and (module, name) in _CALLED | _STORAGE_NAMES
        if not known:
            full = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "no string"
            raise CheckpointError(
                f"{self.path} asks for {show(full)}, which is no part of tensors by name and is not run; save the "
                "model's state_dict() alone"
            )
        self.push(_Name(str(module), str(name)))

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or (function.module, function.name) not in _CALLED:
            self.broken(f"calls {kind_of(function)} at byte {self.end}")
        if not isinstance(arguments, tuple):
            self.broken(f"calls {function.name} without a tuple of arguments at byte {self.end}")
        if function.name == "OrderedDict":
            if arguments not in ((), ([],)):
                self.broken(f"fills an OrderedDict as none is filled, at byte {self.end}")
            self.push(_Object())
        elif function.name == "Size":
            self.push(tuple(arguments[0]) if arguments and isinstance(arguments[0], tuple | list) else ())
        elif function.name == "_rebuild_parameter":
            if not arguments or not isinstance(arguments[0], PickledTensor):
                self.broken(f"makes a parameter of what is no tensor at byte {self.end}")
            self.push(arguments[0])
        else:
            self.push(self.tensor(arguments))

    def tensor(self, arguments: tuple[Any, ...]) -> PickledTensor:
        """(storage, offset, shape, strides, …) -> a tensor that lies inside its storage."""
        if len(arguments) < 4 or not isinstance(arguments[0], PickledStorage):
            self.broken(f"makes a tensor of no storage at byte {self.end}")
        storage, offset, shape, strides = arguments[:4]
        if not _naturals([offset]) or not _naturals(shape) or not _naturals(strides) or len(shape) != len(strides):
            self.broken(f"has a tensor whose shape or strides make no sense before byte {self.end}")
        if len(shape) > MOST_DIMENSIONS or math.prod(n for n in shape if n) * 8 >= 2**63:
            self.broken(f"has a tensor larger than memory can address before byte {self.end}")
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if 0 not in shape and last >= storage.size:
            self.broken(f"has a tensor beyond the {storage.size} numbers of its storage {show(storage.key)}")
        return PickledTensor(storage, offset, tuple(shape), tuple(strides))

    def storage(self) -> None:
        """("storage", class, key, device, size, …) -> a storage."""
        what = self.pop()
        if (
            not isinstance(what, tuple)
            or len(what) < 5
            or what[0] != "storage"
            or not isinstance(what[1], _Name)
            or what[1].name not in STORAGES
            or not isinstance(what[2], str)
            or not _naturals([what[4]])
            or what[4] * 8 >= 2**63
        ):
            self.broken(f"refers to something that is no storage of numbers at byte {self.end}")
        if len(what) > 5 and what[5] is not None:
            self.broken("has a storage that is a view of another, as only PyTorch before 0.4 wrote them")
        storage = PickledStorage(STORAGES[what[1].name], what[2], what[4])
        if self.storages.setdefault(storage.key, storage) != storage:
            self.broken(f"describes the storage {show(storage.key)} in two ways")
        self.push(storage)

    def long(self) -> int:
        return int.from_bytes(self.take(self.number("<B")), "little", signed=True)


def _naturals(values: object) -> bool:
    return isinstance(values, list | tuple) and all(type(n) is int and 0 <= n < 2**63 for n in values)


_CALLED = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
}
_STORAGE_NAMES = {("torch", name) for name in STORAGES}


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _build(machine: Machine) -> None:
    machine.pop()  # attributes: a state_dict's _metadata
    machine.top(_Object)


def _pop(machine: Machine) -> None:
    machine.pop()


def _tuple_of(count: int) -> Callable[[Machine], None]:
    return lambda machine: machine.push(tuple([machine.pop() for _ in range(count)][::-1]))


# Python's `pickletools` describes each instruction.
_STEPS: Mapping[bytes, Callable[[Machine], Any]] = {
    b"\x80": lambda m: m.take(1),  # the protocol
    b"\x95": lambda m: m.take(8),  # the length of a frame
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"0": _pop,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(m.long()),
    b"G": lambda m: m.push(m.number(">d")),
    b"X": lambda m: m.push(m.text(m.number("<I"))),
    b"\x8c": lambda m: m.push(m.text(m.number("<B"))),
    b"}": lambda m: m.push({}),
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"a": lambda m: (lambda value: m.top(list).append(value))(m.pop()),
    b"e": lambda m: (lambda values: m.top(list).extend(values))(m.since_mark()),
    b"s": lambda m: (lambda value, key: m.set_items([key, value]))(m.pop(), m.pop()),
    b"u": lambda m: m.set_items(m.since_mark()),
    b"q": lambda m: m.put(m.number("<B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"h": lambda m: m.get(m.number("<B")),
    b"j": lambda m: m.get(m.number("<I")),
    b"c": lambda m: m.name(m.line(), m.line()),
    b"\x93": _stack_global,
    b"R": lambda m: m.call(),
    b"b": _build,
    b"Q": lambda m: m.storage(),
}


def kind_of(value: object) -> str:
    """What a value of a pickle is called in messages."""
    names = {PickledTensor: "a tensor", list: "a list", tuple: "a tuple", type(None): "None"}
    return names.get(type(value), f"a value of type {type(value).__name__}")
