"""What clients of the scheduler call: Chronos' own API under `/scheduler` and `/v1/scheduler`, ours under `/v1/meseta`."""
