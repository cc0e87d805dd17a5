"""Whether the hosts of a gang are fit to train a run together: found out before anything of it is loaded."""

from collections.abc import Iterator
from pathlib import Path

from trainer.errors import ClusterFailed
from trainer.gang.rank import Facts

#: Clocks of hosts that have a time service differ by milliseconds; leases bear a few seconds.
CLOCK_SECONDS = 2.0


def check_hosts(driver: Facts, hosts: dict[str, Facts], run_dir: Path) -> None:
    """Raise ClusterFailed, naming the hosts, unless all have what the ranks need and have it alike.

    Args:
        driver: the facts of the driver's host, which has the files and need not have torch: what differs
            among the ranks' own hosts the ranks say (``trainer.distributed.same_code``).
    """
    problems = [problem for name, host in hosts.items() for problem in _problems(name, host, driver, run_dir)]
    if problems:
        raise ClusterFailed("; ".join(dict.fromkeys(problems)))


def clock_warnings(skews: dict[str, float]) -> Iterator[str]:
    """What to tell of clocks, by the seconds that each host's is ahead of the driver's."""
    for name, seconds in skews.items():
        if abs(seconds) > CLOCK_SECONDS:
            side = "ahead of" if seconds > 0 else "behind"
            yield (
                f"The clock of {name} is {abs(seconds):.0f} s {side} that of the worker's host: event "
                "times and leases depend on them, so synchronise both with NTP."
            )


def _problems(name: str, host: Facts, driver: Facts, run_dir: Path) -> Iterator[str]:
    if not host.trains:
        yield f"torch is not installed on {name}: install the extra policysplit[trainer] there"
    for package in ("policysplit", "trainer code"):
        if (its := host.versions[package]) != (ours := driver.versions[package]):
            yield f"{name} has {package} {its}, the worker's host has {ours}: install the same on every host"
            break
    if not host.shared:
        yield (
            f"{name} does not see the run directory {run_dir}: the data directory must be shared, at the "
            "same path, between the worker's host and those of the Ray cluster"
        )
    for path, found in host.paths.items():
        if found is None:
            yield f"{path} is not on {name}: it must exist there at the same path as on the worker's host"
        elif found != driver.paths[path]:
            yield f"{path} on {name} differs from the one on the worker's host: they must be the same"
