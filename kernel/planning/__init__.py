"""What would happen: the master's own allocator run on a snapshot or a trace, away from the master (`meseta plan`, `meseta simulate`)."""
