"""``python -m clients.oo``."""

from clients.oo.main import main

main()
