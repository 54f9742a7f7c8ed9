"""Results for people keep their shape, whatever text they hold."""

from jobs.commands.history import HEAD, _cells
from jobs.console.show import show_under
from jobs.operate.history_row import HistoryRow


def test_a_text_of_several_lines_keeps_its_indent(capsys):
    show_under("  ended      ", "incompatible: 2 differ:\n  a\n  b")
    assert capsys.readouterr().out.splitlines() == [
        "  ended      incompatible: 2 differ:",
        "               a",
        "               b",
    ]


def test_seconds_of_the_history_are_seconds():
    cells = dict(zip(HEAD, _cells(HistoryRow("r", seconds=1250.04)), strict=True))
    assert cells["seconds"] == "1,250.0"
