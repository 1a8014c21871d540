"""One function over many arguments, on the machines of a Ray cluster.

Every machine needs the same version of this package installed: functions are sent by name. Ray
takes evaluations elsewhere when a process or a machine is lost.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from planner import __version__
from planner.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from ray import ObjectRef

Argument = TypeVar("Argument")
Result = TypeVar("Result")

OPTION = "--ray"
MOST_LOST = 3
"""Times that one evaluation may be lost with its process or machine."""


class RayWorkers:
    """Processes of a Ray cluster; connected at the beginning of `with`, and only inside it."""

    def __init__(self, address: str) -> None:
        try:
            with _no_warnings():
                import ray  # noqa: F401
        except ImportError as error:
            raise MissingExtra("ray", f"{OPTION} {address}") from error
        self._address = address

    def __enter__(self) -> RayWorkers:
        import ray

        self._connect()
        try:
            self._need_same_version()
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import ray

        ray.shutdown()

    def run(
        self, function: Callable[[Argument], Result], arguments: Sequence[Argument]
    ) -> Iterator[Result]:
        """Yields function(argument) for each argument, in their order, as soon as it is known.

        The first exception in the order of the arguments is raised here; then, and when nobody
        wants further results, calls that still run are broken off, of other lists, too.

        Args:
            function: of one argument; of a module that the machines of the cluster have.
            arguments: whatever the function reads; they and the results can be pickled.

        Raises:
            InputError: an evaluation was lost again and again.
        """
        import ray
        from ray import exceptions

        if not ray.is_initialized():
            self._connect()
        remote = ray.remote(max_retries=MOST_LOST)(function)
        calls: list[ObjectRef[Result]] = [remote.remote(argument) for argument in arguments]
        try:
            while calls:
                try:
                    result: Result = ray.get(calls[0])
                except exceptions.RayTaskError as error:
                    raise error.cause from None
                except exceptions.RayError as error:
                    raise self._lost_again(error) from None
                yield result
                calls.pop(0)
        finally:
            if calls:
                # The cluster ends what a client had asked for that leaves. ray.cancel would do so
                # call by call, but aborts this process where a call ends meanwhile (Ray 2.60).
                ray.shutdown()

    def _connect(self) -> None:
        """Makes this process a client of the cluster.

        Raises:
            InputError: no cluster answers.
        """
        import ray

        try:
            with _no_warnings():
                ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError.single(
                f"{OPTION} {self._address}", "", f"no Ray cluster answers there ({_first(error)})",
                "start one (ray start --head), or give its address as host:port",
            ) from None  # fmt: skip

    def _lost_again(self, error: Exception) -> InputError:
        return InputError.single(
            f"{OPTION} {self._address}", "",
            f"an evaluation was lost {MOST_LOST + 1} times ({_first(error)})",
            "look at the memory of the cluster's machines (ray status)",
        )  # fmt: skip

    def _need_same_version(self) -> None:
        """Raises InputError unless the cluster's machines have this version of the package."""
        try:
            (found,) = self.run(_version_there, [None])
        except (ImportError, RuntimeError):  # the latter is what Ray makes of the former
            found = "none"
        if found != __version__:
            raise InputError.single(
                f"{OPTION} {self._address}", "",
                f"its machines have version {found} of rb-planner, here it is {__version__}",
                "install the same version on every machine of the cluster",
            )  # fmt: skip


def _version_there(_: None) -> str:
    """Returns the version of this package where the call runs."""
    return __version__


def _first(error: Exception) -> str:
    """Returns the first line of what an error says, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Keeps to itself what Ray has to say about its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
