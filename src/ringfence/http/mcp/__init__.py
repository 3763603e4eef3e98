"""The services as tools for agents: the Model Context Protocol at `/mcp`."""
