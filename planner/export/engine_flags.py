"""The command lines of the engines: what a plan asks of one replica, in their own words.

Every flag stands for something that the plan or export.yaml says; what neither says is left to the
engine. The defaults that are written out are those on which the plan's arithmetic rests.

    of the plan                      vLLM                        SGLang
    tensor, pipeline, data parallel  --tensor-parallel-size ...  --tp-size --pp-size --dp-size
    sequences in a batch, per rank   --max-num-seqs              --max-running-requests
    tokens in a step, per rank       --max-num-batched-tokens    --chunked-prefill-size
    tokens of a request              --max-model-len             --context-length
    KV precision                     --kv-cache-dtype            --kv-cache-dtype
    memory                           --gpu-memory-utilization    --mem-fraction-static
    weights, precision               --dtype, --quantization     --dtype, --quantization

vLLM's memory ratio holds everything; SGLang's holds weights and cache only, so what
latency/memory.py reserves for activations is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence

from planner.export.fleet import Engine
from planner.latency.memory import ACTIVATION_GIB

RENDEZVOUS_PORT = 29_500
"""Where the machines of one SGLang replica find each other."""
_DTYPES = {"bfloat16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def vllm_args(engine: Engine, host: str = "0.0.0.0") -> list[str]:
    """Returns the arguments of `vllm serve` for one replica, the weights first."""
    args = [engine.weights, "--served-model-name", engine.served_model_name]
    args += [name for name in engine.served_aliases if name != engine.served_model_name]
    args += [*_said("--host", host), *_said("--port", engine.port)]
    return [*args, *vllm_flags(engine)]


def vllm_flags(engine: Engine) -> list[str]:
    """Returns the arguments of vLLM for one replica without its weights, names and address."""
    args = [*_said("--revision", engine.revision)]
    args += ["--trust-remote-code"] if engine.trust_remote_code else []
    args += _said("--tensor-parallel-size", engine.tensor_parallel)
    args += _beyond_one("--pipeline-parallel-size", engine.pipeline_parallel)
    args += _beyond_one("--data-parallel-size", engine.data_parallel)
    args += _said("--dtype", _DTYPES.get(engine.weight_precision or ""))
    args += _said("--quantization", engine.quantization)
    args += _said("--kv-cache-dtype", "fp8" if engine.kv_precision == "fp8" else "auto")
    args += _said("--gpu-memory-utilization", engine.gpu_memory_ratio)
    args += _said("--max-model-len", engine.max_model_len)
    args += _said("--max-num-seqs", engine.max_num_seqs)
    args += _said("--max-num-batched-tokens", engine.max_num_batched_tokens)
    args += ["--enable-prefix-caching"] if engine.prefix_caching else []
    return [*args, *engine.extra_args]


def sglang_args(engine: Engine, host: str = "0.0.0.0") -> list[str]:
    """Returns the arguments of `python3 -m sglang.launch_server` for one replica.

    Its prefix cache is on unless told otherwise, so there is nothing to say where a plan counts on
    it; and it answers to any name, so that aliases need none either.
    """
    args = [*_said("--model-path", engine.weights)]
    args += _said("--served-model-name", engine.served_model_name)
    args += [*_said("--host", host), *_said("--port", engine.port)]
    args += _said("--revision", engine.revision)
    args += ["--trust-remote-code"] if engine.trust_remote_code else []
    args += _said("--tp-size", engine.tensor_parallel)
    args += _beyond_one("--pp-size", engine.pipeline_parallel)
    args += _beyond_one("--dp-size", engine.data_parallel)
    args += _said("--dtype", _DTYPES.get(engine.weight_precision or ""))
    args += _said("--quantization", engine.quantization)
    args += _said("--kv-cache-dtype", "fp8_e4m3" if engine.kv_precision == "fp8" else "auto")
    args += _said("--mem-fraction-static", static_memory_ratio(engine))
    args += _said("--context-length", engine.max_model_len)
    args += _said("--max-running-requests", engine.max_num_seqs)
    args += _said("--chunked-prefill-size", engine.max_num_batched_tokens)
    return ["--enable-metrics", *args, *engine.extra_args]


def serve_command(engine: Engine) -> list[str]:
    """Returns the whole command that starts one replica, as a list of words."""
    if engine.engine == "sglang":
        return ["python3", "-m", "sglang.launch_server", *sglang_args(engine)]
    return ["vllm", "serve", *vllm_args(engine)]


def container_args(engine: Engine) -> tuple[list[str], list[str]]:
    """Returns entry point and arguments of the engine's container."""
    words = serve_command(engine)
    n = 3 if engine.engine == "sglang" else 2
    return words[:n], words[n:]


def node_args(engine: Engine, n_nodes: int, node_rank: int, master: str) -> list[str]:
    """Returns what the part of a replica on one of its machines is told beside; [] for one machine.

    Args:
        engine: whose replica it is.
        n_nodes: machines that the replica lies on.
        node_rank: of this one; the first, 0, is asked by clients.
        master: name or address of that first one.
    """
    if n_nodes == 1:
        return []
    args = ["--nnodes", str(n_nodes), "--node-rank", str(node_rank)]
    if engine.engine == "sglang":
        return [*args, "--dist-init-addr", f"{master}:{RENDEZVOUS_PORT}"]
    return [*args, "--master-addr", master, *(["--headless"] if node_rank > 0 else [])]


def environment(engine: Engine) -> dict[str, str]:
    """Returns the environment variables of one replica, tokens apart.

    Where it shares its GPUs, CUDA's MPS keeps it to its part of their compute, if that is running.
    """
    if engine.gpu_compute_ratio is None or engine.maker != "nvidia":
        return dict(engine.env)
    percent = max(round(100 * engine.gpu_compute_ratio), 1)
    return {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(percent), **engine.env}


def key_settings(engine: Engine, said: str) -> tuple[dict[str, str], list[str]]:
    """Returns the environment and the arguments that make a replica ask its clients for a key.

    Both are empty where endpoints.yaml names no key. vLLM finds it in its environment, where a list
    of processes does not show it; SGLang takes it as an argument only. Neither asks for it at
    /health and /metrics.

    Args:
        engine: whose replica it is.
        said: what stands for the key in the file, e.g. "$NAME"; the key itself never does.
    """
    if engine.api_key_env is None:
        return {}, []
    return ({}, ["--api-key", said]) if engine.engine == "sglang" else ({"VLLM_API_KEY": said}, [])


def static_memory_ratio(engine: Engine) -> float:
    """Returns the part of a GPU's memory for weights and KV cache, without activations."""
    return round(max(engine.gpu_memory_ratio - ACTIVATION_GIB / engine.gpu_memory_gib, 0.05), 4)


def _said(flag: str, value: str | float | None) -> Sequence[str]:
    return () if value is None else (flag, f"{value:g}" if isinstance(value, float) else str(value))


def _beyond_one(flag: str, value: int) -> Sequence[str]:
    return (flag, str(value)) if value > 1 else ()
