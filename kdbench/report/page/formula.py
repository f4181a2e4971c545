"""A formula in plain text, as docstrings have it, as MathML.

The notation is Python's with the paper's symbols: `z_s` has a subscript, `T**2` a power,
`alpha` is the letter. Whatever else stands in a line is kept as words.
"""

import re

from markupsafe import Markup

TOKEN = re.compile(
    r"(?P<power>\*\*)|(?P<operator>\|\||<=|>=|!=|->|[-+*/=<>|;,:.()\[\]{}])"
    r"|(?P<name>[^\W\d_]+(?:_[^\W_]+)*)|(?P<number>\d+(?:\.\d+)?)|(?P<space>\s+)|(?P<other>.)"
)
OPERATORS = {"*": "⋅", "-": "−", "||": "∥", "<=": "≤", ">=": "≥", "!=": "≠", "->": "→"}
GREEK = dict(
    zip(
        [
            "alpha",
            "beta",
            "gamma",
            "delta",
            "epsilon",
            "eta",
            "theta",
            "kappa",
            "lambda",
            "mu",
            "nu",
            "xi",
            "pi",
            "rho",
            "sigma",
            "tau",
            "phi",
            "psi",
            "omega",
        ],
        "αβγδεηθκλμνξπρστφψω",
        strict=True,
    )
)
PAIRS = {")": "(", "]": "[", "}": "{"}
WORDS = ("name", "number", "power")
BREAKS_BEFORE, BREAKS_AFTER = {"+", "−", "="}, {";", ","}


def to_mathml(text: str) -> Markup:
    """The lines of a formula, each as formulas that a line may be broken between."""
    lines = (Markup(" ").join(map(_math, _parts(_atoms(line)))) for line in text.splitlines())
    return Markup("<br>").join(lines)


Atom = tuple[str, Markup]
"""The token that decides on line breaks and brackets, and its MathML."""

SPACE: Atom = (" ", Markup('<mspace width="0.3em"></mspace>'))


def _atoms(line: str) -> list[Atom]:
    atoms: list[Atom] = []
    power, spaced = 0, False  # where a power begins; nothing has one at 0
    for found in TOKEN.finditer(line.strip()):
        kind, token = found.lastgroup, found.group()
        if kind == "power":
            power = len(atoms)
            continue
        if kind == "space":
            spaced = True
            continue
        if spaced and kind in WORDS and atoms and atoms[-1][0] in WORDS:
            atoms.append(SPACE)
        spaced = False
        atoms.append(_atom(kind or "", token))
        # A bracket after a power is that power as a whole, once it is closed.
        if power and _depth(atoms[power:]) == 0:
            _raise(atoms, power)
            power = 0
    return atoms


def _atom(kind: str, token: str) -> Atom:
    if kind == "name":
        return "name", _name(token)
    if kind == "number":
        return "number", Markup("<mn>{}</mn>").format(token)
    sign = OPERATORS.get(token, token)
    # At the beginning of a part it would be taken for the sign of a number.
    form = Markup(' form="infix"') if sign in BREAKS_BEFORE else ""
    return sign, Markup("<mo{}>{}</mo>").format(form, sign)


def _name(name: str) -> Markup:
    base, _, below = name.partition("_")
    letter = GREEK.get(base, base)
    if below and (len(letter) == 1 or len(below) == 1):
        return Markup("<msub>{}{}</msub>").format(_word(letter), _word(below.replace("_", " ")))
    return _word(letter if not below else name)


def _word(text: str) -> Markup:
    """One letter is a variable, which browsers set in italics; several are a name or a word,
    which they set upright. As `mtext` a word would be no more than a space beside an operator."""
    return Markup("<mi>{}</mi>").format(GREEK.get(text, text))


def _depth(atoms: list[Atom]) -> int:
    """How many brackets are open after the atoms."""
    return sum((sign in PAIRS.values()) - (sign in PAIRS) for sign, _ in atoms)


def _raise(atoms: list[Atom], place: int) -> None:
    """Make the atoms from a place on the power of what stands before them: an atom, or a bracket
    with the name before it, as in `f(x)**2`; a bracket that was opened on another line is none."""
    power = atoms[place:]
    del atoms[place:]
    bases = [k for k in range(place) if _depth(atoms[k:]) == 0]
    base = bases[-1] if bases else place - 1
    if base and atoms[base][0] in ("(", "[") and atoms[base - 1][0] in WORDS:
        base -= 1
    if len(power) > 2 and power[0][0] == "(":
        power = power[1:-1]
    both = (_row(atoms[base:]), _row(power))
    atoms[base:] = [("power", Markup("<msup>{}{}</msup>").format(*both))]


def _row(atoms: list[Atom]) -> Markup:
    return Markup("<mrow>{}</mrow>").format(Markup("").join(m for _, m in atoms))


def _parts(atoms: list[Atom]) -> list[list[Atom]]:
    """The atoms in parts, divided outside of brackets at signs and between words."""
    parts: list[list[Atom]] = [[]]
    depth = 0
    for atom in atoms:
        depth += _depth([atom])
        if depth == 0 and (atom == SPACE or (atom[0] in BREAKS_BEFORE and parts[-1])):
            parts.append([])
        if depth or atom != SPACE:
            parts[-1].append(atom)
        if depth == 0 and atom[0] in BREAKS_AFTER:
            parts.append([])
    return [part for part in parts if part]


def _math(part: list[Atom]) -> Markup:
    return Markup("<math>{}</math>").format(_row(part))
