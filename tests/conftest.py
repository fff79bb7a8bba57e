"""One thread a process: tiny networks gain nothing from more, and tests run beside others."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
