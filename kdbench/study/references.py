"""The papers that a study rests on: what its report has to cite."""

from kdbench import models
from kdbench.data import DATASETS
from kdbench.methods import METHODS
from kdbench.registry import Paper, did_you_mean
from kdbench.stats.analysis import CITATION, MODERATED
from kdbench.study.schema import Study

SMYTH = Paper(
    key=CITATION,
    authors="Smyth, Gordon K.",
    title="Linear Models and Empirical Bayes Methods for Assessing Differential Expression in "
    "Microarray Experiments",
    venue="Statistical Applications in Genetics and Molecular Biology",
    year=2004,
    kind="article",
    url="https://doi.org/10.2202/1544-6115.1027",
)


def of_methods(study: Study) -> list[Paper]:
    """The papers of the methods compared, in the study's order."""
    return [METHODS[entry.method].paper for entry in study.methods if entry.method]


def of_models(study: Study) -> dict[str, Paper]:
    """The papers of the student's, the teacher's and the slots' models, by model; those
    without one are left out."""
    names = [part.model for part in (study.student, study.teacher) if part]
    names += [model for entry in study.methods for model in entry.slots.values()]
    papers = {name: models.paper_of(name) for name in names}
    return {name: paper for name, paper in papers.items() if paper}


def of_data(study: Study) -> Paper | None:
    """The paper of the data set, where it has one."""
    known = study.data and study.data.name in DATASETS
    return DATASETS[study.data.name].paper if known else None


def of_test(study: Study) -> Paper | None:
    """The paper of the test of differences, where it has one that readers may not know."""
    return SMYTH if study.report and study.report.test == MODERATED else None


def of_study(study: Study) -> list[Paper]:
    """All of these; a paper that several of them share comes several times."""
    others = [paper for paper in (of_data(study), of_test(study)) if paper]
    return [*of_methods(study), *of_models(study).values(), *others]


def references(study: Study) -> dict[str, Paper]:
    """The study's papers and the sources of its published numbers, by key, sorted."""
    papers = {paper.key: paper for paper in of_study(study)}
    papers |= {key: source.paper(key) for key, source in study.report.sources.items()}
    return dict(sorted(papers.items()))


def citation_faults(study: Study) -> list[str]:
    """What is wrong with the citations of a study: a key that nobody has, that two have, or
    that nothing cites. Parts that are None are skipped."""
    papers: dict[str, Paper] = {}
    faults = []
    for paper in of_study(study):
        if papers.setdefault(paper.key, paper) != paper:
            faults.append(
                f"two papers have the citation key '{paper.key}': "
                f"'{papers[paper.key].title}' and '{paper.title}'; a plug-in should rename its own"
            )
    if not study.report:
        return faults
    sources, rows = study.report.sources, study.report.published
    for key in sources:
        if key in papers:
            faults.append(
                f"report.sources.{key}: the study has that paper already ('{papers[key].title}'); "
                "leave it out, or take another key"
            )
        elif key not in {row.cite for row in rows}:
            faults.append(f"report.sources.{key}: no published number cites it; leave it out")
    for index, row in enumerate(rows):
        if row.cite not in papers and row.cite not in sources:
            near = did_you_mean(row.cite, {*papers, *sources})
            faults.append(
                f"report.published[{index}] ({row.label}): no source and no paper of the study "
                f"has the key '{row.cite}'{near}"
            )
    return faults
