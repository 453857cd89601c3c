"""The servers that ours is measured beside: their environments, their apps, and how they are started and loaded."""
