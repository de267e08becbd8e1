"""Where a flow stands: one row a stage, shown as a table in Prefect and as plain lines in the log."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipelines.graph import StageNode
from pipelines.runner import Outcome

State = Literal["waiting", "running", "cached", "done", "failed", "not run"]


@dataclass
class Progress:
    """The stages of one flow in graph order, their states and how long each took [s]."""

    nodes: Sequence[StageNode]
    states: dict[str, State] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.states = {node.address: "cached" if node.status == "cached" else "waiting" for node in self.nodes}

    def ready(self) -> list[str]:
        """Returns the waiting stages all of whose dependencies are finished, in graph order."""
        finished = {address for address, state in self.states.items() if state in ("cached", "done")}
        return [
            node.address
            for node in self.nodes
            if self.states[node.address] == "waiting" and finished.issuperset(node.dependencies)
        ]

    def finish(self, address: str, outcome: Outcome) -> str:
        """Records a stage's end and returns its log line."""
        good = outcome.verdict in ("done", "cached")
        self.states[address] = ("done" if outcome.verdict == "done" else "cached") if good else "failed"
        self.seconds[address] = outcome.seconds
        if not good:
            self.messages.append(outcome.message)
        count = sum(state in ("cached", "done") for state in self.states.values())
        return f"{address}: {self.states[address]} in {outcome.seconds:.1f} s ({count} of {len(self.states)} stages)"

    def close(self) -> None:
        """Marks what can no longer run, because something before it failed."""
        for address, state in self.states.items():
            if state == "waiting":
                self.states[address] = "not run"

    def table(self) -> str:
        """Returns the stages as a markdown table.

        >>> print(Progress([StageNode("prepare@steel", (), "cached")]).table())
        | stage | state | seconds |
        | --- | --- | ---: |
        | prepare@steel | cached |  |
        """
        rows = ["| stage | state | seconds |", "| --- | --- | ---: |"]
        for address, state in self.states.items():
            seconds = f"{self.seconds[address]:.1f}" if address in self.seconds else ""
            rows.append(f"| {address} | {state} | {seconds} |")
        return "\n".join(rows)
