"""`rb profile run`: measures a serving engine, level by level, until its curve is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from planner.cli import run_options as o
from planner.cli.options import Json, Quiet
from planner.errors import ExitCode, Fault, InputError

if TYPE_CHECKING:
    from planner.profile.load.options import SessionSettings
    from planner.profile.load.probe import Probed
    from planner.profile.load.prompts import Lengths
    from planner.profile.load.ramp import Measured
    from planner.profile.load.run import Job, RunResult
    from planner.report.run import RunProgress
    from planner.spec.arrays import FloatArray
    from planner.spec.run import RunSettings


def run(
    url: o.Url,
    model: o.ModelName,
    gpu: o.GpuName,
    pool: o.PoolName = None,
    tensor_parallel: o.TensorParallel = 1,
    api: o.Api = "completions",
    input_tokens: o.InputTokens = 512,
    output_tokens: o.OutputTokens = 128,
    workload: o.WorkloadFile = None,
    max_error_ratio: o.MaxError = 0.1,
    time_budget: o.TimeBudget = "30m",
    loads: o.Loads = None,
    rate_rps: o.Rates = None,
    arrivals: o.Arrivals = "poisson",
    repeats: o.Repeats = 1,
    api_key_env: o.KeyEnv = None,
    max_num_seqs: o.MaxNumSeqs = None,
    seed: o.Seed = 0,
    profiles: o.ProfilesOut = Path("profiles"),
    restart: o.Restart = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measures one replica of an OpenAI-compatible server and writes its profile.

    Finds where it saturates, then measures where the error band is widest, until the band is below
    --max-error-ratio or the time is used. Every finished level is saved at once: Ctrl-C keeps them,
    and the same command goes on.
    Exit 1: the error band is not below --max-error-ratio.

    Example: rb profile run --url http://localhost:8000 --model llama-3.1-8b --gpu h100-sxm-80g
    """
    from planner.profile.load.options import SessionSettings
    from planner.profile.load.pool import pool_name
    from planner.profile.load.probe import checked_url
    from planner.profile.load.run import run as measure

    lengths, trace_s, sha256 = _lengths(workload, arrivals, input_tokens, output_tokens)
    settings = _settings(
        url=checked_url(url),
        model=model,
        gpu=gpu,
        tensor_parallel=tensor_parallel,
        api=api,
        input_tokens=float(lengths.input_tokens.mean()),
        output_tokens=float(lengths.output_tokens.mean()),
        workload_sha256=sha256,
        arrivals=arrivals,
        max_num_seqs=max_num_seqs,
    )
    session = SessionSettings(
        input_tokens=settings.input_tokens,
        output_tokens=settings.output_tokens,
        max_error_ratio=max_error_ratio,
        time_budget_s=o.seconds(time_budget),
        max_num_seqs=max_num_seqs,
        n_repeats=repeats,
        loads=o.numbers(loads),
        rates_rps=o.numbers(rate_rps),
    )
    where = _Where(profiles, pool_name(pool, settings), settings, session)
    kept = where.kept(restart)
    if not quiet:
        where.warn()
    job = _job(settings, session, lengths, trace_s, _key(api_key_env), seed)
    with _follower(session.time_budget_s, len(kept), quiet) as follower:
        result = measure(job, kept, where.save, follower)
    where.tell(result, json, quiet)


