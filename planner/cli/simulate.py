"""`rb simulate DIR`: tries a plan under its arrivals, bursts and failures included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from planner.cli import simulate_options as o
from planner.cli.options import Json, PlanFolder, ProfilesFolder, Quiet
from planner.cli.progress import progress_bar
from planner.errors import ExitCode

if TYPE_CHECKING:
    from planner.report.simulate import Simulation
    from planner.simulate.rehearse import Rehearsal
    from planner.spec.inputs import Inputs
    from planner.spec.plan import Plan, Routes


def simulate(
    folder: PlanFolder,
    profiles: ProfilesFolder = None,
    trace: o.TraceFile = None,
    rate_factor: o.RateFactor = 1.0,
    duration_s: o.Duration = None,
    seeds: o.Seeds = 5,
    fail: o.Fail = None,
    balance: o.Balance = o.BALANCES[0],
    period: o.Period = None,
    old: o.From = None,
    step_s: o.StepS = 120.0,
    out: o.Out = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tries a plan, request by request, before money is spent.

    Compares what was simulated with what plan.json predicts, for every limit; shows the load of
    every pool, latency over time, and what is answered within the limits for which money.
    With --from, plays the steps that lead here from another plan, as `rb diff` has them.
    Exit 1: a limit is missed: the whole 95 % interval of its figure lies above it.

    Example: rb simulate plans/demo --rate-factor 1.3
    """
    if old is not None:
        from planner.cli.simulate_change import Wanted, simulate_change

        given = any((trace, duration_s, fail, period, out, rate_factor != 1.0))
        wanted = Wanted(old, folder, profiles, seeds, step_s, balance)
        simulate_change(wanted, given, json, quiet)
        return
    from planner.files.inputs import read_inputs
    from planner.files.plans import need_plan_and_routes
    from planner.files.question import read_trace
    from planner.files.records import check_out
    from planner.simulate.failures import parse
    from planner.simulate.rehearse import Options, rehearse
    from planner.simulate.scene import scene_of

    if out is not None:
        check_out(out)
    failures = tuple(parse(fail or ()))
    inputs = read_inputs(folder, profiles)
    options = Options(
        seeds=tuple(range(seeds)),
        duration_s=duration_s,
        rate_factor=rate_factor,
        trace=None if trace is None else read_trace(trace, inputs.question),
        failures=failures,
        balance=balance,
    )
    plan, routes = need_plan_and_routes(folder)
    if not quiet:
        _warn(folder, inputs, plan, routes)
    if inputs.question.periods is not None or period is not None:
        from planner.periods.single import single_period

        inputs, plan, routes = single_period(inputs, plan, period)
    with progress_bar(not quiet and not json, "simulating") as moved:
        scene = scene_of(inputs, None if plan.cascades else ())
        done = rehearse(scene, plan, routes, options, lambda n, of: moved(n, of, "runs"))
    if out is not None:
        _write(out, done)
    _tell(plan, done, json, quiet)
    if out is not None and not quiet:
        typer.echo(f"wrote {out.as_posix()}", err=json)
    if done.simulated.missed:
        raise typer.Exit(int(ExitCode.FOUND_WANTING))


def _warn(folder: Path, inputs: Inputs, plan: Plan, routes: Routes) -> None:
    """Says where a plan is not of today's inputs (§7), or its routing table not of this plan."""
    from planner.files.plans import PLAN_FILE, ROUTES_FILE, plan_hash
    from planner.files.text import shown
    from planner.spec.whole import changed_inputs

    changed = changed_inputs(plan.provenance.inputs, inputs.hashes)
    if changed:
        others = f"{', '.join(changed[:3])}{' and more' if len(changed) > 3 else ''}"
        what = f"the plan was made of other inputs than today's ({others})"
        typer.echo(f"warning: {shown(folder / PLAN_FILE)}: {what}; see rb check", err=True)
    if routes.plan_hash != plan_hash(plan):
        what = f"is not of this {PLAN_FILE}; see rb check"
        typer.echo(f"warning: {shown(folder / ROUTES_FILE)}: {what}", err=True)


def _write(out: Path, done: Rehearsal) -> None:
    """Writes the records of every run, one below the other."""
    from planner.files.records import write_records
    from planner.simulate.records import columns

    runs = zip(done.records, done.simulated.seeds, strict=True)
    write_records(out, (columns(records, seed) for records, seed in runs))


def _tell(plan: Plan, done: Rehearsal, json: bool, quiet: bool) -> None:
    """Shows what was simulated, as text or as data."""
    from planner.files.write import canonical_json
    from planner.report.console import make_console
    from planner.report.simulate import missed_words, render_simulation, simulation_data

    if json:
        typer.echo(canonical_json(simulation_data(_simulation(plan, done))), nl=False)
    elif not quiet:
        render_simulation(_simulation(plan, done), make_console())
    else:
        for words in missed_words(plan, done.simulated):
            typer.echo(words)


def _simulation(plan: Plan, done: Rehearsal) -> Simulation:
    from planner.report.simulate import Simulation
    from planner.simulate.figures import every_figure
    from planner.simulate.series import time_series

    first, window = done.records[0], done.window
    until_ps = max(window.end_ps, int(first.arrived_ps[-1]) if first.n_requests else 0)
    return Simulation(
        plan,
        done.simulated,
        every_figure(done.records, window),
        time_series(first, done.usages[0], until_ps),
    )
