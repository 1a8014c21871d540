"""Models and GPUs of the public measurements: the facts that an estimate needs, each with a source.

Models: parameters of the published checkpoint (model card or safetensors index), layers, widths and
heads of its config.json. GPUs: the maker's data sheet, dense 16-bit arithmetic. Where a model does
not fit the form of ModelFacts, the nearest entry is taken and the remark says which.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from planner.spec.hardware import Gpu, ModelFacts

AS_OF = datetime.date(2025, 12, 31)
_CARD = "config.json and size of the published checkpoint"

# name: parameters and active parameters (1e9), layers, hidden, heads, kv heads, head width, context
_MODELS: dict[str, tuple[float, float, int, int, int, int, int, int, str]] = {
    "llama-7b": (6.738, 6.738, 32, 4096, 32, 32, 128, 2048, _CARD),
    "llama-13b": (13.016, 13.016, 40, 5120, 40, 40, 128, 2048, _CARD),
    "llama-2-7b": (6.738, 6.738, 32, 4096, 32, 32, 128, 4096, _CARD),
    "llama-2-70b": (68.977, 68.977, 80, 8192, 64, 8, 128, 4096, _CARD),
    "llama-3-8b": (8.030, 8.030, 32, 4096, 32, 8, 128, 8192, _CARD),
    "llama-3-70b": (70.554, 70.554, 80, 8192, 64, 8, 128, 8192, _CARD),
    "llama-3.1-8b": (8.030, 8.030, 32, 4096, 32, 8, 128, 131072, _CARD),
    "llama-3.1-70b": (70.554, 70.554, 80, 8192, 64, 8, 128, 131072, _CARD),
    "llama-3.1-405b": (405.853, 405.853, 126, 16384, 128, 8, 128, 131072, _CARD),
    "llama-3.3-70b": (70.554, 70.554, 80, 8192, 64, 8, 128, 131072, _CARD),
    "llama-4-scout": (
        107.77,
        17.17,
        48,
        5120,
        40,
        8,
        128,
        10485760,
        "model card: 109B, 17B active",
    ),
    "llama-4-maverick": (
        400.7,
        17.17,
        48,
        5120,
        40,
        8,
        128,
        1048576,
        "model card: 400B, 17B active",
    ),
    "mistral-7b": (7.242, 7.242, 32, 4096, 32, 8, 128, 32768, _CARD),
    "mixtral-8x7b": (
        46.703,
        12.88,
        32,
        4096,
        32,
        8,
        128,
        32768,
        "arXiv 2401.04088: 47B, 13B active",
    ),
    "qwen1.5-7b": (7.721, 7.721, 32, 4096, 32, 32, 128, 32768, _CARD),
    "qwen2-7b": (7.616, 7.616, 28, 3584, 28, 4, 128, 131072, _CARD),
    "qwen2-72b": (72.706, 72.706, 80, 8192, 64, 8, 128, 131072, _CARD),
    "qwen3-8b": (8.191, 8.191, 36, 4096, 32, 8, 128, 40960, _CARD),
    "qwen3-14b": (14.768, 14.768, 40, 5120, 40, 8, 128, 40960, _CARD),
    "qwen3-32b": (32.762, 32.762, 64, 5120, 64, 8, 128, 40960, _CARD),
    "qwen3-30b-a3b": (30.532, 3.35, 48, 2048, 32, 4, 128, 262144, "model card: 30.5B, 3.3B active"),
    "qwen3-235b-a22b": (
        235.094,
        22.2,
        94,
        4096,
        64,
        4,
        128,
        262144,
        "model card: 235B, 22B active",
    ),
    "qwen3-coder-480b": (
        480.155,
        35.5,
        62,
        6144,
        96,
        8,
        128,
        262144,
        "model card: 480B, 35B active",
    ),
    "gpt-oss-20b": (
        20.914,
        3.61,
        24,
        2880,
        64,
        8,
        64,
        131072,
        "arXiv 2508.10925: 20.9B, 3.6B active",
    ),
    "gpt-oss-120b": (
        116.829,
        5.13,
        36,
        2880,
        64,
        8,
        64,
        131072,
        "arXiv 2508.10925: 117B, 5.1B active",
    ),
    "deepseek-v3": (
        *(671.026, 37.55, 61, 7168, 128, 1, 288, 163840),
        "arXiv 2412.19437: 671B, 37B active; latent cache of 512 + 64 numbers a layer as one head",
    ),
    "gemma-3-12b": (12.187, 12.187, 48, 3840, 16, 8, 256, 131072, _CARD),
    "gemma-3-27b": (27.432, 27.432, 62, 5376, 32, 16, 128, 131072, _CARD),
    "nemotron-nano-9b-v2": (
        *(8.888, 8.888, 56, 4480, 40, 1, 74, 131072),
        f"{_CARD}; 4 of 56 layers attend (8 heads of 128): the cache averaged over all layers",
    ),
    "nemotron-nano-12b-v2": (
        *(12.31, 12.31, 62, 5120, 40, 1, 99, 131072),
        f"{_CARD}; 6 of 62 layers attend (8 heads of 128): the cache averaged over all layers",
    ),
    "decilm-7b": (7.044, 7.044, 32, 4096, 32, 2, 128, 8192, f"{_CARD}; 67 kv heads in 32 layers"),
    "aquila-7b": (7.30, 7.30, 32, 4096, 32, 32, 128, 2048, _CARD),
    "bloom-7b1": (7.069, 7.069, 30, 4096, 32, 32, 128, 2048, _CARD),
    "bloom-176b": (176.247, 176.247, 70, 14336, 112, 112, 128, 2048, _CARD),
    "gpt-j-6b": (6.051, 6.051, 28, 4096, 16, 16, 256, 2048, _CARD),
    "opt-6.7b": (6.658, 6.658, 32, 4096, 32, 32, 128, 2048, _CARD),
    "gpt-neox-20b": (20.556, 20.556, 44, 6144, 64, 64, 96, 2048, _CARD),
    "starcoder": (15.517, 15.517, 40, 6144, 48, 1, 128, 8192, _CARD),
    "mpt-7b": (6.649, 6.649, 32, 4096, 32, 32, 128, 2048, _CARD),
    "codegen2-16b": (16.03, 16.03, 34, 6144, 24, 24, 256, 2048, _CARD),
    # Encoder-decoders: a decode step reads the decoder, three fifths of the weights.
    "flan-t5-xl": (2.850, 1.66, 24, 2048, 32, 32, 64, 512, f"{_CARD}; decoder active"),
    "flan-t5-xxl": (11.135, 6.5, 24, 4096, 64, 64, 64, 512, f"{_CARD}; decoder active"),
    "flan-ul2": (19.460, 11.3, 32, 4096, 16, 16, 256, 2048, f"{_CARD}; decoder active"),
    "mt0-xxl": (12.921, 7.5, 24, 4096, 64, 64, 64, 512, f"{_CARD}; decoder active"),
}

# name: GiB, dense 16-bit TFLOP/s, GB/s, GB/s to another GPU one way
_GPUS: dict[str, tuple[float, float, float, float, str]] = {
    "t4": (16, 65, 320, 16, "NVIDIA T4 data sheet"),
    "v100-16g": (16, 125, 900, 16, "NVIDIA V100 data sheet, SXM arithmetic"),
    "a10": (24, 125, 600, 32, "NVIDIA A10 data sheet"),
    "a40": (48, 149.7, 696, 32, "NVIDIA A40 data sheet"),
    "a100-40g": (40, 312, 1555, 300, "NVIDIA A100 data sheet, 40 GB"),
    "a100-80g": (80, 312, 2039, 300, "NVIDIA A100 data sheet, SXM 80 GB"),
    "h100-80g": (80, 989, 3350, 450, "NVIDIA H100 data sheet, SXM"),
    "h200": (141, 989, 4800, 450, "NVIDIA H200 data sheet, SXM"),
    "gh200-96g": (96, 989, 4000, 450, "NVIDIA GH200 data sheet, HBM3"),
    "b200": (180, 2250, 8000, 900, "NVIDIA HGX B200 data sheet"),
    "rtx-pro-6000": (96, 500, 1597, 32, "NVIDIA RTX PRO 6000 Blackwell Server data sheet"),
    "mi250": (128, 362, 3277, 100, "AMD Instinct MI250 data sheet"),
    "mi300x": (192, 1307, 5300, 64, "AMD Instinct MI300X data sheet"),
    "gaudi2": (96, 432, 2450, 37, "Intel Gaudi 2 white paper"),
    "max-1550": (128, 839, 3277, 53, "Intel Data Center GPU Max 1550 data sheet"),
    "sn40l": (64, 638, 2000, 100, "arXiv 2405.07518, HBM of one socket"),
}


# What the data sets call the models and GPUs.
MODEL_NAMES = {
    "BAAI/Aquila-7B": "aquila-7b",
    "Deci/DeciLM-7B": "decilm-7b",
    "EleutherAI/gpt-j-6b": "gpt-j-6b",
    "EleutherAI/gpt-neox-20b": "gpt-neox-20b",
    "Llama-3.1-405B": "llama-3.1-405b",
    "Llama-3.1-8B": "llama-3.1-8b",
    "Llama-3.3-70B": "llama-3.3-70b",
    "Qwen/Qwen1.5-7B": "qwen1.5-7b",
    "Qwen/Qwen2-72B": "qwen2-72b",
    "Qwen/Qwen2-7B": "qwen2-7b",
    "Qwen/Qwen3-14B": "qwen3-14b",
    "Qwen/Qwen3-235B-A22B-Instruct-2507": "qwen3-235b-a22b",
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8": "qwen3-235b-a22b",
    "Qwen/Qwen3-235B-A22B-Thinking-2507": "qwen3-235b-a22b",
    "Qwen/Qwen3-235B-A22B-Thinking-2507-FP8": "qwen3-235b-a22b",
    "Qwen/Qwen3-30B-A3B-Instruct-2507": "qwen3-30b-a3b",
    "Qwen/Qwen3-30B-A3B-Thinking-2507": "qwen3-30b-a3b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3-8B": "qwen3-8b",
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": "qwen3-30b-a3b",
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": "qwen3-coder-480b",
    "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8": "qwen3-coder-480b",
    "Qwen3-235B-A22B": "qwen3-235b-a22b",
    "Qwen3-30B-A3B": "qwen3-30b-a3b",
    "Salesforce/codegen2-16B": "codegen2-16b",
    "bigcode/starcoder": "starcoder",
    "bigscience/bloom-7b1": "bloom-7b1",
    "bigscience/mt0-xxl": "mt0-xxl",
    "bloom-176b": "bloom-176b",
    "deepseek-ai/DeepSeek-R1-0528": "deepseek-v3",
    "deepseek-ai/DeepSeek-V3.1": "deepseek-v3",
    "facebook/opt-6.7b": "opt-6.7b",
    "google/flan-t5-xl": "flan-t5-xl",
    "google/flan-t5-xxl": "flan-t5-xxl",
    "google/flan-ul2": "flan-ul2",
    "google/gemma-3-12b-it": "gemma-3-12b",
    "google/gemma-3-27b-it": "gemma-3-27b",
    "huggyllama/llama-7b": "llama-7b",
    "ibm/mpt-7b-instruct2": "mpt-7b",
    "llama-13b": "llama-13b",
    "llama-7b": "llama-7b",
    "llama2-70b": "llama-2-70b",
    "llama2-7b": "llama-2-7b",
    "meta-llama/Llama-2-70b-hf": "llama-2-70b",
    "meta-llama/Llama-2-7b-hf": "llama-2-7b",
    "meta-llama/Llama-3.1-405B-Instruct": "llama-3.1-405b",
    "meta-llama/Llama-3.1-405B-Instruct-FP8": "llama-3.1-405b",
    "meta-llama/Llama-3.1-70B-Instruct": "llama-3.1-70b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "meta-llama/Llama-3.3-70B-Instruct": "llama-3.3-70b",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": "llama-4-maverick",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": "llama-4-scout",
    "meta-llama/Meta-Llama-3-70B": "llama-3-70b",
    "meta-llama/Meta-Llama-3-8B": "llama-3-8b",
    "mistralai/Mistral-7B-v0.1": "mistral-7b",
    "mistralai/Mixtral-8x7B-v0.1": "mixtral-8x7b",
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2": "nemotron-nano-12b-v2",
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": "nemotron-nano-9b-v2",
    "openai/gpt-oss-120b": "gpt-oss-120b",
    "openai/gpt-oss-20b": "gpt-oss-20b",
}
GPU_NAMES = {
    "A10": "a10",
    "A100": "a100-40g",
    "AMD MI250 GPU": "mi250",
    "AMD MI300X GPU": "mi300x",
    "B200": "b200",
    "GB200": "b200",
    "H100": "h100-80g",
    "H200": "h200",
    "Habana Gaudi2": "gaudi2",
    "Intel Max 1550": "max-1550",
    "Intel PVC GPU": "max-1550",
    "Nvidia A100 GPU": "a100-40g",
    "Nvidia GH200 GPU": "gh200-96g",
    "Nvidia H100 GPU": "h100-80g",
    "RTXPRO6000": "rtx-pro-6000",
    "SambaNova SN40L": "sn40l",
    "T4": "t4",
    "V100": "v100-16g",
    "a100": "a100-80g",
    "a100-80gb": "a100-80g",
    "a40": "a40",
    "h100-80gb": "h100-80g",
    "h100-80gb-pcap": "h100-80g",
}


def model_facts(bytes_per_parameter: float = 2.0) -> Mapping[str, ModelFacts]:
    """Returns the facts of every model by name, weights of 16 bits unless a pool says otherwise."""
    return {
        name: ModelFacts(
            name=name,
            n_parameters=total * 1e9,
            n_active_parameters=active * 1e9,
            n_layers=layers,
            hidden_size=hidden,
            n_heads=heads,
            n_kv_heads=kv_heads,
            head_dim=width,
            bytes_per_parameter=bytes_per_parameter,
            max_context_tokens=context,
            source=source,
        )
        for name, (
            total,
            active,
            layers,
            hidden,
            heads,
            kv_heads,
            width,
            context,
            source,
        ) in _MODELS.items()
    }


def gpus() -> Mapping[str, Gpu]:
    """Returns the facts of every GPU by name."""
    return {
        name: Gpu(
            name=name,
            memory_gib=memory,
            fp16_tflops=tflops,
            memory_gb_per_s=bandwidth,
            interconnect_gb_per_s=link,
            source=source,
            as_of=AS_OF,
        )
        for name, (memory, tflops, bandwidth, link, source) in _GPUS.items()
    }
