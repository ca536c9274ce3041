"""Tests of the spoke: its codec against the test vectors, and itself against real hubs."""
