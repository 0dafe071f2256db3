"""Commands of ``bookends`` in this process: one of its own takes seconds to import what it has."""

from click.testing import CliRunner

from experiments.cli import main


def bookends(*words):
    """What came of a command; raises what it raised, unless that was said in a line."""
    done = CliRunner().invoke(main, list(map(str, words)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def said(*words):
    """Exit code and all that was printed, on one line: tables break theirs."""
    done = bookends(*words)
    return done.exit_code, " ".join(done.output.split())
