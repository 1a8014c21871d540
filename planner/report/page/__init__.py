"""The plan as one self-contained HTML page: readable without scripts, explorable with them."""
