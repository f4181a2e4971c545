"""Study files: what is sound is read as it stands, what is not is told all at once, with its
place and what to do."""

import copy
import re
from typing import Any

import pytest
import yaml

from kdbench.methods import BUILTIN, METHODS
from kdbench.study.load import StudyError, load_study, parse_study, shipped
from kdbench.study.schema import Study

SOUND: dict[str, Any] = {
    "name": "small",
    "question": "Does it?",
    "data": {"name": "digits", "validation": 200},
    "student": {"model": "digits-cnn-small"},
    "teacher": {"model": "digits-cnn", "method": "ce", "seed": 0},
    "recipe": {"epochs": 2, "batch": 64, "lr": 0.01},
    "methods": ["ce", "kd", {"method": "kd", "label": "kd-b", "hparams": {"temperature": 2.0}}],
    "tune": {"trials": 2, "epochs": 1, "seeds": [100]},
    "final": {"seeds": [0, 1, 2]},
    "report": {"reference": "ce", "margin": 0.2},
}


def study_with(**changes: Any) -> Study:
    """SOUND with dotted keys changed (`__` for the dot); a value of ... takes the key away."""
    raw = copy.deepcopy(SOUND)
    for key, value in changes.items():
        *path, last = key.split("__")
        at = raw
        for part in path:
            at = at[part]
        if value is ...:
            del at[last]
        else:
            at[last] = value
    return parse_study(yaml.safe_dump(raw), "small.yaml")


def faults(**changes: Any) -> list[str]:
    """The faults of SOUND with these changes: at least one, each in a line of the message."""
    with pytest.raises(StudyError) as raised:
        study_with(**changes)
    assert all(fault in str(raised.value) for fault in raised.value.faults)
    assert str(raised.value).startswith("small.yaml: ")
    return raised.value.faults


def only(found: list[str], *words: str) -> None:
    """There is one fault, and it has all these words."""
    assert len(found) == 1, found
    for word in words:
        assert word in found[0], found


# -- sound ones


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_studies_parse_and_are_named_as_their_file(name: str) -> None:
    assert load_study(name).name == name


def test_the_three_studies_of_the_readme_are_shipped() -> None:
    assert {"digits", "mnist", "cifar10"} <= set(shipped())


def test_one_study_has_every_method() -> None:
    methods = [entry.method for entry in load_study("digits-all").methods]
    assert sorted(methods) == sorted(BUILTIN)


def test_yaml_scientific_notation_without_a_dot_is_a_number() -> None:
    text = yaml.safe_dump(SOUND).replace("lr: 0.01", "lr: 5e-4")
    assert yaml.safe_load(text)["recipe"]["lr"] == "5e-4"  # what YAML 1.1 makes of it
    assert parse_study(text, "x").recipe.lr == 5e-4
    hparams = {"temperature": "2e0", "alpha": "1e-1"}
    study_with(methods=["ce", {"method": "kd", "hparams": hparams}])


def test_values_that_do_not_act_leave_the_recipe_as_it_is() -> None:
    plain = study_with().recipe.resolve()
    assert study_with(recipe__momentum=0.5).recipe.resolve() == plain
    assert study_with(recipe__gamma=0.5, recipe__milestones=[0.5]).recipe.resolve() == plain
    assert study_with(recipe__optimizer="sgd", recipe__momentum=0.5).recipe.resolve() != plain


def test_changes_of_the_command_line_are_checked_like_the_file() -> None:
    text = yaml.safe_dump(SOUND)
    assert parse_study(text, "x", {"recipe.epochs": 7}).recipe.epochs == 7
    for key, word in (
        ("recipe.epoch", "did you mean 'epochs'"),
        ("recip.epochs", "recip"),
        ("recipe.lr.low", "recipe.lr"),
    ):
        with pytest.raises(StudyError, match=word):
            parse_study(text, "x", {key: 7})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": 3}, "recipe: input should be a mapping of keys, {key: value}, not 3"),
        ({"methods": "ce"}, "methods: input should be a list, [value, value], not 'ce'"),
        ({"methods": []}, "methods: it needs 1 or more, not []"),
        ({"final__seeds": []}, "final.seeds: it needs 1 or more, not []"),
        ({"report__images": " "}, "report.images: it should not be blank, not ' '"),
    ],
)
def test_a_fault_is_told_in_the_words_of_a_file(changes: dict, message: str) -> None:
    told = faults(**changes)
    assert any(fault.startswith(message) for fault in told), told
    assert not re.search("dictionary|tuple|instance|pattern", " ".join(told))


