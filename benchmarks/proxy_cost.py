"""What `rb serve` costs beside nginx, vllm-router and LiteLLM, in one run, on one core each.

    python benchmarks/proxy_cost.py [--passes 5] [--only rb,nginx] [--vllm-router PATH]
        [--litellm PATH]

Needs nginx and wrk on the machine, uvloop for `rb` as in the extra `fast`, and the commands of

    python3.11 -m venv r && r/bin/pip install vllm-router==0.1.17
    python3.11 -m venv l && l/bin/pip install 'litellm[proxy]'

The proxy has core 0; four upstreams (proxy_load.py) and the load have core 1. The passes go
through all proxies in turn, so that what the machine does to one it does to all; ratios are of
medians. `rb` does all of its work here: the plan's shares, the predicted delay of every instance,
the ledger, health, metrics, usage, admission; LiteLLM runs without keys. Measured in each pass:

- requests/s, not streamed, 32 connections, 1 kB in and out (wrk), and CPU per request;
- streamed chunks/s with 256 streams at an inter-token time of 2 ms, and CPU per chunk;
- added time to first token (p50) at 100, 200 and 400 streams/s, against no proxy in the same pass;
once: start to the first answer, memory loaded, upstream connections against peak concurrency, how
soon a cancel reaches the upstream before and after the first byte, growth on an unread stream.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter_ns, sleep

HERE = Path(__file__).parent
LOAD = HERE / "proxy_load.py"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
N_UPSTREAMS = 4
MODEL = "m"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass
class Target:
    """A way to the upstreams: the command that starts it on a port, and the model's name there."""

    name: str
    command: Sequence[str]
    port: int
    model: str = MODEL
    process: subprocess.Popen | None = None
    start_s: float = 0.0

    def start(self, log: Path) -> None:
        start = monotonic()
        with log.open("wb") as out:
            # An installed program has its byte code: without it each start would compile anew.
            self.process = subprocess.Popen(
                ["taskset", "-c", "0", *self.command], stdout=out, stderr=out, env=ENVIRONMENT
            )
        while not self.answers():
            if monotonic() - start > 90 or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} did not start:\n{log.read_text()[-2000:]}")
            sleep(0.005)
        self.start_s = monotonic() - start

    def answers(self) -> bool:
        body = json.dumps({"model": self.model, "messages": [{"role": "user", "content": "a"}]})
        return post(self.port, "/v1/chat/completions", body) == 200

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid in family(self.process.pid)) if self.process else 0.0

    def rss_mb(self) -> float:
        return sum(rss_mb(pid) for pid in family(self.process.pid)) if self.process else 0.0


def post(port: int, path: str, body: str) -> int:
    url, headers = f"http://127.0.0.1:{port}{path}", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def control(port: int, **asked: object) -> dict:
    url = f"http://127.0.0.1:{port}/control"
    with urllib.request.urlopen(url, json.dumps(asked).encode(), timeout=5) as answer:
        return json.load(answer)


