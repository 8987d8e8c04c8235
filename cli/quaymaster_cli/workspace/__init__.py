"""From the folder of `--dir` to a workspace in the bucket: `pack` chooses, checks and packs, `upload` sends."""

from quaymaster_cli.workspace.packing import Packed, pack
from quaymaster_cli.workspace.selection import Wish
from quaymaster_cli.workspace.uploading import upload

__all__ = ["Packed", "Wish", "pack", "upload"]
