"""What can go wrong with the local cloud.

LocalCloudError
├── ToolMissing          a tool environment or the source tree is not there
├── StartFailed          a process of the local cloud did not come up
├── BuildFailed          `make build` failed
├── DeployFailed         `sam deploy` failed
├── AlreadyUp            a local cloud of that name is running
└── NotUp                no local cloud of that name is running
"""

from __future__ import annotations


class LocalCloudError(Exception):
    """Base of every error of this package; its text is meant for a person."""


class ToolMissing(LocalCloudError):
    """A tool that the local cloud needs is not installed; the text says how to install it."""


class StartFailed(LocalCloudError):
    """A process of the local cloud ended or stayed silent while it was started."""


class BuildFailed(LocalCloudError):
    """`make build` ended with an error."""


class DeployFailed(LocalCloudError):
    """`sam deploy` ended with an error, or the stack lacks what the local cloud needs."""


class AlreadyUp(LocalCloudError):
    """A local cloud of that name is running already."""


class NotUp(LocalCloudError):
    """No local cloud of that name is running."""
