"""``python -m clients.chat``."""

from clients.chat.main import main

main()
