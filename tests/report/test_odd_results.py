"""Files of results as other tools write them: read rightly, or refused with line and reason."""

import codecs
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.cli.app import UsageError
from kdbench.cli.parsing import parse_columns
from kdbench.report.check import check_report
from kdbench.report.data.delimited import WrongResults
from kdbench.report.data.external import lookalikes, read_results
from kdbench.report.data.report_data import load

HEAD = "method,setting,seed,score\n"
PLAIN = HEAD + "ce,a,0,70.5\nkd,a,0,71\n"
READ = [("ce", "a", 0, 70.5), ("kd", "a", 0, 71.0)]

WANDB = (
    '"Name","State","Created","Runtime","Sweep","method","seed","test/acc","train/loss"\n'
    '"brisk-sun-1","finished","2026-01-02T03:04:05.000Z","61","","ce","0","0.705","0.1"\n'
    '"calm-sea-2","finished","2026-01-02T03:04:05.000Z","62","","kd","0","0.71","0.2"\n'
    '"dry-fog-3","crashed","2026-01-02T03:04:05.000Z","3","","kd","1","",""\n'
)
MLFLOW = (
    ",run_id,experiment_id,status,artifact_uri,start_time,metrics.test_acc,params.method,"
    "params.seed,tags.mlflow.note.content\n"
    '0,0a1b,1,FINISHED,file:///x,2026-01-02 03:04:05+00:00,70.5,ce,0,"a note,\nwith a line"\n'
    "1,2c3d,1,FINISHED,file:///x,2026-01-02 03:04:05+00:00,71.0,kd,0,\n"
)


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "r.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(table: pd.DataFrame) -> list[tuple[str, str, int, float | None]]:
    scores = [None if pd.isna(s) else pytest.approx(s) for s in table["score"]]
    return list(zip(table["method"], table["setting"], table["seed"], scores, strict=True))


RIGHT = {
    "UTF-8 with a byte order mark": (codecs.BOM_UTF8 + PLAIN.encode(), {}),
    "UTF-16, little end first": (PLAIN.encode("utf-16-le"), {}),
    "UTF-16, big end first": (PLAIN.encode("utf-16-be"), {}),
    "UTF-32": (PLAIN.encode("utf-32"), {}),
    "Windows line ends": (PLAIN.replace("\n", "\r\n"), {}),
    "old Mac line ends": (PLAIN.replace("\n", "\r"), {}),
    "old Mac line ends and decimal commas": (
        PLAIN.replace(",", ";").replace("70.5", "70,5").replace("\n", "\r"),
        {},
    ),
    "quotes everywhere": (
        '"method","setting","seed","score"\n"ce","a","0","70.5"\n"kd","a","0","71"\n',
        {},
    ),
    "capitals and spaces in the header": (
        PLAIN.replace("method", " Method ").replace("score", "SCORE"),
        {},
    ),
    "an index of pandas": (",method,setting,seed,score\n0,ce,a,0,70.5\n1,kd,a,0,71\n", {}),
    "an index of pandas, twice": (
        "Unnamed: 0.1,Unnamed: 0,method,setting,seed,score\n0,0,ce,a,0,70.5\n1,1,kd,a,0,71\n",
        {},
    ),
    "seeds that pandas made floats": (PLAIN.replace(",0,", ",0.0,"), {}),
    "comments and empty lines": (f'# by hand\n\n{PLAIN}\n  # the end, "\n,,,\n', {}),
    "tabs": (PLAIN.replace(",", "\t"), {}),
    "semicolons": (PLAIN.replace(",", ";"), {}),
    "semicolons and decimal commas": (PLAIN.replace(",", ";").replace("70.5", "70,5"), {}),
    "tabs and decimal commas": (PLAIN.replace(",", "\t").replace("70.5", "70,5"), {}),
    "exponents": (PLAIN.replace("70.5", "7.05e1").replace("71", "+71."), {}),
    "fractions that are said to be": (
        PLAIN.replace("70.5", "0.705").replace("71", "0.71"),
        {"fractions": True},
    ),
    "no setting": (
        "method,seed,score\nce,0,70.5\nkd,0,71\n",
        {"setting": "a"},
    ),
    "MLflow": (
        MLFLOW,
        {
            "columns": {
                "method": "params.method",
                "seed": "params.seed",
                "score": "metrics.test_acc",
            },
            "setting": "a",
        },
    ),
    "a column of another name beside one of the right name": (
        "method,setting,seed,score,test\nce,a,0,1,70.5\nkd,a,0,1,71\n",
        {"columns": {"score": "test"}},
    ),
}
MARKED = {
    "UTF-16, little end first": codecs.BOM_UTF16_LE,
    "UTF-16, big end first": codecs.BOM_UTF16_BE,
}


