"""The official AWS Encryption SDK for Python, both ways: its messages open in the enclave, ours open with it.

With a master key provider and, through the Material Providers Library, with a KMS keyring; both ask the local KMS.
"""

import hashlib
import json
import logging
import os
import sys

import aws_encryption_sdk
import aws_encryption_sdk.internal.utils
import boto3
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import CreateAwsKmsKeyringInput
from aws_encryption_sdk.exceptions import GenerateKeyError
from aws_encryption_sdk.identifiers import Algorithm, CommitmentPolicy

from common import Checks, Simulator

CONTEXT = {"tenant": "acme", "object": "peers", "purpose": "payments", "version": "3"}
SUITES = {
    "0478": Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY,
    "0578": Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384,
}
MIB = 1024 * 1024


def keyring(arn):
    """A KMS keyring of the Material Providers Library for one key of the local KMS."""
    library = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
    kms = boto3.Session().client("kms")
    return library.create_aws_kms_keyring(CreateAwsKmsKeyringInput(kms_key_id=arn, kms_client=kms))


def digest_job(simulator, message):
    """Sends a message with a digest job; exit status, digest and the error as an object."""
    path = simulator.path("message.enc")
    with open(path, "wb") as file:
        file.write(message)
    job = simulator.path("digest.toml")
    status, out, err = simulator.adyton(
        "run", job, path, "-o", "-", "--tenant", "acme", "--object", "peers", "--json"
    )
    return status, out.decode().strip(), err


def opens_in_the_enclave(check, simulator, name, message, plaintext):
    status, out, err = digest_job(simulator, message)
    wanted = hashlib.sha256(plaintext).hexdigest()
    check.that(f"the enclave opens {name}", status == 0 and out == wanted, f"exit {status}: {err}")


def theirs(check, simulator, client, arn):
    small = os.urandom(10_000)
    few = [("an empty payload", b"", 4096), ("frames of 4096", small, 4096), ("no frames", small, 0)]
    more = [("frames of 1", small[:300], 1), ("frames of 16", small[:1000], 16), ("exactly two frames", os.urandom(8192), 4096)]
    more += [("frames of 65536", os.urandom(200_000), 65536), ("100 MiB", os.urandom(100 * MIB), 65536)]
    provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[arn])
    keyed = [("a master key", {"key_provider": provider}, few + more), ("a keyring", {"keyring": keyring(arn)}, few)]
    for suite, algorithm in SUITES.items():
        for how, source_of_keys, cases in keyed:
            for name, plaintext, frame_length in cases:
                message, _ = client.encrypt(
                    source=plaintext, encryption_context=CONTEXT, algorithm=algorithm, frame_length=frame_length,
                    **source_of_keys,
                )
                opens_in_the_enclave(check, simulator, f"{suite} by {how}, {name}", message, plaintext)


def refused(check, simulator, client, arn):
    """Messages that are right as such, and that the enclave's policy or the request forbids."""
    provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[arn])

    def ends_in(name, wanted, message):
        status, _, err = digest_job(simulator, message)
        code = json.loads(err).get("code") if status == 1 else err
        check.equal(f"{name} is refused", (status, code), (1, wanted))

    def message(client=client, **changes):
        return client.encrypt(**{"source": b"secret", "encryption_context": CONTEXT, "key_provider": provider} | changes)[0]

    # K-5, K-14
    ends_in("another tenant's message", "claim_mismatch", message(encryption_context=CONTEXT | {"tenant": "other"}))
    ends_in("another purpose", "context_refused", message(encryption_context=CONTEXT | {"purpose": "other"}))
    ends_in("an old version", "version_too_old", message(encryption_context=CONTEXT | {"version": "0"}))
    # K-6: the key's own policy asks for all of them, so such a message cannot even be made.
    for key in CONTEXT:
        without = {other: value for other, value in CONTEXT.items() if other != key}
        try:
            message(encryption_context=without)
            why = "made"
        except GenerateKeyError as error:
            why = error.__cause__.response["Error"]["Code"]
        check.equal(f"the data owner gets no key for a context without {key}", why, "AccessDeniedException")
    # K-8
    old = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT)
    uncommitted = Algorithm.AES_256_GCM_IV12_TAG16_HKDF_SHA384_ECDSA_P384
    ends_in("a suite without commitment", "suite_refused", message(old, algorithm=uncommitted))
    good = message()
    ends_in("a flipped last bit", "payload_signature", good[:-1] + bytes([good[-1] ^ 1]))
    ends_in("a message that ends early", "payload_truncated", good[:-1])
    ends_in("a message with a byte behind it", "payload_trailing", good + b"x")


def ours(check, simulator, client, kms):
    """With a key that also opens without attestation, as the SDK cannot attest."""
    principals = ["arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/data-owner"]
    everything = {"Effect": "Allow", "Principal": {"AWS": principals}, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    arn = kms.create_key(Policy=policy)["KeyMetadata"]["Arn"]
    provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[arn])
    both = [("a master key", {"key_provider": provider}), ("a keyring", {"keyring": keyring(arn)})]
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
                sealed = file.read()
            for how, source_of_keys in both:
                opened, header = client.decrypt(source=sealed, **source_of_keys)
                context = {key: header.encryption_context.get(key) for key in CONTEXT}
                name = f"the SDK opens our {suite} by {how}, {length} bytes in frames of {frame_length}"
                check.that(name, opened == plaintext and context == CONTEXT)


def main():
    # The SDK logs the refusals that are wanted here.
    logging.disable(logging.CRITICAL)
    check = Checks()
    with Simulator(sys.argv[1]) as simulator:
        with open(simulator.path("digest.toml"), "w", encoding="utf-8") as file:
            file.write('version = 1\ninput = "raw"\nto = "parent"\n[[step]]\ndigest = "sha-256"\n')
        # The SDK for Python writes no frames that are not multiples of 16 bytes; others do, so lift its own check.
        aws_encryption_sdk.internal.utils.validate_frame_length = lambda **_: None
        client = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        )
        simulator.use_from_aws_clients("owner")
        theirs(check, simulator, client, simulator.info["key_arn"])
        refused(check, simulator, client, simulator.info["key_arn"])
        simulator.use_from_aws_clients("default")
        ours(check, simulator, client, boto3.Session().client("kms"))
    check.finish()


if __name__ == "__main__":
    main()
