"""A Llama of a million random weights with a tokenizer of its own, for tests of real engines.

`make(folder)` writes one model in two forms with the same weights: `model.gguf` (llama.cpp) and a
Hugging Face folder (config.json, model.safetensors, tokenizer.json, ... for vLLM). Nothing is
downloaded: the tokenizer learns from the help texts that every CPython ships.

Every weight is a seeded normal. The output rows of special tokens, and of tokens that are not
plain printable ASCII, are zero while the others are large, so that those are never sampled: no
answer ends early, and no half of a UTF-8 character is held back by a streaming server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

BOS, EOS, USER, ASSISTANT, SYSTEM = SPECIAL = (
    "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|system|>",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{{ m['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
LOGIT_SD = 8.0  # far above the zero of the tokens that must not be sampled


@dataclass(frozen=True)
class Size:
    """The dimensions of a Llama."""

    hidden: int = 128
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 256
    vocabulary: int = 2048
    context: int = 4096

    @property
    def head(self) -> int:
        return self.hidden // self.heads


TINY = Size()
MIDDLE = Size(hidden=256, layers=4, heads=8, kv_heads=4, feed_forward=704)

Weights = dict[str, np.ndarray]


def make(folder: Path, size: Size = TINY, seed: int = 0) -> Path:
    """Writes the model into a folder; returns the path of its model.gguf."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(size.vocabulary)
    tokens = [t for t, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    weights = _weights(size, tokens, np.random.default_rng(seed))
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_hugging_face(folder, size, weights, len(tokens))
    merges = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    _write_gguf(folder / "model.gguf", size, weights, tokens, merges)
    return folder / "model.gguf"


def _tokenizer(vocabulary: int):
    """Byte-level BPE, learnt from texts that come with Python."""
    from pydoc_data.topics import topics

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(topics.values()), trainer)
    return tokenizer


def _weights(size: Size, tokens: list[str], rng: np.random.Generator) -> Weights:
    def layer(n_out: int, n_in: int) -> np.ndarray:
        return (rng.standard_normal((n_out, n_in)) / sqrt(n_in)).astype(np.float32)

    kv = size.kv_heads * size.head
    weights = {
        "model.embed_tokens": rng.standard_normal((len(tokens), size.hidden)).astype(np.float32),
        "model.norm": np.ones(size.hidden, np.float32),
    }
    for n in range(size.layers):
        weights |= {
            f"model.layers.{n}.input_layernorm": np.ones(size.hidden, np.float32),
            f"model.layers.{n}.post_attention_layernorm": np.ones(size.hidden, np.float32),
            f"model.layers.{n}.self_attn.q_proj": layer(size.hidden, size.hidden),
            f"model.layers.{n}.self_attn.k_proj": layer(kv, size.hidden),
            f"model.layers.{n}.self_attn.v_proj": layer(kv, size.hidden),
            f"model.layers.{n}.self_attn.o_proj": layer(size.hidden, size.hidden),
            f"model.layers.{n}.mlp.gate_proj": layer(size.feed_forward, size.hidden),
            f"model.layers.{n}.mlp.up_proj": layer(size.feed_forward, size.hidden),
            f"model.layers.{n}.mlp.down_proj": layer(size.hidden, size.feed_forward),
        }
    head = layer(len(tokens), size.hidden) * LOGIT_SD
    head[[not _may_be_sampled(token) for token in tokens]] = 0.0
    return weights | {"lm_head": head}


def _may_be_sampled(token: str) -> bool:
    space = "\u0120"  # how byte-level BPE writes a blank
    return token not in SPECIAL and all("!" <= c <= "~" or c == space for c in token)


def _write_hugging_face(folder: Path, size: Size, weights: Weights, n_tokens: int) -> None:
    from safetensors.numpy import save_file

    save_file(
        {f"{name}.weight": values for name, values in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": size.feed_forward,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head,
        "hidden_act": "silu",
        "max_position_embeddings": size.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": n_tokens,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        **ids,
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": size.context,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
        **special,
    }
    for name, data in {
        "config.json": config,
        "generation_config.json": ids,
        "special_tokens_map.json": special,
        "tokenizer_config.json": tokenizer_config,
    }.items():
        (folder / name).write_text(json.dumps(data, indent=1), "utf-8")


def _write_gguf(
    path: Path, size: Size, weights: Weights, tokens: list[str], merges: list[list[str]]
) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(size.context)
    writer.add_embedding_length(size.hidden)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(size.feed_forward)
    writer.add_head_count(size.heads)
    writer.add_head_count_kv(size.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(size.head)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, values in _gguf_tensors(size, weights):
        writer.add_tensor(f"{name}.weight", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _gguf_tensors(size: Size, weights: Weights) -> Iterator[tuple[str, np.ndarray]]:
    yield "token_embd", weights["model.embed_tokens"]
    yield "output_norm", weights["model.norm"]
    yield "output", weights["lm_head"]
    heads = {"self_attn.q_proj": size.heads, "self_attn.k_proj": size.kv_heads}
    for n in range(size.layers):
        for name, gguf_name in GGUF_NAMES.items():
            values = weights[f"model.layers.{n}.{name}"]
            if name in heads:
                values = _interleaved(values, heads[name])
            yield f"blk.{n}.{gguf_name}", values


def _interleaved(rows: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows as llama.cpp wants them: it rotates neighbours where Hugging Face rotates halves."""
    n_out, n_in = rows.shape
    pairs = rows.reshape(n_heads, 2, n_out // n_heads // 2, n_in)
    return pairs.swapaxes(1, 2).reshape(n_out, n_in)
