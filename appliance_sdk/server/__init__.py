"""Processes, signals, health, logs and events: an engine made into a running appliance."""
