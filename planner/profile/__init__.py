"""What was measured: importers of other tools' result files, and tables of the points."""
