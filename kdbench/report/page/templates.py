"""The templates, styles and scripts of the pages."""

from importlib import resources
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment


def environment() -> "Environment":
    """What renders the templates: everything is escaped, and a missing name is an error."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    made = Environment(
        loader=FunctionLoader(file_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    return made


def file_text(name: str) -> Markup:
    """A file of this package, which is trusted as it stands."""
    return Markup(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
