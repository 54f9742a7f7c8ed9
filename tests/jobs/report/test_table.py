from jobs.report.table import show_report_table
from tests.support.sample_report import make_report


def test_the_effective_number_of_models_is_printed(capsys):
    report = make_report()
    show_report_table(report)
    out = capsys.readouterr().out
    kept = sum(row.weight is not None for row in report.candidates)
    figure = f"{report.effective_models:.2f} of {kept}"
    assert f"effective number of models (1 / sum w^2) {figure}" in out
    assert report.rule in out
