"""The ceiling: somebody who knows what comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kalshi_pipeline.errors import EvaluationError
from kalshi_pipeline.evaluation.baselines.scripted import Scripted
from kalshi_pipeline.trading.scripts import Rule, Script


@dataclass(frozen=True)
class OneStepOracle(Scripted):
    """Takes a quote where the book one step after the fill pays more for it, all fees paid.

    It cheats: it reads the tape ahead. So it is no baseline that anybody has to beat.
    """

    name: ClassVar[str] = "One-step oracle"
    cheating: ClassVar[bool] = True

    @property
    def script(self) -> Script:
        """The rule it plays by."""
        return Script(Rule.FORESEE)

    def act(
        self, observation: NDArray[np.float32], mask: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Never: no observation shows the future.

        Raises:
            EvaluationError: always.
        """
        del observation, mask, rng
        raise EvaluationError("plays whole episodes only", rule="policies", value=self.name)
