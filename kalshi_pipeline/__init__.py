"""From recorded Kalshi order-book sessions to a trading agent and an honest verdict on it.

recordings  raw messages of a session           -> message table
books       messages                            -> trusted books, quarantine, session quality
features    books                               -> feature tensor, one row a step
suitability books and steps                     -> the markets worth an episode
trading     what happens when you act           -> episodes
learning    episodes                            -> checkpoints of phases 1, 2, 3
evaluation  checkpoints on unseen events        -> a report and a verdict
storage     everything published, whole or absent
"""
