"""What makes things of this repository: set-up, generated pages, the shipped image model."""
