"""A study without JAX for the tests of the runner: exact figures, and cases that misbehave on purpose."""

import math
import os

from precond_lab.study import Claim, Figure, Judgement, Options, Status, Study

from . import measure


def grid(options: Options):
    size = 30 if options.quick else 120
    if options.data is not None and not os.path.exists(os.path.join(options.data, "good")):
        raise ValueError(f"{options.data} holds no file named 'good'")
    return [{"base": base, "exponent": n} for base in (0.5, 3.0, -1.25) for n in range(size // 3)]


def _draw(figure, table):
    axes = figure.subplots()
    axes.plot([row["exponent"] for row in table], [row["value"] for row in table], "o")


def _judge(rows):
    worst = max(row["error"] for row in rows)
    return Judgement(Status.CONFIRMED if worst == 0 else Status.REFUTED, f"largest error {worst:g}")


def _answer(rows):
    return f"Of {len(rows)} powers, {sum(math.isfinite(row['value']) for row in rows)} are finite."


STUDY = Study(
    name="toy",
    version=1,
    question="Are powers finite?",
    grid=grid,
    measure=measure.power,
    answer=_answer,
    figures=(
        Figure(
            "powers",
            "Powers",
            "They grow.",
            lambda rows: [{"exponent": r["exponent"], "value": r["value"]} for r in rows if math.isfinite(r["value"])],
            _draw,
        ),
    ),
    claims=(
        Claim("T1", "Powers are exact.", "derived", _judge),
        Claim("T2", "Nobody can judge this.", "derived", lambda rows: rows[0]["nothing"]),
    ),
    prepare=measure.prepare,
)
