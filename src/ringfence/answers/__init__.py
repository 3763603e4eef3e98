"""OUT: question → passages → prompt → stream → citations."""
