"""`rb serve DIR`: the thin runtime that turns a plan into traffic."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from planner.cli import serve_options as o
from planner.cli.options import Quiet
from planner.errors import Fault, InputError, MissingExtra

if TYPE_CHECKING:
    from pathlib import Path

    from planner.cli.serve_files import Job, Reloader
    from planner.runtime.server import Listening
    from planner.runtime.setup import Setup


def serve(
    folder: o.Folder,
    endpoints: o.Endpoints = None,
    host: o.Host = "127.0.0.1",
    port: o.Port = 8000,
    workers: o.Workers = 1,
    api_key_env: o.KeyEnv = None,
    route_by: o.RouteBy = o.ROUTINGS[0],
    policy: o.Policy = o.POLICIES[0],
    rank_policy: o.RankPolicy = "least_kv",
    admission: o.Admission = True,
    answered_by: o.AnsweredBy = None,
    shadow: o.Shadow = False,
    connect_timeout_s: o.ConnectTimeout = 2.0,
    first_token_timeout_s: o.FirstTokenTimeout = 120.0,
    answer_timeout_s: o.AnswerTimeout = 600.0,
    idle_timeout_s: o.IdleTimeout = 60.0,
    drain_s: o.Drain = 30.0,
    watch: o.Watch = False,
    log: o.Log = None,
    otlp: o.Otlp = None,
    quiet: Quiet = False,
) -> None:
    """Serves a plan: one OpenAI-compatible address in front of all replicas of all its pools.

    Ask for the model rb/auto to be routed by the plan, rb/CLASS to say what class a request is of,
    or a model or pool of the plan to get just that. Also there: /health, /ready, /metrics,
    /rb/status, /rb/drift, POST /rb/feedback.

    A changed routes.json, serving.json, router.npz or endpoints file is taken over as it is (SIGHUP
    does so at once); a broken one is told of, and what was served before goes on.

    Example: rb serve plans/demo --endpoints endpoints.yaml --workers 4
    """
    from planner.cli.serve_files import Job, Reloader, open_port
    from planner.files.serving import ENDPOINTS_FILE
    from planner.runtime.setup import Options

    job = Job(
        folder=folder,
        endpoints=endpoints if endpoints is not None else folder / ENDPOINTS_FILE,
        host=host,
        port=port,
        n_workers=workers,
        options=Options(
            policy=policy,
            rank_policy=rank_policy,
            route_by=route_by,
            shadow=shadow,
            admission=admission,
            answered_by=answered_by,  # type: ignore[arg-type]  # checked against the same names
            connect_timeout_s=connect_timeout_s,
            first_token_timeout_s=first_token_timeout_s,
            answer_timeout_s=answer_timeout_s,
            idle_timeout_s=idle_timeout_s,
        ),
        client_key=_client_key(api_key_env),
        log=log,
        otlp=otlp,
        drain_s=drain_s,
        quiet=quiet,
    )
    _check_options(job, watch)
    reloader = Reloader(job)
    listening = open_port(job)
    # Port 0 becomes the port that was found.
    job = replace(job, port=listening.getsockname()[1])
    code = _run(job, reloader, listening, watch)
    if code:
        raise typer.Exit(code)


def _run(job: Job, reloader: Reloader, listening: Listening, watch: bool) -> int:
    """Returns the exit code of this process alone, or of a parent with its workers."""
    from planner.cli.serve_files import tell

    def began() -> None:
        _tell(job, reloader.setup, typer.echo, tell)

    if job.n_workers == 1 and not watch:
        from secrets import token_hex

        from planner.cli.serve_run import Place, run

        return run(job, reloader, listening, Place(0, token_hex(3)), began)
    listening.close()  # each worker opens the port for itself
    if not hasattr(os, "fork"):
        what = "needs a system that can fork"
        raise InputError.single("--workers", "", what, "serve with one, without --watch")
    from planner.cli.serve_workers import run_workers

    if not watch:
        return run_workers(job, reloader, began, None)
    from planner.cli.serve_watch import watching

    with watching() as screen:
        show = screen.tell
        return run_workers(job, reloader, lambda: _tell(job, reloader.setup, show, show), screen)


def _client_key(variable: str | None) -> str | None:
    """Returns the key that clients must send; raises InputError where it is none."""
    from planner.cli.serve_files import read_key

    if variable is None:
        return None
    key = read_key(variable, "--api-key-env", "")
    if isinstance(key, Fault):
        raise InputError([key])
    return key


def _check_options(job: Job, watch: bool) -> None:
    """Returns when what the options need is there and can be written to; raises InputError."""
    if watch and not sys.stdout.isatty():
        what = "shows a picture that changes, and stdout is no terminal"
        raise InputError.single("--watch", "", what, "ask for /rb/status instead")
    if job.options.shadow and job.log is None:
        what = "has nowhere to write what it would have decided"
        raise InputError.single("--shadow", "", what, "add --log FILE")
    _check_log(job.log)
    if job.otlp is not None:
        _check_extra()


def _check_extra() -> None:
    """Returns when traces can be sent; raises MissingExtra."""
    from importlib.util import find_spec

    wanted = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    try:
        is_there = all(find_spec(name) is not None for name in wanted)
    except ModuleNotFoundError:  # not even the package around it
        is_there = False
    if not is_there:
        raise MissingExtra("otel", "--otlp")


def _check_log(path: Path | None) -> None:
    """Returns when lines can be added to a file, made if missing; raises InputError."""
    from planner.files.serving import append_bytes
    from planner.files.text import shown

    if path is not None:
        try:
            append_bytes(path, b"")
        except OSError as error:
            what = f"cannot be written: {error.strerror}"
            raise InputError.single(shown(path), "", what, "choose another --log") from error


def _tell(job: Job, setup: Setup, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Says where it listens, what is served, and what is missing for all of it."""
    from planner.cli.serve_files import plan_words

    if job.quiet:
        return
    if setup.sheet is None:
        warn(
            "note: there is no serving.json (rb plan writes it): instances are chosen by the "
            "requests they have, nothing is refused, and drift is not judged"
        )
    host = f"[{job.host}]" if ":" in job.host else job.host
    n = f", {job.n_workers} workers" if job.n_workers > 1 else ""
    say(f"serving at http://{host}:{job.port}/v1{n}")
    say(plan_words(setup))
    servers = setup.servers()
    width = max(map(len, servers), default=0)
    for pool, at in servers.items():
        say(f"  {pool:<{width}}  {len(at)}")
