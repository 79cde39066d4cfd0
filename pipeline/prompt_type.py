"""What a prompt asks for: the types of the document, and the capability that a model needs for each."""

from __future__ import annotations

from enum import StrEnum

from pipeline.image_parameters import ImageTask


class PromptType(StrEnum):
    """Values on the wire: the document's ("Prompt Types & Capabilities") and the original's further ones (contract
    1backend §1.7)."""

    TEXT_TO_TEXT = "Text-to-Text"
    QUESTION_ANSWERING = "Question Answering"
    TRANSLATION = "Translation"
    SUMMARIZATION = "Summarization"
    TEXT_GENERATION = "Text Generation"
    TEXT_TO_IMAGE = "Text-to-Image"
    IMAGE_TO_IMAGE = "Image-to-Image"
    UNCONDITIONAL_IMAGE_GENERATION = "Unconditional Image Generation"
    IMAGE_TEXT_TO_TEXT = "Image-Text-to-Text"
    VISUAL_QUESTION_ANSWERING = "Visual Question Answering"
    DOCUMENT_QUESTION_ANSWERING = "Document Question Answering"

    IMAGE_TO_VIDEO = "Image-to-Video"
    TEXT_TO_VIDEO = "Text-to-Video"
    ZERO_SHOT_IMAGE_CLASSIFICATION = "Zero-Shot Image Classification"
    ZERO_SHOT_OBJECT_DETECTION = "Zero-Shot Object Detection"
    TEXT_TO_3D = "Text-to-3D"
    IMAGE_TO_3D = "Image-to-3D"
    IMAGE_FEATURE_EXTRACTION = "Image Feature Extraction"
    KEYPOINT_DETECTION = "Keypoint Detection"
    FILL_MASK = "Fill-Mask"
    TEXT_TO_SPEECH = "Text-to-Speech"
    TEXT_TO_AUDIO = "Text-to-Audio"
    AUTOMATIC_SPEECH_RECOGNITION = "Automatic Speech Recognition"
    AUDIO_TO_AUDIO = "Audio-to-Audio"
    AUDIO_CLASSIFICATION = "Audio Classification"
    REINFORCEMENT_LEARNING = "Reinforcement Learning"
    ROBOTICS = "Robotics"
    GRAPH_MACHINE_LEARNING = "Graph Machine Learning"

    @property
    def makes_images(self) -> bool:
        return self in _MAKES_IMAGES

    @property
    def needs_files(self) -> bool:
        """Whether there is nothing to work on without an attached file."""
        return self in _NEEDS_FILES

    @property
    def needs_text(self) -> bool:
        """Whether the prompt must say something (document: "Generate random images without prompts")."""
        return self is not PromptType.UNCONDITIONAL_IMAGE_GENERATION

    @property
    def image_task(self) -> ImageTask:
        """What its pictures are made from; only for those that make images."""
        return ImageTask(self.capability)

    @property
    def capability(self) -> str:
        """What a model must be able to do: a ``Capability``, or the name of one that no engine of ours has."""
        return _NEEDED.get(self, self.value.lower().replace(" ", "-"))


class Capability(StrEnum):
    """What a model of the catalogue may be declared to be able to do."""

    TEXT_GENERATION = "text-generation"
    #: Text from images (and text).
    IMAGE_TEXT_TO_TEXT = "image-text-to-text"
    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_IMAGE = "image-to-image"
    UNCONDITIONAL_IMAGE_GENERATION = "unconditional-image-generation"

    @property
    def types(self) -> tuple[PromptType, ...]:
        """The types of prompts that a model with this capability answers."""
        return tuple(kind for kind in PromptType if kind.capability == self)


_MAKES_IMAGES = frozenset(
    {PromptType.TEXT_TO_IMAGE, PromptType.IMAGE_TO_IMAGE, PromptType.UNCONDITIONAL_IMAGE_GENERATION}
)
_NEEDS_FILES = frozenset(
    {
        PromptType.IMAGE_TO_IMAGE,
        PromptType.IMAGE_TEXT_TO_TEXT,
        PromptType.VISUAL_QUESTION_ANSWERING,
        PromptType.DOCUMENT_QUESTION_ANSWERING,
    }
)
_NEEDED: dict[PromptType, Capability] = {
    PromptType.TEXT_TO_TEXT: Capability.TEXT_GENERATION,
    PromptType.QUESTION_ANSWERING: Capability.TEXT_GENERATION,
    PromptType.TRANSLATION: Capability.TEXT_GENERATION,
    PromptType.SUMMARIZATION: Capability.TEXT_GENERATION,
    PromptType.TEXT_GENERATION: Capability.TEXT_GENERATION,
    PromptType.TEXT_TO_IMAGE: Capability.TEXT_TO_IMAGE,
    PromptType.IMAGE_TO_IMAGE: Capability.IMAGE_TO_IMAGE,
    PromptType.UNCONDITIONAL_IMAGE_GENERATION: Capability.UNCONDITIONAL_IMAGE_GENERATION,
    PromptType.IMAGE_TEXT_TO_TEXT: Capability.IMAGE_TEXT_TO_TEXT,
    PromptType.VISUAL_QUESTION_ANSWERING: Capability.IMAGE_TEXT_TO_TEXT,
    PromptType.DOCUMENT_QUESTION_ANSWERING: Capability.IMAGE_TEXT_TO_TEXT,
}


def infer_type(*, image_parameters: bool, has_files: bool) -> PromptType:
    """The type of a prompt that does not say: from which parameters it has, and whether files are attached.

    Args:
        image_parameters: ``parameters.textToImage`` or ``engineParameters.stableDiffusion`` is given.
    """
    if image_parameters:
        return PromptType.IMAGE_TO_IMAGE if has_files else PromptType.TEXT_TO_IMAGE
    return PromptType.IMAGE_TEXT_TO_TEXT if has_files else PromptType.TEXT_TO_TEXT
