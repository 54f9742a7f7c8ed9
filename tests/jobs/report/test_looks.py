"""Pages are readable in light, in dark, on a phone and on paper, and are one file."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import combinations

import pytest

from fusion.manifests.report import CandidateRow, ForestRow
from fusion.scores.confusion import Answers
from jobs.operate.history_page import NARROW, WIDE, draw_losses, write_page
from jobs.operate.history_row import HistoryRow
from jobs.report.pages import page_environment, write_report
from jobs.report.plots import LOOKS, forest_plot, health_plot, timings_plot, weights_plot
from tests.support.html_tables import Page
from tests.support.sample_report import make_report

CSS = page_environment().get_template("style.css.j2").render()
# A page of 390 pixels without its margins, paddings and lines.
PHONE = 390 - 2 * 12 - 2 * 14 - 2
TEXTS = ("ink", "soft", "faint", "good", "warn")
GROUNDS = ("page", "card", "tint")
ROWS = [HistoryRow(f"r{i}", logical_date=f"2026-11-{i:02}", loss_fused=0.5) for i in (1, 2, 3)]


def variables(dark):
    """Colours by name, as channels from 0 to 1."""
    blocks = re.findall(r":root \{([^}]*)\}", CSS)
    found = dict(re.findall(r"--(\w+): #(\w{6})", blocks[0]))
    if dark:
        found |= dict(re.findall(r"--(\w+): #(\w{6})", blocks[1]))
    return {k: [int(v[i : i + 2], 16) / 255 for i in (0, 2, 4)] for k, v in found.items()}


def luminance(colour):
    """Source: WCAG 2.2, relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_a_contrast_of_at_least_four_and_a_half(dark):
    named = variables(dark)
    pairs = [(text, ground) for text in TEXTS for ground in GROUNDS]
    pairs += [("card", badge) for badge in ("good", "warn", "idle")]  # badges and bars
    for text, ground in pairs:
        assert contrast(named[text], named[ground]) >= 4.5, (text, ground)
    for colour in ("good", "warn"):  # the cells of the confusion matrix, 30 % at most
        mixed = [0.3 * c + 0.7 * g for c, g in zip(named[colour], named["card"], strict=True)]
        assert contrast(named["ink"], mixed) >= 4.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_lines_of_plots_are_seen(dark):
    named = variables(dark)
    for colour in ("good", "warn", "soft", "faint", "uniform", "ensemble"):
        assert contrast(named[colour], named["card"]) >= 3, colour


def test_every_colour_of_a_page_is_a_variable_of_its_style():
    pages = write_report(make_report())["report.html"].decode()
    pages += write_page(ROWS, output="o", promoted="").decode()
    used = set(re.findall(r"var\(--(\w+)\)", pages))
    assert used <= {*variables(dark=True), "share"}


LONG = "a-rather-long-name-of-a-candidate-with-more-to-say"


def boxes(root):
    """(left, right, top, bottom) of every text, as wide as letters of DejaVu Sans are on average,
    the widest of the fonts."""
    size = float(root.get("font-size"))
    for text in root.iter("text"):
        length = (0.62 if text.get("font-weight") else 0.56) * size * len(text.text)
        x, y, anchor = float(text.get("x")), float(text.get("y")), text.get("text-anchor")
        left = x - {"start": 0, "middle": length / 2, "end": length}[anchor or "start"]
        yield text.text, (left, left + length, y - 0.75 * size, y + 0.2 * size)


def is_apart(one, other):
    return one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]


def crowded_report():
    """Names that differ at their ends, intervals around 0 and outside the frame, alike weights."""
    report = make_report()
    rows = [ForestRow("fused", "fused", 0.01, -0.02, 0.04, 480, 480)]
    rows += [
        ForestRow(f"{LONG}-{i}", "candidate", mean, mean - 0.03, mean + 0.03, 480, 480)
        for i, mean in enumerate((-0.01, 0.0, 0.01, -0.9, 0.9))
    ]
    shares = (0.34, 0.335, 0.325)
    kept = [
        CandidateRow(f"{LONG}-{i}", f"/{i}", "kept", "", weight=share)
        for i, share in enumerate(shares)
    ]
    return replace(report, forest=tuple(rows), candidates=tuple(kept))


def plots(report, name):
    long = LONG
    forest = forest_plot(report.forest, reference=long, smallest_effect=0.01)
    found = [forest, weights_plot(report.candidates), timings_plot(report.timings)]
    for text in (*found, health_plot(report.health)):
        (svg,) = [s for s in re.findall("<svg.*?</svg>", str(text), re.DOTALL) if f'"{name}"' in s]
        yield svg
    yield str(draw_losses(ROWS, NARROW if name == "narrow" else WIDE))


@pytest.mark.parametrize("name", [look.name for look in LOOKS])
def test_no_text_of_a_plot_leaves_it(name):
    for svg in plots(make_report(), name):
        root = ET.fromstring(svg)
        width = float(root.get("viewBox").split()[2])
        for text, (left, right, *_) in boxes(root):
            assert left > -2, text
            assert right < width + 2, text


