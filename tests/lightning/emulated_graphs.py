"""Step graphs without a GPU, for tests of the whole path on the CPU."""

from stemlab.lightning.step_graph import Step


class EmulatedGraphs:
    """The interface of ``StepGraphs``; a replay executes the step."""

    def __init__(self) -> None:
        self.captures = 0

    def run(self, step: Step) -> None:
        """Execute a step."""
        step()

    def capture(self, step: Step) -> Step:
        """Return the step."""
        self.captures += 1
        return step
