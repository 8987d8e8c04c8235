"""A run of Terraform or OpenTofu that needs no network: built-in resources, built-in backend, the local bucket."""

import gzip
import hashlib
import io
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from quaymaster_local.cloud import LocalCloud

MAIN_TF = """\
terraform {
  backend "s3" {
    key                         = "tfstate/demo.tfstate"
    use_path_style              = true
    skip_credentials_validation = true
    skip_metadata_api_check     = true
    skip_region_validation      = true
    skip_requesting_account_id  = true
    skip_s3_checksum            = true
  }
}

resource "terraform_data" "pier" {
  input = "a place to unload"
}

resource "terraform_data" "crane" {
  input            = "unloads at ${terraform_data.pier.input}"
  triggers_replace = [terraform_data.pier.id]
}

output "crane" {
  value = terraform_data.crane.output
}
"""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed workspace and its digest."""

    content: bytes
    sha256: str


def find_program() -> str | None:
    """Which of the two is on PATH."""
    return next((name for name in ("terraform", "tofu") if shutil.which(name)), None)


def pack_workspace() -> Packed:
    """The workspace as the worker unpacks it: a gzipped tar of one file."""
    content = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=content, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        member = tarfile.TarInfo("main.tf")
        member.size = len(MAIN_TF.encode())
        tar.addfile(member, io.BytesIO(MAIN_TF.encode()))
    return Packed(content=content.getvalue(), sha256=hashlib.sha256(content.getvalue()).hexdigest())


def state_environment(cloud: LocalCloud) -> Mapping[str, str]:
    """What the backend needs to keep its state in the local bucket. Nothing may be asked of the internet."""
    deployment = cloud.deployment
    return {
        "AWS_ACCESS_KEY_ID": deployment.credentials["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": deployment.credentials["secret_access_key"],
        "AWS_REGION": deployment.region,
        "AWS_ENDPOINT_URL_S3": deployment.endpoint_url,
        "STATE_BUCKET": cloud.outputs["BucketName"],
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
    }
