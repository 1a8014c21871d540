"""Floor 0: the frozen types. Every planning file is one of them."""