@pytest.mark.parametrize("report", [make_report(), crowded_report()], ids=["usual", "crowded"])
@pytest.mark.parametrize("name", [look.name for look in LOOKS])
def test_nothing_is_drawn_through_a_text_of_a_plot(name, report):
    for svg in plots(report, name):
        root = ET.fromstring(svg)
        texts = list(boxes(root))
        for line in root.iter("line"):
            ends = [sorted(float(line.get(f"{axis}{end}")) for end in "12") for axis in "xy"]
            for text, box in texts:
                assert is_apart(box, (*ends[0], *ends[1])), (text, line.attrib)
        for (one, box), (other, another) in combinations(texts, 2):
            assert is_apart(box, another), (one, other)


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
def test_an_interval_outside_the_frame_is_an_arrow_at_its_edge(look):
    forest = forest_plot(crowded_report().forest, reference=LONG, smallest_effect=0.01)
    (svg,) = [s for s in re.findall("<svg.*?</svg>", forest, re.DOTALL) if f'"{look.name}"' in s]
    root = ET.fromstring(svg)
    assert all(float(line.get("x1")) <= float(line.get("x2")) for line in root.iter("line"))
    assert [path.get("d").partition(" ")[0] for path in root.iter("path")] == [
        f"M{look.left:.1f}", f"M{look.width - look.values:.1f}",
    ]  # fmt: skip


def test_texts_of_plots_are_readable_on_a_phone():
    for svg in plots(make_report(), "narrow"):
        root = ET.fromstring(svg)
        width, size = float(root.get("viewBox").split()[2]), float(root.get("font-size"))
        assert size * min(1, PHONE / width) >= 10.5
    phone = CSS[CSS.index("@media screen and (max-width") :]
    assert "svg.wide { display: none; } svg.narrow { display: block; }" in phone
    assert "min-width: 520px" not in CSS


def test_paper_is_light_and_cuts_no_table():
    assert "@media (prefers-color-scheme" not in CSS  # dark is for screens
    paper = CSS[CSS.index("@media print") :]
    assert ".scroll { overflow: visible; }" in paper
    assert "text-decoration: underline" in paper


def test_every_cell_that_is_stacked_has_its_head():
    pages = [write_report(make_report())["report.html"], write_page(ROWS, output="o", promoted="")]
    for page in pages:
        for table in re.findall(
            r'<table class="(?:stack|long|early)">.*?</table>', page.decode(), re.DOTALL
        ):
            heads = re.findall(r"<th[^>]*>([^<]*)</th>", table)
            for row in table.split("<tr")[2:]:
                named = re.findall(r'<td[^>]* data-head="([^"]*)"', row)
                assert named, row
                assert set(named) <= {*heads, "guard", "outcome"}
                assert len(named) == row.count("<td")


def test_there_is_one_minus_sign_and_nothing_from_elsewhere():
    written = write_report(make_report())
    pages = [c.decode() for c in written.values()] + [
        write_page(ROWS, output="o", promoted="").decode()
    ]
    for page in pages:
        assert "\u2212" not in page
        assert "&minus;" not in page
        assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", page)
        assert "-0.0000" not in page


def many_classes(count):
    labels = ["x" * 70, *(f"a class with a name {i}" for i in range(1, count))]
    return tuple(Answers(label, 20, (0.5, 0.4), tuple(range(count))) for label in labels)


def test_a_matrix_of_many_classes_has_numbers_for_columns():
    report = make_report(answers=many_classes(12))
    page = Page(write_report(report)["report.html"].decode())
    rows = page.tables["What was taken for what"]
    assert list(rows[0]) == ["truth", *(str(n) for n in range(1, 13))]
    assert rows[2]["truth"] == "3 · a class with a name 2"
    assert page.row("Class by class", "3")["class"] == "a class with a name 2"
    few = Page(write_report(make_report())["report.html"].decode())
    assert list(few.tables["What was taken for what"][0]) == ["truth", "negative", "positive"]


def test_texts_from_right_to_left_leave_their_neighbours_in_order():
    name, text = "שם של מועמד", "טקסט ארוך, 7!"
    report = make_report()
    page = write_report(
        replace(
            report,
            candidates=(replace(report.candidates[0], name=name), *report.candidates[1:]),
            examples=(replace(report.examples[0], id=name, text=text),),
        )
    )["report.html"].decode()
    assert page.count(f"<bdi>{name}</bdi></td>") == 2
    assert f"<bdi>{text}</bdi></td>" in page


def test_names_in_headlines_are_not_broken_at_their_hyphens():
    headline = f"Keep candidate seed-2: the model <b>-{LONG} is worse"
    page = write_report(make_report(headline=headline))["report.html"].decode()
    assert '<span class="whole">seed-2:</span> the model &lt;b&gt;-a-rather' in page
    assert ".whole { white-space: nowrap; }" in CSS
    assert Page(page).title == headline
    assert '<span class="whole">2026-11-24</span> 04:03 UTC' in page


def test_heads_of_stacked_cells_take_the_room_that_they_need():
    assert "position: absolute" not in CSS
    assert "float: left; width: 9em; margin-left: -9.6em" in CSS
    # Of rules that weigh the same, the last one counts.
    shown, empty = CSS.index("display: flow-root"), CSS.index("td:empty { display: none; }")
    assert shown < empty


def test_a_history_on_paper_lies_on_its_side_and_has_room_for_reasons():
    paper = write_page(ROWS, output="o", promoted="").decode()
    assert "@media print { @page { size: landscape; } }" in paper
    assert "td.reason { min-width: 15em; }" in CSS[CSS.index("@media print") :]
