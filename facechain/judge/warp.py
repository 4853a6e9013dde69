"""When features count as warped."""

WARPED = 0.5  # of `Verdict.warp`
