"""Holds the claims of a study against its rows."""

from typing import NamedTuple

from precond_lab.study.declaration import Claim, Judgement, Row, Status, Study


class JudgedClaim(NamedTuple):
    """A claim beside where it stands."""

    claim: Claim
    judgement: Judgement


def _judge(claim: Claim, rows: list[Row]) -> Judgement:
    try:
        judgement = claim.judge(rows)
    except Exception as error:  # noqa: BLE001  the judge is a study's code: whatever it raises leaves its claim open
        return Judgement(Status.OPEN, f"could not be judged: {type(error).__name__}: {error}")
    if not (isinstance(judgement, Judgement) and isinstance(judgement.status, Status)):
        return Judgement(Status.OPEN, f"could not be judged: the judge gave {judgement!r}, not a Judgement")
    return judgement


def judge_claims(study: Study, rows: list[Row], missing: int = 0, failed: int = 0) -> list[JudgedClaim]:
    """Judge every claim of a study.

    A claim is never settled by a part of the grid: while cases are missing, or have failed, it stays open.

    Args:
        study: The study.
        rows: Its measured rows.
        missing: Number of cases of the grid that have not been run.
        failed: Number of cases of the grid that failed.

    Returns:
        The claims in the order declared, each with its judgement.
    """
    if not rows:
        reason = "no case has been measured"
    elif missing or failed:
        lacking = {"have not been run": missing, "failed": failed}
        reason = ", ".join(f"{number} cases of the grid {what}" for what, number in lacking.items() if number)
    else:
        return [JudgedClaim(claim, _judge(claim, rows)) for claim in study.claims]
    return [JudgedClaim(claim, Judgement(Status.OPEN, reason)) for claim in study.claims]
