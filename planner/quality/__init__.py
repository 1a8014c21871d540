"""What each model is worth on each class and prompt, and how long it answers: numpy alone."""
