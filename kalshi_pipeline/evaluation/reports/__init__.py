"""Report -> report.json and report.html; several reports -> one page that compares them."""

from kalshi_pipeline.evaluation.reports.page import render_comparison, render_html, render_json

__all__ = ["render_comparison", "render_html", "render_json"]
