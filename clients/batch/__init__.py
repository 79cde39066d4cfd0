"""Prompts from a JSONL file, answers into another: a batch that can be killed at any time and goes on where it stopped."""
