"""One function over many arguments: on the cores of this machine, or on those of a Ray cluster."""
