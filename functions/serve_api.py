"""Not written yet."""


def handler(event: object, context: object) -> dict[str, str]:
    return {}
