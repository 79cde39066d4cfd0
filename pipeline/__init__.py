"""The domain of Prompt Svc: prompts, states, retries, templates, parameters, the queue and the prompt log.

Nothing in here imports Ray or speaks HTTP.
"""
