"""The official AWS Encryption SDK for Python, both ways: its messages open in the enclave, ours open with it."""

import hashlib
import json
import os
import sys

import aws_encryption_sdk
import boto3
from aws_encryption_sdk.identifiers import Algorithm, CommitmentPolicy

from common import Checks, Simulator

CONTEXT = {"tenant": "acme", "object": "peers", "purpose": "payments", "version": "3"}
SUITES = {
    "0478": Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY,
    "0578": Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384,
}
MIB = 1024 * 1024


def opens_in_the_enclave(check, simulator, name, message, plaintext):
    path = simulator.path("message.enc")
    with open(path, "wb") as file:
        file.write(message)
    status, out, err = simulator.adyton(
        "run", simulator.path("digest.toml"), path, "-o", "-", "--tenant", "acme", "--object", "peers"
    )
    wanted = hashlib.sha256(plaintext).hexdigest()
    check.that(f"the enclave opens {name}", status == 0 and out.decode().strip() == wanted, f"exit {status}: {err}")


def theirs(check, simulator, client, provider):
    small = os.urandom(10_000)
    cases = [("an empty payload", b"", 4096), ("frames of 128", small[:1000], 128), ("frames of 4096", small, 4096)]
    cases += [("frames of 65536", os.urandom(200_000), 65536), ("no frames", small, 0)]
    cases += [("exactly two frames", os.urandom(8192), 4096)]
    for suite, algorithm in SUITES.items():
        for name, plaintext, frame_length in cases + [("100 MiB", os.urandom(100 * MIB), 65536)]:
            message, _ = client.encrypt(
                source=plaintext,
                key_provider=provider,
                encryption_context=CONTEXT,
                algorithm=algorithm,
                frame_length=frame_length,
            )
            opens_in_the_enclave(check, simulator, f"{suite}, {name}", message, plaintext)


def ours(check, simulator, client, kms):
    """With a key that also opens without attestation, as the SDK cannot attest."""
    principals = ["arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/data-owner"]
    everything = {"Effect": "Allow", "Principal": {"AWS": principals}, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    arn = kms.create_key(Policy=policy)["KeyMetadata"]["Arn"]
    provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[arn])
    for suite in SUITES:
        for length, frame_length in [(0, 65536), (10, 1), (10_000, 4096), (131_072, 65536), (3 * MIB, 65536)]:
            plaintext = os.urandom(length)
            source, message = simulator.path("plain"), simulator.path("ours.enc")
            with open(source, "wb") as file:
                file.write(plaintext)
            status, _, err = simulator.adyton(
                "encrypt", source, "-o", message, "--force", "--key", arn, "--tenant", "acme", "--object", "peers",
                "--purpose", "payments", "--version", "3", "--suite", suite, "--frame-length", str(frame_length),
            )
            if status != 0:
                check.that(f"adyton encrypts {suite}", False, err)
                continue
            with open(message, "rb") as file:
                opened, header = client.decrypt(source=file.read(), key_provider=provider)
            context = {key: header.encryption_context.get(key) for key in CONTEXT}
            name = f"the SDK opens our {suite}, {length} bytes in frames of {frame_length}"
            check.that(name, opened == plaintext and context == CONTEXT)


def main():
    check = Checks()
    with Simulator(sys.argv[1]) as simulator:
        with open(simulator.path("digest.toml"), "w", encoding="utf-8") as file:
            file.write('version = 1\ninput = "raw"\nto = "parent"\n[[step]]\ndigest = "sha-256"\n')
        simulator.use_from_aws_clients("owner")
        client = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        )
        provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[simulator.info["key_arn"]])
        theirs(check, simulator, client, provider)
        simulator.use_from_aws_clients("default")
        ours(check, simulator, client, boto3.client("kms"))
    check.finish()


if __name__ == "__main__":
    main()