SOURCE = {
    "authors": "Rossi, Ada and {The Team}",
    "title": "A Table",
    "venue": "A Journal",
    "year": 2024,
    "kind": "article",
    "url": "https://example.org/a_b?c=d%20e",
}
NUMBER = {"label": "LightNN, as they say", "accuracy": 69.9, "cite": "rossi2024table"}


def test_published_numbers_are_read_as_they_stand() -> None:
    rows = [
        NUMBER,
        {**NUMBER, "accuracy": "7e1", "seeds": 3, "note": "x", "cite": "hinton2015distilling"},
    ]
    report = study_with(report__published=rows, report__sources={"rossi2024table": SOURCE}).report
    first, second = report.published
    assert (first.label, first.accuracy, first.seeds, first.note) == (
        NUMBER["label"],
        69.9,
        None,
        "",
    )
    assert (second.accuracy, second.seeds, second.note) == (70.0, 3, "x")
    assert report.sources["rossi2024table"].paper("rossi2024table").kind == "article"
    bare = {k: v for k, v in SOURCE.items() if k not in ("kind", "url")}
    report = study_with(report__published=[NUMBER], report__sources={"rossi2024table": bare}).report
    assert report.sources["rossi2024table"].kind == "misc"


@pytest.mark.parametrize("key", ["hinton2015distilling", "alpaydin1998optical", "he2016deep"])
def test_published_numbers_may_cite_a_paper_of_the_study(key: str) -> None:
    """A method's, the data set's, or a model's."""
    rows = [{**NUMBER, "cite": key}]
    assert study_with(teacher__model="resnet8", report__published=rows).report.published


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accuracy": 100.1}, ["accuracy", "less than or equal to 100", "100.1"]),
        ({"accuracy": -1}, ["accuracy", "0", "-1"]),
        ({"accuracy": True}, ["accuracy", "number"]),
        ({"accuracy": ...}, ["'accuracy' is missing"]),
        ({"seeds": 0}, ["seeds", "0"]),
        ({"seeds": 1.5}, ["seeds", "integer"]),
        ({"label": " "}, ["label"]),
        ({"note": 3}, ["note", "string"]),
        ({"cite": ...}, ["'cite' is missing"]),
        ({"cite": "a,b}"}, ["cite", "'a,b}' is not a citation key"]),
        ({"acuracy": 1}, ["unknown key 'acuracy'", "did you mean 'accuracy'"]),
    ],
    ids=str,
)
def test_a_published_number_with_a_fault(change: Any, words: list[str]) -> None:
    row = {
        k: v
        for k, v in {**NUMBER, "cite": "hinton2015distilling", **change}.items()
        if v is not ...
    }
    only(faults(report__published=[row]), "report.published[0]", *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"authors": ...}, ["'authors' is missing"]),
        ({"authors": "{The Team"}, ["authors", "braces"]),
        ({"year": "2024"}, ["year", "integer"]),
        ({"year": 24}, ["year", "24"]),
        ({"kind": "artcle"}, ["kind", "did you mean 'article'"]),
        ({"url": "example.org"}, ["url", "'example.org'"]),
        ({"url": "https://a b}"}, ["url"]),
        ({"tilte": "x"}, ["unknown key 'tilte'", "did you mean 'title'"]),
    ],
    ids=str,
)
def test_a_source_with_a_fault(change: Any, words: list[str]) -> None:
    source = {k: v for k, v in {**SOURCE, **change}.items() if v is not ...}
    found = faults(report__published=[NUMBER], report__sources={"rossi2024table": source})
    only(found, "report.sources.rossi2024table", *words)


