"""What nothing can beat: proofs about the plan, about every point of its front, about prompts."""
