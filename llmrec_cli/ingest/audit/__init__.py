"""The audit of prepared data: its shape, and its likely faults."""
