"""The forward pass of Llama's kind of model, over tokens of many answers at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llm.engines.slots.attention import Group, Part, Plan
from llm.engines.slots.cache import SlotCache
from llm.engines.slots.weights import Linear
from ocr.engines.torch_library import import_torch

torch = import_torch()
functional = torch.nn.functional

# RMSNorm, rotary positions, grouped heads, a gated MLP: models that differ in nothing else.
KINDS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
# Their frequencies depend on the longest sequence in the batch.
MOVING_ROPES = frozenset({"dynamic", "longrope"})


class Layer:
    """One decoder layer's weights: four products."""

    def __init__(self, module: Any, *, silu: bool) -> None:
        attention, mlp = module.self_attn, module.mlp
        self.before_attention = _norm(module.input_layernorm)
        self.before_mlp = _norm(module.post_attention_layernorm)
        self.qkv = Linear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = Linear([attention.o_proj])
        self.gate_up = Linear([mlp.gate_proj, mlp.up_proj])
        self.down = Linear([mlp.down_proj])
        # The function itself spares a module's call a layer.
        self.activation = functional.silu if silu else mlp.act_fn
        self.scale = attention.scaling
        self.head_norms: tuple[Any, Any] | None = None
        self.slides = False

    @property
    def linears(self) -> dict[str, Linear]:
        return {"qkv": self.qkv, "out": self.out, "gate_up": self.gate_up, "down": self.down}


