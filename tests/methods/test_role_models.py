from kdbench.methods.networks import Average, Frozen, RoleModels, Snapshot, Stage, Trained


def test_each_role_has_the_model_of_its_source() -> None:
    sources = {
        "student": Trained(),
        "peer": Trained("assistant"),
        "teacher": Frozen(),
        "before": Frozen(Stage("student")),
        "copy": Snapshot("peer"),
        "mean": Average(),
    }
    slots = {"student": "small", "assistant": "medium"}
    stages = {"teacher": "large", "student": "tiny"}
    models = RoleModels(sources, slots.__getitem__, lambda _, run: stages[run.model])
    assert models.by_role() == {
        "student": "small",
        "peer": "medium",
        "teacher": "large",
        "before": "tiny",
        "copy": "medium",
        "mean": "small",
    }
