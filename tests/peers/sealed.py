"""Sealed results open with their recipients' ordinary tools: age, and the AWS Encryption SDK of another account."""

import json
import logging
import os
import shutil
import subprocess
import sys

import aws_encryption_sdk
import boto3

from common import Checks, Simulator

ENCLAVE = "arn:aws:iam::111122223333:user/adyton-enclave"
CONTEXT = {"tenant": "acme", "object": "peers", "purpose": "payments", "version": "3"}
CLAIMS = ("--tenant", "acme", "--object", "peers")
# Around the chunks of 64 KiB that both formats have.
LENGTHS = [0, 1, 65535, 65536, 65537, 131072, 3_000_000]


def partner_key(kms):
    """A key of the other account; whom it trusts is said when the image is known."""
    return kms.create_key(Description="partner")["KeyMetadata"]["Arn"]


def trust(kms, arn, pcrs):
    """The partner gives data keys to this image, attested, and nothing else to anybody outside."""
    own = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::444455556666:root"}, "Action": "kms:*", "Resource": "*"}
    condition = {"StringEqualsIgnoreCase": {f"kms:RecipientAttestation:PCR{index}": pcrs[index] for index in ("0", "2")}}
    enclave = {
        "Effect": "Allow", "Principal": {"AWS": ENCLAVE}, "Action": "kms:GenerateDataKey", "Resource": "*",
        "Condition": condition,
    }
    kms.put_key_policy(KeyId=arn, Policy=json.dumps({"Version": "2012-10-17", "Statement": [own, enclave]}))


def identity(simulator):
    """A new age identity: its file and its recipient."""
    path = simulator.path("identity.txt")
    subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
    shown = subprocess.run(["age-keygen", "-y", path], check=True, capture_output=True, text=True)
    return path, shown.stdout.strip()


def run(simulator, to, plaintext):
    """Has the enclave seal this plaintext to somebody; what the parent gets."""
    with open(simulator.path("plain"), "wb") as file:
        file.write(plaintext)
    with open(simulator.path("job.toml"), "w", encoding="utf-8") as file:
        file.write(f'version = 1\ninput = "raw"\nto = "{to}"\n')
    status, _, err = simulator.adyton(
        "encrypt", simulator.path("plain"), "-o", simulator.path("in.enc"), "--force", *CLAIMS,
        "--purpose", "payments", "--version", "3",
    )
    assert status == 0, err
    status, _, err = simulator.adyton(
        "run", simulator.path("job.toml"), simulator.path("in.enc"), "-o", simulator.path("out"), "--force", *CLAIMS
    )
    assert status == 0, err
    with open(simulator.path("out"), "rb") as file:
        return file.read()


def main():
    logging.disable(logging.CRITICAL)
    check = Checks()
    if not shutil.which("age"):
        check.that("age is installed", False, "(Debian's package age)")
        check.finish()
    with Simulator(sys.argv[1]) as simulator:
        simulator.use_from_aws_clients("partner")
        arn = partner_key(boto3.Session().client("kms"))
        identity_file, recipient = identity(simulator)
        rules = "".join(f'\n[[release]]\nrequester = "billing"\nto = "{to}"\n' for to in (recipient, arn))
        simulator.restart(lambda policy: policy + rules)
        simulator.use_from_aws_clients("partner")
        trust(boto3.Session().client("kms"), arn, simulator.info["pcrs"])

        for length in LENGTHS:
            plaintext = os.urandom(length)
            sealed = run(simulator, recipient, plaintext)
            opened = subprocess.run(
                ["age", "-d", "-i", identity_file], input=sealed, capture_output=True, check=False
            )
            check.that(f"age opens {length} bytes", opened.stdout == plaintext, opened.stderr.decode())
            check.that(f"{length} bytes are not in the age file", length < 100 or plaintext[:50] not in sealed)
        broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
        opened = subprocess.run(["age", "-d", "-i", identity_file], input=broken, capture_output=True, check=False)
        check.that("age refuses a flipped bit", opened.returncode != 0)

        client = aws_encryption_sdk.EncryptionSDKClient()
        provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[arn])
        for length in LENGTHS:
            plaintext = os.urandom(length)
            message = run(simulator, arn, plaintext)
            opened, header = client.decrypt(source=message, key_provider=provider)
            check.that(f"the partner's SDK opens a re-wrap of {length} bytes", opened == plaintext)
            check.equal("with the pairs of the original", dict(header.encryption_context), CONTEXT)
    check.finish()


if __name__ == "__main__":
    main()
