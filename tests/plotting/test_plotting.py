"""Figures and pages: what they are made of is theirs alone, and text from outside stays text."""

import re
from html.parser import HTMLParser

import pytest

from transit_cli.plotting import figures, html
from transit_cli.results import Table

HOSTILE = "<script>alert(1)</script>&\"'"


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def drawn(values):
    figure = figures.figure(3, 2)
    axes = figure.add_subplot(xlabel="x", ylabel="y")
    axes.plot(values)
    return figure


def test_text_from_outside_is_escaped_everywhere_on_a_page():
    content = Table((HOSTILE,), [(HOSTILE,)], title=HOSTILE, note=HOSTILE)
    section = html.Section(HOSTILE, [HOSTILE], [content], [("<svg></svg>", HOSTILE)], code=HOSTILE)
    page = html.page(HOSTILE, [HOSTILE], [section], cards=[(HOSTILE, HOSTILE, HOSTILE)], warning=HOSTILE)
    parsed = Tags(page)
    assert parsed.tags.count("script") == 1, "the one that sorts"
    assert parsed.text.count(HOSTILE) == 15


def test_a_page_needs_nothing_from_elsewhere():
    page = html.page("title", [], [html.Section("", plots=[(figures.svg(drawn([1, 2]), "a"), "")])])
    assert not re.search(r"""(src|href)=["']https?:|@import|url\(http""", page)


def test_equal_figures_give_equal_svg_with_text_and_ids_of_their_own():
    one, again, other = (figures.svg(drawn([1, 2, 3]), name) for name in ("a", "a", "b"))
    assert one == again
    assert ">x</text>" in one
    shared = set(re.findall(r'<clipPath id="(\w+)"', one)) & set(re.findall(r'<clipPath id="(\w+)"', other))
    assert not shared


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_a_figure_is_saved_in_the_format_of_its_suffix(tmp_path, suffix, magic):
    file = tmp_path / "new" / f"figure{suffix}"
    figures.save(drawn([1, 2]), file)
    assert file.read_bytes().startswith(magic)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
