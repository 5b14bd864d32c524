"""pyarrow without pandas until somebody asks for pandas."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, sys
from kalshi_pipeline.storage.arrow import leave_pandas_out
leave_pandas_out()
import numpy as np, pyarrow as pa
finders = len([f for f in sys.meta_path if "pandas" in type(f).__name__.lower()])
table = pa.table({"a": np.arange(3)})
before = "pandas" in sys.modules
frame = table.to_pandas()
print(json.dumps([finders, before, frame["a"].tolist(), pa.Table.from_pandas(frame) == table]))
"""


def test_pandas_is_imported_by_who_needs_it_and_by_nobody_else():
    command = [sys.executable, "-c", PROGRAM]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(told) == [0, False, [0, 1, 2], True]


def test_a_process_that_has_pandas_keeps_it():
    program = "import pandas as pd, pyarrow as pa\n" + (
        "from kalshi_pipeline.storage.arrow import leave_pandas_out\nleave_pandas_out()\n"
        "assert pa.array(pd.Series(['a', None])).null_count == 1"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
