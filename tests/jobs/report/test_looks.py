"""Pages are readable in light, in dark, on a phone and on paper, and are one file."""

import re
import xml.etree.ElementTree as ET

import pytest

from jobs.operate.history_page import NARROW, WIDE, draw_losses, write_page
from jobs.operate.history_row import HistoryRow
from jobs.report.pages import page_environment, write_report
from jobs.report.plots import LOOKS, forest_plot, health_plot, timings_plot, weights_plot
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


def plots(report, name):
    long = "a-rather-long-name-of-a-candidate-with-more-to-say"
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
        width, size = float(root.get("viewBox").split()[2]), float(root.get("font-size"))
        for text in root.iter("text"):
            # As wide as letters of DejaVu Sans, the widest of the fonts, are on average.
            length = (0.62 if text.get("font-weight") else 0.56) * size * len(text.text)
            x, anchor = float(text.get("x")), text.get("text-anchor") or "start"
            left = x - {"start": 0, "middle": length / 2, "end": length}[anchor]
            assert left > -2, text.text
            assert left + length < width + 2, text.text


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
        for table in re.findall(r'<table class="\w+">.*?</table>', page.decode(), re.DOTALL):
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
