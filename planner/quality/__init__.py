"""What each model is worth on each class, and how long it answers. Today: class means (§4)."""
