"""The HTTP API of the Open-Assistant inference server: chats whose answers are prompts of this service (docs/open-assistant.md).

"Contract A" in here is that API as its server and its clients have it.
"""
