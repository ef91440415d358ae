"""PaddleOCR's model folders: those given, or made of the ONNX files in rapidocr's wheel."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import yaml

from mlops.exceptions import EngineUnavailable
from ocr.engines.wheel_models import DETECTION, RECOGNITION, wheel_model

# As PaddleOCR names the networks that rapidocr's wheel carries.
_WHEEL_MODELS = {
    "text_detection_model": ("PP-OCRv6_small_det", DETECTION),
    "text_recognition_model": ("PP-OCRv6_small_rec", RECOGNITION),
}


def names_a_model(options: dict[str, Any]) -> bool:
    """Whether the options choose models, by name, by folder or by language."""
    given = ("lang", "ocr_version", *(f"{m}_{k}" for m in _WHEEL_MODELS for k in ("name", "dir")))
    return any(options.get(key) is not None for key in given)


def local_models(options: dict[str, Any], backend: str) -> dict[str, str]:
    """The name of each model that has a folder, as PaddleOCR wants it: what the folder says.

    Raises EngineUnavailable for a model that would come from a hub, or lacks a file.
    """
    if options.get("lang") or options.get("ocr_version"):
        raise EngineUnavailable(
            "PaddleOCR's lang and ocr_version choose models from a hub: set download, or give "
            "text_detection_model_dir and text_recognition_model_dir."
        )
    files = ["inference.yml", *(["inference.onnx"] if backend == "onnxruntime" else [])]
    named = {
        key.rpartition("_")[0] for key in options if key.endswith(("_model_name", "_model_dir"))
    }
    names = {}
    for model in sorted({*_WHEEL_MODELS, *named}):
        folder = options.get(f"{model}_dir")
        if folder is None:
            raise EngineUnavailable(
                f"PaddleOCR's {model} has no folder: give {model}_dir, or set download to "
                "fetch it from its hub."
            )
        for file in files:
            if not (Path(folder) / file).is_file():
                raise EngineUnavailable(
                    f"PaddleOCR's {model} lacks the file {Path(folder) / file}."
                )
        described = yaml.safe_load((Path(folder) / "inference.yml").read_text(encoding="utf-8"))
        names[f"{model}_name"] = described["Global"]["model_name"]
    return names


def wheel_models(folder: Path) -> dict[str, str]:
    """Model folders made of rapidocr's ONNX files: a link to each, with its inference.yml.

    They are needed only while the networks are loaded.
    """
    options = {}
    for model, (name, file) in _WHEEL_MODELS.items():
        source = wheel_model(file, engine="paddleocr")
        made = folder / name
        made.mkdir()
        (made / "inference.onnx").symlink_to(source)
        described = _detection(name) if "detection" in model else _recognition(name, source)
        # JSON is YAML too.
        (made / "inference.yml").write_text(json.dumps(described), encoding="utf-8")
        options |= {f"{model}_name": name, f"{model}_dir": str(made)}
    return options


def _detection(name: str) -> dict[str, Any]:
    """How PP-OCR prepares a page and finds boxes in the detector's map."""
    return {
        "Global": {"model_name": name},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"DetResizeForTest": {"resize_long": 960}},
                {
                    "NormalizeImage": {
                        "mean": [0.5] * 3,
                        "std": [0.5] * 3,
                        "scale": "1./255.",
                        "order": "hwc",
                    }
                },
                {"ToCHWImage": None},
            ]
        },
        "PostProcess": {
            "name": "DBPostProcess",
            "thresh": 0.3,
            "box_thresh": 0.6,
            "max_candidates": 1000,
            "unclip_ratio": 1.5,
        },
    }


def _recognition(name: str, source: Path) -> dict[str, Any]:
    """How PP-OCR prepares a line, and the dictionary, which stands in the file's metadata."""
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    characters = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    return {
        "Global": {"model_name": name},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"RecResizeImg": {"image_shape": [3, 48, 320]}},
            ]
        },
        "PostProcess": {"name": "CTCLabelDecode", "character_dict": characters},
    }


def listed(options: dict[str, Any]) -> tuple[str, ...]:
    """Where the networks' files lie; those from a hub by their names."""
    found = []
    for model in _WHEEL_MODELS:
        folder = options.get(f"{model}_dir")
        if folder is None:
            found.append(str(options.get(f"{model}_name") or "PaddleOCR's default"))
        else:
            network = Path(folder) / "inference.onnx"
            found.append(str(network.resolve() if network.is_file() else folder))
    return tuple(found)


def version(options: dict[str, Any]) -> str:
    """The recogniser's name, with a short hash of the files of both where they are local."""
    folders = [Path(options[key]) for model in _WHEEL_MODELS if options.get(key := f"{model}_dir")]
    named = options.get("text_recognition_model_name")
    if not folders:
        return str(named or options.get("ocr_version") or "PaddleOCR")
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.iterdir() if path.is_file()):
        digest.update(path.read_bytes())
    return f"{named or folders[-1].name} {digest.hexdigest()[:12]}"