def test_citations_that_lead_nowhere_and_sources_that_nothing_cites() -> None:
    rows = [{**NUMBER, "cite": "rosi2024table"}, {**NUMBER, "cite": "hinton2015destilling"}]
    sources = {"rossi2024table": {**SOURCE}, "hinton2015distilling": {**SOURCE}}
    found = faults(report__published=rows, report__sources=sources)
    for words in (
        ("report.published[0]", "'rosi2024table'", "did you mean 'rossi2024table'"),
        ("report.published[1]", "did you mean 'hinton2015distilling'"),
        ("report.sources.rossi2024table", "no published number cites it"),
        ("report.sources.hinton2015distilling", "has that paper already"),
    ):
        assert any(all(word in fault for word in words) for fault in found), (words, found)
    assert len(found) == 4
    only(
        faults(report__sources={"a key": SOURCE}), "report.sources", "'a key' is not a citation key"
    )
    unknown = faults(report__published=[{**NUMBER, "cite": "he2016deep"}])
    only(unknown, "no source and no paper of the study", "he2016deep")  # of no model in use


# -- one fault each


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recepi": {}}, ["'recepi'", "did you mean 'recipe'"]),
        ({"recipe__epoch": 3}, ["recipe", "'epoch'", "did you mean 'epochs'"]),
        ({"tune__shared": {"lrr": {}}}, ["tune.shared", "'lrr'", "did you mean 'lr'"]),
        ({"methods": ["ce", "kdd"]}, ["methods[1]", "'kdd'", "did you mean 'kd'"]),
        ({"methods": ["ce", {"method": "kd", "lable": "x"}]}, ["methods[1] (kd)", "'label'"]),
        ({"recipe__nesterov": True}, ["recipe.nesterov", "take optimizer: sgd"]),
        ({"recipe__warmup": 5, "recipe__epochs": 5}, ["recipe.warmup", "leave none of"]),
        ({"recipe__warmup": -1}, ["recipe.warmup"]),
        ({"recipe__schedule": "one-cycle", "recipe__warmup": 1}, ["has a warm-up of its own"]),
        ({"recipe__clip": -1}, ["recipe.clip"]),
        ({"student__model": "digits-cn"}, ["student.model", "did you mean 'digits-cnn'"]),
        ({"data__name": "cifar11"}, ["data.name", "did you mean 'cifar10'"]),
        ({"data__augment": "flipp"}, ["data.augment", "did you mean 'flip'"]),
        ({"data__validation": 0}, ["data.validation", "0"]),
        ({"data": ...}, ["'data' is missing"]),
        ({"recipe__lr": ...}, ["recipe", "'lr' is missing"]),
        ({"recipe__lr": 0}, ["recipe.lr", "greater than 0", "0"]),
        ({"recipe__lr": -1.5}, ["recipe.lr", "greater than 0", "-1.5"]),
        ({"recipe__lr": "fast"}, ["recipe.lr", "number", "'fast'"]),
        ({"recipe__lr": True}, ["recipe.lr", "number", "True"]),
        ({"recipe__lr": float("nan")}, ["recipe.lr", "finite"]),
        ({"recipe__lr": float("inf")}, ["recipe.lr", "finite"]),
        ({"recipe__momentum": 1.0}, ["recipe.momentum", "less than 1"]),
        ({"recipe__epochs": 2.5}, ["recipe.epochs", "integer", "2.5"]),
        ({"recipe__epochs": "two"}, ["recipe.epochs", "integer", "'two'"]),
        ({"recipe__batch": 1}, ["recipe.batch", "2", "1"]),
        ({"recipe__schedule": "step"}, ["milestones"]),
        ({"recipe": 5}, ["recipe", "5"]),
        ({"final__seeds": []}, ["final.seeds"]),
        ({"final__seeds": [0, -1]}, ["final.seeds[1]", "-1"]),
        ({"final__seeds": [0, 1, 1]}, ["final.seeds", "seed 1", "twice"]),
        ({"final__seeds": [1, 100]}, ["tune.seeds", "final.seeds", "[100]"]),
        ({"tune__confirm": {"points": 1, "seeds": [7]}}, ["tune.confirm.seeds", "2"]),
        ({"tune__confirm": {"points": 1, "seeds": [7, 100]}}, ["tune.confirm.seeds", "[100]"]),
        ({"tune__confirm": {"points": 99, "seeds": [7, 8]}}, ["tune.confirm.points", "99"]),
        ({"tune__confirm": {"points": 1, "seeds": [7, 7]}}, ["tune.confirm.seeds", "twice"]),
        ({"final": {"seeds": [0], "train_on": "all", "epoch": "best"}}, ["train_on", "last"]),
        ({"tune__shared": {"lr": {"low": 1, "high": 1}}}, ["tune.shared.lr", "low 1", "high 1"]),
        ({"methods": ["ce", "kd", "kd"]}, ["'kd'", "label"]),
        ({"methods": []}, ["methods"]),
        ({"report__reference": "cee"}, ["report.reference", "'cee'", "did you mean 'ce'"]),
        ({"name": "../x"}, ["name", "'../x'", "lower-case"]),
        ({"name": "a/b"}, ["name", "'a/b'"]),
        ({"name": ".."}, ["name", "'..'"]),
        ({"name": "Digits"}, ["name", "'Digits'"]),
        (
            {"methods": ["ce", {"method": "kd", "label": "../x"}]},
            ["methods[1] (kd).label", "'../x'"],
        ),
        ({"methods": ["ce", "takd"]}, ["methods[1] (takd)", "'assistant'", "{model: ...}"]),
        (
            {"methods": ["ce", {"method": "ban", "teacher": {"model": "digits-cnn"}}]},
            ["methods[1] (ban)", "no model called 'teacher'"],
        ),
        (
            {"methods": ["ce", {"method": "kd", "assistant": {"model": "digits-cnn"}}]},
            ["methods[1] (kd)", "no model called 'assistant'"],
        ),
        (
            {"methods": ["ce", {"method": "kd", "student": {"model": "digits-cnn"}}]},
            ["methods[1] (kd)", "student"],
        ),
        (
            {"methods": ["ce", {"method": "kd", "teacher": {"model": "digits-cn"}}]},
            ["methods[1] (kd)", "teacher", "did you mean 'digits-cnn'"],
        ),
        (
            {"methods": ["ce", {"method": "kd", "teacher": "digits-cnn"}]},
            ["methods[1] (kd)", "'teacher'", "{model: ...}"],
        ),
        (
            {"methods": ["ce", {"method": "kd", "slots": {"teacher": "digits-cnn"}}]},
            ["methods[1] (kd)", "'slots'"],
        ),
        ({"teacher__method": "kd"}, ["teacher.method", "'kd'"]),
        ({"teacher__metod": "ce"}, ["teacher", "'metod'", "did you mean 'method'"]),
        (
            {"data__augment": "flip", "recipe__teacher_outputs": "cache"},
            ["recipe.teacher_outputs", "augment: flip", "live"],
        ),
    ],
    ids=str,
)
def test_a_fault_is_told_with_its_place_and_what_to_do(changes: Any, words: list[str]) -> None:
    if changes.get("methods") in ([], ["ce", "takd"]):
        assert any(all(word in fault for word in words) for fault in faults(**changes))
    else:
        only(faults(**changes), *words)


