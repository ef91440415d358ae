"""The model to be trained: base, tokenizer, chat template, adapter."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finetune.engines.base import TrainingFailed, TrainSpec
from finetune.engines.configs import AUTO, LanguageConfig
from llm.engines.slots.llama import KINDS
from llm.engines.slots.loading import check_folder, local_folder
from mlops.exceptions import EngineUnavailable
from ocr.engines.torch_library import import_torch

ADAPTER = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is calculated and in what: "cpu" or "cuda", the name of a dtype."""

    device: str
    dtype: str


@dataclass(slots=True)
class Base:
    """A loaded base. `root`: the folder or hub name of its weights, to which an adapter belongs.

    `peft_config` is for a new adapter; where one is gone on with, `model` has it already.
    """

    model: Any
    tokenizer: Any
    root: str
    place: Place
    peft_config: Any = None


def config_of(spec: TrainSpec) -> LanguageConfig:
    config = spec.config
    assert isinstance(config, LanguageConfig)
    return config


def place_of(config: LanguageConfig) -> Place:
    """What "auto" means here. Raises TrainingFailed for what this machine can't do."""
    torch = import_torch()
    there = torch.cuda.is_available()
    if config.device.startswith("cuda") and not there:
        raise TrainingFailed(
            f"There is no GPU here for device '{config.device}'. Choose cpu, or start a worker "
            "where there is one.",
            code="no_device",
        )
    device = "cuda" if there and config.device != "cpu" else "cpu"
    dtype = config.dtype
    if dtype == AUTO:
        quick = device == "cuda" and torch.cuda.is_bf16_supported()
        dtype = "bfloat16" if quick else "float32"
    if dtype == "float16" and device == "cpu":
        raise TrainingFailed(
            "float16 is trained on a GPU only. Choose dtype bfloat16 or float32 on a CPU.",
            code="invalid_option",
        )
    if config.adapter == "qlora" and (device == "cpu" or find_spec("bitsandbytes") is None):
        raise TrainingFailed(
            "QLoRA needs a GPU and bitsandbytes (pip install bitsandbytes), and here "
            f"{'is no GPU' if device == 'cpu' else 'bitsandbytes is missing'}. Choose adapter "
            "'lora' instead.",
            code="invalid_option",
        )
    return Place(device, dtype)


def tokenizer_of(spec: TrainSpec) -> Any:
    """With the chat template that the model is served with, and something to pad with."""
    transformers = _libraries("transformers")
    for source in dict.fromkeys([spec.base, root_of(spec)]):
        _check(source, weights=False)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                source, trust_remote_code=spec.trust_remote_code
            )
            break
        except (OSError, ValueError) as error:
            failed = error
    else:
        file = Path(spec.base) / "tokenizer.json"
        lacks = (
            f"the file {file} is missing" if Path(spec.base).is_dir() and not file.exists() else ""
        )
        raise _bad(f"The tokenizer of '{spec.base}' can't be loaded: {lacks or failed}") from failed
    if not tokenizer.is_fast:
        raise _bad(
            f"The tokenizer of '{spec.base}' has no tokenizer.json, which says where in a text "
            "each token stands. Convert it with transformers' AutoTokenizer and save it."
        )
    if spec.chat_template:
        tokenizer.chat_template = spec.chat_template
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    if tokenizer.eos_token is None:
        raise _bad(
            f"The tokenizer of '{spec.base}' names no eos_token, with which answers end. Name it "
            "in its tokenizer_config.json."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def root_of(spec: TrainSpec) -> str:
    """The model that has all weights: the base, or what the base is an adapter of."""
    config = Path(spec.base) / ADAPTER
    if not config.is_file():
        return spec.base
    try:
        root = json.loads(config.read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError) as error:
        raise _bad(f"The file {config} is damaged: {error}") from error
    return str(root)


def load(spec: TrainSpec, config: LanguageConfig, tokenizer: Any) -> Base:
    """Raises TrainingFailed naming the file that is missing, or what doesn't go together."""
    place, root = place_of(config), root_of(spec)
    torch = import_torch()
    # Before the weights of a new adapter are drawn.
    _libraries("transformers").set_seed(config.seed)
    adapters = [
        folder for folder in (spec.base, spec.begin_with) if (Path(folder) / ADAPTER).is_file()
    ]
    begun = spec.begin_with if spec.begin_with and spec.begin_with not in adapters else ""
    if begun and config.adapter != "full":
        raise _bad(
            f"The checkpoint {Path(begun).name} holds a whole model, of which an adapter could "
            "not be served later. Choose adapter 'full', or a job that trained an adapter."
        )
    _check(root)
    model = _weights(spec, config, begun or root, place)
    model.config.use_cache = False
    peft_config = None
    if config.adapter != "full":
        model, peft_config = _with_adapter(model, config, adapters[-1:])
    elif adapters:
        peft = _libraries("peft")
        model = peft.PeftModel.from_pretrained(model, adapters[-1]).merge_and_unload()
    if place.device == "cuda" and config.adapter != "qlora":
        model = model.to(torch.device("cuda", torch.cuda.current_device()))
    _vocabulary_check(spec, tokenizer, model)
    return Base(model, tokenizer, root, place, peft_config)


def _weights(spec: TrainSpec, config: LanguageConfig, source: str, place: Place) -> Any:
    torch, transformers = import_torch(), _libraries("transformers")
    # All weights are trained in float32: small steps would get lost in half of it.
    kept = "float32" if config.adapter == "full" else place.dtype
    options = four_bits(place.dtype) if config.adapter == "qlora" else {}
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            source,
            dtype=getattr(torch, kept),
            trust_remote_code=spec.trust_remote_code,
            **options,
        )
    except (OSError, ValueError, KeyError) as error:
        raise _bad(f"'{source}' can't be loaded: {error}") from error


