"""WHO: register → verify → sign in."""