class Llama:
    """The weights of a model of `KINDS`, taken over from the library's module and packed."""

    def __init__(self, model: Any) -> None:
        """Takes the module apart layer by layer, so that the weights are never held twice."""
        config, body = model.config, model.model
        self.heads = config.num_attention_heads
        self.key_heads = config.num_key_value_heads
        self.head_size = body.layers[0].self_attn.head_dim
        self.device = body.embed_tokens.weight.device
        self.dtype = body.embed_tokens.weight.dtype
        self.window = getattr(config, "sliding_window", None)
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * len(body.layers)
        modules = list(body.layers)[::-1]
        del body.layers
        self.layers = []
        for kind in kinds:
            module = modules.pop()
            layer = Layer(module, silu=config.hidden_act == "silu")
            layer.slides = self.window is not None and kind == "sliding_attention"
            if config.model_type == "qwen3":
                attention = module.self_attn
                layer.head_norms = (_norm(attention.q_norm), _norm(attention.k_norm))
            self.layers.append(layer)
        self._embeddings = body.embed_tokens.weight.detach()
        self._rotary = body.rotary_emb
        self._final = _norm(body.norm)
        self._head = Linear([model.lm_head])
        self.bytes = self._embeddings.nbytes + self._head.bytes
        self.bytes += sum(one.bytes for layer in self.layers for one in layer.linears.values())

    @staticmethod
    def fits(config: Any) -> bool:
        return config.model_type in KINDS and not rope_moves(config)

    def cache(self, *, context: int, budget: int, rows: int) -> SlotCache:
        return SlotCache(
            layers=len(self.layers),
            heads=self.key_heads,
            head_size=self.head_size,
            dtype=self.dtype,
            device=self.device,
            context=context,
            budget=budget,
            rows=rows,
        )

    @property
    def cache_bytes_per_token(self) -> int:
        return SlotCache.bytes_per_token(
            len(self.layers), self.key_heads, self.head_size, self.dtype
        )

    def step(self, parts: Sequence[Part]) -> Any:
        """Reads the parts' tokens into their slots; the wanted logits, (wanted, vocabulary).

        Float32, in the order of the parts.
        """
        plan = Plan(parts, window=self.window, dtype=self.dtype, device=self.device)
        for part in parts:
            part.slot.written = max(part.slot.written, part.slot.length + len(part.tokens))

        def attend(at: int, layer: Layer, q: Any, kv: Any) -> Any:
            for pool, rows, slots, positions in plan.writes:
                new = kv if rows is None else kv[rows]
                pool.layers[at].transpose(1, 2)[slots, positions] = new
            found = [
                self._attend(group, layer, q[group.rows], group.pool.layers[at])
                for group in plan.groups
            ]
            return found[0] if len(found) == 1 else torch.cat(found)

        x = self._run(plan.tokens, plan.positions, attend, plan.adapted())
        for part in parts:
            part.slot.length += len(part.tokens)
        wanted = plan.wanted_rows()
        if not len(wanted):
            return None
        return self._head(x.index_select(0, wanted)).float()

    def hidden(self, texts: Sequence[Sequence[int]]) -> list[Any]:
        """The last layer's vectors of whole texts, (tokens, hidden size) each; no slot is used."""
        sizes = [len(text) for text in texts]
        tokens = torch.tensor([token for text in texts for token in text], device=self.device)
        positions = torch.cat([torch.arange(size, device=self.device) for size in sizes])
        group = self.heads // self.key_heads

        def attend(at: int, layer: Layer, q: Any, kv: Any) -> Any:
            found = []
            for q_text, kv_text in zip(q.split(sizes), kv.split(sizes), strict=True):
                query = q_text.transpose(0, 1)
                key, value = (
                    side.transpose(0, 1).repeat_interleave(group, dim=0)
                    for side in kv_text.split(self.key_heads, dim=1)
                )
                mask = None
                if layer.slides and self.window < len(q_text):
                    seen = torch.ones(len(q_text), len(q_text), device=q.device).bool()
                    mask = seen.tril() & seen.triu(1 - self.window)
                out = functional.scaled_dot_product_attention(
                    query[None],
                    key[None],
                    value[None],
                    attn_mask=mask,
                    is_causal=mask is None,
                    scale=layer.scale,
                )
                found.append(out[0].transpose(0, 1).flatten(1))
            return torch.cat(found)

        x = self._run(tokens, positions, attend, [])
        return list(x.split(sizes))

    def _run(
        self,
        tokens: Any,
        positions: Any,
        attend: Callable[[int, Layer, Any, Any], Any],
        adapters: Sequence[tuple[Any, Any]],
    ) -> Any:
        """Hidden states after the last norm, (tokens, hidden size)."""
        x = self._embeddings[tokens]
        cos, sin = self._rotary(x, positions[None])
        cos, sin = cos[0].unsqueeze(1), sin[0].unsqueeze(1)
        half = self.head_size // 2
        # x * cos + (-x2, x1) * sin, with the sign in the sine and a roll for the exchange.
        sin = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        turned = self.heads + self.key_heads
        for at, layer in enumerate(self.layers):
            h = layer.before_attention(x)
            qkv = _adapted(layer.qkv, "qkv", at, h, adapters)
            qkv = qkv.view(x.shape[0], turned + self.key_heads, self.head_size)
            qk = qkv[:, :turned]
            if layer.head_norms is not None:
                q_norm, k_norm = layer.head_norms
                qk = torch.cat((q_norm(qk[:, : self.heads]), k_norm(qk[:, self.heads :])), dim=1)
            # In place, so that keys and values go on lying side by side.
            torch.addcmul(qk * cos, torch.roll(qk, half, -1), sin, out=qkv[:, :turned])
            a = attend(at, layer, qkv[:, : self.heads], qkv[:, self.heads :])
            x = x + _adapted(layer.out, "out", at, a, adapters)
            h = layer.before_mlp(x)
            gate, up = _adapted(layer.gate_up, "gate_up", at, h, adapters).chunk(2, dim=-1)
            x = x + _adapted(layer.down, "down", at, layer.activation(gate) * up, adapters)
        return self._final(x)

    def _attend(self, group: Group, layer: Layer, q: Any, stored: Any) -> Any:
        """q: (rows, heads, head size) -> (rows, heads x head size).

        The heads that share keys share them here, too: none are copied.
        """
        mask = group.masks[layer.slides]
        keys = stored[group.slots, : self.key_heads, : group.length]
        values = stored[group.slots, self.key_heads :, : group.length]
        q = q.unflatten(1, (self.key_heads, -1))
        attention = functional.scaled_dot_product_attention
        if group.tokens > 1:
            # One slot: its key heads are the batch, and what shares them the heads.
            shape = (-1, q.shape[2], -1, -1)
            out = attention(
                q.permute(1, 2, 0, 3),
                keys.transpose(0, 1).expand(shape),
                values.transpose(0, 1).expand(shape),
                attn_mask=mask,
                scale=layer.scale,
            )
            return out.permute(2, 0, 1, 3).flatten(1)
        if q.shape[2] == 1 and self.dtype == torch.bfloat16 and q.device.type == "cpu":
            # For a single query torch leaves its fast product of bfloat16 matrices.
            q = q.expand(-1, -1, 2, -1).contiguous()
            out = attention(q, keys, values, attn_mask=mask, scale=layer.scale)[:, :, 0]
        else:
            out = attention(q, keys, values, attn_mask=mask, scale=layer.scale)
        return out.flatten(1)


def rope_moves(config: Any) -> bool:
    """Whether a token's position means something else beside a longer sequence."""
    rope = getattr(config, "rope_parameters", None) or {}
    return rope.get("rope_type") in MOVING_ROPES


def _adapted(
    linear: Linear, name: str, at: int, x: Any, adapters: Sequence[tuple[Any, Any]]
) -> Any:
    y = linear(x)
    for adapter, rows in adapters:
        part = adapter.parts.get((at, name))
        if part is not None:
            part.add_to(y, x, rows)
    return y


def _norm(module: Any) -> Callable[[Any], Any]:
    """The module's RMSNorm as a function of its own weight."""
    weight, epsilon = module.weight.detach(), module.variance_epsilon
    shape = tuple(weight.shape)
    return lambda x: functional.rms_norm(x, shape, weight, epsilon)
