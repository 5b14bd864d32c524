"""Telling a person what happened, by a command of his own."""

import subprocess

from kalshi_pipeline.resources.environment import failure_command

ON_FAILURE = "KALSHI_ON_FAILURE"
WITHIN_S = 20


def tell_command(text: str) -> str:
    """Hand a text to the user's command on its standard input; what went wrong with that, or "".

    The command is run as it is, not by a shell, and has 20 s; nothing it prints is kept.
    """
    try:
        command = failure_command()
        if not command:
            return ""
        done = subprocess.run(  # noqa: S603  # the user's own command, from his own environment
            command, input=text.encode(), capture_output=True, timeout=WITHIN_S, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"could not be told: {error}"
    return f"ended with {done.returncode}" if done.returncode else ""
