"""The `kdbench` command in this process."""

from typer.testing import CliRunner, Result

from kdbench.cli import app


def kdbench(*words: object) -> Result:
    """Run a command line on a wide terminal."""
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def output(*words: object) -> str:
    """What a command that succeeds prints."""
    result = kdbench(*words)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*words: object) -> str:
    """The message of a command that is refused: exit code 2, no traceback."""
    result = kdbench(*words)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert "unexpected" not in result.output, result.output
    # A frame around a message breaks its lines.
    return " ".join(result.output.replace("│", " ").split())
