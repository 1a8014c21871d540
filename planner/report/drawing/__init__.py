"""Pictures as data: marks in roles of colour, their layout, and the same picture as SVG and PNG."""
