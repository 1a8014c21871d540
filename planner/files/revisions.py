"""A plan as it was: `REV:path` of a git repository, read like any folder or file.

The files of that path at that revision are copied to a temporary folder, with the profiles that
belong to them, and every fault in them is told by its name in git. Nothing is checked out, the
working tree and the index are not touched, and no link is followed out of the repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from planner.errors import Fault, InputError
from planner.files.text import is_there, shown

PROFILES = "profiles"
MAX_FILES = 10_000
MAX_BYTES = 1_000_000_000
TIMEOUT_S = 120.0
_BLOB, _LINK = "blob", "120000"
_FORM = "name a path, or a git revision and a path of it: main:plans/prod"


@contextmanager
def plan_place(text: str) -> Iterator[Path]:
    """Yields a folder or file as the readers of plans and inputs take it.

    Args:
        text: a path; or `REV:path`, seen from the top of the git repository here, or from the
            working folder where it begins with './', as git has it. What exists is a path.

    Raises:
        InputError: no repository, revision or path of that name; or what the body of the `with`
            raises, its faults named `REV:path/...` where they lie in a revision.
    """
    with _place(text, alone=False) as place:
        yield place


@contextmanager
def file_place(text: str) -> Iterator[Path]:
    """Yields one file as its reader takes it, nothing beside it.

    Args:
        text: a path, or `REV:path`, as plan_place has it.

    Raises:
        InputError: as plan_place does; or it is a folder of the revision.
    """
    with _place(text, alone=True) as place:
        yield place


def repository() -> Path | None:
    """Returns the top folder of the git repository here; None where there is none, or no git."""
    if shutil.which("git") is None:
        return None
    found = _git(["rev-parse", "--show-toplevel"])
    return None if found is None else Path(found.decode("utf-8", "surrogateescape").rstrip("\n"))


def from_top(path: str, top: Path | None) -> str:
    """Returns a path as it is seen from the top of its repository; as it is where it is in none.

    A slash at its end, which tells a folder, stays.
    """
    if top is None:
        return path
    here = Path(os.path.abspath(path))  # not resolved: a link is in the repository by its own name
    if not here.is_relative_to(top):
        return path
    inner = here.relative_to(top).as_posix()
    return ("" if inner == "." else f"{inner}/") if path.endswith("/") else inner


def path_of(text: str, top: Path | None) -> Path:
    """Returns where a path or a `REV:path` lies in the working folder, or would lie."""
    rev, path = _split(text)
    if path is None or _is_windows_path(rev, path) or is_there(Path(text)):
        return Path(text)
    is_from_here = path.startswith(("./", "../")) or top is None
    return Path(path) if is_from_here else Path(os.path.relpath(str(top))) / path


@contextmanager
def _place(text: str, alone: bool) -> Iterator[Path]:
    if is_there(Path(text)):
        yield Path(text)
        return
    rev, path = _split(text)
    if path is None or _is_windows_path(rev, path):
        _refuse_bare_revision(text, "policy.yaml" if alone else "plans/prod")
        yield Path(text)  # its readers say that it is not there
        return
    wanted = _wanted(text, rev, path)
    if alone and not wanted.is_file:
        raise InputError.single(text, "", "is a folder", "name a file")
    with tempfile.TemporaryDirectory(prefix="rb-") as temporary:
        # Two folders further down, so that profiles have a place beside the parent of any path.
        root = Path(temporary) / "at" / "rev"
        root.mkdir(parents=True)
        _copy(wanted, root, alone)
        try:
            yield root / wanted.path
        except InputError as error:
            raise InputError(_renamed(error.faults, root, rev)) from error


def _split(text: str) -> tuple[str, str | None]:
    """Returns revision and path of `REV:path`; no path where there is no colon outside braces."""
    depth = 0
    for k, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if letter == ":" and depth == 0:
            return text[:k], text[k + 1 :]
    return text, None


def _is_windows_path(drive: str, path: str) -> bool:
    r"""Returns whether a text is C:\plans or C:/plans: no path of a revision begins so."""
    return len(drive) == 1 and drive.isalpha() and path.startswith(("\\", "/"))


@dataclass(frozen=True)
class _Entry:
    """One file of a revision."""

    mode: str
    digest: str
    n_bytes: int
    path: str


@dataclass(frozen=True)
class _Wanted:
    """What is to be copied of a revision."""

    text: str  # what the user wrote
    tree: str
    path: str  # of the plan, from the top of the repository; '' is the top itself
    is_file: bool
    prefix: str  # of the working folder, from the top, with a slash at its end


def _wanted(text: str, rev: str, path: str) -> _Wanted:
    """Returns what a text asks for.

    Raises:
        InputError: there is none.
    """
    if not rev or rev.startswith("-") or "\x00" in text:
        named = f"no revision can be named {rev!r}"
        what = named if rev else "there is no revision before the colon"
        raise InputError.single(text, "", what, _FORM)
    asked = _asked(["rev-parse", "--show-prefix"])
    if asked.returncode != 0:
        said = asked.stderr.decode("utf-8", "replace")
        if "safe.directory" in said:
            what = "git does not trust this repository: another user owns it"
            raise InputError.single(text, "", what, "git config --global --add safe.directory DIR")
        what = "no such path, and no git repository here that could have it as a revision"
        raise InputError.single(text, "", what, "correct the path, or run it in the repository")
    top = asked.stdout
    found = _git(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{tree}}"])
    if found is None:
        raise InputError.single(text, "", f"unknown revision {rev}", _to_have_it())
    here, tree = top.decode().rstrip("\n"), found.decode().strip()
    inner = _from_top(text, path, here)
    kind = _git(["cat-file", "-t", f"{tree}:{inner}"])
    if kind is None:
        if module := _submodule(tree, inner):
            fix = f"run it in {module}: git submodule status tells the revision there"
            raise InputError.single(text, "", f"{module} is a repository of its own", fix)
        fix = f"git ls-tree --name-only {rev} lists what is there"
        slashed = inner.replace("\\", "/")
        if slashed != inner and _git(["cat-file", "-t", f"{tree}:{slashed}"]):
            fix = f"did you mean {rev}:{slashed}? Paths of a revision have slashes"
        elif (
            path and not path.startswith("./") and _git(["cat-file", "-t", f"{tree}:{here}{inner}"])
        ):
            fix = f"did you mean {rev}:./{path}? Paths are seen from the top of the repository"
        raise InputError.single(text, "", f"no such path at {rev}", fix)
    return _Wanted(text, tree, inner, kind.strip() == b"blob", here)


def _to_have_it() -> str:
    """Returns how a revision could be known that is not."""
    shallow = _git(["rev-parse", "--is-shallow-repository"])
    if shallow is not None and shallow.strip() == b"true":
        return (
            "this clone has the last commits alone: git fetch --unshallow (fetch-depth: 0 of "
            "actions/checkout, GIT_DEPTH: 0 of GitLab)"
        )
    return "git branch --all and git tag list names; git fetch brings those of others"


def _submodule(tree: str, inner: str) -> str | None:
    """Returns the submodule that a path leads into; None where it leads into none."""
    parts = PurePosixPath(inner).parts
    above = ["/".join(parts[:k]) for k in range(1, len(parts) + 1)]
    for line in (_git(["ls-tree", "-z", "--full-tree", tree, "--", *above]) or b"").split(b"\0"):
        if line.startswith(b"160000 "):
            return line.partition(b"\t")[2].decode("utf-8", "surrogateescape")
    return None


def _from_top(text: str, path: str, prefix: str) -> str:
    """Returns a path of a revision from the top of the repository, '' for the top itself."""
    whole = f"{prefix}{path}" if path.startswith(("./", "../")) or path == "." else path
    parts: list[str] = []
    for part in PurePosixPath(whole).parts:
        if part == ".." and not parts:
            raise InputError.single(text, "", "leads out of the repository", "correct the path")
        if part == "..":
            parts.pop()
        elif part != "/":
            parts.append(part)
    return "/".join(parts)


def _refuse_bare_revision(text: str, example: str) -> None:
    """Raises InputError for a revision without a path."""
    if not text or text.startswith("-") or "\x00" in text or shutil.which("git") is None:
        return
    if _git(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{tree}}"]):
        what = "is a revision, and no path of that name exists"
        raise InputError.single(text, "", what, f"say what of it: {text}:{example}")


# ---- Out of the repository -----------------------------------------------------------------------


def _copy(wanted: _Wanted, root: Path, alone: bool) -> None:
    """Writes the files of a plan at a revision, and its profiles, or one file below a folder."""
    folder = str(PurePosixPath(wanted.path).parent) if wanted.is_file else wanted.path
    folder = "" if folder == "." else folder
    entries = [e for e in _entries(wanted, folder) if not alone or e.path == wanted.path]
    paths = [root / entry.path for entry in entries]
    (root / folder).mkdir(parents=True, exist_ok=True)
    profiles = None if alone else _profiles(wanted, folder)
    if profiles is not None:
        # where find_profiles looks first
        target = (root / folder).parent.parent / PROFILES
        more = _entries(wanted, profiles)
        entries += more
        paths += [target / entry.path[len(profiles) + 1 :] for entry in more]
    _refuse_too_much(wanted, entries)
    for path, content in zip(paths, _contents(wanted, entries), strict=True):
        if content is None:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _profiles(wanted: _Wanted, folder: str) -> str | None:
    """Returns the folder of the profiles of a plan folder: where find_profiles has it."""
    above = PurePosixPath(folder).parts[:-2]
    for place in ("/".join((*above, PROFILES)), f"{wanted.prefix}{PROFILES}"):
        kind = _git(["cat-file", "-t", f"{wanted.tree}:{place}"])
        if kind is not None and kind.strip() == b"tree":
            return place
    return None


def _entries(wanted: _Wanted, folder: str) -> list[_Entry]:
    """Returns the files in a folder of a revision, those in its folders among them.

    Beside a plan.json at the top of a repository, only its own files are.
    """
    recursive = [] if wanted.is_file and not folder else ["-r"]
    where = ["--", f"{folder}/"] if folder else []
    listed = _git(["ls-tree", *recursive, "-z", "-l", "--full-tree", wanted.tree, *where])
    entries = []
    for line in (listed or b"").split(b"\x00"):
        if not line:
            continue
        head, _, name = line.partition(b"\t")
        mode, kind, digest, size = head.decode().split()
        path = name.decode("utf-8", "surrogateescape")
        if kind == _BLOB and ".." not in PurePosixPath(path).parts:
            entries.append(_Entry(mode, digest, int(size), path))
    return entries


def _refuse_too_much(wanted: _Wanted, entries: Sequence[_Entry]) -> None:
    n_bytes = sum(entry.n_bytes for entry in entries)
    if len(entries) > MAX_FILES or n_bytes > MAX_BYTES:
        what = (
            f"{len(entries):,} files of {n_bytes:,} bytes, "
            f"at most {MAX_FILES:,} of {MAX_BYTES:,} are read"
        )
        raise InputError.single(wanted.text, "", what, "name the folder of one plan")


def _contents(wanted: _Wanted, entries: Sequence[_Entry]) -> Iterator[bytes | None]:
    """Yields the content of each file; None of a link to anything but a file of the revision."""
    digests = [_followed(wanted, e) if e.mode == _LINK else e.digest for e in entries]
    lines = "".join(f"{digest}\n" for digest in digests if digest is not None)
    out, at = _git(["cat-file", "--batch"], lines.encode()) or b"", 0
    for entry, digest in zip(entries, digests, strict=True):
        if digest is None:
            yield None
            continue
        end = out.find(b"\n", at)
        head = out[at:end].split() if end >= 0 else []
        if len(head) != 3:  # digest, type, size
            what = f"{entry.path} is not in this clone of the repository"
            raise InputError.single(wanted.text, "", what, "git fetch the whole revision")
        at = end + 1 + int(head[2]) + 1
        yield out[end + 1 : at - 1]


def _followed(wanted: _Wanted, link: _Entry) -> str | None:
    """Returns the digest of the file that a link leads to; None where it is none of the tree."""
    target = (_git(["cat-file", _BLOB, link.digest]) or b"").decode("utf-8", "surrogateescape")
    if not target or target.startswith("/") or "\x00" in target:
        return None
    parts = list(PurePosixPath(link.path).parent.parts)
    for part in PurePosixPath(target).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    listed = _git(["ls-tree", "-z", "--full-tree", wanted.tree, "--", "/".join(parts)]) or b""
    head = listed.partition(b"\t")[0].decode().split()
    return head[2] if len(head) == 3 and head[1] == _BLOB and head[0] != _LINK else None


def _git(arguments: Sequence[str], text: bytes = b"") -> bytes | None:
    """Returns what git says; None where it fails."""
    done = _asked(arguments, text)
    return done.stdout if done.returncode == 0 else None


def _asked(arguments: Sequence[str], text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Returns what becomes of a question to git.

    Raises:
        InputError: there is no git, or it does not come to an end.
    """
    command = ["git", "--no-pager", "--literal-pathspecs", "--no-optional-locks", *arguments]
    try:
        return subprocess.run(
            command, input=text, capture_output=True, check=False, timeout=TIMEOUT_S
        )
    except FileNotFoundError:
        fix = "install git, or name a folder"
        raise InputError.single("git", "", "is not installed, and revisions need it", fix) from None
    except subprocess.TimeoutExpired:
        what = f"did not answer within {TIMEOUT_S:g} s: git {arguments[0]}"
        raise InputError.single("git", "", what, "name a folder instead") from None


def _renamed(faults: Iterable[Fault], root: Path, rev: str) -> list[Fault]:
    """Returns faults with files and texts as they are named in git."""
    found = []
    for f in faults:
        file, field, what, fix = (
            in_git(part, root, rev) for part in (f.file, f.field, f.what, f.fix)
        )
        if what == "file not found" and file.startswith(f"{rev}:"):
            path = file.removeprefix(f"{rev}:")
            fix = f"commit it: git add {path}; git check-ignore -v {path} tells what keeps it out"
        found.append(Fault(file, field, what, fix))
    return found


def in_git(text: str, root: Path, rev: str) -> str:
    """Returns a text with the paths of a copy as they are named in git."""
    beside = {root.parent / PROFILES: f"{rev}:{PROFILES}"}
    beside[root.parent.parent / PROFILES] = f"{rev}:{PROFILES}"
    for folder, name in {root: f"{rev}:", **beside}.items():
        for written in dict.fromkeys((shown(folder), folder.as_posix())):
            if folder == root:
                text = text.replace(f"{written}/", name)
            text = text.replace(written, name)
    return text
