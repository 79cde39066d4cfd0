"""The store of the default model, in memory."""

from __future__ import annotations


class ChosenDefault:
    """``DefaultModelStore`` without a store."""

    def __init__(self) -> None:
        self.model_id: str | None = None
        self.failing: Exception | None = None
        self.reads = 0

    async def get(self) -> str | None:
        self.reads += 1
        if self.failing:
            raise self.failing
        return self.model_id

    async def set(self, model_id: str) -> None:
        if self.failing:
            raise self.failing
        self.model_id = model_id
