"""``python -m clients.batch IN OUT``; also ``prompt-batch``."""

from clients.batch.main import main

if __name__ == "__main__":
    main()
