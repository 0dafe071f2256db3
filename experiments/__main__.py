"""``python -m experiments`` is ``bookends``; under ``mlflow run`` any Python may be the one."""

import sys

_OURS = ("experiments", "recsys", "sweeps", "tracking")

if __name__ == "__main__":
    try:
        from experiments.cli import main

        main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        print(
            f"bookends: {sys.executable} must have the packages of Bookends, but lacks "
            f"'{error.name}'; activate the environment that has them, or let 'mlflow run' build "
            "one with '--env-manager uv'",
            file=sys.stderr,
        )
        sys.exit(2)