def four_bits(dtype: str) -> dict[str, Any]:
    """How `from_pretrained` is told to keep weights in 4 bits (Dettmers et al. 2023)."""
    torch = import_torch()
    bits = _libraries("transformers").BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    return {"quantization_config": bits, "device_map": {"": torch.cuda.current_device()}}


def within_context(spec: TrainSpec, config: LanguageConfig) -> LanguageConfig:
    """With rows no longer than the base can read at once."""
    sizes = _sizes(spec)
    context = int(sizes.get("max_position_embeddings") or sizes.get("n_positions") or 0)
    return replace(config, max_length=min(config.max_length, context or config.max_length))


def not_served(spec: TrainSpec, config: LanguageConfig) -> str:
    """Why our serving engine won't take what is to be trained, and what to do; "" if it will."""
    kind = _sizes(spec).get("model_type")
    if config.adapter == "full" or kind in KINDS:
        return ""
    return (
        f"Adapters of models of kind {kind} can't be served here beside their base; those of "
        f"{', '.join(sorted(KINDS))} can. Train all weights (adapter 'full'), or merge the result."
    )


def _sizes(spec: TrainSpec) -> dict[str, Any]:
    root = root_of(spec)
    _check(root)
    try:
        found = _libraries("transformers").AutoConfig.from_pretrained(
            root, trust_remote_code=spec.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise _bad(f"The config.json of '{root}' can't be read: {error}") from error
    return found.get_text_config().to_dict()


def _with_adapter(model: Any, config: LanguageConfig, begun: list[str]) -> tuple[Any, Any]:
    """The model with an adapter to go on with, or the form of a new one."""
    peft = _libraries("peft")
    if begun:
        return peft.PeftModel.from_pretrained(model, begun[0], is_trainable=True), None
    targets: str | list[str] = config.lora_targets
    if targets != "all-linear":
        targets = [name.strip() for name in config.lora_targets.split(",") if name.strip()]
        names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        if unknown := [name for name in targets if name.rpartition(".")[2] not in names]:
            raise TrainingFailed(
                f"lora_targets: the model has no layer '{unknown[0]}'. It has: "
                f"{', '.join(sorted(_linear(model)))}.",
                code="invalid_option",
            )
        if "lm_head" in targets:
            raise TrainingFailed(
                "lora_targets: lm_head can't have an adapter. Leave it out.", code="invalid_option"
            )
    return model, peft.LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def _linear(model: Any) -> set[str]:
    linear = import_torch().nn.Linear
    return {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, linear) and not name.endswith("lm_head")
    }


def _vocabulary_check(spec: TrainSpec, tokenizer: Any, model: Any) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise _bad(
            f"The tokenizer of '{spec.base}' knows {len(tokenizer)} tokens and the model only "
            f"{rows}: they don't belong together."
        )


def _check(source: str, *, weights: bool = True) -> None:
    try:
        folder = local_folder(source)
        if folder is not None and weights:
            check_folder(folder)
    except EngineUnavailable as error:
        raise _bad(error.message) from error


def _libraries(name: str) -> Any:
    import_torch()
    library = importlib.import_module(name)
    if name == "transformers":
        library.utils.logging.disable_progress_bar()
    return library


def _bad(message: str) -> TrainingFailed:
    return TrainingFailed(message, code="bad_model")
