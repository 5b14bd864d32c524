"""Tests of storage run twice: on a folder, and (marker `scale`) on an object store."""

from __future__ import annotations

import uuid

import pytest

from tests.storage.places import Place, StorePlace

KINDS = ["folder", pytest.param("store", marks=pytest.mark.scale)]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path) -> Place:
    """Where warehouses lie: a folder, or an object store."""
    if request.param == "folder":
        return Place(tmp_path)
    request.getfixturevalue("object_store")
    return StorePlace(tmp_path, f"s3://kalshi/{uuid.uuid4().hex}")
