"""SGD in which the gradients of different terms have momenta of their own."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


class SplitMomentum(torch.optim.Optimizer):
    """SGD with a running gradient for each group of terms, a group being those of one shift:

        m_g <- (momentum + shift_g) * m_g + gradient_g
        w <- w - lr * sum over groups of m_g

    `shifts` are by term, 0 for others. A parameter that one group alone reaches has the momentum
    without a shift. Weight decay is part of the gradient of the first group that reaches it.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        shifts: Mapping[str, float],
        *,
        lr: float | Tensor,
        momentum: float,
        weight_decay: float,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.shifts = shifts
        self._gradients: dict[float, list[Tensor | None]] = {}

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        """Compute the gradient of each group of terms; a parameter's `grad` is the last one's."""
        groups: dict[float, list[Tensor]] = {}
        for name, term in terms.items():
            groups.setdefault(self.shifts.get(name, 0.0), []).append(term)
        (settings,) = self.param_groups
        for left, (shift, part) in zip(range(len(groups))[::-1], groups.items(), strict=True):
            self.zero_grad(set_to_none=True)
            torch.stack(part).sum().backward(retain_graph=left > 0)
            self._gradients[shift] = [parameter.grad for parameter in settings["params"]]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters by the gradients that `backward` has computed."""
        (settings,) = self.param_groups
        momentum, decay = settings["momentum"], settings["weight_decay"]
        for index, parameter in enumerate(settings["params"]):
            state, gradients = self.state[parameter], self._of(index)
            for number, (shift, gradient) in gradients.items():
                name = f"momentum{number}"
                if name not in state:
                    state[name] = torch.zeros_like(parameter)
                own = momentum + shift if len(gradients) > 1 else momentum
                state[name].mul_(own).add_(gradient)
                if decay and number == min(gradients):
                    state[name].add_(parameter, alpha=decay)
            for number in gradients:
                parameter.sub_(settings["lr"] * state[f"momentum{number}"])
        self._gradients.clear()

    def _of(self, index: int) -> dict[int, tuple[float, Tensor]]:
        """Shift and gradient of each group, by its number, that reaches a parameter."""
        return {
            number: (shift, gradient)
            for number, (shift, gradients) in enumerate(self._gradients.items())
            if (gradient := gradients[index]) is not None
        }
