"""Models of the transformers library that turn an image into text: TrOCR's kind, and chat models
that see. By folder, or by a hub's name."""

from __future__ import annotations

import hashlib
import importlib
import os
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from PIL import Image

from mlops.exceptions import EngineUnavailable, NotInstalled
from ocr.engines import device as devices
from ocr.engines.base import Line, Reading
from ocr.engines.line_finder import LIMIT, LineFinder
from ocr.engines.torch_library import import_torch
from ocr.languages import AUTO, LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np

PROMPT = "Read all text on this image, line by line. Answer with the text alone."
_ENCODER_DECODER = "vision-encoder-decoder"


class TransformersEngine:
    """Reads whole pages (`mode="page"`) or lines that PP-OCR's detector found (`mode="lines"`).

    `auto` is lines for TrOCR's kind, which knows nothing else, and page for all others. A model
    that reads a whole page does not say where its lines stand: each has the page as its polygon,
    and only their order tells. Confidence is the mean probability of a line's tokens.
    `languages` says what the model reads; without it any language is taken.
    """

    name: ClassVar[str] = "transformers"
    requirements: ClassVar[str] = "ocr-transformers.txt"
    languages: ClassVar[frozenset[str]] = frozenset(LANGUAGES)
    latin_first: ClassVar[bool] = False
    tells_scripts: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def __init__(
        self,
        *,
        model: str | os.PathLike[str] = "",
        threads: int | None = None,
        device: str = devices.AUTO,
        languages: Collection[str] | None = None,
        mode: Literal["auto", "lines", "page"] = "auto",
        prompt: str = PROMPT,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        revision: str | None = None,
        download: bool = False,
        batch: int = 8,
        max_tokens: int | None = None,
        detection_limit: int = LIMIT,
    ) -> None:
        """`model`: a folder as `save_pretrained` writes it, or a hub's name.

        A name is looked up in the hub's local cache, and fetched only with `download`. `batch`:
        lines at a time. `max_tokens`: the most for one answer, by default 128 a line and 4,096 a
        page. `threads` are torch's, which all of its users in the process share. Raises
        EngineUnavailable.
        """
        for library in ("transformers", "torch"):
            if find_spec(library) is None:
                raise NotInstalled(
                    f"The transformers engine needs {library}: pip install "
                    "-r requirements/ocr-transformers.txt -r requirements/torch.txt"
                )
        self._torch = import_torch()
        if threads:
            self._torch.set_num_threads(threads)
        where = devices.choose_torch(device)
        kind = _dtype(dtype, where)
        self._processor, self._model = _load(
            os.fspath(model), revision=revision, download=download, dtype=kind, device=where
        )
        self.installed = self.languages if languages is None else frozenset(languages)
        self._chats = self._model.config.model_type != _ENCODER_DECODER
        self._prompt, self._batch = prompt, batch
        count = self._torch.get_num_threads()
        self._finder = None
        if mode == "lines" or (mode == "auto" and not self._chats):
            self._finder = LineFinder(engine=self.name, threads=count, limit=detection_limit)
        self._max_tokens = max_tokens or (128 if self._finder else 4096)
        # Some models keep what belongs to one answer in themselves, as Qwen-VL does its positions.
        self._generating = Lock()
        self.device = f"{where} torch {kind} {count} thread{'s'[: count > 1]}"
        self.models = (os.fspath(model),)
        self.model_version = _version(os.fspath(model), self._model, revision)

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        """`image`: RGB, uint8, shape (height, width, 3). The model, not the languages, decides."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8" or not image.size:
            raise ValueError(
                f"Expected RGB uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
            )
        strange = set(languages) - self.installed - {AUTO}
        if strange or not languages:
            named = ", ".join(sorted(strange)) or "no language"
            raise ValueError(f"The model of the transformers engine can't read {named}.")
        lines, unread = self._page(image) if self._finder is None else self._lines(image)
        return Reading(tuple(lines), "+".join(languages), self.model_version, unread)

    def close(self) -> None:
        """The model goes with the engine."""

    def _page(self, image: np.ndarray) -> tuple[list[Line], None]:
        height, width = image.shape[:2]
        page = (
            (0.0, 0.0),
            (float(width), 0.0),
            (float(width), float(height)),
            (0.0, float(height)),
        )
        (answer,) = self._answers([image])
        return [Line(text, confidence, page) for text, confidence in answer], None

    def _lines(self, image: np.ndarray) -> tuple[list[Line], tuple[Any, ...]]:
        boxes = self._finder.find(image)
        # Lines of like length end at about the same step.
        boxes.sort(key=lambda box: float(abs(box[1] - box[0]).max()))
        lines, unread = [], []
        for start in range(0, len(boxes), self._batch):
            some = boxes[start : start + self._batch]
            answers = self._answers([self._finder.cut(image, box) for box in some])
            for box, answer in zip(some, answers, strict=True):
                polygon = tuple((float(x), float(y)) for x, y in box)
                text = " ".join(text for text, _ in answer)
                if text:
                    sure = sum(confidence * len(text) for text, confidence in answer)
                    weight = sum(len(text) for text, _ in answer)
                    lines.append(Line(text, sure / weight, polygon))
                else:
                    unread.append(polygon)
        return lines, tuple(unread)

    def _answers(self, images: list[np.ndarray]) -> list[list[tuple[str, float]]]:
        """For each image the lines of the answer, each with its confidence."""
        pictures = [Image.fromarray(image) for image in images]
        if self._chats and self._processor.chat_template is not None:
            inputs = self._asked(pictures)
        elif self._chats:
            inputs = self._processor(
                images=pictures, text=[self._prompt] * len(pictures), return_tensors="pt"
            )
        else:
            inputs = self._processor(images=pictures, return_tensors="pt")
        inputs = inputs.to(self._model.device, self._model.dtype)
        seen = 0
        if not self._model.config.is_encoder_decoder:
            seen = inputs["input_ids"].shape[1]
        sureness = _Sureness()
        with self._generating, self._torch.inference_mode():
            sequences = self._model.generate(
                **inputs,
                max_new_tokens=self._max_tokens,
                do_sample=False,
                num_beams=1,
                logits_processor=[sureness],
            )
        steps = self._torch.stack(sureness.steps, dim=1)
        fresh = sequences[:, seen:] if seen else sequences[:, -steps.shape[1] :]
        return [
            _answer(self._processor.tokenizer, tokens, probabilities)
            for tokens, probabilities in zip(fresh.tolist(), steps.tolist(), strict=True)
        ]

    def _asked(self, pictures: list[Image.Image]) -> Any:
        self._processor.tokenizer.padding_side = "left"
        chats = [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": picture},
                        {"type": "text", "text": self._prompt},
                    ],
                }
            ]
            for picture in pictures
        ]
        return self._processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": len(chats) > 1},
        )


class _Sureness:
    """Notes how probable the best token is at each step: all scores of a page would take GBs."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.steps.append(scores.float().softmax(dim=-1).max(dim=-1).values)
        return scores


