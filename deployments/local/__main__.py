"""``python -m deployments.local [serve_config.yaml]``: run the service until Ctrl-C; `make serve` calls it.

Environment: PORT, REDIS_URL (another store than the embedded one), PROMPT_SVC_DATA_DIR, PROMPT_SVC_ADMIN_PASSWORD,
PROMPT_SVC_STORE_FSYNC (always, everysec), PROMPT_SVC_RAY_DASHBOARD_PORT (for `ray job submit`). When the service is up it prints
one line ``ready <url>``.
"""

from __future__ import annotations

import os
import sys

from deployments.local.environment import Folders, prepare

if __name__ == "__main__":
    folders = Folders.of(os.environ)
    prepare(os.environ, folders)
    # Only now: it imports Ray, which reads its environment at import.
    from deployments.local.launcher import main

    raise SystemExit(main(sys.argv[1:], folders))
