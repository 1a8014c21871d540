"""Floor 4: plans, findings, differences and profiles as text for people."""
