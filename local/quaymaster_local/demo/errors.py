"""What ends the demo early. DemoFailed is a LocalCloudError: one line for a person.

DemoFailed
└── ApiFailed   the API refused, or did not answer in time
"""

from quaymaster_local.errors import LocalCloudError


class DemoFailed(LocalCloudError):
    """Something the demo waits for did not come."""


class ApiFailed(DemoFailed):
    """The API refused a call, or did not answer in time."""
