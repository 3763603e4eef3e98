"""Models that the engine talks to: embedders and chat models, each behind one small protocol."""
