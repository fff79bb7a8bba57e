"""``python -m napari_ssl_pretrain`` is the command ``napari-ssl-pretrain``."""

import sys

from napari_ssl_pretrain.cli import main

if __name__ == "__main__":
    sys.exit(main())
