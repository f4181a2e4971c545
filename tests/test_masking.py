"""What counts as a secret, and that every way out of a process masks it."""

import io
import json
import logging
import sys
import warnings
from pathlib import Path

import pytest

from kdbench import masking
from kdbench.execution.protocols import PrintReporter
from kdbench.masking import mask, remember, safe_uri
from kdbench.study.load import shipped
from kdbench.training.events import cause


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret of the environment or of another test."""
    monkeypatch.setattr(masking, "_remembered", set())
    monkeypatch.setattr(masking, "_environment", lambda: (frozenset(), frozenset()))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("at http://me:hush@host:1/x now", "at http://***@host:1/x now"),
        ("https://hush@host", "https://***@host"),
        ("postgresql+psycopg2://me:hu@sh/y@host/db", "postgresql+psycopg2://***@host/db"),
        ("'http://h/x?a=1&tok=hush&b=2'", "'http://h/x?a=1&tok=***&b=2'"),
        ("/api/get?sslpassword=hush#x", "/api/get?sslpassword=***#x"),
    ],
)
def test_the_form_of_an_address_is_enough(text: str, masked: str) -> None:
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/me@work/mlflow.db",
        "http://127.0.0.1:5000/#/experiments/1@2",
        "https://openreview.net/forum?id=abc&v=2",
        "ask me@example.org, or git@github.com:me/x",
        *(path.read_text() for path in shipped().values()),
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize("written", ["p@ss w/rd", "p%40ss%20w%2Frd", "p@ss%20w/rd"])
def test_every_form_of_a_known_secret_is_masked(written: str) -> None:
    remember(f"http://me:{written}@host/db")
    for form in ("p@ss w/rd", "p%40ss%20w%2Frd", "p%40ss w%2Frd", "p%40ss+w%2Frd", "P%40SS%20W/RD"):
        assert mask(f"no {form} here") == "no *** here", form


def test_quoted_forms_are_masked() -> None:
    secret = 'hu"sh<&\\é'
    remember(f"http://me:{secret}@host/db")
    for text in (json.dumps(secret), repr(secret), "hu&quot;sh&lt;&amp;\\é", secret):
        assert "hu" not in mask(text), text


def test_parts_of_a_password_that_a_client_takes_for_a_host_are_masked() -> None:
    remember("http://me:ab@hushhush/cd@host/db")
    assert mask("host='hushhush' port=80, /cd@host") == "host='***' port=80, /***@host"


def test_a_short_secret_is_masked_as_a_word_alone() -> None:
    remember("http://me:kd@host/db")
    assert mask("kd, rkd, kd.") == "***, rkd, ***."


def test_the_environment_is_read_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    text = "hush-one hush-two hush-three hush-four require true"
    assert mask(text) == text
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush-one")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hush-two@host/db?sslmode=require")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hush-three@proxy")
    monkeypatch.setenv("KDBENCH_OPTUNA_STORAGE", "me:hush-four@host/db")
    monkeypatch.setenv("NOBODY_NEEDS_A_TOKEN", "true")
    assert mask(text) == "*** *** *** *** require true"


def test_an_address_is_shown_without_what_is_secret() -> None:
    assert safe_uri("https://me:pw@host/x?tok=1") == "https://***@host/x"
    assert safe_uri("me:pw@host/x?tok=1") == "***@host/x"
    assert safe_uri("sqlite:////a@b/c.db") == "sqlite:////a@b/c.db"
    assert safe_uri("runs@work/mlruns") == "runs@work/mlruns"


def test_every_way_out_is_masked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    remember("http://me:hush-hush@host")
    out, err, factory = io.StringIO(), io.StringIO(), logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    handler = logging.FileHandler(tmp_path / "log")
    logger = logging.getLogger("alembic.for_this_test")
    logger.addHandler(handler)
    try:
        masking.install()
        masking.install()
        print("one hush-hush")
        sys.stdout.writelines(["two hush-", "hush\n"])
        # What `warnings` does, where pytest does not record them.
        sys.stderr.write(warnings.formatwarning("three hush-hush", UserWarning, "x.py", 1, ""))
        logger.error("four %s", "hush-hush")
        sys.excepthook(ValueError, ValueError("five hush-hush"), None)
        PrintReporter().log("six hush-hush")
    finally:
        logging.setLogRecordFactory(factory)
        logger.removeHandler(handler)
        handler.close()
    assert out.getvalue() == "one ***\ntwo ***\nsix ***\n"
    assert "three ***" in err.getvalue()
    assert "five ***" in err.getvalue()
    assert (tmp_path / "log").read_text() == "four ***\n"
    kept = json.dumps(cause(ValueError("at http://me:other@host or hush-hush")))
    assert "http://***@host or ***" in kept
    assert "hush" not in out.getvalue() + err.getvalue()


def test_the_name_of_a_saved_view_is_no_secret() -> None:
    link = "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=x&viewStateShareKey=leaderboard"
    assert mask(link) == link
