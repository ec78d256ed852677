"""The small process that owns task processes and outlives the agent, and the agent's client of it."""
