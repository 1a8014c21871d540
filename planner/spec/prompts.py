"""What was asked: a line of prompts.jsonl."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.spec.base import Name, Spec, Text

Reference = str | Annotated[float, Field(strict=True)]


class Message(Spec):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class PromptLine(Spec):
    """A prompt by its id: its text or its messages, and what a grader needs to judge an answer."""

    prompt_id: Text
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    class_name: Name | None = Field(default=None, alias="class")
    reference: Reference | tuple[Reference, ...] | None = None  # any one of several is right
    system: str | None = None
    choices: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _told_apart(self) -> PromptLine:
        if self.prompt_id != self.prompt_id.strip():
            raise ValueError("prompt_id begins or ends with a blank, which scores.csv cannot keep")
        if (self.text is None) == (self.messages is None):
            raise ValueError("give either text or messages")
        return self

    @property
    def asked(self) -> str:
        """Returns what a router sees of the prompt: the turns, without instructions to all."""
        if self.text is not None:
            return self.text
        turns = (m for m in self.messages or () if m.role not in ("system", "developer"))
        return "\n".join(turn.content for turn in turns)
