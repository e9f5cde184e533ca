"""What vendors write against: hooks, verdicts, flows, handlers, events and configuration."""