def _answer(tokenizer: Any, tokens: list[int], sureness: list[float]) -> list[tuple[str, float]]:
    """An answer's lines that hold text, each with the mean probability of its tokens."""
    special = set(tokenizer.all_special_ids)
    kept = [
        (token, sure) for token, sure in zip(tokens, sureness, strict=True) if token not in special
    ]
    texts = tokenizer.decode([token for token, _ in kept]).split("\n")
    shares: list[list[float]] = [[]]
    for token, sure in kept:
        shares[-1].append(sure)
        shares.extend([] for _ in range(tokenizer.decode([token]).count("\n")))
    if len(shares) != len(texts):
        # Decoded one by one the tokens broke the lines elsewhere: all lines share one figure.
        shares = [[sure for _, sure in kept]] * len(texts)
    return [
        (text.strip(), sum(share) / len(share))
        for text, share in zip(texts, shares, strict=True)
        if text.strip() and share
    ]


def _load(
    model: str, *, revision: str | None, download: bool, dtype: str, device: str
) -> tuple[Any, Any]:
    """(processor, model). Raises EngineUnavailable naming what is missing."""
    if not model:
        raise EngineUnavailable(
            "The transformers engine has no model: name a folder or a hub's model in its options."
        )
    folder = Path(model)
    if folder.is_absolute() and not (folder / "config.json").is_file():
        raise EngineUnavailable(
            f"The transformers engine's model lacks the file {folder / 'config.json'}."
        )
    transformers = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    where: dict[str, Any] = {"local_files_only": folder.is_dir() or not download}
    if revision is not None:
        where["revision"] = revision
    try:
        config = transformers.AutoConfig.from_pretrained(model, **where)
        loader = transformers.AutoModelForImageTextToText
        loaded = loader.from_pretrained(model, config=config, dtype=dtype, **where)
        processor = transformers.AutoProcessor.from_pretrained(model, **where)
    except (OSError, ValueError, ImportError) as error:
        hint = "" if folder.is_dir() or download else " (set download to fetch it from its hub)"
        raise EngineUnavailable(
            f"The transformers engine can't load {model}{hint}: {error}"
        ) from error
    return processor, loaded.to(device).eval()


def _dtype(asked: str, device: str) -> str:
    """Half the bytes where the hardware multiplies them; elsewhere f32 is the quicker one."""
    if asked != "auto":
        return asked
    quick = device != devices.CPU or "amx_bf16" in devices.cpu_flags()
    return "bfloat16" if quick else "float32"


def _version(name: str, model: Any, revision: str | None) -> str:
    """The model's name, with the hub's commit, or a fingerprint of a folder's weights.

    Of files of GBs it takes in the size, the first MB and the last; training changes all of them.
    """
    commit = getattr(model.config, "_commit_hash", None) or revision
    if commit:
        return f"{name} {commit[:12]}"
    digest = hashlib.sha256()
    for path in sorted(Path(name).glob("*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(b"%d" % size + file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return f"{Path(name).name} {digest.hexdigest()[:12]}"
