"""`docs/SIMULATOR.md`: every corner names the test that holds it."""

import re

from tests.architecture.source import ROOT

PAGE = (ROOT / "docs" / "SIMULATOR.md").read_text(encoding="utf-8")
TESTS = {
    name: path.relative_to(ROOT).as_posix()
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}


def test_every_corner_names_a_test_that_exists():
    rows = [
        line.split("|")[1:-1] for line in PAGE.split("## Corners")[1].splitlines() if "|" in line
    ]
    assert len(rows) > 40
    for _, rule, named in rows[2:]:
        assert rule.strip()
        assert re.fullmatch(r" `test_\w+` ", named)
    assert set(re.findall(r"`(test_\w+)`", PAGE)) <= set(TESTS)


def test_every_test_of_a_corner_is_on_the_page():
    corners = {name for name, path in TESTS.items() if path == "tests/trading/test_corners.py"}
    assert corners <= set(re.findall(r"`(test_\w+)`", PAGE))
