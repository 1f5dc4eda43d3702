"""What the toy study measures, in a module beside it."""

import math
import os
import time

PAUSE = float(os.environ.get("TOY_PAUSE", "0"))


def prepare(context):
    path = context.cache / "base.txt"
    path.write_text("ready", encoding="utf-8")


def power(case, context):
    assert (context.cache / "base.txt").read_text(encoding="utf-8") == "ready"
    time.sleep(PAUSE)
    value = case["base"] ** case["exponent"]
    print("a study may print")
    if case["exponent"] % 13 == 12:
        value = math.inf if case["base"] > 0 else math.nan
    return {"value": value, "error": 0.0, "third": value / 3}
