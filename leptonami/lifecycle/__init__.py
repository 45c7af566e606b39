"""What comes after a build: what runs left behind, which images there are, and when they go."""
