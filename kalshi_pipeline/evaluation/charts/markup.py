"""Matplotlib's SVG -> SVG inside a page: its colours, its font, names of ids of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element, fromstring, tostring

_HREF = "{http://www.w3.org/1999/xlink}href"
_PLACES = ("d", "x", "y", "width", "height", "transform", "viewBox")
_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"url\(#(\w+)\)")
_OF_THE_PAGE = {"font-family", "font-size"}


def page_svg(
    drawn: str, title: str, colours: Mapping[str, str], notes: Mapping[str, tuple[str, str]]
) -> str:
    """One drawing as an element of a page.

    Declarations become attributes, because the page's policy allows no inline style. Identifiers
    are named by what is drawn, so that no two pictures of a page share one.

    Args:
        drawn: by matplotlib, as an SVG file.
        title: told to readers who cannot see it.
        colours: of the drawing -> of the page.
        notes: id of a group -> its class, and what it tells when asked.
    """
    source = fromstring(drawn)  # noqa: S314 drawn by matplotlib, which escapes what it writes
    root = Element("svg", xmlns="http://www.w3.org/2000/svg")
    root.attrib |= {"viewBox": _rounded(source.attrib["viewBox"]), "role": "img"}
    root.attrib |= {"aria-label": title, "fill": "none", "stroke-linejoin": "round"}
    shared = Element("defs")
    for child in source:
        _copy(child, root, shared, colours, notes)
    root.append(shared)
    _rename(root, "svg" + hashlib.sha256(tostring(root)).hexdigest()[:10])
    return tostring(root, encoding="unicode").replace(" />", "/>").replace("'", "&#39;")


def _copy(
    source: Element,
    parent: Element,
    shared: Element,
    colours: Mapping[str, str],
    notes: Mapping[str, tuple[str, str]],
) -> None:
    """Add an element to its parent, without groups that say nothing; what is shared apart."""
    tag = source.tag.rpartition("}")[2]
    if tag == "style":
        return
    target = shared if tag == "defs" else Element(tag, _attributes(source, colours))
    if tag == "text":
        target.text = source.text
    for child in source:
        _copy(child, target, shared, colours, notes)
    if tag == "g":
        shade, hint = notes.get(target.attrib.pop("id", ""), ("", ""))
        if not target.attrib and (len(target) == 1 or not (shade or hint)):
            marks = list(target)
        else:
            marks = [target]
        for mark in marks:
            if shade:
                mark.attrib["class"] = shade
            if hint:
                told = Element("title")
                told.text = hint
                mark.insert(0, told)
        parent.extend(marks)
    elif tag != "defs":
        parent.append(target)


def _attributes(source: Element, colours: Mapping[str, str]) -> dict[str, str]:
    attributes = dict(source.attrib)
    for declaration in attributes.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name and name not in _OF_THE_PAGE and (name, value) != ("fill", "none"):
            attributes[name] = colours.get(value, value)
    if attributes.get("transform", "").startswith("rotate(-0 "):
        del attributes["transform"]
    if _HREF in attributes:
        attributes["href"] = attributes.pop(_HREF)
    for name in _PLACES:
        if name in attributes:
            attributes[name] = _rounded(attributes[name])
    return attributes


def _rounded(places: str) -> str:
    """A tenth of a point is finer than a screen; marks, which are small, keep a hundredth."""
    short = _NUMBER.sub(lambda found: _short(float(found[0])), places)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", short).strip() if short[:1] == "M" else short


def _short(place: float) -> str:
    return f"{round(place, 1 if abs(place) >= 10 else 2) + 0.0:g}"


def _rename(root: Element, prefix: str) -> None:
    named = [one for one in root.iter() if "id" in one.attrib]
    names = {one.attrib["id"]: f"{prefix}-{place}" for place, one in enumerate(named)}
    for one in root.iter():
        if "id" in one.attrib:
            one.attrib["id"] = names[one.attrib["id"]]
        if "href" in one.attrib:
            one.attrib["href"] = "#" + names[one.attrib["href"][1:]]
        if "clip-path" in one.attrib:
            one.attrib["clip-path"] = _REFERENCE.sub(
                lambda found: f"url(#{names[found[1]]})", one.attrib["clip-path"]
            )
