"""What crosses between processes: messages and how they are written. No I/O."""
