"""Language models, the requests to them, and what is made of documents with them."""

from llm.models.batches import BatchLine, LlmBatch
from llm.models.chunks import Chunk, DocumentIndex, IndexJob, Search, SearchJob
from llm.models.extractions import (
    ExtractionBatch,
    ExtractionJob,
    ExtractionTemplate,
)
from llm.models.files import StoredFile
from llm.models.generations import GenerationJob, Usage
from llm.models.language_models import (
    AliasTarget,
    LanguageModel,
    ModelAlias,
    ModelInstance,
)
from llm.models.ordered_json import OrderedJSONField
from llm.models.relay import RelayEntry
from llm.models.text_fixes import PageFix, TextFix

__all__ = [
    "AliasTarget",
    "BatchLine",
    "Chunk",
    "DocumentIndex",
    "ExtractionBatch",
    "ExtractionJob",
    "ExtractionTemplate",
    "GenerationJob",
    "IndexJob",
    "LanguageModel",
    "LlmBatch",
    "ModelAlias",
    "ModelInstance",
    "OrderedJSONField",
    "PageFix",
    "RelayEntry",
    "Search",
    "SearchJob",
    "StoredFile",
    "TextFix",
    "Usage",
]
