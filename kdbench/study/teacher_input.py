"""What the teacher sees of the study's images, where that is not what the students see."""

from kdbench.data.load import TrainingData
from kdbench.models.names import NetworkInput, with_input
from kdbench.study.load import StudyError
from kdbench.study.schema import Study


def with_teacher_input(study: Study, data: TrainingData) -> Study:
    """The study whose teacher's model has the stated size and normalisation in its name.

    Networks are given images that the data's own mean and standard deviation have normalised,
    so those are part of what turns them into the teacher's. Raises `StudyError` for another
    number of channels.
    """
    teacher = study.teacher
    scale: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()
    if own := teacher.normalise:
        channels = len(data.mean)
        if len(own.mean) != channels:
            raise StudyError(
                study.name,
                [
                    f"teacher.normalise: {len(own.mean)} values, and the images of {data.name} "
                    f"have {channels} channels"
                ],
            )
        scale = tuple(theirs / std for theirs, std in zip(data.std, own.std, strict=True))
        shift = tuple(
            (theirs - mean) / std
            for theirs, mean, std in zip(data.mean, own.mean, own.std, strict=True)
        )
    given = NetworkInput(teacher.size or 0, scale, shift)
    if given == NetworkInput():
        return study
    seen = teacher.model_copy(update={"model": with_input(teacher.model, given)})
    return study.model_copy(update={"teacher": seen})


def described(study: Study) -> str:
    """What the teacher sees, for a caption; empty where it is what the students see."""
    teacher, parts = study.teacher, []
    if teacher.size:
        parts.append(f"scaled to {teacher.size}x{teacher.size} (bilinear, antialiased)")
    if own := teacher.normalise:
        mean, std = (", ".join(f"{value:g}" for value in v) for v in (own.mean, own.std))
        parts.append(f"normalised by the mean {mean} and standard deviation {std}")
    return " and ".join(parts)