@pytest.mark.parametrize("name", RIGHT)
def test_read_rightly(tmp_path: Path, name: str) -> None:
    content, options = RIGHT[name]
    if name in MARKED:
        content = MARKED[name] + content
    table = read_results(written(tmp_path, content), **options)
    assert rows(table) == READ


def test_wandb(tmp_path: Path) -> None:
    columns = {"score": "test/acc"}
    table = read_results(written(tmp_path, WANDB), columns, "cifar10", fractions=True)
    assert rows(table) == [
        ("ce", "cifar10", 0, 70.5), ("kd", "cifar10", 0, 71.0), ("kd", "cifar10", 1, None),
    ]  # fmt: skip
    assert list(table["line"]) == [2, 3, 4]


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 - 1, 2**53 + 1, 2**63 - 1])
def test_any_seed_of_64_bits(tmp_path: Path, seed: int) -> None:
    path = written(tmp_path, HEAD + f"ce,a,{seed},70\nkd,a,{seed},71\nce,a,1,72\nkd,a,1,71\n")
    assert list(read_results(path)["seed"]) == [seed, seed, 1, 1]
    done = CliRunner().invoke(app, ["report", "--from", str(path), "--root", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(app, ["check", str(tmp_path / "reports" / "r")]).exit_code == 0


POINT = "; write decimals with a point in all rows"
NUMBER = "is no number from 0 to 100 (percent)"
#: What a spreadsheet, a script or a slip may give; what is said of it, behind the file's name.
ODD: dict[str, tuple[str | bytes, str]] = {
    "underscores": (HEAD + "kd,a,0,7_3.4\n", f": wrong rows\n  line 2: the score '7_3.4' {NUMBER}"),
    "full-width digits": (
        HEAD + "kd,a,0,７３\n",
        f": wrong rows\n  line 2: the score '７３' {NUMBER}",
    ),
    "Arabic digits": (
        HEAD + "kd,a,٣,73\n",
        ": wrong rows\n  line 2: the seed '٣' is no whole number from 0 to 9223372036854775807",
    ),
    "a percent sign": (
        HEAD + "kd,a,0,73 %\n",
        f": wrong rows\n  line 2: the score '73 %' {NUMBER}",
    ),
    "not a number": (HEAD + "kd,a,0,NaN\n", f": wrong rows\n  line 2: the score 'NaN' {NUMBER}"),
    "infinity": (HEAD + "kd,a,0,inf\n", f": wrong rows\n  line 2: the score 'inf' {NUMBER}"),
    "hexadecimal": (HEAD + "kd,a,0,0x49\n", f": wrong rows\n  line 2: the score '0x49' {NUMBER}"),
    "a mean with its deviation": (
        HEAD + "kd,a,0,73.1 ± 0.2\n",
        f": wrong rows\n  line 2: the score '73.1 ± 0.2' {NUMBER}",
    ),
    "more than all": (
        HEAD + "kd,a,0,100.01\n",
        f": wrong rows\n  line 2: the score '100.01' {NUMBER}",
    ),
    "less than nothing": (
        HEAD + "kd,a,0,-0.5\n",
        f": wrong rows\n  line 2: the score '-0.5' {NUMBER}",
    ),
    "a decimal comma between commas": (
        HEAD + "kd,a,0,73,4\n",
        ": wrong rows\n  line 2: 1 more cells than the header has columns",
    ),
    "a quoted decimal comma between commas": (
        HEAD + 'kd,a,0,"73,4"\n',
        f": wrong rows\n  line 2: the score '73,4' {NUMBER}{POINT}",
    ),
    "decimal commas and points": (
        "method;setting;seed;score\nkd;a;0;73,4\nkd;a;1;73.4\n",
        f": wrong rows\n  line 2: the score '73,4' {NUMBER}{POINT}",
    ),
    "thousands": (
        "method;setting;seed;score\nkd;a;0;1.073,4\n",
        f": wrong rows\n  line 2: the score '1.073,4' {NUMBER}{POINT}",
    ),
    "thousands of a cost": (
        "method;setting;seed;score;cost\nkd;a;0;73;999\nkd;a;1;73;1,200\n",
        f": wrong rows\n  line 3: the cost '1,200' is no positive number{POINT}",
    ),
    "a seed below zero": (
        HEAD + "kd,a,-1,73\n",
        ": wrong rows\n  line 2: the seed '-1' is no whole number from 0 to 9223372036854775807",
    ),
    "half a seed": (
        HEAD + "kd,a,0.5,73\n",
        ": wrong rows\n  line 2: the seed '0.5' is no whole number from 0 to 9223372036854775807",
    ),
    "a seed of more than 64 bits": (
        HEAD + "kd,a,9223372036854775808,73\n",
        ": wrong rows\n  line 2: the seed '9223372036854775808' is no whole number from 0 to "
        "9223372036854775807",
    ),
    "a seed of a thousand digits": (
        HEAD + f"kd,a,{'9' * 1000},73\n",
        f": wrong rows\n  line 2: the seed '{'9' * 1000}' is no whole number from 0 to "
        "9223372036854775807",
    ),
    "no seed": (
        HEAD + "kd,a,,73\n",
        ": wrong rows\n  line 2: the seed '' is no whole number from 0 to 9223372036854775807",
    ),
    "one seed in two ways": (
        HEAD + "kd,a,7,73\nkd,a,007.0,73\n",
        ": wrong rows\n  line 3: kd, a, seed 7 stands in line 2 already",
    ),
    "a row that breaks off": (
        HEAD + "kd,a,0,73\nkd,a,1\n",
        ": wrong rows\n  line 3: 1 fewer cells than the header has columns",
    ),
    "a row with nothing but its index": (
        ",method,setting,seed,score\n0,,,,\n",
        ": wrong rows\n  it holds no row",
    ),
    "a control character": (
        HEAD + "k\x1b[2Jd,a,0,73\n",
        ": wrong rows\n  line 2: the method 'k\\x1b[2Jd' holds a control character",
    ),
    "fractions": (
        HEAD + "ce,a,0,73\nkd,b,0,0.73\nkd,b,1,1\n",
        ": line 3: the score 0.73, and no score of setting 'b' is above 1. Say what they are: "
        "--fractions (0.73 is 73 %) or --no-fractions (0.73 is 0.73 %)",
    ),
    "two names of one column": (
        "method,Method,setting,seed,score\nkd,KD,a,0,73\n",
        ": wrong rows\n  line 1: the columns 'method' and 'Method' are all the method\n"
        "  line 1: the columns are 'method', 'Method', 'setting', 'seed', 'score'",
    ),
    "one column twice": (
        "method,setting,seed,score,score\nkd,a,0,73,74\n",
        ": wrong rows\n  line 1: the columns 'score' and 'score' are all the score\n"
        "  line 1: the columns are 'method', 'setting', 'seed', 'score', 'score'",
    ),
    "another name": (
        "method,setting,seed,acc\nkd,a,0,73\n",
        ": wrong rows\n  line 1: the column 'score' is missing; name the file's own with --map "
        "score=COLUMN\n  line 1: the column 'acc' is unknown; there are method, setting, seed, "
        "score, cost (--map score=COLUMN uses another and ignores the rest)\n"
        "  line 1: the columns are 'method', 'setting', 'seed', 'acc'",
    ),
    "no setting": (
        "# by hand\nmethod,seed,score\nkd,0,73\n",
        ": wrong rows\n  line 2: the column 'setting' is missing; name the setting of all rows "
        "with --setting NAME\n  line 2: the columns are 'method', 'seed', 'score'",
    ),
    "bars": (
        "method|setting|seed|score\nkd|a|0|73\n",
        ": wrong rows\n  line 1: the column 'method' is missing; name the file's own with --map "
        "method=COLUMN\n  line 1: the column 'setting' is missing; name the setting of all rows "
        "with --setting NAME\n  line 1: the column 'seed' is missing; name the file's own with "
        "--map seed=COLUMN\n  line 1: the column 'score' is missing; name the file's own with "
        "--map score=COLUMN\n  line 1: the column 'method|setting|seed|score' is unknown; there "
        "are method, setting, seed, score, cost (--map score=COLUMN uses another and ignores the "
        "rest)\n  line 1: the columns are 'method|setting|seed|score'",
    ),
    "two separators": (
        "method;setting;seed;score,cost\nkd;a;0;73;1\n",
        ": line 1: comma and semicolon both stand in the header "
        "'method;setting;seed;score,cost': put names that hold one of them in quotes",
    ),
    "Latin-1": (
        b"method,setting,seed,score\nkd,caf\xe9,0,73\n",
        ": not readable as CSV: line 2: byte 0xe9 is not UTF-8: save the file as UTF-8",
    ),
    "UTF-16 that breaks off": (
        codecs.BOM_UTF16_LE + PLAIN.encode("utf-16-le")[:-1],
        ": not readable as CSV: line 3: byte 0x0a is not UTF-16: save the file as UTF-8",
    ),
    "UTF-16 without a mark": (
        PLAIN.encode("utf-16-le"),
        ": not readable as CSV: it holds null characters: is it UTF-16 without a byte order mark? "
        "Save it as UTF-8",
    ),
    "an open quote": (
        HEAD + 'kd,a,0,73\n"kd,a,1,73\n',
        ": not readable as CSV: line 3: unexpected end of data",
    ),
    "a quote too early": (
        HEAD + '"kd"x,a,1,73\n',
        ": not readable as CSV: line 2: ',' expected after '\"'",
    ),
    "a cost of nothing": (
        "method,setting,seed,score,cost\nkd,a,0,73,-2\n",
        ": wrong rows\n  line 2: the cost '-2' is no positive number",
    ),
    "an empty file": (
        "",
        ": wrong rows\n  line 1: the column 'method' is missing; name the file's own with --map "
        "method=COLUMN\n  line 1: the column 'setting' is missing; name the setting of all rows "
        "with --setting NAME\n  line 1: the column 'seed' is missing; name the file's own with "
        "--map seed=COLUMN\n  line 1: the column 'score' is missing; name the file's own with "
        "--map score=COLUMN\n  line 1: the columns are none",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_refused_with_line_and_reason(tmp_path: Path, name: str) -> None:
    content, message = ODD[name]
    path = written(tmp_path, content)
    with pytest.raises(WrongResults) as error:
        read_results(path)
    assert str(error.value) == f"{path}{message}"


def test_names_that_look_like_values(tmp_path: Path) -> None:
    names = ["NA", "None", "nan", "1", "1.0", "true", "'", "'=1", "+", "-", '"', "a,b"]
    lines = [f'"{name.replace(chr(34), chr(34) * 2)}",a,0,{70 + k}' for k, name in enumerate(names)]
    path = written(tmp_path, HEAD + "\n".join(lines))
    shown = [name.removeprefix("'") if name == "'=1" else name for name in names]
    assert list(read_results(path)["method"]) == shown
    done = CliRunner().invoke(app, ["report", "--from", str(path), "--root", str(tmp_path)])
    assert done.exit_code == 0, done.output
    kept = load(tmp_path / "reports" / "r")
    assert list(kept.runs["label"]) == shown
    assert check_report(tmp_path / "reports" / "r" / "leaderboard.csv") == []


def test_options_that_do_not_fit_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN)
    for options, message in (
        ({"columns": {"score": "acc"}}, "there is no column 'acc' for the score"),
        ({"setting": "b"}, "there is a column for the setting, so --setting has no place"),
        ({"fractions": True}, "line 2: the score '70.5' is no number from 0 to 1 (a fraction)"),
    ):
        with pytest.raises(WrongResults) as error:
            read_results(path, **options)
        assert message in str(error.value)
    low = written(tmp_path, HEAD + "kd,a,0,0.5\n")
    assert rows(read_results(low, fractions=False)) == [("kd", "a", 0, 0.5)]
    assert rows(read_results(low, fractions=True)) == [("kd", "a", 0, 50.0)]


def test_a_file_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdbench.report.data.delimited.MOST_BYTES", 100)
    path = written(tmp_path, HEAD + "kd,a,0,73\n" * 10)
    with pytest.raises(WrongResults) as error:
        read_results(path)
    assert str(error.value) == f"{path}: not readable as CSV: more than 100 bytes"
    with pytest.raises(WrongResults, match="not readable as CSV: Is a directory"):
        read_results(tmp_path)


def test_names_that_look_alike_are_a_warning(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + "KD,a,0,70\nkd,a,0,71\nce,A,0,70\nce,a,0,70\nKD,A,0,70\n")
    assert lookalikes(read_results(path)) == [
        "warning: 'KD' and 'kd' count as 2 methods",
        "warning: 'a' and 'A' count as 2 settings",
    ]
    assert lookalikes(read_results(written(tmp_path, PLAIN))) == []


def test_the_options_of_the_command(tmp_path: Path) -> None:
    path = written(tmp_path, WANDB.replace('"kd","1"', '"KD","0"'))
    words = ["report", "--from", str(path), "--root", str(tmp_path), "--setting", "cifar10"]
    refused = CliRunner().invoke(app, [*words, "--map", "score=test/acc"])
    assert refused.exit_code == 2
    assert "--fractions (0.73 is 73 %)" in refused.stderr
    done = CliRunner().invoke(app, [*words, "--map", "score=test/acc", "--fractions", "--json"])
    assert done.exit_code == 0, done.output
    assert done.stderr == "warning: 'kd' and 'KD' count as 2 methods\n"
    assert '"study": "cifar10"' in done.stdout
    assert "70.5" in done.stdout


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", {}),
        ("score=test/acc", {"score": "test/acc"}),
        ("score=test/acc, method = Name", {"score": "test/acc", "method": "Name"}),
        ("score=acc, top 1,seed=a=b", {"score": "acc, top 1", "seed": "a=b"}),
    ],
)
def test_names_of_columns(text: str, columns: dict[str, str]) -> None:
    assert parse_columns(text) == columns


@pytest.mark.parametrize("text", ["score", "score=", "accuracy=acc", "score=a,score=b", "=a"])
def test_names_of_columns_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"write COLUMN=NAME, as in score=test/acc,method=Name"):
        parse_columns(text)
