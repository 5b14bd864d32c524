"""Deterministic sessions of any size, written as recording folders.

Everything after the folder is the same code as for real data. Results on generated sessions are
labelled so: `session.json` carries `"generated": true`.
"""

from kalshi_pipeline.recordings.generator.folders import is_current, write_session
from kalshi_pipeline.recordings.generator.profiles import (
    EXTRA_PROFILES,
    PROFILES,
    QUICK_PROFILES,
    SessionProfile,
)

__all__ = [
    "EXTRA_PROFILES",
    "PROFILES",
    "QUICK_PROFILES",
    "SessionProfile",
    "is_current",
    "write_session",
]
