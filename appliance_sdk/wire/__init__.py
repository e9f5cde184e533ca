"""Bytes on the wire: pure functions that read, check, build and edit packets."""