@pytest.mark.parametrize(
    ("hparams", "words"),
    [
        ({"temprature": 2.0}, ["'temprature'", "did you mean 'temperature'"]),
        ({"alpha": 1.5}, ["alpha", "1.5", "[0, 1]"]),
        ({"temperature": 0}, ["temperature", "0", "[0.01"]),
        ({"temperature": "warm"}, ["temperature", "'warm'", "number"]),
        ({"temperature": float("nan")}, ["temperature", "nan"]),
        ({"temperature": [2]}, ["temperature", "[2]"]),
        ({"temperature": True}, ["temperature", "True"]),
    ],
    ids=lambda v: str(v)[:40],
)
def test_a_hparam_that_is_wrong_is_named_with_value_and_limits(
    hparams: Any, words: list[str]
) -> None:
    only(faults(methods=["ce", {"method": "kd", "hparams": hparams}]), "methods[1] (kd)", *words)


def test_every_wrong_hparam_of_an_entry_is_told() -> None:
    hparams = {"temprature": 2.0, "alpha": 7, "temperature": -1}
    assert len(faults(methods=["ce", {"method": "kd", "hparams": hparams}])) == 3


def test_a_hparam_of_a_method_without_hparams() -> None:
    only(faults(methods=[{"method": "ce", "hparams": {"alpha": 1}}]), "alpha", "no hyperparameters")


