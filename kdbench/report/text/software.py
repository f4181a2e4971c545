"""What is said of the software that made a table."""

from kdbench.report.data.software import Software, software_words
from kdbench.report.text.context import Sentence


def software_caption(software: Software) -> tuple[Sentence, ...]:
    """What a table says of the software; nothing where it is not known."""
    words = software_words(software)
    return (Sentence(f"Software: {words}.", "software"),) if words else ()