def family(pid: int) -> list[int]:
    """Returns a process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += family(int(child))
    return found


def cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return 0.0


def rss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


# ---- The proxies ---------------------------------------------------------------------------------


def nginx(folder: Path, upstreams: Sequence[int]) -> Target:
    port = free_port()
    servers = "".join(f"server 127.0.0.1:{p};" for p in upstreams)
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "events { worker_connections 4096; }\n"
        f"http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};\n"
        f"fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};\n"
        f"upstream engines {{ least_conn; {servers} keepalive 1024; }}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=2048; keepalive_requests 10000000;\n"
        "location / { proxy_pass http://engines; proxy_http_version 1.1; proxy_buffering off;\n"
        'proxy_set_header Connection ""; } } }\n'
    )
    return Target("nginx", ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], port)


def vllm_router(path: str, upstreams: Sequence[int]) -> Target:
    port = free_port()
    urls = [f"http://127.0.0.1:{p}" for p in upstreams]
    command = [path, "--host", "127.0.0.1", "--port", str(port), "--worker-urls", *urls]
    command += ["--policy", "power_of_two", "--prometheus-host", "127.0.0.1"]
    return Target("vllm-router", [*command, "--prometheus-port", str(free_port())], port)


def litellm(path: str, folder: Path, upstreams: Sequence[int]) -> Target:
    port = free_port()
    models = "".join(
        f"  - model_name: {MODEL}\n    litellm_params: {{model: openai/{MODEL}, "
        f"api_base: 'http://127.0.0.1:{p}/v1', api_key: sk-none}}\n"
        for p in upstreams
    )
    open_to_all = "general_settings: {dangerously_permit_weak_or_unset_master_key: true}\n"
    (folder / "litellm.yaml").write_text(f"model_list:\n{models}{open_to_all}")
    command = [path, "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1"]
    return Target("litellm", [*command, "--port", str(port), "--num_workers", "1"], port)


def rb(folder: Path, upstreams: Sequence[int]) -> Target:
    """Returns `rb serve` of a plan with two pools of two replicas, a class, and a latency limit."""
    port = free_port()
    plan = folder / "plan"
    plan.mkdir()
    shares = [{"pool": "first", "share": 0.6}, {"pool": "second", "share": 0.4}]
    plan_hash = "0" * 64
    routes = {
        "version": 1,
        "classes": {"chat": shares},
        "load_prices": {},
        "fallback": {"chat": ["first", "second"]},
        "plan_hash": plan_hash,
    }
    (plan / "routes.json").write_text(json.dumps(routes))
    (plan / "serving.json").write_text(json.dumps(sheet(plan_hash)))
    urls = [f"    - {{url: 'http://127.0.0.1:{p}', served_model_name: {MODEL}}}" for p in upstreams]
    lines = ["first:", *urls[:2], "second:", *urls[2:]]
    (folder / "endpoints.yaml").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "planner", "serve", str(plan), "--host", "127.0.0.1"]
    command += ["--endpoints", str(folder / "endpoints.yaml"), "--port", str(port)]
    return Target("rb", command, port, "rb/auto")


def sheet(plan_hash: str) -> dict:
    """Returns what `rb plan` would say of two pools that are never full."""
    latency = {"metric": "e2e", "statistic": "p95"}
    pool = {
        "model_name": MODEL,
        "n_replicas": N_UPSTREAMS // 2,
        "usd_per_h": 2.0,
        "max_num_seqs": 1024,
        "max_num_batched_tokens": 8192,
        "kv_capacity_tokens": 4_000_000,
        "steps": {
            "n": [0, 1, 64, 1024],
            "decode_ms": [1.0, 1.0, 1.5, 4.0],
            "context_token_ms": [0.0, 0.0, 0.0, 0.0],
        },
        "prompt_token_ms": 0.01,
        "request_ms": 1.0,
        "low_ratio": 0.8,
        "high_ratio": 1.25,
        "utilisation_ratio": 0.5,
        "max_load_ratio": 1024.0,
        "rate_rps": 1000.0,
    }
    answer = {
        "input_tokens": 200.0,
        "output_tokens": 50.0,
        "quality": 0.8,
        "work_s": 0.01,
        "work_s_per_input_token": 0.00001,
        "work_s_per_output_token": 0.0001,
    }
    chat = {
        "rate_rps": 2000.0,
        "mean_rate_rps": 2000.0,
        "priority": 1,
        "input_tokens": 200.0,
        "cached_input_ratio": 0.0,
        "limits": [latency | {"at_most_ms": 60000.0}],
        "quality": 0.8,
        "latency": [latency | {"ms": 500.0, "low_ms": 400.0, "high_ms": 600.0}],
        "answers": {"first": answer, "second": answer},
    }
    return {
        "version": 1,
        "plan_hash": plan_hash,
        "title": "proxy cost",
        "headroom_ratio": 0.1,
        "arrivals": "poisson",
        "arrival_cv": 1.0,
        "quality": 0.8,
        "limits": [],
        "latency": [],
        "delay_price_per_s": 0.0,
        "pools": {"first": pool, "second": pool},
        "classes": {"chat": chat},
    }


# ---- What is measured ----------------------------------------------------------------------------


def on_core_1(*command: str) -> str:
    done = subprocess.run(
        ["taskset", "-c", "1", *command], capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])}: {done.stderr[-2000:]}")
    return done.stdout


def streams(kind: str, target: Target, amount: float, n_chunks: int, seconds: float) -> dict:
    """Returns what the streaming load saw, with the CPU seconds that the proxy spent."""
    before_s = target.cpu_s()
    asked = [str(target.port), target.model, f"{amount:g}", str(n_chunks), f"{seconds:g}"]
    found = json.loads(on_core_1(sys.executable, str(LOAD), kind, *asked))
    return found | {"cpu_s": target.cpu_s() - before_s}


def requests_per_s(target: Target, folder: Path, seconds: int) -> dict[str, float]:
    """Returns requests/s as wrk counts them, and per CPU second of the proxy."""
    body = json.dumps(
        {"model": target.model, "messages": [{"role": "user", "content": "word " * 180}]}
    )
    script = folder / f"{target.name}.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{body}'\n"
        "wrk.headers['Content-Type'] = 'application/json'\n"
        "done = function(s, l, r)\n  io.write(string.format('RESULT %d %d %d\\n', s.requests, "
        "s.duration, s.errors.status + s.errors.read + s.errors.timeout + s.errors.connect))\nend\n"
    )
    before_s = target.cpu_s()
    url = f"http://127.0.0.1:{target.port}/v1/chat/completions"
    said = on_core_1("wrk", "-t1", "-c32", f"-d{seconds}s", "-s", str(script), url)
    spent_s = target.cpu_s() - before_s
    line = next(line for line in said.splitlines() if line.startswith("RESULT"))
    n, microseconds, n_errors = map(int, line.split()[1:])
    return {
        "requests_per_s": n / (microseconds / 1e6),
        "requests_per_cpu_s": n / spent_s if spent_s else float("nan"),
        "n_errors": n_errors,
    }


def one_pass(target: Target, folder: Path, upstreams: Sequence[int]) -> dict[str, float]:
    """Returns the figures of one pass of one proxy; `direct` is measured on an upstream itself."""
    is_slow = target.name == "litellm"
    for port in upstreams:
        control(port, ttft_s=0.02, itl_s=0.005)
    found = {}
    for rate, n_chunks in ((100, 50), (200, 30), (400, 30)):
        if not is_slow:
            seen = streams("open", target, rate, n_chunks, 3)
            found[f"ttft_ms_{rate}"] = seen["ttft_ms_p50"]
            found[f"errors_{rate}"] = seen["n_errors"]
    for port in upstreams:
        control(port, ttft_s=0.02, itl_s=0.002)
    seen = streams("closed", target, 16 if is_slow else 256, 200, 3)
    found["chunks_per_s"] = seen["chunks_per_s"]
    found["us_per_chunk"] = 1e6 * seen["cpu_s"] / max(seen["n_chunks"], 1)
    if target.name != "direct":
        found |= requests_per_s(target, folder, 4)
        found["rss_mb"] = target.rss_mb()
    return found


def cancelled_ms(target: Target, upstreams: Sequence[int], after_first: bool) -> float:
    """Returns how long after a client has left the upstream notices, ms."""
    for port in upstreams:
        control(port, ttft_s=0.02 if after_first else 5.0, itl_s=0.005, forget=True)
    with socket.create_connection(("127.0.0.1", target.port)) as client:
        sys.path.insert(0, str(HERE))
        from proxy_load import request_of

        client.sendall(request_of(target.port, target.model, 100_000))
        if after_first:
            client.recv(4096)
        sleep(0.3)
        left_ns = perf_counter_ns()
    for _ in range(200):
        sleep(0.01)
        seen = [ns for port in upstreams for ns in control(port)["cancelled_ns"]]
        if seen:
            return (min(seen) - left_ns) / 1e6
    return float("inf")


def unread_growth_mb(target: Target, upstreams: Sequence[int]) -> float:
    """Returns by how much memory grows while a client does not read its stream, MB."""
    for port in upstreams:
        control(port, ttft_s=0.0, itl_s=0.0)
    before = target.rss_mb()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", target.port))
        from proxy_load import request_of

        client.sendall(request_of(target.port, target.model, 200_000))
        sleep(4)
        grown = target.rss_mb() - before
    for port in upstreams:
        control(port, ttft_s=0.02, itl_s=0.005)
    return grown


def connections(target: Target, upstreams: Sequence[int]) -> tuple[int, int]:
    """Returns upstream connections opened during a load, and its concurrency (32 by wrk)."""
    for port in upstreams:
        control(port, forget=True)
    with tempfile.TemporaryDirectory() as folder:
        requests_per_s(target, Path(folder), 2)
    return sum(control(port)["n_connections"] - 1 for port in upstreams), 32


# ---- The run -------------------------------------------------------------------------------------


def measure(targets: Sequence[Target], folder: Path, upstreams: Sequence[int], n: int) -> dict:
    """Returns figures by proxy and pass."""
    figures: dict[str, list[dict[str, float]]] = {t.name: [] for t in targets}
    for k in range(n):
        for target in targets:
            figures[target.name].append(one_pass(target, folder, upstreams))
            print(f"pass {k + 1}: {target.name}", file=sys.stderr)
    return figures


def show(figures: dict[str, list[dict[str, float]]]) -> None:
    median = {
        name: {key: statistics.median(p[key] for p in passes) for key in passes[0]}
        for name, passes in figures.items()
    }
    keys = [
        "requests_per_s", "requests_per_cpu_s", "chunks_per_s", "us_per_chunk", "ttft_ms_100",
        "ttft_ms_200", "ttft_ms_400", "rss_mb",
    ]  # fmt: skip
    print(f"{'median':14}" + "".join(f"{key:>20}" for key in keys))
    for name, found in median.items():
        print(f"{name:14}" + "".join(f"{found.get(key, float('nan')):20.2f}" for key in keys))
    for other in ("nginx", "vllm-router", "litellm"):
        if other in median and "rb" in median:
            for key in ("requests_per_s", "requests_per_cpu_s", "chunks_per_s", "us_per_chunk"):
                each = [a[key] / b[key] for a, b in zip(figures["rb"], figures[other], strict=True)]
                print(
                    f"rb / {other:12} {key:20} {median['rb'][key] / median[other][key]:8.3f}  "
                    f"passes {min(each):.3f} to {max(each):.3f}"
                )
    for rate in (100, 200, 400):
        for name, passes in figures.items():
            if name in {"direct", "litellm"}:
                continue
            pairs = zip(passes, figures["direct"], strict=True)
            added = sorted(p[f"ttft_ms_{rate}"] - d[f"ttft_ms_{rate}"] for p, d in pairs)
            print(
                f"added TTFT p50 at {rate}/s  {name:12} {statistics.median(added):7.3f} ms  "
                f"passes {added[0]:.3f} to {added[-1]:.3f}"
            )
    for name, passes in figures.items():
        n_errors = sum(v for p in passes for key, v in p.items() if "errors" in key)
        print(f"errors: {name} {n_errors:g}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--vllm-router", default=shutil.which("vllm-router"))
    parser.add_argument("--litellm", default=shutil.which("litellm"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready = folder / "upstreams.json"
        upstream = subprocess.Popen(
            ["taskset", "-c", "1", sys.executable, str(LOAD), "upstream", ready, str(N_UPSTREAMS)]
        )
        targets: list[Target] = []
        try:
            while not ready.exists():
                sleep(0.05)
            sleep(0.2)
            ports = json.loads(ready.read_text())
            targets = [Target("direct", [], ports[0]), *made(asked, folder, ports)]
            for target in targets[1:]:
                target.start(folder / f"{target.name}.log")
                print(f"start to first answer: {target.name} {target.start_s:.3f} s", flush=True)
            figures = measure(targets, folder, ports, asked.passes)
            show(figures)
            for target in targets[1:]:
                print(
                    f"{target.name:12} cancel before the first byte "
                    f"{cancelled_ms(target, ports, False):7.1f} ms, after it "
                    f"{cancelled_ms(target, ports, True):7.1f} ms; unread stream "
                    f"{unread_growth_mb(target, ports):+.1f} MB; connections opened "
                    "{} at concurrency {}".format(*connections(target, ports)),
                    flush=True,
                )
        finally:
            for target in targets[1:]:
                target.stop()
            upstream.kill()
            upstream.wait()


def made(asked: argparse.Namespace, folder: Path, ports: Sequence[int]) -> Iterator[Target]:
    """Yields the proxies that are there and wanted."""
    wanted = set(asked.only.split(",")) if asked.only else {"nginx", "vllm-router", "litellm", "rb"}
    if "nginx" in wanted and shutil.which("nginx"):
        yield nginx(folder, ports)
    if "vllm-router" in wanted and asked.vllm_router:
        yield vllm_router(asked.vllm_router, ports)
    if "litellm" in wanted and asked.litellm:
        yield litellm(asked.litellm, folder, ports)
    if "rb" in wanted:
        yield rb(folder, ports)


if __name__ == "__main__":
    main()
