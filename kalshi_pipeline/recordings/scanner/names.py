"""Names the scanner knows, as a table that compiled code can search."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kalshi_pipeline.recordings.scanner.layout import Names
from kalshi_pipeline.recordings.scanner.values import insert


class NameTable:
    """ASCII names in groups; a name's code is its place in the order of addition.

    Args:
        known: (group, name) of the first names.
    """

    def __init__(self, known: Iterable[tuple[int, str]] = ()) -> None:
        self.names: list[str] = []
        self._codes: dict[tuple[int, str], int] = {}
        self._grow(64, 2_048)
        for group, name in known:
            self.code(group, name)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, key: tuple[int, str]) -> bool:
        return key in self._codes

    def code(self, group: int, name: str) -> int:
        """The code of a name, which is added if it is new."""
        known = self._codes.get((group, name))
        if known is not None:
            return known
        code = self._codes[group, name] = len(self.names)
        self.names.append(name)
        text, table = name.encode("ascii"), self.arrays
        if code >= len(table.group) or table.start[code] + len(text) > len(table.text):
            self._grow(2 * len(table.group), 2 * len(table.text) + len(text))
        else:
            self._enter(code, group, text)
        return code

    def _grow(self, names: int, characters: int) -> None:
        self.arrays = Names(
            np.full(4 * names, -1, np.int32),
            np.zeros(names, np.int32),
            np.zeros(names + 1, np.int64),
            np.zeros(characters, np.uint8),
        )
        for (group, name), code in self._codes.items():
            self._enter(code, group, name.encode("ascii"))

    def _enter(self, code: int, group: int, text: bytes) -> None:
        table = self.arrays
        start, end = table.start[code], table.start[code] + len(text)
        table.group[code], table.start[code + 1] = group, end
        table.text[start:end] = np.frombuffer(text, np.uint8)
        insert(table, code)
