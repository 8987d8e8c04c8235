"""From the folder of `--dir` to a workspace in the bucket: `pack` chooses, checks and packs, `upload` sends."""

from longshore_cli.workspace.packing import Packed, pack
from longshore_cli.workspace.selection import Wish
from longshore_cli.workspace.uploading import upload

__all__ = ["Packed", "Wish", "pack", "upload"]
