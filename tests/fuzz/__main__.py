"""``python -m tests.fuzz``: thousands of requests, good and bad, and every check that schemathesis has."""

import argparse
import sys

from tests.fuzz.run import Summary, answers_table, fuzz
from tests.fuzz.target import target


def main() -> int:
    """Fuzz the API without keys and with one; 1 when anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100, help="random cases an operation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["keyless", "keyed"], help="without keys, or with one")
    options = parser.parse_args()
    found: list[Summary] = []
    for name in ("keyless", "keyed"):
        if options.only in (None, name):
            with target(keyed=name == "keyed") as one:
                found.append(fuzz(one, name, cases=options.cases, seed=options.seed))
    print("\n| run | operations | cases | of them taken in | failures | seconds |")
    print("|---|---|---|---|---|---|")
    for one in found:
        print(one.row())
    print("\n".join(["", *answers_table(found)]))
    return int(any(one.failed for one in found))


if __name__ == "__main__":
    sys.exit(main())
