"""The page stands by itself, is read in light and dark, and leaves out what has no data."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from loadtests.page import Page, Table, milliseconds, number
from loadtests.plots import Bars, Curve, Plot, svg

PLOT = Plot("Commands in a second", "seconds", "commands", [Curve("seen", [0, 1], [5, 9])], limit=(100.0, "limit 100"))


def test_a_drawing_says_what_it_shows_in_the_pages_colour() -> None:
    drawing = svg(PLOT)
    ElementTree.fromstring(drawing)
    for text in ("seconds", "commands", "limit 100", "seen"):
        assert f">{text}</text>" in drawing
    assert "currentColor" in drawing
    assert "#010203" not in drawing
    assert "<svg" in drawing[:5]
    assert 'width="' not in drawing[: drawing.index(">")]


def test_two_drawings_share_no_ids() -> None:
    def ids(drawing: str) -> set[str]:
        return {element.attrib["id"] for element in ElementTree.fromstring(drawing).iter() if "id" in element.attrib}

    other = svg(Bars("Rates", "requests/s", ["64 users"], {"ours": [2.0], "theirs": [None]}))
    assert ids(svg(PLOT))
    assert not ids(svg(PLOT)) & ids(other)


def test_every_reference_in_a_drawing_leads_to_something_in_it() -> None:
    drawing = svg(PLOT)
    tree = ElementTree.fromstring(drawing)
    ids = {element.attrib["id"] for element in tree.iter() if "id" in element.attrib}
    wanted = {
        value.split("#")[1].rstrip(")")
        for element in tree.iter()
        for name, value in element.attrib.items()
        if "url(#" in value or (name.endswith("href") and value.startswith("#"))
    }
    assert wanted
    assert wanted <= ids


def test_heads_are_wrapped_so_that_the_last_columns_of_a_wide_table_are_on_the_page() -> None:
    assert "thead th { white-space: normal; }" in page().html()


def page(passed: bool | None = False) -> Page:
    empty = Plot("Nothing", "x", "y", [Curve("nothing", [], [])])
    table = Table("Thresholds", ("metric", ""), [("p95 <b>", "missed")])
    return Page(
        "A title",
        "a subtitle",
        passed,
        "Failed: lost 3",
        ["3 <lost>"],
        ["k6 was full"],
        [("9", "tile")],
        [table],
        [PLOT, empty],
        {"command": "python -m loadtests run"},
    )


def test_the_verdict_comes_first_and_nothing_is_loaded() -> None:
    html = page().html()
    places = [
        html.index(text) for text in ("Failed: lost 3", "k6 was full", "Thresholds", "<svg", "python -m loadtests run")
    ]
    assert places == sorted(places)
    assert 'class="verdict failed"' in html
    assert "3 &lt;lost&gt;" in html
    assert "<b>" not in html.split("<tbody>")[1].split("</tbody>")[0]
    for foreign in ("<script", "<link", "@import", "src="):
        assert foreign not in html


def test_a_plot_without_data_is_left_out() -> None:
    assert page().html().count("<svg") == 1


def test_a_passed_page_is_marked_as_such() -> None:
    assert 'class="verdict passed"' in page(True).html()
    assert 'class="verdict "' in page(None).html()


def test_figures_for_people() -> None:
    assert [milliseconds(value) for value in (None, 3.14159, 250.4, 12_345.0)] == ["-", "3.1 ms", "250 ms", "12.3 s"]
    assert [number(None), number(1234.5), number(2.0, " s", 1)] == ["-", "1,234", "2.0 s"]
