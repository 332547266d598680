"""A training step captured once and replayed: one launch instead of one for every operation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch

from skae.training.batches import Batch

# Steps of a shape that run as usual before it is captured, so that libraries allocate what they keep.
WARM_UP = 3


class CudaGraph:
    """A CUDA graph on a stream of its own.

    Parameters
    ----------
    generator : torch.Generator
        The source of what is random inside; replays go on in its sequence.
    """

    stream: torch.cuda.Stream | None = None

    def __init__(self, generator: torch.Generator) -> None:
        if CudaGraph.stream is None:
            CudaGraph.stream = torch.cuda.Stream()
        self.generator, self.graph = generator, torch.cuda.CUDAGraph()
        self.graph.register_generator_state(generator)

    @classmethod
    @contextlib.contextmanager
    def warm_up(cls):
        """Run what is inside on the stream of the capture."""
        if cls.stream is None:
            cls.stream = torch.cuda.Stream()
        cls.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(cls.stream):
            yield
        torch.cuda.current_stream().wait_stream(cls.stream)

    def capture(self, call: Callable[[], None]) -> None:
        """Record the call without running it; where that fails, the generator is as it was."""
        before = self.generator.clone_state()
        try:
            with torch.cuda.graph(self.graph, stream=self.stream):
                call()
        except BaseException:
            # A capture that was broken off leaves a state that refuses to draw outside a graph.
            self.generator.graphsafe_set_state(before)
            raise

    def replay(self) -> None:
        """Run what was recorded."""
        self.graph.replay()


class CapturedStep:
    """A function of a batch that is captured for each shape of batch.

    Where something in it cannot be captured (a corruption that computes on the CPU), it runs as
    usual.

    Parameters
    ----------
    step : callable
        Takes a batch; reads and writes tensors that stay where they are.
    generator : torch.Generator
    graph : type
        How to capture.

    Attributes
    ----------
    failure : str or None
        Why the step cannot be captured; None where nothing failed.
    """

    def __init__(
        self, step: Callable[[Batch], None], generator: torch.Generator, graph: type[CudaGraph] = CudaGraph
    ) -> None:
        self.step, self.generator, self.graph = step, generator, graph
        self.failure: str | None = None
        self._runs: dict[tuple, int] = {}
        self._captured: dict[tuple, tuple[Batch, CudaGraph]] = {}

    def __call__(self, batch: Batch) -> None:
        """Run the step on a batch."""
        key = (batch.target is batch.input, *(None if tensor is None else tensor.shape for tensor in batch))
        if key not in self._captured:
            self._runs[key] = self._runs.get(key, 0) + 1
            if self._runs[key] <= WARM_UP or not self._capture(key, batch):
                with self.graph.warm_up():
                    self.step(batch)
                return
        fixed, graph = self._captured[key]
        fixed.copy_(batch)
        graph.replay()

    def _capture(self, key: tuple, batch: Batch) -> bool:
        if self.failure is not None:
            return False
        fixed = batch.map(torch.clone)
        try:
            graph = self.graph(self.generator)
            graph.capture(lambda: self.step(fixed))
        except RuntimeError as error:
            # Graphs captured before draw from a state of the generator that is no longer its own.
            self.failure, self._captured = str(error), {}
            return False
        self._captured[key] = fixed, graph
        return True
