"""Bars as SVG: whole, escaped, and as long as the bytes they stand for."""

from xml.etree import ElementTree

from snugly.machine.types import Pool
from snugly.plan.picture import Bars, svg
from snugly.plan.types import PoolUse
from snugly.units import GiB

ROOM = Pool("RAM", 16 * GiB, 8 * GiB)


def test_a_bar_is_as_long_as_its_bytes() -> None:
    use = PoolUse("RAM", weights_bytes=4 * GiB, kv_bytes=2 * GiB)
    tree = ElementTree.fromstring(svg([Bars("m", "s", ((ROOM, use),))]))
    told = {
        rect[0].text: float(rect.attrib["width"])
        for rect in tree.iter("{http://www.w3.org/2000/svg}rect")
        if len(rect)
    }
    assert told == {"weights: 4.00 GiB": 140.0, "cache: 2.00 GiB": 70.0}  # of 560 for 16 GiB


def test_names_of_foreign_origin_are_text() -> None:
    text = svg([Bars("<script>alert(1)</script>", "&", ((ROOM, PoolUse("RAM")),))])
    assert "<script>" not in text
    ElementTree.fromstring(text)
