"""The way from one plan to another: its steps, what they are held against, how it is played."""
