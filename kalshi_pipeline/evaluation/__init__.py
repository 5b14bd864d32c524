"""The honest part: policies and baselines on recorded markets, judged with intervals."""
