"""What the engine tells those who operate it: logs, metrics, traces."""
