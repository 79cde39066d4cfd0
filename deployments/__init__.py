"""Whatever runs as a Serve deployment or as a Ray actor. Start reading at ``deployments.app``."""
