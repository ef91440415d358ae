"""Models of the transformers library small enough to be made, and trained, in a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    TrOCRConfig,
    TrOCRForCausalLM,
    TrOCRProcessor,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

_SPECIAL = ("<pad>", "<s>", "</s>", "<image>")
_PAD, _BEGIN, _END, _IMAGE = range(4)
# Paper comes out as 0, and even the grey that a small picture makes of print stands out.
_INK = {"image_mean": [1.0] * 3, "image_std": [0.2] * 3}
_SMALL = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def train_trocr(folder: Path, lines: Sequence[tuple[np.ndarray, str]], *, steps: int) -> None:
    """A model of TrOCR's kind that knows these lines by heart, saved as its library saves it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = _tokenizer([text for _, text in lines], ends=True)
    eyes = ViTConfig(image_size=(32, 256), patch_size=(32, 8), **_SMALL)
    mouth = TrOCRConfig(
        vocab_size=len(tokenizer),
        d_model=48,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=96,
        cross_attention_hidden_size=48,
        max_position_embeddings=64,
        pad_token_id=_PAD,
        bos_token_id=_BEGIN,
        eos_token_id=_END,
        decoder_start_token_id=_BEGIN,
    )
    model = VisionEncoderDecoderModel(encoder=ViTModel(eyes), decoder=TrOCRForCausalLM(mouth))
    for config in (model.config, model.generation_config):
        config.pad_token_id, config.eos_token_id = _PAD, _END
        config.decoder_start_token_id = config.bos_token_id = _BEGIN
    seen = ViTImageProcessor(size={"height": 32, "width": 256}, **_INK)
    processor = TrOCRProcessor(image_processor=seen, tokenizer=tokenizer)
    pixels = processor(
        images=[Image.fromarray(image) for image, _ in lines], return_tensors="pt"
    ).pixel_values
    labels = tokenizer([text for _, text in lines], padding=True, return_tensors="pt").input_ids
    labels = torch.where(labels == _PAD, -100, labels)
    _train(model, steps, pixel_values=pixels, labels=labels)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def train_llava(
    folder: Path, pages: Sequence[tuple[np.ndarray, str]], *, prompt: str, steps: int
) -> None:
    """A chat model that sees, which knows what to answer to `prompt` on each of these pages."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = _tokenizer([prompt, "USER : ANSWER :", *(text for _, text in pages)], ends=False)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(image_size=64, patch_size=16, **_SMALL),
            text_config=LlamaConfig(
                vocab_size=len(tokenizer),
                max_position_embeddings=512,
                pad_token_id=_PAD,
                bos_token_id=_BEGIN,
                eos_token_id=_END,
                **_SMALL,
            ),
            image_token_index=_IMAGE,
            vision_feature_layer=-1,
            image_seq_length=16,
        )
    )
    model.generation_config.pad_token_id = _PAD
    model.generation_config.eos_token_id = _END
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"height": 64, "width": 64},
            do_center_crop=False,
            crop_size={"height": 64, "width": 64},
            **_INK,
        ),
        tokenizer=tokenizer,
        patch_size=16,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        chat_template=(
            "{% for m in messages %}USER : {% for part in m['content'] %}"
            "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
            "{% endfor %}{% endfor %} ANSWER : "
        ),
        image_token="<image>",
    )
    asked = f"USER : <image> {prompt} ANSWER : "
    inputs = processor(
        images=[Image.fromarray(image) for image, _ in pages],
        text=[f"{asked}{text}</s>" for _, text in pages],
        padding=True,
        return_tensors="pt",
    )
    labels = inputs["input_ids"].clone()
    for row, ids in enumerate(labels.tolist()):
        known = tokenizer(f" {prompt} ANSWER : ").input_ids
        end = next(n for n in range(len(ids)) if ids[n : n + len(known)] == known) + len(known)
        labels[row, :end] = -100
    labels[labels == _PAD] = -100
    _train(model, steps, **inputs, labels=labels)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _tokenizer(texts: Sequence[str], *, ends: bool) -> PreTrainedTokenizerFast:
    """Words, spaces and line ends of these texts are the tokens; `ends` puts </s> after a text."""
    words = sorted({word for text in texts for word in _split(text)})
    vocabulary = {word: n for n, word in enumerate((*_SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", _END)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
        clean_up_tokenization_spaces=False,
    )


def _split(text: str) -> list[str]:
    splitter = pre_tokenizers.Split(Regex(r"\s"), "isolated")
    return [word for word, _ in splitter.pre_tokenize_str(text)]


def _train(model: torch.nn.Module, steps: int, **inputs: torch.Tensor) -> None:
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    for _ in range(steps):
        loss = model(**inputs).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
