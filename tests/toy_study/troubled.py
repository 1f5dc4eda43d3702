"""A batched study whose cases raise, kill their worker, or kill it the first time only."""

import os
import signal

from precond_lab.study import Study

BAD = {"raises": 5, "dies": 9, "dies_once": 2, "exits": 11}


def grid(options):
    return [{"trouble": trouble, "number": number} for trouble in ("none", *BAD) for number in range(16)]


def measure(case, context):
    trouble = case["trouble"]
    with (context.cache / f"{trouble}-{case['number']}.txt").open("a", encoding="utf-8") as log:
        log.write("measured\n")
    if case["number"] == BAD.get(trouble):
        match trouble:
            case "raises":
                raise ZeroDivisionError(f"nothing goes into {case['number']}")
            case "exits":
                os._exit(3)
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "dies_once":
                mark = context.cache / "died"
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
    return {"square": case["number"] ** 2}


def measure_batch(cases, context):
    return [measure(case, context) for case in cases]


STUDY = Study(
    name="troubled",
    version=3,
    question="Which cases are guilty?",
    grid=grid,
    measure=measure,
    answer=lambda rows: f"{len(rows)} are innocent.",
    batched=("number",),
    measure_batch=measure_batch,
)
