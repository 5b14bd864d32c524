"""PPO's arithmetic, compiled: networks, heads, rollout, advantages and the update."""
