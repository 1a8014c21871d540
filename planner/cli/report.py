"""`rb report DIR`: a plan as one page that explains it, or one of its drawings as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.options import PlanFolder, ProfilesFolder, Quiet
from planner.cli.progress import working
from planner.errors import Fault, InputError

if TYPE_CHECKING:
    from planner.report.drawing.marks import Drawing
    from planner.report.page.subject import Subject

PAGE_FILE = "report.html"
DATA = frozenset({".json", ".yaml", ".yml", ".csv", ".jsonl"})

Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help=f"Where to. Default: {PAGE_FILE} in DIR."),
]
Picture = Annotated[
    str | None,
    typer.Option("--png", metavar="FIGURE", help="One drawing of --list instead, as a PNG."),
]
Dark = Annotated[bool, typer.Option("--dark", help="With --png: light marks on a dark ground.")]
Names = Annotated[bool, typer.Option("--list", help="Say which drawings there are, draw none.")]


def report(
    folder: PlanFolder,
    out: Out = None,
    png: Picture = None,
    dark: Dark = False,
    names: Names = False,
    profiles: ProfilesFolder = None,
    quiet: Quiet = False,
) -> None:
    """Explains a plan on one page that needs no network: for whoever pays, and whoever asks why.

    What to rent, where traffic goes, the limits, what else could be had, what more would buy, and
    where every figure comes from. The question and the profiles are used where they can be read.

    Example: rb report plans/demo --out demo.html
    """
    place = folder.parent if folder.suffix == ".json" else folder
    if dark and png is None and not names:
        fix = "add --png FIGURE; a page is light or dark as its reader wants it"
        raise InputError([Fault("--dark", "", "is about a drawing", fix)])
    subject = _subject(folder, place, profiles)
    if names:
        _list(subject)
    elif png is not None:
        _write_png(subject, png, _no_data(out or place / f"{png}.png"), dark, quiet)
    else:
        _write_page(subject, _no_data(out or place / PAGE_FILE), quiet)


def _no_data(path: Path) -> Path:
    """Returns where to write, unless that is a file which people or `rb` have written as data."""
    if path.suffix.lower() in DATA and path.is_file():
        fix = f"name another file, such as {path.with_suffix('.html').name}"
        raise InputError([Fault("--out", "", f"would overwrite {path.as_posix()}", fix)])
    return path


def _subject(folder: Path, place: Path, profiles: Path | None) -> Subject:
    """Returns the plan, with its inputs where they can be read."""
    from planner.files.inputs import read_inputs
    from planner.files.plans import need_plan
    from planner.report.page.subject import subject_of

    plan = need_plan(folder)
    try:
        inputs = read_inputs(place, profiles)
    except InputError as error:
        return subject_of(plan, None, error.faults)
    return subject_of(plan, inputs)


def _write_page(subject: Subject, path: Path, quiet: bool) -> None:
    from planner.files.write import check_writable, write_text
    from planner.report.page.assemble import page

    check_writable(path)
    if subject.faults and not quiet:
        typer.echo(f"note: {_why_less(subject)}", err=True)
    with working(not quiet, "drawing the page"):
        text = page(subject)
    write_text(path, text)
    if not quiet:
        typer.echo(f"wrote {path.as_posix()} ({len(text.encode()) / 1000:,.0f} kB)")


def _why_less(subject: Subject) -> str:
    fault = subject.faults[0]
    return f"the page says less, the inputs cannot be read: {fault.file}: {fault.what}"


def _write_png(subject: Subject, name: str, path: Path, dark: bool, quiet: bool) -> None:
    from planner.files.write import check_writable, write_bytes
    from planner.report.drawing.png import to_png

    drawing = _drawing(subject, name)
    check_writable(path)
    write_bytes(path, to_png(drawing, dark=dark))
    if not quiet:
        typer.echo(f"wrote {path.as_posix()}")


def _drawing(subject: Subject, name: str) -> Drawing:
    """Returns a drawing by its name.

    Raises:
        InputError: there is none, or this plan has nothing to show in it.
    """
    from planner.files.faults import unknown_name
    from planner.report.figure.words import WIDE
    from planner.report.page.pictures import pictures

    known = pictures(subject)
    if name not in known:
        raise InputError([unknown_name("--png", "FIGURE", name, tuple(known), "figure")])
    drawn = known[name].draw(WIDE)
    if drawn is None:
        what = f"this plan has nothing to show in {name}"
        fix = "rb report DIR --list names the drawings that it has"
        raise InputError([Fault("--png", "FIGURE", what, fix)])
    return drawn


def _list(subject: Subject) -> None:
    from planner.report.console import make_console, show, table
    from planner.report.page.pictures import pictures

    made = table(["figure", "what it shows"], [])
    for name, each in pictures(subject).items():
        made.add_row("", name, each.about)
    show([made], make_console())
