"""Old name of `inference`."""

from kalshi_pipeline.evaluation.inference import *  # noqa: F403
