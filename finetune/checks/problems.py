"""Every kind of problem that a dataset can have: how grave it is, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A row with an error can't be trained on; a warning is for people to judge."""

    code: str
    severity: Severity
    title: str
    mend: str


PROBLEMS: dict[str, ProblemKind] = {
    kind.code: kind
    for kind in (
        # -- the file ------------------------------------------------------------------------
        ProblemKind("not_json", "error", "Not JSON", "Write one JSON object a line."),
        ProblemKind(
            "not_utf8",
            "error",
            "Not UTF-8",
            "Save the file as UTF-8 (from Korean Windows: iconv -f cp949 -t utf-8).",
        ),
        ProblemKind("not_object", "error", "Not an object", "Each row is one JSON object."),
        ProblemKind("too_large", "error", "Row too large", "Split the row into several."),
        ProblemKind(
            "columns",
            "error",
            "Wrong number of columns",
            "Put values that hold the separator or a line break in quotes.",
        ),
        # -- the row's form ------------------------------------------------------------------
        ProblemKind(
            "other_format",
            "error",
            "Another format",
            "Bring all rows into one format, or import them as two datasets.",
        ),
        ProblemKind("missing_field", "error", "Missing field", "Add the field to the row."),
        ProblemKind("not_text", "error", "Not a string", "Write the value as a string."),
        ProblemKind("no_messages", "error", "No messages", "Give a list of messages."),
        ProblemKind(
            "unknown_role", "error", "Unknown role", "Use system, user, assistant or tool."
        ),
        ProblemKind(
            "role_order",
            "error",
            "Wrong order of roles",
            "Begin with the user (a system message may stand first) and let the assistant answer.",
        ),
        ProblemKind(
            "ends_wrong",
            "error",
            "Doesn't end with the assistant",
            "Let the last message be the answer that is to be learned, or remove what follows it.",
        ),
        ProblemKind(
            "tool_call",
            "error",
            "Broken tool call",
            "Name the function, give its arguments as a JSON object, and let a message of role "
            "tool answer each call.",
        ),
        ProblemKind("empty_prompt", "error", "Empty prompt", "Fill it in, or remove the row."),
        ProblemKind("empty_target", "error", "Empty target", "Fill it in, or remove the row."),
        ProblemKind("same_answers", "error", "Same answer twice", "Give two answers that differ."),
        ProblemKind("image_missing", "error", "Missing picture", "Put the picture into the zip."),
        ProblemKind("bad_image", "error", "Unreadable picture", "Save the picture as PNG."),
        # -- its text ------------------------------------------------------------------------
        ProblemKind(
            "replacement",
            "warning",
            "Lost characters (U+FFFD)",
            "A converter put it where it could not read the text: convert the original again.",
        ),
        ProblemKind(
            "mojibake",
            "warning",
            "Text read in a wrong encoding",
            "Convert the original again, with the encoding that it is really in.",
        ),
        ProblemKind(
            "control", "warning", "Control characters", "Remove them; nobody sees or types them."
        ),
        ProblemKind(
            "normalisation",
            "warning",
            "Decomposed characters (not NFC)",
            "Normalise the text to NFC: the same word is two different ones to a tokenizer.",
        ),
        ProblemKind(
            "too_long",
            "warning",
            "Longer than the limit",
            "Shorten the row or raise the limit: training cuts off what is beyond it.",
        ),
        # -- the whole -----------------------------------------------------------------------
        ProblemKind("duplicate", "warning", "Duplicate", "Keep one of them."),
        ProblemKind(
            "conflict",
            "warning",
            "Different answers to one prompt",
            "Keep the right one, unless several answers are right.",
        ),
        ProblemKind(
            "leak",
            "error",
            "Stands in two splits",
            "Keep it in one split: a test on what was trained on measures nothing.",
        ),
        ProblemKind(
            "leak_earlier",
            "error",
            "Was in the test split of an earlier version",
            "Keep it in the test split: figures of the two versions could not be compared.",
        ),
        ProblemKind(
            "big_group",
            "warning",
            "One group holds much of the data",
            "Name a finer group (--group-by), or add data: the splits can't have the sizes asked.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in one place. `line` is counted from 1, as an editor does; 0 for the whole."""

    line: int
    field: str
    code: str
    message: str
    excerpt: str = ""

    @property
    def kind(self) -> ProblemKind:
        return PROBLEMS[self.code]

    def as_json(self) -> dict[str, object]:
        return {
            "line": self.line,
            "field": self.field,
            "code": self.code,
            "severity": self.kind.severity,
            "message": self.message,
            "mend": self.kind.mend,
            "excerpt": self.excerpt,
        }
