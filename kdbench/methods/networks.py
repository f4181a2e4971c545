"""Where a network's weights come from: the one thing in which offline, self, online
and mutual distillation differ.

A method answers `networks()` with a mapping from role to one of these sources. The
role `student` is the one on the leaderboard.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Trained:
    """Freshly initialised, seeded by its role, moved by the optimiser.

    `slot` names the model: `student`, `teacher`, or another slot that the study
    fills (`assistant`).
    """

    gradient: ClassVar[bool] = True
    slot: str = "student"

    def model(self, role: str, models: "RoleModels") -> str:
        """The model that fills `role`: the one in this slot."""
        return models.in_slot(self.slot)


@dataclass(frozen=True)
class Stage:
    """A run that has to be finished first, described relative to the run that needs it.

    `model` is a slot, `method` a key of METHODS, `hparams` what to set apart from the
    published defaults. `member` numbers parallel stages (an ensemble's teachers).
    `own_seed` true takes the seed of the run that needs the stage (a born-again
    student's earlier generation); false takes the teacher's (an assistant, which
    belongs to the teacher's side). `epochs` is the length of the run, its schedule included, as
    a share of the study's epochs; it has one epoch or more.
    """

    model: str
    method: str = "ce"
    hparams: Mapping[str, Any] = field(default_factory=dict)
    member: int = 0
    own_seed: bool = False
    epochs: float = 1.0


#: The study's teacher: the slot `teacher` with the method and the seed the study gives it.
TEACHER = Stage(model="teacher")


@dataclass(frozen=True)
class Frozen:
    """The finished weights of another run; never moves, gets no gradient, eval mode."""

    gradient: ClassVar[bool] = False
    run: Stage = TEACHER

    def model(self, role: str, models: "RoleModels") -> str:
        """The model that fills `role`: the one that the other run trained."""
        return models.of_frozen(role, self.run)


@dataclass(frozen=True)
class Snapshot:
    """A copy of the network `of`, renewed at each epoch's end; no gradient, eval mode."""

    gradient: ClassVar[bool] = False
    of: str = "student"

    def model(self, role: str, models: "RoleModels") -> str:
        """The model that fills `role`: the one of the network that is copied."""
        return models.of_role(self.of)


@dataclass(frozen=True)
class Average:
    """A running mean of the network `of`, moved after each step:
    `mean <- decay * mean + (1 - decay) * weights`, beginning with the weights after the
    first step (torch's convention); no gradient, eval mode."""

    gradient: ClassVar[bool] = False
    of: str = "student"
    decay: float = 0.999

    def model(self, role: str, models: "RoleModels") -> str:
        """The model that fills `role`: the one of the network that is averaged."""
        return models.of_role(self.of)


@dataclass(frozen=True)
class Shared:
    """The network `of` itself, asked once more, on the images of this role (`Method.views`,
    `Method.examples`): in train mode, with or without a gradient."""

    of: str = "student"
    gradient: bool = True

    def model(self, role: str, models: "RoleModels") -> str:
        """The model that fills `role`: the one of the network that is asked again."""
        return models.of_role(self.of)


#: `gradient` of each says whether the loss may reach the network.
Source = Trained | Frozen | Snapshot | Average | Shared


@dataclass(frozen=True)
class RoleModels:
    """Which model fills each role of a method.

    `in_slot` names the model in a slot of the run, `of_frozen` the model of the run that is
    frozen in a role.
    """

    sources: Mapping[str, Source]
    in_slot: Callable[[str], str]
    of_frozen: Callable[[str, Stage], str]

    def of_role(self, role: str) -> str:
        """The model that fills `role`."""
        return self.sources[role].model(role, self)

    def by_role(self) -> dict[str, str]:
        """The model of every role."""
        return {role: self.of_role(role) for role in self.sources}
