"""OUT, again and again: conversations, whose answers can be lost sight of and found again, and explained."""