@dataclass(frozen=True)
class _Where:
    """The pool that a run measures, and its files."""

    profiles: Path
    name: str
    settings: RunSettings
    session: SessionSettings

    @property
    def folder(self) -> str:
        """Returns the pool's folder."""
        return (self.profiles / self.name).as_posix()

    def kept(self, restart: bool) -> tuple[Measured, ...]:
        """Returns what an earlier call has measured, nothing when all is to be measured anew."""
        from planner.files.profile_run import read_run
        from planner.profile.load.pool import measured_pool
        from planner.profile.load.ramp import Measured

        measured_pool(self.name, self.settings)  # a name that cannot be one is told now
        if restart:
            return ()
        kept = read_run(self.profiles / self.name, self.settings)
        return tuple(Measured(level, point) for level, point in kept.levels)

    def warn(self) -> None:
        """Says what planning will need, before the work: a name may be mistyped."""
        from planner.files.profile_out import unknown_facts
        from planner.profile.load.pool import measured_pool

        for note in unknown_facts(self.profiles, measured_pool(self.name, self.settings)[0]):
            typer.echo(f"note: {note}", err=True)

    def save(self, measured: Sequence[Measured], found: Probed) -> None:
        """Writes all levels so far."""
        from planner.files.profile_out import profile_files
        from planner.files.profile_run import write_run
        from planner.profile.formats.own_csv import render
        from planner.profile.load.pool import measured_pool, seen_max_num_seqs

        most = seen_max_num_seqs(measured, self.session)
        pool, known = measured_pool(self.name, self.settings, found.state, most)
        text = render([m.point for m in measured if m.point is not None])
        files = profile_files(self.profiles, pool, known, text)
        write_run(self.settings, [m.level for m in measured], files)

    def tell(self, result: RunResult, json: bool, quiet: bool) -> None:
        """Shows what the run has found; exit 1 where the error band is too wide."""
        from planner.files.profile_out import read_existing
        from planner.files.write import canonical_json
        from planner.profile.load.pool import measured_pool
        from planner.profile.load.ramp import saturation
        from planner.profile.load.session import error_band_ratio
        from planner.report.console import make_console
        from planner.report.figures import count
        from planner.report.run import RunSummary, render_run, run_data

        there = read_existing(self.profiles, [self.name])
        summary = RunSummary(
            pool=there.pools.get(self.name) or measured_pool(self.name, self.settings)[0],
            measured=result.measured,
            saturation=saturation(result.measured, self.session),
            stop=result.stop,
            band_ratio=error_band_ratio(result.measured, self.session),
            max_error_ratio=self.session.max_error_ratio,
        )
        if json:
            typer.echo(canonical_json(run_data(summary)), nl=False)
        elif not quiet:
            render_run(summary, make_console())
        if not quiet and result.stop is not None:
            kept = count(len(result.measured), "level")
            typer.echo(f"{self.folder} holds {kept}; rb profile show {self.name}", err=True)
        if result.stop is None:
            typer.echo(self._go_on(result), err=True)
        elif summary.is_too_wide:
            typer.echo(f"the error band is not below {self.session.max_error_ratio:.1%}", err=True)
            raise typer.Exit(int(ExitCode.FOUND_WANTING))

    def _go_on(self, result: RunResult) -> str:
        """Returns what is kept of an interrupted run, and how it goes on."""
        from planner.profile.load.session import Stop, next_step
        from planner.report.run import step_words

        plan = next_step(result.measured, self.session, 0.0)
        after = "" if isinstance(plan, Stop) else f" with {step_words(plan.step)}"
        n = len(result.measured)
        kept = f"the {n} finished levels are" if n > 1 else "the finished level is"
        return f"interrupted: {kept} in {self.folder} (incomplete); the same command goes on{after}"


def _settings(**options: object) -> RunSettings:
    """Returns the settings of a run; raises InputError with every option that is wrong."""
    from planner.files.faults import build
    from planner.profile.load.pool import as_options
    from planner.profile.sidecar import OPTIONS
    from planner.spec.run import RunSettings

    faults: list[Fault] = []
    settings = build(RunSettings, options, OPTIONS, faults)
    if settings is None:
        raise InputError(as_options(faults))
    return settings


def _lengths(
    workload: Path | None, arrivals: str, input_tokens: int, output_tokens: int
) -> tuple[Lengths, FloatArray | None, str | None]:
    """Returns the lengths of requests, their times for a trace, and the workload's sha256."""
    from planner.files.profile_run import read_workload
    from planner.profile.load.prompts import Lengths

    if workload is None:
        if arrivals == "trace":
            what = "needs recorded requests, got no file"
            raise InputError.single("--arrivals trace", "", what, "give --workload FILE")
        return Lengths.fixed(input_tokens, output_tokens), None, None
    import numpy as np

    rows, sha256 = read_workload(workload)
    lengths = Lengths(
        np.array([row.input_tokens for row in rows]), np.array([row.output_tokens for row in rows])
    )
    if arrivals != "trace":
        return lengths, None, sha256
    times_s = [row.timestamp_s for row in rows if row.timestamp_s is not None]
    if len(set(times_s)) < 2:
        what = "needs at least two different times, got none or one"
        raise InputError.single(workload.as_posix(), "timestamp_s", what, "add the column")
    return lengths, np.array(times_s), sha256


def _key(variable: str | None) -> str | None:
    """Returns the API key in an environment variable; it goes to the server and nowhere else."""
    import os

    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        what = f"names a variable that is not set, got {variable}"
        raise InputError.single("--api-key-env", "", what, f"export {variable}=...")
    return key


def _job(
    settings: RunSettings,
    session: SessionSettings,
    lengths: Lengths,
    trace_s: FloatArray | None,
    key: str | None,
    seed: int,
) -> Job:
    """Returns what is to be measured."""
    from time import time_ns

    from planner.profile.load.client import Endpoint
    from planner.profile.load.run import Job

    endpoint = Endpoint(settings.url, settings.model, settings.api, key)
    # Other prompts in every call: an engine remembers those that it has had.
    salt = time_ns() % 2**32
    return Job(endpoint, lengths, session, settings.arrivals, trace_s, seed, salt)


def _follower(time_budget_s: float, n_kept: int, quiet: bool) -> RunProgress:
    """Returns who follows the run on stderr."""
    import sys

    from planner.report.console import make_console
    from planner.report.run import RunProgress

    return RunProgress(make_console(sys.stderr), time_budget_s, n_kept, quiet)
