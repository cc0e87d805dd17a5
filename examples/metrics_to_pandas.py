"""A job's metrics as a table: a row a step, a column a series. Needs pandas."""

import argparse
import io
import os

import httpx
import pandas

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--base-url", default=os.environ.get("POLICYSPLIT_BASE_URL", "http://127.0.0.1:8700/v1"))
parser.add_argument("job", help="ftjob-…")
chosen = parser.parse_args()

answer = httpx.get(
    f"{chosen.base_url}/fine_tuning/jobs/{chosen.job}/metrics.csv",
    headers={"authorization": f"Bearer {os.environ.get('POLICYSPLIT_API_KEY', 'none')}"},
)
answer.raise_for_status()
table = pandas.read_csv(io.StringIO(answer.text), index_col="step")
both = table[["train/N/reward", "train/H/reward", "train/N/entropy_nats", "train/H/entropy_nats"]]
print(both.rolling(5, min_periods=1).mean().round(3))
