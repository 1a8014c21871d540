"""One module per file format of a benchmark tool: text in, load levels out."""
