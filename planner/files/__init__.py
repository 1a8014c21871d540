"""The one place that reads and writes files. Every fault of every file is reported at once."""