def test_whole_number_hparams_refuse_parts() -> None:
    only(faults(methods=["ce", {"method": "ban", "hparams": {"generations": 1.5}}]), "generations")
    one = {"method": "ban", "hparams": {"generations": 2.0}}
    assert study_with(methods=["ce", one]).methods[1].hparams["generations"] == 2


@pytest.mark.parametrize("key", sorted(METHODS))
def test_every_hparam_of_every_method_is_refused_beyond_its_limits(key: str) -> None:
    for name, hparam in METHODS[key].hparams().items():
        for limit, beyond in ((hparam.low, -1), (hparam.high, 1)):
            if limit is not None:
                text = "\n".join(
                    faults(methods=[{"method": key, "hparams": {name: limit + beyond}}])
                )
                assert f"{name} = " in text
                assert f"{limit:g}" in text


def test_the_teacher_must_stand_on_its_own() -> None:
    assert any("assistant" in fault for fault in faults(teacher__method="takd"))
    assert study_with(teacher__method="label-smoothing").teacher.method == "label-smoothing"
    assert study_with(teacher__seed="per-seed").teacher.seed == "per-seed"
    assert all("teacher.seed" in fault for fault in faults(teacher__seed="per-sed"))


# -- several at once


def test_all_faults_are_told_at_once_whatever_their_kind() -> None:
    found = faults(
        data__name="digit",
        recipe__lr=-1,
        recipe__epoch=3,
        final__seeds=[0, 0, 100],
        methods=[
            "ce",
            "kdd",
            {"method": "kd", "hparams": {"temprature": 1}},
            {"method": "dkd", "hparams": {"warmup": 9}, "teacher": "x"},
        ],
        report__reference="cee",
    )
    for place in (
        "data.name",
        "recipe.lr",
        "recipe: unknown key 'epoch'",
        "seed 0 stands there twice",
        "share [100]",
        "methods[1] (kdd)",
        "methods[2] (kd): unknown hyperparameter",
        "methods[3] (dkd): 'teacher'",
        "warmup = 9",
        "report.reference",
    ):
        assert any(place in fault for fault in found), (place, found)
    assert len(found) == 10


# -- files


def test_a_syntax_error_gives_its_line() -> None:
    with pytest.raises(StudyError, match="line 4"):
        parse_study("name: x\ndata: {name: digits}\nmethods: [ce\n  kd: : x\n", "x.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "just words",
        "name: !!timestamp x",
        'name: !!int ""',
        "name: !!bool x",
        "name: !!python/object:os.system x",
        "name: 2020-13-45",
        "? [a]\n: b",
        "a: &a [*a]",
        "\0",
        "methods: !!set {kd, ce}",
        "methods: &m [*m]",
        "{1: 2, null: 3, 2020-01-01: 4}",
    ],
)
def test_odd_yaml_is_a_study_error(text: str) -> None:
    with pytest.raises(StudyError, match=r"^x\.yaml: "):
        parse_study(text, "x.yaml")


def test_a_key_that_stands_twice_is_not_lost_without_a_word() -> None:
    text = yaml.safe_dump(SOUND) + "final:\n  seeds: [7]\n"
    with pytest.raises(StudyError, match=r"line \d+.*'final' stands there twice"):
        parse_study(text, "x")
    text = yaml.safe_dump(SOUND).replace("epochs: 2", "epochs: 2\n  epochs: 3")
    with pytest.raises(StudyError, match="'epochs' stands there twice"):
        parse_study(text, "x")


def test_unknown_studies_and_unreadable_files(tmp_path: Any) -> None:
    with pytest.raises(StudyError, match="did you mean 'cifar10'"):
        load_study("cifar1")
    with pytest.raises(StudyError, match=r"cannot read .*none\.yaml"):
        load_study(str(tmp_path / "none.yaml"))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="not UTF-8"):
        load_study(str(binary))
    for name in ("", "..", "x" * 5000):
        with pytest.raises(StudyError):
            load_study(name)


