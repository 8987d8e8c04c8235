"""What AWS refuses although emulators let it through: each request is judged by the service's model and documents.

`gate.judge` judges one request; `hook.install` puts it before every call that this process, or a function of the local
cloud, makes. A request of the product's own code that AWS would refuse is refused here as AWS does, and fails the
session. Each rule stands in `finding.RULES` with its source.
"""
