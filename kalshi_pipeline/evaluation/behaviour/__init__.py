"""What a policy does, where, and what came of it.

states           the state a market was in at each step: the buckets
walks            the judged policy, the best baseline and Random, played again step by step
steps            steps summed up by market and bucket
section          the report's `behaviour`
characteristics  which markets a policy earned in
"""
