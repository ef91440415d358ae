"""Puts a served model together: which forward pass, how large a cache, how many threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from llm.engines.base import ModelSource
from llm.engines.grammar import GrammarCompiler
from llm.engines.slots import loading
from llm.engines.slots.adapters import AdapterShelf
from llm.engines.slots.attention import Part
from llm.engines.slots.batcher import Batcher
from llm.engines.slots.cache import SlotCache
from llm.engines.slots.embedding import Embedder, encoder_hidden, pooling_of
from llm.engines.slots.llama import Llama, rope_moves
from llm.engines.slots.loading import Loaded
from llm.engines.slots.options import Options
from llm.engines.slots.plain import Plain, PlainCache
from llm.engines.slots.prompts import Prompts
from llm.engines.slots.served import Generation, ServedModel
from llm.engines.slots.text import TokenTexts
from llm.tools import detect_format
from ocr.engines.torch_library import import_torch

torch = import_torch()
log = structlog.get_logger(__name__)

# How far our logits may be from the library's, in standard deviations of these.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.15, "float16": 0.05}


def assemble(source: ModelSource, given: Mapping[str, Any], *, device: str) -> ServedModel:
    """Raises EngineUnavailable."""
    options = Options.read(given)
    if source.device == "auto":
        source = replace(source, device=device)
    if options.threads:
        torch.set_num_threads(options.threads)
    loaded = loading.load(source, download=options.download)
    build = _generating if loaded.generates else _encoder
    return build(source, options, loaded)


def _encoder(source: ModelSource, options: Options, loaded: Loaded) -> ServedModel:
    context = _context(source, loaded.model.config)
    hidden = encoder_hidden(loaded.model, pad=loaded.tokenizer.pad_token_id or 0)
    return ServedModel(
        source,
        options,
        device=_where(source, loaded),
        context_length=context,
        vocabulary=loaded.model.config.vocab_size,
        weight_bytes=loaded.model.get_memory_footprint(),
        tool_format="",
        prompts=Prompts(loaded.tokenizer, template="", context_length=context),
        embedder=Embedder(hidden, pooling=_pooling(options, loaded), context_length=context),
        generation=None,
    )


def _generating(source: ModelSource, options: Options, loaded: Loaded) -> ServedModel:
    model, tokenizer, config = loaded.model, loaded.tokenizer, loaded.model.config
    where, ends = _where(source, loaded), _ends(model, tokenizer)
    context = _context(source, config)
    prefill = options.prefill_tokens or (256 if loaded.device == "cpu" else 2048)
    runs: Llama | Plain
    cache: SlotCache | PlainCache
    known = Llama.fits(config) and loaded.device != "map" and not source.quantization
    fast = _fast(source, loaded) if known else None
    if fast is not None:
        budget = _budget(options, fast, context)
        context = min(context, budget)
        runs, hidden = fast, fast.hidden
        cache = fast.cache(context=context, budget=budget, rows=options.max_batch)
    else:
        if known:
            model = loading.load(source, download=options.download).model
        runs = Plain(model, together=not rope_moves(config))
        hidden = encoder_hidden(model.base_model, pad=tokenizer.pad_token_id or 0)
        cache = PlainCache(runs)
        # Not every memory can be read in pieces, nor taken back from a wrong guess.
        prefill, options = context, replace(options, prompt_lookup=0)
    prompts = Prompts(tokenizer, template=source.chat_template, context_length=context)
    shelf = AdapterShelf(fast, budget=options.adapter_memory_mb << 20, download=options.download)
    batcher = Batcher(
        runs,
        cache,
        name=source.name,
        context=context,
        max_batch=options.max_batch,
        prefill_tokens=prefill,
        done=shelf.end,
    )
    generation = Generation(
        batcher=batcher,
        texts=TokenTexts(tokenizer),
        shelf=shelf,
        cache=cache,
        ends=ends,
        grammars=GrammarCompiler(tokenizer, config.vocab_size, ends=sorted(ends))
        if tokenizer.is_fast
        else None,
    )
    return ServedModel(
        source,
        options,
        device=where,
        context_length=context,
        vocabulary=config.vocab_size,
        weight_bytes=runs.bytes,
        tool_format=detect_format(prompts.template),
        prompts=prompts,
        embedder=Embedder(hidden, pooling=_pooling(options, loaded), context_length=context),
        generation=generation,
    )


def _where(source: ModelSource, loaded: Loaded) -> str:
    """For people: the device, what is multiplied, the threads."""
    kind = source.quantization or str(loaded.model.dtype).removeprefix("torch.")
    if loaded.device != "cpu":
        return f"{loaded.device} {kind}"
    count = torch.get_num_threads()
    return f"cpu {kind} {count} thread{'s'[: count > 1]}"


def _pooling(options: Options, loaded: Loaded) -> str:
    return options.pooling or pooling_of(loaded.folder)


def _context(source: ModelSource, config: Any) -> int:
    own = getattr(config, "max_position_embeddings", None) or 0
    if source.context_length and own:
        return min(source.context_length, own)
    return source.context_length or own or 4096


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: what generation's config says, and the tokenizer."""
    said = model.generation_config.eos_token_id
    ends = said if isinstance(said, list) else [said]
    return frozenset(token for token in (*ends, tokenizer.eos_token_id) if token is not None)


def _fast(source: ModelSource, loaded: Loaded) -> Llama | None:
    """Our own forward pass, if it says what the library's does; the model is used up by it."""
    model = loaded.model
    size = model.config.vocab_size
    tokens = [(7 * at + 3) % size for at in range(12)]
    with torch.inference_mode():
        wanted = model(input_ids=torch.tensor([tokens], device=model.device)).logits[0].float()
        fast = Llama(model)
        slot = fast.cache(context=16, budget=64, rows=1).take(tokens, 16, None)
        # In pieces, as prompts and answers are read.
        found = [
            fast.step([Part(slot, tokens[start:end], end - start)])
            for start, end in ((0, 8), (8, 11), (11, 12))
        ]
    apart = float((torch.cat(found) - wanted).abs().max() / wanted.std())
    if apart < TOLERANCES[str(fast.dtype).removeprefix("torch.")]:
        return fast
    log.warning("llm_forward_differs", model=source.name, apart=apart)
    return None


def _budget(options: Options, model: Llama, context: int) -> int:
    """Tokens of cache: as asked for, else what memory allows."""
    most = options.max_batch * context
    if options.cache_tokens:
        return min(options.cache_tokens, most)
    if model.device.type == "cuda":
        room = int(0.8 * torch.cuda.mem_get_info(model.device)[0])
    else:
        # All there is, not what is free now: a model's context must not depend on the moment.
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    return max(1024, min(most, room // model.cache_bytes_per_token))
