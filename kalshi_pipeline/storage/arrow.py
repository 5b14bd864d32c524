"""pyarrow without pandas until somebody asks for pandas.

The first array that pyarrow makes of anything imports pandas, a quarter of a second, to see whether
the thing is one of pandas' own; nothing here is. So a process of ours makes that first array while
pandas cannot be found. `to_pandas` and `from_pandas` import it all the same when they are called.
Not for a process that also runs packages which hand pandas' arrays to pyarrow.
"""

from __future__ import annotations

import sys
from typing import Any

import pyarrow as pa


class _WithoutPandas:
    # finds no pandas, and leaves everything else to the other finders
    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("not looked for yet", name=name)


def leave_pandas_out() -> None:
    """Let pyarrow look for pandas and not find it, unless it is loaded already."""
    if "pandas" in sys.modules:
        return
    finder: Any = _WithoutPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
