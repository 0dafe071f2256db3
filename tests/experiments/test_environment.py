from experiments.environment import describe_environment


def test_the_command_is_kept_without_the_passwords_of_its_addresses(monkeypatch):
    monkeypatch.setattr(
        "sys.argv",
        ["bookends", "sweep", "--storage=postgresql://ada:se cret@db/x", "--trials", "3"],
    )
    command = describe_environment()["command"]
    assert command == "bookends sweep --storage=postgresql://ada@db/x --trials 3"
