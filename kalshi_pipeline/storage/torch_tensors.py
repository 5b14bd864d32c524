"""Tensors out of a file of `torch.save`, read as data: nothing in it is looked up or called.

Such a file is a zip of raw numbers and a pickle that says which tensor lies where. A pickle is a
program for a stack machine; `torch.load(weights_only=True)` runs it with a list of what it may
call, a list that has been got round twice (CVE-2025-32434, CVE-2026-24747). Here its instructions
are taken apart by the standard library's `pickletools`, and a machine of a dozen instructions
builds plain values from them. A name in it stays a name: three of them have a meaning, which is
written here, and any other ends the reading.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.errors import ForeignModel

MAX_TOTAL_BYTES = 64 << 20  # reliability section 7
MAX_MEMBERS = 1_000
MAX_RATIO = 100
_STORAGES = {"torch FloatStorage": np.float32, "torch LongStorage": np.int64}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_DICT": dict,
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_PUT, _GET = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Name:
    """A name that a pickle would import."""

    text: str


class _Mark:
    """Where the arguments of an instruction begin on the stack."""


def unzipped(content: bytes, accept: Callable[[str], bool]) -> dict[str, bytes]:
    """Every member of a zip, name -> bytes, within limits that are looked at before reading.

    Args:
        content: the zip.
        accept: whether a member may have this name.

    Raises:
        ForeignModel: not a zip, a name that is not accepted or stands there twice, too many
            members, or too much behind too few bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_members(members, accept)
            return {member.filename: archive.read(member) for member in members}
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OSError) as error:
        raise ForeignModel(f"a zip of it cannot be read: {error}", rule="zip") from error


def read_tensors(content: bytes) -> Any:
    """What a file of `torch.save` holds: dictionaries, lists, numbers, text and NumPy arrays.

    Raises:
        ForeignModel: it holds anything else, or is not such a file.
    """
    members = unzipped(content, lambda name: not name.startswith("/") and ".." not in name)
    program = [name for name in members if name.endswith("/data.pkl")]
    if len(program) != 1:
        raise ForeignModel("not a file of torch.save", rule="data.pkl", value=len(program))
    root = program[0].removesuffix("data.pkl")
    if members.get(f"{root}byteorder", b"little") != b"little":
        raise ForeignModel("its numbers are not little-endian", rule="byteorder")
    try:
        return _Machine(members, root).run(members[program[0]])
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise ForeignModel(
            f"its list of tensors is damaged: {type(error).__name__} {error}", rule="pickle"
        ) from error


def _check_members(members: list[zipfile.ZipInfo], accept: Callable[[str], bool]) -> None:
    names = {member.filename for member in members}
    if len(names) < len(members) or len(members) > MAX_MEMBERS:
        raise ForeignModel("too many members, or one twice", rule="members", value=len(members))
    if odd := sorted(name for name in names if not accept(name)):
        raise ForeignModel("it has a member that no model has", rule="members", value=odd[0][:100])
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL_BYTES:
        raise ForeignModel("too large unpacked", rule=f"<= {MAX_TOTAL_BYTES} bytes", value=total)
    for member in members:
        if member.file_size > MAX_RATIO * max(1, member.compress_size):
            raise ForeignModel(
                f"{member.filename[:100]} unpacks to more than {MAX_RATIO} times its size",
                rule="ratio",
                value=member.file_size,
            )


class _Machine:
    """The stack machine of a pickle, as far as tensors need one.

    Args:
        members: files of the zip; the numbers of storage n lie in `<root>data/n`.
        root: folder of those files.
    """

    def __init__(self, members: dict[str, bytes], root: str) -> None:
        self._members, self._root = members, root
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        """The value the program leaves."""
        for instruction, argument, _ in pickletools.genops(program):
            if instruction.name == "STOP":
                (value,) = self._stack
                return value
            self._step(instruction.name, argument)
        raise AssertionError("a program ends with STOP, or genops has raised")  # pragma: no cover

    def _step(self, name: str, argument: Any) -> None:
        push = self._stack.append
        if name in _LITERALS:
            push(argument)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name]())
        elif name in _PUT:
            self._memo[argument] = self._stack[-1]
        elif name in _GET:
            push(self._memo[argument])
        elif name in _TUPLES:
            self._stack[-_TUPLES[name] :] = [tuple(self._stack[-_TUPLES[name] :])]
        elif name == "MARK":
            push(_Mark())
        elif name == "TUPLE":
            push(tuple(self._since_mark()))
        elif name in {"GLOBAL", "BINPERSID", "REDUCE"}:
            self._name_or_make(name, argument)
        else:
            self._fill(name)

    def _name_or_make(self, name: str, argument: Any) -> None:
        if name == "GLOBAL":
            self._stack.append(_Name(argument))
        elif name == "BINPERSID":
            self._stack.append(self._storage(*self._stack.pop()))
        else:
            arguments = self._stack.pop()
            self._stack.append(_made(self._stack.pop(), arguments))

    def _fill(self, name: str) -> None:
        if name == "BUILD":  # attributes of a dictionary: torch keeps versions of modules there
            self._stack.pop()
            if not isinstance(self._stack[-1], dict):
                raise ForeignModel("it sets attributes", rule="pickle", value=name)
        elif name in {"SETITEM", "SETITEMS"}:
            pairs = self._since_mark() if name == "SETITEMS" else self._popped(2)
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                if not isinstance(key, str | int):
                    raise TypeError("a key that is neither text nor number")
                _of(dict, self._stack[-1])[key] = value
        elif name in {"APPEND", "APPENDS"}:
            values = self._since_mark() if name == "APPENDS" else self._popped(1)
            _of(list, self._stack[-1]).extend(values)
        elif name != "PROTO":
            raise ForeignModel("it holds more than tensors", rule="pickle", value=name)

    def _popped(self, count: int) -> list[Any]:
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _since_mark(self) -> list[Any]:
        place = next(
            n for n in range(len(self._stack) - 1, -1, -1) if isinstance(self._stack[n], _Mark)
        )
        values = self._popped(len(self._stack) - place)
        return values[1:]

    def _storage(self, kind: str, storage: _Name, key: str, _device: str, size: int) -> Any:
        if kind != "storage" or storage.text not in _STORAGES:
            raise ForeignModel("it holds other numbers", rule="storage", value=str(storage)[:100])
        numbers = np.frombuffer(self._members[f"{self._root}data/{key}"], _STORAGES[storage.text])
        if len(numbers) != size:
            raise ValueError(f"storage {key[:20]} is not as long as it says")
        return numbers


def _made(name: Any, arguments: Any) -> Any:
    if name == _Name("collections OrderedDict") and arguments == ():
        return {}
    if name == _Name("torch._utils _rebuild_tensor_v2"):
        numbers, offset, shape, strides, *_ = arguments
        return _tensor(numbers, offset, shape, strides)
    raise ForeignModel("it would call something", rule="pickle", value=str(name)[:100])


def _tensor(
    numbers: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> NDArray[Any]:
    integers = (offset, *shape, *strides)
    if any(type(value) is not int or value < 0 for value in integers):
        raise ValueError("a shape that is none")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if 0 in shape or last >= len(numbers) or int(np.prod(shape, dtype=object)) > len(numbers):
        raise ValueError("a tensor that reaches beyond its numbers")
    view = np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, tuple(stride * numbers.itemsize for stride in strides)
    )
    return view.copy()


def _of(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} expected")
    return value
