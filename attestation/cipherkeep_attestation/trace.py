"""The only place that records which rules were judged: verifiers report here what has passed.

A trace is handed to a verifier, which names each rule's code once the rule has held to its end. It decides nothing: a
verifier behaves the same with and without one. Rules that nobody named were not judged, and a report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class State(Enum):
    """What became of a rule."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged"
    NOT_DEMANDED = "not demanded"


@dataclass(frozen=True, slots=True)
class Check:
    """One rule and what became of it. `demand` is the rule as a sentence that holds when the rule passed."""

    code: str
    demand: str
    state: State
    detail: str = ""


@dataclass(slots=True)
class Trace:
    """The codes that passed, and those that the policy does not demand, with its reason."""

    passed: dict[str, str] = field(default_factory=dict)
    waived: dict[str, str] = field(default_factory=dict)

    def passes(self, *codes: str, detail: str = "") -> None:
        """These rules were judged to their end and hold."""
        for code in codes:
            self.passed[code] = detail

    def waives(self, code: str, reason: str) -> None:
        """The policy does not demand this rule, and says so itself."""
        self.waived[code] = reason

    def checks(self, plan: Mapping[str, str], *, failed: str | None = None, detail: str = "") -> tuple[Check, ...]:
        """One check for each rule of `plan` (code to demand), in its order; a failed code outside it comes last.

        The failed rule is failed whatever was recorded before: a rule can hold for one part and fail for the next.
        """
        found = []
        for code, demand in plan.items():
            if code == failed:
                found.append(Check(code, demand, State.FAILED, detail))
            elif code in self.passed:
                found.append(Check(code, demand, State.PASSED, self.passed[code]))
            elif code in self.waived:
                found.append(Check(code, demand, State.NOT_DEMANDED, self.waived[code]))
            else:
                found.append(Check(code, demand, State.NOT_JUDGED))
        if failed is not None and failed not in plan:
            found.append(Check(failed, "", State.FAILED, detail))
        return tuple(found)
