"""What a run prints at its end."""

from rich.console import Console

from experiments.console import RunConsole
from recsys.baselines.build import CHEAP
from recsys.reporting.record import ScoresRecord
from recsys.reporting.results import Results


def test_the_default_baselines_and_the_oracle_stand_on_80_columns(capsys):
    names = [f"precision@{k}" for k in (5, 10)]
    found = ScoresRecord(dict.fromkeys(names, 0.1234), dict.fromkeys(names, (0.1200, 0.1300)))
    scores = dict.fromkeys(("model", *CHEAP, "oracle"), found)
    results = Results("test", 1234, "precision@10", scores, None, {}, 0.95)
    RunConsole(Console(width=80)).results(results, (5, 10))
    shown = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in shown if "precision" in line]
    assert rows == [
        [f"precision@{k}", "0.1234", "[0.1200,", "0.1300]", *["0.1234"] * 5] for k in (5, 10)
    ]
