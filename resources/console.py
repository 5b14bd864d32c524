"""A console logger a person can read: time, step, message."""

import logging
import sys

import dagster as dg


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {})
        message = meta.get("orig_message") or record.getMessage()
        step = (meta.get("step_key") or "").replace("__", "/")
        return f"{self.formatTime(record, '%H:%M:%S')}  {step:<24}  {message}"


@dg.logger(
    config_schema={"log_level": dg.Field(str, default_value="INFO", is_required=False)},
    description="time, step and message, one line each",
)
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """Messages of the assets without the orchestrator's own events."""
    logger = logging.Logger("kalshi_pipeline", level=context.logger_config["log_level"].upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain())
    logger.addHandler(handler)
    return logger
