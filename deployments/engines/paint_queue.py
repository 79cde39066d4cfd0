"""Which pictures go into one call of a pipeline: those at the head of the queue that are painted alike. No torch here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.image_parameters import ImageParameters, ImageTask, Sampler


@dataclass(frozen=True, kw_only=True, slots=True)
class Likeness:
    """What must be the same of pictures that one call paints: a pipeline takes one value of each for all."""

    task: ImageTask
    #: Pixels as painted: a multiple of what the model needs.
    width: int
    height: int
    steps: int
    guidance_scale: float
    #: Whether there is a negative prompt. Some models take none for something else than an empty one.
    negative: bool
    scheduler: Sampler | None
    #: Only of pictures that start from another.
    strength: float | None

    @classmethod
    def of(cls, parameters: ImageParameters, *, width: int, height: int) -> Likeness:
        return cls(
            task=parameters.task,
            width=width,
            height=height,
            steps=parameters.steps,
            guidance_scale=parameters.guidance_scale if parameters.guided else 1.0,
            negative=parameters.guided and bool(parameters.negative_prompt),
            scheduler=parameters.scheduler,
            strength=parameters.strength if parameters.task is ImageTask.IMAGE else None,
        )


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Job(Generic[T]):
    """One picture to be painted, for somebody."""

    owner: T
    index: int
    likeness: Likeness
    #: It has been too much for the memory together with others.
    alone: bool = False


class PaintQueue(Generic[T]):
    """First come, first served; what is like the first goes with it."""

    def __init__(self) -> None:
        self._jobs: deque[Job[T]] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, jobs: Iterable[Job[T]]) -> None:
        self._jobs.extend(jobs)

    def put_back(self, jobs: Iterable[Job[T]]) -> None:
        """In front of all others, in their order."""
        self._jobs.extendleft(reversed(list(jobs)))

    def take(self, most: int) -> list[Job[T]]:
        """The first picture, and up to ``most`` in all that can be painted with it; none if none waits."""
        if not self._jobs:
            return []
        first = self._jobs[0]
        group = [first]
        if not first.alone:
            alike = (job for job in self._jobs if job is not first and job.likeness == first.likeness and not job.alone)
            group += [job for job, _ in zip(alike, range(most - 1), strict=False)]
        taken = set(map(id, group))
        self._jobs = deque(job for job in self._jobs if id(job) not in taken)
        return group

    def withdraw(self, owner: T) -> None:
        """Forget what waits for somebody."""
        self._jobs = deque(job for job in self._jobs if job.owner is not owner)