def told(text: str, changes: dict | None = None) -> list[str]:
    """The faults of a text, each one line that a terminal shows."""
    with pytest.raises(StudyError) as raised:
        parse_study(text, "x.yaml", changes)
    assert all(fault.isprintable() for fault in raised.value.faults)
    return raised.value.faults


def test_a_study_takes_no_values_from_elsewhere() -> None:
    text = yaml.safe_dump(SOUND) + "x: {<<: {a: 1}}\n"
    only(told(text), "at line", "'<<'", "write them out")


def test_aliases_are_refused() -> None:
    raw = copy.deepcopy(SOUND)
    raw["teacher"] = raw["student"]
    only(told(yaml.safe_dump(raw)), "at line", "'*id001' takes a value from elsewhere")


def test_counts_beyond_all_use_are_refused() -> None:
    only(faults(recipe__epochs=2**31), "recipe.epochs", "less than")
    only(faults(data__validation=2**31), "data.validation", "less than")
    only(faults(recipe__batch=2**31), "recipe.batch", "less than")


OLD_KEYS = [
    (
        {"methods": ["ce", {"method": "kd", "knobs": {"temperature": 2.0}}]},
        ["methods[1] (kd)", "'knobs' is called 'hparams' now"],
    ),
    (
        {"methods": ["ce", {"method": "hint", "hparams": {"tap": "layer2"}}]},
        ["methods[1] (hint)", "'tap' is called 'layer' now"],
    ),
    (
        {"methods": ["ce", {"method": "feature-mse", "hparams": {"tap": "layer2"}}]},
        ["methods[1] (feature-mse)", "'tap' is called 'layer' now"],
    ),
    (
        {"recipe__frozen": "table"},
        ["recipe: ", "'frozen' is called 'teacher_outputs' now", "'table' is called 'cache'"],
    ),
]


@pytest.mark.parametrize(("changes", "words"), OLD_KEYS, ids=["knobs", "tap", "tap", "frozen"])
def test_a_key_under_its_old_name_says_the_new_one(changes: Any, words: list[str]) -> None:
    only(faults(**changes), *words)


def test_a_value_that_is_none_of_its_kind_has_its_line() -> None:
    for value in ("!!timestamp x", '!!int ""', "!!bool x", "2020-13-45"):
        only(told(f"name: x\nquestion: {value}"), "line 2", "not a value of the kind")


def test_faults_are_lines_whatever_the_file_says() -> None:
    for odd in ("\\e[31m", "\\n", "\\ud800", "\\0", "\\u202e"):
        text = yaml.safe_dump(SOUND)
        found = told(text.replace("name: small", f'name: small\n? "{odd}"\n: 1'))
        assert len(found) == 1
        only(told(text, {f"recipe.{odd}": 1}), "recipe")
    assert "#x0000 at position 3" in told("a: \0")[0]


def test_text_that_no_page_or_database_takes() -> None:
    for odd in ("a\0", "a\x1b[2J", "\ud800"):
        only(faults(question=odd), "question", "no control characters")
        number = {**NUMBER, "note": odd, "cite": "hinton2015distilling"}
        only(faults(report__published=[number]), "note", "no control characters")
        one = {"method": "hint", "hparams": {"layer": odd}}
        only(faults(methods=["ce", one]), "layer", "no control characters")
    assert study_with(question="Does it?\n\tOr not?").question.endswith("not?")


@pytest.mark.parametrize("name", ["a.", "a\n", "x" * 65])
def test_names_that_no_folder_may_have(name: str) -> None:
    only(faults(name=name), "name", "is not a name")
    only(faults(methods=["ce", {"method": "kd", "label": name}]), "label", "is not a name")


def test_a_place_shows_a_method_that_is_no_word_in_short() -> None:
    (fault, *_) = faults(methods=["ce", {"method": [["x"] * 500] * 9, "label": "x"}])
    assert len(fault) < 700
