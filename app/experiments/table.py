"""A report as CSV: one row an arm and task, with what the method's difference from it is."""

import csv
import io

from app.core.spreadsheets import harmless
from app.core.strict_json import JsonObject
from trainer.statistics.run_results import Analysis

COLUMNS = (
    *("task", "arm", "exploratory", "seeds", "test_mean", "test_low", "test_high", "seed_std", "dev_mean"),
    *("delta_method_minus_arm", "delta_low", "delta_high", "delta_seed_std", "p", "holm_p", "level"),
    *("adjusted_low", "adjusted_high", "adjusted_confidence", "separated", "winner", "withheld"),
    *("these_models_p", "bootstrap_low", "bootstrap_high", "items", "detectable"),
    *("seeds_needed", "items_needed", "seeds_needed_least", "seeds_needed_most"),
    *("samples_generated", "tokens_generated", "tokens_trained", "seconds"),
)


def report_csv(report: Analysis) -> str:
    """The table, with a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    compared = {(one["task"], one["baseline"]): one for one in report["against_method"]}
    for arm in report["arms"]:
        writer.writerow(_row(arm, compared.get((arm["task"], arm["arm"]))))
    return buffer.getvalue()


def _row(arm: JsonObject, against: JsonObject | None) -> JsonObject:
    row = {
        "task": harmless(arm["task"]),
        "arm": harmless(arm["arm"]),
        "exploratory": arm["exploratory"],
        "seeds": len(arm["seeds"]),
    }
    if test := arm["test"]:
        row |= {"test_mean": test["mean"], "test_low": test["low"], "test_high": test["high"]}
        row["seed_std"] = test["std"]
    if arm["dev"]:
        row["dev_mean"] = arm["dev"]["mean"]
    row |= {name: spread["mean"] for name, spread in arm["cost"].items() if spread}
    if against is not None:
        row |= {
            "delta_method_minus_arm": against["delta"],
            "delta_low": against["low"],
            "delta_high": against["high"],
            "delta_seed_std": against["seed_std"],
        }
        row |= {name: against[name] for name in COLUMNS if name in against and name not in row}
    return row
